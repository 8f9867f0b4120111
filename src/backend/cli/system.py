"""`gator config`, `db` and `serve`: the machine room."""

from __future__ import annotations

from typing import Annotated

import typer

from backend.cli.output import AsJson, print_fields, print_json, print_line

database = typer.Typer(help="The database.", no_args_is_help=True)


def config(as_json: AsJson = False) -> None:
    """Print the effective settings; secrets are masked."""
    from backend.config import PREFIX, load_settings

    values = load_settings().public()
    if as_json:
        print_json(values)
        return
    print_fields({PREFIX + name.upper(): value for name, value in values.items()})


@database.command()
def upgrade(as_json: AsJson = False) -> None:
    """Bring the database to the newest revision, and adopt images from before there was one."""
    import asyncio

    from backend.bootstrap import upgrade_studio
    from backend.config import load_settings

    before, after, legacy = asyncio.run(upgrade_studio(load_settings()))
    missing, too_small = (
        [{"persona": one.persona, "path": one.path, "problem": one.problem} for one in some]
        for some in (legacy.missing, legacy.too_small)
    )
    if as_json:
        print_json(
            {
                "before": before,
                "after": after,
                "adopted": list(legacy.adopted),
                "missing": missing,
                "too_small": too_small,
                "locks": list(legacy.locks),
            }
        )
        return
    print_line(f"revision {before or 'none'} → {after}")
    for name in legacy.adopted:
        print_line(f"adopted the image of {name} as version 1, a draft")
    for one in legacy.missing:
        print_line(f"the image of {one.persona} is missing: {one.path}: {one.problem}")
    for one in legacy.too_small:
        print_line(f"the image of {one.persona} is {one.problem}: {one.path}")
    for name in legacy.locks:
        print_line(f"the lock of {name} fell: nobody had approved its image")


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
) -> None:
    """Serve the API; a fresh home is made and brought up to date first."""
    import socket

    import uvicorn

    from backend.config import load_settings
    from backend.errors import ConfigurationError
    from backend.logs import configure_logs

    settings = load_settings()
    configure_logs(settings.log_level, as_json=settings.log_json)
    options = uvicorn.Config(
        "backend.api.app:configured_app",
        factory=True,
        log_config=None,
        access_log=False,  # the API logs its requests itself
        timeout_graceful_shutdown=3,
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as exc:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {exc.strerror}.") from exc
    address = f"[{host}]" if ":" in host else host
    print_line(f"Gator is at http://{address}:{listening.getsockname()[1]} (API: /docs)")
    server = uvicorn.Server(options)
    server.run([listening])
    if not server.started:
        raise typer.Exit(1)
