"""LoRAs: loaded once beside the shared base, switched on and off for each picture.

They are never fused into the base's weights, so a picture without adapters has the bytes that it
would have if none had ever been loaded. An adapter is known by the hash of its file, whatever its
name: a file that is exchanged is another adapter, and no name reaches PEFT.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from backend.errors import DeviceOutOfMemory, ModelLoadFailed, ModelNotAvailable, UnsupportedTask
from backend.imaging.catalog import find_adapter
from backend.imaging.diffusion.loading import weights_bytes
from backend.imaging.diffusion.residency import Resident, release_memory
from backend.imaging.types import ImageRequest, ModelCard

MAX_KEPT = 16
"""Adapters that stay loaded on a base; the least recently used go first."""

REASON_LIMIT = 400
"""Characters of a reason, since torch lists every layer that does not fit."""

_LAYER = re.compile(r"\.(lora_A|lora[._]down|lora_linear_layer\.down)\.")


def use_adapters(
    resident: Resident, request: ImageRequest, card: ModelCard
) -> list[dict[str, Any]]:
    """Switch the base to a request's adapters; return them with their files' hashes.

    Raises:
        ModelNotAvailable: there is no file of that name any more.
        UnsupportedTask: the pipeline takes none.
        ModelLoadFailed: a file is damaged or made for another base; the base is as it was.
        DeviceOutOfMemory: it did not fit; the base is as it was.
    """
    receipt: list[dict[str, Any]] = []
    wanted: dict[str, float] = {}
    for name, weight in request.adapters:
        path = _path(name, card)
        sha256 = _sha256(path)
        receipt.append({"name": name, "weight": weight, "sha256": sha256})
        if not weight:
            continue
        key = f"lora_{sha256}"
        wanted[key] = wanted.get(key, 0.0) + weight
        if key not in resident.adapters:
            _load(resident, card, path, key)
    _switch(resident, wanted)
    return receipt


def _path(name: str, card: ModelCard) -> Path:
    path = find_adapter(name, card)
    if path is None:
        raise ModelNotAvailable(
            f"model adapter {name!r} is gone from {', '.join(card.adapter_dirs)}.",
            {"missing": [name]},
        )
    return path


def _sha256(path: Path) -> str:
    about = path.stat()
    return _sha256_of(path, about.st_ino, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_of(path: Path, *_version: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(resident: Resident, card: ModelCard, path: Path, key: str) -> None:
    pipeline = resident.pipeline
    if not hasattr(pipeline, "load_lora_weights"):
        raise UnsupportedTask(
            f"{type(pipeline).__name__} takes no model adapters.", {"model": card.name}
        )
    try:
        with _several_are_meant():
            pipeline.load_lora_weights(str(path), adapter_name=key, local_files_only=True)
        _check_fit(pipeline, path, key)
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError,
        SafetensorError,
    ) as exc:  # fmt: skip
        pipeline.unload_lora_weights()
        resident.adapters.clear()
        if isinstance(exc, torch.OutOfMemoryError):
            release_memory()
            raise DeviceOutOfMemory(f"model adapter {path.stem!r} does not fit.") from exc
        # Where diffusers stumbles over its own clean-up, the reason is the error before
        reason = str(exc.__context__ or exc if isinstance(exc, KeyError) else exc)
        raise ModelLoadFailed(
            f"model adapter {path.stem!r} did not load from {path} into {card.name!r}: "
            f"{reason[:REASON_LIMIT]}",
            {"model": card.name, "adapter": path.stem, "source": str(path)},
        ) from exc
    resident.adapters[key] = None
    resident.weights_bytes = weights_bytes(pipeline)


@contextmanager
def _several_are_meant() -> Iterator[None]:
    """Keep PEFT from warning that one base has several adapters, and that one of them goes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
        warnings.filterwarnings("ignore", "Adapter .* was active which is now", UserWarning)
        yield


def _check_fit(pipeline: Any, path: Path, key: str) -> None:
    """Refuse an adapter of which layers found no place, which diffusers only logs."""
    with safe_open(path, framework="pt") as file:
        brought = sum(bool(_LAYER.search(name)) for name in file.keys())  # noqa: SIM118 - no mapping
    placed = sum(
        key in getattr(layer, "lora_A", ())
        for part in pipeline.components.values()
        if isinstance(part, torch.nn.Module)
        for layer in part.modules()
    )
    if placed < brought:
        raise ValueError(f"it fits {placed} of {brought} layers, so it is made for another model")
    if not any(key in keys for keys in pipeline.get_list_adapters().values()):
        raise ValueError("nothing in it is for this model")


def _switch(resident: Resident, wanted: dict[str, float]) -> None:
    """Set exactly the wanted adapters, in an order that does not depend on the request's."""
    if not resident.adapters:
        return
    keys = sorted(key for key, weight in wanted.items() if weight)
    for key in keys:
        del resident.adapters[key]
        resident.adapters[key] = None
    if excess := list(resident.adapters)[: -max(MAX_KEPT, len(keys))]:
        with _several_are_meant():
            resident.pipeline.delete_adapters(excess)
        for key in excess:
            del resident.adapters[key]
    if keys:
        resident.pipeline.set_adapters(keys, adapter_weights=[wanted[key] for key in keys])
        resident.pipeline.enable_lora()
    else:
        resident.pipeline.disable_lora()
