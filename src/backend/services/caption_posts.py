"""What the writing of captions gives: a caption and how it came to be, and a post in its forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from backend.captions.gate import Finding
from backend.captions.memory import Said


class Origin(StrEnum):
    """Who wrote a caption."""

    LLM = "llm"
    TEMPLATE = "template"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """A caption and how it came to be.

    Attributes:
        seed: the same seed, request and memory give the same caption again, from the templates.
        model: the language model that wrote it.
        rung: which of the configured endpoints that was.
        degraded_reason: why a configured language model did not write this; `None` where it did,
            or where none is configured.
        findings: what the gate said: against the texts of models that were refused, and what it
            flags in this one.
        scores: how much the persona's words weigh towards each style.
        fragments: what the template engine made it of.
    """

    text: str
    origin: Origin
    seed: int
    style: str
    platform: str = "any"
    locale: str = "en"
    model: str | None = None
    rung: str | None = None
    degraded_reason: str | None = None
    findings: tuple[Finding, ...] = ()
    theme: str = ""
    plan: str = ""
    fragments: tuple[str, ...] = ()
    scores: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_draft(self) -> bool:
        """Whether a language model was to write this, and has not."""
        return self.origin is Origin.TEMPLATE and self.degraded_reason is not None

    @property
    def said(self) -> Said:
        """This caption as a memory takes it."""
        return Said(
            self.text, self.origin.value, self.fragments, self.theme, self.platform, self.seed
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, the text among them."""
        return {
            **asdict(self),
            "origin": self.origin.value,
            "scores": dict(self.scores),
            "fragments": list(self.fragments),
            "findings": [asdict(finding) for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class Post:
    """One idea, as each platform takes it.

    Attributes:
        captions: by the platform's name; at least one.
    """

    captions: Mapping[str, CaptionResult]

    @classmethod
    def of(cls, caption: CaptionResult) -> Post:
        """Return a post that has one form."""
        return cls({caption.platform: caption})

    @property
    def main(self) -> CaptionResult:
        """The fullest form; of several as full, the first."""
        return max(self.captions.values(), key=lambda caption: len(caption.text))

    @property
    def said(self) -> Said:
        """This post as a memory takes it."""
        main = self.main.said
        others = dict.fromkeys(caption.text for caption in self.captions.values())
        others.pop(main.text, None)
        return Said(
            main.text,
            main.origin,
            main.fragments,
            main.theme,
            main.platform,
            main.seed,
            tuple(others),
        )

    @property
    def is_draft(self) -> bool:
        """Whether a language model was to write some of it, and has not."""
        return any(caption.is_draft for caption in self.captions.values())

    def detail(self) -> dict[str, Any]:
        """Return how it came to be, as a piece of content keeps it beside the main text."""
        detail = self.main.as_dict()
        del detail["text"]
        if len(self.captions) > 1:
            detail["forms"] = {
                name: {"text": caption.text, "origin": caption.origin.value}
                for name, caption in self.captions.items()
            }
        return detail


def caption_values(post: Post, terms: Mapping[str, Any]) -> dict[str, Any]:
    """Return a post as the columns of a piece of content hold it, but for the time.

    Args:
        post: what was written.
        terms: what it was asked for beside the prompt, for whoever writes it anew.
    """
    return {
        "caption": post.main.text,
        "caption_origin": post.main.origin.value,
        "caption_detail": post.detail() | ({"terms": dict(terms)} if terms else {}),
        "caption_draft": post.is_draft,
    }
