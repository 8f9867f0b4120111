"""The diffusion engine with real diffusers pipelines: the embedded model and tiny random ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from backend.errors import ContentRejected, InvalidRequest, ModelLoadFailed, UnsupportedTask
from backend.imaging.builtin.cards import cards
from backend.imaging.catalog import discover
from backend.imaging.checks import FORMATS
from backend.imaging.diffusion.engine import DiffusionEngine, build
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


@pytest.fixture(scope="module")
def engine() -> DiffusionEngine:
    return build(CONTEXT)


def request_of(prompt: str = "smiling, red jacket", **options: Any) -> ImageRequest:
    return ImageRequest.from_call(prompt, {"seed": 1, **options})


def test_the_embedded_model_draws_what_the_prompt_says(engine: DiffusionEngine) -> None:
    image = rendered(engine, request_of("blue background"), PORTRAIT)
    red, _, blue = Image.open(io.BytesIO(image.image_data)).convert("RGB").getpixel((4, 4))
    assert (image.width, image.height, image.format) == (128, 128, "png")
    assert blue > red + 40


def test_equal_seeds_give_equal_bytes_and_others_do_not(engine: DiffusionEngine) -> None:
    first, again, other = (
        rendered(engine, request_of(seed=seed), PORTRAIT).image_data for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_the_result_carries_its_receipt(engine: DiffusionEngine) -> None:
    image = rendered(engine, request_of(num_inference_steps=2), PORTRAIT)
    receipt = image.receipt
    assert receipt["device"] == "cpu:3"
    assert receipt["seed"] == 1
    assert receipt["format"] == "png"
    assert receipt["micro_batch"] == 1
    assert receipt["relief"] == "none"
    assert receipt["num_inference_steps"] == 2
    assert receipt["guidance_scale"] == PORTRAIT.guidance_scale
    assert receipt["scheduler"] == "DDIMScheduler"
    assert receipt["dtype"] == "float32"
    assert receipt["torch_threads"] == 1
    assert len(receipt["model_fingerprint"]) == 64
    assert set(receipt["versions"]) == {"torch", "diffusers", "transformers"}


def test_words_that_are_not_drawn_are_reported(engine: DiffusionEngine) -> None:
    image = rendered(engine, request_of("juggling, red jacket", num_inference_steps=2), PORTRAIT)
    assert image.prompt_report["ignored"] == ["juggling"]


def test_pipelines_are_kept_under_the_hosts_device_number(engine: DiffusionEngine) -> None:
    rendered(engine, request_of(num_inference_steps=1), PORTRAIT)
    first = engine.pipelines["diffusers_portrait_gpu3"]
    rendered(engine, request_of(num_inference_steps=1), PORTRAIT)
    assert engine.pipelines["diffusers_portrait_gpu3"] is first


def test_a_scheduler_holds_for_its_request_only(engine: DiffusionEngine) -> None:
    plain = rendered(engine, request_of(num_inference_steps=2), PORTRAIT)
    euler = rendered(engine, request_of(num_inference_steps=2, scheduler="euler"), PORTRAIT)
    after = rendered(engine, request_of(num_inference_steps=2), PORTRAIT)
    assert euler.receipt["scheduler"] == "EulerDiscreteScheduler"
    assert euler.image_data != plain.image_data
    assert after.image_data == plain.image_data


def test_an_unknown_scheduler_is_refused_by_name(engine: DiffusionEngine) -> None:
    with pytest.raises(InvalidRequest, match="'magic'; these are known: ddim"):
        rendered(engine, request_of(scheduler="magic"), PORTRAIT)


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
    image = rendered(engine, request_of(**SMALL), card)
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
        rendered(engine, request_of(**SMALL), card)


def test_the_least_recently_used_pipeline_goes_when_the_budget_is_spent(tmp_path: Path) -> None:
    engine = build(CONTEXT)
    engine._residency.budget_bytes = 1
    tiny = discover([tiny_models.save_stable_diffusion(tmp_path / "one")], [])[0]
    rendered(engine, request_of(**SMALL), tiny)
    rendered(engine, request_of(**SMALL), replace(tiny, name="two"))
    assert list(engine.pipelines) == ["diffusers_two_gpu3"]


def test_a_micro_batch_gives_each_its_own_words_seed_format_and_receipt(
    engine: DiffusionEngine,
) -> None:
    requests = [
        request_of("blue background", seed=5, format="png"),
        request_of("red jacket", seed=6, format="webp", appearance="beard"),
    ]
    watch = SilentWatch()
    drawn = engine.render(requests, PORTRAIT, watch)
    assert watch.phases == ["load", "render"]
    assert watch.steps == [(step, 8) for step in range(1, 9)]
    assert [one.seed for one in drawn] == [5, 6]
    assert [one.receipt["micro_batch"] for one in drawn] == [2, 2]
    assert drawn[0].receipt["prompt"] != drawn[1].receipt["prompt"]
    assert [Image.open(io.BytesIO(one.encode())).format for one in drawn] == ["PNG", "WEBP"]
    for request, one in zip(requests, drawn, strict=True):
        alone = Image.open(io.BytesIO(rendered(engine, request, PORTRAIT).image_data))
        together = Image.open(io.BytesIO(one.encode()))
        pairs = zip(alone.convert("RGB").tobytes(), together.convert("RGB").tobytes(), strict=True)
        assert max(abs(a - b) for a, b in pairs) <= (2 if one.format == "png" else 60)


def test_the_time_of_a_micro_batch_is_shared(engine: DiffusionEngine) -> None:
    [one, other] = engine.render([request_of(seed=s) for s in (1, 2)], PORTRAIT, SilentWatch())
    assert one.seconds == other.seconds
    assert set(one.seconds) == {"load", "render", "denoise", "decode"}
    assert one.seconds["denoise"] + one.seconds["decode"] <= one.seconds["render"] + 0.001


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written_and_equal_pictures_are_equal_bytes(
    engine: DiffusionEngine, name: str
) -> None:
    asked = request_of(num_inference_steps=1, format=name)
    first, again = (rendered(engine, asked, PORTRAIT).image_data for _ in range(2))
    assert first == again
    assert Image.open(io.BytesIO(first)).format == name.upper()


def test_the_names_of_loaded_models_are_told(engine: DiffusionEngine, tmp_path: Path) -> None:
    fresh = build(CONTEXT)
    assert fresh.models() == []
    rendered(fresh, request_of(num_inference_steps=1), PORTRAIT)
    assert fresh.models() == ["portrait"]


def test_a_picture_that_the_models_own_checker_blackens_is_refused(tmp_path: Path) -> None:
    engine = build(CONTEXT)
    [card] = discover([tiny_models.save_stable_diffusion(tmp_path / "mine")], [])
    rendered(engine, request_of(**SMALL), card)
    pipeline = engine.pipelines["diffusers_mine_gpu3"]
    pipeline.run_safety_checker = lambda image, *_: (torch.zeros_like(image), [True] * len(image))
    with pytest.raises(ContentRejected, match="safety checker"):
        rendered(engine, request_of(**SMALL), card)


def test_a_picture_with_a_reference_is_not_rendered_with_others(engine: DiffusionEngine) -> None:
    reference = rendered(engine, request_of(num_inference_steps=1), PORTRAIT).image_data
    requests = [request_of(), request_of(reference=reference)]
    with pytest.raises(ValueError, match="rendered alone"):
        engine.render(requests, PORTRAIT, SilentWatch())
