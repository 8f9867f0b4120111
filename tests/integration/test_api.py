"""The API over a real server: what a client does with it, from a persona to a picture."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from backend.api.runner import running
from backend.bootstrap import LOCAL_OWNER, open_studio
from backend.config import Settings
from backend.models.persona import PersonaCreate

ANY = {"If-Match": "*"}
Persona = Callable[..., dict[str, Any]]
Approved = Callable[[httpx2.Client], str]
Finished = Callable[[httpx2.Client, str], dict[str, Any]]


def test_it_is_alive_and_ready(api: httpx2.Client) -> None:
    assert api.get("/healthz").json()["status"] == "ok"
    ready = api.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["checks"] == {"database": "ok", "blobs": "ok", "devices": "cpu:0"}


def test_the_root_leads_to_the_documents(api: httpx2.Client) -> None:
    root = api.get("/")
    assert (root.status_code, root.headers["location"]) == (307, "/docs")
    assert api.get("/docs").status_code == 200


def test_a_persona_is_created_read_changed_and_deleted(
    api: httpx2.Client, persona: Persona
) -> None:
    sent = persona(name="Vera", style_preferences={"aesthetic": "noir", "own": {"a": [1, "ü"]}})
    created = api.post("/api/v1/personas", json=sent)
    assert created.status_code == 201
    place = created.headers["location"]
    assert place == f"/api/v1/personas/{created.json()['id']}"
    assert created.json()["base_image_status"] == "pending_upload"
    assert created.json()["style_preferences"]["own"] == {"a": [1, "ü"]}
    assert api.get(place).json() == created.json()

    changed = api.patch(place, json={"name": "Vera Lind", "content_themes": ["film"]}, headers=ANY)
    assert changed.status_code == 200
    assert changed.json()["name"] == "Vera Lind"
    assert changed.json()["content_themes"] == ["film"]
    assert changed.json()["appearance"] == sent["appearance"]

    gone = api.delete(place)
    assert (gone.status_code, gone.content) == (204, b"")
    assert api.get(place).status_code == 404


def test_personas_come_in_pages(api: httpx2.Client, persona: Persona) -> None:
    for name in ("one", "two", "three"):
        api.post("/api/v1/personas", json=persona(name=name))
    everything = api.get("/api/v1/personas", params={"limit": 200}).json()
    total = everything["total"]
    assert total == len(everything["items"]) >= 3
    page = api.get("/api/v1/personas", params={"limit": 2, "offset": total - 2}).json()
    assert [p["name"] for p in page["items"]] == ["two", "three"]
    assert {key: page[key] for key in ("total", "limit", "offset")} == {
        "total": total,
        "limit": 2,
        "offset": total - 2,
    }


def test_a_base_image_goes_from_nothing_to_approved(api: httpx2.Client, persona: Persona) -> None:
    place = api.post("/api/v1/personas", json=persona(name="Ada")).headers["location"]
    base = f"{place}/base-image"
    state = api.get(base).json()
    assert (state["status"], state["allowed_actions"]) == ("pending_upload", ["seed", "purge"])

    wanted = {"seed": 5, "model": "illustrated"}
    seeded = api.post(f"{base}/generate-local", json=wanted)
    assert seeded.status_code == 201
    assert seeded.json()["status"] == "draft"
    assert seeded.headers["location"] == f"{base}/versions/1/image"

    rejected = api.post(f"{base}/reject", json={"reason": "too dark"}, headers=ANY).json()
    assert (rejected["status"], rejected["rejection_reason"]) == ("rejected", "too dark")
    assert api.post(f"{base}/generate-local", json=wanted).json()["current_version"] == 2
    versions = api.get(f"{base}/versions").json()["items"]
    assert [version["n"] for version in versions] == [1, 2]
    assert versions[1]["created_by"] == "owner"

    assert api.post(f"{base}/approve", json={"version": 1}, headers=ANY).status_code == 409
    approved = api.post(f"{base}/approve", json={"version": None}, headers=ANY)
    assert approved.status_code == 200
    assert approved.json()["approved_version"] == 2
    assert approved.json()["approved_sha256"] == versions[1]["sha256"]
    refused = api.post(f"{base}/reject", json={"reason": "too late"}, headers=ANY)
    assert refused.status_code == 409
    assert refused.json()["state"] == "approved"
    assert refused.json()["allowed_actions"] == ["seed", "unlock", "purge"]

    locked = api.patch(place, json={"appearance": "short hair"}, headers=ANY)
    assert locked.status_code == 409
    assert locked.json()["field"] == "appearance"
    assert "appearance" in locked.json()["detail"]
    assert api.patch(place, json={"personality": "bold"}, headers=ANY).status_code == 200


def test_of_many_approvers_one_wins(api: httpx2.Client, persona: Persona) -> None:
    base = api.post("/api/v1/personas", json=persona()).headers["location"] + "/base-image"
    api.post(f"{base}/generate-local", json={"model": "illustrated"})
    with ThreadPoolExecutor(16) as crowd:
        answers = list(
            crowd.map(
                lambda _: api.post(f"{base}/approve", json={"version": 1}, headers=ANY), range(16)
            )
        )
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 15


def test_a_picture_is_served_safely_and_once(api: httpx2.Client, approved: Approved) -> None:
    place = f"/api/v1/personas/{approved(api)}/base-image/versions/1/image"
    served = api.get(place)
    assert served.headers["content-type"] == "image/png"
    assert served.headers["x-content-type-options"] == "nosniff"
    assert served.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert served.headers["cache-control"] == "private, max-age=31536000, immutable"
    etag = f'"{hashlib.sha256(served.content).hexdigest()}"'
    assert served.headers["etag"] == etag
    assert Image.open(io.BytesIO(served.content)).format == "PNG"
    for known in (etag, f'"other", W/{etag}', "*"):
        again = api.get(place, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    assert api.get(place, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_batch_ends_in_pictures_with_captions(
    api: httpx2.Client, approved: Approved, finished: Finished
) -> None:
    persona_id = approved(api)
    wanted = {
        "persona_id": persona_id,
        "prompts": ["in a workshop", "   ", "at the sea\0", "\ud83d", "x" * 10_000, "smiling"],
        "seed": 11,
        "model": "illustrated",
        "width": 128,
        "height": 128,
    }
    raw = json.dumps(wanted)  # escapes what is not text; a client's own encoder would not take it
    asked = api.post("/api/v1/batches", content=raw, headers={"Content-Type": "application/json"})
    assert asked.status_code == 202, asked.text
    assert asked.headers["location"] == f"/api/v1/batches/{asked.json()['id']}"
    counts = {"queued": 2, "running": 0, "done": 0, "failed": 4, "cancelled": 0}
    assert asked.json()["counts"] == counts

    batch = finished(api, asked.json()["id"])
    states = [item["state"] for item in batch["items"]]
    assert states == ["done", "failed", "failed", "failed", "failed", "done"]
    assert all(item["error"]["code"] == "invalid_request" for item in batch["items"][1:5])

    content = api.get("/api/v1/content", params={"persona_id": persona_id}).json()
    assert content["total"] == 2
    for item in (batch["items"][0], batch["items"][5]):
        piece = api.get(f"/api/v1/content/{item['content_id']}").json()
        assert piece in content["items"]
        assert (piece["prompt"], piece["seed"]) == (item["prompt"], item["seed"])
        assert piece["caption"]
        assert piece["caption_origin"] == "template"
        picture = api.get(f"/api/v1/content/{item['content_id']}/image")
        assert picture.headers["etag"] == f'"{piece["sha256"]}"'
        assert Image.open(io.BytesIO(picture.content)).size == (128, 128)
    listed = api.get("/api/v1/batches", params={"limit": 1}).json()["items"]
    assert [one["id"] for one in listed] == [batch["id"]]
    assert listed[0]["finished_at"] == batch["finished_at"]


def test_a_batch_needs_an_approved_base_image(api: httpx2.Client, persona: Persona) -> None:
    created = api.post("/api/v1/personas", json=persona(name="Noa")).json()
    refused = api.post("/api/v1/batches", json={"persona_id": created["id"], "prompts": ["hello"]})
    assert refused.status_code == 409
    assert refused.json()["state"] == "pending_upload"


def test_captions_are_written_and_seeded(api: httpx2.Client, persona: Persona) -> None:
    created = api.post("/api/v1/personas", json=persona(name="Ines")).json()
    wanted = {"persona_id": created["id"], "prompt": "a morning walk", "seed": 3, "count": 4}
    written = api.post("/api/v1/captions", json=wanted)
    assert written.status_code == 200
    texts = [caption["text"] for caption in written.json()["captions"]]
    assert len(set(texts)) == 4
    assert {caption["origin"] for caption in written.json()["captions"]} == {"template"}
    assert api.post("/api/v1/captions", json=wanted).json() == written.json()


def test_models_and_devices_are_listed(api: httpx2.Client, approved: Approved) -> None:
    models = {model["name"]: model for model in api.get("/api/v1/models").json()["items"]}
    assert models["illustrated"]["kind"] == "illustrated"
    assert models["illustrated"]["loaded"]
    assert "source" not in models["illustrated"]
    approved(api)
    (device,) = api.get("/api/v1/devices").json()["items"]
    assert (device["name"], device["kind"], device["device_id"]) == ("cpu:0", "cpu", 0)
    assert device["worker_pid"] > 0
    assert device["worker_peak_rss_bytes"] > 0


def test_the_portrait_model_draws_base_image_and_batch(
    api: httpx2.Client, persona: Persona, finished: Finished
) -> None:
    pytest.importorskip("diffusers", reason="the extra `local` is not installed")
    place = api.post("/api/v1/personas", json=persona(name="Lena")).headers["location"]
    seeded = api.post(f"{place}/base-image/generate-local")
    assert seeded.status_code == 201, seeded.text
    assert seeded.json()["versions"][0]["kind"] == "diffusion"
    api.post(f"{place}/base-image/approve", json={}, headers=ANY)
    wanted = {"persona_id": place.rpartition("/")[2], "prompts": ["smiling"], "seed": 1}
    pictures = []
    for _ in range(2):
        batch = finished(api, api.post("/api/v1/batches", json=wanted).json()["id"])
        assert batch["counts"]["done"] == 1, batch
        pictures.append(api.get(f"/api/v1/content/{batch['items'][0]['content_id']}/image").content)
    assert pictures[0] == pictures[1]


def test_a_batch_whose_persona_is_deleted_does_not_hold_up_the_next(
    api: httpx2.Client, approved: Approved, finished: Finished
) -> None:
    doomed, other = approved(api), approved(api)
    options = {"model": "illustrated", "width": 512, "height": 512}
    for persona_id, prompts in ((doomed, ["a", "b", "c", "d"] * 5), (other, ["e"])):
        asked = api.post(
            "/api/v1/batches", json={"persona_id": persona_id, "prompts": prompts, **options}
        )
    assert api.delete(f"/api/v1/personas/{doomed}").status_code == 204
    assert finished(api, asked.json()["id"])["counts"]["done"] == 1


async def test_a_batch_outlives_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    async with open_studio(Settings(home=tmp_path, devices="cpu:1")) as studio:
        new = PersonaCreate(name="Mo", appearance="grey hair", personality="calm")
        created = await studio.personas.create(new)
        await studio.base_images.seed_local(
            created.id, actor=LOCAL_OWNER, model="illustrated", seed=1
        )
        await studio.base_images.approve(created.id, None, actor=LOCAL_OWNER)
        view = await studio.batches.create(created.id, ["one", "two"], model="illustrated")
        blobs, aside = tmp_path / "blobs", tmp_path / "aside"
        blobs.rename(aside)
        blobs.write_text("a file where the folder was")
        async with running(studio) as runner:
            await _until(lambda: runner.storage_faults >= 1)
            blobs.unlink()
            aside.rename(blobs)
            await _until(lambda: _finished(tmp_path, view.batch.id))
        assert (await studio.batches.show(view.batch.id)).counts["done"] == 2


def _finished(home: Path, batch_id: str) -> bool:
    with sqlite3.connect(home / "gator.sqlite3") as connection:
        row = connection.execute("SELECT finished_at FROM batches WHERE id = ?", (batch_id,))
        found = row.fetchone()[0] is not None
    connection.close()
    return found


async def _until(true: Callable[[], bool], within_s: float = 30) -> None:
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends, "it did not happen in time"
        await asyncio.sleep(0.05)
