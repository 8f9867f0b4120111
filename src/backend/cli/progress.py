"""Progress on stderr: a bar per stage, with the rate and the time left."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """Units a second, by the name of the stage's unit."""

    def render(self, task: Task) -> Text:
        """Show the rate of the last while, or of the whole where the stage is done."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "–", style="cyan")


class StageBars:
    """Shows stages as bars; is the `Progress` that services report to."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(file=sys.stderr),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def start(self, stage: str, total: int) -> None:
        """Show a stage; one that has nothing to do shows as done."""
        self._tasks[stage] = self._bars.add_task(stage, total=total)

    def advance(self, stage: str) -> None:
        """Count one unit of a stage."""
        self._bars.advance(self._tasks[stage])

    def reach(self, stage: str, done: int) -> None:
        """Say how many units of a stage are done in all."""
        self._bars.update(self._tasks[stage], completed=done)
