"""The device pool: an `ImageBackend` over every local device."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from backend.errors import DeviceLost, InvalidRequest, ModelNotAvailable
from backend.imaging.devices import Device
from backend.imaging.pool.dispatcher import Dispatcher
from backend.imaging.pool.messages import Render
from backend.imaging.pool.process import WorkerProcess
from backend.imaging.types import GeneratedImage, ImageRequest, ModelCard


class Ticket(NamedTuple):
    """A task and the future of its image."""

    task: Render
    image: Future[GeneratedImage]


class DevicePool:
    """Keeps one warm worker process a device, and hands out requests.

    Workers start with the first request for their device. The pool belongs to no event loop: it
    may be used from several, one after the other. Left without `close()`, its workers end with
    this process, since their sockets close then.

    Args:
        devices: tells the devices there are; asked at every request, so that it may change.
        cards: the models it can serve.
        cpu_threads: torch threads of a CPU slot.
        start_timeout_s: how long a worker may take to start.
    """

    def __init__(
        self,
        devices: Callable[[], Sequence[Device]],
        cards: Sequence[ModelCard],
        *,
        cpu_threads: int = 1,
        start_timeout_s: float = 120,
    ) -> None:
        self._devices = devices
        self._cards = tuple(cards)
        self._cpu_threads = cpu_threads
        self._start_timeout_s = start_timeout_s
        self._dispatcher: Dispatcher[Ticket] = Dispatcher()
        self._seats: dict[Device, _Seat] = {}
        self._guard = threading.Lock()
        self._closed = False

    def cards(self) -> Sequence[ModelCard]:
        """List the models the pool can serve."""
        return self._cards

    async def generate(self, request: ImageRequest, card: ModelCard) -> GeneratedImage:
        """Make one image on the request's home device, or on one that runs dry before.

        Raises:
            InvalidRequest: the home device is not here.
            DeviceLost: the worker died over this image.
            GatorError: whatever the engine reported.
        """
        ticket = self._submit(request, card)
        return await asyncio.wrap_future(ticket.image)

    def worker_stats(self) -> dict[str, dict[str, int]]:
        """Return pid and peak resident bytes of every worker that is up, by device name."""
        with self._guard:
            return {
                seat.device.name: stats for seat in self._seats.values() if (stats := seat.stats())
            }

    async def close(self) -> None:
        """End all workers; what waits or renders fails as `DeviceLost`. May be called twice."""
        self._closed = True
        for ticket in self._dispatcher.close():
            if ticket.image.set_running_or_notify_cancel():
                ticket.image.set_exception(DeviceLost("the device pool was closed."))
        with self._guard:
            seats = list(self._seats.values())
        for seat in seats:
            seat.kill()
        for seat in seats:
            await asyncio.to_thread(seat.join)

    def _submit(self, request: ImageRequest, card: ModelCard) -> Ticket:
        if self._closed:
            raise DeviceLost("the device pool is closed.")
        if not card.engine:
            raise ModelNotAvailable(
                f"image model {card.name!r} is not one of this pool's: "
                f"{', '.join(c.name for c in self._cards) or 'none'}.",
                {"available": [c.name for c in self._cards]},
            )
        ticket = Ticket(Render(request, card), Future())
        home = self._home(request)
        self._seat(home)
        self._dispatcher.put(ticket, home.device_id)
        return ticket

    def _home(self, request: ImageRequest) -> Device:
        devices = {device.device_id: device for device in self._devices()}
        wanted = request.device_id
        if wanted is None:
            wanted = self._dispatcher.shortest(devices)
        if wanted not in devices:
            raise InvalidRequest(
                f"device {wanted} is not here; these are: "
                f"{', '.join(device.name for device in devices.values())}.",
                {"errors": [{"field": "device_id", "message": "is not a device of this machine"}]},
            )
        return devices[wanted]

    def _seat(self, device: Device) -> None:
        with self._guard:
            if device not in self._seats:
                self._seats[device] = _Seat(device, self._dispatcher, self._start_worker)

    def _start_worker(self, device: Device) -> WorkerProcess:
        return WorkerProcess(
            device, cpu_threads=self._cpu_threads, start_timeout_s=self._start_timeout_s
        )


class _Seat:
    """One device's thread: keeps a worker alive and feeds it, until the dispatcher closes."""

    def __init__(
        self,
        device: Device,
        dispatcher: Dispatcher[Ticket],
        start: Callable[[Device], WorkerProcess],
    ) -> None:
        self.device = device
        self._dispatcher = dispatcher
        self._start = start
        self._worker: WorkerProcess | None = None
        self._closed = False
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"gator-{device.name}", daemon=True)
        self._thread.start()

    def stats(self) -> dict[str, int]:
        worker = self._worker
        return {"pid": worker.pid, "peak_rss_bytes": worker.rss_bytes} if worker else {}

    def kill(self) -> None:
        with self._guard:
            self._closed = True
            if self._worker:
                self._worker.kill()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        while True:
            fault = self._keep_worker()
            ticket = self._dispatcher.take(self.device.device_id, may_steal=fault is None)
            if ticket is None:
                return
            if ticket.image.set_running_or_notify_cancel():
                self._serve(ticket)

    def _keep_worker(self) -> DeviceLost | None:
        """Start a worker where none is alive; return why that failed."""
        if self._worker and self._worker.is_alive:
            return None
        self._dispatcher.starting(self.device.device_id)
        with self._guard:
            if self._closed:
                return DeviceLost("the device pool was closed.")
            self._worker = self._start(self.device)
        try:
            self._worker.wait_until_ready()
        except DeviceLost as exc:
            return exc
        return None

    def _serve(self, ticket: Ticket) -> None:
        try:
            fault = self._keep_worker()
            if fault or not self._worker:
                raise fault or DeviceLost(f"{self.device.name} has no worker.")
            image = self._worker.render(ticket.task)
        except Exception as exc:  # noqa: BLE001 - the supervisor: the ticket ends, the thread goes on
            ticket.image.set_exception(exc)
        else:
            self._dispatcher.rest(self.device.device_id)
            ticket.image.set_result(image)
