"""From a persona's words to a style and to modifiers.

Words count by token and stem, never by substring, so "update" is not tech and "compassionate" is
not passionate; and only forms of a listed word count, so that "informative", which shares a stem
with "informal", is not casual. What stands in the scope of a negation ("not creative", "anything
but formal", "formal? never") does not count; two negations cancel out. Personality traits weigh 3
each, aesthetic 2, voice style 1; ties go by voice, then by aesthetic, then to casual.

A persona may be written in another language than it speaks, and the contract's methods are told
none, so the word lists of all shipped locales are read at once; at each place the longest phrase
of any of them counts. Their words rarely mean different things, and no list holds one that does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import NamedTuple

from backend.captions.voice import Voice, as_text, as_traits
from backend.captions.words import lexicon, locales, stem, tokens

STYLES = ("creative", "professional", "tech", "casual")
MODIFIERS = ("warm", "confident", "passionate", "analytical")
TRAIT_WEIGHT, AESTHETIC_WEIGHT, VOICE_WEIGHT = 3, 2, 1

_LONGEST_PHRASE = 4
_READ_CHARACTERS = 1_000
_PIECE = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[,;.!?:()\n–—]|(?<=\s)-(?=\s)")
_NOT = re.compile(r"n['’]t$|^cannot$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A word of a persona's and what it counts for."""

    field: str
    """Where it stands: trait, aesthetic or voice."""

    words: str
    style: str
    weight: int
    """What it adds; 0 where it is denied, or says again what its field or trait has said."""

    denied: bool = False


@dataclass(frozen=True, slots=True)
class StyleScores:
    """The style that won, every style's score, and the words that they come from."""

    style: str
    scores: Mapping[str, int]
    evidence: tuple[Evidence, ...] = ()


class Named(NamedTuple):
    """A listed word in a text."""

    word: str
    labels: tuple[str, ...]
    denied: bool
    part: int
    """Which of the text's parts it stands in; commas, "and" and the like separate them."""


def score_styles(traits: object, aesthetic: object, voice_style: object) -> StyleScores:
    """Weigh a persona's words and name its style.

    Args:
        traits: a list of traits, or a text that separates them by commas.
        aesthetic: a text or a list of texts.
        voice_style: a text or a list of texts.
    """
    by_trait = _weighed(", ".join(as_traits(traits)), "trait", TRAIT_WEIGHT, each=True)
    by_aesthetic = _weighed(as_text(aesthetic), "aesthetic", AESTHETIC_WEIGHT)
    by_voice = _weighed(as_text(voice_style), "voice", VOICE_WEIGHT)
    evidence = (*by_trait, *by_aesthetic, *by_voice)
    scores = dict.fromkeys(STYLES, 0)
    for found in evidence:
        scores[found.style] += found.weight
    winner = _winner(scores, _affirmed(by_voice), _affirmed(by_aesthetic))
    return StyleScores(winner, MappingProxyType(scores), evidence)


@lru_cache(maxsize=256)
def score_voice(voice: Voice) -> StyleScores:
    """Weigh the words of a persona that was read."""
    return score_styles(voice.traits, voice.aesthetic, voice.voice_style)


def modifiers_of(*texts: object, locale: str | None = None) -> tuple[str, ...]:
    """Return the modifiers that any of the texts names and does not deny, in their fixed order.

    Args:
        texts: texts or lists of texts.
        locale: whose word lists to read; those of all locales where none is given.
    """
    read = (named_in(as_text(text), "modifiers", locale) for text in texts)
    named = {label for found in read for one in found if not one.denied for label in one.labels}
    return tuple(modifier for modifier in MODIFIERS if modifier in named)


def styles_in(text: str) -> frozenset[str]:
    """Return the styles that a text names and does not deny."""
    found = named_in(text, "styles")
    return frozenset(label for one in found if not one.denied for label in one.labels)


def named_in(text: str, table: str, locale: str | None = None) -> tuple[Named, ...]:
    """Return the words of a text that one of the lexicon's tables lists, denied or not."""
    return _Reading(_roles(table, (locale,) if locale else locales())).read(text[:_READ_CHARACTERS])


def _weighed(text: str, field: str, weight: int, *, each: bool = False) -> list[Evidence]:
    """Weigh a field's words: a style counts once, or once in each of its parts."""
    evidence = []
    counted: set[tuple[int, str]] = set()
    for named in named_in(text, "styles"):
        part = named.part if each else 0
        for style in named.labels:
            new = not named.denied and (part, style) not in counted
            if new:
                counted.add((part, style))
            evidence.append(Evidence(field, named.word, style, weight if new else 0, named.denied))
    return evidence


def _affirmed(evidence: Iterable[Evidence]) -> frozenset[str]:
    return frozenset(one.style for one in evidence if not one.denied)


def _winner(scores: Mapping[str, int], *tie_breakers: frozenset[str]) -> str:
    best = max(scores.values())
    tied = [style for style in STYLES if scores[style] == best]
    if best == 0:
        return "casual"
    for named in tie_breakers:
        preferred = [style for style in tied if style in named]
        if len(preferred) == 1:
            return preferred[0]
    return tied[0] if len(tied) == 1 else "casual"


class _Role(NamedTuple):
    """What a listed word or phrase does in a text."""

    does: str
    """name, name denied, deny, deny hard, affirm, turn, join, or, fill"""

    labels: tuple[str, ...] = ()
    forms: tuple[tuple[str, ...], ...] = ()
    """The phrases that it may be a form of."""


_Roles = Mapping[tuple[str, ...], _Role]


@cache
def _roles(table: str, read: tuple[str, ...]) -> tuple[tuple[str, _Roles], ...]:
    return tuple((locale, _locale_roles(table, locale)) for locale in read)


def _locale_roles(table: str, locale: str) -> _Roles:
    words = lexicon(locale)
    roles: dict[tuple[str, ...], _Role] = {}
    for label, listed in words[table].items():
        for phrase in map(tuple, map(tokens, listed)):
            key = tuple(stem(word, locale) for word in phrase)
            old = roles.get(key, _Role("name"))
            labels = tuple(dict.fromkeys((*old.labels, label)))
            roles[key] = _Role("name", labels, (*old.forms, phrase))
    for name, does in _LISTS.items():
        for phrase in map(tuple, map(tokens, words[name])):
            roles[tuple(stem(word, locale) for word in phrase)] = _Role(does)
    return roles


_LISTS = {
    "negators": "deny",
    "hard_negators": "deny hard",
    "affirmations": "affirm",
    "contrasts": "turn",
    "joiners": "join",
    "alternatives": "or",
    "fillers": "fill",
}


class _Reading:
    """One pass over a text that keeps track of what is denied."""

    def __init__(self, tables: tuple[tuple[str, _Roles], ...]) -> None:
        self._tables = tables
        self._found: list[Named] = []
        self._denied = False
        self._part = 0
        self._clause_start = 0
        self._last_clause_start = 0
        self._trailing = False
        self._told = False

    def read(self, text: str) -> tuple[Named, ...]:
        """Return the listed words of a text."""
        pieces = list(_pieces(text))
        position = 0
        while position < len(pieces):
            if not pieces[position][0].isalnum():
                self._end_clause(pieces, position)
                position += 1
                continue
            length, role = self._role_at(pieces, position)
            self._take(role, " ".join(pieces[position : position + length]))
            position += length
        self._end_clause(pieces, position)
        return tuple(self._found)

    def _take(self, role: _Role | None, phrase: str) -> None:
        if role is None:
            self._trailing, self._told = False, True
        elif role.does in {"name", "name denied"}:
            denied = self._denied != (role.does == "name denied")
            self._found.append(Named(phrase, role.labels, denied, self._part))
            self._trailing, self._told = False, True
        elif role.does in {"deny", "deny hard"}:
            self._denied = role.does == "deny hard" or not self._denied
            self._trailing = True
        elif role.does == "turn":
            self._end_denial()
            self._part += 1
        elif role.does in {"join", "or"}:
            self._part += not self._denied

    def _end_clause(self, pieces: Sequence[str], position: int) -> None:
        """Take a negation that nothing follows back to what stood before it; open a new clause."""
        denied = self._denied
        self._end_denial()
        goes_on = position < len(pieces) and pieces[position] == ","
        self._denied = denied and goes_on and self._alternative_follows(pieces, position + 1)
        self._part += 1
        if self._told:
            self._last_clause_start = self._clause_start
        self._clause_start, self._told = len(self._found), False

    def _end_denial(self) -> None:
        if self._trailing:
            start = self._clause_start if self._told else self._last_clause_start
            self._found[start:] = [one._replace(denied=True) for one in self._found[start:]]
        self._denied = self._trailing = False

    def _alternative_follows(self, pieces: Sequence[str], position: int) -> bool:
        """Tell whether a denied list goes on: "not formal, corporate or stiff"."""
        while position < len(pieces) and (pieces[position][0].isalnum() or pieces[position] == ","):
            length, role = self._role_at(pieces, position) if pieces[position] != "," else (1, None)
            if role and role.does in {"or", "deny", "deny hard", "turn"}:
                return role.does == "or"
            position += length
        return False

    def _role_at(self, pieces: Sequence[str], position: int) -> tuple[int, _Role | None]:
        """Return the longest listed phrase that begins here, and how many words it has."""
        for length in range(min(_LONGEST_PHRASE, len(pieces) - position), 0, -1):
            words = tuple(pieces[position : position + length])
            for locale, roles in self._tables:
                role = roles.get(tuple(stem(word.casefold(), locale) for word in words))
                if role and (not role.forms or _is_form(words, role.forms, locale)):
                    return length, role
        return 1, self._with_prefix(pieces[position].casefold())

    def _with_prefix(self, word: str) -> _Role | None:
        for locale, roles in self._tables:
            for prefix in lexicon(locale)["prefixes"]:
                rest = word.removeprefix(prefix)
                role = roles.get((stem(rest, locale),)) if rest != word else None
                if role and role.does == "name" and _is_form((rest,), role.forms, locale):
                    return role._replace(does="name denied")
        return None


def _pieces(text: str) -> Iterator[str]:
    """Yield words and the signs that end a clause; "isn't" is "is" and "not"."""
    for piece in _PIECE.findall(text):
        short = _NOT.sub("", piece)
        if short != piece:
            yield from (short or "can", "not")
        else:
            yield piece.replace("’", "'")


@lru_cache(maxsize=8_192)
def _is_form(words: tuple[str, ...], forms: tuple[tuple[str, ...], ...], locale: str) -> bool:
    """Tell whether words are forms of one of the phrases, and not merely of the same stems."""
    return any(
        all(
            _inflects(word.casefold(), base, locale) for word, base in zip(words, form, strict=True)
        )
        for form in forms
    )


def _inflects(word: str, base: str, locale: str) -> bool:
    shared = 0
    while shared < min(len(word), len(base)) and word[shared] == base[shared]:
        shared += 1
    endings = _endings(locale)
    return word == base or (word[shared:] in endings and base[shared:] in endings)


@cache
def _endings(locale: str) -> frozenset[str]:
    return frozenset(lexicon(locale)["inflections"])
