"""Chaos, seeded: workers killed and hung, the server killed, the disk full, the database locked.

Whatever happens, every item of the batch ends as the picture that an undisturbed run makes, each
once. `make test` runs the short form, `make stress` the long one.
"""

from __future__ import annotations

import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from backend.config import child_environment

ROOT = Path(__file__).parents[2]
SEED = 11
IN_HAND = 16
"""What a server of two devices claims at once, and so may have to do again."""

TOGETHER = 8
"""What a worker may have in a micro-batch, and one more in waiting."""

LIMITS = {
    "GATOR_STEP_TIMEOUT_S": "2",
    "GATOR_LOAD_TIMEOUT_S": "2",
    "GATOR_ENCODE_TIMEOUT_S": "2",
}
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit and /proc")


@dataclass
class Studio:
    """A server on one home folder, started as often as it is killed."""

    home: Path
    devices: str = "cpu:2"
    process: subprocess.Popen[bytes] | None = None
    client: httpx2.Client = field(default_factory=httpx2.Client)
    stopped: list[psutil.Process] = field(default_factory=list)

    def start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = child_environment(
            {**LIMITS, "GATOR_HOME": str(self.home), "GATOR_DEVICES": self.devices}
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fixtures.chaos_server", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.client.close()
        self.client = httpx2.Client(
            base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30, trust_env=False
        )
        ends = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, "the server did not start"
            assert time.monotonic() < ends, "the server did not start in time"
            with suppress(httpx2.TransportError):
                self.client.get("/devices")
                return
            time.sleep(0.05)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        self.client.close()
        for worker in self.stopped:
            with suppress(psutil.NoSuchProcess):
                worker.kill()

    def workers(self) -> list[psutil.Process]:
        assert self.process
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [worker for worker in found if worker not in self.stopped]

    def batch(self, batch_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/batches/{batch_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def kill_worker(studio: Studio, chance: random.Random) -> None:
    if workers := studio.workers():
        chance.choice(workers).send_signal(signal.SIGKILL)


def hang_worker(studio: Studio, chance: random.Random) -> None:
    if workers := studio.workers():
        worker = chance.choice(workers)
        worker.send_signal(signal.SIGSTOP)
        studio.stopped.append(worker)


def kill_server(studio: Studio, _: random.Random) -> None:
    studio.kill()
    studio.start()


def fill_disk(studio: Studio, _: random.Random) -> None:
    """No file of the server's grows past a kibibyte for a while, as on a disk that is full."""
    assert studio.process
    server = psutil.Process(studio.process.pid)
    server.rlimit(psutil.RLIMIT_FSIZE, (1_024, psutil.RLIM_INFINITY))
    time.sleep(2)
    for process in (server, *server.children(recursive=True)):
        process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))


def lock_database(seconds: float) -> Callable[[Studio, random.Random], None]:
    def locked(studio: Studio, _: random.Random) -> None:
        with sqlite3.connect(studio.home / "gator.sqlite3", isolation_level=None) as other:
            other.execute("PRAGMA busy_timeout = 10000")
            other.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
            other.execute("ROLLBACK")
        other.close()

    return locked


def mend(studio: Studio, batch_id: str) -> bool:
    """Do what a user would who looks after the batch; return whether it is finished."""
    batch = studio.batch(batch_id)
    if batch["state"] == "paused":
        for device in studio.client.get("/devices").json()["items"]:
            if device["state"] == "quarantined":
                studio.client.post(f"/devices/{device['name']}/release")
        studio.client.post(f"/batches/{batch_id}/resume")
    if batch["counts"]["failed"]:
        studio.client.post(f"/batches/{batch_id}/retry-failed")
    return batch["state"] == "done" and not batch["counts"]["failed"]


def run_through(home: Path, items: int, faults: list[Any]) -> list[str]:
    """Run one batch while faults happen; return the pictures' hashes, in order."""
    chance, studio = random.Random(SEED), Studio(home)
    studio.start()
    try:
        prompts = [f"sleep:0.05 number {i}" for i in range(items)]
        asked = studio.client.post(
            "/batches", json={"prompts": prompts, "seed": SEED, "model": "solid"}
        )
        assert asked.status_code == 202, asked.text
        batch_id = asked.json()["id"]
        for fault in faults:
            time.sleep(chance.uniform(0.05, 0.3))
            fault(studio, chance)
            mend(studio, batch_id)
        ends = time.monotonic() + 120
        while not mend(studio, batch_id):
            assert time.monotonic() < ends, studio.batch(batch_id)
            time.sleep(0.1)
    finally:
        studio.close()
    return check(home, items)


def check(home: Path, items: int) -> list[str]:
    """Every item has one picture, and only one attempt at it succeeded."""
    with sqlite3.connect(home / "gator.sqlite3") as database:
        hashes = database.execute(
            "SELECT sha256 FROM batch_items i JOIN contents c ON c.id = i.content_id "
            "WHERE i.state = 'done' ORDER BY position"
        ).fetchall()
        contents = database.execute("SELECT count(*) FROM contents").fetchone()[0]
        made = database.execute(
            "SELECT item_id FROM batch_item_attempts WHERE error IS NULL OR error = 'null'"
        ).fetchall()
    database.close()
    assert (len(hashes), contents) == (items, items)
    assert set(Counter(made).values()) == {1}
    assert len(made) == items
    for (sha256,) in hashes:
        assert (home / "blobs" / sha256[:2] / sha256[2:]).is_file()
    return [sha256 for (sha256,) in hashes]


def attempts_again(home: Path) -> Counter[str]:
    """Count the attempts that came to nothing, by their reason."""
    with sqlite3.connect(home / "gator.sqlite3") as database:
        codes = database.execute(
            "SELECT json_extract(error, '$.code') FROM batch_item_attempts "
            "WHERE error IS NOT NULL AND error != 'null'"
        ).fetchall()
    database.close()
    return Counter(code for (code,) in codes)


@linux
@pytest.mark.timeout(1_800)
def test_nothing_is_lost_and_nothing_made_twice(
    tmp_path: Path, rounds: Any, record_property: Any
) -> None:
    items, kills, hangs, server_kills, lock_s = rounds((80, 4, 1, 2, 1.5), (500, 50, 10, 10, 5))
    faults = [
        *[kill_worker] * kills,
        *[hang_worker] * hangs,
        *[kill_server] * server_kills,
        fill_disk,
        lock_database(lock_s),
    ]
    random.Random(SEED).shuffle(faults)
    undisturbed = run_through(tmp_path / "calm", items, [])
    disturbed = run_through(tmp_path / "chaos", items, faults)
    assert disturbed == undisturbed
    assert len(set(disturbed)) == items
    again = attempts_again(tmp_path / "chaos")
    record_property("again", dict(again))
    print(f"{items} items, {len(faults)} faults, done again: {dict(again)}")  # noqa: T201
    assert again["interrupted"] <= server_kills * IN_HAND
    assert again.total() <= server_kills * IN_HAND + (kills + hangs) * TOGETHER
