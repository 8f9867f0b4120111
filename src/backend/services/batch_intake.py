"""Prompts on their way into a batch: checked one by one, set down in a file, then made into rows.

The file (in memory while it is small) stands between whoever sends prompts, perhaps slowly, and the
one transaction that writes them, which is short then and either there or not.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, Any, Self

from backend.errors import InvalidRequest, StorageError
from backend.imaging.checks import PROMPT_LIMIT, SEED_LIMIT
from backend.imaging.types import ImageRequest, item_seed
from backend.models.base import now
from backend.models.batch import ItemState, item_id

MAX_ITEMS = 100_000
ROWS = 500
"""How many rows are inserted at once."""

IN_MEMORY_BYTES = 4 * 1024 * 1024

Prompts = Iterable[str] | AsyncIterable[str]
Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Expansion:
    """What every prompt is drawn with: each seed, in each size.

    Attributes:
        seeds: given ones; none where each item's own is hashed from the batch's and the position.
        sizes: width and height; none where the options or the model say.
    """

    seed: int
    seeds: Sequence[int] = ()
    sizes: Sequence[Size] = ()

    @property
    def count(self) -> int:
        """How many items a prompt becomes."""
        return max(len(self.seeds), 1) * max(len(self.sizes), 1)

    def of(self, first: int) -> Iterator[tuple[int, dict[str, int] | None]]:
        """Yield each item's seed and own options, for a prompt whose first item is `first`."""
        position = first
        for seed in self.seeds or (None,):
            for size in self.sizes or (None,):
                own = item_seed(self.seed, position) if seed is None else seed
                yield own, None if size is None else {"width": size[0], "height": size[1]}
                position += 1


@dataclass(slots=True)
class PromptSpool:
    """Prompts that were taken in; use it as a context manager.

    Attributes:
        prompts: how many there are.
        refused: how many of them cannot be drawn from.
    """

    prompts: int = 0
    refused: int = 0
    _file: IO[str] = field(init=False)
    _hash: Any = field(default_factory=hashlib.sha256)

    def __enter__(self) -> Self:
        self._file = SpooledTemporaryFile(IN_MEMORY_BYTES, "w+", encoding="ascii")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    async def take(self, prompts: Prompts, most: int) -> None:
        """Take prompts in, each as it comes.

        Raises:
            InvalidRequest: there are none, or more than `most`.
            StorageError: the disk does not hold them.
        """
        async for prompt in _each(prompts):
            if self.prompts == most:
                raise _refused(f"has more than {most:,} entries, which is what is taken")
            self._write(prompt)
        if not self.prompts:
            raise _refused("has no entries; 1 to 100,000 are taken")

    def request_key(self, before: Sequence[Any], after: Sequence[Any]) -> str:
        """Return a hash of everything asked for: the prompts, and what stands around them."""
        told = hashlib.sha256(json.dumps([*before, *after], sort_keys=True).encode())
        told.update(self._hash.digest())
        return told.hexdigest()

    def rows(self, batch_id: str, expansion: Expansion) -> Iterator[list[dict[str, Any]]]:
        """Yield rows of items, a few hundred at a time, in the order of their positions."""
        self._file.seek(0)
        rows: list[dict[str, Any]] = []
        position = failed = 0
        for line in self._file:
            text, error = json.loads(line)
            for seed, options in expansion.of(position):
                failed += error is not None
                rows.append(
                    {
                        "id": item_id(batch_id, position),
                        "batch_id": batch_id,
                        "position": position,
                        "prompt": text,
                        "seed": seed,
                        "options": options,
                        "state": (ItemState.FAILED if error else ItemState.QUEUED).value,
                        "error": error,
                        "event_seq": failed if error else 0,
                        "finished_at": now() if error else None,
                    }
                )
                position += 1
                if len(rows) == ROWS:
                    yield rows
                    rows = []
        if rows:
            yield rows

    def _write(self, prompt: str) -> None:
        error = None
        try:
            ImageRequest.from_call(prompt, {"seed": 0})
        except InvalidRequest as exc:
            error = {"code": exc.code, "message": exc.message}
            self.refused += 1
        self._hash.update(json.dumps(prompt).encode() + b"\n")
        line = json.dumps([_storable(prompt) if error else prompt, error]) + "\n"
        try:
            self._file.write(line)
        except OSError as exc:
            raise StorageError(f"the prompts cannot be set down: {exc.strerror}.") from exc
        self.prompts += 1


def check_expansion(expansion: Expansion) -> None:
    """Refuse seeds that are none; sizes are checked with the options.

    Raises:
        InvalidRequest: naming the first.
    """
    for seed in expansion.seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEED_LIMIT:
            message = f"holds {seed!r}; each must be a whole number from 0 to {SEED_LIMIT - 1:,}"
            raise InvalidRequest(
                f"seeds: {message}", {"errors": [{"field": "seeds", "message": message}]}
            )
    if expansion.count > MAX_ITEMS:
        raise _refused(f"would become more than {MAX_ITEMS:,} items with these seeds and sizes")


def most_prompts(expansion: Expansion) -> int:
    """Return how many prompts there may be."""
    return MAX_ITEMS // expansion.count


async def _each(prompts: Prompts) -> AsyncIterator[str]:
    if isinstance(prompts, AsyncIterable):
        async for prompt in prompts:
            yield prompt
    else:
        for index, prompt in enumerate(prompts):
            if index % ROWS == 0:
                await asyncio.sleep(0)  # others have their turn
            yield prompt


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(
        f"prompts: {message}", {"errors": [{"field": "prompts", "message": message}]}
    )


def _storable(prompt: str) -> str:
    """Replace what no database stores as text, and keep the beginning."""
    text = prompt.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return text[:PROMPT_LIMIT]
