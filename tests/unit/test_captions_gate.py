"""One gate for every caption."""

from __future__ import annotations

import pytest

from backend.captions.gate import explain, judge
from backend.captions.platforms import platform_named
from backend.errors import InvalidRequest


def codes(text: str, **kwargs: object) -> list[str]:
    return [finding.code for finding in judge(text, **kwargs)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "Street food at dusk: small plates, long talks. What's on yours? #StreetFood",
        "I used to think design was decoration. Now I think it's manners.",
        "Have you tried this route? Tell me where it took you.",
        "I can't stop thinking about this light.",
        "An idea I cannot help but return to.",
    ],
)
def test_a_plain_caption_passes(text: str) -> None:
    assert codes(text) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("x" * 2_201, "too_long"),
        ("As an AI language model I can't write captions.", "refusal"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I cannot assist with this request.", "refusal"),
        ("I am unable to comply.", "refusal"),
        ("Sure! Here's a caption for your photo: Hello", "chatter"),
        ("Here is your Instagram caption:\nHello", "chatter"),
        ("I tried this serum and it glows.", "claim"),
        ("I've been using this camera for weeks.", "claim"),
        ("We finally tested the new oven!", "claim"),
        ("I absolutely loved every bite.", "claim"),
        ("Just bought the new phone.", "claim"),
        ("Tried and tested, friends.", "claim"),
        ("After using it daily, my skin sings.", "claim"),
        ("A 3x improvement for everyone.", "invented_number"),
        ("Join 10,000 happy readers.", "invented_number"),
        ("This will double your reach.", "invented_number"),
    ],
)
def test_a_faulty_caption_is_found(text: str, code: str) -> None:
    assert code in codes(text)


def test_a_number_from_the_request_may_stand() -> None:
    assert codes("Open until 22:30 with 3 chefs.", source="3 chefs, open until 22:30") == []


def test_what_was_said_is_not_said_again() -> None:
    assert codes("Hello  again", recent=["hello again"]) == ["repeated"]


def test_findings_read_as_one_line() -> None:
    assert explain(judge("x" * 300, platform=platform_named("X"))) == "too_long: 300 of 280 (x)"


def test_an_unknown_platform_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="instagram"):
        platform_named("friendster")


def test_emoji_weigh_two_on_x_and_their_bytes_on_threads() -> None:
    assert not platform_named("x").fits("🎨" * 141)
    assert platform_named("x").fits("🎨" * 140)
    assert not platform_named("threads").fits("🎨" * 126)
