"""How long `gator --help` takes, against a bare typer app with rich in the same interpreter.

Whole processes, from start to end. What the command imports is read from a traced run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import report
import startup

TARGET = 2.0
BARE_APP = '''\
"""A bare app: one typed command."""

from typing import Annotated

import typer

app = typer.Typer(help="Says hello.")


@app.command()
def hello(
    name: Annotated[str, typer.Argument(help="Whom to greet.")],
    count: Annotated[int, typer.Option(min=1, help="How often.")] = 1,
    loud: Annotated[bool, typer.Option("--loud", help="In capitals.")] = False,
) -> None:
    """Greet someone."""
    for _ in range(count):
        typer.echo(name.upper() if loud else name)


app()
'''


def measure(rounds: int) -> report.Report:
    """Time the commands in turns, and trace their imports once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare = folder / "bare.py"
        bare.write_text(BARE_APP)
        commands = {
            "gator --help": startup.gator("--help"),
            "bare typer app --help": (sys.executable, str(bare), "--help"),
            "gator config": startup.gator("config"),
        }
        ways = {way: partial(startup.wall_s, command, folder) for way, command in commands.items()}
        report.interleave(ways, 1)
        seconds = report.interleave(ways, rounds)
        costs = {word: import_costs(word, folder) for word in ("--help", "config")}
    return summed_up(seconds, costs)


def import_costs(word: str, folder: Path) -> dict[str, float]:
    command = startup.traced(word)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return startup.import_costs_ms(done.stderr)


def summed_up(seconds: dict[str, list[float]], costs: dict[str, dict[str, float]]) -> report.Report:
    """Turn seconds and import costs into figures and claims."""
    spreads = {way: report.spread(values) for way, values in seconds.items()}
    bare = seconds["bare typer app --help"]
    ratios = {way: report.ratio(seconds[way], bare) for way in ("gator --help", "gator config")}
    heavy = {
        word: [name for name in startup.HEAVY if name in found] for word, found in costs.items()
    }
    return report.Report(
        figures={
            "rounds": len(bare),
            "seconds": spreads,
            "ratio_to_bare": ratios,
            "heavy_imports": heavy,
            "import_ms": {word: startup.dearest(found) for word, found in costs.items()},
        },
        claims=[
            report.at_most(
                "gator --help / bare typer app, whole process",
                ratios["gator --help"]["median"],
                TARGET,
            ),
            report.Claim("gator config / bare typer app", ratios["gator config"]["median"]),
            *(
                report.holds(
                    f"gator {word} imports neither torch nor diffusers",
                    not set(found) & set(startup.TORCH_ROOM),
                )
                for word, found in heavy.items()
            ),
        ],
        tables=[
            report.spread_table("seconds, whole process", spreads),
            report.spread_table("ratio to the bare typer app", ratios),
            *(startup.import_table(f"gator {word}", found) for word, found in costs.items()),
        ],
    )


def main() -> None:
    options = report.arguments(__doc__, rounds=9).parse_args()
    report.show("cli_startup", measure(options.rounds), as_json=options.json)


if __name__ == "__main__":
    main()
