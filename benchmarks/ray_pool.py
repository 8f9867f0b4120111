"""A peer of `pool_scaling.py`: two Ray actors with a pipeline each, fed by Ray's `ActorPool`.

Spoken to as `bare_loop.py` is.
"""

import json
import sys

import ray
from bare_loop import answer, load, render
from ray.util import ActorPool

ACTORS = 2


@ray.remote(num_cpus=1)
class Renderer:
    """A pipeline in a process of its own."""

    def __init__(self, folder):
        self.pipeline = load(folder)

    def ready(self):
        """Answer once the pipeline is loaded."""
        return True

    def render(self, job):
        """Render one job and return its SHA-256."""
        return render(self.pipeline, **job)


def main(folder: str) -> None:
    ray.init(num_cpus=ACTORS, include_dashboard=False, log_to_driver=False, logging_level="error")
    actors = [Renderer.remote(folder) for _ in range(ACTORS)]
    ray.get([actor.ready.remote() for actor in actors])
    pool = ActorPool(actors)
    answer("ready")
    for line in sys.stdin:
        answer(list(pool.map(lambda actor, job: actor.render.remote(job), json.loads(line))))
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
