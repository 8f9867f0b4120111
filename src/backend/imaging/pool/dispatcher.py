"""Who draws what next. A policy without threads, clocks or processes: the supervisor asks it.

Each device has a queue of its own, its home. A device takes from its home, oldest first; when that
is empty it steals the youngest of the longest queue, so that the home goes on in order. Higher
priorities go first, whoever's home they are in.

*Models.* Pictures of a model that the device has loaded go first, at home and then elsewhere; a
device that has to load takes the model that the fewest others have. The oldest picture at home is
passed over at most `DEFERRALS` times, or as often as keeps loading below a tenth of the time where
that is more; then it is taken, so nothing starves.

*The tail.* A slow device declines what faster ones will have finished before it could. With R
pictures waiting, it counts the pictures that the others can finish before it finished one: from
its speed s and theirs, sum of floor((now + s - free_j) / s_j). Where they are R or more, none of
the R would be placed on it by greedy list scheduling (earliest completion first), and it waits.
Loading a model that the device does not have counts into its own time.

*Micro-batches.* Like pictures are handed out together, as many as the device is known to gain
from, but never more than its fair share of those that wait.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from backend.imaging.pool.learning import Pace
from backend.imaging.pool.tickets import Ticket

DEFERRALS = 16
MARGIN, MARGIN_S = 0.05, 0.05
"""By what share of its time, and how many seconds, others are ahead where a device declines."""

LOADING_SHARE = 0.1
"""The share of its time that a device may spend on loading for the sake of fairness."""


@dataclass(slots=True)
class Station:
    """What the dispatcher has to know of one device.

    Attributes:
        models: the names of those it has loaded.
        free_at: when its present work ends, in seconds of the clock; `None` where nobody can say.
        keeps: how many of its home's tickets are not to be stolen.
    """

    models: Set[str] = frozenset()
    free_at: float | None = None
    keeps: float = 0


@dataclass(slots=True)
class _Lane:
    """The waiting tickets of one home, priority and kind, oldest first."""

    home: int
    priority: int
    tickets: deque[Ticket] = field(default_factory=deque)

    @property
    def model(self) -> str:
        return self.tickets[0].card.name

    def first(self, device_id: int, *, oldest: bool) -> Ticket | None:
        """Return the ticket at that end which the device need not avoid."""
        ordered = self.tickets if oldest else reversed(self.tickets)
        return next((t for t in ordered if device_id not in t.avoid), None)


class Dispatcher:
    """Queues of tickets, one a device, with stealing. Not thread-safe."""

    def __init__(self, pace: Pace, loads: Pace) -> None:
        self._pace = pace
        self._loads = loads
        self._lanes: dict[tuple[int, int, str], _Lane] = {}
        self._waiting: Counter[int] = Counter()
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return self._waiting.total()

    def put(self, ticket: Ticket) -> None:
        """Queue a ticket at its home."""
        ticket.number = next(self._numbers)
        self._lane(ticket).tickets.append(ticket)
        self._waiting[ticket.home] += 1

    def put_back(self, tickets: Iterable[Ticket]) -> None:
        """Queue tickets again, before all others of their homes."""
        for ticket in reversed(list(tickets)):
            self._lane(ticket).tickets.appendleft(ticket)
            self._waiting[ticket.home] += 1

    def waiting(self, home: int) -> int:
        """Count the tickets that wait at a home."""
        return self._waiting[home]

    def drain(self, wanted: Callable[[Ticket], bool] = lambda _: True) -> list[Ticket]:
        """Take out every ticket of which that is so, in order of arrival."""
        found: list[Ticket] = []
        for key, lane in list(self._lanes.items()):
            found += filter(wanted, lane.tickets)
            lane.tickets = deque(t for t in lane.tickets if not wanted(t))
            if not lane.tickets:
                del self._lanes[key]
        self._waiting.subtract(ticket.home for ticket in found)
        return sorted(found, key=lambda ticket: ticket.number)

    def take(
        self,
        device_id: int,
        stations: Mapping[int, Station],
        now: float,
        *,
        steal: bool,
        size: Callable[[str], int] = lambda _: 1,
    ) -> list[Ticket]:
        """Take what a device is to render next; nothing where it had better wait.

        Args:
            device_id: who asks; one of `stations`.
            stations: every device that can be worked with, by its id.
            now: seconds of the clock that `free_at` is told by.
            steal: whether other homes' tickets may be taken too, and models loaded beside others.
            size: how many of a kind (`Ticket.like`) the device may render together.
        """
        choice = self._choose(device_id, stations, steal=steal)
        if choice is None or self._declines(device_id, choice[1], stations, now):
            return []
        lane, first = choice
        home = lane.home == device_id
        if home:
            self._pass_over(device_id, lane.priority, first)
        most = min(size(first.like), first.largest or 1_000, self._share(first.like, stations))
        most = 1 if first.alone else most
        return self._remove(lane, first, device_id, most, oldest=home)

    def _choose(
        self, device_id: int, stations: Mapping[int, Station], *, steal: bool
    ) -> tuple[_Lane, Ticket] | None:
        seen = list(self._visible(device_id, stations, steal=steal))
        if not seen:
            return None
        priority = max(lane.priority for lane, _ in seen)
        seen = [(lane, ticket) for lane, ticket in seen if lane.priority == priority]
        home = [choice for choice in seen if choice[0].home == device_id]
        if home:
            oldest = min(home, key=lambda choice: choice[1].number)
            if oldest[1].passed_over >= self._patience(device_id, oldest[1]):
                return oldest
        loaded = stations[device_id].models
        if loaded and not steal:  # before it loads, it looks elsewhere
            seen = [choice for choice in seen if choice[0].model in loaded]

        def rank(choice: tuple[_Lane, Ticket]) -> tuple[float, ...]:
            lane, ticket = choice
            is_home, is_loaded = lane.home == device_id, lane.model in loaded
            others = 0 if is_loaded else _owners(lane.model, device_id, stations)
            order = ticket.number if is_home else -len(lane.tickets)
            return (not is_loaded, others, not is_home, order)

        return min(seen, key=rank, default=None)

    def _patience(self, device_id: int, ticket: Ticket) -> float:
        """Return how often the oldest ticket of a home may be passed over."""
        load = self._loads.slowest(ticket.card.name) or 0.0
        pace = self._pace.seconds(device_id, ticket.like) or self._pace.slowest(ticket.like)
        return max(DEFERRALS, load / LOADING_SHARE / pace) if pace else DEFERRALS

    def _visible(
        self, device_id: int, stations: Mapping[int, Station], *, steal: bool
    ) -> Iterator[tuple[_Lane, Ticket]]:
        for lane in self._lanes.values():
            if lane.home != device_id:
                station = stations.get(lane.home)
                keeps = station.keeps if station else 0
                if not steal or self._waiting[lane.home] <= keeps:
                    continue
            ticket = lane.first(device_id, oldest=lane.home == device_id)
            if ticket is not None:
                yield lane, ticket

    def _declines(
        self, device_id: int, ticket: Ticket, stations: Mapping[int, Station], now: float
    ) -> bool:
        own = self._pace.seconds(device_id, ticket.like) or self._pace.slowest(ticket.like)
        if own is None or not self._pace.knows(device_id):
            return False
        own -= max(MARGIN * own, MARGIN_S)
        if ticket.card.name not in stations[device_id].models:
            own += self._loads.slowest(ticket.card.name) or 0.0
        finished = 0
        for other, station in stations.items():
            pace = self._pace.seconds(other, ticket.like)
            if other == device_id or pace is None or station.free_at is None:
                continue
            if other not in ticket.avoid and ticket.card.name in station.models:
                slots = (now + own - max(station.free_at, now)) / pace
                # Of two that would end together the one with the lower number is first
                fit = math.floor(slots + 1e-9) if other < device_id else math.ceil(slots - 1e-9) - 1
                finished += max(0, fit)
        return finished >= len(self)

    def _pass_over(self, home: int, priority: int, taken: Ticket) -> None:
        """Count against the oldest ticket of a home that a younger one goes first."""
        heads = [
            lane.tickets[0]
            for lane in self._lanes.values()
            if lane.home == home and lane.priority == priority
        ]
        oldest = min(heads, key=lambda ticket: ticket.number)
        if oldest is not taken and oldest.number < taken.number:
            oldest.passed_over += 1

    def _share(self, kind: str, stations: Mapping[int, Station]) -> int:
        lanes = (lane for (_, _, like), lane in self._lanes.items() if like == kind)
        waiting = sum(len(lane.tickets) for lane in lanes)
        return max(1, math.ceil(waiting / max(1, len(stations))))

    def _remove(
        self, lane: _Lane, first: Ticket, device_id: int, most: int, *, oldest: bool
    ) -> list[Ticket]:
        ordered = lane.tickets if oldest else reversed(lane.tickets)
        fit = (
            ticket
            for ticket in ordered
            if device_id not in ticket.avoid
            and (ticket.largest or most) >= most
            and not ticket.alone
        )
        taken = [first, *itertools.islice((t for t in fit if t is not first), most - 1)]
        for ticket in taken:
            _take_out(lane.tickets, ticket)
        self._waiting[lane.home] -= len(taken)
        if not lane.tickets:
            del self._lanes[lane.home, lane.priority, first.like]
        return taken

    def _lane(self, ticket: Ticket) -> _Lane:
        key = (ticket.home, ticket.priority, ticket.like)
        if key not in self._lanes:
            self._lanes[key] = _Lane(ticket.home, ticket.priority)
        return self._lanes[key]


def _owners(model: str, but: int, stations: Mapping[int, Station]) -> int:
    return sum(model in station.models for d, station in stations.items() if d != but)


def _take_out(tickets: deque[Ticket], ticket: Ticket) -> None:
    if tickets[0] is ticket:
        tickets.popleft()
    elif tickets[-1] is ticket:
        tickets.pop()
    else:
        tickets.remove(ticket)
