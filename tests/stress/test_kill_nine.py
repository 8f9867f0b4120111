"""`kill -9` of a real server in the midst of seeds and approvals: nothing is half done or lost.

`make test` runs the short form, `make stress` the long one.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from backend.database.engine import Database
from backend.services.audit_service import AuditService
from backend.services.blob_check import BlobCheck, BlobReport
from backend.storage.blobs import BlobStore
from tests.e2e.test_serve import PERSONA, gator_serve

SEED = 20_261
ANY = {"If-Match": "*"}
DRAWN = {"model": "illustrated", "width": 256, "height": 256}


@dataclass
class Known:
    """What the server said it had done, which must still be so after it was killed."""

    persona: str = ""
    versions: dict[int, str] = field(default_factory=dict)
    revision: int = 0
    answers: int = 0
    faults: list[str] = field(default_factory=list)

    def take(self, response: httpx2.Response) -> None:
        if response.status_code in (200, 201):
            state = response.json()
            self.answers += 1
            self.revision = state["revision"]
            self.versions = {v["n"]: v["sha256"] for v in state["versions"]}
        elif response.status_code != 409:
            self.faults.append(response.text)


def picture(chance: random.Random) -> bytes:
    buffer = io.BytesIO()
    colour = (chance.randrange(256), chance.randrange(256), chance.randrange(256))
    Image.new("RGB", (256, 256), colour).save(buffer, "PNG")
    return buffer.getvalue()


def work(client: httpx2.Client, known: Known, chance: random.Random) -> None:
    """Seed, approve, take back and purge, until the server is gone."""
    base = f"{known.persona}/base-image"

    def post(action: str, **sent: Any) -> None:
        known.take(client.post(f"{base}/{action}", headers=ANY, **sent))

    def upload() -> None:
        post("upload", files={"file": ("a.png", picture(chance))})

    def drawn() -> None:
        post("generate-local", json={**DRAWN, "seed": chance.randrange(2**31)})

    def approve() -> None:
        post("approve", json={"likeness_attestation": True})

    def unlock() -> None:
        post("unlock", json={"reason": "again"})

    def reject() -> None:
        post("reject", json={"reason": "again"})

    def purge() -> None:
        post("purge", json={"reason": "again"})

    actions: list[Callable[[], None]] = [upload, drawn, approve, unlock, reject, purge]
    weights = [6, 2, 6, 3, 1, 1]
    try:
        while True:
            chance.choices(actions, weights)[0]()
    except httpx2.RequestError:
        return


def check_over_http(client: httpx2.Client, known: Known) -> None:
    """Every version that was told of, and every one there is, is whole; no state is half."""
    state = client.get(f"{known.persona}/base-image").json()
    persona = client.get(known.persona).json()
    assert persona["appearance_locked"] == (state["status"] == "approved")
    assert state["revision"] >= known.revision
    there = {v["n"]: v["sha256"] for v in state["versions"]}
    if state["revision"] == known.revision:
        assert there == known.versions
    assert (state["approved_version"] is not None) == (state["status"] == "approved")
    if state["status"] == "approved":
        assert there[state["approved_version"]] == state["approved_sha256"]
    if state["status"] in ("draft", "approved", "rejected"):
        assert there
    for n, sha256 in there.items():
        served = client.get(f"{known.persona}/base-image/versions/{n}/image")
        assert served.status_code == 200, served.text
        assert hashlib.sha256(served.content).hexdigest() == sha256


async def check_and_mend(home: Path) -> BlobReport:
    """The log is whole; what is left over is named, and gone after a repair."""
    database = Database(f"sqlite+aiosqlite:///{home / 'gator.sqlite3'}")
    try:
        report = await AuditService(database).verify()
        assert report.ok, report.broken
        blobs = BlobCheck(database, BlobStore(home / "blobs"))
        found = await blobs.check(repair=True, grace_s=0)
        assert not found.missing
        assert not found.damaged
        assert {*found.orphans, *found.temporary} <= set(found.removed)
        assert (await blobs.check()).ok
    finally:
        await database.close()
    return found


@pytest.mark.timeout(3_600)
def test_a_killed_server_leaves_nothing_half_done(
    tmp_path: Path, rounds: Any, record_property: Any
) -> None:
    kills = rounds(3, 200)
    chance = random.Random(SEED)
    home, known, left = tmp_path / "home", Known(), 0
    for turn in range(kills + 1):
        with gator_serve(home) as served:
            if not known.persona:
                created = served.client.post("/api/v1/personas", json=PERSONA)
                known.persona = created.headers["location"]
            check_over_http(served.client, known)
            found = asyncio.run(check_and_mend(home))
            left += len(found.orphans) + len(found.temporary)
            if turn == kills:
                break
            worker = threading.Thread(
                target=work, args=(served.client, known, random.Random(SEED + turn))
            )
            worker.start()
            worker.join(chance.uniform(0.02, 1.5))
            served.process.kill()
            worker.join(60)
            assert not worker.is_alive()
            assert not known.faults, known.faults
    assert known.answers >= kills
    record_property("answers", known.answers)
    record_property("left_over_and_mended", left)
    print(f"{kills} kills, {known.answers} answers, {left} left over and mended")  # noqa: T201
