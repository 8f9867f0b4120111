"""Hostile uploads through the real server: no 5xx, in time, in little memory, nothing stored.

`make test` runs the short form, `make stress` the long one. Time is the processor's, since others
may be at work on the machine.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend.database.engine import Database
from backend.services.blob_check import BlobCheck, BlobReport
from backend.storage.blobs import BlobStore
from tests.e2e.test_serve import PERSONA, gator_serve
from tests.fixtures.hostile import hostile

LIMIT_S = 2.0
LIMIT_KIB = 400 * 1024
FORM = {"Content-Type": "multipart/form-data; boundary=XX"}
NAMES = (
    b'filename="../../../etc/passwd"',
    b'filename="x.html"',
    b'filename="\x00\xff.png"',
    b'filename=""',
    b'filename="' + b"A" * 60_000 + b'"',
    b"filename*=utf-8''%2e%2e%2fx",
    b"filename=a;b;c",
)


def form(chance: random.Random, data: bytes) -> bytes:
    """Put bytes into a form, which is itself spoilt now and then."""
    head = b'--XX\r\nContent-Disposition: form-data; name="file"; ' + chance.choice(NAMES)
    body = head + b"\r\nContent-Type: image/svg+xml\r\n\r\n" + data + b"\r\n--XX--\r\n"
    way = chance.randrange(12)
    if way == 0:
        return body[: chance.randrange(len(body))]
    if way == 1:
        return body + body
    if way == 2:
        spoilt = bytearray(body)
        spoilt[chance.randrange(min(len(spoilt), 200))] = chance.randrange(256)
        return bytes(spoilt)
    return body


def peak_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(match[1]) if match else 0


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process and those it started and saw end have had."""
    return sum(psutil.Process(pid).cpu_times()[:4])


async def look(home: Path) -> BlobReport:
    database = Database(f"sqlite+aiosqlite:///{home / 'gator.sqlite3'}")
    try:
        return await BlobCheck(database, BlobStore(home / "blobs")).check()
    finally:
        await database.close()


@pytest.mark.timeout(3_600)
def test_hostile_uploads_do_the_server_no_harm(tmp_path: Path, rounds: Any) -> None:
    count = rounds(60, 10_000)
    endings: Counter[int] = Counter()
    longest, waited, which = 0.0, 0.0, ""
    home = tmp_path / "home"
    with gator_serve(home) as served:
        client = served.client
        place = client.post("/api/v1/personas", json=PERSONA).headers["location"]
        for seed in range(count):
            chance = random.Random(seed)
            name, data = hostile(seed)
            began, before = time.monotonic(), cpu_s(served.process.pid)
            answer = client.post(
                f"{place}/base-image/upload", content=form(chance, data), headers=FORM
            )
            waited = max(waited, time.monotonic() - began)
            took = cpu_s(served.process.pid) - before
            if took > longest:
                longest, which = took, f"{seed} {name}"
            assert answer.status_code in (201, 413, 422), f"{seed} {name}: {answer.text}"
            endings[answer.status_code] += 1
        versions = client.get(f"{place}/base-image").json()["versions"]
        taken = len(versions)
        peak = peak_kib(served.process.pid)
        report = asyncio.run(look(home))
    assert taken == endings[201]
    assert not report.orphans
    assert not report.temporary
    assert not report.missing
    assert report.blobs <= 2 * taken
    print(  # noqa: T201
        f"{dict(endings)}, longest {longest:.2f} s of processor time ({which}), "
        f"longest wait {waited:.2f} s, peak {peak / 1024:.0f} MiB"
    )
    assert peak < LIMIT_KIB
    assert longest < LIMIT_S, which
