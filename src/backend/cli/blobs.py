"""`gator blobs`: are all pictures there, whole, and wanted?"""

from __future__ import annotations

from typing import Annotated

import typer

from backend.cli.output import AsJson, print_json, print_line

app = typer.Typer(help="The bytes of pictures.", no_args_is_help=True)

_FINDINGS = ("missing", "damaged", "orphans", "temporary", "quarantined", "removed")


@app.command()
def check(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Remove orphans and unfinished writes, move damaged ones aside."
        ),
    ] = False,
    grace: Annotated[
        float | None,
        typer.Option(
            min=0, help="Seconds a blob may wait for its row; default an hour. 0: nothing runs."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find orphans, damage and what is missing; exit code 1 where something is left to mend."""
    from dataclasses import asdict

    from backend.cli.running import in_studio
    from backend.services.blob_check import GRACE_S

    wait_s = GRACE_S if grace is None else grace
    report = in_studio(lambda studio: studio.blob_check.check(repair, grace_s=wait_s))
    mended = {*report.removed, *report.quarantined}
    left = {*report.orphans, *report.temporary, *report.damaged, *report.missing} - mended
    ok = not left and not set(report.missing)
    if as_json:
        print_json({**asdict(report), "ok": ok})
    else:
        print_line(f"{report.blobs} blobs, {report.bytes:,} bytes.")
        for name in _FINDINGS:
            for found in getattr(report, name):
                print_line(f"{name}: {found}")
        print_line("All is well." if ok else "Something is left to mend.")
    if not ok:
        raise typer.Exit(1)
