"""Noise schedulers by the names people know them by."""

from __future__ import annotations

import diffusers
from diffusers import DiffusionPipeline

from backend.errors import InvalidRequest

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpm++_2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}


def use_scheduler(pipeline: DiffusionPipeline, name: str | None, original: object) -> None:
    """Give the pipeline the named scheduler, made from its own configuration, else its original.

    Raises:
        InvalidRequest: there is no scheduler of that name.
    """
    if name is None:
        pipeline.scheduler = original
        return
    if name not in SCHEDULERS:
        message = f"is {name!r}; these are known: {', '.join(SCHEDULERS)}"
        raise InvalidRequest(
            f"scheduler: {message}", {"errors": [{"field": "scheduler", "message": message}]}
        )
    scheduler = getattr(diffusers, SCHEDULERS[name])
    pipeline.scheduler = scheduler.from_config(original.config)  # type: ignore[attr-defined]
