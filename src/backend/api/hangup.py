"""Work that ends with its client: whoever hangs up has nothing drawn for them any more."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request

from backend.errors import RenderCancelled

T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do the work of a request whose body was read, and cancel it when the client hangs up.

    Raises:
        RenderCancelled: the client is gone; nobody reads this.
    """
    working = asyncio.create_task(work)
    hanging_up = asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait((working, hanging_up), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise RenderCancelled("the client hung up.")
        return working.result()
    finally:
        for task in (working, hanging_up):
            task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await asyncio.gather(working, hanging_up)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
