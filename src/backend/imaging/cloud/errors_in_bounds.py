"""Read no more of a provider's error than anybody would read of it.

The SDK reads the body of an error whole before it raises. Here the body ends at a limit, whatever
the other side goes on sending; and it is not inflated, since few bytes can inflate to many.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import httpx2

MAX_ERROR_BYTES = 64 * 1024


async def bound_error(response: httpx2.Response) -> None:
    """Shorten an error's body, before anybody reads it; for a client's hook on responses."""
    if response.is_error:
        response.headers.pop("content-encoding", None)
        response.stream = _Beginning(cast(httpx2.AsyncByteStream, response.stream))


class _Beginning(httpx2.AsyncByteStream):
    """The first bytes of a stream."""

    def __init__(self, whole: httpx2.AsyncByteStream) -> None:
        self._whole = whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_ERROR_BYTES
        async for piece in self._whole:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                return

    async def aclose(self) -> None:
        await self._whole.aclose()
