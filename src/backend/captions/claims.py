"""What a persona must not assert by itself: experiences, figures, promises, proofs.

Invariant: what a brief says may be said again, except an experience, which a synthetic persona
never had.

One list serves the topic (a claim in a prompt is not repeated), the gate and the packs' lint.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from backend.captions.watchlist import Watchlist
from backend.captions.words import tokens

Kind = Literal["experience", "number", "health", "money", "proof"]

_DATA = Path(__file__).with_name("claims.toml")
_SET = re.compile(r"%(\w+)%")
_TELLING = 4
_NEAR = 40
# Not after a letter, so that B2B, CO2 and GPT-4 are names.
_FIGURE = re.compile(r"(?<![^\W\d_])(?<![A-Z]-)(?<!\d)\d+(?:[.,:]\d+)*")
_DIGIT = re.compile(r"\d")
_ENUMERATION = r"(?m:^\s*\d{1,2}[.)]\s)|\d\ufe0f?\u20e3"
_THOUSANDS = re.compile(r"[.,](?=\d{3}(?:\D|$))")


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that a text asserts."""

    kind: Kind
    text: str


class _Sort(NamedTuple):
    kind: Kind
    negated: re.Pattern[str]


def _load() -> dict[str, Any]:
    return tomllib.loads(_DATA.read_text("utf-8"))


def _entries(data: dict[str, Any]) -> Iterator[tuple[Sequence[str], _Sort, str]]:
    """Yield each pattern, with the words for which it is tried."""
    for language in (value for value in data.values() if "claim" in value):
        negated = re.compile(language["negators"])
        sets: dict[str, str] = language["sets"]
        for claim in language["claim"]:
            yield claim["words"], _Sort(claim["kind"], negated), _filled(claim["find"], sets)


def _filled(find: str, sets: dict[str, str]) -> str:
    """Put a language's sets in the places that name them."""
    return _SET.sub(lambda match: sets[match[1]], find)


_LISTS = _load()
_WATCHED: Watchlist[_Sort] = Watchlist(_entries(_LISTS))
_VALUES: dict[str, str] = {word.casefold(): str(value) for word, value in _LISTS["numbers"].items()}
_UNTOLD = _VALUES.keys() | {"times", "percent", "prozent", "just", "only", "than", "your"}
_NO_FIGURES = re.compile(f"{_LISTS['figures']['idioms']}|{_ENUMERATION}", re.IGNORECASE)

CLAIM = re.compile(
    "|".join(find for _, sort, find in _entries(_LISTS) if sort.kind == "experience"),
    re.IGNORECASE,
)
"""What says that the speaker has experienced a product."""


def may_tell_experience(words: Sequence[str]) -> bool:
    """Tell whether `CLAIM` is worth trying on a text of these words, in lower case."""
    return any(sort.kind == "experience" for _, sort, _ in _WATCHED.called_by(words))


def claims_in(text: str, given: str = "", words: Sequence[str] | None = None) -> tuple[Claim, ...]:
    """Return what a text asserts that was not given, in the order of the text.

    Args:
        text: a caption.
        given: what may be said again: everything that the request said.
        words: the text's tokens, where they are known already.
    """
    spans = [*_figures(text, given)]
    called = _WATCHED.called_by(tokens(text) if words is None else words)
    plain = text.replace("’", "'") if called else ""
    for _, sort, pattern in called:
        spans.extend(_matches(sort, pattern, plain, given))
    found: list[Claim] = []
    end = 0
    for span in sorted(spans, key=lambda span: (span.start, -len(span.text))):
        if span.start >= end and span.kind:
            found.append(Claim(span.kind, " ".join(span.text.split())))
        end = max(end, span.start + len(span.text))
    return tuple(dict.fromkeys(found))


class _Span(NamedTuple):
    start: int
    text: str
    kind: Kind | None
    """None where the words may stand: then what overlaps them may, too."""


def _matches(sort: _Sort, pattern: re.Pattern[str], text: str, given: str) -> Iterator[_Span]:
    for match in pattern.finditer(text):
        may_stand = False
        if sort.kind != "experience":
            before = text[max(0, match.start() - _NEAR) : match.start()].lower()
            negated = sort.kind != "number" and sort.negated.search(before)
            may_stand = bool(negated) or _was_given(match[0], sort.kind, given)
        yield _Span(match.start(), match[0], None if may_stand else sort.kind)


def _figures(text: str, given: str) -> Iterator[_Span]:
    """Yield the figures that are written in digits."""
    if not _DIGIT.search(text):
        return
    hidden = _NO_FIGURES.sub(lambda match: "_" * len(match[0]), text)
    allowed = _given(given).figures
    for match in _FIGURE.finditer(hidden):
        was_given = _canonical(match[0]) in allowed
        yield _Span(match.start(), match[0], None if was_given else "number")


class _Given(NamedTuple):
    figures: frozenset[str]
    text: str


@lru_cache(maxsize=64)
def _given(text: str) -> _Given:
    """Read what was given; one brief is asked about many texts."""
    figures = {_canonical(figure) for figure in re.findall(r"\d+(?:[.,:]\d+)*", text)}
    figures |= {_VALUES[word] for word in tokens(text) if word in _VALUES}
    return _Given(frozenset(figures), _squeezed(text))


def _was_given(claim: str, kind: Kind, given: str) -> bool:
    if not given:
        return False
    known = _given(given)
    if _squeezed(claim) in known.text:
        return True
    said = tokens(claim)
    if not {_VALUES[word] for word in said if word in _VALUES} <= known.figures:
        return False
    telling = [word for word in said if len(word) >= _TELLING and word not in _UNTOLD]
    return bool(telling or kind == "number") and all(word in known.text for word in telling)


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().replace("’", "'").replace("-", " ").split())


def _canonical(figure: str) -> str:
    """Write a figure one way: 10,000 and 10.000 as 10000, 1,5 as 1.5."""
    return _THOUSANDS.sub("", figure).replace(",", ".")
