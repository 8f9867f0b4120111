"""Pictures that the pool has rendered together; real workers, whose time together is shared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest_asyncio

from backend.errors import AllDevicesLost, DeviceLost, GenerationFailed
from backend.imaging.devices import resolve_devices
from backend.imaging.pool.faults import DOUBTS
from backend.imaging.pool.learning import LARGEST
from backend.imaging.pool.pool import DevicePool
from backend.imaging.pool.seat import FAILURES
from backend.imaging.types import GeneratedImage, ImageRequest
from tests.fixtures.solid_engine import CARD

WASH = "wash:0.02"


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[DevicePool]:
    opened = DevicePool(lambda: resolve_devices("cpu:1"), [CARD], strict=False)
    yield opened
    await opened.close()


async def draw(
    pool: DevicePool, prompt: str = WASH, seed: int = 1, *, like: int = 64, reference: bytes = b""
) -> GeneratedImage:
    request = ImageRequest(prompt, seed, width=like, reference=reference or None)
    return await pool.generate(request, CARD)


async def at_once(
    pool: DevicePool, prompts: Sequence[str], **options: bytes
) -> list[GeneratedImage | BaseException]:
    """Draw pictures that all wait before the first of them begins."""
    busy = asyncio.create_task(draw(pool, "sleep:0.2", like=32))
    await asyncio.sleep(0.1)
    drawn = (draw(pool, prompt, i, **options) for i, prompt in enumerate(prompts))
    results = await asyncio.gather(*drawn, return_exceptions=True)
    await asyncio.gather(busy, return_exceptions=True)
    return results


def sizes(results: Sequence[GeneratedImage | BaseException]) -> list[int]:
    return [r.receipt["together"] for r in results if isinstance(r, GeneratedImage)]


async def learned(pool: DevicePool) -> None:
    """Let the pool learn that pictures of this kind gain from being many."""
    await at_once(pool, [WASH] * 34)
    assert max(sizes(await at_once(pool, [WASH] * LARGEST))) == LARGEST


async def test_a_picture_that_its_model_was_loaded_for_teaches_no_size(pool: DevicePool) -> None:
    await draw(pool)  # loads
    await draw(pool)
    assert sizes(await at_once(pool, [WASH] * 4)) == [1, 2, 2, 1]


async def test_what_starts_from_a_reference_is_rendered_by_itself(pool: DevicePool) -> None:
    await learned(pool)
    assert sizes(await at_once(pool, [WASH] * 3, reference=b"a picture")) == [1] * 3


async def test_a_failed_micro_batch_is_searched_for_the_one_that_is_at_fault(
    pool: DevicePool,
) -> None:
    await learned(pool)
    results = await at_once(pool, [WASH] * 11 + ["fail"] + [WASH] * 4)
    assert [i for i, r in enumerate(results) if isinstance(r, BaseException)] == [11]
    assert isinstance(results[11], GenerationFailed)


async def test_the_search_for_a_poisoned_picture_costs_no_device_its_place(
    pool: DevicePool,
) -> None:
    await learned(pool)
    for search in (1, 2):
        results = await at_once(pool, ["die", *[WASH] * (LARGEST - 1)])
        assert isinstance(results[0], DeviceLost)
        assert len(sizes(results)) == LARGEST - 1
        (seat,) = pool.snapshot()
        assert (seat.restarts, seat.reason) == (search * 6, "")  # 16, 8, 4, 2, and alone twice


async def test_a_device_that_loses_every_micro_batch_is_not_searched_for_ever(
    pool: DevicePool,
) -> None:
    await learned(pool)
    results = await at_once(pool, ["die"] * 3 * LARGEST)
    assert {type(result) for result in results} == {DeviceLost, AllDevicesLost}
    (seat,) = pool.snapshot()
    assert "failed 3 times in a row" in seat.reason
    assert seat.restarts < FAILURES + DOUBTS
