"""Keys whose work and answer part ways: cancelled between, taken over, or under way."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from backend.database.engine import Database
from backend.errors import Conflict
from backend.services import idempotency
from backend.services.idempotency import Answer, Claim, IdempotencyKeys


class Works:
    """Makes numbered things; may stop after one was made."""

    def __init__(self, database: Database) -> None:
        self.keys = IdempotencyKeys(database)
        self.database = database
        self.made: list[str] = []
        self.rebuilt = 0
        self.made_one = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def work(self, claim: Claim | None) -> Answer:
        assert claim is not None
        async with self.database.write() as session:
            await claim.settle(session, str(len(self.made) + 1))
        self.made.append(str(len(self.made) + 1))
        self.made_one.set()
        await self.may_answer.wait()
        return Answer(201, {}, self.made[-1])

    async def again(self, made: str) -> Answer:
        self.rebuilt += 1
        return Answer(201, {}, made)

    async def ask(self) -> Answer:
        return await self.keys.once("me", "key", ["POST"], self.work, self.again)


async def test_a_request_cancelled_after_its_work_is_answered_by_what_it_made(
    database: Database,
) -> None:
    works = Works(database)
    first = asyncio.create_task(works.ask())
    waiting = asyncio.create_task(works.made_one.wait())
    await asyncio.wait([first, waiting], return_when=asyncio.FIRST_COMPLETED)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    answers = [await works.ask() for _ in range(3)]
    assert [(answer.body, answer.replayed) for answer in answers] == [("1", True)] * 3
    assert (works.made, works.rebuilt) == (["1"], 1)


async def test_work_whose_lease_was_taken_over_makes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request stalls beyond its lease before it made anything."""
    works = Works(database)
    works.may_answer.set()
    stalled = asyncio.Event()
    begun = asyncio.Event()

    async def stalls(claim: Claim | None) -> Answer:
        begun.set()
        await stalled.wait()
        return await works.work(claim)

    monkeypatch.setattr(idempotency, "LEASE", timedelta(seconds=-1))
    keys = IdempotencyKeys(database)
    monkeypatch.setattr(keys, "_renew", lambda _: asyncio.sleep(60))
    first = asyncio.create_task(keys.once("me", "key", ["POST"], stalls, works.again))
    await begun.wait()
    monkeypatch.setattr(works.keys, "_renew", lambda _: asyncio.sleep(60))
    assert (await works.ask()).body == "1"
    stalled.set()
    with pytest.raises(Conflict):
        await first
    assert works.made == ["1"]
    assert (await works.ask()).replayed
