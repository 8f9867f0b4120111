"""How a prompt's words pull a caption: which template weighs more, and which words turn.

Invariant: a turn changes whole words only, never inside a hashtag, mention, link or hyphenated
word, never inside a protected (user's) phrase, and only where the rule sees that the sentence
still stands; where it is unsure it leaves the sentence alone. A locale whose `[turns]` are
empty, where word order would change with the word, turns none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from random import Random

from backend.captions.words import content_words, lexicon, plain, stem, stem_set, stems, word_set

HANDSHAKE = "🤝"
FAMILIES = ("future", "analysis", "community")
MATCH_WEIGHT = 2
_READ_AT_MOST = 600

_ALONE = r"(?<![\w#@/.&'’\-]){}(?![\w'’/\-–]|\.\w)"
_TODAY = re.compile(_ALONE.format("today"), re.IGNORECASE)
_THOUGHTS = re.compile(_ALONE.format("thoughts"), re.IGNORECASE)
_TAGGED = re.compile(r"[#@]\S*|(?:https?://|www\.)\S+|\S+@\S+")
_TRAILING_TAGS = re.compile(r"(?:\s*#[^\s#]+)+\s*$")
_WORD_BEFORE = re.compile(r"([\w'’]+)[ \t]*$")
_WORDS_AFTER = re.compile(r"[ \t]*([\w'’]+)(?:[ \t]+([\w'’]+))?")
_SENTENCE_START = re.compile(r"(?:^|[.!?…:\n])[\s\"“*_—–]*$|^[^\w]*$")

_PAST = re.compile(
    r"(?:\w{3,}ed|was|were|had|went|saw|took|made|did|found|felt|got|came|have|has)$"
)

_Turns = Mapping[str, frozenset[str]]


def keywords_of(prompt_keywords: object, locale: str = "en") -> tuple[str, ...]:
    """Read keywords from a list, a set, a text or None; words of more than one word are split."""
    if isinstance(prompt_keywords, str):
        parts: list[str] = [prompt_keywords]
    elif isinstance(prompt_keywords, Iterable):
        parts = sorted(plain(part) for part in prompt_keywords)
    else:
        parts = []
    words = (word for part in parts for word in content_words(part[:_READ_AT_MOST], locale))
    return tuple(dict.fromkeys(words))


def families_of(words: Iterable[str], locale: str = "en") -> frozenset[str]:
    """Return which of future, analysis and community words (or their stems) speak of."""
    found = set(words)
    found |= {stem(word, locale) for word in found}
    return frozenset([name for name in FAMILIES if found & _family(name, locale)])


@cache
def _family(name: str, locale: str) -> frozenset[str]:
    listed = stem_set(lexicon(locale)["steering"][name]["words"], locale)
    return frozenset(phrase[0] for phrase in listed)


def weight_of(template: str, keywords: Sequence[str], locale: str = "en") -> int:
    """Return 2 where a template holds a keyword or speaks of what the keywords speak of, else 1."""
    held = set(stems(template, locale))
    if held & {stem(word, locale) for word in keywords}:
        return MATCH_WEIGHT
    spoken = families_of(keywords, locale) & families_of(held, locale)
    return MATCH_WEIGHT if spoken else 1


def select_weighted(
    templates: Sequence[str], keywords: Sequence[str], random: Random, locale: str = "en"
) -> str:
    """Draw one of the templates, those that match twice as often; "" where there are none."""
    if not templates:
        return ""
    weights = [weight_of(template, keywords, locale) for template in templates]
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
        locale: the language of both.
    """
    families, turns = families_of(keywords, locale), _turns(locale)
    if turns and "future" in families:
        template = _turn(template, _TODAY, lambda *sides: _future(turns, *sides), protected)
    if turns and "analysis" in families:
        template = _turn(template, _THOUGHTS, lambda *sides: _analysis(turns, *sides), protected)
    if "community" in families and HANDSHAKE not in template:
        tags = _TRAILING_TAGS.search(template)
        end = tags.start() if tags else len(template.rstrip())
        template = f"{template[:end]} {HANDSHAKE}{template[end:]}".lstrip()
    return template


@cache
def _turns(locale: str) -> _Turns:
    lists = lexicon(locale).get("turns", {})
    turns = {name: word_set("turns", name, locale=locale) for name in lists}
    return turns if any(turns.values()) else {}


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


def _future(turns: _Turns, before: str, after: str) -> str:
    """Return what "today" becomes between these two, "" where it has to stay."""
    previous = _WORD_BEFORE.search(before)
    following = _WORDS_AFTER.match(after)
    if previous and previous.group(1).casefold() in turns["today_not_after"]:
        return ""
    if following is None:
        return "for the future"
    first, second = (_plain(word) for word in following.group(1, 2))
    if first in turns["today_subjects"]:
        if _PAST.match(second):
            return ""
        return "for the future," if _SENTENCE_START.search(before) else "for the future"
    return "for the future" if first in turns["today_before"] else ""


def _analysis(turns: _Turns, before: str, after: str) -> str:
    """Return what "thoughts" becomes between these two, "" where it has to stay."""
    earlier = [word.casefold() for word in re.findall(r"[\w'’]+", before[-40:])[-2:]]
    if set(earlier) & turns["thoughts_not_after"]:
        return ""
    following = _WORDS_AFTER.match(after)
    first, second = (_plain(word) for word in following.group(1, 2)) if following else ("", "")
    stands = (
        not first or first in turns["thoughts_before"] or (first == "and" and second != "prayers")
    )
    return "analysis" if stands else ""


def _plain(word: str | None) -> str:
    return (word or "").casefold().replace("’", "'")


def _like(original: str, turned: str) -> str:
    if original.isupper():
        return turned.upper()
    return turned[0].upper() + turned[1:] if original[0].isupper() else turned
