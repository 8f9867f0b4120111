"""What is told of cards where no driver tells: what their workers said last."""

from __future__ import annotations

import pytest

from backend.imaging import telemetry
from backend.imaging.devices import Device
from backend.imaging.pool.seat import DeviceSnapshot, Seat
from backend.imaging.telemetry import CardReading, read_cards
from backend.imaging.types import MemoryReading


@pytest.fixture(autouse=True)
def no_nvml() -> None:
    if telemetry._nvml():
        pytest.skip("NVML answers here, and is asked first")


def seen(device: Device, memory: MemoryReading | None) -> DeviceSnapshot:
    return Seat(device, memory=memory).snapshot(0)


def test_without_a_driver_that_tells_a_cards_worker_does() -> None:
    cards = [Device("cuda", 0), Device("cuda", 1)]
    pool = [seen(cards[0], None), seen(cards[1], MemoryReading(3, 16))]
    assert read_cards(cards, pool) == {"cuda:1": CardReading(3, 16, None)}


def test_what_nobody_tells_is_not_made_up() -> None:
    assert read_cards([Device("cpu", 0), Device("cuda", 0)], []) == {}
