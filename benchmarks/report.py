"""What the benchmarks share: claims with targets, interleaved rounds, a table or a JSON object.

A figure is a ratio against a peer measured in the same run wherever there is a peer: the machine
may be busy, but then it is busy for both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

Outcome = TypeVar("Outcome")
Figure = float | int | bool
PrintedTable = tuple[str, Sequence[str], Sequence[Sequence[object]]]


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of Gator, the figure that was measured, and what it has to reach, if anything.

    Attributes:
        target: in words; empty where the figure is only reported.
        met: `None` where there is no target.
    """

    claim: str
    figure: Figure
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark found.

    Attributes:
        figures: everything that was measured, for programs.
        tables: what is printed for people: a title, the columns, the rows.
        skipped: why nothing was measured; empty where something was.
    """

    figures: Mapping[str, Any] = field(default_factory=dict)
    claims: Sequence[Claim] = ()
    tables: Sequence[PrintedTable] = ()
    skipped: str = ""


def at_least(claim: str, figure: float, bound: float) -> Claim:
    """Claim a figure that must not be lower."""
    return Claim(claim, figure, f"≥ {bound:g}", figure >= bound)


def at_most(claim: str, figure: float, bound: float) -> Claim:
    """Claim a figure that must not be higher."""
    return Claim(claim, figure, f"≤ {bound:g}", figure <= bound)


def holds(claim: str, figure: bool) -> Claim:
    """Claim that something is so."""
    return Claim(claim, figure, "yes", figure)


def interleave(ways: Mapping[str, Callable[[], Outcome]], rounds: int) -> dict[str, list[Outcome]]:
    """Go all ways once a round, every other round backwards; return each way's outcomes by round.

    A machine that gets slower or faster meanwhile does so for all ways alike.
    """
    outcomes: dict[str, list[Outcome]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways if number % 2 == 0 else reversed(ways):
            outcomes[way].append(ways[way]())
    return outcomes


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Return median, lowest and highest."""
    figures = {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
    return {name: round(figure, digits) for name, figure in figures.items()}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the spread of the rounds' own ratios."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def spread_table(title: str, spreads: Mapping[str, Mapping[str, float]]) -> PrintedTable:
    """Return a table of spreads, a row each."""
    rows = [(name, *values.values()) for name, values in spreads.items()]
    return title, ("", "median", "lowest", "highest"), rows


def arguments(description: str | None, *, rounds: int = 1) -> argparse.ArgumentParser:
    """Return the parser of a benchmark's command line, to which it may add options of its own."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object of figures")
    parser.add_argument("--rounds", type=positive, default=rounds, help="default: %(default)s")
    return parser


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def show(name: str, report: Report, *, as_json: bool) -> None:
    """Print a benchmark's report."""
    if report.skipped:
        sys.stderr.write(f"\n!!! {name} was SKIPPED: {report.skipped}\n\n")
    if as_json:
        print_json({"benchmark": name, "machine": machine(), **as_dict(report)})
        return
    for title, columns, rows in report.tables:
        print_table(title, columns, rows)
    if report.claims:
        print_table(f"{name}: claims", CLAIM_COLUMNS, map(claim_row, report.claims))


def as_dict(report: Report) -> dict[str, Any]:
    """Return plain JSON values."""
    return {
        "skipped": report.skipped or None,
        "figures": dict(report.figures),
        "claims": [
            {"claim": c.claim, "figure": c.figure, "target": c.target or None, "met": c.met}
            for c in report.claims
        ],
    }


CLAIM_COLUMNS = ("claim", "figure", "target", "met")


def claim_row(claim: Claim) -> tuple[str, str, str, str]:
    """Return a claim as a row of a table."""
    met = {True: "yes", False: "NO", None: "–"}[claim.met]
    return claim.claim, shown(claim.figure), claim.target or "–", met


def shown(figure: Figure) -> str:
    """Write a figure for people."""
    if isinstance(figure, bool):
        return "yes" if figure else "no"
    return f"{figure:,.0f}" if isinstance(figure, int) or figure >= 100 else f"{figure:.3g}"


def print_table(title: str, columns: Sequence[str], rows: Any) -> None:
    """Print a table; wide enough for its content where stdout is no terminal."""
    table = Table(*columns, title=title, title_justify="left", header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell if isinstance(cell, str) else shown(cell)) for cell in row))
    console = Console() if sys.stdout.isatty() else Console(width=140)
    console.print(table)


def print_json(value: Mapping[str, Any]) -> None:
    """Write one JSON object to stdout."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def machine() -> dict[str, Any]:
    """Return what the figures were measured on, and how busy it was."""
    return {
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def fail(reason: str) -> NoReturn:
    """Stop: what was to be measured did not work."""
    sys.exit(f"error: {reason}")
