"""Read free words: which attribute values they name, and which words name nothing.

One pass from left to right, linear in the text. A colour or another adjective waits for the noun
that it describes ("red hair", "a red leather jacket"), or belongs to the noun before it ("hair: red
and long"); a comma or a preposition ends the wait.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from backend.imaging.builtin.vocabulary import Entry, vocabulary

_HARD, _SOFT = ".", ","
_TOKEN = re.compile(
    r"(?P<number>\d+(?:[.,]\d+)*)(?![^\W_])|(?P<soft>[,:=])|(?P<hard>[.;!?()\[\]{}\n|/<>\"“”„]|[—–])"
    r"|(?P<word>[^\s.,;:=!?()\[\]{}|/<>\"“”„—–_*+~#`^\\-]+)"
)
_PATIENCE = 2
"""Unknown words that may stand between "no" and what it denies."""

_COLOURED = ("background", "clothes_colour")
_SHOWN = 60
"""Characters of one ignored word that a report shows; scripts without spaces have long ones."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One attribute value that the words name.

    Attributes:
        word: what stood for the value, such as `navy`.
        phrase: the same with its noun, such as `navy jacket`.
        exact: whether the word means the value; else it is the nearest there is.
        negated: whether the words deny it.
        position: where in the text, counted in words.
        noun: where the noun of a colour stands, -1 where it has none.
    """

    attribute: str
    value: str
    word: str
    phrase: str
    exact: bool
    negated: bool
    position: int
    noun: int = -1


@dataclass(slots=True)
class Reading:
    """What a text says.

    Attributes:
        findings: values named or denied, in order.
        ignored: position and text of words that name nothing.
        hints: position, name and text of words that lean the drawing.
    """

    findings: list[Finding] = field(default_factory=list)
    ignored: list[tuple[int, str]] = field(default_factory=list)
    hints: list[tuple[int, str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Adjective:
    entry: Entry
    text: str
    position: int
    after_comma: bool


def read(text: str) -> Reading:
    """Read a text.

    Args:
        text: any text at all; it is only ever compared with the vocabulary.
    """
    reader = _Reader()
    found = tokens(text)
    position = 0
    while position < len(found):
        position += reader.take(found, position)
    reader.end()
    return reader.reading


def tokens(text: str) -> list[str]:
    """Split a text into lower-case words and the marks that part them, `,` and `.`."""
    return list(_tokens(text))


def _tokens(text: str) -> Iterator[str]:
    spelling = vocabulary().spelling
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    for match in _TOKEN.finditer(plain):
        if match.lastgroup == "soft":
            yield _SOFT
        elif match.lastgroup == "hard":
            yield _HARD
        elif word := match[0].strip("'&%$@"):
            yield from spelling.get(word, (word,))


class _Reader:
    def __init__(self) -> None:
        self.reading = Reading()
        self._words = vocabulary()
        self._pending: list[_Adjective] = []
        self._back = ""  # the noun that adjectives after it may belong to
        self._back_at = -1
        self._worn = False  # "in" or "wearing" came just before
        self._comma = False  # a comma parts this from the adjectives that wait
        self._adjacent = False  # the last word was an adjective
        self._negation = 0  # unknown words that a "no" still reaches over, plus one
        self._negator = ""  # that "no" as it was said
        self._denied = False  # the last value was denied: "or" denies the next as well

    def take(self, tokens: list[str], position: int) -> int:
        """Read what begins at a position.

        Returns:
            how many tokens were read.
        """
        token = tokens[position]
        if token == _HARD:
            self.end()
            return 1
        if token == _SOFT:
            self._take_comma()
            return 1
        for span in self._words.spans.get(token, ()):
            words = tuple(tokens[position : position + span])
            entry = self._words.entries.get(words)
            if entry is not None:
                self._take_entry(entry, " ".join(words), position)
                return span
        if token[0].isdigit() and (span := self._take_age(tokens, position)):
            return span
        if token in self._words.stop:
            self._take_small(token)
        else:
            self._take_unknown(token, position)
        return 1

    def end(self) -> None:
        """End a sentence: what still waits for a noun finds none."""
        self._flush()
        self._back, self._worn, self._comma, self._adjacent = "", False, False, False
        self._negation, self._denied = 0, False

    def _take_comma(self) -> None:
        if self._worn:
            self._flush()
        self._comma, self._worn = bool(self._pending), False
        self._negation, self._denied, self._adjacent = 0, False, False

    def _take_age(self, tokens: list[str], position: int) -> int:
        """Read "75 year old"."""
        for span in (3, 2, 1):
            if tuple(tokens[position + 1 : position + 1 + span]) in self._words.age_words:
                number = tokens[position]
                digits = number if number.isascii() and number.isdigit() else "0"
                if self._words.elderly_from <= int(digits[:4]):
                    self.reading.hints.append((position, "elderly", number))
                else:
                    self._ignore(position, number)
                return span + 1
        return 0

    def _take_small(self, token: str) -> None:
        grammar = self._words.grammar
        if token in grammar["continues_negation"] and self._denied:
            self._negation = _PATIENCE + 1
        elif token in grammar["negators"]:
            self._flush()
            self._negation = 0 if self._negation else _PATIENCE + 1
            self._back, self._negator = "", token
        elif token in grammar["wear"]:
            self._flush()
            self._worn, self._back = True, ""
        elif token in grammar["prepositions"]:
            self._flush()
            self._worn, self._back = False, ""
            if self._negation <= _PATIENCE:  # "not on the beach" denies the beach
                self._negation = 0
        elif token in grammar["conjunctions"]:
            if not self._adjacent:
                self._flush()
            return
        elif token not in grammar["copulas"]:
            self._back = ""
        self._adjacent = False

    def _take_unknown(self, token: str, position: int) -> None:
        self._part_by_comma()
        self._ignore(position, token)
        self._back, self._worn, self._adjacent, self._denied = "", False, False, False
        self._negation = max(0, self._negation - 1)

    def _take_entry(self, entry: Entry, text: str, position: int) -> None:
        if entry.empty:
            self._flush()
            self._take_unknown(text, position)
        elif entry.adjective:
            self._pending.append(_Adjective(entry, text, position, self._comma))
            self._comma, self._adjacent, self._denied = False, True, False
        elif entry.hints:
            self._flush()
            self.reading.hints += [(position, hint, text) for hint in entry.hints]
            self._back, self._worn, self._adjacent = "", False, False
        else:
            self._take_noun(entry, text, position)

    def _take_noun(self, entry: Entry, text: str, position: int) -> None:
        if entry.noun != "hair" or self._back not in ("", "hair"):
            self._part_by_comma()
        moody = all(attribute == "expression" for attribute, _, _ in entry.sets) and entry.sets
        bound = not moody and self._bind(entry, text, position)
        negated = bool(self._negation)
        for attribute, value, exact in entry.sets:
            # "a blue sky" is blue, a black denim jacket black; "no red jacket" may be a green one
            part = attribute in _COLOURED or (attribute == "clothes" and negated)
            if not (bound and part):
                self._find(attribute, (value, exact), text, text, position, position)
        if entry.noun == "other" and not (bound or entry.sets):
            self._ignore(position, text)
        elif negated and not (bound or entry.sets):
            self._ignore(position, f"{self._negator} {text}")
        if negated:
            self._negation, self._denied = 0, True
        else:
            self._denied = False
        self._back, self._back_at = entry.noun, position
        self._worn, self._comma, self._adjacent = False, False, False

    def _part_by_comma(self) -> None:
        """Let go of adjectives that a comma parts from what comes now."""
        if self._comma:
            self._flush()
        cut = next((i for i, a in reversed(list(enumerate(self._pending))) if a.after_comma), 0)
        if cut:
            kept = self._pending[cut:]
            self._pending = self._pending[:cut]
            self._flush()
            self._pending = kept
        self._comma = False

    def _bind(self, entry: Entry, text: str, position: int) -> bool:
        """Give the waiting adjectives to a noun.

        Returns:
            whether one of them found its place there.
        """
        waiting, self._pending = self._pending, []
        if entry.noun == "other":
            if waiting:
                words = [adjective.text for adjective in waiting]
                shown = " ".join(words if entry.sets else [*words, text])
                self._ignore(waiting[0].position, shown)
            return bool(waiting)
        rest = self._bind_colour(entry.noun, waiting, text, position)
        bound = len(rest) < len(waiting)
        if entry.noun == "hair":
            rest = self._bind_cut(rest, text)
        for adjective in rest:
            self._leave(adjective)
        return bound

    def _bind_colour(
        self, noun: str, waiting: list[_Adjective], of: str, at: int
    ) -> list[_Adjective]:
        """Settle the colour of a noun, the first clear one; return what is left over."""
        colours = [a for a in waiting if noun in a.entry.roles]
        if not colours:
            return waiting
        clear = [a for a in colours if not (a.entry.shade or a.entry.filler)]
        chosen = (clear or colours)[0]
        tones = [a for a in waiting if a.entry.shade and clear]
        value, exact = chosen.entry.roles[noun]
        word = " ".join((*(tone.text for tone in tones), chosen.text))
        sense = (value, exact and not tones)
        self._find(noun, sense, word, f"{word} {of}".strip(), chosen.position, at)
        return [a for a in waiting if a is not chosen and a not in tones and not a.entry.filler]

    def _bind_cut(self, waiting: list[_Adjective], of: str) -> list[_Adjective]:
        """Settle the rear hair by length and texture; return what is left over."""
        length = next((a for a in waiting if a.entry.length), None)
        texture = next((a for a in waiting if a.entry.texture and a is not length), None)
        kind, exact = (length.entry.length or ("", True)) if length else ("long", True)
        if length is None and texture is None:
            return waiting
        used = [a for a in (length, texture) if a]
        if kind == "long":
            curl, meant = (texture.entry.texture or ("", True)) if texture else ("straight", True)
            kind, exact = f"long-{curl}", exact and meant
        elif length and texture:
            used = [length]
        word = " ".join(a.text for a in used)
        self._find("rear", (kind, exact), word, f"{word} {of}".strip(), used[0].position)
        return [a for a in waiting if a not in used]

    def _flush(self) -> None:
        """Place adjectives that no noun follows: worn, or of the noun before, or by themselves."""
        rest, self._pending = self._pending, []
        if self._worn and self._adjacent and any(not a.entry.shade for a in rest):
            rest = self._bind_colour("clothes_colour", rest, "", -1)
        elif self._back:
            of = self._back.partition("_")[0]
            rest = self._bind_colour(self._back, rest, of, self._back_at)
        if self._back == "hair":
            rest = self._bind_cut(rest, "hair")
        for adjective in rest:
            self._leave(adjective)

    def _leave(self, adjective: _Adjective) -> None:
        for attribute, value, exact in adjective.entry.sets:
            self._find(
                attribute, (value, exact), adjective.text, adjective.text, adjective.position
            )
        if not adjective.entry.sets:
            self._ignore(adjective.position, adjective.text)

    def _find(
        self,
        attribute: str,
        sense: tuple[str, bool],
        word: str,
        phrase: str,
        position: int,
        noun: int = -1,
    ) -> None:
        value, exact = sense
        negated = bool(self._negation)
        shown = f"{self._negator} {phrase}" if negated else phrase
        self.reading.findings.append(
            Finding(attribute, value, word, shown, exact, negated, position, noun)
        )

    def _ignore(self, position: int, text: str) -> None:
        shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
        self.reading.ignored.append((position, shown))
