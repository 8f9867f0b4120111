"""What a model's answer may hold that is no caption: refusals, talk, leaves left unfilled.

Whatever stands in what the user said is the user's, and passes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from backend.captions.watchlist import Watchlist
from backend.captions.words import content_words, tokens

_OPENING = 240
_FEWEST_OWN_WORDS = 3

_ODD_SIGN = re.compile(r"[{}\[\]<>`*_\\&]|# |---")
_ODD_WORDS = frozenset({"undefined", "nan", "lorem"})
_LEFTOVER = re.compile(
    r"\{\{?[^{}\n]{1,60}\}\}?"
    r"|\[(?:your|insert|add|name|brand|product|location|place|topic|theme|link|company|city|date|"
    r"emoji|hashtags?|persona|user|dein|deine|ort|thema|marke)\b[^\[\]\n]{0,40}\]"
    r"|<\|[^|<>\n]{1,30}\|>|</?[a-z][\w-]{0,20}(?:\s[^<>\n]{0,60})?/?>|\[/?INST\]"
    r"|```|\*\*[^*\n]{1,200}\*\*|__[^_\n]{1,200}__|\[[^\[\]\n]{1,80}\]\([^()\n]{1,200}\)"
    r"|^#{1,6} \S|^(?:[-*_] ?){3,}$"
    r"|&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,5}|#x[0-9a-f]{2,5});|\\(?:n|t|\"|u[0-9a-f]{4})"
    r"|\b(?:undefined|NaN)\b(?=\s*(?:$|[.,!?;:)#]|(?:and|or|with|in|on|for|is)\b))|\blorem ipsum\b",
    re.IGNORECASE | re.MULTILINE,
)
_MAYBE_SLIP = re.compile(r"[,;:.!?][,;:.!?]| [,;.]")
_SLIP = re.compile(
    r",,|;;|(?<!\w)::|::(?!\w)|(?<!\.)\.\.(?!\.)|[,;:]\.(?!\w)|[!?]\.(?!\.)|\.[!?]|,[!?;]"
    r"|\w [,;](?=\s)|\w \.(?=\s|$)"
)
_LINK = re.compile(
    r"(?:https?://|www\.)[^\s<>\"“”]{1,300}|(?<![\w.@/])@[A-Za-z0-9_][\w.]{0,60}\w", re.IGNORECASE
)


def _load() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("answers.toml").read_text("utf-8"))


_LISTS = _load()
_PHRASES: Watchlist[str] = Watchlist(
    (phrase["words"], phrase["code"], phrase["find"]) for phrase in _LISTS["phrase"]
)
_ORDERS: Watchlist[None] = Watchlist(
    (order["words"], None, order["find"]) for order in _LISTS["order"]
)
_NEVER_TWICE = frozenset(_LISTS["doubled"]["words"].split())


def phrases_in(text: str, words: Sequence[str], source: str) -> Iterator[tuple[str, str]]:
    """Yield what is no caption, as a code (refusal, chatter, instructions) and its words."""
    seen: set[str] = set()
    called = _PHRASES.called_by(words)
    plain = text.replace("’", "'") if called else ""
    for _, code, pattern in called:
        match = pattern.search(plain[:_OPENING] if code == "refusal" else plain)
        if match and code not in seen and match[0].casefold() not in source.casefold():
            seen.add(code)
            yield code, " ".join(match[0].split())[:80]


def leftovers_in(text: str, words: Sequence[str], source: str) -> Iterator[tuple[str, str]]:
    """Yield unfilled leaves, markup and slips that the user did not write, as a code and them."""
    if _ODD_SIGN.search(text) or not _ODD_WORDS.isdisjoint(words):
        for match in _LEFTOVER.finditer(text):
            if match[0] not in source:
                yield "leftover", match[0][:80]
                break
    for match in _SLIP.finditer(text) if _MAYBE_SLIP.search(text) else ():
        if match[0] not in source:
            yield "slip", text[max(0, match.start() - 10) : match.end()].lstrip()
            break
    twice = {word for word, following in pairwise(words) if word == following} & _NEVER_TWICE
    for word in sorted(twice):
        found = re.search(rf"\b{word}\s+{word}\b", text, re.IGNORECASE)
        if found and found[0] not in source:
            yield "slip", found[0]
            break


def links_in(text: str, source: str) -> list[str]:
    """Return links and mentions that the user did not write."""
    if "://" not in text and "@" not in text and "www." not in text:
        return []
    found = (link.rstrip(".,;:!?)") for link in _LINK.findall(text))
    return [link for link in found if link.casefold() not in source.casefold()]


@lru_cache(maxsize=256)
def gives_orders(prompt: str) -> bool:
    """Tell whether a prompt tells its reader what to do in place of writing about it."""
    return any(order.pattern.search(prompt) for order in _ORDERS.called_by(tokens(prompt)))


def obeys(rest: str, prompt: str) -> bool:
    """Tell whether a text does what a prompt orders.

    Args:
        rest: the text without the topic, where it quotes it: a caption about an order has words of
            its own around it, an obedient one has few that the order has not.
        prompt: what was asked for.
    """
    if not gives_orders(prompt):
        return False
    ordered = prompt.casefold()
    own = [word for word in content_words(rest) if word not in ordered]
    return len(own) < _FEWEST_OWN_WORDS
