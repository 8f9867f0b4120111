"""Routes of devices: what each one does now, and the way back for one that was set aside."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from backend.api.dependencies import Actor, OpenStudio, count_devices
from backend.api.problems import problems
from backend.api.schemas import Listing
from backend.bootstrap import Studio
from backend.errors import ConfigurationError, Conflict, Forbidden, NotFound
from backend.imaging.devices import Device
from backend.imaging.pool.seat import DeviceSnapshot, State
from backend.imaging.telemetry import CardReading, read_cards
from backend.models.account import Role

RELEASED_WITHIN_S = 1.0
_LOOK_EVERY_S = 0.02

_NEVER_NEEDED: dict[str, Any] = {
    "state": "down",
    "reason": "",
    "phase": "",
    "step": 0,
    "steps": 0,
    "model": "",
    "done": 0,
    "failed": 0,
    "waiting": 0,
    "restarts": 0,
    "utilisation": 0.0,
    "images_per_s": None,
}

router = APIRouter(prefix="/devices", tags=["system"])

DeviceName = Annotated[
    str, Path(pattern=r"^(cuda|cpu):\d{1,4}$", description="A device's name, such as `cuda:0`.")
]


class DeviceResponse(BaseModel):
    """A place that images are made on, and what it does now."""

    name: str = Field(examples=["cpu:0"])
    kind: str
    device_id: int
    state: State = Field(
        description="`down` until its worker is first needed; `quarantined` after three failures "
        "in a row, until it is released."
    )
    reason: str = Field(description="Why it is quarantined; empty where it is not.")
    phase: str = Field(description="`load`, `compile` or `render`; empty where it rests.")
    step: int = Field(description="Denoising steps done, of `steps`.")
    steps: int
    model: str = Field(description="What it draws with now; empty where it rests.")
    models: list[str] = Field(description="What it holds loaded.")
    done: int = Field(description="Pictures made since the start.")
    failed: int = Field(description="Pictures that failed on it.")
    waiting: int = Field(description="Pictures that wait for it.")
    restarts: int = Field(description="How often its worker was replaced.")
    utilisation: float = Field(
        description="Share of the time since its worker came up in which it worked, 0 to 1."
    )
    images_per_s: float | None = Field(description="At its present pace; `null` where unknown.")
    worker_pid: int | None
    worker_peak_rss_bytes: int | None = Field(description="The most main memory it held.")
    memory_used_bytes: int | None = Field(
        description="Of the card, by every process, as its driver or its worker tells; `null` "
        "where neither does."
    )
    memory_total_bytes: int | None


@router.get("", summary="List devices", responses=problems(ConfigurationError, bare=True))
async def list_devices(studio: OpenStudio) -> Listing[DeviceResponse]:
    """Return the devices that images are made on, and what each one does now."""
    devices = await count_devices(studio)
    cards = await asyncio.to_thread(read_cards, devices, studio.models.snapshot())
    return Listing(
        items=[_response(one, _seen(studio, one.name), cards.get(one.name)) for one in devices]
    )


@router.get(
    "/{device}/preview",
    summary="Look at what a device draws",
    response_class=Response,
    responses={
        200: {
            "description": "A small picture.",
            "content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problems(NotFound),
    },
)
async def preview_device(device: DeviceName, studio: OpenStudio) -> Response:
    """Return a small picture of what a device draws now, renewed at most twice a second."""
    seen = _seen(studio, device)
    if seen is None or seen.preview is None:
        raise NotFound(f"{device} shows nothing now.", {"device": device})
    return Response(seen.preview, media_type="image/webp", headers={"Cache-Control": "no-store"})


@router.post(
    "/{device}/release",
    summary="Let a quarantined device work again",
    responses=problems(NotFound, Conflict, Forbidden, ConfigurationError),
)
async def release_device(device: DeviceName, studio: OpenStudio, actor: Actor) -> DeviceResponse:
    """Take a device back that was set aside after it had failed three times in a row."""
    if actor.role < Role.OWNER:
        raise Forbidden("only an owner may release a device.")
    known = {one.name: one for one in await count_devices(studio)}
    if device not in known:
        raise NotFound(f"there is no device {device!r}.", {"device": device})
    seen = _seen(studio, device)
    if seen is None or seen.state != "quarantined":
        state = seen.state if seen else "down"
        raise Conflict(f"{device} is not quarantined; it is {state}.", {"state": state})
    studio.models.release_device(device)
    await _until_released(studio, device)
    return _response(known[device], _seen(studio, device), None)


async def _until_released(studio: Studio, device: str) -> None:
    """Wait a moment until the pool, which has a thread of its own, has heard of it."""
    for _ in range(round(RELEASED_WITHIN_S / _LOOK_EVERY_S)):
        seen = _seen(studio, device)
        if seen is None or seen.state != "quarantined":
            return
        await asyncio.sleep(_LOOK_EVERY_S)


def _seen(studio: Studio, name: str) -> DeviceSnapshot | None:
    """Return what the pool says of a device; nothing before it was first needed."""
    return next((seen for seen in studio.models.snapshot() if seen.device == name), None)


def _response(
    device: Device, seen: DeviceSnapshot | None, card: CardReading | None
) -> DeviceResponse:
    values = {name: getattr(seen, name, never) for name, never in _NEVER_NEEDED.items()}
    return DeviceResponse(
        **values,
        name=device.name,
        kind=device.kind,
        device_id=device.device_id,
        models=list(seen.models) if seen else [],
        worker_pid=seen and seen.pid,
        worker_peak_rss_bytes=(seen.rss_bytes or None) if seen else None,
        memory_used_bytes=card and card.used_bytes,
        memory_total_bytes=card and card.total_bytes,
    )
