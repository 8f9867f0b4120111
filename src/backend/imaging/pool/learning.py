"""What the pool learns from finished work: how fast each device is, and what it may do at once.

Seconds are smoothed exponentially, so that a device that slows down (heat, a neighbour) is soon
known to. Time spent loading a model is kept apart from time spent rendering.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SMOOTHING = 0.3
"""Weight of the newest measurement: the last six make up nine tenths of the figure."""

LARGEST = 16
TRIALS = 2
"""How often a size is measured before it is judged."""

GAIN = 0.95
"""A larger micro-batch is kept where a picture takes at most this share of the time."""


class Pace:
    """Seconds by some key, smoothed."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[int, str], float] = {}
        self._first: set[tuple[int, str]] = set()

    def learn(self, device_id: int, key: str, seconds: float, *, is_first: bool = False) -> None:
        """Take one measurement in.

        Args:
            device_id: the device that was measured.
            key: what it did.
            seconds: how long that took.
            is_first: it came right after loading, when drivers still warm up; the next one
                takes its place.
        """
        place = (device_id, key)
        known = self._seconds.get(place)
        if known is None or place in self._first:
            self._first.discard(place)
            self._seconds[place] = seconds
        elif not is_first:
            self._seconds[place] = known + SMOOTHING * (seconds - known)
        if is_first and known is None:
            self._first.add(place)

    def seconds(self, device_id: int, key: str) -> float | None:
        """Return what is known of a device, `None` where nothing is."""
        return self._seconds.get((device_id, key))

    def knows(self, device_id: int) -> bool:
        """Tell whether anything is known of a device."""
        return any(device == device_id for device, _ in self._seconds)

    def slowest(self, key: str) -> float | None:
        """Return the most that any device takes, `None` where nothing is known."""
        return max((s for (_, known), s in self._seconds.items() if known == key), default=None)


@dataclass(slots=True)
class _Trials:
    """What is known of one (device, key): seconds a picture by size, and the next to try."""

    size: int = 1
    settled: bool = False
    limit: int = LARGEST
    measured: dict[int, list[float]] = field(default_factory=dict)

    def best(self, size: int) -> float:
        return min(self.measured.get(size, [float("inf")]))


class Sizes:
    """How many like pictures a device renders together.

    Starts at one and doubles while a picture gets quicker by at least 5 %; what ran out of memory
    is not tried again. The best of `TRIALS` runs counts, so that one hiccup decides nothing.
    """

    def __init__(self) -> None:
        self._trials: dict[tuple[int, str], _Trials] = {}

    def size(self, device_id: int, key: str) -> int:
        """Return the size to render with now."""
        return self._of(device_id, key).size

    def learn(self, device_id: int, key: str, size: int, seconds_a_picture: float) -> None:
        """Take one micro-batch in, and settle or go on."""
        trials = self._of(device_id, key)
        runs = trials.measured.setdefault(size, [])
        runs.append(seconds_a_picture)
        if trials.settled or size != trials.size or len(runs) < TRIALS:
            return
        if size > 1 and trials.best(size) > GAIN * trials.best(size // 2):
            trials.size, trials.settled = size // 2, True
        elif size * 2 > trials.limit:
            trials.settled = True
        else:
            trials.size = size * 2

    def too_large(self, device_id: int, key: str, size: int) -> None:
        """Note that a size ran out of memory."""
        trials = self._of(device_id, key)
        trials.limit = max(1, size // 2)
        trials.size = min(trials.size, trials.limit)
        trials.settled = True

    def _of(self, device_id: int, key: str) -> _Trials:
        return self._trials.setdefault((device_id, key), _Trials())
