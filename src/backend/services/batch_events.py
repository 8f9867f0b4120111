"""The events of a batch: those that were, from any number on, then those that come."""

from __future__ import annotations

from collections.abc import AsyncIterator

from backend.database.engine import Database
from backend.models.batch import ENDED, BatchItemModel, BatchModel
from backend.repositories.batches import BatchRepository
from backend.services.batch_signals import BatchSignals, wait_until_set
from backend.services.batch_views import BatchEvent

EVENTS = 500
"""How many events are read at once."""

LOOK_AGAIN_S = 1.0
"""How long to wait for word from this process before looking for what another one did."""


async def follow(
    database: Database, signals: BatchSignals, batch_id: str, after: int
) -> AsyncIterator[BatchEvent]:
    """Yield what happened after an event, then what happens, until the batch has ended.

    Raises:
        NotFound: there is no such batch, or it was deleted meanwhile.
        StorageError: the database does not answer.
    """
    with signals.watching(batch_id) as changed:
        while True:
            found, ended = await _after(database, batch_id, after)
            for event in found:
                after = event.seq
                yield event
            if ended:
                return
            if len(found) < EVENTS:
                await wait_until_set(changed, LOOK_AGAIN_S)


async def _after(database: Database, batch_id: str, after: int) -> tuple[list[BatchEvent], bool]:
    """Return the next events, and whether the last of them is the end.

    The batch is read first: what happened later than that is left for the next time, so that no
    number is passed over.
    """
    async with database.read() as session:
        repository = BatchRepository(session)
        batch = await repository.get(batch_id)
        items = await repository.changed_items(batch_id, after=after, limit=EVENTS)
    full = len(items) == EVENTS
    horizon = min(batch.event_seq, items[-1].event_seq) if full else batch.event_seq
    found = [_item_event(item) for item in items if item.event_seq <= horizon]
    if after < batch.state_seq <= horizon:
        found.append(_state_event(batch))
    found.sort(key=lambda event: event.seq)
    return found, batch.state in ENDED and not full


def _item_event(item: BatchItemModel) -> BatchEvent:
    """Return an item's latest change."""
    return BatchEvent(
        item.event_seq,
        "item",
        {
            "position": item.position,
            "state": item.state,
            "attempts": item.attempts,
            "device": item.device,
            "content_id": item.content_id,
            "error": item.error,
        },
    )


def _state_event(batch: BatchModel) -> BatchEvent:
    """Return the latest change of a batch's own state."""
    data = {
        "state": batch.state,
        "reason": batch.state_reason,
        "counts": {state.value: count for state, count in batch.counts.items()},
    }
    return BatchEvent(batch.state_seq, "end" if batch.state in ENDED else "state", data)
