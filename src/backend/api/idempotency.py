"""`Idempotency-Key`: a request that is sent again is answered again, and done once."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from backend.api.dependencies import Actor, OpenStudio
from backend.bootstrap import Studio
from backend.services.idempotency import Again, Answer, Work

REPLAYED = "Idempotent-Replayed"

_Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="A name of your own for this request, kept for 24 hours: sent again with the "
        "same body it gets the first one's answer, with another body 422, and 409 while the first "
        "is being done.",
    ),
]


class Once:
    """Does a request's work once."""

    def __init__(self, request: Request, studio: Studio, actor: str, key: str | None) -> None:
        self._request = request
        self._studio = studio
        self._actor = actor
        self._key = key

    async def __call__(self, asked: Any, work: Work, again: Again) -> Response:
        """Answer by the work, or as it was answered before.

        Args:
            asked: the request's body, as JSON values.
            work: what is to be done once.
            again: makes the answer for what the work made, where the first answer was lost.
        """
        route = [self._request.method, self._request.url.path]
        keys = self._studio.idempotency
        answer = await keys.once(self._actor, self._key, [*route, asked], work, again)
        headers = answer.headers | ({REPLAYED: "true"} if answer.replayed else {})
        return Response(answer.body, answer.status, headers, media_type="application/json")


def answered(model: BaseModel, status: int, **headers: str) -> Answer:
    """Make the answer of a model; underscores in the names of headers are hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, model.model_dump_json(by_alias=True))


def _once(request: Request, studio: OpenStudio, actor: Actor, key: _Key = None) -> Once:
    return Once(request, studio, actor.name, key)


DoOnce = Annotated[Once, Depends(_once)]
