"""The queue on both databases: claimed once, ended once, counted, told of, and never lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from backend.database.engine import Database
from backend.database.upgrade import upgrade
from backend.errors import Conflict, Forbidden, InvalidRequest, NotFound
from backend.imaging.types import item_seed
from backend.models.account import Actor, Role
from backend.models.batch import BatchState, ItemState
from backend.repositories.batches import BatchRepository
from backend.services.batch_ledger import BatchLedger, Order
from backend.storage.blobs import BlobStore
from tests.fixtures.queue import Queue, done, failed, queue_on

ANN, BOB = Actor("ann", Role.EDITOR), Actor("bob", Role.EDITOR)
OWNER = Actor("olga", Role.OWNER)
AT_ONCE = timedelta(0)


@pytest.fixture
def queue(database: Database) -> Queue:
    return queue_on(database)


async def check_books(database: Database, batch_id: str) -> None:
    """What the batch says of its items is what they are; no two changes have one number."""
    async with database.read() as session:
        repository = BatchRepository(session)
        batch, items = await repository.get(batch_id), await repository.items(batch_id)
        counted = Counter(item.state for item in items)
        assert batch.counts == {state: counted[state.value] for state in ItemState}
        numbers = [item.event_seq for item in items if item.event_seq]
        assert len(set(numbers)) == len(numbers)
        assert max([*numbers, batch.state_seq]) <= batch.event_seq
        ids = {item.content_id for item in items if item.state == ItemState.DONE}
        assert len(ids) == batch.items_done
        told = await session.execute(text("SELECT count(*) FROM contents"))
        assert told.scalar() == batch.items_done


async def test_items_are_claimed_in_order_each_by_one(queue: Queue) -> None:
    batch_id = await queue.create(5)
    first, second = queue.ledger("one"), queue.ledger("two")
    a = await first.exchange([], {batch_id: 2})
    b = await second.exchange([], {batch_id: 9})
    assert [order.item.position for order in a] == [0, 1]
    assert [order.item.position for order in b] == [2, 3, 4]
    assert [order.item.attempt for order in a + b] == [1] * 5
    assert [order.item.seed for order in a] == [item_seed(1, 0), item_seed(1, 1)]
    assert await first.exchange([], {batch_id: 2}) == []
    await check_books(queue.database, batch_id)


async def test_many_processes_share_a_batch_and_make_each_item_once(
    database_url: str, database: Database, rounds: Any
) -> None:
    queue, items = queue_on(database), rounds(120, 2_000)
    batch_id = await queue.create(items)
    others = [Database(database_url) for _ in range(4)]

    async def process(number: int) -> Counter[int]:
        chance, made = random.Random(number), Counter[int]()
        ledger = queue_on(others[number]).ledger(f"process {number}")
        ended: list[Any] = []
        while True:
            orders = await ledger.exchange(ended, {batch_id: chance.randint(1, 7)})
            if not orders:
                return made
            made.update(order.item.position for order in orders)
            ended = [done(order) for order in orders]

    made = sum(await asyncio.gather(*map(process, range(4))), Counter())
    assert made == Counter(range(items))
    assert (await queue.service.summary(batch_id)).counts[ItemState.DONE] == items
    await check_books(database, batch_id)
    for other in others:
        await other.close()


async def test_a_late_writer_is_dropped(queue: Queue) -> None:
    batch_id = await queue.create(1)
    slow, quick = queue.ledger("slow", AT_ONCE), queue.ledger("quick")
    (late,) = await slow.exchange([], {batch_id: 1})
    await asyncio.sleep(0.01)
    assert await quick.take_back([]) == [batch_id]
    (again,) = await quick.exchange([], {batch_id: 1})
    assert (late.item.id, late.item.attempt, again.item.attempt) == (again.item.id, 1, 2)
    await slow.exchange([done(late)], {})
    assert (await queue.service.summary(batch_id)).counts[ItemState.RUNNING] == 1
    await quick.exchange([done(again)], {})
    await slow.exchange([failed(late)], {})
    (item,) = await queue.service.items(batch_id, limit=9)
    assert (item.state, item.attempts, item.device) == ("done", 2, "cpu:0")
    tries = await queue.service.attempts(batch_id, 0)
    assert [(t.n, t.device, (t.error or {}).get("code")) for t in tries] == [
        (1, None, "interrupted"), (2, "cpu:0", None),
    ]  # fmt: skip
    assert all(t.started_at and t.started_at <= t.ended_at for t in tries)
    await check_books(queue.database, batch_id)


async def test_a_lease_holds_while_it_is_extended_and_not_longer(queue: Queue) -> None:
    batch_id = await queue.create(2)
    ledger = queue.ledger("me", timedelta(seconds=0.3))
    await ledger.exchange([], {batch_id: 2})
    for _ in range(4):
        await asyncio.sleep(0.15)
        await ledger.extend()
        assert await queue.ledger("other").take_back([]) == []
    await asyncio.sleep(0.4)
    assert await queue.ledger("other").take_back([]) == [batch_id]
    survey = await ledger.survey()
    assert (survey.held, survey.waiting[0].queued) == (set(), 2)


async def test_what_a_dead_process_held_is_taken_back_at_once(queue: Queue) -> None:
    batch_id = await queue.create(3)
    await queue.ledger("dead").exchange([], {batch_id: 2})
    other = queue.ledger("other")
    assert await other.claimants() == ["dead"]
    assert await other.take_back(["dead"]) == [batch_id]
    orders = await other.exchange([], {batch_id: 9})
    assert [(o.item.position, o.item.attempt) for o in orders] == [(0, 2), (1, 2), (2, 1)]


async def test_an_item_that_ends_its_process_every_time_fails_at_last(queue: Queue) -> None:
    batch_id = await queue.create(1)
    ledger = queue.ledger("me")
    for _ in range(24):
        await ledger.exchange([], {batch_id: 1})
        await ledger.take_back(["me"])
    assert len(await ledger.exchange([], {batch_id: 1})) == 1
    await ledger.take_back(["me"])
    (item,) = await queue.service.items(batch_id, limit=9)
    assert (item.state, (item.error or {})["code"]) == ("failed", "interrupted")
    assert len(await queue.service.attempts(batch_id, 0)) == 25


async def test_an_item_that_may_pass_is_tried_again(queue: Queue) -> None:
    batch_id = await queue.create(1)
    ledger = queue.ledger("me")
    (order,) = await ledger.exchange([], {batch_id: 1})
    (again,) = await ledger.exchange([failed(order, state=ItemState.QUEUED)], {batch_id: 1})
    assert (again.item.attempt, again.item.failures) == (2, 1)
    await ledger.exchange([done(again)], {})
    (item,) = await queue.service.items(batch_id, limit=9)
    assert (item.state, item.error, item.failures) == ("done", None, 1)


async def test_a_batch_is_written_whole_or_not_at_all(queue: Queue) -> None:
    async def broken() -> AsyncIterator[str]:
        for i in range(1_200):
            yield f"number {i}"
        raise ConnectionError("the client went away")

    with pytest.raises(ConnectionError):
        await queue.service.create(None, broken(), model="illustrated")
    with pytest.raises(InvalidRequest, match="no entries"):
        await queue.service.create(None, [], model="illustrated")
    with pytest.raises(InvalidRequest, match=r"more than 100,000"):
        await queue.service.create(None, ("x" for _ in range(100_001)), model="illustrated")
    assert (await queue.service.page(limit=1))[1] == 0


async def test_a_large_batch_is_not_held_in_memory(queue: Queue, rounds: Any) -> None:
    items = rounds(10_000, 100_000)
    await queue.create(600)
    before = psutil.Process().memory_info().rss

    async def prompts() -> AsyncIterator[str]:
        for i in range(items):
            yield f"a portrait in the park, number {i}, in soft light, looking at the camera"

    view = await queue.service.create(None, prompts(), model="illustrated")
    assert psutil.Process().memory_info().rss - before < items * 1024
    assert view.counts[ItemState.QUEUED] == items


async def test_prompts_are_drawn_with_every_seed_in_every_size(queue: Queue) -> None:
    view = await queue.service.create(
        None, ["one", " ", "two"], seeds=[7, 8], sizes=[(64, 96), (128, 64)], model="illustrated"
    )
    items = await queue.service.items(view.batch.id, limit=99)
    assert [(i.prompt, i.seed, i.options) for i in items if i.state == "queued"] == [
        (prompt, seed, {"width": width, "height": height})
        for prompt in ("one", "two")
        for seed in (7, 8)
        for width, height in ((64, 96), (128, 64))
    ]
    assert [i.position for i in items] == list(range(12))
    assert view.counts[ItemState.FAILED] == 4
    await check_books(queue.database, view.batch.id)
    (order, *_) = await queue.ledger("me").exchange([], {view.batch.id: 1})
    assert (order.options["width"], order.options["height"]) == (64, 96)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": [1, -1]}, "seeds"), ({"seeds": [True]}, "seeds"),
        ({"sizes": [(0, 64)]}, "width"), ({"seeds": range(100_001)}, "100,000"),
        ({"priority": 10}, "priority"), ({"cloud_cap_usd": Decimal(-1)}, "cloud_cap_usd"),
        ({"weight": 0}, "weight"),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_for_is_refused(
    queue: Queue, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        await queue.create(1, **options)
    assert (await queue.service.page(limit=1))[1] == 0


async def test_cancelling_ends_what_is_open_and_touches_nobody_elses(queue: Queue) -> None:
    mine, too, theirs = [await queue.create(3, actor=who) for who in (ANN, ANN, BOB)]
    ledger = queue.ledger("me")
    first, second, _ = await ledger.exchange([], {mine: 2, theirs: 1})
    await ledger.exchange([done(first)], {})
    with pytest.raises(Forbidden, match="ann"):
        await queue.service.cancel(mine, actor=BOB)
    view = await queue.service.cancel(mine, actor=ANN)
    assert (view.batch.state, view.batch.state_reason) == ("cancelled", "cancelled by ann")
    assert (view.counts[ItemState.DONE], view.counts[ItemState.CANCELLED]) == (1, 2)
    assert (await ledger.survey()).held == {(await queue.service.items(theirs, limit=1))[0].id}
    await ledger.exchange([done(second)], {})  # too late
    assert await ledger.exchange([], {mine: 3}) == []
    with pytest.raises(Conflict) as caught:
        await queue.service.cancel(mine, actor=ANN)
    assert caught.value.details == {"state": "cancelled"}
    with pytest.raises(Conflict):
        await queue.service.retry_failed(mine, actor=ANN)
    assert await queue.service.cancel_all(ANN) == [too]
    states = [(await queue.service.summary(b)).batch.state for b in (mine, too, theirs)]
    assert states == ["cancelled", "cancelled", "running"]
    assert (await queue.service.cancel(theirs, actor=OWNER)).batch.state == "cancelled"


async def test_a_paused_batch_gives_nothing_until_it_is_resumed(queue: Queue) -> None:
    batch_id = await queue.create(3, actor=ANN)
    ledger = queue.ledger("me")
    (order,) = await ledger.exchange([], {batch_id: 1})
    assert (await queue.service.pause(batch_id, actor=ANN)).batch.state == "paused"
    with pytest.raises(Conflict):
        await queue.service.pause(batch_id, actor=ANN)
    assert await ledger.exchange([done(order)], {batch_id: 2}) == []
    assert (await ledger.survey()).waiting == []
    assert (await queue.service.resume(batch_id, actor=ANN)).batch.state == "running"
    with pytest.raises(Conflict):
        await queue.service.resume(batch_id, actor=ANN)
    assert len(await ledger.exchange([], {batch_id: 2})) == 2
    with pytest.raises(NotFound):
        await queue.service.pause("none", actor=ANN)


async def test_failed_items_are_queued_again_but_not_refused_prompts(queue: Queue) -> None:
    view = await queue.service.create(None, ["a", "  ", "b"], model="illustrated")
    ledger = queue.ledger("me")
    orders = await ledger.exchange([], {view.batch.id: 3})
    await ledger.exchange([failed(order) for order in orders], {})
    again = await queue.service.retry_failed(view.batch.id)
    assert (again.counts[ItemState.QUEUED], again.counts[ItemState.FAILED]) == (2, 1)
    orders = await ledger.exchange([], {view.batch.id: 3})
    assert [(o.item.position, o.item.attempt, o.item.failures) for o in orders] == [
        (0, 2, 0), (2, 2, 0),
    ]  # fmt: skip
    await check_books(queue.database, view.batch.id)


async def test_items_come_by_page_and_by_state(queue: Queue) -> None:
    batch_id = await queue.create(7)
    ledger = queue.ledger("me")
    orders = await ledger.exchange([], {batch_id: 5})
    await ledger.exchange([done(o) for o in orders[:2]] + [failed(orders[3])], {})
    page = await queue.service.items(batch_id, limit=3)
    rest = await queue.service.items(batch_id, limit=9, after=page[-1].position)
    assert [item.position for item in (*page, *rest)] == list(range(7))
    by_state = {
        state: [i.position for i in await queue.service.items(batch_id, limit=9, state=state)]
        for state in ItemState
    }
    assert by_state == {
        ItemState.QUEUED: [5, 6], ItemState.RUNNING: [2, 4], ItemState.DONE: [0, 1],
        ItemState.FAILED: [3], ItemState.CANCELLED: [],
    }  # fmt: skip
    assert (await queue.service.totals())[ItemState.QUEUED] == 2
    with pytest.raises(NotFound):
        await queue.service.items("none", limit=1)
    with pytest.raises(NotFound, match="no item 7"):
        await queue.service.attempts(batch_id, 7)


async def test_events_go_on_from_any_number_and_end_with_the_batch(queue: Queue) -> None:
    batch_id = await queue.create(30, actor=ANN)
    ledger, seen = queue.ledger("me"), []

    async def follow() -> None:
        seen.extend([event async for event in queue.service.events(batch_id)])

    following = asyncio.create_task(follow())
    ended: list[Any] = []
    while orders := await ledger.exchange(ended, {batch_id: 4}):
        ended = [done(o) if o.item.position % 5 else failed(o) for o in orders]
    await queue.service.cancel(batch_id, actor=ANN)
    await asyncio.wait_for(following, 10)
    numbers = [event.seq for event in seen]
    assert numbers == sorted(set(numbers))
    assert seen[-1].kind == "end"
    assert seen[-1].data["counts"]["done"] == 24
    states = {event.data["position"]: event.data["state"] for event in seen if event.kind == "item"}
    assert Counter(states.values()) == {"done": 24, "failed": 6}
    whole = [event async for event in queue.service.events(batch_id)]
    for after in (0, whole[3].seq, whole[-2].seq, whole[-1].seq):
        rest = [event async for event in queue.service.events(batch_id, after)]
        assert rest == [event for event in whole if event.seq > after]
    with pytest.raises(NotFound):
        await anext(queue.service.events("none"))


async def test_a_cap_is_kept_however_many_ask_at_once(queue: Queue) -> None:
    batch_id = await queue.create(9, allow_cloud=True, cloud_cap_usd=Decimal("0.10"))
    ledger = queue.ledger("me")
    granted = await asyncio.gather(*(ledger.reserve(batch_id, 30_000) for _ in range(8)))
    assert granted.count(True) == 3
    assert (await queue.service.summary(batch_id)).cost_usd == Decimal("0.09")
    assert await ledger.reserve(batch_id, -30_000)
    assert await ledger.reserve(batch_id, 40_000)
    assert not await ledger.reserve(batch_id, 1)


async def test_the_books_are_right_whatever_happens_in_any_order(queue: Queue, rounds: Any) -> None:
    chance = random.Random(4)
    batch_id = await queue.create(40, actor=ANN)
    ledgers = [queue.ledger(name, timedelta(seconds=60)) for name in ("a", "b")]
    held: dict[str, list[Order]] = {"a": [], "b": []}
    for _ in range(rounds(60, 600)):
        who = chance.randrange(2)
        name, ledger = "ab"[who], ledgers[who]
        match chance.randrange(10):
            case 0:
                await ledgers[1 - who].take_back([name])
            case 1:
                await _quietly(queue.service.pause(batch_id, actor=ANN))
            case 2 | 3:
                await _quietly(queue.service.resume(batch_id, actor=ANN))
            case 4:
                await queue.service.retry_failed(batch_id, actor=ANN)
            case _:
                chance.shuffle(held[name])
                cut = chance.randrange(len(held[name]) + 1)
                outcomes = [
                    chance.choice((done, failed, _again))(order) for order in held[name][:cut]
                ]
                held[name] = held[name][cut:]
                held[name] += await ledger.exchange(outcomes, {batch_id: chance.randrange(4)})
        await check_books(queue.database, batch_id)
    await _quietly(queue.service.cancel(batch_id, actor=ANN))
    await check_books(queue.database, batch_id)


async def test_the_next_items_are_found_by_the_index_of_queued_ones(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'queue.sqlite3'}")
    await upgrade(database)
    plan = "EXPLAIN QUERY PLAN SELECT id FROM batch_items WHERE batch_id = 'x' AND state = 'queued'"
    async with database.read() as session:
        rows = await session.execute(text(f"{plan} ORDER BY position LIMIT 4"))
        assert "ix_batch_items_queued" in " ".join(str(row) for row in rows)
    await database.close()


async def test_a_batch_that_nobody_may_show_any_more_is_gone_with_its_persona(
    queue: Queue,
) -> None:
    batch_id = await queue.create(2)
    ledger = queue.ledger("me")
    orders = await ledger.exchange([], {batch_id: 2})
    async with queue.database.write() as session:
        await session.execute(text("DELETE FROM batches"))
    assert await ledger.exchange([done(order) for order in orders], {batch_id: 1}) == []
    async with queue.database.read() as session:
        for table in ("batch_items", "batch_item_attempts", "contents"):
            assert (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar() == 0
    assert BatchState("queued") is BatchState.QUEUED


def _again(order: Order) -> Any:
    return failed(order, state=ItemState.QUEUED)


async def _quietly(work: Any) -> None:
    try:
        await work
    except Conflict:
        return


async def test_a_picture_whose_bytes_were_dropped_meanwhile_is_made_again(
    queue: Queue, tmp_path: Path
) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    ledger = BatchLedger(queue.database, queue.models, "here", blobs=blobs)
    batch_id = await queue.create(1)

    async def finish(sha256: str) -> None:
        (order,) = await ledger.exchange([], {batch_id: 1})
        outcome = done(order)
        content = {**(outcome.content or {}), "sha256": sha256}
        await ledger.exchange([replace(outcome, content=content)], {})

    await finish("0" * 64)
    summary = await queue.service.summary(batch_id)
    assert (summary.counts[ItemState.QUEUED], summary.counts[ItemState.DONE]) == (1, 0)
    await finish(await blobs.put(b"the bytes"))
    assert (await queue.service.summary(batch_id)).counts[ItemState.DONE] == 1
