"""Captions of finished contents, written anew: by a language model, or by a person.

Invariants: what a person wrote is never replaced by a machine; what somebody changed meanwhile is
left alone; the text that was there stays in the caption's history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from backend.captions.gate import judge
from backend.captions.memory import Said
from backend.captions.platforms import platform_named
from backend.database.engine import Database
from backend.errors import (
    Conflict,
    ContentRejected,
    GatorError,
    NotFound,
    ProviderError,
    StorageError,
)
from backend.logs import get_logger
from backend.models.account import Actor
from backend.models.base import now
from backend.models.content import ContentModel
from backend.models.persona import PersonaModel
from backend.repositories.captions import CaptionRepository
from backend.repositories.contents import ContentRepository
from backend.repositories.personas import PersonaRepository
from backend.services.caption_memory import SessionMemory
from backend.services.caption_posts import Origin, caption_values
from backend.services.content_generation_service import (
    ContentGenerationService,
    GenerationRequest,
    brief_of,
)

HISTORY = 20
"""How many former texts a caption keeps."""

PAUSE_S = 30.0
"""How long the background waits between looks at the drafts."""

GROUP = 20
"""How many drafts it looks at in one go."""

log = get_logger(__name__)


class CaptionRewrites:
    """Rewrites captions, on request and in the background.

    Args:
        database: where the contents are.
        captions: writes.
        mode: whether drafts are rewritten without anybody's asking.
        pause_s: how long to wait between looks at the drafts.
    """

    def __init__(
        self,
        database: Database,
        captions: ContentGenerationService,
        mode: Literal["off", "auto"] = "off",
        *,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._database = database
        self._captions = captions
        self._mode = mode
        self._pause_s = pause_s
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Rewrite drafts in the background from now on, where the settings say so."""
        if self._mode == "auto" and self._loop is None and self._captions.chain.rungs:
            self._loop = asyncio.create_task(self._run(), name="caption-rewrites")

    async def stop(self) -> None:
        """Leave the drafts alone; what is half written is dropped."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
            self._loop = None

    async def rewrite(self, content_id: str) -> ContentModel:
        """Have a language model write a caption that the templates wrote.

        Raises:
            NotFound: there is no such content.
            Conflict: its caption is not the templates', or somebody has changed it meanwhile.
            ProviderError: no language model is configured, or none answered.
            ContentRejected: what it wrote did not pass the gate; the old caption stays.
        """
        content, persona = await self._read(content_id)
        if content.caption_origin != Origin.TEMPLATE.value:
            who = content.caption_origin or "nobody"
            raise Conflict(
                f"the caption of {content_id} is by {who}, not by the templates; it stays.",
                {"content": content_id, "origin": content.caption_origin},
            )
        detail = content.caption_detail or {}
        terms = detail.get("terms") or {}
        request = GenerationRequest(persona_id=persona.id, prompt=content.prompt, **terms)
        post = await self._captions.rewritten(persona, request)
        return await self._replace(content, post.said, caption_values(post, terms))

    async def edit(self, content_id: str, text: str, *, actor: Actor) -> ContentModel:
        """Put a person's own words in a caption's place; the gate only remarks on them.

        Raises:
            NotFound: there is no such content.
            Conflict: it shows nobody, or somebody has changed the caption meanwhile.
        """
        content, persona = await self._read(content_id)
        terms = (content.caption_detail or {}).get("terms") or {}
        request = GenerationRequest(prompt=content.prompt, **terms)
        memory = await self._captions.recall(persona.id)
        brief = brief_of(persona, request, platform_named(request.platform))
        values = {
            "caption": text,
            "caption_origin": Origin.PERSON.value,
            "caption_draft": False,
            "caption_detail": {
                "origin": Origin.PERSON.value,
                "by": actor.name,
                "findings": [asdict(finding) for finding in judge(text, brief, memory)],
                **({"terms": terms} if terms else {}),
            },
        }
        return await self._replace(content, Said(text, Origin.PERSON.value), values)

    async def drafts(self, limit: int) -> list[str]:
        """Return contents whose caption waits for a language model, the newest first."""
        async with self._database.read() as session:
            return await CaptionRepository(session).drafts(limit)

    async def rewrite_each(
        self, content_ids: Sequence[str]
    ) -> list[tuple[str, ContentModel | GatorError]]:
        """Rewrite captions one after the other; return what became of each.

        Where no language model answers, that one is the last.
        """
        outcomes: list[tuple[str, ContentModel | GatorError]] = []
        for content_id in content_ids:
            try:
                outcomes.append((content_id, await self.rewrite(content_id)))
            except (Conflict, NotFound, ContentRejected, ProviderError) as exc:
                log.info("caption.not_rewritten", content=content_id, reason=exc.message)
                outcomes.append((content_id, exc))
                if isinstance(exc, ProviderError):
                    break
        return outcomes

    async def sweep(self) -> int:
        """Rewrite some drafts, as far as a language model answers; return how many.

        A draft whose rewriting the gate refuses stays as it is and is not tried again.
        """
        outcomes = await self.rewrite_each(await self.drafts(GROUP))
        for content_id, outcome in outcomes:
            if isinstance(outcome, ContentRejected):
                await self._settle(content_id, outcome)
        return sum(isinstance(outcome, ContentModel) for _, outcome in outcomes)

    async def _run(self) -> None:
        while True:
            rewritten = 0
            try:
                rewritten = await self.sweep()
            except StorageError as exc:
                log.warning("captions.storage", reason=exc.message)
            except Exception:
                log.exception("captions.rewrite_failed")
            if rewritten < GROUP:
                await asyncio.sleep(self._pause_s)

    async def _read(self, content_id: str) -> tuple[ContentModel, PersonaModel]:
        async with self._database.read() as session:
            content = await ContentRepository(session).get(content_id)
            if content.persona_id is None:
                raise Conflict(
                    f"content {content_id} shows nobody, so nobody speaks.", {"content": content_id}
                )
            return content, await PersonaRepository(session).get(content.persona_id)

    async def _replace(
        self, before: ContentModel, said: Said, values: Mapping[str, Any]
    ) -> ContentModel:
        """Change a caption, keep what it was, and remember the new one, all or nothing."""
        detail = {**values["caption_detail"], "history": _history(before)}
        changed = {**values, "caption_detail": detail, "captioned_at": now()}
        async with self._database.write() as session:
            memory = SessionMemory(session)
            is_new = await memory.remember(str(before.persona_id), [said])
            by_person = said.origin == Origin.PERSON.value
            if not (is_new or by_person):
                raise Conflict("others say the same at this moment; repeat it.")
            if not await CaptionRepository(session).replace(before, changed):
                raise Conflict(
                    f"somebody has changed the caption of {before.id} meanwhile; it stays.",
                    {"content": before.id},
                )
        async with self._database.read() as session:
            return await ContentRepository(session).get(before.id)

    async def _settle(self, content_id: str, refusal: GatorError) -> None:
        """Let a draft be, and note beside it why it was not rewritten."""
        content, _ = await self._read(content_id)
        detail = {**(content.caption_detail or {}), "rewrite_refused": refusal.message}
        async with self._database.write() as session:
            await CaptionRepository(session).replace(
                content, {"caption_detail": detail, "caption_draft": False}
            )


def _history(before: ContentModel) -> list[dict[str, Any]]:
    """Return a caption's former texts with the one that is being replaced, the oldest first."""
    detail = before.caption_detail or {}
    if before.caption is None:
        return list(detail.get("history", []))
    former = {
        "text": before.caption,
        "origin": before.caption_origin,
        "written_at": before.captioned_at.isoformat() if before.captioned_at else None,
        "detail": {name: value for name, value in detail.items() if name != "history"},
    }
    return [*detail.get("history", []), former][-HISTORY:]
