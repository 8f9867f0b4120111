"""Prompt sets: one text with choices in it, compiled once, counted exactly, expanded lazily.

What the field does: dynamicprompts expands a text by interpreting it anew for every prompt, and
draws without knowing how many there are. What users complain of: expanding takes longer than
rendering; nobody can tell beforehand how many pictures a text will make; a picture's prompt cannot
be drawn again from its seed, since it depends on those before it; combinatorial runs are not
exhaustive (a variable that is held gives its first value alone), and a wildcard that is not there
stands in the prompt as it was written, over and over.

Ours: `compile_prompts` reads the text and every wildcard file it names once. `count` follows from
the tree, without expanding. `all` goes through every way once, in the order of the text, the last
choice changing first. Prompt `i` of `sample` depends on the seed and `i` alone, by weight. What
would be too many, too long, too deep or empty is refused before the first prompt.

`count` counts ways. Options that read the same are one, also through nested choices of up to 1,000
options; beyond that, two ways may come to one text (`{a|a }` before a space).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import nlargest
from itertools import count

from backend.imaging.checks import PROMPT_LIMIT
from backend.services.prompt_grammar import (
    Access,
    Assignment,
    Node,
    Place,
    Sequence,
    Text,
    Variants,
    Wildcard,
    is_plain,
    read,
)
from backend.services.prompt_plan import (
    Choice,
    Dice,
    HeldValue,
    Holding,
    Joined,
    Plan,
    Several,
    Words,
)
from backend.services.wildcards import Line, WildcardFolder

__all__ = ["WILDCARDS", "PromptSet", "WildcardFolder", "compile_prompts"]

WILDCARDS = "wildcards"
"""The folder of GATOR_HOME in which wildcard files lie."""

TEXT_LIMIT = 32_000
"""Characters of a text with choices."""

MAX_PICKED = 64
MAX_NESTED = 32
"""Wildcards within wildcards."""

MAX_OPTIONS = 1_000_000
MAX_FLATTENED = 1_000
MAX_WORK = 50_000
MAX_PLAN_DEPTH = 100
MAX_COUNT_BITS = 2_048
"""Ways to come out are counted up to 2 to the power of this."""

Names = Mapping[str, Plan]
Weighted = tuple[float, Plan]


class PromptSet:
    """A compiled text; immutable, may be used by several at once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._count = plan.count

    def count(self) -> int:
        """Return in how many ways the text comes out, exactly; it may be a very large number."""
        return self._count

    def all(self) -> Iterator[str]:
        """Return all prompts, in the order of the text, lazily."""
        return map(_tidy, self._plan.all({}))

    def sample(self, n: int, seed: int) -> Iterator[str]:
        """Draw `n` prompts by weight, lazily; the same may come twice.

        Prompt `i` depends on the seed and on `i` alone; drawing more leaves the first as they are.
        """
        return (self.drawn(seed, index) for index in range(n))

    def drawn(self, seed: int, index: int) -> str:
        """Return prompt `index` of a sample."""
        return _tidy(self._plan.draw(Dice(f"gator-prompt:{seed}:{index}"), {}))


def compile_prompts(text: str, wildcards: WildcardFolder | None) -> PromptSet:
    """Compile a text in the syntax of dynamicprompts.

    Args:
        text: what a user wrote.
        wildcards: where its wildcards are looked up; `None` refuses every one.

    Raises:
        InvalidRequest: it breaks the grammar, names what is not there, or makes prompts that are
            empty, too long or beyond counting; the message names the place.
    """
    if len(text) > TEXT_LIMIT:
        Place(TEXT_LIMIT).refuse(f"at most {TEXT_LIMIT:,} characters are read.")
    plan = _bounded(_Compiler(wildcards).compile(read(text), {}), Place(0))
    if plan.blank:
        only = "the prompt is empty." if plan.count == 1 else "one of its prompts would be empty."
        Place(0).refuse(f"{only} Say what every picture shows.")
    return PromptSet(plan)


def _tidy(text: str) -> str:
    return " ".join(text.split())


class _Compiler:
    """Turns trees into plans; wildcards and names are resolved here, each wildcard once."""

    def __init__(self, wildcards: WildcardFolder | None) -> None:
        self._wildcards = wildcards
        self._known: dict[object, list[Weighted]] = {}
        self._choices: dict[int, Plan] = {}
        self._kept: list[Names] = []
        self._open: list[str] = []
        self._slots = count()
        self._options = 0
        self._depth = 0

    def compile(self, node: Node, names: Names) -> Plan:
        """Compile a node where some variables are set."""
        match node:
            case Text():
                return Words(node.text)
            case Sequence():
                return self._sequence(node.parts, names, node.at)
            case Variants():
                return self._variants(node, names)
            case Wildcard():
                return self._wildcard(node, names)
            case Access():
                return self._access(node, names)
            case Assignment():
                return Words("")

    def _sequence(self, parts: tuple[Node, ...], names: Names, at: Place) -> Plan:
        """Compile parts in order; an assignment holds from where it stands to the end."""
        plans: list[Plan] = []
        held: list[tuple[int, Plan, int]] = []
        for part in parts:
            if not isinstance(part, Assignment):
                plans.append(self.compile(part, names))
                continue
            if part.keep and part.name in names:
                continue
            value = self.compile(part.value, names)
            if part.immediate and value.count > 1:
                slot = next(self._slots)
                held.append((slot, value, len(plans)))
                value = HeldValue(slot, value)
            names = {**names, part.name: value}
        for slot, value, first in reversed(held):
            body = _joined(plans[first:], at)
            plans[first:] = [_bounded(Holding(slot, value, body), at)]
        return _joined(plans, at)

    def _variants(self, node: Variants, names: Names) -> Plan:
        only = node.options[0].node
        if len(node.options) == 1 and isinstance(only, Wildcard):
            options = self._lines(only, names)
        else:
            options = [(o.weight, self.compile(o.node, names)) for o in node.options if o.weight]
        if not options:
            node.at.refuse("every option has the weight 0.")
        if (node.low, node.high) == (1, 1):
            return self._one_of(options, node.at)
        self._count_options(len(options), node.at)
        return _several(options, node)

    def _wildcard(self, node: Wildcard, names: Names) -> Plan:
        lines = self._lines(node, names)
        if id(lines) not in self._choices:
            self._choices[id(lines)] = self._one_of(lines, node.at)
        return self._choices[id(lines)]

    def _access(self, node: Access, names: Names) -> Plan:
        if node.name in names:
            return names[node.name]
        if node.default is None:
            node.at.refuse(
                f"the variable {node.name} is not set here; set it before, as in "
                f"${{{node.name}=…}}, or give a default, as in ${{{node.name}:…}}."
            )
        return self.compile(node.default, names)

    def _lines(self, node: Wildcard, names: Names) -> list[Weighted]:
        """Compile the lines that a wildcard stands for, once for the same values of variables."""
        if self._wildcards is None:
            node.at.refuse("there are no wildcards here; write \\_\\_ for plain underscores.")
        files = self._wildcards.find(node.pattern, node.at)
        if round_trip := [name for name in files if name in self._open]:
            way = " → ".join((*self._open[self._open.index(round_trip[0]) :], round_trip[0]))
            node.at.refuse(f"the wildcards go round in a circle: {way}.")
        if len(self._open) >= MAX_NESTED:
            node.at.refuse(f"wildcards are nested deeper than {MAX_NESTED}.")
        names = {**names, **{name: self.compile(n, names) for name, n in node.parameters}}
        key = (files, tuple(sorted((name, id(plan)) for name, plan in names.items())))
        if key not in self._known:
            self._kept.append(names)  # an id is a name's own only as long as the value lives
            self._known[key] = self._compiled(self._wildcards, files, names, node.at)
        return self._known[key]

    def _compiled(
        self, wildcards: WildcardFolder, files: tuple[str, ...], names: Names, at: Place
    ) -> list[Weighted]:
        plans: list[Plan] = []
        for name in files:
            lines = wildcards.lines(name)
            self._count_options(len(lines), at)
            self._open.append(name)
            plans.extend(self._line(line, names) for line in lines)
            self._open.pop()
        if not plans:
            at.refuse(f"the wildcard {files[0]} has no lines.")
        return [(1.0, plan) for plan in plans]

    def _line(self, line: Line, names: Names) -> Plan:
        if is_plain(line.text):
            return Words(line.text)
        return _stripped(self.compile(read(line.text, line.source), names))

    def _one_of(self, options: Iterable[Weighted], at: Place) -> Plan:
        """Choose one; choices within choices are one choice, and options that read alike one."""
        weights: dict[object, float] = {}
        plans: dict[object, Plan] = {}
        flat = list(_flattened(options))
        self._count_options(len(flat), at)
        for weight, plan in flat:
            key = plan.text if isinstance(plan, Words) else plan
            weights[key] = weights.get(key, 0) + weight
            plans[key] = plan
        if len(plans) == 1:
            return next(iter(plans.values()))
        return _bounded(Choice([(weights[key], plan) for key, plan in plans.items()]), at)

    def _count_options(self, number: int, at: Place) -> None:
        self._options += number
        if self._options > MAX_OPTIONS:
            at.refuse(f"there are more than {MAX_OPTIONS:,} options with this.")


def _flattened(options: Iterable[Weighted]) -> Iterator[Weighted]:
    for weight, plan in options:
        if isinstance(plan, Choice) and len(plan.options) <= MAX_FLATTENED:
            total = sum(own for own, _ in plan.options)
            yield from ((weight * own / total, inner) for own, inner in plan.options)
        else:
            yield weight, plan


def _several(options: Iterable[Weighted], node: Variants) -> Plan:
    """Take several; equal texts are one option, so that no pick repeats itself."""
    seen: set[str] = set()
    different: list[Weighted] = []
    for weight, plan in options:
        close = _stripped(plan)
        if isinstance(close, Words):
            if close.text in seen:
                continue
            seen.add(close.text)
        different.append((weight, close))
    high = len(different) if node.high is None else min(node.high, len(different))
    low = min(node.low, high)
    if high > MAX_PICKED:
        node.at.refuse(f"up to {high} options are taken; at most {MAX_PICKED} can be.")
    if not high:
        return Words("")
    bits = nlargest(high, (plan.count.bit_length() - 1 for _, plan in different))
    _refuse_endless(sum(bits), node.at)
    return _bounded(Several(different, low, high, node.separator), node.at)


def _joined(plans: Iterable[Plan], at: Place) -> Plan:
    """Join parts; neighbouring words become one text."""
    parts: list[Plan] = []
    longest = 0
    for plan in plans:
        longest += plan.longest
        _refuse_long(longest, at)
        for part in plan.parts if isinstance(plan, Joined) else (plan,):
            if isinstance(part, Words) and parts and isinstance(parts[-1], Words):
                parts[-1] = Words(parts[-1].text + part.text)
            elif not isinstance(part, Words) or part.text:
                parts.append(part)
    if not parts:
        return Words("")
    _refuse_endless(sum(part.count.bit_length() - 1 for part in parts), at)
    return parts[0] if len(parts) == 1 else _bounded(Joined(parts), at)


def _stripped(plan: Plan) -> Plan:
    """Take the whitespace off the end of a text, which separates it from what follows."""
    if isinstance(plan, Words):
        return Words(plan.text.rstrip())
    if isinstance(plan, Joined) and isinstance(plan.parts[-1], Words):
        return _joined((*plan.parts[:-1], _stripped(plan.parts[-1])), Place(0))
    return plan


def _bounded(plan: Plan, at: Place) -> Plan:
    """Refuse what would make too much.

    Raises:
        InvalidRequest: a prompt would be too long, or too much goes into it.
    """
    _refuse_endless(plan.count.bit_length() - 1, at)
    _refuse_long(plan.longest, at)
    if plan.work > MAX_WORK or plan.depth > MAX_PLAN_DEPTH:
        at.refuse("too many choices depend on each other here.")
    return plan


def _refuse_long(longest: int, at: Place) -> None:
    if longest > PROMPT_LIMIT:
        at.refuse(
            f"the longest prompt would have {longest:,} characters or more; at most "
            f"{PROMPT_LIMIT:,} are taken."
        )


def _refuse_endless(bits: int, at: Place) -> None:
    if bits > MAX_COUNT_BITS:
        at.refuse("it comes out in more than 10^600 ways; nobody can mean that many.")
