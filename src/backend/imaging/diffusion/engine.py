"""The diffusion engine: a diffusers pipeline, one micro-batch at a time, inside a worker.

Noise comes from CPU generators, one a picture, seeded with the picture's own seed, so it does not
depend on the device, its neighbours or the order of work. On a CPU the number of torch threads is
fixed, since sums over another number of threads may differ by 1/255 in a pixel, and so may those of
a micro-batch of another size; both are part of the receipt.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from backend.errors import DeviceOutOfMemory, UnsupportedTask
from backend.imaging.diffusion.adapters import use_adapters
from backend.imaging.diffusion.embeddings import PromptEmbeddings
from backend.imaging.diffusion.encoding import check_format, encode_picture
from backend.imaging.diffusion.faults import translated
from backend.imaging.diffusion.loading import fingerprint, load_pipeline, weights_bytes
from backend.imaging.diffusion.memory import DeviceMemory, MemoryKeeper, Relief, Shape
from backend.imaging.diffusion.microbatch import Outcome, Steps, call_parameters, render
from backend.imaging.diffusion.preview import PreviewMap
from backend.imaging.diffusion.receipts import circumstances
from backend.imaging.diffusion.references import Start, start_of
from backend.imaging.diffusion.residency import (
    Residency,
    Resident,
    device_budget_bytes,
    pipeline_key,
    release_memory,
)
from backend.imaging.diffusion.schedulers import use_scheduler
from backend.imaging.selection import check_card, steps_of
from backend.imaging.types import (
    AdaptedPrompt,
    Drawn,
    EngineContext,
    ImageRequest,
    MemoryReading,
    ModelCard,
    Watch,
)


def build(context: EngineContext) -> DiffusionEngine:
    """Build the engine of this process's device."""
    if context.torch_device == "cpu":
        torch.set_num_threads(context.cpu_threads)
    return DiffusionEngine(context)


class _Ready(NamedTuple):
    """A model that is loaded and set for a micro-batch."""

    resident: Resident
    start: Start
    adapters: Sequence[Mapping[str, Any]]


class DiffusionEngine:
    """Loads pipelines as they are asked for and renders with them."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._residency = Residency(device_budget_bytes(context.torch_device))
        self._embeddings = PromptEmbeddings()
        self._memory = MemoryKeeper(context.device, context.torch_device)
        self._previews: dict[str, PreviewMap] = defaultdict(PreviewMap)

    @property
    def pipelines(self) -> dict[str, Any]:
        """The loaded pipelines by key."""
        return {key: r.pipeline for key, r in self._residency.residents.items()}

    def models(self) -> list[str]:
        """Return the names of the models that are loaded."""
        return [resident.model for resident in self._residency.residents.values()]

    def memory(self) -> MemoryReading | None:
        """Return how full the card is; `None` on a CPU."""
        return DeviceMemory(self._context.torch_device).reading()

    def render(
        self, requests: Sequence[ImageRequest], card: ModelCard, watch: Watch
    ) -> list[Drawn]:
        """Render a micro-batch of requests that are alike, a picture each.

        Raises:
            RenderCancelled: between two steps, as `watch` said.
            ModelLoadFailed: the model's files, or those of an adapter, are not as they should be.
            UnsupportedTask: the model or its pipeline does not take an option of a request.
            DeviceOutOfMemory: it did not fit; the engine is still usable. `micro_batch` in the
                details says that fewer pictures at once may fit.
            DeviceFault: the device failed; this process cannot use it any more.
            GenerationFailed: the pixels are not numbers.
        """
        for request in requests:
            check_card(request, card)
            check_format(request.format)
        if len(requests) > 1 and any(request.reference is not None for request in requests):
            raise ValueError("a picture that starts from a reference is rendered alone")
        with translated(self._context.device):
            return self._draw(requests, card, watch)

    def _draw(self, requests: Sequence[ImageRequest], card: ModelCard, watch: Watch) -> list[Drawn]:
        started = time.perf_counter()
        watch.phase("load")
        ready = self._prepare(requests[0], card)
        loaded = time.perf_counter()
        watch.phase("render")
        adapted = [adapt_prompt(request, card) for request in requests]
        each = [
            pipeline_arguments(
                ready.start.pipeline, request, card, words.prompt, ready.start.arguments
            )
            for request, words in zip(requests, adapted, strict=True)
        ]
        seeds = [request.seed for request in requests]
        outcome, relief = self._render(ready, each, seeds, card, watch)
        share = {"load": loaded - started, "render": time.perf_counter() - loaded}
        count = len(requests)
        seconds = {
            stage: round(value / count, 4) for stage, value in {**share, **outcome.seconds}.items()
        }
        common = circumstances(
            ready.resident,
            ready.start.pipeline,
            device=self._context.device,
            micro_batch=count,
            relief=relief,
            adapters=ready.adapters,
        )
        return [
            _drawn(
                request,
                pixels,
                seconds,
                {"model": card.name, **arguments, **ready.start.receipt, **common},
                words,
            )
            for request, pixels, arguments, words in zip(
                requests, outcome.pixels, each, adapted, strict=True
            )
        ]

    def _prepare(self, request: ImageRequest, card: ModelCard) -> _Ready:
        """Load the model, switch it to the request's adapters and scheduler, decode the reference.

        Requests that are alike share all of these.
        """
        resident = self._resident(card)
        adapters = use_adapters(resident, request, card)
        start = start_of(resident, request, card)
        self._residency.make_room()
        use_scheduler(
            start.pipeline, request.scheduler, resident.scheduler, afresh=bool(start.arguments)
        )
        return _Ready(resident, start, adapters)

    def _resident(self, card: ModelCard) -> Resident:
        key = pipeline_key(card.name, self._context.device_id)
        resident = self._residency.get(key)
        if resident is None or resident.source != card.source:
            pipeline = self._load(card, key)
            resident = Resident(
                model=card.name,
                source=card.source,
                pipeline=pipeline,
                scheduler=pipeline.scheduler,
                weights_bytes=weights_bytes(pipeline),
                fingerprint=fingerprint(card),
            )
            self._residency.add(key, resident)
        return resident

    def _load(self, card: ModelCard, key: str) -> Any:
        """Load beside the other models; if that is too much, alone; if that is too much, offloaded.

        Raises:
            DeviceOutOfMemory: not even its largest part fits.
        """
        ways = ("beside", "alone", "offloaded")[: 2 if self._context.torch_device == "cpu" else 3]
        shortage: DeviceOutOfMemory
        for way in ways:
            if way == "alone" and not self._residency.keep_only(key):
                continue
            release_memory()
            try:
                pipeline = load_pipeline(
                    card, self._context.torch_device, offloaded=way == "offloaded"
                )
            except DeviceOutOfMemory as exc:
                # A new one: the traceback of this one holds weights that have to go first.
                shortage = DeviceOutOfMemory(exc.message, exc.details)
            else:
                if way == "offloaded":
                    self._memory.book.never_fits(card.source)
                return pipeline
        raise shortage

    def _render(
        self,
        ready: _Ready,
        each: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        card: ModelCard,
        watch: Watch,
    ) -> tuple[Outcome, Relief]:
        resident, start, adapters = ready
        key = pipeline_key(card.name, self._context.device_id)
        width, height = size_of(each[0], start.arguments)
        guided = each[0]["guidance_scale"] > 1
        shape = Shape(card.source, (type(start.pipeline).__name__, guided), width, height)
        previews = self._previews[resident.source]
        steps = Steps(watch, previews, width, height)
        model = (
            resident.source,
            resident.fingerprint,
            tuple((adapter["sha256"], adapter["weight"]) for adapter in adapters),
        )
        outcome, relief = self._memory.run(
            shape,
            len(each),
            resident.pipeline,
            lambda: render(
                start.pipeline,
                [{**arguments, **start.arguments} for arguments in each],
                seeds,
                model=model,
                embeddings=self._embeddings,
                steps=steps,
            ),
            lambda: self._residency.keep_only(key),
        )
        if steps.latents is not None:
            previews.learn(steps.latents[0], outcome.pixels[0])
        return outcome, relief


def _drawn(
    request: ImageRequest,
    pixels: torch.Tensor,
    seconds: Mapping[str, float],
    receipt: Mapping[str, Any],
    adapted: AdaptedPrompt,
) -> Drawn:
    height, width, _ = pixels.shape
    return Drawn(
        encode=functools.partial(encode_picture, pixels.numpy(), request.format),
        format=request.format,
        width=width,
        height=height,
        seed=request.seed,
        kind="diffusion",
        seconds=seconds,
        receipt={
            **receipt,
            "width": width,
            "height": height,
            "seed": request.seed,
            "format": request.format,
        },
        prompt_report={**adapted.report, "prompt": adapted.prompt, "look": dict(adapted.look)},
    )


def adapt_prompt(request: ImageRequest, card: ModelCard) -> AdaptedPrompt:
    """Put the request into the model's words; most take appearance and scene as they are."""
    if card.prompt_adapter:
        module, _, function = card.prompt_adapter.partition(":")
        adapted: AdaptedPrompt = getattr(importlib.import_module(module), function)(request)
        return adapted
    return AdaptedPrompt(", ".join(filter(None, (request.appearance.strip(), request.prompt))))


def pipeline_arguments(
    pipeline: Any,
    request: ImageRequest,
    card: ModelCard,
    prompt: str,
    beside: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the keyword arguments of the pipeline's call, without its generator.

    Args:
        pipeline: whose call it is.
        request: what is asked for.
        card: what stands where the request is silent.
        prompt: the request in the model's words.
        beside: what the call is given too; a pipeline that has the size from its `image` is not
            told it again.

    Raises:
        UnsupportedTask: the request sets something that this pipeline does not know.
    """
    arguments: dict[str, Any] = {
        "prompt": prompt,
        "width": request.width or card.width,
        "height": request.height or card.height,
        "num_inference_steps": steps_of(request, card),
        "guidance_scale": (
            card.guidance_scale if request.guidance_scale is None else request.guidance_scale
        ),
    }
    if request.negative_prompt:
        arguments["negative_prompt"] = request.negative_prompt
    known = call_parameters(type(pipeline).__call__).keys()
    if "image" in beside and "width" not in known:
        del arguments["width"], arguments["height"]
    if unknown := {*arguments, *beside} - known:
        raise UnsupportedTask(
            f"{type(pipeline).__name__} does not take {', '.join(sorted(unknown))}.",
            {"model": card.name},
        )
    return arguments


def size_of(arguments: Mapping[str, Any], beside: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height of a call's pictures, which its `image` may decide."""
    if "width" in arguments:
        return arguments["width"], arguments["height"]
    width, height = beside["image"].size
    return width, height
