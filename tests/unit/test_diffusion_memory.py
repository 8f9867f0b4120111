"""The ladder of reliefs, and what is learned of memory: with a real, tiny VAE that can be full."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from backend.errors import DeviceOutOfMemory
from backend.imaging.diffusion.memory import (
    DeviceMemory,
    MemoryBook,
    MemoryKeeper,
    Relief,
    Shape,
)

SHAPE = Shape("model", "plain", 256, 256)
GIB = 1 << 30


def test_a_processor_has_no_memory_of_its_own_to_tell_of() -> None:
    assert DeviceMemory("cpu").reading() is None


def test_what_failed_is_refused_until_more_is_free() -> None:
    book = MemoryBook()
    book.failed(SHAPE, Relief.NONE, 4, 8 * GIB)
    assert book.refuses(SHAPE, Relief.NONE, 4, 8 * GIB)
    assert book.refuses(SHAPE, Relief.NONE, 5, 8 * GIB)
    assert not book.refuses(SHAPE, Relief.NONE, 3, 8 * GIB)
    assert not book.refuses(SHAPE, Relief.NONE, 4, 9 * GIB)
    assert not book.refuses(SHAPE, Relief.TILED, 4, 8 * GIB)
    assert not book.refuses(Shape("model", "plain", 128, 256), Relief.NONE, 4, 8 * GIB)


def test_a_smaller_failure_replaces_a_larger_one() -> None:
    book = MemoryBook()
    book.failed(SHAPE, Relief.NONE, 4, 8 * GIB)
    book.failed(SHAPE, Relief.NONE, 2, 8 * GIB)
    book.failed(SHAPE, Relief.NONE, 8, 8 * GIB)
    assert book.refuses(SHAPE, Relief.NONE, 2, 8 * GIB)


def test_what_fewer_pictures_took_tells_what_more_take_at_least() -> None:
    book = MemoryBook()
    assert book.least_bytes(SHAPE, Relief.NONE, 4) == 0
    book.fitted(SHAPE, Relief.NONE, 1, 2 * GIB)
    assert book.least_bytes(SHAPE, Relief.NONE, 4) == 2 * GIB
    book.fitted(SHAPE, Relief.NONE, 2, 3 * GIB)
    assert book.least_bytes(SHAPE, Relief.NONE, 4) == 5 * GIB
    assert book.least_bytes(SHAPE, Relief.NONE, 1) == 2 * GIB
    assert book.refuses(SHAPE, Relief.NONE, 4, 4 * GIB)
    assert not book.refuses(SHAPE, Relief.NONE, 4, 5 * GIB)


def test_a_relief_is_remembered_by_shape_and_by_model() -> None:
    book = MemoryBook()
    book.fitted(SHAPE, Relief.TILED, 1, None)
    book.fitted(SHAPE, Relief.NONE, 1, None)
    assert book.relief(SHAPE) is Relief.TILED
    assert book.relief(Shape("model", "plain", 64, 64)) is Relief.NONE
    book.never_fits("model")
    assert book.relief(Shape("model", "plain", 64, 64)) is Relief.OFFLOADED
    assert book.relief(Shape("other", "plain", 64, 64)) is Relief.NONE


class Small:
    """A pipeline whose VAE can hold so many latent pixels at once, and no more."""

    model_cpu_offload_seq = "vae"

    def __init__(self, latent_pixels: int) -> None:
        torch.manual_seed(0)
        self.vae = AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=2,
            sample_size=256,
        ).eval()
        self.vae.decoder.register_forward_pre_hook(self._weigh)
        self.latent_pixels = latent_pixels
        self.freed = 0

    def _weigh(self, _module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        pictures, _, height, width = inputs[0].shape
        if pictures * height * width > self.latent_pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def maybe_free_model_hooks(self) -> None:
        self.freed += 1

    def decode(self, pictures: int) -> Callable[[], torch.Tensor]:
        def attempt() -> torch.Tensor:
            with torch.inference_mode():
                picture: torch.Tensor = self.vae.decode(torch.zeros(pictures, 4, 32, 32)).sample
                return picture

        return attempt


def nothing_to_evict() -> bool:
    return False


def run(
    keeper: MemoryKeeper, pipeline: Any, pictures: int, evict: Callable[[], bool] = nothing_to_evict
) -> tuple[torch.Tensor, Relief]:
    return keeper.run(SHAPE, pictures, pipeline, pipeline.decode(pictures), evict)


def test_what_fits_is_not_relieved() -> None:
    pipeline = Small(2 * 32 * 32)
    _, relief = run(MemoryKeeper("cpu:0", "cpu"), pipeline, 2)
    assert relief is Relief.NONE
    assert not pipeline.vae.use_tiling


def test_a_micro_batch_that_does_not_fit_says_how_large_it_was() -> None:
    with pytest.raises(DeviceOutOfMemory, match="4 pictures of 256x256") as caught:
        run(MemoryKeeper("cuda:1", "cpu"), Small(2 * 32 * 32), 4)
    assert caught.value.details == {"device": "cuda:1", "micro_batch": 4}


def test_other_models_go_before_a_pixel_changes() -> None:
    pipeline = Small(16 * 16)
    resident = ["another model"]

    def evict() -> bool:
        pipeline.latent_pixels = 32 * 32
        return bool(resident) and bool(resident.pop())

    _, relief = run(MemoryKeeper("cpu:0", "cpu"), pipeline, 1, evict)
    assert relief is Relief.NONE


def test_a_picture_that_does_not_fit_is_decoded_in_tiles_from_then_on() -> None:
    pipeline, keeper = Small(16 * 16), MemoryKeeper("cpu:0", "cpu")
    picture, relief = run(keeper, pipeline, 1)
    assert relief is Relief.TILED
    assert picture.shape == (1, 3, 256, 256)
    failures = pipeline.freed
    pictures, relief = run(keeper, pipeline, 3)
    assert (relief, len(pictures), pipeline.freed) == (Relief.TILED, 3, failures)


def test_a_relief_is_taken_back_where_a_shape_does_not_need_it() -> None:
    pipeline, keeper = Small(16 * 16), MemoryKeeper("cpu:0", "cpu")
    run(keeper, pipeline, 1)
    small = Shape("model", "plain", 64, 64)
    _, relief = keeper.run(small, 1, pipeline, lambda: pipeline.vae.use_tiling, nothing_to_evict)
    assert relief is Relief.NONE
    assert not pipeline.vae.use_tiling


def test_when_nothing_helps_the_size_is_to_blame() -> None:
    with pytest.raises(DeviceOutOfMemory, match="ask for a smaller size") as caught:
        run(MemoryKeeper("cpu:0", "cpu"), Small(1), 1)
    assert "micro_batch" not in caught.value.details


def test_what_a_failed_attempt_held_is_let_go_before_the_next() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def attempt() -> int:
        if held:
            return sum(reference() is not None for reference in held)
        latents = torch.zeros(1, 4, 32, 32)
        held.append(weakref.ref(latents))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    keeper = MemoryKeeper("cpu:0", "cpu")
    assert keeper.run(SHAPE, 1, Small(1), attempt, nothing_to_evict) == (0, Relief.TILED)


def test_other_errors_pass_and_the_pipeline_is_tidied() -> None:
    pipeline = Small(1)

    def attempt() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        MemoryKeeper("cpu:0", "cpu").run(SHAPE, 1, pipeline, attempt, nothing_to_evict)
    assert pipeline.freed == 1


class Metered(DeviceMemory):
    """A device that tells a memory of its own."""

    is_known = True
    free = 8 * GIB
    peak = 0

    def available_bytes(self) -> int:
        return self.free

    def start(self) -> int:
        return 0

    def peak_bytes(self) -> int:
        return self.peak


def test_what_is_known_not_to_fit_is_not_tried_again() -> None:
    memory, pipeline = Metered("cpu"), Small(32 * 32)
    keeper = MemoryKeeper("cuda:0", "cpu", memory)
    with pytest.raises(DeviceOutOfMemory, match="Tried to allocate"):
        run(keeper, pipeline, 2)
    assert pipeline.freed == 1
    with pytest.raises(DeviceOutOfMemory, match=r"known not to fit into the 8\.0 GiB") as caught:
        run(keeper, pipeline, 2)
    assert caught.value.details["micro_batch"] == 2
    assert pipeline.freed == 1
    memory.free = 16 * GIB
    pipeline.latent_pixels *= 2
    assert run(keeper, pipeline, 2)[1] is Relief.NONE


def test_the_peak_of_smaller_ones_refuses_a_larger_one_before_it_is_tried() -> None:
    memory, pipeline = Metered("cpu"), Small(64 * 32 * 32)
    keeper = MemoryKeeper("cuda:0", "cpu", memory)
    for pictures in (1, 2):
        memory.peak = pictures * 3 * GIB
        run(keeper, pipeline, pictures)
    with pytest.raises(DeviceOutOfMemory, match="known not to fit"):
        run(keeper, pipeline, 3)


def test_on_a_card_the_last_relief_is_to_offload() -> None:
    keeper = MemoryKeeper("cuda:0", "cuda:0", Metered("cuda:0"))
    assert keeper._next(Small(1), Relief.TILED) is Relief.OFFLOADED
    assert keeper._next(Small(1), Relief.OFFLOADED) is None
    assert keeper._next(SimpleNamespace(model_cpu_offload_seq=None), Relief.NONE) is None
