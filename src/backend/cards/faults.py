"""How a card is refused, and how what is left out of one is told."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from backend.cards.text import speakable
from backend.errors import InvalidRequest, TooLarge

FIELD = "file"


class Note(NamedTuple):
    """Something of a card that was not taken, and why."""

    field: str
    reason: str


def refusal(message: str, field: str = FIELD) -> InvalidRequest:
    """Return the error that refuses a card."""
    message = speakable(message)
    return InvalidRequest(f"{field}: {message}", {"errors": [{"field": field, "message": message}]})


def refuse(message: str, field: str = FIELD) -> NoReturn:
    """Refuse a card, naming the field that is at fault."""
    raise refusal(message, field)


def refuse_size(message: str, field: str = FIELD) -> NoReturn:
    """Refuse a card that is larger than is read."""
    message = speakable(message)
    raise TooLarge(f"{field}: {message}", {"errors": [{"field": field, "message": message}]})
