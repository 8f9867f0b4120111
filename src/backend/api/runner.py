"""Batches in the background, one after the other.

A batch is in the database before the runner hears of it, so nothing is lost with the process: what
was not finished is gone on with at the next start. No batch's failure ends the runner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from backend.bootstrap import Studio
from backend.errors import NotFound
from backend.logs import get_logger

RETRY_DELAYS_S = (5.0, 30.0, 120.0)
"""Pauses before a batch that was cut off by a fault is gone on with; then it waits for a start."""

log = get_logger(__name__)


class BatchRunner:
    """Runs what is submitted, each batch as a whole.

    Args:
        studio: whose batches; open for as long as the runner runs.
        retry_delays_s: the pause after the first, second, … fault of one batch.
    """

    def __init__(self, studio: Studio, *, retry_delays_s: Sequence[float] = RETRY_DELAYS_S) -> None:
        self._studio = studio
        self._retry_delays_s = retry_delays_s
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._failures: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Queue what an earlier process left unfinished, and begin."""
        for batch_id in await self._studio.batches.unfinished():
            self._waiting.put_nowait(batch_id)
        self._task = asyncio.create_task(self._run(), name="batch-runner")

    def submit(self, batch_id: str) -> None:
        """Run a batch when those before it are done."""
        self._waiting.put_nowait(batch_id)

    def failures(self, batch_id: str) -> int:
        """Return how often a batch was cut off by a fault since it last finished."""
        return self._failures.get(batch_id, 0)

    async def stop(self) -> None:
        """Stop at once; finished items are kept, the others are queued again at the next start."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            batch_id = await self._waiting.get()
            with structlog.contextvars.bound_contextvars(batch=batch_id):
                await self._run_one(batch_id)

    async def _run_one(self, batch_id: str) -> None:
        try:
            # Counted in a thread, for the first count may import torch
            await asyncio.to_thread(self._studio.models.devices)
            view = await self._studio.batches.run(batch_id)
        except Exception:
            if await self._is_gone(batch_id):
                log.info("batch.gone")
            else:
                log.exception("batch.failed")
                self._retry_later(batch_id)
        else:
            self._failures.pop(batch_id, None)
            log.info("batch.finished", **{state.value: n for state, n in view.counts.items()})

    async def _is_gone(self, batch_id: str) -> bool:
        """Tell whether somebody deleted the batch, or its persona, meanwhile."""
        try:
            await self._studio.batches.show(batch_id)
        except NotFound:
            return True
        except Exception:
            log.exception("batch.unreadable")
        return False

    def _retry_later(self, batch_id: str) -> None:
        failures = self.failures(batch_id)
        self._failures[batch_id] = failures + 1
        if failures < len(self._retry_delays_s):
            loop = asyncio.get_running_loop()
            loop.call_later(self._retry_delays_s[failures], self._waiting.put_nowait, batch_id)
