"""Which model serves a request: a pure function of the request and the cards."""

from __future__ import annotations

from collections.abc import Sequence

from backend.errors import ModelNotAvailable, UnsupportedTask
from backend.imaging.types import ImageRequest, ModelCard

_PREFERENCE = ("diffusion", "illustrated", "cloud")


def choose_model(
    request: ImageRequest, cards: Sequence[ModelCard], preferred: str | None = None
) -> ModelCard:
    """Choose the card for a request: the one it names, else the preferred, else the best there is.

    Local diffusion goes before the illustrated engine, and that before a cloud, which costs money
    and sends the prompt away. Among equals the first in the list wins.

    Raises:
        ModelNotAvailable: the named model, or any at all, is not usable here.
        UnsupportedTask: it cannot make the size asked for.
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
    card = min(usable, key=lambda c: _PREFERENCE.index(c.kind))
    check_size(request, card)
    return card


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
