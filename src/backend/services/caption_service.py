"""Captions on request: written as a preview or to be kept, and explained."""

from __future__ import annotations

from collections.abc import Sequence

from backend.captions.memory import CaptionMemory, Memory
from backend.captions.platforms import platform_named
from backend.database.engine import Database
from backend.errors import Conflict
from backend.models.persona import PersonaModel
from backend.repositories.personas import PersonaRepository
from backend.services.caption_explanation import Explanation, explained
from backend.services.caption_posts import Post
from backend.services.caption_writing import Past
from backend.services.content_generation_service import (
    ContentGenerationService,
    GenerationRequest,
    brief_of,
)

TRIES = 5
"""How often a caption is written anew that another process has said meanwhile."""


class CaptionService:
    """What personas could say, and what they are to have said.

    Args:
        database: where the personas are.
        captions: writes.
        memory: what personas said.
    """

    def __init__(
        self, database: Database, captions: ContentGenerationService, memory: CaptionMemory
    ) -> None:
        self._database = database
        self._captions = captions
        self._memory = memory

    async def write(
        self,
        name_or_id: str,
        prompts: Sequence[str],
        terms: GenerationRequest | None = None,
        *,
        count: int = 1,
        remember: bool = False,
    ) -> list[Post]:
        """Write posts for a persona; none repeats another, or anything that was said before.

        With a seed the n-th post on a prompt has `seed + n`, so a longer run begins alike.

        Args:
            name_or_id: who speaks.
            prompts: what about.
            terms: the platforms, the seed and whatever else holds for all of them.
            count: how many on each prompt.
            remember: whether the persona has said them from now on; otherwise they are a preview,
                which changes nothing.

        Raises:
            NotFound: there is no such persona.
            InvalidRequest: a platform is not known.
            ContentRejected: nothing passed the gate; `findings` says why.
        """
        persona = await self._persona(name_or_id)
        memory = await self._captions.recall(persona.id)
        terms = terms or GenerationRequest()
        posts = []
        for prompt in prompts:
            for n in range(count):
                seed = None if terms.seed is None else terms.seed + n
                request = terms.model_copy(
                    update={"persona_id": persona.id, "prompt": prompt, "seed": seed}
                )
                posts.append(await self._next(persona, request, memory, remember=remember))
        return posts

    async def explain(self, name_or_id: str, request: GenerationRequest) -> Explanation:
        """Tell how the templates come to a caption; no language model is asked, nothing kept.

        Raises:
            NotFound: there is no such persona.
            InvalidRequest: the platform is not known.
            ContentRejected: nothing passed the gate; `findings` says why.
        """
        persona = await self._persona(name_or_id)
        brief = brief_of(persona, request, platform_named(request.platform))
        past = Past(await self._captions.recall(persona.id), persona.id, self._memory)
        return await explained(brief, past, self._captions.template_service.library)

    async def _persona(self, name_or_id: str) -> PersonaModel:
        async with self._database.read() as session:
            return await PersonaRepository(session).find(name_or_id)

    async def _next(
        self, persona: PersonaModel, request: GenerationRequest, memory: Memory, *, remember: bool
    ) -> Post:
        for _ in range(TRIES):
            post = await self._captions.post(persona, request, memory=memory)
            if not remember or await self._memory.remember(persona.id, [post.said]):
                memory.add(post.said)
                return post
            memory.forbid(post.main.text)
        raise Conflict(f"others say the same for {persona.name} at this moment; repeat it.")
