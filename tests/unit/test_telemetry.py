"""What drivers tell of cards: AMD's through the kernel's files, nothing of CPU slots."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.imaging import telemetry
from backend.imaging.devices import Device
from backend.imaging.telemetry import CardReading, read_cards


@pytest.fixture
def drm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two AMD cards as the kernel lists them, numbered against the order of the bus."""
    if telemetry._nvml():
        pytest.skip("NVML answers here, and is asked first")
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for number, bus, used in ((0, "0000:43:00.0", 8), (1, "0000:03:00.0", 3)):
        card = tmp_path / "devices" / bus
        card.mkdir(parents=True)
        (card / "mem_info_vram_used").write_text(f"{used}\n")
        (card / "mem_info_vram_total").write_text("16\n")
        (card / "gpu_busy_percent").write_text("25\n")
        listed = tmp_path / "drm" / f"card{number}"
        listed.mkdir(parents=True)
        (listed / "device").symlink_to(card)
    (tmp_path / "drm" / "card0-DP-1").mkdir()
    return tmp_path / "drm"


def test_cards_are_counted_in_the_order_of_the_bus(drm: Path) -> None:
    found = read_cards([Device("cuda", 0), Device("cuda", 1), Device("cuda", 2)], drm)
    assert found == {"cuda:0": CardReading(3, 16, 0.25), "cuda:1": CardReading(8, 16, 0.25)}


def test_only_the_cards_that_are_shown_count(drm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    assert read_cards([Device("cuda", 0)], drm) == {"cuda:0": CardReading(8, 16, 0.25)}


def test_a_figure_that_is_not_told_is_not_made_up(drm: Path) -> None:
    (drm / "card1" / "device" / "gpu_busy_percent").unlink()
    (drm / "card0" / "device" / "mem_info_vram_used").write_text("unknown")
    found = read_cards([Device("cuda", 0), Device("cuda", 1)], drm)
    assert found == {"cuda:0": CardReading(3, 16, None)}


def test_cpu_slots_have_no_reading(drm: Path) -> None:
    assert read_cards([Device("cpu", 0)], drm) == {}
    assert read_cards([Device("cuda", 0)], drm / "none") == {}
