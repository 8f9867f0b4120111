"""The engine where the device fails or is full: with real pipelines that are hooked to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from backend.errors import DeviceFault, DeviceOutOfMemory, RenderCancelled
from backend.imaging.builtin.cards import cards
from backend.imaging.catalog import discover
from backend.imaging.diffusion import engine as engine_module
from backend.imaging.diffusion.engine import DiffusionEngine, build
from backend.imaging.diffusion.loading import load_pipeline
from backend.imaging.diffusion.memory import DeviceMemory, MemoryKeeper, is_offloaded
from backend.imaging.types import EngineContext, ImageRequest, ModelCard
from tests.fixtures import tiny_models
from tests.fixtures.rendering import SilentWatch, rendered

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:diffusers.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers.*"),
]

PORTRAIT = next(card for card in cards() if card.name == "portrait")
CONTEXT = EngineContext(device_id=3, device="cpu:3", torch_device="cpu", cpu_threads=1)
SMALL = {"width": 64, "height": 64, "num_inference_steps": 2}


def request_of(prompt: str = "smiling, red jacket", **options: Any) -> ImageRequest:
    return ImageRequest.from_call(prompt, {"seed": 1, **options})


def test_a_fault_of_the_device_is_told_from_other_errors(tmp_path: Path) -> None:
    engine, card, unet = broken_engine(tmp_path)
    fail(unet, torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(DeviceFault, match="cpu:3 failed and its worker has to be replaced"):
        rendered(engine, request_of(**SMALL), card)


def test_an_error_that_is_no_fault_passes_as_it_is(tmp_path: Path) -> None:
    engine, card, unet = broken_engine(tmp_path)
    fail(unet, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        rendered(engine, request_of(**SMALL), card)


def test_a_micro_batch_too_large_says_its_size_and_the_engine_goes_on(tmp_path: Path) -> None:
    engine, card, unet = broken_engine(tmp_path)

    def weigh(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 4:  # two pictures, each with and without the prompt
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    unet.register_forward_pre_hook(weigh)
    requests = [request_of(seed=seed, **SMALL) for seed in range(3)]
    with pytest.raises(DeviceOutOfMemory, match="3 pictures of 64x64") as caught:
        engine.render(requests, card, SilentWatch())
    assert caught.value.details["micro_batch"] == 3
    assert len(engine.render(requests[:2], card, SilentWatch())) == 2


def test_a_picture_that_fits_only_in_tiles_says_so_in_its_receipt(tmp_path: Path) -> None:
    engine, card, _ = broken_engine(tmp_path)
    other = discover([tiny_models.save_stable_diffusion(tmp_path / "other")], [])[0]
    rendered(engine, request_of(**SMALL), other)
    vae = engine.pipelines["diffusers_mine_gpu3"].vae

    def weigh(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[-1] > 16:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    vae.decoder.register_forward_pre_hook(weigh)
    large = rendered(engine, request_of(**{**SMALL, "width": 256, "height": 256}), card)
    assert large.receipt["relief"] == "tiled"
    assert (large.width, large.height) == (256, 256)
    assert engine.models() == ["mine"]
    assert rendered(engine, request_of(**SMALL), card).receipt["relief"] == "none"


def broken_engine(tmp_path: Path) -> tuple[DiffusionEngine, ModelCard, torch.nn.Module]:
    """An engine with a model loaded, and the model's denoiser, to be hooked."""
    engine = build(CONTEXT)
    [card] = discover([tiny_models.save_stable_diffusion(tmp_path / "mine")], [])
    rendered(engine, request_of(**SMALL), card)
    return engine, card, engine.pipelines["diffusers_mine_gpu3"].unet


def fail(module: torch.nn.Module, exc: Exception) -> None:
    def hook(*_: object) -> None:
        raise exc

    module.register_forward_pre_hook(hook)


class Unlimited(DeviceMemory):
    """A card with more memory than is asked for."""

    is_known = True

    def available_bytes(self) -> int:
        return 1 << 40

    def start(self) -> int:
        return 0

    def peak_bytes(self) -> int:
        return 1


class Leaving(SilentWatch):
    """Cancels at the first step."""

    def step(self, done: int, total: int, preview: object = None) -> None:
        raise RenderCancelled("nobody wants it any more")


def crowded_engine(tmp_path: Path) -> tuple[DiffusionEngine, ModelCard]:
    """An engine whose card, in truth the host, holds a model only part by part."""
    engine, card, unet = broken_engine(tmp_path)
    engine._memory = MemoryKeeper("cuda:3", "cpu:0", Unlimited("cuda:3"))
    pipeline = engine.pipelines["diffusers_mine_gpu3"]

    def weigh(*_: object) -> None:
        if not is_offloaded(pipeline):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    unet.register_forward_pre_hook(weigh)
    return engine, card


def test_a_picture_that_fits_only_offloaded_is_the_same_picture(tmp_path: Path) -> None:
    engine, card, _ = broken_engine(tmp_path / "roomy")
    roomy = rendered(engine, request_of(**SMALL), card)
    engine, card = crowded_engine(tmp_path / "crowded")
    crowded = rendered(engine, request_of(**SMALL), card)
    assert crowded.receipt["relief"] == "offloaded"
    assert crowded.image_data == roomy.image_data


def test_offloaded_parts_go_back_when_a_render_is_cancelled(tmp_path: Path) -> None:
    engine, card = crowded_engine(tmp_path)
    first = rendered(engine, request_of(**SMALL), card)
    pipeline = engine.pipelines["diffusers_mine_gpu3"]
    hooks = pipeline._all_hooks
    with pytest.raises(RenderCancelled):
        engine.render([request_of(**SMALL)], card, Leaving())
    assert is_offloaded(pipeline)
    assert pipeline._all_hooks is not hooks  # diffusers hooks anew what it moved back
    assert rendered(engine, request_of(**SMALL), card).image_data == first.image_data


def test_a_model_may_be_loaded_offloaded() -> None:
    pipeline = load_pipeline(PORTRAIT, "cpu", offloaded=True)
    assert is_offloaded(pipeline)


def test_a_model_that_does_not_fit_beside_others_is_loaded_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, *_ = broken_engine(tmp_path)
    attempts: list[list[str]] = []

    def crowded(card: ModelCard, torch_device: str, *, offloaded: bool) -> Any:
        attempts.append(list(engine.models()))
        if engine.models():
            raise DeviceOutOfMemory("the weights do not fit")
        return load_pipeline(card, torch_device, offloaded=offloaded)

    monkeypatch.setattr(engine_module, "load_pipeline", crowded)
    rendered(engine, request_of(num_inference_steps=1), PORTRAIT)
    assert attempts == [["mine"], []]
    assert engine.models() == ["portrait"]


def test_a_model_that_fits_nowhere_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(card: ModelCard, torch_device: str, *, offloaded: bool) -> Any:
        raise DeviceOutOfMemory("the weights do not fit")

    monkeypatch.setattr(engine_module, "load_pipeline", full)
    with pytest.raises(DeviceOutOfMemory, match="weights do not fit"):
        rendered(build(CONTEXT), request_of(), PORTRAIT)
