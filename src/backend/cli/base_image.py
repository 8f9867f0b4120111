"""`gator base-image`: from nothing to an approved look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli.output import AsJson, print_fields, print_json, print_table
from backend.cli.persona import PersonaName

if TYPE_CHECKING:
    from backend.bootstrap import Studio
    from backend.services.base_image_workflow import BaseImageView

app = typer.Typer(help="Seed, approve and reject base images.", no_args_is_help=True)


@app.command()
def seed(
    persona: PersonaName,
    random_seed: Annotated[
        int | None, typer.Option("--seed", help="The noise's seed; drawn if left out.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="An image model's name.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What it shows beside the persona.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new version with a model of this machine."""
    from backend.bootstrap import LOCAL_OWNER
    from backend.cli.running import in_studio

    view = in_studio(
        lambda studio: studio.base_images.seed_local(
            persona, actor=LOCAL_OWNER, prompt=prompt, seed=random_seed, model=model
        )
    )
    _show(view, as_json=as_json)


@app.command()
def approve(
    persona: PersonaName,
    version: Annotated[int | None, typer.Option(help="Default: the current one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Approve the current version and lock the appearance."""
    from backend.bootstrap import LOCAL_OWNER
    from backend.cli.running import in_studio

    view = in_studio(lambda studio: studio.base_images.approve(persona, version, actor=LOCAL_OWNER))
    _show(view, as_json=as_json)


@app.command()
def reject(
    persona: PersonaName,
    reason: Annotated[str, typer.Option(help="Why, for whoever seeds the next one.")],
    as_json: AsJson = False,
) -> None:
    """Reject the current version."""
    from backend.cli.running import in_studio

    _show(in_studio(lambda studio: studio.base_images.reject(persona, reason)), as_json=as_json)


@app.command()
def show(
    persona: PersonaName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the current version's picture.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show where the base image stands and what may be done now."""
    from backend.cli.running import in_studio
    from backend.errors import NotFound
    from backend.storage.home import write_bytes

    async def work(studio: Studio) -> BaseImageView:
        view = await studio.base_images.show(persona)
        if output:
            if view.current is None:
                raise NotFound(f"{view.persona.name} has no base image yet.")
            _, data = await studio.base_images.image(view.persona.id, view.current.n)
            write_bytes(output, data)
        return view

    _show(in_studio(work), as_json=as_json)


def _show(view: BaseImageView, *, as_json: bool) -> None:
    values: dict[str, Any] = view.response().model_dump(mode="json")
    if as_json:
        print_json(values)
        return
    versions = values.pop("versions")
    print_fields(values | {"persona": view.persona.name})
    print_table(
        ("version", "method", "model", "seed", "size", "sha256", "by"),
        (
            (v["n"], v["method"], v["model"], v["seed"], f"{v['width']}x{v['height']}",
             v["sha256"][:12], v["created_by"])
            for v in versions
        ),
    )  # fmt: skip
