"""Batches over HTTP: asked for in every form, read, paged, followed, stopped and gone on with."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from tests.integration.test_api_refusals import fields_of, problem_of

BATCHES = "/api/v1/batches"
NDJSON = {"Content-Type": "application/x-ndjson"}
QUICK = {"model": "illustrated", "width": 64, "height": 64}

Finished = Callable[[httpx2.Client, str], dict[str, Any]]


def asked(client: httpx2.Client, **wanted: Any) -> dict[str, Any]:
    """Ask for a batch of bare prompts, small and quickly drawn."""
    response = client.post(BATCHES, json={**QUICK, **wanted})
    assert response.status_code == 202, response.text
    found: dict[str, Any] = response.json()
    assert response.headers["location"] == f"{BATCHES}/{found['id']}"
    return found


def lines(*prompts: object) -> bytes:
    return b"".join(json.dumps(prompt).encode() + b"\n" for prompt in prompts)


def done(client: httpx2.Client, batch_id: str, action: str) -> httpx2.Response:
    return client.post(f"{BATCHES}/{batch_id}/{action}")


# Asking


def test_prompts_times_seeds_times_sizes(api: httpx2.Client, finished: Finished) -> None:
    wanted = {"prompts": ["one", "two"], "seeds": [5, 6], "sizes": ["64x64", "96x64"]}
    batch = asked(api, **wanted, width=None, height=None, priority=3)
    assert (batch["total"], batch["persona_id"], batch["created_by"]) == (8, None, "owner")
    assert (batch["priority"], batch["items_url"]) == (3, f"{BATCHES}/{batch['id']}/items")
    items = [(i["prompt"], i["seed"], i["options"]) for i in batch["items"]]
    assert items == [
        (prompt, seed, {"width": width, "height": 64})
        for prompt in ("one", "two")
        for seed in (5, 6)
        for width in (64, 96)
    ]
    ended = finished(api, batch["id"])
    assert (ended["state"], ended["counts"]["done"]) == ("done", 8), ended
    content = [api.get(f"/api/v1/content/{i['content_id']}").json() for i in ended["items"]]
    assert [c["width"] for c in content] == [64, 96] * 4
    assert [c["seed"] for c in content] == [5, 5, 6, 6] * 2
    assert {i["device"] for i in ended["items"]} == {"cpu:0"}


def test_a_prompt_a_line(api: httpx2.Client, finished: Finished) -> None:
    query = {"model": "illustrated", "width": 64, "height": 64, "seed": 9, "captions": False}
    body = lines("first", "zweite, größer") + b"\r\n  \n" + b'"last without a newline"'
    response = api.post(BATCHES, params=query, content=body, headers=NDJSON)
    assert response.status_code == 202, response.text
    batch = response.json()
    assert (batch["seed"], batch["captions"]) == (9, False)
    prompts = ["first", "zweite, größer", "last without a newline"]
    assert [item["prompt"] for item in batch["items"]] == prompts
    assert finished(api, batch["id"])["counts"]["done"] == 3
    whole = asked(api, prompts=prompts, seed=9, captions=False)
    assert [i["seed"] for i in whole["items"]] == [i["seed"] for i in batch["items"]]


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        (b"", "prompts", "no lines"),
        (b"\n \n", "prompts", "no lines"),
        (lines("fine") + b"not json\n", "prompts.2", "line 2 is not readable JSON"),
        (lines("fine", "fine", 7), "prompts.3", "line 3 is no JSON text"),
        (lines({"prompt": "x"}), "prompts.1", "line 1 is no JSON text"),
        (b"[" * 60_000, "prompts.1", "not readable"),
        (b"\xff\xfe\n", "prompts.1", "not readable"),
    ],
)
def test_a_line_that_is_no_prompt_is_named_and_nothing_is_written(
    api: httpx2.Client, body: bytes, field: str, says: str
) -> None:
    before = api.get(BATCHES).json()["total"]
    refused = api.post(BATCHES, content=body, headers=NDJSON)
    assert fields_of(refused) == {field}
    assert says in refused.json()["detail"]
    assert api.get(BATCHES).json()["total"] == before


def test_a_line_has_a_bound_and_so_has_their_number(api: httpx2.Client) -> None:
    long = api.post(BATCHES, content=lines("fine", "x" * 70_000), headers=NDJSON)
    assert problem_of(long, 413, "too_large")["line"] == 2

    def endless() -> Iterator[bytes]:
        for _ in range(101):
            yield b'"x"\n' * 1_000

    many = api.post(BATCHES, content=endless(), headers=NDJSON)
    assert fields_of(many) == {"prompts"}
    assert "100,000" in many.json()["detail"]
    seeds = {"seeds": [1, 2, 3]}
    too_many = api.post(BATCHES, params=seeds, content=b'"x"\n' * 40_000, headers=NDJSON)
    assert fields_of(too_many) == {"prompts"}


def test_a_long_refused_body_is_answered_all_the_same(api: httpx2.Client) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"no prompt at all\n"
        for _ in range(200):
            yield lines("x" * 4_000) * 10

    assert fields_of(api.post(BATCHES, content=pieces(), headers=NDJSON)) == {"prompts.1"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"seed": "many"}, "seed"),
        ({"priority": 10}, "priority"),
        ({"colour": "red"}, "colour"),
        ({"sizes": "8x8"}, "sizes.0"),
        ({"guidance_scale": "nan"}, "guidance_scale"),
        ({"prompts": "x"}, "prompts"),
    ],
)
def test_options_in_the_query_are_checked(
    api: httpx2.Client, query: dict[str, Any], field: str
) -> None:
    assert fields_of(api.post(BATCHES, params=query, content=lines("x"), headers=NDJSON)) == {field}


def test_options_stand_in_the_body_or_in_the_query_and_never_in_both(api: httpx2.Client) -> None:
    refused = api.post(BATCHES, params={"seed": 1}, json={"prompts": ["x"]})
    assert fields_of(refused) == {"seed"}
    assert refused.json()["errors"][0]["location"] == "query"
    for kind in ("text/plain", "application/xml", ""):
        other = api.post(BATCHES, content=b'"x"', headers={"Content-Type": kind})
        assert fields_of(other) == {"body"}
        assert "application/x-ndjson" in other.json()["detail"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5_000, b"null"])
def test_a_body_that_is_no_batch_is_refused(api: httpx2.Client, body: bytes) -> None:
    sent = api.post(BATCHES, content=body, headers={"Content-Type": "application/json"})
    assert fields_of(sent)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompts": None}, "prompts"),
        ({"template": "{a|b}"}, "prompts"),
        ({"sample": 3}, "sample"),
        ({"prompts": None, "template": "{a|b"}, "template"),
        ({"prompts": None, "template": "__../../etc/passwd__"}, "template"),
        ({"prompts": None, "template": "{0|1|2|3|4|5|6|7|8|9}" * 6}, "template"),
        ({"sizes": ["4097x64"]}, "sizes.0"),
        ({"sizes": ["64 x 64"]}, "sizes.0"),
        ({"sizes": []}, "sizes"),
        ({"seeds": [-1]}, "seeds.0"),
        ({"priority": -1}, "priority"),
        ({"weight": 0}, "weight"),
        ({"cloud_cap_usd": -0.1}, "cloud_cap_usd"),
        ({"format": "bmp"}, "format"),
        ({"allow_cloud": "yes"}, "allow_cloud"),
        ({"prompts": ["x"] * 1_000, "seeds": list(range(101))}, "prompts"),
    ],
)
def test_what_is_wrong_is_named(api: httpx2.Client, change: dict[str, Any], field: str) -> None:
    assert fields_of(api.post(BATCHES, json={"prompts": ["x"], **change})) == {field}


def test_a_template_is_looked_at_and_then_drawn_from(open_api: Any, tmp_path: Path) -> None:
    with open_api() as client:
        folder = tmp_path / "wildcards"
        folder.mkdir()
        (folder / "places.txt").write_text("at sea\n# a comment\nin town\n")
        template = "a {red|blue|green} hat, __places__"
        all_of_it = preview(client, template=template, limit=3)
        assert (all_of_it["count"], all_of_it["total"]) == (6, 6)
        assert all_of_it["prompts"][0] == "a red hat, at sea"
        assert len(all_of_it["prompts"]) == 3
        some = preview(client, template=template, sample=4, seed=11)
        assert (some["count"], some["total"], len(some["prompts"])) == (6, 4, 4)
        batch = asked(client, template=template, sample=4, seed=11)
        assert [item["prompt"] for item in batch["items"]] == some["prompts"]
        assert asked(client, template=template)["total"] == 6
        literal = asked(client, prompts=["a {red|blue} hat"])
        assert [item["prompt"] for item in literal["items"]] == ["a {red|blue} hat"]


def preview(client: httpx2.Client, **wanted: Any) -> dict[str, Any]:
    response = client.post("/api/v1/prompts/preview", json=wanted)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_a_template_with_a_fault_says_where(api: httpx2.Client) -> None:
    refused = api.post("/api/v1/prompts/preview", json={"template": "a {b|c"})
    assert fields_of(refused) == {"template"}
    assert "character" in refused.json()["detail"]
    huge = preview(api, template="{a|b}" * 200)
    assert huge["count"] == 2**200
    assert len(huge["prompts"]) == 20


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_a_batch_is_asked_for_once(api: httpx2.Client, form: str) -> None:
    key = {"Idempotency-Key": f"once-{form}"}

    def sent(prompt: str) -> httpx2.Response:
        if form == "json":
            return api.post(BATCHES, json={**QUICK, "prompts": [prompt]}, headers=key)
        return api.post(BATCHES, params=QUICK, content=lines(prompt), headers={**NDJSON, **key})

    first, again = sent("x"), sent("x")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert fields_of(sent("y")) == {"Idempotency-Key"}


# Reading


def test_a_large_batch_is_read_by_the_page(
    api: httpx2.Client, rounds: Callable[[int, int], int]
) -> None:
    count = rounds(3_000, 100_000)
    body = b"".join(b'"picture %d"\n' % n for n in range(count))
    began = time.monotonic()
    sent = api.post(BATCHES, params=QUICK, content=body, headers=NDJSON)
    assert sent.status_code == 202, sent.text
    took_s = time.monotonic() - began
    assert took_s < rounds(10, 60), f"{count} items were written in {took_s:.1f} s"
    batch = sent.json()
    assert done(api, batch["id"], "cancel").status_code == 200
    assert (batch["total"], batch["items"]) == (count, None)
    assert api.get(sent.headers["location"]).json()["items"] is None
    positions: list[int] = []
    after: int | None = None
    while True:
        given = {} if after is None else {"after": after}
        page = api.get(batch["items_url"], params={"limit": 1_000, **given}).json()
        positions += [item["position"] for item in page["items"]]
        after = page["next_after"]
        if after is None:
            break
    assert positions == list(range(count))
    some = api.get(batch["items_url"], params={"state": "cancelled", "limit": 5}).json()
    assert [item["state"] for item in some["items"]] == ["cancelled"] * 5


@pytest.mark.parametrize(
    ("query", "field"),
    [({"limit": 0}, "limit"), ({"limit": 1_001}, "limit"), ({"after": -1}, "after"),
     ({"state": "lost"}, "state")],
)  # fmt: skip
def test_pages_of_items_have_bounds(api: httpx2.Client, query: dict[str, Any], field: str) -> None:
    assert fields_of(api.get(f"{BATCHES}/any/items", params=query)) == {field}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "items"),
        ("GET", "items/0/attempts"),
        ("GET", "events"),
        ("POST", "cancel"),
        ("POST", "pause"),
        ("POST", "resume"),
        ("POST", "retry-failed"),
    ],
)
def test_a_batch_that_is_not_there_is_not_found(api: httpx2.Client, method: str, path: str) -> None:
    problem_of(api.request(method, f"{BATCHES}/none/{path}"), 404, "not_found")


def test_every_attempt_at_an_item_is_told(api: httpx2.Client, finished: Finished) -> None:
    batch = finished(api, asked(api, prompts=["once"])["id"])
    (attempt,) = api.get(f"{batch['items_url']}/0/attempts").json()["items"]
    assert (attempt["n"], attempt["device"], attempt["error"]) == (1, "cpu:0", None)
    assert attempt["started_at"] <= attempt["ended_at"]
    problem_of(api.get(f"{batch['items_url']}/1/attempts"), 404, "not_found")


# Stopping and going on


def test_a_batch_is_paused_gone_on_with_and_cancelled(
    api: httpx2.Client, finished: Finished
) -> None:
    batch = asked(api, prompts=[f"scene {n}" for n in range(40)], width=512, height=512)
    place = batch["id"]
    paused = done(api, place, "pause").json()
    assert (paused["state"], paused["state_reason"]) == ("paused", "paused by owner")
    refused = problem_of(done(api, place, "pause"), 409, "conflict")
    assert refused["state"] == "paused"
    until(lambda: not progress(api, place)["counts"]["running"])
    rests = progress(api, place)["counts"]
    time.sleep(0.3)
    assert progress(api, place)["counts"] == rests
    assert rests["queued"] > 0
    assert done(api, place, "resume").json()["state"] in ("queued", "running")
    problem_of(done(api, place, "resume"), 409, "conflict")
    until(lambda: progress(api, place)["counts"]["done"] > rests["done"])
    cancelled = done(api, place, "cancel").json()
    assert cancelled["state"] == "cancelled"
    assert cancelled["counts"]["queued"] == cancelled["counts"]["running"] == 0
    for action in ("cancel", "pause", "resume", "retry-failed"):
        problem_of(done(api, place, action), 409, "conflict")
    after = finished(api, place)
    assert sum(after["counts"].values()) == 40
    assert after["counts"]["cancelled"] > 0
    assert [s for s in {i["state"] for i in after["items"]} if s not in ("done", "cancelled")] == []


def test_failed_items_are_tried_again_but_not_those_that_were_refused(
    api: httpx2.Client, finished: Finished
) -> None:
    batch = finished(api, asked(api, prompts=["fine", " "])["id"])
    assert (batch["counts"]["done"], batch["counts"]["failed"]) == (1, 1)
    again = done(api, batch["id"], "retry-failed")
    assert again.status_code == 200
    assert again.json()["counts"] == batch["counts"]


def progress(client: httpx2.Client, batch_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"{BATCHES}/{batch_id}").json()
    return found


def until(true: Callable[[], bool], within_s: float = 60) -> None:
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)


# Following


class Event(NamedTuple):
    id: int
    event: str
    data: dict[str, Any]


def events(response: httpx2.Response) -> Iterator[Event | str]:
    """Read a stream: events, and comments as text."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line.startswith(":"):
            yield line
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}


def follow(client: httpx2.Client, batch_id: str, last: int | None = None) -> list[Event]:
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with client.stream("GET", f"{BATCHES}/{batch_id}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        return [event for event in events(response) if isinstance(event, Event)]


def test_a_batch_is_followed_to_its_end_and_from_where_one_was_cut_off(
    api: httpx2.Client,
) -> None:
    batch = asked(api, prompts=[f"scene {n}" for n in range(12)], width=256, height=256)
    seen = follow(api, batch["id"])
    numbers = [event.id for event in seen]
    assert numbers == sorted(set(numbers))
    assert seen[-1].event == "end"
    assert seen[-1].data["counts"]["done"] == 12
    last_of = {e.data["position"]: e.data["state"] for e in seen if e.event == "item"}
    assert last_of == dict.fromkeys(range(12), "done")

    again = follow(api, batch["id"])
    assert {e.data["position"] for e in again if e.event == "item"} == set(range(12))
    middle = again[len(again) // 2].id
    assert follow(api, batch["id"], middle) == [event for event in again if event.id > middle]
    heard_all = {"Last-Event-ID": str(again[-1].id)}
    over = api.get(f"{BATCHES}/{batch['id']}/events", headers=heard_all)
    assert (over.status_code, over.content) == (204, b"")


def test_a_quiet_stream_is_kept_alive(api: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.2)
    batch = asked(api, prompts=["x"] * 20, width=512, height=512)
    done(api, batch["id"], "pause")
    all_there_was = {"Last-Event-ID": str(10**6)}
    path = f"{BATCHES}/{batch['id']}/events"
    with api.stream("GET", path, headers=all_there_was) as response:
        assert response.status_code == 200
        heard = next(event for event in events(response) if isinstance(event, str))
    assert heard.startswith(":")
    done(api, batch["id"], "cancel")


@pytest.mark.parametrize("last", ["-1", "x", str(2**70)])
def test_a_last_event_that_is_none_is_refused(api: httpx2.Client, last: str) -> None:
    batch = asked(api, prompts=["x"])
    sent = api.get(f"{BATCHES}/{batch['id']}/events", headers={"Last-Event-ID": last})
    assert fields_of(sent) == {"Last-Event-ID"}


# Devices and figures


def test_a_device_that_keeps_failing_is_set_aside_and_released(
    open_api: Any, finished: Finished
) -> None:
    with open_api() as client:
        batch = asked(client, prompts=[f"scene {n}" for n in range(60)])

        def device() -> dict[str, Any]:
            (found,) = client.get("/api/v1/devices").json()["items"]
            return dict(found)

        problem_of(client.post("/api/v1/devices/cpu:0/release"), 409, "conflict")
        problem_of(client.post("/api/v1/devices/cpu:7/release"), 404, "not_found")
        killed: set[int] = set()

        def kill() -> bool:
            now = device()
            if now["worker_pid"] and now["worker_pid"] not in killed:
                killed.add(now["worker_pid"])
                os.kill(now["worker_pid"], signal.SIGKILL)
            return bool(now["state"] == "quarantined")

        until(kill)
        assert len(killed) == 3
        assert device()["reason"]
        until(lambda: progress(client, batch["id"])["state"] == "paused")
        assert progress(client, batch["id"])["state_reason"]
        released = client.post("/api/v1/devices/cpu:0/release")
        assert released.status_code == 200, released.text
        assert released.json()["state"] != "quarantined"
        assert done(client, batch["id"], "resume").status_code == 200
        before = device()["done"]
        until(lambda: device()["done"] > before)
        done(client, batch["id"], "cancel")


def test_figures_for_prometheus(open_api: Any, finished: Finished) -> None:
    with open_api() as client:
        finished(client, asked(client, prompts=["a", "b", " "])["id"])
        plain = client.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain")
        told = figures(plain.text)
        assert told['gator_batch_items{state="done"}'] == 2
        assert told['gator_batch_items{state="failed"}'] == 1
        assert told["gator_queue_depth"] == 0
        assert told['gator_device_images_total{device="cpu:0",outcome="done"}'] == 2
        assert told['gator_device_state{device="cpu:0",state="idle"}'] == 1
        assert told['gator_device_restarts_total{device="cpu:0"}'] == 0
        assert 0 < told['gator_device_utilisation_ratio{device="cpu:0"}'] <= 1
        assert told['gator_worker_peak_resident_memory_bytes{device="cpu:0"}'] > 10**6
        for stage in ("queue", "render", "encode", "store"):
            assert told[f'gator_stage_seconds_count{{stage="{stage}"}}'] == 2, stage
        assert told["process_resident_memory_bytes"] > 10**6
        accepted = {"Accept": "application/openmetrics-text; version=1.0.0"}
        opened = client.get("/metrics", headers=accepted)
        assert opened.headers["content-type"].startswith("application/openmetrics-text")
        assert opened.text.endswith("# EOF\n")


def figures(text: str) -> dict[str, float]:
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in rows}
