"""The base image's way from nothing to approved.

One table says what is allowed; whatever it does not list is a `Conflict` that names the state and
the actions that are allowed in it. Approval binds the bytes: the blob is read back and hashed, and
version, hash, approver and time are written in the transaction that locks the appearance. A seed
that fails leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from backend.database.engine import Database
from backend.errors import Conflict, InvalidRequest
from backend.models.base import now
from backend.models.base_image import (
    BaseImageResponse,
    BaseImageVersionModel,
    BaseImageVersionResponse,
)
from backend.models.persona import BaseImageStatus, PersonaModel
from backend.repositories.base_images import BaseImageRepository
from backend.repositories.personas import PersonaRepository
from backend.services.ai_models import AIModelManager
from backend.storage.blobs import BlobStore

BASE_PROMPT = "portrait, facing the camera, friendly, plain background"

TRANSITIONS: Mapping[str, tuple[frozenset[BaseImageStatus], BaseImageStatus]] = {
    "seed": (
        frozenset(
            {BaseImageStatus.PENDING_UPLOAD, BaseImageStatus.DRAFT, BaseImageStatus.REJECTED}
        ),
        BaseImageStatus.DRAFT,
    ),
    "approve": (frozenset({BaseImageStatus.DRAFT}), BaseImageStatus.APPROVED),
    "reject": (frozenset({BaseImageStatus.DRAFT}), BaseImageStatus.REJECTED),
}


class BaseImageView(NamedTuple):
    """A persona and all its versions, at one moment."""

    persona: PersonaModel
    versions: tuple[BaseImageVersionModel, ...]

    @property
    def current(self) -> BaseImageVersionModel | None:
        """The version that was seeded last."""
        return self.versions[-1] if self.versions else None

    @property
    def allowed_actions(self) -> list[str]:
        """What may be done in this state."""
        return allowed_actions(self.persona)

    def response(self) -> BaseImageResponse:
        """Return the view as the API and the CLI show it."""
        persona = self.persona
        return BaseImageResponse(
            persona_id=persona.id,
            status=BaseImageStatus(persona.base_image_status),
            allowed_actions=self.allowed_actions,
            current_version=self.current.n if self.current else None,
            approved_version=persona.approved_version,
            approved_sha256=persona.approved_sha256,
            approved_by=persona.approved_by,
            approved_at=persona.approved_at,
            rejection_reason=persona.rejection_reason,
            versions=[BaseImageVersionResponse.model_validate(v) for v in self.versions],
        )


class BaseImageWorkflow:
    """Seeds, approves and rejects base images."""

    def __init__(self, database: Database, blobs: BlobStore, models: AIModelManager) -> None:
        self._database = database
        self._blobs = blobs
        self._models = models

    async def show(self, name_or_id: str) -> BaseImageView:
        """Return where a persona's base image stands.

        Raises:
            NotFound: there is no such persona.
        """
        async with self._database.read() as session:
            persona = await PersonaRepository(session).find(name_or_id)
            return BaseImageView(persona, tuple(await BaseImageRepository(session).of(persona.id)))

    async def image(self, name_or_id: str, n: int) -> tuple[BaseImageVersionModel, bytes]:
        """Return a version and its bytes.

        Raises:
            NotFound: there is no such persona or version.
        """
        async with self._database.read() as session:
            persona = await PersonaRepository(session).find(name_or_id)
            version = await BaseImageRepository(session).get(persona.id, n)
        return version, await self._blobs.get(version.sha256)

    async def seed_local(
        self, name_or_id: str, *, actor: str, prompt: str | None = None, **options: Any
    ) -> BaseImageView:
        """Make a new version with a model of this machine; the persona becomes a draft.

        Args:
            name_or_id: the persona.
            actor: who seeds.
            prompt: what the picture shows beside the persona; a plain portrait if left out.
            **options: `seed`, `model`, `num_inference_steps`, … as for a generated image.

        Raises:
            NotFound: there is no such persona.
            Conflict: the base image is approved; nothing was rendered.
            InvalidRequest: an option is wrong.
        """
        view = await self.show(name_or_id)
        require("seed", view.persona)
        result = await self._models.generate_image(
            prompt or BASE_PROMPT,
            **options,
            appearance=view.persona.appearance,
            identity=view.persona.name,
        )
        sha256 = await self._blobs.put(result["image_data"])
        async with self._database.write() as session:
            persona = await PersonaRepository(session).get(view.persona.id)
            require("seed", persona)
            version = _version(persona.id, sha256, result, prompt or BASE_PROMPT, actor)
            await BaseImageRepository(session).add(version)
            persona.base_image_status = TRANSITIONS["seed"][1].value
            persona.base_image_path = f"blobs/{sha256[:2]}/{sha256[2:]}"
        return await self.show(persona.id)

    async def approve(self, name_or_id: str, n: int | None, *, actor: str) -> BaseImageView:
        """Approve a version, by default the current one, and lock the appearance.

        Raises:
            NotFound: there is no such persona or version.
            Conflict: not a draft, or another version is the current one.
            StorageError: the blob's bytes are not those that were seeded.
        """
        view = await self.show(name_or_id)
        require("approve", view.persona)
        chosen = _current(view, n)
        await self._blobs.get(chosen.sha256)
        async with self._database.write() as session:
            persona = await PersonaRepository(session).get(view.persona.id)
            require("approve", persona)
            versions = tuple(await BaseImageRepository(session).of(persona.id))
            _current(BaseImageView(persona, versions), chosen.n)
            persona.base_image_status = TRANSITIONS["approve"][1].value
            persona.appearance_locked = True
            persona.base_appearance_description = (
                persona.base_appearance_description or persona.appearance
            )
            persona.approved_version = chosen.n
            persona.approved_sha256 = chosen.sha256
            persona.approved_by = actor
            persona.approved_at = now()
        return await self.show(persona.id)

    async def reject(self, name_or_id: str, reason: str) -> BaseImageView:
        """Reject the current version; it waits for another seed.

        Raises:
            NotFound: there is no such persona.
            InvalidRequest: no reason was given.
            Conflict: not a draft.
        """
        if not reason.strip():
            message = "is required; say why, for whoever seeds the next one"
            raise InvalidRequest(
                f"reason: {message}", {"errors": [{"field": "reason", "message": message}]}
            )
        async with self._database.write() as session:
            persona = await PersonaRepository(session).find(name_or_id)
            require("reject", persona)
            persona.base_image_status = TRANSITIONS["reject"][1].value
            persona.rejection_reason = reason.strip()
        return await self.show(persona.id)


def allowed_actions(persona: PersonaModel) -> list[str]:
    """Return the actions that are allowed in a persona's state."""
    state = BaseImageStatus(persona.base_image_status)
    return [action for action, (sources, _) in TRANSITIONS.items() if state in sources]


def require(action: str, persona: PersonaModel) -> None:
    """Refuse an action that the table does not list for the persona's state.

    Raises:
        Conflict: naming the state and what is allowed.
    """
    allowed = allowed_actions(persona)
    if action not in allowed:
        raise Conflict(
            f"cannot {action} the base image of {persona.name} while it is "
            f"{persona.base_image_status}; allowed now: {', '.join(allowed) or 'nothing'}.",
            {"state": persona.base_image_status, "allowed_actions": allowed},
        )


def _current(view: BaseImageView, n: int | None) -> BaseImageVersionModel:
    current = view.current
    if current is None or (n is not None and n != current.n):
        raise Conflict(
            f"version {n} is not the current one of {view.persona.name}; "
            f"that is {current.n if current else 'none'}.",
            {"current_version": current.n if current else None},
        )
    return current


def _version(
    persona_id: str, sha256: str, result: Mapping[str, Any], prompt: str, actor: str
) -> BaseImageVersionModel:
    return BaseImageVersionModel(
        persona_id=persona_id,
        sha256=sha256,
        mime=f"image/{result['format']}",
        width=result["width"],
        height=result["height"],
        size_bytes=len(result["image_data"]),
        method="local" if result["provider"] == "local" else "cloud",
        provider=result["provider"],
        model=result["model"],
        kind=result["kind"],
        device=result["device"],
        seed=result["seed"],
        prompt=prompt,
        look=dict(result["prompt_report"].get("look", {})),
        receipt=dict(result["receipt"]),
        prompt_report=dict(result["prompt_report"]),
        seconds=sum(result["seconds"].values()),
        created_by=actor,
    )
