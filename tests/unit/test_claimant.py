"""Names of processes, and whether one is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backend.services.claimant import claimant_name, is_gone

NAME = "from backend.services.claimant import claimant_name; print(claimant_name(), flush=True)"
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells by /proc")


def test_a_process_is_not_gone_while_it_runs() -> None:
    assert not is_gone(claimant_name())
    assert claimant_name() == claimant_name()
    assert len(claimant_name()) <= 100


@linux
def test_a_process_is_gone_when_it_has_ended_and_not_before() -> None:
    code = f"{NAME}; input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        name = child.stdout.readline().strip()
        assert not is_gone(name)
        child.communicate("\n", timeout=30)
    assert is_gone(name)


@linux
def test_a_number_that_another_process_has_now_is_another() -> None:
    place, pid, began = claimant_name().split("/")
    assert is_gone(f"{place}/{pid}/{int(began) - 1}")


@pytest.mark.parametrize(
    "name", ["", "host/12/ab", "a/b", "other:1/1/1", "legacy", "../../etc/passwd", "x/-1/5"]
)
def test_of_another_machine_nothing_is_known(name: str) -> None:
    assert not is_gone(name)


def test_without_proc_a_name_is_still_its_own(tmp_path: Path) -> None:
    first, second = claimant_name(tmp_path), claimant_name(tmp_path)
    assert first != second
    assert not is_gone(first, tmp_path)
