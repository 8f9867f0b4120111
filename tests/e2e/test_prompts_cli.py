"""`gator prompts` as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.support import Cli


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    folder = tmp_path / "home" / "wildcards" / "clothes"
    folder.mkdir(parents=True)
    (folder / "hats.txt").write_text("# by season\na {straw|felt} hat\na cap\n")
    return Cli(tmp_path / "home")


def test_a_preview_counts_and_shows_the_first(cli: Cli) -> None:
    found = cli.json("prompts", "preview", "{1-2$$ and $$x|y} in __clothes/hats__", "--count", "2")
    assert found["count"] == 12
    assert found["prompts"] == ["x in a straw hat", "x in a felt hat"]
    drawn = cli.json("prompts", "preview", "__hats__", "--seed", "5", "--count", "3")
    assert (
        drawn["prompts"]
        == cli.json("prompts", "preview", "__hats__", "--seed", "5", "--count", "3")["prompts"]
    )
    assert len(drawn["prompts"]) == 3
    shown = cli.run("prompts", "preview", "{a|b}" * 60)
    assert shown.stdout.startswith("about 10^18 prompts, 10 of them:\n  aaaa")


def test_a_fault_is_wrong_input_and_names_its_place(cli: Cli) -> None:
    done = cli.run("prompts", "preview", "a __hat__")
    assert done.returncode == 2
    assert "character 3: there is no wildcard 'hat'; did you mean" in done.stderr


def test_wildcards_are_listed(cli: Cli) -> None:
    assert cli.json("prompts", "wildcards")["wildcards"] == ["clothes/hats"]
    assert cli.run("prompts", "wildcards").stdout == "__clothes/hats__\n"
