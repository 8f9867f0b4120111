"""What was said lately, as the next caption needs it: openings, runs of words, phrases.

Invariant: read once for a caption, newest first, and never changed. The topic's own words do not
count as repetition: whoever asks about the same thing again gets the same topic again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from backend.captions.words import tokens

OPENING_WORDS = 4
MOST = 30
_RUN = 4
_READ_CHARACTERS = 3_000
T = TypeVar("T")


def opening_of(text: str) -> tuple[str, ...]:
    """Return a caption's first words."""
    return tuple(tokens(text[:200])[:OPENING_WORDS])


class Memory:
    """The captions that the next one is compared with.

    Args:
        recent: what was said lately, newest first; more than the last `MOST` only count where they
            are word for word the same.
        topic: words that may come again.
    """

    def __init__(self, recent: Sequence[str] = (), topic: str = "") -> None:
        self._topic = topic
        self._texts = list(recent[:MOST])
        self._all = frozenset(recent)
        self._openings = {opening_of(text) for text in self._texts}
        self._runs = [self._runs_of(text) for text in self._texts]
        self._ages: dict[str, int] = {}

    def age(self, phrase: str) -> int:
        """Return how many captions ago a phrase was said; one never said is older than them all."""
        found = self._ages.get(phrase)
        if found is None:
            ages = (age for age, text in enumerate(self._texts) if phrase in text)
            found = self._ages[phrase] = next(ages, len(self._texts))
        return found

    def least_recent(self, items: Sequence[T], phrases: Sequence[str]) -> list[T]:
        """Return the items whose phrases were never said, else the half said longest ago."""
        ages = [self.age(phrase) for phrase in phrases]
        oldest, middle = max(ages), sorted(ages)[len(ages) // 2]
        least = oldest if oldest == len(self._texts) else middle
        return [item for item, age in zip(items, ages, strict=True) if age >= least]

    def opening(self, text: str) -> bool:
        """Tell whether one of the captions opens with the same words."""
        return opening_of(text) in self._openings

    def said(self, text: str) -> bool:
        """Tell whether this was said, word for word."""
        return text in self._all

    def overlap(self, text: str) -> float:
        """Return which share of a text's runs of four words the nearest caption has too."""
        mine = self._runs_of(text)
        if not mine or not self._runs:
            return 0.0
        return max(len(mine & theirs) for theirs in self._runs) / len(mine)

    def _runs_of(self, text: str) -> set[tuple[str, ...]]:
        text = text[:_READ_CHARACTERS]
        words = tokens(text.replace(self._topic, " ") if self._topic else text)
        return {tuple(words[index : index + _RUN]) for index in range(len(words) - _RUN + 1)}
