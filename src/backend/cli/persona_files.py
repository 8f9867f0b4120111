"""`gator persona import` and `export`: persona files, character cards, elizaOS characters."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli.output import AsJson, print_json, print_line, print_note

if TYPE_CHECKING:
    from backend.bootstrap import Studio
    from backend.models.persona import PersonaModel
    from backend.services.card_plan import CardPlan
    from backend.services.card_service import ImportedCard


class FileFormat(StrEnum):
    """As what a persona is written."""

    TOML = "toml"
    V2 = "v2"
    V3 = "v3"
    PNG = "png"
    CHARX = "charx"
    ELIZA = "eliza"


_BINARY = (FileFormat.PNG, FileFormat.CHARX)


def import_files(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Persona files (TOML), character cards (JSON, PNG, .charx), elizaOS characters."
        ),
    ],
    base_image: Annotated[
        bool, typer.Option("--base-image", help="Make a card's picture a candidate to approve.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create personas from files; where one is faulty, every fault is listed and none is made."""
    from backend.cli.running import in_studio
    from backend.services.card_plan import plan_files

    plans = plan_files(files)

    async def work(studio: Studio) -> list[PersonaModel | ImportedCard]:
        made = await studio.cards.create_all(plans)
        return [
            await _imported(studio, persona, plan, base_image=base_image)
            for persona, plan in zip(made, plans, strict=True)
        ]

    imported = in_studio(work)
    if as_json:
        print_json(_as_dict(imported))
        return
    for one in imported:
        _tell(one)


def export(
    persona: Annotated[str, typer.Argument(metavar="PERSONA", help="A persona's name or id.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: stdout.")] = None,
    file_format: Annotated[
        FileFormat,
        typer.Option(
            "--format",
            help="Gator's own TOML; a character card as JSON (v2, v3), in the approved picture "
            "(png) or with all that belongs to it (charx); an elizaOS character (eliza).",
        ),
    ] = FileFormat.TOML,
    as_json: AsJson = False,
) -> None:
    """Write a persona as a file that `import` reads."""
    from backend.cli.running import in_studio
    from backend.errors import InvalidRequest
    from backend.storage.home import write_bytes

    if file_format in _BINARY and not output and (as_json or sys.stdout.isatty()):
        message = f"is needed for {file_format}; name a file"
        raise InvalidRequest(
            f"--output: {message}", {"errors": [{"field": "output", "message": message}]}
        )
    data = in_studio(lambda studio: _exported(studio, persona, file_format))
    if output:
        write_bytes(output, data)
    if as_json:
        text = {} if file_format in _BINARY else {_key(file_format): data.decode()}
        print_json({**text, "file": str(output.absolute()) if output else None})
    elif not output and file_format in _BINARY:
        sys.stdout.buffer.write(data)
    elif not output:
        print_line(data.decode().rstrip())


def _key(file_format: FileFormat) -> str:
    return "toml" if file_format is FileFormat.TOML else "card"


async def _exported(studio: Studio, persona: str, file_format: FileFormat) -> bytes:
    from backend.services.card_service import CardKind
    from backend.services.persona_service import persona_as_toml

    if file_format is FileFormat.TOML:
        return persona_as_toml(await studio.personas.find(persona)).encode()
    return (await studio.cards.export(persona, CardKind(file_format.value))).data


async def _imported(
    studio: Studio, persona: PersonaModel, plan: Any, *, base_image: bool
) -> PersonaModel | ImportedCard:
    from backend.bootstrap import LOCAL_OWNER
    from backend.services.card_plan import CardPlan
    from backend.services.card_service import ImportedCard

    if not isinstance(plan, CardPlan):
        return persona
    if not base_image:
        return ImportedCard(persona, plan)
    return await studio.cards.seed(persona, plan, actor=LOCAL_OWNER)


def _as_dict(imported: list[PersonaModel | ImportedCard]) -> dict[str, Any]:
    from backend.models.persona import PersonaResponse
    from backend.services.card_service import ImportedCard

    personas = [one.persona if isinstance(one, ImportedCard) else one for one in imported]
    cards = [one for one in imported if isinstance(one, ImportedCard)]
    return {
        "personas": [
            PersonaResponse.model_validate(persona).model_dump(mode="json") for persona in personas
        ],
        "cards": [
            {"persona_id": one.persona.id, **_report(one.plan), "ignored": _ignored(one)}
            for one in cards
        ],
    }


def _report(plan: CardPlan) -> dict[str, Any]:
    return {
        "format": plan.file.card.format.value,
        "container": plan.file.container.value,
        "spec_version": plan.spec_version,
        "sources": plan.sources,
        "kept": list(plan.kept),
    }


def _ignored(one: ImportedCard) -> list[dict[str, str]]:
    notes = [*one.plan.ignored, *([one.refusal] if one.refusal else [])]
    return [note._asdict() for note in notes]


def _tell(one: PersonaModel | ImportedCard) -> None:
    from backend.services.card_service import ImportedCard

    if not isinstance(one, ImportedCard):
        print_line(f"created {one.name} ({one.id})")
        return
    plan = one.plan
    kind = f"{plan.file.card.format} card, {plan.file.container}"
    print_line(f"created {one.persona.name} ({one.persona.id}) from a {kind}")
    if plan.kept:
        print_note(f"  kept for an export: {', '.join(plan.kept)}")
    for note in _ignored(one):
        print_note(f"  {note['field']}: {note['reason']}")
    if one.base_image:
        print_line("  its picture is a candidate: `gator base-image approve` it, or reject it")
