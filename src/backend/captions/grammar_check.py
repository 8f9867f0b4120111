"""What Harper, an offline grammar checker, says of English captions.

Harper is an extra (`harper-py`), needed to write packs and not to write captions. What it says of
phrases that are meant so is waived by name in `packs/<locale>/waivers.toml`: a rule as a whole, or
a rule on a text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from backend.captions.lint import LintFinding
from backend.captions.words import PACKS
from backend.errors import ConfigurationError

_HASHTAG = re.compile(r"#\w+\s*")
LOCALES = frozenset({"en"})
"""The locales that Harper reads."""


def check(texts: Iterable[str], locale: str, names: Iterable[str] = ()) -> Iterator[LintFinding]:
    """Yield Harper's findings in texts, each rule on each text passage once.

    Args:
        texts: whole captions, or sentences.
        locale: one of `LOCALES`.
        names: words of the user's, which are spelled as they are.

    Raises:
        ConfigurationError: Harper is not installed.
    """
    linter = _linter()
    linter.import_words(sorted({*names, *_waivers(locale)["words"]}))
    rules, passages = set(_waivers(locale)["rules"]), _waivers(locale)["passages"]
    told: set[tuple[str, str]] = set()
    for text in (_HASHTAG.sub("", text) for text in texts):
        for rule, lints in linter.organized_lints(text, language="plaintext").items():
            for lint in lints if rule not in rules else ():
                passage = lint.problem_text.casefold()
                waived = passage in passages.get(rule, ()) or (rule, passage) in told
                if not waived:
                    told.add((rule, passage))
                    detail = f"{lint.problem_text!r} in {text!r}: {lint.message}"
                    yield LintFinding(f"harper/{rule}", locale, detail)


@cache
def _linter() -> Any:
    try:
        import harper
    except ImportError as exc:
        raise ConfigurationError(
            "The grammar checker is not installed: pip install 'gator-studio[packs]'."
        ) from exc
    return harper.Linter(harper.Dialect.AMERICAN)


@cache
def _waivers(locale: str) -> dict[str, Any]:
    path: Path = PACKS / locale / "waivers.toml"
    found = tomllib.loads(path.read_text("utf-8")) if path.is_file() else {}
    return {"rules": [], "words": [], "passages": {}, **found}
