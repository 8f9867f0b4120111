"""Wildcard files: one value a line, named by where they lie below one folder.

What the field does: text files in a folder, `__name__` draws a line. What users complain of: a name
that is misspelt goes into the picture's prompt as `__name__`, with a warning in a log that nobody
reads; lines are sorted, so that a grid does not follow the file.

Ours: a name is looked up among the files there are and never made into a path, so it cannot lead
out of the folder; neither can a link. A name without a file is refused and the nearest is named.
Lines keep the file's order, each once.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from backend.errors import InvalidRequest
from backend.services.prompt_grammar import Place

MAX_FILES = 20_000
MAX_FILE_BYTES = 16 * 1024**2
_STRUCTURED = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Line:
    """One value of a wildcard file."""

    text: str
    source: str
    """What an error calls it, such as `wildcard hair, line 3`."""


class WildcardFolder:
    """The text files below a folder, by name; read when asked for, each once.

    A name is the file's path below the folder without `.txt`, such as `clothes/summer`. Hidden
    files, links to folders and links that lead out of the folder are passed over.

    Args:
        root: the folder; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lines: dict[str, tuple[Line, ...]] = {}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every wildcard's name, sorted.

        Raises:
            InvalidRequest: there are more files than are looked through.
        """
        return tuple(name for name, path in self._files.items() if path.suffix == ".txt")

    def find(self, pattern: str, at: Place) -> tuple[str, ...]:
        """Return the names that a name or a glob pattern fits, sorted.

        `*` fits any run of characters, `/` too, `?` one. A plain name that no file has may stand
        for the one file of that name in a folder further down.

        Raises:
            InvalidRequest: none fits, or a plain name fits several.
        """
        if "*" in pattern or "?" in pattern:
            found = tuple(fnmatch.filter(self.names, pattern))
        elif pattern in self._files and self._files[pattern].suffix == ".txt":
            found = (pattern,)
        else:
            found = tuple(name for name in self.names if name.endswith(f"/{pattern}"))
            if len(found) > 1:
                at.refuse(f"{pattern!r} may be any of {', '.join(found[:5])}; write which.")
        if not found:
            at.refuse(self._missing(pattern))
        return found

    def lines(self, name: str) -> tuple[Line, ...]:
        """Return a wildcard's lines, in order; empty lines and comments are left out.

        Raises:
            InvalidRequest: the file is too large, is not UTF-8, or is gone.
        """
        if name not in self._lines:
            numbered = enumerate(self._text(name).split("\n"), 1)
            lines = ((line.strip(), number) for number, line in numbered)
            self._lines[name] = tuple(
                Line(text, f"wildcard {name}, line {number}")
                for text, number in lines
                if text and not text.startswith("#")
            )
        return self._lines[name]

    @cached_property
    def _files(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        inside = self.root.resolve()
        for folder, below, files in os.walk(self.root):
            below[:] = sorted(name for name in below if not name.startswith("."))
            for file in files:
                path = Path(folder, file)
                if file.startswith(".") or path.suffix not in (".txt", *_STRUCTURED):
                    continue
                if not path.is_file() or not path.resolve().is_relative_to(inside):
                    continue
                name = path.relative_to(self.root).with_suffix("").as_posix()
                if path.suffix == ".txt" or name not in found:
                    found[name] = path
                if len(found) > MAX_FILES:
                    raise InvalidRequest(f"wildcards: at most {MAX_FILES:,} files are read.")
        return dict(sorted(found.items()))

    def _text(self, name: str) -> str:
        path = self._files[name]
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise InvalidRequest(
                    f"wildcard {name}: is larger than {MAX_FILE_BYTES // 1024**2} MiB."
                )
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            line = data.count(b"\n", 0, exc.start) + 1
            raise InvalidRequest(f"wildcard {name}, line {line}: is not UTF-8.") from exc
        except OSError as exc:
            raise InvalidRequest(f"wildcard {name}: cannot be read: {exc.strerror}.") from exc

    def _missing(self, pattern: str) -> str:
        structured = self._files.get(pattern)
        if structured is not None:
            return f"{pattern!r} is {structured.suffix} here; only text files (.txt) are read."
        if not self.names:
            return f"there is no wildcard {pattern!r}: the folder wildcards of GATOR_HOME has none."
        near = self._nearest(pattern)
        such = f"there are {len(self.names)}, such as {self.names[0]!r}."
        hint = f"did you mean {near!r}?" if near else such
        return f"there is no wildcard {pattern!r}; {hint}"

    def _nearest(self, pattern: str) -> str | None:
        """Return the name that was meant, by its whole path or its last part."""
        by_last_part = {name.rpartition("/")[2]: name for name in self.names}
        if whole := difflib.get_close_matches(pattern, self.names, 1):
            return whole[0]
        last = difflib.get_close_matches(pattern.rpartition("/")[2], by_last_part, 1)
        return by_last_part[last[0]] if last else None
