"""The cards of what ships with the studio."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from backend.imaging.catalog import DIFFUSION_ENGINE, INDEX
from backend.imaging.devices import torch_installed
from backend.imaging.types import ModelCard

WEIGHTS = Path(__file__).resolve().parent / "weights"
ADAPTER = "backend.imaging.builtin.adapter:adapt"
ILLUSTRATED_ENGINE = "backend.imaging.builtin.illustrated:build"
SIDE = 512
MAX_SIDE = 1024

_CC_BY = "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"
_TOON_HEAD = (
    "Remix of “ToonHead” (https://www.figma.com/community/file/1589627891082866389) by Johan "
    f"Melin, {_CC_BY}"
)
_VIA = "via DiceBear (https://www.dicebear.com)"
CREDITS = {
    "toon-head": f"{_TOON_HEAD}, {_VIA}; glasses added, colours changed",
    "micah": (
        "Remix of “Avatar Illustration System” (https://www.figma.com/community/file/"
        f"829741575478342595) by Micah Lanier, {_CC_BY}, {_VIA}; colours changed"
    ),
    "voxel-art": "“Voxel Art” by DiceBear, CC0 1.0, " + _VIA,
}
"""The styles that are offered and the attribution of each; the first is the plain `illustrated`."""


def cards() -> tuple[ModelCard, ...]:
    """List the portrait model and the illustrated styles."""
    return (_portrait(), *(_illustrated(style, credit) for style, credit in CREDITS.items()))


def _portrait() -> ModelCard:
    installed = torch_installed() and all(
        importlib.util.find_spec(name) is not None for name in ("diffusers", "transformers")
    )
    return ModelCard(
        name="portrait",
        provider="local",
        kind="diffusion",
        engine=DIFFUSION_ENGINE,
        source=str(WEIGHTS),
        loaded=installed and (WEIGHTS / INDEX).is_file(),
        width=128,
        height=128,
        num_inference_steps=8,
        guidance_scale=1.5,
        fixed_size=True,
        max_side=128,
        family="StableDiffusionPipeline",
        prompt_adapter=ADAPTER,
        credit=f"{_TOON_HEAD}, {_VIA}; learned by a model and generated anew by it",
    )


def _illustrated(style: str, credit: str) -> ModelCard:
    first = next(iter(CREDITS))
    return ModelCard(
        name="illustrated" if style == first else f"illustrated-{style}",
        provider="local",
        kind="illustrated",
        engine=ILLUSTRATED_ENGINE,
        source=style,
        width=SIDE,
        height=SIDE,
        num_inference_steps=1,
        guidance_scale=0.0,
        max_side=MAX_SIDE,
        credit=credit,
    )
