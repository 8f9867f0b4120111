"""Devices of a running server that fail, are released and stop: `gator devices`, over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.support import Cli
from tests.e2e.test_chaos import Studio
from tests.e2e.test_serve import wait_for
from tests.fixtures.solid_engine import LONG_STEP_S

ANSWERS_S = 0.4
"""What a few requests take at most on a busy machine."""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A server of one device whose engine fails when it is asked to."""
    opened = Studio(tmp_path_factory.mktemp("studio") / "home", devices="cpu:1")
    opened.start()
    yield opened
    opened.close()


def asked(studio: Studio, *prompts: str) -> str:
    answer = studio.client.post("/batches", json={"prompts": prompts})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def device(studio: Studio) -> dict[str, Any]:
    (found,) = studio.client.get("/devices").json()["items"]
    return dict(found)


def test_a_device_that_keeps_failing_is_set_aside_and_taken_back_by_command(
    studio: Studio,
) -> None:
    cli = Cli(studio.home, devices="cpu:1")
    server = ("--server", str(studio.client.base_url.copy_with(path="/")))
    batch = asked(studio, "exit:3 first", "exit:3 second", "a wall")
    wait_for(lambda: studio.batch(batch)["state"] == "paused")
    assert "exit code 3" in device(studio)["reason"]
    assert "cpu:0 is quarantined: failed 3 times" in " ".join(
        cli.run("top", "--once", *server).stdout.split()
    )
    released = cli.run("devices", "release", "cpu:0", *server)
    assert (released.returncode, released.stdout) == (0, "cpu:0 is released.\n"), released.stderr
    again = cli.run("devices", "release", "cpu:0", *server, "--json")
    assert (again.returncode, json.loads(again.stdout)["error"]["code"]) == (1, "conflict")
    assert studio.client.post(f"/batches/{batch}/resume").status_code == 200
    wait_for(lambda: studio.batch(batch)["state"] == "done")
    assert [item["state"] for item in studio.batch(batch)["items"]] == ["failed", "failed", "done"]


def test_cancelling_a_batch_stops_the_device_within_one_step(studio: Studio) -> None:
    batch = asked(studio, "long-steps:40")
    wait_for(lambda: device(studio)["step"] >= 1)
    before = device(studio)
    began = time.monotonic()
    assert studio.client.post(f"/batches/{batch}/cancel").json()["state"] == "cancelled"
    seen = [before]
    while seen[-1]["state"] != "idle":
        seen.append(device(studio))
        assert time.monotonic() - began < LONG_STEP_S + ANSWERS_S
    assert max(one["step"] for one in seen) <= before["step"] + 1
    assert seen[-1]["worker_pid"] == before["worker_pid"]
    assert studio.batch(batch)["counts"]["cancelled"] == 1
