"""A phrase as its grammar is read: its words, and what every language has in common.

Invariant: who reads a phrase would rather call it `free` than be wrong; a sentence is built around
every other kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["none", "noun", "bare", "gerund", "clause", "imperative", "question", "free"]

_AROUND_WORDS = " .,;:!?…\"'`“”„«»‘()[]"
# Letters, figures and the signs of plain text.
_PLAIN = re.compile(r"[ \w.,!?;:'’‘“”„«»\"()&%$€£+/°–—-]+")
_LETTERS = re.compile(r"[^\W\d_]")
_OTHER_SCRIPT = re.compile(r"[^\W\d_a-zA-Z\u00aa-\u024f\u1e00-\u1eff]")
# A colon is no stop in a time of day.
_STOPS = re.compile(r"[;!?]|:(?!\d)|\s[–—/-]\s|_")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase and its words, as written and in lower case, without signs around them."""

    text: str
    asks: bool
    written: tuple[str, ...]
    words: tuple[str, ...]
    governed: bool = False
    """Whether a request was cut off before it, whose preposition may have ruled its case."""

    @classmethod
    def of(cls, text: str, *, asks: bool, governed: bool = False) -> Phrase:
        """Split a phrase at its spaces; a word with a hyphen stays one."""
        parts = [part.strip(_AROUND_WORDS) for part in text.split()]
        written = tuple([part for part in parts if part])
        return cls(text, asks, written, tuple([fold(part) for part in written]), governed)

    @property
    def is_plain(self) -> bool:
        """Whether it is one piece of plain text in Latin letters; a comma may stand in it."""
        return bool(
            self.words
            and _PLAIN.fullmatch(self.text)
            and _LETTERS.search(self.text)
            and not _OTHER_SCRIPT.search(self.text)
            and not _STOPS.search(self.text)
        )

    @property
    def is_list(self) -> bool:
        """Whether commas divide it."""
        return "," in self.text


def fold(word: str) -> str:
    """Return a word as word lists have it."""
    return word.lower().replace("’", "'")


def parts_at(words: Sequence[str], marks: frozenset[str]) -> Iterator[list[str]]:
    """Yield the runs of words between marks."""
    part: list[str] = []
    for word in words:
        if word in marks:
            yield part
            part = []
        else:
            part.append(word)
    yield part
