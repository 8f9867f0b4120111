"""Queries on batches and their items."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from backend.errors import NotFound
from backend.models.batch import BatchItemModel, BatchModel, ItemState


class BatchRepository:
    """Batches in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, batch: BatchModel, items: Sequence[BatchItemModel]) -> BatchModel:
        """Insert a batch and its items."""
        self._session.add(batch)
        await self._session.flush()
        for item in items:
            item.batch_id = batch.id
        self._session.add_all(items)
        await self._session.flush()
        return batch

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

    async def lock_item(self, item_id: str) -> BatchItemModel:
        """Return one item, which nobody else changes until the transaction ends.

        Raises:
            NotFound: there is none.
        """
        item = await self._session.get(BatchItemModel, item_id, with_for_update=True)
        if item is None:
            raise NotFound("there is no such batch item.", {"item": item_id})
        return item

    async def items(self, batch_id: str) -> Sequence[BatchItemModel]:
        """Return a batch's items in the order of the prompts."""
        statement = (
            select(BatchItemModel)
            .where(BatchItemModel.batch_id == batch_id)
            .order_by(BatchItemModel.position)
        )
        return (await self._session.scalars(statement)).all()

    async def counts(self, batch_id: str) -> dict[ItemState, int]:
        """Count a batch's items by state; every state is there."""
        statement = (
            select(BatchItemModel.state, func.count())
            .where(BatchItemModel.batch_id == batch_id)
            .group_by(BatchItemModel.state)
        )
        found = {ItemState(state): count for state, count in await self._session.execute(statement)}
        return {state: found.get(state, 0) for state in ItemState}

    async def requeue_running(self, batch_id: str) -> None:
        """Queue again what was running when the process that ran it ended."""
        await self._session.execute(
            update(BatchItemModel)
            .where(
                BatchItemModel.batch_id == batch_id,
                BatchItemModel.state == ItemState.RUNNING.value,
            )
            .values(state=ItemState.QUEUED.value)
        )

    async def unfinished(self) -> Sequence[str]:
        """Return the ids of batches that are not finished, oldest first."""
        statement = (
            select(BatchModel.id)
            .where(BatchModel.finished_at.is_(None))
            .order_by(BatchModel.created_at, BatchModel.id)
        )
        return (await self._session.scalars(statement)).all()

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
