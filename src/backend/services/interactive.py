"""The few pictures that somebody waits for, of a model by itself or of a persona.

They take the way that every picture takes, through the same pool, before all batches. What is asked
for is checked in full before anything is drawn: the words, the size, the model, the persona's
leave, what a cloud may still cost. Whoever stops waiting stops the drawing.

A persona brings its locked look, as it does to a batch: appearance, style, adapters, the traits
that its approved base image settled. Here the base image itself is started from too, by every local
model that can, which batches leave to who asks; a cloud is never sent it unasked, since it may show
a real person, and then the answer says so.

A persona's pictures are content, kept with their receipts as a batch's are. Those of a bare model
are nobody's: the answer holds them and nothing else does.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from backend.database.engine import Database
from backend.errors import InvalidRequest, UnsupportedTask
from backend.imaging.checks import PROMPT_LIMIT, SEED_LIMIT
from backend.imaging.selection import check_card
from backend.imaging.types import ImageRequest, ModelCard, OnStep
from backend.models.content import ContentModel
from backend.repositories.blob_references import BlobReferences
from backend.repositories.contents import ContentRepository
from backend.repositories.personas import PersonaRepository
from backend.services.ai_models import AIModelManager
from backend.services.content_rows import content_values
from backend.services.leave import require_leave
from backend.services.persona_look import adapter_options, look_options
from backend.services.spending import CloudSpending
from backend.services.subjects import Subject, Subjects
from backend.services.together import together
from backend.storage.blobs import BlobStore

MAX_PICTURES = 10
"""Of one request, as many as OpenAI takes."""

BASE_IMAGE_STRENGTH = 0.8
"""How far pictures go from a base image where that is redrawn, and not looked at by an IP-Adapter.

At 0.6, which suits a variation, the embedded model kept the base image's background and clothes
whatever the prompt said; at 0.8 it follows the prompt, and the face and the hair stay.
"""

NOT_SENT = "a cloud is not sent a base image unasked; send it to the edits route yourself"


@dataclass(frozen=True, slots=True)
class PictureOrder:
    """What is asked for.

    Attributes:
        model: a model's card, or `persona:` and a name; `None` for the best model there is.
        seeds: one a picture.
        effort: how many steps to take, against the model's own number.
        departure: how far to go from the reference, against the model's own strength.
        options: further fields of `ImageRequest`.
    """

    prompt: str
    seeds: tuple[int, ...]
    model: str | None = None
    effort: float = 1.0
    departure: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """An order that can be done, and how.

    Attributes:
        options: every option of the pictures but their seeds.
        without_base: why no base image is started from; empty where one is, or none was meant.
        from_base: whether a base image is started from that nobody asked for by name.
    """

    order: PictureOrder
    subject: Subject
    card: ModelCard
    options: Mapping[str, Any]
    without_base: str = ""
    from_base: bool = False


@dataclass(frozen=True, slots=True)
class MadePicture:
    """A finished picture.

    Attributes:
        image: as `AIModelManager.generate_image` returns it.
        without_base: why it was not started from the persona's base image, if it should have been.
        content: its row, where it is kept.
    """

    image: Mapping[str, Any]
    without_base: str = ""
    content: ContentModel | None = None


class InteractivePictures:
    """Draws for those who wait."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        models: AIModelManager,
        spending: CloudSpending,
        subjects: Subjects,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._models = models
        self._spending = spending
        self._subjects = subjects

    async def plan(self, order: PictureOrder) -> Plan:
        """Check an order; nothing is drawn, and nothing written.

        Raises:
            InvalidRequest: a field is wrong, or there are no pictures or too many.
            ModelError: there is no such model or persona, or it cannot do that.
            Conflict: the persona may not be shown now.
            SpendingCapReached: it would cost more than may be spent.
            StorageError: the database or the blobs cannot be read.
        """
        _check_count(len(order.seeds))
        subject = await self._subjects.find(order.model)
        plan = self._with_look(order, subject)
        if subject.version is not None and "reference" not in plan.options:
            plan = await self._with_base(plan, subject.version.sha256)
        options = {**plan.options, "seed": order.seeds[0]}
        self._models.choose(ImageRequest.from_call(order.prompt, options))
        if plan.card.kind == "cloud":
            await self._spending.check(len(order.seeds))
        return plan

    async def make(self, plan: Plan, on_step: OnStep | None = None) -> list[MadePicture]:
        """Draw what was planned, and keep it where it is a persona's.

        Args:
            plan: made a moment ago.
            on_step: told of the steps of the pictures, as they are taken.

        Raises:
            GatorError: one could not be made, so none is given; the others were stopped.
        """
        made = await together(*(self._draw(plan, seed, on_step) for seed in plan.order.seeds))
        if plan.subject.persona is None:
            return made
        return await self._kept(plan, made)

    def _with_look(self, order: PictureOrder, subject: Subject) -> Plan:
        """Choose the model, and add what makes every picture the persona's."""
        persona, given = subject.persona, dict(order.options)
        if persona is not None:
            given |= adapter_options(persona)
        request = ImageRequest.from_call(order.prompt, {**given, "model": subject.model})
        card = self._models.choose(request)
        _check_cloud(card, given)
        given |= {"model": card.name, **_effort(order.effort, card, given)}
        if order.departure != 1.0:
            given["strength"] = round(card.strength * order.departure, 4)
        if persona is not None:
            look = look_options(persona, card.kind)
            never = _joined(look.get("negative_prompt"), given.get("negative_prompt"))
            traits = subject.version.look if subject.version else {}
            given = {**look, **given, "negative_prompt": never, "look": traits}
        return Plan(order, subject, card, given)

    async def _with_base(self, plan: Plan, sha256: str) -> Plan:
        """Have a persona's pictures start from its base image, where the model can."""
        if plan.card.kind == "cloud":
            return replace(plan, without_base=NOT_SENT)
        beside: dict[str, Any] = {"reference": await self._blobs.get(sha256)}
        if not plan.card.ip_adapter:
            beside["strength"] = BASE_IMAGE_STRENGTH
        options = {**plan.options, **beside}
        try:
            check_card(ImageRequest.from_call(plan.order.prompt, options), plan.card)
        except UnsupportedTask as exc:
            return replace(plan, without_base=exc.message)
        return replace(plan, options=options, from_base=True)

    async def _draw(self, plan: Plan, seed: int, on_step: OnStep | None) -> MadePicture:
        options = {**plan.options, "seed": seed, "on_step": on_step}
        try:
            image = await self._models.generate_image(plan.order.prompt, **options)
        except UnsupportedTask as exc:
            if not plan.from_base:
                raise
            reason = exc.message  # the engine knows better than the card what it can start from
        else:
            return MadePicture(image, plan.without_base)
        for name in ("reference", "strength"):
            options.pop(name, None)
        image = await self._models.generate_image(plan.order.prompt, **options)
        return MadePicture(image, reason)

    async def _kept(self, plan: Plan, made: Sequence[MadePicture]) -> list[MadePicture]:
        """Keep a persona's pictures, unless it may not be shown any more."""
        version, persona = plan.subject.version, plan.subject.persona
        persona_id, n = persona.id if persona else "", version.n if version else None
        for one in made:
            await self._blobs.put(one.image["image_data"])
        async with self._database.write() as session:
            row = await PersonaRepository(session).get(persona_id)
            await require_leave(session, row, n)
            await BlobReferences(session).hold()
            contents = ContentRepository(session)
            kept = []
            for one in made:
                # again, since a persona that was deleted meanwhile may have taken it along
                sha256 = await self._blobs.put(one.image["image_data"])
                values = content_values(
                    one.image,
                    sha256,
                    prompt=plan.order.prompt,
                    persona_id=persona_id,
                    base_version=n,
                )
                content = await contents.add(ContentModel(**values))
                kept.append(replace(one, content=content))
        return kept


def fresh_seed(below: int = SEED_LIMIT) -> int:
    """Draw a seed by chance."""
    return secrets.randbelow(below)


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_PICTURES:
        message = f"is {count}; 1 to {MAX_PICTURES} pictures are made at once"
        raise InvalidRequest(f"n: {message}", {"errors": [{"field": "n", "message": message}]})


def _effort(effort: float, card: ModelCard, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the number of steps that an effort stands for; none where it is the model's own."""
    if effort == 1.0:
        return {}
    if given.get("num_inference_steps") is not None:
        message = "says how many steps to take, and so does num_inference_steps; give one of them"
        fault = {"field": "quality", "message": message}
        raise InvalidRequest(f"quality: {message}", {"errors": [fault]})
    if card.kind != "diffusion":
        raise UnsupportedTask(
            f"{card.name!r} knows one quality; leave quality out, or say auto.",
            {"field": "quality"},
        )
    return {"num_inference_steps": math.ceil(card.num_inference_steps * effort)}


def _joined(persona: str | None, own: str | None) -> str | None:
    """Add what a request does not want to see to what the persona never shows."""
    negative = ", ".join(part for part in (persona, own) if part)
    if len(negative) > PROMPT_LIMIT:
        message = f"has more than {PROMPT_LIMIT:,} characters with what the persona never shows"
        fault = {"field": "negative_prompt", "message": message}
        raise InvalidRequest(f"negative_prompt: {message}", {"errors": [fault]})
    return negative or None


def _check_cloud(card: ModelCard, given: Mapping[str, Any]) -> None:
    if card.kind == "cloud" and given.get("format") is not None:
        raise UnsupportedTask(
            f"{card.name!r} is at a cloud, which chooses the format; leave output_format out.",
            {"field": "output_format"},
        )
