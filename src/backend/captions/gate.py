"""What any caption must pass, whoever wrote it.

Invariant: the gate only judges. It never edits a caption, and each finding says what was found.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from backend.captions.claims import CLAIM
from backend.captions.platforms import ANY, Platform

_SHORTEST = 3
_OPENING = 160
_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bi(?:['’]m| am) (?:just |only )?an? (?:ai|(?:large )?language model)\b"
    r"|\bi(?:['’]m| am) (?:not able|unable) to\b"
    r"|\bi (?:can(?:['’]t|not)|won['’]t|must decline|have to decline)"
    r" (?:help (?:you|with)|assist|create|write|generate|comply|fulfil|provide|do that|produce)"
    r"|\b(?:against|violates?) (?:my|the) (?:guidelines|programming|policy|policies)\b"
    r"|^(?:i['’]m |i am )?(?:sorry|i apologi[sz]e)\b",
    re.IGNORECASE,
)
_CHATTER = re.compile(
    r"^(?:sure|certainly|of course|absolutely|okay|ok)?[,!. ]*"
    r"(?:here(?:['’]s| is| are)|below is) (?:a|an|the|your|some|my) .{0,60}?"
    r"(?:caption|post|text|options?)\b|^<\w+>|\[(?:insert|your) ",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_MULTIPLE = re.compile(
    r"\b(?:double|triple|quadruple|tenfold|twofold|threefold|twice) (?:the|your|our|my|as)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a caption does not pass."""

    code: str
    detail: str


def judge(
    text: str, *, source: str = "", recent: Sequence[str] = (), platform: Platform = ANY
) -> tuple[Finding, ...]:
    """Return what is wrong with a caption; nothing where it passes.

    Args:
        text: the caption.
        source: everything that the request said; figures that stand in it may be repeated.
        recent: what this persona said lately.
        platform: whose limits apply.
    """
    found = [
        *_length(text, platform),
        *_first("refusal", _REFUSAL, text[:_OPENING]),
        *_first("chatter", _CHATTER, text),
        *_first("claim", CLAIM, text),
        *_invented_numbers(text, source),
    ]
    if _squeezed(text) in {_squeezed(other) for other in recent}:
        found.append(Finding("repeated", "an identical caption was posted lately"))
    return tuple(found)


def explain(findings: Sequence[Finding]) -> str:
    """Return findings as one line."""
    return "; ".join(f"{finding.code}: {finding.detail}" for finding in findings)


def _length(text: str, platform: Platform) -> list[Finding]:
    if len(text.strip()) < _SHORTEST:
        return [Finding("empty", "there is no caption")]
    if not platform.fits(text):
        return [
            Finding("too_long", f"{platform.length(text)} of {platform.limit} ({platform.name})")
        ]
    return []


def _first(code: str, pattern: re.Pattern[str], text: str) -> list[Finding]:
    match = pattern.search(text)
    return [Finding(code, repr(match.group()[:80]))] if match else []


def _invented_numbers(text: str, source: str) -> list[Finding]:
    given = set(_NUMBER.findall(source))
    invented = [number for number in _NUMBER.findall(text) if number not in given]
    multiple = _MULTIPLE.search(text)
    if multiple and multiple.group().casefold() not in source.casefold():
        invented.append(multiple.group())
    return [Finding("invented_number", ", ".join(invented[:5]))] if invented else []


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().split())
