"""Free words become the portrait model's own, and what they could not say is reported."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.imaging.builtin.adapter import adapt, draw
from backend.imaging.builtin.reading import read
from backend.imaging.builtin.vocabulary import vocabulary
from backend.imaging.checks import PROMPT_LIMIT
from backend.imaging.types import AdaptedPrompt, ImageRequest

IDENTITY = ("hair", "front", "rear", "skin", "beard", "glasses")


def adapted(prompt: str, seed: int = 1, **options: object) -> AdaptedPrompt:
    return adapt(ImageRequest(prompt=prompt, seed=seed, **options))  # type: ignore[arg-type]


PROMPTS = [
    # the model's own words
    ("red hair", "portrait, red hair"),
    ("long-wavy spiky red hair", "portrait, long-wavy spiky red hair"),
    (
        "pale skin, clean-shaven, glasses, winking",
        "portrait, pale skin, clean-shaven, glasses, winking",
    ),
    (
        "wearing green turtleneck, blue background",
        "portrait, wearing green turtleneck, blue background",
    ),
    # also understood
    ("golden hair", "portrait, blonde hair"),
    ("auburn-haired", "portrait, red hair"),
    ("white hair", "portrait, grey hair"),
    ("dark-skinned with dark hair", "portrait, black hair, dark skin"),
    ("a bob", "portrait, neck-length hair"),
    ("bearded, friendly, in a suit", "portrait, full-beard, smiling, wearing jacket"),
    ("gray background", "portrait, grey background"),
    # approximations
    ("navy hoodie", "portrait, wearing blue t-shirt"),
    ("crimson kimono", "portrait, wearing red dress"),
    ("buzz cut and stubble", "portrait, short undercut hair, goatee"),
    ("a redhead with an afro", "portrait, long-wavy spiky red hair"),
    ("strawberry blonde ponytail", "portrait, bun red hair"),
    ("ebony skin", "portrait, dark skin"),
    ("porcelain complexion", "portrait, pale skin"),
    ("grumpy", "portrait, angry"),
    ("on the beach", "portrait, yellow background"),
    ("in a forest", "portrait, green background"),
    ("at night", "portrait, purple background"),
    # a colour belongs to the noun after it
    (
        "red hair, red jacket, blue studio background",
        "portrait, red hair, wearing red jacket, blue background",
    ),
    ("black hair and a yellow leather jacket", "portrait, black hair, wearing yellow jacket"),
    ("charcoal suit, crisp white shirt", "portrait, wearing black jacket"),
    ("denim jacket over a red t-shirt", "portrait, wearing blue jacket"),
    ("a black denim jacket", "portrait, wearing black jacket"),
    ("dark moody background", "portrait, grey background"),
    ("background: deep teal", "portrait, blue background"),
    ("hair as black as night", "portrait, black hair"),
    ("skin the colour of caramel", "portrait, tan skin"),
    ("plain blue background", "portrait, blue background"),
    ("plain background", "portrait, white background"),
    ("against a yellow wall", "portrait, yellow background"),
    ("a blue sky", "portrait, blue background"),
    ("blue eyes, brown hair", "portrait, brown hair"),
    ("a red car and a green coat", "portrait, wearing green jacket"),
    ("black and white shirt", "portrait, wearing black shirt"),
    ("light blue dress", "portrait, wearing blue dress"),
    ("long, wavy, red hair", "portrait, long-wavy red hair"),
    ("long curly hair", "portrait, long-wavy hair"),
    ("long dress", "portrait, wearing dress"),
    ("a short man with long hair", "portrait, long-straight hair"),
    # or to the noun before it
    ("her jacket is green", "portrait, clean-shaven, wearing green jacket"),
    ("hair: black, long, wavy. skin: pale", "portrait, long-wavy black hair, pale skin"),
    ("jacket is red, black hair", "portrait, black hair, wearing red jacket"),
    ("a blonde", "portrait, blonde hair"),
    # denials
    ("no glasses", "portrait"),
    ("without a beard", "portrait, clean-shaven"),
    ("no glasses or beard", "portrait, clean-shaven"),
    ("doesn't wear glasses, happy", "portrait, smiling"),
    ("isn’t smiling", "portrait, angry"),
    ("not sad", "portrait, smiling"),
    ("never without her glasses", "portrait, clean-shaven, glasses"),
    ("no jacket, red shirt", "portrait, wearing red shirt"),
    ("not on the beach", "portrait"),
    ("no hat, with red hair", "portrait, red hair"),
    ("not happy but sad", "portrait, sad"),
    # a word that means a value goes before one that comes near
    ("serious but smiling", "portrait, smiling"),
    ("on the beach, green background", "portrait, green background"),
    ("smiling, laughing", "portrait, smiling"),
    # nothing to go by
    ("Professional portrait of a tech influencer", "portrait"),
    ("wine glasses at happy hour", "portrait"),
    ("素敵な笑顔の女性", "portrait"),
    ("красные волосы", "portrait"),
    ("🙂 🙃", "portrait"),
    ("", "portrait"),
]


@pytest.mark.parametrize(
    ("prompt", "expected"), PROMPTS, ids=[p[:40] or "empty" for p, _ in PROMPTS]
)
def test_words_become_vocabulary(prompt: str, expected: str) -> None:
    assert adapted(prompt).prompt == expected


REPORTS = [
    ("navy hoodie", "approximated", {"navy": "blue", "hoodie": "t-shirt"}),
    ("a ponytail", "approximated", {"ponytail": "bun"}),
    ("gold hair, gold jacket", "approximated", {"gold": "blonde", "gold jacket": "yellow"}),
    ("buzz cut", "approximated", {"buzz cut": "undercut, short"}),
    ("not smiling", "approximated", {"not smiling": "angry"}),
    ("elderly", "approximated", {"elderly": "grey"}),
    ("75-year-old", "approximated", {"75": "grey"}),
    ("red hair, no glasses", "understood", {"hair": "red", "glasses": "none"}),
    ("a bald man on a horse", "ignored", ["bald", "man", "horse"]),
    ("freckled, blue eyes, freckled", "ignored", ["freckled", "blue eyes"]),
    ("28 years old", "ignored", ["28"]),
    ("beach at sunset", "ignored", ["sunset"]),
    ("blue jacket, white shirt", "ignored", ["white shirt"]),
    ("no red jacket", "ignored", ["no red jacket"]),
    ("ZEPPELIN", "ignored", ["zeppelin"]),
    ("the and of with", "ignored", []),
    ("x" * 4_000, "ignored", ["x" * 59 + "…"]),
]


@pytest.mark.parametrize(("prompt", "part", "expected"), REPORTS)
def test_report_says_how_words_were_taken(prompt: str, part: str, expected: object) -> None:
    assert adapted(prompt).report[part] == expected


def test_report_holds_the_prompt_and_the_look() -> None:
    result = adapted("red hair", identity="nova")
    assert result.report["prompt"] == result.prompt
    assert result.report["look"] == result.look


def test_persona_prevails_over_the_prompt_and_says_so() -> None:
    result = adapted("with red hair, laughing", appearance="black hair, tan skin", identity="nova")
    assert " black hair" in result.prompt
    assert "laughing" in result.prompt
    assert result.report["overruled"] == {"red hair": "black"}


def test_drawn_trait_prevails_over_the_prompt_too() -> None:
    settled = adapted("x", identity="nova").look
    other = next(c for c in ("pink", "green") if c != settled["hair"])
    result = adapted(f"{other} hair", identity="nova")
    assert result.look == settled
    assert result.report["overruled"] == {f"{other} hair": settled["hair"]}


def test_look_outranks_every_word() -> None:
    look = {"hair": "grey", "glasses": "glasses"}
    result = adapted("no glasses", appearance="red hair", identity="nova", look=look)
    assert result.look["hair"] == "grey"
    assert "glasses" in result.prompt
    assert result.report["overruled"] == {"red hair": "grey", "no glasses": "glasses"}


def test_unknown_look_is_left_out_and_reported() -> None:
    result = adapted("x", identity="nova", look={"hair": "Purple; DROP", "mood": "blue"})
    assert result.look == adapted("x", identity="nova").look
    assert result.report["ignored"] == ["x", "look hair: purple; drop", "look mood: blue"]


def test_look_settled_once_can_be_passed_back() -> None:
    first = adapted("smiling", identity="nova", appearance="a woman with copper hair")
    again = adapted("sad", identity="other", appearance="bald", look=first.look)
    assert tuple(first.look) == IDENTITY
    assert again.look == first.look


def test_scene_words_of_the_prompt_go_before_those_of_the_appearance() -> None:
    result = adapted("in a blue shirt", identity="nova", appearance="black hair, red jacket")
    assert "wearing blue shirt" in result.prompt
    assert result.report["overruled"] == {"jacket": "shirt", "red jacket": "blue"}


def test_signature_outfit_stays_and_background_follows_the_seed() -> None:
    results = [adapted("x", seed, identity="nova") for seed in range(40)]
    outfits = {r.prompt.split("wearing ")[1].partition(",")[0] for r in results}
    assert len(outfits) == 1
    assert len({r.prompt.rpartition(", ")[2] for r in results}) > 3
    assert all("smiling" in r.prompt for r in results)


def test_traits_do_not_move_with_the_words_of_one_picture() -> None:
    prompts = ("x", "an elderly woman", "he is a man", "no glasses", "not black hair", "red beard")
    assert len({str(adapted(p, identity="nova").look) for p in prompts}) == 1


def test_identities_differ() -> None:
    looks = {str(adapted("x", identity=f"persona-{n}").look) for n in range(200)}
    assert len(looks) > 120


def test_drawn_traits_are_plausible() -> None:
    looks = [adapted("x", identity=f"persona-{n}").look for n in range(1_000)]
    hair = Counter(look["hair"] for look in looks)
    assert set(hair) == {"black", "brown", "blonde", "red", "grey"}
    assert hair["black"] > hair["blonde"] > hair["red"]
    assert {look["beard"] for look in looks} == {"clean-shaven"}
    assert 150 < sum(look["glasses"] == "glasses" for look in looks) < 250
    assert len({look["skin"] for look in looks}) == 4


def test_hints_lean_what_is_drawn() -> None:
    def rear(words: str) -> Counter[str]:
        looks = (adapted("x", identity=f"p{n}", appearance=words).look for n in range(300))
        return Counter(look["rear"] for look in looks)

    assert rear("a man")["short"] > 200
    assert rear("a woman")["short"] < 40
    report = adapted("x", identity="nova", appearance="an elderly man").report
    assert report["approximated"]["elderly"] == "grey"
    assert "man" in report["approximated"]


def test_seed_decides_without_a_persona() -> None:
    assert {adapted("smiling", seed).prompt for seed in range(20)} == {"portrait, smiling"}
    dressed = {adapted("dressed in red", seed).prompt for seed in range(40)}
    assert all(prompt.startswith("portrait, wearing red ") for prompt in dressed)
    assert len(dressed) > 2, "a colour needs a garment, which the seed chooses"


def test_what_is_denied_is_not_drawn() -> None:
    clothes = vocabulary().values["clothes"]
    for options in (
        {"appearance": "no jacket, no dress"},
        {"appearance": "a woman", "negative_prompt": "jacket, ball gown"},
    ):
        prompts = [adapted("x", identity=f"p{n}", **options).prompt for n in range(60)]
        worn = {garment for garment in clothes for p in prompts if f" {garment}," in p}
        assert worn == {"shirt", "t-shirt", "turtleneck"}


def test_negative_prompt_takes_no_trait_from_a_persona() -> None:
    looks = [
        adapted("x", identity="nova", negative_prompt=f"{c} hair").look for c in ("x", "brown")
    ]
    assert looks[0] == looks[1]


def test_draw_ignores_the_hash_seed_of_the_process() -> None:
    script = (
        "from backend.imaging.builtin.adapter import adapt\n"
        "from backend.imaging.types import ImageRequest\n"
        "r = adapt(ImageRequest('beach, zebra, apple', 7, identity='nova', appearance='a woman'))\n"
        "print(r.prompt, dict(r.look), dict(r.report))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "src"},
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(printed) == 1


def test_draw_keeps_to_the_weights() -> None:
    drawn = Counter(draw({"a": 3, "b": 1, "never": 0}, n) for n in range(2_000))
    assert set(drawn) == {"a", "b"}
    assert 2.5 < drawn["a"] / drawn["b"] < 3.6


HOSTILE = [
    "a" * 4_000,
    "red " * 1_000,
    "red, " * 800,
    "long wavy " * 400,
    "no " * 1_333,
    "," * 4_000,
    "hair " * 800,
    "-" * 4_000,
    "'" * 4_000,
    "1." * 2_000,
    "salt and pepper and " * 200,
    "\u202e\u0301" * 2_000,
    "<lora:red hair:1>" * 235,
    "漢" * 4_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_read_in_linear_time(text: str) -> None:
    started = time.perf_counter()
    result = adapted(text[:PROMPT_LIMIT], appearance=text[:PROMPT_LIMIT])
    assert time.perf_counter() - started < 0.5
    assert_only_vocabulary(result)


def test_ordinary_prompt_takes_less_than_2_ms() -> None:
    prompt = (
        "a woman with long curly red hair and blue eyes, wearing a navy hoodie, on a beach, " * 4
    )[:300]
    adapted(prompt)
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        adapted(prompt)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.002


def assert_only_vocabulary(result: AdaptedPrompt) -> None:
    words = {word for values in vocabulary().values.values() for word in values}
    words |= {"portrait", "hair", "skin", "wearing", "background"}
    assert set(result.prompt.replace(",", "").split()) <= words
    ignored = result.report["ignored"]
    assert len(ignored) == len(set(ignored))
    assert ignored == [word.lower() for word in ignored]


PIECES = st.sampled_from(
    [" ".join(words) for words in vocabulary().entries]
    + sorted(vocabulary().stop)
    + [",", ".", "—"]
)
TEXTS = st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=20).map(" ".join))


@settings(max_examples=300, deadline=None)
@given(prompt=TEXTS, appearance=TEXTS, identity=st.text(max_size=20), seed=st.integers(0, 2**53))
def test_any_text_gives_vocabulary_only(
    prompt: str, appearance: str, identity: str, seed: int
) -> None:
    request = ImageRequest(prompt, seed, appearance=appearance, identity=identity)
    result = adapt(request)
    assert_only_vocabulary(result)
    assert adapt(request) == result
    if identity.strip() or appearance.strip():
        assert tuple(result.look) == IDENTITY
        assert adapt(ImageRequest("x", seed, identity="b", look=result.look)).look == result.look


def test_every_phrase_of_the_vocabulary_is_read_as_a_whole() -> None:
    unread = [
        " ".join(words)
        for words, entry in vocabulary().entries.items()
        if entry.sets and not entry.adjective and not read(" ".join(words)).findings
    ]
    assert unread == []


def test_vocabulary_names_only_values_of_the_model() -> None:
    values = vocabulary().values
    wrong = [
        (words, attribute, value)
        for words, entry in vocabulary().entries.items()
        for attribute, value in [
            *((a, v) for a, v, _ in entry.sets),
            *((role, value) for role, (value, _) in entry.roles.items()),
        ]
        if value not in values[attribute]
    ]
    assert wrong == []
    for attribute, weights in vocabulary().weights.items():
        assert set(weights) <= set(values[attribute])
    for hint in vocabulary().hints.values():
        for attribute, weights in hint.weights.items():
            assert set(weights) <= set(values[attribute])
        assert all(value in values[attribute] for attribute, value in hint.sets.items())
