"""What commands print: tables for people, one JSON object for programs.

With `--json` stdout holds that object and nothing else; progress and errors go to stderr, and a
failed command's object is `{"error": {"code", "message", "details"}}`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from backend.errors import GatorError

_mode = {"json": False}


def _choose_json(value: bool) -> bool:
    _mode["json"] = value
    return value


AsJson = Annotated[
    bool, typer.Option("--json", callback=_choose_json, help="Print one JSON object.")
]


def print_json(value: Mapping[str, Any]) -> None:
    """Write one JSON object to stdout."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def print_line(text: str) -> None:
    """Write one line of plain text to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_note(text: str) -> None:
    """Write one line to stderr, beside the answer."""
    sys.stderr.write(f"{text}\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table for people; cell text is data, never markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # an id that is cut short is no use
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    Console().print(table)


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return "" if value is None else str(value)


def print_fields(values: Mapping[str, object]) -> None:
    """Print names and values, one a line."""
    print_table(("field", "value"), values.items())


def report_error(exc: GatorError) -> None:
    """Tell what was wrong, on stderr, and as the JSON object where one was asked for."""
    if _mode["json"]:
        error = {"code": exc.code, "message": exc.message, "details": exc.details}
        print_json({"error": error})
    sys.stderr.write(f"error: {exc.message}\n")
