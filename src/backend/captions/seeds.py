"""Seeds and what is drawn from them: whole numbers only, the same on every Python and machine.

Every choice has a seed of its own, mixed from the caption's and the choice's name, so that to add a
fragment to one slot does not reshuffle the others.
"""

from __future__ import annotations

import hashlib
from functools import cache

BITS = 64
_MASK = (1 << BITS) - 1
_STEP = 0x9E3779B97F4A7C15


def mix(value: int) -> int:
    """Return 64 well mixed bits: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    value = (value + _STEP) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


@cache
def salt(name: str) -> int:
    """Return the 64 bits by which a choice of this name differs from the others."""
    return digest(name)


def digest(*parts: object) -> int:
    """Return 64 bits of a list of values, by their texts."""
    key = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8).digest())


def below(bits: int, limit: int) -> int:
    """Return a number from 0 to `limit` - 1 that 64 bits stand for."""
    return bits * limit >> BITS
