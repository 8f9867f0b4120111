"""`gator batch`, `top` and `devices` as processes, beside a `gator serve` on the same home."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import Cli
from tests.e2e.test_serve import GATOR, STOP_WITHIN_S, gator_serve, wait_for

QUICK = ("--model", "illustrated", "--size", "64x64")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home", devices="cpu:1")


def state(cli: Cli, batch: str) -> dict[str, Any]:
    return cli.json("batch", "show", batch)


def test_a_batch_is_written_down_shown_paused_and_cancelled_without_a_server(cli: Cli) -> None:
    made = cli.json("batch", "create", "one", "two", " ", *QUICK, "--size", "96x64", "--seed", "3",
                    "--priority", "2")  # fmt: skip
    assert (made["total"], made["state"], made["priority"]) == (6, "queued", 2)
    assert made["counts"] == {"queued": 4, "running": 0, "done": 0, "failed": 2, "cancelled": 0}
    batch = made["id"]
    items = cli.json("batch", "items", batch, "--state", "queued", "--after", "0", "--limit", "2")
    assert [(i["position"], i["prompt"], i["options"]["width"]) for i in items["items"]] == [
        (1, "one", 96),
        (2, "two", 64),
    ]
    assert cli.json("batch", "pause", batch)["state"] == "paused"
    run = cli.run("batch", "run", batch)
    assert run.returncode == 1
    assert f"`gator batch resume {batch}`" in run.stderr
    again = cli.run("batch", "pause", batch)
    assert again.returncode == 1
    assert "it is paused" in again.stderr
    assert cli.json("batch", "resume", batch)["state"] == "queued"
    assert cli.json("batch", "retry", batch)["counts"]["failed"] == 2
    assert cli.json("batch", "cancel", batch)["counts"]["cancelled"] == 4
    other = cli.json("batch", "create", "three", *QUICK)["id"]
    assert cli.json("batch", "cancel", "--all") == {"cancelled": [other]}
    listed = cli.json("batch", "list")
    assert [(b["id"], b["state"]) for b in listed["batches"]] == [
        (other, "cancelled"),
        (batch, "cancelled"),
    ]
    assert cli.json("batch", "watch", batch)["state"] == "cancelled"
    table = cli.run("batch", "list").stdout
    assert batch in table
    assert "cancelled" in table


def test_bare_prompts_are_drawn_without_a_server(cli: Cli, tmp_path: Path) -> None:
    written = cli.run("batch", "create", "one", " ", "two", *QUICK, "--json")
    batch = json.loads(written.stdout)["id"]
    assert f"`gator batch run {batch}`" in written.stderr
    ended = cli.json("batch", "run", batch, "--output", str(tmp_path / "pictures"))
    assert (ended["state"], ended["counts"]["done"], ended["counts"]["failed"]) == ("done", 2, 1)
    assert [path.name[:5] for path in sorted((tmp_path / "pictures").iterdir())] == [
        "0000-",
        "0002-",
    ]


def test_prompts_come_from_a_template_or_a_file(cli: Cli, tmp_path: Path) -> None:
    wildcards = cli.home / "wildcards"
    wildcards.mkdir(parents=True)
    (wildcards / "places.txt").write_text("at sea\nin town\n")
    made = cli.json("batch", "create", "--template", "{red|blue} hat, __places__", *QUICK)
    assert made["total"] == 4
    some = cli.json("batch", "create", "--template", "{1|2|3|4}", "--sample", "9", *QUICK)
    assert some["total"] == 9
    file = tmp_path / "prompts.txt"
    file.write_text("# mine\none\ntwo\n")
    made = cli.json("batch", "create", "zero", "--prompts", str(file), *QUICK, "--with-seed", "1",
                    "--with-seed", "2")  # fmt: skip
    items = cli.json("batch", "items", made["id"])["items"]
    assert [(i["prompt"], i["seed"]) for i in items] == [
        (prompt, seed) for prompt in ("zero", "one", "two") for seed in (1, 2)
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create",), "prompts"),
        (("create", "x", "--template", "{a|b}"), "not both"),
        (("create", "x", "--sample", "2"), "--template"),
        (("create", "--template", "{a|b"), "character"),
        (("create", "x", "--size", "big"), "768x1024"),
        (("items", "x", "--state", "lost"), "queued"),
        (("cancel",), "--all"),
        (("cancel", "x", "--all"), "--all"),
    ],
)
def test_wrong_use_is_told(cli: Cli, arguments: tuple[str, ...], says: str) -> None:
    done = cli.run("batch", *arguments)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_batch_is_watched_while_a_server_works_on_it(cli: Cli, tmp_path: Path) -> None:
    with gator_serve(cli.home) as server:
        made = cli.json("batch", "create", *[f"scene {n}" for n in range(8)], *QUICK)
        watched = cli.json("batch", "watch", made["id"])
        assert (watched["state"], watched["counts"]["done"]) == ("done", 8)
        url = str(server.client.base_url)
        seen = cli.json("top", "--server", url)
        (device,) = seen["devices"]
        assert (device["name"], device["done"]) == ("cpu:0", 8)
        assert seen["batches"] == []
        table = cli.run("top", "--server", url, "--once").stdout
        assert "cpu:0" in table
        assert "idle" in table
        refused = cli.run("devices", "release", "cpu:0", "--server", url)
        assert refused.returncode == 1
        assert "not quarantined" in refused.stderr


def test_top_is_live_on_a_terminal_until_ctrl_c(cli: Cli) -> None:
    with gator_serve(cli.home) as server:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (30, 140))
        command = [GATOR, "top", "--server", str(server.client.base_url), "--every", "0.2"]
        process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=cli.environment()
        )
        os.close(theirs)
        shown = b""
        while shown.count(b"cpu:0") < 3 or b"model" not in shown:
            shown += os.read(ours, 4_096)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        os.close(ours)
    assert process.returncode == 0, err
    assert b"model" in shown
    assert b"Traceback" not in err


def test_watching_is_let_go_of_and_the_batch_goes_on(cli: Cli) -> None:
    made = cli.json("batch", "create", "x", *QUICK)
    watching = cli.start("batch", "watch", made["id"])
    time.sleep(3)
    assert watching.poll() is None
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=20)
    assert watching.returncode == 130, err
    assert f"`gator batch run {made['id']}` draws it" in err
    assert "Traceback" not in err
    assert state(cli, made["id"])["state"] == "queued"


def test_without_a_server_it_is_said_that_there_is_none(cli: Cli) -> None:
    for command in (("top",), ("devices", "release", "cpu:0")):
        done = cli.run(*command, "--server", "http://127.0.0.1:9")
        assert done.returncode == 1
        assert "no Gator answers at http://127.0.0.1:9" in done.stderr
        assert "Traceback" not in done.stderr
    assert cli.run("top", "--server", "nowhere").returncode == 2


def test_a_stream_does_not_hold_up_the_end_of_the_server(cli: Cli) -> None:
    with gator_serve(cli.home) as server:
        wanted = {"prompts": ["x"] * 50, "model": "illustrated", "width": 1024, "height": 1024}
        batch = server.client.post("/api/v1/batches", json=wanted).json()["id"]
        server.client.post(f"/api/v1/batches/{batch}/pause")
        with server.client.stream("GET", f"/api/v1/batches/{batch}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("event: ")
            assert server.stop(signal.SIGTERM) < 2 < STOP_WITHIN_S
            assert list(lines)[-1] == ""  # ended as a whole answer, and not cut off


def test_log_lines_of_a_picture_say_which_it_is(cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    made = cli.json("batch", "create", "one", " ", *QUICK)["id"]
    loud = {"GATOR_LOG_JSON": "true", "GATOR_LOG_LEVEL": "INFO"}
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [GATOR, "serve", "--port", "0"],
            env=cli.environment(**loud),
            cwd=tmp_path,
            stderr=stderr,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: state(cli, made)["state"] == "done")
        finally:
            process.terminate()
            process.wait(20)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    (ended,) = [r for r in records if r["event"] == "item.ended"]
    assert (ended["batch"], ended["item"], ended["attempt"]) == (made, 0, 1)
    assert (ended["device"], ended["state"]) == ("cpu:0", "done")
