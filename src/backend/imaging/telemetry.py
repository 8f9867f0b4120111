"""How full and how busy the cards are, as their drivers tell it.

Nothing here opens a context on a card, which would take some of its memory: NVML answers for
NVIDIA's cards where the package `nvidia-ml-py` is installed, the kernel's own files for AMD's. A
card that neither knows has no reading.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from backend.config import inherited
from backend.imaging.devices import Device

DRM = Path("/sys/class/drm")


@dataclass(frozen=True, slots=True)
class CardReading:
    """What a driver says of one card.

    Attributes:
        used_bytes: of its memory, by every process.
        busy: share of the last while in which it worked, 0 to 1; `None` where it is not told.
    """

    used_bytes: int
    total_bytes: int
    busy: float | None


def read_cards(devices: Iterable[Device], drm: Path = DRM) -> dict[str, CardReading]:
    """Return a reading by the device's name; blocks for some milliseconds.

    Cards are matched by their number among those that `CUDA_VISIBLE_DEVICES` or
    `HIP_VISIBLE_DEVICES` shows, in the order of the PCI bus.

    Args:
        devices: whose readings are wanted; CPU slots have none.
        drm: where the kernel lists graphics cards.
    """
    cards = [device for device in devices if device.kind == "cuda"]
    if not cards:
        return {}
    nvml = _nvml()
    amd = _amd_cards(drm)
    found = {}
    for device in cards:
        reading = _of_nvidia(nvml, _shown(device)) if nvml else _of_amd(amd, _shown(device))
        if reading:
            found[device.name] = reading
    return found


@functools.cache
def _nvml() -> ModuleType | None:
    """Return NVML, opened for as long as the process lives, where there are a driver and a card."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        count: int = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return None
    module: ModuleType = pynvml
    return module if count else None


def _shown(device: Device) -> str:
    """Return what the driver calls the card: its number, or its UUID where the user named that."""
    seen = inherited("CUDA_VISIBLE_DEVICES") or inherited("HIP_VISIBLE_DEVICES")
    names = [name.strip() for name in seen.split(",")] if seen else []
    return names[device.device_id] if device.device_id < len(names) else str(device.device_id)


def _of_nvidia(nvml: ModuleType, name: str) -> CardReading | None:
    try:
        card = (
            nvml.nvmlDeviceGetHandleByIndex(int(name))
            if name.isdecimal()
            else nvml.nvmlDeviceGetHandleByUUID(name)
        )
        memory = nvml.nvmlDeviceGetMemoryInfo(card)
    except nvml.NVMLError:
        return None
    try:
        busy = nvml.nvmlDeviceGetUtilizationRates(card).gpu / 100
    except nvml.NVMLError:  # a share of a card has no such figure
        busy = None
    return CardReading(int(memory.used), int(memory.total), busy)


def _amd_cards(drm: Path) -> list[Path]:
    """Return the folders of AMD's cards in the order of the PCI bus."""
    found = {total.parent.resolve() for total in drm.glob("card*/device/mem_info_vram_total")}
    return sorted(found, key=lambda folder: folder.name)


def _of_amd(cards: list[Path], name: str) -> CardReading | None:
    if not name.isdecimal() or int(name) >= len(cards):
        return None
    card = cards[int(name)]
    used, total = (_number(card / f"mem_info_vram_{which}") for which in ("used", "total"))
    busy = _number(card / "gpu_busy_percent")
    if used is None or total is None:
        return None
    return CardReading(used, total, None if busy is None else busy / 100)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return None
