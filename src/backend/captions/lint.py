"""What is wrong with a pack, said before a caption goes out.

Each check is a function from a pack to findings; a finding names the pack and the text. What a
grammar checker says is in `grammar_check`, since that is an extra.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from backend.captions.claims import claims_in
from backend.captions.grammar import (
    EXTRAS,
    FLAGS,
    TAGS,
    TONE,
    Bound,
    BoundPlan,
    Fragment,
    Pack,
    Situation,
)
from backend.captions.memory import runs_of
from backend.captions.packs import Library
from backend.captions.platforms import PLATFORMS, hashtag
from backend.captions.scoring import MODIFIERS, STYLES
from backend.errors import ConfigurationError

FEWEST_TONES = 8
SAMPLE = {
    "topic": "a cat on a wall",
    "Topic": "A cat on a wall",
    "theme": "street food",
    "context": "",
    "look": "long black hair",
    "fact": "the shop opens at nine",
}
LONG_TOPIC, LONG_THEME = "t" * 40, "t" * 20
"""What a caption must have room for on every platform without its topic being shortened."""

_CARRIERS, _THEME = frozenset({"topic", "Topic"}), frozenset({"theme"})
_CARELESS = re.compile(r"  | [.,;:!?](?!\.)|[.,;:!?]{2}|\d|\bi\b|[–—]|^\s|\s$")
_ENDS = re.compile(r"(?:[.!?…][\"“”')]?|[.!?] \W{1,3})$")
_GOVERNED = re.compile(
    r"(?:^|[,:;.] |\b(?:and|but|why|how|then|that|when|often|so) )\{theme\}(?:\{context\})? "
    r"(?!as\b|across\b|always\b)(\w+s|are|have|do)\b",
    re.IGNORECASE,
)
"""A theme as the subject of an English verb in the present: it may be of any number."""

_EXPERIENCED = re.compile(r"\b(?:tried|tested|used|loved|bought)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One thing that is wrong, and where."""

    code: str
    where: str
    detail: str


def lint_library(library: Library, locales: Iterable[str] = ()) -> tuple[LintFinding, ...]:
    """Return what is wrong with a library's packs, locale by locale.

    Args:
        library: the folders; the user's own are laid over the shipped ones first.
        locales: those to look at; all where none is named.
    """
    found: list[LintFinding] = []
    for locale in locales or library.locales():
        packs: list[Pack] = []
        for style in STYLES:
            try:
                packs.append(library.pack(style, locale))
            except ConfigurationError as exc:
                found.append(LintFinding("schema", f"{locale}/{style}", exc.message))
        found += chain.from_iterable(lint_pack(pack) for pack in packs)
        found += _duplicates(packs)
    return tuple(found)


def lint_pack(pack: Pack) -> Iterator[LintFinding]:
    """Yield what is wrong with one pack."""
    for check in _CHECKS:
        yield from check(pack)


def texts_of(pack: Pack) -> Iterator[tuple[Fragment, str]]:
    """Yield every fragment once, with each of its variants rendered on sample values."""
    seen: set[str] = set()
    for fragment in chain.from_iterable(pack.fragments.values()):
        if fragment.id not in seen:
            seen.add(fragment.id)
            for variant in fragment.variants:
                yield fragment, variant.format_map(SAMPLE)


def _name(pack: Pack) -> str:
    return f"{pack.locale}/{pack.style}"


def _reachable(pack: Pack) -> Iterator[LintFinding]:
    used = {slot.name for plan in pack.plans for slot in plan.slots}
    situations = [frozenset(flags | EXTRAS) for flags in FLAGS.values()]
    for slot, fragments in pack.fragments.items():
        if slot not in used:
            yield LintFinding("unreachable", _name(pack), f"no plan has the slot {slot!r}")
        for fragment in fragments:
            if not any(fragment.needs <= flags for flags in situations):
                needs = ", ".join(sorted(fragment.needs))
                detail = f"{fragment.phrase!r} needs what never comes together: {needs}"
                yield LintFinding("unreachable", _name(pack), detail)


def _on_topic(pack: Pack) -> Iterator[LintFinding]:
    """Every plan names the topic once where there is one, a theme once, and shows the style."""
    for kind in FLAGS:
        bound = pack.bind(Situation.of(kind))
        for plan in bound.plans:
            where = f"{_name(pack)}: plan {plan.id}, topic {kind}"
            if kind != "none":
                yield from _named_once(bound, plan, _CARRIERS, LintFinding("topic", where, ""))
            yield from _named_once(bound, plan, _THEME, LintFinding("theme", where, ""))
            if not any(
                all(f.shows_style for f in bound.choices[slot.name].fragments)
                for slot in plan.slots
                if slot.name != TAGS and not slot.optional
            ):
                yield LintFinding("style", where, "has no slot that always shows the style")


def _named_once(
    bound: Bound, plan: BoundPlan, leaves: frozenset[str], finding: LintFinding
) -> Iterator[LintFinding]:
    """Yield a finding where a plan does not name a leaf in one slot and in no other."""
    surely = 0
    for slot in plan.slots:
        if slot.name != TAGS:
            held = [bool(f.leaves & leaves) for f in bound.choices[slot.name].fragments]
            surely += all(held) and not slot.optional
            if any(held) and not all(held):
                yield replace(finding, detail=f"only some texts of {slot.name!r} name it")
    if surely != 1:
        yield replace(finding, detail=f"{surely} slots name it for sure")


def _lengths(pack: Pack) -> Iterator[LintFinding]:
    """The longest caption of each plan, less what can be spared, fits every platform."""
    leaves = {**SAMPLE, "topic": LONG_TOPIC, "Topic": LONG_TOPIC, "theme": LONG_THEME}
    leaves["context"] = ""
    longest: dict[str, str] = {}
    for kind in FLAGS:
        bound = pack.bind(Situation.of(kind))
        for plan in bound.plans:
            texts = [
                max((v.format_map(leaves) for f in fragments for v in f.variants), key=len)
                for slot in plan.slots
                if slot.name != TAGS
                for fragments in [bound.choices[slot.name].fragments]
                if any(f.leaves & {"topic", "Topic", "theme"} for f in fragments)
            ]
            text = " ".join(texts)
            longest[plan.id] = max(longest.get(plan.id, ""), text, key=len)
    for plan_id, text in longest.items():
        for platform in PLATFORMS.values():
            if not platform.fits(text):
                detail = f"{platform.length(text)} of {platform.limit}: {text!r}"
                yield LintFinding(
                    "length", f"{_name(pack)}: plan {plan_id}, {platform.name}", detail
                )


def _clean(pack: Pack) -> Iterator[LintFinding]:
    for _, text in texts_of(pack):
        careless = _CARELESS.search(text)
        if careless:
            yield LintFinding("punctuation", _name(pack), f"{careless.group()!r} in {text!r}")
        if not text[:1].isupper():
            yield LintFinding("punctuation", _name(pack), f"no capital at the start of {text!r}")
        if not _ENDS.search(text):
            yield LintFinding("punctuation", _name(pack), f"no end to the sentence {text!r}")
        experienced = _EXPERIENCED.search(text)
        denied = [claim.text for claim in claims_in(text, SAMPLE["fact"])]
        for claim in [experienced.group()] if experienced else denied:
            yield LintFinding("claim", _name(pack), f"{claim!r} in {text!r}")


def _agreement(pack: Pack) -> Iterator[LintFinding]:
    for fragment in {f.id: f for f, _ in texts_of(pack)}.values() if pack.locale == "en" else ():
        governed = next(filter(None, map(_GOVERNED.search, fragment.variants)), None)
        if governed:
            detail = f"a theme may be a plural: {governed.group()!r}"
            yield LintFinding("agreement", _name(pack), detail)


def _tags(pack: Pack) -> Iterator[LintFinding]:
    for _, text in texts_of(pack):
        if "#" in text:
            yield LintFinding("hashtag", _name(pack), f"hashtags come from themes: {text!r}")
    for theme in pack.default_themes:
        if not hashtag(theme):
            yield LintFinding("hashtag", _name(pack), f"the theme {theme!r} makes no hashtag")


def _modifiers(pack: Pack) -> Iterator[LintFinding]:
    for modifier in MODIFIERS:
        heard = [f for f in pack.fragments.get(TONE, ()) if modifier in f.modifiers]
        if len(heard) < FEWEST_TONES:
            detail = (
                f"{modifier}: {len(heard)} texts in {TONE!r}, at least {FEWEST_TONES} are needed"
            )
            yield LintFinding("modifier", _name(pack), detail)


def _duplicates(packs: Iterable[Pack]) -> Iterator[LintFinding]:
    """No two texts of a locale share a run of four words."""
    held: dict[tuple[str, ...], str] = {}
    for pack in packs:
        for fragment, _ in texts_of(pack):
            for variant in fragment.variants[:1]:
                pieces = re.split(r"\{\w+\}", variant)
                for run in set().union(*map(runs_of, pieces)):
                    other = held.setdefault(run, variant)
                    if other != variant:
                        detail = f"{' '.join(run)!r} is in {other!r} and in {variant!r}"
                        yield LintFinding("duplicate", _name(pack), detail)


_CHECKS: tuple[Callable[[Pack], Iterator[LintFinding]], ...] = (
    _reachable,
    _on_topic,
    _lengths,
    _clean,
    _agreement,
    _tags,
    _modifiers,
)
