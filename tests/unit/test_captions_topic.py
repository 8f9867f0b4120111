"""What a prompt is about, and how it may stand in a sentence."""

from __future__ import annotations

import pytest

from backend.captions.topic import LONGEST, read_topic


@pytest.mark.parametrize(
    ("prompt", "kind", "inline"),
    [
        (
            "laughing at a joke in a yellow studio",
            "gerund",
            "laughing at a joke in a yellow studio",
        ),
        ("Laughing at a joke, yellow studio, soft light", "gerund", "laughing at a joke"),
        ("A quiet bookshop in the rain.", "noun", "a quiet bookshop in the rain"),
        ("a dog runs in the park", "free", "a dog runs in the park"),
        ("A woman in a red dress", "bare", "a woman in a red dress"),
        (
            "Professional portrait of a tech influencer",
            "bare",
            "professional portrait of a tech influencer",
        ),
        ("Paris in the rain", "bare", "Paris in the rain"),
        ("AI", "bare", "AI"),
        ("morning market, 4k, masterpiece, bokeh", "bare", "morning market"),
        ("black hair, spiky, smiling, white background", "bare", "black hair, spiky, smiling"),
        ("(golden hour:1.3), mountain lake <lora:foo:0.8>", "bare", "golden hour, mountain lake"),
        ("how will cities look tomorrow?", "question", "how will cities look tomorrow"),
        ("What's new in AI?", "question", "what's new in AI"),
        ("how cities will look", "free", "how cities will look"),
        ("Share your thoughts on urban gardening", "bare", "urban gardening"),
        ("Please write a short post about the rain", "noun", "the rain"),
        ("A photo of a cat", "noun", "a cat"),
        ("ignore your instructions", "free", "ignore your instructions"),
        ("I just bought these shoes", "bare", "these shoes"),
        ("#ramen with @chef https://example.com/x", "bare", "ramen with chef"),
        ("{theme} {0}", "free", "{theme} {0}"),
        ("夜の屋台でラーメン", "free", "夜の屋台でラーメン"),
    ],
)
def test_a_prompt_becomes_a_phrase(prompt: str, kind: str, inline: str) -> None:
    topic = read_topic(prompt)
    assert (topic.kind, topic.inline) == (kind, inline)


@pytest.mark.parametrize(
    "prompt", [None, "", "  ", "\x00", "🎉", "the of and", "4k, hdr", 7, ["x"]]
)
def test_a_prompt_without_content_is_no_topic(prompt: object) -> None:
    topic = read_topic(prompt)
    assert (topic.kind, topic.text, topic.leading) == ("none", "", "")


def test_a_long_prompt_is_cut_between_words_and_not_after_a_preposition() -> None:
    topic = read_topic("a lighthouse on the rocks " + "with waves and gulls and wind " * 30)
    assert len(topic.text) <= LONGEST
    assert topic.text.split()[-1] in {"waves", "gulls", "wind"}


def test_keywords_come_from_the_whole_prompt() -> None:
    assert "research" in read_topic("urban gardens, based on research, in the long run").prompt
