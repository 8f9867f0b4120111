"""Word from those who change batches to those who wait for it, within one process.

Whoever listens reads the database afterwards, and reads it now and then anyway: other processes
change batches too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

Listener = Callable[[str], None]


class BatchSignals:
    """Rings for whoever listens; use it from one event loop."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def ring(self, batch_ids: Iterable[str], *, but: Listener | None = None) -> None:
        """Tell of batches that have changed.

        Args:
            batch_ids: which.
            but: who knows already.
        """
        for batch_id in batch_ids:
            for listener in tuple(self._listeners):
                if listener != but:
                    listener(batch_id)

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Call a listener with the id of every batch that changes, while the block lasts."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    @contextmanager
    def watching(self, batch_id: str) -> Iterator[asyncio.Event]:
        """Yield an event that is set when a batch changes; whoever waits for it clears it."""
        changed = asyncio.Event()

        def listener(rung: str) -> None:
            if rung == batch_id:
                changed.set()

        with self.listening(listener):
            yield changed


async def wait_until_set(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for an event, or for a while, and clear it."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
    event.clear()
