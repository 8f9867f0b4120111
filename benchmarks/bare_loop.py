"""The peer of `pool_scaling.py`: diffusers' own loop in a process of its own, nothing of Gator.

Usage: `python benchmarks/bare_loop.py MODEL_FOLDER`. Says `ready` once the pipeline is loaded. Then
every line on stdin is a JSON list of jobs, and is answered by a line with the pictures' SHA-256.
"""

import hashlib
import io
import json
import sys

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

PNG_COMPRESS_LEVEL = 1


def load(folder: str):
    """Load a pipeline as any script would, on one thread."""
    torch.set_num_threads(1)
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    pipeline = DiffusionPipeline.from_pretrained(
        folder, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def main(folder: str) -> None:
    pipeline = load(folder)
    answer("ready")
    for line in sys.stdin:
        answer([render(pipeline, **job) for job in json.loads(line)])


def render(pipeline, seed, **arguments):
    """Render one picture, encode it as PNG and return its SHA-256."""
    generator = torch.Generator("cpu").manual_seed(seed)
    with torch.inference_mode():
        picture = pipeline(**arguments, generator=generator).images[0]
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=PNG_COMPRESS_LEVEL)
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def answer(value) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
