"""`gator demo` and `generate`: what the studio is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli.batch_output import save_picture
from backend.cli.output import AsJson, print_json, print_line, print_note, print_table
from backend.cli.persona import PersonaName

if TYPE_CHECKING:
    from backend.bootstrap import Studio
    from backend.services.batch_service import BatchSummaryView, BatchView

Model = Annotated[str | None, typer.Option(help="An image model's name.")]
DEMO_CPU_SLOTS = 2


def demo(
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the demo's personas and make all anew.")
    ] = False,
    examples: Annotated[
        Path | None, typer.Option(help="A folder with personas/*.toml and prompts.txt.")
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option(help="Where the page goes; default: in GATOR_HOME.")
    ] = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Make one trip through the whole house, and show it in a gallery."""
    from backend.cli.progress import StageBars
    from backend.cli.running import in_studio
    from backend.services.demo import DemoReport, examples_folder

    async def work(studio: Studio) -> DemoReport:
        with StageBars() as bars:
            return await studio.demo.run(
                examples or examples_folder(),
                gallery or studio.settings.home / "gallery.html",
                bars,
                fresh=fresh,
                options={"model": model} if model else {},
            )

    report = in_studio(work, cpu_slots=DEMO_CPU_SLOTS)
    if as_json:
        print_json(report.as_dict())
        return
    print_line(
        f"{report.images} pictures of {report.personas} personas on {', '.join(report.devices)} "
        f"in {report.seconds['total']:.1f} s, {report.errors} errors."
    )
    print_line(f"Gallery: {report.gallery.absolute()}")


def generate(
    persona: PersonaName,
    prompts: Annotated[list[str] | None, typer.Argument(help="One picture each.")] = None,
    prompt_file: Annotated[
        Path | None, typer.Option("--prompts", help="A file with one prompt a line.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The batch's; drawn if left out.")] = None,
    model: Model = None,
    size: Annotated[str | None, typer.Option(help="Such as 768x1024.")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of inference steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What it must not show.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Such as ddim, euler, unipc.")] = None,
    captions: Annotated[bool, typer.Option(help="Write a caption for each picture.")] = True,
    resume: Annotated[
        str | None, typer.Option(metavar="BATCH", help="Go on with a batch that was stopped.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder for the pictures.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Render a batch of prompts for a persona with an approved base image."""
    from backend.cli.running import in_studio
    from backend.models.account import LOCAL_OWNER
    from backend.services.demo import read_prompts

    asked = [*(prompts or []), *(read_prompts(prompt_file) if prompt_file else [])]
    options = _given(
        model=model,
        size=size,
        num_inference_steps=steps,
        guidance_scale=guidance,
        negative_prompt=negative_prompt,
        scheduler=scheduler,
    )

    async def work(studio: Studio) -> dict[str, Any]:
        if resume:
            view = await studio.batches.summary(resume)
            if view.batch.state == "paused":
                view = await studio.batches.resume(resume, actor=LOCAL_OWNER)
        else:
            view = await studio.batches.create(
                persona, asked, seed=seed, captions=captions, **options
            )
        return await _render(studio, view, output)

    made = in_studio(work)
    if as_json:
        print_json(made)
    else:
        _print_items(made["items"])
    if made["errors"] == len(made["items"]):
        raise typer.Exit(1)


async def _render(studio: Studio, asked: BatchSummaryView, folder: Path | None) -> dict[str, Any]:
    from backend.cli.progress import StageBars
    from backend.errors import Conflict
    from backend.models.batch import ItemState

    batch = asked.batch
    print_note(f"batch {batch.id}; if stopped, `--resume {batch.id}` goes on")
    with StageBars() as bars:
        bars.start("images", asked.counts[ItemState.QUEUED] + asked.counts[ItemState.RUNNING])
        if batch.captions:
            bars.start("captions", batch.total - batch.caption_position)
        await studio.runner.run_until_finished([batch.id], bars.advance)
    view = await studio.batches.show(batch.id)
    if view.batch.state == "paused":
        raise Conflict(f"the batch is paused: {view.batch.state_reason}", {"state": "paused"})
    return {
        "batch": batch.id,
        "items": await _results(studio, view, folder),
        "images": view.counts[ItemState.DONE],
        "errors": view.counts[ItemState.FAILED],
    }


def _print_items(items: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        ("#", "device", "seconds", "prompt", "caption or error"),
        (
            (i["position"], i["device"], i["seconds"], i["prompt"], i["caption"] or i["error"])
            for i in items
        ),
    )


async def _results(studio: Studio, view: BatchView, folder: Path | None) -> list[dict[str, Any]]:
    found = []
    for item in view.items:
        content = await studio.contents.get(item.content_id) if item.content_id else None
        path = None
        if folder and content:
            path = await save_picture(studio, item.position, content, folder)
        found.append(
            {
                "position": item.position,
                "prompt": item.prompt,
                "seed": item.seed,
                "state": item.state,
                "error": (item.error or {}).get("message"),
                "content_id": item.content_id,
                "device": content and content.device,
                "model": content and content.model,
                "seconds": content and content.seconds,
                "sha256": content and content.sha256,
                "caption": content and content.caption,
                "caption_origin": content and content.caption_origin,
                "file": str(path) if path else None,
            }
        )
    return found


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
