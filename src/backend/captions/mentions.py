"""Where a text mentions looks: a noun, the words around it that describe it, what they say.

Invariant: one pass over the words, each looked at a bounded number of times.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from backend.captions.appearance_words import Modifier, Noun, Trait, Wording, fold, inflect

_WORD = re.compile(r"([^\W_]+(?:'[^\W_]+)*)")
_STOPS = frozenset(".!?\n…")
_INSIDE = frozenset(" -")
_LOOSE = frozenset(" -,&")
_BACK = 6
_SIGNS = 40
_ORDER = ("quality", "length", "texture", "shade", "colour", "shape")


class Sentence:
    """A text as folded words and what stands between them.

    `gaps[i]` stands before word i, the last one behind the last word: " ", "-", "," (also "/"),
    ":" (also "="), "." and "?" for a sentence's end, ";" for anything else that separates.
    """

    def __init__(self, text: str) -> None:
        parts = _WORD.split(text.casefold().replace("’", "'"))
        self.words: list[str] = parts[1::2]
        self.gaps = [gap if gap in _INSIDE else _gap(gap[:_SIGNS]) for gap in parts[::2]]
        self.gaps[0] = "."
        last = _gap(parts[-1][:_SIGNS])
        self.gaps[-1] = "." if last in _LOOSE else last

    def joined(self, start: int, end: int) -> str:
        """Return the words of a span with what stood between them."""
        parts = [self.words[start]]
        for index in range(start + 1, end):
            parts += (self.gaps[index] if self.gaps[index] in _INSIDE else " ", self.words[index])
        return "".join(parts)

    def before(self, index: int, skipped: frozenset[str], most: int = _BACK) -> list[str]:
        """Return the words before one in its clause, without the skipped ones, in order."""
        found: list[str] = []
        while index > 0 and self.gaps[index] in _INSIDE and len(found) < most:
            index -= 1
            if self.words[index] not in skipped:
                found.append(self.words[index])
        return found[::-1]

    def longest(self, start: int, wording: Wording, entries: Container[str]) -> int:
        """Return how many words from `start` on are an entry, at most."""
        word = self.words[start]
        for count in range(wording.reach.get(word, 0), 1, -1):
            if self.key(start, count) in entries:
                return count
        return 1 if word in entries else 0

    def key(self, start: int, count: int) -> str:
        """Return words as the lists spell them; "" where they do not stand together."""
        end = start + count
        if end > len(self.words) or not _INSIDE.issuperset(self.gaps[start + 1 : end]):
            return ""
        return " ".join(self.words[start:end])


@lru_cache(maxsize=1024)
def _gap(between: str) -> str:
    signs = set(between) - {"'", '"', "*", "_"}
    if signs & _STOPS:
        return "?" if "?" in signs else "."
    for sign, kin in ((":", ":="), (",", ",/")):
        if not signs.isdisjoint(kin):
            return sign
    if "&" in signs and signs <= {"&", " "}:
        return "&"
    return " " if all(map(str.isspace, signs)) else ";"


class Piece(NamedTuple):
    """A describing word in a text."""

    modifiers: tuple[Modifier, ...]
    source: str
    glue: str
    """What links it to the piece before it: a gap, "and" or "or"."""
    start: int


class Described(NamedTuple):
    """A modifier in the sense that it has before its noun."""

    modifier: Modifier
    source: str
    glue: str


@dataclass(frozen=True, slots=True)
class Mention:
    """A thing that a text speaks of."""

    noun: Noun
    start: int
    end: int
    word: str
    pieces: tuple[Described, ...] = ()
    after: str = ""
    is_said_of_it: bool = False
    """Whether the description stands behind a verb: "hair is black"."""

    @property
    def traits(self) -> tuple[Trait, ...]:
        """What is said of it; a lightness only where no colour is named."""
        found = [trait for piece in self.pieces for trait in piece.modifier.traits]
        colours = any(aspect == "colour" for aspect, _ in found)
        named = [
            ("colour" if aspect == "shade" else aspect, value)
            for aspect, value in found
            if aspect != "shade" or (self.noun.slot == "hair" and not colours)
        ]
        return tuple(dict.fromkeys((*self.noun.traits, *named)))

    @property
    def is_informative(self) -> bool:
        """Whether it says more than that there is one."""
        told = any(piece.modifier.aspect not in {"neutral", "adverbs"} for piece in self.pieces)
        return told or bool(self.after)

    @property
    def is_undecided(self) -> bool:
        """Whether it names alternatives."""
        return any(piece.glue == "or" for piece in self.pieces[1:])


def mentions(sentence: Sentence, wording: Wording) -> Iterator[Mention]:
    """Yield what a text mentions, in its order."""
    run: list[Piece] = []
    index, glue = 0, ""
    while index < len(sentence.words):
        if sentence.words[index] not in wording.reach and not run:
            index += 1
            continue
        if sentence.gaps[index] not in _LOOSE:
            yield from _persons(run, sentence, wording)
            run, glue = [], ""
        count = sentence.longest(index, wording, wording.entries)
        key = sentence.key(index, count) if count else ""
        if key in wording.nouns:
            noun = wording.nouns[key]
            taken = _taken(noun, run) if sentence.gaps[index] in _INSIDE else []
            yield from _persons(run[: len(run) - len(taken)], sentence, wording)
            mention = _mention(noun, taken, index, count, sentence, wording)
            if not (noun.is_person and _is_thing(sentence, wording, mention.end)):
                yield mention
            index, run, glue = mention.end, [], ""
        elif key:
            glue = glue or ("and" if sentence.gaps[index] == "&" else sentence.gaps[index])
            source = sentence.joined(index, index + count)
            run.append(Piece(wording.modifiers[key], source, glue, index))
            index, glue = index + count, ""
        else:
            glue = _linking(sentence.words[index], wording) if run else ""
            if not glue:
                yield from _persons(run, sentence, wording)
                run = []
            index += 1
    yield from _persons(run, sentence, wording)


def _is_thing(sentence: Sentence, wording: Wording, index: int) -> bool:
    """Tell whether what follows is no person: "bald eagle"."""
    return index < len(sentence.words) and sentence.words[index] in wording.lists["things"]


def _linking(word: str, wording: Wording) -> str:
    if word in wording.lists["and"]:
        return "and"
    return "or" if word in wording.lists["or"] else ""


def _mention(
    noun: Noun,
    taken: list[tuple[Described, int]],
    index: int,
    count: int,
    sentence: Sentence,
    wording: Wording,
) -> Mention:
    end = index + count
    word = sentence.joined(index, end)
    pieces = [described for described, _ in taken]
    start = taken[0][1] if taken else index
    said, end = _behind(noun, sentence, wording, end)
    after, end = _after(noun, sentence, wording, end)
    return Mention(noun, start, end, word, (*pieces, *said), after, bool(said))


def _taken(noun: Noun, run: list[Piece]) -> list[tuple[Described, int]]:
    """Return the words directly before a noun that may describe it."""
    taken: list[tuple[Described, int]] = []
    for place in range(len(run) - 1, -1, -1):
        piece = run[place]
        sense = _sense(piece.modifiers, noun)
        if sense is None or (taken and not _goes_on(run, place, sense, taken)):
            break
        taken.append((Described(sense, piece.source, piece.glue), piece.start))
    return taken[::-1]


def _sense(modifiers: tuple[Modifier, ...], noun: Noun) -> Modifier | None:
    fitting = (found for found in modifiers if not found.slots or noun.slot in found.slots)
    return next(fitting, None)


def _goes_on(
    run: list[Piece], place: int, sense: Modifier, taken: list[tuple[Described, int]]
) -> bool:
    """Tell whether a word belongs to the noun although another one stands between."""
    if run[place + 1].glue != ",":
        return True
    is_item = run[place].glue not in _INSIDE
    if sense.aspect in {"colour", "shade"} and is_item:
        return False
    return all(described.modifier.aspect != sense.aspect for described, _ in taken)


def _behind(
    noun: Noun, sentence: Sentence, wording: Wording, index: int
) -> tuple[list[Described], int]:
    """Return what is said of a noun behind it ("is black", ": black"), and where that ends."""
    if index >= len(sentence.words):
        return [], index
    at, is_list = index, sentence.gaps[index] == ":"
    has_link = is_list
    if sentence.gaps[index] in _INSIDE:
        linked = sentence.longest(index, wording, wording.lists["links"])
        at, has_link = index + linked, linked > 0
    elif not is_list:
        return [], index
    is_changed = not has_link and _is_changed(sentence, wording, index)
    said, end = _descriptions(noun, sentence, wording, at, is_list=is_list)
    if said and not has_link and not is_changed and not _is_whole(sentence, wording, end):
        said = []
    return (said, end) if said else ([], index)


def _is_whole(sentence: Sentence, wording: Wording, end: int) -> bool:
    """Tell whether a clause ends, or ends in a verb: "eyes brown", "Haare blond gefärbt"."""
    if sentence.gaps[end] not in _INSIDE:
        return True
    return sentence.words[end] in wording.lists["changed_after"]


def _is_changed(sentence: Sentence, wording: Wording, index: int) -> bool:
    near = sentence.words[max(0, index - _BACK) : index]
    return any(word in wording.lists["changed"] for word in near)


def _descriptions(
    noun: Noun, sentence: Sentence, wording: Wording, at: int, *, is_list: bool
) -> tuple[list[Described], int]:
    said: list[Described] = []
    end, glue = at, " "
    skipped, linking = wording.lists["passed"], wording.lists["linking"]
    for _ in range(8):
        if at >= len(sentence.words) or not _is_linked(sentence.gaps[at], said, is_list=is_list):
            break
        if sentence.gaps[at] == ",":
            glue = ","
        count = sentence.longest(at, wording, wording.modifiers)
        sense = _sense(wording.modifiers[sentence.key(at, count)], noun) if count else None
        if sense is not None:
            if glue == "," and any(one.modifier.aspect == sense.aspect for one in said):
                break
            said.append(Described(sense, sentence.joined(at, at + count), glue))
            at, glue = at + count, " "
            end = at
        elif said and sentence.words[at] in linking:
            glue = "and" if sentence.words[at] in wording.lists["and"] else "or"
            at += 1
        elif sentence.words[at] in skipped:
            at += 1
        else:
            break
    return _without_next(said, sentence, wording, end)


def _is_linked(gap: str, said: list[Described], *, is_list: bool) -> bool:
    return gap in _INSIDE or (bool(said) and gap == ",") or (is_list and not said and gap == ":")


def _without_next(
    said: list[Described], sentence: Sentence, wording: Wording, end: int
) -> tuple[list[Described], int]:
    """Give back what belongs to a noun that follows: "hair: black, green eyes"."""
    if not said or end >= len(sentence.words) or sentence.gaps[end] not in _INSIDE:
        return said, end
    if not sentence.longest(end, wording, wording.nouns):
        return said, end
    kept = list(said)
    while kept:
        dropped = kept.pop()
        end -= len(dropped.source.replace("-", " ").split(" "))
        if dropped.glue != " ":
            end -= dropped.glue in {"and", "or"}
            break
    return kept, end


def _after(noun: Noun, sentence: Sentence, wording: Wording, index: int) -> tuple[str, int]:
    """Return a known phrase behind a noun ("in a bun"), with a verb before it or none."""
    phrases = wording.after.get(noun.slot)
    if not phrases or index >= len(sentence.words) or sentence.gaps[index] not in _INSIDE:
        return "", index
    at = index + sentence.longest(index, wording, wording.lists["links"])
    if at < len(sentence.words) and sentence.gaps[at] in _INSIDE:
        count = sentence.longest(at, wording, phrases)
        if count:
            return sentence.joined(at, at + count), at + count
    return "", index


def _persons(run: list[Piece], sentence: Sentence, wording: Wording) -> Iterator[Mention]:
    """Yield the colours that stand for somebody's hair: "a blonde"."""
    noun = wording.nouns[next(iter(wording.lists["hair"]))]
    for piece in run:
        sense = next((found for found in piece.modifiers if found.is_person), None)
        end = piece.start + len(piece.source.replace("-", " ").split(" "))
        if sense is None or _is_thing(sentence, wording, end):
            continue
        person = Noun(noun.slot, noun.kind, noun.says, gender=noun.gender, is_person=True)
        described = (Described(sense, piece.source, " "),)
        yield Mention(person, piece.start, end, noun.says or "hair", described)


def phrase_of(mention: Mention, wording: Wording) -> str:
    """Return a noun phrase in the nominative that a caption may say; "" for none."""
    noun = mention.noun
    if noun.unsaid or mention.is_undecided:
        return ""
    kept = [piece for piece in mention.pieces if piece.modifier.aspect != "neutral"]
    if mention.is_said_of_it and all(p.modifier.aspect in _ORDER for p in kept):
        kept.sort(key=lambda piece: _ORDER.index(piece.modifier.aspect))
    if wording.is_inflected:
        return _inflected(noun, kept, wording)
    words = ""
    for place, piece in enumerate(kept):
        words += _between(kept[place - 1], piece) if place else ""
        words += piece.source
    words = " ".join(filter(None, (words, noun.says or mention.word, mention.after)))
    if not noun.counted:
        return words
    is_vowel = words[0] in "aeiou" and not words.startswith(("uni", "use", "one "))
    return f"{'an' if is_vowel else 'a'} {words}"


def _between(before: Described, piece: Described) -> str:
    if piece.glue == "-":
        return "-"
    are_colours = before.modifier.aspect == piece.modifier.aspect == "colour"
    return " and " if piece.glue in {"and", ","} and are_colours else " "


_ENDINGS = {"m": "er", "f": "e", "n": "es", "p": "e"}


def _inflected(noun: Noun, pieces: list[Described], wording: Wording) -> str:
    """Put adjectives before a noun as after "ein", or after no article."""
    ending = _ENDINGS.get(noun.gender)
    if ending is None:
        return noun.says
    words = ""
    halves = [piece.glue == "-" for piece in pieces[1:]] + [False]
    for piece, is_half in zip(pieces, halves[: len(pieces)], strict=True):
        base = piece.modifier.base
        is_fixed = piece.modifier.aspect == "adverbs" or fold(base) in wording.lists["fixed"]
        words += base if is_half or is_fixed else inflect(base, ending)
        words += "-" if is_half else " "
    article = ("eine " if noun.gender == "f" else "ein ") if noun.counted else ""
    return f"{article}{words}{noun.says}"
