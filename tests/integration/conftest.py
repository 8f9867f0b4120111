"""What the integration tests of the API share: a real server, and a client that checks on it."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from backend.api.app import create_app
from backend.config import Settings


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port of 127.0.0.1; yield its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive(), "the server did not stop"


class Documented:
    """Fails a test whose answer the OpenAPI document does not promise."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._paths = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), methods)
            for path, methods in document["paths"].items()
        ]

    def __call__(self, response: httpx2.Response) -> None:
        method = response.request.method.lower()
        for pattern, methods in self._paths:
            if pattern.fullmatch(response.request.url.path) and method in methods:
                promised = methods[method]["responses"]
                name = f"{method} {response.request.url.path} → {response.status_code}"
                assert str(response.status_code) in promised, f"{name} is not documented"
                content = promised[str(response.status_code)].get("content")
                sent = response.headers.get("content-type", "").partition(";")[0]
                assert not content or sent in content, f"{name} as {sent!r} is not documented"


@contextmanager
def client_of(app: FastAPI) -> Iterator[httpx2.Client]:
    """Serve an application and yield a client of it."""
    hooks = {"response": [Documented(app.openapi())]}
    with (
        served(app) as url,
        httpx2.Client(base_url=url, timeout=60, event_hooks=hooks, trust_env=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of a studio with a fresh home and one CPU slot."""
    home = tmp_path_factory.mktemp("home") / "gator"
    app = create_app(Settings(home=home, devices="cpu:1"))

    async def crash() -> None:
        raise RuntimeError("the secret of the house")

    app.add_api_route("/crash", crash, include_in_schema=False)
    with client_of(app) as client:
        yield client


@pytest.fixture
def open_api(tmp_path: Path) -> Callable[..., Any]:
    """Open an API on a home of one's own: `with open_api() as client`."""

    def opened(**settings: Any) -> Any:
        return client_of(create_app(Settings(**{"home": tmp_path, "devices": "cpu:1", **settings})))

    return opened


@pytest.fixture(scope="session")
def persona() -> Callable[..., dict[str, Any]]:
    """Write a persona as a client would send it, with changes."""

    def written(**changes: Any) -> dict[str, Any]:
        style = {"aesthetic": "minimal", "voice_style": "playful", "tone": "warm"}
        return {
            "name": "Mira Solano",
            "appearance": "long wavy red hair, pale skin, round glasses",
            "personality": "creative, warm, curious",
            "content_themes": ["street art", "colour"],
            "style_preferences": style,
            **changes,
        }

    return written


@pytest.fixture(scope="session")
def approved(persona: Callable[..., dict[str, Any]]) -> Callable[[httpx2.Client], str]:
    """Create a persona and approve an illustrated base image; return its id."""

    def made(client: httpx2.Client) -> str:
        created = client.post("/api/v1/personas", json=persona()).json()
        base = f"/api/v1/personas/{created['id']}/base-image"
        seeded = client.post(f"{base}/generate-local", json={"seed": 7, "model": "illustrated"})
        assert seeded.status_code == 201, seeded.text
        assert (
            client.post(
                f"{base}/approve", json={"version": 1}, headers={"If-Match": seeded.headers["etag"]}
            ).status_code
            == 200
        )
        return str(created["id"])

    return made


@pytest.fixture(scope="session")
def finished() -> Callable[[httpx2.Client, str], dict[str, Any]]:
    """Wait for a batch to finish."""

    def waited(client: httpx2.Client, batch_id: str, within_s: float = 60) -> dict[str, Any]:
        ends = time.monotonic() + within_s
        while time.monotonic() < ends:
            batch: dict[str, Any] = client.get(f"/api/v1/batches/{batch_id}").json()
            if batch["finished_at"]:
                return batch
            time.sleep(0.1)
        raise AssertionError(f"batch {batch_id} did not finish: {batch['counts']}")

    return waited
