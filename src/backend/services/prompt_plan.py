"""What a prompt set is compiled to: a tree that counts, goes through and draws its own prompts.

Every node knows how many ways it can come out, how long at most, and whether it can come out blank,
the moment it is made, from its parts alone; so a text that would make too much is refused before
anything is expanded. Nodes are shared: a wildcard used twice is compiled once.

`held` are the values of variables that are chosen once a prompt. It is handed down and never
changed, since several expansions of one node may be under way at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from heapq import nlargest
from itertools import accumulate, permutations
from math import comb, factorial, prod
from struct import Struct

Held = Mapping[int, str]
_EIGHT = Struct("<8Q").unpack
_TO_UNIT = 2.0**-53


class Dice:
    """Numbers by chance out of a key: the same key gives the same on every Python and machine.

    A hash of the key and a counter; cheaper to begin anew for every prompt than `random.Random`.
    """

    __slots__ = ("_block", "_key", "_left")

    def __init__(self, key: str) -> None:
        self._key = key
        self._block = 0
        self._left: list[int] = []

    def roll(self) -> float:
        """Return the next number, from 0 on and below 1."""
        if not self._left:
            block = f"{self._key}:{self._block}".encode()
            self._left.extend(_EIGHT(blake2b(block).digest()))
            self._block += 1
        return (self._left.pop() >> 11) * _TO_UNIT


class Plan(ABC):
    """A compiled part of a prompt.

    Attributes:
        count: in how many ways it comes out; two ways may read the same.
        longest: characters of the longest of them, at most.
        work: how many nodes are visited for one prompt, at most.
        depth: nodes within nodes.
        blank: whether one of them may hold nothing but spaces.
    """

    __slots__ = ("blank", "count", "depth", "longest", "work")
    count: int
    longest: int
    work: int
    depth: int
    blank: bool

    @abstractmethod
    def all(self, held: Held) -> Iterator[str]:
        """Return every text, in order, lazily."""

    @abstractmethod
    def draw(self, dice: Dice, held: Held) -> str:
        """Return one text by chance."""

    def _over(self, parts: Sequence[Plan]) -> None:
        """Set what is the same for every node with parts."""
        self.depth = 1 + max(part.depth for part in parts)


class Words(Plan):
    """A text that stands as it is."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text
        self.count = self.work = self.depth = 1
        self.longest = len(text)
        self.blank = not text.strip()

    def all(self, held: Held) -> Iterator[str]:
        """Return it."""
        del held
        yield self.text

    def draw(self, dice: Dice, held: Held) -> str:
        """Return it."""
        del dice, held
        return self.text


class Joined(Plan):
    """Parts one after another; the last changes first."""

    def __init__(self, parts: Sequence[Plan]) -> None:
        self.parts = tuple(parts)
        self._over(parts)
        self.count = prod(part.count for part in parts)
        self.longest = sum(part.longest for part in parts)
        self.work = 1 + sum(part.work for part in parts)
        self.blank = all(part.blank for part in parts)

    def all(self, held: Held) -> Iterator[str]:
        """Return every combination."""
        return _combinations(self.parts, "", held)

    def draw(self, dice: Dice, held: Held) -> str:
        """Draw every part."""
        return "".join([part.draw(dice, held) for part in self.parts])


class Choice(Plan):
    """One of several, by weight."""

    def __init__(self, options: Sequence[tuple[float, Plan]]) -> None:
        self.options = tuple(options)
        self._plans = tuple(plan for _, plan in options)
        self._over(self._plans)
        self._marks = _marks([weight for weight, _ in options])
        self.count = sum(plan.count for plan in self._plans)
        self.longest = max(plan.longest for plan in self._plans)
        self.work = 1 + max(plan.work for plan in self._plans)
        self.blank = any(plan.blank for plan in self._plans)

    def all(self, held: Held) -> Iterator[str]:
        """Return the options' texts, option by option."""
        for plan in self._plans:
            yield from plan.all(held)

    def draw(self, dice: Dice, held: Held) -> str:
        """Draw an option, then its text."""
        return self._plans[_index(dice, len(self._plans), self._marks)].draw(dice, held)


class Several(Plan):
    """From `low` to `high` of several, each at most once, in any order, with a separator."""

    def __init__(
        self, options: Sequence[tuple[float, Plan]], low: int, high: int, separator: str
    ) -> None:
        self._plans = tuple(plan for _, plan in options)
        self._over(self._plans)
        self._weights = [weight for weight, _ in options]
        self._even = len(set(self._weights)) == 1
        self._low = low
        self._high = high
        self._separator = separator
        self.count = ordered_ways([plan.count for plan in self._plans], low, high)
        gaps = max(high - 1, 0) * len(separator)
        self.longest = gaps + sum(nlargest(high, (plan.longest for plan in self._plans)))
        self.work = 1 + sum(nlargest(high, (plan.work for plan in self._plans)))
        blanks = sum(plan.blank for plan in self._plans)
        self.blank = not low or (blanks >= low and (low == 1 or not separator.strip()))

    def all(self, held: Held) -> Iterator[str]:
        """Return the fewest first, in every order."""
        for number in range(self._low, self._high + 1):
            for chosen in permutations(self._plans, number):
                yield from _combinations(chosen, self._separator, held)

    def draw(self, dice: Dice, held: Held) -> str:
        """Draw how many, then which, by weight and without putting back."""
        number = self._low + int(dice.roll() * (self._high - self._low + 1))
        chosen = self._evenly(dice, number) if self._even else self._by_weight(dice, number)
        return self._separator.join([self._plans[i].draw(dice, held) for i in chosen])

    def _evenly(self, dice: Dice, number: int) -> list[int]:
        """Draw as from the top of a shuffled deck, of which only the moved cards are kept."""
        moved: dict[int, int] = {}
        chosen = []
        for position in range(number):
            other = position + int(dice.roll() * (len(self._plans) - position))
            chosen.append(moved.get(other, other))
            moved[other] = moved.get(position, position)
        return chosen

    def _by_weight(self, dice: Dice, number: int) -> list[int]:
        left = list(range(len(self._plans)))
        weights = list(self._weights)
        chosen = []
        for _ in range(number):
            place = _index(dice, len(left), list(accumulate(weights)))
            chosen.append(left.pop(place))
            weights.pop(place)
        return chosen


class Holding(Plan):
    """A value that is chosen once, and a part in which it may stand several times."""

    def __init__(self, slot: int, value: Plan, body: Plan) -> None:
        self._slot = slot
        self._value = value
        self._body = body
        self._over((value, body))
        self.count = value.count * body.count
        self.longest = body.longest
        self.work = 1 + value.work + body.work
        self.blank = body.blank

    def all(self, held: Held) -> Iterator[str]:
        """Return everything with the first value, then with the next."""
        for text in self._value.all(held):
            yield from self._body.all({**held, self._slot: text})

    def draw(self, dice: Dice, held: Held) -> str:
        """Draw the value, then the part."""
        text = self._value.draw(dice, held)
        return self._body.draw(dice, {**held, self._slot: text})


class HeldValue(Plan):
    """Where a held value stands."""

    def __init__(self, slot: int, value: Plan) -> None:
        self._slot = slot
        self.count = self.work = self.depth = 1
        self.longest = value.longest
        self.blank = value.blank

    def all(self, held: Held) -> Iterator[str]:
        """Return it."""
        yield held[self._slot]

    def draw(self, dice: Dice, held: Held) -> str:
        """Return it."""
        del dice
        return held[self._slot]


def ordered_ways(counts: Iterable[int], low: int, high: int) -> int:
    """Count the ordered picks of `low` to `high` options that come out in so many ways each.

    k! times the k-th elementary symmetric polynomial of the counts, read off the product of
    (1 + c x) over them; options of equal count go in at once, by the binomial theorem.
    """
    polynomial = [1] + [0] * high
    for count, options in Counter(counts).items():
        powers = [comb(options, k) * count**k for k in range(min(options, high) + 1)]
        polynomial = [
            sum(polynomial[k - j] * powers[j] for j in range(min(k, len(powers) - 1) + 1))
            for k in range(high + 1)
        ]
    return sum(factorial(k) * polynomial[k] for k in range(low, high + 1))


def _combinations(parts: Sequence[Plan], separator: str, held: Held) -> Iterator[str]:
    """Go through all combinations like an odometer, so that many parts cost no recursion."""
    wheels: list[Callable[[], Iterator[str]]] = [_wheel(part, held) for part in parts]
    running = [wheel() for wheel in wheels]
    texts = [next(wheel) for wheel in running]
    while True:
        yield separator.join(texts)
        for place in range(len(wheels) - 1, -1, -1):
            following = next(running[place], None)
            if following is not None:
                texts[place] = following
                break
            running[place] = wheels[place]()
            texts[place] = next(running[place])
        else:
            return


def _wheel(part: Plan, held: Held) -> Callable[[], Iterator[str]]:
    return lambda: part.all(held)


def _marks(weights: Sequence[float]) -> list[float] | None:
    """Return the running sum of weights, `None` where all are equal."""
    return None if len(set(weights)) == 1 else list(accumulate(weights))


def _index(dice: Dice, length: int, marks: Sequence[float] | None) -> int:
    if marks is None:
        return int(dice.roll() * length)
    return min(bisect(marks, dice.roll() * marks[-1]), length - 1)
