"""The one table of what may be done with a base image, and by whom.

Whatever it does not list is a `Conflict` that names the state and the actions allowed in it. The
database checks the moves between states a second time, by trigger (revision 0004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from backend.errors import Conflict, Forbidden
from backend.models.account import Actor, Role
from backend.models.base_image import BaseImageVersionModel
from backend.models.persona import BaseImageStatus, PersonaModel

PENDING = BaseImageStatus.PENDING_UPLOAD
DRAFT = BaseImageStatus.DRAFT
APPROVED = BaseImageStatus.APPROVED
REJECTED = BaseImageStatus.REJECTED


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table.

    Attributes:
        action: what is done.
        sources: the states it may be done in.
        target: the state it leads to.
        role: the lowest that may do it.
        needs_candidate: whether there has to be a version that approval could pick.
    """

    action: str
    sources: frozenset[BaseImageStatus]
    target: BaseImageStatus
    role: Role
    needs_candidate: bool = False


TRANSITIONS: Final = (
    Transition("seed", frozenset({PENDING, DRAFT, REJECTED}), DRAFT, Role.EDITOR),
    # beside an approved version a seed makes candidates; the approved one stays live
    Transition("seed", frozenset({APPROVED}), APPROVED, Role.EDITOR),
    Transition("approve", frozenset({DRAFT, APPROVED}), APPROVED, Role.APPROVER, True),
    Transition("reject", frozenset({DRAFT}), REJECTED, Role.APPROVER),
    Transition("reopen", frozenset({REJECTED}), DRAFT, Role.APPROVER),
    Transition("unlock", frozenset({APPROVED}), DRAFT, Role.APPROVER),
    Transition("purge", frozenset(BaseImageStatus), PENDING, Role.OWNER),
)

REVOKE: Final = "revoke_consent"
"""Done to a consent, in any state; where the approved version came with it, the lock falls."""
REVOKE_ROLE: Final = Role.APPROVER


def require_role(action: str, actor: Actor) -> None:
    """Refuse an actor whose role is too low for an action.

    Raises:
        Forbidden: naming the role that it takes.
    """
    lowest = min((row.role for row in TRANSITIONS if row.action == action), default=REVOKE_ROLE)
    if actor.role < lowest:
        raise Forbidden(
            f"to {action.replace('_', ' ')} takes the role {lowest.name.lower()}; "
            f"{actor.name} is {actor.role.name.lower()}.",
            {"action": action, "role": actor.role.name.lower(), "needed": lowest.name.lower()},
        )


def candidates(
    persona: PersonaModel, versions: Sequence[BaseImageVersionModel]
) -> list[BaseImageVersionModel]:
    """Return the versions that approval may pick: those of the last seed.

    While one is approved, only what was seeded after it is a candidate.

    Args:
        persona: in any state.
        versions: all of the persona's, oldest first.
    """
    status = BaseImageStatus(persona.base_image_status)
    if not versions or status not in {DRAFT, APPROVED}:
        return []
    group = [v for v in versions if v.seed_group == versions[-1].seed_group]
    if status is APPROVED and group[0].n <= (persona.approved_version or 0):
        return []
    return group


def allowed_actions(persona: PersonaModel, versions: Sequence[BaseImageVersionModel]) -> list[str]:
    """Return the actions that are allowed in a persona's state, in the table's order."""
    status = BaseImageStatus(persona.base_image_status)
    can_approve = bool(candidates(persona, versions))
    return [
        row.action
        for row in TRANSITIONS
        if status in row.sources and (can_approve or not row.needs_candidate)
    ]


def require(
    action: str, persona: PersonaModel, versions: Sequence[BaseImageVersionModel]
) -> BaseImageStatus:
    """Return the state that an action leads to from here.

    Raises:
        Conflict: the table does not list it; names the state and what is allowed.
    """
    status = BaseImageStatus(persona.base_image_status)
    if action == REVOKE:
        return status
    allowed = allowed_actions(persona, versions)
    if action not in allowed:
        raise Conflict(
            f"cannot {action} the base image of {persona.name} while it is {status.value}; "
            f"allowed now: {', '.join(allowed)}.",
            {"state": status.value, "allowed_actions": allowed},
        )
    return next(row.target for row in TRANSITIONS if row.action == action and status in row.sources)
