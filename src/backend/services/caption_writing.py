"""One gate and one memory for whoever writes: language models, and the templates after them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from backend.captions.brief import Brief
from backend.captions.chain import Chain, RungFinding, Written
from backend.captions.composer import Caption
from backend.captions.gate import Finding, explain, judge, passes
from backend.captions.memory import CaptionMemory, Memory
from backend.captions.scoring import score_voice
from backend.captions.seeds import digest
from backend.captions.words import content_stems
from backend.errors import ContentRejected
from backend.logs import get_logger
from backend.services.caption_posts import CaptionResult, Origin

DRAWS = 8
"""How often the templates are drawn from until a caption passes the gate."""

REPEATED = Finding("repeated", "this persona said the very same before")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Past:
    """What a persona said: lately, as captions are compared with it, and ever.

    Attributes:
        memory: lately; it is only read.
        store: ever; without one, nothing but the memory is known.
    """

    memory: Memory = field(default_factory=Memory)
    persona_id: str = ""
    store: CaptionMemory | None = None

    async def judge(self, text: str, brief: Brief, memory: Memory) -> tuple[Finding, ...]:
        """Return what the gate finds in a text, and whether it was ever said."""
        found = judge(text, brief, memory)
        return (*found, REPEATED) if passes(found) and await self.said(text) else found

    async def said(self, *texts: str) -> bool:
        """Tell whether one of these was ever said."""
        if self.store is None or not self.persona_id:
            return False
        for text in dict.fromkeys(texts):
            if await self.store.said(self.persona_id, text):
                return True
        return False


class Drawing(NamedTuple):
    """One idea of the template engine's.

    Attributes:
        idea: the text that this idea is known by.
        captions: its forms by platform.
    """

    idea: str
    captions: Mapping[str, Caption]


Draw = Callable[[int, Memory], Awaitable[Drawing]]
"""Draws an idea by a seed, one that a memory does not forbid."""


async def ask(chain: Chain, brief: Brief, past: Past) -> Written:
    """Return what the language models write; what was ever said is refused."""
    written = await chain.write(brief, past.memory)
    if written.text is None or passes(await past.judge(written.text, brief, past.memory)):
        return written
    refused = RungFinding(REPEATED.code, REPEATED.detail, rung=str(written.rung))
    reason = f"{written.rung}: Its caption was refused: {explain([refused])}."
    reasons = " ".join(one for one in (written.degraded_reason, reason) if one)
    return Written(degraded_reason=reasons, findings=(*written.findings, refused))


async def first_that_passes(
    draw: Draw, briefs: Sequence[Brief], past: Past, written: Written
) -> dict[str, CaptionResult]:
    """Draw ideas until one passes the gate in all its forms.

    Args:
        draw: the template engine.
        briefs: one a platform.
        past: what the persona said.
        written: what came of asking the language models.

    Raises:
        ContentRejected: none passed; `findings` says why the last one did not.
    """
    trial, seed = past.memory, briefs[0].seed
    blocked: tuple[Finding, ...] = ()
    for number in range(1, DRAWS + 1):
        drawing = await draw(seed, trial)
        judged = [
            (brief, caption, judge(caption.text, brief, trial))
            for brief in briefs
            for caption in (drawing.captions[brief.platform.name],)
        ]
        blocked = next((found for *_, found in judged if not passes(found)), ())
        if not blocked and await past.said(*(caption.text for _, caption, _ in judged)):
            blocked = (REPEATED,)
        if not blocked:
            return {
                brief.platform.name: by_engine(brief, caption, written, found)
                for brief, caption, found in judged
            }
        log.info("caption.redrawn", findings=explain(blocked))
        trial = deepcopy(trial) if trial is past.memory else trial
        trial.forbid(drawing.idea)
        seed = digest(briefs[0].seed, "drawn again", number)
    raise rejected("nothing that the templates drew passed the gate", blocked)


def by_model(brief: Brief, written: Written, text: str) -> CaptionResult:
    """Return what a language model wrote as a result."""
    scored = score_voice(brief.voice)
    said = content_stems(text, brief.voice.locale)
    named = (t for t in brief.voice.themes if content_stems(t, brief.voice.locale) <= said)
    return CaptionResult(
        text=text,
        origin=Origin.LLM,
        seed=brief.seed,
        style=scored.style,
        platform=brief.platform.name,
        locale=brief.voice.locale,
        model=written.model,
        rung=written.rung,
        degraded_reason=written.degraded_reason,
        findings=written.findings,
        theme=next(named, ""),
        scores=dict(scored.scores),
    )


def by_engine(
    brief: Brief, caption: Caption, written: Written, found: Sequence[Finding]
) -> CaptionResult:
    """Return what the templates made as a result."""
    return CaptionResult(
        text=caption.text,
        origin=Origin.TEMPLATE,
        seed=brief.seed,
        style=caption.style,
        platform=brief.platform.name,
        locale=caption.locale,
        degraded_reason=written.degraded_reason,
        findings=(*written.findings, *found),
        theme=caption.theme,
        plan=caption.plan,
        fragments=caption.fragments,
        scores=dict(caption.scores),
    )


def rejected(reason: str, findings: Sequence[Finding]) -> ContentRejected:
    """Return the error of a caption that did not pass."""
    return ContentRejected(
        f"{reason}: {explain(findings)}.", {"findings": [asdict(one) for one in findings]}
    )
