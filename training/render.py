"""Render the training set: portraits as RGBA arrays, their attributes as JSON.

python render.py --count 20000 --out data
"""

import argparse
import json
import time
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path
from random import Random

import numpy as np
from portraits import draw, from_dict, sample_portrait, to_dict


def _pixels(values: dict[str, str]) -> np.ndarray:
    return np.asarray(draw(from_dict(values)))


def _drawn(portraits: list[dict[str, str]], processes: int) -> Iterator[np.ndarray]:
    if processes == 1:
        yield from map(_pixels, portraits)
        return
    with Pool(processes) as pool:
        yield from pool.imap(_pixels, portraits, chunksize=64)


def render(count: int, seed: int, processes: int, out: Path) -> None:
    """Write `count` random portraits to `out`."""
    rng = Random(seed)
    portraits = [to_dict(sample_portrait(rng)) for _ in range(count)]
    out.mkdir(parents=True, exist_ok=True)
    pixels = np.lib.format.open_memmap(out / "pixels.npy", "w+", np.uint8, (count, 128, 128, 4))
    started = time.perf_counter()
    for index, image in enumerate(_drawn(portraits, processes)):
        pixels[index] = image
    pixels.flush()
    (out / "portraits.json").write_text(json.dumps(portraits))
    print(f"{count} portraits, {count / (time.perf_counter() - started):.0f}/s")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("data"))
    args = parser.parse_args(argv)
    render(args.count, args.seed, args.processes, args.out)


if __name__ == "__main__":
    main()
