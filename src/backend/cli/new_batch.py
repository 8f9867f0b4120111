"""`gator batch create`: what a new batch may be asked for with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from backend.cli.batch_output import print_batch
from backend.cli.output import AsJson, print_note

if TYPE_CHECKING:
    from backend.bootstrap import Studio
    from backend.services.batch_views import BatchSummaryView

Prompts = Annotated[list[str] | None, typer.Argument(help="One picture each.")]
Persona = Annotated[str | None, typer.Option(help="Whose pictures; bare prompts without one.")]
PromptFile = Annotated[
    Path | None, typer.Option("--prompts", help="A file with one prompt a line.")
]
Template = Annotated[
    str | None, typer.Option(help="Prompts in dynamicprompts' grammar, such as {a|b} __c__.")
]
Sample = Annotated[
    int | None, typer.Option(min=1, help="So many of the template by chance; else all.")
]
Seed = Annotated[int | None, typer.Option(help="The batch's; drawn if left out.")]
Seeds = Annotated[
    list[int] | None, typer.Option("--with-seed", help="Draw every prompt with it; repeat.")
]
Sizes = Annotated[
    list[str] | None, typer.Option("--size", help="Such as 768x1024; repeat for more.")
]
Model = Annotated[str | None, typer.Option(help="An image model's name.")]
Steps = Annotated[int | None, typer.Option(help="Number of inference steps.")]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale.")]
NegativePrompt = Annotated[str | None, typer.Option(help="What it must not show.")]
Scheduler = Annotated[str | None, typer.Option(help="Such as ddim, euler, unipc.")]
Format = Annotated[str | None, typer.Option("--format", help="png, jpeg, webp or avif.")]
Captions = Annotated[bool, typer.Option(help="Write a caption for each picture.")]
Priority = Annotated[int, typer.Option(min=0, max=9, help="Higher goes strictly first.")]
Weight = Annotated[
    int, typer.Option(min=1, max=100, help="How often its turn comes, against your others.")
]
AllowCloud = Annotated[
    bool, typer.Option("--allow-cloud", help="Where no device is left, ask the cloud.")
]
CloudCap = Annotated[
    float | None, typer.Option(min=0, help="The most that may cost, in US dollars.")
]


class _Asked(NamedTuple):
    """Where the prompts of a new batch come from."""

    prompts: Sequence[str]
    file: Path | None
    template: str | None
    sample: int | None


def create(
    prompts: Prompts = None,
    persona: Persona = None,
    prompt_file: PromptFile = None,
    template: Template = None,
    sample: Sample = None,
    seed: Seed = None,
    seeds: Seeds = None,
    sizes: Sizes = None,
    model: Model = None,
    steps: Steps = None,
    guidance: Guidance = None,
    negative_prompt: NegativePrompt = None,
    scheduler: Scheduler = None,
    picture_format: Format = None,
    captions: Captions = True,
    priority: Priority = 0,
    weight: Weight = 1,
    allow_cloud: AllowCloud = False,
    cloud_cap_usd: CloudCap = None,
    as_json: AsJson = False,
) -> None:
    """Write a batch down: prompts × seeds × sizes. `gator serve` takes it, or `gator batch run`."""
    options: dict[str, Any] = {
        "seeds": seeds,
        "sizes": _sides(sizes or ()),
        "model": model,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "negative_prompt": negative_prompt,
        "scheduler": scheduler,
        "format": picture_format,
        "captions": captions,
        "priority": priority,
        "weight": weight,
        "allow_cloud": allow_cloud,
        "cloud_cap_usd": cloud_cap_usd,
    }
    view = _written(persona, _Asked(prompts or (), prompt_file, template, sample), seed, options)
    print_batch(view, as_json=as_json)
    print_note(f"A running `gator serve` takes it; `gator batch watch {view.batch.id}` follows it.")
    print_note(f"Without a server, `gator batch run {view.batch.id}` draws it here.")


def _written(
    persona: str | None, asked: _Asked, seed: int | None, options: dict[str, Any]
) -> BatchSummaryView:
    import secrets
    from decimal import Decimal

    from backend.bootstrap import LOCAL_OWNER
    from backend.cli.running import in_studio
    from backend.imaging.checks import SEED_LIMIT

    chosen = secrets.randbelow(SEED_LIMIT) if seed is None else seed
    given = {name: value for name, value in options.items() if value is not None}
    if "cloud_cap_usd" in given:
        given["cloud_cap_usd"] = Decimal(str(given["cloud_cap_usd"]))

    async def work(studio: Studio) -> BatchSummaryView:
        prompts = _prompts(studio, asked, chosen)
        return await studio.batches.create(
            persona, prompts, actor=LOCAL_OWNER, seed=chosen, **given
        )

    return in_studio(work)


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
