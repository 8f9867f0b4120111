"""`gator`: the commands, their exit codes and how an error reads.

0 done · 1 failed · 2 wrong use, input or setting · 130 ended by Ctrl-C.
"""

from __future__ import annotations

import sys

import typer

from backend.cli import (
    audit,
    base_image,
    batch,
    blobs,
    caption,
    devices,
    doctor,
    packs,
    persona,
    prompts,
    reproduce,
    studio,
    system,
    top,
)
from backend.cli.output import report_error
from backend.errors import ConfigurationError, GatorError, InvalidRequest

INTERRUPTED = 130

app = typer.Typer(
    name="gator",
    help="A studio for AI personas: approved looks, batches over every GPU, captions in voice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(persona.app, name="persona")
app.add_typer(base_image.app, name="base-image")
app.add_typer(batch.app, name="batch")
app.add_typer(prompts.app, name="prompts")
app.add_typer(audit.app, name="audit")
app.add_typer(blobs.app, name="blobs")
app.add_typer(system.database, name="db")
app.command()(studio.demo)
app.command()(studio.generate)
app.add_typer(caption.app, name="caption")
app.add_typer(packs.app, name="packs")
app.command()(reproduce.reproduce)
app.add_typer(devices.app, name="devices")
app.command()(top.top)
app.command()(doctor.doctor)
app.command()(system.config)
app.command()(system.serve)


def run() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except GatorError as exc:
        report_error(exc)
        sys.exit(2 if isinstance(exc, InvalidRequest | ConfigurationError) else 1)
    except SystemExit as exc:
        if exc.code == INTERRUPTED:
            sys.stderr.write("\nstopped; what is finished is kept.\n")
        raise


if __name__ == "__main__":
    run()
