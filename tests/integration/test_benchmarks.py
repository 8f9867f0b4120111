"""The benchmarks run and tell what they are to tell; how fast is not a test's business."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SPREAD = {"median", "lowest", "highest"}


def run(name: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--json", "--rounds", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["benchmark"] == name
    assert found["skipped"] is None
    for claim in found["claims"]:
        assert claim.keys() == {"claim", "figure", "target", "met"}
        assert (claim["met"] is None) == (claim["target"] is None)
    return found


def test_pool_scaling_compares_slots_with_bare_loops() -> None:
    """With one process each, since two more of torch would prove no more of the benchmark."""
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    few = ("--images", "2", "--steps", "2", "--slots", "1", "--bare")
    figures = run("pool_scaling", *few)["figures"]
    assert figures["images_per_s"].keys() == {"gator_1_slot", "bare_1_process"}
    assert all(speed.keys() == SPREAD for speed in figures["images_per_s"].values())
    assert figures["ratios"].keys() == {"one_slot_to_one_bare"}
    assert figures["byte_identical"]
    assert len(set(figures["sha256"])) == 2
    assert {who: len(sizes) for who, sizes in figures["resident_mib"].items()} == {
        "parent": 1,
        "workers of 1 slot": 1,
        "bare processes": 1,
    }
    assert figures["parent_without_torch"]


def test_determinism_tells_what_changes_bytes_and_what_does_not() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    ways = run("determinism", "--pictures", "2", "--steps", "2")["figures"]["ways"]
    strict = ("again, its words kept", "backwards", "a fresh engine")
    assert all(ways[way]["equal_share"] == 1 for way in strict)
    assert ways.keys() == {*strict, *(f"micro-batch {n}" for n in (2, 4, 8)), "2 threads"}
    assert all(found["max_difference"] <= 2 for found in ways.values())


def test_queue_cost_is_measured_on_both_databases() -> None:
    figures = run("queue_cost", "--sizes", "64")["figures"]
    assert figures.keys() == {"sqlite", "postgresql"}
    assert all(by_size["64"]["median_us"] > 0 for by_size in figures.values())


def test_the_dearest_number_of_items_counts_wherever_it_lies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    queue_cost = importlib.import_module("queue_cost")
    costs = {1_000: 1_000.0, 10_000: 1_400.0, 100_000: 1_100.0}
    runs = {items: [{"median_us": cost, "rss_bytes": 0.0}] for items, cost in costs.items()}
    flat, _ = queue_cost.as_report({"sqlite": runs}).claims
    assert (flat.figure, flat.met) == (1.4, False)


def test_cli_startup_is_timed_against_a_bare_app() -> None:
    figures = run("cli_startup")["figures"]
    assert figures["seconds"].keys() == {"gator --help", "gator config", "bare typer app --help"}
    assert figures["ratio_to_bare"].keys() == {"gator --help", "gator config"}
    assert all(ratio.keys() == SPREAD for ratio in figures["ratio_to_bare"].values())
    assert figures["heavy_imports"]["--help"] == []


def test_api_startup_is_timed_against_a_bare_app() -> None:
    figures = run("api_startup")["figures"]
    assert figures["seconds_to_healthz"].keys() == {"new home", "known home", "bare FastAPI"}
    assert figures["torch_room_loaded"] == []


def test_captions_are_counted_for_every_example_persona() -> None:
    personas = run("captions", "--captions", "20", "--grammar-captions", "40")["figures"][
        "personas"
    ]
    assert {figures["style"] for figures in personas.values()} == {
        "professional",
        "creative",
        "tech",
        "casual",
    }
    for figures in personas.values():
        assert figures["ratio_to_jinja2"].keys() == SPREAD
        assert 0 < figures["distinct"] <= 1
        assert 0 <= figures["on_topic"] <= 1


def test_the_cost_of_a_dead_language_model_is_measured() -> None:
    figures = run("caption_chain", "--calls", "50")["figures"]
    assert {"refused", "black hole", "breaker open"} <= figures["ms"].keys()
    assert all(cost.keys() == SPREAD for cost in figures["ms"].values())
    assert figures["ms"]["black hole"]["lowest"] >= figures["deadline_s"] * 1000
    assert 0 < figures["breaker_open_p99_ms"] < figures["ms"]["black hole"]["lowest"]


def test_the_migration_is_timed_against_a_bare_alter_table() -> None:
    figures = run("migration", "--rows", "500")["figures"]
    for database in ("SQLite", "PostgreSQL"):
        assert len(figures[database]["seconds"]) == 4
        assert all(ratio.keys() == SPREAD for ratio in figures[database]["ratio_to_bare"].values())


def test_prompt_sets_are_drawn_and_gone_through() -> None:
    figures = run("prompt_sets", "--prompts", "200")["figures"]
    assert figures["texts"].keys() == {"choices", "wildcards"}
    for text in figures["texts"].values():
        assert int(text["count"]) > 200
        assert {"drawn", "gone through"} <= text["prompts_per_s"].keys()
    assert figures["same_sets"] is not False


def test_the_simulated_pool_answers_its_three_questions() -> None:
    figures = run("pool_simulated", "--devices", "2", "--items", "4")["figures"]
    assert figures["share_of_n_over_t"].keys() == {"1", "2"}
    assert all(0 < share <= 1.05 for share in figures["share_of_n_over_t"].values())
    assert (
        0.99
        <= figures["makespan_over_least"]["speeds known"]
        < figures["makespan_over_least"]["modulo"]
    )
    assert all(found["loads"] >= found["least"] for found in figures["loads"].values())
