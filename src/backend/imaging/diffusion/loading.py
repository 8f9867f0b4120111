"""From a card to a pipeline on its device."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from backend.errors import DeviceOutOfMemory, ModelLoadFailed
from backend.imaging.catalog import IP_ADAPTER, LORAS
from backend.imaging.diffusion.faults import is_device_fault, is_out_of_memory
from backend.imaging.diffusion.precision import device_precision, set_vae_dtype
from backend.imaging.types import ModelCard

_BESIDE = (IP_ADAPTER, LORAS)
_FINGERPRINT_BYTES = 1 << 16


def load_pipeline(
    card: ModelCard, torch_device: str, *, offloaded: bool = False
) -> DiffusionPipeline:
    """Load a model folder or hub id, quietly, onto a device.

    Only safetensors are read, and no code from the model's folder is run.

    Args:
        card: names the folder or the hub id.
        torch_device: `cpu` or `cuda:0`; half precision is used on the latter.
        offloaded: keep the parts in the host's memory but for the one that computes.

    Raises:
        ModelLoadFailed: a part is missing or does not fit together.
        DeviceOutOfMemory: the weights do not fit.
    """
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    folder = Path(card.source)
    precision = device_precision(card.family, torch_device)
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            card.source,
            dtype=precision.dtype,
            use_safetensors=True,
            local_files_only=folder.is_dir(),
            variant=_variant(folder),
        )
        set_vae_dtype(pipeline, precision.vae_dtype)
        if offloaded:
            pipeline.enable_model_cpu_offload(device=torch_device)
        else:
            pipeline.to(torch_device)
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, ImportError) as exc:
        if is_out_of_memory(exc):
            raise DeviceOutOfMemory(
                f"the weights of {card.name!r} do not fit on {torch_device}; use a smaller model."
            ) from exc
        if is_device_fault(exc):
            raise
        raise ModelLoadFailed(
            f"image model {card.name!r} did not load from {card.source}: {exc}",
            {"model": card.name, "source": card.source},
        ) from exc
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def fingerprint(card: ModelCard) -> str:
    """Hash the names, sizes and first 64 KiB of a model folder's files; empty for a hub id.

    Enough to tell two models or versions apart in a receipt without reading gigabytes. What lies
    beside the model, its LoRAs and its IP-Adapter, is not part of it.
    """
    folder = Path(card.source)
    return fingerprint_of(folder, without=_BESIDE) if folder.is_dir() else ""


def fingerprint_of(folder: Path, without: Collection[str] = ()) -> str:
    """Hash the names, sizes and first 64 KiB of a folder's files, leaving out some subfolders."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json")):
        if path.relative_to(folder).parts[0] in without:
            continue
        digest.update(f"{path.relative_to(folder).as_posix()}:{path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(_FINGERPRINT_BYTES))
    return digest.hexdigest()


def weights_bytes(pipeline: Any) -> int:
    """Sum the bytes of all parameters and buffers of a pipeline's parts."""
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(tensor.nbytes for part in parts for tensor in (*part.parameters(), *part.buffers()))


def _variant(folder: Path) -> str | None:
    """Return `fp16` where a folder holds its weights in that variant only."""
    weights = [p.name for p in folder.glob("*/*.safetensors") if p.parent.name not in _BESIDE]
    halves = [name for name in weights if ".fp16." in name]
    return "fp16" if halves and len(halves) == len(weights) else None
