"""An engine that waits as long as its card says, then writes a real small PNG.

The card's `source` is JSON: `paces` (seconds a picture, by device), `load_s` and `capacity` (models
that a device holds).
"""

from __future__ import annotations

import functools
import io
import json
import time
from collections import OrderedDict
from collections.abc import Sequence

from PIL import Image

from backend.imaging.types import Drawn, EngineContext, ImageRequest, ModelCard, Watch

SIDE = 64


def build(context: EngineContext) -> SimulatedEngine:
    """Build the engine of one worker."""
    return SimulatedEngine(context)


class SimulatedEngine:
    """Loads by waiting, renders by waiting."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._loads = 0

    def models(self) -> Sequence[str]:
        """Return the models that it holds."""
        return tuple(self._loaded)

    def memory(self) -> None:
        """Return nothing: it works in the processor's memory."""

    def render(
        self, requests: Sequence[ImageRequest], card: ModelCard, watch: Watch
    ) -> Sequence[Drawn]:
        """Wait, first for the model where it is not held."""
        told = json.loads(card.source)
        if card.name not in self._loaded:
            watch.phase("load")
            self._load(card.name, told)
        self._loaded.move_to_end(card.name)
        watch.phase("render")
        pace = told["paces"][self._context.device_id % len(told["paces"])]
        time.sleep(pace * len(requests))
        return [self._drawn(request, pace) for request in requests]

    def _load(self, name: str, told: dict) -> None:
        time.sleep(told["load_s"])
        self._loads += told["load_s"] > 0
        self._loaded[name] = None
        while len(self._loaded) > told["capacity"]:
            self._loaded.popitem(last=False)

    def _drawn(self, request: ImageRequest, pace: float) -> Drawn:
        return Drawn(
            encode=functools.partial(_png, request.seed),
            format="png",
            width=SIDE,
            height=SIDE,
            seed=request.seed,
            kind="diffusion",
            seconds={"render": pace},
            receipt={"loads": self._loads},
            prompt_report={},
        )


def _png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (seed % 256, seed // 256 % 256, 0)).save(buffer, "PNG")
    return buffer.getvalue()
