"""Whether a caption says of its persona what it mentions.

Only a statement counts, and only about the persona: "my blue eyes", "I'm blonde", "now bald". What
is wished, past, asked, played or said of others does not.
"""

from __future__ import annotations

from collections.abc import Sequence

from backend.captions.appearance_words import Wording
from backend.captions.mentions import Mention, Sentence

WORN = frozenset({"headwear", "garment", "jewellery", "makeup"})
"""What changes from day to day: it counts only where it is being worn."""
LASTING = frozenset({"hair", "eyes", "facial_hair", "fur"})

_INSIDE = frozenset(" -")
_LOOSE = frozenset(" -,&")
_NEAR = 25
_CLOSE = 3


def is_own(sentence: Sentence, words: Wording, found: Sequence[Mention]) -> bool:
    """Tell whether the words before the last of the mentions say that it is the persona's.

    What is linked to one that is ("my black hair and blue eyes") is as well.
    """
    mention = found[-1]
    if _names_something_else(sentence, words, mention):
        return False
    if len(found) > 1 and _are_linked(sentence, words, found[-2], mention):
        return is_own(sentence, words, found[-_CLOSE:-1])
    lead = sentence.before(mention.start, words.lists["passed before"])
    if not lead or not words.lists["negators"].isdisjoint(lead):
        return False
    if mention.noun.slot in WORN:
        return _ends_in(lead, words.self["wear"])
    if mention.noun.is_person:
        return _ends_in(lead, words.self["be"]) or " ".join(lead) in words.self["starts"]
    if lead[-1] in words.self["possessive"]:
        return True
    if mention.is_said_of_it and _ends_in(lead, words.self["changed"]):
        return True
    return _ends_in(lead, words.self["have"]) or " ".join(lead) in words.self["starts"]


def _are_linked(sentence: Sentence, words: Wording, last: Mention, mention: Mention) -> bool:
    if (last.noun.slot in WORN) != (mention.noun.slot in WORN):
        return False
    between = sentence.words[last.end : mention.start]
    return (
        len(between) <= _CLOSE
        and _LOOSE.issuperset(sentence.gaps[last.end : mention.start + 1])
        and words.lists["passed between"].issuperset(between)
    )


def _ends_in(lead: list[str], frames: frozenset[str]) -> bool:
    return any(" ".join(lead[-count:]) in frames for count in range(1, 6))


def _names_something_else(sentence: Sentence, words: Wording, mention: Mention) -> bool:
    """Tell whether the phrase goes on: "my red hair dye"."""
    at = mention.end
    if at >= len(sentence.words) or sentence.gaps[at] not in _INSIDE:
        return False
    if sentence.gaps[at] == "-" or sentence.words[at] in words.self["followers"]:
        return True
    pair = sentence.key(at, 2) if at + 1 < len(sentence.words) else ""
    return pair in words.self["followers"] or bool(
        not mention.noun.is_person and sentence.longest(at, words, words.entries)
    )


def stands_alone(
    sentence: Sentence, words: Wording, mention: Mention, caption: frozenset[str]
) -> bool:
    """Tell whether it is a clause of its own, in a caption that is about the persona."""
    end = mention.end
    while sentence.gaps[end] in _INSIDE and sentence.words[end] in words.self["adverbs"]:
        end += 1
    if mention.noun.slot not in LASTING or sentence.gaps[end] not in {".", ",", ";"}:
        return False
    if caption.isdisjoint(words.self["anchors"]) or not caption.isdisjoint(words.self["others"]):
        return False
    before = sentence.before(mention.start, frozenset())
    if any(word not in words.self["adverbs"] for word in before):
        return False
    return bool(before) or end > mention.end or not mention.noun.is_person


def is_statement(
    sentence: Sentence, words: Wording, mention: Mention, caption: frozenset[str]
) -> bool:
    """Tell whether the sentence around it asserts it, and the caption means it."""
    if not caption.isdisjoint(words.self["staged"]):
        return False
    if not caption.isdisjoint(mention.noun.unless):
        return False
    start, end = mention.start, mention.end
    while start > max(0, mention.start - _NEAR) and sentence.gaps[start] not in {".", "?"}:
        start -= 1
    last = min(len(sentence.words), mention.end + _NEAR)
    while end < last and sentence.gaps[end] not in {".", "?"}:
        end += 1
    return sentence.gaps[end] != "?" and words.self["hedges"].isdisjoint(sentence.words[start:end])


def is_lacking(sentence: Sentence, words: Wording, mention: Mention) -> bool:
    """Tell whether the persona says to be without it."""
    if mention.is_informative or mention.noun.slot in WORN or mention.noun.is_person:
        return False
    if _names_something_else(sentence, words, mention):
        return False
    lead = sentence.before(mention.start, words.lists["passed"])
    if _ends_in(lead, words.self["lack"]):
        return True
    if not lead or lead[-1] not in words.self["possessive"]:
        return False
    at = mention.end
    return (
        at < len(sentence.words)
        and sentence.gaps[at] in _INSIDE
        and sentence.longest(at, words, words.self["gone"]) > 0
    )
