"""Routes of prompts: what a template makes, before anything is made of it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from backend.api.batch_schemas import PromptsPreview, PromptsPreviewed
from backend.api.dependencies import OpenStudio
from backend.api.problems import problems

router = APIRouter(prefix="/prompts", tags=["batches"])


@router.post("/preview", summary="Look at what a template makes", responses=problems(has_body=True))
async def preview_prompts(wanted: PromptsPreview, studio: OpenStudio) -> PromptsPreviewed:
    """Count a template's combinations exactly, and return the first prompts of it."""
    made = await asyncio.to_thread(
        studio.prompts.preview,
        wanted.template,
        sample=wanted.sample,
        seed=wanted.seed,
        limit=wanted.limit,
    )
    return PromptsPreviewed(count=made.count, total=made.total, prompts=made.prompts)
