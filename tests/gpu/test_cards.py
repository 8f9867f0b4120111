"""What only real cards can show; run by hand with `pytest -m gpu`."""

from __future__ import annotations

import pytest

from backend.config import load_settings
from backend.imaging.devices import count_gpus, resolve_devices
from backend.imaging.telemetry import read_cards
from backend.services.ai_models import AIModelManager

pytestmark = pytest.mark.gpu


@pytest.fixture
def cards() -> int:
    count = count_gpus()
    if not count:
        pytest.skip("tests/gpu: torch sees no CUDA or ROCm card here")
    return count


async def test_every_card_draws_and_is_named(cards: int) -> None:
    async with AIModelManager(load_settings(devices="cuda")) as manager:
        prompts = ["smiling, red jacket"] * (4 * cards)
        results = await manager.generate_images_batch(prompts, seed=1)
    assert [r["status"] for r in results] == ["completed"] * len(prompts)
    assert {r["device_id"] for r in results} == set(range(cards))
    assert {r["receipt"]["dtype"] for r in results} == {"float16"}


async def test_equal_seeds_give_equal_bytes_on_one_card(cards: int) -> None:
    async with AIModelManager(load_settings(devices="cuda:0")) as manager:
        first, again = [
            await manager.generate_images_batch(["smiling"] * 2, seed=1) for _ in range(2)
        ]
    assert [r["image_data"] for r in first] == [r["image_data"] for r in again]


async def test_somebody_tells_how_full_every_card_is_once_it_has_drawn(cards: int) -> None:
    devices = resolve_devices("cuda")
    async with AIModelManager(load_settings(devices="cuda")) as manager:
        await manager.generate_images_batch(["smiling"] * (4 * cards), seed=1)
        seen = manager.snapshot()
    assert all(one.memory and 0 < one.memory.used_bytes <= one.memory.total_bytes for one in seen)
    found = read_cards(devices, seen)
    assert set(found) == {device.name for device in devices}
    assert all(0 < card.used_bytes <= card.total_bytes for card in found.values())
