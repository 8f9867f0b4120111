"""What a persona said before, as the next caption needs it.

Three spans: the full text for ever (by fingerprint), openings and runs of words for the last
`WINDOW` posts, fragments and themes by how long ago they were used. Whoever wrote a caption, it is
remembered here alike. `Memory` is what one caption is written against; `CaptionMemory` is the port
behind which all of it is kept.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from backend.captions.words import tokens

WINDOW = 30
"""How many posts openings and runs of words are compared with."""

HORIZON = 300
"""How many posts back it matters when a fragment or theme was used; beyond, all are as old."""

OPENING_WORDS = 4
_RUN = 4
_READ_CHARACTERS = 3_000

Run = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """One caption that went out."""

    text: str
    origin: str = "template"
    fragments: tuple[str, ...] = ()
    theme: str = ""
    platform: str = ""
    seed: int | None = None
    forms: tuple[str, ...] = ()
    """The same post's other texts, as other platforms have it."""


class CaptionMemory(Protocol):
    """Where what personas said is kept."""

    async def recall(self, persona_id: str, count: int) -> Sequence[Said]:
        """Return what a persona said lately, newest first."""

    async def said(self, persona_id: str, text: str) -> bool:
        """Tell whether a persona ever said this, but for case and spaces."""

    async def remember(self, persona_id: str, said: Sequence[Said]) -> Sequence[Said]:
        """Keep captions, oldest first; return those that were not said before, and are kept."""


def fingerprint(text: str) -> str:
    """Return 32 hex digits that are equal for texts that differ in case and spaces alone."""
    squeezed = " ".join(text.casefold().split())
    return hashlib.blake2b(squeezed.encode("utf-8", "replace"), digest_size=16).hexdigest()


def opening_of(text: str) -> tuple[str, ...]:
    """Return a caption's first words."""
    return tuple(tokens(text[:200])[:OPENING_WORDS])


def runs_of(text: str) -> set[Run]:
    """Return a text's runs of four words."""
    words = tokens(text[:_READ_CHARACTERS])
    return set(zip(words, words[1:], words[2:], words[3:], strict=False))


@dataclass(frozen=True, slots=True)
class _Heard:
    text: str
    opening: tuple[str, ...]
    runs: set[Run]


class Memory:
    """The captions that the next one is compared with.

    Args:
        said: what was said lately, newest first; texts alone will do.
    """

    def __init__(self, said: Iterable[Said | str] = ()) -> None:
        self._recent: deque[_Heard] = deque(maxlen=WINDOW)
        self._unlabelled: deque[tuple[int, str]] = deque(maxlen=WINDOW)
        self._fingerprints: set[str] = set()
        self._used: dict[str, int] = {}
        self._count = 0
        newest_first = [one if isinstance(one, Said) else Said(one) for one in said]
        for one in reversed(newest_first[WINDOW:]):
            self._note(one)
        for one in reversed(newest_first[:WINDOW]):
            self.add(one)

    def __len__(self) -> int:
        return self._count

    def add(self, said: Said) -> None:
        """Take in one more caption, as the newest."""
        self._note(said)
        self._recent.appendleft(_Heard(said.text, opening_of(said.text), runs_of(said.text)))
        if not said.fragments:
            self._unlabelled.append((self._count, said.text))
        if self._unlabelled and self._unlabelled[0][0] <= self._count - WINDOW:
            self._unlabelled.popleft()

    def _note(self, said: Said) -> None:
        self._count += 1
        self._fingerprints.update(map(fingerprint, (said.text, *said.forms)))
        for used in (*said.fragments, f"theme:{said.theme}"):
            self._used[used] = self._count

    def forbid(self, text: str) -> None:
        """Take a text as said, without its being one of the recent ones."""
        self._fingerprints.add(fingerprint(text))

    def age(self, used: str, phrase: str = "") -> int:
        """Return how many captions ago a fragment (or `theme:…`) was used; 1 is the newest.

        What was never used is older than all: the number of captions there are, and one. Nothing is
        older than the `HORIZON`, so that what is recalled and what was added since weigh alike.

        Args:
            used: the fragment's id.
            phrase: words of its own, by which recent captions are searched whose fragments are not
                known.
        """
        last = self._used.get(used, 0)
        if phrase and self._unlabelled:
            heard = (number for number, text in self._unlabelled if phrase in text)
            last = max(last, max(heard, default=0))
        return min(self._count + 1 - last, HORIZON + 1)

    @property
    def openings(self) -> tuple[str, ...]:
        """How the recent captions open, newest first."""
        return tuple(" ".join(heard.opening) for heard in self._recent)

    def recently(self, phrase: str, span: int) -> bool:
        """Tell whether one of the last `span` captions holds a phrase."""
        return any(phrase in heard.text for heard in islice(self._recent, span))

    def said(self, text: str) -> bool:
        """Tell whether this was said, but for case and spaces."""
        return fingerprint(text) in self._fingerprints

    def opening(self, text: str) -> bool:
        """Tell whether one of the recent captions opens with the same words."""
        opening = opening_of(text)
        return any(opening == heard.opening for heard in self._recent)

    def overlap(self, text: str) -> float:
        """Return which share of a text's runs of four words the likest recent caption has too."""
        mine = runs_of(text)
        if not mine or not self._recent:
            return 0.0
        return max(len(mine & heard.runs) for heard in self._recent) / len(mine)
