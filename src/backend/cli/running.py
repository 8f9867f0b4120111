"""Open the studio for one command and close it again, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from backend.bootstrap import Studio

T = TypeVar("T")


def in_studio(work: Callable[[Studio], Awaitable[T]], *, cpu_slots: int = 1) -> T:
    """Run one piece of work in an open studio.

    Args:
        work: is given the studio.
        cpu_slots: how many CPU slots `GATOR_DEVICES=auto` gives on a machine without a GPU.
    """
    from backend.bootstrap import open_studio
    from backend.config import load_settings
    from backend.logs import configure_logs

    settings = load_settings()
    configure_logs(settings.log_level, as_json=settings.log_json)

    async def opened() -> T:
        async with open_studio(settings, cpu_slots=cpu_slots) as studio:
            return await work(studio)

    return asyncio.run(opened())
