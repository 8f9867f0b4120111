"""Queries on what cloud images cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from backend.models.base import now
from backend.models.spending import CloudReservationModel, CloudSpendingModel

_Row = CloudReservationModel


class Sums(NamedTuple):
    """A month's sums at a time, in millionths of a US dollar."""

    spent: int
    reserved: int
    lapsed: int
    images: int


class SpendingRepository:
    """The months' sums in one session. Money is in millionths of a US dollar.

    Whatever changes a month's sums takes its row first, so that calls at the same time cannot pass
    the cap together.
    """

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def sums(self, month: str, at: datetime) -> Sums:
        """Return a month's sums; a reservation whose lease has run out counts as lapsed."""
        found = await self._session.get(CloudSpendingModel, month)
        if found is None:
            return Sums(0, 0, 0, 0)
        stale = sum(row.amount_microusd for row in await self._stale(month, at))
        return Sums(
            found.spent_microusd,
            found.reserved_microusd - stale,
            found.lapsed_microusd + stale,
            found.images,
        )

    async def lapse(self, month: str, at: datetime) -> int:
        """Count out the reservations whose lease has run out; return how many there were."""
        sums = await self._locked(month)
        stale = await self._stale(month, at)
        for row in stale:
            row.lapsed_at = at
            sums.reserved_microusd -= row.amount_microusd
            sums.lapsed_microusd += row.amount_microusd
        await self._session.flush()
        return len(stale)

    async def reserve(
        self, month: str, amount: int, cap: int | None, at: datetime, lease: timedelta
    ) -> str | None:
        """Set an amount aside, unless that would pass the cap; return the reservation's id."""
        sums = await self._locked(month)
        if cap is not None and sums.reserved_microusd + sums.spent_microusd + amount > cap:
            return None
        sums.reserved_microusd += amount
        row = _Row(month=month, amount_microusd=amount, leased_until=at + lease, created_at=at)
        self._session.add(row)
        await self._session.flush()
        return row.id

    async def close(self, reservation_id: str, *, charged: bool) -> None:
        """Turn what was set aside into what was spent, or give it back; in time or late."""
        row = await self._session.get(_Row, reservation_id)
        if row is None:
            return
        sums = await self._locked(row.month)
        await self._session.refresh(row)
        if row.lapsed_at is None:
            sums.reserved_microusd -= row.amount_microusd
        else:
            sums.lapsed_microusd -= row.amount_microusd
        if charged:
            sums.spent_microusd += row.amount_microusd
            sums.images += 1
        await self._session.delete(row)
        await self._session.flush()

    async def _stale(self, month: str, at: datetime) -> Sequence[CloudReservationModel]:
        statement = select(_Row).where(
            _Row.month == month, _Row.lapsed_at.is_(None), _Row.leased_until < at
        )
        return (await self._session.scalars(statement)).all()

    async def _locked(self, month: str) -> CloudSpendingModel:
        on_sqlite = self._session.get_bind().dialect.name == "sqlite"
        insert = sqlite.insert if on_sqlite else postgresql.insert
        values = {"reserved_microusd": 0, "spent_microusd": 0, "images": 0, "updated_at": now()}
        statement = insert(CloudSpendingModel).values(month=month, **values)
        await self._session.execute(statement.on_conflict_do_nothing())
        return await self._session.get_one(
            CloudSpendingModel, month, with_for_update=True, populate_existing=True
        )
