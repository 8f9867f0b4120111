"""Routes of captions: written, explained, written anew; and of a picture with its caption."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from backend.api.caption_schemas import (
    CaptionCreate,
    CaptionsResponse,
    CaptionText,
    ContentCreate,
    ExplainQuery,
    ExplanationResponse,
    PostedCaption,
)
from backend.api.dependencies import Actor, Identifier, OpenStudio, PersonaId, require_persona
from backend.api.idempotency import DoOnce, answered
from backend.api.problems import problems
from backend.errors import (
    AllDevicesLost,
    Conflict,
    ContentRejected,
    DeviceLost,
    DeviceOutOfMemory,
    GenerationFailed,
    ModelLoadFailed,
    ModelNotAvailable,
    NotFound,
    ProviderError,
    ProviderNotConfigured,
    UnsupportedTask,
)
from backend.models.content import ContentModel, ContentResponse
from backend.services.idempotency import Answer, Claim

router = APIRouter(tags=["content"])


@router.post(
    "/captions",
    summary="Write captions in a persona's voice",
    responses=problems(NotFound, ContentRejected, Conflict, has_body=True),
)
async def create_captions(wanted: CaptionCreate, studio: OpenStudio) -> CaptionsResponse:
    """Write captions, by a language model where one answers, else by the template engine.

    None repeats another, or anything that the persona has said. They are a preview, unless
    `remember` says that the persona has said them now. Every text has passed the gate.
    """
    posts = await studio.captioning.write(
        await require_persona(studio, wanted.persona_id),
        wanted.topics,
        wanted.request(seed=wanted.seed),
        count=wanted.count,
        remember=wanted.remember,
    )
    captions = [
        PostedCaption(prompt=wanted.topics[n // wanted.count], post=n, **caption.as_dict())
        for n, post in enumerate(posts)
        for caption in post.captions.values()
    ]
    return CaptionsResponse(captions=captions, remembered=wanted.remember)


@router.get(
    "/captions/explain",
    summary="Explain how a caption comes to be",
    responses=problems(NotFound, ContentRejected),
)
async def explain_caption(
    query: Annotated[ExplainQuery, Query()], studio: OpenStudio
) -> ExplanationResponse:
    """Tell what the template engine weighs, draws, compares and passes over for a caption.

    No language model is asked, and nothing is kept: with the same seed it is the caption that the
    templates write next.
    """
    await require_persona(studio, query.persona_id)
    explanation = await studio.captioning.explain(query.persona_id, query.request())
    return ExplanationResponse.model_validate(explanation)


@router.post(
    "/personas/{persona_id}/content",
    status_code=201,
    summary="Make a picture and its caption",
    response_model=ContentResponse,
    response_description="The finished content. `Location` leads to it.",
    responses=problems(
        NotFound,
        Conflict,
        ModelNotAvailable,
        UnsupportedTask,
        ModelLoadFailed,
        GenerationFailed,
        DeviceLost,
        DeviceOutOfMemory,
        AllDevicesLost,
        has_body=True,
    ),
)
async def create_content(
    persona_id: PersonaId,
    wanted: ContentCreate,
    studio: OpenStudio,
    actor: Actor,
    once: DoOnce,
    request: Request,
) -> Response:
    """Draw a picture of a persona and write its caption, and answer when both are stored.

    It goes before waiting batches, and is itself a batch of one: whoever stops waiting finds it
    under content later.
    """

    def answer(content: ContentModel) -> Answer:
        place = request.app.url_path_for("get_content", content_id=content.id)
        return answered(ContentResponse.model_validate(content), 201, Location=place)

    async def made(claim: Claim | None) -> Answer:
        terms = wanted.request(prompt=wanted.prompt, seed=wanted.seed)
        options = wanted.image_options()
        persona = await studio.personas.find(persona_id)
        return answer(
            await studio.captions.generate_content(
                persona, terms, actor=actor, claim=claim, **options
            )
        )

    async def again(batch_id: str) -> Answer:
        return answer(await studio.maker.finished(batch_id))

    return await once(wanted.model_dump(mode="json"), made, again)


@router.post(
    "/content/{content_id}/caption/rewrite",
    summary="Have a language model rewrite a caption",
    responses=problems(NotFound, Conflict, ContentRejected, ProviderError, ProviderNotConfigured),
)
async def rewrite_caption(content_id: Identifier, studio: OpenStudio) -> ContentResponse:
    """Replace a caption of the templates' by a language model's; the old one stays in its history.

    What a person wrote, or a language model, is left alone (409).
    """
    return ContentResponse.model_validate(await studio.rewrites.rewrite(content_id))


@router.put(
    "/content/{content_id}/caption",
    summary="Write a caption yourself",
    responses=problems(NotFound, Conflict, has_body=True),
)
async def edit_caption(
    content_id: Identifier, wanted: CaptionText, studio: OpenStudio, actor: Actor
) -> ContentResponse:
    """Put your own words in a caption's place; no machine replaces them.

    The gate's findings stand beside it as remarks, and the old text in its history.
    """
    edited = await studio.rewrites.edit(content_id, wanted.text, actor=actor)
    return ContentResponse.model_validate(edited)
