"""Illustrated avatars are drawn for real: by word, by persona, by seed, at any size."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from dicebear import OptionsDescriptor
from PIL import Image

from backend.errors import ModelNotAvailable, UnsupportedTask
from backend.imaging.builtin.adapter import adapt
from backend.imaging.builtin.cards import CREDITS, WEIGHTS, cards
from backend.imaging.builtin.illustrated import build
from backend.imaging.builtin.styles import style_book
from backend.imaging.builtin.vocabulary import vocabulary
from backend.imaging.selection import choose_model
from backend.imaging.types import EngineContext, GeneratedImage, ImageRequest, ModelCard
from tests.fixtures.rendering import rendered

CARDS = {card.name: card for card in cards()}
STYLED = [card for card in CARDS.values() if card.kind == "illustrated"]
ENGINE = build(EngineContext(device_id=3, device="cpu:3", torch_device="cpu"))
SMALL = {"width": 64, "height": 64}


def drawn(
    prompt: str, seed: int = 1, card: str = "illustrated", **options: object
) -> GeneratedImage:
    request = ImageRequest(prompt=prompt, seed=seed, **{**SMALL, **options})  # type: ignore[arg-type]
    return rendered(ENGINE, request, CARDS[card])


def pixels(image: GeneratedImage) -> Image.Image:
    opened = Image.open(io.BytesIO(image.image_data))
    assert opened.format == "PNG"
    return opened.convert("RGB")


def digest(image: GeneratedImage) -> str:
    return hashlib.sha256(image.image_data).hexdigest()


def test_cards() -> None:
    portrait = CARDS["portrait"]
    assert portrait.source == str(WEIGHTS)
    assert (portrait.width, portrait.height, portrait.fixed_size) == (128, 128, True)
    assert (portrait.num_inference_steps, portrait.guidance_scale) == (8, 1.5)
    assert portrait.family == "StableDiffusionPipeline"
    assert portrait.prompt_adapter == "backend.imaging.builtin.adapter:adapt"
    assert "Johan Melin" in portrait.credit
    assert "CC BY 4.0" in portrait.credit
    illustrated = CARDS["illustrated"]
    assert illustrated.loaded
    assert (illustrated.width, illustrated.height, illustrated.max_side) == (512, 512, 1024)
    assert len(STYLED) >= 3


@pytest.mark.parametrize("style", CREDITS)
def test_credit_agrees_with_the_style(style: str) -> None:
    meta = style_book(style).style.meta()
    licence = meta.license().name()
    assert licence in {"CC BY 4.0", "CC0 1.0"}
    assert licence in CREDITS[style]
    assert meta.creator().name() in CREDITS[style]
    assert meta.source().url() in CREDITS[style] or licence == "CC0 1.0"


def test_picture_and_what_is_told_of_it() -> None:
    image = drawn("a smiling woman with long red hair, zebra", seed=9, width=96, height=80)
    assert pixels(image).size == (96, 80)
    assert (image.width, image.height, image.format) == (96, 80, "png")
    assert (image.kind, image.provider, image.model) == ("illustrated", "local", "illustrated")
    assert image.seed == 9
    assert set(image.seconds) == {"render"}
    assert image.receipt["engine"] == "dicebear"
    assert image.receipt["style"] == "toon-head"
    assert set(image.receipt["versions"]) == {"dicebear-core", "dicebear-styles", "resvg-py"}
    assert "Johan Melin" in image.receipt["credit"]
    assert image.prompt_report["understood"]["hair"] == "red"
    assert image.prompt_report["ignored"] == ["zebra"]
    assert image.prompt_report["look"]["rear"] == "long-straight"
    json.dumps([image.receipt, image.prompt_report, image.seconds])


@pytest.mark.parametrize("card", STYLED, ids=lambda card: card.name)
def test_equal_requests_give_equal_bytes(card: ModelCard) -> None:
    request = ImageRequest("winking in a forest", 5, identity="nova", **SMALL)
    assert digest(rendered(ENGINE, request, card)) == digest(rendered(ENGINE, request, card))


def test_bytes_are_the_same_in_another_process_without_torch() -> None:
    script = (
        "import hashlib, sys\n"
        "from backend.imaging.builtin.cards import cards\n"
        "from backend.imaging.builtin.illustrated import build\n"
        "from backend.imaging.types import EngineContext, ImageRequest\n"
        "card = next(c for c in cards() if c.name == 'illustrated')\n"
        "r = ImageRequest('beach, zebra', 7, identity='nova', width=64, height=64)\n"
        "from tests.fixtures.rendering import rendered\n"
        "image = rendered(build(EngineContext(0, 'cpu:0', 'cpu')), r, card)\n"
        "loaded = {'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)\n"
        "print(hashlib.sha256(image.image_data).hexdigest(), sorted(loaded))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": "src:."}
    printed = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment
    ).stdout
    assert printed.split() == [digest(drawn("beach, zebra", 7, identity="nova")), "[]"]


def test_personas_differ_and_stay_themselves() -> None:
    looks = [drawn("x", identity=f"persona-{n}") for n in range(20)]
    assert len({digest(image) for image in looks}) == 20
    again = [drawn("laughing in a red dress", seed, identity="nova") for seed in range(5)]
    assert len({str(image.prompt_report["look"]) for image in again}) == 1


def test_traits_are_those_of_the_portrait_model() -> None:
    request = ImageRequest(
        "sad", 4, identity="nova", appearance="a woman with copper curls", **SMALL
    )
    image = rendered(ENGINE, request, CARDS["illustrated"])
    assert image.prompt_report["look"] == adapt(request).look
    assert image.prompt_report["prompt"] == adapt(request).prompt


def test_look_of_an_approved_base_image_is_kept() -> None:
    base = drawn("x", identity="nova").prompt_report["look"]
    image = drawn("with green hair", identity="other", appearance="red hair", look=base)
    assert image.prompt_report["look"] == base
    assert image.prompt_report["overruled"] == {
        "green hair": base["hair"],
        "red hair": base["hair"],
    }


def test_seed_varies_what_is_not_said() -> None:
    assert len({digest(drawn("x", seed)) for seed in range(12)}) == 12
    backgrounds = {pixels(drawn("x", s, identity="nova")).getpixel((0, 0)) for s in range(30)}
    assert len(backgrounds) > 3


SIZES = [(16, 16), (100, 37), (37, 100), (512, 512), (512, 768), (1024, 1024)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_up_to_1024(size: tuple[int, int]) -> None:
    image = pixels(drawn("red background", 1, width=size[0], height=size[1]))
    assert image.size == size
    assert image.getpixel((0, 0)) == (0xF7, 0xB9, 0xCF), "red is nearest to pink"


def test_default_size_is_the_card_s() -> None:
    image = drawn("x", width=None, height=None)
    assert pixels(image).size == (512, 512)


def test_avatar_is_centred() -> None:
    image = pixels(drawn("white background, black hair", width=200, height=100))
    ground = image.getpixel((0, 0))
    drawn_at = [x for x in range(200) if any(image.getpixel((x, y)) != ground for y in range(100))]
    assert min(drawn_at) > 50
    assert max(drawn_at) < 150


def test_bigger_sizes_are_refused() -> None:
    request = ImageRequest("x", 1, width=1025, height=512, model="illustrated")
    with pytest.raises(UnsupportedTask):
        choose_model(request, cards())
    with pytest.raises(UnsupportedTask):
        rendered(ENGINE, request, CARDS["illustrated"])


def test_unknown_style_is_refused() -> None:
    with pytest.raises(ModelNotAvailable):
        rendered(ENGINE, ImageRequest("x", 1), replace(CARDS["illustrated"], source="../secrets"))


OPTIONS = [
    ("illustrated", "spiky red hair", {"hairVariant": ["spiky"], "hairColor": ["b5391f"]}),
    (
        "illustrated",
        "long wavy hair",
        {"rearHairVariant": ["longWavy"], "rearHairProbability": 100},
    ),
    ("illustrated", "no beard, short hair", {"beardProbability": 0, "rearHairProbability": 0}),
    ("illustrated", "full beard", {"beardVariant": ["fullBeard"], "beardProbability": 100}),
    ("illustrated", "crying", {"mouthVariant": ["sad"], "eyebrowsVariant": ["sad"]}),
    (
        "illustrated",
        "a navy blazer",
        {"clothesVariant": ["openJacket"], "clothesColor": ["1e55c0"]},
    ),
    ("illustrated-micah", "bald", {"hairVariant": ["mrClean"]}),
    ("illustrated-micah", "wearing a turban", {"hairVariant": ["turban"]}),
    (
        "illustrated-micah",
        "hoop earrings",
        {"earringsVariant": ["hoop"], "earringsProbability": 100},
    ),
    (
        "illustrated-micah",
        "round glasses",
        {"glassesVariant": ["round"], "glassesProbability": 100},
    ),
    ("illustrated-voxel-art", "in a hoodie", {"outfitVariant": ["hoodie"]}),
    ("illustrated-voxel-art", "twin tails", {"topVariant": ["twinTails"]}),
    ("illustrated-voxel-art", "a beanie", {"topVariant": ["beanie"]}),
    ("illustrated-voxel-art", "freckles", {"cheeksVariant": ["freckles"]}),
    ("illustrated-voxel-art", "anything", {"animationVariant": ["none"]}),
]


@pytest.mark.parametrize(("card", "prompt", "expected"), OPTIONS)
def test_words_choose_parts(card: str, prompt: str, expected: dict[str, object]) -> None:
    image = drawn(prompt, card=card)
    options = image.receipt["options"]
    assert {name: options.get(name) for name in expected} == expected
    assert image.prompt_report["ignored"] in ([], ["anything"])


def test_denied_parts_are_not_drawn() -> None:
    options = drawn("no beanie, no twin tails", card="illustrated-voxel-art").receipt["options"]
    assert not {"beanie", "twinTails"} >= set(options["topVariant"])


def test_plain_words_name_no_part_by_themselves() -> None:
    report = drawn("a tall round cat", card="illustrated-voxel-art").prompt_report
    assert report["named"] == []
    assert report["ignored"] == ["tall", "round", "cat"]


def test_prompt_changes_no_part_of_a_persona() -> None:
    def top(prompt: str, words: str) -> list[str]:
        image = drawn(prompt, card="illustrated-voxel-art", identity="nova", appearance=words)
        return image.receipt["options"]["topVariant"]

    assert top("x", "mohawk") == top("with braids, a beanie", "mohawk") == ["mohawk"]


def test_what_a_style_cannot_show_is_ignored_aloud() -> None:
    report = drawn("moustache, red dress", card="illustrated-micah").prompt_report
    assert report["ignored"] == ["moustache", "dress"]
    assert report["understood"] == {"clothes_colour": "red"}


def test_seed_draws_nothing_that_is_not_wanted() -> None:
    worn = {
        drawn("x", seed, negative_prompt="dress, jacket").receipt["attributes"]["clothes"]
        for seed in range(30)
    }
    assert worn == {"shirt", "t-shirt", "turtleneck"}


def test_glasses_show() -> None:
    without, with_them = drawn("smiling", identity="a"), drawn("x", look={"glasses": "glasses"})
    assert with_them.prompt_report["look"]["glasses"] == "glasses"
    assert digest(without) != digest(with_them)
    plain = drawn("red hair, smiling", 3, width=256, height=256)
    worn = drawn("red hair, smiling, glasses", 3, width=256, height=256)
    assert digest(plain) != digest(worn)


HOSTILE = ["</svg><script>", "&amp;<!ENTITY x SYSTEM 'file:///etc/passwd'>", "漢字", "x" * 4_000]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_text_reaches_no_markup(text: str) -> None:
    image = drawn(text, identity=text[:100], appearance=text)
    assert pixels(image).size == (64, 64)
    assert text not in json.dumps(image.receipt, ensure_ascii=False)


@pytest.mark.parametrize("card", STYLED, ids=lambda card: card.name)
def test_styles_name_only_options_that_exist(card: ModelCard) -> None:
    book = style_book(card.source)
    known = OptionsDescriptor(book.style).to_json()
    for attribute, values in vocabulary().values.items():
        for value in values:
            options = book.choose({attribute: value}, "", "", persona=False).options
            for name, chosen in options.items():
                assert name in known
                if name.endswith("Variant"):
                    assert set(chosen) <= set(known[name]["values"])
    for component in [*book.table["named"].split(", "), *book.table["traits"].split(", ")]:
        assert component in book.variants or not component


def test_drawing_512_pixels_is_quick() -> None:
    drawn("x", width=512, height=512)
    seconds = []
    for seed in range(6):
        started = time.process_time()  # a busy machine does not count
        drawn("a woman with long red hair and glasses", seed, width=512, height=512)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.15
