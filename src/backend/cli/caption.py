"""`gator caption`: captions written, explained, and written anew."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from backend.cli.output import AsJson, print_json, print_line, print_note, print_table
from backend.cli.persona import PersonaName

if TYPE_CHECKING:
    from backend.bootstrap import Studio
    from backend.errors import GatorError
    from backend.models.content import ContentModel
    from backend.services.caption_explanation import Explanation
    from backend.services.caption_posts import Post

WRITE = "write"


class _WriteByDefault(TyperGroup):
    """Takes a first word that is no command for the persona who is to speak."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in front that is meant where none is named."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = [WRITE, *args]
        return super().parse_args(ctx, args)


class Rating(StrEnum):
    """Whom a caption is fit for."""

    SFW = "sfw"
    MODERATE = "moderate"
    NSFW = "nsfw"


class TimeOfDay(StrEnum):
    """When a caption goes out."""

    MORNING = "morning"
    AFTERNOON = "afternoon"
    EVENING = "evening"
    NIGHT = "night"


app = typer.Typer(
    cls=_WriteByDefault,
    no_args_is_help=True,
    help="Write captions: `gator caption PERSONA --prompt …` is short for `gator caption write`.",
)


@app.command(WRITE)
def write(
    persona: PersonaName,
    prompt: Annotated[list[str], typer.Option(help="What about; several may be given.")],
    platform: Annotated[
        str | None,
        typer.Option(help="Whose form: x, instagram, mastodon:5000, …; with commas, or all."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Equal seeds give equal captions.")
    ] = None,
    count: Annotated[
        int, typer.Option("-n", "--count", min=1, max=100, help="How many on each prompt.")
    ] = 1,
    fact: Annotated[
        list[str] | None, typer.Option(help="What a caption may repeat; several may be given.")
    ] = None,
    time_of_day: Annotated[TimeOfDay | None, typer.Option(help="When it goes out.")] = None,
    rating: Annotated[Rating, typer.Option(help="Whom it is fit for.")] = Rating.SFW,
    locale: Annotated[
        str | None, typer.Option(help="The language, if it is not the persona's own.")
    ] = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="The persona has said them from now on, and never says them again."
        ),
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell how the templates come to the first one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write captions in a persona's voice.

    None repeats another, or anything that the persona has said before. They are a preview, and the
    next call may give the same again, unless they are kept with --keep.
    """
    from backend.cli.running import in_studio
    from backend.services.content_generation_service import GenerationRequest

    terms = GenerationRequest.model_validate(
        {
            "platforms": _names(platform),
            "seed": seed,
            "facts": fact or [],
            "time_of_day": time_of_day and time_of_day.value,
            "content_rating": rating.value,
            "locale": locale,
        }
    )
    if explain:
        _explain(persona, terms.model_copy(update={"prompt": prompt[0]}), as_json=as_json)
        return

    async def work(studio: Studio) -> list[Post]:
        return await studio.captioning.write(persona, prompt, terms, count=count, remember=keep)

    posts = in_studio(work)
    if as_json:
        print_json({"captions": _captions(posts, prompt, count), "remembered": keep})
        return
    for post in posts:
        _print_post(post)
    if not keep:
        print_note("a preview: nothing is remembered; --keep makes them the persona's.")


@app.command()
def rewrite(
    contents: Annotated[
        list[str] | None, typer.Argument(metavar="CONTENT", help="Pieces of content, by their ids.")
    ] = None,
    drafts: Annotated[
        bool,
        typer.Option("--drafts", help="All captions that wait for a language model."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Have a language model rewrite captions that the templates wrote.

    The old texts stay in the captions' history. What a person wrote is left alone.
    """
    from backend.cli.running import in_studio
    from backend.errors import InvalidRequest

    if bool(contents) == drafts:
        raise InvalidRequest("name pieces of content, or say --drafts.")

    async def work(studio: Studio) -> list[tuple[str, ContentModel | GatorError]]:
        wanted = contents or await studio.rewrites.drafts(_MOST_DRAFTS)
        return await studio.rewrites.rewrite_each(wanted)

    outcomes = in_studio(work)
    if as_json:
        print_json({"contents": [_outcome(*one) for one in outcomes]})
    else:
        for content_id, outcome in outcomes:
            told = _outcome(content_id, outcome)
            print_line(f"{content_id}\n{told['caption'] or told['error']['message']}\n")
    if any(_outcome(*one)["error"] for one in outcomes):
        raise typer.Exit(1)


_MOST_DRAFTS = 1_000


def _names(platform: str | None) -> list[str]:
    return [name.strip() for name in platform.split(",") if name.strip()] if platform else []


def _captions(posts: Sequence[Post], prompts: Sequence[str], count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": prompts[n // count], "post": n, **caption.as_dict()}
        for n, post in enumerate(posts)
        for caption in post.captions.values()
    ]


def _print_post(post: Post) -> None:
    for caption in post.captions.values():
        by = f"{caption.origin} {caption.model or ''}".rstrip()
        shown = "" if caption.platform == "any" else f"{caption.platform}: "
        print_line(f"{shown}{caption.text}\n  — {by}, seed {caption.seed}\n")
        if caption.degraded_reason:
            print_note(f"not by the first language model: {caption.degraded_reason}")


def _explain(persona: str, request: Any, *, as_json: bool) -> None:
    from backend.cli.running import in_studio

    platforms = request.platforms
    request = request.model_copy(update={"platform": platforms[0] if platforms else None})

    async def work(studio: Studio) -> Explanation:
        return await studio.captioning.explain(persona, request)

    explanation = in_studio(work)
    if as_json:
        print_json({"explanation": explanation.as_dict()})
        return
    caption = explanation.caption
    print_line(f"{caption.text}\n")
    scores = ", ".join(f"{style} {score}" for style, score in caption.scores.items())
    print_line(f"style      {caption.style} ({scores})")
    print_line(f"modifiers  {', '.join(explanation.modifiers) or 'none'}")
    print_line(f"topic      {explanation.topic['text']} ({explanation.topic['kind']})")
    print_line(f"theme      {caption.theme}, plan {caption.plan}, seed {caption.seed}")
    print_line(f"compared with {explanation.posts_recalled} posts\n")
    print_table(
        ("slot", "fragment", "weight", "chance", "left of", "last used"),
        (
            (f.slot, f.id, f.weight, f"{f.chance:.2%}", f"{f.left} of {f.choices}", f.last_used)
            for f in explanation.fragments
        ),
    )
    print_line("")
    print_table(
        ("", "why", "draft"), (("→" * c.chosen, c.why, c.text) for c in explanation.candidates)
    )
    for refused in explanation.refused:
        codes = ", ".join(finding.code for finding in refused.findings)
        print_line(f"\nrefused by the gate ({codes}): {refused.text}")


def _outcome(content_id: str, outcome: ContentModel | GatorError) -> dict[str, Any]:
    from backend.errors import GatorError

    if isinstance(outcome, GatorError):
        error = {"code": outcome.code, "message": outcome.message, "details": outcome.details}
        return {"id": content_id, "caption": None, "caption_origin": None, "error": error}
    return {
        "id": content_id,
        "caption": outcome.caption,
        "caption_origin": outcome.caption_origin,
        "error": None,
    }
