"""What the start-up benchmarks share: the time of a whole process, and what its imports cost."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import report

GATOR = (sys.executable, "-m", "backend.cli.main")
TORCH_ROOM = ("torch", "diffusers", "transformers")
HEAVY = (*TORCH_ROOM, "sqlalchemy", "pydantic", "fastapi", "openai", "numpy")
"""What is slow to import and has to wait until it is needed."""

SHOWN_PACKAGES = 10
_IMPORT = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)


def gator(*words: str) -> tuple[str, ...]:
    """Return the command as a user runs it: the installed script, else the module."""
    script = Path(sys.executable).with_name("gator")
    return (str(script), *words) if script.is_file() else (*GATOR, *words)


def wall_s(command: Sequence[str], folder: Path) -> float:
    """Run a process in a folder and return its wall time, from start to end."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        report.fail(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return seconds


def traced(*words: str) -> list[str]:
    """Return a `gator` command that tells on stderr what it imports, as it does so."""
    return [sys.executable, "-X", "importtime", *GATOR[1:], *words]


def import_costs_ms(trace: str) -> dict[str, float]:
    """Sum what each top-level package spends on its own modules, dearest first."""
    costs: dict[str, float] = {}
    for own_us, module in _IMPORT.findall(trace):
        package = module.partition(".")[0]
        costs[package] = costs.get(package, 0) + int(own_us) / 1_000
    if "backend" not in costs:
        report.fail("the traced run told of no imports")
    dearest_first = sorted(costs.items(), key=lambda item: -item[1])
    return {package: round(cost, 1) for package, cost in dearest_first}


def dearest(costs: Mapping[str, float]) -> dict[str, float]:
    """Return the first few of `import_costs_ms`."""
    return dict(list(costs.items())[:SHOWN_PACKAGES])


def import_table(command: str, costs: Mapping[str, float]) -> report.PrintedTable:
    """Return a table of the dearest imports."""
    return f"imports of {command}, traced, ms", ("package", "own time"), [*dearest(costs).items()]
