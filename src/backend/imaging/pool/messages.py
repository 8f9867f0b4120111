"""What parent and worker say to each other; plain values, pickled over a socket pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.imaging.types import GeneratedImage, ImageRequest, ModelCard


@dataclass(frozen=True, slots=True)
class Render:
    """Parent to worker: make this image."""

    request: ImageRequest
    card: ModelCard


@dataclass(frozen=True, slots=True)
class Ready:
    """Worker to parent: up, and waiting for work."""

    pid: int


@dataclass(frozen=True, slots=True)
class Done:
    """Worker to parent: the image, and the worker's resident memory after it."""

    image: GeneratedImage
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Worker to parent: an error by its code, since an exception may not survive pickling."""

    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)


Reply = Ready | Done | Failed
