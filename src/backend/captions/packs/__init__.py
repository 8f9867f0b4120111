"""Where packs come from: shipped, installed beside, and the user's own; read and compiled once.

The shipped packs lie in folders beside this file, `<locale>/<style>.toml`. Distributions add theirs
by the entry point group `gator.packs` (each names a package whose folder has that shape), a studio
by `$GATOR_HOME/packs`. A later one extends an earlier one by id, or takes ids out; docs/packs.md.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from itertools import product
from pathlib import Path
from typing import Any

from backend.captions.brief import RATINGS, TIMES_OF_DAY
from backend.captions.grammar import (
    KNOWN_NEEDS,
    LEAVES,
    PARAGRAPH,
    TAGS,
    Fragment,
    Pack,
    Plan,
    Slot,
    word_pattern,
)
from backend.captions.scoring import MODIFIERS, STYLES
from backend.captions.seeds import digest
from backend.captions.steering import families_of
from backend.captions.words import PACKS, content_stems, locales, stems
from backend.errors import ConfigurationError

ENTRY_POINTS = "gator.packs"
MOST_VARIANTS = 64
PACK_KEYS = frozenset({"words", "default_themes", "plan", "fragment", "disable", "extend"})
PLAN_KEYS = frozenset({"id", "weight", "slots"})
FRAGMENT_KEYS = frozenset(
    {"id", "slot", "texts", "weight", "needs", "modifiers", "rating", "time", "claims"}
)
_LEAF = re.compile(r"\{(\w*)\}")
_CHOICE = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, slots=True)
class Library:
    """The folders that packs are read from, the shipped one first.

    A pack of a later folder extends that of an earlier one.
    """

    folders: tuple[Path, ...] = (PACKS,)

    @classmethod
    def installed(cls, *own: Path) -> Library:
        """Return the shipped packs, those of installed distributions, and the user's own.

        Raises:
            ConfigurationError: an entry point does not name a package with a folder.
        """
        return cls((PACKS, *_distributed(), *own))

    def locales(self) -> tuple[str, ...]:
        """Return the locales that can be written in."""
        return locales()

    def pack(self, style: str, locale: str = "en") -> Pack:
        """Return a style's pack, casual for an unknown style and English for an unknown locale.

        Raises:
            ConfigurationError: the pack's data cannot be used; the message says what and where.
        """
        style = style if style in STYLES else "casual"
        return _load(self.folders, style, locale if locale in self.locales() else "en")


@cache
def _distributed() -> tuple[Path, ...]:
    folders = []
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        try:
            module = import_module(point.module)
        except ImportError as exc:
            raise ConfigurationError(
                f"The entry point {point.name!r} of {ENTRY_POINTS} names {point.module}, which "
                "cannot be imported."
            ) from exc
        folders += [Path(folder) for folder in getattr(module, "__path__", ())]
    return tuple(folders)


@lru_cache(maxsize=64)
def _load(folders: tuple[Path, ...], style: str, locale: str) -> Pack:
    return compile_pack(read_pack(folders, style, locale), style, locale)


def read_pack(folders: Iterable[Path], style: str, locale: str) -> dict[str, Any]:
    """Return a style's data, each folder's laid over that of the folders before.

    Raises:
        ConfigurationError: a file is not TOML or has not a pack's shape.
    """
    merged: dict[str, Any] = {}
    for folder in folders:
        path = folder / locale / f"{style}.toml"
        if path.is_file():
            data = read_file(path)
            merged = extend(merged, data) if data.get("extend", True) else data
    return merged


def read_file(path: Path) -> dict[str, Any]:
    """Read one pack's file.

    Raises:
        ConfigurationError: it is not TOML, or has keys that nothing reads.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigurationError(f"The pack {path} cannot be read: {exc}.") from exc
    unknown = set(data) - PACK_KEYS
    if unknown:
        raise ConfigurationError(f"The pack {path} has keys that nothing reads: {sorted(unknown)}.")
    for key in ("plan", "fragment"):
        entries = data.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ConfigurationError(f"The pack {path}: write [[{key}]] for each {key}.")
    return data


def extend(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pack's data with another's laid over it: equal ids replaced, disabled ids gone."""
    gone = set(own.get("disable", ()))
    merged: dict[str, Any] = {
        key: own.get(key) or base.get(key, []) for key in ("words", "default_themes")
    }
    for key in ("plan", "fragment"):
        new = {entry.get("id"): entry for entry in own.get(key, ())}
        kept = [new.pop(entry.get("id"), entry) for entry in base.get(key, ())]
        merged[key] = [entry for entry in (*kept, *new.values()) if entry.get("id") not in gone]
    return merged


def compile_pack(data: Mapping[str, Any], style: str, locale: str) -> Pack:
    """Turn a pack's data into plans and fragments, refusing what would fail later.

    Raises:
        ConfigurationError: the data names a leaf, need, slot or key that nothing knows.
    """
    name = f"{locale}/{style}"
    fragments: dict[str, list[Fragment]] = {}
    words = _texts(data, "words", name)
    shown = word_pattern(words)
    for group in data.get("fragment", ()):
        compiled = _compile_group(group, name, shown)
        for slot in slots_of(group, name):
            fragments.setdefault(slot, []).extend(compiled)
    plans = tuple(_compile_plan(plan, name) for plan in data.get("plan", ()))
    known = {*fragments, TAGS}
    unknown = {slot.name for plan in plans for slot in plan.slots} - known
    if unknown:
        raise ConfigurationError(f"Pack {name}: no fragment fills {sorted(unknown)}.")
    filled = {slot: tuple(found) for slot, found in fragments.items()}
    themes = _texts(data, "default_themes", name)
    return Pack(style, locale, words, themes, plans, filled)


def slots_of(group: Mapping[str, Any], pack: str) -> tuple[str, ...]:
    """Return the slots that a group of fragments fills."""
    slot = group.get("slot")
    if isinstance(slot, str) and slot:
        return (slot,)
    if isinstance(slot, list) and slot and all(isinstance(name, str) for name in slot):
        return tuple(slot)
    raise ConfigurationError(f"Pack {pack}: {group.get('id')!r} names no slot.")


def _compile_plan(plan: Mapping[str, Any], pack: str) -> Plan:
    slots: list[Slot] = []
    opens_paragraph = False
    unknown = set(plan) - PLAN_KEYS
    if unknown:
        raise ConfigurationError(
            f"Pack {pack}: a plan has keys that nothing reads: {sorted(unknown)}."
        )
    for named in _texts(plan, "slots", pack):
        if named == PARAGRAPH:
            opens_paragraph = True
            continue
        slots.append(Slot(named.removesuffix("?"), named.endswith("?"), opens_paragraph))
        opens_paragraph = False
    if len({slot.name for slot in slots}) < len(slots):
        raise ConfigurationError(f"Pack {pack}: plan {plan.get('id')!r} names a slot twice.")
    return Plan(_text(plan, "id", pack), tuple(slots), _weight(plan, pack))


def _compile_group(group: Mapping[str, Any], pack: str, shown: re.Pattern[str]) -> list[Fragment]:
    label = f"{pack}: {_text(group, 'id', pack)}"
    unknown = set(group) - FRAGMENT_KEYS
    if unknown:
        raise ConfigurationError(f"Pack {label} has keys that nothing reads: {sorted(unknown)}.")
    terms = {
        "needs": _among(group, "needs", KNOWN_NEEDS, label),
        "modifiers": _among(group, "modifiers", frozenset(MODIFIERS), label),
        "ratings": _among(group, "rating", frozenset(RATINGS), label) or frozenset(RATINGS),
        "times": _among(group, "time", frozenset(TIMES_OF_DAY), label),
        "claims": frozenset(_texts(group, "claims", label)),
    }
    if terms["claims"] and "fact" not in terms["needs"]:
        raise ConfigurationError(f'Pack {label} claims something and does not need "fact".')
    weight, group_id = _weight(group, label), group["id"]
    return [
        _compile_text(text, f"{pack}/{group_id}", label, shown, weight=weight, **terms)
        for text in _texts(group, "texts", label)
    ]


def _compile_text(
    text: str, group: str, label: str, shown: re.Pattern[str], **terms: Any
) -> Fragment:
    pieces = _LEAF.split(text)
    own, leaves = pieces[::2], frozenset(pieces[1::2])
    if leaves - LEAVES or any(sign in "".join(own) for sign in "{}"):
        raise ConfigurationError(f"Pack {label}: {text!r} names a leaf that does not exist.")
    variants = _variants(text, label)
    locale = group.split("/")[0]
    plain = _CHOICE.sub(lambda match: match.group(1).replace("|", " "), " ".join(own))
    return Fragment(
        id=f"{group}.{digest(text):016x}",
        variants=variants,
        leaves=leaves,
        says=content_stems(plain, locale),
        families=families_of(stems(plain, locale), locale),
        shows_style=all(shown.search(" ".join(_LEAF.split(v)[::2])) for v in variants),
        phrase=max(_LEAF.split(variants[0])[::2], key=len),
        **terms,
    )


def _variants(text: str, label: str) -> tuple[str, ...]:
    pieces = _CHOICE.split(text)
    sides = [[own] for own in pieces]
    sides[1::2] = [alternatives.split("|") for alternatives in pieces[1::2]]
    if any(sign in "".join(pieces) for sign in "[]") or any(
        "{" in side for choice in sides[1::2] for side in choice
    ):
        raise ConfigurationError(
            f"Pack {label}: {text!r} has alternatives that nest or hold leaves."
        )
    variants = tuple("".join(parts) for parts in product(*sides))
    if len(variants) > MOST_VARIANTS:
        raise ConfigurationError(f"Pack {label}: {text!r} has more than {MOST_VARIANTS} variants.")
    return variants


def _among(data: Mapping[str, Any], key: str, known: frozenset[str], label: str) -> frozenset[str]:
    named = frozenset(_texts(data, key, label))
    if named - known:
        raise ConfigurationError(
            f"Pack {label}: {key} names {sorted(named - known)}; known: {sorted(known)}."
        )
    return named


def _texts(data: Mapping[str, Any], key: str, label: str) -> tuple[str, ...]:
    value = data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigurationError(f"Pack {label}: {key} is not a list of texts.")
    return tuple(value)


def _text(data: Mapping[str, Any], key: str, label: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"Pack {label}: a plan or fragment has no {key}.")
    return value


def _weight(data: Mapping[str, Any], label: str) -> int:
    weight = data.get("weight", 1)
    if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= 1_000:
        raise ConfigurationError(f"Pack {label}: weight is not a whole number from 1 to 1000.")
    return weight
