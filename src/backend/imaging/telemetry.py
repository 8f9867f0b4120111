"""How full and how busy the cards are.

Nothing here opens a context on a card, which would take some of its memory: NVML answers for
NVIDIA's cards where the package `nvidia-ml-py` is installed. Elsewhere, such as on ROCm, a card's
worker, which has a context, said at its last sign how full the card is; before its first one there
is no reading.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

from backend.config import inherited
from backend.imaging.devices import Device
from backend.imaging.pool.seat import DeviceSnapshot


@dataclass(frozen=True, slots=True)
class CardReading:
    """What is known of one card.

    Attributes:
        used_bytes: of its memory, by every process.
        busy: share of the last while in which it worked, 0 to 1; `None` where only its worker told.
    """

    used_bytes: int
    total_bytes: int
    busy: float | None


def read_cards(devices: Iterable[Device], seen: Iterable[DeviceSnapshot]) -> dict[str, CardReading]:
    """Return a reading by the device's name; blocks for some milliseconds.

    NVML's cards are matched by their number among those that `CUDA_VISIBLE_DEVICES` shows, in the
    order of the PCI bus.

    Args:
        devices: whose readings are wanted; CPU slots have none.
        seen: what the pool says of them.
    """
    told = {one.device: one.memory for one in seen}
    found = {}
    for device in devices:
        nvml = _nvml() if device.kind == "cuda" else None
        reading = _of_nvidia(nvml, _shown(device)) if nvml else None
        memory = told.get(device.name)
        if reading is None and memory is not None:
            reading = CardReading(memory.used_bytes, memory.total_bytes, None)
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
