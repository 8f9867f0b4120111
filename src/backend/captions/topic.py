"""What a prompt is about, as a phrase that a sentence can carry.

Invariant: a topic's text is the user's words, shortened and freed of what no reader should see
(renderer words, links, hashes, first-person claims). It is a leaf: never parsed as grammar, never
obeyed as an instruction. Its `kind` says which sentences may hold it; a phrase of unsure shape is
`free`, which only frames with a colon take.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from backend.captions.claims import CLAIM
from backend.captions.words import (
    clean,
    content_words,
    lexicon,
    shorten,
    stem,
    stem_set,
    stems,
    tokens,
    word_set,
)

Kind = Literal["none", "noun", "bare", "gerund", "clause", "imperative", "question", "free"]

LONGEST = 90
_TELLING_WORDS = 2
_TAG_WORDS = 3
_REQUEST = re.compile(
    r"^(?:please\s+)?(?:"
    r"(?:write|create|make|generate|draft|compose|post|publish|give|show|draw|render|paint)\b"
    r"(?:\s+(?:me|us))?(?:\s+(?:a|an|the|some|my|your))?(?:\s+[\w-]+){0,2}?"
    r"\s*\b(?:post|caption|text|message|tweet|story|image|photo|picture|content|piece|thread|thoughts)\b"
    r"\s*(?:about|on|for|of|showing|around|regarding)"
    r"|(?:share|post|tell|offer)\b(?:\s+(?:us|me))?(?:\s+(?:your|my|some|a few|the))?"
    r"(?:\s+(?:thoughts|views|ideas|opinion|take|insights|tips))?\s*(?:about|on)"
    r"|(?:write|talk|post|speak|think)\s+(?:about|on)"
    r"|(?:discuss|describe|explain|explore)"
    r"|(?:an?\s+|the\s+)?(?:photo|photograph|image|picture|shot|snapshot)\s+(?:of|showing)"
    r")\s+(?=\S)",
    re.IGNORECASE,
)
_CLAUSES = re.compile(r"\s*(?:[,;|\n]|\.(?=\s|$)|\s[-–—]\s)\s*")
_LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_RENDERER_TAG = re.compile(r"<[^<>]{1,60}:[^<>]{1,60}>")
_WEIGHTED = re.compile(r"\(([^()]{1,120}):\d+(?:\.\d+)?\)")
_QUESTION_WORDS = word_set("grammar", "questions")
_DETERMINERS = word_set("grammar", "determiners")
_PRONOUNS = word_set("grammar", "pronouns")
_FINITE = word_set("grammar", "finite")
_PREPOSITIONS = word_set("grammar", "prepositions")
_CONJUNCTIONS = word_set("grammar", "conjunctions")
_IMPERATIVES = word_set("grammar", "imperatives")
_PERSONS = word_set("grammar", "persons")
_NO_GERUNDS = word_set("grammar", "no_gerunds")
_DANGLING = _PREPOSITIONS | _DETERMINERS | _CONJUNCTIONS


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
        """The phrase as it stands inside a sentence."""
        first = self.text.split(" ", 1)[0]
        plain = first == "A" or (first[0].isupper() and first[1:].islower())
        common = first.casefold() in _DETERMINERS or stem(first.casefold()) in _common_stems()
        lowers = common or self.kind in {"gerund", "question"}
        return self.text[0].lower() + self.text[1:] if plain and lowers else self.text

    @property
    def leading(self) -> str:
        """The phrase as it opens a sentence."""
        return self.text[:1].upper() + self.text[1:] if self.text[:1].isascii() else self.text


def read_topic(prompt: object, longest: int = LONGEST, locale: str = "en") -> Topic:
    """Find what a prompt is about.

    Args:
        prompt: any value; what is no text, or holds no content word, gives an empty topic.
        longest: characters that the phrase may have.
        locale: the language by which the phrase is read.
    """
    whole = clean(prompt)
    text = _strip_markup(whole)
    asks = text.endswith("?")
    previous = None
    while previous != text:
        previous, text = text, _REQUEST.sub("", text, count=1)
    phrase = _phrase(text, longest)
    if not phrase:
        return Topic(prompt=whole, locale=locale)
    kind = _kind(phrase, asks=asks and len(phrase) >= len(text) - 1)
    return Topic(phrase, kind, whole, locale)


def _strip_markup(text: str) -> str:
    text = _RENDERER_TAG.sub(" ", _LINK.sub(" ", text))
    text = _WEIGHTED.sub(r"\1", text)
    text = re.sub(r"(?:^|(?<=\s))[#@]+(?=\w)", "", text)
    return " ".join(text.split()).strip(" \"“”'`*_~")


def _phrase(text: str, longest: int) -> str:
    clauses = [trimmed for part in _CLAUSES.split(text) if (trimmed := _trim(_unclaimed(part)))]
    telling = [clause for clause in clauses if content_words(clause) and not _is_renderer(clause)]
    if not telling:
        return ""
    phrase = telling[0]
    for clause in telling[1:]:
        is_tag_list = max(len(phrase.split()), len(clause.split())) <= _TAG_WORDS
        told = not is_tag_list and len(content_words(phrase)) >= _TELLING_WORDS
        if told or len(phrase) + len(clause) + 2 > longest:
            break
        phrase = f"{phrase}, {clause}"
    return _cut(phrase, longest)


def _unclaimed(clause: str) -> str:
    """Return the most telling part of a clause without what claims an experience."""
    if not CLAIM.search(clause):
        return clause
    return max(CLAIM.split(clause), key=lambda part: len(content_words(part)))


def _cut(phrase: str, longest: int) -> str:
    if len(phrase) <= longest:
        return phrase
    return _trim(shorten(phrase, longest))


def _trim(phrase: str) -> str:
    words = phrase.strip(" .,;:!?…-–—").split()
    while words and words[-1].casefold() in _DANGLING:
        words.pop()
    while words and words[0].casefold() in _CONJUNCTIONS:
        words.pop(0)
    return " ".join(words)


def _is_renderer(clause: str) -> bool:
    return stems(clause) in _renderer_phrases()


@cache
def _common_stems() -> frozenset[str]:
    """Return stems that the word lists know, and that are therefore no names."""
    words = lexicon()
    listed = [*words["styles"].values(), *words["modifiers"].values(), words["renderer"]]
    return frozenset(phrase[0] for entries in listed for phrase in stem_set(entries)) - {
        "ai",
        "ceo",
    }


@cache
def _renderer_phrases() -> frozenset[tuple[str, ...]]:
    return stem_set(lexicon()["renderer"])


def _kind(phrase: str, *, asks: bool) -> Kind:
    words = tokens(phrase)
    if not phrase.isascii() or not words or re.search(r"[{}<>\[\]\\|=]", phrase):
        return "free"
    asking = words[0].removesuffix("'s") in _QUESTION_WORDS
    if asks and asking:
        return "question"
    if asking or set(words) & (_PRONOUNS | _FINITE):
        return "free"
    if _is_gerund(words[0]):
        return "gerund"
    if words[0] in _DETERMINERS and not _is_noun_phrase(words):
        return "free"
    if words[0] in _DETERMINERS and not set(words) & _PERSONS:
        return "noun"
    return "free" if _is_imperative(words) else "bare"


def _is_gerund(word: str) -> bool:
    return word.endswith("ing") and len(word) > 4 and word not in _NO_GERUNDS


def _is_noun_phrase(words: list[str]) -> bool:
    """Tell whether no verb hides before the first preposition: "a dog runs in the park" has one."""
    head = words[1:]
    for index, word in enumerate(head):
        if word in _PREPOSITIONS:
            head = head[:index]
            break
    return 0 < len(head) <= 4 and not any(word.endswith(("s", "ed", "ing")) for word in head[1:])


def _is_imperative(words: list[str]) -> bool:
    return "your" in words or words[0] in _IMPERATIVES
