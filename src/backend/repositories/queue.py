"""The queue in the database: items are claimed for a while, kept, ended, and taken back.

Whoever changes items holds the lock of their batch's row first, of several batches in the order of
their ids; so no two processes wait for each other, and counts and events are in step with the
items. Times of leases are the database's own where it has a clock, since hosts may disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    bindparam,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from backend.models.base import now
from backend.models.batch import (
    ACTIVE,
    BatchItemAttemptModel,
    BatchItemModel,
    BatchModel,
    BatchState,
    ItemState,
)
from backend.models.content import ContentModel
from backend.models.persona import PersonaModel
from backend.repositories.claims import Claimed, Ended, Try, Waiting

Item = BatchItemModel
ITEMS: Any = BatchItemModel.__table__
ATTEMPTS: Any = BatchItemAttemptModel.__table__
CONTENTS: Any = ContentModel.__table__

MOST_ATTEMPTS = 25
"""After so many attempts an item that keeps losing its process is taken for what kills it."""

LOST = {
    "code": "interrupted",
    "message": "the process that worked on it ended, or did not answer in time",
}


class QueueRepository:
    """The queue in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._on_postgres = session.get_bind().dialect.name == "postgresql"

    async def lock(self, batch_ids: Iterable[str]) -> dict[str, BatchModel]:
        """Return batches, which nobody else changes until the transaction ends; none that is gone.

        The persona's row is held before the batch's, as deleting a persona does.
        """
        found, ids = {}, sorted(set(batch_ids))
        if self._on_postgres:
            shown = select(BatchModel.persona_id).where(BatchModel.id.in_(ids))
            await self._session.execute(
                select(PersonaModel.id)
                .where(PersonaModel.id.in_(shown))
                .order_by(PersonaModel.id)
                .with_for_update(read=True, key_share=True)
            )
        for batch_id in ids:
            batch = await self._session.get(
                BatchModel, batch_id, with_for_update=True, populate_existing=True
            )
            if batch is not None:
                found[batch_id] = batch
        return found

    async def waiting(self) -> list[Waiting]:
        """Return the batches that have items to claim, oldest first."""
        statement = (
            select(
                BatchModel.id,
                BatchModel.persona_id,
                BatchModel.created_by,
                BatchModel.priority,
                BatchModel.weight,
                BatchModel.items_queued,
            )
            .where(BatchModel.state.in_(ACTIVE), BatchModel.items_queued > 0)
            .order_by(BatchModel.created_at, BatchModel.id)
        )
        return [Waiting(*row) for row in await self._session.execute(statement)]

    async def ripe(self) -> list[str]:
        """Return the active batches that may have captions to write, or have come to their end."""
        still_open = BatchModel.items_queued + BatchModel.items_running
        ended = BatchModel.items_done + BatchModel.items_failed + BatchModel.items_cancelled
        to_caption = BatchModel.captions & (BatchModel.caption_position < ended)
        statement = select(BatchModel.id).where(
            BatchModel.state.in_(ACTIVE), (still_open == 0) | to_caption
        )
        return list(await self._session.scalars(statement))

    async def claim(
        self, batch: BatchModel, count: int, claimant: str, lease: timedelta
    ) -> list[Claimed]:
        """Lease a batch's next items, in the order of the prompts; `lock` it first.

        Args:
            batch: locked; one that is not active gives nothing.
            count: how many at most.
            claimant: who will work on them.
            lease: for how long, unless it is extended.
        """
        if batch.state not in ACTIVE or count < 1:
            return []
        at = now()
        next_ones = (
            select(Item.id, Item.position)
            .where(Item.batch_id == batch.id, Item.state == literal_state(ItemState.QUEUED))
            .order_by(Item.position)
            .limit(count)
            .with_for_update(skip_locked=True)
            .cte("next_ones")
        )
        ranked = select(
            next_ones.c.id, func.row_number().over(order_by=next_ones.c.position).label("rank")
        ).cte("ranked")
        statement = (
            update(Item)
            .where(Item.id == ranked.c.id, Item.state == ItemState.QUEUED.value)
            .values(
                state=ItemState.RUNNING.value,
                attempts=Item.attempts + 1,
                claimant=claimant,
                lease_until=self._clock(lease),
                started_at=at,
                event_seq=batch.event_seq + ranked.c.rank,
            )
            .returning(
                Item.id, Item.position, Item.prompt, Item.seed, Item.options, Item.attempts,
                Item.failures,
            )
            .execution_options(synchronize_session=False)
        )  # fmt: skip
        rows = (await self._session.execute(statement)).all()
        _moved(batch, ItemState.QUEUED, ItemState.RUNNING, len(rows))
        if rows and batch.state == BatchState.QUEUED:
            started(batch)
        return [
            Claimed(i, batch.id, position, prompt, seed, options or {}, attempt, failures, at)
            for i, position, prompt, seed, options, attempt, failures in sorted(
                rows, key=lambda row: row.position
            )
        ]

    async def settle(self, batch: BatchModel, ended: Sequence[Ended]) -> list[Ended]:
        """Write down how attempts at a locked batch's items ended; return those that still counted.

        An outcome that comes after its lease was taken back, or its batch cancelled, is dropped.
        """
        statement = select(Item.id, Item.attempts).where(
            Item.id.in_([one.item.id for one in ended]),
            Item.state == ItemState.RUNNING.value,
        )
        held = {(i, attempt) for i, attempt in await self._session.execute(statement)}
        kept = [one for one in ended if (one.item.id, one.item.attempt) in held]
        if not kept:
            return []
        contents = [dict(one.content) for one in kept if one.content]
        if contents:
            await self._session.execute(insert(CONTENTS), contents)
        changes = []
        for one in kept:
            _moved(batch, ItemState.RUNNING, one.state, 1)
            batch.cost_microusd += one.cost_microusd
            changes.append(_change(one, batch.event_seq))
        await self._session.execute(_END, changes)
        await self._session.execute(insert(ATTEMPTS), [row for one in kept for row in _tries(one)])
        pause = next((one.pause for one in kept if one.pause), None)
        if pause and batch.state in ACTIVE:
            enter(batch, BatchState.PAUSED, pause)
        return kept

    async def reserve(self, batch_id: str, microusd: int) -> bool:
        """Set the price of a picture aside, unless that would pass the batch's cap."""
        cap = BatchModel.cloud_cap_microusd
        within = or_(cap.is_(None), BatchModel.cost_microusd + microusd <= cap)
        result = await self._session.execute(
            update(BatchModel)
            .where(BatchModel.id == batch_id, within)
            .values(cost_microusd=BatchModel.cost_microusd + microusd)
            .returning(BatchModel.id)
            .execution_options(synchronize_session=False)
        )
        return result.first() is not None

    async def extend(self, claimant: str, lease: timedelta) -> None:
        """Lease again what a process holds."""
        await self._session.execute(
            update(Item)
            .where(Item.state == literal_state(ItemState.RUNNING), Item.claimant == claimant)
            .values(lease_until=self._clock(lease))
            .execution_options(synchronize_session=False)
        )

    async def held_by(self, claimant: str) -> set[str]:
        """Return the ids of the items that a process holds."""
        statement = select(Item.id).where(
            Item.state == literal_state(ItemState.RUNNING), Item.claimant == claimant
        )
        return set(await self._session.scalars(statement))

    async def claimants(self) -> list[str]:
        """Return everybody who holds an item."""
        statement = (
            select(Item.claimant)
            .where(Item.state == literal_state(ItemState.RUNNING), Item.claimant.is_not(None))
            .distinct()
        )
        return [str(one) for one in await self._session.scalars(statement)]

    async def abandoned(self, gone: Sequence[str] = ()) -> list[str]:
        """Return the batches with items whose lease has expired, or whose holder is gone."""
        statement = select(Item.batch_id).where(self._is_abandoned(gone)).distinct()
        return list(await self._session.scalars(statement))

    async def take_back(self, batch: BatchModel, gone: Sequence[str] = ()) -> int:
        """Queue a locked batch's abandoned items again; return how many.

        One that has lost its process too often fails instead, since it may be what ends it.
        """
        statement = (
            select(Item.id, Item.attempts, Item.started_at)
            .where(Item.batch_id == batch.id, self._is_abandoned(gone))
            .order_by(Item.position)
        )
        rows = (await self._session.execute(statement)).all()
        changes, tries = [], []
        for item_id, attempt, started_at in rows:
            state = ItemState.FAILED if attempt >= MOST_ATTEMPTS else ItemState.QUEUED
            _moved(batch, ItemState.RUNNING, state, 1)
            one = Claimed(item_id, batch.id, 0, "", 0, {}, attempt, 0, started_at or now())
            ended = Ended(one, state, (Try(None, LOST),))
            changes.append(_change(ended, batch.event_seq))
            tries += _tries(ended)
        if rows:
            await self._session.execute(_END, changes)
            await self._session.execute(insert(ATTEMPTS), tries)
        return len(rows)

    async def cancel_items(self, batch: BatchModel) -> None:
        """Cancel what a locked batch has queued or running, in the order of the prompts."""
        open_states = (ItemState.QUEUED.value, ItemState.RUNNING.value)
        await self._renumber(
            batch,
            Item.state.in_(open_states),
            state=ItemState.CANCELLED.value,
            finished_at=now(),
            claimant=None,
            lease_until=None,
        )
        cancelled = batch.items_queued + batch.items_running
        batch.event_seq += cancelled
        batch.items_cancelled += cancelled
        batch.items_queued = batch.items_running = 0

    async def retry_failed(self, batch: BatchModel, except_code: str) -> int:
        """Queue a locked batch's failed items again, but for those of one kind; return how many."""
        code = Item.error["code"].as_string()
        chosen = (Item.state == literal_state(ItemState.FAILED)) & or_(
            Item.error.is_(None), code != except_code
        )
        of_batch = Item.batch_id == batch.id
        found = select(func.min(Item.position), func.count()).where(of_batch, chosen)
        first, count = (await self._session.execute(found)).one()
        if count:
            await self._renumber(
                batch,
                chosen,
                state=ItemState.QUEUED.value,
                failures=0,
                error=None,
                finished_at=None,
            )
            batch.event_seq += count
            batch.items_failed -= count
            batch.items_queued += count
            batch.caption_position = min(batch.caption_position, first)
        return int(count)

    async def _renumber(
        self, batch: BatchModel, chosen: ColumnElement[bool], **values: Any
    ) -> None:
        """Change many items of a batch in one statement, each with an event of its own."""
        ranked = (
            select(Item.id, func.row_number().over(order_by=Item.position).label("rank"))
            .where(Item.batch_id == batch.id, chosen)
            .cte("ranked")
        )
        await self._session.execute(
            update(Item)
            .where(Item.id == ranked.c.id)
            .values(event_seq=batch.event_seq + ranked.c.rank, **values)
            .execution_options(synchronize_session=False)
        )

    def _is_abandoned(self, gone: Sequence[str]) -> ColumnElement[bool]:
        expired = Item.lease_until < self._clock()
        overdue = or_(expired, Item.lease_until.is_(None), Item.claimant.in_(gone))
        return (Item.state == literal_state(ItemState.RUNNING)) & overdue

    def _clock(self, later: timedelta = timedelta(0)) -> Any:
        if self._on_postgres:
            return func.clock_timestamp(type_=DateTime(timezone=True)) + later
        return now() + later


def started(batch: BatchModel) -> None:
    """Note that a locked batch has begun."""
    enter(batch, BatchState.RUNNING)
    batch.started_at = batch.started_at or now()


def enter(batch: BatchModel, state: BatchState, reason: str | None = None) -> None:
    """Bring a locked batch into a state, as an event."""
    batch.state = state.value
    batch.state_reason = reason
    batch.event_seq += 1
    batch.state_seq = batch.event_seq
    if state in (BatchState.DONE, BatchState.CANCELLED):
        batch.finished_at = now()


def literal_state(state: ItemState) -> ColumnElement[str]:
    """Return a state as the query's own text: a partial index serves no bound parameter."""
    return literal(state.value, literal_execute=True)


_END = (
    update(ITEMS)
    .where(ITEMS.c.id == bindparam("b_id"))
    .values(
        state=bindparam("b_state"),
        attempts=bindparam("b_attempts"),
        failures=ITEMS.c.failures + bindparam("b_counts"),
        error=bindparam("b_error", type_=ITEMS.c.error.type),
        device=bindparam("b_device"),
        content_id=func.coalesce(bindparam("b_content_id"), ITEMS.c.content_id),
        event_seq=bindparam("b_event_seq"),
        finished_at=bindparam("b_finished_at", type_=ITEMS.c.finished_at.type),
        claimant=None,
        lease_until=None,
    )
)


def _moved(batch: BatchModel, source: ItemState, target: ItemState, count: int) -> None:
    for state, change in ((source, -count), (target, count)):
        name = f"items_{state.value}"
        setattr(batch, name, getattr(batch, name) + change)
    batch.event_seq += count


def _change(ended: Ended, seq: int) -> dict[str, Any]:
    last, queued = ended.tries[-1], ended.state == ItemState.QUEUED
    return {
        "b_id": ended.item.id,
        "b_state": ended.state.value,
        "b_attempts": ended.item.attempt + len(ended.tries) - 1,
        "b_counts": int(ended.counts),
        "b_error": None if queued or last.error is None else dict(last.error),
        "b_device": last.device,
        "b_content_id": ended.content["id"] if ended.content else None,
        "b_event_seq": seq,
        "b_finished_at": None if queued else last.ended_at,
    }


def _tries(ended: Ended) -> list[dict[str, Any]]:
    return [
        {
            "item_id": ended.item.id,
            "n": ended.item.attempt + index,
            "device": one.device,
            "started_at": one.started_at or ended.item.started_at,
            "ended_at": one.ended_at,
            "error": None if one.error is None else dict(one.error),
        }
        for index, one in enumerate(ended.tries)
    ]
