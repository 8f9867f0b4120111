"""One device's place in the pool: its worker, what it renders, and how it has behaved."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from backend.imaging.devices import Device
from backend.imaging.pool.dispatcher import Station
from backend.imaging.pool.process import WorkerProcess
from backend.imaging.pool.tickets import Ticket
from backend.imaging.types import MemoryReading

FAILURES = 3
"""Failures of a device in a row after which it is quarantined."""

OVERRUN = 0.25
"""Work that takes longer than expected is expected to take this share of its time more."""

State = Literal["down", "starting", "idle", "loading", "rendering", "quarantined"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a worker may give no sign of life, in seconds by what it does.

    Attributes:
        start_s: until it says that it is up.
        load_s: while it loads a model.
        compile_s: while it compiles one.
        step_s: from one denoising step to the next.
        encode_s: from the last step to the file.
        cancel_s: from a cancellation until it is killed.
    """

    start_s: float = 120
    load_s: float = 900
    compile_s: float = 1_800
    step_s: float = 300
    encode_s: float = 120
    cancel_s: float = 30

    def of(self, phase: str) -> float:
        """Return the limit of a phase as a worker names it."""
        return {"load": self.load_s, "compile": self.compile_s}.get(phase, self.step_s)


@dataclass(slots=True, eq=False)
class Group:
    """A micro-batch on its way: what was sent to a worker as one task."""

    task: int
    tickets: dict[int, Ticket]
    size: int
    like: str
    model: str
    sent: float
    epoch: float
    deadline: float
    phase: str = "sent"
    phase_began: float = 0.0
    loading_s: float = 0.0
    expected_s: float | None = None
    step: int = 0
    steps: int = 0
    cancelled: bool = False

    def begin(self, phase: str, now: float) -> None:
        """Note that a phase begins; what loading took is kept."""
        if self.phase in ("load", "compile"):
            self.loading_s += now - self.phase_began
        self.phase, self.phase_began = phase, now

    def tell(self, preview: bytes | None) -> None:
        """Tell who watches one of its images how far it is."""
        for ticket in self.tickets.values():
            ticket.stepped(self.step, self.steps, preview)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for one of its images."""
        return any(ticket.is_wanted for ticket in self.tickets.values())


@dataclass(frozen=True, slots=True)
class DeviceSnapshot:
    """What a device is doing, for people who watch.

    Attributes:
        step: denoising steps done, of `steps`.
        utilisation: share of the time since its worker came up that it rendered or loaded, 0 to 1.
        images_per_s: at its present pace; `None` where nothing is known.
        waiting: requests whose home it is.
        reason: why it is quarantined.
        memory: how full it was when its worker last told; `None` where that has not.
        preview: a small picture of what it draws, WebP; `None` where there is none.
    """

    device: str
    device_id: int
    state: State
    phase: str
    step: int
    steps: int
    model: str
    models: tuple[str, ...]
    done: int
    failed: int
    restarts: int
    utilisation: float
    images_per_s: float | None
    rss_bytes: int
    pid: int | None
    waiting: int
    reason: str
    memory: MemoryReading | None = None
    preview: bytes | None = field(default=None, repr=False)


@dataclass(slots=True, eq=False)
class Seat:
    """A device and its worker; the supervisor's thread owns it."""

    device: Device
    worker: WorkerProcess | None = None
    is_up: bool = False
    started: float = 0.0
    group: Group | None = None
    encoding: dict[int, Group] = field(default_factory=dict)
    models: frozenset[str] = frozenset()
    failures: int = 0
    doubts: int = 0
    quarantine: str = ""
    done: int = 0
    failed: int = 0
    starts: int = 0
    busy_s: float = 0.0
    pace_s: float | None = None
    rss_bytes: int = 0
    memory: MemoryReading | None = None
    preview: bytes | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it can take work now."""
        return self.is_up and self.group is None

    def station(self, now: float) -> Station:
        """Say how it stands, for the dispatcher."""
        if not self.is_up:
            return Station(self.models, None, keeps=1 if self.worker else 0)
        if self.group is None:
            return Station(self.models, now)
        models = self.models | {self.group.model}
        if self.group.expected_s is None:
            return Station(models, None)
        if self.group.phase in ("load", "compile"):
            return Station(models, now + self.group.expected_s)
        elapsed = now - self.group.sent - self.group.loading_s
        left = self.group.expected_s - elapsed
        return Station(models, now + (left if left > 0 else OVERRUN * elapsed))

    def snapshot(self, waiting: int) -> DeviceSnapshot:
        """Say what it is doing, for people."""
        group = self.group
        return DeviceSnapshot(
            device=self.device.name,
            device_id=self.device.device_id,
            state=self._state(),
            phase=group.phase if group else "",
            step=group.step if group else 0,
            steps=group.steps if group else 0,
            model=group.model if group else "",
            models=tuple(sorted(self.models)),
            done=self.done,
            failed=self.failed,
            restarts=max(0, self.starts - 1),
            utilisation=self._utilisation(time.monotonic()),
            images_per_s=1 / self.pace_s if self.pace_s else None,
            rss_bytes=self.rss_bytes,
            pid=self.worker.pid if self.worker else None,
            waiting=waiting,
            reason=self.quarantine,
            memory=self.memory,
            preview=self.preview if group else None,
        )

    def _state(self) -> State:
        if self.quarantine:
            return "quarantined"
        if self.worker is None:
            return "down"
        if not self.is_up:
            return "starting"
        if self.group is None:
            return "idle"
        return "loading" if self.group.phase in ("load", "compile") else "rendering"

    def _utilisation(self, now: float) -> float:
        if not self.is_up:
            return 0.0
        busy = self.busy_s + (now - self.group.sent if self.group else 0.0)
        return round(min(1.0, busy / max(now - self.started, 1e-9)), 4)


def attempt(device: str, group: Group, code: str, message: str) -> Mapping[str, Any]:
    """Describe a failed attempt, times in seconds of the epoch."""
    return {
        "device": device,
        "started": round(group.epoch, 3),
        "ended": round(time.time(), 3),
        "code": code,
        "message": message,
    }
