"""`gator devices`: what images are made on, and the way back for one that was set aside."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from backend.cli.output import AsJson, print_json, print_line, print_table
from backend.cli.server import DEFAULT_SERVER, RunningServer, Server

app = typer.Typer(
    help="List the devices that images are made on, and the models there are; release one.",
    invoke_without_command=True,
)


@app.callback()
def devices(context: typer.Context, as_json: AsJson = False) -> None:
    """List the devices that images are made on, and the models there are; release one."""
    if context.invoked_subcommand:
        return
    from backend.config import load_settings
    from backend.services.ai_models import AIModelManager

    manager = AIModelManager(load_settings())
    found = [
        {"device": d.name, "kind": d.kind, "device_id": d.device_id} for d in manager.devices()
    ]
    models = manager.available_models["image"]
    if as_json:
        print_json({"devices": found, "models": models})
        return
    print_table(("device", "kind"), ((d["device"], d["kind"]) for d in found))
    print_table(
        ("model", "kind", "provider", "usable", "size"),
        (
            (m["name"], m["kind"], m["provider"], m["loaded"], f"{m['width']}x{m['height']}")
            for m in models
        ),
    )


@app.command()
def release(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Such as cuda:0.")],
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Let a device of a running server work again that it has quarantined for its failures."""
    running = RunningServer(server)
    try:
        released = running.ask("POST", f"/api/v1/devices/{quote(device, safe=':')}/release")
    finally:
        running.close()
    if as_json:
        print_json(released)
    else:
        print_line(f"{released['name']} is released.")
