"""Patterns that are tried only where a word stands without which they cannot match.

So a text in which nothing is to be found costs one look-up a word, however long the list is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

Label = TypeVar("Label")


class Watched(NamedTuple, Generic[Label]):
    """A pattern and what it stands for."""

    number: int
    label: Label
    pattern: re.Pattern[str]


class Watchlist(Generic[Label]):
    """Patterns by the words that call for them.

    Args:
        entries: the words, the label and the pattern of each; case does not count.
    """

    def __init__(self, entries: Iterable[tuple[Sequence[str], Label, str]]) -> None:
        self._by_word: dict[str, tuple[Watched[Label], ...]] = {}
        for number, (words, label, find) in enumerate(entries):
            watched = Watched(number, label, re.compile(find, re.IGNORECASE))
            for word in dict.fromkeys(word.casefold() for word in words):
                self._by_word[word] = (*self._by_word.get(word, ()), watched)

    def called_by(self, words: Iterable[str]) -> list[Watched[Label]]:
        """Return the patterns that may match a text of these words, in the list's order."""
        called = {
            watched.number: watched for word in words for watched in self._by_word.get(word, ())
        }
        return [called[number] for number in sorted(called)]
