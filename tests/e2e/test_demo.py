"""The main job as a user meets it: `gator demo`, once, again, and cut off in the midst."""

from __future__ import annotations

import re
import signal
import sqlite3
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.e2e.support import Cli

if TYPE_CHECKING:
    from playwright.async_api import Browser


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cli, dict[str, Any]]:
    """One real demo, shared by the tests that look at what it made."""
    cli = Cli(tmp_path_factory.mktemp("demo") / "home", devices="auto")
    return cli, cli.json("demo")


def contents(cli: Cli) -> list[tuple[Any, ...]]:
    with sqlite3.connect(cli.home / "gator.sqlite3") as database:
        return database.execute(
            "SELECT id, sha256, device, caption FROM contents ORDER BY id"
        ).fetchall()


def test_it_reports_what_it_made(demo: tuple[Cli, dict[str, Any]]) -> None:
    _, report = demo
    assert set(report) == {"gallery", "personas", "images", "errors", "devices", "seconds"}
    assert (report["personas"], report["images"], report["errors"]) == (4, 32, 0)
    assert report["devices"] == ["cpu:0", "cpu:1"]
    assert Path(report["gallery"]).is_absolute()
    assert Path(report["gallery"]).is_file()
    assert {"base_images", "images", "captions", "gallery", "total"} <= set(report["seconds"])


def test_every_picture_has_a_caption_of_its_own(demo: tuple[Cli, dict[str, Any]]) -> None:
    captions = [row[3] for row in contents(demo[0])]
    assert len(captions) == len(set(captions)) == 32
    assert all(50 < len(caption) <= 2_200 for caption in captions)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            self.sources.append(values.get("src") or "")
        self.links += [v for k, v in attrs if k in ("href", "src", "action", "srcset") and v]


def test_the_gallery_holds_every_picture_and_no_link_leads_out(
    demo: tuple[Cli, dict[str, Any]],
) -> None:
    page = _Page()
    page.feed(Path(demo[1]["gallery"]).read_text("utf-8"))
    assert len(page.sources) >= 36
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(link.startswith(("data:", "#")) for link in page.links)


@pytest.mark.asyncio(loop_scope="session")
async def test_the_gallery_opens_in_a_browser_with_all_its_pictures(
    demo: tuple[Cli, dict[str, Any]], browser: Browser
) -> None:
    context = await browser.new_context(offline=True, viewport={"width": 390, "height": 844})
    page = await context.new_page()
    faults: list[str] = []
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: faults.append(str(e)))
    await page.goto(f"file://{demo[1]['gallery']}")
    widths = await page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
    overflow = await page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    await context.close()
    assert len(widths) >= 36
    assert all(width == 128 for width in widths)
    assert overflow <= 0
    assert faults == []


def test_the_second_run_is_quick_and_makes_nothing_again(
    demo: tuple[Cli, dict[str, Any]],
) -> None:
    cli, first = demo
    before = contents(cli)
    started = time.monotonic()
    again = cli.json("demo")
    assert time.monotonic() - started < 15
    assert contents(cli) == before
    assert again["images"] == first["images"]


def test_without_json_it_ends_with_the_gallerys_path(demo: tuple[Cli, dict[str, Any]]) -> None:
    cli, report = demo
    done = cli.run("demo")
    assert done.stdout.splitlines()[-1] == f"Gallery: {report['gallery']}"


def test_fresh_makes_all_anew_and_the_same(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    options = ("demo", "--model", "illustrated")
    cli.json(*options)
    first = contents(cli)
    cli.json(*options, "--fresh")
    second = contents(cli)
    assert {row[0] for row in first}.isdisjoint(row[0] for row in second)
    assert sorted(row[1] for row in first) == sorted(row[1] for row in second)


def test_one_slot_and_two_give_the_same_bytes_twice_in_a_row(tmp_path: Path) -> None:
    made = []
    for name, devices in (("one", "cpu:1"), ("two", "cpu:2")):
        cli = Cli(tmp_path / name, devices)
        cli.json("persona", "new", "--name", "Ada", "--appearance", "grey hair, glasses",
                 "--personality", "analytical")  # fmt: skip
        base = cli.json("base-image", "seed", "Ada", "--seed", "4")
        cli.json("base-image", "approve", "Ada")
        for _ in range(2):
            prompts = [f"smiling {i}, blue background" for i in range(4)]
            batch = cli.json("generate", "Ada", *prompts, "--seed", "9", "--no-captions")
            items = [(item["seed"], item["sha256"]) for item in batch["items"]]
            made.append((base["versions"][0]["sha256"], items))
    assert made[0] == made[1] == made[2] == made[3]
    assert len({sha256 for _, sha256 in made[0][1]}) == 4


def test_captions_do_not_depend_on_the_devices(tmp_path: Path) -> None:
    written = []
    for name, devices in (("one", "cpu:1"), ("two", "cpu:2")):
        cli = Cli(tmp_path / name, devices)
        cli.json("demo", "--model", "illustrated")
        written.append(sorted((row[1], row[3]) for row in contents(cli)))
    assert written[0] == written[1]


def test_ctrl_c_keeps_what_is_finished_and_the_next_run_goes_on(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    process = cli.start("demo", "--json")
    _wait_for_pictures(cli, 5)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) == 2
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    gone, alive = psutil.wait_procs(workers, timeout=max(0.1, 2 - (time.monotonic() - started)))
    assert (len(gone), alive) == (2, [])
    assert "Traceback" not in errors
    kept = contents(cli)
    assert 5 <= len(kept) < 32
    report = cli.json("demo")
    assert (report["images"], report["errors"]) == (32, 0)
    after = {row[:3] for row in contents(cli)}
    assert len(after) == 32
    assert {row[:3] for row in kept} <= after


def test_a_batch_that_was_stopped_goes_on_by_its_number(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    cli.json("persona", "new", "--name", "Ada", "--appearance", "grey hair", "--personality", "dry")
    cli.json("base-image", "seed", "Ada", "--model", "illustrated")
    cli.json("base-image", "approve", "Ada")
    process = cli.start("generate", "Ada", *(f"smiling {i}" for i in range(24)), "--steps", "4")
    _wait_for_pictures(cli, 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    found = re.search(r"--resume ([0-9a-f-]{36})", errors)
    assert found
    kept = {row[0] for row in contents(cli)}
    assert 3 <= len(kept) < 24
    resumed = cli.json("generate", "Ada", "--resume", found[1])
    assert (resumed["images"], resumed["errors"], resumed["batch"]) == (24, 0, found[1])
    assert kept <= {item["content_id"] for item in resumed["items"]}


def _wait_for_pictures(cli: Cli, count: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (cli.home / "gator.sqlite3").exists():
            try:
                if len(contents(cli)) >= count:
                    return
            except sqlite3.OperationalError:
                pass  # not migrated yet
        time.sleep(0.05)
    raise AssertionError(f"{count} pictures were not made in time")


def test_progress_goes_to_stderr_with_rate_and_time_left(
    demo: tuple[Cli, dict[str, Any]],
) -> None:
    done = demo[0].run("demo")
    for stage in ("base images", "images", "captions", "gallery"):
        assert re.search(rf"{stage} .*\d+/\d+", done.stderr), stage
