"""Which number formats a device is given.

Half precision is what models are published in; which half depends on the family and on what the
card computes natively. Vega 10 (gfx900: MI25, Vega 56 and 64) has float16 but no bfloat16, which
ROCm emulates there all the same and reports as supported, and its float16 convolutions overflow in
the VAE, so that one stays in single precision. Nothing is compiled, on no card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

_BFLOAT16_FAMILIES = ("Flux", "StableDiffusion3")
_WITHOUT_BFLOAT16 = ("gfx8", "gfx900", "gfx906", "gfx101", "gfx103")
_SINGLE_VAE = ("gfx900",)
_AMPERE = 8


class Properties(Protocol):
    """What is read of `torch.cuda.get_device_properties`; `gcnArchName` is there on ROCm only."""

    major: int


@dataclass(frozen=True, slots=True)
class Precision:
    """The formats of a pipeline's weights.

    Attributes:
        dtype: of all parts but the VAE.
        vae_dtype: of the VAE.
    """

    dtype: torch.dtype
    vae_dtype: torch.dtype


def device_precision(family: str, torch_device: str) -> Precision:
    """Choose for a device of this process: `cpu` or such as `cuda:0`."""
    if torch_device == "cpu":
        return Precision(torch.float32, torch.float32)
    return choose_precision(family, torch.cuda.get_device_properties(torch_device))


def choose_precision(family: str, properties: Properties) -> Precision:
    """Choose for a card: bfloat16 for families made for it where the card has it, else float16.

    Args:
        family: the diffusers pipeline class, or an empty string.
        properties: the card's, as torch tells them.
    """
    architecture = str(getattr(properties, "gcnArchName", "")).partition(":")[0]
    if architecture:
        native = not architecture.startswith(_WITHOUT_BFLOAT16)
    else:
        native = properties.major >= _AMPERE
    wanted = family.startswith(_BFLOAT16_FAMILIES)
    dtype = torch.bfloat16 if wanted and native else torch.float16
    single = architecture in _SINGLE_VAE
    return Precision(dtype, torch.float32 if single else dtype)


def set_vae_dtype(pipeline: Any, dtype: torch.dtype) -> None:
    """Keep a pipeline's VAE in another format than the rest; its inputs are converted.

    Pipelines hand latents over in the denoiser's format, so each part of the VAE converts what it
    is given.
    """
    vae = getattr(pipeline, "vae", None)
    if vae is None or vae.dtype == dtype:
        return
    vae.to(dtype=dtype)
    for part in vae.children():
        part.register_forward_pre_hook(_convert)


def _convert(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    parameter = next(module.parameters(), None)
    if parameter is None:
        return inputs
    return tuple(
        x.to(parameter.dtype) if isinstance(x, torch.Tensor) and x.is_floating_point() else x
        for x in inputs
    )
