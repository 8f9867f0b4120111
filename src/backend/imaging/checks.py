"""What an image request may hold, and what is wrong with one that holds something else."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any

from backend.errors import InvalidRequest

PROMPT_LIMIT = 4_000
"""Characters; what DALL·E 3 took, and far beyond what any CLIP or T5 encoder reads."""

SEED_LIMIT = 2**53
"""Seeds stay below this, so that JSON readers with doubles keep every digit."""

SIDE_LIMIT = 4_096

REFERENCE_LIMIT_BYTES = 64 * 1024**2
"""Above the largest PNG that intake or an engine writes."""

ADAPTER_LIMIT = 8
"""Adapters of one picture, as many as a persona may have."""

_ADAPTER_NAME = re.compile(r"[^./\\:\x00-\x1f\x7f\ud800-\udfff][^/\\:\x00-\x1f\x7f\ud800-\udfff]*")
_ADAPTER_NAME_BYTES = 200
_PICTURES = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF.{4}WEBP", re.DOTALL)
_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

FORMATS = ("png", "jpeg", "webp", "avif")
INTERACTIVE = 100
"""The priority of a single picture that somebody waits for; batches have 0 to 9."""

_NUMBERS: dict[str, tuple[type, float, float]] = {
    "seed": (int, 0, SEED_LIMIT - 1),
    "width": (int, 16, SIDE_LIMIT),
    "height": (int, 16, SIDE_LIMIT),
    "num_inference_steps": (int, 1, 500),
    "guidance_scale": (float, 0, 50),
    "strength": (float, 0.01, 0.99),
    "device_id": (int, 0, 1023),
    "priority": (int, 0, INTERACTIVE),
}
_TEXTS = ("negative_prompt", "scheduler", "model", "appearance", "identity")


def checked(prompt: object, options: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Check a caller's words and options; return the options as the fields of a request.

    Args:
        prompt: what the picture shows.
        options: by name; `size="512x768"` stands for `width` and `height`, adapters may be pairs
            or mappings with `name` and `weight`, and a missing seed is drawn.
        known: the names that are taken.

    Raises:
        InvalidRequest: `details["errors"]` lists every faulty field.
    """
    values = {name: value for name, value in options.items() if value is not None}
    if "size" in values:
        values["width"], values["height"] = _sides(values.pop("size"))
    if "adapters" in values:
        values["adapters"] = _pairs(values["adapters"])
    values.setdefault("seed", secrets.randbelow(SEED_LIMIT))
    faults = [*_text_faults("prompt", prompt, required=True), *_faults(values, known)]
    if faults:
        raise InvalidRequest(
            "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults),
            {"errors": faults},
        )
    return values


def is_adapter_name(name: object) -> bool:
    """Tell whether a text may name an adapter: a file's name, never a path."""
    return (
        isinstance(name, str)
        and bool(_ADAPTER_NAME.fullmatch(name))
        and ".." not in name
        and len(name.encode()) <= _ADAPTER_NAME_BYTES
    )


def _sides(size: object) -> tuple[object, object]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(size))
    return (int(match[1]), int(match[2])) if match else (size, size)


def _pairs(adapters: object) -> object:
    """Turn lists and mappings into pairs; what is neither is left for the check to name."""
    if not isinstance(adapters, list | tuple):
        return adapters
    return tuple(
        (one.get("name"), one.get("weight", 1.0)) if isinstance(one, Mapping) else one
        for one in (tuple(one) if isinstance(one, list) else one for one in adapters)
    )


def _fault(field_name: str, message: str) -> dict[str, str]:
    return {"field": field_name, "message": message}


def _text_faults(name: str, value: object, *, required: bool = False) -> list[dict[str, str]]:
    if not isinstance(value, str):
        return [_fault(name, f"must be text, not {type(value).__name__}")]
    if required and not value.strip():
        return [_fault(name, "is empty; say what the picture shows")]
    if len(value) > PROMPT_LIMIT:
        return [_fault(name, f"has {len(value):,} characters; at most {PROMPT_LIMIT:,} are taken")]
    if bad := _UNSPEAKABLE.search(value):
        return [_fault(name, f"holds U+{ord(bad[0]):04X} at {bad.start()}, which is not text")]
    return []


def _faults(values: Mapping[str, Any], known: Collection[str]) -> list[dict[str, str]]:
    found = []
    for name, value in values.items():
        if name not in known:
            found.append(_fault(name, f"is not an option; these are: {', '.join(sorted(known))}"))
        elif name in _NUMBERS:
            found += _number_faults(name, value)
        elif name in _TEXTS:
            found += _text_faults(name, value)
        elif name in _OTHERS:
            found += _OTHERS[name](value)
        elif not isinstance(value, Mapping):
            found.append(_fault(name, "must be traits by name"))
    if "strength" in values and "reference" not in values:
        found.append(_fault("strength", "has no say without a reference"))
    return found


def _format_faults(value: object) -> list[dict[str, str]]:
    if value in FORMATS:
        return []
    return [_fault("format", f"is {value!r}; these are taken: {', '.join(FORMATS)}")]


def _reference_faults(value: object) -> list[dict[str, str]]:
    if not isinstance(value, bytes):
        return [_fault("reference", f"must be a picture's bytes, not {type(value).__name__}")]
    if len(value) > REFERENCE_LIMIT_BYTES:
        limit = REFERENCE_LIMIT_BYTES // 1024**2
        return [_fault("reference", f"has more than {limit} MiB")]
    if not _PICTURES.match(value):
        return [_fault("reference", "is not a PNG, JPEG or WebP file")]
    return []


def _adapter_faults(value: object) -> list[dict[str, str]]:
    if not isinstance(value, tuple) or not all(
        isinstance(one, tuple) and len(one) == 2 for one in value
    ):
        return [_fault("adapters", "must be a list of names with weights")]
    if len(value) > ADAPTER_LIMIT:
        return [_fault("adapters", f"has {len(value)} entries; at most {ADAPTER_LIMIT} are taken")]
    found = []
    for name, weight in value:
        if not is_adapter_name(name):
            found.append(_fault("adapters", f"{name!r:.80} is not a name of a file in a folder"))
        if not _is_number(weight) or not -2 <= weight <= 2:
            found.append(_fault("adapters", f"weight {weight!r:.40} must be from -2 to 2"))
    if len({name for name, _ in value if isinstance(name, str)}) < len(value) and not found:
        found.append(_fault("adapters", "names one twice"))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number_faults(name: str, value: object) -> list[dict[str, str]]:
    wanted, low, high = _NUMBERS[name]
    fits = isinstance(value, int if wanted is int else (int, float)) and not isinstance(value, bool)
    if not fits or not low <= value <= high:  # type: ignore[operator]
        kind = "a whole number" if wanted is int else "a number"
        return [_fault(name, f"is {value!r}; it must be {kind} from {low:,} to {high:,}")]
    return []


_OTHERS: Mapping[str, Callable[[object], list[dict[str, str]]]] = {
    "format": _format_faults,
    "reference": _reference_faults,
    "adapters": _adapter_faults,
}
