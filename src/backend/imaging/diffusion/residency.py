"""Which pipelines stay on the device: least recently used go first, by bytes."""

from __future__ import annotations

import gc
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch


def pipeline_key(model: str, device_id: int) -> str:
    """Return the cache key; the id is the host's card, also inside a pinned worker."""
    return f"diffusers_{model}_gpu{device_id}"


@dataclass(slots=True)
class Resident:
    """A loaded pipeline, where it came from, its own scheduler, and what it weighs.

    Attributes:
        model: the name on its card.
        image_to_image: the pipeline that starts from a picture; it shares every weight.
        ip_adapter: what `ip_adapter` keeps of a model's IP-Adapter.
        adapters: the LoRAs that are loaded, the least recently used first.
    """

    model: str
    source: str
    pipeline: Any
    scheduler: Any
    weights_bytes: int
    fingerprint: str
    image_to_image: Any = None
    ip_adapter: Any = None
    adapters: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class Residency:
    """Loaded pipelines within a budget of bytes; one pipeline always may stay."""

    budget_bytes: float
    residents: OrderedDict[str, Resident] = field(default_factory=OrderedDict)

    def get(self, key: str) -> Resident | None:
        """Return a resident and mark it as used."""
        if key in self.residents:
            self.residents.move_to_end(key)
        return self.residents.get(key)

    def add(self, key: str, resident: Resident) -> None:
        """Keep a pipeline; let the least recently used go until all fit."""
        self.residents[key] = resident
        self.make_room()

    def make_room(self) -> None:
        """Let the least recently used go until all fit; called when one has grown."""
        while self._bytes() > self.budget_bytes and len(self.residents) > 1:
            self.residents.popitem(last=False)
            release_memory()

    def keep_only(self, key: str) -> bool:
        """Let all others go, whatever the budget; return whether there were any."""
        others = [other for other in self.residents if other != key]
        for other in others:
            del self.residents[other]
        return bool(others)

    def _bytes(self) -> int:
        return sum(resident.weights_bytes for resident in self.residents.values())


def release_memory() -> None:
    """Give unreferenced tensors back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def device_budget_bytes(torch_device: str) -> float:
    """Return the bytes that weights may take: 80 % of a card, no bound on a CPU."""
    if torch_device == "cpu":
        return float("inf")
    return 0.8 * torch.cuda.get_device_properties(torch_device).total_memory
