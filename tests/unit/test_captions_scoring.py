"""Style and modifiers come from whole words that are not denied; what counted can be seen."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from backend.captions.scoring import modifiers_of, score_styles, score_voice, styles_in
from backend.captions.voice import Voice, read_locale, read_voice

CASES = tomllib.loads(
    (Path(__file__).parents[1] / "fixtures/captions/traits.toml").read_text("utf-8")
)


@pytest.mark.parametrize(("text", "style"), CASES["styles"])
def test_a_trait_gives_its_style(text: str, style: str) -> None:
    assert score_styles(text, "", "").style == style
    assert score_styles([text], "", "").style == style


@pytest.mark.parametrize(("traits", "aesthetic", "voice", "style"), CASES["weights"])
def test_fields_weigh_three_two_and_one_and_voice_breaks_ties(
    traits: str, aesthetic: str, voice: str, style: str
) -> None:
    assert score_styles(traits, aesthetic, voice).style == style


@pytest.mark.parametrize(("tone", "personality", "modifiers"), CASES["modifiers"])
def test_tone_and_personality_give_their_modifiers(
    tone: str, personality: str, modifiers: list[str]
) -> None:
    assert list(modifiers_of(tone, personality)) == modifiers


def test_there_are_cases_enough() -> None:
    assert len({text for text, _ in CASES["styles"]}) >= 50


def test_the_evidence_adds_up_to_the_scores() -> None:
    scored = score_styles("creative, engineer, not formal", "artistic technology", "poetic")
    assert scored.scores == {"creative": 6, "professional": 0, "tech": 5, "casual": 0}
    for style, score in scored.scores.items():
        assert sum(e.weight for e in scored.evidence if e.style == style) == score


def test_what_is_denied_is_shown_and_weighs_nothing() -> None:
    evidence = score_styles("not formal", "", "").evidence
    assert [(e.field, e.words, e.style, e.weight) for e in evidence] == [
        ("trait", "formal", "professional", 0)
    ]


def test_a_word_that_a_prefix_denies_is_shown_as_denied() -> None:
    evidence = score_styles("unprofessional", "", "").evidence
    assert [(e.words, e.style, e.denied) for e in evidence] == [
        ("unprofessional", "professional", True)
    ]


def test_a_style_counts_once_a_field_however_often_it_is_named() -> None:
    scored = score_styles("", "artistic, creative, imaginative", "")
    assert scored.scores["creative"] == 2
    assert sorted(e.weight for e in scored.evidence) == [0, 0, 2]


def test_weights_are_three_two_and_one() -> None:
    scored = score_styles("engineer", "artistic", "formal")
    assert scored.scores == {"creative": 2, "professional": 1, "tech": 3, "casual": 0}


@pytest.mark.parametrize(
    ("traits", "aesthetic", "voice", "style"),
    [
        (["creative", "engineer"], "", "poetic", "creative"),
        (["creative", "engineer"], "", "precise", "tech"),
        (["creative", "engineer"], "artistic technology", "", "casual"),
        (["creative", "engineer"], "", "", "casual"),
        (["engineer"], "artistic", "poetic", "creative"),
    ],
)
def test_ties_go_by_voice_then_by_aesthetic_then_to_casual(
    traits: list[str], aesthetic: str, voice: str, style: str
) -> None:
    assert score_styles(traits, aesthetic, voice).style == style


@pytest.mark.parametrize(
    ("language", "locale"),
    [
        ("de", "de"),
        ("de-AT", "de"),
        ("de_CH", "de"),
        ("German", "de"),
        ("Deutsch", "de"),
        ("en-GB", "en"),
        ("tlh", "en"),
        ("", "en"),
        (None, "en"),
        (7, "en"),
    ],
)
def test_a_language_names_its_locale(language: object, locale: str) -> None:
    assert read_locale(language) == locale
    assert read_voice({"style_preferences": {"language": language}}).locale == locale


def test_a_voice_is_scored_as_its_fields_are() -> None:
    voice = Voice(traits=("creative",), aesthetic="formal", voice_style="precise")
    assert score_voice(voice) == score_styles(["creative"], "formal", "precise")


def test_a_long_text_is_read_in_no_time_and_no_further_than_bounded() -> None:
    assert styles_in("word " * 30_000 + "creative") == frozenset()
