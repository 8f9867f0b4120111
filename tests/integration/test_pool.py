"""The device pool with real spawned workers and a small real engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from backend.config import load_settings
from backend.errors import (
    AllDevicesLost,
    DeviceLost,
    DeviceOutOfMemory,
    GenerationFailed,
    InvalidRequest,
)
from backend.imaging.devices import Device, resolve_devices
from backend.imaging.pool.pool import DevicePool
from backend.imaging.pool.process import pinned
from backend.imaging.pool.seat import Limits
from backend.imaging.types import GeneratedImage, ImageRequest
from backend.services.ai_models import AIModelManager
from tests.fixtures.solid_engine import CARD

Render = Callable[..., "asyncio.Future[GeneratedImage]"]


def pool_of(slots: int, *, strict: bool | None = None, **limits: float) -> DevicePool:
    return DevicePool(
        lambda: resolve_devices(f"cpu:{slots}"), [CARD], limits=Limits(**limits), strict=strict
    )


def workers(pool: DevicePool) -> dict[str, int]:
    return {seat.device: seat.pid for seat in pool.snapshot() if seat.pid}


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[DevicePool]:
    opened = pool_of(2)
    yield opened
    await opened.close()


async def draw(
    pool: DevicePool, prompt: str, home: int | None = None, seed: int = 1
) -> GeneratedImage:
    return await pool.generate(ImageRequest(prompt, seed, device_id=home), CARD)


async def test_each_device_is_one_warm_process_of_its_own(pool: DevicePool) -> None:
    first = await asyncio.gather(draw(pool, "sleep:0.3", 0), draw(pool, "sleep:0.3", 1))
    again = await asyncio.gather(draw(pool, "sleep:0.3", 0), draw(pool, "sleep:0.3", 1))
    pids = [image.receipt["pid"] for image in first]
    assert len({*pids, os.getpid()}) == 3
    assert [image.receipt["pid"] for image in again] == pids
    assert [image.device for image in again] == ["cpu:0", "cpu:1"]
    assert set(workers(pool).values()) == set(pids)


async def test_a_worker_tells_how_full_its_device_is_while_it_draws_and_afterwards(
    pool: DevicePool,
) -> None:
    def used() -> list[int | None]:
        return [seat.memory and seat.memory.used_bytes for seat in pool.snapshot()]

    drawing = asyncio.create_task(draw(pool, "steps:8", 0))
    ends = time.monotonic() + 10
    while used() != [1, None]:
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)
    assert pool.snapshot()[0].state == "rendering"
    await drawing
    await draw(pool, "ok", 0)
    assert used() == [2, None]
    with pytest.raises(DeviceLost):
        await draw(pool, "die", 0)
    assert used() == [None, None]


async def test_a_dry_device_takes_work_from_a_busy_one_and_says_so(pool: DevicePool) -> None:
    await asyncio.gather(draw(pool, "warm", 0), draw(pool, "warm", 1))
    images = await asyncio.gather(*(draw(pool, "sleep:0.2", 0, seed=i) for i in range(8)))
    assert {image.device_id for image in images} == {0, 1}
    assert [image.seed for image in images] == list(range(8))


async def test_an_idle_home_keeps_its_own_work(pool: DevicePool) -> None:
    await asyncio.gather(draw(pool, "warm", 0), draw(pool, "warm", 1))
    for _ in range(20):
        assert (await draw(pool, "now", 0)).device_id == 0


async def test_who_watches_a_picture_is_told_of_its_steps_and_shown_it(pool: DevicePool) -> None:
    seen: list[tuple[int, int, bytes | None]] = []
    request = ImageRequest("previews:5", 1)
    made = await pool.generate(request, CARD, lambda *told: seen.append(told))
    assert [told[:2] for told in seen] == [(n, 5) for n in range(1, 6)]
    shown = [preview for *_, preview in seen if preview]
    assert shown
    assert all(preview[8:12] == b"WEBP" for preview in shown)
    assert made.format == "png"


async def test_a_picture_that_is_watched_is_rendered_by_itself() -> None:
    pool = pool_of(1, strict=False)
    quick = [ImageRequest("now", seed) for seed in range(40)]
    try:
        made = await asyncio.gather(*(pool.generate(one, CARD) for one in quick))
        assert max(image.receipt["together"] for image in made) > 1
        watched = [pool.generate(one, CARD, lambda *_: None) for one in quick]
        assert {image.receipt["together"] for image in await asyncio.gather(*watched)} == {1}
    finally:
        await pool.close()


async def test_only_devices_that_get_work_start_a_worker(pool: DevicePool) -> None:
    await draw(pool, "one", 1)
    assert list(workers(pool)) == ["cpu:1"]


@pytest.mark.parametrize(
    ("prompt", "error", "says"),
    [
        ("fail", GenerationFailed, "ValueError: the paint has run out"),
        ("oom", DeviceOutOfMemory, "no room"),
    ],
)
async def test_an_engine_error_comes_back_and_the_worker_lives(
    pool: DevicePool, prompt: str, error: type[Exception], says: str
) -> None:
    before = (await draw(pool, "ok", 0)).receipt["pid"]
    with pytest.raises(error, match=says):
        await draw(pool, prompt, 0)
    assert (await draw(pool, "ok", 0)).receipt["pid"] == before


async def test_the_workers_traceback_comes_along(pool: DevicePool) -> None:
    with pytest.raises(GenerationFailed) as caught:
        await draw(pool, "fail", 0)
    assert "solid_engine.py" in caught.value.details["traceback"]


@pytest.mark.parametrize(
    ("prompt", "how"), [("die", "killed by SIGKILL"), ("exit:3", "exit code 3")]
)
async def test_a_dead_worker_is_named_and_replaced(pool: DevicePool, prompt: str, how: str) -> None:
    before = (await draw(pool, "ok", 0)).receipt["pid"]
    with pytest.raises(DeviceLost, match=rf"was lost while rendering \({how}\)") as caught:
        await draw(pool, prompt, 0)
    assert [a["device"] for a in caught.value.details["attempts"]] == ["cpu:0", "cpu:1"]
    assert "Before that, on cpu:0" in caught.value.message
    assert (await draw(pool, "ok", 0)).receipt["pid"] != before


async def test_a_worker_that_died_while_idle_costs_no_picture(pool: DevicePool) -> None:
    worker = psutil.Process((await draw(pool, "ok", 0)).receipt["pid"])
    worker.kill()
    with contextlib.suppress(psutil.TimeoutExpired):  # it stays a zombie until the pool looks
        worker.wait(0.5)
    assert (await draw(pool, "ok", 0)).device_id == 0


async def test_the_others_are_unharmed_by_a_death(pool: DevicePool) -> None:
    results = await asyncio.gather(
        *(draw(pool, "die" if i == 3 else "sleep:0.05", i % 2) for i in range(8)),
        return_exceptions=True,
    )
    assert [isinstance(r, DeviceLost) for r in results] == [i == 3 for i in range(8)]


async def test_a_worker_that_does_not_start_in_time_is_reported() -> None:
    pool = pool_of(1, start_s=0.01)
    with pytest.raises(AllDevicesLost, match="GATOR_WORKER_START_TIMEOUT_S"):
        await draw(pool, "never")
    await pool.close()


async def test_a_device_that_is_not_here_is_refused(pool: DevicePool) -> None:
    with pytest.raises(InvalidRequest, match="device 7 is not here; these are: cpu:0, cpu:1"):
        await draw(pool, "ok", 7)


async def test_close_ends_the_workers_and_what_waits_fails(pool: DevicePool) -> None:
    await draw(pool, "ok", 0)
    processes = [psutil.Process(pid) for pid in workers(pool).values()]
    waiting = [asyncio.ensure_future(draw(pool, "sleep:30", 0)) for _ in range(3)]
    await asyncio.sleep(0.2)
    started = time.perf_counter()
    await pool.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert time.perf_counter() - started < 2
    assert all(isinstance(r, DeviceLost) for r in results)
    assert not any(process.is_running() for process in processes)
    with pytest.raises(DeviceLost, match="closed"):
        await draw(pool, "too late")


def test_a_pool_serves_one_event_loop_after_the_other() -> None:
    pool = pool_of(1)
    pids = {asyncio.run(draw(pool, "ok")).receipt["pid"] for _ in range(3)}
    asyncio.run(pool.close())
    assert len(pids) == 1


def test_a_cpu_worker_sees_no_card_and_a_card_worker_sees_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert pinned(Device("cpu", 1), 3)["CUDA_VISIBLE_DEVICES"] == ""
    assert pinned(Device("cpu", 1), 3)["OMP_NUM_THREADS"] == "3"
    assert pinned(Device("cuda", 2), 1) == {"CUDA_VISIBLE_DEVICES": "2", "HIP_VISIBLE_DEVICES": "2"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert pinned(Device("cuda", 1), 1)["CUDA_VISIBLE_DEVICES"] == "7"


async def test_the_batch_of_the_manager_runs_over_real_workers() -> None:
    async with AIModelManager(load_settings(devices="cpu:2")) as manager:
        manager.available_models["image"] = [CARD.as_entry()]
        manager._backends[0]._cards = (CARD,)  # type: ignore[attr-defined]
        prompts = ["sleep:0.2 a", "fail", "sleep:0.2 c", " ", "d"]
        results = await manager.generate_images_batch(prompts, seed=3)
    assert [r["status"] for r in results] == [
        "completed", "failed", "completed", "failed", "completed",
    ]  # fmt: skip
    assert results[0]["device_id"] == 0
    assert {r["device_id"] for r in results if "device_id" in r} == {0, 1}
    assert "is empty" in results[3]["error"]


SCRIPT = """
import asyncio
from backend.services.ai_models import AIModelManager
from tests.fixtures.solid_engine import CARD

manager = AIModelManager()
manager.available_models["image"] = [CARD.as_entry()]
results = asyncio.run(manager.generate_images_batch(["a", "b"]))
for i, result in enumerate(results):
    print(f"Image {i}: generated on GPU {result.get('device_id')}")
print(*(r["receipt"]["pid"] for r in results))
"""


def test_a_script_without_a_main_guard_works_and_leaves_no_worker(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    here = Path.cwd()
    environment = {
        **os.environ,
        "GATOR_DEVICES": "cpu:2",
        "PYTHONPATH": f"{here}{os.pathsep}{here / 'src'}",
    }
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "Image 0: generated on GPU 0",
        "Image 1: generated on GPU 1",
    ]
    pids = [int(pid) for pid in done.stdout.splitlines()[2].split()]
    deadline = time.monotonic() + 2
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(psutil.pid_exists(pid) for pid in pids)
