"""OpenAI's list of models: the studio's own, and each persona that can be asked for like one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from backend.api.dependencies import OpenStudio
from backend.api.openai_schemas import ModelList, ModelObject
from backend.api.spoken_errors import openai_errors
from backend.errors import Conflict, ModelNotAvailable
from backend.models.persona import CleanText
from backend.services.subjects import Listed

router = APIRouter(prefix="/v1/models", tags=["openai"])

ModelId = Annotated[
    CleanText, Path(min_length=1, max_length=300, description="As the list has it.")
]


@router.get("", summary="List models and personas, as OpenAI does", responses=openai_errors())
async def list_openai_models(studio: OpenStudio) -> ModelList:
    """Return the models that are usable now, and the personas whose look is approved."""
    return ModelList(data=[_object(one) for one in await studio.subjects.all()])


@router.get(
    "/{model_id:path}",
    summary="Read a model or a persona, as OpenAI does",
    responses=openai_errors(ModelNotAvailable, Conflict),
)
async def get_openai_model(model_id: ModelId, studio: OpenStudio) -> ModelObject:
    """Return one that can be asked for now."""
    return _object(await studio.subjects.get(model_id))


def _object(one: Listed) -> ModelObject:
    return ModelObject(
        id=one.name,
        created=int(one.created.timestamp()) if one.created else 0,
        owned_by=one.card.provider if one.card else "gator",
    )
