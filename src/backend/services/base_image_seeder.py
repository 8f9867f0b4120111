"""Seeds: a picture is made or accepted first, then stored, then added in one short transaction."""

from __future__ import annotations

from typing import Any

from backend.database.engine import Database
from backend.errors import InvalidRequest
from backend.imaging.intake import accept_picture_in_turn
from backend.models.base import now
from backend.models.base_image import BaseImageVersionModel, ConsentCreate
from backend.repositories.base_images import BaseImageRepository
from backend.repositories.personas import PersonaRepository
from backend.services import seeding
from backend.services.ai_models import AIModelManager
from backend.services.base_image_moves import Wanted
from backend.services.base_image_view import BaseImageView
from backend.services.seeding import Asked, Seeded
from backend.services.transitions import require, require_role
from backend.services.version_store import VersionStore
from backend.storage.blobs import BlobStore


class BaseImageSeeder:
    """Adds versions; nothing changes before the last step, so what fails leaves no trace."""

    def __init__(self, database: Database, blobs: BlobStore, models: AIModelManager) -> None:
        self._database = database
        self._blobs = blobs
        self._models = models
        self._versions = VersionStore(database, blobs)

    async def rendered(
        self,
        wanted: Wanted,
        *,
        local: bool,
        count: int,
        prompt: str | None,
        reference: bool,
        options: dict[str, Any],
    ) -> tuple[str, Seeded]:
        """Have candidates made and add them; return the persona's id and what was made.

        Raises:
            Forbidden: the role is too low.
            InvalidRequest: an option is wrong.
            GatorError: no picture could be made.
        """
        seeding.check_count(count)
        view = await self._view(wanted)
        start = await self._reference(view) if reference else None
        asked = Asked(local, count, prompt, start, options)
        seeded = await seeding.render(self._models, view.persona, asked, wanted.actor.name)
        await self._versions.add(wanted, seeded, None)
        return view.persona.id, seeded

    async def uploaded(
        self, wanted: Wanted, data: bytes, consent: ConsentCreate | None
    ) -> tuple[str, Seeded]:
        """Accept a picture and add it; return the persona's id and the version.

        Raises:
            Forbidden: the role is too low.
            InvalidRequest: it is no picture that is accepted, or the consent has expired already.
            TooLarge: it is larger than is read.
        """
        view = await self._view(wanted)
        refuse_expired(consent)
        accepted = await accept_picture_in_turn(data)
        picture = seeding.brought(
            view.persona.id,
            accepted.data,
            data,
            wanted.actor.name,
            method="upload",
            mime=accepted.mime,
            width=accepted.width,
            height=accepted.height,
            receipt={"original_mime": accepted.original_mime},
        )
        seeded = Seeded([picture], [])
        await self._versions.add(wanted, seeded, consent)
        return view.persona.id, seeded

    async def _view(self, wanted: Wanted) -> BaseImageView:
        """Return the persona with those of its versions that a seed may start from."""
        require_role(wanted.action, wanted.actor)
        async with self._database.read() as session:
            persona = await PersonaRepository(session).find(wanted.persona)
            images = BaseImageRepository(session)
            versions = list(await images.last_seed(persona.id))
            live = persona.approved_version
            if live is not None and all(version.n != live for version in versions):
                versions.insert(0, await images.get(persona.id, live))
            view = BaseImageView(persona, tuple(versions))
        require(wanted.action, view.persona, view.versions)
        return view

    async def _reference(self, view: BaseImageView) -> tuple[BaseImageVersionModel, bytes]:
        version = view.approved or view.current
        if version is None:
            message = "there is no version to start from; seed one without it first"
            raise InvalidRequest(
                f"reference: {message}", {"errors": [{"field": "reference", "message": message}]}
            )
        return version, await self._blobs.get(version.sha256)


def refuse_expired(consent: ConsentCreate | None) -> None:
    """Refuse a leave that does not hold any more.

    Raises:
        InvalidRequest: naming the field.
    """
    if consent is not None and consent.expires_at is not None and consent.expires_at <= now():
        message = "is in the past"
        raise InvalidRequest(
            f"expires_at: {message}", {"errors": [{"field": "expires_at", "message": message}]}
        )
