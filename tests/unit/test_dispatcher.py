"""Who draws what next: homes, stealing, and what is left alone."""

from __future__ import annotations

import threading

import pytest

from backend.imaging.pool.dispatcher import Dispatcher


def filled(homes: dict[int, int]) -> Dispatcher[str]:
    dispatcher: Dispatcher[str] = Dispatcher()
    for home, count in homes.items():
        for i in range(count):
            dispatcher.put(f"{home}.{i}", home)
    return dispatcher


def test_a_device_takes_from_its_home_oldest_first() -> None:
    dispatcher = filled({0: 3, 1: 3})
    assert [dispatcher.take(0) for _ in range(3)] == ["0.0", "0.1", "0.2"]


def test_a_dry_device_steals_the_youngest_of_the_longest_queue() -> None:
    dispatcher = filled({0: 1, 1: 3, 2: 2})
    assert [dispatcher.take(0) for _ in range(3)] == ["0.0", "1.2", "1.1"]


def test_a_device_that_may_not_steal_waits() -> None:
    dispatcher = filled({1: 3})
    got: list[str | None] = []
    waiting = threading.Thread(target=lambda: got.append(dispatcher.take(0, may_steal=False)))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    dispatcher.close()
    waiting.join(5)
    assert got == [None]


def test_a_starting_device_keeps_its_last_task() -> None:
    dispatcher = filled({1: 2, 2: 1})
    dispatcher.starting(1)
    dispatcher.starting(2)
    assert dispatcher.take(0) == "1.1"
    got: list[str | None] = []
    thief = threading.Thread(target=lambda: got.append(dispatcher.take(0)), daemon=True)
    thief.start()
    thief.join(0.1)
    assert thief.is_alive()
    assert dispatcher.take(1) == "1.0"
    assert dispatcher.take(2) == "2.0"
    dispatcher.close()


def test_a_resting_device_keeps_its_home() -> None:
    dispatcher = filled({1: 2})
    dispatcher.rest(1)
    thief = threading.Thread(target=dispatcher.take, args=(0,), daemon=True)
    thief.start()
    thief.join(0.1)
    assert thief.is_alive()
    assert [dispatcher.take(1), dispatcher.take(1)] == ["1.0", "1.1"]
    dispatcher.close()


def test_the_shortest_queue_gets_the_next_single_request() -> None:
    dispatcher = filled({0: 2, 1: 1, 2: 1})
    assert dispatcher.shortest([0, 1, 2]) == 1
    dispatcher.rest(0)
    assert dispatcher.shortest([0, 1, 2]) == 0


def test_close_returns_what_nobody_took_and_takes_nothing_more() -> None:
    dispatcher = filled({0: 1, 1: 1})
    assert sorted(dispatcher.close()) == ["0.0", "1.0"]
    assert dispatcher.take(0) is None
    with pytest.raises(RuntimeError, match="closed"):
        dispatcher.put("late", 0)


@pytest.mark.parametrize("devices", [1, 2, 5])
def test_every_task_is_taken_exactly_once(devices: int) -> None:
    dispatcher = filled(dict.fromkeys(range(devices), 40))
    taken: list[str] = []
    enough = threading.Event()

    def work(device_id: int) -> None:
        while (task := dispatcher.take(device_id)) is not None:
            taken.append(task)
            if len(taken) == 40 * devices:
                enough.set()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(devices)]
    for thread in threads:
        thread.start()
    assert enough.wait(10)
    dispatcher.close()
    for thread in threads:
        thread.join(5)
    assert len(taken) == len(set(taken)) == 40 * devices
