"""Runs batches: claims items in a small window, has them drawn, and writes down how that ended.

Everything is in the database before it is begun and after it is done; what is here is only what is
in hand at the moment. The window is a few items a device over all batches, shared fairly, so that a
batch of a hundred thousand costs no memory and holds nobody up. Several processes may run at once
on one database: whoever claims an item works on it, and what a process leaves behind is taken back.

A database or disk that fails costs time: outcomes wait in the window until they can be written, and
nothing new is claimed meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from backend.errors import StorageError
from backend.imaging.devices import Device
from backend.logs import get_logger
from backend.models.batch import ENDED, BatchModel, BatchState, ItemState
from backend.repositories.claims import Ended, Try, Waiting
from backend.services.ai_models import AIModelManager
from backend.services.batch_captions import BatchCaptions
from backend.services.batch_ledger import BatchLedger, Order, described
from backend.services.batch_renderer import BatchRenderer, stopped
from backend.services.batch_signals import BatchSignals, wait_until_set
from backend.services.claimant import is_gone
from backend.services.fair_share import FairShare

WINDOW_PER_DEVICE = 8
"""Items in hand a device: enough for a micro-batch in work and one in waiting."""

POLL_S = 2.0
"""How often the runner looks for what other processes did."""

CAPTION_PAUSE_S = 0.25
"""How long captions gather before they are written, while a batch is being rendered."""

FAULT_DELAYS_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses after the first, second, … failure in a row to reach the database."""

STOP_S = 15.0
"""How long a transaction may go on that is under way when the runner is told to stop."""

Advance = Callable[[str], None]

log = get_logger(__name__)


class BatchRunner:
    """Runs every batch that there is, or, for one command, those that it names.

    Args:
        ledger: the database.
        renderer: draws an item.
        captions: writes captions.
        models: whose devices.
        signals: tells of batches that were created or changed here.
        poll_s: how often to look for what other processes did.
    """

    def __init__(
        self,
        ledger: BatchLedger,
        renderer: BatchRenderer,
        captions: BatchCaptions,
        models: AIModelManager,
        signals: BatchSignals,
        *,
        poll_s: float = POLL_S,
    ) -> None:
        self._ledger = ledger
        self._renderer = renderer
        self._captions = captions
        self._models = models
        self._signals = signals
        self._poll_s = poll_s
        self._share = FairShare()
        self._devices: Sequence[Device] = ()
        self._waiting: Sequence[Waiting] = ()
        self._in_hand: dict[str, asyncio.Task[Ended]] = {}
        self._ended: list[Ended] = []
        self._to_caption: dict[str, None] = {}
        self._only: Counter[str] | None = Counter()
        self._wake, self._caption_wake = asyncio.Event(), asyncio.Event()
        self._changed = self._stopping = False
        self._faults = 0
        self._extended = 0.0
        self._loop: asyncio.Task[None] | None = None
        self._captioner: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run every batch from now on, what earlier processes left unfinished first."""
        self._only = None
        self._begin()

    async def stop(self) -> None:
        """Stop at once; what is finished is kept, the rest is given back to the queue."""
        if self._loop is None or self._captioner is None:
            return
        self._stopping = True
        self._wake.set()
        self._captioner.cancel()
        await asyncio.wait([self._loop, self._captioner], timeout=STOP_S)
        tasks = [self._loop, self._captioner, *self._in_hand.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.sleep(0)  # what was in hand reports how it ended
        self._loop = self._captioner = None
        self._stopping = False
        ended, self._ended = self._ended, []
        if ended:
            with suppress(StorageError):  # then the leases end by themselves
                await self._ledger.exchange(ended, {})
                self._signals.ring({one.item.batch_id for one in ended})

    async def run_until_finished(
        self, batch_ids: Sequence[str], advance: Advance = lambda _: None
    ) -> None:
        """Run some batches, if nobody runs them yet, until each has ended or is paused.

        Args:
            batch_ids: which.
            advance: is called with `images` for each item that ends, with `captions` for each
                whose caption is written or not needed.

        Raises:
            NotFound: one is not there, or was deleted meanwhile.
        """
        if self._only is not None:
            self._only.update(batch_ids)
        changed = asyncio.Event()
        self._begin()
        self._on_change("")
        try:
            with self._signals.listening(lambda _: changed.set()):
                known = await self._ledger.batches(batch_ids)
                while not all(map(_rests, known)):
                    await wait_until_set(changed, self._poll_s)
                    latest = await self._ledger.batches(batch_ids)
                    _advance(known, latest, advance)
                    known = latest
        finally:
            if self._only is not None:
                self._only.subtract(batch_ids)
                self._only = +self._only
                if not self._only:
                    await asyncio.shield(self.stop())

    @property
    def storage_faults(self) -> int:
        """How many failures in a row the database had, and pictures wait for the storage."""
        return self._faults + self._renderer.waiting_for_storage

    def _begin(self) -> None:
        if self._loop is None:
            self._loop = asyncio.create_task(self._run(), name="batch-runner")
            self._captioner = asyncio.create_task(self._write_captions(), name="batch-captions")

    def _on_change(self, _: str) -> None:
        self._changed = True
        self._wake.set()

    async def _run(self) -> None:
        next_poll = 0.0
        with self._signals.listening(self._on_change):
            while not self._stopping:
                try:
                    if time.monotonic() >= next_poll:
                        await self._poll()
                        next_poll = time.monotonic() + self._poll_s
                    await self._turn()
                    self._faults = 0
                except StorageError as exc:
                    await self._rest(exc.message)
                except Exception as exc:
                    log.exception("batches.failed")
                    await self._rest(str(exc))
                else:
                    await wait_until_set(self._wake, max(next_poll - time.monotonic(), 0.01))

    async def _rest(self, reason: str) -> None:
        delay_s = FAULT_DELAYS_S[min(self._faults, len(FAULT_DELAYS_S) - 1)]
        self._faults += 1
        log.warning("batches.wait", reason=reason, again_in_s=delay_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                while not self._stopping:
                    await self._wake.wait()
                    self._wake.clear()

    async def _poll(self) -> None:
        """Show a sign of life, take back what nobody works on, and look at the queue."""
        if self._devices:
            await self._count_devices()
        lease_s = self._ledger.lease.total_seconds()
        if self._in_hand and time.monotonic() - self._extended > lease_s / 4:
            await self._ledger.extend()
            self._extended = time.monotonic()
        gone = [name for name in await self._ledger.claimants() if is_gone(name)]
        if taken := await self._ledger.take_back(gone):
            log.info("batches.taken_back", batches=taken)
            self._signals.ring(taken, but=self._on_change)
        self._changed = True

    async def _count_devices(self) -> None:
        """Count them in a thread, for the first count may import torch."""
        self._devices = await asyncio.to_thread(self._models.devices)

    async def _turn(self) -> None:
        """Write down what ended, claim what there is room for, and begin it."""
        if self._changed:
            self._changed = False
            await self._survey()
        if self._waiting and not self._devices:  # an idle server starts without torch
            await self._count_devices()
        ended, self._ended = self._ended, []
        plan = self._plan(len(ended))
        if not ended and not plan:
            return
        try:
            orders = await self._ledger.exchange(ended, plan)
        except (StorageError, asyncio.CancelledError):
            self._ended = ended + self._ended
            raise
        except Exception as exc:
            if not ended:
                raise
            log.exception("batches.outcome")
            orders = await self._one_by_one(ended, exc)
        for order in orders:
            task = asyncio.create_task(self._work(order))
            self._in_hand[order.item.id] = task
            task.add_done_callback(partial(self._finished, order))
        if len(orders) < sum(plan.values()):
            self._changed = True
        self._tell({one.item.batch_id for one in ended} | set(plan))

    async def _one_by_one(self, ended: Sequence[Ended], reason: Exception) -> list[Order]:
        """Write outcomes down that were refused together; one that is refused alone has failed."""
        for one in ended:
            try:
                await self._ledger.exchange([one], {})
            except StorageError:
                self._ended.append(one)
            except Exception:
                log.exception("batches.outcome", item=one.item.id)
                last = Try(one.tries[-1].device, described(reason))
                with suppress(StorageError):
                    await self._ledger.exchange([Ended(one.item, ItemState.FAILED, (last,))], {})
        return []

    async def _survey(self) -> None:
        """Look at what waits, and let go of what was cancelled or taken back."""
        found = await self._ledger.survey()
        self._waiting = [w for w in found.waiting if self._is_ours(w.id)]
        for item_id, task in self._in_hand.items():
            if item_id not in found.held:
                task.cancel()
        self._caption(batch_id for batch_id in found.ripe if self._is_ours(batch_id))

    def _is_ours(self, batch_id: str) -> bool:
        return self._only is None or batch_id in self._only

    def _plan(self, settled: int) -> dict[str, int]:
        """Return how many items of which batch to claim; none until there is some room."""
        window = WINDOW_PER_DEVICE * max(len(self._devices), 1)
        room = window - len(self._in_hand) - settled
        if self._stopping or self.storage_faults or room < max(window // 4, 1):
            return {}
        plan = self._share.plan(self._waiting, room)
        self._waiting = [
            replace(w, queued=w.queued - plan[w.id]) if w.id in plan else w for w in self._waiting
        ]
        return plan

    async def _work(self, order: Order) -> Ended:
        item = order.item
        structlog.contextvars.bind_contextvars(
            batch=item.batch_id, item=item.position, attempt=item.attempt
        )
        ended = await self._renderer.render(order, self._devices)
        last = ended.tries[-1]
        log.info("item.ended", state=ended.state.value, device=last.device, error=last.error)
        return ended

    def _finished(self, order: Order, task: asyncio.Task[Ended]) -> None:
        self._ended.append(stopped(order) if task.cancelled() else task.result())
        self._in_hand.pop(order.item.id, None)
        self._wake.set()

    def _tell(self, batch_ids: set[str]) -> None:
        self._signals.ring(batch_ids, but=self._on_change)
        self._caption(batch_ids)

    def _caption(self, batch_ids: Iterable[str]) -> None:
        self._to_caption.update(dict.fromkeys(batch_ids))
        if self._to_caption:
            self._caption_wake.set()

    async def _write_captions(self) -> None:
        """Go round the batches, some captions of each, and end those that are finished."""
        while True:
            await self._caption_wake.wait()
            self._caption_wake.clear()
            turn, self._to_caption = self._to_caption, {}
            for batch_id in turn:
                try:
                    if await self._captions.advance(batch_id):
                        self._caption([batch_id])
                    self._signals.ring([batch_id], but=self._on_change)
                except StorageError as exc:
                    log.warning("captions.storage", reason=exc.message)
                    self._caption([batch_id])
                    await asyncio.sleep(FAULT_DELAYS_S[-1])
                except Exception:
                    log.exception("captions.failed", batch=batch_id)
            if self._in_hand:
                await asyncio.sleep(CAPTION_PAUSE_S)


def _advance(before: Sequence[BatchModel], after: Sequence[BatchModel], advance: Advance) -> None:
    """Tell of the units that were done between two looks at the same batches."""
    for old, new in zip(before, after, strict=True):
        for _ in range(_ended_items(new) - _ended_items(old)):
            advance("images")
        for _ in range(new.caption_position - old.caption_position if new.captions else 0):
            advance("captions")


def _rests(batch: BatchModel) -> bool:
    """Tell whether nothing more happens to a batch by itself."""
    paused = batch.state == BatchState.PAUSED and not batch.items_running
    return batch.state in ENDED or paused


def _ended_items(batch: BatchModel) -> int:
    return batch.total - batch.items_queued - batch.items_running
