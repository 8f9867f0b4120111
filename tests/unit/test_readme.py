"""The README says what is true: every setting, every command, every file that it links to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backend.cli.main import app
from backend.config import PREFIX, Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_listed(name: str) -> None:
    full = PREFIX + name.upper()
    groups = re.findall(r"`(GATOR_\w+)`((?:, `_\w+`)+)", README)
    short = {
        f"GATOR_{group}{suffix}"
        for first, rest in groups
        for suffix in re.findall(r"`(_\w+)`", rest)
        for group in [first.removeprefix("GATOR_").split("_")[0]]
    }
    assert f"`{full}`" in README or full in short


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#][^)]*)\)", README))))
def test_every_link_leads_to_a_file(target: str) -> None:
    assert (ROOT / target).exists()


def test_every_command_it_names_exists() -> None:
    import typer

    groups = {g.name: g.typer_instance for g in app.registered_groups}
    plain = {_name(command) for command in app.registered_commands}
    for first, second in re.findall(r"gator ([a-z][a-z-]+)(?: ([a-z][a-z-]+))?", README):
        assert first in plain or first in groups, first
        if first in groups and second:
            inner = groups[first]
            assert isinstance(inner, typer.Typer)
            assert second in {_name(command) for command in inner.registered_commands}, second


def _name(command: object) -> str:
    named = getattr(command, "name", None)
    return named or command.callback.__name__.replace("_", "-")  # type: ignore[attr-defined]
