"""Do a request once, however often it is sent: by the key that the client gave it.

A key is claimed before the work begins and holds the answer afterwards, for 24 hours. Only what
succeeded is kept: a request that failed may be sent again. A claim is leased and the lease moved on
while the work lasts, so that a request whose process died can be made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

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


class IdempotencyKeys:
    """The keys of one studio."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def once(
        self, actor: str, key: str | None, asked: Any, work: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """Do the work, or return what it gave when it was done before.

        Args:
            actor: whose key it is.
            key: the client's; without one the work is simply done.
            asked: what is asked for, as JSON values; the same key with other values is refused.
            work: what is to be done once.

        Raises:
            InvalidRequest: the key was used for another request.
            Conflict: the same request is being done at this moment.
        """
        if key is None:
            return await work()
        fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        token = new_id()
        kept = await self._claim(actor, key, fingerprint, token)
        if kept is not None:
            return kept
        renewal = asyncio.create_task(self._renew(actor, key, token))
        done = False
        try:
            answer = await work()
            await self._keep(actor, key, token, answer)
            done = True
        finally:
            renewal.cancel()
            if not done:
                await asyncio.shield(self._release(actor, key, token))
        return answer

    async def _claim(self, actor: str, key: str, fingerprint: str, token: str) -> Answer | None:
        """Return the kept answer; `None` where the work is now this call's to do."""
        at = now()
        row = {
            "actor": actor,
            "key": key,
            "fingerprint": fingerprint,
            "token": token,
            "leased_until": at + LEASE,
            "headers": {},
            "created_at": at,
        }
        async with self._database.write() as session:
            keys = IdempotencyRepository(session)
            await keys.forget_before(at - KEPT)
            if await keys.claim(row):
                return None
            found = await keys.get(actor, key)
            if found is not None and found.fingerprint != fingerprint:
                raise _used_otherwise(key)
            if found is not None and found.status is not None:
                return _kept(found)
            if await keys.take_over(actor, key, token=token, leased_until=at + LEASE, at=at):
                return None
        raise Conflict(
            f"the request with Idempotency-Key {key!r} is being done; ask again for its answer.",
            {"idempotency_key": key},
        )

    async def _renew(self, actor: str, key: str, token: str) -> None:
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 3)
            with contextlib.suppress(StorageError):
                async with self._database.write() as session:
                    keys = IdempotencyRepository(session)
                    await keys.change(actor, key, token, leased_until=now() + LEASE)

    async def _keep(self, actor: str, key: str, token: str, answer: Answer) -> None:
        async with self._database.write() as session:
            held = await IdempotencyRepository(session).change(
                actor, key, token, status=answer.status, headers=answer.headers, body=answer.body
            )
        if not held:
            log.warning("idempotency.lost", key=key)

    async def _release(self, actor: str, key: str, token: str) -> None:
        async with self._database.write() as session:
            await IdempotencyRepository(session).release(actor, key, token)


def _kept(row: IdempotencyKeyModel) -> Answer:
    return Answer(row.status or 200, dict(row.headers), row.body or "", replayed=True)


def _used_otherwise(key: str) -> InvalidRequest:
    message = "was used for another request; take a new key"
    fault = {"field": "Idempotency-Key", "message": message, "location": "header"}
    return InvalidRequest(f"Idempotency-Key {key!r} {message}.", {"errors": [fault]})
