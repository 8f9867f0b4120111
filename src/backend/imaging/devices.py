"""Which devices there are.

The one place outside the engine room that may import torch, lazily and only to count: the API and
`gator --help` start without it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from backend.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Device:
    """A place that makes one image at a time.

    Attributes:
        kind: `cuda` (ROCm answers to that name too) or `cpu`.
        device_id: the host's number of the card, or of the CPU slot.
    """

    kind: Literal["cuda", "cpu"]
    device_id: int

    @property
    def name(self) -> str:
        """Its name in results and logs, such as `cuda:1` or `cpu:0`."""
        return f"{self.kind}:{self.device_id}"


def torch_installed() -> bool:
    """Tell whether the extra `local` is here, without importing it."""
    return importlib.util.find_spec("torch") is not None


def count_gpus() -> int:
    """Count CUDA or ROCm devices as torch sees them in this process, now."""
    if not torch_installed():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def resolve_devices(
    setting: str, *, cpu_slots: int = 1, gpus: int | None = None
) -> tuple[Device, ...]:
    """Turn `GATOR_DEVICES` into devices.

    Args:
        setting: `auto`, `cpu`, `cpu:N`, `cuda`, or a list such as `cuda:0,cuda:2`.
        cpu_slots: how many CPU slots `auto` gives where there is no GPU.
        gpus: how many there are, where that is known already; else torch is asked.

    Raises:
        ConfigurationError: a card is named that is not here.
    """
    if setting.startswith("cpu"):
        return _cpu(int(setting.partition(":")[2] or 1))
    gpus = count_gpus() if gpus is None else gpus
    if setting == "auto":
        return tuple(Device("cuda", i) for i in range(gpus)) or _cpu(cpu_slots)
    named = (
        range(gpus)
        if setting == "cuda"
        else tuple(dict.fromkeys(int(part.partition(":")[2]) for part in setting.split(",")))
    )
    missing = [i for i in named if i >= gpus]
    if missing or not named:
        raise ConfigurationError(
            f"GATOR_DEVICES={setting!r} names cards that are not here: torch sees {gpus} GPU(s). "
            "Accepted: auto, cpu:N, or cards that torch sees (`gator devices` lists them).",
            {"settings": ["GATOR_DEVICES"], "gpus": gpus},
        )
    return tuple(Device("cuda", i) for i in named)


def _cpu(slots: int) -> tuple[Device, ...]:
    return tuple(Device("cpu", i) for i in range(slots))
