"""What makes a picture a persona's, as options of an image."""

from __future__ import annotations

from typing import Any

from backend.models.persona import PersonaModel


def look_options(persona: PersonaModel, kind: str) -> dict[str, Any]:
    """Return the options that every picture of a persona has, whatever it shows.

    The image style belongs to every picture, so it goes with the appearance. A cloud's images API
    has no negative prompt; there, the persona's own is left out. Its model adapters are never left
    out: what cannot load them is refused, since it would draw somebody else.
    """
    parts = (persona.appearance, persona.image_style)
    options: dict[str, Any] = {
        "appearance": ", ".join(part for part in parts if part),
        "identity": persona.name,
        **adapter_options(persona),
    }
    if persona.negative_prompt and kind != "cloud":
        options["negative_prompt"] = persona.negative_prompt
    return options


def adapter_options(persona: PersonaModel) -> dict[str, Any]:
    """Return the option that names the persona's adapters; empty where it has none."""
    return {"adapters": persona.model_adapters} if persona.model_adapters else {}
