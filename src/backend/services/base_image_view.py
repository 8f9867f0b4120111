"""A persona's base image at one moment: the row, its versions, and what may be done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from backend.models.base_image import (
    BaseImageResponse,
    BaseImageVersionModel,
    BaseImageVersionResponse,
    ConsentModel,
    ConsentResponse,
    SeedFailure,
)
from backend.models.persona import BaseImageStatus, PersonaModel
from backend.services import transitions


class BaseImageView(NamedTuple):
    """A persona and all its versions, oldest first; `failures` are those of the seed just done."""

    persona: PersonaModel
    versions: tuple[BaseImageVersionModel, ...]
    consents: tuple[ConsentModel, ...] = ()
    failures: Sequence[SeedFailure] = ()

    @property
    def current(self) -> BaseImageVersionModel | None:
        """The version that was seeded last."""
        return self.versions[-1] if self.versions else None

    @property
    def approved(self) -> BaseImageVersionModel | None:
        """The version that is live, while one is."""
        wanted = self.persona.approved_version
        return next((v for v in self.versions if v.n == wanted), None)

    @property
    def candidates(self) -> list[BaseImageVersionModel]:
        """The versions that approval may pick."""
        return transitions.candidates(self.persona, self.versions)

    @property
    def allowed_actions(self) -> list[str]:
        """What may be done in this state."""
        return transitions.allowed_actions(self.persona, self.versions)

    def response(self) -> BaseImageResponse:
        """Return the view as the API and the CLI show it."""
        persona = self.persona
        return BaseImageResponse(
            persona_id=persona.id,
            revision=persona.revision,
            status=BaseImageStatus(persona.base_image_status),
            allowed_actions=self.allowed_actions,
            current_version=self.current.n if self.current else None,
            approved_version=persona.approved_version,
            approved_sha256=persona.approved_sha256,
            approved_by=persona.approved_by,
            approved_at=persona.approved_at,
            rejection_reason=persona.rejection_reason,
            candidates=[version.n for version in self.candidates],
            failures=list(self.failures),
            versions=[BaseImageVersionResponse.model_validate(v) for v in self.versions],
            consents=[ConsentResponse.model_validate(c) for c in self.consents],
        )
