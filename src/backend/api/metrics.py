"""`/metrics`: what the studio does in figures, for Prometheus.

Each application has a registry of its own. Seconds are observed as pictures come; everything else
is read when it is asked for, so that nothing is counted twice or missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from backend.api.dependencies import OpenStudio, count_devices
from backend.api.problems import problems
from backend.bootstrap import Studio
from backend.errors import ConfigurationError
from backend.imaging.pool.seat import DeviceSnapshot, State
from backend.imaging.telemetry import CardReading, read_cards

STAGES = ("queue", "load", "render", "denoise", "decode", "encode", "store")
"""`denoise` and `decode` are parts of `render`, where an engine tells them apart."""

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)

router = APIRouter(tags=["system"])


class Metrics:
    """The figures that are kept between two looks."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._stage_seconds = Histogram(
            "gator_stage_seconds",
            "Seconds of a picture by stage; a picture's share where several are made together.",
            ("stage",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        for stage in STAGES:
            self._stage_seconds.labels(stage)  # a stage that nothing has passed yet shows as 0
        Info("gator_build", "The version that runs.", registry=self.registry).info(
            {"version": version}
        )
        ProcessCollector(registry=self.registry)

    def observe(self, seconds: Mapping[str, float]) -> None:
        """Note how long one picture took by stage; in the thread of the event loop."""
        for stage in STAGES:
            if stage in seconds:
                self._stage_seconds.labels(stage).observe(seconds[stage])


@dataclass(frozen=True, slots=True)
class _Now(Collector):
    """What is read at each look."""

    items: Mapping[str, int]
    waiting: int
    devices: Sequence[DeviceSnapshot]
    cards: Mapping[str, CardReading]

    def collect(self) -> Iterator[Metric]:
        yield _gauge(
            "gator_batch_items",
            "Items of all batches by state.",
            "state",
            self.items.items(),
        )
        depth = GaugeMetricFamily(
            "gator_queue_depth", "Items that wait in batches that are neither paused nor ended."
        )
        depth.add_metric((), self.waiting)
        yield depth
        yield from self._of_devices()
        yield from self._of_cards()

    def _of_devices(self) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "gator_device_state", "1 for the state that a device is in.", labels=("device", "state")
        )
        images = CounterMetricFamily(
            "gator_device_images", "Pictures by how they ended.", labels=("device", "outcome")
        )
        for device in self.devices:
            for name in get_args(State):
                state.add_metric((device.device, name), float(device.state == name))
            images.add_metric((device.device, "done"), device.done)
            images.add_metric((device.device, "failed"), device.failed)
        yield from (state, images)
        restarts = CounterMetricFamily(
            "gator_device_restarts", "Workers that were replaced.", labels=("device",)
        )
        for device in self.devices:
            restarts.add_metric((device.device,), device.restarts)
        yield restarts
        for name, help_text, values in (
            (
                "gator_device_utilisation_ratio",
                "Share of the time since its worker came up in which it worked.",
                ((d.device, d.utilisation) for d in self.devices),
            ),
            (
                "gator_device_waiting",
                "Pictures that wait for a device in the pool.",
                ((d.device, d.waiting) for d in self.devices),
            ),
            (
                "gator_worker_peak_resident_memory_bytes",
                "The most main memory that a device's worker held.",
                ((d.device, d.rss_bytes) for d in self.devices),
            ),
        ):
            yield _gauge(name, help_text, "device", values)

    def _of_cards(self) -> Iterator[Metric]:
        read = self.cards.items()
        for name, help_text, values in (
            (
                "gator_card_memory_used_bytes",
                "Memory of a card that is taken, by whomever.",
                ((device, card.used_bytes) for device, card in read),
            ),
            (
                "gator_card_memory_total_bytes",
                "Memory of a card.",
                ((device, card.total_bytes) for device, card in read),
            ),
            (
                "gator_card_busy_ratio",
                "Share of the last while in which a card worked, by its driver.",
                ((device, card.busy) for device, card in read if card.busy is not None),
            ),
        ):
            yield _gauge(name, help_text, "device", values)


@router.get(
    "/metrics",
    summary="Read figures for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Text for Prometheus, or OpenMetrics where that is accepted.",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/openmetrics-text": {"schema": {"type": "string"}},
            },
        },
        **problems(bare=True),
    },
)
async def read_metrics(studio: OpenStudio, request: Request) -> Response:
    """Return items by state, seconds by stage, and what each device and its worker do."""
    metrics: Metrics = request.app.state.metrics
    told = _Told(metrics.registry, await _now(studio))
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(told), media_type=media_type)


@dataclass(frozen=True, slots=True)
class _Told(Collector):
    """What is kept, and what was read for this look."""

    kept: CollectorRegistry
    now: _Now

    def collect(self) -> Iterator[Metric]:
        yield from self.kept.collect()
        yield from self.now.collect()


async def _now(studio: Studio) -> _Now:
    try:
        devices: Sequence[Any] = await count_devices(studio)
    except ConfigurationError:  # a card that is gone; the others' figures are still wanted
        devices = ()
    figures = await studio.figures.read()
    seen = studio.models.snapshot()
    return _Now(
        items={state.value: n for state, n in figures.items.items()},
        waiting=figures.waiting,
        devices=seen,
        cards=await asyncio.to_thread(read_cards, devices, seen),
    )


def _gauge(
    name: str, help_text: str, label: str, values: Iterable[tuple[str, float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=(label,))
    for value, figure in values:
        family.add_metric((value,), figure)
    return family
