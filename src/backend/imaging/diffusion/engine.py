"""The diffusion engine: a diffusers pipeline, one request at a time, inside a worker.

Noise comes from a CPU generator seeded with the request's own seed, so it does not depend on the
device, its neighbours or the order of work. On a CPU the number of torch threads is fixed, since
sums over another number of threads may differ by 1/255 in a pixel; it is part of the receipt.
"""

from __future__ import annotations

import importlib
import inspect
import io
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import diffusers
import torch
import transformers
from PIL import Image

from backend.errors import DeviceOutOfMemory, UnsupportedTask
from backend.imaging.diffusion.adapters import use_adapters
from backend.imaging.diffusion.loading import fingerprint, load_pipeline, weights_bytes
from backend.imaging.diffusion.references import start_of
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
    EngineContext,
    GeneratedImage,
    ImageRequest,
    ModelCard,
)

PNG_COMPRESS_LEVEL = 1


def build(context: EngineContext) -> DiffusionEngine:
    """Build the engine of this process's device."""
    if context.torch_device == "cpu":
        torch.set_num_threads(context.cpu_threads)
    return DiffusionEngine(context)


class DiffusionEngine:
    """Loads pipelines as they are asked for and renders with them."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._residency = Residency(device_budget_bytes(context.torch_device))

    @property
    def pipelines(self) -> dict[str, Any]:
        """The loaded pipelines by key."""
        return {key: r.pipeline for key, r in self._residency.residents.items()}

    def generate(self, request: ImageRequest, card: ModelCard) -> GeneratedImage:
        """Render one image.

        Raises:
            ModelLoadFailed: the model's files, or those of an adapter, are not as they should be.
            UnsupportedTask: the model or its pipeline does not take an option of the request.
            DeviceOutOfMemory: it did not fit; the engine is still usable.
        """
        started = time.perf_counter()
        check_card(request, card)
        resident = self._resident(card)
        adapters = use_adapters(resident, request, card)
        start = start_of(resident, request, card)
        self._residency.make_room()
        loaded = time.perf_counter()
        adapted = adapt_prompt(request, card)
        arguments = pipeline_arguments(
            start.pipeline, request, card, adapted.prompt, start.arguments
        )
        use_scheduler(
            start.pipeline, request.scheduler, resident.scheduler, afresh=bool(start.arguments)
        )
        image = self._render(start.pipeline, {**arguments, **start.arguments}, request.seed)
        rendered = time.perf_counter()
        data = encode_png(image)
        return GeneratedImage(
            image_data=data,
            format="png",
            width=image.width,
            height=image.height,
            model=card.name,
            provider=card.provider,
            seed=request.seed,
            kind="diffusion",
            device=self._context.device,
            device_id=self._context.device_id,
            seconds={
                "load": round(loaded - started, 4),
                "render": round(rendered - loaded, 4),
                "encode": round(time.perf_counter() - rendered, 4),
            },
            receipt={
                "model": card.name,
                **arguments,
                "width": image.width,
                "height": image.height,
                "seed": request.seed,
                **start.receipt,
                **({"adapters": adapters} if adapters else {}),
                **self._circumstances(resident, start.pipeline),
            },
            prompt_report={**adapted.report, "prompt": adapted.prompt, "look": dict(adapted.look)},
        )

    def _resident(self, card: ModelCard) -> Resident:
        key = pipeline_key(card.name, self._context.device_id)
        resident = self._residency.get(key)
        if resident is None or resident.source != card.source:
            pipeline = load_pipeline(card, self._context.torch_device)
            resident = Resident(
                source=card.source,
                pipeline=pipeline,
                scheduler=pipeline.scheduler,
                weights_bytes=weights_bytes(pipeline),
                fingerprint=fingerprint(card),
            )
            self._residency.add(key, resident)
        return resident

    def _render(self, pipeline: Any, arguments: Mapping[str, Any], seed: int) -> Image.Image:
        generator = torch.Generator("cpu").manual_seed(seed)
        try:
            with torch.inference_mode():
                output = pipeline(**arguments, generator=generator)
        except torch.OutOfMemoryError as exc:
            release_memory()
            sides = arguments["image"].size if "image" in arguments else None
            width, height = sides or (arguments["width"], arguments["height"])
            raise DeviceOutOfMemory(
                f"{width}x{height} did not fit into the memory of {self._context.device}; "
                "ask for a smaller size.",
                {"device": self._context.device},
            ) from exc
        image: Image.Image = output.images[0]
        return image

    def _circumstances(self, resident: Resident, pipeline: Any) -> dict[str, Any]:
        """Return the part of a receipt that the request does not decide."""
        return {
            "model_fingerprint": resident.fingerprint,
            "pipeline": type(pipeline).__name__,
            "scheduler": type(pipeline.scheduler).__name__,
            "dtype": str(pipeline.dtype).removeprefix("torch."),
            "device": self._context.device,
            "torch_threads": torch.get_num_threads(),
            "versions": {
                # A str: unpickling torch's own type would import torch in the parent.
                "torch": str(torch.__version__),
                "diffusers": diffusers.__version__,
                "transformers": transformers.__version__,
            },
        }


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
    known = inspect.signature(type(pipeline).__call__).parameters.keys()
    if "image" in beside and "width" not in known:
        del arguments["width"], arguments["height"]
    if unknown := {*arguments, *beside} - known:
        raise UnsupportedTask(
            f"{type(pipeline).__name__} does not take {', '.join(sorted(unknown))}.",
            {"model": card.name},
        )
    return arguments


def encode_png(image: Image.Image) -> bytes:
    """Encode without metadata, so that equal pixels give equal bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=PNG_COMPRESS_LEVEL)
    return buffer.getvalue()
