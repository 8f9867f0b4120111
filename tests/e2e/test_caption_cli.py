"""`gator caption` as a user meets it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from backend.captions.platforms import EVERYWHERE
from tests.e2e.support import Cli
from tests.fixtures.chat_endpoint import chat_endpoint, dead_url, streamed

ABOUT = ("--prompt", "a new mural")


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    made = Cli(tmp_path_factory.mktemp("caption") / "home", devices="cpu:1")
    made.json(
        "persona", "new", "--name", "Mira", "--appearance", "long red hair",
        "--personality", "creative, warm", "--theme", "street art",
    )  # fmt: skip
    return made


def captions(cli: Cli, *arguments: str, **changes: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = cli.json("caption", *arguments, **changes)["captions"]
    return told


def test_a_persona_s_name_is_enough(cli: Cli) -> None:
    short = captions(cli, "Mira", *ABOUT, "--seed", "3")
    assert short == captions(cli, "write", "mira", *ABOUT, "--seed", "3")
    assert (short[0]["origin"], short[0]["seed"], short[0]["platform"]) == ("template", 3, "any")
    shown = cli.run("caption", "Mira", *ABOUT, "--seed", "3")
    assert short[0]["text"] in shown.stdout
    assert "— template, seed 3" in shown.stdout
    assert "a preview" in shown.stderr


def test_all_platforms_and_many_at_once(cli: Cli) -> None:
    told = captions(cli, "Mira", *ABOUT, "--platform", "all", "--seed", "1", "-n", "20")
    assert len(told) == 20 * len(EVERYWHERE)
    posts = {one["post"] for one in told}
    assert posts == set(range(20))
    assert len({tuple(one["fragments"]) for one in told}) == 20
    two = captions(
        cli, "Mira", *ABOUT, "--platform", "x, mastodon:400", "--fact", "It opens in May.",
        "--time-of-day", "evening", "--rating", "moderate", "--locale", "de",
    )  # fmt: skip
    assert [(one["platform"], one["locale"]) for one in two] == [
        ("x", "de"),
        ("mastodon:400", "de"),
    ]


def test_what_is_kept_is_not_said_again_and_a_preview_may_be(cli: Cli) -> None:
    asked = ("Mira", "--prompt", "a ferry", "--seed", "5")
    first = captions(cli, *asked)
    assert captions(cli, *asked) == first
    assert captions(cli, *asked, "--keep")[0]["text"] == first[0]["text"]
    assert captions(cli, *asked)[0]["text"] != first[0]["text"]


def test_explain_shows_what_was_weighed(cli: Cli) -> None:
    asked = ("caption", "Mira", *ABOUT, "--seed", "3", "--explain")
    told = cli.json(*asked)["explanation"]
    assert told["caption"]["text"] == captions(cli, "Mira", *ABOUT, "--seed", "3")[0]["text"]
    shown = cli.run(*asked).stdout
    for said in (
        "creative 3",
        "modifiers  warm",
        "a new mural (noun)",
        "last used",
        "repeats more",
    ):
        assert said in shown


def test_wrong_use_is_told_in_words(cli: Cli) -> None:
    for arguments, said in (
        (("Mira", *ABOUT, "--platform", "friendster"), "friendster"),
        (("rewrite",), "--drafts"),
    ):
        done = cli.run("caption", *arguments)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert cli.run("caption", "Nobody", *ABOUT).returncode == 1
    done = cli.run("caption", "rewrite", "nothing")
    assert (done.returncode, "no content" in done.stdout) == (1, True)
    for help_of in (("--help",), ("write", "--help"), ("rewrite", "--help")):
        assert cli.run("caption", *help_of).returncode == 0


def test_drafts_are_rewritten_when_the_model_is_back(cli: Cli) -> None:
    cli.json("base-image", "seed", "Mira", "--model", "illustrated", "--seed", "1")
    cli.json("base-image", "approve", "Mira")
    gone = model_at(dead_url())
    picture = ("in a workshop", "--model", "illustrated", "--size", "128x128")
    batch = cli.json("generate", "Mira", *picture, **gone)
    assert batch["items"][0]["caption_origin"] == "template"
    shown = cli.run("caption", "rewrite", "--drafts", **gone)
    assert (shown.returncode, "cannot be reached" in shown.stdout) == (1, True)
    with chat_endpoint() as back:
        back.answers = [streamed("Sawdust and street art: a workshop smells of plans.")]
        told = cli.json("caption", "rewrite", "--drafts", **model_at(back.url))
    (content,) = told["contents"]
    assert content["id"] == batch["items"][0]["content_id"]
    assert content["caption_origin"] == "llm"
    with sqlite3.connect(Path(cli.home) / "gator.sqlite3") as database:
        query = "SELECT caption, caption_draft, caption_detail FROM contents"
        ((caption, draft, detail),) = database.execute(query).fetchall()
    database.close()
    assert (caption, draft) == (content["caption"], 0)
    assert json.loads(detail)["history"][0]["text"] == batch["items"][0]["caption"]


def model_at(url: str) -> dict[str, str]:
    return {"GATOR_LLM_BASE_URL": url, "GATOR_LLM_MODEL": "m"}
