"""What a caption is to be about, whoever writes it.

The template engine, the language models and the gate all take the same brief, so that none judges
by other measures than the one who wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from backend.captions.platforms import ANY, Platform
from backend.captions.topic import Topic
from backend.captions.voice import Voice

Rating = Literal["sfw", "moderate", "nsfw"]
TimeOfDay = Literal["morning", "afternoon", "evening", "night"]
RATINGS: tuple[Rating, ...] = get_args(Rating)
TIMES_OF_DAY: tuple[TimeOfDay, ...] = get_args(TimeOfDay)


@dataclass(frozen=True, slots=True)
class Brief:
    """One caption's persona, topic and terms."""

    voice: Voice
    topic: Topic = field(default_factory=Topic)
    seed: int = 0
    platform: Platform = ANY
    rating: Rating = "sfw"
    time_of_day: TimeOfDay | None = None
    facts: tuple[str, ...] = ()
    """Statements of the user's that a caption may repeat; nothing else in it is claimed."""

    @property
    def source(self) -> str:
        """Everything that the user said, in which a caption's figures may stand."""
        voice = self.voice
        said = (voice.name, voice.personality, voice.locked_appearance, *voice.themes)
        return " ".join((self.topic.prompt, *self.facts, *said))
