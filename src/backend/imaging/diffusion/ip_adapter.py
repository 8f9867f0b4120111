"""A model's IP-Adapter: put on for a picture with a reference, laid aside for all others.

It lies in the model's folder `ip_adapter`: one safetensors file, and the folder `image_encoder`.
A UNet that wears one cannot draw without a reference. So the parts that it exchanges, the attention
processors and the projection, are kept in both states and swapped; without a reference the UNet is
the one that was loaded, object by object.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import CLIPVisionModelWithProjection

from backend.errors import DeviceOutOfMemory, ModelLoadFailed
from backend.imaging.diffusion.loading import fingerprint_of, weights_bytes
from backend.imaging.diffusion.residency import Resident
from backend.imaging.types import ModelCard

IMAGE_ENCODER = "image_encoder"


class Parts(NamedTuple):
    """What an IP-Adapter exchanges in a UNet."""

    processors: dict[str, Any]
    projection: Any
    projection_kind: str | None


@dataclass(slots=True)
class IPAdapter:
    """A loaded IP-Adapter, and the UNet without it."""

    without: Parts
    worn: Parts
    fingerprint: str
    is_on: bool = True


def put_on(resident: Resident, card: ModelCard, scale: float) -> str:
    """Let the pipeline see a reference; return the adapter's fingerprint.

    Args:
        resident: whose UNet.
        card: names the folder.
        scale: how much the reference counts beside the words, 0 to 1.

    Raises:
        ModelLoadFailed: a file is missing or does not fit; the pipeline is as it was.
        DeviceOutOfMemory: it did not fit; the pipeline is as it was.
    """
    adapter: IPAdapter | None = resident.ip_adapter
    if adapter is None:
        adapter = resident.ip_adapter = _load(resident, card)
    if not adapter.is_on:
        _exchange(resident.pipeline.unet, adapter.worn)
        adapter.is_on = True
    resident.pipeline.set_ip_adapter_scale(scale)
    return adapter.fingerprint


def lay_aside(resident: Resident) -> None:
    """Make the UNet what it was before its IP-Adapter."""
    adapter: IPAdapter | None = resident.ip_adapter
    if adapter is not None and adapter.is_on:
        _exchange(resident.pipeline.unet, adapter.without)
        adapter.is_on = False


def _load(resident: Resident, card: ModelCard) -> IPAdapter:
    folder, pipeline = Path(card.ip_adapter), resident.pipeline
    without = _parts(pipeline.unet)
    try:
        _load_into(pipeline, folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as exc:
        _exchange(pipeline.unet, without)
        pipeline.register_modules(image_encoder=None)
        if isinstance(exc, torch.OutOfMemoryError):
            raise DeviceOutOfMemory(f"the IP-Adapter of {card.name!r} does not fit.") from exc
        raise ModelLoadFailed(
            f"the IP-Adapter of {card.name!r} did not load from {folder}: {exc}",
            {"model": card.name, "source": str(folder)},
        ) from exc
    resident.weights_bytes = weights_bytes(pipeline)
    return IPAdapter(without, _parts(pipeline.unet), fingerprint_of(folder))


def _load_into(pipeline: Any, folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise ValueError(f"it must hold one .safetensors file, and holds {len(files)}")
    encoder = CLIPVisionModelWithProjection.from_pretrained(
        folder / IMAGE_ENCODER, dtype=pipeline.dtype, use_safetensors=True, local_files_only=True
    )
    pipeline.register_modules(image_encoder=encoder.to(pipeline.device))
    pipeline.load_ip_adapter(
        str(folder),
        subfolder="",
        weight_name=files[0].name,
        image_encoder_folder=None,
        local_files_only=True,
    )


def _parts(unet: Any) -> Parts:
    return Parts(
        dict(unet.attn_processors), unet.encoder_hid_proj, unet.config.encoder_hid_dim_type
    )


def _exchange(unet: Any, parts: Parts) -> None:
    unet.set_attn_processor(dict(parts.processors))
    unet.encoder_hid_proj = parts.projection
    unet.config.encoder_hid_dim_type = parts.projection_kind
