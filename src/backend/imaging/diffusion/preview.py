"""A small picture of how far a render is, straight from its latents.

A latent pixel is close to a linear map from the colours it will decode to. The map is learned from
pictures that the model has finished: their last latents against their pixels. So it fits whatever
VAE a model has, costs no decode, and a model's first picture has no preview.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

SIDE_LIMIT = 128
"""Pixels of a preview's longer side, at most."""

LEARN_FROM = 8
"""Pictures after which the map is good enough."""

_RIDGE = 1e-3


class PreviewMap:
    """The linear map from one model's latents to RGB."""

    def __init__(self) -> None:
        self._seen = 0
        self._gram = torch.zeros(0)
        self._target = torch.zeros(0)
        self._spread = 1.0
        self._map: torch.Tensor | None = None

    @property
    def is_learned(self) -> bool:
        """Whether previews can be drawn."""
        return self._map is not None

    def learn(self, latents: torch.Tensor, pixels: torch.Tensor) -> None:
        """Take a finished picture into account; the first few are enough.

        Args:
            latents: (channels, height / f, width / f), after the last step.
            pixels: (height, width, 3), uint8.
        """
        if self._seen >= LEARN_FROM:
            return
        values = _with_bias(latents)
        height, width = latents.shape[-2:]
        small = adaptive_avg_pool2d(pixels.cpu().permute(2, 0, 1).float(), (height, width))
        colours = (small / 255).flatten(1).double()
        if self._seen == 0:
            self._gram = torch.zeros(len(values), len(values), dtype=torch.float64)
            self._target = torch.zeros(len(values), 3, dtype=torch.float64)
        self._seen += 1
        self._gram += values @ values.T / values.shape[1]
        self._target += values @ colours.T / values.shape[1]
        self._spread = float(self._gram.diagonal()[:-1].mean().div(self._seen).sqrt())
        ridge = _RIDGE * self._gram.diagonal().mean() * torch.eye(len(values), dtype=torch.float64)
        self._map = torch.linalg.solve(self._gram + ridge, self._target)

    def draw(self, latents: torch.Tensor) -> bytes:
        """Draw a preview as WebP; latents that are still mostly noise are toned down.

        Args:
            latents: (channels, height / f, width / f), after any step.
        """
        if self._map is None:
            raise ValueError("no picture of this model was finished yet")
        values = _with_bias(latents)
        loudness = float(values[:-1].square().mean().sqrt())
        values[:-1] *= min(1.0, self._spread / max(loudness, 1e-9))
        colours = (values.T @ self._map).clamp(0, 1).mul(255).round().to(torch.uint8)
        image = Image.fromarray(colours.reshape(*latents.shape[-2:], 3).numpy())
        image.thumbnail((SIDE_LIMIT, SIDE_LIMIT))
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=80)
        return buffer.getvalue()


def unpacked(pipeline: Any, latents: torch.Tensor, width: int, height: int) -> torch.Tensor | None:
    """Return latents as (batch, channels, height / f, width / f), or `None` for other layouts.

    Flux and its kin carry them as a sequence of 2x2 patches.
    """
    if latents.ndim == 3 and hasattr(pipeline, "_unpack_latents"):
        patch = 2 * pipeline.vae_scale_factor
        if latents.shape[1] != (height // patch) * (width // patch):
            return None
        latents = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
    return latents if latents.ndim == 4 else None


def _with_bias(latents: torch.Tensor) -> torch.Tensor:
    values = latents.detach().cpu().double().flatten(1)
    return torch.cat([values, torch.ones(1, values.shape[1], dtype=torch.float64)])
