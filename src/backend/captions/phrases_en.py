"""Of what kind an English phrase is."""

from __future__ import annotations

from collections.abc import Sequence

from backend.captions.phrases import Kind, Phrase, parts_at
from backend.captions.words import stop_words, word_set

_MOST_HEAD_WORDS = 4
_MOST_SUBJECT_WORDS = 3


def _list(name: str) -> frozenset[str]:
    return word_set("grammar", name)


def _third(verb: str) -> str:
    """Return a verb's form in "-s"."""
    if verb.endswith("y") and verb[-2] not in "aeou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "o")) else "s")


_QUESTIONS = _list("questions")
_DETERMINERS = _list("determiners")
_SINGULAR = _list("singular_determiners")
_QUANTIFIERS = _list("quantifiers")
_POSSESSIVES = _list("possessives")
_PRONOUNS = _list("pronouns")
_OBJECTS = _list("object_pronouns")
_FINITE = _list("finite")
_MODALS = _list("modals")
_NO_CLAUSES = _list("no_clauses")
_PREPOSITIONS = _list("prepositions")
_PARTICLES = _list("verb_particles")
_CONJUNCTIONS = _list("conjunctions")
_RELATIVES = _list("relatives")
_SUBORDINATORS = _list("subordinators")
_ADVERBS = _list("adverbs")
_COMMANDS = _list("imperatives")
_MACHINE = _list("machine_words")
_VERBS = _list("verbs")
_EITHER = _list("verbs_or_nouns")
_IMPERATIVES = _list("imperative_verbs") - _EITHER
_PASTS = _list("pasts")
_PARTICIPLES = _list("participles")
_PERSONS = _list("persons")
_NO_GERUNDS = _list("no_gerunds")
_GERUND_NOUNS = _list("gerund_nouns")
_OBJECT_GERUNDS = _list("object_gerunds")
_ADJECTIVES = _list("adjectives")
_THIRDS = frozenset(_third(verb) for verb in _VERBS)
_EITHER_THIRDS = frozenset(_third(verb) for verb in _EITHER)
_BASES = _VERBS | _EITHER | _IMPERATIVES
_AFTER_VERBS = _DETERMINERS | _POSSESSIVES | _OBJECTS | _PARTICLES | {"more", "less", "what"}
_AFTER_GERUNDS = (_AFTER_VERBS | _PREPOSITIONS | _CONJUNCTIONS | _ADVERBS) - {"of"}
_AFTER_FINITE = _PREPOSITIONS | _DETERMINERS | _ADVERBS
_AFTER_EITHER = _PREPOSITIONS - {"of"}
_NO_HEAD = (
    _DETERMINERS | _PRONOUNS | _OBJECTS | _FINITE | _CONJUNCTIONS | _SUBORDINATORS | _PREPOSITIONS
)
_BOUNDARIES = _PREPOSITIONS | _RELATIVES | {"and", "or"}
_OPENS_NO_NOUN = (_NO_HEAD | stop_words() | _ADVERBS) - _DETERMINERS - _QUANTIFIERS
_SINGULARS = _list("singulars")
_SINGULAR_S = ("ss", "us", "is", "'s", "ics")


def kind_of(phrase: Phrase) -> Kind:
    """Tell what a phrase is; `free` when unsure."""
    words = phrase.words
    if not phrase.is_plain or _is_command(words):
        return "free"
    if not phrase.asks and not phrase.is_list and _is_imperative(words):
        return "imperative"
    if phrase.asks or _opening(words[0]) in _QUESTIONS:
        asks = phrase.asks and _opening(words[0]) in _QUESTIONS
        return "question" if asks else "free"
    if phrase.is_list:
        opens = words[0] in _OPENS_NO_NOUN or _is_imperative(words)
        return "free" if opens or _is_unsure(words) else "bare"
    if _is_clause(words):
        return "clause"
    if _is_gerund(words):
        return "gerund"
    return _kind_of_noun_phrase(words)


def _opening(word: str) -> str:
    return word if word in _QUESTIONS else word.partition("'")[0]


def _is_command(words: Sequence[str]) -> bool:
    has_command = any(word in _COMMANDS for word in words)
    return words[0] in _COMMANDS or (has_command and any(word in _MACHINE for word in words))


def _is_imperative(words: Sequence[str]) -> bool:
    first, following = words[0], words[1] if len(words) > 1 else ""
    if first in _IMPERATIVES:
        return following not in {"and", "or", "of", *_FINITE} and not _is_unsure_after(words)
    return first in _EITHER and following in _AFTER_VERBS


def _is_unsure_after(words: Sequence[str]) -> bool:
    return any(word in _PRONOUNS and word not in _OBJECTS for word in words[1:2])


def _is_clause(words: Sequence[str]) -> bool:
    at = next((i for i in range(1, len(words)) if _is_verb_at(words, i)), 0)
    if not at or words[at] in _NO_CLAUSES:
        return False
    subject = list(words[:at])
    while len(subject) > 1 and (subject[-1] in _ADVERBS or subject[-1].endswith("ly")):
        subject.pop()
    rest = words[at + 1 :]
    modal = words[at] in _MODALS
    if modal and not (rest and (rest[0] in _BASES or rest[0] in {"be", "have", "not", "never"})):
        return False
    return (
        _is_subject(subject, words[at])
        and (bool(rest) or words[at] not in _FINITE)
        and not _has_second_verb(words, at + 1)
    )


def _is_verb_at(words: Sequence[str], at: int) -> bool:
    """Tell whether a word is surely a finite verb there."""
    word = words[at]
    if word in _FINITE or word in _THIRDS or word in _PASTS:
        return True
    if word in _VERBS:
        return _is_plural(words[at - 1])
    return word in _EITHER_THIRDS and words[0] in _SINGULAR and 2 <= at <= _MOST_SUBJECT_WORDS


def _is_subject(words: Sequence[str], verb: str) -> bool:
    determined = words[0] in _DETERMINERS
    if not _is_plural(_head(words)) and verb in {"are", "were", "have", "aren't"}:
        return False
    if _is_plural(_head(words)) and (verb in _THIRDS or verb in {"is", "was", "has", "isn't"}):
        return False
    runs = list(parts_at(words, _PREPOSITIONS)) if determined else [list(words)]
    if len(runs) > 2 or (words[0] in _BASES and not determined):
        return False
    for run in runs:
        body = run[1:] if run and run[0] in _DETERMINERS else run
        if not 1 <= len(body) <= _MOST_SUBJECT_WORDS or any(word in _NO_HEAD for word in body):
            return False
    return determined or words[0] not in _OPENS_NO_NOUN


def _head(words: Sequence[str]) -> str:
    """Return the last word before a preposition: the one that rules number."""
    end = next((i for i, word in enumerate(words) if word in _PREPOSITIONS), len(words))
    return words[end - 1] if end else ""


def _is_plural(word: str) -> bool:
    if word in {"people", "women", "men", "children"}:
        return True
    ends_so = len(word) > 3 and word.endswith("s") and not word.endswith(_SINGULAR_S)
    return ends_so and word not in _SINGULARS


def _has_second_verb(words: Sequence[str], start: int) -> bool:
    """Tell whether a verb or a subject follows that no subordinator brings in."""
    for word in words[start:]:
        if word in _SUBORDINATORS:
            return False
        if word in _FINITE or word in _THIRDS or (word in _PRONOUNS and word not in _OBJECTS):
            return True
    return False


def _looks_like_gerund(word: str) -> bool:
    return word.endswith("ing") and len(word) > 4 and word not in _NO_GERUNDS


def _is_gerund(words: Sequence[str]) -> bool:
    if not _looks_like_gerund(words[0]) or _has_second_verb(words, 1):
        return False
    if len(words) == 1:
        return words[0] not in _GERUND_NOUNS
    following = words[1]
    if words[0] in _GERUND_NOUNS and following in _PREPOSITIONS | _CONJUNCTIONS:
        return False
    surely = following in _AFTER_GERUNDS or following.endswith("ly")
    return surely or words[0] in _OBJECT_GERUNDS


def _kind_of_noun_phrase(words: Sequence[str]) -> Kind:
    if words[0] in _DETERMINERS:
        if not _is_noun_phrase(words[1:], determiner=words[0]):
            return "free"
        return "bare" if any(word in _PERSONS for word in words) else "noun"
    if words[0] in _OPENS_NO_NOUN or _is_unsure(words):
        return "free"
    return "bare"


def _is_noun_phrase(words: Sequence[str], determiner: str = "") -> bool:
    """Tell whether no verb hides in what follows an article."""
    end = next((i for i in range(len(words)) if _is_boundary(words, i)), len(words))
    head, rest = words[:end], words[end:]
    if not 0 < len(head) <= _MOST_HEAD_WORDS or any(word in _NO_HEAD for word in head):
        return False
    if any(_may_be_verb(head, i, determiner) for i in range(1, len(head))):
        return False
    if head[0] in _FINITE or (determiner in _SINGULAR and _is_plural(head[-1])):
        return False
    return _is_tail(rest)


def _is_boundary(words: Sequence[str], at: int) -> bool:
    word = words[at]
    if word in _BOUNDARIES:
        return True
    if not at:
        return False
    after = words[at + 1] if at + 1 < len(words) else ""
    return _looks_like_gerund(word) or (word in _PARTICIPLES and after in _PREPOSITIONS)


def _may_be_verb(head: Sequence[str], at: int, determiner: str) -> bool:
    word = head[at]
    if word in _THIRDS or word in _PASTS or word.endswith("ed"):
        return True
    if _is_plural(head[at - 1]) and (word in _BASES or word.endswith("s")):
        return True
    if not _is_plural(word):
        return False
    described = all(before in _ADJECTIVES for before in head[:at])
    return not described or determiner in _SINGULAR


def _is_tail(words: Sequence[str]) -> bool:
    """Tell whether what follows a noun belongs to it, too."""
    if not words:
        return True
    verbs = sum(word in _FINITE or word in _THIRDS or word in _PASTS for word in words)
    if words[0] in _RELATIVES:
        return len(words) > 1 and verbs <= 1
    if words[0] in {"and", "or"}:
        named = words[1:2] and words[1] in _DETERMINERS
        return bool(words[1:]) and _is_noun_phrase(words[2:] if named else words[1:])
    return not verbs and not _is_unsure(words)


def _is_unsure(words: Sequence[str]) -> bool:
    """Tell whether a phrase without an article may hold a verb that is not read."""
    for i, word in enumerate(words):
        if word in _FINITE or word in _PRONOUNS or word in _PASTS or word == "your":
            return True
        if i and word in _THIRDS:
            return True
        if i and word in _BASES and _is_plural(words[i - 1]):
            return True
        goes_on = words[i + 1] in _AFTER_FINITE if i + 1 < len(words) else False
        if i and word in _EITHER_THIRDS and (goes_on or words[i - 1] in _PERSONS):
            return True
    return words[0] in _EITHER and len(words) > 1 and words[1] in _AFTER_EITHER
