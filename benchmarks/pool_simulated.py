"""The pool's own cost and wits, with engines that only wait: any number of devices on two cores.

Three questions. Up to how many devices does N times the devices give N times the pictures? How far
is a batch on devices of mixed speeds from the least makespan that any placement reaches? How often
is a model loaded, against the least that any order needs?
"""

from __future__ import annotations

import asyncio
import heapq
import json
import random
import time
from collections.abc import Sequence

import report

from backend.imaging.devices import resolve_devices
from backend.imaging.pool.pool import DevicePool
from backend.imaging.types import GeneratedImage, ImageRequest, ModelCard

PACE_S = 0.25
ITEMS_A_DEVICE = 64
DEVICES = (1, 2, 4, 8, 16, 32, 64)
MIXED = (1, 1, 2, 4)
SCALE_TARGET = 0.97
MAKESPAN_TARGET = 1.03


def card(name: str, paces: Sequence[float], *, load_s: float = 0.0, capacity: int = 9) -> ModelCard:
    told = {"paces": list(paces), "load_s": load_s, "capacity": capacity}
    engine = "benchmarks.simulated_engine:build"
    return ModelCard(name, "local", "diffusion", engine, json.dumps(told))


def pool_of(devices: int) -> DevicePool:
    return DevicePool(lambda: resolve_devices(f"cpu:{devices}"), [])


async def render(
    pool: DevicePool, cards: Sequence[ModelCard], devices: int
) -> list[GeneratedImage]:
    """Ask for one picture a card, placed round the devices, all at once."""
    return await asyncio.gather(
        *(
            pool.generate(ImageRequest("a picture", i, device_id=i % devices), one)
            for i, one in enumerate(cards)
        )
    )


async def warmed(pool: DevicePool, devices: int) -> None:
    await render(pool, [card("warm", [0.0])] * devices, devices)


async def scaling(devices: int, items: int) -> float:
    """Return the pictures a second, as a share of N / t."""
    pool = pool_of(devices)
    try:
        await warmed(pool, devices)
        one = card("even", [PACE_S])
        started = time.perf_counter()
        await render(pool, [one] * (items * devices), devices)
        return items * PACE_S / (time.perf_counter() - started)
    finally:
        await pool.close()


async def mixed_speeds(items: int) -> dict[str, float]:
    """Return makespans over the least there is: without and with speeds known, and modulo's."""
    paces = [PACE_S * factor for factor in MIXED]
    total, least = items * len(paces), least_makespan(paces, items * len(paces))
    pool = pool_of(len(paces))
    try:
        await warmed(pool, len(paces))
        found = {}
        for name in ("speeds unknown", "speeds known"):
            started = time.perf_counter()
            await render(pool, [card("mixed", paces)] * total, len(paces))
            found[name] = (time.perf_counter() - started) / least
    finally:
        await pool.close()
    return {**found, "modulo": items * max(paces) / least}


def least_makespan(paces: Sequence[float], items: int) -> float:
    """Return the end of greedy list scheduling, which is optimal for equal pictures."""
    slots = [(pace, pace) for pace in paces]
    heapq.heapify(slots)
    end = 0.0
    for _ in range(items):
        end, pace = heapq.heappop(slots)
        heapq.heappush(slots, (end + pace, pace))
    return end


async def mixed_models(devices: int, models: int, capacity: int, items: int) -> int:
    """Return how often models were loaded for a shuffled batch of several."""
    cards = [
        card(f"m{i}", [PACE_S / 5], load_s=PACE_S * 2, capacity=capacity) for i in range(models)
    ]
    wanted = [cards[i % models] for i in range(items * devices)]
    random.Random(4).shuffle(wanted)
    pool = pool_of(devices)
    try:
        await warmed(pool, devices)
        made = await render(pool, wanted, devices)
    finally:
        await pool.close()
    loads: dict[str, int] = {}
    for image in made:
        loads[image.device] = max(loads.get(image.device, 0), image.receipt["loads"])
    return sum(loads.values())


def measure(most: int, items: int) -> report.Report:
    """Answer the three questions."""
    shares = {n: round(asyncio.run(scaling(n, items)), 3) for n in DEVICES if n <= most}
    fed = max((n for n, share in shares.items() if share >= SCALE_TARGET), default=0)
    makespans = {name: round(v, 3) for name, v in asyncio.run(mixed_speeds(items)).items()}
    loads = {
        "4 models on 4 devices": (asyncio.run(mixed_models(4, 4, 1, items)), 4),
        "8 models on 4 devices that hold 2": (asyncio.run(mixed_models(4, 8, 2, items)), 8),
    }
    return report.Report(
        figures={
            "share_of_n_over_t": shares,
            "devices_fed_at_target": fed,
            "makespan_over_least": makespans,
            "loads": {name: {"loads": a, "least": b} for name, (a, b) in loads.items()},
            "seconds_a_picture": PACE_S,
        },
        claims=[
            report.at_least(f"pictures/s over N/t, {n} devices", share, SCALE_TARGET)
            for n, share in shares.items()
            if n <= max(fed, 1)
        ]
        + [
            report.Claim("the most devices that reach it on this machine", fed),
            report.at_most(
                "makespan over the least, speeds 1:1:2:4",
                makespans["speeds known"],
                MAKESPAN_TARGET,
            ),
            report.Claim("the same while the speeds are learned", makespans["speeds unknown"]),
            report.Claim("the same by modulo", makespans["modulo"]),
            *(
                report.Claim(f"model loads over the least, {name}", round(a / b, 2))
                for name, (a, b) in loads.items()
            ),
        ],
        tables=[
            (
                f"pictures/s as a share of N/t, t = {PACE_S} s, {items} pictures a device",
                ("devices", "share"),
                list(shares.items()),
            ),
            ("makespan over the least, 1:1:2:4", ("", "ratio"), list(makespans.items())),
            ("model loads", ("", "loads", "least"), [(n, a, b) for n, (a, b) in loads.items()]),
        ],
    )


def main() -> None:
    parser = report.arguments(__doc__)
    parser.add_argument("--devices", type=report.positive, default=64, help="the most to try")
    parser.add_argument("--items", type=report.positive, default=ITEMS_A_DEVICE, help="a device")
    options = parser.parse_args()
    report.show("pool_simulated", measure(options.devices, options.items), as_json=options.json)


if __name__ == "__main__":
    main()
