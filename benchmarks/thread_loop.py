"""A peer of `pool_scaling.py`: `asyncio.gather` over `to_thread`, two pipelines in one process.

Spoken to as `bare_loop.py` is. A pipeline serves one thread at a time, since schedulers hold state.
"""

import asyncio
import json
import sys

from bare_loop import answer, load, render

PIPELINES = 2


async def render_all(pipelines: asyncio.Queue, jobs: list) -> list:
    async def one(job):
        pipeline = await pipelines.get()
        try:
            return await asyncio.to_thread(render, pipeline, **job)
        finally:
            pipelines.put_nowait(pipeline)

    return await asyncio.gather(*map(one, jobs))


async def main(folder: str) -> None:
    pipelines: asyncio.Queue = asyncio.Queue()
    for _ in range(PIPELINES):
        pipelines.put_nowait(load(folder))
    answer("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        answer(await render_all(pipelines, json.loads(line)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
