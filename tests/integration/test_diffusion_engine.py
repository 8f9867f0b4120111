"""The diffusion engine with real diffusers pipelines: the embedded model and tiny random ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend.errors import InvalidRequest, ModelLoadFailed, UnsupportedTask
from backend.imaging.builtin.cards import cards
from backend.imaging.catalog import discover
from backend.imaging.diffusion.engine import DiffusionEngine, build
from backend.imaging.types import EngineContext, ImageRequest, ModelCard
from tests.fixtures import tiny_models

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:diffusers.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers.*"),
]

PORTRAIT = next(card for card in cards() if card.name == "portrait")
CONTEXT = EngineContext(device_id=3, device="cpu:3", torch_device="cpu", cpu_threads=1)
SMALL = {"width": 64, "height": 64, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def engine() -> DiffusionEngine:
    return build(CONTEXT)


def request_of(prompt: str = "smiling, red jacket", **options: Any) -> ImageRequest:
    return ImageRequest.from_call(prompt, {"seed": 1, **options})


def test_the_embedded_model_draws_what_the_prompt_says(engine: DiffusionEngine) -> None:
    image = engine.generate(request_of("blue background"), PORTRAIT)
    red, _, blue = Image.open(io.BytesIO(image.image_data)).convert("RGB").getpixel((4, 4))
    assert (image.width, image.height, image.format) == (128, 128, "png")
    assert blue > red + 40


def test_equal_seeds_give_equal_bytes_and_others_do_not(engine: DiffusionEngine) -> None:
    first, again, other = (
        engine.generate(request_of(seed=seed), PORTRAIT).image_data for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_the_result_carries_its_receipt(engine: DiffusionEngine) -> None:
    image = engine.generate(request_of(num_inference_steps=2), PORTRAIT)
    assert image.device_id == 3
    assert image.device == "cpu:3"
    receipt = image.receipt
    assert receipt["seed"] == 1
    assert receipt["num_inference_steps"] == 2
    assert receipt["guidance_scale"] == PORTRAIT.guidance_scale
    assert receipt["scheduler"] == "DDIMScheduler"
    assert receipt["dtype"] == "float32"
    assert receipt["torch_threads"] == 1
    assert len(receipt["model_fingerprint"]) == 64
    assert set(receipt["versions"]) == {"torch", "diffusers", "transformers"}


def test_words_that_are_not_drawn_are_reported(engine: DiffusionEngine) -> None:
    image = engine.generate(request_of("juggling, red jacket", num_inference_steps=2), PORTRAIT)
    assert image.prompt_report["ignored"] == ["juggling"]


def test_pipelines_are_kept_under_the_hosts_device_number(engine: DiffusionEngine) -> None:
    engine.generate(request_of(num_inference_steps=1), PORTRAIT)
    first = engine.pipelines["diffusers_portrait_gpu3"]
    engine.generate(request_of(num_inference_steps=1), PORTRAIT)
    assert engine.pipelines["diffusers_portrait_gpu3"] is first


def test_a_scheduler_holds_for_its_request_only(engine: DiffusionEngine) -> None:
    plain = engine.generate(request_of(num_inference_steps=2), PORTRAIT)
    euler = engine.generate(request_of(num_inference_steps=2, scheduler="euler"), PORTRAIT)
    after = engine.generate(request_of(num_inference_steps=2), PORTRAIT)
    assert euler.receipt["scheduler"] == "EulerDiscreteScheduler"
    assert euler.image_data != plain.image_data
    assert after.image_data == plain.image_data


def test_an_unknown_scheduler_is_refused_by_name(engine: DiffusionEngine) -> None:
    with pytest.raises(InvalidRequest, match="'magic'; these are known: ddim"):
        engine.generate(request_of(scheduler="magic"), PORTRAIT)


@pytest.mark.parametrize(
    ("save", "pipeline"),
    [
        (tiny_models.save_stable_diffusion, "StableDiffusionPipeline"),
        (tiny_models.save_stable_diffusion_xl, "StableDiffusionXLPipeline"),
        (tiny_models.save_flux, "FluxPipeline"),
    ],
)
def test_a_users_folder_loads_in_its_own_layout(
    engine: DiffusionEngine, tmp_path: Path, save: Callable[[Path], Path], pipeline: str
) -> None:
    [card] = discover([save(tmp_path / "mine")], [])
    image = engine.generate(request_of(**SMALL), card)
    assert card.family == image.receipt["pipeline"] == pipeline
    assert (image.width, image.height, image.model) == (64, 64, "mine")


def test_an_option_the_pipeline_does_not_know_is_refused(
    engine: DiffusionEngine, tmp_path: Path
) -> None:
    class Plain:
        def __call__(self, prompt: str, width: int, height: int, num_inference_steps: int) -> None:
            raise AssertionError("must not be called")

    from backend.imaging.diffusion.engine import pipeline_arguments

    with pytest.raises(UnsupportedTask, match="Plain does not take guidance_scale"):
        pipeline_arguments(Plain(), request_of(), PORTRAIT, "a")


def test_the_appearance_goes_before_the_scene_for_ordinary_models() -> None:
    from backend.imaging.diffusion.engine import adapt_prompt

    card = ModelCard("m", "local", "diffusion", "", "m")
    asked = request_of("on a beach", appearance="red hair")
    assert adapt_prompt(asked, card).prompt == "red hair, on a beach"


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"junk"),
        lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").unlink(),
        lambda f: (f / "vae" / "config.json").write_text("{"),
    ],
)
def test_a_damaged_folder_says_which_model_and_where(
    engine: DiffusionEngine, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    folder = tiny_models.save_stable_diffusion(tmp_path / "broken")
    damage(folder)
    [card] = discover([folder], [])
    with pytest.raises(ModelLoadFailed, match=r"'broken' did not load from .*broken"):
        engine.generate(request_of(**SMALL), card)


def test_the_least_recently_used_pipeline_goes_when_the_budget_is_spent(tmp_path: Path) -> None:
    engine = build(CONTEXT)
    engine._residency.budget_bytes = 1
    tiny = discover([tiny_models.save_stable_diffusion(tmp_path / "one")], [])[0]
    engine.generate(request_of(**SMALL), tiny)
    engine.generate(request_of(**SMALL), replace(tiny, name="two"))
    assert list(engine.pipelines) == ["diffusers_two_gpu3"]
