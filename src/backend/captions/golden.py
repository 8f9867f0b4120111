"""Captions that must not change unnoticed: a few seeds of each shipped pack, by their hash.

A seed gives the same caption for the same packs, in any process and on any Python. Whoever changes
packs or engine sees here which captions change with it, and accepts that or not.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from backend.captions.brief import Brief
from backend.captions.composer import compose
from backend.captions.lint import LintFinding
from backend.captions.memory import fingerprint
from backend.captions.packs import Library
from backend.captions.scoring import STYLES
from backend.captions.topic import read_topic
from backend.captions.voice import Voice
from backend.captions.words import PACKS

SEEDS = range(5)
PROMPTS = {"en": "a quiet bookshop in the rain", "de": "ein stiller Buchladen im Regen"}
_FILE = PACKS / "golden.toml"


def changed(library: Library, locale: str) -> Iterator[LintFinding]:
    """Yield a finding for each style whose captions are others than were accepted."""
    for style in STYLES:
        if fingerprints(library, style, locale) != _accepted().get(f"{locale}/{style}"):
            detail = "its seeds give other captions than were accepted: gator packs lint --accept"
            yield LintFinding("golden", f"{locale}/{style}", detail)


def fingerprints(library: Library, style: str, locale: str) -> list[str]:
    """Return the hashes of a pack's golden captions."""
    voice = Voice(name="golden", traits=(style,), personality=style, locale=locale)
    topic = read_topic(PROMPTS.get(locale, PROMPTS["en"]), locale=locale)
    return [fingerprint(compose(Brief(voice, topic, seed), library=library).text) for seed in SEEDS]


def accept(library: Library) -> Path:
    """Write down what the shipped packs give now, and return where.

    Raises:
        OSError: the packs' folder cannot be written to.
    """
    lines = ["# The captions of the first seeds, by their hash: gator packs lint --accept", ""]
    for locale in library.locales():
        for style in STYLES:
            listed = ", ".join(f'"{one}"' for one in fingerprints(library, style, locale))
            lines.append(f'"{locale}/{style}" = [{listed}]')
    _FILE.write_text("\n".join(lines) + "\n", "utf-8")
    _accepted.cache_clear()
    return _FILE


@cache
def _accepted() -> dict[str, list[str]]:
    return tomllib.loads(_FILE.read_text("utf-8")) if _FILE.is_file() else {}
