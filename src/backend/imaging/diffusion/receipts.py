"""What is written down of how a picture was made, beside what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
import transformers

from backend.imaging.diffusion.memory import Relief
from backend.imaging.diffusion.residency import Resident


def circumstances(
    resident: Resident,
    pipeline: Any,
    *,
    device: str,
    micro_batch: int,
    relief: Relief,
    adapters: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the part of a receipt that the request does not decide.

    Args:
        resident: the model.
        pipeline: the one that was called; it may be another view of the model.
        device: its name, such as `cuda:1`.
        micro_batch: pictures that were rendered together.
        relief: what the pipeline was spared; tiles change pixels.
        adapters: as they were switched on; left out where there are none.
    """
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", pipeline)
    return {
        **({"adapters": list(adapters)} if adapters else {}),
        "model_fingerprint": resident.fingerprint,
        "pipeline": type(pipeline).__name__,
        "scheduler": type(pipeline.scheduler).__name__,
        "dtype": str(denoiser.dtype).removeprefix("torch."),
        "device": device,
        "torch_threads": torch.get_num_threads(),
        "micro_batch": micro_batch,
        "relief": relief.name.lower(),
        "versions": {
            # A str: unpickling torch's own type would import torch in the parent.
            "torch": str(torch.__version__),
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
    }
