"""What a prompt is about, as a phrase that a sentence can carry.

Invariant: a topic's text is the user's words, shortened and freed of what no reader should see
(renderer words, links, hashes, first-person claims). It is a leaf: never parsed as grammar, never
obeyed as an instruction. Its `kind` says which sentences may hold it; a phrase of unsure shape is
`free`, which only frames with a colon take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from backend.captions import phrases_de, phrases_en
from backend.captions.claims import CLAIM, may_tell_experience
from backend.captions.markup import balanced, strip_edges, strip_markup, strip_request
from backend.captions.phrases import Kind, Phrase, fold
from backend.captions.words import (
    clean,
    content_words,
    lexicon,
    shorten,
    stem,
    stem_set,
    stems,
    tokens,
    unhashed,
    word_set,
)

LONGEST = 90
_TELLING_WORDS = 2
_TAG_WORDS = 3
_MOST_RENDERER_WORDS = 5
_SENTENCE_END = (
    r"(?=[.!?…])(?<!\b[DMSdms]r)(?<!\.[A-Za-z])(?<!\bSt)(?<!\bMrs)(?<!\bvs)(?<![ .]\d)(?<!^\d)"
    r"[.!?…]+(?=\s|$)"
)
_BREAK = re.compile(
    rf"(?=[,;|.!?…:–—-])([,;|]+(?!\d)|{_SENTENCE_END}|:(?=\s|$)|(?<=\s)[-–—]+(?=\s))"
)
_NEXT_VERB = re.compile(r"\s+(?:and|but)\s+(?=\w+ed\b)", re.IGNORECASE)
_KIND_OF: dict[str, Callable[[Phrase], Kind]] = {
    "en": phrases_en.kind_of,
    "de": phrases_de.kind_of,
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A phrase and how it may stand in a sentence."""

    text: str = ""
    kind: Kind = "none"
    prompt: str = ""
    """The whole prompt, cleaned; keywords are read from it."""
    locale: str = "en"

    @property
    def inline(self) -> str:
        """The phrase as it stands inside a sentence; what may be a name keeps its capital."""
        first, _, rest = self.text.partition(" ")
        is_capital = first[:1].isupper() and (first[1:].islower() or first == "A")
        if is_capital and _is_common(fold(first), rest, self.kind, self.locale):
            return self.text[0].lower() + self.text[1:]
        return self.text

    @property
    def leading(self) -> str:
        """The phrase as it opens a sentence; iPhone keeps its small letter."""
        first = self.text.partition(" ")[0]
        capital = first[:1].upper()
        if len(capital) != 1 or not first.islower():
            return self.text
        return capital + self.text[1:]


class _Edges(NamedTuple):
    """Words by which a phrase must not begin or end."""

    begin: frozenset[str]
    end: frozenset[str]
    cut: frozenset[str]
    """Those by which a phrase must not end that was cut."""
    articles: frozenset[str]
    function: frozenset[str]
    """Words that are no names."""


class _Part(NamedTuple):
    text: str
    told: int
    """How many different words carry meaning."""
    asks: bool
    goes_on: bool
    """Whether a comma follows."""


def read_topic(prompt: object, longest: int = LONGEST, locale: str = "en") -> Topic:
    """Find what a prompt is about.

    Args:
        prompt: any value; what is no text, or holds no content word, gives an empty topic.
        longest: characters that the phrase may have.
        locale: the language by which the phrase is read.
    """
    whole = clean(prompt)
    text = strip_markup(whole)
    asked_for = strip_request(text)
    found = _phrase(asked_for, longest, locale)
    if not found.text and asked_for != text:
        found = _phrase(text, longest, locale)
    if not found.text:
        return Topic(prompt=whole, locale=locale)
    phrase = Phrase.of(found.text, asks=found.asks, governed=asked_for != text)
    kind = _KIND_OF.get(locale, phrases_en.kind_of)(phrase)
    return Topic(unhashed(found.text), kind, whole, locale)


def _phrase(text: str, longest: int, locale: str) -> _Part:
    """Return the first part that tells something, with the next ones where it tells little."""
    found = _Part("", 0, asks=False, goes_on=True)
    for part in _parts(text, locale):
        if not found.text:
            found = part
            continue
        is_tag_list = max(found.text.count(" "), part.text.count(" ")) < _TAG_WORDS
        if found.told >= _TELLING_WORDS and not (is_tag_list and found.goes_on):
            break
        room = longest - len(found.text) - 2
        if len(part.text) > room and (found.told >= _TELLING_WORDS or room < 1):
            break
        addition = _fitted(part.text, room, locale)
        if not _told(addition, locale):
            break
        text = f"{found.text}, {addition}"
        found = _Part(text, _told(text, locale), asks=False, goes_on=part.goes_on)
    fitted = _fitted(found.text, longest, locale)
    return found._replace(text=fitted, asks=found.asks and fitted == found.text)


def _parts(text: str, locale: str) -> Iterator[_Part]:
    """Yield the parts of a prompt that say something to a reader."""
    pieces = _BREAK.split(text)
    marks = [*pieces[1::2], ""]
    for piece, mark in zip(pieces[::2], marks, strict=True):
        part = _trim(_unclaimed(piece, locale), locale, cut=False, asks="?" in mark)
        told = _told(part, locale)
        if told and not _is_renderer(part, locale):
            yield _Part(part, told, "?" in mark, goes_on=mark[:1] in {",", ";", "|"})


def _told(text: str, locale: str) -> int:
    return len(set(content_words(text, locale)))


def _is_renderer(part: str, locale: str) -> bool:
    few = part.count(" ") < _MOST_RENDERER_WORDS
    return few and stems(part, locale) in _renderer_phrases(locale)


def _unclaimed(part: str, locale: str) -> str:
    """Return the most telling stretch of a part without what claims an experience."""
    if not may_tell_experience(tokens(part)):
        return part
    stretches = [piece for claimed in CLAIM.split(part) for piece in _NEXT_VERB.split(claimed)[:1]]
    told = max(stretches, key=lambda stretch: len(content_words(stretch, locale)))
    if content_words(told, locale):
        return told
    words = [word for word in part.split() if content_words(word, locale)]
    return " ".join([word for word in words if not may_tell_experience(tokens(word))])


def _fitted(text: str, longest: int, locale: str) -> str:
    """Cut a phrase to its room; where only small words would be left, they go first."""
    if len(text) <= longest:
        return text
    fitted = _trim(shorten(text, longest), locale)
    if content_words(fitted, locale):
        return fitted
    words = text.split(" ")
    first = next((i for i, word in enumerate(words) if content_words(word, locale)), 0)
    fitted = _trim(shorten(" ".join(words[first:]), longest), locale)
    return fitted if content_words(fitted, locale) else ""


def _trim(text: str, locale: str, *, cut: bool = True, asks: bool = False) -> str:
    """Take from both ends what no phrase begins or ends with."""
    edges = _edges(locale)
    words = strip_edges(balanced(text)).split()
    if words and not asks:
        incomplete = cut or fold(words[-1]) in edges.articles
        ends = edges.cut if incomplete else edges.end
        while words and fold(words[-1]) in ends:
            words.pop()
    while words and fold(words[0]) in edges.begin:
        words.pop(0)
    return _tidied(" ".join(words))


def _tidied(text: str) -> str:
    """Take away stray signs and lone quotes until neither leaves the other behind."""
    while (tidier := strip_edges(balanced(text))) != text:
        text = tidier
    return text


@cache
def _edges(locale: str) -> _Edges:
    def listed(name: str) -> frozenset[str]:
        return word_set("grammar", name, locale=locale)

    begin = frozenset({"and", "or", "but", "of", "und", "oder", "aber"})
    articles = listed("determiners") | listed("oblique_determiners") | listed("foreign_determiners")
    end = (articles | listed("conjunctions") | listed("prepositions")) - {"this", "so"}
    cut = end | listed("subordinators") | listed("finite") | listed("possessives") | {"not", "very"}
    function = articles | listed("prepositions") | listed("pronouns") | listed("conjunctions")
    small = function | listed("questions") | listed("subordinators") | listed("before_infinitives")
    return _Edges(
        begin, end - listed("particles"), cut, articles, small - {"i", "i'm", "i've", "i'll", "i'd"}
    )


def _is_common(first: str, rest: str, kind: Kind, locale: str) -> bool:
    """Tell whether a word opens a phrase in capitals only because it comes first."""
    if kind in {"question", "imperative"} or first in _edges(locale).function:
        return True
    if locale == "de":
        followed = rest[:1].isupper() or fold(rest.partition(" ")[0]) in _common_words("de")
        return followed and _without_ending(first) in _common_words("de")
    if kind == "gerund":
        return True
    is_name = rest[:1].isupper()
    return not is_name and (first in _common_words(locale) or stem(first) in _common_stems())


def _without_ending(word: str) -> str:
    return re.sub(r"(?<=..)e[rsnm]?$", "", word)


@cache
def _common_words(locale: str) -> frozenset[str]:
    words = (
        word
        for name in ("adjectives", "common_nouns")
        for word in word_set("grammar", name, locale=locale)
    )
    return frozenset(words)


@cache
def _common_stems() -> frozenset[str]:
    """Return stems that the English word lists know, and that are therefore no names."""
    words = lexicon()
    listed = [*words["styles"].values(), *words["modifiers"].values(), words["renderer"]]
    return frozenset(phrase[0] for entries in listed for phrase in stem_set(entries)) - {
        "ai",
        "ceo",
    }


@cache
def _renderer_phrases(locale: str) -> frozenset[tuple[str, ...]]:
    return stem_set(lexicon(locale)["renderer"], locale)
