"""Figures over all batches, for whoever watches the studio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from backend.database.engine import Database
from backend.models.batch import ItemState
from backend.repositories.batches import BatchRepository
from backend.repositories.queue import QueueRepository


class Figures(NamedTuple):
    """How many items there are.

    Attributes:
        items: by state, of all batches.
        waiting: those that a device may take: queued, in batches neither paused nor ended.
    """

    items: Mapping[ItemState, int]
    waiting: int


class BatchFigures:
    """Counts from what batches count themselves; the cost does not grow with their items."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> Figures:
        """Return the figures as they are now."""
        async with self._database.read() as session:
            items = await BatchRepository(session).totals()
            waiting = await QueueRepository(session).waiting()
        return Figures(items, sum(batch.queued for batch in waiting))
