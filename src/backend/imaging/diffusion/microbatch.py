"""Several pictures in one call of a pipeline, each with noise of its own.

Every picture has a generator on the CPU, seeded with its own seed, so its noise depends on nothing
else. What a batched kernel rounds differently is all that may tell a picture from one made alone.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from backend.errors import ContentRejected, GenerationFailed
from backend.imaging.diffusion.embeddings import PromptEmbeddings
from backend.imaging.diffusion.preview import PreviewMap, unpacked
from backend.imaging.types import Watch

_WORDS = ("prompt", "negative_prompt")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call of a pipeline made.

    Attributes:
        pixels: (pictures, height, width, 3), uint8, in the host's memory.
        seconds: wall time of the call: `denoise` (with encoding the prompts) and `decode`.
    """

    pixels: torch.Tensor
    seconds: Mapping[str, float]


class Steps:
    """What a pipeline calls after each step: tells the watch, and keeps the latents in sight."""

    def __init__(self, watch: Watch, previews: PreviewMap, width: int, height: int) -> None:
        self._watch = watch
        self._previews = previews
        self._size = (width, height)
        self.latents: torch.Tensor | None = None
        self.finished = 0.0

    def arguments(self, known: Mapping[str, Any], steps: int) -> dict[str, Any]:
        """Return the arguments that make a pipeline call this; old ones know another callback."""
        if "callback_on_step_end" in known:
            return {"callback_on_step_end": self._on_step_end}
        if "callback" in known and "callback_steps" in known:
            return {"callback": lambda i, _, latents: self._step(i + 1, steps, latents)}
        return {}

    def _on_step_end(
        self, pipeline: Any, index: int, _timestep: Any, tensors: Mapping[str, Any]
    ) -> dict[str, Any]:
        latents = unpacked(pipeline, tensors["latents"], *self._size)
        self._step(index + 1, pipeline.num_timesteps, latents)
        return {}

    def _step(self, done: int, total: int, latents: torch.Tensor | None) -> None:
        preview: Callable[[], bytes] | None = None
        if latents is not None and self._previews.is_learned:
            preview = lambda: self._previews.draw(latents[0])  # noqa: E731
        self._watch.step(done, total, preview)
        if done == total:
            self.latents = latents
            if latents is not None and latents.is_cuda:
                torch.cuda.synchronize(latents.device)
            self.finished = time.perf_counter()


def render(
    pipeline: Any,
    each: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    *,
    model: Hashable,
    embeddings: PromptEmbeddings,
    steps: Steps,
) -> Outcome:
    """Call a pipeline once for all pictures.

    Args:
        pipeline: a diffusers pipeline.
        each: the arguments of every picture's own call; they may differ in their words alone.
        seeds: one a picture.
        model: what embeddings depend on beside the words: the weights and the adapters.
        embeddings: encodes the words, where it knows the class of pipeline.
        steps: hears of every step.

    Raises:
        RenderCancelled: after a step, as the watch said.
        ContentRejected: the model's own safety checker blackened a picture.
        GenerationFailed: the pixels are not numbers.
    """
    started = time.perf_counter()
    arguments, prompts, negative_prompts = joined(each)
    known = call_parameters(type(pipeline).__call__)
    if "output_type" in known:
        arguments["output_type"] = "pt"
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    with torch.inference_mode():
        words = embeddings.encode(
            pipeline, model, prompts, negative_prompts, arguments["guidance_scale"]
        )
        output = pipeline(
            **arguments,
            **(words or _spoken(prompts, negative_prompts)),
            **steps.arguments(known, arguments["num_inference_steps"]),
            generator=generators if len(generators) > 1 else generators[0],
        )
        pixels = to_pixels(output.images)
    if any(getattr(output, "nsfw_content_detected", None) or ()):
        raise ContentRejected(
            "the safety checker that the model comes with rejected the picture; word it otherwise."
        )
    ended = time.perf_counter()
    denoised = steps.finished or ended
    return Outcome(pixels, {"denoise": denoised - started, "decode": ended - denoised})


def joined(
    each: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], list[str], list[str | None]]:
    """Split like calls into the arguments they share, their prompts and their negative prompts."""
    shared, *others = ({k: v for k, v in one.items() if k not in _WORDS} for one in each)
    if any(other != shared for other in others):
        raise ValueError("the pictures of a micro-batch differ in more than their words")
    return (
        shared,
        [one["prompt"] for one in each],
        [one.get("negative_prompt") for one in each],
    )


@lru_cache(maxsize=64)
def call_parameters(call: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return what a pipeline's call takes, by name."""
    return inspect.signature(call).parameters


def to_pixels(images: Any) -> torch.Tensor:
    """Turn a pipeline's pictures into uint8 in the host's memory, as diffusers itself would.

    Args:
        images: (pictures, 3, height, width) in [0, 1], on any device; or a list of PIL images,
            from pipelines that give nothing else.

    Raises:
        GenerationFailed: some are not numbers.
    """
    if not isinstance(images, torch.Tensor):
        return torch.stack([torch.from_numpy(np.array(one.convert("RGB"))) for one in images])
    if not bool(torch.isfinite(images).all()):
        raise GenerationFailed(
            "the model computed pixels that are not numbers, most likely an overflow in half "
            "precision; use another variant of the model.",
        )
    scaled: torch.Tensor = images.permute(0, 2, 3, 1).float().mul(255).round()
    return scaled.to(torch.uint8).cpu().contiguous()


def _spoken(prompts: list[str], negative_prompts: list[str | None]) -> dict[str, Any]:
    if not any(negative_prompts):
        return {"prompt": prompts}
    return {"prompt": prompts, "negative_prompt": [text or "" for text in negative_prompts]}
