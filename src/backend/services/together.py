"""Wait for several pieces of work as for one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def together(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Run all at once; return their results in order, once none runs any more.

    `asyncio.gather` returns at the first failure or cancellation and leaves the others running,
    for whom the database may be closed under their feet.

    Raises:
        Exception: the first failure, as it was raised; the others were cancelled and have ended.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return [task.result() for task in tasks]
