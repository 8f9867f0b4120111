"""The command line as a process: what it prints, where, and how it refuses."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import Cli

PERSONA = ("--name", "Mira", "--appearance", "long red hair", "--personality", "creative, warm")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


def test_a_persona_is_written_shown_changed_listed_and_carried_out(
    cli: Cli, tmp_path: Path
) -> None:
    made = cli.json("persona", "new", *PERSONA, "--theme", "street art", "--tone", "friendly")
    assert made["base_image_status"] == "pending_upload"
    assert cli.json("persona", "show", "mira")["id"] == made["id"]
    edited = cli.json("persona", "edit", "Mira", "--voice-style", "playful")
    assert edited["style_preferences"] == {
        "aesthetic": "", "tone": "friendly", "voice_style": "playful",
    }  # fmt: skip
    file = tmp_path / "mira.toml"
    assert cli.json("persona", "export", "Mira", "-o", str(file))["file"] == str(file)
    cli.json("persona", "import", str(file))
    assert cli.json("persona", "list")["total"] == 2
    twice = cli.run("persona", "show", "Mira")
    assert twice.returncode == 1
    assert "2 personas are called 'Mira'; say which by its id" in twice.stderr


def test_the_whole_way_by_hand(cli: Cli, tmp_path: Path) -> None:
    cli.json("persona", "new", *PERSONA, "--theme", "street art")
    seeded = cli.json("base-image", "seed", "Mira", "--model", "illustrated", "--seed", "1")
    assert (seeded["status"], seeded["current_version"]) == ("draft", 1)
    assert seeded["versions"][0]["kind"] == "illustrated"
    assert cli.json("base-image", "reject", "Mira", "--reason", "again")["status"] == "rejected"
    cli.json("base-image", "seed", "Mira", "--model", "illustrated", "--seed", "2")
    assert cli.json("base-image", "approve", "Mira")["approved_version"] == 2
    picture = tmp_path / "base.png"
    cli.json("base-image", "show", "Mira", "-o", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")

    folder = tmp_path / "out"
    batch = cli.json(
        "generate", "Mira", "laughing", " ", "--model", "illustrated", "--size", "256x256",
        "-o", str(folder),
    )  # fmt: skip
    assert (batch["images"], batch["errors"]) == (1, 1)
    assert Path(batch["items"][0]["file"]).read_bytes().startswith(b"\x89PNG")
    assert "is empty" in batch["items"][1]["error"]

    captions = cli.json("caption", "Mira", "--prompt", "a new mural", "--seed", "3", "-n", "4")
    texts = [caption["text"] for caption in captions["captions"]]
    assert len(set(texts)) == 4
    assert {caption["origin"] for caption in captions["captions"]} == {"template"}
    assert (
        cli.json("caption", "Mira", "--prompt", "a new mural", "--seed", "3")["captions"][0]["text"]
        == texts[0]
    )


def test_tables_for_people_name_what_there_is(cli: Cli) -> None:
    cli.run("persona", "new", *PERSONA)
    assert "Mira" in cli.run("persona", "list").stdout
    assert "cpu:1" in cli.run("devices").stdout
    assert "GATOR_HOME" in cli.run("config").stdout
    assert "revision" in cli.run("db", "upgrade").stdout


def test_devices_and_models_as_json(cli: Cli) -> None:
    answer = cli.json("devices")
    assert [d["device"] for d in answer["devices"]] == ["cpu:0", "cpu:1"]
    assert {"portrait", "illustrated"} <= {model["name"] for model in answer["models"]}


def test_config_masks_secrets(cli: Cli) -> None:
    done = cli.run("config", "--json", GATOR_LLM_API_KEY="sk-very-secret")
    assert "sk-very-secret" not in done.stdout
    assert json.loads(done.stdout)["llm_api_key"] == "**********"


def test_a_wrong_setting_stops_the_start_and_names_itself(cli: Cli) -> None:
    done = cli.run("persona", "list", GATOR_DEVICES="gpu")
    assert done.returncode == 2
    assert "GATOR_DEVICES='gpu' cannot be used. Accepted: auto" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_fault_of_a_persona_file_is_listed_and_nothing_is_created(
    cli: Cli, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('name = "A"\nappearance = "b"\npersonality = "c"\n')
    bad.write_text('name = ""\ncontent_themes = "x"\nhair = 1\nappearance = "b"\n')
    done = cli.run("persona", "import", str(good), str(bad), "--json")
    assert done.returncode == 2
    faults = {fault["field"] for fault in json.loads(done.stdout)["error"]["details"]["errors"]}
    assert faults == {"name", "content_themes", "hair", "personality"}
    for field in faults:
        assert f"  {field}: " in done.stderr
    assert cli.json("persona", "list")["total"] == 0


@pytest.mark.parametrize("text", ["name = ", "\udcff"])
def test_a_file_that_is_no_toml_is_refused(cli: Cli, tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = cli.run("persona", "import", str(file), str(tmp_path / "none.toml"))
    assert done.returncode == 2
    assert "x.toml: is not a readable TOML file" in done.stderr
    assert "none.toml" in done.stderr


def test_a_model_folder_that_is_not_one_says_what_was_looked_for(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "models" / "a").mkdir(parents=True)
    done = cli.run("devices", GATOR_MODEL_DIRS=str(tmp_path / "models"))
    assert done.returncode == 2
    assert f"looked for model_index.json in {tmp_path}/models and its 1 subfolder" in done.stderr


@pytest.mark.filterwarnings("ignore::FutureWarning:diffusers.*")
def test_a_users_model_folder_is_listed_and_draws(cli: Cli, tmp_path: Path) -> None:
    from tests.fixtures.tiny_models import save_stable_diffusion

    save_stable_diffusion(tmp_path / "models" / "mine")
    mine = {"GATOR_MODEL_DIRS": str(tmp_path / "models")}
    cli.json("persona", "new", *PERSONA)
    seeded = cli.run(
        "base-image", "seed", "Mira", "--model", "mine", "--json",
        **mine, GATOR_IMAGE_MODEL="mine",
    )  # fmt: skip
    assert seeded.returncode == 0, seeded.stderr
    assert json.loads(seeded.stdout)["versions"][0]["model"] == "mine"


def test_a_home_that_is_a_file_is_named_before_rendering(cli: Cli) -> None:
    cli.home.write_text("")
    done = cli.run("demo")
    assert done.returncode == 1
    assert f"GATOR_HOME {cli.home} cannot be used" in done.stderr


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own; needs root, as in CI."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root: test_a_home_without_room_or_leave")
    folder = tmp_path / "mounted"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["mount", "-o", "remount,ro"], "cannot be written"),
        (["dd", "if=/dev/zero", "bs=1M", "count=2"], "is full"),
        ([], "MiB are needed"),
    ],
)
def test_a_home_without_room_or_leave_says_so_before_rendering(
    mounted: Path, change: list[str], says: str
) -> None:
    home = mounted / "home"
    home.mkdir()
    if change[:1] == ["mount"]:
        subprocess.run([*change, str(mounted)], check=True)
    elif change:
        subprocess.run([*change, f"of={mounted}/fill"], check=False, capture_output=True)
    done = Cli(home).run("demo")
    assert done.returncode == 1
    assert says in done.stderr
    assert "images" not in done.stderr


def test_an_unknown_persona_is_named(cli: Cli) -> None:
    done = cli.run("persona", "show", "nobody")
    assert done.returncode == 1
    assert "there is no persona 'nobody'" in done.stderr
