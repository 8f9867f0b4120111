"""Queries on the captions that contents miss, or that wait to be written better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, bindparam, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from backend.models.base import now
from backend.models.batch import BatchItemModel, BatchModel, ItemState
from backend.models.content import ContentModel
from backend.repositories.queue import CONTENTS, literal_state

Item = BatchItemModel


class Uncaptioned(NamedTuple):
    """A picture without a caption."""

    position: int
    prompt: str
    seed: int
    content_id: str


class BatchCaptionRepository:
    """The captions of batches in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def frontier(self, batch: BatchModel) -> int:
        """Return the position before which all items of a batch have ended."""
        open_ones = [
            await self._session.scalar(
                select(func.min(Item.position)).where(
                    Item.batch_id == batch.id, Item.state == literal_state(state)
                )
            )
            for state in (ItemState.QUEUED, ItemState.RUNNING)
        ]
        return min((p for p in open_ones if p is not None), default=batch.total)

    def hold(self, batch: BatchModel, claimant: str, lease: timedelta) -> bool:
        """Hold a locked batch's captions; `False` where another process does."""
        until = batch.caption_lease_until
        if batch.caption_claimant not in (None, claimant) and until and until > now():
            return False
        batch.caption_claimant, batch.caption_lease_until = claimant, now() + lease
        return True

    def release(self, batch: BatchModel) -> None:
        """Let go of a locked batch's captions."""
        batch.caption_claimant = batch.caption_lease_until = None

    async def uncaptioned(self, batch: BatchModel, frontier: int, limit: int) -> list[Uncaptioned]:
        """Return a batch's next pictures without a caption, in the order of the prompts."""
        statement = (
            select(Item.position, Item.prompt, Item.seed, Item.content_id)
            .join(ContentModel, ContentModel.id == Item.content_id)
            .where(
                Item.batch_id == batch.id,
                Item.position >= batch.caption_position,
                Item.position < frontier,
                ContentModel.caption.is_(None),
            )
            .order_by(Item.position)
            .limit(limit)
        )
        rows = await self._session.execute(statement)
        return [Uncaptioned(n, prompt, seed, str(content)) for n, prompt, seed, content in rows]

    async def keep(self, written: Sequence[Mapping[str, Any]]) -> None:
        """Write captions to their pictures."""
        if written:
            await self._session.execute(
                _CAPTION, [{f"b_{name}": value for name, value in one.items()} for one in written]
            )


class CaptionRepository:
    """The captions of finished contents in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def drafts(self, limit: int) -> list[str]:
        """Return contents whose caption waits for a language model, the newest first."""
        statement = (
            select(ContentModel.id)
            .where(_IS_DRAFT)
            .order_by(ContentModel.captioned_at.desc(), ContentModel.id)
            .limit(limit)
        )
        return list(await self._session.scalars(statement))

    async def replace(self, before: ContentModel, values: Mapping[str, Any]) -> bool:
        """Change a content's caption, unless somebody has changed it since it was read."""
        is_same = (
            ContentModel.caption.is_not_distinct_from(before.caption),
            ContentModel.caption_origin.is_not_distinct_from(before.caption_origin),
        )
        result = await self._session.execute(
            update(ContentModel)
            .where(ContentModel.id == before.id, *is_same)
            .values(dict(values))
            .returning(ContentModel.id)
            .execution_options(synchronize_session=False)
        )
        return result.first() is not None


_IS_DRAFT: ColumnElement[bool] = literal_column("contents.caption_draft")
"""The condition as the partial index has it."""

_CAPTION = (
    update(CONTENTS)
    .where(CONTENTS.c.id == bindparam("b_content_id"))
    .values(
        {
            name: bindparam(f"b_{name}", type_=CONTENTS.c[name].type)
            for name in (
                "caption",
                "caption_origin",
                "caption_detail",
                "caption_draft",
                "captioned_at",
            )
        }
    )
)
