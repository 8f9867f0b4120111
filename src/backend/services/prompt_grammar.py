r"""The grammar of prompt sets: a text is read once, into a tree, and every fault has a place.

What the field does: the syntax is that of the dynamicprompts library, which most tools for Stable
Diffusion read by now. It parses with parser combinators, anew for every line of a wildcard file it
draws. What users complain of: no way to write a brace, a bar or a dollar sign that is meant
("a sign that says $10" ends in a parser error), hashtags that vanish as comments, faults that name
a Python exception instead of a place.

Ours: one hand-written pass. A backslash makes `{ } | $ % # _` and itself plain text and is left
alone before anything else, since `\(` means something to others. `$` and `#` are plain where they
open nothing: a comment is a `#` with space or nothing on both sides. What is not supported
(sampler marks, wrap commands, variants inside a wildcard's name) is refused with its place and
never passed on as text.

    sequence  = (text | variants | wildcard | assignment | access)*
    variants  = "{" [bounds "$$" [separator "$$"]] option ("|" option)* "}"
    bounds    = N | N"-"M | "-"M | N"-"
    option    = [weight "::"] sequence
    wildcard  = "__" name ["(" name "=" sequence ("," …)* ")"] "__"
    assignment= "${" name ["?"] "=" ["!"] sequence "}"
    access    = "${" name [":" sequence] "}"

Leading whitespace of an option is dropped, as the library does; any run of it becomes one space.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from backend.errors import InvalidRequest

MAX_DEPTH = 32
"""Braces within braces."""

_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_WHITESPACE = re.compile(r"\s+")
_SPACE = re.compile(r"\s*")
_WEIGHT = re.compile(r"(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})::\s*")
_BOUNDS = re.compile(r"\s*(\d{1,9})?\s*(?:(-)\s*(\d{1,9})?\s*)?\$\$")
_SEPARATOR = re.compile(r"([^${}]*)\$\$")
_NAME = re.compile(r"\s*([A-Za-z_-][\w-]*)\s*")
_WILDCARD = re.compile(r"((?:(?!__)[^(){}|$#\\\n]){1,200})(__|\()")
_NOT_A_NAME = re.compile(r"[^\w .*?/'&+,-]")
_SPECIAL = re.compile(_UNSPEAKABLE.pattern + r"|[\\{}#$%]|__")
_ESCAPABLE = frozenset("{}|$%#_\\!~@")

_UNCLOSED = {
    "}": "this brace is not closed; write \\{ for a plain one.",
    "=": "a wildcard's parameters are written as in __wildcard(name=value)__.",
    ")": "this wildcard's parameters are not closed by a round bracket.",
    "__": "two underscores are missing after this wildcard's round bracket.",
}

Stops: TypeAlias = str
_TOP, _OPTION, _VALUE, _PARAMETER = "", "|}", "}", ",)"
_PLAIN = {
    stops: re.compile(rf"(?:(?!__|\$\{{|%\{{)[^\\{{}}#{re.escape(stops)}])+")
    for stops in (_TOP, _OPTION, _VALUE, _PARAMETER)
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a text something stands.

    Attributes:
        position: characters before it.
        source: what the text is, such as `wildcard hair, line 3`; empty for the prompt itself.
    """

    position: int
    source: str = ""

    def refuse(self, message: str) -> NoReturn:
        """Raise an `InvalidRequest` that names this place; positions count from 1 for people."""
        where = f"{self.source}, " if self.source else ""
        full = f"{where}character {self.position + 1}: {message}"
        error = {"field": "template", "message": full, "position": self.position}
        if self.source:
            error["source"] = self.source
        raise InvalidRequest(f"template: {full}", {"errors": [error]})


@dataclass(frozen=True, slots=True)
class Text:
    """Words that stand as they are."""

    text: str


@dataclass(frozen=True, slots=True)
class Option:
    """One alternative and how often it is drawn beside the others."""

    weight: float
    node: Node


@dataclass(frozen=True, slots=True)
class Variants:
    """Alternatives, of which `low` to `high` are taken; all that there are where that is `None`."""

    options: tuple[Option, ...]
    low: int
    high: int | None
    separator: str
    at: Place


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A line of the files that a name or a glob pattern fits."""

    pattern: str
    parameters: tuple[tuple[str, Node], ...]
    at: Place


@dataclass(frozen=True, slots=True)
class Assignment:
    """A name for a tree, from here to the end of its sequence.

    Attributes:
        immediate: it is expanded once a prompt, and not anew at every access.
        keep: an earlier value of that name stays.
    """

    name: str
    value: Node
    immediate: bool
    keep: bool
    at: Place


@dataclass(frozen=True, slots=True)
class Access:
    """The value of a name, or the default."""

    name: str
    default: Node | None
    at: Place


@dataclass(frozen=True, slots=True)
class Sequence:
    """Parts one after another."""

    parts: tuple[Node, ...]
    at: Place


Node: TypeAlias = Text | Variants | Wildcard | Assignment | Access | Sequence


def read(text: str, source: str = "") -> Node:
    """Read a prompt text.

    Args:
        text: what a user wrote, or a line of a wildcard file.
        source: what an error calls it.

    Raises:
        InvalidRequest: it breaks the grammar; the message names the place.
    """
    if bad := _UNSPEAKABLE.search(text):
        Place(bad.start(), source).refuse(f"U+{ord(bad[0]):04X} is not text.")
    return _Reader(text, source).whole()


def is_plain(text: str) -> bool:
    """Tell whether a text surely holds nothing that the grammar would read or refuse."""
    return _SPECIAL.search(text) is None


class _Reader:
    """A cursor over one text."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        """Read everything."""
        node = self._sequence(_TOP)
        if self._at < len(self._text):
            self._place().refuse("nothing opened this brace; write \\} for a plain one.")
        return node

    def _place(self, position: int | None = None) -> Place:
        return Place(self._at if position is None else position, self._source)

    def _next(self, length: int = 1) -> str:
        return self._text[self._at : self._at + length]

    def _sequence(self, stops: Stops) -> Node:
        at = self._place()
        parts: list[Node] = []
        words: list[str] = []
        while self._at < len(self._text) and self._next() not in (*stops, "}"):
            if plain := _PLAIN[stops].match(self._text, self._at):
                words.append(plain[0])
                self._at = plain.end()
                continue
            special = self._special(stops)
            if isinstance(special, str):
                words.append(special)
                continue
            _flush(words, parts)
            parts.append(special)
        _flush(words, parts)
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts), at)

    def _special(self, stops: Stops) -> Node | str:
        """Read what stands at the cursor and is not plain; a text where it turns out to be."""
        sign = self._next()
        if sign == "\\":
            return self._escape(stops)
        if sign == "#":
            return self._hash()
        if sign == "%":
            self._place().refuse("wrap commands are not supported; write \\% for a plain one.")
        if sign == "_":
            return self._wildcard()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._place().refuse(f"braces are nested deeper than {MAX_DEPTH}.")
        node = self._variants() if sign == "{" else self._variable()
        self._depth -= 1
        return node

    def _escape(self, stops: Stops) -> str:
        escaped = self._text[self._at + 1 : self._at + 2]
        if escaped and (escaped in _ESCAPABLE or escaped in stops):
            self._at += 2
            return escaped
        self._at += 1
        return "\\"

    def _hash(self) -> str:
        """Skip a comment, to the end of its line; another `#` is a plain one."""
        before = self._text[: self._at].rpartition("\n")[2][-1:]
        after = self._text[self._at + 1 : self._at + 2]
        if before.strip() or after.strip("#").strip():
            self._at += 1
            return "#"
        end = self._text.find("\n", self._at)
        self._at = len(self._text) if end < 0 else end
        return ""

    def _variants(self) -> Variants:
        at = self._place()
        self._at += 1
        low, high, separator = self._bounds()
        self._skip_space()
        if self._next() in ("!", "~", "@"):
            self._place().refuse(
                f"the sampler mark {self._next()} is not supported; leave it out, or write "
                f"\\{self._next()} for the plain sign."
            )
        options = [self._option()]
        while self._next() == "|":
            self._at += 1
            options.append(self._option())
        self._close(at, "}")
        return Variants(tuple(options), low, high, separator, at)

    def _bounds(self) -> tuple[int, int | None, str]:
        """Read how many are taken, and what stands between them; one and nothing by default."""
        found = _BOUNDS.match(self._text, self._at)
        if found is None:
            return 1, 1, ""
        first, dash, second = found.groups()
        if first is None and second is None:
            self._place().refuse("a number of options belongs before $$, as in {2$$a|b|c}.")
        self._at = found.end()
        low = int(first) if first else 1
        high = int(second) if second else (None if dash else low)
        if high is not None and high < low:
            low, high = high, low
        if separator := _SEPARATOR.match(self._text, self._at):
            self._at = separator.end()
            return low, high, _WHITESPACE.sub(" ", separator[1])
        return low, high, ","

    def _option(self) -> Option:
        self._skip_space()
        weight = _WEIGHT.match(self._text, self._at)
        if weight:
            self._at = weight.end()
        return Option(float(weight[1]) if weight else 1.0, self._sequence(_OPTION))

    def _variable(self) -> Assignment | Access:
        at = self._place()
        self._at += 2
        name = self._name("${name}, ${name=value} or ${name:default}")
        if self._next(2) == "?=":
            self._at += 1
            return self._assignment(name, at, keep=True)
        if self._next() == "=":
            return self._assignment(name, at, keep=False)
        default = None
        if self._next() == ":":
            self._at += 1
            self._skip_space()
            default = self._sequence(_VALUE)
        self._close(at, "}")
        return Access(name, default, at)

    def _assignment(self, name: str, at: Place, *, keep: bool) -> Assignment:
        self._at += 1
        immediate = self._next() == "!"
        self._at += immediate
        self._skip_space()
        value = self._sequence(_VALUE)
        self._close(at, "}")
        return Assignment(name, value, immediate, keep, at)

    def _name(self, as_in: str) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            self._place().refuse(f"a name is missing; write {as_in}.")
        self._at = found.end()
        return found[1]

    def _wildcard(self) -> Wildcard:
        at = self._place()
        found = _WILDCARD.match(self._text, self._at + 2)
        if found is None:
            at.refuse(
                "a wildcard's name begins here and does not end with __; write \\_\\_ for plain "
                "underscores."
            )
        name = found[1].strip()
        if bad := _NOT_A_NAME.search(name):
            at.refuse(f"{bad[0]!r} cannot stand in a wildcard's name.")
        if name.startswith("/") or ".." in name.split("/"):
            at.refuse(f"{name!r} is a path; a wildcard is named by its file below the folder.")
        self._at = found.end()
        parameters = self._parameters(at) if found[2] == "(" else ()
        return Wildcard(name, parameters, at)

    def _parameters(self, at: Place) -> tuple[tuple[str, Node], ...]:
        found: list[tuple[str, Node]] = []
        while True:
            name = self._name("__wildcard(name=value)__")
            self._close(at, "=")
            self._skip_space()
            found.append((name, self._sequence(_PARAMETER)))
            if self._next() != ",":
                break
            self._at += 1
        self._close(at, ")")
        self._close(at, "__")
        return tuple(found)

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at

    def _close(self, opened: Place, sign: str) -> None:
        if self._next(len(sign)) != sign:
            opened.refuse(_UNCLOSED[sign])
        self._at += len(sign)


def _flush(words: list[str], parts: list[Node]) -> None:
    text = _WHITESPACE.sub(" ", "".join(words))
    if text:
        parts.append(Text(text))
    words.clear()
