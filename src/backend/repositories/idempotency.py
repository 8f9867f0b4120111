"""Queries on requests that must not be done twice."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult, delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from backend.models.idempotency import IdempotencyKeyModel

_Row = IdempotencyKeyModel


class IdempotencyRepository:
    """Keys in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def forget_before(self, when: datetime) -> None:
        """Delete the keys that were first used before a time."""
        await self._changed(delete(_Row).where(_Row.created_at < when))

    async def get(self, actor: str, key: str) -> IdempotencyKeyModel | None:
        """Return a key, as it stands in the database now."""
        return await self._session.get(_Row, (actor, key), populate_existing=True)

    async def claim(self, row: dict[str, Any]) -> bool:
        """Insert a key that is not there yet; return whether it was this call that did."""
        on_sqlite = self._session.get_bind().dialect.name == "sqlite"
        insert = sqlite.insert if on_sqlite else postgresql.insert
        statement = insert(_Row).values(**row).on_conflict_do_nothing().returning(_Row.key)
        return (await self._session.execute(statement)).first() is not None

    async def take_over(
        self, actor: str, key: str, *, token: str, leased_until: datetime, at: datetime
    ) -> bool:
        """Take a key whose lease has run out; return whether it was this call that did."""
        return await self._changed(
            update(_Row)
            .where(
                _Row.actor == actor,
                _Row.key == key,
                _Row.status.is_(None),
                _Row.made.is_(None),
                _Row.leased_until < at,
            )
            .values(token=token, leased_until=leased_until)
        )

    async def change(self, actor: str, key: str, token: str, **values: Any) -> bool:
        """Change a key that is still held under the token; return whether it is."""
        return await self._changed(
            update(_Row)
            .where(_Row.actor == actor, _Row.key == key, _Row.token == token)
            .values(**values)
        )

    async def release(self, actor: str, key: str, token: str) -> None:
        """Delete a key that is still held under the token, unless something was made under it."""
        await self._changed(
            delete(_Row).where(
                _Row.actor == actor,
                _Row.key == key,
                _Row.token == token,
                _Row.status.is_(None),
                _Row.made.is_(None),
            )
        )

    async def _changed(self, statement: Any) -> bool:
        result = await self._session.execute(statement.execution_options(synchronize_session=False))
        return isinstance(result, CursorResult) and result.rowcount == 1
