"""A locked appearance is read into facts, and a caption that denies them is found."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.captions.appearance import Appearance, contradictions, read_appearance
from backend.captions.appearance_words import locales, wording
from backend.captions.words import PACKS

DATA: dict[str, Any] = tomllib.loads(
    Path(__file__).parent.parent.joinpath("fixtures/captions/appearance.toml").read_text("utf-8")
)
STYLES = {"creative", "casual", "professional", "tech"}
BLACK_HAIRED = "a woman with long black hair, green eyes, a red scarf, no beard"


def _captions(name: str) -> list[Any]:
    return [
        pytest.param(one["locked"], caption, one["locale"], id=f"{caption} / {one['locked'][:20]}")
        for one in DATA["persona"]
        for caption in one[name]
    ]


@pytest.mark.parametrize("case", DATA["description"], ids=lambda case: case["text"])
def test_a_description_says_what_stands_in_it(case: dict[str, Any]) -> None:
    appearance = read_appearance(case["text"], case["locale"])

    assert list(appearance.phrases) == case["phrases"]
    denied = [fact.kind for fact in appearance.facts if fact.denied]
    assert denied == case.get("denied", [])


@pytest.mark.parametrize(("locked", "caption", "locale"), _captions("against"))
def test_a_statement_against_the_facts_is_found(locked: str, caption: str, locale: str) -> None:
    assert contradictions(caption, read_appearance(locked, locale), locale)


@pytest.mark.parametrize(("locked", "caption", "locale"), _captions("fine"))
def test_what_is_no_statement_against_the_facts_passes(
    locked: str, caption: str, locale: str
) -> None:
    assert contradictions(caption, read_appearance(locked, locale), locale) == ()


@pytest.mark.parametrize("case", DATA["description"], ids=lambda case: case["text"])
def test_no_description_contradicts_its_own_phrases(case: dict[str, Any]) -> None:
    appearance = read_appearance(case["text"], case["locale"])
    mine = {"en": "Me and my {}. I have {}.", "de": "Ich habe {}. Mein Markenzeichen: {}."}

    for phrase in appearance.phrases:
        caption = mine[case["locale"]].format(phrase, phrase)
        assert contradictions(caption, appearance, case["locale"]) == ()


def test_a_contradiction_names_both_sides() -> None:
    found = contradictions("My blonde hair again.", read_appearance(BLACK_HAIRED))

    assert found == ("“blonde hair”, but locked is “long black hair”",)


def test_a_description_in_another_language_is_held_but_not_said() -> None:
    appearance = read_appearance(BLACK_HAIRED, "de")

    assert appearance.facts
    assert appearance.phrases == ()
    assert contradictions("Meine blonden Haare!", appearance, "de")


def test_a_locale_without_words_reads_english() -> None:
    assert read_appearance("long black hair", "xx").phrases == ("long black hair",)


def _texts(data: object) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, list | dict):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _texts(value)


@pytest.mark.parametrize("locale", locales())
def test_no_shipped_phrase_contradicts_a_look(locale: str) -> None:
    looks = [read_appearance(one["locked"], one["locale"]) for one in DATA["persona"]]
    packs = [path for path in (PACKS / locale).glob("*.toml") if path.stem in STYLES]
    assert packs

    for path in packs:
        for text in _texts(tomllib.loads(path.read_text("utf-8"))):
            for look in looks:
                phrase = next(iter(look.phrases))
                caption = text.replace("{look}", phrase)
                assert contradictions(caption, look, locale) == (), caption


def test_without_facts_nothing_contradicts() -> None:
    assert contradictions("My blonde hair, my beard, my blue eyes", Appearance()) == ()


def test_an_appearance_can_be_a_key() -> None:
    assert {read_appearance(BLACK_HAIRED): 1}[read_appearance(BLACK_HAIRED)] == 1


@pytest.mark.parametrize("locale", locales())
def test_the_word_lists_name_only_known_slots_and_families(locale: str) -> None:
    english, other = wording("en"), wording(locale)
    slots = {noun.slot for noun in english.nouns.values()}
    families = {
        trait for found in english.modifiers.values() for one in found for trait in one.traits
    }

    assert {noun.slot for noun in other.nouns.values()} <= slots
    for word, found in other.modifiers.items():
        assert {trait for one in found for trait in one.traits} <= families, word
        assert {slot for one in found for slot in one.slots} <= slots, word
    assert other.lists.keys() == english.lists.keys()
    assert other.self.keys() == english.self.keys()


_SNIPPETS = st.sampled_from(
    [*"“”\"'’»«,.:;?!-–/&#\n\u200d😀", "my ", "blonde hair ", "no ", "is ", "very ", "eyes", "or "]
)


@settings(
    max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    st.one_of(st.text(max_size=200), st.lists(_SNIPPETS).map("".join)),
    st.sampled_from(["en", "de"]),
)
def test_no_text_makes_the_reading_raise(text: str, locale: str) -> None:
    appearance = read_appearance(text, locale)

    for fact in appearance.facts:
        assert fact.phrase == "" or not fact.denied
    assert isinstance(contradictions(text, appearance, locale), tuple)
    assert isinstance(contradictions(text, read_appearance(BLACK_HAIRED), locale), tuple)


@pytest.mark.parametrize(
    "part",
    ["my blonde hair ", "black, ", "'", "“", "no ", "a", "hair: black, ", "very ", '"a', "»«"],
)
def test_a_hundred_kilobytes_take_bounded_time(part: str) -> None:
    text = (part * 100_000)[:100_000]
    appearance = read_appearance(BLACK_HAIRED)
    started = time.perf_counter()

    read_appearance(text)
    contradictions(text, appearance)

    assert time.perf_counter() - started < 10


@pytest.mark.parametrize(
    "word", ["surrogate \ud800", "İstanbul", "ß" * 50, "\u0000", "hair \ud83d"]
)
def test_odd_signs_are_read_like_any_other(word: str) -> None:
    assert read_appearance(f"green eyes, {word}").phrases[0] == "green eyes"
