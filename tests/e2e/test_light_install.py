"""The light install: no torch, and the studio draws all the same, and says so."""

from __future__ import annotations

import json
import os
import site
import sqlite3
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "tokenizers", "numpy")
SOURCES = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that finds every package of this environment but those of `local`."""
    folder = tmp_path_factory.mktemp("light")
    venv.create(folder / "venv", with_pip=False)
    packages = folder / "packages"
    packages.mkdir()
    [installed] = [Path(p) for p in site.getsitepackages() if p.startswith(sys.prefix)]
    for entry in installed.iterdir():
        if not entry.name.lower().startswith((*HEAVY, "nvidia", "__editable__", "_gator")):
            (packages / entry.name).symlink_to(entry)
    return folder


def run(light: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(SOURCES), str(light / "packages"))),
        "GATOR_HOME": str(light / "home"),
    }
    return subprocess.run(
        [str(light / "venv" / "bin" / "python"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=light,
        check=False,
    )


def test_there_is_no_torch(light: Path) -> None:
    done = run(light, "-c", "import torch")
    assert "No module named 'torch'" in done.stderr


def test_the_demo_draws_illustrated_avatars_and_never_calls_them_ai(light: Path) -> None:
    done = run(light, "-m", "backend.cli.main", "demo", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert (report["images"], report["errors"]) == (32, 0)
    with sqlite3.connect(light / "home" / "gator.sqlite3") as database:
        kinds = database.execute("SELECT DISTINCT kind, model FROM contents").fetchall()
    assert kinds == [("illustrated", "illustrated")]
    page = Path(report["gallery"]).read_text("utf-8")
    assert "Illustrated, not AI-generated" in page
    assert ">AI-generated<" not in page


def test_asking_for_the_diffusion_model_says_what_to_install(light: Path) -> None:
    run(light, "-m", "backend.cli.main", "persona", "new", "--name", "A", "--appearance", "b",
        "--personality", "c")  # fmt: skip
    done = run(light, "-m", "backend.cli.main", "base-image", "seed", "A", "--model", "portrait")
    assert done.returncode == 1
    assert "'portrait' is not available; usable here: illustrated" in done.stderr
    assert "extra `local`" in done.stderr


def test_the_doctor_says_that_there_is_no_torch_and_that_it_works_all_the_same(light: Path) -> None:
    done = run(light, "-m", "backend.cli.main", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    [device] = json.loads(done.stdout)["devices"]
    assert (device["device"], device["state"]) == ("cpu:0", "limited")
    assert "torch is not installed: the illustrated engine draws" in device["says"]
    assert "gator-studio[local]" in device["advice"][0]
