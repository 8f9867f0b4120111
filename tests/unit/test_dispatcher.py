"""Who draws what next: the policy alone, on a clock that is only counted."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.imaging.pool.dispatcher import DEFERRALS, MARGIN, MARGIN_S, Dispatcher, Station
from backend.imaging.pool.learning import Pace, Sizes
from backend.imaging.pool.tickets import Ticket
from backend.imaging.types import ImageRequest, ModelCard


def ticket(home: int, number: int = 0, *, model: str = "m", priority: int = 0) -> Ticket:
    request = ImageRequest(f"picture {number}", number, priority=priority)
    card = ModelCard(model, "local", "diffusion", "engine", model)
    return Ticket(request, card, like=model, home=home, submitted=0.0)


def dispatcher_of(*tickets: Ticket) -> Dispatcher:
    made = Dispatcher(Pace(), Pace())
    for one in tickets:
        made.put(one)
    return made


def idle(*devices: int, models: Sequence[str] = ("m",)) -> dict[int, Station]:
    return {device: Station(frozenset(models), 0.0) for device in devices}


def taken(
    dispatcher: Dispatcher,
    device: int,
    stations: Mapping[int, Station],
    *,
    steal: bool = True,
    size: int = 1,
) -> list[int]:
    found = dispatcher.take(device, stations, 0.0, steal=steal, size=lambda _: size)
    return [one.request.seed for one in found]


def test_home_is_served_oldest_first_and_stealing_takes_the_youngest_of_the_longest() -> None:
    dispatcher = dispatcher_of(*(ticket(i % 2 if i < 4 else 0, i) for i in range(7)))
    stations = idle(0, 1, 2)
    assert taken(dispatcher, 0, stations) == [0]
    assert taken(dispatcher, 2, stations) == [6]
    assert [taken(dispatcher, 1, stations) for _ in range(3)] == [[1], [3], [5]]


def test_without_stealing_a_device_has_its_home_only() -> None:
    dispatcher = dispatcher_of(ticket(0))
    assert taken(dispatcher, 1, idle(0, 1), steal=False) == []
    assert taken(dispatcher, 1, idle(0, 1)) == [0]


def test_the_last_ticket_of_a_starting_device_waits_for_it() -> None:
    dispatcher = dispatcher_of(ticket(0, 1), ticket(0, 2))
    stations = {0: Station(frozenset(), None, keeps=1), **idle(1)}
    assert taken(dispatcher, 1, stations) == [2]
    assert taken(dispatcher, 1, stations) == []


def test_a_device_never_gets_what_it_has_to_avoid() -> None:
    poisoned = ticket(0, 1)
    poisoned.avoid.add(1)
    dispatcher = dispatcher_of(poisoned)
    assert taken(dispatcher, 1, idle(0, 1)) == []
    assert taken(dispatcher, 0, idle(0, 1)) == [1]


def test_higher_priorities_go_first_wherever_their_home_is() -> None:
    dispatcher = dispatcher_of(ticket(0, 1), ticket(1, 2, priority=5), ticket(0, 3, priority=9))
    assert [taken(dispatcher, 0, idle(0, 1)) for _ in range(3)] == [[3], [2], [1]]


def test_a_loaded_model_goes_first_and_nothing_is_passed_over_for_ever() -> None:
    dispatcher = dispatcher_of(
        ticket(0, 0, model="other"), *(ticket(0, i) for i in range(1, DEFERRALS + 10))
    )
    order = [taken(dispatcher, 0, idle(0))[0] for _ in range(DEFERRALS + 2)]
    assert order.index(0) == DEFERRALS
    assert order[:3] == [1, 2, 3]


def test_a_slow_load_is_deferred_until_it_costs_a_tenth_of_the_time() -> None:
    loads, pace = Pace(), Pace()
    loads.learn(1, "other", 3.0)
    pace.learn(0, "m", 1.0)
    pace.learn(0, "other", 1.0)
    dispatcher = Dispatcher(pace, loads)
    for one in (ticket(0, 0, model="other"), *(ticket(0, i) for i in range(1, 50))):
        dispatcher.put(one)
    assert [taken(dispatcher, 0, idle(0))[0] for _ in range(40)].index(0) == 30


def test_a_device_that_has_to_load_takes_the_model_that_nobody_else_has() -> None:
    dispatcher = dispatcher_of(ticket(0, 1, model="a"), ticket(0, 2, model="b"))
    stations = {0: Station(frozenset(), 0.0), 1: Station(frozenset({"a"}), 0.0)}
    assert taken(dispatcher, 0, stations) == [2]


def test_a_micro_batch_is_like_pictures_and_no_more_than_a_fair_share() -> None:
    dispatcher = dispatcher_of(
        *(ticket(0, i) for i in range(6)), *(ticket(0, i, model="b") for i in range(6, 8))
    )
    stations = idle(0, 1, models=("m", "b"))
    assert taken(dispatcher, 0, stations, size=4) == [0, 1, 2]
    assert taken(dispatcher, 1, stations, size=4) == [5, 4]


def test_a_picture_that_goes_alone_is_never_part_of_a_micro_batch() -> None:
    tickets = [ticket(0, i) for i in range(4)]
    tickets[0].alone = tickets[2].alone = True
    dispatcher = dispatcher_of(*tickets)
    assert [taken(dispatcher, 0, idle(0), size=4) for _ in range(3)] == [[0], [1, 3], [2]]


def test_tickets_put_back_come_before_all_others() -> None:
    dispatcher = dispatcher_of(ticket(0, 1), ticket(0, 2), ticket(0, 3))
    first = dispatcher.take(0, idle(0), 0.0, steal=False)
    dispatcher.put_back(first)
    assert len(dispatcher) == 3
    assert taken(dispatcher, 0, idle(0)) == [1]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)), max_size=40))
def test_every_ticket_is_handed_out_exactly_once(plan: list[tuple[int, int, int]]) -> None:
    dispatcher = dispatcher_of(
        *(ticket(home, i, model=f"m{m}", priority=p) for i, (home, m, p) in enumerate(plan))
    )
    seen: list[int] = []
    for turn in range(10 * len(plan) + 4):
        seen += taken(dispatcher, turn % 4, idle(0, 1, 2, 3), size=3)
    assert sorted(seen) == list(range(len(plan)))
    assert len(dispatcher) == 0
    assert all(dispatcher.waiting(home) == 0 for home in range(4))


def makespan(paces: Sequence[float], items: int, *, learned: bool = True) -> float:
    """Play a batch through on devices of these paces; return when the last picture is done."""
    pace = Pace()
    dispatcher = Dispatcher(pace, Pace())
    for i in range(items):
        dispatcher.put(ticket(i % len(paces), i))
    if learned:
        for device, seconds in enumerate(paces):
            pace.learn(device, "m", seconds)
    free: dict[int, float] = dict.fromkeys(range(len(paces)), 0.0)
    ends: list[tuple[float, int]] = []
    now = 0.0
    while True:
        for steal in (False, True):
            for device in [d for d, at in free.items() if at <= now]:
                if any(end[1] == device for end in ends):
                    continue
                stations = {d: Station(frozenset({"m"}), at) for d, at in free.items()}
                if dispatcher.take(device, stations, now, steal=steal):
                    free[device] = now + paces[device]
                    heapq.heappush(ends, (free[device], device))
        if not ends:
            return now
        now, device = heapq.heappop(ends)
        pace.learn(device, "m", paces[device])


def lower_bound(paces: Sequence[float], items: int) -> float:
    """Return the least makespan that any placement reaches: greedy, earliest completion first."""
    slots = [(pace, pace) for pace in paces]
    heapq.heapify(slots)
    end = 0.0
    for _ in range(items):
        end, pace = heapq.heappop(slots)
        heapq.heappush(slots, (end + pace, pace))
    return end


@pytest.mark.parametrize("paces", [(1, 1, 2, 4), (1, 1, 1, 1), (1, 10), (3, 1), (1, 1, 2, 40)])
@pytest.mark.parametrize("items", [1, 7, 64, 257])
def test_the_makespan_is_the_least_there_is_on_mixed_speeds(
    paces: tuple[float, ...], items: int
) -> None:
    margin = MARGIN * max(paces) + MARGIN_S
    assert makespan(paces, items) <= lower_bound(paces, items) + margin


def test_unknown_speeds_are_learned_on_the_way() -> None:
    paces = (1.0, 1.0, 2.0, 4.0)
    assert makespan(paces, 256, learned=False) <= 1.03 * lower_bound(paces, 256)


@given(st.lists(st.floats(0.5, 20), min_size=1, max_size=6), st.integers(1, 60))
def test_no_mixture_of_speeds_leaves_work_undone_or_late(paces: list[float], items: int) -> None:
    margin = MARGIN * max(paces) + MARGIN_S
    assert makespan(paces, items) <= lower_bound(paces, items) + margin


def test_a_larger_micro_batch_is_kept_only_where_it_gains_five_percent() -> None:
    sizes = Sizes()
    seconds = {1: 1.0, 2: 0.7, 4: 0.6, 8: 0.59, 16: 0.1}
    for _ in range(20):
        size = sizes.size(0, "m")
        sizes.learn(0, "m", size, seconds[size] * random.Random(size).uniform(1.0, 1.01))
    assert sizes.size(0, "m") == 4
    assert sizes.size(1, "m") == 1


def test_what_ran_out_of_memory_is_not_tried_again() -> None:
    sizes = Sizes()
    for size in (1, 1, 2, 2):
        sizes.learn(0, "m", size, 1 / size)
    assert sizes.size(0, "m") == 4
    sizes.too_large(0, "m", 4)
    for _ in range(9):
        assert sizes.size(0, "m") == 2
        sizes.learn(0, "m", 2, 0.5)


def test_the_first_measurement_after_loading_gives_way_to_the_next() -> None:
    pace = Pace()
    pace.learn(0, "m", 9.0, is_first=True)
    assert pace.seconds(0, "m") == 9.0
    pace.learn(0, "m", 1.0)
    assert pace.seconds(0, "m") == 1.0
    pace.learn(0, "m", 9.0, is_first=True)
    assert pace.seconds(0, "m") == 1.0


def test_pace_follows_a_device_that_slows_down() -> None:
    pace = Pace()
    pace.learn(0, "m", 1.0)
    for _ in range(8):
        pace.learn(0, "m", 2.0)
    assert math.isclose(pace.seconds(0, "m") or 0, 2.0, rel_tol=0.06)
    assert pace.seconds(0, "other") is None
