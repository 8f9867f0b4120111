"""Cards on the command line: in, beside Gator's own files, and out in every format."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from backend.cards.reading import read_card
from tests.e2e.support import GATOR, Cli
from tests.fixtures.cards import as_json, card_png, charx, eliza, text_chunk, v2, v3

TOML = 'name = "Mira"\nappearance = "red hair"\npersonality = "warm"\n'


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


def written(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def test_cards_and_gators_own_files_come_in_together(cli: Cli, tmp_path: Path) -> None:
    files = [
        written(tmp_path, "mira.toml", TOML.encode()),
        written(tmp_path, "ondine.png", card_png(text_chunk("ccv3", v3()))),
        written(tmp_path, "ondine.dat", charx(v3(name="Second"))),
        written(tmp_path, "eliza.json", as_json(eliza(name="Third"))),
    ]
    made = cli.json("persona", "import", *files)
    assert [persona["name"] for persona in made["personas"]] == [
        "Mira", "Ondine", "Second", "Third",
    ]  # fmt: skip
    assert [(card["format"], card["container"]) for card in made["cards"]] == [
        ("v3", "png"), ("v3", "charx"), ("eliza", "json"),
    ]  # fmt: skip
    assert {persona["base_image_status"] for persona in made["personas"]} == {"pending_upload"}


def test_where_one_file_is_faulty_all_faults_are_told_and_nobody_is_made(
    cli: Cli, tmp_path: Path
) -> None:
    files = [
        written(tmp_path, "good.json", as_json(v2())),
        written(tmp_path, "bad.json", b'{"hello": 1}'),
        written(tmp_path, "bad.toml", b'name = "A"\n'),
    ]
    done = cli.run("persona", "import", *files)
    assert done.returncode == 2
    assert "bad.json: is JSON, but neither a character card nor" in done.stderr
    assert "bad.toml: 2 fault(s)" in done.stderr
    assert cli.json("persona", "list")["total"] == 0


def test_a_person_reads_what_was_kept_and_ignored(cli: Cli, tmp_path: Path) -> None:
    card = v3(extensions={"api_key": "x", "\x1b[31m": 1})
    file = written(tmp_path, "ondine.png", card_png(text_chunk("ccv3", card)))
    done = cli.run("persona", "import", file, "--base-image")
    assert done.returncode == 0
    assert done.stdout.startswith("created Ondine (")
    assert "from a v3 card, png" in done.stdout
    assert "its picture is a candidate" in done.stdout
    assert "kept for an export: data.scenario, data.first_mes" in done.stderr
    assert "data.extensions.api_key: looks like a secret" in done.stderr
    assert "\x1b" not in done.stderr
    assert cli.json("base-image", "show", "Ondine")["status"] == "draft"


def test_a_persona_goes_out_in_every_format_and_comes_back(cli: Cli, tmp_path: Path) -> None:
    cli.json("persona", "import", written(tmp_path, "a.json", as_json(v3())))
    assert cli.json("persona", "export", "Ondine")["toml"].startswith('name = "Ondine"')
    assert json.loads(cli.json("persona", "export", "Ondine", "--format", "v2")["card"])["data"]
    plain = json.loads(cli.run("persona", "export", "Ondine", "--format", "v3").stdout)
    assert plain["spec"] == "chara_card_v3"
    no_picture = cli.run("persona", "export", "Ondine", "--format", "png", "-o", "x.png")
    assert no_picture.returncode == 1
    assert "not approved" in no_picture.stderr
    cli.json("base-image", "seed", "Ondine", "--model", "illustrated", "--seed", "1")
    cli.json("base-image", "approve", "Ondine")
    (tmp_path / "other").mkdir()
    other = Cli(tmp_path / "other" / "home")
    for kind in ("toml", "v2", "v3", "png", "charx", "eliza"):
        file = tmp_path / f"out.{kind}"
        answer = cli.json("persona", "export", "Ondine", "--format", kind, "-o", str(file))
        assert answer["file"] == str(file)
        made = other.json("persona", "import", str(file), "--base-image")
        (persona,) = made["personas"]
        assert persona["name"] == "Ondine"
        assert persona["style_preferences"]["tone"] == "dry"
        expected = "draft" if kind in ("png", "charx") else "pending_upload"
        assert persona["base_image_status"] == expected, kind


def test_a_binary_card_goes_into_a_pipe_and_not_onto_a_json_answer(
    cli: Cli, tmp_path: Path
) -> None:
    cli.json("persona", "import", written(tmp_path, "a.json", as_json(v3())))
    done = subprocess.run(
        [GATOR, "persona", "export", "Ondine", "--format", "charx"],
        capture_output=True,
        env=cli.environment(),
        check=True,
    )
    assert read_card(done.stdout).card.data["first_mes"] == v3()["data"]["first_mes"]
    refused = cli.run("persona", "export", "Ondine", "--format", "charx", "--json")
    assert refused.returncode == 2
    assert "--output: is needed for charx" in refused.stderr
