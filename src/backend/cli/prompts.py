"""`gator prompts`: what a text with choices in it would make, before a batch is begun."""

from __future__ import annotations

from typing import Annotated

import typer

from backend.cli.output import AsJson, print_json, print_line

app = typer.Typer(help="Texts with choices and wildcards in them.", no_args_is_help=True)

_SAID_IN_FULL = 10**15


@app.command()
def preview(
    text: Annotated[str, typer.Argument(help="In the syntax of dynamicprompts, in quotes.")],
    count: Annotated[int, typer.Option(min=0, max=100_000, help="How many to show.")] = 10,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draw by chance, as a sample with this seed does.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count the prompts that a text makes, and show the first of them, or some by chance."""
    from itertools import islice

    from backend.config import load_settings
    from backend.services.prompt_sets import WILDCARDS, WildcardFolder, compile_prompts

    wildcards = WildcardFolder(load_settings().home / WILDCARDS)
    compiled = compile_prompts(text, wildcards)
    total = compiled.count()
    shown = compiled.all() if seed is None else compiled.sample(count, seed)
    prompts = list(islice(shown, count))
    if as_json:
        print_json({"count": total, "seed": seed, "prompts": prompts})
        return
    said = f"{total:,}" if total < _SAID_IN_FULL else f"about 10^{len(str(total)) - 1}"
    print_line(f"{said} prompts, {len(prompts)} of them{' by chance' if seed is not None else ''}:")
    for prompt in prompts:
        print_line(f"  {prompt}")


@app.command()
def wildcards(as_json: AsJson = False) -> None:
    """List the wildcards there are: the text files below `wildcards` in GATOR_HOME."""
    from backend.config import load_settings
    from backend.services.prompt_sets import WILDCARDS, WildcardFolder

    folder = WildcardFolder(load_settings().home / WILDCARDS)
    if as_json:
        print_json({"folder": str(folder.root.absolute()), "wildcards": list(folder.names)})
        return
    for name in folder.names:
        print_line(f"__{name}__")
    if not folder.names:
        print_line(f"There are none; put text files, one value a line, into {folder.root}.")
