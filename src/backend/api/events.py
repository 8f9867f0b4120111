"""Progress as server-sent events, which a client goes on with where it was cut off.

Each event's id is its number within the batch; a client that reconnects sends the last one it saw
as `Last-Event-ID`, as browsers do by themselves. The framework sends a comment every 15 s, so that
no proxy takes the connection for dead. Streams end with their batch, or when the server begins to
stop: a server that waits for its connections would otherwise wait for the batch. A browser takes
every end for a cut and connects again; one that has heard how the batch ended is told to stop.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from types import FrameType
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import APIRouter, Depends, Header, HTTPException, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from backend.api.dependencies import Identifier, OpenStudio
from backend.api.problems import problems
from backend.errors import NotFound
from backend.models.batch import ENDED

T = TypeVar("T")

router = APIRouter(prefix="/batches", tags=["batches"])

LastEventId = Annotated[
    int,
    Header(
        alias="Last-Event-ID",
        ge=0,
        lt=2**53,
        description="The last event that was seen; those after it are sent. All there were if left "
        "out.",
    ),
]


class _From(NamedTuple):
    """Which batch is followed, and from which event on."""

    batch_id: str
    event: int


async def _something_to_tell(
    batch_id: Identifier, studio: OpenStudio, last_event_id: LastEventId = 0
) -> _From:
    """Refuse, while there still is a status to give, where there is or will be nothing to tell."""
    batch = (await studio.batches.summary(batch_id)).batch
    if batch.state in ENDED and batch.event_seq <= last_event_id:
        raise HTTPException(HTTPStatus.NO_CONTENT)
    return _From(batch_id, last_event_id)


@router.get(
    "/{batch_id}/events",
    summary="Follow a batch",
    response_class=EventSourceResponse,
    response_description="`item` when an item changes, `state` when the batch does, `end` once it "
    "is over. An event's `data` is JSON, its `id` what `Last-Event-ID` takes.",
    responses={
        204: {"description": "The batch is over, and that was seen: there is nothing to follow."},
        **problems(NotFound),
    },
)
async def follow_batch(
    start: Annotated[_From, Depends(_something_to_tell)], studio: OpenStudio, request: Request
) -> AsyncIterator[ServerSentEvent]:
    """Send what happens to a batch as it happens, from an event on that was seen before."""
    stopping: asyncio.Event = request.app.state.stopping
    async for event in _until(stopping, studio.batches.events(*start)):
        yield ServerSentEvent(id=str(event.seq), event=event.kind, data=dict(event.data))


async def _until(stopping: asyncio.Event, events: AsyncIterator[T]) -> AsyncIterator[T]:
    """Pass events on until there are no more, or everything stops."""
    ends = asyncio.create_task(stopping.wait())
    following: asyncio.Task[T | None] | None = None
    try:
        while True:
            following = asyncio.create_task(_next(events))
            await asyncio.wait((following, ends), return_when=asyncio.FIRST_COMPLETED)
            event = following.result() if following.done() else None
            if event is None:
                return
            yield event
    finally:
        for task in (ends, following):
            if task:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if isinstance(events, AsyncGenerator):
            await events.aclose()


async def _next(events: AsyncIterator[T]) -> T | None:
    return await anext(events, None)


@contextmanager
def on_exit_signals(told: Callable[[], None]) -> Iterator[None]:
    """Be told of SIGINT and SIGTERM beside whoever handles them now.

    Args:
        told: called in the event loop. A server outside the main thread gets no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}

    def heard(number: int, frame: FrameType | None) -> Any:
        loop.call_soon_threadsafe(told)
        return handlers[signal.Signals(number)](number, frame)

    for number in handlers:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
