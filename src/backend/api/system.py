"""Routes of the machine room: is it alive, can it work, and with what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import RedirectResponse

from backend.api.dependencies import OpenStudio, count_devices
from backend.api.problems import problems
from backend.api.schemas import Health, Listing, ModelResponse, Readiness
from backend.bootstrap import Studio
from backend.errors import GatorError, NotReady
from backend.models.spending import CloudSpendingResponse
from backend.services.batch_service import MAX_ITEMS
from backend.services.together import together

CHECK_TIMEOUT_S = 20.0
VERSION = version("gator-studio")

root = APIRouter(tags=["system"])
router = APIRouter(tags=["system"])


@root.get("/", include_in_schema=False)
async def home() -> RedirectResponse:
    """Lead a person to the API's documents."""
    return RedirectResponse("/docs")


@root.get("/healthz", summary="Is the process alive?", responses=problems(bare=True))
async def healthz() -> Health:
    """Answer; nothing is checked beyond that."""
    return Health(version=VERSION)


@root.get("/readyz", summary="Can the studio work?", responses=problems(NotReady, bare=True))
async def readyz(studio: OpenStudio) -> Readiness:
    """Check that the database answers, that blobs can be written, and that devices are there."""
    checks = await together(
        _check(studio.database.ping()), _check(studio.blobs.probe()), _check(_devices(studio))
    )
    named = dict(zip(("database", "blobs", "devices"), checks, strict=True))
    faults = [f"{name}: {said}" for name, (fine, said) in named.items() if not fine]
    said_by = {name: said for name, (_, said) in named.items()}
    if faults:
        raise NotReady(" ".join(faults), {"checks": said_by})
    return Readiness(checks=said_by)


@router.get("/models", summary="List image models", responses=problems(bare=True))
async def list_models(studio: OpenStudio) -> Listing[ModelResponse]:
    """Return the image models there are, usable or not."""
    return Listing(items=[ModelResponse.model_validate(card) for card in studio.models.cards()])


@router.get(
    "/cloud/spending",
    summary="Read what cloud images cost",
    responses=problems(),
)
async def get_cloud_spending(
    studio: OpenStudio,
    count: Annotated[int, Query(ge=1, le=MAX_ITEMS, description="Of how many images?")] = 1,
) -> CloudSpendingResponse:
    """Return what was spent this month, what more images would cost, and whether they may."""
    return await studio.spending.report(count)


async def _devices(studio: Studio) -> str:
    return ", ".join(device.name for device in await count_devices(studio))


async def _check(work: Awaitable[str | None]) -> tuple[bool, str]:
    """Return whether a check passed, and what it said."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return True, await work or "ok"
    except GatorError as exc:
        return False, exc.message
    except TimeoutError:
        return False, f"no answer within {CHECK_TIMEOUT_S:g} s."
