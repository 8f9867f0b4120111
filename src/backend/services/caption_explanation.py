"""How the template engine comes to a caption: what it weighed, drew, compared and passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from backend.captions import composer
from backend.captions.brief import Brief
from backend.captions.chain import Written
from backend.captions.composer import Caption, Considered, Likeness
from backend.captions.drafts import Desk, desk_for
from backend.captions.gate import Finding
from backend.captions.memory import HORIZON, Memory
from backend.captions.packs import Library
from backend.services.caption_posts import CaptionResult
from backend.services.caption_writing import Drawing, Past, first_that_passes


@dataclass(frozen=True, slots=True)
class DrawnFragment:
    """One fragment of a caption and how it came to be drawn.

    Attributes:
        weight: against the others that could fill the slot; doubled where the prompt matches it.
        matches_prompt: whether it was doubled.
        chance: of being drawn from what memory left.
        choices: how many could fill the slot.
        left: how many of them memory left, since they were used least recently.
        last_used: how many posts ago; `None` where it was not, as far as is recalled.
    """

    slot: str
    id: str
    weight: int
    matches_prompt: bool
    chance: float
    choices: int
    left: int
    last_used: int | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A draft that was compared.

    Attributes:
        overlap: how much it is like what was said lately, 0 to 1, and a little for each word that
            it says twice.
        why: why it lost, or won.
    """

    text: str
    plan: str
    fragments: Sequence[str]
    chosen: bool
    said_before: bool
    opens_alike: bool
    overlap: float
    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A caption that the gate refused, so that another was drawn."""

    text: str
    findings: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a caption came to be."""

    caption: CaptionResult
    modifiers: Sequence[str]
    evidence: Any
    topic: Mapping[str, str]
    fragments: Sequence[DrawnFragment]
    posts_recalled: int
    recent_openings: Sequence[str]
    candidates: Sequence[Candidate]
    refused: Sequence[Refused] = field(default_factory=tuple)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"caption": self.caption.as_dict()}


async def explained(brief: Brief, past: Past, library: Library) -> Explanation:
    """Write a caption as the templates would, and tell how.

    Raises:
        ContentRejected: nothing passed the gate; `findings` says why.
        ConfigurationError: a pack cannot be used.
    """
    drawn: list[tuple[Brief, Memory, Caption]] = []

    async def draw(seed: int, trial: Memory) -> Drawing:
        tried = replace(brief, seed=seed)
        caption = composer.compose(tried, trial, library)
        drawn.append((tried, trial, caption))
        return Drawing(caption.text, {brief.platform.name: caption})

    results = await first_that_passes(draw, [brief], past, Written())
    *lost, (last, memory, caption) = drawn
    desk = desk_for(brief, library)
    return Explanation(
        caption=results[brief.platform.name],
        modifiers=caption.modifiers,
        evidence=desk.scored.evidence,
        topic={"text": desk.topic.text, "kind": desk.topic.kind, "prompt": desk.topic.prompt},
        fragments=list(_fragments(desk, memory, caption)),
        posts_recalled=len(memory),
        recent_openings=memory.openings,
        candidates=_candidates(composer.consider(last, memory, library)),
        refused=[
            Refused(one.text, await past.judge(one.text, brief, past.memory)) for _, _, one in lost
        ],
    )


def _fragments(desk: Desk, memory: Memory, caption: Caption) -> Iterator[DrawnFragment]:
    plan = next(plan for plan in desk.bound.plans if plan.id == caption.plan)
    unsaid, wanted = desk.unsaid(memory), list(caption.fragments)
    for slot in plan.slots:
        choices = desk.choices.get(slot.name)
        ids = [fragment.id for fragment in choices.fragments] if choices else []
        if not choices or not wanted or wanted[0] not in ids:
            continue
        index = ids.index(wanted.pop(0))
        fragment, left = choices.fragments[index], unsaid[slot.name]
        age = memory.age(fragment.id, fragment.phrase)
        yield DrawnFragment(
            slot=slot.name,
            id=fragment.id,
            weight=choices.weights[index],
            matches_prompt=choices.weights[index] != desk.bound.choices[slot.name].weights[index],
            chance=round(choices.weights[index] / left.total, 6),
            choices=len(choices),
            left=len(left),
            last_used=age if age <= min(len(memory), HORIZON) else None,
        )


def _candidates(considered: Sequence[Considered]) -> list[Candidate]:
    best = min(range(len(considered)), key=lambda index: considered[index].likeness)
    winner = considered[best].likeness
    return [
        Candidate(
            text=one.text,
            plan=one.plan,
            fragments=one.fragments,
            chosen=index == best,
            said_before=one.likeness.said,
            opens_alike=one.likeness.opening_seen,
            overlap=one.likeness.overlap,
            why="the least like what was said lately"
            if index == best
            else _why_lost(one.likeness, winner),
        )
        for index, one in enumerate(considered)
    ]


def _why_lost(likeness: Likeness, winner: Likeness) -> str:
    if likeness.unsound and not winner.unsound:
        return "does not keep what every caption promises: length, theme, style, no claim"
    if likeness.said and not winner.said:
        return "was said before"
    if likeness.opening_seen and not winner.opening_seen:
        return "opens like one of the recent posts"
    if likeness.overlap > winner.overlap:
        return f"repeats more: {likeness.overlap:.2f} against {winner.overlap:.2f}"
    return "is as good, but came later"
