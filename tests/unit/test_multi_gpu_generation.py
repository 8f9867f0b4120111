"""The contract of `AIModelManager`: placement, order, seeds and failures.

The doors below the batch are replaced by recorders here, since their calls are what the contract
fixes; tests/integration/test_pool.py drives the same batch through real workers.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backend.config import load_settings
from backend.errors import InvalidRequest, ModelNotAvailable
from backend.imaging.types import item_seed
from backend.services.ai_models import AIModelManager

LOCAL = {"name": "local-model", "provider": "local", "loaded": True}
CLOUD = {"name": "cloud-model", "provider": "openai", "loaded": True}
PROMPTS = [f"prompt {i}" for i in range(7)]


class Recorder(AIModelManager):
    """Records the calls at each door instead of going through it."""

    def __init__(self, devices: str, models: list[dict[str, Any]]) -> None:
        super().__init__(load_settings(devices=devices))
        self.available_models = {"image": models}
        self.calls: list[tuple[str, str, dict[str, Any]]] = []

    async def _generate_image_local(self, prompt: str, model: Any, **kwargs: Any) -> dict[str, Any]:
        return await self._record("local", prompt, {"model": model["name"], **kwargs})

    async def generate_image(self, prompt: str, **kwargs: Any) -> dict[str, Any]:
        return await self._record("cloud", prompt, kwargs)

    async def _record(self, door: str, prompt: str, kwargs: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((door, prompt, kwargs))
        await asyncio.sleep(0.05 if prompt == PROMPTS[0] else 0)
        if "bad" in prompt:
            raise RuntimeError(f"cannot draw {prompt}")
        return {"prompt": prompt, "status": "completed"}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let torch see a number of cards, as a machine that has them would."""
    import torch

    def see(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return see


async def test_empty_list_gives_empty_list() -> None:
    manager = Recorder("cpu:4", [LOCAL])
    assert await manager.generate_images_batch([]) == []
    assert manager.calls == []


async def test_single_prompt_goes_to_the_first_device() -> None:
    manager = Recorder("cpu:4", [LOCAL])
    [result] = await manager.generate_images_batch(["one"])
    assert result["device_id"] == 0


@pytest.mark.parametrize("count", [2, 3, 4, 8])
async def test_prompts_are_placed_round_the_devices(count: int) -> None:
    manager = Recorder(f"cpu:{count}", [LOCAL])
    results = await manager.generate_images_batch(PROMPTS)
    assert [r["device_id"] for r in results] == [i % count for i in range(len(PROMPTS))]
    assert [call[2]["device_id"] for call in manager.calls] == [
        i % count for i in range(len(PROMPTS))
    ]


async def test_gpus_are_counted_at_each_call(gpus: Any) -> None:
    manager = Recorder("auto", [LOCAL])
    seen = []
    for count in (3, 2, 0):
        gpus(count)
        manager.calls.clear()
        await manager.generate_images_batch(PROMPTS)
        seen.append({call[2].get("device_id") for call in manager.calls})
    assert seen == [{0, 1, 2}, {0, 1}, {None}]


async def test_configured_cards_replace_the_count(gpus: Any) -> None:
    gpus(4)
    manager = Recorder("cuda:1,cuda:3", [LOCAL])
    results = await manager.generate_images_batch(PROMPTS[:4])
    assert [r["device_id"] for r in results] == [1, 3, 1, 3]


async def test_device_id_is_the_third_positional_argument_and_handed_on_as_a_keyword() -> None:
    received = []

    class Doors(Recorder):
        async def _generate_image_on_device(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            received.append((args, kwargs))
            return await super()._generate_image_on_device(*args, **kwargs)

    manager = Doors("cpu:2", [LOCAL])
    await manager.generate_images_batch(PROMPTS[:3], width=64)
    assert [args for args, _ in received] == [
        (PROMPTS[0], LOCAL, 0),
        (PROMPTS[1], LOCAL, 1),
        (PROMPTS[2], LOCAL, 0),
    ]
    assert all(kwargs == {"width": 64} for _, kwargs in received)
    assert [call[2]["device_id"] for call in manager.calls] == [0, 1, 0]


async def test_a_result_that_names_its_device_keeps_it() -> None:
    class Elsewhere(Recorder):
        async def _record(self, *args: Any) -> dict[str, Any]:
            return {"device_id": 5}

    results = await Elsewhere("cpu:2", [LOCAL]).generate_images_batch(PROMPTS[:2])
    assert [r["device_id"] for r in results] == [5, 5]


async def test_all_devices_start_at_once() -> None:
    together = asyncio.Barrier(4)

    class Meeting(Recorder):
        async def _record(self, *args: Any) -> dict[str, Any]:
            async with asyncio.timeout(5):
                await together.wait()
            return {}

    results = await Meeting("cpu:4", [LOCAL]).generate_images_batch(PROMPTS[:4])
    assert [r.get("error") for r in results] == [None] * 4


@pytest.mark.parametrize(
    ("devices", "models"), [("cpu:3", LOCAL), ("cpu:1", LOCAL), ("cpu:3", CLOUD)]
)
async def test_a_failed_item_takes_its_place_and_harms_no_other(
    devices: str, models: dict[str, Any]
) -> None:
    prompts = ["good", "bad one", "fine", "bad two"]
    results = await Recorder(devices, [models]).generate_images_batch(prompts)
    assert results[1] == {"error": "cannot draw bad one", "prompt": "bad one", "status": "failed"}
    assert results[3]["prompt"] == "bad two"
    assert [r["prompt"] for r in results] == prompts
    assert [r["status"] for r in results] == ["completed", "failed", "completed", "failed"]


async def test_without_a_gpu_items_are_made_in_order_one_after_the_other(gpus: Any) -> None:
    gpus(0)
    running = []

    class OneByOne(Recorder):
        async def _record(self, door: str, prompt: str, kwargs: Any) -> dict[str, Any]:
            running.append(prompt)
            assert len(running) == 1
            result = await super()._record(door, prompt, kwargs)
            running.remove(prompt)
            return result

    manager = OneByOne("auto", [LOCAL])
    results = await manager.generate_images_batch(PROMPTS)
    assert [call[:2] for call in manager.calls] == [("local", p) for p in PROMPTS]
    assert [r["prompt"] for r in results] == PROMPTS


@pytest.mark.parametrize("models", [[], [CLOUD], [{**LOCAL, "loaded": False}, CLOUD]])
async def test_without_a_loaded_local_model_each_prompt_goes_to_generate_image(
    models: list[dict[str, Any]],
) -> None:
    manager = Recorder("cpu:2", models)
    results = await manager.generate_images_batch(PROMPTS)
    assert [call[0] for call in manager.calls] == ["cloud"] * len(PROMPTS)
    assert [r["prompt"] for r in results] == PROMPTS


async def test_results_keep_the_order_of_the_prompts_when_the_first_is_slowest() -> None:
    results = await Recorder("cpu:4", [LOCAL]).generate_images_batch(PROMPTS)
    assert [r["prompt"] for r in results] == PROMPTS


@pytest.mark.parametrize("devices", ["cpu:1", "cpu:3"])
async def test_each_item_has_a_seed_hashed_from_the_batch_seed_and_its_place(devices: str) -> None:
    manager = Recorder(devices, [LOCAL])
    await manager.generate_images_batch(PROMPTS, seed=7)
    seeds = [call[2]["seed"] for call in manager.calls]
    assert seeds == [item_seed(7, i) for i in range(len(PROMPTS))]
    assert len(set(seeds)) == len(PROMPTS)


def test_the_hash_of_a_seed_never_changes() -> None:
    assert [item_seed(7, i) for i in (0, 1)] == [5075614961743158, 1294358620293361]


async def test_available_models_may_be_replaced_between_calls() -> None:
    manager = Recorder("cpu:2", [LOCAL])
    await manager.generate_images_batch(["a"])
    manager.available_models["image"] = [CLOUD]
    await manager.generate_images_batch(["b"])
    assert [call[0] for call in manager.calls] == ["local", "cloud"]


@pytest.mark.parametrize("devices", ["cpu:1", "cpu:2"])
async def test_a_named_model_serves_the_whole_batch(devices: str) -> None:
    manager = Recorder(devices, [LOCAL, {**LOCAL, "name": "other"}])
    await manager.generate_images_batch(["a", "b"], model="other")
    assert [call[2]["model"] for call in manager.calls] == ["other", "other"]


async def test_a_device_cannot_be_named_for_a_batch() -> None:
    with pytest.raises(InvalidRequest, match="GATOR_DEVICES limits them"):
        await Recorder("cpu:2", [LOCAL]).generate_images_batch(["a"], device_id=1)


async def test_one_text_is_refused_instead_of_being_read_letter_by_letter() -> None:
    with pytest.raises(InvalidRequest, match="give a list"):
        await AIModelManager().generate_images_batch("portrait")  # type: ignore[arg-type]


async def test_without_any_model_each_item_says_what_to_do() -> None:
    manager = AIModelManager()
    manager.available_models["image"] = []
    [result] = await manager.generate_images_batch(["a"])
    assert result["status"] == "failed"
    assert "no image model is available" in result["error"]
    with pytest.raises(ModelNotAvailable):
        await manager.generate_image("a")


async def test_the_manager_lists_name_provider_and_loaded_of_every_model() -> None:
    for entry in AIModelManager().available_models["image"]:
        assert isinstance(entry["name"], str)
        assert entry["provider"] == "local"
        assert isinstance(entry["loaded"], bool)
