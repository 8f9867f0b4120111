"""The captions shown in the documentation are what the engine writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend.cli.main import app

PAGE = (Path(__file__).parents[2] / "docs/captions.md").read_text("utf-8")
SHOWN = re.findall(r"^### (\w+): “(.+)”\n\n((?:\d+\. .+\n)+)", PAGE, re.MULTILINE)


def test_forty_captions_are_shown_ten_of_each_style() -> None:
    assert [style for style, _, _ in SHOWN] == ["creative", "professional", "tech", "casual"]
    assert all(listed.count("\n") == 10 for _, _, listed in SHOWN)


@pytest.mark.parametrize(("style", "prompt", "listed"), SHOWN, ids=[style for style, _, _ in SHOWN])
def test_the_captions_shown_are_what_the_preview_prints(
    style: str, prompt: str, listed: str
) -> None:
    shown = [line.split(". ", 1)[1] for line in listed.splitlines()]
    preview = ["packs", "preview", "--style", style, "--prompt", prompt, "-n", str(len(shown))]
    result = CliRunner().invoke(app, preview)
    assert result.exit_code == 0, result.output
    printed = re.split(r"^\[\d+ · [\w-]+\]\n", result.output, flags=re.MULTILINE)[1:]
    assert [text.strip().replace("\n\n", " ¶ ") for text in printed] == shown
