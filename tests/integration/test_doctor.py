"""The doctor: real probes of CPU slots, probes that die on purpose, and cards we do not have."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backend.errors import ConfigurationError
from backend.imaging.doctor import cards_on_the_bus, diagnose
from backend.imaging.verdicts import Check, Ending, Verdict, judge

PROBE = "tests.fixtures.probe"
CARD: Mapping[str, Any] = {
    "architecture": "sm_90",
    "built_for": ["sm_80", "sm_90"],
    "dtype": "float16",
    "vae_dtype": "float16",
}


def looked_at(**changes: Check) -> list[Check]:
    checks = {
        "torch": Check("torch", True, "torch 2.13.0", facts={"build": "CUDA 13.0"}),
        "device": Check("device", True, "a card (sm_90), driver 580", facts=CARD),
        "memory": Check("memory", True, "70 GiB free", facts={"total_bytes": 80 * 1024**3}),
        **{name: Check(name, True, "off by 1e-06") for name in ("matmul", "convolution")},
        **{name: Check(name, True, "off by 1e-06") for name in ("attention", "float16", "vae")},
    }
    return list((checks | changes).values())


def on_card(architecture: str, **facts: Any) -> Check:
    return Check("device", True, "a card", facts={**CARD, "architecture": architecture, **facts})


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with an NVIDIA card, an AMD accelerator and something that is no card."""
    for number, (vendor, kind) in enumerate(
        [("0x10de", "0x030200"), ("0x1002", "0x120000"), ("0x8086", "0x020000")]
    ):
        folder = tmp_path / "sys/bus/pci/devices" / f"0000:0{number}:00.0"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{kind}\n")
    return tmp_path


def test_a_cpu_slot_is_really_probed(machine: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    found = diagnose("cpu:1", cpu_threads=1, root=machine)
    [verdict] = found.verdicts
    assert (verdict.device, verdict.state) == ("cpu:0", "ready"), verdict
    assert "1 torch threads" in verdict.says
    assert "models in float32" in verdict.says
    checks = {check.check: check for check in verdict.checks}
    assert {"matmul", "convolution", "attention", "float16", "bfloat16", "vae"} <= checks.keys()
    assert all(check.ok for check in verdict.checks)
    assert checks["matmul"].facts["relative_error"] < 1e-5
    assert checks["torch"].facts["versions"]["diffusers"]
    assert [note.split(",")[0] for note in found.notes] == [
        "This machine has 1 NVIDIA card",
        "This machine has 1 AMD card",
    ]
    assert "install the ROCm build" in found.notes[1]
    assert json.loads(json.dumps(found.as_dict()))["ok"] is True


def test_the_command_prints_verdicts_and_one_json_object(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "backend.cli.main", "doctor", "--json", "--timeout", "1"]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert time.monotonic() - started < 60
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    assert {"ok", "devices", "notes"} == report.keys()


def test_every_card_is_probed_alone_and_a_crash_is_a_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("PROBE_CARDS", "3")
    monkeypatch.setenv("PROBE_ENDS_1", "abort")
    found = diagnose("auto", probe=PROBE)
    assert [(v.device, v.state) for v in found.verdicts] == [
        ("cuda:0", "ready"),
        ("cuda:1", "unusable"),
        ("cuda:2", "ready"),
    ]
    assert found.verdicts[2].checks[1].facts["card"] == "2"
    crashed = found.verdicts[1]
    assert "the probe ended in matmul (killed by SIGABRT): rocBLAS error" in crashed.says
    assert any("GATOR_DEVICES" in advice for advice in crashed.advice)
    assert not found.ok


def test_a_hang_is_a_verdict_and_the_others_are_not_held_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("PROBE_CARDS", "2")
    monkeypatch.setenv("PROBE_ENDS_0", "hang")
    started = time.monotonic()
    found = diagnose("cuda", probe=PROBE, timeout_s=3)
    assert time.monotonic() - started < 15
    assert [v.state for v in found.verdicts] == ["unusable", "ready"]
    assert "the probe ended in matmul (no answer for 3 s)" in found.verdicts[0].says


@pytest.mark.parametrize(
    ("ends", "says"),
    [("early", "exit code 0, too early"), ("other", "exit code 3")],
)
def test_an_end_without_a_word_is_seen(
    monkeypatch: pytest.MonkeyPatch, ends: str, says: str
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("PROBE_ENDS", ends)
    [verdict] = diagnose("cpu:1", probe=PROBE).verdicts
    assert verdict.state == "unusable"
    assert says in verdict.says


def test_a_torch_that_cannot_even_count_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("PROBE_ENDS", "count")
    [verdict] = diagnose("auto", probe=PROBE).verdicts
    assert (verdict.device, verdict.state) == ("torch", "unusable")
    assert "killed by SIGSEGV" in verdict.says


def test_a_card_that_is_not_here_is_refused() -> None:
    pytest.importorskip("torch")
    with pytest.raises(ConfigurationError, match="torch sees 0 GPU"):
        diagnose("cuda:1", probe=PROBE)


def test_cards_on_the_bus_are_counted_by_vendor(machine: Path) -> None:
    assert cards_on_the_bus(machine) == {"NVIDIA": 1, "AMD": 1}
    assert cards_on_the_bus(machine / "nothing") == {}


def verdict_on(*checks: Check, **ending: str) -> Verdict:
    named = {check.check: check for check in checks}
    return judge("cuda:0", looked_at(**named), Ending(**ending))


def test_a_good_card_is_ready() -> None:
    verdict = verdict_on()
    assert (verdict.state, verdict.advice) == ("ready", ())
    assert verdict.says == "a card (sm_90), driver 580; 70 GiB free; models in float16."


def test_gfx900_is_known() -> None:
    card = on_card("gfx900", built_for=["gfx900", "gfx906"], vae_dtype="float32")
    verdict = verdict_on(card, Check("bfloat16", False, "not supported"))
    assert verdict.state == "limited"
    [advice] = verdict.advice
    for words in ("float16, since it has no bfloat16", "VAE decodes in float32", "compiled"):
        assert words in advice
    assert "models in float16, the VAE in float32" in verdict.says


def test_gfx900_under_a_build_without_its_libraries() -> None:
    card = on_card("gfx900", built_for=["gfx90a", "gfx942"])
    checks = [*looked_at()[:1], card]
    verdict = judge("cuda:0", checks, Ending("killed by SIGABRT", "matmul", "Illegal seek"))
    assert verdict.state == "unusable"
    said = " ".join(verdict.advice)
    assert "built for gfx90a, gfx942; the card is gfx900" in said
    assert "ROCm 6.2 and 6.3" in said


@pytest.mark.parametrize(
    ("check", "says", "advice"),
    [
        ("matmul", "AcceleratorError: CUDA error: no kernel image is available", "is built for"),
        ("memory", "OutOfMemoryError: CUDA out of memory.", "Another program holds"),
        ("device", "RuntimeError: CUDA driver version is insufficient", "bring the driver up"),
        ("convolution", "computes wrong: off by 3.1e-01", "leave the card out"),
        ("vae", "gives numbers that are not finite", "leave the card out"),
    ],
)
def test_an_essential_failure_is_unusable_and_says_what_to_do(
    check: str, says: str, advice: str
) -> None:
    verdict = verdict_on(Check(check, False, says))
    assert (verdict.state, verdict.says) == ("unusable", f"{check} fails: {says}")
    assert advice in " ".join(verdict.advice)


def test_what_a_model_can_go_round_limits() -> None:
    verdict = verdict_on(
        Check("bfloat16", False, "computes wrong"),
        Check("memory", True, "3 GiB free", facts={"total_bytes": 4 * 1024**3}),
    )
    assert verdict.state == "limited"
    assert "bfloat16 does not work" in verdict.advice[0]
    assert "It has 4 GiB" in verdict.advice[1]


def test_a_torch_that_does_not_load() -> None:
    broken = Check("torch", False, "ImportError: libcudart.so.13: cannot open shared object file")
    verdict = judge("cuda:0", [broken], Ending())
    assert verdict.state == "unusable"
    assert "torch does not load: ImportError" in verdict.says
