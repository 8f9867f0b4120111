"""DiceBear styles: which of their options a picture's attributes and words choose."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from dicebear import OptionsDescriptor, Style

from backend.errors import ModelNotAvailable
from backend.imaging.builtin.reading import tokens
from backend.imaging.builtin.vocabulary import vocabulary

_FILE = Path(__file__).with_name("styles.toml")
_CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_ORDER = ("glasses", "beard", "rear", "front", "expression", "clothes")
"""Attributes in the order in which they narrow a component; the earlier one prevails."""

_REACH = 3
"""Words between which a denial or a component's noun still counts as beside a variant's name."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a picture is drawn with.

    Attributes:
        options: DiceBear options, without seed and size.
        used: words that named a variant.
        unmet: attributes that the style has no way to show.
    """

    options: Mapping[str, Any]
    used: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()


@dataclass(frozen=True)
class StyleBook:
    """One style, and how the portrait model's words are drawn in it."""

    name: str
    style: Style
    table: Mapping[str, Any]
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def choose(
        self, values: Mapping[str, str], prompt: str, appearance: str, *, persona: bool
    ) -> Choice:
        """Turn attributes and words into options.

        Args:
            values: settled attributes.
            prompt: words of this picture; they change no trait of a persona.
            appearance: words of the persona.
            persona: whether there is one.
        """
        traits = set(_listed(self.table["traits"]))
        named = [name for name in _listed(self.table["named"]) if name in self.variants]
        from_prompt = [name for name in named if not (persona and name in traits)]
        said = {**self._named(appearance, named), **self._named(prompt, from_prompt)}
        parts, unmet = self._parts(values)
        parts |= {component: (variant,) for component, (variant, _) in said.items()}
        for component, variant in self.table.get("fixed", {}).items():
            parts[component] = (variant,)
        for component, listed in self.table.get("never", {}).items():
            left = [v for v in self.variants[component] if v not in _listed(listed)]
            parts.setdefault(component, tuple(left))
        unmet |= self._displaced(values, {c: variant for c, (variant, _) in said.items()})
        options = self._colours(values)
        for component, allowed in sorted(parts.items()):
            options[f"{component}Probability"] = 100 if allowed else 0
            if allowed:
                options[f"{component}Variant"] = list(allowed)
        used = [word for _, words in said.values() for word in words]
        return Choice(options, tuple(used), tuple(a for a in values if a in unmet))

    def _parts(self, values: Mapping[str, str]) -> tuple[dict[str, tuple[str, ...]], set[str]]:
        parts: dict[str, tuple[str, ...]] = {}
        unmet = {a for a in ("hair", "skin", "clothes_colour") if a not in self.table["colours"]}
        for attribute in _ORDER:
            components = self._components(attribute, values)
            if components is None:
                unmet.add(attribute)
                continue
            for component, wanted in components.items():
                before = parts.get(component, wanted)
                both = tuple(variant for variant in before if variant in wanted)
                parts[component] = both or before
                if not both and before:
                    unmet.add(attribute)
        return parts, unmet

    def _components(
        self, attribute: str, values: Mapping[str, str]
    ) -> dict[str, tuple[str, ...]] | None:
        """List the variants that show an attribute's value; `None` where the style cannot."""
        if attribute == "glasses" and "glasses" in self.table:
            return {}
        table = self.table["parts"].get(attribute, {}).get(values.get(attribute))
        if table is None:
            return None
        return {component: tuple(_listed(listed)) for component, listed in table.items()}

    def _displaced(self, values: Mapping[str, str], named: Mapping[str, str]) -> set[str]:
        """List attributes whose part a named variant took: under a beanie no hair is long."""
        return {
            attribute
            for attribute in _ORDER
            for component, wanted in (self._components(attribute, values) or {}).items()
            if component in named and named[component] not in wanted
        }

    def _colours(self, values: Mapping[str, str]) -> dict[str, Any]:
        palette = _book()["palette"]
        return {
            f"{colour}Color": [palette[attribute][values[attribute]]]
            for attribute, listed in self.table["colours"].items()
            if attribute in values
            for colour in _listed(listed)
        }

    def _named(
        self, text: str, components: Iterable[str]
    ) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Find variants whose every word stands in the text: component to variant and words."""
        said = tokens(text)
        if not said:
            return {}
        denied = _denied(said)
        at: dict[str, list[int]] = {}
        for position, word in enumerate(said):
            if position not in denied:
                at.setdefault(_stem(word), []).append(position)
        found = {}
        for component in components:
            best: tuple[int, str, tuple[str, ...]] | None = None
            for variant, words in self._names(component):
                if words and self._stands(words, component, at):
                    taken = tuple(said[at[_stem(word)][0]] for word in words)
                    if best is None or len(words) > best[0]:
                        best = (len(words), variant, taken)
            if best:
                found[component] = best[1:]
        return found

    def _names(self, component: str) -> list[tuple[str, tuple[str, ...]]]:
        """List the variants of a component with the words that name each."""
        further = self.table.get("words", {}).get(component, {})
        return [
            *((variant, _split(variant)) for variant in self.variants[component]),
            *((v, tuple(name.split())) for v, names in further.items() for name in _listed(names)),
        ]

    def _stands(self, words: tuple[str, ...], component: str, at: dict[str, list[int]]) -> bool:
        places = [at.get(_stem(word)) for word in words]
        if not all(places):
            return False
        first = min(place[0] for place in places if place)
        last = max(place[0] for place in places if place)
        if last - first > _REACH:
            return False
        if any(word not in _plain_words() for word in words):
            return True
        nouns = {_stem(word) for word in (*_split(component), *_nouns(component))}
        return any(
            first - _REACH <= place <= last + _REACH
            for noun in nouns - {_stem(word) for word in words}
            for place in at.get(noun, ())
        )


def style_book(name: str) -> StyleBook:
    """Load a style.

    Raises:
        ModelNotAvailable: the style is not one of those offered.
    """
    tables = _book()["styles"]
    if name not in tables:
        raise ModelNotAvailable(
            f"illustrated style {name!r} is not one of: {', '.join(tables)}.",
            {"available": list(tables)},
        )
    return _load(name)


@lru_cache(maxsize=8)
def _load(name: str) -> StyleBook:
    style = Style(json.loads(files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8")))
    described = OptionsDescriptor(style).to_json()
    variants = {
        option.removesuffix("Variant"): tuple(entry["values"])
        for option, entry in described.items()
        if option.endswith("Variant")
    }
    return StyleBook(name, style, _book()["styles"][name], variants)


def background_colour(name: str) -> str:
    """Return the colour of a background, as hexadecimal digits."""
    return str(_book()["palette"]["background"][name])


def seeded_weights() -> Mapping[str, Mapping[str, int]]:
    """List how often the seed chooses a value where nothing else decides."""
    return {**vocabulary().weights, **_book()["seeded"]}


@lru_cache(maxsize=1)
def _book() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text("utf-8"))


@lru_cache(maxsize=1)
def _plain_words() -> frozenset[str]:
    return frozenset(_listed(_book()["plain_words"]))


def _nouns(component: str) -> list[str]:
    return _listed(_book()["nouns"].get(component, ""))


def _listed(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]


def _split(name: str) -> tuple[str, ...]:
    """Split `bobBangs` into its words; numbers fall away, and `variant01` names nothing."""
    words = tuple(word.lower() for word in _CAMEL.findall(name))
    return () if words in (("variant",), ("default",)) else words


def _stem(word: str) -> str:
    """Cut a plural, so that "braids" and "braid" meet."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _denied(said: list[str]) -> set[int]:
    """List positions just after a "no"."""
    negators = vocabulary().grammar["negators"]
    stops = {".", ","}
    found: set[int] = set()
    for position, word in enumerate(said):
        if word in negators:
            for after in range(position + 1, min(position + 1 + _REACH, len(said))):
                if said[after] in stops:
                    break
                found.add(after)
    return found
