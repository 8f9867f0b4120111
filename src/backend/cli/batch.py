"""`gator batch`: ask for many pictures, follow them, stop them, go on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli.batch_output import item_fields, print_batch, save_pictures
from backend.cli.new_batch import create
from backend.cli.output import AsJson, print_json, print_line, print_note, print_table

if TYPE_CHECKING:
    from backend.bootstrap import Studio
    from backend.services.batch_views import BatchEvent, BatchSummaryView

app = typer.Typer(
    help="Ask for batches, follow them, cancel, pause and go on with them.", no_args_is_help=True
)
LOOK_EVERY_S = 0.3
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="A batch's id.")]

app.command()(create)


@app.command("list")
def list_batches(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many at most.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out first.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List batches, newest first."""
    from backend.cli.running import in_studio

    found, total = in_studio(lambda studio: studio.batches.page(limit=limit, offset=offset))
    rows: list[dict[str, Any]] = [
        {
            "id": batch.id,
            "state": batch.state,
            "counts": {state.value: n for state, n in batch.counts.items()},
            "total": batch.total,
            "priority": batch.priority,
            "created_by": batch.created_by,
            "created_at": batch.created_at,
        }
        for batch in found
    ]
    if as_json:
        print_json({"batches": rows, "total": total})
        return
    print_table(
        ("batch", "state", "done", "failed", "of", "at"),
        (
            (r["id"], r["state"], r["counts"]["done"], r["counts"]["failed"], r["total"],
             f"{r['created_at']:%m-%d %H:%M}")
            for r in rows
        ),
    )  # fmt: skip


@app.command()
def show(batch: BatchId, as_json: AsJson = False) -> None:
    """Show where a batch stands, how fast it goes and what it costs."""
    from backend.cli.running import in_studio

    print_batch(in_studio(lambda studio: studio.batches.summary(batch)), as_json=as_json)


@app.command()
def items(
    batch: BatchId,
    state: Annotated[
        str | None, typer.Option(help="Only queued, running, done, failed or cancelled ones.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many at most.")] = 100,
    after: Annotated[
        int | None, typer.Option(min=0, help="Only those behind this position.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List a batch's items in order."""
    from backend.cli.running import in_studio
    from backend.models.batch import ItemState

    known = [one.value for one in ItemState]
    if state is not None and state not in known:
        raise typer.BadParameter(f"{state!r} is none of {', '.join(known)}.", param_hint="--state")
    wanted = None if state is None else ItemState(state)
    found = in_studio(
        lambda studio: studio.batches.items(batch, limit=limit, after=after, state=wanted)
    )
    rows = [item_fields(item) for item in found]
    if as_json:
        print_json({"items": rows})
        return
    print_table(
        ("#", "state", "device", "attempts", "prompt", "error"),
        (
            (r["position"], r["state"], r["device"], r["attempts"], r["prompt"],
             (r["error"] or {}).get("message"))
            for r in rows
        ),
    )  # fmt: skip


@app.command()
def watch(batch: BatchId, as_json: AsJson = False) -> None:
    """Attach to a batch and follow it to its end; Ctrl-C lets go of it, and it goes on."""
    from backend.cli.progress import StageBars
    from backend.cli.running import in_studio
    from backend.models.batch import ENDED, BatchState

    async def work(studio: Studio) -> BatchSummaryView:
        view = await studio.batches.summary(batch)
        if view.batch.state == BatchState.QUEUED:
            print_note(
                f"it waits: for its turn, or for a `gator serve`; without one, "
                f"`gator batch run {batch}` draws it."
            )
        with StageBars() as bars:
            bars.start("items", view.batch.total)
            bars.reach("items", _over(view))
            if view.batch.state not in ENDED:
                async for _ in _now_and_then(studio.batches.events(batch, view.batch.event_seq)):
                    bars.reach("items", _over(await studio.batches.summary(batch)))
        return await studio.batches.summary(batch)

    print_batch(in_studio(work), as_json=as_json)


@app.command()
def run(
    batch: BatchId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder for the pictures.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a batch here, without a server; beside one, both share it. Ctrl-C keeps what is done."""
    from backend.cli.running import in_studio
    from backend.models.batch import BatchState

    async def work(studio: Studio) -> BatchSummaryView:
        await _run_here(studio, batch)
        if output:
            await save_pictures(studio, batch, output)
        return await studio.batches.summary(batch)

    view = in_studio(work)
    print_batch(view, as_json=as_json)
    if view.batch.state == BatchState.PAUSED:
        print_note(f"it is paused: {view.batch.state_reason or 'somebody wished so'}")
        print_note(f"`gator batch resume {batch}` lets it go on.")
    if view.batch.state == BatchState.PAUSED or not view.batch.items_done:
        raise typer.Exit(1)


async def _run_here(studio: Studio, batch: str) -> None:
    from backend.cli.progress import StageBars

    before = await studio.batches.summary(batch)
    with StageBars() as bars:
        bars.start("images", before.batch.total)
        bars.reach("images", _over(before))
        if before.batch.captions:
            bars.start("captions", before.batch.total)
            bars.reach("captions", before.batch.caption_position)
        await studio.runner.run_until_finished([batch], bars.advance)


@app.command()
def cancel(
    batch: Annotated[str | None, typer.Argument(metavar="BATCH", help="A batch's id.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of yours instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """End a batch: what waits is cancelled, what is being drawn stops within a step."""
    from backend.bootstrap import LOCAL_OWNER
    from backend.cli.running import in_studio

    if (batch is None) != everything:
        raise typer.BadParameter("name one batch, or say --all.")
    if batch is not None:
        _do("cancel", batch, as_json=as_json)
        return
    ended = in_studio(lambda studio: studio.batches.cancel_all(LOCAL_OWNER))
    if as_json:
        print_json({"cancelled": ended})
        return
    for one in ended:
        print_line(f"cancelled {one}")


@app.command()
def pause(batch: BatchId, as_json: AsJson = False) -> None:
    """Begin no more items of a batch; those that are being drawn are finished."""
    _do("pause", batch, as_json=as_json)


@app.command()
def resume(batch: BatchId, as_json: AsJson = False) -> None:
    """Go on with a batch that was paused, or that paused itself."""
    _do("resume", batch, as_json=as_json)


@app.command()
def retry(batch: BatchId, as_json: AsJson = False) -> None:
    """Queue again the items that failed for a reason that may pass."""
    _do("retry_failed", batch, as_json=as_json)


def _do(action: str, batch: str, *, as_json: bool) -> None:
    from backend.bootstrap import LOCAL_OWNER
    from backend.cli.running import in_studio

    async def work(studio: Studio) -> BatchSummaryView:
        done: Callable[..., Awaitable[BatchSummaryView]] = getattr(studio.batches, action)
        return await done(batch, actor=LOCAL_OWNER)

    print_batch(in_studio(work), as_json=as_json)


async def _now_and_then(events: AsyncIterator[BatchEvent]) -> AsyncIterator[BatchEvent]:
    """Pass on as many events as are worth a look: few a second, and the last one."""
    looked = 0.0
    async for event in events:
        if event.kind != "item" or time.monotonic() - looked >= LOOK_EVERY_S:
            looked = time.monotonic()
            yield event


def _over(view: BatchSummaryView) -> int:
    batch = view.batch
    return batch.items_done + batch.items_failed + batch.items_cancelled
