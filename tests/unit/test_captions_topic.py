"""What a prompt is about, and how it may stand in a sentence."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.captions.phrases import Kind
from backend.captions.platforms import hashtags_in
from backend.captions.topic import LONGEST, read_topic
from backend.captions.words import content_words

PROMPTS = tomllib.loads(
    (Path(__file__).parents[1] / "fixtures" / "captions" / "topics.toml").read_text("utf-8")
)
CASES = [(locale, *case) for locale, cases in PROMPTS.items() for case in cases]
_PAIRS = {")": "(", "]": "[", "}": "{"}
_QUOTES = '"“”„«»'
_WORDS = {
    "en": "the rain a of city sleeps in under my dog celebrate running shoes and is lavender, what",
    "de": "die Stadt ein im Regen und mein Hund feier laufen ist wie Schnee, einen kleinen",
}
_ODD = (
    *("(", ")", "[[", "]", "{x}", '"', "“", "„", "'", "‘", "(rain:1.3)", "<lora:a:0.8>", "#R&D"),
    *(
        "##x",
        "@y",
        "https://x.y/z",
        "I tried",
        "?",
        "!",
        "...",
        ":",
        " - ",
        "🎉",
        "👩‍👩‍👧",
        "夜",
        "हिन्दी",
    ),
    *(
        "\u202e",
        "\x00",
        "\ud800",
        "--ar 16:9",
        "::2",
        "|",
        "a" * 120,
        "write a post about",
        "ﬁ",
        "ǆ",
    ),
)
pieces = st.one_of(
    st.sampled_from([word for words in _WORDS.values() for word in words.split()]),
    st.sampled_from(_ODD),
    st.text(max_size=12),
)
messes = st.lists(pieces, max_size=14).map(" ".join) | st.lists(pieces, max_size=9).map("".join)
locales = st.sampled_from(["en", "de", "xx"])


@pytest.mark.parametrize(("locale", "prompt", "kind", "inline"), CASES)
def test_a_prompt_becomes_a_phrase(locale: str, prompt: str, kind: str, inline: str) -> None:
    topic = read_topic(prompt, locale=locale)
    assert (topic.kind, topic.inline if topic.text else "") == (kind, inline)
    assert (topic.prompt, topic.locale) == (prompt, locale)


def test_the_prompts_are_many_and_of_every_kind() -> None:
    assert len(PROMPTS["en"]) >= 120
    assert len(PROMPTS["de"]) >= 30
    for locale in PROMPTS:
        kinds = {kind for where, _, kind, _ in CASES if where == locale}
        assert kinds >= set(get_args(Kind)) - {"none"}


@pytest.mark.parametrize(
    "prompt", [None, "", "  ", "\x00", "🎉", "the of and", "4k, hdr", 7, ["x"]]
)
def test_a_prompt_without_content_is_no_topic(prompt: object) -> None:
    topic = read_topic(prompt)
    assert (topic.kind, topic.text, topic.leading, topic.inline) == ("none", "", "", "")


def test_a_long_prompt_is_cut_between_words_and_not_after_a_preposition() -> None:
    topic = read_topic("a lighthouse on the rocks " + "with waves and gulls and wind " * 30)
    assert len(topic.text) <= LONGEST
    assert topic.text.split()[-1] in {"waves", "gulls", "wind"}


def test_a_phrase_is_not_cut_after_a_verb_that_needs_more() -> None:
    whole = "the quiet little bookshop near the river is open all night"
    assert read_topic(whole, 45).text == "the quiet little bookshop near the river"


def test_a_phrase_that_starts_with_small_words_is_cut_behind_them() -> None:
    assert read_topic("in and out of the under that lighthouse", 20).text == "lighthouse"


def test_keywords_come_from_the_whole_prompt() -> None:
    assert "research" in read_topic("urban gardens, based on research, in the long run").prompt


@pytest.mark.parametrize(
    ("prompt", "locale", "leading"),
    [
        ("a quiet morning", "en", "A quiet morning"),
        ("iPhone repairs in the park", "en", "iPhone repairs in the park"),
        ("überall Schnee", "de", "Überall Schnee"),
        ("äpfel", "de", "Äpfel"),
        ("ßoft ice", "en", "ßoft ice"),
        ("夜の屋台", "en", "夜の屋台"),
    ],
)
def test_a_topic_opens_a_sentence(prompt: str, locale: str, leading: str) -> None:
    assert read_topic(prompt, locale=locale).leading == leading


def test_an_english_and_a_german_reader_differ() -> None:
    assert read_topic("die Stadt schläft unter Schnee", locale="de").kind == "clause"
    assert read_topic("die Stadt schläft unter Schnee").kind != "clause"
    assert read_topic("a quiet bookshop").kind == "noun"
    assert read_topic("a quiet bookshop", locale="de").kind == "free"


def test_any_prompt_gives_a_phrase_in_bounds(rounds: Callable[[int, int], int]) -> None:
    @settings(
        max_examples=rounds(300, 20_000),
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(messes, locales, st.integers(8, LONGEST))
    def check(prompt: str, locale: str, longest: int) -> None:
        topic = read_topic(prompt, longest, locale)
        assert topic == read_topic(prompt, longest, locale)
        assert len(topic.text) <= longest
        assert (topic.kind == "none") == (not topic.text)
        assert topic.kind in get_args(Kind)
        assert _is_balanced(topic.text)
        assert not topic.text or content_words(topic.text, locale)
        assert topic.text[:1] not in {*" ,.;:!?-–—)]}"}
        assert topic.text[-1:] not in {*" ,.;:!?-–—([{"}
        assert topic.inline.casefold() == topic.leading.casefold() == topic.text.casefold()

    check()


def test_a_phrase_holds_two_words_of_a_prompt_that_has_them(
    rounds: Callable[[int, int], int],
) -> None:
    @settings(max_examples=rounds(200, 10_000), derandomize=True, deadline=None)
    @given(st.data(), st.sampled_from(["en", "de"]))
    def check(data: st.DataObject, locale: str) -> None:
        words = st.sampled_from(_WORDS[locale].replace(",", "").split())
        marks = st.sampled_from([" ", " ", " ", ", ", ". ", " - ", ": ", "! "])
        drawn = data.draw(st.lists(st.tuples(words, marks), min_size=1, max_size=10))
        prompt = "".join(word + mark for word, mark in drawn).strip()
        told = set(content_words(read_topic(prompt, locale=locale).text, locale))
        assert len(told) >= min(2, len(set(content_words(prompt, locale))))

    check()


def test_reading_a_prompt_takes_no_time() -> None:
    prompt = "walking a golden retriever through autumn leaves in the park"
    read_topic(prompt)
    took = []
    for _ in range(200):
        started = time.perf_counter()
        read_topic(prompt)
        took.append(time.perf_counter() - started)
    assert min(took) < 150e-6


def _is_balanced(text: str) -> bool:
    opened = []
    for char in text:
        if char in _PAIRS.values():
            opened.append(char)
        elif char in _PAIRS and (not opened or opened.pop() != _PAIRS[char]):
            return False
    return not opened and not sum(text.count(quote) for quote in _QUOTES) % 2


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a \\#tag in a prompt", "a \\tag in a prompt"),
        ("coffee (#Slow mornings)", "coffee"),
        ("learning C# at night", "learning C# at night"),
    ],
)
def test_a_prompt_makes_no_hashtags(prompt: str, text: str) -> None:
    found = read_topic(prompt).text
    assert not hashtags_in(found)
    assert found.startswith(text[:6])
