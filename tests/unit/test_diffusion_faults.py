"""What errors of torch mean, and which number formats a card is given."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL

from backend.errors import DeviceFault, DeviceOutOfMemory
from backend.imaging.diffusion.faults import is_device_fault, is_out_of_memory, translated
from backend.imaging.diffusion.precision import choose_precision, device_precision, set_vae_dtype

SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"
    ),
    MemoryError(),
]
FAULTS = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("HIP error: invalid device function"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("miopenStatusUnknownError"),
    RuntimeError("hipErrorNoBinaryForGpu: Unable to find code object for all current devices"),
]
MISTAKES = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"),
    RuntimeError("Expected all tensors to be on the same device"),
    ValueError("`height` and `width` have to be divisible by 8"),
]


@pytest.mark.parametrize("exc", SHORTAGES, ids=str)
def test_a_shortage_of_memory_is_no_fault(exc: Exception) -> None:
    assert is_out_of_memory(exc)
    assert not is_device_fault(exc)


@pytest.mark.parametrize("exc", FAULTS, ids=str)
def test_a_fault_of_the_device_is_no_shortage(exc: Exception) -> None:
    assert is_device_fault(exc)
    assert not is_out_of_memory(exc)


@pytest.mark.parametrize("exc", MISTAKES, ids=str)
def test_a_mistake_is_neither_and_passes_as_it_is(exc: Exception) -> None:
    with pytest.raises(type(exc)) as caught, translated("cuda:1"):
        raise exc
    assert caught.value is exc


def test_a_fault_names_the_device_and_what_it_said() -> None:
    match = r"cuda:1 failed.*device-side assert"
    with pytest.raises(DeviceFault, match=match) as caught, translated("cuda:1"):
        raise FAULTS[1]
    assert caught.value.details == {"device": "cuda:1"}


def test_a_real_allocation_that_cannot_be_had_is_a_shortage() -> None:
    match = "cpu:0 has too little memory"
    with pytest.raises(DeviceOutOfMemory, match=match), translated("cpu:0"):
        torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("card", "family", "dtype", "vae_dtype"),
    [
        ({"gcnArchName": "gfx900:xnack-", "major": 9}, "FluxPipeline", "float16", "float32"),
        ({"gcnArchName": "gfx900", "major": 9}, "StableDiffusionPipeline", "float16", "float32"),
        ({"gcnArchName": "gfx906:sramecc+", "major": 9}, "FluxPipeline", "float16", "float16"),
        ({"gcnArchName": "gfx90a:sramecc+", "major": 9}, "FluxPipeline", "bfloat16", "bfloat16"),
        ({"gcnArchName": "gfx1030", "major": 10}, "FluxPipeline", "float16", "float16"),
        ({"gcnArchName": "gfx1100", "major": 11}, "FluxPipeline", "bfloat16", "bfloat16"),
        ({"major": 7}, "StableDiffusion3Pipeline", "float16", "float16"),
        ({"major": 9}, "StableDiffusion3Pipeline", "bfloat16", "bfloat16"),
        ({"major": 9}, "StableDiffusionXLPipeline", "float16", "float16"),
    ],
)
def test_a_card_gets_the_half_precision_it_computes_natively(
    card: dict[str, object], family: str, dtype: str, vae_dtype: str
) -> None:
    chosen = choose_precision(family, SimpleNamespace(**card))
    assert (chosen.dtype, chosen.vae_dtype) == (getattr(torch, dtype), getattr(torch, vae_dtype))


def test_a_processor_computes_in_single_precision() -> None:
    assert device_precision("FluxPipeline", "cpu").dtype == torch.float32


def test_a_vae_in_single_precision_takes_latents_in_half() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=2).to(torch.bfloat16).eval()
    set_vae_dtype(SimpleNamespace(vae=vae), torch.float32)
    with torch.inference_mode():
        picture = vae.decode(torch.zeros(1, 4, 8, 8, dtype=torch.bfloat16)).sample
        latents = vae.encode(torch.zeros(1, 3, 8, 8, dtype=torch.bfloat16)).latent_dist.mean
    assert picture.dtype == latents.dtype == torch.float32
