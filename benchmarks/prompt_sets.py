"""Prompt sets: 100,000 prompts drawn and gone through, against the dynamicprompts library.

Both are given the same texts and the same wildcard files. The library draws fewer, since it is
slower; what is compared is prompts a second. Texts that both read alike are gone through as a whole
by both, and the sets have to be equal.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import report

from backend.services.prompt_sets import WildcardFolder, compile_prompts

PROMPTS = 100_000
PEER_PROMPTS = 500
TARGET_S = 10

TEXTS = {
    "choices": "portrait of a {young|old|tall} {3::woman|man} with {red|black|{dark|light} brown} "
    "hair, {1-2$$ and $$smiling|laughing|waving|reading}, {studio|street|park} light, "
    "{close-up|full body|from the side} at {noon|dusk|dawn|night}, {film|digital|pastel} look",
    "wildcards": "portrait, __outfit__, in __place__, {2$$__mood__}, {close-up|full body}",
}
ALIKE = (
    "{a|b} {c|d|{e|f}}",
    "{2$$a|b|c}",
    "{1-2$$ and $$a|b|c}",
    "{4$$a|b|c}",
    "__mood__, {x|y}",
    "${v={a|b}}${v} and ${v}",
)


def wildcard_files(folder: Path) -> None:
    outfits = (f"{{red|blue|green}} outfit {number}" for number in range(300))
    (folder / "outfit.txt").write_text("\n".join(outfits))
    (folder / "place.txt").write_text("\n".join(f"place {number}" for number in range(2_000)))
    (folder / "mood.txt").write_text("\n".join(f"mood {number}" for number in range(50)))


def peer(folder: Path) -> SimpleNamespace | None:
    """Return the library's two generators; `None` where it is not installed."""
    try:
        from dynamicprompts.generators import CombinatorialPromptGenerator, RandomPromptGenerator
        from dynamicprompts.wildcards import WildcardManager
    except ImportError:
        sys.stderr.write("dynamicprompts is not installed: there is no peer in this run.\n")
        return None
    logging.disable(logging.WARNING)
    manager = WildcardManager(folder)
    return SimpleNamespace(
        sample=lambda text, n: RandomPromptGenerator(manager, seed=1).generate(text, n),
        all=lambda text, n: CombinatorialPromptGenerator(manager).generate(text, max_prompts=n),
    )


def measure(rounds: int, prompts: int) -> report.Report:
    """Measure every text in turns with the library."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wildcard_files(folder)
        library = peer(folder)
        texts = {
            label: measure_text(text, folder, library, rounds, prompts)
            for label, text in TEXTS.items()
        }
        alike = library and all(same_set(text, folder, library) for text in ALIKE)
    return summed_up(texts, alike, rounds, prompts)


def measure_text(
    text: str, folder: Path, library: SimpleNamespace | None, rounds: int, prompts: int
) -> dict[str, Any]:
    """Time compiling, drawing and going through one text."""
    started = time.perf_counter()
    compiled = compile_prompts(text, WildcardFolder(folder))
    compile_s = time.perf_counter() - started
    ways: dict[str, Callable[[], float]] = {
        "drawn": lambda: per_s(lambda n: compiled.sample(n, 1), prompts),
        "gone through": lambda: per_s(lambda n: islice(compiled.all(), n), prompts),
    }
    if library:
        ways["dynamicprompts, drawn"] = lambda: per_s(
            lambda n: library.sample(text, n), PEER_PROMPTS
        )
        ways["dynamicprompts, gone through"] = lambda: per_s(
            lambda n: library.all(text, n), PEER_PROMPTS
        )
    speeds = report.interleave(ways, rounds)
    found = {
        "count": str(compiled.count()),
        "compile_s": round(compile_s, 4),
        "prompts_per_s": {way: report.spread(values, 0) for way, values in speeds.items()},
    }
    if library:
        found["ratio"] = {
            way: report.ratio(speeds[way], speeds[f"dynamicprompts, {way}"])
            for way in ("drawn", "gone through")
        }
    return found


def per_s(make: Callable[[int], Any], prompts: int) -> float:
    started = time.perf_counter()
    made = sum(1 for _ in make(prompts))
    return made / (time.perf_counter() - started)


def same_set(text: str, folder: Path, library: SimpleNamespace) -> bool:
    """Tell whether both make the same prompts, once each, as many as were counted."""
    compiled = compile_prompts(text, WildcardFolder(folder))
    ours = list(compiled.all())
    theirs = [" ".join(prompt.split()) for prompt in library.all(text, len(ours) + 1)]
    return len(ours) == compiled.count() and sorted(ours) == sorted(theirs)


def summed_up(
    texts: dict[str, dict[str, Any]], alike: bool | None, rounds: int, prompts: int
) -> report.Report:
    slowest = min(found["prompts_per_s"]["drawn"]["median"] for found in texts.values())
    claims = [report.at_most(f"seconds for {prompts:,} drawn prompts", prompts / slowest, TARGET_S)]
    if alike is not None:
        worst = min(found["ratio"]["drawn"]["median"] for found in texts.values())
        claims += [
            report.at_least("prompts/s drawn / dynamicprompts", worst, 1),
            report.Claim(
                "prompts/s gone through / dynamicprompts",
                min(found["ratio"]["gone through"]["median"] for found in texts.values()),
            ),
            report.holds(f"the same sets as dynamicprompts, {len(ALIKE)} texts", alike),
        ]
    tables = [
        report.spread_table(f"{label}: prompts a second", found["prompts_per_s"])
        for label, found in texts.items()
    ]
    figures = {"rounds": rounds, "prompts": prompts, "texts": texts, "same_sets": alike}
    return report.Report(figures=figures, claims=claims, tables=tables)


def main() -> None:
    parser = report.arguments(__doc__, rounds=5)
    parser.add_argument(
        "--prompts", type=report.positive, default=PROMPTS, help="default: %(default)s"
    )
    options = parser.parse_args()
    report.show("prompt_sets", measure(options.rounds, options.prompts), as_json=options.json)


if __name__ == "__main__":
    main()
