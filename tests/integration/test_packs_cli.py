"""`gator packs`: what is wrong with the packs, what they sound like, how long they last."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from backend.captions import grammar_check
from backend.cli.main import app
from backend.services.template_service import TemplateService

EXAMPLES = Path(__file__).parents[2] / "examples/personas"
OWN = """
[[fragment]]
id = "own"
slot = ["core", "lead"]
weight = 1000
texts = ["Today the harbor whispers of {theme}{context}."]
"""


def gator(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def packs(*arguments: str, code: int = 0) -> Any:
    return json.loads(gator("packs", *arguments, "--json", code=code))


def write(folder: Path, text: str) -> Path:
    (folder / "en").mkdir(parents=True)
    (folder / "en" / "casual.toml").write_text(text)
    return folder


def test_the_shipped_packs_pass_and_say_so() -> None:
    assert packs("lint", "--locale", "de") == {"findings": []}
    assert gator("packs", "lint", "--locale", "de") == "0 findings in de.\n"


def test_a_fault_in_a_pack_of_ones_own_is_named_and_ends_with_one(tmp_path: Path) -> None:
    folder = write(tmp_path, OWN.replace("Today the", "Today  the"))
    arguments = ("lint", "--folder", str(folder), "--locale", "en", "--no-grammar")
    found = packs(*arguments, code=1)["findings"]
    assert [(finding["code"], finding["where"]) for finding in found] == [
        ("punctuation", "en/casual")
    ]
    assert "1 findings" in gator("packs", *arguments, code=1)


def test_a_pack_that_cannot_be_read_is_a_finding_too(tmp_path: Path) -> None:
    found = packs("lint", "--folder", str(write(tmp_path, "words = [")), "--no-grammar", code=1)
    assert ("schema", "en/casual") in {(one["code"], one["where"]) for one in found["findings"]}


def test_the_grammar_checker_reads_what_the_packs_say(tmp_path: Path) -> None:
    folder = write(tmp_path, OWN.replace("whispers of", "have an good word about"))
    found = packs("lint", "--folder", str(folder), "--locale", "en", code=1)["findings"]
    assert any(one["code"] == "harper/AnA" for one in found), found


def test_the_grammar_checker_finds_a_fault_once_and_waives_what_is_meant() -> None:
    texts = ["This is an good day.", "That was an good day.", "A roadmap, and also an good one."]
    assert [f.code for f in grammar_check.check(texts, "en")] == ["harper/AnA"]
    assert not list(grammar_check.check(["Slow days. #SlowDyas #Mornigns"], "en"))


def test_health_tells_each_style_and_locale() -> None:
    rows = packs("health")["packs"]
    assert {(row["locale"], row["style"]) for row in rows} == {
        (locale, style)
        for locale in ("de", "en")
        for style in ("casual", "creative", "professional", "tech")
    }
    assert all(row["collision_space"] >= 1e6 and len(row["weakest"]) == 3 for row in rows)


def test_health_tells_of_a_persona_on_a_prompt() -> None:
    gator("persona", "import", str(EXAMPLES / "noor-castellan.toml"))
    (row,) = packs("health", "--persona", "Noor Castellan", "--prompt", "celebrate small wins")[
        "packs"
    ]
    assert (row["of"], row["style"], row["topic"]) == ("Noor Castellan", "tech", "imperative")
    (other,) = packs("health", "--persona", "Noor Castellan", "--prompt", "a bookshop")["packs"]
    assert row["collision_space"] != other["collision_space"]


def test_a_preview_begins_where_its_seed_says() -> None:
    first, second = packs("preview", "-n", "2", "--seed", "7")["captions"]
    assert (first["seed"], second["seed"]) == (7, 8)
    assert packs("preview", "-n", "1", "--seed", "7")["captions"] == [first]


def test_packs_in_the_home_are_used_by_whoever_writes(tmp_path: Path) -> None:
    write(tmp_path / "home" / "packs", OWN)
    assert "the harbor whispers of" in gator("packs", "preview", "-n", "3")
    texts = [
        TemplateService().generate_fallback_text(SimpleNamespace(name="Ada"), seed=seed)
        for seed in range(3)
    ]
    assert any("the harbor whispers of" in text for text in texts), texts


@pytest.mark.parametrize("style", ["casual", "tech"])
def test_a_preview_is_in_its_style_and_language(style: str) -> None:
    captions = packs("preview", "--style", style, "--locale", "de", "-n", "3")["captions"]
    assert len({caption["text"] for caption in captions}) == 3
