"""How a prompt's words pull a caption: which template weighs more, and which words turn.

Invariant: a turn changes whole words only, never inside a hashtag, mention, link or hyphenated
word, never inside a protected (user's) phrase, and only where the rule sees that the sentence
still stands; where it is unsure it leaves the sentence alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from random import Random

from backend.captions.words import content_words, lexicon, stem, stem_set, stems, word_set

HANDSHAKE = "🤝"
FAMILIES = ("future", "analysis", "community")
MATCH_WEIGHT = 2

_ALONE = r"(?<![\w#@/.&'’\-]){}(?![\w'’/\-–]|\.\w)"
_TODAY = re.compile(_ALONE.format("today"), re.IGNORECASE)
_THOUGHTS = re.compile(_ALONE.format("thoughts"), re.IGNORECASE)
_TAGGED = re.compile(r"[#@]\S*|(?:https?://|www\.)\S+|\S+@\S+")
_TRAILING_TAGS = re.compile(r"(?:\s*#[^\s#]+)+\s*$")
_WORD_BEFORE = re.compile(r"([\w'’]+)[ \t]*$")
_WORDS_AFTER = re.compile(r"[ \t]*([\w'’]+)(?:[ \t]+([\w'’]+))?")
_SENTENCE_START = re.compile(r"(?:^|[.!?…:\n])[\s\"“*_—–]*$|^[^\w]*$")

_SUBJECTS = word_set("turns", "today_subjects")
_NOT_AFTER = word_set("turns", "today_not_after")
_AFTER_TODAY = word_set("turns", "today_before")
_PAST = re.compile(
    r"(?:\w{3,}ed|was|were|had|went|saw|took|made|did|found|felt|got|came|have|has)$"
)
_AFTER_THOUGHTS = word_set("turns", "thoughts_before")
_NOT_BEFORE_THOUGHTS = word_set("turns", "thoughts_not_after")


def keywords_of(prompt_keywords: object, locale: str = "en") -> tuple[str, ...]:
    """Read keywords from a list, a set, a text or None; words of more than one word are split."""
    if isinstance(prompt_keywords, str):
        parts: list[str] = [prompt_keywords]
    elif isinstance(prompt_keywords, Iterable):
        parts = sorted(str(part) for part in prompt_keywords if isinstance(part, str))
    else:
        parts = []
    return tuple(
        dict.fromkeys(word for part in parts for word in content_words(part[:600], locale))
    )


def families_of(words: Iterable[str], locale: str = "en") -> frozenset[str]:
    """Return which of future, analysis and community a set of words speaks of."""
    found = {stem(word, locale) for word in words}
    return frozenset(name for name in FAMILIES if found & _family(name, locale))


@cache
def _family(name: str, locale: str) -> frozenset[str]:
    listed = lexicon(locale)["steering"][name]["words"]
    return frozenset(
        stem(part, locale) for phrase in stem_set(listed, locale) for part in phrase[:1]
    )


def weight_of(template: str, keywords: Sequence[str]) -> int:
    """Return 2 where a template holds a keyword or speaks of what the keywords speak of, else 1."""
    held = set(stems(template))
    if held & {stem(word) for word in keywords}:
        return MATCH_WEIGHT
    return MATCH_WEIGHT if families_of(keywords) & families_of(held) else 1


def select_weighted(templates: Sequence[str], keywords: Sequence[str], random: Random) -> str:
    """Draw one of the templates, those that match twice as often; "" where there are none."""
    if not templates:
        return ""
    weights = [weight_of(template, keywords) for template in templates]
    mark = random.random() * sum(weights)
    for template, weight in zip(templates, weights, strict=True):
        mark -= weight
        if mark < 0:
            return template
    return templates[-1]


def customize(
    template: str, keywords: Iterable[str], protected: Sequence[str] = (), locale: str = "en"
) -> str:
    """Turn a template towards the keywords.

    Args:
        template: a finished text.
        keywords: a prompt's words.
        protected: phrases of the user's in which no word may turn.
        locale: the text's language; words turn in English alone, the handshake comes in all.
    """
    families = families_of(keywords, locale)
    if "future" in families and locale == "en":
        template = _turn(template, _TODAY, _future, protected)
    if "analysis" in families and locale == "en":
        template = _turn(template, _THOUGHTS, _analysis, protected)
    if "community" in families and HANDSHAKE not in template:
        tags = _TRAILING_TAGS.search(template)
        end = tags.start() if tags else len(template.rstrip())
        template = f"{template[:end]} {HANDSHAKE}{template[end:]}".lstrip()
    return template


def _turn(
    text: str, pattern: re.Pattern[str], rule: Callable[[str, str], str], protected: Sequence[str]
) -> str:
    kept = [match.span() for match in _TAGGED.finditer(text)]
    for phrase in filter(None, protected):
        kept += [match.span() for match in re.finditer(re.escape(phrase), text, re.IGNORECASE)]

    def replace(match: re.Match[str]) -> str:
        if any(start <= match.start() < end for start, end in kept):
            return match.group()
        turned = rule(text[: match.start()], text[match.end() :])
        return _like(match.group(), turned) if turned else match.group()

    return pattern.sub(replace, text)


def _future(before: str, after: str) -> str:
    """Return what "today" becomes between these two, "" where it has to stay."""
    previous = _WORD_BEFORE.search(before)
    following = _WORDS_AFTER.match(after)
    if previous and previous.group(1).casefold() in _NOT_AFTER:
        return ""
    if following is None:
        return "for the future"
    first, second = (_plain(word) for word in following.group(1, 2))
    if first in _SUBJECTS:
        if _PAST.match(second):
            return ""
        return "for the future," if _SENTENCE_START.search(before) else "for the future"
    return "for the future" if first in _AFTER_TODAY else ""


def _analysis(before: str, after: str) -> str:
    """Return what "thoughts" becomes between these two, "" where it has to stay."""
    earlier = [word.casefold() for word in re.findall(r"[\w'’]+", before[-40:])[-2:]]
    if set(earlier) & _NOT_BEFORE_THOUGHTS:
        return ""
    following = _WORDS_AFTER.match(after)
    first, second = (_plain(word) for word in following.group(1, 2)) if following else ("", "")
    stands = not first or first in _AFTER_THOUGHTS or (first == "and" and second != "prayers")
    return "analysis" if stands else ""


def _plain(word: str | None) -> str:
    return (word or "").casefold().replace("’", "'")


def _like(original: str, turned: str) -> str:
    if original.isupper():
        return turned.upper()
    return turned[0].upper() + turned[1:] if original[0].isupper() else turned
