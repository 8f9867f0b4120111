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


def use_scheduler(
    pipeline: DiffusionPipeline, name: str | None, original: object, *, afresh: bool = False
) -> None:
    """Give the pipeline the named scheduler, made from its own configuration, else its original.

    Args:
        pipeline: whose scheduler is set.
        name: one of `SCHEDULERS`.
        original: the model's own.
        afresh: make the original anew too, so that nothing stays in it that another pipeline,
            which begins in the midst of its steps, would leave there.

    Raises:
        InvalidRequest: there is no scheduler of that name.
    """
    if name is None:
        pipeline.scheduler = type(original).from_config(original.config) if afresh else original  # type: ignore[attr-defined]
        return
    if name not in SCHEDULERS:
        message = f"is {name!r}; these are known: {', '.join(SCHEDULERS)}"
        raise InvalidRequest(
            f"scheduler: {message}", {"errors": [{"field": "scheduler", "message": message}]}
        )
    scheduler = getattr(diffusers, SCHEDULERS[name])
    pipeline.scheduler = scheduler.from_config(original.config)  # type: ignore[attr-defined]
