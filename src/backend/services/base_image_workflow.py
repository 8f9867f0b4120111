"""The base image's way from nothing to approved, and back.

`transitions.py` says what is allowed; `base_image_moves.py` makes a move and its entry in the audit
log in one transaction. Approval binds the bytes: the blob is read back and hashed, and version,
hash, approver and time are written in the transaction that locks the appearance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from backend.database.engine import Database
from backend.errors import Conflict
from backend.models.account import Actor
from backend.models.base import now
from backend.models.base_image import (
    BaseImageEventModel,
    BaseImageVersionModel,
    ConsentCreate,
    ConsentModel,
)
from backend.models.persona import BaseImageStatus
from backend.repositories.base_images import BaseImageRepository
from backend.repositories.events import EventRepository
from backend.repositories.personas import PersonaRepository
from backend.services.ai_models import AIModelManager
from backend.services.approval import Approval
from backend.services.base_image_moves import (
    NOT_APPROVED,
    Wanted,
    checked_reason,
    moving,
    named,
    require_revision,
    tombstone,
)
from backend.services.base_image_seeder import BaseImageSeeder
from backend.services.base_image_view import BaseImageView
from backend.services.blob_drop import drop_unreferenced
from backend.services.idempotency import Claim
from backend.services.seeding import BASE_PROMPT, Seeded
from backend.services.transitions import REVOKE, require, require_role
from backend.storage.blobs import BlobStore

__all__ = ["BASE_PROMPT", "BaseImageView", "BaseImageWorkflow"]


class BaseImageWorkflow:
    """Seeds, approves, rejects, unlocks and purges base images.

    Every method takes a persona by id or name, and raises `NotFound` where there is none. Those
    that change something take who acts, raise `Forbidden` where their role is too low, and
    `Conflict` where the state does not allow it. Those that take `expected_revision` raise
    `PreconditionFailed` where that is not the current one.

    Args:
        database: the studio's.
        blobs: where the bytes are kept.
        models: what renders.
        self_approval: `yes`, `no`, or `auto` for the owner of a single-user install alone.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        models: AIModelManager,
        *,
        self_approval: str = "auto",
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._seeder = BaseImageSeeder(database, blobs, models)
        self._self_approval = self_approval

    async def show(self, persona: str) -> BaseImageView:
        """Return where a persona's base image stands."""
        async with self._database.read() as session:
            found = await PersonaRepository(session).find(persona)
            images = BaseImageRepository(session)
            return BaseImageView(
                found, tuple(await images.of(found.id)), tuple(await images.consents(found.id))
            )

    async def image(self, persona: str, n: int) -> tuple[BaseImageVersionModel, bytes]:
        """Return a version and its bytes.

        Raises:
            NotFound: there is no such persona or version.
        """
        version = await self.version(persona, n)
        return version, await self._blobs.get(version.sha256)

    async def version(self, persona: str, n: int) -> BaseImageVersionModel:
        """Return a version.

        Raises:
            NotFound: there is no such persona or version.
        """
        async with self._database.read() as session:
            found = await PersonaRepository(session).find(persona)
            return await BaseImageRepository(session).get(found.id, n)

    async def events(
        self, persona: str, limit: int = 100, offset: int = 0
    ) -> tuple[Sequence[BaseImageEventModel], int]:
        """Return a page of what was done to a base image, oldest first, and how many there are."""
        async with self._database.read() as session:
            found = await PersonaRepository(session).find(persona)
            return await EventRepository(session).page(found.id, limit=limit, offset=offset)

    async def seed_local(
        self,
        persona: str,
        *,
        actor: Actor,
        count: int = 1,
        prompt: str | None = None,
        reference: bool = False,
        request_id: str | None = None,
        claim: Claim | None = None,
        **options: Any,
    ) -> BaseImageView:
        """Make new versions with a model of this machine.

        Those of several that fail are in the view's `failures`.

        Args:
            persona: by id or name.
            actor: who seeds.
            count: 1 to 8 candidates, made side by side over the devices.
            prompt: what the picture shows beside the persona; a plain portrait if left out.
            reference: start from the approved version's picture, else from the current one's.
            request_id: for the audit log.
            claim: the request's key, which is to name the version.
            **options: `seed`, `model`, `strength`, … as for a generated image.

        Raises:
            InvalidRequest: an option is wrong.
            GatorError: no picture could be made; the state is as it was.
        """
        made = await self._seeder.rendered(
            Wanted("seed", persona, actor, None, request_id, claim),
            local=True,
            count=count,
            prompt=prompt,
            reference=reference,
            options=options,
        )
        return await self._after_seed(*made)

    async def seed_cloud(
        self,
        persona: str,
        *,
        actor: Actor,
        count: int = 1,
        prompt: str | None = None,
        reference: bool = False,
        request_id: str | None = None,
        claim: Claim | None = None,
        **options: Any,
    ) -> BaseImageView:
        """Make new versions with a cloud's model; otherwise as `seed_local`.

        With `reference`, the picture that is started from is sent there too.

        Raises:
            ProviderNotConfigured: there is no cloud.
            InvalidRequest: an option is wrong.
            GatorError: no picture could be made; the state is as it was.
        """
        made = await self._seeder.rendered(
            Wanted("seed", persona, actor, None, request_id, claim),
            local=False,
            count=count,
            prompt=prompt,
            reference=reference,
            options=options,
        )
        return await self._after_seed(*made)

    async def seed_upload(
        self,
        persona: str,
        data: bytes,
        *,
        actor: Actor,
        consent: ConsentCreate | None = None,
        request_id: str | None = None,
        claim: Claim | None = None,
    ) -> BaseImageView:
        """Make a new version of a picture that was brought along.

        What is served is drawn anew, without metadata; the bytes as they came are kept privately.

        Raises:
            InvalidRequest: it is no picture that is accepted, or the consent has expired already.
            TooLarge: it is larger than is read.
        """
        wanted = Wanted("seed", persona, actor, None, request_id, claim)
        return await self._after_seed(*await self._seeder.uploaded(wanted, data, consent))

    async def approve(
        self,
        persona: str,
        n: int | None,
        *,
        actor: Actor,
        likeness_attestation: bool = False,
        expected_revision: int | None = None,
        request_id: str | None = None,
    ) -> BaseImageView:
        """Approve one of the current candidates, by default the last, and lock the appearance.

        Args:
            persona: by id or name.
            n: the version's number.
            actor: who approves.
            likeness_attestation: said of an upload: it shows this persona, and may be used so.
            expected_revision: what the decision was made on.
            request_id: for the audit log.

        Raises:
            Conflict: it is none of the candidates, or the leave to show a person does not hold.
            Forbidden: the role is too low, or who seeded it may not approve it too.
            InvalidRequest: an upload without attestation.
            StorageError: the blob's bytes are not those that were seeded.
        """
        wanted = Wanted("approve", persona, actor, expected_revision, request_id)
        approval = Approval(n, actor, likeness_attestation, self._self_approval)
        require_role(wanted.action, actor)
        async with self._database.read() as session:
            found = await PersonaRepository(session).find(persona)
            require_revision(found, expected_revision)
            versions = await BaseImageRepository(session).of(found.id)
            require(wanted.action, found, versions)
            chosen = await approval.candidate(session, found, versions)
        await self._blobs.get(chosen.sha256)
        approval = replace(approval, n=chosen.n)
        async with moving(self._database, wanted) as move:
            chosen = await approval.candidate(move.session, move.persona, move.versions)
            await move.make(
                approval.changes(move.persona, chosen),
                version=chosen.n,
                details={"sha256": chosen.sha256, "likeness_attestation": likeness_attestation},
            )
        return await self.show(found.id)

    async def reject(
        self,
        persona: str,
        reason: str,
        *,
        actor: Actor,
        expected_revision: int | None = None,
        request_id: str | None = None,
    ) -> BaseImageView:
        """Reject the draft; it waits for another seed, or to be reopened.

        Raises:
            InvalidRequest: no reason was given.
        """
        wanted = Wanted("reject", persona, actor, expected_revision, request_id)
        return await self._move(wanted, {"rejection_reason": reason}, reason)

    async def reopen(
        self,
        persona: str,
        *,
        actor: Actor,
        expected_revision: int | None = None,
        request_id: str | None = None,
    ) -> BaseImageView:
        """Make a rejected base image a draft again."""
        wanted = Wanted("reopen", persona, actor, expected_revision, request_id)
        return await self._move(wanted, {"rejection_reason": None}, None)

    async def unlock(
        self,
        persona: str,
        reason: str,
        *,
        actor: Actor,
        expected_revision: int | None = None,
        request_id: str | None = None,
    ) -> BaseImageView:
        """Take an approval back; the lock falls and the persona is a draft again.

        Raises:
            InvalidRequest: no reason was given.
        """
        wanted = Wanted("unlock", persona, actor, expected_revision, request_id)
        return await self._move(wanted, dict(NOT_APPROVED), reason)

    async def purge(
        self,
        persona: str,
        reason: str,
        *,
        actor: Actor,
        expected_revision: int | None = None,
        request_id: str | None = None,
    ) -> BaseImageView:
        """Delete all versions, their consents and their bytes; tombstones with the hashes stay.

        Bytes that something else refers to stay too.

        Raises:
            InvalidRequest: no reason was given.
        """
        wanted = Wanted("purge", persona, actor, expected_revision, request_id)
        require_role(wanted.action, actor)
        reason = checked_reason(reason)
        async with moving(self._database, wanted) as move:
            found, versions = move.persona, move.versions
            tombstones = [tombstone(version, actor, reason) for version in versions]
            await move.images.purge(tombstones, found.id)
            await move.make(
                {**NOT_APPROVED, "base_image_path": None, "rejection_reason": None},
                reason=reason,
                details={"versions": named(versions)},
            )
        hashes = [h for v in versions for h in (v.sha256, v.original_sha256) if h]
        await drop_unreferenced(self._database, self._blobs, hashes)
        return await self.show(found.id)

    async def revoke_consent(
        self,
        persona: str,
        consent_id: str,
        reason: str,
        *,
        actor: Actor,
        request_id: str | None = None,
    ) -> BaseImageView:
        """Take back the leave to show a person.

        Where the approved version came with it, the lock falls; running batches stop.

        Raises:
            NotFound: the persona has no such consent.
            InvalidRequest: no reason was given.
            Conflict: it was revoked before.
        """
        wanted = Wanted(REVOKE, persona, actor, None, request_id)
        require_role(wanted.action, actor)
        reason = checked_reason(reason)
        async with moving(self._database, wanted) as move:
            consent = await move.images.consent(move.persona.id, consent_id)
            _revoke(consent, actor, reason)
            live = BaseImageView(move.persona, tuple(move.versions)).approved
            falls = live is not None and live.consent_id == consent_id
            if falls:
                move.target = BaseImageStatus.DRAFT.value
            await move.make(
                dict(NOT_APPROVED) if falls else {},
                version=live.n if live and falls else None,
                reason=reason,
                details={"consent": consent_id, "unlocked": falls},
            )
        return await self.show(move.persona.id)

    async def _move(
        self, wanted: Wanted, changes: dict[str, Any], reason: str | None
    ) -> BaseImageView:
        require_role(wanted.action, wanted.actor)
        if reason is not None:
            reason = checked_reason(reason)
            changes = {k: reason if k == "rejection_reason" else v for k, v in changes.items()}
        async with moving(self._database, wanted) as move:
            current = move.versions[-1].n if move.versions else None
            version = move.persona.approved_version or current
            await move.make(changes, version=version, reason=reason)
        return await self.show(move.persona.id)

    async def _after_seed(self, persona_id: str, seeded: Seeded) -> BaseImageView:
        return (await self.show(persona_id))._replace(failures=tuple(seeded.failures))


def _revoke(consent: ConsentModel, actor: Actor, reason: str) -> None:
    if consent.revoked_at is not None:
        raise Conflict(f"this consent {consent.objection(now())}.", {"consent": consent.id})
    consent.revoked_at = now()
    consent.revoked_by = actor.name
    consent.revocation_reason = reason
