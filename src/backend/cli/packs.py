"""`gator packs`: what the phrase packs hold, what is wrong with them, and how long they last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli.output import AsJson, print_json, print_line, print_table

if TYPE_CHECKING:
    from backend.bootstrap import Studio
    from backend.captions.brief import Brief
    from backend.captions.health import Health
    from backend.captions.lint import LintFinding
    from backend.captions.packs import Library
    from backend.models.persona import PersonaModel

app = typer.Typer(help="Check, preview and measure phrase packs.", no_args_is_help=True)

Folder = Annotated[
    list[Path] | None,
    typer.Option("--folder", help="Packs of one's own to lay over the shipped ones."),
]
Locale = Annotated[
    str | None, typer.Option(help="One locale, such as en; otherwise all there are.")
]
Prompt = Annotated[str, typer.Option(help="What the captions are about.")]
Style = Annotated[str, typer.Option(help="creative, professional, tech or casual.")]
DEFAULT_PROMPT = "a quiet bookshop in the rain"
GRAMMAR_SEEDS = 30


@app.command()
def lint(
    folder: Folder = None,
    locale: Locale = None,
    grammar: Annotated[bool, typer.Option(help="Ask the grammar checker too.")] = True,
    accept: Annotated[
        bool, typer.Option("--accept", help="Take the shipped packs' captions as they are now.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with the packs; exit 1 where something is."""
    from backend.captions import golden
    from backend.captions.lint import lint_library
    from backend.captions.packs import Library

    library, shipped = _library(folder), Library()
    locales = (locale,) if locale else library.locales()
    if accept:
        golden.accept(shipped)
    found = list(lint_library(library, locales))
    for name in locales:
        found += golden.changed(shipped, name)
    if grammar:
        found += _grammar_findings(library, locales)
    if as_json:
        print_json(
            {"findings": [{"code": f.code, "where": f.where, "detail": f.detail} for f in found]}
        )
    else:
        for finding in found:
            print_line(f"{finding.where}: {finding.code}: {finding.detail}")
        print_line(f"{len(found)} findings in {', '.join(locales)}.")
    raise typer.Exit(1 if found else 0)


@app.command()
def preview(
    style: Style = "casual",
    locale: Annotated[str, typer.Option(help="The captions' language.")] = "en",
    prompt: Prompt = DEFAULT_PROMPT,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1_000)] = 10,
    seed: Annotated[int, typer.Option(help="Of the first caption; the others' follow.")] = 0,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Write captions of a style, as a persona of that style would."""
    from backend.captions.composer import compose
    from backend.captions.memory import Memory

    library, memory = _library(folder), Memory()
    written = []
    for number in range(count):
        caption = compose(_brief(style, locale, prompt, seed + number), memory, library)
        memory.add(caption.said)
        written.append(caption)
    if as_json:
        print_json(
            {"captions": [{"seed": c.seed, "plan": c.plan, "text": c.text} for c in written]}
        )
        return
    for caption in written:
        print_line(f"[{caption.seed} · {caption.plan}]\n{caption.text}\n")


@app.command()
def health(
    prompt: Prompt = DEFAULT_PROMPT,
    persona: Annotated[
        list[str] | None,
        typer.Option(help="A persona's name or id; several may be given. Else each style's."),
    ] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Say from how many captions on a prompt one is drawn, and which slots are weakest."""
    from backend.captions.health import measure

    library = _library(folder)
    briefs = _briefs_of(persona, prompt) if persona else _briefs_of_styles(library, prompt)
    rows = [(brief.voice.name, brief.voice.locale, measure(brief, library)) for brief in briefs]
    if as_json:
        print_json({"packs": [_health_values(*row) for row in rows]})
        return
    print_table(
        (
            "of",
            "locale",
            "style",
            "topic",
            "collision space",
            "first repeat after",
            "weakest slots",
        ),
        (
            (
                name,
                locale,
                health.style,
                health.kind,
                f"{health.collision_space:.3g}",
                f"{health.first_repeat:,.0f}",
                ", ".join(f"{slot.slot} {slot.effective:.0f}" for slot in health.weakest),
            )
            for name, locale, health in rows
        ),
    )


def _health_values(name: str, locale: str, health: Health) -> dict[str, Any]:
    return {
        "of": name,
        "locale": locale,
        "style": health.style,
        "topic": health.kind,
        "collision_space": health.collision_space,
        "first_repeat": health.first_repeat,
        "weakest": {slot.slot: slot.effective for slot in health.weakest},
    }


def _briefs_of_styles(library: Library, prompt: str) -> list[Brief]:
    from backend.captions.scoring import STYLES

    return [_brief(style, locale, prompt, 0) for locale in library.locales() for style in STYLES]


def _briefs_of(personas: Sequence[str], prompt: str) -> list[Brief]:
    """Return what each persona of the studio would be asked on a prompt."""
    from backend.captions.brief import Brief
    from backend.captions.topic import read_topic
    from backend.captions.voice import read_voice
    from backend.cli.running import in_studio

    async def work(studio: Studio) -> list[PersonaModel]:
        return [await studio.personas.find(name) for name in personas]

    voices = [read_voice(persona) for persona in in_studio(work)]
    return [Brief(voice, read_topic(prompt, locale=voice.locale)) for voice in voices]


def _grammar_findings(library: Library, locales: Sequence[str]) -> Iterator[LintFinding]:
    from backend.captions import grammar_check
    from backend.captions.composer import compose
    from backend.captions.scoring import STYLES

    for locale in locales:
        if locale in grammar_check.LOCALES:
            captions = (
                compose(_brief(style, locale, DEFAULT_PROMPT, seed), library=library).text
                for style in STYLES
                for seed in range(GRAMMAR_SEEDS)
            )
            yield from grammar_check.check(captions, locale)


def _library(folders: Sequence[Path] | None) -> Library:
    from backend.captions.packs import Library
    from backend.config import load_settings

    own = folders or (load_settings().home / "packs",)
    return Library.installed(*own)


def _brief(style: str, locale: str, prompt: str, seed: int) -> Brief:
    from backend.captions.brief import Brief
    from backend.captions.topic import read_topic
    from backend.captions.voice import Voice

    voice = Voice(name="preview", traits=(style,), personality=style, locale=locale)
    return Brief(voice, read_topic(prompt, locale=locale), seed)
