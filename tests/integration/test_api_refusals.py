"""What the API refuses, and how: a problem that names what was wrong, and never a 500."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

PROBLEM_TYPE = "application/problem+json"
PERSONAS = "/api/v1/personas"
JSON = {"Content-Type": "application/json"}

Persona = Callable[..., dict[str, Any]]


def problem_of(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a whole problem of a kind, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM_TYPE
    found: dict[str, Any] = response.json()
    assert found["type"] == f"urn:gator:problem:{code}"
    assert (found["status"], found["code"]) == (status, code)
    assert found["title"]
    assert found["detail"]
    assert found["instance"] == response.request.url.path
    assert found["request_id"] == response.headers["x-request-id"]
    return found


def fields_of(response: httpx2.Response) -> set[str]:
    found = problem_of(response, 422, "invalid_request")
    assert all(fault["message"] for fault in found["errors"])
    return {fault["field"] for fault in found["errors"]}


def test_every_faulty_field_is_named_and_nothing_is_created(api: httpx2.Client) -> None:
    before = api.get(PERSONAS).json()["total"]
    sent = {"name": " ", "appearance": 7, "style_preferences": {"tone": "x" * 500}, "colour": 1}
    response = api.post(PERSONAS, json=sent)
    assert fields_of(response) == {
        "name",
        "appearance",
        "personality",
        "style_preferences.tone",
        "colour",
    }
    assert {fault["location"] for fault in response.json()["errors"]} == {"body"}
    assert api.get(PERSONAS).json()["total"] == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a\0b"),
        ("name", "\ud800"),
        ("appearance", "red \udfff hair"),
        ("personality", "calm\x1b"),
        ("content_themes", ["fine", "\0"]),
        ("style_preferences", {"tone": "\ud83d"}),
        ("style_preferences", {"own": {"deep": ["\ud83d"]}}),
        ("style_preferences", {"own\0": 1}),
        ("style_preferences", {"own": {"\ud83d": 1}}),
        ("style_preferences", {"own": [[[[[[[1]]]]]]]}),
        ("style_preferences", {"own": float("nan")}),
    ],
)
def test_what_is_not_text_is_refused(
    api: httpx2.Client, persona: Persona, field: str, value: object
) -> None:
    response = api.post(PERSONAS, content=json.dumps(persona(**{field: value})), headers=JSON)
    assert {name.partition(".")[0] for name in fields_of(response)} == {field}


def test_a_field_whose_name_is_not_text_is_refused(api: httpx2.Client, persona: Persona) -> None:
    response = api.post(PERSONAS, content=json.dumps(persona(**{"\ud83d": 1})), headers=JSON)
    problem_of(response, 422, "invalid_request")


@pytest.mark.parametrize("status", ["draft", "approved", "rejected", "else", None, 1])
def test_the_status_is_not_the_clients_to_set(
    api: httpx2.Client, persona: Persona, status: object
) -> None:
    refused = api.post(PERSONAS, json=persona(base_image_status=status))
    assert fields_of(refused) == {"base_image_status"}


def test_pending_is_what_a_client_may_say_and_only_at_first(
    api: httpx2.Client, persona: Persona
) -> None:
    created = api.post(PERSONAS, json=persona(base_image_status="pending_upload"))
    assert created.status_code == 201
    place = created.headers["location"]
    for status in ("pending_upload", "approved", "else"):
        refused = api.patch(place, json={"base_image_status": status})
        assert fields_of(refused) == {"base_image_status"}
    for field in ("appearance_locked", "base_image_path", "approved_version", "id"):
        assert fields_of(api.patch(place, json={field: "x"})) == {field}
    assert api.get(place).json() == created.json()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"name": "\xff"}', b"[" * 100_000, b"1" * 5_000],
)
def test_a_body_that_is_no_persona_is_refused(api: httpx2.Client, body: bytes) -> None:
    assert fields_of(api.post(PERSONAS, content=body, headers=JSON))


def test_a_body_must_say_that_it_is_json(api: httpx2.Client, persona: Persona) -> None:
    sent = json.dumps(persona())
    assert fields_of(api.post(PERSONAS, content=sent, headers={"Content-Type": "text/plain"}))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": 10**30}, "offset"),
    ],
)
@pytest.mark.parametrize("path", [PERSONAS, "/api/v1/batches", "/api/v1/content"])
def test_pages_have_bounds(
    api: httpx2.Client, path: str, query: dict[str, Any], field: str
) -> None:
    assert fields_of(api.get(path, params=query)) == {field}


@pytest.mark.parametrize(
    "path",
    [
        f"{PERSONAS}/nobody",
        f"{PERSONAS}/nobody/base-image",
        f"{PERSONAS}/nobody/base-image/versions",
        f"{PERSONAS}/nobody/base-image/versions/1/image",
        "/api/v1/batches/none",
        "/api/v1/content/none",
        "/api/v1/content/none/image",
        "/api/v1/else",
        "/else",
    ],
)
def test_what_is_not_there_is_not_found(api: httpx2.Client, path: str) -> None:
    problem_of(api.get(path), 404, "not_found")


@pytest.mark.parametrize("name", ["%00", "%ED%A0%80", "a" * 100, "a b", "%2e%2e"])
@pytest.mark.parametrize("room", ["personas", "batches", "content"])
def test_what_cannot_be_an_id_is_refused(api: httpx2.Client, room: str, name: str) -> None:
    response = api.get(f"/api/v1/{room}/{name}")
    assert response.status_code in (404, 422)
    assert response.headers["content-type"] == PROBLEM_TYPE


def test_a_name_is_no_id(api: httpx2.Client, persona: Persona) -> None:
    api.post(PERSONAS, json=persona(name="Unique"))
    problem_of(api.delete(f"{PERSONAS}/Unique"), 404, "not_found")
    wanted = {"persona_id": "Unique", "prompts": ["x"]}
    problem_of(api.post("/api/v1/batches", json=wanted), 404, "not_found")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompts": []}, "prompts"),
        ({"prompts": ["x"] * 100_001}, "prompts"),
        ({"prompts": "one text"}, "prompts"),
        ({"prompts": ["fine", 7]}, "prompts.1"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**53}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"width": 8}, "width"),
        ({"height": 99_999}, "height"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"guidance_scale": "7"}, "guidance_scale"),
        ({"model": "\0"}, "model"),
        ({"device_id": 0}, "device_id"),
    ],
)
def test_a_batch_with_a_wrong_option_is_refused(
    api: httpx2.Client, change: dict[str, Any], field: str
) -> None:
    sent = json.dumps({"persona_id": "any", "prompts": ["x"], **change})
    assert fields_of(api.post("/api/v1/batches", content=sent, headers=JSON)) == {field}


def test_a_base_image_with_a_wrong_option_leaves_everything_as_it_was(
    api: httpx2.Client, persona: Persona
) -> None:
    base = api.post(PERSONAS, json=persona()).headers["location"] + "/base-image"
    before = api.get(base).json()
    seed = f"{base}/generate-local"
    assert fields_of(api.post(seed, json={"seed": -1, "steps": 3})) == {"seed", "steps"}
    missing = problem_of(api.post(seed, json={"model": "none"}), 404, "model_not_available")
    assert "illustrated" in missing["available"]
    now = {"If-Match": "*"}
    blank = api.post(f"{base}/reject", json={"reason": " "}, headers=now)
    assert fields_of(blank) == {"reason"}
    none = api.post(f"{base}/approve", json={"version": 0}, headers=now)
    assert fields_of(none) == {"version"}
    refused = problem_of(api.post(f"{base}/approve", json={}, headers=now), 409, "conflict")
    assert refused["allowed_actions"] == ["seed", "purge"]
    assert api.get(base).json() == before


def test_a_method_that_is_not_there_says_which_are(api: httpx2.Client) -> None:
    refused = api.put(PERSONAS, json={})
    problem_of(refused, 405, "method_not_allowed")
    assert "allow" in refused.headers


def test_a_body_beyond_the_limit_is_refused(api: httpx2.Client, persona: Persona) -> None:
    long = persona(appearance="x" * 1_100_000)
    problem_of(api.post(PERSONAS, json=long), 413, "too_large")

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 65_536

    problem_of(api.post(PERSONAS, content=pieces(), headers=JSON), 413, "too_large")
    assert fields_of(api.post(PERSONAS, json=persona(appearance="x" * 900_000))) == {"appearance"}


def test_a_request_keeps_its_id_if_it_is_sane(api: httpx2.Client) -> None:
    given = api.get("/healthz", headers={"X-Request-ID": "job-7.a_B"})
    assert given.headers["x-request-id"] == "job-7.a_B"
    for insane in ("", "a b", "x" * 200, "é"):
        made = api.get("/healthz", headers={"X-Request-ID": insane.encode()})
        assert made.headers["x-request-id"] not in ("", insane)
    ids = {api.get("/healthz").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_what_was_not_foreseen_leaks_nothing(api: httpx2.Client) -> None:
    crashed = api.get("/crash", headers={"X-Request-ID": "find-me"})
    assert problem_of(crashed, 500, "internal")["request_id"] == "find-me"
    assert "secret" not in crashed.text
    assert "Traceback" not in crashed.text
    assert api.get("/healthz").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil", "", "["])
def test_a_foreign_name_for_this_machine_is_refused(api: httpx2.Client, host: str) -> None:
    connection = http.client.HTTPConnection(api.base_url.host, api.base_url.port)
    connection.putrequest("GET", "/healthz", skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status in (400, 403)
    if response.status == 403:
        assert json.loads(body)["code"] == "forbidden"


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:9", "[::1]:8000"])
def test_this_machines_own_names_are_served(api: httpx2.Client, host: str) -> None:
    assert api.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_foreign_page_may_not_change_anything(api: httpx2.Client, persona: Persona) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:1", "http://["):
        refused = api.post(PERSONAS, json=persona(), headers={"Origin": origin})
        problem_of(refused, 403, "forbidden")
        preflight = api.options(PERSONAS, headers={"Origin": origin})
        assert "access-control-allow-origin" not in preflight.headers
    own = str(api.base_url).rstrip("/")
    assert api.post(PERSONAS, json=persona(), headers={"Origin": own}).status_code == 201


def test_a_damaged_picture_is_said_to_be_damaged(
    open_api: Callable[..., Any], approved: Callable[[httpx2.Client], str], tmp_path: Any
) -> None:
    with open_api() as client:
        base = f"{PERSONAS}/{approved(client)}/base-image"
        (blob,) = (tmp_path / "blobs").glob("??/*")
        blob.write_bytes(b"<script>alert(1)</script>")
        damaged = problem_of(client.get(f"{base}/versions/1/image"), 507, "storage")
        assert "script" not in json.dumps(damaged)


def test_it_is_not_ready_without_its_blobs(open_api: Callable[..., Any], tmp_path: Any) -> None:
    with open_api() as client:
        assert client.get("/readyz").status_code == 200
        shutil.rmtree(tmp_path / "blobs")
        (tmp_path / "blobs").write_text("a file where the folder was")
        checks = problem_of(client.get("/readyz"), 503, "not_ready")["checks"]
        assert (checks["database"], checks["devices"]) == ("ok", "cpu:0")
        assert "blob" in checks["blobs"]
        assert client.get("/healthz").status_code == 200


def test_it_is_not_ready_without_its_devices(open_api: Callable[..., Any]) -> None:
    pytest.importorskip("torch", reason="counts cards")
    with open_api(devices="cuda:97") as client:
        checks = problem_of(client.get("/readyz"), 503, "not_ready")["checks"]
        assert "cuda:97" in checks["devices"]
        problem_of(client.get("/api/v1/devices"), 500, "configuration")
