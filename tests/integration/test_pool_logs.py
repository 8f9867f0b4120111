"""What the pool writes into the log, with the labels of whoever asked for a picture."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from structlog.contextvars import bound_contextvars
from structlog.testing import capture_logs
from structlog.typing import EventDict

from backend.errors import AllDevicesLost, GenerationFailed
from backend.imaging.devices import resolve_devices
from backend.imaging.pool.pool import DevicePool
from backend.imaging.pool.seat import Limits
from backend.imaging.types import GeneratedImage, ImageRequest
from tests.fixtures.solid_engine import CARD

LABELS = {"batch": "b-7", "item": 3, "attempt": 1}


@pytest.fixture
def lines() -> Iterator[list[EventDict]]:
    with capture_logs() as captured:
        yield captured


@pytest_asyncio.fixture
async def pool(lines: list[EventDict]) -> AsyncIterator[DevicePool]:
    opened = DevicePool(lambda: resolve_devices("cpu:2"), [CARD], limits=Limits(cancel_s=0.2))
    yield opened
    await opened.close()


async def draw(pool: DevicePool, prompt: str, home: int = 0, **labels: Any) -> GeneratedImage:
    with bound_contextvars(**labels):
        return await pool.generate(ImageRequest(prompt, 1, device_id=home), CARD)


def only(lines: list[EventDict], event: str) -> EventDict:
    (line,) = (line for line in lines if line["event"] == event)
    return line


def told(lines: list[EventDict], device: str) -> list[str]:
    return [str(line["event"]) for line in lines if line.get("device") == device]


async def test_a_worker_is_followed_from_its_start_over_its_loss_to_the_next(
    pool: DevicePool, lines: list[EventDict]
) -> None:
    await draw(pool, "die:cpu0")
    await draw(pool, "ok")
    assert told(lines, "cpu:0") == [
        "worker.started",
        "worker.ready",
        "worker.lost",
        "picture.again",
        "worker.restarted",
        "worker.ready",
    ]
    lost = only(lines, "worker.lost")
    assert (lost["log_level"], "killed by SIGKILL" in lost["reason"]) == ("warning", True)
    assert only(lines, "worker.restarted")["restarts"] == 1
    assert all(line["seconds"] > 0 for line in lines if line["event"] == "worker.ready")


async def test_a_picture_that_is_done_again_is_told_with_its_callers_labels(
    pool: DevicePool, lines: list[EventDict]
) -> None:
    await asyncio.gather(
        draw(pool, "die:cpu0", **LABELS), draw(pool, "sleep:0.1", home=1, batch="another")
    )
    again = only(lines, "picture.again")
    assert {name: again[name] for name in LABELS} == LABELS
    assert (again["device"], again["to"]) == ("cpu:0", "cpu:1")
    assert "killed by SIGKILL" in again["error"]


async def test_a_picture_that_fails_is_told_with_its_error(
    pool: DevicePool, lines: list[EventDict]
) -> None:
    with pytest.raises(GenerationFailed):
        await draw(pool, "fail", **LABELS)
    failed = only(lines, "picture.failed")
    assert {name: failed[name] for name in LABELS} == LABELS
    assert (failed["device"], failed["code"]) == ("cpu:0", GenerationFailed.code)
    assert "the paint has run out" in failed["error"]


async def test_quarantine_and_the_way_back_are_told(lines: list[EventDict]) -> None:
    pool = DevicePool(lambda: resolve_devices("cpu:1"), [CARD])
    waiting = [draw(pool, "exit:4", batch=f"b-{i}") for i in range(5)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert any(isinstance(result, AllDevicesLost) for result in results)
    quarantined = only(lines, "device.quarantined")
    assert (quarantined["device"], quarantined["log_level"]) == ("cpu:0", "error")
    assert "exit code 4" in quarantined["reason"]
    assert quarantined["waiting"] >= 1
    pool.release("cpu:0")
    await draw(pool, "ok")
    assert "exit code 4" in only(lines, "device.released")["reason"]
    await pool.close()


async def test_what_is_cancelled_is_told_and_where_it_stood(
    pool: DevicePool, lines: list[EventDict]
) -> None:
    await draw(pool, "ok", home=1)
    await draw(pool, "ok")
    tasks = [
        asyncio.create_task(draw(pool, "hang", home=i % 2, **{**LABELS, "item": i}))
        for i in range(3)
    ]
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await draw(pool, "ok")
    cancelled = [line for line in lines if line["event"] == "picture.cancelled"]
    stood = {line["item"]: line["device"] for line in cancelled}
    assert stood == {0: "cpu:0", 1: "cpu:1", 2: None}
    lost = [line for line in lines if line["event"] == "worker.lost"]
    assert all("did not stop" in line["reason"] for line in lost)
    assert "cpu:0" in {line["device"] for line in lost}
