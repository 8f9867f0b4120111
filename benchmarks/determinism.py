"""Which circumstances change a picture's bytes: micro-batches, threads, neighbours, order.

The embedded portrait model on the CPU, a picture a seed, against the same picture made alone on one
thread. What may not change a byte is claimed; what may is measured: the share of equal files, and
the largest difference of a pixel's channel, of 255.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import report
from PIL import Image

from backend.imaging.builtin.cards import cards
from backend.imaging.diffusion.engine import DiffusionEngine, build
from backend.imaging.types import Drawn, EngineContext, ImageRequest, item_seed
from backend.services.demo import examples_folder, read_prompts

MODEL = "portrait"
BATCH_SEED = 2026
PICTURES = 16
MICRO_BATCHES = (2, 4, 8)


class Silence:
    """Listens to no step."""

    def phase(self, name: object) -> None:
        """Say nothing."""

    def step(self, done: int, total: int, preview: object = None) -> None:
        """Say nothing."""


def requests(count: int, steps: int | None) -> list[ImageRequest]:
    prompts = read_prompts(examples_folder() / "prompts.txt")
    return [
        ImageRequest.from_call(
            prompts[index % len(prompts)],
            {
                "seed": item_seed(BATCH_SEED, index),
                "identity": f"persona {index % 4}",
                "num_inference_steps": steps,
            },
        )
        for index in range(count)
    ]


def make(engine: DiffusionEngine, asked: Sequence[ImageRequest], micro_batch: int) -> list[bytes]:
    """Render in micro-batches of so many; return the files in the order of the requests."""
    [card] = [card for card in cards() if card.name == MODEL]
    drawn: list[Drawn] = []
    for index in range(0, len(asked), micro_batch):
        drawn += engine.render(asked[index : index + micro_batch], card, Silence())
    return [one.encode() for one in drawn]


def engine_of(threads: int) -> DiffusionEngine:
    """Build an engine, which sets this process's number of torch threads."""
    return build(
        EngineContext(device_id=0, device="cpu:0", torch_device="cpu", cpu_threads=threads)
    )


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.int16)


def compare(reference: Sequence[bytes], files: Sequence[bytes]) -> dict[str, float]:
    """Return the share of equal files and how far the others are off."""
    pairs = list(zip(reference, files, strict=True))
    differences = [np.abs(pixels(a) - pixels(b)) for a, b in pairs if a != b]
    return {
        "equal_share": sum(a == b for a, b in pairs) / len(pairs),
        "max_difference": max((int(d.max()) for d in differences), default=0),
        "channels_off": round(float(sum((d > 0).mean() for d in differences)) / len(pairs), 6),
    }


def measure(count: int, steps: int | None) -> report.Report:
    asked = requests(count, steps)
    engine = engine_of(1)
    alone = make(engine, asked, 1)
    ways = {
        "again, its words kept": make(engine, asked, 1),
        "backwards": make(engine, asked[::-1], 1)[::-1],
        "a fresh engine": make(engine_of(1), asked, 1),
    }
    strict = list(ways)
    for size in MICRO_BATCHES:
        ways[f"micro-batch {size}"] = make(engine, asked, size)
    size = MICRO_BATCHES[0]
    twice = compare(ways[f"micro-batch {size}"], make(engine, asked, size))
    ways["2 threads"] = make(engine_of(2), asked, 1)
    found = {way: compare(alone, files) for way, files in ways.items()}
    largest = max(values["max_difference"] for values in found.values())
    return report.Report(
        figures={"pictures": count, "ways": found},
        claims=[
            *(
                report.at_least(f"equal files, {way}", found[way]["equal_share"], 1)
                for way in strict
            ),
            report.at_least(
                f"equal files, micro-batch {size}, made twice", twice["equal_share"], 1
            ),
            *(
                report.Claim(f"equal files, {way}", values["equal_share"])
                for way, values in found.items()
                if way not in strict
            ),
            report.at_most("largest difference of a channel, of 255", largest, 2),
        ],
        tables=[
            (
                f"{count} pictures against themselves, alone on one thread",
                ("", "equal files", "max difference", "channels off"),
                [(way, *values.values()) for way, values in found.items()],
            )
        ],
    )


def main() -> None:
    parser = report.arguments(__doc__)
    parser.add_argument(
        "--pictures", type=report.positive, default=PICTURES, help="default: %(default)s"
    )
    parser.add_argument("--steps", type=report.positive, help="default: the model's own")
    options = parser.parse_args()
    found = measure(options.pictures, options.steps)
    report.show("determinism", found, as_json=options.json)


if __name__ == "__main__":
    main()
