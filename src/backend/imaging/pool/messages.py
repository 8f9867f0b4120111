"""What parent and worker say to each other; plain values, pickled over a socket pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.imaging.types import ImageRequest, Kind, MemoryReading, ModelCard, Phase


@dataclass(frozen=True, slots=True)
class Render:
    """Parent to worker: make these images together, as files in `folder`."""

    task: int
    requests: tuple[ImageRequest, ...]
    card: ModelCard
    folder: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Parent to worker: nobody wants this task's images any more."""

    task: int


@dataclass(frozen=True, slots=True)
class Ready:
    """Worker to parent: up, and waiting for work."""

    pid: int


@dataclass(frozen=True, slots=True)
class Began:
    """Worker to parent: a phase of a task begins."""

    task: int
    phase: Phase


@dataclass(frozen=True, slots=True)
class Stepped:
    """Worker to parent: a denoising step is done.

    `preview`, a small picture, and `memory`, the device's, come along now and then.
    """

    task: int
    done: int
    total: int
    preview: bytes | None = None
    memory: MemoryReading | None = None


@dataclass(frozen=True, slots=True)
class Rested:
    """Worker to parent: the device is free; the task's files follow as they are encoded."""

    task: int
    models: tuple[str, ...]
    rss_bytes: int
    memory: MemoryReading | None


@dataclass(frozen=True, slots=True)
class Finished:
    """Worker to parent: one image of a task is a file now; the fields are `GeneratedImage`'s."""

    task: int
    index: int
    path: str
    format: str
    width: int
    height: int
    seed: int
    kind: Kind
    seconds: Mapping[str, float]
    receipt: Mapping[str, Any]
    prompt_report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """Worker to parent: an error by its code, since an exception may not survive pickling.

    `index` names the one image that failed; without it the task as a whole did.
    """

    task: int
    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    index: int | None = None


Order = Render | Cancel
Reply = Ready | Began | Stepped | Rested | Finished | Failed
