"""Pictures that may become base images: rendered here, by a cloud, or brought along.

Nothing is written to the database; what fails or is cancelled here leaves no trace but blobs that
nobody refers to, which `gator blobs check` finds.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from backend.errors import GatorError, InvalidRequest, ProviderNotConfigured
from backend.imaging.checks import SEED_LIMIT
from backend.imaging.selection import choose_model
from backend.imaging.types import ImageRequest, ModelCard, item_seed
from backend.models.base import new_id
from backend.models.base_image import MAX_CANDIDATES, BaseImageVersionModel, SeedFailure
from backend.models.persona import PersonaModel
from backend.services.ai_models import AIModelManager
from backend.services.persona_look import adapter_options, look_options

BASE_PROMPT = "portrait, facing the camera, friendly, plain background"


class Picture(NamedTuple):
    """A version that is not numbered yet, and the blobs that it needs."""

    version: BaseImageVersionModel
    blobs: tuple[bytes, ...]


class Seeded(NamedTuple):
    """The candidates of one seed, and those that could not be made."""

    pictures: Sequence[Picture]
    failures: Sequence[SeedFailure]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a seed by a model was asked for.

    Attributes:
        local: whether a model of this machine has to make it, or a cloud.
        reference: the version, and its bytes, that the pictures are to start from.
        options: as for a generated image.
    """

    local: bool
    count: int
    prompt: str | None
    reference: tuple[BaseImageVersionModel, bytes] | None
    options: Mapping[str, Any]


def check_count(count: int) -> None:
    """Refuse what is not 1 to 8 candidates.

    Raises:
        InvalidRequest: naming the field.
    """
    if not 1 <= count <= MAX_CANDIDATES:
        message = f"is {count}; 1 to {MAX_CANDIDATES} candidates are made at once"
        raise InvalidRequest(
            f"count: {message}", {"errors": [{"field": "count", "message": message}]}
        )


async def render(
    models: AIModelManager, persona: PersonaModel, asked: Asked, created_by: str
) -> Seeded:
    """Make the candidates, all at once over the devices.

    One candidate has the seed that was asked for; of several, each has its own, hashed from it.

    Raises:
        InvalidRequest: an option is wrong.
        ModelNotAvailable: there is no such model of the kind that was asked for.
        GatorError: none could be made; what the first one failed of.
    """
    options = _options(models, persona, asked)
    seed = options.pop("seed", None)
    seed = secrets.randbelow(SEED_LIMIT) if seed is None else seed
    seeds = [seed] if asked.count == 1 else [item_seed(seed, i) for i in range(asked.count)]
    homes = _homes(models, asked)
    group = new_id()

    async def one(index: int) -> Picture | GatorError:
        try:
            result = await models.generate_image(
                asked.prompt or BASE_PROMPT, **options, **homes[index], seed=seeds[index]
            )
        except GatorError as exc:
            return exc
        version = _version(persona.id, result, asked, created_by)
        version.seed_group = group
        return Picture(version, (result["image_data"],))

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(index)) for index in range(asked.count)]
    return _sorted_out([task.result() for task in running], seeds)


def _sorted_out(outcomes: Sequence[Picture | GatorError], seeds: Sequence[int]) -> Seeded:
    pictures = [outcome for outcome in outcomes if isinstance(outcome, Picture)]
    faults = [(s, o) for s, o in zip(seeds, outcomes, strict=True) if isinstance(o, GatorError)]
    if not pictures:
        raise faults[0][1]
    failures = [SeedFailure(seed=s, code=o.code, message=o.message) for s, o in faults]
    return Seeded(pictures, failures)


def _options(models: AIModelManager, persona: PersonaModel, asked: Asked) -> dict[str, Any]:
    """Return the options of every candidate, the model among them."""
    given = {name: value for name, value in asked.options.items() if value is not None}
    if asked.reference is not None:
        given["reference"] = asked.reference[1]
    request = ImageRequest.from_call(
        asked.prompt or BASE_PROMPT, {**adapter_options(persona), **given}
    )
    card = _card(models, request, local=asked.local)
    return {**look_options(persona, card.kind), **given, "model": card.name}


def _card(models: AIModelManager, request: ImageRequest, *, local: bool) -> ModelCard:
    """Choose among the models of this machine, or among the clouds, but not of both."""
    own = [card for card in models.cards() if (card.kind != "cloud") == local]
    if not own and not local:
        raise ProviderNotConfigured(
            "no cloud is configured; set GATOR_CLOUD_BASE_URL and GATOR_CLOUD_MODEL."
        )
    preferred = models.preferred_model
    known = any(card.name == preferred for card in own)
    return choose_model(request, own, preferred if known else None)


def _homes(models: AIModelManager, asked: Asked) -> list[dict[str, int]]:
    """Place several local candidates round the devices; leave the rest to the pool."""
    if asked.count == 1 or not asked.local or asked.options.get("device_id") is not None:
        return [{}] * asked.count
    devices = models.devices()
    return [{"device_id": devices[i % len(devices)].device_id} for i in range(asked.count)]


def _version(
    persona_id: str, result: Mapping[str, Any], asked: Asked, created_by: str
) -> BaseImageVersionModel:
    return BaseImageVersionModel(
        persona_id=persona_id,
        parent=asked.reference[0].n if asked.reference else None,
        mime=f"image/{result['format']}",
        width=result["width"],
        height=result["height"],
        size_bytes=len(result["image_data"]),
        method="local" if asked.local else "cloud",
        provider=result["provider"],
        model=result["model"],
        kind=result["kind"],
        device=result["device"],
        seed=result["seed"],
        prompt=asked.prompt or BASE_PROMPT,
        look=dict(result["prompt_report"].get("look", {})),
        receipt=dict(result["receipt"]),
        prompt_report=dict(result["prompt_report"]),
        seconds=sum(result["seconds"].values()),
        created_by=created_by,
    )


def brought(
    persona_id: str, data: bytes, original: bytes | None, created_by: str, **about: Any
) -> Picture:
    """Make a version of a picture that was not made here.

    Args:
        persona_id: whose it is to be.
        data: the bytes that are served.
        original: the bytes as they were brought, kept and never served.
        created_by: who brought it.
        **about: `mime`, `width`, `height`, `method`, and `receipt` where there is one.
    """
    version = BaseImageVersionModel(
        persona_id=persona_id,
        seed_group=new_id(),
        size_bytes=len(data),
        provider=about["method"],
        model="",
        kind=about["method"],
        device="",
        seed=0,
        prompt="",
        look={},
        prompt_report={},
        seconds=0.0,
        created_by=created_by,
        **{"receipt": {}, **about},
    )
    return Picture(version, (data,) if original is None else (data, original))
