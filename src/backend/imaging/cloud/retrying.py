"""Ask again, when it makes sense: what failed may pass, and whoever answers says when.

A wait that the other side asks for is kept to the second or not begun: one beyond the limit ends
the attempts, so that nobody is asked earlier than it said.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from backend.errors import GatorError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after which pauses; all times in seconds.

    Attributes:
        max_attempts: how often in all, from 1.
        first_delay_s: the longest first pause; each further one is twice as long.
        max_delay_s: no pause of our own is longer.
        max_retry_after_s: no longer wait that the other side asks for is begun.
    """

    max_attempts: int = 4
    first_delay_s: float = 0.5
    max_delay_s: float = 8.0
    max_retry_after_s: float = 60.0

    def delay_s(self, attempt: int, retry_after_s: float | None, chance: random.Random) -> float:
        """Return the pause after attempt 1, 2, …, between the half and the whole of its length."""
        own = min(self.max_delay_s, self.first_delay_s * 2.0 ** (attempt - 1))
        jittered = own * chance.uniform(0.5, 1.0)
        return jittered if retry_after_s is None else retry_after_s + jittered * 0.1


class Passing(Exception):
    """A failure after which another attempt makes sense.

    Args:
        error: what is raised when no attempt is left.
        retry_after_s: the wait that the other side asks for, where it does.
    """

    def __init__(self, error: GatorError, retry_after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_s = retry_after_s


async def retried(
    work: Callable[[], Awaitable[T]], policy: RetryPolicy, chance: random.Random | None = None
) -> tuple[T, int]:
    """Do the work, again after each `Passing`; return what it gave, and the attempts it took.

    Raises:
        GatorError: the last attempt's, with `details["attempts"]`.
    """
    chance = chance or random.Random()
    attempt = 0
    charged = False
    while True:
        attempt += 1
        try:
            return await work(), attempt
        except Passing as exc:
            charged = charged or bool(exc.error.details.get("may_be_charged"))
            too_long = (exc.retry_after_s or 0) > policy.max_retry_after_s
            if attempt >= policy.max_attempts or too_long:
                exc.error.details |= {"attempts": attempt, "may_be_charged": charged}
                raise exc.error from exc
            await asyncio.sleep(policy.delay_s(attempt, exc.retry_after_s, chance))
        except GatorError as exc:
            charged = charged or bool(exc.details.get("may_be_charged"))
            exc.details |= {"attempts": attempt, "may_be_charged": charged}
            raise


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Read a `Retry-After` header, which is seconds or an HTTP date.

    Returns:
        Seconds from now, at least 0; `None` where there is none or it cannot be read.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    parsed = email.utils.parsedate_tz(text) if text else None
    if parsed is None:
        return None
    try:
        when = datetime.fromtimestamp(email.utils.mktime_tz(parsed), UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
