"""Who acts, and how much they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """What somebody may do; each role may do what the ones below it may."""

    VIEWER = 1
    EDITOR = 2
    APPROVER = 3
    OWNER = 4


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever does something, as the audit log names them."""

    name: str
    role: Role


LOCAL_OWNER = Actor("owner", Role.OWNER)
"""Who acts until there are accounts: the one user of a single-user install."""
