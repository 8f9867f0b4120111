"""`gator reproduce`: make a picture again and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend.cli.output import AsJson, print_json, print_line, print_table

if TYPE_CHECKING:
    from backend.bootstrap import Studio
    from backend.services.reproduction import Reproduction


def reproduce(
    content: Annotated[str, typer.Argument(help="A picture's content id.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file for the new picture.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a picture again from its receipt; exit with 1 where the bytes differ."""
    from backend.cli.running import in_studio
    from backend.storage.home import write_bytes

    async def work(studio: Studio) -> Reproduction:
        return await studio.reproductions.reproduce(content)

    made = in_studio(work)
    if output:
        write_bytes(output, made.image_data)
    if as_json:
        print_json(made.as_dict())
    else:
        _print(made)
    if not made.matches:
        raise typer.Exit(1)


def _print(made: Reproduction) -> None:
    if made.matches:
        print_line(f"The bytes are the same: {made.sha256} (on {made.device_now}).")
    else:
        print_line(f"The bytes differ: {made.sha256} then, {made.sha256_now} now.")
    if made.differences:
        rows = [(name, str(then), str(now)) for name, (then, now) in made.differences.items()]
        print_table(("made with", "then", "now"), rows)
