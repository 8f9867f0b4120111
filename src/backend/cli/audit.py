"""`gator audit`: is the log of what was done to base images whole, and what does it say?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend.cli.output import AsJson, print_json, print_line

if TYPE_CHECKING:
    from backend.bootstrap import Studio

app = typer.Typer(help="The log of what was done to base images.", no_args_is_help=True)


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Walk the chain of events and name the first broken link; exit code 1 if there is one."""
    from dataclasses import asdict

    from backend.cli.running import in_studio

    report = in_studio(lambda studio: studio.audit.verify())
    if as_json:
        print_json(asdict(report))
    elif report.broken is None:
        print_line(f"{report.events} events, the chain is whole. Its head: {report.head}")
    else:
        broken = report.broken
        print_line(
            f"broken at event {broken.sequence} (persona {broken.persona_id}): {broken.problem}. "
            f"The {report.events} events before it are whole."
        )
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; stdout if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write every event as a line of JSON, oldest first."""
    from backend.cli.running import in_studio
    from backend.storage.home import write_bytes

    async def work(studio: Studio) -> list[str]:
        return [
            json.dumps(event, ensure_ascii=False, default=str)
            async for event in studio.audit.export()
        ]

    lines = in_studio(work)
    if output:
        write_bytes(output, "".join(f"{line}\n" for line in lines).encode())
    if as_json and output:
        print_json({"events": len(lines), "file": str(output.absolute())})
    elif not output:
        for line in lines:
            print_line(line)
