"""The probe of one device: `python -m backend.imaging.diffusion.preflight TORCH_DEVICE`.

Runs in a process of its own, since what it looks for ends processes: a driver that faults, a
library that aborts for want of kernels, a card that hangs. So it says what it is about to do before
it does it, one JSON object a line, and whoever reads it knows where it ended.

    {"begin": "matmul"}
    {"check": "matmul", "ok": true, "says": "…", "seconds": 0.01, "facts": {…}}

Every calculation is compared with the same one in double precision on the CPU: a card that computes
wrong says nothing by itself. `count` in place of a device prints how many cards torch sees.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Found = tuple[bool, str, Mapping[str, Any]]
"""Whether it is well, a sentence for people, and figures."""

LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy")
_BLOCK_BYTES = 256 * 1024**2
_GIB = 1024**3
_SINGLE = 5e-3
"""How far single precision may be from double, relative to the largest value; TF32 stays below."""

_HALF = 2e-2


def main(arguments: list[str]) -> None:
    """Run every check on a device, until one ends the process."""
    [name] = arguments
    if name == "count":
        _say({"count": _count()})
        return
    if not _run("torch", _torch):
        return
    import torch

    device = torch.device(name)
    checks: dict[str, Callable[[torch.device], Found]] = {
        "device": _device,
        "memory": _memory,
        "matmul": _matmul,
        "convolution": _convolution,
        "attention": _attention,
        "float16": lambda device: _half(device, torch.float16),
        "bfloat16": lambda device: _half(device, torch.bfloat16),
        "vae": lambda device: _vae(device, torch.float32),
        "vae in float16": lambda device: _vae(device, torch.float16),
    }
    with torch.inference_mode():
        for check, function in checks.items():
            _run(check, lambda function=function: function(device))  # type: ignore[misc]
    _say({"end": True})


def _say(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _run(check: str, function: Callable[[], Found]) -> bool:
    _say({"begin": check})
    started = time.perf_counter()
    try:
        ok, says, facts = function()
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is what was looked for
        ok, says, facts = False, f"{type(exc).__name__}: {_first_line(exc)}", {}
    seconds = round(time.perf_counter() - started, 4)
    _say({"check": check, "ok": ok, "says": says, "seconds": seconds, "facts": facts})
    return ok


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or ["no message"])[0][:300]


def _count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _torch() -> Found:
    import torch

    build = torch.version.hip and f"ROCm {torch.version.hip}"
    build = build or (torch.version.cuda and f"CUDA {torch.version.cuda}") or "CPU only"
    versions = {name: _version(name) for name in LIBRARIES}
    return True, f"torch {torch.__version__}, {build}", {"build": build, "versions": versions}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device(device: torch.device) -> Found:
    import torch

    from backend.imaging.diffusion.precision import device_precision

    precision = device_precision("", str(device))
    formats = {"dtype": _format(precision.dtype), "vae_dtype": _format(precision.vae_dtype)}
    if device.type == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        cores = len(os.sched_getaffinity(0))
        threads = torch.get_num_threads()
        facts = {"architecture": capability, "cores": cores, "threads": threads, **formats}
        return True, f"{cores} cores ({capability}), {threads} torch threads a slot", facts
    properties = torch.cuda.get_device_properties(device)
    architecture = str(getattr(properties, "gcnArchName", "")).partition(":")[0]
    architecture = architecture or f"sm_{properties.major}{properties.minor}"
    facts = {
        "name": properties.name,
        "architecture": architecture,
        "built_for": torch.cuda.get_arch_list(),
        "driver": _driver(),
        "native_bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
        **formats,
    }
    return True, f"{properties.name} ({architecture}), driver {facts['driver']}", facts


def _format(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _driver() -> str:
    """Return the version of the kernel's driver, as the driver itself tells it."""
    for path in ("/sys/module/nvidia/version", "/sys/module/amdgpu/version"):
        try:
            return Path(path).read_text("utf-8").strip()
        except OSError:
            continue
    return "of the kernel" if Path("/sys/module/amdgpu").exists() else "unknown"


def _memory(device: torch.device) -> Found:
    """Fill a block and read it back."""
    import torch

    free, total = torch.cuda.mem_get_info(device) if device.type == "cuda" else _host_memory()
    words = min(_BLOCK_BYTES, free // 4) // 8
    block = torch.arange(words, device=device)
    whole = int(block.sum()) == words * (words - 1) // 2
    facts = {"free_bytes": free, "total_bytes": total, "written_bytes": words * 8}
    says = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
    return whole, says if whole else f"{says}; it does not hold what is written", facts


def _host_memory() -> tuple[int, int]:
    page = os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page


def _noise(*shape: int) -> torch.Tensor:
    import torch

    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _compare(found: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> Found:
    """Compare a device's result with the CPU's in double precision."""
    import torch

    result = found.to("cpu", torch.float64)
    if not bool(torch.isfinite(result).all()):
        return False, "gives numbers that are not finite", {}
    error = float((result - wanted).abs().max() / wanted.abs().max())
    ok = error <= tolerance
    facts = {"relative_error": error, "tolerance": tolerance}
    return ok, f"off by {error:.1e}" if ok else f"computes wrong: off by {error:.1e}", facts


def _matmul(device: torch.device) -> Found:
    import torch

    a, b = _noise(512, 512), _noise(512, 512)
    return _compare(a.to(device, torch.float32) @ b.to(device, torch.float32), a @ b, _SINGLE)


def _convolution(device: torch.device) -> Found:
    import torch
    from torch.nn.functional import conv2d

    picture, kernel = _noise(1, 32, 64, 64), _noise(32, 32, 3, 3)
    found = conv2d(picture.to(device, torch.float32), kernel.to(device, torch.float32), padding=1)
    return _compare(found, conv2d(picture, kernel, padding=1), _SINGLE)


def _attention(device: torch.device) -> Found:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    query, key, value = _noise(3, 1, 4, 256, 64)
    wanted = torch.softmax(query @ key.transpose(-1, -2) / 8, -1) @ value
    found = scaled_dot_product_attention(
        *(part.to(device, torch.float32) for part in (query, key, value))
    )
    return _compare(found, wanted, _SINGLE)


def _half(device: torch.device, dtype: torch.dtype) -> Found:
    """Multiply and convolve in a half precision, as diffusion models do."""
    from torch.nn.functional import conv2d

    a, b = _noise(256, 256), _noise(256, 256)
    ok, says, facts = _compare(a.to(device, dtype) @ b.to(device, dtype), a @ b, _HALF)
    if not ok:
        return ok, says, facts
    picture, kernel = _noise(1, 16, 32, 32), _noise(16, 16, 3, 3)
    found = conv2d(picture.to(device, dtype), kernel.to(device, dtype), padding=1)
    return _compare(found, conv2d(picture, kernel, padding=1), _HALF)


def _vae(device: torch.device, dtype: torch.dtype) -> Found:
    """Decode latents with a small VAE of random weights, here and on the CPU."""
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(1)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64),
        norm_num_groups=16,
    ).eval()
    latents = _noise(1, 4, 16, 16)
    wanted = vae.to(torch.float64).decode(latents).sample
    found = vae.to(device, dtype).decode(latents.to(device, dtype)).sample
    return _compare(found, wanted, _SINGLE if dtype == torch.float32 else 5 * _HALF)


if __name__ == "__main__":
    main(sys.argv[1:])
