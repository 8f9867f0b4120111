"""`gator base-image`: from nothing to an approved look, and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli.output import AsJson, print_fields, print_json, print_line, print_table
from backend.cli.persona import PersonaName

if TYPE_CHECKING:
    from backend.bootstrap import Studio
    from backend.models.base_image import BaseImageEventModel, ConsentCreate
    from backend.services.base_image_view import BaseImageView

app = typer.Typer(
    help="Seed, approve, reject and take back base images.",
    no_args_is_help=True,
)
Reason = Annotated[str, typer.Option(help="Why; the audit log keeps it.")]


@app.command()
def seed(
    persona: PersonaName,
    count: Annotated[int, typer.Option(help="Candidates side by side, 1 to 8.")] = 1,
    cloud: Annotated[bool, typer.Option("--cloud", help="At the configured provider.")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="With --cloud: say what it costs, and stop.")
    ] = False,
    reference: Annotated[
        bool, typer.Option("--reference", help="Start from the approved or current picture.")
    ] = False,
    strength: Annotated[
        float | None, typer.Option(help="With --reference: how far to go from it, 0.01 to 0.99.")
    ] = None,
    random_seed: Annotated[
        int | None, typer.Option("--seed", help="The noise's seed; drawn if left out.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="An image model's name.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What it shows beside the persona.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make new versions with a model of this machine, or of a cloud."""
    from backend.bootstrap import LOCAL_OWNER
    from backend.cli.running import in_studio

    if estimate and not cloud:
        raise typer.BadParameter("--estimate goes with --cloud.")
    if estimate:
        report = in_studio(lambda studio: studio.spending.report(count))
        (print_json if as_json else print_fields)(report.model_dump(mode="json"))
        return
    options: dict[str, Any] = {
        "count": count,
        "prompt": prompt,
        "reference": reference,
        "strength": strength,
        "seed": random_seed,
        "model": model,
    }

    async def work(studio: Studio) -> BaseImageView:
        if cloud:
            await studio.spending.check(count)
            return await studio.base_images.seed_cloud(persona, actor=LOCAL_OWNER, **options)
        return await studio.base_images.seed_local(persona, actor=LOCAL_OWNER, **options)

    _show(in_studio(work), as_json=as_json)


@app.command()
def upload(
    persona: PersonaName,
    file: Annotated[Path, typer.Argument(help="PNG, JPEG or WebP, at most 20 MiB.")],
    subject: Annotated[
        str | None, typer.Option("--consent-subject", help="The real person who is shown.")
    ] = None,
    granted_by: Annotated[
        str | None, typer.Option("--consent-granted-by", help="By whose leave.")
    ] = None,
    note: Annotated[
        str | None, typer.Option("--consent-note", help="Where the leave is kept.")
    ] = None,
    expires_at: Annotated[
        datetime | None, typer.Option("--consent-expires-at", help="Until when it holds, in UTC.")
    ] = None,
    real_person: Annotated[
        bool | None,
        typer.Option(
            "--consent-real-person/--consent-no-real-person", help="Whether one is shown."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new version of a picture of your own; it is drawn anew, without its metadata."""
    from backend.bootstrap import LOCAL_OWNER

    consent = _consent(real_person, subject, granted_by, note, expires_at)
    data = _read(file)
    _do(
        lambda studio: studio.base_images.seed_upload(
            persona, data, actor=LOCAL_OWNER, consent=consent
        ),
        as_json=as_json,
    )


@app.command()
def approve(
    persona: PersonaName,
    version: Annotated[int | None, typer.Option(help="Default: the current one.")] = None,
    likeness_attestation: Annotated[
        bool,
        typer.Option(
            "--likeness-attestation",
            help="Required of an upload: it shows this persona, and may be used so.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Approve a candidate and lock the appearance."""
    from backend.bootstrap import LOCAL_OWNER

    _do(
        lambda studio: studio.base_images.approve(
            persona, version, actor=LOCAL_OWNER, likeness_attestation=likeness_attestation
        ),
        as_json=as_json,
    )


@app.command()
def reject(persona: PersonaName, reason: Reason, as_json: AsJson = False) -> None:
    """Reject the draft; it waits for another seed, or to be reopened."""
    from backend.bootstrap import LOCAL_OWNER

    _do(
        lambda studio: studio.base_images.reject(persona, reason, actor=LOCAL_OWNER),
        as_json=as_json,
    )


@app.command()
def reopen(persona: PersonaName, as_json: AsJson = False) -> None:
    """Make a rejected base image a draft again."""
    from backend.bootstrap import LOCAL_OWNER

    _do(
        lambda studio: studio.base_images.reopen(persona, actor=LOCAL_OWNER),
        as_json=as_json,
    )


@app.command()
def unlock(persona: PersonaName, reason: Reason, as_json: AsJson = False) -> None:
    """Take an approval back; the lock falls."""
    from backend.bootstrap import LOCAL_OWNER

    _do(
        lambda studio: studio.base_images.unlock(persona, reason, actor=LOCAL_OWNER),
        as_json=as_json,
    )


@app.command()
def purge(persona: PersonaName, reason: Reason, as_json: AsJson = False) -> None:
    """Delete all versions and their pictures for good; tombstones stay."""
    from backend.bootstrap import LOCAL_OWNER

    _do(
        lambda studio: studio.base_images.purge(persona, reason, actor=LOCAL_OWNER),
        as_json=as_json,
    )


@app.command("revoke-consent")
def revoke_consent(
    persona: PersonaName,
    consent: Annotated[str, typer.Argument(help="Its id, as `show` tells it.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Take back the leave to show a person; where it was approved by it, the lock falls."""
    from backend.bootstrap import LOCAL_OWNER

    _do(
        lambda studio: studio.base_images.revoke_consent(
            persona, consent, reason, actor=LOCAL_OWNER
        ),
        as_json=as_json,
    )


@app.command()
def show(
    persona: PersonaName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a version's picture.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="Whose picture; default: the current one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show where the base image stands and what may be done now."""
    from backend.cli.running import in_studio
    from backend.errors import NotFound
    from backend.storage.home import write_bytes

    async def work(studio: Studio) -> BaseImageView:
        view = await studio.base_images.show(persona)
        if output:
            if view.current is None:
                raise NotFound(f"{view.persona.name} has no base image yet.")
            _, data = await studio.base_images.image(view.persona.id, version or view.current.n)
            write_bytes(output, data)
        return view

    _show(in_studio(work), as_json=as_json)


@app.command()
def events(
    persona: PersonaName,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many at most.")] = 100,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out first.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List what was done to the base image, oldest first: who, when and why."""
    from backend.cli.running import in_studio

    found, total = in_studio(
        lambda studio: studio.base_images.events(persona, limit=limit, offset=offset)
    )
    if as_json:
        print_json({"events": [_event(one) for one in found], "total": total})
        return
    print_table(
        ("at", "actor", "action", "from", "to", "version", "reason"),
        (
            (f"{e.at:%Y-%m-%d %H:%M:%S}", e.actor, e.action, e.from_status, e.to_status,
             e.version, e.reason)
            for e in found
        ),
    )  # fmt: skip


def _event(event: BaseImageEventModel) -> dict[str, Any]:
    from backend.models.base_image import BaseImageEventResponse

    return BaseImageEventResponse.model_validate(event).model_dump(mode="json", by_alias=True)


def _do(work: Callable[[Studio], Awaitable[BaseImageView]], *, as_json: bool) -> None:
    from backend.cli.running import in_studio

    _show(in_studio(work), as_json=as_json)


def _read(file: Path) -> bytes:
    """Read a picture; one beyond the cap is not read to its end."""
    from backend.errors import InvalidRequest
    from backend.imaging.intake import MAX_UPLOAD_BYTES

    try:
        with file.open("rb") as opened:
            return opened.read(MAX_UPLOAD_BYTES + 1)
    except OSError as exc:
        message = f"cannot be read: {exc.strerror}"
        raise InvalidRequest(
            f"{file} {message}.", {"errors": [{"field": "file", "message": message}]}
        ) from exc


def _consent(
    real_person: bool | None,
    subject: str | None,
    granted_by: str | None,
    note: str | None,
    expires_at: datetime | None,
) -> ConsentCreate | None:
    """Put the leave together; `None` where nothing was said."""
    from pydantic import ValidationError

    from backend.errors import InvalidRequest
    from backend.models.base_image import ConsentCreate

    if all(one is None for one in (real_person, subject, granted_by, note, expires_at)):
        return None
    shown = bool(subject or granted_by) if real_person is None else real_person
    try:
        return ConsentCreate(
            real_person=shown,
            person=subject,
            granted_by=granted_by,
            note=note,
            expires_at=expires_at and expires_at.replace(tzinfo=UTC),
        )
    except ValidationError as exc:
        faults = [{"field": "consent", "message": str(error["msg"])} for error in exc.errors()]
        message = "; ".join(fault["message"] for fault in faults)
        raise InvalidRequest(f"consent: {message}", {"errors": faults}) from exc


def _show(view: BaseImageView, *, as_json: bool) -> None:
    values: dict[str, Any] = view.response().model_dump(mode="json")
    if as_json:
        print_json(values)
        return
    versions, failures, consents = (
        values.pop(name) for name in ("versions", "failures", "consents")
    )
    print_fields(values | {"persona": view.persona.name})
    print_table(
        ("version", "method", "model", "seed", "size", "sha256", "by"),
        (
            (v["n"], v["method"], v["model"], v["seed"], f"{v['width']}x{v['height']}",
             v["sha256"][:12], v["created_by"])
            for v in versions
        ),
    )  # fmt: skip
    for failure in failures:
        print_line(f"seed {failure['seed']} failed: {failure['message']}")
    if consents:
        print_table(
            ("consent", "person", "granted by", "expires", "revoked"),
            (
                (c["id"], c["person"], c["granted_by"], c["expires_at"], c["revoked_at"])
                for c in consents
            ),
        )
