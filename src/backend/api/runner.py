"""The life of what goes on in the background of the application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from backend.bootstrap import Studio
from backend.services.batch_runner import BatchRunner

__all__ = ["BatchRunner", "running"]


@asynccontextmanager
async def running(studio: Studio) -> AsyncIterator[BatchRunner]:
    """Run the studio's batches, and rewrite drafts of captions, while the block lasts."""
    await studio.runner.start()
    await studio.rewrites.start()
    try:
        yield studio.runner
    finally:
        await studio.rewrites.stop()
        await studio.runner.stop()
