"""`gator serve` as a process, met over HTTP: the trip, restarts in its midst, and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

GATOR = Path(sys.executable).with_name("gator")
PNG = b"\x89PNG\r\n\x1a\n"
STOP_WITHIN_S = 5
PERSONA = {
    "name": "Mira Solano",
    "appearance": "long wavy red hair, pale skin, round glasses",
    "personality": "creative, warm, curious",
    "content_themes": ["street art"],
}

LIGHT_START = """
import sys, threading, time, urllib.request
import uvicorn
from backend.api.app import create_app
from backend.config import load_settings

server = uvicorn.Server(uvicorn.Config(create_app(load_settings()), port=int(sys.argv[1])))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started:
    time.sleep(0.01)
with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/healthz") as answer:
    assert answer.status == 200
heavy = {"torch", "diffusers", "transformers"} & set(sys.modules)
server.should_exit = True
thread.join()
print(sorted(heavy))
"""


class Served:
    """A server process and a client of it."""

    def __init__(self, process: subprocess.Popen[bytes], client: httpx2.Client) -> None:
        self.process = process
        self.client = client

    def stop(self, with_signal: signal.Signals) -> float:
        """Send a signal; return the seconds until the process was gone."""
        began = time.monotonic()
        self.process.send_signal(with_signal)
        self.process.wait(30)
        return time.monotonic() - began


@contextmanager
def gator_serve(home: Path, *command: str | Path) -> Iterator[Served]:
    """Start a server, by default `gator`; wait until it answers, and kill it in the end."""
    port = free_port()
    process = subprocess.Popen(
        [*(command or (GATOR,)), "serve", "--port", str(port)],
        env=environment(home),
        cwd=home.parent,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
            wait_for(lambda: alive(process, client), within_s=60)
            yield Served(process, client)
    finally:
        process.kill()
        process.wait()


def environment(home: Path) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("GATOR_")}
    return others | {"GATOR_HOME": str(home), "GATOR_DEVICES": "cpu:1"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def alive(process: subprocess.Popen[bytes], client: httpx2.Client) -> bool:
    assert process.poll() is None, f"the server ended with {process.returncode}"
    try:
        return client.get("/healthz").status_code == 200
    except httpx2.TransportError:
        return False


def wait_for(true: Any, within_s: float = 60) -> None:
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.05)


def ask_for_batch(client: httpx2.Client, prompts: int, side: int) -> str:
    """Create a persona, approve a base image, and ask for a batch; return the batch's path."""
    created = client.post("/api/v1/personas", json=PERSONA)
    assert created.status_code == 201, created.text
    base = created.headers["location"] + "/base-image"
    seeded = client.post(f"{base}/generate-local", json={"model": "illustrated", "seed": 1})
    assert seeded.status_code == 201, seeded.text
    assert (
        client.post(f"{base}/approve", json={"version": 1}, headers={"If-Match": "*"}).json()[
            "status"
        ]
        == "approved"
    )
    wanted = {
        "persona_id": created.json()["id"],
        "prompts": [f"in scene {n}" for n in range(prompts)],
        "seed": 2,
        "model": "illustrated",
        "width": side,
        "height": side,
    }
    asked = client.post("/api/v1/batches", json=wanted)
    assert asked.status_code == 202, asked.text
    return asked.headers["location"]


def finished(client: httpx2.Client, batch: str) -> dict[str, Any]:
    wait_for(lambda: client.get(batch).json()["finished_at"], within_s=120)
    found: dict[str, Any] = client.get(batch).json()
    return found


def test_from_a_fresh_home_to_a_picture(tmp_path: Path) -> None:
    with gator_serve(tmp_path / "home") as server:
        client = server.client
        assert client.get("/healthz").json()["status"] == "ok"
        assert client.get("/readyz").json()["status"] == "ready"
        batch = finished(client, ask_for_batch(client, prompts=2, side=256))
        assert [item["state"] for item in batch["items"]] == ["done", "done"]
        for item in batch["items"]:
            content = f"/api/v1/content/{item['content_id']}"
            assert client.get(content).json()["caption"]
            picture = client.get(f"{content}/image")
            assert picture.headers["content-type"] == "image/png"
            assert picture.content.startswith(PNG)
        assert server.stop(signal.SIGTERM) < STOP_WITHIN_S


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGKILL])
def test_a_batch_goes_on_after_a_restart(tmp_path: Path, with_signal: signal.Signals) -> None:
    home, prompts = tmp_path / "home", 12

    def done(client: httpx2.Client, batch: str) -> dict[int, str]:
        items = client.get(batch).json()["items"]
        return {i["position"]: i["content_id"] for i in items if i["state"] == "done"}

    with gator_serve(home) as server:
        batch = ask_for_batch(server.client, prompts, side=1024)
        wait_for(lambda: len(done(server.client, batch)) >= 1)
        before = done(server.client, batch)
        assert len(before) < prompts, "the batch was over before it could be cut off"
        assert server.stop(with_signal) < STOP_WITHIN_S
    with gator_serve(home) as server:
        after = finished(server.client, batch)
        kept = done(server.client, batch)
        states = {"queued": 0, "running": 0, "done": prompts, "failed": 0, "cancelled": 0}
        assert after["counts"] == states
        assert before.items() <= kept.items(), "what was finished was made again"
        content = server.client.get("/api/v1/content", params={"limit": 200}).json()
        assert sorted(piece["id"] for piece in content["items"]) == sorted(kept.values())
        assert all(piece["caption"] for piece in content["items"])


def test_it_stops_in_time_while_a_picture_is_being_made(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="the extra `local` is not installed")
    with gator_serve(tmp_path / "home") as server, ThreadPoolExecutor(1) as other:
        created = server.client.post("/api/v1/personas", json=PERSONA).headers["location"]
        seed = f"{created}/base-image/generate-local"
        other.submit(lambda: server.client.post(seed, json={"num_inference_steps": 500}))
        wait_for(lambda: server.client.get("/api/v1/devices").json()["items"][0]["worker_pid"])
        worker = server.client.get("/api/v1/devices").json()["items"][0]["worker_pid"]
        assert server.stop(signal.SIGTERM) < STOP_WITHIN_S
        wait_for(lambda: not Path(f"/proc/{worker}").exists(), within_s=2)


def test_it_starts_without_torch(tmp_path: Path) -> None:
    started = subprocess.run(
        [sys.executable, "-c", LIGHT_START, str(free_port())],
        env=environment(tmp_path / "home") | {"GATOR_DEVICES": "auto"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert started.returncode == 0, started.stderr
    assert started.stdout.splitlines()[-1] == "[]"


def test_a_home_that_cannot_be_used_is_named_at_the_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file")
    refused = subprocess.run(
        [GATOR, "serve", "--port", str(free_port())],
        env=environment(home),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode != 0
    assert f"GATOR_HOME {home} cannot be used" in refused.stderr
    assert "Traceback" not in refused.stderr
