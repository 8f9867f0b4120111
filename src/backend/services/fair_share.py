"""Whose items are taken next: a pure policy.

A higher priority goes strictly first. Within one, users take turns, and within a user's turns the
user's batches do, each as often as its weight says; so ten thousand items of one user cost another
at most one turn. Whoever comes later begins where the others are and catches nothing up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backend.repositories.claims import Waiting


class FairShare:
    """Keeps count of the turns that were taken (stride scheduling)."""

    def __init__(self) -> None:
        self._users: dict[str, float] = {}
        self._batches: dict[str, float] = {}

    def plan(self, waiting: Sequence[Waiting], places: int) -> dict[str, int]:
        """Give places to batches; return how many items of which batch to take.

        Args:
            waiting: batches with items to take; among equals the earlier one goes first.
            places: how many items can be taken.
        """
        self._users = _joined(self._users, (batch.created_by for batch in waiting))
        self._batches = _joined(self._batches, (batch.id for batch in waiting))
        plan: dict[str, int] = {}
        for _ in range(places):
            left = [batch for batch in waiting if batch.queued > plan.get(batch.id, 0)]
            if not left:
                break
            chosen = min(left, key=self._turn)
            plan[chosen.id] = plan.get(chosen.id, 0) + 1
            self._users[chosen.created_by] += 1
            self._batches[chosen.id] += 1 / max(chosen.weight, 1)
        return plan

    def _turn(self, batch: Waiting) -> tuple[int, float, float]:
        return -batch.priority, self._users[batch.created_by], self._batches[batch.id]


def _joined(turns: dict[str, float], present: Iterable[str]) -> dict[str, float]:
    names = dict.fromkeys(present)
    begin = min((turns[name] for name in names if name in turns), default=0.0)
    return {name: turns.get(name, begin) for name in names}
