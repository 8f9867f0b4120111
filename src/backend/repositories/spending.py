"""Queries on what cloud images cost."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncSession

from backend.models.base import now
from backend.models.spending import CloudSpendingModel


class SpendingRepository:
    """The months' sums in one session. Money is in millionths of a US dollar."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, month: str) -> CloudSpendingModel:
        """Return a month's sums; one in which nothing was spent is all zeros."""
        found = await self._session.get(CloudSpendingModel, month)
        return found or CloudSpendingModel(
            month=month, reserved_microusd=0, spent_microusd=0, images=0
        )

    async def reserve(self, month: str, amount: int, cap: int | None) -> bool:
        """Set an amount aside, unless that would pass the cap; return whether it was.

        It is one conditional UPDATE, so that calls at the same time cannot pass the cap together.
        """
        await self._ensure(month)
        row = CloudSpendingModel
        statement = update(row).where(row.month == month)
        if cap is not None:
            statement = statement.where(row.reserved_microusd + row.spent_microusd + amount <= cap)
        return await self._changed(
            statement.values(reserved_microusd=row.reserved_microusd + amount, updated_at=now())
        )

    async def close(self, month: str, amount: int, *, charged: bool) -> None:
        """Turn what was set aside into what was spent, or give it back."""
        row = CloudSpendingModel
        values: dict[str, Any] = {"reserved_microusd": row.reserved_microusd - amount}
        if charged:
            values |= {"spent_microusd": row.spent_microusd + amount, "images": row.images + 1}
        await self._changed(
            update(row).where(row.month == month).values(**values, updated_at=now())
        )

    async def _ensure(self, month: str) -> None:
        on_sqlite = self._session.get_bind().dialect.name == "sqlite"
        insert = sqlite.insert if on_sqlite else postgresql.insert
        values = {"reserved_microusd": 0, "spent_microusd": 0, "images": 0, "updated_at": now()}
        statement = insert(CloudSpendingModel).values(month=month, **values)
        await self._session.execute(statement.on_conflict_do_nothing())

    async def _changed(self, statement: Any) -> bool:
        result = await self._session.execute(statement.execution_options(synchronize_session=False))
        return isinstance(result, CursorResult) and result.rowcount == 1
