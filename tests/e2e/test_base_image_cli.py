"""`gator base-image`, `audit` and `blobs` as a user types them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.support import Cli
from tests.fixtures.images_endpoint import inline, listening

NEW = ("--name", "Mira", "--appearance", "long red hair", "--personality", "warm")
DRAWN = ("--model", "illustrated", "--seed", "1")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    opened = Cli(tmp_path / "home", devices="cpu:1")
    opened.json("persona", "new", *NEW)
    return opened


def test_the_whole_way_by_its_verbs(cli: Cli, tmp_path: Path) -> None:
    seeded = cli.json("base-image", "seed", "Mira", "--count", "2", *DRAWN)
    assert (seeded["status"], seeded["candidates"]) == ("draft", [1, 2])
    rejected = cli.json("base-image", "reject", "Mira", "--reason", "too dark")
    assert rejected["rejection_reason"] == "too dark"
    assert cli.json("base-image", "reopen", "Mira")["status"] == "draft"
    approved = cli.json("base-image", "approve", "Mira", "--version", "1")
    assert approved["approved_version"] == 1
    refused = cli.run("base-image", "reject", "Mira", "--reason", "late", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "conflict"
    assert cli.json("base-image", "unlock", "Mira", "--reason", "new hair")["status"] == "draft"
    purged = cli.json("base-image", "purge", "Mira", "--reason", "asked to")
    assert (purged["status"], purged["versions"]) == ("pending_upload", [])

    log = cli.json("base-image", "events", "Mira")
    actions = ["seed", "reject", "reopen", "approve", "unlock", "purge"]
    assert [event["action"] for event in log["events"]] == actions
    assert "too dark" in cli.run("base-image", "events", "Mira").stdout
    verified = cli.json("audit", "verify")
    assert (verified["ok"], verified["events"]) == (True, len(actions))
    lines = cli.run("audit", "export").stdout.splitlines()
    assert [json.loads(line)["action"] for line in lines] == actions
    out = tmp_path / "log.jsonl"
    assert cli.json("audit", "export", "-o", str(out))["events"] == len(actions)
    assert out.read_text().splitlines() == lines


def test_a_seed_may_start_from_the_picture_there_is(cli: Cli) -> None:
    cli.json("base-image", "seed", "Mira", "--model", "portrait", "--seed", "1")
    options = ("--reference", "--strength", "0.4", "--seed", "2")
    seeded = cli.json("base-image", "seed", "Mira", *options)
    assert [version["parent"] for version in seeded["versions"]] == [None, 1]
    assert seeded["versions"][1]["model"] == "portrait"
    refused = cli.run("base-image", "seed", "Mira", "--reference", *DRAWN, "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "unsupported_task"


def test_an_upload_with_leave(cli: Cli, tmp_path: Path) -> None:
    picture = tmp_path / "<me>.html"
    Image.new("RGB", (300, 300), "teal").save(picture, "PNG")
    leave = ("--consent-subject", "Ann", "--consent-granted-by", "Ann", "--consent-note", "mail")
    until = ("--consent-expires-at", "2999-01-01")
    uploaded = cli.json("base-image", "upload", "Mira", str(picture), *leave, *until)
    (consent,) = uploaded["consents"]
    assert (consent["real_person"], consent["person"]) == (True, "Ann")
    without = cli.run("base-image", "approve", "Mira", "--json")
    assert without.returncode == 2
    assert "likeness_attestation" in without.stdout
    approved = cli.json("base-image", "approve", "Mira", "--likeness-attestation")
    assert approved["status"] == "approved"
    shown = tmp_path / "shown.png"
    cli.json("base-image", "show", "Mira", "--version", "1", "-o", str(shown))
    with Image.open(shown) as opened:
        assert opened.size == (300, 300)
    taken = cli.json("base-image", "revoke-consent", "Mira", consent["id"], "--reason", "asked to")
    assert taken["status"] == "draft"
    picture.write_text("<script>alert(1)</script>")
    refused = cli.run("base-image", "upload", "Mira", str(picture), "--json")
    assert refused.returncode == 2
    nothing = cli.run("base-image", "upload", "Mira", str(tmp_path / "none.png"))
    assert nothing.returncode == 2
    assert "cannot be read" in nothing.stderr


def test_a_cloud_is_asked_within_its_cap(cli: Cli) -> None:
    with listening() as endpoint:
        endpoint.answers = [inline()]
        cloud = {
            "GATOR_CLOUD_BASE_URL": endpoint.base_url,
            "GATOR_CLOUD_MODEL": "cloudy",
            "GATOR_CLOUD_PRICE_USD": "0.04",
            "GATOR_CLOUD_SPENDING_CAP_USD": "0.05",
        }
        seed = ("base-image", "seed", "Mira", "--cloud")
        estimate = cli.json(*seed, "--estimate", "--count", "2", **cloud)
        assert (estimate["estimated_usd"], estimate["allowed"]) == ("0.08", False)
        assert endpoint.asked == []
        assert cli.json(*seed, **cloud)["versions"][0]["method"] == "cloud"
        refused = cli.run(*seed, "--json", **cloud)
        assert refused.returncode == 1
        assert json.loads(refused.stdout)["error"]["code"] == "spending_cap_reached"
    nowhere = cli.run("base-image", "seed", "Mira", "--cloud", "--json")
    assert json.loads(nowhere.stdout)["error"]["code"] == "provider_not_configured"


def test_a_broken_chain_is_named(cli: Cli) -> None:
    cli.json("base-image", "seed", "Mira", *DRAWN)
    cli.json("base-image", "approve", "Mira")
    with closing(sqlite3.connect(cli.home / "gator.sqlite3")) as database:
        triggers = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' "
            "AND tbl_name = 'base_image_events'"
        ).fetchall()
        with pytest.raises(sqlite3.DatabaseError):
            database.execute("UPDATE base_image_events SET actor = 'mallory'")
        for (name,) in triggers:
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE base_image_events SET actor = 'mallory' WHERE sequence = 2")
        database.commit()
    verified = cli.run("audit", "verify", "--json")
    assert verified.returncode == 1
    assert json.loads(verified.stdout)["broken"]["sequence"] == 2
    assert "broken at event 2" in cli.run("audit", "verify").stdout


def test_orphans_and_damage_are_found_and_mended(cli: Cli) -> None:
    cli.json("base-image", "seed", "Mira", *DRAWN)
    assert cli.json("blobs", "check")["ok"] is True
    (blob,) = (cli.home / "blobs").glob("??/*")
    orphan = cli.home / "blobs" / "ab" / ("c" * 62)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"nobody's")
    found = cli.run("blobs", "check", "--json")
    assert found.returncode == 1
    assert json.loads(found.stdout)["orphans"] == ["ab" + "c" * 62]
    cli.run("blobs", "check", "--repair", "--grace", "0", "--json")
    assert not orphan.exists()
    assert cli.json("blobs", "check")["ok"] is True
    blob.chmod(0o644)
    blob.write_bytes(b"damaged")
    damaged = cli.run("blobs", "check", "--json")
    assert damaged.returncode == 1
    assert len(json.loads(damaged.stdout)["damaged"]) == 1
    assert "damaged" in cli.run("blobs", "check").stdout
