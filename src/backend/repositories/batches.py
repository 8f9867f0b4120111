"""Queries on batches and their items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from backend.errors import NotFound
from backend.models.batch import BatchItemAttemptModel, BatchItemModel, BatchModel, ItemState
from backend.repositories.queue import ITEMS, literal_state

Item = BatchItemModel
LATEST = 100
"""How many of the latest finished items the rate is taken from."""


class BatchRepository:
    """Batches in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, batch: BatchModel) -> BatchModel:
        """Insert a batch; its items follow."""
        self._session.add(batch)
        await self._session.flush()
        return batch

    async def add_items(self, rows: Sequence[dict[str, Any]]) -> None:
        """Insert items, as rows, in one go."""
        await self._session.execute(insert(ITEMS), rows)

    async def get(self, batch_id: str) -> BatchModel:
        """Return a batch.

        Raises:
            NotFound: there is none.
        """
        batch = await self._session.get(BatchModel, batch_id)
        if batch is None:
            raise NotFound(f"there is no batch {batch_id!r}.", {"batch": batch_id})
        return batch

    async def with_key(self, request_key: str) -> BatchModel | None:
        """Return the batch that an equal request made before."""
        statement = select(BatchModel).where(BatchModel.request_key == request_key)
        return (await self._session.scalars(statement)).first()

    async def items(self, batch_id: str) -> Sequence[BatchItemModel]:
        """Return all of a batch's items in the order of the prompts."""
        statement = select(Item).where(Item.batch_id == batch_id).order_by(Item.position)
        return (await self._session.scalars(statement)).all()

    async def items_after(
        self, batch_id: str, *, limit: int, after: int | None, state: ItemState | None
    ) -> Sequence[BatchItemModel]:
        """Return a page of items in the order of the prompts.

        Args:
            batch_id: whose items.
            limit: how many at most.
            after: the position of the last one of the page before.
            state: only those in it.
        """
        statement = select(Item).where(Item.batch_id == batch_id).order_by(Item.position)
        if after is not None:
            statement = statement.where(Item.position > after)
        if state is not None:
            statement = statement.where(Item.state == literal_state(state))
        return (await self._session.scalars(statement.limit(limit))).all()

    async def attempts(self, batch_id: str, position: int) -> Sequence[BatchItemAttemptModel]:
        """Return the attempts at one item that have ended, the first one first.

        Raises:
            NotFound: there is no such item.
        """
        found = select(Item.id).where(Item.batch_id == batch_id, Item.position == position)
        item_id = await self._session.scalar(found)
        if item_id is None:
            raise NotFound(
                f"batch {batch_id!r} has no item {position}.",
                {"batch": batch_id, "position": position},
            )
        statement = (
            select(BatchItemAttemptModel)
            .where(BatchItemAttemptModel.item_id == item_id)
            .order_by(BatchItemAttemptModel.n)
        )
        return (await self._session.scalars(statement)).all()

    async def changed_items(
        self, batch_id: str, *, after: int, limit: int
    ) -> Sequence[BatchItemModel]:
        """Return the items whose latest change came after event `after`, in that order."""
        statement = (
            select(Item)
            .where(Item.batch_id == batch_id, Item.event_seq > after)
            .order_by(Item.event_seq)
            .limit(limit)
        )
        return (await self._session.scalars(statement)).all()

    async def rate_per_s(self, batch_id: str) -> float | None:
        """Return how many items end a second, by the latest; `None` where too few have ended."""
        ended = (ItemState.DONE.value, ItemState.FAILED.value)
        latest = (
            select(Item.finished_at, Item.started_at)
            .where(Item.batch_id == batch_id, Item.state.in_(ended), Item.started_at.is_not(None))
            .order_by(Item.event_seq.desc())
            .limit(LATEST)
            .subquery()
        )
        row = (
            await self._session.execute(
                select(func.count(), func.min(latest.c.started_at), func.max(latest.c.finished_at))
            )
        ).one()
        count, first, last = row
        if count < 2 or last <= first:
            return None
        return float(count / (last - first).total_seconds())

    async def page(self, *, limit: int, offset: int) -> tuple[Sequence[BatchModel], int]:
        """Return a page of batches, newest first, and how many there are."""
        total = await self._session.scalar(select(func.count()).select_from(BatchModel))
        statement = (
            select(BatchModel)
            .order_by(BatchModel.created_at.desc(), BatchModel.id)
            .limit(limit)
            .offset(offset)
        )
        return (await self._session.scalars(statement)).all(), int(total or 0)

    async def of_actor(self, created_by: str, states: Sequence[str]) -> Sequence[str]:
        """Return the ids of an actor's batches that are in one of these states."""
        statement = (
            select(BatchModel.id)
            .where(BatchModel.created_by == created_by, BatchModel.state.in_(states))
            .order_by(BatchModel.created_at, BatchModel.id)
        )
        return (await self._session.scalars(statement)).all()

    async def totals(self) -> dict[ItemState, int]:
        """Count the items of all batches by state."""
        columns = [
            func.coalesce(func.sum(getattr(BatchModel, f"items_{state.value}")), 0)
            for state in ItemState
        ]
        row = (await self._session.execute(select(*columns))).one()
        return dict(zip(ItemState, map(int, row), strict=True))
