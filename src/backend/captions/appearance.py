"""A locked appearance as facts, and what in a caption contradicts them.

Invariant: nothing here raises on any string, and what cannot be told for sure is no contradiction.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AppearanceFact:
    """One thing that a description says of a persona's looks."""

    slot: str
    phrase: str
    """A noun phrase that a caption may say; "" where the thing is denied."""
    values: tuple[str, ...] = ()
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Appearance:
    """The facts of a locked description, in its order."""

    facts: tuple[AppearanceFact, ...] = ()

    @property
    def phrases(self) -> tuple[str, ...]:
        """What a caption may say of the looks."""
        return tuple(dict.fromkeys(fact.phrase for fact in self.facts if fact.phrase))


def read_appearance(text: str, locale: str = "en") -> Appearance:
    """Read a description into facts."""
    del text, locale
    return Appearance()


def contradictions(text: str, appearance: Appearance, locale: str = "en") -> tuple[str, ...]:
    """Return what a caption says of its persona against the facts."""
    del text, appearance, locale
    return ()
