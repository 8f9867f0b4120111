"""What a free description says, by its labels and its words.

Card writers put everything into `description`: as lines (`Hair: red`), as W++ (`Hair("red")`), or
as prose. What a persona keeps apart is looked for here, with its place, so that a change can be
written back to where it came from and nothing else is touched. Nothing is made up: where no label
and no sentence speaks of looks, the whole text counts as the description of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LOOKED_AT = 20_000
"""How many characters of a description are looked through."""

LABELS = {
    "appearance": "Appearance",
    "personality": "Personality",
    "voice_style": "Voice",
    "tone": "Tone",
    "aesthetic": "Aesthetic",
}
"""The fields that are looked for, and the label that each is written under."""

_NAMES = {
    "appearance": "appearance",
    "physical appearance": "appearance",
    "physical description": "appearance",
    "looks": "appearance",
    "features": "appearance",
    "personality": "personality",
    "traits": "personality",
    "personality traits": "personality",
    "mind": "personality",
    "voice": "voice_style",
    "speech": "voice_style",
    "speaking style": "voice_style",
    "tone": "tone",
    "tone of voice": "tone",
    "aesthetic": "aesthetic",
}
_PARTS = {
    "hair": "{} hair",
    "hair color": "{} hair",
    "hair colour": "{} hair",
    "hairstyle": "{} hair",
    "eyes": "{} eyes",
    "eye color": "{} eyes",
    "eye colour": "{} eyes",
    "skin": "{} skin",
    "build": "{} build",
    "body": "{}",
    "face": "{}",
    "outfit": "wearing {}",
    "attire": "wearing {}",
    "clothes": "wearing {}",
    "clothing": "wearing {}",
}
"""Labels of single features, and how each is said among others."""

_LABEL = "|".join(sorted(map(re.escape, (*_NAMES, *_PARTS)), key=len, reverse=True))
_LINE = re.compile(
    rf"^[ \t]{{0,20}}(?:[-*•#>]{{1,6}}[ \t]{{0,4}})?[\[(]?\*{{0,3}}"
    rf"(?:[^\s:=()\[\]]{{1,40}}['’]s[ \t])?({_LABEL})\*{{0,3}}"
    r"[ \t]{0,4}[:=]\*{0,3}[ \t]{0,20}([^\n]*)$",
    re.IGNORECASE | re.MULTILINE,
)
_CONTINUED = re.compile(r"(?:\n(?:[ \t]{0,20}[-*•][ \t]|[ \t]{2,20})[^\n:]*(?=\n|\Z))+")
_WPP = re.compile(rf"\b({_LABEL})[ \t]{{0,4}}\(([^()\n]{{1,2000}})\)", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“]([^\"“”]*)[\"”]")
_SENTENCE = re.compile(r"[^\n.!?。！？]+[.!?。！？]*['\")\]]*")
_LOOK = re.compile(
    r"\b(?:hair(?:ed|style)?|eye[sd]|eyebrows|skin(?:ned)?|freckle[sd]?|beard(?:ed)?|moustache|"
    r"glasses|scars?|tattoo(?:s|ed)?|blonde?|brunette|redhead(?:ed)?|wears?|wearing|dressed|clad|"
    r"horns?|tails?|wings?|fangs|physique|build|slender|muscular|petite|curvy|complexion|"
    r"ponytail|braids?|outfit|jacket|dress|hoodie|cloak|armou?r)\b",
    re.IGNORECASE,
)


class Span(NamedTuple):
    """A part of a text: where it stands, and what it says."""

    start: int
    end: int
    value: str


Sections = dict[str, list[Span]]


def sections_of(text: str) -> Sections:
    """Return what is said of each field, in the order of the text; fields without are absent."""
    text = text[:LOOKED_AT]
    found: Sections = {}
    last = 0
    for field, span in sorted(_labelled(text), key=lambda one: one[1].start):
        if span.start >= last:
            found.setdefault(field, []).append(span)
            last = span.end
    if "appearance" not in found and (looks := list(_about_looks(text, found))):
        found["appearance"] = looks
    return found


def joined(spans: Sequence[Span]) -> str:
    """Return what several parts say, as one text."""
    prose = all(span.value.endswith((".", "!", "?", "。")) for span in spans)
    return (" " if prose else ", ").join(span.value for span in spans)


def rest_of(text: str, found: Sections) -> str:
    """Return a text without the parts that were found."""
    return _without(text, [span for spans in found.values() for span in spans])


def rewritten(text: str, field: str, value: str, spans: Sequence[Span]) -> str:
    """Return a text in which a field has another value, at the place of the first of its parts.

    Args:
        text: as it was.
        field: one of `LABELS`.
        value: in one line; empty to take the field out.
        spans: its parts; a line is added at the end where there are none.
    """
    line = f"{LABELS[field]}: {value}" if value else ""
    if not spans and line in text.splitlines():
        return text  # it stands there, and says nothing
    if not spans:
        return "\n".join(part for part in (text.rstrip(), line) if part)
    first, *others = sorted(spans)
    head, tail = text[: first.start].rstrip(" \t"), text[first.start :]
    others = [Span(s.start - first.start, s.end - first.start, s.value) for s in others]
    tail = _without(tail, [Span(0, first.end - first.start, ""), *others]).lstrip(" \t")
    before = "\n" if head and line and not head.endswith("\n") else ""
    after = "\n" if tail and line and not tail.startswith("\n") else ""
    return (head + before + line + after + tail).strip()


def _labelled(text: str) -> Iterator[tuple[str, Span]]:
    for match in _LINE.finditer(text):
        more = _CONTINUED.match(text, match.end())
        end = more.end() if more else match.end()
        value = match[2] + (more[0] if more else "")
        if span := _span(match[1], match.start(), end, value):
            yield span
    for match in _WPP.finditer(text):
        if span := _span(match[1], match.start(), match.end(), match[2]):
            yield span


def _span(label: str, start: int, end: int, raw: str) -> tuple[str, Span] | None:
    label = label.lower()
    value = _value(raw)
    if not value:
        return None
    if label in _NAMES:
        return _NAMES[label], Span(start, end, value)
    form = _PARTS[label]
    word = form.replace("{}", "").strip()
    if word and word in value.lower():
        form = "{}"
    return "appearance", Span(start, end, form.format(value))


def _value(raw: str) -> str:
    """Return what follows a label: quoted words, items of a list, or the line itself."""
    quoted = ", ".join(part.strip() for part in _QUOTED.findall(raw) if part.strip())
    if quoted and not _QUOTED.sub("", raw).strip(" \t+,;/[](){}"):
        return quoted
    items = [item.strip(" \t-*•+,;") for item in raw.split("\n")]
    text = ", ".join(item for item in items if item)
    loose = "".join(shut for opened, shut in ("[]", "()", "{}") if opened not in text)
    return text.rstrip(f"*,; {loose}")


def _about_looks(text: str, taken: Sections) -> Iterator[Span]:
    """Yield the sentences that speak of looks, outside of what is labelled."""
    spans = [span for found in taken.values() for span in found]
    for match in _SENTENCE.finditer(text):
        value = match[0].strip()
        start = match.start() + len(match[0]) - len(match[0].lstrip())
        free = all(match.end() <= span.start or span.end <= start for span in spans)
        if free and _LOOK.search(value):
            yield Span(start, match.end(), value)


def _without(text: str, spans: Sequence[Span]) -> str:
    kept, at = [], 0
    for span in sorted(spans):
        kept.append(text[at : span.start])
        at = max(at, span.end)
    left = "".join([*kept, text[at:]])
    return re.sub(r"\n[ \t]*\n(?:[ \t]*\n)+", "\n\n", re.sub(r"[ \t]{2,}", " ", left))
