"""A locked appearance as facts, and what in a caption contradicts them.

Invariant: nothing here raises on any string, and what cannot be told for sure is no contradiction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from backend.captions.appearance_claims import (
    LASTING,
    is_lacking,
    is_own,
    is_statement,
    stands_alone,
)
from backend.captions.appearance_words import Trait, Wording, locales, wording
from backend.captions.mentions import Mention, Sentence, mentions, phrase_of

_WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_QUOTED = re.compile(
    r"“[^”\n]{0,400}”|„[^“”\n]{0,400}[“”]|«[^»\n]{0,400}»|»[^«\n]{0,400}«|\"[^\"\n]{0,400}\""
    r"|(?<!\w)'[^'\n]{0,400}'(?!\w)|(?<!\w)‘[^’\n]{0,400}’(?!\w)"
)
# A sentence, with the signs that end it.
_PARTS = re.compile(r"[^.!?…\n]+[.!?…\n]*")
_QUOTE = re.compile("[“„«»\"'‘]")
_MOST = 8


@dataclass(frozen=True, slots=True)
class AppearanceFact:
    """One thing that a description says of a persona's looks."""

    slot: str
    phrase: str
    """A noun phrase that a caption may say; "" where there is none, as where it is denied."""
    kind: str = ""
    traits: tuple[Trait, ...] = ()
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Appearance:
    """The facts of a locked description, in its order."""

    facts: tuple[AppearanceFact, ...] = ()

    @property
    def phrases(self) -> tuple[str, ...]:
        """What a caption may say of the looks."""
        return tuple(dict.fromkeys(fact.phrase for fact in self.facts if fact.phrase))


def read_appearance(text: str, locale: str = "en") -> Appearance:
    """Read a description, as users write them, into facts.

    Args:
        text: a sentence, a list with commas, or lines such as "Hair: black".
        locale: the caption's. Where the text is in another language, its facts have no phrase:
            they count for contradictions and are not said.
    """
    found = tuple(_facts(text, wording(locale)))
    if found:
        return Appearance(found)
    others = (tuple(_facts(text, wording(other))) for other in locales() if other != locale)
    told = next((facts for facts in others if facts), ())
    return Appearance(tuple(replace(fact, phrase="") for fact in told))


def _facts(text: str, words: Wording) -> Iterator[AppearanceFact]:
    """Yield the facts of a description, each once."""
    sentence = Sentence(text)
    known: set[AppearanceFact] = set()
    denied: Mention | None = None
    for mention in mentions(sentence, words):
        is_denied = _is_denied(sentence, words, mention, denied)
        denied = mention if is_denied else None
        if _is_unsure(sentence, words, mention) or _is_anothers(sentence, words, mention):
            continue
        for fact in _denied_facts(mention) if is_denied else _told_facts(mention, words):
            if fact not in known:
                known.add(fact)
                yield fact


def _told_facts(mention: Mention, words: Wording) -> Iterator[AppearanceFact]:
    noun = mention.noun
    for kind in noun.denies:
        yield AppearanceFact(noun.slot, "", kind, denied=True)
    if not noun.denies and (mention.is_informative or not noun.needs):
        yield AppearanceFact(noun.slot, phrase_of(mention, words), noun.kind, mention.traits)


def _denied_facts(mention: Mention) -> Iterator[AppearanceFact]:
    noun = mention.noun
    if mention.is_informative or noun.is_person:
        return
    if noun.slot == "hair" and noun.needs:
        yield AppearanceFact(noun.slot, "", "bald", (("length", "0"),))
    elif not noun.needs:
        yield AppearanceFact(noun.slot, "", noun.kind, denied=True)


def _is_denied(
    sentence: Sentence, words: Wording, mention: Mention, denied: Mention | None
) -> bool:
    skipped = words.lists["passed denying"]
    lead = sentence.before(mention.start, skipped)
    negators = words.lists["negators"]
    if lead and lead[-1] in negators:
        return not (len(lead) > 1 and lead[-2] in negators)
    if denied is None:
        return False
    between = sentence.words[denied.end : mention.start][:3]
    return bool(between) and between[0] in words.lists["chained"] and set(between[1:]) <= skipped


def _is_unsure(sentence: Sentence, words: Wording, mention: Mention) -> bool:
    return not words.lists["unsure"].isdisjoint(sentence.before(mention.start, frozenset()))


def _is_anothers(sentence: Sentence, words: Wording, mention: Mention) -> bool:
    """Tell whether it belongs to somebody whom the persona is seen with: "with a black cat"."""
    lead = sentence.before(mention.start, words.lists["passed of others"])
    for place in range(len(lead) - 1, 0, -1):
        if lead[place] in words.lists["resuming"]:
            return False
        if lead[place] in words.lists["companions"]:
            return any(word in words.lists["beside"] for word in lead[:place])
    return False


def contradictions(text: str, appearance: Appearance, locale: str = "en") -> tuple[str, ...]:
    """Return what a caption says of its persona's looks against the facts.

    Only a statement counts: not what is wished, past, asked, quoted or said of others.
    """
    if not appearance.facts:
        return ()
    words = wording(locale)
    locked = _locked(appearance)
    calls = _calls(locale, locked.slots)
    caption = frozenset(_WORDS.findall(text.casefold().replace("’", "'")))
    if calls.isdisjoint(caption):
        return ()
    spoken = _QUOTED.sub(" ; ", text) if _QUOTE.search(text) else text
    called = "".join(part for part in _PARTS.findall(spoken) if _is_called(part, calls))
    found: dict[str, None] = {}
    for claim in _claims(Sentence(called), words, locked, caption):
        found.setdefault(claim)
        if len(found) == _MOST:
            break
    return tuple(found)


def _is_called(sentence: str, calls: frozenset[str]) -> bool:
    """Tell whether a sentence names anything of which there are facts."""
    return not calls.isdisjoint(_WORDS.findall(sentence.casefold()))


@dataclass(frozen=True, slots=True)
class _Locked:
    """The facts, by what they speak of."""

    values: dict[tuple[str, str], frozenset[str]]
    present: dict[str, str]
    denied: frozenset[str]
    slots: frozenset[str]


@lru_cache(maxsize=512)
def _calls(locale: str, slots: frozenset[str]) -> frozenset[str]:
    return wording(locale).calls(slots)


@lru_cache(maxsize=512)
def _locked(appearance: Appearance) -> _Locked:
    values: dict[tuple[str, str], set[str]] = {}
    present: dict[str, str] = {}
    denied: set[str] = set()
    for fact in appearance.facts:
        if fact.denied:
            denied.add(fact.kind)
            continue
        present.setdefault(fact.kind, fact.phrase or fact.kind)
        for aspect, value in fact.traits:
            values.setdefault((_subject(fact.slot, fact.kind), aspect), set()).add(value)
    return _Locked(
        values={key: frozenset(told) for key, told in values.items()},
        present=present,
        denied=frozenset(denied),
        slots=frozenset(fact.slot for fact in appearance.facts),
    )


def _subject(slot: str, kind: str) -> str:
    """Return what shares its colour: all of the hair, but one garment each."""
    return slot if slot in LASTING else kind


def _claims(
    sentence: Sentence, words: Wording, locked: _Locked, caption: frozenset[str]
) -> Iterator[str]:
    """Yield each contradiction in words."""
    found = tuple(mentions(sentence, words))
    for place, mention in enumerate(found):
        if mention.noun.slot not in locked.slots:
            continue
        against = _conflict(mention, locked)
        is_missing = not against
        if against:
            upto = found[max(0, place - 3) : place + 1]
            is_claimed = is_own(sentence, words, upto) or stands_alone(
                sentence, words, mention, caption
            )
        else:
            against = locked.present.get(mention.noun.kind, "")
            is_claimed = bool(against) and is_lacking(sentence, words, mention)
        if is_claimed and is_statement(sentence, words, mention, caption):
            said = sentence.joined(mention.start, mention.end)
            yield f"{'no ' * is_missing}“{said}”, but locked is “{against}”"


def _conflict(mention: Mention, locked: _Locked) -> str:
    """Return the locked fact that what is mentioned cannot stand beside; "" for none."""
    noun = mention.noun
    if noun.kind in locked.denied:
        return f"no {noun.kind}"
    for kind in noun.denies:
        if kind in locked.present:
            return locked.present[kind]
    if mention.is_undecided or noun.kind == "strand":
        return ""
    subject = _subject(noun.slot, noun.kind)
    told: dict[str, set[str]] = {}
    for aspect, value in mention.traits:
        told.setdefault(aspect, set()).add(value)
    for aspect, values in told.items():
        known = locked.values.get((subject, aspect), frozenset())
        if _differ(aspect, values, known):
            return _name(subject, locked)
    if subject == "hair" and _is_bald_or_not(noun.kind == "bald", told, locked):
        return _name(subject, locked)
    return ""


def _differ(aspect: str, values: set[str], known: frozenset[str]) -> bool:
    if not known:
        return False
    if aspect in {"length", "texture"}:
        return all(abs(int(one) - int(other)) > 1 for one in values for other in known)
    return values.isdisjoint(known) and "any" not in values | known


def _is_bald_or_not(is_bald: bool, told: dict[str, set[str]], locked: _Locked) -> bool:
    """Tell whether there is hair on one side and none on the other."""
    if is_bald:
        return "bald" not in locked.present and ("hair", "length") not in locked.values
    return "bald" in locked.present and not told.keys().isdisjoint({"colour", "texture"})


def _name(subject: str, locked: _Locked) -> str:
    kinds = ("hair", "bald", "style") if subject == "hair" else (subject,)
    named = (locked.present[kind] for kind in kinds if kind in locked.present)
    return next(named, "") or next(iter(locked.present.values()), subject)
