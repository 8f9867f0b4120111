"""What `gator --help` imports: enough to print help, and none of the heavy rooms."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "sqlalchemy", "pydantic", "fastapi", "openai")


@pytest.fixture(scope="module")
def helped() -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-m", "backend.cli.main", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_names_the_commands(helped: subprocess.CompletedProcess[str]) -> None:
    assert helped.returncode == 0
    for command in ("demo", "persona", "base-image", "generate", "caption", "serve"):
        assert re.search(rf"\b{command}\b", helped.stdout), command


@pytest.mark.parametrize("package", HEAVY)
def test_help_starts_without(helped: subprocess.CompletedProcess[str], package: str) -> None:
    imported = {line.rpartition("|")[2].strip() for line in helped.stderr.splitlines()}
    assert "typer" in imported
    assert not {name for name in imported if name.split(".")[0] == package}
