"""One gate for every caption."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from backend.captions.brief import Brief
from backend.captions.gate import TOO_ALIKE, Finding, explain, judge, passes
from backend.captions.language import foreign_language
from backend.captions.memory import Memory
from backend.captions.platforms import platform_named
from backend.captions.topic import read_topic
from backend.captions.voice import Voice, read_voice

FIXTURES = Path(__file__).parents[1] / "fixtures" / "captions"


def load(name: str) -> dict[str, Any]:
    return tomllib.loads((FIXTURES / f"{name}.toml").read_text("utf-8"))


CASES = load("gate")
LANGUAGES = load("languages")
PAIRS = load("likeness")
CAPTION = (
    "Plot twist of the week: a quiet bookshop in the rain. Slow mornings keep teaching me the same "
    "thing: nothing worth having is in a hurry. Today I left the phone in another room and let "
    "the windows do the talking. What would you read first? Tell me, I have all day. #SlowMornings"
)


def found(text: str, **terms: Any) -> tuple[Finding, ...]:
    brief = Brief(
        terms.get("voice", Voice(locale=terms.get("locale", "en"))),
        read_topic(terms.get("prompt", ""), locale=terms.get("locale", "en")),
        platform=platform_named(terms.get("platform")),
        rating=terms.get("rating", "sfw"),
        facts=tuple(terms.get("facts", ())),
    )
    return judge(text, brief, Memory(terms.get("said", ())))


def codes(text: str, **terms: Any) -> list[str]:
    return [
        finding.code + ("?" if finding.severity == "flag" else "")
        for finding in found(text, **terms)
    ]


@pytest.mark.parametrize("case", CASES["found"], ids=lambda case: case["text"][:40])
def test_what_is_wrong_with_a_caption_is_found_and_nothing_else(case: dict[str, Any]) -> None:
    terms = {name: value for name, value in case.items() if name not in {"text", "codes"}}
    assert codes(case["text"], **terms) == case["codes"]


@pytest.mark.parametrize("case", CASES["clean"], ids=lambda case: case["text"][:40])
def test_a_caption_that_a_person_would_post_passes(case: dict[str, Any]) -> None:
    terms = {name: value for name, value in case.items() if name != "text"}
    assert found(case["text"], **terms) == ()


def test_every_finding_that_blocks_or_flags_has_a_case() -> None:
    seen = {code for case in CASES["found"] for code in case["codes"]}
    assert {code.rstrip("?") for code in seen} >= {
        "empty", "too_short", "too_long", "forbidden_sign", "too_many_hashtags", "doubled_hashtag",
        "bad_hashtag", "refusal", "chatter", "instructions", "leftover", "slip", "invented_link",
        "claimed_experience", "invented_number", "health_promise", "money_promise", "claimed_proof",
        "foreign_language", "off_topic", "repeated", "opening_seen", "too_alike", "rating",
    }  # fmt: skip


def test_a_flag_does_not_keep_a_caption_back_and_a_block_does() -> None:
    flagged = found("Damn, that light.")
    assert flagged
    assert passes(flagged)
    assert passes(())
    assert not passes((*flagged, Finding("too_long", "300 of 280")))


def test_findings_read_as_one_line() -> None:
    findings = found("Plates,, plates. " * 20, platform="X")
    assert explain(findings) == "too_long: 340 of 280 (x); slip: 'Plates,,'"


def test_bytes_are_named_where_they_are_what_is_too_long() -> None:
    text = "A row of families: " + "👨\u200d👩\u200d👧\u200d👦" * 130
    assert "bytes (bluesky)" in explain(found(text, platform="bluesky"))


def test_each_finding_says_what_was_found() -> None:
    text = "I tried it,, and {topic} is twice as bright. See @nobody. #R&D"
    detail = {finding.code: finding.detail for finding in found(text)}
    assert detail == {
        "bad_hashtag": "#R&D",
        "leftover": "'{topic}'",
        "slip": "'I tried it,,'",
        "invented_link": "@nobody",
        "claimed_experience": "I tried",
        "invented_number": "twice as",
    }


def test_what_contradicts_a_locked_appearance_is_found() -> None:
    persona = {
        "name": "Mira",
        "appearance_locked": True,
        "base_appearance_description": "a woman with long black hair and green eyes",
    }
    voice = read_voice(persona)
    said = found("My short blonde hair and I are off to the market.", voice=voice)
    assert {finding.code for finding in said} == {"contradicts_appearance"}
    assert not passes(said)
    assert found("My long black hair and I are off to the market.", voice=voice) == ()


@pytest.mark.parametrize(("earlier", "later"), PAIRS["alike"])
def test_a_caption_worked_over_is_too_alike(earlier: str, later: str) -> None:
    assert "too_alike" in codes(later, said=[earlier], prompt=PAIRS["topic"])


@pytest.mark.parametrize(("earlier", "later"), PAIRS["unlike"])
def test_another_caption_on_the_same_thing_is_not_too_alike(earlier: str, later: str) -> None:
    assert codes(later, said=[earlier], prompt=PAIRS["topic"]) == []


def test_a_long_topic_that_both_quote_does_not_make_them_alike() -> None:
    topic = "a barista in a corner café pouring latte art into a blue cup while it snows outside"
    earlier, later = f"{topic}. Who stays with me?", f"On my mind today: {topic}."
    assert Memory([earlier]).overlap(later) > TOO_ALIKE
    assert codes(later, said=[earlier], prompt=topic) == []


OWN = [(own, text) for own in ("en", "de") for text in LANGUAGES[own]]
OTHER = [
    (own, language, text)
    for own in ("en", "de")
    for language, texts in LANGUAGES.items()
    for text in texts
    if language not in {"en", "de"}
]


@pytest.mark.parametrize(("own", "text"), OWN)
def test_a_caption_in_its_own_language_passes(own: str, text: str) -> None:
    assert foreign_language(text, own) == ""


@pytest.mark.parametrize(("own", "language", "text"), OTHER)
def test_a_caption_in_another_language_is_found(own: str, language: str, text: str) -> None:
    assert foreign_language(text, own) == language


def test_german_is_told_from_english_where_there_are_small_words() -> None:
    told = [text for text in LANGUAGES["de"] if foreign_language(text, "en") == "de"]
    assert len(told) >= 0.9 * len(LANGUAGES["de"])
    told = [text for text in LANGUAGES["en"] if foreign_language(text, "de") == "en"]
    assert len(told) >= 0.75 * len(LANGUAGES["en"])


def test_few_words_and_languages_without_a_list_pass() -> None:
    assert foreign_language("El sol y la playa", "en") == ""
    assert foreign_language("El sol se pone y no me quiero ir de la playa hoy.", "sw") == ""
    assert foreign_language("Das Licht und ich und der See", "de-AT") == ""


def test_a_caption_is_judged_in_a_fraction_of_a_millisecond() -> None:
    memory = Memory([f"{number} {CAPTION}" for number in range(30)])
    brief = Brief(Voice(), read_topic("a quiet bookshop in the rain"))
    best = 1.0
    for _ in range(20):
        started = time.process_time()
        for _ in range(50):
            judge(CAPTION, brief, memory)
        best = min(best, (time.process_time() - started) / 50)
    assert best < 0.000_9, f"{best * 1e3:.2f} ms"


@pytest.mark.parametrize(
    "text",
    [
        "the the " * 12_000,
        "{" * 100_000,
        "[your " * 16_000,
        "<a " * 33_000,
        "**" * 50_000,
        "#" * 100_000,
        "#a&" * 33_000,
        "sure! here is a " * 6_000,
        "@" * 100_000,
        "ignore " * 14_000,
        "\n# " * 33_000,
        "_" * 100_000,
        " ," * 50_000,
    ],
    ids=lambda text: text[:10],
)
def test_no_text_of_100_kb_holds_up_the_gate(text: str) -> None:
    started = time.process_time()
    found(text, prompt=text[:500])
    assert time.process_time() - started < 3
