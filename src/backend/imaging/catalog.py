"""The user's own models: folders and hub ids, read into cards.

A diffusers folder is one with a `model_index.json`; the pipeline class named there decides the
card's defaults, which are diffusers' own for that class unless noted. Beside the models lie their
LoRAs, in folders called `loras`: those of a model's own folder are for that model alone, those of a
configured folder for every model. A model's folder `ip_adapter` holds its IP-Adapter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from backend.errors import ConfigurationError
from backend.imaging.checks import is_adapter_name
from backend.imaging.types import ModelCard

DIFFUSION_ENGINE = "backend.imaging.diffusion.engine:build"
INDEX = "model_index.json"
LORAS = "loras"
IP_ADAPTER = "ip_adapter"
ADAPTER_SUFFIX = ".safetensors"

IP_ADAPTER_FAMILIES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
IP_ADAPTER_STRENGTH = 0.4
"""Leaves an IP-Adapter the scale of 0.6 that its authors show."""


class Defaults(NamedTuple):
    """What a family is asked for when a request is silent."""

    side: int
    num_inference_steps: int
    guidance_scale: float


FAMILIES = {
    "StableDiffusionPipeline": Defaults(512, 30, 7.5),
    "StableDiffusionXLPipeline": Defaults(1024, 30, 5.0),
    "StableDiffusion3Pipeline": Defaults(1024, 28, 7.0),
    "FluxPipeline": Defaults(1024, 28, 3.5),
}
DISTILLED = {  # by a part of the name; from the model cards of sd-turbo, sdxl-turbo, FLUX.1-schnell
    "turbo": Defaults(512, 1, 0.0),
    "schnell": Defaults(1024, 4, 0.0),
}


def discover(model_dirs: Iterable[Path], hub_ids: Iterable[str]) -> tuple[ModelCard, ...]:
    """Read every model folder and hub id into a card.

    Args:
        model_dirs: folders that are a diffusers folder, or hold some one level down.
        hub_ids: names that `DiffusionPipeline.from_pretrained` resolves itself.

    Raises:
        ConfigurationError: a folder is not there, is no model, or two models share a name.
    """
    cards = [_folder_card(folder) for root in model_dirs for folder in _model_folders(root)]
    cards += [_card(name.rpartition("/")[2], name, "") for name in hub_ids]
    seen: dict[str, str] = {}
    for card in cards:
        if card.name in seen:
            raise ConfigurationError(
                f"two image models are called {card.name!r}: {seen[card.name]} and {card.source}. "
                "Rename one of the folders.",
                {"settings": ["GATOR_MODEL_DIRS", "GATOR_IMAGE_MODELS"]},
            )
        seen[card.name] = card.source
    return tuple(cards)


def with_adapter_dirs(
    cards: Iterable[ModelCard], model_dirs: Sequence[Path]
) -> tuple[ModelCard, ...]:
    """Tell every local diffusion model where adapters lie: its own first, then the shared ones."""
    shared = tuple(str(root.expanduser().absolute() / LORAS) for root in model_dirs)
    return tuple(
        replace(card, adapter_dirs=tuple(dict.fromkeys((*card.adapter_dirs, *shared))))
        if card.kind == "diffusion"
        else card
        for card in cards
    )


def find_adapter(name: str, card: ModelCard) -> Path | None:
    """Return the file of an adapter; `None` where there is none, or where the name is no name."""
    if not is_adapter_name(name):
        return None
    paths = (Path(folder) / f"{name}{ADAPTER_SUFFIX}" for folder in card.adapter_dirs)
    return next((path for path in paths if path.is_file()), None)


def _model_folders(root: Path) -> list[Path]:
    root = root.expanduser()
    if (root / INDEX).is_file():
        return [root]
    below = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    found = [folder for folder in below if (folder / INDEX).is_file()]
    if not found and not (root / LORAS).is_dir():
        looked = f"in {root} and its {len(below)} subfolder(s)" if root.is_dir() else "there"
        state = "holds no diffusers model" if root.is_dir() else "is not a folder"
        raise ConfigurationError(
            f"GATOR_MODEL_DIRS: {root} {state}: looked for {INDEX} {looked}. "
            "A single .safetensors checkpoint must be converted to a diffusers folder first.",
            {"settings": ["GATOR_MODEL_DIRS"], "folder": str(root)},
        )
    return found


def _folder_card(folder: Path) -> ModelCard:
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_text("utf-8"))
        family = str(index["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigurationError(
            f"GATOR_MODEL_DIRS: {folder / INDEX} is not a diffusers index with a _class_name: "
            f"{exc}",
            {"settings": ["GATOR_MODEL_DIRS"], "folder": str(folder)},
        ) from exc
    folder = folder.absolute()
    card = _card(folder.name, str(folder), family)
    card = replace(card, adapter_dirs=(str(folder / LORAS),))
    if family in IP_ADAPTER_FAMILIES and (folder / IP_ADAPTER).is_dir():
        return replace(card, ip_adapter=str(folder / IP_ADAPTER), strength=IP_ADAPTER_STRENGTH)
    return card


def _card(name: str, source: str, family: str) -> ModelCard:
    lowered = name.lower()
    distilled = next((d for part, d in DISTILLED.items() if part in lowered), None)
    defaults = distilled or FAMILIES.get(family, FAMILIES["StableDiffusionPipeline"])
    return ModelCard(
        name=name,
        provider="local",
        kind="diffusion",
        engine=DIFFUSION_ENGINE,
        source=source,
        width=defaults.side,
        height=defaults.side,
        num_inference_steps=defaults.num_inference_steps,
        guidance_scale=defaults.guidance_scale,
        family=family,
    )
