"""LoRAs on real tiny pipelines: weights, order, damaged files, real workers and whole batches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from backend.bootstrap import LOCAL_OWNER, open_studio
from backend.config import Settings
from backend.errors import (
    InvalidRequest,
    ModelLoadFailed,
    ModelNotAvailable,
    UnsupportedTask,
)
from backend.imaging.builtin.cards import cards
from backend.imaging.catalog import discover, find_adapter, with_adapter_dirs
from backend.imaging.diffusion import adapters
from backend.imaging.diffusion.engine import DiffusionEngine, build
from backend.imaging.selection import choose_model
from backend.imaging.types import EngineContext, GeneratedImage, ImageRequest, ModelCard
from backend.models.persona import PersonaCreate
from backend.services.ai_models import AIModelManager
from tests.fixtures import tiny_adapters, tiny_models
from tests.fixtures.batches import run
from tests.fixtures.rendering import rendered

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:diffusers.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers.*"),
]

ILLUSTRATED = next(card for card in cards() if card.name == "illustrated")
SMALL = {"width": 64, "height": 64, "num_inference_steps": 2}
ATTENTION = (
    "unet.down_blocks.{block}.attentions.0.transformer_blocks.0.attn1.to_q.lora_{part}.weight"
)

Draw = Callable[..., GeneratedImage]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder: one Stable Diffusion model, and three LoRAs for every model."""
    root = tmp_path_factory.mktemp("models")
    model = tiny_models.save_stable_diffusion(root / "tiny")
    tiny_adapters.save_lora(model, root / "loras" / "film.safetensors", seed=1)
    tiny_adapters.save_lora(model, root / "loras" / "ink & wash.safetensors", seed=2)
    tiny_adapters.save_lora(model, root / "loras" / "words.safetensors", seed=3, text_encoder=True)
    return root


@pytest.fixture(scope="module")
def card(root: Path) -> ModelCard:
    return with_adapter_dirs(discover([root], []), [root])[0]


def fresh(device_id: int = 0) -> DiffusionEngine:
    return build(EngineContext(device_id, f"cpu:{device_id}", "cpu", cpu_threads=1))


def drawing(engine: DiffusionEngine, card: ModelCard) -> Draw:
    def draw(*names: tuple[str, float], **options: Any) -> GeneratedImage:
        request = ImageRequest.from_call("a", {"seed": 1, "adapters": names, **SMALL, **options})
        return rendered(engine, request, card)

    return draw


@pytest.fixture(scope="module")
def draw(card: ModelCard) -> Draw:
    return drawing(fresh(), card)


@pytest.fixture(scope="module")
def plain(card: ModelCard) -> bytes:
    """What an engine draws that never heard of an adapter."""
    return drawing(fresh(1), card)().image_data


def test_pixels_follow_the_weight(draw: Draw, plain: bytes) -> None:
    whole, half, against = (draw(("film", weight)).image_data for weight in (1.0, 0.5, -1.0))
    assert len({whole, half, against, plain}) == 4
    assert draw(("film", 1.0)).image_data == whole


def test_without_or_at_weight_zero_it_is_the_base_to_the_byte(draw: Draw, plain: bytes) -> None:
    draw(("film", 1.0), ("words", 1.0))
    assert draw().image_data == plain
    assert draw(("film", 0.0)).image_data == plain
    assert draw(("film", 0)).receipt["adapters"][0]["weight"] == 0


def test_the_order_of_requests_and_of_adapters_does_not_matter(
    draw: Draw, card: ModelCard, plain: bytes
) -> None:
    asked: list[list[tuple[str, float]]] = [
        [("film", 1.0)],
        [("words", 0.7)],
        [],
        [("film", 0.4), ("words", 1.0)],
        [("ink & wash", 1.0)],
        [("words", 1.0), ("film", 0.4)],
    ]
    forwards = [draw(*names).image_data for names in asked]
    other = drawing(fresh(2), card)
    backwards = [other(*names).image_data for names in reversed(asked)]
    assert forwards == backwards[::-1]
    assert forwards[3] == forwards[5]
    assert forwards[2] == plain
    assert len(set(forwards)) == 5


def test_the_receipt_names_the_file_by_its_hash(draw: Draw, root: Path) -> None:
    made = draw(("words", 0.7), ("film", 1.0))
    receipt = json.loads(json.dumps(dict(made.receipt)))
    assert receipt["adapters"] == [
        {"name": name, "weight": weight, "sha256": digest_of(root, name)}
        for name, weight in (("words", 0.7), ("film", 1.0))
    ]
    assert receipt["model_fingerprint"] == draw().receipt["model_fingerprint"]
    assert "adapters" not in draw().receipt


def digest_of(root: Path, name: str) -> str:
    return sha256((root / "loras" / f"{name}.safetensors").read_bytes()).hexdigest()


def test_a_reference_is_drawn_with_the_adapters_too(draw: Draw) -> None:
    reference = draw().image_data
    without, with_film = (
        draw(*names, reference=reference, num_inference_steps=4) for names in ([], [("film", 1.0)])
    )
    assert without.image_data != with_film.image_data
    assert with_film.receipt["adapters"][0]["name"] == "film"
    again = draw(reference=reference, num_inference_steps=4)
    assert again.image_data == without.image_data


def test_an_ip_adapter_and_a_lora_get_along(root: Path, tmp_path: Path) -> None:
    model = tiny_models.save_stable_diffusion(tmp_path / "both")
    tiny_adapters.save_ip_adapter(model)
    [both] = with_adapter_dirs(discover([model], []), [root])
    draw, other = drawing(fresh(), both), drawing(fresh(), both)
    plain = draw().image_data
    started = draw(reference=plain).image_data
    film = draw(("film", 1.0)).image_data
    together = draw(("film", 1.0), reference=plain).image_data
    assert len({plain, started, film, together}) == 4
    assert other(("film", 1.0), reference=plain).image_data == together
    assert other(("film", 1.0)).image_data == film
    assert other(reference=plain).image_data == started
    assert (draw().image_data, other().image_data) == (plain, plain)


@pytest.mark.parametrize("save", [tiny_models.save_stable_diffusion_xl, tiny_models.save_flux])
def test_other_families_take_adapters_too(tmp_path: Path, save: Callable[[Path], Path]) -> None:
    folder = save(tmp_path / "mine")
    tiny_adapters.save_lora(folder, folder / "loras" / "film.safetensors")
    draw = drawing(fresh(), discover([folder], [])[0])
    plain, film, after = draw(), draw(("film", 1.0)), draw()
    assert plain.image_data == after.image_data != film.image_data


def test_a_models_own_adapter_goes_before_a_shared_one(
    card: ModelCard, root: Path, draw: Draw, tmp_path: Path
) -> None:
    own = tmp_path / "own" / "loras"
    own.mkdir(parents=True)
    shutil.copy(root / "loras" / "ink & wash.safetensors", own / "film.safetensors")
    mine = replace(card, adapter_dirs=(str(own), *card.adapter_dirs))
    made = drawing(fresh(), mine)(("film", 1.0))
    assert made.receipt["adapters"][0]["sha256"] == digest_of(root, "ink & wash")
    assert made.image_data == draw(("ink & wash", 1.0)).image_data
    tiny = discover([root], [])[0]
    assert tiny.adapter_dirs == (str(root / "tiny" / "loras"),)


def test_a_file_that_is_exchanged_is_another_adapter(card: ModelCard, root: Path) -> None:
    file = root / "loras" / "changing.safetensors"
    shutil.copy(root / "loras" / "film.safetensors", file)
    draw = drawing(fresh(), card)
    first = draw(("changing", 1.0)).image_data
    shutil.copy(root / "loras" / "ink & wash.safetensors", file)
    assert draw(("changing", 1.0)).image_data == draw(("ink & wash", 1.0)).image_data != first


def test_only_so_many_stay_loaded(
    card: ModelCard, plain: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "MAX_KEPT", 1)
    engine = fresh()
    draw = drawing(engine, card)
    film = draw(("film", 1.0)).image_data
    weight = kept(engine).weights_bytes
    assert weight > 0
    both = draw(("words", 1.0), ("film", 1.0)).image_data
    assert len(kept(engine).adapters) == 2
    draw(("ink & wash", 1.0))
    assert len(kept(engine).adapters) == 1
    assert draw(("film", 1.0)).image_data == film
    assert draw(("film", 1.0), ("words", 1.0)).image_data == both
    assert draw().image_data == plain


def kept(engine: DiffusionEngine) -> Any:
    [resident] = engine._residency.residents.values()
    return resident


# What cannot be loaded


def pair(block: int, width: int = 16) -> dict[str, torch.Tensor]:
    return {
        ATTENTION.format(block=block, part="A"): torch.ones(2, width),
        ATTENTION.format(block=block, part="B"): torch.ones(16, 2),
    }


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"junk", "Unable to load weights"),
        (b"", "Unable to load weights"),
        ({"weights": torch.ones(2)}, "Invalid LoRA checkpoint"),
        (pair(1, width=99), "size mismatch"),
        (pair(7), "layers|not found"),
        ({**pair(1), **pair(7)}, "fits 1 of 2 layers"),
        (
            {
                "transformer.x.to_q.lora_A.weight": torch.ones(2, 16),
                "transformer.x.to_q.lora_B.weight": torch.ones(16, 2),
            },
            "fits 0 of 1 layers",
        ),
    ],
)
def test_what_does_not_fit_fails_alone(
    draw: Draw, plain: bytes, root: Path, content: Any, why: str
) -> None:
    file = root / "loras" / "bad.safetensors"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        save_file(content, file)
    film = draw(("film", 1.0)).image_data
    for names in ([("bad", 1.0)], [("film", 1.0), ("bad", 1.0)]):
        with pytest.raises(ModelLoadFailed, match=why) as caught:
            draw(*names)
        assert "'bad'" in caught.value.message
        assert "'tiny'" in caught.value.message
        assert draw().image_data == plain
        assert draw(("film", 1.0)).image_data == film


def test_an_adapter_for_another_family_is_refused(draw: Draw, plain: bytes, root: Path) -> None:
    model = tiny_models.save_stable_diffusion_xl(root.parent / "other-xl")
    tiny_adapters.save_lora(model, root / "loras" / "for-xl.safetensors")
    with pytest.raises(ModelLoadFailed, match="'for-xl' did not load"):
        draw(("for-xl", 1.0))
    assert draw().image_data == plain


@pytest.mark.parametrize(
    "name",
    ["../tiny/unet/diffusion_pytorch_model", "/etc/passwd", "..", ".", "a/b", "a\\b", "C:x", "",
     ".hidden", "a..b", "nul\0", "x" * 300, "\ud800", 7, None],
)  # fmt: skip
def test_a_name_is_never_a_path(card: ModelCard, name: Any) -> None:
    with pytest.raises(InvalidRequest, match="is not a name of a file in a folder"):
        ImageRequest.from_call("a", {"adapters": [(name, 1.0)]})
    if isinstance(name, str):
        assert find_adapter(name, card) is None
        with pytest.raises(ModelNotAvailable):
            rendered(fresh(), ImageRequest("a", 1, adapters=((name, 1.0),)), card)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("film", "must be a list of names with weights"),
        ([("film",)], "must be a list of names with weights"),
        (["film"], "must be a list of names with weights"),
        ([("film", "1")], "weight '1' must be from -2 to 2"),
        ([("film", 2.5)], "weight 2.5 must be"),
        ([("film", float("nan"))], "weight nan must be"),
        ([("film", True)], "weight True must be"),
        ([("film", 1), ("film", 1)], "names one twice"),
        ([(f"a{n}", 1) for n in range(9)], "has 9 entries; at most 8"),
    ],
)
def test_faulty_adapters_are_named(given: Any, why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ImageRequest.from_call("a", {"adapters": given})
    assert f"adapters: {why}" in caught.value.message


def test_personas_form_is_taken() -> None:
    asked = ImageRequest.from_call("a", {"adapters": [{"name": "film", "weight": 0.5}, ["ink", 1]]})
    assert asked.adapters == (("film", 0.5), ("ink", 1))


def test_an_unknown_adapter_is_refused_beforehand(card: ModelCard, root: Path) -> None:
    asked = ImageRequest.from_call("a", {"adapters": [("nobody", 1.0), ("film", 1.0)], **SMALL})
    with pytest.raises(ModelNotAvailable) as caught:
        choose_model(asked, [card, ILLUSTRATED])
    assert f"nobody.safetensors in {root / 'tiny' / 'loras'}, {root / 'loras'}" in str(caught.value)
    assert caught.value.details["missing"] == ["nobody"]
    known = replace(asked, adapters=(("film", 1.0),))
    assert choose_model(known, [ILLUSTRATED, card]) is card
    with pytest.raises(UnsupportedTask, match=r"takes no model adapters.*that can: tiny\."):
        choose_model(replace(known, model="illustrated"), [ILLUSTRATED, card])
    lonely = replace(card, adapter_dirs=())
    with pytest.raises(ModelNotAvailable, match="set GATOR_MODEL_DIRS to one with loras/"):
        choose_model(known, [lonely])


# Workers and the studio


async def test_slots_and_neighbours_do_not_matter(root: Path) -> None:
    made = []
    for devices in ("cpu:1", "cpu:2"):
        async with AIModelManager(Settings(devices=devices, model_dirs=(root,))) as manager:
            options = {"seed": 4, "model": "tiny", **SMALL}
            plain = await manager.generate_images_batch(["a", "b"], **options)
            film = await manager.generate_images_batch(
                ["a", "b"], adapters=[("film", 1.0)], **options
            )
            after = await manager.generate_images_batch(["a", "b"], **options)
        results = [*plain, *film, *after]
        assert [result["status"] for result in results] == ["completed"] * 6, results
        made.append([result["image_data"] for result in results])
    assert made[0] == made[1]
    assert made[0][:2] == made[0][4:] != made[0][2:4]


async def test_a_personas_pictures_are_made_with_its_adapters(root: Path, tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, devices="cpu:1", model_dirs=(root,), image_model="tiny", self_approval="yes"
    )
    words = {"name": "Mira", "appearance": "red hair", "personality": "warm"}
    adapter = {"name": "film", "weight": 0.5}
    async with open_studio(settings) as studio:
        made = {}
        for name, own in (("Mira", [adapter]), ("Nora", None)):
            values = {**words, "name": name, "model_adapters": own}
            persona = await studio.personas.create(PersonaCreate.model_validate(values))
            seeded = await studio.base_images.seed_local(
                persona.id, actor=LOCAL_OWNER, seed=1, **SMALL
            )
            made[name] = seeded.versions[0]
            await studio.base_images.approve(persona.id, 1, actor=LOCAL_OWNER)
        film = [{**adapter, "sha256": digest_of(root, "film")}]
        assert made["Mira"].receipt["adapters"] == film
        assert "adapters" not in made["Nora"].receipt
        assert made["Mira"].sha256 != made["Nora"].sha256

        batch = await studio.batches.create("Mira", ["a", "b"], seed=1, captions=False, **SMALL)
        done = await run(studio, batch.batch.id)
        contents = [await studio.contents.get(str(item.content_id)) for item in done.items]
        assert [content.receipt["adapters"] for content in contents] == [film, film]

        hidden = (root / "loras" / "film.safetensors").rename(root / "film.safetensors")
        try:
            with pytest.raises(ModelNotAvailable, match=r"looked for film\.safetensors"):
                await studio.batches.create("Mira", ["a"], **SMALL)
            assert await studio.batches.create("Nora", ["a"], **SMALL)
        finally:
            hidden.rename(root / "loras" / "film.safetensors")
        with pytest.raises(UnsupportedTask, match="takes no model adapters"):
            await studio.batches.create("Mira", ["a"], model="illustrated")


def test_a_folder_may_hold_adapters_alone(tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    assert discover([tmp_path], []) == ()
    portrait = with_adapter_dirs(cards(), [tmp_path])[0]
    assert portrait.adapter_dirs == (str(tmp_path / "loras"),)
