"""A peer of `pool_scaling.py`: one rank of accelerate's `split_between_processes`.

Spoken to as `bare_loop.py` is, but told all jobs; it renders its own share of them.
"""

import json
import sys

from accelerate import PartialState
from bare_loop import answer, load, render


def main(folder: str) -> None:
    state = PartialState(cpu=True)
    pipeline = load(folder)
    answer("ready")
    for line in sys.stdin:
        with state.split_between_processes(json.loads(line)) as jobs:
            answer([render(pipeline, **job) for job in jobs])
    state.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
