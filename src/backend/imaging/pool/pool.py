"""The device pool: an `ImageBackend` over every local device."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from structlog.contextvars import get_contextvars

from backend.errors import DeviceLost, InvalidRequest, ModelNotAvailable
from backend.imaging.devices import Device
from backend.imaging.pool.messages import Finished
from backend.imaging.pool.seat import DeviceSnapshot, Limits
from backend.imaging.pool.supervisor import Supervisor
from backend.imaging.pool.tickets import Ticket
from backend.imaging.types import GeneratedImage, ImageRequest, ModelCard, OnStep, like


class DevicePool:
    """Keeps one warm worker process a device, and hands out requests.

    Workers start with the first request for their device. The pool belongs to no event loop: it
    may be used from several, one after the other. Left without `close()`, its workers end with
    this process, since their sockets close then.

    Args:
        devices: tells the devices there are; asked at every request, so that it may change.
        cards: the models it can serve.
        cpu_threads: torch threads of a CPU slot.
        limits: how long a worker may give no sign of life.
        strict: never render pictures together, so that their bytes depend on nothing else; left
            out, that holds for CPU slots, which gain nothing by it.
    """

    def __init__(
        self,
        devices: Callable[[], Sequence[Device]],
        cards: Sequence[ModelCard],
        *,
        cpu_threads: int = 1,
        limits: Limits | None = None,
        strict: bool | None = None,
    ) -> None:
        self._devices = devices
        self._cards = tuple(cards)
        self._cpu_threads = cpu_threads
        self._limits = limits or Limits()
        self._strict = strict
        self._supervisor: Supervisor | None = None
        self._folder = ""
        self._guard = threading.Lock()
        self._closed = False

    def cards(self) -> Sequence[ModelCard]:
        """List the models the pool can serve."""
        return self._cards

    async def generate(
        self, request: ImageRequest, card: ModelCard, on_step: OnStep | None = None
    ) -> GeneratedImage:
        """Make one image on the request's home device, or on one that runs dry before.

        Cancelled, it is not rendered any more, or stops within a step. One that is watched is
        rendered by itself, so that the small pictures on the way are its own.

        Raises:
            InvalidRequest: the home device is not here.
            DeviceError: it failed on two devices, or none is left; `details["attempts"]` says how.
            GatorError: whatever the engine reported.
        """
        ticket = self._submit(request, card, on_step)
        picture, device, sent = await asyncio.wrap_future(ticket.image)
        return await asyncio.to_thread(_read, ticket, picture, device, sent)

    def snapshot(self) -> list[DeviceSnapshot]:
        """Say what every device is doing; nothing before the first request."""
        return self._supervisor.snapshot() if self._supervisor else []

    def release(self, device: str) -> None:
        """Let a quarantined device work again, by its name."""
        if self._supervisor:
            self._supervisor.release(device)

    async def close(self) -> None:
        """End all workers; what waits or renders fails as `DeviceLost`. May be called twice."""
        with self._guard:
            self._closed = True
            supervisor, self._supervisor = self._supervisor, None
        if supervisor:
            await asyncio.to_thread(supervisor.stop)
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _submit(self, request: ImageRequest, card: ModelCard, on_step: OnStep | None) -> Ticket:
        if not card.engine:
            raise ModelNotAvailable(
                f"image model {card.name!r} is not one of this pool's: "
                f"{', '.join(c.name for c in self._cards) or 'none'}.",
                {"available": [c.name for c in self._cards]},
            )
        devices = self._devices()
        supervisor = self._running()
        ticket = Ticket(
            request=request,
            card=card,
            like=like(request, card),
            home=_home(request, devices),
            submitted=time.monotonic(),
            alone=request.reference is not None or on_step is not None,
            on_step=on_step,
            labels=get_contextvars(),
        )
        supervisor.submit(ticket, devices)
        return ticket

    def _running(self) -> Supervisor:
        with self._guard:
            if self._closed:
                raise DeviceLost("the device pool is closed.")
            if self._supervisor is None:
                self._folder = tempfile.mkdtemp(prefix="gator-pictures-")
                self._supervisor = Supervisor(
                    cpu_threads=self._cpu_threads,
                    limits=self._limits,
                    folder=self._folder,
                    strict=self._strict,
                )
            return self._supervisor


ANY_DEVICE = -1


def _home(request: ImageRequest, devices: Sequence[Device]) -> int:
    if request.device_id is None:
        return ANY_DEVICE
    if request.device_id not in (device.device_id for device in devices):
        raise InvalidRequest(
            f"device {request.device_id} is not here; these are: "
            f"{', '.join(device.name for device in devices)}.",
            {"errors": [{"field": "device_id", "message": "is not a device of this machine"}]},
        )
    return request.device_id


def _read(ticket: Ticket, picture: Finished, device: Device, sent: float) -> GeneratedImage:
    """Take the file that a worker left, and leave none."""
    path = Path(picture.path)
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise DeviceLost(f"the picture that {device.name} made is gone: {exc.strerror}.") from exc
    path.unlink(missing_ok=True)
    return GeneratedImage(
        image_data=data,
        format=picture.format,
        width=picture.width,
        height=picture.height,
        model=ticket.card.name,
        provider=ticket.card.provider,
        seed=picture.seed,
        kind=picture.kind,
        device=device.name,
        device_id=device.device_id,
        seconds={"queue": round(sent - ticket.submitted, 4), **picture.seconds},
        receipt={**picture.receipt, "request": ticket.request.record()},
        prompt_report=picture.prompt_report,
        attempts=tuple(ticket.attempts),
    )
