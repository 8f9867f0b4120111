"""`gator persona`: write, read and change personas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli import persona_files
from backend.cli.output import AsJson, print_fields, print_json, print_table

if TYPE_CHECKING:
    from backend.bootstrap import Studio
    from backend.models.persona import PersonaModel

app = typer.Typer(help="Write, read and change personas.", no_args_is_help=True)

app.command("import")(persona_files.import_files)
app.command()(persona_files.export)

PersonaName = Annotated[str, typer.Argument(metavar="PERSONA", help="A persona's name or id.")]
Name = Annotated[str | None, typer.Option(help="What it is called.")]
Appearance = Annotated[str | None, typer.Option(help="What it looks like, in free words.")]
Personality = Annotated[str | None, typer.Option(help="Comma-separated traits.")]
Themes = Annotated[
    list[str] | None, typer.Option("--theme", help="What it speaks about; may be repeated.")
]
Aesthetic = Annotated[str | None, typer.Option(help="What it likes to look at.")]
VoiceStyle = Annotated[str | None, typer.Option(help="How it speaks.")]
Tone = Annotated[str | None, typer.Option(help="In which tone.")]
Description = Annotated[str | None, typer.Option(help="The base appearance, described.")]


@app.command()
def new(
    name: Name = None,
    appearance: Appearance = None,
    personality: Personality = None,
    theme: Themes = None,
    aesthetic: Aesthetic = None,
    voice_style: VoiceStyle = None,
    tone: Tone = None,
    description: Description = None,
    as_json: AsJson = False,
) -> None:
    """Write a new persona."""
    from backend.cli.running import in_studio
    from backend.services.persona_service import parse_persona

    values = _values(name, appearance, personality, theme, aesthetic, voice_style, tone)
    if description is not None:
        values["base_appearance_description"] = description
    persona = parse_persona(values, "persona")
    _show(in_studio(lambda studio: studio.personas.create(persona)), as_json=as_json)


@app.command("list")
def list_personas(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100, as_json: AsJson = False
) -> None:
    """List the personas, oldest first."""
    from backend.cli.running import in_studio

    personas, total = in_studio(lambda studio: studio.personas.page(limit=limit))
    if as_json:
        print_json({"personas": [_as_dict(persona) for persona in personas], "total": total})
        return
    print_table(
        ("name", "base image", "personality", "id"),
        ((p.name, p.base_image_status, p.personality, p.id) for p in personas),
    )


@app.command()
def show(persona: PersonaName, as_json: AsJson = False) -> None:
    """Show one persona."""
    from backend.cli.running import in_studio

    _show(in_studio(lambda studio: studio.personas.find(persona)), as_json=as_json)


@app.command()
def edit(
    persona: PersonaName,
    name: Name = None,
    appearance: Appearance = None,
    personality: Personality = None,
    theme: Themes = None,
    aesthetic: Aesthetic = None,
    voice_style: VoiceStyle = None,
    tone: Tone = None,
    description: Description = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given and leave the rest; approval locks the appearance."""
    from backend.cli.running import in_studio
    from backend.services.persona_service import parse_changes

    values = _values(name, appearance, personality, theme, aesthetic, voice_style, tone)
    if description is not None:
        values["base_appearance_description"] = description

    async def work(studio: Studio) -> PersonaModel:
        before = await studio.personas.find(persona)
        if "style_preferences" in values:
            values["style_preferences"] = before.style_preferences | values["style_preferences"]
        return await studio.personas.update(before.id, parse_changes(values, "persona"))

    _show(in_studio(work), as_json=as_json)


def _values(
    name: str | None,
    appearance: str | None,
    personality: str | None,
    themes: list[str] | None,
    aesthetic: str | None,
    voice_style: str | None,
    tone: str | None,
) -> dict[str, Any]:
    style = {"aesthetic": aesthetic, "voice_style": voice_style, "tone": tone}
    given = {
        "name": name,
        "appearance": appearance,
        "personality": personality,
        "content_themes": themes or None,
        "style_preferences": {k: v for k, v in style.items() if v is not None} or None,
    }
    return {field: value for field, value in given.items() if value is not None}


def _as_dict(persona: PersonaModel) -> dict[str, Any]:
    from backend.models.persona import PersonaResponse

    return PersonaResponse.model_validate(persona).model_dump(mode="json")


def _show(persona: PersonaModel, *, as_json: bool) -> None:
    (print_json if as_json else print_fields)(_as_dict(persona))
