"""What fits into a device, what to do where it does not, and what was learned of both.

A render that runs out of memory is given less to hold, one rung after the other: other models'
weights go; the VAE decodes in tiles, one picture at a time; only the part of the pipeline that
computes stays on the card. A micro-batch is not helped at all: its sender halves it. The rung that
a shape needed is where it starts next time, and what is known not to fit is not tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import torch

from backend.errors import DeviceOutOfMemory
from backend.imaging.diffusion.faults import first_line, is_out_of_memory
from backend.imaging.diffusion.residency import release_memory
from backend.imaging.types import MemoryReading

Result = TypeVar("Result")

_TILE_LIMIT = 512
_TILE_LEAST = 128
_SCATTER = 1.02
"""Free memory varies a little from one measurement to the next."""


class Relief(IntEnum):
    """How much a pipeline is spared, from not at all."""

    NONE = 0
    TILED = 1
    OFFLOADED = 2


class Shape(NamedTuple):
    """What decides how much memory a picture takes.

    Attributes:
        model: the weights.
        manner: how they are used: the class of pipeline, with guidance or without.
        width: pixels a row.
        height: rows.
    """

    model: Hashable
    manner: Hashable
    width: int
    height: int


class DeviceMemory:
    """Reads the memory of one CUDA or ROCm device; a CPU's cannot be told."""

    def __init__(self, torch_device: str) -> None:
        self._device = torch_device

    @property
    def is_known(self) -> bool:
        """Whether the device tells its memory at all."""
        return self._device != "cpu"

    def available_bytes(self) -> int:
        """Return what could be allocated: free on the card, or cached and unused here."""
        free, _ = torch.cuda.mem_get_info(self._device)
        cached = torch.cuda.memory_reserved(self._device)
        return int(free + cached - torch.cuda.memory_allocated(self._device))

    def reading(self) -> MemoryReading | None:
        """Return how full the device is by every process, where it tells."""
        if not self.is_known:
            return None
        free, total = torch.cuda.mem_get_info(self._device)
        return MemoryReading(total - free, total)

    def start(self) -> int:
        """Begin to watch the peak; return what is allocated now."""
        torch.cuda.reset_peak_memory_stats(self._device)
        return int(torch.cuda.memory_allocated(self._device))

    def peak_bytes(self) -> int:
        """Return the most that was allocated since `start`."""
        return int(torch.cuda.max_memory_allocated(self._device))


@dataclass(slots=True)
class _Failure:
    pictures: int
    available_bytes: int


class MemoryBook:
    """What is known of the memory that shapes take, by the relief they were given."""

    def __init__(self) -> None:
        self._least: dict[Hashable, Relief] = {}
        self._relief: dict[Shape, Relief] = {}
        self._peaks: dict[tuple[Shape, Relief], dict[int, int]] = {}
        self._failures: dict[tuple[Shape, Relief], _Failure] = {}

    def relief(self, shape: Shape) -> Relief:
        """Return the relief that this shape needed so far."""
        return max(self._relief.get(shape, Relief.NONE), self._least.get(shape.model, Relief.NONE))

    def never_fits(self, model: Hashable) -> None:
        """Note that a model's weights do not fit into the device together, whatever the shape."""
        self._least[model] = Relief.OFFLOADED

    def fitted(self, shape: Shape, relief: Relief, pictures: int, peak_bytes: int | None) -> None:
        """Note that it fitted, and what it took beyond the weights; `None` if that is unknown."""
        self._relief[shape] = max(relief, self.relief(shape))
        if peak_bytes is not None:
            peaks = self._peaks.setdefault((shape, relief), {})
            peaks[pictures] = max(peak_bytes, peaks.get(pictures, 0))

    def failed(self, shape: Shape, relief: Relief, pictures: int, available_bytes: int) -> None:
        """Note that so many pictures did not fit into what was available."""
        known = self._failures.get((shape, relief))
        if known is None or pictures <= known.pictures:
            self._failures[shape, relief] = _Failure(pictures, available_bytes)

    def refuses(self, shape: Shape, relief: Relief, pictures: int, available_bytes: int) -> bool:
        """Tell whether so many pictures are known not to fit into what is available."""
        failure = self._failures.get((shape, relief))
        if failure is not None and pictures >= failure.pictures:
            return available_bytes <= failure.available_bytes * _SCATTER
        return self.least_bytes(shape, relief, pictures) > available_bytes

    def least_bytes(self, shape: Shape, relief: Relief, pictures: int) -> int:
        """Return what so many pictures take at least, by what fewer of them took; 0 if unknown."""
        peaks = self._peaks.get((shape, relief), {})
        smaller = sorted(count for count in peaks if count <= pictures)
        if not smaller:
            return 0
        most = smaller[-1]
        if len(smaller) == 1 or most == pictures:
            return peaks[most]
        least = smaller[0]
        slope = max(0.0, (peaks[most] - peaks[least]) / (most - least))
        return int(peaks[most] + slope * (pictures - most))


class MemoryKeeper:
    """Tries a render, with as much relief as it takes."""

    def __init__(self, device: str, torch_device: str, memory: DeviceMemory | None = None) -> None:
        self.book = MemoryBook()
        self._device = device
        self._torch_device = torch_device
        self._memory = memory or DeviceMemory(torch_device)

    def run(
        self,
        shape: Shape,
        pictures: int,
        pipeline: Any,
        attempt: Callable[[], Result],
        evict: Callable[[], bool],
    ) -> tuple[Result, Relief]:
        """Render, and if memory does not suffice, do what helps and render again.

        Args:
            shape: what is rendered.
            pictures: how many of them at once.
            pipeline: what renders.
            attempt: renders; called again after each relief.
            evict: lets the weights of other models go; says whether there were any.

        Returns:
            What `attempt` returned, and the relief that it took.

        Raises:
            DeviceOutOfMemory: nothing helped; for more than one picture `micro_batch` in its
                details says how many, and fewer may fit.
        """
        relief = self.book.relief(shape)
        while True:
            outcome = self._refusal(shape, relief, pictures) or self._try(
                shape, relief, pictures, pipeline, attempt
            )
            if not isinstance(outcome, str):
                return outcome[0], relief
            release_memory()
            if pictures > 1:
                raise self._too_much(shape, pictures, outcome)
            if evict():
                release_memory()
                continue
            further = self._next(pipeline, relief)
            if further is None:
                raise self._too_much(shape, pictures, outcome)
            relief = further

    def _refusal(self, shape: Shape, relief: Relief, pictures: int) -> str:
        if not self._memory.is_known:
            return ""
        available = self._memory.available_bytes()
        if not self.book.refuses(shape, relief, pictures, available):
            return ""
        return f"it is known not to fit into the {available / 2**30:.1f} GiB that are free"

    def _try(
        self,
        shape: Shape,
        relief: Relief,
        pictures: int,
        pipeline: Any,
        attempt: Callable[[], Result],
    ) -> tuple[Result] | str:
        """Return the result, alone in a tuple, or what the shortage said.

        The error must not leave this frame: its traceback holds the tensors that are to be freed.
        """
        known = self._memory.is_known
        available = allocated = 0
        failure = ""
        outcome: tuple[Result] | None = None
        try:
            relieve(pipeline, relief, self._torch_device, max(shape.width, shape.height))
            if known:
                available, allocated = self._memory.available_bytes(), self._memory.start()
            outcome = (attempt(),)
        except (RuntimeError, MemoryError) as exc:
            if not is_out_of_memory(exc):
                raise
            failure = first_line(exc)
        finally:
            if outcome is None:
                pipeline.maybe_free_model_hooks()
        if outcome is None:
            if known:
                self.book.failed(shape, relief, pictures, available)
            return failure
        peak = self._memory.peak_bytes() - allocated if known else None
        self.book.fitted(shape, relief, pictures, peak)
        return outcome

    def _next(self, pipeline: Any, relief: Relief) -> Relief | None:
        if relief < Relief.TILED and hasattr(getattr(pipeline, "vae", None), "use_tiling"):
            return Relief.TILED
        on_card = self._torch_device != "cpu" and pipeline.model_cpu_offload_seq is not None
        return Relief.OFFLOADED if on_card and relief < Relief.OFFLOADED else None

    def _too_much(self, shape: Shape, pictures: int, failure: str) -> DeviceOutOfMemory:
        several = pictures > 1
        return DeviceOutOfMemory(
            f"{f'{pictures} pictures' if several else 'a picture'} of "
            f"{shape.width}x{shape.height} did not fit into the memory of {self._device}; "
            f"ask for {'fewer at once' if several else 'a smaller size'}. ({failure})",
            {"device": self._device, **({"micro_batch": pictures} if several else {})},
        )


def relieve(pipeline: Any, relief: Relief, torch_device: str, side: int) -> None:
    """Bring a pipeline to a relief, up or down.

    Args:
        pipeline: a diffusers pipeline, on its device or offloaded.
        relief: what it shall be spared.
        torch_device: where it computes.
        side: the longer side of the pictures, in pixels; decides the size of tiles.
    """
    vae: Any = getattr(pipeline, "vae", None)
    if hasattr(vae, "use_tiling"):
        vae.use_tiling = vae.use_slicing = relief >= Relief.TILED
        if vae.use_tiling and hasattr(vae, "tile_latent_min_size"):
            _set_tile(vae, side)
    offloaded = is_offloaded(pipeline)
    if relief is Relief.OFFLOADED and not offloaded:
        pipeline.enable_model_cpu_offload(device=torch_device)
    elif relief < Relief.OFFLOADED and offloaded:
        pipeline.remove_all_hooks()
        pipeline.to(torch_device)


def is_offloaded(pipeline: Any) -> bool:
    """Tell whether a pipeline's parts are on the card only while they compute."""
    return bool(getattr(pipeline, "_all_hooks", None))


def _set_tile(vae: Any, side: int) -> None:
    """Halve the picture at least; a tile as large as the picture would spare nothing."""
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    tile = min(_TILE_LIMIT, max(_TILE_LEAST, side // 2)) // scale
    vae.tile_latent_min_size, vae.tile_sample_min_size = tile, tile * scale
