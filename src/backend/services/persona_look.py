"""What makes a picture a persona's, as options of an image."""

from __future__ import annotations

from typing import Any

from backend.models.persona import PersonaModel


def look_options(persona: PersonaModel, kind: str) -> dict[str, Any]:
    """Return the options that every picture of a persona has, whatever it shows.

    The image style belongs to every picture, so it goes with the appearance. A cloud's images API
    has no negative prompt; there, the persona's own is left out. Model adapters are kept and locked
    with the look, but no engine here loads one yet.
    """
    parts = (persona.appearance, persona.image_style)
    options: dict[str, Any] = {
        "appearance": ", ".join(part for part in parts if part),
        "identity": persona.name,
    }
    if persona.negative_prompt and kind != "cloud":
        options["negative_prompt"] = persona.negative_prompt
    return options
