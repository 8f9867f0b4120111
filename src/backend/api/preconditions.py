"""Decided on what one saw: entity tags of personas and base images, and `If-Match`.

A persona and its base image share one revision, and so one tag.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from backend.api.dependencies import OpenStudio, PersonaId
from backend.bootstrap import Studio
from backend.errors import PreconditionFailed, PreconditionRequired

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')

_IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description="The `ETag` of what you decided on, or `*`. 428 without, 412 if it is stale.",
        examples=['"3"'],
    ),
]


def etag(revision: int) -> str:
    """Return the strong tag of a revision."""
    return f'"{revision}"'


def tagged(response: Response, revision: int) -> None:
    """Put the tag of a revision on an answer."""
    response.headers["ETag"] = etag(revision)


async def expected_revision(studio: Studio, persona_id: str, if_match: str | None) -> int | None:
    """Return the revision that a change was decided on; `None` where any will do.

    Raises:
        PreconditionRequired: there is no `If-Match`.
        PreconditionFailed: it names other revisions than the current one.
    """
    if if_match is None or not if_match.strip():
        raise PreconditionRequired(
            "say in If-Match which ETag this was decided on, or `*`; GET the persona or its base "
            "image to see the current one."
        )
    if if_match.strip() == "*":
        return None
    current = (await studio.personas.find(persona_id)).revision
    strong = {tag for weak, tag in _TAG.findall(if_match) if not weak}
    if str(current) not in strong:
        raise PreconditionFailed(
            f"the current ETag is {etag(current)}, not {if_match[:200]}: somebody changed it "
            "meanwhile. Read it again and decide anew.",
            {"etag": etag(current)},
        )
    return current


def if_match(request: Request, _documented: _IfMatch = None) -> str | None:
    """Return all `If-Match` headers as one; none is `None`."""
    return ", ".join(request.headers.getlist("if-match")) or None


IfMatch = Annotated[str | None, Depends(if_match)]


async def _expected(persona_id: PersonaId, studio: OpenStudio, given: IfMatch) -> int | None:
    return await expected_revision(studio, persona_id, given)


ExpectedRevision = Annotated[int | None, Depends(_expected)]
"""Checked before the body is: first 428, then 412."""
