"""Who draws what next.

Each device has a queue of its own, its home. A device takes from its home, oldest first; when that
is empty it steals the youngest task of the longest queue, so the home goes on in order. It never
steals from a device that is itself waiting for work, since that one is about to take it, and leaves
the last task of a device that is still starting. One lock guards all queues, held for a few list
operations only.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

Task = TypeVar("Task")


class Dispatcher(Generic[Task]):
    """Queues of tasks, one a device, with stealing. Safe from any thread."""

    def __init__(self) -> None:
        self._homes: dict[int, deque[Task]] = {}
        self._keeps: dict[int, float] = {}  # by device: how many waiting tasks it keeps
        self._changed = threading.Condition()
        self._closed = False

    def put(self, task: Task, home: int) -> None:
        """Queue a task at its home device.

        Raises:
            RuntimeError: the dispatcher is closed.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("the dispatcher is closed")
            self._homes.setdefault(home, deque()).append(task)
            self._changed.notify_all()

    def take(self, device_id: int, *, may_steal: bool = True) -> Task | None:
        """Wait for a task for this device; `None` once the dispatcher is closed.

        Args:
            device_id: who asks.
            may_steal: false for a device that is out of order, so that it cannot spoil the work
                of others.
        """
        with self._changed:
            self._keeps[device_id] = math.inf
            try:
                while not self._closed:
                    if own := self._homes.get(device_id):
                        return own.popleft()
                    if may_steal and (other := self._longest_with_more_than_it_keeps()):
                        return other.pop()
                    self._changed.wait()
                return None
            finally:
                self._keeps[device_id] = 0
                self._changed.notify_all()

    def rest(self, device_id: int) -> None:
        """Note that a device is done and about to `take` again, so that its home is left alone."""
        with self._changed:
            self._keeps[device_id] = math.inf

    def starting(self, device_id: int) -> None:
        """Note that a device is getting ready; one of its tasks waits for it."""
        with self._changed:
            self._keeps[device_id] = 1

    def shortest(self, device_ids: Iterable[int]) -> int:
        """Return the least loaded device: one that waits for work, else the shortest queue."""
        with self._changed:
            return min(
                device_ids,
                key=lambda i: (self._keeps.get(i) != math.inf, len(self._homes.get(i, ()))),
            )

    def close(self) -> list[Task]:
        """Let every `take` return `None`; return the tasks that nobody took."""
        with self._changed:
            self._closed = True
            waiting = [task for home in self._homes.values() for task in home]
            self._homes.clear()
            self._changed.notify_all()
            return waiting

    def _longest_with_more_than_it_keeps(self) -> deque[Task] | None:
        spare = (
            tasks for home, tasks in self._homes.items() if len(tasks) > self._keeps.get(home, 0)
        )
        return max(spare, key=len, default=None)
