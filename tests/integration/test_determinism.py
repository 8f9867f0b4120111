"""The same pictures from one, two and three slots, in any order, stolen or not; the real model."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from backend.imaging.builtin.cards import cards
from backend.imaging.devices import resolve_devices
from backend.imaging.pool.pool import DevicePool
from backend.imaging.types import ImageRequest

PORTRAIT = next(card for card in cards() if card.name == "portrait")
PROMPTS = ("smiling, blue background", "winking", "sad, red jacket", "asleep", "angry", "laughing")


async def _digests(pool: DevicePool, order: Sequence[int], homes: Sequence[int]) -> dict[int, str]:
    """Return the pictures' hashes by number, asked for in an order, each at a home."""

    async def one(number: int, home: int) -> tuple[int, str]:
        request = ImageRequest(
            PROMPTS[number], 100 + number, device_id=home, identity="ada", num_inference_steps=2
        )
        image = await pool.generate(request, PORTRAIT)
        return number, hashlib.sha256(image.image_data).hexdigest()

    return dict(await asyncio.gather(*map(one, order, homes)))


async def test_the_bytes_depend_on_the_request_alone() -> None:
    slots, count = 1, range(len(PROMPTS))
    pool = DevicePool(lambda: resolve_devices(f"cpu:{slots}"), [PORTRAIT], strict=True)
    try:
        alone = await _digests(pool, count, [0] * len(PROMPTS))
        assert len(set(alone.values())) == len(PROMPTS)
        slots = 2
        backwards = await _digests(pool, [*reversed(count)], [i % 2 for i in count])
        slots = 3
        stolen = await _digests(pool, [3, 0, 5, 1, 4, 2], [0, 0, 0, 0, 1, 2])
        drawn = {seat.device: seat.done for seat in pool.snapshot()}
    finally:
        await pool.close()
    assert alone == backwards == stolen
    assert drawn.keys() == {"cpu:0", "cpu:1", "cpu:2"}
    assert all(drawn.values())
