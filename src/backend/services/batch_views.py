"""What is said of a batch: the whole of a small one, a summary of any, and its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from backend.models.batch import BatchItemModel, BatchModel, ItemState


class BatchView(NamedTuple):
    """A batch, its items in order, and how many stand where."""

    batch: BatchModel
    items: Sequence[BatchItemModel]
    counts: Mapping[ItemState, int]


class BatchSummaryView(NamedTuple):
    """A batch without its items.

    Attributes:
        rate_per_s: how many items end a second; `None` where it does not run, or just began.
        seconds_left: until its last item ends, at that rate.
        cost_usd: what its pictures did cost, or is set aside for those being made.
    """

    batch: BatchModel
    counts: Mapping[ItemState, int]
    rate_per_s: float | None
    seconds_left: float | None
    cost_usd: Decimal


class BatchEvent(NamedTuple):
    """Something that happened to a batch, as it stands now.

    Attributes:
        seq: its number; later ones are higher.
        kind: `item`, `state`, or `end` for the state that a batch ends in.
        data: plain JSON values.
    """

    seq: int
    kind: Literal["item", "state", "end"]
    data: Mapping[str, Any]


def summary_of(batch: BatchModel, rate_per_s: float | None) -> BatchSummaryView:
    """Return what is said of a batch without its items."""
    left = batch.items_queued + batch.items_running
    seconds = left / rate_per_s if rate_per_s and left else None
    return BatchSummaryView(batch, batch.counts, rate_per_s, seconds, batch.cost_usd)
