"""What passes between the queue and whoever works on it: items held, and how that ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backend.models.base import now
from backend.models.batch import ItemState


@dataclass(frozen=True, slots=True)
class Claimed:
    """An item that this process holds.

    Attributes:
        attempt: the number that its outcome must carry.
        failures: how many attempts before ended by a fault that may pass.
    """

    id: str
    batch_id: str
    position: int
    prompt: str
    seed: int
    options: Mapping[str, Any]
    attempt: int
    failures: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt that ended, as the item's history keeps it."""

    device: str | None
    error: Mapping[str, Any] | None
    started_at: datetime | None = None
    ended_at: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended.

    Attributes:
        state: `DONE`, `FAILED`, or `QUEUED` for one that is to be tried again.
        content: the picture's row, where there is one.
        tries: what happened, in order; at least one, and each has a number of its own.
        counts: whether it counts as a failure of the item.
        pause: why the whole batch cannot go on, if so.
        cost_microusd: what it did cost beside what was set aside.
    """

    item: Claimed
    state: ItemState
    tries: Sequence[Try]
    content: Mapping[str, Any] | None = None
    counts: bool = False
    pause: str | None = None
    cost_microusd: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A batch whose items may be claimed."""

    id: str
    persona_id: str | None
    created_by: str
    priority: int
    weight: int
    queued: int
