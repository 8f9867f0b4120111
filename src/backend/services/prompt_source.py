"""Where a batch's prompts come from when they are written as a template."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from backend.errors import InvalidRequest
from backend.services.prompt_sets import WildcardFolder, compile_prompts


@dataclass(frozen=True, slots=True)
class PromptPreview:
    """What a template makes: how many combinations there are, how many are taken, the first few."""

    count: int
    total: int
    prompts: list[str]


class PromptSource:
    """Expands templates with the wildcards of one studio.

    Args:
        wildcards: a folder of text files; it need not exist.
        limit: how many prompts a batch may have.
    """

    def __init__(self, wildcards: Path, *, limit: int) -> None:
        self._wildcards = wildcards
        self._limit = limit

    def expand(self, template: str, *, sample: int | None, seed: int) -> Iterator[str]:
        """Return the prompts of a template, lazily: so many by chance, else all in order.

        Args:
            template: in dynamicprompts' grammar.
            sample: how many are drawn.
            seed: of the draw; equal ones give equal prompts.

        Raises:
            InvalidRequest: it cannot be read, or makes more prompts than a batch may have.
        """
        compiled = compile_prompts(template, WildcardFolder(self._wildcards))
        if sample is not None:
            return iter(compiled.sample(sample, seed))
        count = compiled.count()
        if count > self._limit:
            message = f"makes {count:,} prompts; at most {self._limit:,} are taken, or a `sample`"
            raise InvalidRequest(
                f"template: {message}", {"errors": [{"field": "template", "message": message}]}
            )
        return iter(compiled.all())

    def preview(self, template: str, *, sample: int | None, seed: int, limit: int) -> PromptPreview:
        """Return how many prompts a template makes, and the first `limit` of them.

        Raises:
            InvalidRequest: it cannot be read.
        """
        compiled = compile_prompts(template, WildcardFolder(self._wildcards))
        count = compiled.count()
        drawn = compiled.all() if sample is None else compiled.sample(sample, seed)
        return PromptPreview(count, count if sample is None else sample, list(islice(drawn, limit)))
