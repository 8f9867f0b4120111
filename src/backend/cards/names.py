"""The names that a stranger's file gives to what is packed into it.

Such a name is a key and nothing else: no file is ever opened, made or served by it. Since an export
gives it back, and whoever unpacks that may be less careful, only plain relative names are kept.
"""

from __future__ import annotations

import re

from backend.cards.limits import MAX_NAME_CHARACTERS

_PART = re.compile(
    r"[^/\\:*?\"<>|\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]{1,120}"
)
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")

EMBEDDED = ("embeded://", "embedded://", "__asset:")
"""How a card refers to what is packed with it; the first is the specification's own spelling."""


def is_plain(name: str) -> bool:
    """Tell whether a name stays where it is unpacked, on every system."""
    if not 0 < len(name) <= MAX_NAME_CHARACTERS:
        return False
    return all(
        _PART.fullmatch(part)
        and not part.endswith((".", " "))
        and not part.startswith(" ")
        and not _DEVICES.fullmatch(part)
        for part in name.split("/")
    )


def packed_name(uri: object) -> str | None:
    """Return the name that a URI calls something packed by; `None` where it calls for other things.

    What names a place elsewhere is text here: it is kept, and never followed.
    """
    if not isinstance(uri, str):
        return None
    for prefix in EMBEDDED:
        if uri.lower().startswith(prefix):
            name = uri[len(prefix) :]
            return name if is_plain(name) else None
    return None
