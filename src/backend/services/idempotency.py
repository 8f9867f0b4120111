"""Do a request once, however often it is sent: by the key that the client gave it.

A key is claimed before the work begins and holds the answer afterwards, for 24 hours. Only what
succeeded is kept: a request that failed may be sent again. A claim is leased and the lease moved on
while the work lasts, so that a request whose process died can be made again. What the work makes is
named at the key in the very transaction that makes it: a process that dies after it leaves a key
from which the answer is put together anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from backend.database.engine import Database
from backend.errors import Conflict, InvalidRequest, StorageError
from backend.logs import get_logger
from backend.models.base import new_id, now
from backend.models.idempotency import IdempotencyKeyModel
from backend.repositories.idempotency import IdempotencyRepository

KEPT = timedelta(hours=24)
LEASE = timedelta(seconds=60)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered with.

    Attributes:
        body: JSON.
        replayed: whether it was kept from an earlier request.
    """

    status: int
    headers: dict[str, str]
    body: str
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A key that is held while its work is done."""

    actor: str
    key: str
    token: str

    async def settle(self, session: AsyncSession, made: str) -> None:
        """Name what the work makes; call it in the transaction that makes it.

        Raises:
            Conflict: the lease ran out and another request does the work; nothing may be made.
        """
        keys = IdempotencyRepository(session)
        if not await keys.change(self.actor, self.key, self.token, made=made):
            raise _held(self.key)


Work = Callable[[Claim | None], Awaitable[Answer]]
Again = Callable[[str], Awaitable[Answer]]


class IdempotencyKeys:
    """The keys of one studio."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def once(
        self, actor: str, key: str | None, asked: Any, work: Work, again: Again
    ) -> Answer:
        """Do the work, or return what it gave when it was done before.

        Args:
            actor: whose key it is.
            key: the client's; without one the work is simply done.
            asked: what is asked for, as JSON values; the same key with other values is refused.
            work: what is to be done once; it settles its claim, where it is given one.
            again: makes the answer for what was settled, where the first one was lost.

        Raises:
            InvalidRequest: the key was used for another request.
            Conflict: the same request is being done at this moment.
        """
        if key is None:
            return await work(None)
        fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        claim = Claim(actor, key, new_id())
        found = await self._claim(claim, fingerprint)
        if found is not None and found.made is not None and found.status is None:
            answer = await again(found.made)
            await self._keep(replace(claim, token=found.token), answer)
            return replace(answer, replayed=True)
        if found is not None:
            return _kept(found)
        renewal = asyncio.create_task(self._renew(claim))
        done = False
        try:
            answer = await work(claim)
            await self._keep(claim, answer)
            done = True
        finally:
            renewal.cancel()
            if not done:
                await asyncio.shield(self._release(claim))
        return answer

    async def _claim(self, claim: Claim, fingerprint: str) -> IdempotencyKeyModel | None:
        """Return the key as it was used before; `None` where the work is now this call's to do."""
        at = now()
        row = {
            "actor": claim.actor,
            "key": claim.key,
            "fingerprint": fingerprint,
            "token": claim.token,
            "leased_until": at + LEASE,
            "headers": {},
            "created_at": at,
        }
        async with self._database.write() as session:
            keys = IdempotencyRepository(session)
            await keys.forget_before(at - KEPT)
            if await keys.claim(row):
                return None
            found = await keys.get(claim.actor, claim.key)
            if found is not None and found.fingerprint != fingerprint:
                raise _used_otherwise(claim.key)
            if found is not None and (found.status is not None or found.made is not None):
                return found
            if await keys.take_over(
                claim.actor, claim.key, token=claim.token, leased_until=at + LEASE, at=at
            ):
                return None
        raise _held(claim.key)

    async def _renew(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 3)
            with contextlib.suppress(StorageError):
                await self._change(claim, leased_until=now() + LEASE)

    async def _keep(self, claim: Claim, answer: Answer) -> None:
        values = {"status": answer.status, "headers": answer.headers, "body": answer.body}
        if not await self._change(claim, **values):
            log.warning("idempotency.lost", key=claim.key)

    async def _change(self, claim: Claim, **values: Any) -> bool:
        async with self._database.write() as session:
            keys = IdempotencyRepository(session)
            return await keys.change(claim.actor, claim.key, claim.token, **values)

    async def _release(self, claim: Claim) -> None:
        async with self._database.write() as session:
            await IdempotencyRepository(session).release(claim.actor, claim.key, claim.token)


def _held(key: str) -> Conflict:
    return Conflict(
        f"the request with Idempotency-Key {key!r} is being done; ask again for its answer.",
        {"idempotency_key": key},
    )


def _kept(row: IdempotencyKeyModel) -> Answer:
    return Answer(row.status or 200, dict(row.headers), row.body or "", replayed=True)


def _used_otherwise(key: str) -> InvalidRequest:
    message = "was used for another request; take a new key"
    fault = {"field": "Idempotency-Key", "message": message, "location": "header"}
    return InvalidRequest(f"Idempotency-Key {key!r} {message}.", {"errors": [fault]})
