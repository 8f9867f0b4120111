"""How long the API takes to its first `/healthz`, and that it is up without torch.

`gator serve` as a process, in a home folder that is new and in one that is known, against a bare
FastAPI application behind uvicorn in the same interpreter. What was imported by the time of the
first answer is read from a traced run.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import report
import startup

TIMEOUT_S = 120.0
POLL_S = 0.01
HOST = "127.0.0.1"
BARE_APP = """\
import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Health(BaseModel):
    status: str = "ok"


@app.get("/healthz")
async def healthz() -> Health:
    return Health()


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None)
"""


def measure(rounds: int) -> report.Report:
    """Start the servers in turns, and trace Gator's imports once."""
    if importlib.util.find_spec("backend.api.app") is None:
        return report.Report(skipped="there is no `backend.api.app`")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare = folder / "bare.py"
        bare.write_text(BARE_APP)
        new_homes = (folder / f"home-{number}" for number in range(rounds + 1))
        known_home = folder / "home-known"
        ways = {
            "new home": lambda: first_answer_s(startup.gator("serve"), next(new_homes)),
            "known home": partial(first_answer_s, startup.gator("serve"), known_home),
            "bare FastAPI": partial(first_answer_s, (sys.executable, str(bare)), folder),
        }
        report.interleave(ways, 1)
        seconds = report.interleave(ways, rounds)
        costs = import_costs(known_home)
    return summed_up(seconds, costs)


def first_answer_s(command: Sequence[str], home: Path) -> float:
    """Start a server and return the seconds from its start to its first `/healthz`."""
    started = time.perf_counter()
    with serving(command, home):
        return time.perf_counter() - started


def import_costs(home: Path) -> dict[str, float]:
    """Return what `gator serve` had imported when it first answered."""
    log = home / "imports.log"
    with log.open("w") as trace, serving(startup.traced("serve"), home, trace=trace.fileno()):
        return startup.import_costs_ms(log.read_text())


@contextmanager
def serving(
    command: Sequence[str], home: Path, *, trace: int = subprocess.DEVNULL
) -> Iterator[None]:
    """Run a server; inside the block it has answered once, after it the server has ended."""
    port = free_port()
    words = (str(port),) if command[-1].endswith(".py") else ("--port", str(port))
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GATOR_")}
    server = subprocess.Popen(
        (*command, *words),
        cwd=home.parent,
        env={**plain, "GATOR_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=trace,
    )
    try:
        wait_until_healthy(server, port)
        yield
    finally:
        server.kill()
        server.wait()


def wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    """Ask for `/healthz` until it answers 200."""
    give_up = time.monotonic() + TIMEOUT_S
    while status_of(port) != 200:
        if server.poll() is not None:
            report.fail(f"{server.args} ended with {server.returncode} before it answered")
        if time.monotonic() > give_up:
            report.fail(f"{server.args} did not answer within {TIMEOUT_S:g} s")
        time.sleep(POLL_S)


def status_of(port: int) -> int | None:
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    except ConnectionError:
        return None
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def summed_up(seconds: dict[str, list[float]], costs: dict[str, float]) -> report.Report:
    """Turn seconds and import costs into figures and claims."""
    spreads = {way: report.spread(values) for way, values in seconds.items()}
    ratios = {
        way: report.ratio(seconds[way], seconds["bare FastAPI"])
        for way in ("new home", "known home")
    }
    loaded = [name for name in startup.TORCH_ROOM if name in costs]
    return report.Report(
        figures={
            "rounds": len(seconds["known home"]),
            "seconds_to_healthz": spreads,
            "ratio_to_bare": ratios,
            "torch_room_loaded": loaded,
            "import_ms": startup.dearest(costs),
        },
        claims=[
            report.holds("no torch when /healthz first answers", not loaded),
            report.Claim("known home, s to /healthz", spreads["known home"]["median"]),
            report.Claim("known home / bare FastAPI", ratios["known home"]["median"]),
            report.Claim("new home, s to /healthz", spreads["new home"]["median"]),
        ],
        tables=[
            report.spread_table("seconds to the first /healthz", spreads),
            report.spread_table("ratio to bare FastAPI", ratios),
            startup.import_table("gator serve", costs),
        ],
    )


def main() -> None:
    options = report.arguments(__doc__, rounds=5).parse_args()
    report.show("api_startup", measure(options.rounds), as_json=options.json)


if __name__ == "__main__":
    main()
