"""docs/api.md is true: its routes are those there are, and its example runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import httpx2
import pytest

from backend.api.app import create_app
from backend.api.problems import MethodNotAllowed
from backend.config import Settings
from backend.errors import GatorError

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text("utf-8")


def test_its_routes_are_those_there_are(page: str) -> None:
    told = {
        (method.lower(), path, status)
        for method, path, status in re.findall(r"^\| ([A-Z]+) \| `(\S+)` \| (\d+):", page, re.M)
    }
    document = create_app(Settings(home=Path("never-made"))).openapi()
    there = {
        (method, path, min(operation["responses"]))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert told == there


def test_its_error_codes_are_in_the_tree(page: str) -> None:
    tree = {MethodNotAllowed.code: MethodNotAllowed.http_status} | _statuses(GatorError)
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| (\d{3}) \|", page, re.M)
    assert rows
    for codes, status in rows:
        for code in re.findall(r"`(\w+)`", codes):
            assert tree[code] == int(status)


def test_its_example_runs(page: str, tmp_path: Path, api: httpx2.Client) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not here")
    (example,) = re.findall(r"```sh\n(.*?)```", page, re.S)
    script = example.replace("127.0.0.1:8000", f"127.0.0.1:{api.base_url.port}")
    script = script.replace('"seed":', '"model": "illustrated", "seed":')
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == 3
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def _statuses(kind: type[GatorError]) -> dict[str, int]:
    found = {kind.code: kind.http_status}
    for child in kind.__subclasses__():
        found |= _statuses(child)
    return found
