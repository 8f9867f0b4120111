"""Micro-batches, kept embeddings and previews, with real diffusers pipelines of every layout."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from backend.errors import GenerationFailed, RenderCancelled
from backend.imaging.builtin.cards import WEIGHTS
from backend.imaging.diffusion.embeddings import LAYOUTS, PromptEmbeddings
from backend.imaging.diffusion.microbatch import Outcome, Steps, render, to_pixels
from backend.imaging.diffusion.preview import SIDE_LIMIT, PreviewMap, unpacked
from tests.fixtures import tiny_models
from tests.fixtures.rendering import SilentWatch

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:diffusers.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers.*"),
]

LAYOUT_FOLDERS: dict[str, Callable[[Path], Path]] = {
    "portrait": lambda _: WEIGHTS,
    "sd": tiny_models.save_stable_diffusion,
    "sdxl": tiny_models.save_stable_diffusion_xl,
    "sd3": tiny_models.save_stable_diffusion_3,
    "flux": tiny_models.save_flux,
}
PROMPTS = ("red jacket", "blue jacket", "smiling")
SEEDS = (7, 11, 13)


class Recorder(SilentWatch):
    """Asks for every preview, and cancels at a step if told to."""

    def __init__(self, *, cancel_at: int = 0) -> None:
        super().__init__()
        self.shown: list[bytes] = []
        self._cancel_at = cancel_at

    def step(self, done: int, total: int, preview: Callable[[], bytes] | None = None) -> None:
        super().step(done, total)
        if preview is not None:
            self.shown.append(preview())
        if done == self._cancel_at:
            raise RenderCancelled("nobody wants it any more")


class Loaded(NamedTuple):
    pipeline: Any
    arguments: dict[str, Any]


@pytest.fixture(scope="module", params=LAYOUT_FOLDERS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = LAYOUT_FOLDERS[request.param](tmp_path_factory.mktemp("model") / "mine")
    side = 128 if request.param == "portrait" else 64
    return load(folder, side)


@pytest.fixture(scope="module")
def portrait() -> Loaded:
    return load(WEIGHTS, 128)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(folder: Path, side: int) -> Loaded:
    pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    arguments = {"width": side, "height": side, "num_inference_steps": 3, "guidance_scale": 2.0}
    return Loaded(pipeline, arguments)


def draw(
    loaded: Loaded,
    prompts: tuple[str, ...],
    seeds: tuple[int, ...],
    *,
    embeddings: PromptEmbeddings | None = None,
    watch: Recorder | None = None,
    previews: PreviewMap | None = None,
    **more: Any,
) -> Outcome:
    side = loaded.arguments["width"]
    steps = Steps(watch or Recorder(), previews or PreviewMap(), side, side)
    return render(
        loaded.pipeline,
        [{**loaded.arguments, "prompt": prompt, **more} for prompt in prompts],
        seeds,
        model="model",
        embeddings=embeddings or PromptEmbeddings(),
        steps=steps,
    )


def plain(loaded: Loaded, prompt: str, seed: int, **more: Any) -> torch.Tensor:
    """What diffusers makes of it when it is called as its documentation shows."""
    generator = torch.Generator("cpu").manual_seed(seed)
    with torch.inference_mode():
        output = loaded.pipeline(prompt, **loaded.arguments, **more, generator=generator)
    return torch.frombuffer(bytearray(output.images[0].tobytes()), dtype=torch.uint8)


@pytest.mark.parametrize("more", [{}, {"negative_prompt": "glasses"}], ids=["", "negative"])
def test_one_picture_is_what_diffusers_itself_makes(loaded: Loaded, more: dict[str, str]) -> None:
    ours = draw(loaded, PROMPTS[:1], SEEDS[:1], **more)
    assert torch.equal(ours.pixels[0].flatten(), plain(loaded, PROMPTS[0], SEEDS[0], **more))


def test_a_kept_embedding_changes_no_byte(loaded: Loaded) -> None:
    embeddings = PromptEmbeddings()
    first, again = (draw(loaded, PROMPTS, SEEDS, embeddings=embeddings) for _ in range(2))
    assert embeddings.kept_prompts == len(PROMPTS)
    assert torch.equal(first.pixels, again.pixels)


def test_each_picture_of_a_micro_batch_has_its_own_words_and_noise(loaded: Loaded) -> None:
    together = draw(loaded, PROMPTS, SEEDS).pixels
    for index, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS, strict=True)):
        alone = draw(loaded, (prompt,), (seed,)).pixels[0]
        difference = (together[index].int() - alone.int()).abs()
        assert difference.max() <= 2
        others = [other for other in range(len(PROMPTS)) if other != index]
        assert all((together[other].int() - alone.int()).abs().max() > 2 for other in others)


def test_a_negative_prompt_belongs_to_its_picture_only(portrait: Loaded) -> None:
    both = [{**portrait.arguments, "prompt": "red jacket"} for _ in range(2)]
    both[1]["negative_prompt"] = "red jacket"
    outcome = render(
        portrait.pipeline,
        both,
        (1, 1),
        model="model",
        embeddings=PromptEmbeddings(),
        steps=Steps(Recorder(), PreviewMap(), 128, 128),
    )
    assert (outcome.pixels[0].int() - outcome.pixels[1].int()).abs().max() > 20


def test_pictures_that_are_not_alike_are_not_rendered_together(portrait: Loaded) -> None:
    each = [{**portrait.arguments, "prompt": "a", "width": side} for side in (64, 128)]
    with pytest.raises(ValueError, match="differ in more than their words"):
        render(
            portrait.pipeline,
            each,
            (1, 2),
            model="model",
            embeddings=PromptEmbeddings(),
            steps=Steps(Recorder(), PreviewMap(), 128, 128),
        )


def test_a_pipeline_of_another_class_encodes_its_words_itself(
    portrait: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = draw(portrait, PROMPTS[:2], SEEDS[:2], negative_prompt="glasses").pixels
    monkeypatch.delitem(LAYOUTS, "StableDiffusionPipeline")
    embeddings = PromptEmbeddings()
    itself = draw(
        portrait, PROMPTS[:2], SEEDS[:2], embeddings=embeddings, negative_prompt="glasses"
    ).pixels
    assert embeddings.kept_prompts == 0
    assert (kept.int() - itself.int()).abs().max() <= 2


def test_embeddings_are_kept_within_their_bound(portrait: Loaded) -> None:
    embeddings = PromptEmbeddings()
    draw(portrait, PROMPTS[:1], SEEDS[:1], embeddings=embeddings)
    small = PromptEmbeddings(limit_bytes=2 * embeddings.kept_bytes)
    for prompt in (*PROMPTS, PROMPTS[1]):
        draw(portrait, (prompt,), SEEDS[:1], embeddings=small)
    assert small.kept_prompts == 2
    assert small.kept_bytes == 2 * embeddings.kept_bytes


def test_without_guidance_a_negative_prompt_is_no_other_embedding(portrait: Loaded) -> None:
    embeddings = PromptEmbeddings()
    for negative in (None, "glasses"):
        embeddings.encode(portrait.pipeline, "model", ["a"], [negative], 1.0)
    assert embeddings.kept_prompts == 1


def test_every_step_is_told(loaded: Loaded) -> None:
    watch = Recorder()
    draw(loaded, PROMPTS[:2], SEEDS[:2], watch=watch)
    assert watch.steps == [(1, 3), (2, 3), (3, 3)]


def test_a_cancelled_render_ends_at_the_next_step_and_the_next_one_is_unharmed(
    loaded: Loaded,
) -> None:
    before = draw(loaded, PROMPTS[:1], SEEDS[:1]).pixels
    watch = Recorder(cancel_at=2)
    with pytest.raises(RenderCancelled):
        draw(loaded, PROMPTS[1:], SEEDS[1:], watch=watch)
    assert watch.steps == [(1, 3), (2, 3)]
    assert torch.equal(draw(loaded, PROMPTS[:1], SEEDS[:1]).pixels, before)


def test_stages_are_timed(portrait: Loaded) -> None:
    seconds = draw(portrait, PROMPTS[:1], SEEDS[:1]).seconds
    assert set(seconds) == {"denoise", "decode"}
    assert all(value > 0 for value in seconds.values())


def test_previews_look_like_the_picture_once_one_was_finished(portrait: Loaded) -> None:
    previews = PreviewMap()
    arguments = {**portrait.arguments, "num_inference_steps": 8}
    shown: list[bytes] = []
    for seed, prompt in enumerate(PROMPTS):
        watch = Recorder()
        steps = Steps(watch, previews, 128, 128)
        outcome = render(
            portrait.pipeline,
            [{**arguments, "prompt": prompt}],
            [seed],
            model="model",
            embeddings=PromptEmbeddings(),
            steps=steps,
        )
        assert steps.latents is not None
        assert bool(watch.shown) == previews.is_learned
        previews.learn(steps.latents[0], outcome.pixels[0])
        shown = watch.shown
    assert len(shown) == 8
    small = Image.fromarray(outcome.pixels[0].numpy()).reduce(8)
    for data, bound in ((shown[-1], 0.08), (shown[4], 0.16)):
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.size) == ("WEBP", (16, 16))
        pairs = zip(image.convert("RGB").tobytes(), small.tobytes(), strict=True)
        assert sum(abs(a - b) for a, b in pairs) / (16 * 16 * 3 * 255) < bound


def test_previews_are_small_whatever_the_picture() -> None:
    torch.manual_seed(0)
    previews = PreviewMap()
    previews.learn(torch.randn(4, 160, 256), torch.randint(0, 255, (1280, 2048, 3)).byte())
    image = Image.open(io.BytesIO(previews.draw(30 * torch.randn(4, 160, 256))))
    assert image.size == (SIDE_LIMIT, 80)


def test_flux_latents_are_unpacked_for_previews(tmp_path: Path) -> None:
    flux = load(tiny_models.save_flux(tmp_path / "flux"), 64)
    steps = Steps(Recorder(), PreviewMap(), 64, 64)
    render(
        flux.pipeline,
        [{**flux.arguments, "prompt": "a"}],
        [1],
        model="model",
        embeddings=PromptEmbeddings(),
        steps=steps,
    )
    assert steps.latents is not None
    assert steps.latents.shape == (1, 4, 8, 8)


def test_a_sequence_of_another_size_has_no_preview(tmp_path: Path) -> None:
    flux = load(tiny_models.save_flux(tmp_path / "flux"), 64)
    assert unpacked(flux.pipeline, torch.zeros(1, 16, 16), 128, 64) is None


def test_pixels_that_are_not_numbers_are_no_picture() -> None:
    images = torch.zeros(1, 3, 8, 8)
    images[0, 0, 0, 0] = torch.nan
    with pytest.raises(GenerationFailed, match="not numbers"):
        to_pixels(images)
