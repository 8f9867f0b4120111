"""The application: routes, edge and lifespan put together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.types import Message, Receive, Scope, Send

from backend.api import (
    base_image_views,
    base_images,
    batches,
    captions,
    cards,
    content,
    devices,
    events,
    metrics,
    openai_images,
    openai_models,
    passing,
    personas,
    prompts,
    system,
    web_ui,
)
from backend.api.batch_body import MAX_LINES_BYTES
from backend.api.batch_schemas import BatchCreate
from backend.api.events import on_exit_signals
from backend.api.metrics import Metrics
from backend.api.middleware import BodyLimit, LocalGuard, RequestContext
from backend.api.multipart import MAX_FILE_BYTES, OVERHEAD_BYTES
from backend.api.problems import Problem, install_handlers
from backend.api.runner import running
from backend.bootstrap import open_studio
from backend.cards.limits import MAX_FILE_BYTES as MAX_CARD_BYTES
from backend.config import Settings, load_settings
from backend.errors import GatorError

DESCRIPTION = """\
Gator makes pictures and captions of personas whose look was approved.

A persona gets a base image, the base image is approved, and then batches of prompts become pictures
of that persona, each with a caption. Errors are `application/problem+json` (RFC 9457).
"""
LARGER_BODIES = (
    (
        re.compile(r"/api/v1/personas/[^/]+/base-image/upload"),
        MAX_FILE_BYTES + OVERHEAD_BYTES,
    ),
    (re.compile(r"/api/v1/personas/import"), MAX_CARD_BYTES + OVERHEAD_BYTES),
    (re.compile(r"/api/v1/batches"), MAX_LINES_BYTES),
    (re.compile(r"/v1/images/edits"), MAX_FILE_BYTES + OVERHEAD_BYTES),
)
TAGS = [
    {"name": "personas", "description": "Who is shown and who speaks."},
    {"name": "base image", "description": "From no image to an approved look."},
    {
        "name": "batches",
        "description": "Many prompts, each of which ends as a picture or an error.",
    },
    {"name": "content", "description": "Finished pictures, and captions."},
    {"name": "openai", "description": "Pictures as OpenAI's clients ask for them."},
    {"name": "web UI", "description": "Pictures as scripts for AUTOMATIC1111 ask for them."},
    {"name": "system", "description": "Health, models, devices and figures."},
]


_ROOMS = (
    personas,
    cards,
    base_image_views,
    base_images,
    batches,
    events,
    prompts,
    content,
    captions,
    passing,
    system,
    devices,
)


_OTHERS_FORMS = (openai_models, openai_images, web_ui)
"""Routes in the form of other tools' APIs, at the paths that these have."""


class GatorApi(FastAPI):
    """FastAPI with problems and bodies in its document, and a start that fails in words."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; a studio that refuses to open is told of by its message, not by a traceback."""

        async def worded(message: Message) -> None:
            refusal = getattr(self.state, "refusal", None)
            if message["type"] == "lifespan.startup.failed" and refusal:
                message = {**message, "message": refusal}
            await send(message)

        await super().__call__(scope, receive, worded if scope["type"] == "lifespan" else send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        schemas = document["components"]["schemas"]
        if "Problem" not in schemas:
            for model in (Problem, BatchCreate):  # those that no route's signature names
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
        return document


def create_app(settings: Settings) -> FastAPI:
    """Build the API of one studio, which opens with the application and closes with it.

    Args:
        settings: what the user configured.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                studio = await stack.enter_async_context(open_studio(settings))
            except GatorError as exc:
                app.state.refusal = exc.message
                raise
            app.state.studio = studio
            app.state.stopping = asyncio.Event()
            app.state.metrics = Metrics(system.VERSION)
            studio.models.observe(app.state.metrics.observe)
            await stack.enter_async_context(running(studio))
            await stack.enter_async_context(studio.passing.sweeping())
            stack.enter_context(on_exit_signals(app.state.stopping.set))
            yield

    app = GatorApi(
        title="Gator",
        version=system.VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        generate_unique_id_function=_operation_id,
        lifespan=lifespan,
        middleware=[
            Middleware(RequestContext),
            Middleware(LocalGuard),
            Middleware(BodyLimit, larger=LARGER_BODIES),
        ],
    )
    install_handlers(app)
    v1 = APIRouter(prefix="/api/v1")
    for module in _ROOMS:
        v1.include_router(module.router)
    app.include_router(system.root)
    app.include_router(metrics.router)
    app.include_router(v1)
    for module in _OTHERS_FORMS:
        app.include_router(module.router)
    return app


def configured_app() -> FastAPI:
    """Build the API from the environment; the factory that `gator serve` names to uvicorn."""
    return create_app(load_settings())


def _operation_id(route: APIRoute) -> str:
    return route.name
