"""Whose items are taken next."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from backend.repositories.claims import Waiting
from backend.services.fair_share import FairShare


def waiting(name: str, user: str, queued: int = 1_000, **changes: int) -> Waiting:
    values = {"priority": 0, "weight": 1, **changes}
    return Waiting(name, None, user, values["priority"], values["weight"], queued)


def test_users_take_turns_whatever_number_of_batches_they_have() -> None:
    many = [waiting(f"a{i}", "ann") for i in range(9)]
    plan = FairShare().plan([*many, waiting("b", "bob")], 40)
    assert plan["b"] == 20
    assert sum(plan.values()) == 40


def test_a_users_batches_share_that_users_turns_by_weight() -> None:
    plan = FairShare().plan([waiting("a", "ann", weight=3), waiting("b", "ann")], 40)
    assert plan == {"a": 30, "b": 10}


def test_a_higher_priority_goes_strictly_first() -> None:
    batches = [waiting("low", "ann"), waiting("high", "bob", queued=5, priority=2)]
    assert FairShare().plan(batches, 8) == {"high": 5, "low": 3}


def test_no_batch_gives_more_than_it_has() -> None:
    assert FairShare().plan([waiting("a", "ann", 2), waiting("b", "bob", 1)], 16) == {
        "a": 2,
        "b": 1,
    }
    assert FairShare().plan([], 16) == {}
    assert FairShare().plan([waiting("a", "ann")], 0) == {}


def test_who_comes_later_catches_nothing_up_and_waits_for_nothing() -> None:
    share, ann = FairShare(), waiting("a", "ann", 100_000)
    for _ in range(100):
        share.plan([ann], 16)
    taken: Counter[str] = Counter()
    for _ in range(10):
        taken.update(share.plan([ann, waiting("b", "bob")], 2))
    assert taken == {"a": 10, "b": 10}


def test_small_helpings_are_as_fair_as_large_ones() -> None:
    share, taken = FairShare(), Counter[str]()
    batches = [waiting("a", "ann"), waiting("b", "bob"), waiting("c", "bob", weight=2)]
    for _ in range(60):
        plan = share.plan(batches, 1)
        taken.update(plan)
        batches = [replace(b, queued=b.queued - plan.get(b.id, 0)) for b in batches]
    assert taken == {"a": 30, "b": 10, "c": 20}
