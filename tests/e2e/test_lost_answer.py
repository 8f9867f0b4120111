"""A server that is killed after its work was committed and before the answer was kept.

The same request, sent to the next server, is answered with what was made, and makes nothing.
"""

from __future__ import annotations

import io
import signal
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from tests.e2e.test_serve import PERSONA, Served, gator_serve

DYING = """
import os, signal, sys
from backend.services.idempotency import IdempotencyKeys

async def dies(*_):
    os.kill(os.getpid(), signal.SIGKILL)

IdempotencyKeys._keep = dies
from backend.cli.main import run
run()
"""
ANY = {"If-Match": "*"}
DRAWN = {"model": "illustrated", "seed": 7, "width": 256, "height": 256}


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (256, 256), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def killed_by(served: Served, place: str, **sent: Any) -> None:
    with pytest.raises(httpx2.RequestError):
        served.client.post(place, **sent)
    assert served.process.wait(30) == -signal.SIGKILL


@pytest.mark.parametrize("way", ["upload", "generate-local"])
def test_a_seed_whose_answer_was_lost_is_not_made_twice(tmp_path: Path, way: str) -> None:
    home, key = tmp_path / "home", {"Idempotency-Key": "once"}
    sent: dict[str, Any] = (
        {"files": {"file": ("a.png", picture())}} if way == "upload" else {"json": DRAWN}
    )
    with gator_serve(home, sys.executable, "-c", DYING) as served:
        base = served.client.post("/api/v1/personas", json=PERSONA).headers["location"]
        base += "/base-image"
        killed_by(served, f"{base}/{way}", headers=key, **sent)
    with gator_serve(home) as served:
        first, again = (served.client.post(f"{base}/{way}", headers=key, **sent) for _ in range(2))
        assert (first.status_code, again.status_code) == (201, 201), first.text
        assert first.headers["idempotent-replayed"] == again.headers["idempotent-replayed"]
        assert again.content == first.content
        assert first.headers["location"].endswith("/versions/1/image")
        assert first.headers["etag"] == served.client.get(base).headers["etag"]
        assert [v["n"] for v in first.json()["versions"]] == [1]
        other = served.client.post(f"{base}/generate-local", headers=key, json={"seed": 1})
        assert other.status_code == 422
        assert len(served.client.get(f"{base}/versions").json()["items"]) == 1


def test_a_batch_whose_answer_was_lost_is_not_made_twice(tmp_path: Path) -> None:
    home, key = tmp_path / "home", {"Idempotency-Key": "once"}
    with gator_serve(home) as served:
        place = served.client.post("/api/v1/personas", json=PERSONA).headers["location"]
        base = f"{place}/base-image"
        assert served.client.post(f"{base}/generate-local", json=DRAWN).status_code == 201
        assert served.client.post(f"{base}/approve", json={}, headers=ANY).status_code == 200
    wanted = {"persona_id": place.rpartition("/")[2], "prompts": ["a", "b"], **DRAWN}
    with gator_serve(home, sys.executable, "-c", DYING) as served:
        killed_by(served, "/api/v1/batches", headers=key, json=wanted)
    with gator_serve(home) as served:
        sent = [served.client.post("/api/v1/batches", headers=key, json=wanted) for _ in range(2)]
        assert [response.status_code for response in sent] == [202, 202], sent[0].text
        assert sent[0].headers["idempotent-replayed"] == "true"
        assert sent[0].json()["id"] == sent[1].json()["id"]
        listed = served.client.get("/api/v1/batches").json()
        assert [batch["id"] for batch in listed["items"]] == [sent[0].json()["id"]]
