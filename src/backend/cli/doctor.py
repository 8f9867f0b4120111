"""`gator doctor`: look at every device before work is given to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from backend.cli.output import AsJson, print_json, print_line, print_note

if TYPE_CHECKING:
    from backend.imaging.verdicts import Verdict

_SIGNS = {"ready": "✓", "limited": "!", "unusable": "✗"}


def doctor(
    timeout: Annotated[
        float, typer.Option(min=1, max=3_600, help="Seconds that the devices may take.")
    ] = 180,
    as_json: AsJson = False,
) -> None:
    """Probe every device in a process of its own; exit code 1 where one cannot be used."""
    from backend.config import load_settings
    from backend.imaging.doctor import diagnose

    settings = load_settings()
    if not as_json:
        print_note("Looking at the devices …")
    found = diagnose(settings.devices, cpu_threads=settings.cpu_threads, timeout_s=timeout)
    if as_json:
        print_json(found.as_dict())
    else:
        for verdict in found.verdicts:
            _show(verdict)
        for note in found.notes:
            print_line(f"! {note}")
    if not found.ok:
        raise typer.Exit(1)


def _show(verdict: Verdict) -> None:
    print_line(f"{_SIGNS[verdict.state]} {verdict.device} is {verdict.state}: {verdict.says}")
    for check in verdict.checks:
        if check.check != "device" and (verdict.state != "ready" or check.check == "torch"):
            sign = _SIGNS["ready" if check.ok else "unusable"]
            print_line(f"    {sign} {check.check}: {check.says}")
    for advice in verdict.advice:
        print_line(f"    → {advice}")
