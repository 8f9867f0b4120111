"""The one thread that keeps the workers: it starts, feeds, watches and replaces them.

Everything that the pool knows is this thread's alone, so nothing is locked; others leave orders in
a queue and wake it. It sleeps in a selector on the sockets of all workers, and is driven by what
they say and by their hanging up. A worker that gives no sign of life within its limit is killed,
which looks like any other hang-up.

*Faults.* What a micro-batch fails of is looked for by halves, until it is one picture's. A picture
that a device failed over goes to another device; after two attempts it fails, with both errors. A
device that fails three times in a row is quarantined; a failure that a second device repeats is
held against the picture.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from backend.errors import DeviceFault, DeviceLost
from backend.imaging.devices import Device
from backend.imaging.pool.dispatcher import Dispatcher
from backend.imaging.pool.faults import Faults
from backend.imaging.pool.learning import Pace, Sizes
from backend.imaging.pool.messages import (
    Began,
    Cancel,
    Failed,
    Finished,
    Ready,
    Render,
    Reply,
    Rested,
    Stepped,
)
from backend.imaging.pool.process import WorkerProcess
from backend.imaging.pool.seat import DeviceSnapshot, Group, Limits, Seat
from backend.imaging.pool.tickets import Ticket
from backend.logs import get_logger

log = get_logger(__name__)

_CLOSED = "the device pool was closed."
IDLE_WAIT_S = 60.0
DECLINED_WAIT_S = 0.05
"""How soon a device that declined work looks again, since what it waits for may not happen."""


class Supervisor:
    """Runs the workers of the devices that tickets are submitted for.

    Args:
        cpu_threads: torch threads of a CPU slot.
        limits: how long workers may be silent.
        folder: where workers leave their files.
        strict: render each picture by itself, whatever is gained together; `None`: on CPU slots.
    """

    def __init__(
        self, *, cpu_threads: int, limits: Limits, folder: str, strict: bool | None
    ) -> None:
        self._cpu_threads = cpu_threads
        self._limits = limits
        self._folder = folder
        self._strict = strict
        self._pace, self._loads, self._sizes = Pace(), Pace(), Sizes()
        self._dispatcher = Dispatcher(self._pace, self._loads)
        self._seats: dict[int, Seat] = {}
        self._faults = Faults(self._seats, self._dispatcher, self._sizes)
        self._orders: deque[Callable[[], None]] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._tasks = itertools.count(1)
        self._unwanted = self._declined = self._stopping = self._ended = False
        self._thread = threading.Thread(target=self._run, name="gator-pool", daemon=True)
        self._thread.start()

    def submit(self, ticket: Ticket, devices: Sequence[Device]) -> None:
        """Queue a ticket; its home, and those that may stand in for it, are among `devices`."""
        self._order(lambda: self._accept(ticket, devices))
        if self._ended:
            ticket.fail(DeviceLost(_CLOSED))
        ticket.image.add_done_callback(self._note_if_cancelled)

    def release(self, name: str) -> None:
        """Let a quarantined device work again."""
        self._order(lambda: self._faults.release(name))

    def snapshot(self) -> list[DeviceSnapshot]:
        """Say what every device is doing."""
        seats = sorted(self._seats.values(), key=lambda seat: seat.device.device_id)
        return [seat.snapshot(self._dispatcher.waiting(seat.device.device_id)) for seat in seats]

    def stop(self) -> None:
        """End all workers; what waits or renders fails as `DeviceLost`. Returns when it is done."""
        self._order(self._stop)
        self._thread.join()

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        with suppress(OSError):  # full: it is awake already; closed: it has stopped
            self._wake.send(b"\0", socket.MSG_DONTWAIT)

    def _note_if_cancelled(self, image: Future[Any]) -> None:
        def note() -> None:
            self._unwanted = True

        if image.cancelled():
            self._order(note)

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(self._patience()):
                if isinstance(key.data, Seat):
                    self._hear(key.data)
            with suppress(BlockingIOError):
                while self._woken.recv(4096):
                    pass
            while self._orders:
                self._orders.popleft()()
            if self._unwanted:
                self._forget_unwanted()
            self._check_deadlines(time.monotonic())
            self._assign()
        self._end()

    def _patience(self) -> float:
        now = time.monotonic()
        waits = [IDLE_WAIT_S, *(deadline - now for _, deadline in self._deadlines())]
        if self._declined:
            waits.append(DECLINED_WAIT_S)
        return max(0.0, min(waits))

    def _accept(self, ticket: Ticket, devices: Sequence[Device]) -> None:
        for device in devices:
            self._seats.setdefault(device.device_id, Seat(device))
        self._faults.place(ticket, [device.device_id for device in devices])

    def _hear(self, seat: Seat) -> None:
        """Take in what a worker said, and that it hung up."""
        if seat.worker is None:
            return
        try:
            for reply in seat.worker.received():
                self._take_in(seat, reply)
        except (EOFError, OSError):
            self._lose(seat, "while rendering" if seat.is_up else "while starting")

    def _take_in(self, seat: Seat, reply: Reply) -> None:
        now = time.monotonic()
        group = seat.group
        if isinstance(reply, Ready):
            log.info("worker.ready", device=seat.device.name, seconds=round(now - seat.started, 3))
            seat.is_up, seat.started, seat.busy_s = True, now, 0.0
        elif isinstance(reply, Finished):
            self._deliver(seat, reply)
        elif isinstance(reply, Failed) and reply.index is not None:
            self._faults.picture_failed(seat, reply)
        elif group is None or reply.task != group.task:
            return
        elif isinstance(reply, Began):
            group.begin(reply.phase, now)
            group.deadline = now + self._limits.of(reply.phase)
        elif isinstance(reply, Stepped):
            group.step, group.steps = reply.done, reply.total
            group.deadline = now + self._limits.step_s
            seat.preview = reply.preview or seat.preview
            seat.memory = reply.memory or seat.memory
            group.tell(reply.preview)
        elif isinstance(reply, Rested):
            self._rest(seat, group, reply, now)
        elif isinstance(reply, Failed):
            seat.group = None
            seat.busy_s += now - group.sent
            self._faults.group_failed(seat, group, reply)
            if reply.code == DeviceFault.code:
                self._kill(seat, None, reply.message)

    def _rest(self, seat: Seat, group: Group, reply: Rested, now: float) -> None:
        """The device is free; learn from what it did."""
        group.begin("encode", now)
        group.deadline = now + self._limits.encode_s
        seat.encoding[group.task] = group
        seat.group = seat.preview = None
        seat.busy_s += now - group.sent
        seat.models, seat.rss_bytes = frozenset(reply.models), reply.rss_bytes
        seat.memory = reply.memory
        device, each = seat.device.device_id, (now - group.sent - group.loading_s) / group.size
        self._pace.learn(device, group.like, each, is_first=group.loading_s > 0)
        seat.pace_s = self._pace.seconds(device, group.like)
        if not group.loading_s:
            self._sizes.learn(device, group.like, group.size, each)
        if group.loading_s:
            self._loads.learn(device, group.model, group.loading_s)

    def _deliver(self, seat: Seat, picture: Finished) -> None:
        self._faults.succeeded(seat)
        for group in (seat.encoding.get(picture.task), seat.group):
            if group is not None and group.task == picture.task:
                ticket = group.tickets.pop(picture.index, None)
                if not group.tickets:
                    seat.encoding.pop(group.task, None)
                if ticket is not None and ticket.succeed((picture, seat.device, group.sent)):
                    seat.done += 1
                    return
        Path(picture.path).unlink(missing_ok=True)

    def _lose(self, seat: Seat, when: str) -> None:
        """A worker hung up: say why, and see to what it had in hand."""
        if seat.worker is None:
            return
        self._selector.unregister(seat.worker)
        error = seat.worker.explain(when)
        self._abandon(seat, error, error.message)

    def _kill(self, seat: Seat, error: DeviceLost | None, reason: str) -> None:
        """End a worker; without an error nobody is to blame."""
        if seat.worker is not None:
            self._selector.unregister(seat.worker)
            seat.worker.kill()
            self._abandon(seat, error, reason)

    def _abandon(self, seat: Seat, error: DeviceLost | None, reason: str) -> None:
        log.warning("worker.lost", device=seat.device.name, reason=reason)
        was_starting = not seat.is_up
        seat.worker, seat.is_up, seat.models, seat.memory = None, False, frozenset(), None
        self._faults.worker_lost(seat, error, reason, was_starting=was_starting)

    def _deadlines(self) -> list[tuple[Seat, float]]:
        found = []
        for seat in self._seats.values():
            if seat.worker is not None and not seat.is_up:
                found.append((seat, seat.started + self._limits.start_s))
            groups = [*seat.encoding.values(), *([seat.group] if seat.group else [])]
            found += [(seat, group.deadline) for group in groups]
        return found

    def _check_deadlines(self, now: float) -> None:
        for seat, deadline in self._deadlines():
            if deadline > now or seat.worker is None:
                continue
            group = seat.group
            if group is not None and group.cancelled and group.deadline <= now:
                self._kill(seat, None, "it did not stop when its pictures were cancelled.")
                continue
            doing = group.phase if group else ("encode" if seat.is_up else "start")
            hung = _hung(seat, doing)
            self._kill(seat, hung, hung.message)

    def _forget_unwanted(self) -> None:
        """Drop what nobody waits for any more, and stop what is rendered for nobody."""
        self._unwanted = False
        for ticket in self._dispatcher.drain(lambda ticket: not ticket.is_wanted):
            ticket.log.info("picture.cancelled", device=None)
        for seat in self._seats.values():
            group = seat.group
            if group is None or group.cancelled or group.is_wanted or seat.worker is None:
                continue
            group.cancelled = True
            for ticket in group.tickets.values():
                ticket.log.info("picture.cancelled", device=seat.device.name, step=group.step)
            group.deadline = time.monotonic() + self._limits.cancel_s
            with suppress(OSError):  # gone: its hang-up is heard next
                seat.worker.send(Cancel(group.task))

    def _assign(self) -> None:
        """Start workers where work waits, and give every idle one what it had better do."""
        for seat in self._seats.values():
            waits = self._dispatcher.waiting(seat.device.device_id)
            if seat.worker is None and not seat.quarantine and waits:
                self._start(seat)
        self._declined = False
        for steal in (False, True):
            for seat in self._seats.values():
                if seat.is_idle and len(self._dispatcher):
                    self._feed(seat, steal=steal)

    def _start(self, seat: Seat) -> None:
        seat.started = time.monotonic()
        seat.starts += 1
        seat.worker = WorkerProcess(seat.device, cpu_threads=self._cpu_threads)
        self._selector.register(seat.worker, selectors.EVENT_READ, seat)
        what = "worker.started" if seat.starts == 1 else "worker.restarted"
        log.info(what, device=seat.device.name, pid=seat.worker.pid, restarts=seat.starts - 1)

    def _feed(self, seat: Seat, *, steal: bool) -> None:
        now, device_id = time.monotonic(), seat.device.device_id
        stations = {i: s.station(now) for i, s in self._seats.items() if s.worker is not None}
        strict = seat.device.kind == "cpu" if self._strict is None else self._strict
        size = partial(self._sizes.size, device_id)
        taken = self._dispatcher.take(
            device_id, stations, now, steal=steal, size=(lambda _: 1) if strict else size
        )
        tickets = [ticket for ticket in taken if ticket.is_wanted]
        if tickets:
            self._send(seat, tickets, now)
        elif steal and not taken:
            self._declined = True

    def _send(self, seat: Seat, tickets: Sequence[Ticket], now: float) -> None:
        first = tickets[0]
        pace = self._pace.seconds(seat.device.device_id, first.like)
        seat.group = Group(
            task=next(self._tasks),
            tickets=dict(enumerate(tickets)),
            size=len(tickets),
            like=first.like,
            model=first.card.name,
            sent=now,
            epoch=time.time(),
            deadline=now + self._limits.load_s,
            expected_s=pace and pace * len(tickets),
        )
        requests = tuple(ticket.request for ticket in tickets)
        try:
            if seat.worker is not None:
                seat.worker.send(Render(seat.group.task, requests, first.card, self._folder))
        except OSError:
            self._lose(seat, "before it could render")

    def _stop(self) -> None:
        self._stopping = True

    def _end(self) -> None:
        for seat in self._seats.values():
            if seat.worker is not None:
                seat.worker.kill()
        self._ended = True
        while self._orders:
            self._orders.popleft()()
        self._faults.fail_all(DeviceLost(_CLOSED))
        self._selector.close()
        self._wake.close()
        self._woken.close()


def _hung(seat: Seat, doing: str) -> DeviceLost:
    settings = {"start": "WORKER_START", "load": "LOAD", "compile": "COMPILE", "encode": "ENCODE"}
    name = f"GATOR_{settings.get(doing, 'STEP')}_TIMEOUT_S"
    return DeviceLost(
        f"the worker of {seat.device.name} gave no sign of life while it was to {doing}, and was "
        f"replaced; raise {name} if the machine is slow.",
        {"device": seat.device.name, "phase": doing},
    )
