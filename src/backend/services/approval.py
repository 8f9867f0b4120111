"""What approval asks of a version, and what it writes into the persona's row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from backend.errors import Conflict, Forbidden, InvalidRequest
from backend.models.account import LOCAL_OWNER, Actor
from backend.models.base import now
from backend.models.base_image import BaseImageVersionModel
from backend.models.persona import PersonaModel
from backend.repositories.base_images import BaseImageRepository
from backend.services.transitions import candidates


@dataclass(frozen=True, slots=True)
class Approval:
    """One actor's approval of one persona's candidate.

    Attributes:
        n: the version's number; `None` for the last candidate.
        attested: whether the actor says of an upload that it shows this persona and may be used.
        self_approval: `yes`, `no` or `auto`, as configured.
    """

    n: int | None
    actor: Actor
    attested: bool
    self_approval: str

    async def candidate(
        self,
        session: AsyncSession,
        persona: PersonaModel,
        versions: Sequence[BaseImageVersionModel],
    ) -> BaseImageVersionModel:
        """Return the version to approve, once everything but its bytes is checked.

        Raises:
            Conflict: it is none of the candidates, or the leave to show a person does not hold.
            Forbidden: who seeded it may not approve it too.
            InvalidRequest: an upload without attestation.
        """
        version = self._chosen(persona, versions)
        if version.created_by == self.actor.name and not self._approves_own():
            raise Forbidden(
                f"{self.actor.name} seeded version {version.n}; somebody else has to approve it "
                "(GATOR_SELF_APPROVAL).",
                {"version": version.n, "created_by": version.created_by},
            )
        consent = await BaseImageRepository(session).consent_of(version)
        if consent is not None and (objection := consent.objection(now())):
            raise Conflict(
                f"version {version.n} cannot be approved: its consent {objection}.",
                {"state": persona.base_image_status, "consent": consent.id},
            )
        if version.method == "upload" and not self.attested:
            message = "is required of an upload: say that it shows this persona and may be used"
            raise InvalidRequest(
                f"likeness_attestation: {message}",
                {"errors": [{"field": "likeness_attestation", "message": message}]},
            )
        return version

    def changes(self, persona: PersonaModel, version: BaseImageVersionModel) -> dict[str, Any]:
        """Return what the persona's row says once the version is approved."""
        described = persona.base_appearance_description or persona.appearance
        return {
            "appearance_locked": True,
            "base_appearance_description": described,
            "base_image_path": blob_path(version.sha256),
            "approved_version": version.n,
            "approved_sha256": version.sha256,
            "approved_by": self.actor.name,
            "approved_at": now(),
            "rejection_reason": None,
        }

    def _approves_own(self) -> bool:
        if self.self_approval == "auto":
            return self.actor == LOCAL_OWNER
        return self.self_approval == "yes"

    def _chosen(
        self, persona: PersonaModel, versions: Sequence[BaseImageVersionModel]
    ) -> BaseImageVersionModel:
        current = candidates(persona, versions)
        if self.n is None:
            return current[-1]
        for version in current:
            if version.n == self.n:
                return version
        numbers = [version.n for version in current]
        raise Conflict(
            f"version {self.n} is not the current one of {persona.name}; to be approved now: "
            f"{', '.join(map(str, numbers))}.",
            {"state": persona.base_image_status, "candidates": numbers},
        )


def blob_path(sha256: str) -> str:
    """Return where a blob lies below the home folder of a studio that keeps its blobs there."""
    return f"blobs/{sha256[:2]}/{sha256[2:]}"
