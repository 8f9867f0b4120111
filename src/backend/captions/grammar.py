"""Packs: plans and fragments as TOML data, compiled once, rendered with opaque leaves.

A *plan* is an ordered list of slots; `?` after a slot means that half of the captions have it, `¶`
starts a new paragraph. A *fragment* fills a slot and may `need` something of the topic or belong to
modifiers. Inside a fragment `{topic}`, `{Topic}`, `{theme}` and `{context}` are leaves.

Invariant: braces are read when a pack is compiled and never again. Whatever a leaf's value holds
goes into the text as it is.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, TypeVar

from backend.captions.memory import Memory
from backend.captions.scoring import STYLES
from backend.captions.topic import Kind
from backend.captions.words import PACKS, content_stems
from backend.errors import ConfigurationError

LEAVES = frozenset({"topic", "Topic", "theme", "context"})
PARAGRAPH = "¶"
TAGS = "tags"
TONE = "tone"
FLAGS: Mapping[Kind, frozenset[str]] = {
    "none": frozenset({"no-topic"}),
    "gerund": frozenset({"topic", "statement", "phrase", "gerund"}),
    "noun": frozenset({"topic", "statement", "phrase", "noun"}),
    "bare": frozenset({"topic", "statement", "phrase"}),
    "free": frozenset({"topic", "statement"}),
    "question": frozenset({"topic", "question"}),
}
KNOWN_NEEDS = frozenset().union(*FLAGS.values())

_LEAF = re.compile(r"\{(\w+)\}")
Item = TypeVar("Item", bound="Plan | Fragment")


def sub_random(seed: int, *path: object) -> Random:
    """Return the generator of one choice, so that one choice does not reshuffle the others.

    Only its `random()` is used: that method gives the same numbers on every Python.
    """
    key = "/".join(str(part) for part in (seed, *path))
    return Random(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()))


@dataclass(frozen=True, slots=True)
class Fragment:
    """A phrase that may fill a slot."""

    id: str
    pieces: tuple[str, ...]
    """Text and the names of leaves, in turns, text first."""
    weight: float
    needs: frozenset[str]
    modifiers: frozenset[str]
    says: frozenset[str]
    """Stems of its own content words."""
    longest_piece: str
    """The longest run of its own words, by which a text is seen to hold it."""

    def render(self, leaves: Mapping[str, str]) -> str:
        """Put the leaves' values in, as they are."""
        return "".join(
            leaves[piece] if index % 2 else piece for index, piece in enumerate(self.pieces)
        )

    def fits(self, flags: frozenset[str], modifiers: Iterable[str]) -> bool:
        """Tell whether the topic gives what is needed and a modifier asks for this."""
        return self.needs <= flags and (
            not self.modifiers or not self.modifiers.isdisjoint(modifiers)
        )


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a plan."""

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """An order of slots."""

    id: str
    slots: tuple[Slot, ...]
    weight: float


@dataclass(frozen=True)
class Pack:
    """One style's plans and fragments in one locale."""

    style: str
    locale: str
    words: tuple[str, ...]
    """Every caption shows at least one of these."""
    default_themes: tuple[str, ...]
    plans: tuple[Plan, ...]
    fragments: Mapping[str, tuple[Fragment, ...]] = field(repr=False)

    def candidates(
        self, slot: str, flags: frozenset[str], modifiers: Iterable[str]
    ) -> tuple[Fragment, ...]:
        """Return the fragments that may fill a slot."""
        modifiers = tuple(modifiers)
        return tuple(f for f in self.fragments.get(slot, ()) if f.fits(flags, modifiers))

    def shows_style(self, text: str) -> bool:
        """Tell whether a text holds one of the style's words."""
        return bool(re.search(rf"\b(?:{'|'.join(self.words)})\b", text, re.IGNORECASE))


@dataclass(frozen=True, slots=True)
class Part:
    """A filled slot."""

    slot: str
    fragment: str
    text: str
    opens_paragraph: bool


def draw(items: Sequence[Item], random: Random) -> Item:
    """Draw one of the items by weight."""
    mark = random.random() * sum(item.weight for item in items)
    for item in items:
        mark -= item.weight
        if mark < 0:
            return item
    return items[-1]


def fill(
    pack: Pack,
    plan: Plan,
    leaves: Mapping[str, str],
    flags: frozenset[str],
    modifiers: Sequence[str],
    seed: int,
    memory: Memory,
) -> list[Part]:
    """Fill a plan's slots; a slot that nothing fills is left out.

    Fragments said lately, or that repeat a word of the leaves or of an earlier slot, are passed
    over where others are left.
    """
    parts: list[Part] = []
    said = content_stems(" ".join(leaves.values()))
    opens_paragraph = False
    for slot in plan.slots:
        if slot.name == PARAGRAPH:
            opens_paragraph = True
            continue
        if slot.optional and sub_random(seed, plan.id, slot.name, "?").random() < 0.5:
            continue
        candidates = pack.candidates(slot.name, flags, modifiers)
        if candidates:
            chosen = draw(_unsaid(candidates, said, memory), sub_random(seed, slot.name))
            said |= chosen.says
            parts.append(Part(slot.name, chosen.id, chosen.render(leaves), opens_paragraph))
            opens_paragraph = False
    return parts


def _unsaid(
    candidates: Sequence[Fragment], said: frozenset[str], memory: Memory
) -> Sequence[Fragment]:
    unheard = memory.least_recent(candidates, [f.longest_piece for f in candidates])
    return [fragment for fragment in unheard if said.isdisjoint(fragment.says)] or unheard


def join(parts: Iterable[Part]) -> str:
    """Join filled slots into a text."""
    text = ""
    for part in parts:
        space = ("\n\n" if part.opens_paragraph else " ") if text else ""
        text += space + part.text
    return text


@cache
def load_pack(style: str, locale: str = "en") -> Pack:
    """Read and compile a style's pack, once.

    Raises:
        ConfigurationError: the pack's data names a leaf, need or slot that nothing knows.
    """
    if style not in STYLES:
        style = "casual"
    data = tomllib.loads((PACKS / locale / f"{style}.toml").read_text("utf-8"))
    return compile_pack(data, style, locale)


def compile_pack(data: Mapping[str, Any], style: str, locale: str) -> Pack:
    """Turn a pack's data into plans and fragments, refusing what would fail later."""
    fragments: dict[str, list[Fragment]] = {}
    for group in data["fragment"]:
        slots = [group["slot"]] if isinstance(group["slot"], str) else group["slot"]
        for fragment in _compile_group(group, f"{locale}/{style}"):
            for slot in slots:
                fragments.setdefault(slot, []).append(fragment)
    plans = tuple(
        Plan(plan["id"], tuple(_slot(name) for name in plan["slots"]), plan.get("weight", 1))
        for plan in data["plan"]
    )
    known = {*fragments, PARAGRAPH, TAGS}
    unknown = {slot.name for plan in plans for slot in plan.slots} - known
    if unknown:
        raise ConfigurationError(f"Pack {locale}/{style}: no fragment fills {sorted(unknown)}.")
    return Pack(
        style,
        locale,
        tuple(data["words"]),
        tuple(data["default_themes"]),
        plans,
        {slot: tuple(found) for slot, found in fragments.items()},
    )


def _compile_group(group: Mapping[str, Any], pack: str) -> list[Fragment]:
    needs = frozenset(group.get("needs", ()))
    if needs - KNOWN_NEEDS:
        raise ConfigurationError(f"Pack {pack}: {group['id']} needs {sorted(needs - KNOWN_NEEDS)}.")
    compiled = []
    for number, text in enumerate(group["texts"]):
        pieces = tuple(_LEAF.split(text))
        if set(pieces[1::2]) - LEAVES or "{" in "".join(pieces[::2]):
            raise ConfigurationError(f"Pack {pack}: {text!r} names a leaf that does not exist.")
        compiled.append(
            Fragment(
                f"{group['id']}.{number}",
                pieces,
                group.get("weight", 1),
                needs,
                frozenset(group.get("modifiers", ())),
                content_stems(" ".join(pieces[::2])),
                max(pieces[::2], key=len),
            )
        )
    return compiled


def _slot(name: str) -> Slot:
    return Slot(name.removesuffix("?"), name.endswith("?"))
