"""Run every benchmark and print one table: claim, figure, target, met or not.

Ends with 1 where a benchmark failed, and with `--strict` where a claim was missed too: on a shared
machine a figure scatters. The others are run all the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import report

BENCHMARKS = (
    "pool_scaling",
    "pool_simulated",
    "queue_cost",
    "determinism",
    "cli_startup",
    "api_startup",
    "captions",
    "caption_chain",
    "migration",
    "prompt_sets",
)


def run(name: str) -> dict[str, Any]:
    """Run a benchmark and return its JSON object, or one with `failed` where there is none."""
    sys.stderr.write(f"{name} …\n")
    script = Path(__file__).with_name(f"{name}.py")
    done = subprocess.run(
        [sys.executable, str(script), "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        return {"benchmark": name, "failed": f"ended with {done.returncode}", "claims": []}
    return json.loads(done.stdout)


def rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a benchmark's claims as rows; one row says so where it has none."""
    name = found["benchmark"]
    if why := found.get("failed"):
        return [(name, "–", why, "–", "NO")]
    if why := found["skipped"]:
        return [(name, f"skipped: {why}", "–", "–", "–")]
    return [
        (name, *report.claim_row(report.Claim(**{**claim, "target": claim["target"] or ""})))
        for claim in found["claims"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object of figures")
    parser.add_argument("--strict", action="store_true", help="end with 1 for a missed claim")
    options = parser.parse_args()
    found = [run(name) for name in BENCHMARKS]
    if options.json:
        report.print_json({"benchmarks": found})
    else:
        columns = ("benchmark", *report.CLAIM_COLUMNS)
        report.print_table("benchmarks", columns, [row for one in found for row in rows(one)])
    missed = any(claim["met"] is False for one in found for claim in one["claims"])
    failed = any("failed" in one for one in found)
    sys.exit(1 if failed or (options.strict and missed) else 0)


if __name__ == "__main__":
    main()
