"""The words of the portrait model and the everyday words that stand for them, read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

Words = tuple[str, ...]
Sense = tuple[str, bool]
"""A value of the model, and whether the word means it (else it is an approximation)."""

_FILE = Path(__file__).with_name("vocabulary.toml")
_NOUN_OF_COLOUR = {
    "hair": "hair",
    "skin": "skin",
    "clothes": "clothes_colour",
    "background": "background",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """What a phrase can mean.

    Attributes:
        sets: attributes that it settles by itself.
        roles: as a colour, the value that it gives to hair, skin, clothes or background.
        length: as an adjective of hair.
        texture: as an adjective of hair.
        shade: it tones the colour after it.
        filler: beside a colour it adds nothing.
        noun: what it takes a colour for: a role, or `other` for what the model has no place for.
        hints: how it leans the drawing of what is not said.
        empty: it is read as a whole and means nothing.
    """

    sets: tuple[tuple[str, str, bool], ...] = ()
    roles: Mapping[str, Sense] = field(default_factory=dict)
    length: Sense | None = None
    texture: Sense | None = None
    shade: bool = False
    filler: bool = False
    noun: str = ""
    hints: tuple[str, ...] = ()
    empty: bool = False

    @property
    def adjective(self) -> bool:
        """Whether it waits for a noun."""
        return bool(self.roles or self.length or self.texture or self.shade or self.filler)


@dataclass(frozen=True, slots=True)
class Hint:
    """How a word such as "woman" leans what is drawn."""

    sets: Mapping[str, str]
    weights: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Everything that vocabulary.toml says.

    Attributes:
        identity: attributes that belong to the persona, in the model's order.
        scene: attributes of one picture.
        values: attribute to its values.
        entries: phrase to its meaning.
        spans: first word of a phrase to the lengths of phrases that begin so, longest first.
        grammar: kind of small word to the words.
        instead: what stands for an expression that is not wanted.
    """

    identity: tuple[str, ...]
    scene: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]
    entries: Mapping[Words, Entry]
    spans: Mapping[str, tuple[int, ...]]
    spelling: Mapping[str, Words]
    grammar: Mapping[str, frozenset[str]]
    stop: frozenset[str]
    hints: Mapping[str, Hint]
    weights: Mapping[str, Mapping[str, int]]
    instead: Mapping[str, str]
    elderly_from: int
    age_words: frozenset[Words]


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """Read the vocabulary that ships beside this file."""
    data = tomllib.loads(_FILE.read_text("utf-8"))
    entries = _entries(data)
    spans: dict[str, set[int]] = {}
    for words in entries:
        spans.setdefault(words[0], set()).add(len(words))
    return Vocabulary(
        identity=tuple(data["identity"]),
        scene=tuple(data["scene"]),
        values={attribute: tuple(listed) for attribute, listed in data["values"].items()},
        entries=entries,
        spans={first: tuple(sorted(found, reverse=True)) for first, found in spans.items()},
        spelling={word: tuple(spelt.split()) for word, spelt in data["spelling"].items()},
        grammar={kind: frozenset(_listed(words)) for kind, words in data["grammar"].items()},
        stop=frozenset(_listed(data["stop"]["words"])),
        hints={
            name: Hint(hint.get("sets", {}), data["leaning"].get(name, {}))
            for name, hint in data["hints"].items()
        },
        weights=data["drawing"],
        instead=data["instead"],
        elderly_from=data["age"]["elderly_from"],
        age_words=frozenset(_phrases(data["age"]["words"])),
    )


def _listed(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := " ".join(part.split()))]


def _phrases(text: str) -> Iterator[Words]:
    for phrase in _listed(text):
        yield tuple(phrase.split())


def _senses(table: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[Words, str, bool]]:
    for value, ways in table.items():
        for kind in ("said", "near"):
            for words in _phrases(ways.get(kind, "")):
                yield words, value, kind == "said"


def _entries(data: Mapping[str, Any]) -> dict[Words, Entry]:
    """Gather what each phrase means; the first sense of a phrase stands."""
    found: dict[Words, Entry] = {}
    _read_colours(data, found)
    _read_adjectives(data, found)
    _read_phrases(data, found)
    for noun, listed in data["nouns"].items():
        for words in _phrases(listed):
            _grow(found, words, noun=_NOUN_OF_COLOUR.get(noun, noun))
    for name, hint in data["hints"].items():
        for words in _phrases(hint["words"]):
            before = found.get(words, Entry())
            if not (before.adjective or before.sets):
                _grow(found, words, hints=(*before.hints, name))
    for words in _phrases(data["not_meant"]["words"]):
        found[words] = Entry(empty=True)
    return found


def _grow(found: dict[Words, Entry], words: Words, **more: Any) -> None:
    found[words] = replace(found.get(words, Entry()), **more)


def _read_adjectives(data: Mapping[str, Any], found: dict[Words, Entry]) -> None:
    for words, value, exact in _senses(data["hair_length"]):
        _grow(found, words, length=(value, exact))
    for words, value, exact in _senses(data["hair_texture"]):
        _grow(found, words, texture=(value, exact))
    for words in _phrases(data["shades"]["words"]):
        _grow(found, words, shade=True)
    for words in _phrases(data["fillers"]["words"]):
        _grow(found, words, filler=True)


def _read_phrases(data: Mapping[str, Any], found: dict[Words, Entry]) -> None:
    for attribute, table in data["phrases"].items():
        for words, value, exact in _senses(table):
            if not found.get(words, Entry()).sets:
                _grow(found, words, sets=((attribute, value, exact),))
    for compound in data["compound"]:
        sets = tuple((attribute, value, False) for attribute, value in compound["sets"].items())
        for words in _phrases(compound["words"]):
            _grow(found, words, sets=sets)
    for words, entry in list(found.items()):
        if entry.sets:
            _grow(found, words, noun=_noun_of(attribute for attribute, _, _ in entry.sets))


def _read_colours(data: Mapping[str, Any], found: dict[Words, Entry]) -> None:
    roles: dict[Words, dict[str, Sense]] = {}
    for role, table in data["colours"].items():
        for words, value, exact in _senses(table):
            roles.setdefault(words, {}).setdefault(role, (value, exact))
    for words, of in roles.items():
        found[words] = Entry(roles=of)
    for role, listed in data["alone"].items():
        for words in _phrases(listed):
            value, exact = roles[words][role]
            found[words] = replace(found[words], sets=((role, value, exact),))


def _noun_of(attributes: Iterable[str]) -> str:
    """Return the role of a colour that stands before a phrase which settles these attributes."""
    named = set(attributes)
    if named & {"front", "rear", "beard"}:
        return "hair"
    if "clothes" in named:
        return "clothes_colour"
    return "background" if "background" in named else "other"
