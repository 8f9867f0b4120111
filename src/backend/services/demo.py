"""The demo: one trip through the whole house, from persona files to a gallery.

Everything it makes stays in the home folder, so a second run finds it and makes only what is
missing. Seeds are fixed, so the same files give the same pictures on every machine of a kind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import backend
from backend.errors import InvalidRequest
from backend.models.account import Actor, Role
from backend.models.batch import ItemState
from backend.models.persona import BaseImageStatus, PersonaCreate, PersonaModel
from backend.services.base_image_workflow import BaseImageWorkflow
from backend.services.batch_runner import BatchRunner
from backend.services.batch_service import BatchService, BatchSummaryView
from backend.services.export_service import ExportService
from backend.services.persona_service import PersonaService, read_persona_files
from backend.services.together import together

SEED = 2026
SEEDER = Actor("demo", Role.EDITOR)
APPROVER = Actor("owner (demo)", Role.APPROVER)


class Progress(Protocol):
    """Who is told how far the demo is."""

    def start(self, stage: str, total: int) -> None:
        """A stage begins; `total` units are to be done."""
        ...

    def advance(self, stage: str) -> None:
        """One unit of a stage is done."""
        ...


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo made.

    Attributes:
        gallery: the page's path.
        devices: the distinct names of the devices that drew.
        seconds: wall time by stage, and `total`.
    """

    gallery: Path
    personas: int
    images: int
    errors: int
    devices: Sequence[str]
    seconds: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "gallery": str(self.gallery.absolute()),
            "personas": self.personas,
            "images": self.images,
            "errors": self.errors,
            "devices": list(self.devices),
            "seconds": dict(self.seconds),
        }


class Demo:
    """Runs the trip with the studio's own services."""

    def __init__(
        self,
        personas: PersonaService,
        base_images: BaseImageWorkflow,
        batches: BatchService,
        runner: BatchRunner,
        exports: ExportService,
    ) -> None:
        self._personas = personas
        self._base_images = base_images
        self._batches = batches
        self._runner = runner
        self._exports = exports

    async def run(
        self,
        examples: Path,
        gallery: Path,
        progress: Progress,
        *,
        fresh: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> DemoReport:
        """Make what is missing and write the gallery.

        Args:
            examples: a folder with `personas/*.toml` and `prompts.txt`.
            gallery: where the page goes.
            progress: is told of every stage.
            fresh: delete the demo's personas and their pictures first.
            options: for every image, such as `model`.

        Raises:
            InvalidRequest: a file is missing or faulty; nothing was created.
        """
        written = read_personas(examples / "personas")
        prompts = read_prompts(examples / "prompts.txt")
        clock = _Clock()
        with clock.stage("personas"):
            personas = [await self._persona(new, fresh=fresh) for new in written]
        with clock.stage("base_images"):
            await self._seed_and_approve(personas, progress, options or {})
        batch_ids = await self._render(personas, prompts, progress, clock, options or {})
        with clock.stage("gallery"):
            progress.start("gallery", 1)
            summary = await self._exports.gallery(gallery, batch_ids, clock.seconds)
            progress.advance("gallery")
        return DemoReport(
            gallery=gallery,
            personas=summary.personas,
            images=summary.images,
            errors=summary.errors,
            devices=summary.devices,
            seconds=clock.with_total(),
        )

    async def _persona(self, new: PersonaCreate, *, fresh: bool) -> PersonaModel:
        there = list(await self._personas.named(new.name))
        while there and fresh:
            await self._personas.delete(there.pop().id)
        return there[0] if there else await self._personas.create(new)

    async def _seed_and_approve(
        self, personas: Sequence[PersonaModel], progress: Progress, options: Mapping[str, Any]
    ) -> None:
        waiting = [p for p in personas if p.base_image_status != BaseImageStatus.APPROVED.value]
        progress.start("base images", len(waiting))

        async def one(persona: PersonaModel) -> None:
            if persona.base_image_status != BaseImageStatus.DRAFT.value:
                await self._base_images.seed_local(persona.id, actor=SEEDER, seed=SEED, **options)
            await self._base_images.approve(persona.id, None, actor=APPROVER)
            progress.advance("base images")

        await together(*map(one, waiting))

    async def _render(
        self,
        personas: Sequence[PersonaModel],
        prompts: Sequence[str],
        progress: Progress,
        clock: _Clock,
        options: Mapping[str, Any],
    ) -> list[str]:
        """Render what is missing; captions follow meanwhile. Return the batches' ids."""
        began = latest = time.perf_counter()
        batches = [
            await self._batches.create(
                p.id, prompts, actor=SEEDER, seed=SEED + i, reuse=True, **options
            )
            for i, p in enumerate(personas)
        ]
        progress.start("images", sum(map(_waiting, batches)))
        progress.start("captions", sum(b.batch.total - b.batch.caption_position for b in batches))

        def advance(stage: str) -> None:
            nonlocal latest
            progress.advance(stage)
            if stage == "images":
                latest = time.perf_counter()

        batch_ids = [view.batch.id for view in batches]
        await self._runner.run_until_finished(batch_ids, advance)
        clock.note("images", latest - began)
        clock.note("captions", time.perf_counter() - latest)
        return batch_ids


def _waiting(view: BatchSummaryView) -> int:
    return view.counts[ItemState.QUEUED] + view.counts[ItemState.RUNNING]


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.note(name, time.perf_counter() - started)

    def note(self, name: str, seconds: float) -> None:
        self.seconds[name] = round(seconds, 2)

    def with_total(self) -> dict[str, float]:
        return {**self.seconds, "total": round(sum(self.seconds.values()), 2)}


def examples_folder() -> Path:
    """Return the examples that were installed with the package, else the repository's."""
    package = Path(backend.__file__).parent
    shipped = package / "examples"
    return shipped if shipped.is_dir() else package.parents[1] / "examples"


def read_personas(folder: Path) -> list[PersonaCreate]:
    """Read every persona file of a folder, by name.

    Raises:
        InvalidRequest: there are none, or one is faulty; all faults of all files are listed.
    """
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise InvalidRequest(f"{folder}: holds no persona file (*.toml).")
    return read_persona_files(paths)


def read_prompts(path: Path) -> list[str]:
    """Read prompts, one a line; `#` begins a comment line.

    Bytes that are not UTF-8 stay in their line as surrogates, so that its item alone is refused.

    Raises:
        InvalidRequest: the file cannot be read or holds no prompt.
    """
    try:
        text = path.read_text("utf-8", errors="surrogateescape")
    except OSError as exc:
        raise InvalidRequest(f"{path}: cannot be read: {exc.strerror}.") from exc
    prompts = [line for line in text.split("\n") if line and not line.startswith("#")]
    if not any(prompt.strip() for prompt in prompts):
        raise InvalidRequest(f"{path}: holds no prompt.")
    return prompts
