"""Of what kind a German phrase is; the kind `gerund` is an infinitive phrase here."""

from __future__ import annotations

from collections.abc import Sequence

from backend.captions.phrases import Kind, Phrase, parts_at
from backend.captions.words import stop_words, word_set

_MOST_HEAD_WORDS = 4
_MOST_SUBJECT_WORDS = 3
_MOST_OPENING_WORDS = 7


def _list(name: str) -> frozenset[str]:
    return word_set("grammar", name, locale="de")


_QUESTIONS = _list("questions")
_DETERMINERS = _list("determiners")
_FOREIGN = _list("foreign_determiners")
_OBLIQUE = _list("oblique_determiners")
_GENITIVES = _list("genitives")
_PRONOUNS = _list("pronouns")
_FINITE = _list("finite")
_INCOMPLETE = _list("incomplete")
_PREPOSITIONS = _list("prepositions")
_CONJUNCTIONS = _list("conjunctions")
_SUBORDINATORS = _list("subordinators")
_AFTER_NOUNS = _list("after_nouns")
_BEFORE_INFINITIVES = _list("before_infinitives")
_INFINITIVES = _list("infinitives")
_MOTIONS = _list("motions")
_GE_INFINITIVES = _list("ge_infinitives")
_EITHER = _list("verbs_or_nouns")
_COMMANDS = _list("imperatives")
_MACHINE = _list("machine_words")
_IMPERATIVES = _list("imperative_verbs")
_PERSONS = _list("persons")
_ENDINGS = tuple(_list("infinitive_endings"))
_NO_INFINITIVES = _list("no_gerunds")
_NEUTER_OR_ONE = frozenset({"das", "ein", "eine", "mein", "meine", "kein", "keine", "dieses"})
_NO_HEAD = _DETERMINERS | _OBLIQUE | _PRONOUNS | _PREPOSITIONS | _CONJUNCTIONS | _SUBORDINATORS
_INSIDE = (_NO_HEAD | _GENITIVES | _AFTER_NOUNS) - _PRONOUNS
_INFLECTED = ("em", "en")
_GOVERNED = ("er", "em", "en")
_BOUNDARIES = _PREPOSITIONS | _CONJUNCTIONS | _GENITIVES | _AFTER_NOUNS
_ARTICLES = _DETERMINERS | _OBLIQUE
_OPENS_NO_NOUN = _NO_HEAD | stop_words("de") | _FOREIGN


def kind_of(phrase: Phrase) -> Kind:
    """Tell what a phrase is; `free` when unsure."""
    words = phrase.words
    if not phrase.is_plain or _is_command(words):
        return "free"
    if phrase.asks:
        return "question" if words[0] in _QUESTIONS else "free"
    if phrase.is_list:
        unsure = words[0] in _OPENS_NO_NOUN | _IMPERATIVES or _has_verb(phrase)
        return "free" if unsure else "bare"
    if _is_imperative(phrase):
        return "imperative"
    if words[0] in _QUESTIONS or words[0] in _FOREIGN:
        return "free"
    if _is_clause(phrase):
        return "clause"
    if _is_infinitive_phrase(phrase):
        return "gerund"
    return _kind_of_noun_phrase(phrase)


def _is_command(words: Sequence[str]) -> bool:
    has_command = any(word in _COMMANDS for word in words)
    return words[0] in _COMMANDS or (has_command and any(word in _MACHINE for word in words))


def _has_verb(phrase: Phrase) -> bool:
    words = phrase.words
    return any(words[i] in _PRONOUNS or _is_verb_at(phrase, i) for i in range(len(words)))


def _is_imperative(phrase: Phrase) -> bool:
    words = phrase.words
    if len(words) == 1 or words[0] not in _IMPERATIVES:
        return False
    if words[1] in _CONJUNCTIONS or words[1] in {"im", *_FINITE}:
        return False
    return words[0] not in _EITHER or not phrase.written[1][:1].isupper()


def _is_clause(phrase: Phrase) -> bool:
    """Tell whether a subject in the nominative and its verb come first, and no verb again."""
    words = phrase.words
    at = next((i for i in range(1, len(words)) if _is_verb_at(phrase, i)), 0)
    if not at or (at + 1 == len(words) and words[at] in _INCOMPLETE):
        return False
    if any(_is_verb_at(phrase, i) or words[i] in _SUBORDINATORS for i in range(at + 1, len(words))):
        return False
    if at == 1 and words[0] == "es":
        return True
    return _is_subject(phrase, at)


def _is_verb_at(phrase: Phrase, at: int) -> bool:
    return phrase.words[at] in _FINITE and phrase.written[at][:1].islower()


def _is_subject(phrase: Phrase, end: int) -> bool:
    words = phrase.words[:end]
    determined = words[0] in _DETERMINERS
    runs = list(parts_at(words, _PREPOSITIONS)) if determined else [list(words)]
    if len(runs) > 2:
        return False
    for run in runs:
        body = run[1:] if run and run[0] in _ARTICLES else run
        if not 1 <= len(body) <= _MOST_SUBJECT_WORDS or any(word in _NO_HEAD for word in body):
            return False
    return determined or (words[0] not in _OPENS_NO_NOUN and phrase.written[end - 1][:1].isupper())


def _is_infinitive(phrase: Phrase) -> bool:
    """Tell whether the last word may be an infinitive."""
    last = phrase.words[-1]
    if last in _NO_INFINITIVES or not last.endswith(_ENDINGS) or phrase.written[-1][0].isupper():
        return False
    if last.startswith("ge") and last not in _GE_INFINITIVES:
        return False
    return _has_capitals(phrase) or last in _INFINITIVES | _MOTIONS


def _has_capitals(phrase: Phrase) -> bool:
    """Tell whether nouns are written large: elsewhere than at the start."""
    return any(word[:1].isupper() for word in phrase.written[1:])


def _is_infinitive_phrase(phrase: Phrase) -> bool:
    words = phrase.words
    if not _is_infinitive(phrase) or _has_verb(phrase) or len(words) > _MOST_OPENING_WORDS:
        return False
    if len(words) == 1:
        return True
    before = words[-2]
    if before in _ARTICLES or before in _PREPOSITIONS or any(w in _SUBORDINATORS for w in words):
        return False
    opens = words[0] in _OBLIQUE | _PREPOSITIONS | _BEFORE_INFINITIVES | _NEUTER_OR_ONE
    if opens:
        return words[0] not in _NEUTER_OR_ONE or phrase.written[-2][0].isupper()
    if words[0] in _OPENS_NO_NOUN or words[0] in _PERSONS:
        return False
    return words[-1] in _INFINITIVES


def _kind_of_noun_phrase(phrase: Phrase) -> Kind:
    words = phrase.words
    if phrase.governed and words[0] == "der":
        return "free"
    if words[0] in _DETERMINERS:
        if not _is_noun_phrase(phrase, 1):
            return "free"
        return "bare" if any(word in _PERSONS for word in words) else "noun"
    if words[0] in _OPENS_NO_NOUN or _is_inflected(phrase) or not _is_noun_phrase(phrase, 0):
        return "free"
    return "bare"


def _is_inflected(phrase: Phrase) -> bool:
    """Tell whether an adjective in another case than the nominative comes first."""
    if len(phrase.words) == 1 or phrase.written[0][0].isupper() or not _has_capitals(phrase):
        return False
    return phrase.words[0].endswith(_GOVERNED if phrase.governed else _INFLECTED)


def _is_noun_phrase(phrase: Phrase, start: int) -> bool:
    """Tell whether adjectives and a noun come first, and no verb anywhere."""
    words, written = phrase.words, phrase.written
    end = next((i for i in range(start, len(words)) if words[i] in _BOUNDARIES), len(words))
    head = words[start:end]
    if not 0 < len(head) <= _MOST_HEAD_WORDS or any(word in _NO_HEAD for word in head):
        return False
    if _has_verb(phrase) or any(word in _SUBORDINATORS for word in words):
        return False
    if _has_capitals(phrase) and not (written[end - 1][0].isupper() and _goes_on_well(phrase)):
        return False
    if not _has_capitals(phrase) and len(head) > 1 and head[-1].endswith(("t", "en")):
        return False
    return not _is_infinitive(phrase) and _is_tail(phrase, end)


def _goes_on_well(phrase: Phrase) -> bool:
    """Tell whether only small words that no verb is among follow the nouns."""
    written, words = phrase.written, phrase.words
    return all(
        words[i] in _INSIDE or not written[i][0].isalpha() or written[i][0].isupper()
        for i in range(2, len(words))
        if written[i - 1][0].isupper()
    )


def _is_tail(phrase: Phrase, start: int) -> bool:
    """Tell whether what follows a noun hangs on it: by a preposition, genitive, conjunction."""
    words = phrase.words[start:]
    for i, word in enumerate(words):
        governed = i > 0 and words[i - 1] in _PREPOSITIONS | _CONJUNCTIONS | {"voller", "samt"}
        if word in _ARTICLES and not governed and word not in _GENITIVES:
            return False
    return True
