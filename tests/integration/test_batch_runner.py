"""The runner with real workers, on both databases: fair, stoppable, and stubborn."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from backend.bootstrap import LOCAL_OWNER, Studio, open_studio
from backend.config import load_settings
from backend.errors import NotFound
from backend.models.account import Actor, Role
from backend.models.batch import ItemState
from backend.models.persona import PersonaCreate
from backend.repositories.captions import BatchCaptionRepository
from backend.repositories.queue import QueueRepository
from backend.services.batch_captions import BatchCaptions
from backend.services.batch_ledger import BatchLedger
from backend.services.batch_renderer import BatchRenderer
from tests.fixtures.batches import run
from tests.fixtures.images_endpoint import inline, listening
from tests.fixtures.queue import failed
from tests.fixtures.solid_engine import CARD

ANN, BOB = Actor("ann", Role.EDITOR), Actor("bob", Role.EDITOR)
Open = Callable[..., Any]


@pytest_asyncio.fixture
async def opened(database_url: str, tmp_path: Path) -> AsyncIterator[Open]:
    """Open studios on one database, whose workers run the small engine."""
    async with AsyncExitStack() as stack:

        async def opened(devices: str = "cpu:2", **settings: Any) -> Studio:
            wanted = {"home": tmp_path / "home", "devices": devices, "database_url": database_url}
            settings = load_settings(**{**wanted, **settings})
            studio: Studio = await stack.enter_async_context(open_studio(settings))
            clouds = [e for e in studio.models.available_models["image"] if e["kind"] == "cloud"]
            studio.models.available_models["image"] = [CARD.as_entry(), *clouds]
            studio.models._pool._cards = (CARD,)
            return studio

        yield opened


@pytest_asyncio.fixture
async def studio(opened: Open) -> Studio:
    return await opened()


async def create(studio: Studio, prompts: list[str], **options: Any) -> str:
    view = await studio.batches.create(None, prompts, **{"seed": 1, "actor": ANN, **options})
    return view.batch.id


async def until(true: Callable[[], Any], within_s: float = 30) -> None:
    ends = time.monotonic() + within_s
    while not await true():
        assert time.monotonic() < ends, "it did not happen in time"
        await asyncio.sleep(0.05)


async def state_of(studio: Studio, batch_id: str) -> str:
    return (await studio.batches.summary(batch_id)).batch.state


async def done_of(studio: Studio, batch_id: str) -> int:
    return (await studio.batches.summary(batch_id)).counts[ItemState.DONE]


def in_state(studio: Studio, batch_id: str, *states: str) -> Callable[[], Any]:
    async def reached() -> bool:
        return await state_of(studio, batch_id) in states

    return reached


async def test_a_small_batch_does_not_wait_behind_another_users_large_one(studio: Studio) -> None:
    large = await create(studio, [f"sleep:0.02 {i}" for i in range(250)], actor=ANN)
    await studio.runner.start()
    await until(lambda: _some_done(studio, large))
    small = await create(studio, [f"sleep:0.02 {i}" for i in range(10)], actor=BOB)
    before = await done_of(studio, large)
    await until(in_state(studio, small, "done"))
    assert await done_of(studio, large) - before < 60  # the window, and as many as were asked for
    await studio.batches.cancel(large, actor=ANN)


async def _some_done(studio: Studio, batch_id: str) -> bool:
    return await done_of(studio, batch_id) > 0


async def test_a_higher_priority_goes_first(studio: Studio) -> None:
    low = await create(studio, [f"sleep:0.02 {i}" for i in range(200)])
    high = await create(studio, [f"sleep:0.02 {i}" for i in range(40)], priority=5)
    await studio.runner.start()
    await until(in_state(studio, high, "done"))
    assert await done_of(studio, low) <= 40  # not a fifth of it; the two windows overlap
    await studio.batches.cancel(low, actor=ANN)


async def test_cancelling_stops_what_is_being_drawn(studio: Studio) -> None:
    long = await create(studio, ["steps:400"] * 4)
    await studio.runner.start()
    await until(lambda: _steps(studio))
    asked = time.monotonic()
    await studio.batches.cancel(long, actor=ANN)
    other = await create(studio, ["a wall", "a door"])
    await until(in_state(studio, other, "done"))
    assert time.monotonic() - asked < 6
    view = await studio.batches.show(long)
    assert view.counts[ItemState.CANCELLED] == 4
    assert (await studio.contents.page(limit=9))[1] == 2


async def _steps(studio: Studio) -> bool:
    return sum(seat.step > 0 for seat in studio.models.snapshot()) == 2


async def _runs(studio: Studio, batch_id: str) -> bool:
    return (await studio.batches.summary(batch_id)).counts[ItemState.RUNNING] > 0


async def test_a_paused_batch_finishes_what_is_in_hand_and_goes_on_when_resumed(
    studio: Studio,
) -> None:
    batch_id = await create(studio, [f"sleep:0.05 {i}" for i in range(40)])
    await studio.runner.start()
    await until(lambda: _some_done(studio, batch_id))
    await studio.batches.pause(batch_id, actor=ANN)

    async def rests() -> bool:
        return not await _runs(studio, batch_id)

    await until(rests)
    done = await done_of(studio, batch_id)
    assert done < 40
    await asyncio.sleep(0.3)
    assert await done_of(studio, batch_id) == done
    await studio.batches.resume(batch_id, actor=ANN)
    await until(in_state(studio, batch_id, "done"))
    assert (await studio.contents.page(limit=1))[1] == 40


async def test_two_processes_share_a_batch_and_one_goes_on_when_the_other_stops(
    opened: Open,
) -> None:
    first, second = await opened("cpu:1"), await opened("cpu:1")
    batch_id = await create(first, [f"sleep:0.05 {i}" for i in range(80)])
    await first.runner.start()
    await second.runner.start()
    await until(lambda: _both_drew(second, batch_id))
    await first.runner.stop()
    await until(in_state(second, batch_id, "done"))
    view = await second.batches.show(batch_id)
    assert view.counts[ItemState.DONE] == 80
    assert (await second.contents.page(limit=1))[1] == 80
    assert await _both_drew(second, batch_id)


async def _both_drew(studio: Studio, batch_id: str) -> bool:
    """Tell whether pictures of two processes are kept."""
    items = (await studio.batches.show(batch_id)).items
    kept = [await studio.contents.get(item.content_id) for item in items if item.content_id]
    return len({content.receipt["pid"] for content in kept}) == 2


async def test_what_was_in_hand_is_given_back_at_a_stop_and_done_once(studio: Studio) -> None:
    batch_id = await create(studio, [f"sleep:0.1 {i}" for i in range(20)])
    await studio.runner.start()
    await until(lambda: _some_done(studio, batch_id))
    await studio.runner.stop()
    view = await studio.batches.show(batch_id)
    made = {item.position: item.content_id for item in view.items if item.content_id}
    assert view.counts[ItemState.RUNNING] == 0
    assert 1 <= len(made) < 20
    await studio.runner.start()
    await until(in_state(studio, batch_id, "done"))
    after = await studio.batches.show(batch_id)
    assert {i.position: i.content_id for i in after.items if i.position in made} == made
    again = [item for item in after.items if item.attempts > 1]
    assert len(again) <= 16
    assert all(item.failures == 0 for item in after.items)
    (first, *_) = await studio.batches.attempts(batch_id, again[0].position)
    assert (first.error or {})["code"] == "stopped"


async def test_what_a_killed_process_held_does_not_wait_for_its_lease(studio: Studio) -> None:
    batch_id = await create(studio, ["a", "b", "c"])
    code = "from backend.services.claimant import claimant_name; print(claimant_name())"
    done = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE)
    name = (await done.communicate())[0].decode().strip()
    dead = BatchLedger(studio.database, studio.models, name)
    assert len(await dead.exchange([], {batch_id: 3})) == 3
    started = time.monotonic()
    view = await run(studio, batch_id)
    assert time.monotonic() - started < dead.lease.total_seconds() / 2
    assert [(item.state, item.attempts) for item in view.items] == [("done", 2)] * 3


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_the_pool_tells_of_an_item_says_which_it_is(studio: Studio) -> None:
    batch_id = await create(studio, ["a wall", "die:cpu1 and a door"])
    with capture_logs() as lines:
        await run(studio, batch_id)
    (again,) = (line for line in lines if line["event"] == "picture.again")
    assert (again["batch"], again["item"], again["attempt"]) == (batch_id, 1, 1)
    assert (again["device"], again["to"]) == ("cpu:1", "cpu:0")


async def test_without_a_device_the_batch_pauses_and_says_so(opened: Open) -> None:
    studio = await opened("cpu:1")
    batch_id = await create(studio, ["die", "die", "die", "a wall"])
    view = await run(studio, batch_id)
    assert view.batch.state == "paused"
    assert "no device is left" in str(view.batch.state_reason)
    assert "gator devices release" in str(view.batch.state_reason)
    assert view.counts[ItemState.QUEUED] >= 1
    assert view.items[3].failures == 0
    studio.models.release_device("cpu:0")
    tries = await studio.batches.attempts(batch_id, 0)
    assert [t.device for t in tries] == ["cpu:0", "cpu:0"]
    assert all((t.error or {})["code"] == "device_lost" for t in tries)
    other = await create(studio, ["a door"])
    assert (await run(studio, other)).counts[ItemState.DONE] == 1


async def test_a_cloud_draws_within_the_batchs_cap_what_no_device_is_left_for(
    opened: Open,
) -> None:
    with listening() as endpoint:
        endpoint.answers = [inline()]
        studio = await opened(
            "cpu:1",
            cloud_base_url=endpoint.base_url,
            cloud_model="pictures-1",
            cloud_price_usd=Decimal("0.04"),
        )
        ruin = await create(studio, ["die", "die", "die"])
        assert (await run(studio, ruin)).batch.state == "paused"
        refused = await run(studio, await create(studio, ["a wall"]))
        assert refused.batch.state == "paused"
        prompts = [f"wall {i}" for i in range(5)]
        allowed = {"allow_cloud": True, "cloud_cap_usd": Decimal("0.13")}
        view = await run(studio, await create(studio, prompts, **allowed))
        assert len(endpoint.asked) == 3
    assert view.batch.state == "paused"
    assert "cap of 0.13" in str(view.batch.state_reason)
    assert view.counts[ItemState.DONE] == 3
    assert view.batch.cost_usd == Decimal("0.12")
    content = await studio.contents.get(str(next(i.content_id for i in view.items if i.content_id)))
    assert content.kind == "cloud"
    assert (await studio.spending.report()).spent_usd == Decimal("0.12")


async def test_without_a_known_price_a_cap_is_not_trusted_to_luck(opened: Open) -> None:
    with listening() as endpoint:
        endpoint.answers = [inline()]
        studio = await opened("cpu:1", cloud_base_url=endpoint.base_url, cloud_model="pictures-1")
        batch_id = await create(
            studio, ["a wall"], model="pictures-1", cloud_cap_usd=Decimal(1), allow_cloud=True
        )
        view = await run(studio, batch_id)
        assert endpoint.asked == []
    assert view.batch.state == "paused"
    assert "GATOR_CLOUD_PRICE_USD" in str(view.batch.state_reason)


async def test_a_storage_that_fails_costs_time_and_no_picture(
    studio: Studio, tmp_path: Path
) -> None:
    batch_id = await create(studio, [f"sleep:0.05 {i}" for i in range(12)])
    await studio.runner.start()
    await until(lambda: _some_done(studio, batch_id))
    blobs, aside = tmp_path / "home" / "blobs", tmp_path / "aside"
    blobs.rename(aside)
    blobs.write_text("a file where the folder was")

    async def in_trouble() -> bool:
        return studio.runner.storage_faults > 0

    await until(in_trouble)
    await asyncio.sleep(0.5)
    blobs.unlink()
    aside.rename(blobs)
    await until(in_state(studio, batch_id, "done"))
    view = await studio.batches.show(batch_id)
    assert [(item.state, item.attempts) for item in view.items] == [("done", 1)] * 12
    assert (await studio.contents.page(limit=1))[1] == 12


async def test_a_storage_that_stays_away_pauses_the_batch(studio: Studio, tmp_path: Path) -> None:
    ledger: BatchLedger = studio.runner._ledger
    studio.runner._renderer = BatchRenderer(
        studio.models, studio.blobs, studio.spending, ledger, store_delays_s=(0.1,)
    )
    blobs = tmp_path / "home" / "blobs"
    blobs.rename(tmp_path / "aside")
    blobs.write_text("a file where the folder was")
    batch_id = await create(studio, ["a wall"])
    view = await run(studio, batch_id)
    assert (view.batch.state, view.items[0].state) == ("paused", "queued")
    assert "blob" in str(view.batch.state_reason).lower()
    blobs.unlink()
    (tmp_path / "aside").rename(blobs)
    await studio.batches.resume(batch_id, actor=ANN)
    assert (await run(studio, batch_id)).counts[ItemState.DONE] == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # which locks as a whole
async def test_a_locked_database_costs_time_and_no_picture(studio: Studio, rounds: Any) -> None:
    batch_id = await create(studio, [f"sleep:0.05 {i}" for i in range(20)])
    await studio.runner.start()
    await until(lambda: _some_done(studio, batch_id))
    await asyncio.to_thread(_lock, str(studio.database.url.database), rounds(1.5, 12))
    await until(in_state(studio, batch_id, "done"))
    view = await studio.batches.show(batch_id)
    assert [(item.state, item.attempts) for item in view.items] == [("done", 1)] * 20


def _lock(path: str, seconds: float) -> None:
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        other.execute("ROLLBACK")
    other.close()


async def approved(studio: Studio, name: str) -> str:
    persona = await studio.personas.create(
        PersonaCreate(name=name, appearance="red hair", personality="creative, warm")
    )
    await studio.base_images.seed_local(persona.id, actor=LOCAL_OWNER, seed=5)
    await studio.base_images.approve(persona.id, None, actor=LOCAL_OWNER)
    return persona.id


async def test_captions_follow_in_order_and_hold_nobody_up(studio: Studio) -> None:
    mira, noa = [await approved(studio, name) for name in ("Mira", "Noa")]
    slow_first = ["sleep:0.8 a wall", *(f"sleep:0.02 a door {i}" for i in range(15))]
    slow = (await studio.batches.create(mira, slow_first, seed=1)).batch.id
    quick = (await studio.batches.create(noa, [f"a lake {i}" for i in range(5)], seed=2)).batch.id
    written: list[str] = []
    await studio.runner.run_until_finished([slow, quick], written.append)
    assert written.count("images") == written.count("captions") == 21
    for batch_id in (slow, quick):
        view = await studio.batches.show(batch_id)
        contents = [await studio.contents.get(str(item.content_id)) for item in view.items]
        assert all(content.caption for content in contents)
        assert len({content.caption for content in contents}) == len(contents)
        times = [content.captioned_at for content in contents]
        assert times == sorted(times)  # type: ignore[type-var]


async def test_what_is_made_later_gets_its_caption_later(studio: Studio) -> None:
    persona_id = await approved(studio, "Mira")
    view = await studio.batches.create(persona_id, ["a wall", "a lake", "a door"], seed=3)
    batch_id = view.batch.id
    ledger = BatchLedger(studio.database, studio.models, "other")
    (order,) = await ledger.exchange([], {batch_id: 1})
    await ledger.exchange([failed(order)], {})
    view = await run(studio, batch_id)
    assert [item.state for item in view.items] == ["failed", "done", "done"]
    before = [await _caption(studio, item.content_id) for item in view.items[1:]]
    await studio.batches.retry_failed(batch_id)
    view = await run(studio, batch_id)
    assert view.batch.state == "done"
    assert [await _caption(studio, item.content_id) for item in view.items[1:]] == before
    assert await _caption(studio, view.items[0].content_id)


async def _caption(studio: Studio, content_id: str | None) -> str | None:
    return (await studio.contents.get(str(content_id))).caption


async def test_captions_that_another_process_writes_are_left_to_it(studio: Studio) -> None:
    persona_id = await approved(studio, "Mira")
    view = await studio.batches.create(persona_id, ["a wall"], seed=3)
    batch_id = view.batch.id
    ledger = BatchLedger(studio.database, studio.models, "other")
    (order,) = await ledger.exchange([], {batch_id: 1})
    async with studio.database.write() as session:
        batch = (await QueueRepository(session).lock([batch_id]))[batch_id]
        assert BatchCaptionRepository(session).hold(batch, "other", ledger.lease)
    ended = await studio.runner._renderer.render(order, studio.models.devices())
    await ledger.exchange([ended], {})
    mine = BatchCaptions(studio.database, studio.captions, "me")
    assert not await mine.advance(batch_id)
    assert await state_of(studio, batch_id) == "running"
    await BatchCaptions(studio.database, studio.captions, "other").advance(batch_id)
    assert await state_of(studio, batch_id) == "done"


async def test_a_deleted_batch_ends_whoever_waits_for_it_and_nobody_else(studio: Studio) -> None:
    persona_id = await approved(studio, "Mira")
    doomed = (
        await studio.batches.create(persona_id, [f"sleep:0.1 {i}" for i in range(40)])
    ).batch.id
    await studio.runner.start()
    waiting = asyncio.ensure_future(studio.runner.run_until_finished([doomed]))
    await until(lambda: _some_done(studio, doomed))
    await studio.personas.delete(persona_id)
    with pytest.raises(NotFound):
        await waiting
    other = await create(studio, ["a wall"])
    await until(in_state(studio, other, "done"))


async def test_a_number_of_images_in_micro_batches_is_what_it_is_one_by_one(
    studio: Studio,
) -> None:
    batch_id = await create(studio, [f"number {i}" for i in range(20)], seeds=[7])
    view = await run(studio, batch_id)
    hashes = {(await studio.contents.get(str(item.content_id))).sha256 for item in view.items}
    assert len(hashes) == 1
    assert view.counts[ItemState.DONE] == 20
