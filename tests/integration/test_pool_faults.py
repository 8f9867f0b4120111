"""What the pool does about devices that fail, hang or run out of memory; real workers."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from backend.errors import AllDevicesLost, DeviceFault, DeviceLost, DeviceOutOfMemory
from backend.imaging.checks import INTERACTIVE
from backend.imaging.devices import resolve_devices
from backend.imaging.pool.pool import DevicePool
from backend.imaging.pool.seat import Limits
from backend.imaging.types import GeneratedImage, ImageRequest
from tests.fixtures.solid_engine import CARD


def pool_of(slots: int, *, strict: bool = True, **limits: float) -> DevicePool:
    return DevicePool(
        lambda: resolve_devices(f"cpu:{slots}"), [CARD], limits=Limits(**limits), strict=strict
    )


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[DevicePool]:
    opened = pool_of(2)
    yield opened
    await opened.close()


async def draw(
    pool: DevicePool, prompt: str, home: int | None = None, seed: int = 1, priority: int = 0
) -> GeneratedImage:
    return await pool.generate(ImageRequest(prompt, seed, device_id=home, priority=priority), CARD)


def states(pool: DevicePool) -> dict[str, str]:
    return {seat.device: seat.state for seat in pool.snapshot()}


async def test_a_picture_that_one_device_fails_over_is_made_by_another(pool: DevicePool) -> None:
    image = await draw(pool, "die:cpu0", 0)
    assert image.device == "cpu:1"
    (failed,) = image.attempts
    assert (failed["device"], failed["code"]) == ("cpu:0", "device_lost")
    assert "killed by SIGKILL" in failed["message"]
    assert failed["started"] <= failed["ended"] <= time.time()


async def test_a_device_fault_replaces_the_worker_and_counts_as_an_attempt(
    pool: DevicePool,
) -> None:
    before = (await draw(pool, "ok", 0)).receipt["pid"]
    with pytest.raises(DeviceFault, match="the brush broke") as caught:
        await draw(pool, "fault", 0)
    assert [a["device"] for a in caught.value.details["attempts"]] == ["cpu:0", "cpu:1"]
    assert (await draw(pool, "ok", 0)).receipt["pid"] != before


async def test_a_worker_that_hangs_is_replaced_and_its_picture_goes_elsewhere() -> None:
    pool = pool_of(2, step_s=0.4)
    hung = asyncio.create_task(draw(pool, "hang", 0))
    await asyncio.sleep(0)
    with pytest.raises(DeviceLost, match=r"no sign of life.*GATOR_STEP_TIMEOUT_S"):
        await hung
    assert (await draw(pool, "steps:12 of 0.05 s each", 0)).device_id == 0
    await pool.close()


async def test_a_stopped_worker_is_found_out() -> None:
    pool = pool_of(1, step_s=0.5, load_s=0.5)
    pid = (await draw(pool, "ok")).receipt["pid"]
    os.kill(pid, signal.SIGSTOP)
    image = await draw(pool, "ok")
    assert image.receipt["pid"] != pid
    assert not psutil.pid_exists(pid)
    await pool.close()


async def test_three_failures_in_a_row_quarantine_a_device_until_it_is_released(
    pool: DevicePool,
) -> None:
    for seed in range(3):
        assert (await draw(pool, "die:cpu0", 0, seed)).device == "cpu:1"
    assert states(pool)["cpu:0"] == "quarantined"
    (seat,) = (s for s in pool.snapshot() if s.device == "cpu:0")
    assert "failed 3 times in a row" in seat.reason
    assert (await draw(pool, "ok", 0)).device == "cpu:1"
    pool.release("cpu:0")
    assert (await draw(pool, "ok", 0)).device == "cpu:0"


async def test_only_failures_in_a_row_count(pool: DevicePool) -> None:
    await draw(pool, "ok", 1)
    for prompt in ("die:cpu0", "die:cpu0", "ok", "die:cpu0", "die:cpu0"):
        await draw(pool, prompt, 0)
    assert states(pool)["cpu:0"] == "down"


async def test_a_poisoned_picture_costs_no_device_its_place(pool: DevicePool) -> None:
    for seed in range(6):
        with pytest.raises(DeviceLost):
            await draw(pool, "die", seed % 2, seed=seed)
    assert "quarantined" not in states(pool).values()


async def test_with_no_device_left_everything_that_waits_is_told_so() -> None:
    pool = pool_of(1)
    results = await asyncio.gather(
        *(draw(pool, "die", seed=i) for i in range(5)), return_exceptions=True
    )
    assert {type(r) for r in results} == {DeviceLost, AllDevicesLost}
    assert isinstance(results[-1], AllDevicesLost)
    assert "gator devices release" in str(results[-1])
    with pytest.raises(AllDevicesLost):
        await draw(pool, "ok")
    pool.release("cpu:0")
    assert (await draw(pool, "ok")).device == "cpu:0"
    await pool.close()


async def test_a_device_that_never_hands_over_what_it_rendered_is_not_said_to_do_well() -> None:
    pool = pool_of(1)
    results = await asyncio.gather(
        draw(pool, "dry:0.5"),
        *(draw(pool, "die", seed=i) for i in range(4)),
        return_exceptions=True,
    )
    assert isinstance(results[-1], AllDevicesLost)
    assert sum(seat.restarts for seat in pool.snapshot()) == 2
    await pool.close()


async def test_out_of_memory_makes_smaller_micro_batches_and_tries_another_device(
    pool: DevicePool,
) -> None:
    with pytest.raises(DeviceOutOfMemory) as caught:
        await draw(pool, "oom", 0)
    assert [a["device"] for a in caught.value.details["attempts"]] == ["cpu:0", "cpu:1"]
    assert "quarantined" not in states(pool).values()


async def test_a_cancelled_picture_stops_within_a_step_and_its_worker_lives(
    pool: DevicePool,
) -> None:
    pid = (await draw(pool, "ok", 0)).receipt["pid"]
    task = asyncio.create_task(draw(pool, "steps:200", 0))
    await asyncio.sleep(0.3)
    assert states(pool)["cpu:0"] == "rendering"
    started = time.perf_counter()
    task.cancel()
    while states(pool)["cpu:0"] != "idle":  # noqa: ASYNC110 - the pool tells, it does not call
        await asyncio.sleep(0.005)
    assert time.perf_counter() - started < 0.05 + 0.1
    assert (await draw(pool, "ok", 0)).receipt["pid"] == pid


async def test_a_cancelled_picture_that_does_not_stop_costs_the_worker() -> None:
    pool = pool_of(1, cancel_s=0.3)
    pid = (await draw(pool, "ok")).receipt["pid"]
    task = asyncio.create_task(draw(pool, "hang"))
    await asyncio.sleep(0.2)
    task.cancel()
    image = await draw(pool, "ok")
    assert image.receipt["pid"] != pid
    assert image.attempts == ()
    assert states(pool)["cpu:0"] == "idle"
    await pool.close()


async def test_what_is_cancelled_before_it_begins_is_never_rendered(pool: DevicePool) -> None:
    busy = asyncio.create_task(draw(pool, "sleep:0.4", 0))
    other = asyncio.create_task(draw(pool, "sleep:0.4", 1))
    waiting = [asyncio.create_task(draw(pool, "die", 0, seed=i)) for i in range(50)]
    await asyncio.sleep(0.1)
    for task in waiting:
        task.cancel()
    while any(seat.waiting for seat in pool.snapshot()):  # noqa: ASYNC110 - the pool only tells
        await asyncio.sleep(0.01)
    assert not busy.done()
    await asyncio.gather(busy, other)
    assert (await draw(pool, "ok", 0)).attempts == ()
    assert sum(seat.restarts for seat in pool.snapshot()) == 0


async def test_somebody_who_waits_goes_before_a_batch(pool: DevicePool) -> None:
    await asyncio.gather(draw(pool, "ok", 0), draw(pool, "ok", 1))
    done: list[str] = []

    async def noted(name: str, priority: int) -> None:
        await draw(pool, "sleep:0.02", priority=priority)
        done.append(name)

    batch = [asyncio.create_task(noted("batch", 0)) for _ in range(100)]
    await asyncio.sleep(0.1)
    before = len(done)
    await noted("single", INTERACTIVE)
    assert done.index("single") - before <= 4
    await asyncio.gather(*batch)


def test_pictures_leave_no_file_behind() -> None:
    pool = pool_of(2)

    async def several() -> None:
        await asyncio.gather(*(draw(pool, "ok", seed=i) for i in range(10)))

    asyncio.run(several())
    folder = Path(pool._folder)
    assert list(folder.iterdir()) == []
    asyncio.run(pool.close())
    assert not folder.exists()


async def test_the_queue_is_part_of_the_seconds(pool: DevicePool) -> None:
    await draw(pool, "ok", 0)
    first, second = await asyncio.gather(
        draw(pool, "sleep:0.3", 0), draw(pool, "sleep:0.3", 0, seed=2)
    )
    slower = max(first, second, key=lambda image: image.seconds["queue"])
    assert slower.seconds["queue"] >= 0.25 or slower.device == "cpu:1"
    assert first.seconds["queue"] < 0.2
