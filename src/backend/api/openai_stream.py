"""A picture as OpenAI streams it: small pictures of how far it is, then the picture itself.

`partial_images` is how many at most: where the model has taken a third and two thirds of its steps
for two of them. They are previews, drawn from the latents, at most 128 pixels a side, in the format
of the picture; a model's first picture since its worker came up has none, nor has one that is
finished within half a second. What fails after the first event is an `error` event, which OpenAI's
SDKs raise as an `APIError`. A comment every 15 s keeps proxies from taking the line for dead.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Literal

from backend.api.dialects import openai_body
from backend.api.openai_answers import (
    encoded,
    gator_image,
    quality_of,
    revised_prompt,
    usage_of,
)
from backend.api.openai_schemas import ImageWish
from backend.api.problems import UNFORESEEN
from backend.errors import GatorError
from backend.imaging.thumbnails import recoded
from backend.logs import get_logger
from backend.services.interactive import InteractivePictures, MadePicture, Plan

KEEP_ALIVE_S = 15.0
NO_TOKENS = {
    "input_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""A stream's last event has to have `usage`; models here count no tokens."""

Action = Literal["image_generation", "image_edit"]

log = get_logger(__name__)


async def events(
    pictures: InteractivePictures, plan: Plan, wanted: ImageWish, action: Action
) -> AsyncIterator[bytes]:
    """Draw one picture and yield server-sent events; whoever stops reading stops the drawing."""
    news: asyncio.Queue[bytes | None] = asyncio.Queue()
    post = asyncio.get_running_loop().call_soon_threadsafe
    watch = _Partials(wanted.partial_images or 0, lambda shown: post(news.put_nowait, shown))
    drawing = asyncio.create_task(pictures.make(plan, watch if wanted.partial_images else None))
    drawing.add_done_callback(_nothing_unread)
    drawing.add_done_callback(lambda _: news.put_nowait(None))
    told = _Told(action, wanted, plan)
    try:
        while not drawing.done() or not news.empty():
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    shown = await news.get()
            except TimeoutError:
                yield b": keep-alive\n\n"
                continue
            if shown is not None:
                yield await told.partial(shown)
        yield told.end(drawing)
    finally:
        drawing.cancel()


def _nothing_unread(done: asyncio.Task[Any]) -> None:
    """Look at how a task ended, since nobody may come to read it."""
    if not done.cancelled():
        done.exception()


class _Partials:
    """Lets through as many small pictures as are wanted, evenly over the steps."""

    def __init__(self, count: int, post: Callable[[bytes], object]) -> None:
        self._count = count
        self._post = post
        self._shown = 0

    def __call__(self, done: int, total: int, preview: bytes | None) -> None:
        due = (self._shown + 1) / (self._count + 1)
        if preview is None or self._shown >= self._count or done / total < due:
            return
        self._shown += 1
        with suppress(RuntimeError):  # the loop is closed, as is the studio
            self._post(preview)


class _Told:
    """The events of one picture."""

    def __init__(self, action: Action, wanted: ImageWish, plan: Plan) -> None:
        self._action = action
        self._format = wanted.output_format or "png"
        self._quality = quality_of(wanted)
        width = plan.options.get("width") or plan.card.width
        height = plan.options.get("height") or plan.card.height
        self._size = wanted.size if wanted.size not in (None, "auto") else f"{width}x{height}"
        self._end_user = wanted.end_user
        self._partials = 0

    async def partial(self, preview: bytes) -> bytes:
        shown = await asyncio.to_thread(recoded, preview, self._format)
        index, self._partials = self._partials, self._partials + 1
        return self._event(
            "partial_image", encoded(shown), self._format, self._size, partial_image_index=index
        )

    def end(self, drawing: asyncio.Task[list[MadePicture]]) -> bytes:
        try:
            (one,) = drawing.result()
        except GatorError as exc:
            log.warning("stream.failed", code=exc.code, reason=exc.message)
            return _sse("error", {"type": "error", **openai_body(exc)})
        except Exception:  # the API's edge: logged in full, told in brief
            log.exception("stream.crashed")
            return _sse("error", {"type": "error", **openai_body(GatorError(UNFORESEEN))})
        usage = usage_of([one])
        return self._event(
            "completed",
            encoded(one.image["image_data"]),
            one.image["format"],
            f"{one.image['width']}x{one.image['height']}",
            usage=usage.model_dump() if usage else NO_TOKENS,
            revised_prompt=revised_prompt(one.image),
            safety_identifier=self._end_user,
            gator=gator_image(one).model_dump(mode="json"),
        )

    def _event(
        self, kind: str, data: str, file_format: str, size: str | None, **more: Any
    ) -> bytes:
        name = f"{self._action}.{kind}"
        said = {
            "type": name,
            "b64_json": data,
            "background": "opaque",
            "created_at": int(time.time()),
            "output_format": file_format,
            "quality": self._quality,
            "size": size,
        }
        return _sse(name, said | {k: v for k, v in more.items() if v is not None})


def _sse(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=True, default=str)}\n\n".encode()
