"""`gator top`: what every device of a running server does, as it does it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli.output import AsJson, print_json
from backend.cli.server import DEFAULT_SERVER, RunningServer, Server

if TYPE_CHECKING:
    from rich.console import RenderableType

BAR = 6
GIB = 1024**3
WIDE = 100
_COLUMNS = ("device", "state", "busy", "per s", "done", "failed", "waits", "memory")
_STYLES = {"rendering": "green", "loading": "cyan", "starting": "cyan", "quarantined": "bold red"}


def top(
    server: Server = DEFAULT_SERVER,
    every: Annotated[
        float, typer.Option(min=0.1, max=60, help="Seconds from one look to the next.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, print it and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what every device of a running server does: a live table; Ctrl-C ends it."""
    from rich.console import Console

    running = RunningServer(server)
    console = Console()
    try:
        if as_json:
            print_json(_look(running))
        elif once or not console.is_terminal:
            console.print(_shown(_look(running), console.width))
        else:
            _watch(running, console, every)
    finally:
        running.close()


def _watch(running: RunningServer, console: Any, every_s: float) -> None:
    from rich.live import Live

    with Live(_shown(_look(running), console.width), console=console, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(every_s)
                live.update(_shown(_look(running), console.width), refresh=True)
        except KeyboardInterrupt:
            return


def _look(running: RunningServer) -> dict[str, Any]:
    batches = running.ask("GET", "/api/v1/batches?limit=20")
    return {
        "devices": running.ask("GET", "/api/v1/devices")["items"],
        "batches": [batch for batch in batches["items"] if not batch["finished_at"]],
    }


def _shown(seen: Mapping[str, Any], width: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    devices = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for column in (*_COLUMNS, *(["model"] if width >= WIDE else [])):
        devices.add_column(column, no_wrap=column != "model")
    for device in seen["devices"]:
        style = _STYLES.get(device["state"], "")
        cells = _cells(device)[: len(devices.columns)]
        devices.add_row(*(Text(cell, style=style) for cell in cells))
    lines = [*_troubles(seen["devices"]), *_lines(seen["batches"])]
    return Group(devices, *map(Text, lines))


def _cells(device: Mapping[str, Any]) -> Sequence[str]:
    busy = device["utilisation"]
    filled = round(busy * BAR)
    pace, steps = device["images_per_s"], device["steps"]
    return (
        device["name"],
        " ".join((device["state"], *([f"{device['step']}/{steps}"] if steps else []))),
        f"{'█' * filled}{'░' * (BAR - filled)} {busy:4.0%}",
        f"{pace:.2f}" if pace else "–",
        str(device["done"]),
        str(device["failed"]),
        str(device["waiting"]),
        _memory(device),
        device["model"] or ", ".join(device["models"]),
    )


def _memory(device: Mapping[str, Any]) -> str:
    """Say how full the card is; where nobody tells, what the worker holds of main memory."""
    used, total = device["memory_used_bytes"], device["memory_total_bytes"]
    if total:
        return f"{used / GIB:.1f}/{total / GIB:.1f} GiB"
    held = device["worker_peak_rss_bytes"]
    return f"{held / GIB:.1f} GiB" if held else "–"


def _troubles(devices: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for device in devices:
        name, times = device["name"], device["restarts"]
        if device["reason"]:
            lines.append(f"{name} is quarantined: {device['reason']}")
        if times:
            lines.append(f"the worker of {name} was replaced {times}×")
    return lines


def _lines(batches: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [""] if batches else []
    for batch in batches:
        counts = batch["counts"]
        over = sum(counts[state] for state in ("done", "failed", "cancelled"))
        failed = f", {counts['failed']} failed" if counts["failed"] else ""
        why = f": {batch['state_reason']}" if batch["state_reason"] else ""
        lines.append(f"batch {batch['id']}  {over}/{batch['total']}{failed}  {batch['state']}{why}")
    return lines
