"""A finished picture as the row that keeps it: one form, whoever had it made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend.models.base import new_id, now


def content_values(
    made: Mapping[str, Any],
    sha256: str,
    *,
    prompt: str,
    persona_id: str | None,
    base_version: int | None,
) -> dict[str, Any]:
    """Return the columns of a content.

    Args:
        made: a finished image, as `AIModelManager.generate_image` returns it.
        sha256: of its bytes, which are stored.
        prompt: what was asked for.
        persona_id: whom it shows.
        base_version: the approved version that it was made by.
    """
    return {
        "id": new_id(),
        "persona_id": persona_id,
        "base_version": base_version,
        "sha256": sha256,
        "mime": f"image/{made['format']}",
        "width": made["width"],
        "height": made["height"],
        "size_bytes": len(made["image_data"]),
        "prompt": prompt,
        "seed": made["seed"],
        "model": made["model"],
        "provider": made["provider"],
        "kind": made["kind"],
        "device": made["device"],
        "seconds": round(made["seconds"].get("render", 0.0), 4),
        "receipt": dict(made["receipt"]),
        "prompt_report": dict(made["prompt_report"]),
        "created_at": now(),
    }
