"""The language models in order, each held to the same gate.

Invariant: a text that comes back passed the gate, and the result says who wrote it and why nobody
before did. Where there is none, whoever called writes from the templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Self

from backend.captions.brief import Brief
from backend.captions.gate import Finding, explain, judge, passes
from backend.captions.llm import Answer, Rung
from backend.captions.memory import Memory
from backend.config import Settings
from backend.errors import ProviderError
from backend.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RungFinding(Finding):
    """What the gate found in one rung's caption."""

    rung: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """What came of asking the language models.

    Attributes:
        text: the caption; None where no rung wrote one that passed.
        rung: the name of who wrote it.
        model: its model.
        degraded_reason: why the rungs before it, or all of them, did not; None where the first
            one wrote it, and where there is none.
        findings: what the gate found in all rungs' captions, this one included.
        first_token_s: seconds from asking the one who wrote it to its first word.
    """

    text: str | None = None
    rung: str | None = None
    model: str | None = None
    degraded_reason: str | None = None
    findings: tuple[RungFinding, ...] = ()
    first_token_s: float | None = None


class Chain:
    """Rungs that are asked one after the other.

    Whoever holds a chain for long closes it: `async with`, or `aclose`. What failed is probed in
    the background of the loop that uses it; in a process that ends before, it stays left alone.

    Args:
        rungs: in the order they are asked.
    """

    def __init__(self, rungs: Sequence[Rung] = ()) -> None:
        self.rungs = tuple(rungs)

    @classmethod
    def from_settings(cls, settings: Settings) -> Chain:
        """Return the configured rungs, none where none are configured."""
        return cls(
            [
                Rung(
                    rung.name,
                    rung.base_url,
                    rung.model,
                    api_key=rung.api_key.get_secret_value() if rung.api_key else None,
                    first_token_s=rung.first_token_s,
                    stall_s=rung.stall_s,
                    timeout_s=rung.timeout_s,
                )
                for rung in settings.caption_rungs()
            ]
        )

    async def __aenter__(self) -> Self:
        for rung in self.rungs:
            rung.recovery.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop probing in the background."""
        for rung in self.rungs:
            await rung.recovery.aclose()

    async def write(self, brief: Brief, memory: Memory) -> Written:
        """Return the first caption that passes the gate, or why there is none."""
        reasons: list[str] = []
        findings: list[RungFinding] = []
        for rung in self.rungs:
            try:
                answer = await rung.write(brief, memory)
            except ProviderError as exc:
                _tell(rung, exc)
                reasons.append(f"{rung.name}: {exc.message}")
                continue
            found = _judged(answer, brief, memory)
            findings += [_of_rung(finding, rung.name) for finding in found]
            if passes(found):
                reason = " ".join(reasons) or None
                return Written(
                    answer.text,
                    rung.name,
                    rung.model,
                    reason,
                    tuple(findings),
                    answer.first_token_s,
                )
            blocking = [finding for finding in found if finding.severity == "block"]
            reasons.append(f"{rung.name}: Its caption was refused: {explain(blocking)}.")
            log.info("caption.refused", rung=rung.name, codes=[one.code for one in blocking])
        return Written(degraded_reason=" ".join(reasons) or None, findings=tuple(findings))


def _judged(answer: Answer, brief: Brief, memory: Memory) -> tuple[Finding, ...]:
    return (answer.fault,) if answer.fault else judge(answer.text, brief, memory)


def _of_rung(finding: Finding, rung: str) -> RungFinding:
    return RungFinding(
        **{one.name: getattr(finding, one.name) for one in fields(finding)}, rung=rung
    )


def _tell(rung: Rung, exc: ProviderError) -> None:
    tell = log.info if exc.details.get("breaker") == "open" else log.warning
    tell("caption.model_failed", rung=rung.name, code=exc.code, reason=exc.message)
