"""`gator batch`: ask for many pictures, follow them, stop them, go on."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from backend.cli.output import AsJson, print_fields, print_json, print_line, print_note, print_table

if TYPE_CHECKING:
    from backend.bootstrap import Studio
    from backend.models.batch import BatchItemModel
    from backend.services.batch_views import BatchEvent, BatchSummaryView

app = typer.Typer(
    help="Ask for batches, follow them, cancel, pause and go on with them.", no_args_is_help=True
)
LOOK_EVERY_S = 0.3
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="A batch's id.")]


class _Asked(NamedTuple):
    """Where the prompts of a new batch come from."""

    prompts: Sequence[str]
    file: Path | None
    template: str | None
    sample: int | None


@app.command()
def create(
    prompts: Annotated[list[str] | None, typer.Argument(help="One picture each.")] = None,
    persona: Annotated[
        str | None, typer.Option(help="Whose pictures; bare prompts without one.")
    ] = None,
    prompt_file: Annotated[
        Path | None, typer.Option("--prompts", help="A file with one prompt a line.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="Prompts in dynamicprompts' grammar, such as {a|b} __c__.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="So many of the template by chance; else all.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The batch's; drawn if left out.")] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--with-seed", help="Draw every prompt with it; repeat.")
    ] = None,
    sizes: Annotated[
        list[str] | None, typer.Option("--size", help="Such as 768x1024; repeat for more.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="An image model's name.")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of inference steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What it must not show.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Such as ddim, euler, unipc.")] = None,
    picture_format: Annotated[
        str | None, typer.Option("--format", help="png, jpeg, webp or avif.")
    ] = None,
    captions: Annotated[bool, typer.Option(help="Write a caption for each picture.")] = True,
    priority: Annotated[int, typer.Option(min=0, max=9, help="Higher goes strictly first.")] = 0,
    weight: Annotated[
        int, typer.Option(min=1, max=100, help="How often its turn comes, against your others.")
    ] = 1,
    allow_cloud: Annotated[
        bool, typer.Option("--allow-cloud", help="Where no device is left, ask the cloud.")
    ] = False,
    cloud_cap_usd: Annotated[
        float | None, typer.Option(min=0, help="The most that may cost, in US dollars.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a batch down: prompts × seeds × sizes. A running `gator serve` takes it."""
    import secrets
    from decimal import Decimal

    from backend.bootstrap import LOCAL_OWNER
    from backend.cli.running import in_studio
    from backend.imaging.checks import SEED_LIMIT

    chosen = secrets.randbelow(SEED_LIMIT) if seed is None else seed
    asked = _Asked(prompts or (), prompt_file, template, sample)
    options: dict[str, Any] = {
        "model": model,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "negative_prompt": negative_prompt,
        "scheduler": scheduler,
        "format": picture_format,
    }

    async def work(studio: Studio) -> BatchSummaryView:
        return await studio.batches.create(
            persona,
            _prompts(studio, asked, chosen),
            actor=LOCAL_OWNER,
            seed=chosen,
            seeds=seeds,
            sizes=_sides(sizes or ()),
            captions=captions,
            priority=priority,
            weight=weight,
            allow_cloud=allow_cloud,
            cloud_cap_usd=None if cloud_cap_usd is None else Decimal(str(cloud_cap_usd)),
            **{name: value for name, value in options.items() if value is not None},
        )

    view = in_studio(work)
    _show(view, as_json=as_json)
    print_note("`gator serve` works on it, now if it runs; `gator batch watch` follows it.")


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

    _show(in_studio(lambda studio: studio.batches.summary(batch)), as_json=as_json)


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
    rows = [_item(item) for item in found]
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
    from backend.models.batch import ENDED

    async def work(studio: Studio) -> BatchSummaryView:
        view = await studio.batches.summary(batch)
        with StageBars() as bars:
            bars.start("items", view.batch.total)
            bars.reach("items", _over(view))
            if view.batch.state not in ENDED:
                async for _ in _now_and_then(studio.batches.events(batch, view.batch.event_seq)):
                    bars.reach("items", _over(await studio.batches.summary(batch)))
        return await studio.batches.summary(batch)

    _show(in_studio(work), as_json=as_json)


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

    _show(in_studio(work), as_json=as_json)


def _prompts(studio: Studio, asked: _Asked, seed: int) -> Iterable[str]:
    """Return the prompts that the arguments name, in their order."""
    from backend.services.demo import read_prompts

    if asked.template is not None:
        if asked.prompts or asked.file:
            raise typer.BadParameter("give prompts or a template, not both.")
        return studio.prompts.expand(asked.template, sample=asked.sample, seed=seed)
    if asked.sample is not None:
        raise typer.BadParameter("--sample goes with --template.")
    return [*asked.prompts, *(read_prompts(asked.file) if asked.file else [])]


def _sides(sizes: Sequence[str]) -> list[tuple[int, int]] | None:
    found = []
    for size in sizes:
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
        if not match:
            raise typer.BadParameter(f"{size!r} is no size such as 768x1024.", param_hint="--size")
        found.append((int(match[1]), int(match[2])))
    return found or None


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


def _item(item: BatchItemModel) -> dict[str, Any]:
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


def _show(view: BatchSummaryView, *, as_json: bool) -> None:
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
