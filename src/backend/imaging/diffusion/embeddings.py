"""Prompt embeddings, kept: a prompt that comes again is not encoded again.

Every prompt is encoded alone, never together with its neighbours in a micro-batch, so its
embedding is the same bytes whoever it is rendered with and whether it was kept or not. They are
kept in the host's memory, least recently used go first, by bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

LIMIT_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """How a class of pipelines encodes prompts.

    Attributes:
        arguments: what `encode_prompt` returns first, as arguments of the pipeline's call.
        guided: whether it encodes a negative prompt beside it.
        options: further arguments that its `encode_prompt` cannot do without.
    """

    arguments: tuple[str, ...]
    guided: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


_PLAIN = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = (*_PLAIN, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_FAMILIES = {
    "StableDiffusion": Layout(_PLAIN, options={"num_images_per_prompt": 1}),
    "StableDiffusionXL": Layout(_POOLED),
    "StableDiffusion3": Layout(_POOLED, options={"prompt_2": None, "prompt_3": None}),
    "Flux": Layout(("prompt_embeds", "pooled_prompt_embeds"), guided=False),
}
LAYOUTS = {
    f"{family}{task}Pipeline": layout
    for family, layout in _FAMILIES.items()
    for task in ("", "Img2Img", "Inpaint")
}
"""The layouts by pipeline class; other classes encode by themselves."""

Embedding = dict[str, torch.Tensor]


class PromptEmbeddings:
    """An LRU of encoded prompts within a bound of bytes."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[Hashable, Embedding] = OrderedDict()
        self._bytes = 0

    @property
    def kept_bytes(self) -> int:
        """What the kept embeddings weigh."""
        return self._bytes

    @property
    def kept_prompts(self) -> int:
        """How many are kept; a prompt counts once for each negative prompt beside it."""
        return len(self._kept)

    def encode(
        self,
        pipeline: Any,
        model: Hashable,
        prompts: Sequence[str],
        negative_prompts: Sequence[str | None],
        guidance_scale: float,
    ) -> dict[str, torch.Tensor] | None:
        """Encode the prompts of a micro-batch, or take them from what is kept.

        Args:
            pipeline: a diffusers pipeline; its text encoders are used for what is not kept.
            model: what an embedding depends on beside the words: the weights and the adapters.
            prompts: one a picture.
            negative_prompts: one a picture; `None` where there is none.
            guidance_scale: decides whether negative prompts are needed.

        Returns:
            Arguments of the pipeline's call, on its device, in place of `prompt` and
            `negative_prompt`; `None` where this class of pipeline has to encode by itself.
        """
        layout = LAYOUTS.get(type(pipeline).__name__)
        if layout is None:
            return None
        guided = layout.guided and _is_guided(pipeline, guidance_scale)
        each = [
            self._one(pipeline, layout, (model, prompt, negative if guided else None, guided))
            for prompt, negative in zip(prompts, negative_prompts, strict=True)
        ]
        device = pipeline._execution_device
        return {name: torch.cat([one[name] for one in each]).to(device) for name in each[0]}

    def _one(
        self, pipeline: Any, layout: Layout, key: tuple[Hashable, str, str | None, bool]
    ) -> Embedding:
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        _, prompt, negative, guided = key
        options = dict(layout.options)
        if layout.guided:
            options |= {"do_classifier_free_guidance": guided, "negative_prompt": negative}
        tensors = pipeline.encode_prompt(
            prompt=prompt,
            device=pipeline._execution_device,
            **options,
        )
        embedding = {
            name: tensor.to("cpu")
            for name, tensor in zip(layout.arguments, tensors, strict=False)
            if tensor is not None
        }
        self._keep(key, embedding)
        return embedding

    def _keep(self, key: Hashable, embedding: Embedding) -> None:
        self._kept[key] = embedding
        self._bytes += _nbytes(embedding)
        while self._bytes > self._limit_bytes:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= _nbytes(gone)


def _nbytes(embedding: Embedding) -> int:
    return sum(tensor.nbytes for tensor in embedding.values())


def _is_guided(pipeline: Any, guidance_scale: float) -> bool:
    """Tell whether the pipeline will do classifier-free guidance, as its own property would."""
    unet = getattr(pipeline, "unet", None)
    return guidance_scale > 1 and (unet is None or unet.config.time_cond_proj_dim is None)
