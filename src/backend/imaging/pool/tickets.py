"""One image on its way through the pool."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import structlog

from backend.errors import GatorError
from backend.imaging.types import ImageRequest, ModelCard, OnStep
from backend.logs import get_logger

log = get_logger(__name__)


@dataclass(slots=True, eq=False)
class Ticket:
    """A request, where it belongs, what became of it so far, and the future of its image.

    Attributes:
        like: what it shares with those that it may be rendered together with.
        home: the device that it was placed on.
        submitted: seconds of the monotonic clock.
        alone: whether it is never rendered together with others, such as one with a reference.
        largest: the most that it may be rendered together with; falls where a micro-batch failed.
        avoid: the devices that failed over it.
        attempts: those that failed, each with `device`, `started`, `ended`, `code`, `message`.
        passed_over: how often its home took a younger one first.
        on_step: told of its steps.
        number: its place in the order of arrival; the dispatcher's.
        labels: what the caller's own log lines carry; the ticket's carry it too.
    """

    request: ImageRequest
    card: ModelCard
    like: str
    home: int
    submitted: float
    alone: bool = False
    image: Future[Any] = field(default_factory=Future)
    largest: int | None = None
    avoid: set[int] = field(default_factory=set)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    passed_over: int = 0
    on_step: OnStep | None = None
    number: int = 0
    labels: Mapping[str, Any] = field(default_factory=dict)

    @property
    def priority(self) -> int:
        """Higher goes first."""
        return self.request.priority

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for the image."""
        return not self.image.done()

    @property
    def log(self) -> structlog.stdlib.BoundLogger:
        """The pool's log, with the ticket's labels."""
        return log.bind(**self.labels)

    def stepped(self, done: int, total: int, preview: bytes | None) -> None:
        """Tell who watches how far it is, unless nobody waits any more."""
        if self.on_step is not None and self.is_wanted:
            self.on_step(done, total, preview)

    def succeed(self, result: Any) -> bool:
        """Hand the result over; false where nobody waits any more."""
        if not self.image.set_running_or_notify_cancel():
            return False
        self.image.set_result(result)
        return True

    def fail(self, error: GatorError) -> None:
        """Hand the error over, unless nobody waits any more."""
        if self.image.set_running_or_notify_cancel():
            self.image.set_exception(error)
