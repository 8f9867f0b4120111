"""Captions over the API: written, kept, explained, written anew, and made with their picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from backend.captions.platforms import EVERYWHERE, platform_named
from tests.fixtures.chat_endpoint import ChatEndpoint, chat_endpoint, refused, streamed

Persona = Callable[..., dict[str, Any]]
Approved = Callable[[httpx2.Client], str]
CAPTIONS = "/api/v1/captions"
EXPLAIN = "/api/v1/captions/explain"
PICTURE = {"prompt": "in a workshop", "model": "illustrated", "width": 128, "height": 128}


@pytest.fixture(scope="module")
def mira(api: httpx2.Client, persona: Persona) -> str:
    return str(api.post("/api/v1/personas", json=persona()).json()["id"])


@pytest.fixture
def endpoint() -> Iterator[ChatEndpoint]:
    with chat_endpoint() as state:
        yield state


def ask(api: httpx2.Client, persona_id: str, **wanted: Any) -> dict[str, Any]:
    body = {"persona_id": persona_id, "prompt": "a morning walk", **wanted}
    answer = api.post(CAPTIONS, json={name: value for name, value in body.items() if value})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_a_caption_says_how_it_came_to_be(api: httpx2.Client, mira: str) -> None:
    told = ask(api, mira, seed=3)
    (caption,) = told["captions"]
    assert not told["remembered"]
    assert (caption["origin"], caption["model"], caption["rung"]) == ("template", None, None)
    assert (caption["seed"], caption["style"], caption["platform"]) == (3, "creative", "any")
    assert caption["theme"] in {"street art", "colour"}
    assert caption["plan"]
    assert caption["fragments"]
    assert caption["scores"]["creative"] == 3
    assert (caption["degraded_reason"], caption["findings"]) == (None, [])
    assert (caption["prompt"], caption["post"], caption["locale"]) == ("a morning walk", 0, "en")


def test_one_post_has_the_form_of_every_platform(api: httpx2.Client, mira: str) -> None:
    told = ask(api, mira, platforms="all", seed=4, count=2)["captions"]
    assert [one["post"] for one in told] == [0] * len(EVERYWHERE) + [1] * len(EVERYWHERE)
    for one in told:
        assert platform_named(one["platform"]).fits(one["text"])
    named = ask(api, mira, platforms=["linkedin", "mastodon:400"], seed=4)["captions"]
    assert [one["platform"] for one in named] == ["linkedin", "mastodon:400"]
    assert named[0]["fragments"] == told[0]["fragments"]


def test_prompts_are_written_about_in_turn_and_terms_hold(api: httpx2.Client, mira: str) -> None:
    told = ask(
        api,
        mira,
        prompt=None,
        prompts=["ein Wandbild", "ein Hafen"],
        count=2,
        seed=1,
        locale="de",
        time_of_day="night",
        content_rating="moderate",
        facts=["Der Hafen öffnet im Mai."],
    )["captions"]
    assert [(one["prompt"], one["post"], one["seed"]) for one in told] == [
        ("ein Wandbild", 0, 1),
        ("ein Wandbild", 1, 2),
        ("ein Hafen", 2, 1),
        ("ein Hafen", 3, 2),
    ]
    assert {one["locale"] for one in told} == {"de"}
    assert len({one["text"] for one in told}) == 4


def test_a_preview_changes_nothing_and_what_is_kept_is_not_said_again(
    api: httpx2.Client, persona: Persona
) -> None:
    noa = api.post("/api/v1/personas", json=persona(name="Noa")).json()["id"]
    first, again = (ask(api, noa, seed=9)["captions"][0]["text"] for _ in range(2))
    assert first == again
    kept = ask(api, noa, seed=9, remember=True)
    assert (kept["captions"][0]["text"], kept["remembered"]) == (first, True)
    assert ask(api, noa, seed=9)["captions"][0]["text"] != first


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prompts": ["a"]}, "prompt or prompts"),
        ({"prompt": None}, "prompt or prompts"),
        ({"prompt": None, "prompts": ["a"] * 60, "count": 2}, "more than 100"),
        ({"platforms": ["friendster"]}, "friendster"),
        ({"platforms": ["Instagram!"]}, "platforms"),
        ({"content_rating": "spicy"}, "content_rating"),
        ({"time_of_day": "noon"}, "time_of_day"),
        ({"facts": ["x" * 301]}, "facts"),
        ({"locale": "klingon-for-beginners"}, "locale"),
        ({"seed": -1}, "seed"),
        ({"odd": 1}, "odd"),
    ],
)
def test_what_cannot_be_asked_for_is_named(
    api: httpx2.Client, mira: str, changes: dict[str, Any], named: str
) -> None:
    body = {"persona_id": mira, "prompt": "a walk", **changes}
    answer = api.post(CAPTIONS, json={k: v for k, v in body.items() if v is not None})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert named in answer.text


def test_nobody_speaks_for_a_persona_that_is_not_there(api: httpx2.Client) -> None:
    wanted = {"persona_id": "nobody", "prompt": "a walk"}
    assert api.post(CAPTIONS, json=wanted).status_code == 404
    assert api.get(EXPLAIN, params=wanted).status_code == 404


def test_a_caption_is_explained_as_it_is_written(api: httpx2.Client, mira: str) -> None:
    wanted = {"persona_id": mira, "prompt": "a red bicycle", "seed": 12, "platform": "x"}
    told = api.get(EXPLAIN, params={**wanted, "facts": ["It is one.", "It is two."]})
    assert told.status_code == 200, told.text
    plain = api.get(EXPLAIN, params=wanted).json()
    (written,) = ask(api, mira, prompt="a red bicycle", seed=12, platforms=["x"])["captions"]
    assert plain["caption"]["text"] == written["text"]
    assert plain["topic"] == {"text": "a red bicycle", "kind": "noun", "prompt": "a red bicycle"}
    assert [one["id"] for one in plain["fragments"]] == plain["caption"]["fragments"]
    (winner,) = [one for one in plain["candidates"] if one["chosen"]]
    assert winner["text"] == written["text"]
    assert all(one["why"] for one in plain["candidates"])
    assert plain["modifiers"] == ["warm"]
    assert plain["evidence"]
    refused = api.get(EXPLAIN, params={**wanted, "odd": "1"})
    assert refused.status_code == 422


def test_a_picture_and_its_caption_are_made_together_and_once(
    api: httpx2.Client, approved: Approved
) -> None:
    place = f"/api/v1/personas/{approved(api)}/content"
    wanted = {**PICTURE, "seed": 5, "platforms": ["x", "instagram"], "time_of_day": "morning"}
    key = {"Idempotency-Key": "a-picture"}
    made = api.post(place, json=wanted, headers=key)
    assert made.status_code == 201, made.text
    content = made.json()
    assert made.headers["location"] == f"/api/v1/content/{content['id']}"
    assert (content["seed"], content["prompt"]) == (5, "in a workshop")
    assert (content["width"], content["model"]) == (128, "illustrated")
    assert (content["caption_origin"], content["caption_draft"]) == ("template", False)
    detail = content["caption_detail"]
    assert set(detail["forms"]) == {"x", "instagram"}
    assert detail["terms"] == {"platforms": ["x", "instagram"], "time_of_day": "morning"}
    assert api.get(made.headers["location"]).json() == content
    again = api.post(place, json=wanted, headers=key)
    assert (again.status_code, again.json()) == (201, content)
    assert again.headers["idempotent-replayed"] == "true"
    assert (
        api.get("/api/v1/content", params={"persona_id": content["persona_id"]}).json()["total"]
        == 1
    )


def test_a_picture_that_cannot_be_made_is_told_as_any_error(
    api: httpx2.Client, approved: Approved, mira: str
) -> None:
    waiting = api.post(f"/api/v1/personas/{mira}/content", json=PICTURE)
    assert (waiting.status_code, waiting.json()["code"]) == (409, "conflict")
    place = f"/api/v1/personas/{approved(api)}/content"
    unknown = api.post(place, json={**PICTURE, "model": "nothing"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_available")
    platform = api.post(place, json={**PICTURE, "platforms": ["friendster"]})
    assert (platform.status_code, platform.json()["code"]) == (422, "invalid_request")


def test_a_caption_is_rewritten_by_a_model_and_edited_by_a_person(
    open_api: Callable[..., Any], approved: Approved, endpoint: ChatEndpoint
) -> None:
    endpoint.answers = [refused(500), streamed("Sawdust, colour, and a workshop full of sun.")]
    with open_api(llm_base_url=endpoint.url, llm_model="m") as client:
        made = client.post(f"/api/v1/personas/{approved(client)}/content", json=PICTURE).json()
        assert (made["caption_origin"], made["caption_draft"]) == ("template", True)
        place = f"/api/v1/content/{made['id']}/caption"
        ends = time.monotonic() + 30
        while (done := client.post(f"{place}/rewrite")).status_code != 200:
            assert done.json()["code"] == "provider", done.text
            assert time.monotonic() < ends, "the model did not come back"
            time.sleep(0.1)
        told = done.json()
        assert (told["caption_origin"], told["caption_draft"]) == ("llm", False)
        assert told["caption_detail"]["history"][0]["text"] == made["caption"]
        assert client.post(f"{place}/rewrite").status_code == 409
        mine = client.put(place, json={"text": "Mine, with sawdust."})
        assert (mine.status_code, mine.json()["caption_origin"]) == (200, "person")
        assert len(mine.json()["caption_detail"]["history"]) == 2
        assert client.put(place, json={"text": " "}).status_code == 422
        assert client.put("/api/v1/content/no/caption", json={"text": "x"}).status_code == 404


def test_a_batch_s_captions_are_asked_for_in_terms(
    api: httpx2.Client, approved: Approved, finished: Callable[..., dict[str, Any]]
) -> None:
    wanted = {
        "persona_id": approved(api),
        "prompts": ["in a workshop", "at the sea"],
        "model": "illustrated",
        "caption": {"platforms": "all", "facts": ["The sea is near."], "locale": "de"},
    }
    odd = api.post("/api/v1/batches", json={**wanted, "caption": {"platforms": ["friendster"]}})
    assert (odd.status_code, odd.json()["code"]) == (422, "invalid_request")
    asked = api.post("/api/v1/batches", json=wanted).json()
    terms = {"platforms": ["all"], "facts": ["The sea is near."], "locale": "de"}
    assert asked["caption_terms"] == terms
    for item in finished(api, asked["id"])["items"]:
        detail = api.get(f"/api/v1/content/{item['content_id']}").json()["caption_detail"]
        assert (detail["locale"], detail["terms"]) == ("de", terms)
        assert set(detail["forms"]) == {platform.name for platform in EVERYWHERE}


def test_without_a_model_nothing_is_rewritten(api: httpx2.Client, approved: Approved) -> None:
    made = api.post(f"/api/v1/personas/{approved(api)}/content", json=PICTURE).json()
    answer = api.post(f"/api/v1/content/{made['id']}/caption/rewrite")
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_not_configured")
    assert api.post("/api/v1/content/nothing/caption/rewrite").status_code == 404
