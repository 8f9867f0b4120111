"""Which model serves a request: decided from the request and the cards alone.

Only for adapters is there a look at the disk: whether the file that a name stands for is there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from backend.errors import ModelError, ModelNotAvailable, UnsupportedTask
from backend.imaging.catalog import ADAPTER_SUFFIX, LORAS, find_adapter
from backend.imaging.types import ImageRequest, ModelCard

_PREFERENCE = ("diffusion", "illustrated", "cloud")


def choose_model(
    request: ImageRequest, cards: Sequence[ModelCard], preferred: str | None = None
) -> ModelCard:
    """Choose the card for a request: the one it names, else the preferred, else the best there is.

    Local diffusion goes before the illustrated engine, and that before a cloud, which costs money
    and sends the prompt away. Among equals the first in the list wins. Where the request has a
    reference or adapters, local models that can use them go before all others; a cloud is not
    turned to for that, but named where it could.

    Raises:
        ModelNotAvailable: the named model, or any at all, or an adapter is not here.
        UnsupportedTask: it cannot make the size asked for, or start from a reference; the message
            names the models that can.
    """
    usable = [card for card in cards if card.loaded]
    wanted = request.model or preferred
    if wanted:
        usable = [card for card in usable if card.name == wanted]
    if not usable:
        names = [card.name for card in cards if card.loaded]
        missing = f"image model {wanted!r} is not" if wanted else "no image model is"
        raise ModelNotAvailable(
            f"{missing} available; usable here: {', '.join(names) or 'none'}. Install the extra "
            "`local`, set GATOR_MODEL_DIRS, or configure a cloud endpoint.",
            {"available": names},
        )
    able = [card for card in usable if card.kind != "cloud" and _refusal(request, card) is None]
    card = min(able or usable, key=lambda c: _PREFERENCE.index(c.kind))
    if (refusal := _refusal(request, card)) is not None:
        others = [c.name for c in cards if c.loaded and _refusal(request, c) is None]
        message = f"{refusal.message} Models here that can: {', '.join(others) or 'none'}."
        raise type(refusal)(message, {**refusal.details, "able": others})
    check_size(request, card)
    return card


def check_card(request: ImageRequest, card: ModelCard) -> None:
    """Refuse what the card's model cannot do; for an engine that is asked directly.

    Raises:
        UnsupportedTask: the size, the reference or the adapters are not for this model.
        ModelNotAvailable: an adapter is not here.
    """
    if (refusal := _refusal(request, card)) is not None:
        raise refusal
    check_size(request, card)


def strength_of(request: ImageRequest, card: ModelCard) -> float:
    """Return how far a picture may go from its reference."""
    return card.strength if request.strength is None else request.strength


def steps_of(request: ImageRequest, card: ModelCard) -> int:
    """Return the steps to ask the pipeline for.

    From a reference only the last `steps * strength` are taken. A card's own number, such as the
    single step of a distilled model, is raised until one of them is left; a request's is not.
    """
    steps = request.num_inference_steps or card.num_inference_steps
    if _shortens(request, card) and request.num_inference_steps is None:
        return max(steps, _fewest_steps(strength_of(request, card)))
    return steps


def _shortens(request: ImageRequest, card: ModelCard) -> bool:
    return request.reference is not None and card.kind == "diffusion" and not card.ip_adapter


def _fewest_steps(strength: float) -> int:
    """Return the number of steps of which one is left, as pipelines round it."""
    fewest = math.ceil(1 / strength)
    return fewest if int(fewest * strength) else fewest + 1


def _refusal(request: ImageRequest, card: ModelCard) -> ModelError | None:
    """Return why a model cannot start from the reference or use the adapters, if it cannot."""
    name = repr(card.name)
    if request.reference is not None and card.kind == "illustrated":
        return UnsupportedTask(f"{name} draws from words and takes no reference picture.")
    if request.strength is not None and card.kind == "cloud":
        return UnsupportedTask(f"{name} is at a cloud, whose images API has no strength.")
    if request.adapters and card.kind != "diffusion":
        return UnsupportedTask(f"{name} takes no model adapters.")
    if _shortens(request, card):
        strength, steps = strength_of(request, card), steps_of(request, card)
        if int(steps * strength) < 1:
            return UnsupportedTask(
                f"{steps} step(s) at strength {strength} leave none to draw with on {name}; ask "
                f"for num_inference_steps of at least {_fewest_steps(strength)}.",
                {"num_inference_steps": _fewest_steps(strength)},
            )
    missing = [name for name, _ in request.adapters if find_adapter(name, card) is None]
    return _not_there(missing, card) if missing else None


def _not_there(missing: Sequence[str], card: ModelCard) -> ModelNotAvailable:
    files = ", ".join(f"{name}{ADAPTER_SUFFIX}" for name in missing)
    where = ", ".join(card.adapter_dirs) or f"no folder; set GATOR_MODEL_DIRS to one with {LORAS}/"
    return ModelNotAvailable(
        f"model adapter not found for {card.name!r}: looked for {files} in {where}.",
        {"missing": list(missing), "looked_in": list(card.adapter_dirs)},
    )


def check_size(request: ImageRequest, card: ModelCard) -> None:
    """Refuse a size that the card's model cannot make.

    Raises:
        UnsupportedTask: naming the sizes that it can.
    """
    width, height = request.width or card.width, request.height or card.height
    if card.fixed_size and (width, height) != (card.width, card.height):
        raise UnsupportedTask(
            f"model {card.name!r} draws {card.width}x{card.height} only, not {width}x{height}; "
            "leave the size out or choose another model.",
            {"width": card.width, "height": card.height},
        )
    if max(width, height) > card.max_side:
        raise UnsupportedTask(
            f"model {card.name!r} draws up to {card.max_side} pixels a side, not {width}x{height}.",
            {"max_side": card.max_side},
        )
    if card.kind == "diffusion" and (width % 8 or height % 8):
        raise UnsupportedTask(
            f"width and height must be multiples of 8 for {card.name!r}, not {width}x{height}.",
            {"multiple_of": 8},
        )
