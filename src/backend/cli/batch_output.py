"""How a batch and its items read on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.cli.output import print_fields, print_json

if TYPE_CHECKING:
    from backend.bootstrap import Studio
    from backend.models.batch import BatchItemModel
    from backend.models.content import ContentModel
    from backend.services.batch_views import BatchSummaryView

_PAGE = 200


def item_fields(item: BatchItemModel) -> dict[str, Any]:
    """Return what commands tell of an item."""
    return {
        "position": item.position,
        "prompt": item.prompt,
        "seed": item.seed,
        "options": item.options,
        "state": item.state,
        "attempts": item.attempts,
        "device": item.device,
        "error": item.error,
        "content_id": item.content_id,
    }


def print_batch(view: BatchSummaryView, *, as_json: bool) -> None:
    """Print where a batch stands."""
    batch = view.batch
    counts = {state.value: n for state, n in view.counts.items()}
    values: dict[str, Any] = {
        "id": batch.id,
        "persona_id": batch.persona_id,
        "created_by": batch.created_by,
        "created_at": batch.created_at,
        "state": batch.state,
        "state_reason": batch.state_reason,
        "priority": batch.priority,
        "seed": batch.seed,
        "options": batch.options,
        "total": batch.total,
        "counts": counts,
        "rate_per_s": view.rate_per_s,
        "seconds_left": view.seconds_left,
        "cost_usd": float(view.cost_usd),
    }
    if as_json:
        print_json(values)
        return
    told = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    options = ", ".join(f"{name}: {value}" for name, value in batch.options.items())
    print_fields(values | {"counts": told, "options": options})


async def save_pictures(studio: Studio, batch: str, folder: Path) -> None:
    """Write the pictures of a batch into a folder, a page of items at a time."""
    from backend.models.batch import ItemState

    after: int | None = None
    while items := await studio.batches.items(
        batch, limit=_PAGE, after=after, state=ItemState.DONE
    ):
        for item in items:
            content = await studio.contents.get(str(item.content_id))
            await save_picture(studio, item.position, content, folder)
        after = items[-1].position


async def save_picture(studio: Studio, position: int, content: ContentModel, folder: Path) -> Path:
    """Write an item's picture into a folder, named by its position and content."""
    from backend.storage.home import write_bytes

    extension = content.mime.removeprefix("image/")
    path = folder / f"{position:04d}-{content.sha256[:12]}.{extension}"
    write_bytes(path, await studio.blobs.get(content.sha256))
    return path.absolute()
