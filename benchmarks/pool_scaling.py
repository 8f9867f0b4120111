"""Two CPU slots against one, and both against bare loops and other tools that do the same work.

The same pictures with the embedded portrait model, made by Gator with one and with two slots, by a
bare diffusers loop in one process and in two, by accelerate's `split_between_processes`, by a pool
of Ray actors, and by threads in one process. All are warm before the clock starts, processes of the
same number are pinned to the same cores, a round goes all ways, and every picture must have the
same bytes whichever way it was made.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import hashlib
import importlib.util
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import report

from backend.config import load_settings
from backend.imaging.builtin.cards import WEIGHTS, cards
from backend.services.ai_models import AIModelManager
from backend.services.demo import examples_folder, read_personas, read_prompts

MODEL = "portrait"
BATCH_SEED = 2026
CPU_THREADS = 1
WARM_UPS = 5
BARE_TARGET = 0.97
PEER_TARGET = 1.0
MIB = 1 << 20
JOB = ("prompt", "width", "height", "num_inference_steps", "guidance_scale", "seed")
"""What a bare loop is told of a picture: these entries of its receipt."""

WAYS = {1: ("gator_1_slot", "bare_1_process"), 2: ("gator_2_slots", "bare_2_processes")}
"""Gator's and the bare loop's, by their number of processes."""

RATIOS = {
    "two_slots_to_two_bare": ("gator_2_slots", "bare_2_processes"),
    "one_slot_to_one_bare": ("gator_1_slot", "bare_1_process"),
    "two_slots_to_one_slot": ("gator_2_slots", "gator_1_slot"),
    "two_bare_to_one_bare": ("bare_2_processes", "bare_1_process"),
}
PEERS = {
    "accelerate": "accelerate's split_between_processes",
    "ray": "a Ray actor pool",
    "threads": "asyncio.gather over to_thread",
}


class Made(NamedTuple):
    """One way's share of a round."""

    seconds: float
    digests: list[str]


class Slots:
    """Gator with so many CPU slots."""

    def __init__(self, slots: int, prompts: Sequence[str], steps: int | None) -> None:
        persona = read_personas(examples_folder() / "personas")[0]
        self._slots = slots
        self._prompts = list(prompts)
        self._options = {
            "seed": BATCH_SEED,
            "appearance": persona.appearance,
            "identity": persona.name,
            "num_inference_steps": steps,
        }
        settings = load_settings(
            devices=f"cpu:{slots}",
            cpu_threads=CPU_THREADS,
            model_dirs=(),
            image_models=(),
            image_model=MODEL,
        )
        self._manager = AIModelManager(settings)

    def close(self) -> None:
        """End the workers."""
        asyncio.run(self._manager.close())

    def warm_up(self) -> list[dict[str, Any]]:
        """Render until every slot has; return the receipts, in the order of the prompts."""
        served: set[str] = set()
        for _ in range(WARM_UPS):
            results = self._render()
            served |= {result["device"] for result in results}
            if len(served) == self._slots:
                return [result["receipt"] for result in results]
        return report.fail(f"of {self._slots} slots only {sorted(served)} took work")

    def make(self) -> Made:
        """Render all prompts, timed."""
        started = time.perf_counter()
        digests = [hashlib.sha256(result["image_data"]).hexdigest() for result in self._render()]
        return Made(time.perf_counter() - started, digests)

    def resident_bytes(self) -> list[int]:
        """Return the resident memory of every worker."""
        return [psutil.Process(pid).memory_info().rss for pid in self.pids()]

    def pids(self) -> list[int]:
        """Return the workers' process ids, by device."""
        return [seat.pid for seat in self._manager.snapshot() if seat.pid]

    def _render(self) -> list[dict[str, Any]]:
        work = self._manager.generate_images_batch(self._prompts, **self._options)
        results = asyncio.run(work)
        for result in results:
            if result["status"] != "completed":
                report.fail(f"{result['prompt']!r}: {result['error']}")
        return results


class Loop:
    """A process that answers a line of jobs with the pictures' hashes, such as `bare_loop.py`."""

    def __init__(self, script: str, **environment: str) -> None:
        here, threads = Path(__file__).parent, str(CPU_THREADS)
        self._process = subprocess.Popen(
            [sys.executable, str(here / script), str(WEIGHTS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # as Gator's workers: Linux shares the cores out by session
            env={
                **os.environ,
                "CUDA_VISIBLE_DEVICES": "",
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
                "TRANSFORMERS_VERBOSITY": "error",
                "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
                "PYTHONPATH": os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")]),
                **environment,
            },
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def close(self) -> None:
        """Close its stdin, so that it ends, and wait for that."""
        self._process.communicate()

    def start(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Hand it jobs; it begins at once."""
        self._process.stdin.write(json.dumps(jobs) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for what it says next."""
        line = self._process.stdout.readline()
        return json.loads(line) if line else report.fail("a peer's loop ended")

    def resident_bytes(self) -> int:
        """Return its resident memory."""
        return psutil.Process(self.pid).memory_info().rss


def make_barely(processes: Sequence[Loop], jobs: Sequence[Mapping[str, Any]]) -> Made:
    """Split the jobs evenly, start all processes at once, wait for the last; timed."""
    digests = [""] * len(jobs)
    started = time.perf_counter()
    for place, process in enumerate(processes):
        process.start(jobs[place :: len(processes)])
    for place, process in enumerate(processes):
        digests[place :: len(processes)] = process.answer()
    return Made(time.perf_counter() - started, digests)


def make_together(processes: Sequence[Loop], jobs: Sequence[Mapping[str, Any]]) -> Made:
    """Tell every process all the jobs; each answers with the share that it took."""
    started = time.perf_counter()
    for process in processes:
        process.start(jobs)
    digests = [digest for process in processes for digest in process.answer()]
    return Made(time.perf_counter() - started, digests)


def ranks() -> list[Loop]:
    """Start two ranks of accelerate, as its launcher would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        Loop("accelerate_split.py", RANK=str(rank), LOCAL_RANK=str(rank), **common)
        for rank in range(2)
    ]


def pin(pids: Sequence[int]) -> None:
    """Keep each process, with all its threads, on a core of its own, where the system can."""
    cores = sorted(os.sched_getaffinity(0))
    for number, pid in enumerate(pids):
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, {cores[number % len(cores)]})


@contextmanager
def opened(
    prompts: Sequence[str], steps: int | None, most: int, *, with_tools: bool
) -> Iterator[tuple[list[Slots], dict[str, list[Loop]]]]:
    """Start everybody; the peers load while Gator's workers warm up."""
    with ExitStack() as stack:
        loops = {"bare": [Loop("bare_loop.py") for _ in range(most)]}
        if with_tools:
            loops |= {"accelerate": ranks(), "threads": [Loop("thread_loop.py")]}
        if with_tools and importlib.util.find_spec("ray"):
            loops["ray"] = [Loop("ray_pool.py")]
        slots = [Slots(number + 1, prompts, steps) for number in range(most)]
        for one in (*itertools.chain(*loops.values()), *slots):
            stack.callback(one.close)
        yield slots, loops


def measure(
    images: int, steps: int | None, rounds: int, *, most: int, with_tools: bool
) -> report.Report:
    """Warm up, go the rounds, compare; with one slot and one process, or with two as well."""
    if not portrait_loaded():
        return report.Report(
            skipped="the portrait model needs the extra `local` (torch, diffusers)"
        )
    written = read_prompts(examples_folder() / "prompts.txt")
    prompts = [written[index % len(written)] for index in range(images)]
    with opened(prompts, steps, most, with_tools=with_tools) as (slots, loops):
        receipts = [one.warm_up() for one in slots][-1]
        jobs = [{name: receipt[name] for name in JOB} for receipt in receipts]
        for process in itertools.chain(*loops.values()):
            process.answer()
        bare = loops.pop("bare")
        make_barely(bare, jobs)
        for peers in loops.values():
            make_together(peers, jobs)
        for pids in (
            *(one.pids() for one in slots),
            *([p.pid for p in group] for group in (bare, loops.get("accelerate", []))),
        ):
            pin(pids)
        made = report.interleave(ways(slots, bare, loops, jobs), rounds)
        memory = {
            "parent": [psutil.Process().memory_info().rss],
            **{
                f"workers of {number} slot{'s' * (number > 1)}": one.resident_bytes()
                for number, one in enumerate(slots, 1)
            },
            "bare processes": [process.resident_bytes() for process in bare],
        }
    return summed_up(made, memory, images)


def ways(
    slots: Sequence[Slots],
    bare: Sequence[Loop],
    tools: Mapping[str, Sequence[Loop]],
    jobs: Sequence[Mapping[str, Any]],
) -> dict[str, Callable[[], Made]]:
    """Name every way of making the pictures, in the order of a round."""
    found: dict[str, Callable[[], Made]] = {}
    for number, one in enumerate(slots, 1):
        ours, barely = WAYS[number]
        found[ours] = one.make
        found[barely] = functools.partial(make_barely, bare[:number], jobs)
    return found | {
        name: functools.partial(make_together, peers, jobs) for name, peers in tools.items()
    }


def portrait_loaded() -> bool:
    return any(card.loaded for card in cards() if card.name == MODEL)


def summed_up(
    made: Mapping[str, Sequence[Made]], memory: Mapping[str, Sequence[int]], images: int
) -> report.Report:
    """Turn seconds, digests and bytes into figures and claims."""
    rates = {way: [images / m.seconds for m in rounds] for way, rounds in made.items()}
    speeds = {way: report.spread(rate) for way, rate in rates.items()}
    pairs = RATIOS | {f"two_slots_to_{peer}": ("gator_2_slots", peer) for peer in PEERS}
    ratios = {
        name: report.ratio(rates[way], rates[other])
        for name, (way, other) in pairs.items()
        if way in rates and other in rates
    }
    identical = len({tuple(m.digests) for rounds in made.values() for m in rounds}) == 1
    resident = {who: [round(size / MIB) for size in sizes] for who, sizes in memory.items()}
    no_torch = "torch" not in sys.modules
    return report.Report(
        figures={
            "images": images,
            "rounds": len(made["gator_1_slot"]),
            "images_per_s": speeds,
            "ratios": ratios,
            "byte_identical": identical,
            "sha256": made["gator_1_slot"][0].digests,
            "resident_mib": resident,
            "parent_without_torch": no_torch,
        },
        claims=[
            *bare_claims(ratios),
            *peer_claims(ratios),
            report.holds("every way and round gives the same bytes", identical),
            report.holds("the parent holds no weights (no torch)", no_torch),
            report.Claim("the parent's resident memory, MiB", resident["parent"][0]),
        ],
        tables=[
            report.spread_table("images/s", speeds),
            report.spread_table("ratios", ratios),
            ("resident memory, MiB", ("who", "each"), memory_rows(resident)),
        ],
    )


def bare_claims(ratios: Mapping[str, Mapping[str, float]]) -> list[report.Claim]:
    """Claim to be no slower than bare loops in as many processes; tell what a second slot adds."""
    found = [
        report.at_least(claim, ratios[name]["median"], BARE_TARGET)
        for name, claim in (
            ("two_slots_to_two_bare", "2 slots / 2 bare processes, images/s"),
            ("one_slot_to_one_bare", "1 slot / 1 bare process, images/s"),
        )
        if name in ratios
    ]
    if "two_slots_to_one_slot" in ratios:
        figure = ratios["two_slots_to_one_slot"]["median"]
        found.append(report.Claim("2 slots / 1 slot, images/s", figure))
    return found


def peer_claims(ratios: Mapping[str, Mapping[str, float]]) -> list[report.Claim]:
    """Claim to be no slower than accelerate and Ray; threads are told as they come."""
    found = []
    for peer, words in PEERS.items():
        if f"two_slots_to_{peer}" in ratios:
            figure = ratios[f"two_slots_to_{peer}"]["median"]
            claim = f"2 slots / {words}, images/s"
            found.append(
                report.Claim(claim, figure)
                if peer == "threads"
                else report.at_least(claim, figure, PEER_TARGET)
            )
    return found


def memory_rows(resident: Mapping[str, Sequence[int]]) -> list[tuple[str, str]]:
    return [(who, ", ".join(map(str, sizes))) for who, sizes in resident.items()]


def several(text: str) -> int:
    """Read a number of pictures: one for each of two slots, at least."""
    number = report.positive(text)
    if number < 2:
        raise argparse.ArgumentTypeError("must be 2 or more, a picture for each slot")
    return number


def main() -> None:
    parser = report.arguments(__doc__, rounds=3)
    parser.add_argument("--images", type=several, default=24, help="a round; default: %(default)s")
    parser.add_argument("--steps", type=report.positive, help="default: the model's own")
    parser.add_argument(
        "--slots", type=int, choices=(1, 2), default=2, help="at most; default: %(default)s"
    )
    parser.add_argument("--bare", action="store_true", help="leave other tools out")
    options = parser.parse_args()
    found = measure(
        options.images,
        options.steps,
        options.rounds,
        most=options.slots,
        with_tools=not options.bare,
    )
    report.show("pool_scaling", found, as_json=options.json)


if __name__ == "__main__":
    main()
