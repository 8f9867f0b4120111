"""The words that looks are described with, read from a locale's `appearance.toml`.

Everything in it is case-folded, and a hyphen counts as a space.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from backend.captions.words import PACKS

Trait = tuple[str, str]
"""An aspect and its value: ("colour", "black"), ("length", "4")."""

LADDERS = ("length", "texture")


@dataclass(frozen=True, slots=True)
class Modifier:
    """A word before a noun: a colour, a length, a material."""

    base: str
    aspect: str
    traits: tuple[Trait, ...] = ()
    slots: frozenset[str] = frozenset()
    """The slots of which it is said; empty for all."""
    is_person: bool = False


@dataclass(frozen=True, slots=True)
class Noun:
    """A thing that belongs to somebody's looks, or a word for a person who has it."""

    slot: str
    kind: str
    says: str
    """What a phrase calls it; "" for the text's own word."""
    counted: bool = False
    gender: str = ""
    traits: tuple[Trait, ...] = ()
    denies: tuple[str, ...] = ()
    unless: frozenset[str] = frozenset()
    is_person: bool = False
    needs: bool = False
    """Whether it says nothing without a modifier."""
    unsaid: bool = False


@dataclass(frozen=True, slots=True)
class Wording:
    """A locale's words, by their folded form."""

    entries: frozenset[str]
    """Every noun and modifier."""
    nouns: Mapping[str, Noun]
    modifiers: Mapping[str, tuple[Modifier, ...]]
    after: Mapping[str, frozenset[str]]
    lists: Mapping[str, frozenset[str]]
    self: Mapping[str, frozenset[str]]
    reach: Mapping[str, int]
    """How many words an entry has at most, by its first word."""
    is_inflected: bool

    def calls(self, slots: frozenset[str]) -> frozenset[str]:
        """Return the last words of everything that names one of the slots."""
        named = [word for word, noun in self.nouns.items() if noun.slot in slots]
        if "hair" in slots:
            named += [word for word, found in self.modifiers.items() if _of_person(found)]
        return frozenset(word.rsplit(" ", 1)[-1] for word in named)


def fold(text: str) -> str:
    """Return a text as the word lists spell it."""
    return text.casefold().replace("’", "'").replace("-", " ")


def locales() -> tuple[str, ...]:
    """Return the locales that have words for looks."""
    return tuple(sorted(path.parent.name for path in PACKS.glob("*/appearance.toml")))


@cache
def wording(locale: str) -> Wording:
    """Return a locale's words for looks; English where it has none."""
    known = locale if locale in locales() else "en"
    data = tomllib.loads((PACKS / known / "appearance.toml").read_text("utf-8"))
    endings: list[str] = data["lists"]["inflections"]
    modifiers = _modifiers(data, endings)
    nouns = dict(_nouns(data, endings))
    after = {slot: _folded(words) for slot, words in data["after"].items()}
    entries = [*nouns, *modifiers, *(word for words in after.values() for word in words)]
    lists = {name: _folded(words) for name, words in data["lists"].items()}
    own = {name: _folded(words) for name, words in data["self"].items()}
    _merge(lists, own)
    return Wording(
        entries=frozenset([*nouns, *modifiers]),
        nouns=nouns,
        modifiers=modifiers,
        after=after,
        lists=lists,
        self=own,
        reach=_reach([*entries, *lists["links"], *data["self"]["gone"]]),
        is_inflected=bool(endings),
    )


def _merge(lists: dict[str, frozenset[str]], own: dict[str, frozenset[str]]) -> None:
    """Add the lists that are several of a locale's lists in one."""
    lists["linking"] = lists["and"] | lists["or"]
    lists["passed"] = lists["determiners"] | own["adverbs"]
    lists["passed before"] = lists["passed"] | lists["neutral"]
    lists["passed between"] = lists["passed"] | lists["and"] | lists["bridging"]
    lists["passed denying"] = lists["determiners"] | lists["having"] | lists["neutral"]
    lists["passed of others"] = lists["determiners"] | lists["definite"]
    lists["resuming"] = lists["and"] | lists["wearing"]
    own["others"] = own["foreign"] | lists["companions"]


def _of_person(modifiers: Iterable[Modifier]) -> bool:
    return any(modifier.is_person for modifier in modifiers)


def _folded(words: Iterable[str]) -> frozenset[str]:
    return frozenset(fold(word) for word in words)


def _reach(entries: Iterable[str]) -> dict[str, int]:
    reach: dict[str, int] = {}
    for entry in entries:
        words = entry.split(" ")
        reach[words[0]] = max(reach.get(words[0], 1), len(words))
    return reach


def _modifiers(data: dict[str, Any], endings: list[str]) -> dict[str, tuple[Modifier, ...]]:
    found: dict[str, tuple[Modifier, ...]] = {}
    for modifier in _each_modifier(data):
        for form in _forms(modifier.base, endings):
            found[form] = (*found.get(form, ()), modifier)
    return found


def _each_modifier(data: dict[str, Any]) -> Iterator[Modifier]:
    for colour in data["colour"]:
        traits = tuple(("colour", family) for family in colour["families"])
        slots, person = frozenset(colour.get("slots", ())), colour.get("person", False)
        for word in colour["words"]:
            yield Modifier(word, "colour", traits, slots, person)
    for aspect, traits, slots, words in _groups(data):
        for word in words:
            yield Modifier(word, aspect, traits, slots)


def _groups(data: dict[str, Any]) -> Iterator[tuple[str, tuple[Trait, ...], frozenset[str], Any]]:
    """Yield an aspect, what its words say, of which slots, and the words."""
    for word, families in data["shades"].items():
        yield "shade", tuple(("shade", family) for family in families), frozenset(), (word,)
    for aspect in LADDERS:
        for rung, words in enumerate(data["ladders"][aspect]):
            yield aspect, ((aspect, str(rung)),), frozenset({"hair"}), words
    for shape, words in data["shapes"].items():
        yield "shape", (("shape", shape),), frozenset({"glasses"}), words
    for name, words in data["qualities"].items():
        yield "quality", (), frozenset(_CLOTHES if name == "clothes" else (name,)), words
    for aspect in ("neutral", "adverbs"):
        yield aspect, (), frozenset(), data["lists"][aspect]


# What German nouns end in besides the nominative, by gender ("p" is plural).
_CASES = {"m": ("s", "es"), "n": ("s", "es"), "p": ("n",)}
_CLOTHES = ("headwear", "garment", "jewellery", "makeup")


def _nouns(data: dict[str, Any], endings: list[str]) -> Iterator[tuple[str, Noun]]:
    for entry in data["noun"]:
        traits = [("colour", family) for family in entry.get("colour", ())]
        traits += [(aspect, str(entry[aspect])) for aspect in LADDERS if aspect in entry]
        for word in entry["words"]:
            noun = Noun(
                slot=entry["slot"],
                kind=entry.get("kind", "" if "denies" in entry else word),
                says=entry.get("says", word if endings else ""),
                counted=entry.get("counted", False),
                gender=entry.get("gender", ""),
                traits=tuple(traits),
                denies=tuple(entry.get("denies", ())),
                unless=_folded(entry.get("unless", ())),
                is_person=entry.get("person", False),
                needs=entry.get("needs", False),
                unsaid=entry.get("unsaid", False),
            )
            forms = _forms(word, endings) if entry.get("inflects") else (fold(word),)
            cases = [word + ending for ending in _CASES.get(noun.gender, ())]
            for form in (*forms, *map(fold, [*cases, *entry.get("forms", ())])):
                yield form, noun


def _forms(word: str, endings: list[str]) -> tuple[str, ...]:
    """Return a word and, in a locale that inflects, what an adjective's cases make of it."""
    base = fold(word)
    return tuple(dict.fromkeys([base, *(inflect(base, ending) for ending in endings)]))


def inflect(adjective: str, ending: str) -> str:
    """Put an ending to a German adjective: dunkel, dunkle."""
    if adjective.endswith("el"):
        return adjective[:-2] + "l" + ending
    return adjective.removesuffix("e") + ending
