"""Finding out, in the background, that what was broken works again.

Invariants: nobody waits for it; it runs on the event loop of whoever met the failure last and stops
with that loop, with `aclose`, or when nobody holds its owner any more.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable

from backend.errors import ProviderError
from backend.logs import get_logger

log = get_logger(__name__)


class Recovery:
    """Tries one thing again, at growing intervals, until it succeeds.

    Args:
        name: whose recovery it is, for logs.
        attempt: succeeds, or raises `ProviderError`; closes the breaker where it succeeds.
        first_s: seconds until the first attempt; doubled by every failure.
        at_most_s: seconds between attempts in the end.
    """

    def __init__(
        self,
        name: str,
        attempt: Callable[[], Awaitable[None]],
        *,
        first_s: float,
        at_most_s: float,
    ) -> None:
        self.name = name
        self._attempt = attempt
        self._first_s = first_s
        self._at_most_s = at_most_s
        self._failures = 0
        self._asked_to_wait_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def failed(self, wait_s: float = 0) -> None:
        """Begin to try again; of several failures at once, one counts.

        Args:
            wait_s: how long the other side asks to be left alone.
        """
        if not self._is_watched():
            self._failures += 1
            self._asked_to_wait_s = wait_s
            self.watch()

    def succeeded(self) -> None:
        """Begin with short intervals the next time."""
        self._failures = 0

    def watch(self) -> None:
        """See to it that attempts are made on a loop that runs."""
        if self._closed or self._is_watched():
            return
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(_try_until_well(weakref.ref(self)), name=f"probe {self.name}")

    def _is_watched(self) -> bool:
        task = self._task
        return task is not None and not task.done() and task.get_loop().is_running()

    def open(self) -> None:
        """Allow attempts again after `aclose`."""
        self._closed = False

    async def aclose(self) -> None:
        """Stop, for good or until `open`."""
        self._closed = True
        task, self._task = self._task, None
        if task is None or task.done() or task.get_loop().is_closed():
            return
        if task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])
        else:
            task.get_loop().call_soon_threadsafe(task.cancel)

    def is_on(self, task: asyncio.Task[None] | None) -> bool:
        """Tell whether this task is the one that makes the attempts."""
        return self._task is task

    def pause_s(self) -> float:
        """Return how long to wait before the next attempt."""
        doublings = min(max(self._failures - 1, 0), 32)
        own_s = min(self._first_s * 2.0**doublings, self._at_most_s)
        return max(own_s, self._asked_to_wait_s)

    async def recovers(self) -> bool:
        """Make one attempt."""
        try:
            await self._attempt()
        except ProviderError as exc:
            self._failures += 1
            self._asked_to_wait_s = float(exc.details.get("retry_after_s") or 0)
            log.info("caption.rung_still_down", rung=self.name, reason=exc.message)
            return False
        log.info("caption.rung_is_back", rung=self.name)
        return True


async def _try_until_well(held: weakref.ref[Recovery]) -> None:
    """Hold the recovery only while an attempt is made, so that it ends with its owner."""
    me = asyncio.current_task()
    while (recovery := held()) and recovery.is_on(me):
        pause_s = recovery.pause_s()
        del recovery
        await asyncio.sleep(pause_s)
        recovery = held()
        if recovery is None or not recovery.is_on(me) or await recovery.recovers():
            return
