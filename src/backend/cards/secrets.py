"""What no card may carry: keys, tokens, passwords.

elizaOS keeps them in the character itself, in `secrets`, `settings.secrets` and as upper-case
settings; people publish such files by mistake. They are taken out when a card is read, so that
nothing has to be taken on trust when it is written, and once more when it is written.
"""

from __future__ import annotations

import re
from typing import Any

from backend.cards.document import Document
from backend.cards.faults import Note

REASON = "looks like a secret, and was left out"

_NAME = re.compile(
    r"(?:api|secret|private|access|signing|encryption)_?key|(?:access|auth|bearer|refresh|api|bot|"
    r"session)_?token|client_?secret|password|passwd"
)
_SETTING = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
_MORE_IN_SETTINGS = re.compile(
    r"token|secret|password|passphrase|key|cookie|credential|mnemonic|seed"
)
_VALUE = re.compile(
    r"(?:sk|pk|rk)[-_][A-Za-z0-9_-]{20,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|"
    r"glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|hf_\w{20,}|"
    r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]*"
)
_LONGEST = 4_096
_PRIVATE_KEY = "PRIVATE KEY-----"
_SNAKE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SETTINGS = ("settings", "clientConfig")


def without_secrets(document: Document, *, eliza: bool = False) -> tuple[Document, list[Note]]:
    """Return a copy without what looks like a secret, and what was left out.

    Args:
        document: a card, or a part of one; it stays as it is.
        eliza: whether it is an elizaOS character, whose settings are those of a running program.
    """
    notes: list[Note] = []
    cleaned = _mapping(document, "", notes, eliza, in_settings=False)
    return cleaned, notes


def _mapping(
    found: Document, path: str, notes: list[Note], eliza: bool, *, in_settings: bool
) -> Document:
    kept = {}
    for key, value in found.items():
        at = f"{path}.{key}" if path else key
        if _is_secret(key, value, in_settings) or (eliza and not path and key == "secrets"):
            notes.append(Note(at[:200], REASON))
            continue
        inside = in_settings or (eliza and not path and key in _SETTINGS)
        kept[key] = _value(value, at, notes, eliza, inside)
    return kept


def _value(value: Any, path: str, notes: list[Note], eliza: bool, in_settings: bool) -> Any:
    if isinstance(value, dict):
        inside = in_settings and path != "settings.gator"
        return _mapping(value, path, notes, eliza, in_settings=inside)
    if isinstance(value, list):
        kept = []
        for i, one in enumerate(value):
            if isinstance(one, str) and _looks_secret(one):
                notes.append(Note(f"{path}[{i}]"[:200], REASON))
            else:
                kept.append(_value(one, f"{path}[{i}]", notes, eliza, in_settings))
        return kept
    return value


def _is_secret(key: str, value: Any, in_settings: bool) -> bool:
    """Tell by the name and by the look; an empty value or a number is none."""
    if isinstance(value, str) and _looks_secret(value):
        return True
    if not value or not isinstance(value, str | dict | list):
        return False
    name = _SNAKE.sub("_", key).lower().replace("-", "_").replace(" ", "_")
    if _NAME.fullmatch(name) or any(_NAME.fullmatch(tail) for tail in _tails(name)):
        return True
    return in_settings and bool(_SETTING.fullmatch(key) or _MORE_IN_SETTINGS.search(name))


def _tails(name: str) -> list[str]:
    """Return the last two and three words of a name: `openai_api_key` ends in `api_key`."""
    words = name.split("_")
    return ["_".join(words[-count:]) for count in (2, 3) if len(words) > count]


def _looks_secret(text: str) -> bool:
    short = len(text) <= _LONGEST
    return (short and bool(_VALUE.fullmatch(text.strip()))) or _PRIVATE_KEY in text
