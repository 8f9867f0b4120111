"""What an error of torch means: too little memory, a broken device, or a mistake of the caller.

Out of memory leaves the process usable. After a fault of the device its context is poisoned, so
every later call in the process fails too, and only a new process helps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from backend.errors import DeviceFault, DeviceOutOfMemory

_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|hipErrorOutOfMemory"
    r"|STATUS_ALLOC_FAILED|miopenStatusAllocFailed",
    re.IGNORECASE,
)
_FAULT = re.compile(
    r"\b(CUDA|HIP|CUDA driver|HIP driver) (error|kernel errors)\b|\bhipError[A-Z]"
    r"|\bCUBLAS_STATUS_|\bHIPBLAS_STATUS_|\brocblas_status_"
    r"|\bCUDNN_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR|NOT_INITIALIZED)"
    r"|\bmiopenStatus(InternalError|UnknownError|NotInitialized)"
    r"|device-side assert|unspecified launch failure|illegal memory access"
)


def is_out_of_memory(exc: BaseException) -> bool:
    """Tell whether an error says that memory, the device's or the host's, did not suffice."""
    if isinstance(exc, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(exc, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(exc)))


def is_device_fault(exc: BaseException) -> bool:
    """Tell whether an error says that the device or its driver failed."""
    if is_out_of_memory(exc):
        return False
    if isinstance(exc, torch.AcceleratorError):
        return True
    return isinstance(exc, RuntimeError) and bool(_FAULT.search(str(exc)))


@contextmanager
def translated(device: str) -> Iterator[None]:
    """Turn what torch raises about a device into Gator's errors; let all else pass.

    Args:
        device: the device's name in messages, such as `cuda:1`.

    Raises:
        DeviceFault: the device failed; this process cannot use it any more.
        DeviceOutOfMemory: memory did not suffice; the process goes on.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as exc:
        if is_out_of_memory(exc):
            raise DeviceOutOfMemory(
                f"{device} has too little memory for this: {first_line(exc)}", {"device": device}
            ) from exc
        if is_device_fault(exc):
            raise DeviceFault(
                f"{device} failed and its worker has to be replaced: {first_line(exc)}",
                {"device": device},
            ) from exc
        raise


def first_line(exc: BaseException) -> str:
    """Return the first line of an error's message, at most 300 characters of it."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:300]
