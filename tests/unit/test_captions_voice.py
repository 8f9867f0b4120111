"""A persona is foreign data: it is read once, bounded, and never trusted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from backend.captions.appearance import Appearance
from backend.captions.scoring import STYLES, modifiers_of, score_voice
from backend.captions.voice import MAX_THEMES, MAX_TRAITS, Voice, as_themes, as_traits, read_voice

NAMES = (
    "name",
    "appearance",
    "personality",
    "content_themes",
    "style_preferences",
    "base_appearance_description",
    "appearance_locked",
)
PREFERENCES = ("aesthetic", "voice_style", "tone", "language", "locale")


class Raising:
    """Raises whatever one asks of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise ValueError

    def __bool__(self) -> bool:
        raise ValueError

    def __iter__(self) -> Iterator[str]:
        raise ValueError

    def __eq__(self, other: object) -> bool:
        raise ValueError

    __hash__ = None  # type: ignore[assignment]


class Disguised:
    """Says that it is a text, or raises when asked what it is."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError


class LyingText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise ValueError

    def __getitem__(self, key: Any) -> str:
        raise ValueError

    def casefold(self) -> str:
        raise ValueError


class LyingList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise ValueError

    def __getitem__(self, key: Any) -> Any:
        raise ValueError


class LyingDict(dict[Any, Any]):
    def get(self, key: Any, default: Any = None) -> Any:
        raise ValueError

    def __iter__(self) -> Iterator[Any]:
        raise ValueError


def nested(depth: int) -> list[Any]:
    value: list[Any] = ["creative"]
    for _ in range(depth):
        value = [value]
    return value


def values() -> list[Any]:
    """Return one of each kind of thing that has no business in a persona."""
    texts = [
        *(
            "",
            " ",
            "\x00",
            "\ud800",
            "\u202eevil",
            "مرحبا بالعالم",
            "שלום, עולם",
            "🎨🔥",
            "<b>hi</b>",
        ),
        *("👩‍👩‍👧‍👦" * 20, "e\u0301" * 50, "a" * 100_000, "creative, " * 10_000, "a/b&c;" * 16_000),
        *(
            "not " * 25_000,
            "n't" * 30_000,
            "{opening}",
            "%(x)s",
            "#R&D",
            "'; DROP",
            "creative, bold",
        ),
        *("de-AT", "German", LyingText("creative")),
    ]
    numbers = [None, True, False, 0, -1, 3, 2**70, 0.5, float("nan"), float("inf"), 1j]
    groups = [
        *([], [None, 3, "creative"], ["x"] * 100_000, ("a", ["b"]), {"a", "b"}, {"x", 3, None}),
        *({f"{n}" * 20 for n in range(5_000)}, frozenset("abc"), {}, {"tone": "warm"}, {3: "x"}),
        *(nested(500), range(10**9), LyingList(["creative"]), LyingDict(tone="warm")),
        [Raising(), Disguised(), LyingText("bold")],
    ]
    others = [
        *(
            b"bytes",
            bytearray(b"x"),
            memoryview(b"x"),
            object(),
            int,
            len,
            Ellipsis,
            NotImplemented,
        ),
        *(
            (word for word in ("creative", "bold")),
            iter([1]),
            Exception("x"),
            Raising(),
            Disguised(),
        ),
    ]
    return [*texts, *numbers, *groups, *others]


def draw(random: Random, some: list[Any]) -> Any:
    return some[int(random.random() * len(some))]


def some_persona(random: Random, some: list[Any]) -> Any:
    kept = {name: draw(random, some) for name in NAMES if random.random() < 0.8}
    if random.random() < 0.7:
        kept["style_preferences"] = {
            name: draw(random, some) for name in PREFERENCES if random.random() < 0.8
        }
    shape = random.random()
    if shape < 0.05:
        return draw(random, some)
    return kept if shape < 0.5 else SimpleNamespace(**kept)


def test_no_persona_is_too_strange_to_be_read(rounds: Any) -> None:
    random, some = Random(11), values()
    for _ in range(rounds(300, 10_000)):
        voice = read_voice(some_persona(random, some))
        check(voice)
        assert score_voice(voice).style in STYLES
        assert isinstance(modifiers_of(voice.tone, voice.personality), tuple)


def check(voice: Voice) -> None:
    for field in fields(voice):
        value = getattr(voice, field.name)
        if field.name == "appearance":
            assert isinstance(value, Appearance)
            continue
        texts = value if isinstance(value, tuple) else (value,)
        assert len(texts) <= max(MAX_THEMES, MAX_TRAITS)
        for text in texts:
            assert type(text) is str
            assert len(text) <= 1_000
            assert text == text.encode("utf-8").decode("utf-8").strip()
            assert text.isprintable() or not text.isascii()
    hash(voice)


@pytest.mark.parametrize("number", range(len(values())))
def test_a_value_of_any_kind_is_read_in_milliseconds(number: int) -> None:
    took_s = []
    for value in (values()[number] for _ in range(3)):
        start = time.perf_counter()
        read_voice(SimpleNamespace(**dict.fromkeys(NAMES, value)))
        took_s.append(time.perf_counter() - start)
    assert min(took_s) < 0.1


def test_text_that_lies_about_itself_is_read_as_text() -> None:
    voice = read_voice({"personality": LyingText("creative, bold"), "name": LyingText("Mira")})
    assert (voice.name, voice.traits) == ("Mira", ("creative", "bold"))


def test_lists_that_lie_about_themselves_are_read_as_lists() -> None:
    assert as_traits(LyingList(["creative", "bold"])) == ("creative", "bold")
    assert read_voice(SimpleNamespace(style_preferences=LyingDict(tone="warm"))).tone == ""


def test_no_more_of_a_list_is_read_than_a_field_holds() -> None:
    long = [str(number) * 900 for number in range(5)]
    assert "bold" in as_traits([*long[:4], "bold"])
    assert "bold" not in as_traits([*long, "bold"])


def test_a_set_is_read_in_one_order_only() -> None:
    assert as_themes({"b", "a", "c"}) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("personality", "traits"),
    [
        ("bold, witty", ("bold", "witty")),
        (
            "bold and witty; kind/curious | calm & dry",
            ("bold", "witty", "kind", "curious", "calm", "dry"),
        ),
        ("not formal and stiff, artistic", ("not formal and stiff", "artistic")),
        ("isn't formal/stiff", ("isn't formal/stiff",)),
        (
            "freundlich und klug, nicht laut und schrill",
            ("freundlich", "klug", "nicht laut und schrill"),
        ),
        (["bold", None, "Bold", 3, " witty "], ("bold", "witty")),
        ("sandy, android", ("sandy", "android")),
    ],
)
def test_traits_are_told_apart(personality: Any, traits: tuple[str, ...]) -> None:
    assert as_traits(personality) == traits


@pytest.mark.parametrize(
    ("locked", "shown"), [(True, 1), (1, 1), (False, 0), ("yes", 0), (None, 0)]
)
def test_an_appearance_is_read_where_it_is_locked(locked: Any, shown: int) -> None:
    voice = read_voice(
        {"appearance_locked": locked, "base_appearance_description": "long black hair"}
    )
    assert bool(voice.locked_appearance) == bool(voice.appearance.facts) == bool(shown)


def test_a_voice_is_frozen() -> None:
    voice = read_voice({"name": "Mira\x00", "content_themes": ["#tea", "Tea", " AI. ", None]})
    assert (voice.name, voice.themes) == ("Mira", ("tea", "AI"))
    with pytest.raises(AttributeError):
        voice.name = "Other"  # type: ignore[misc]
