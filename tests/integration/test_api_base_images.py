"""Base images over the API: who may do what when, what is sent twice, and what is sent at all."""

from __future__ import annotations

import http.client
import io
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from backend.api.app import create_app
from backend.api.dependencies import actor
from backend.config import Settings
from backend.models.account import Actor, Role
from tests.fixtures.images_endpoint import inline, listening, refused
from tests.integration.conftest import client_of

PERSONAS = "/api/v1/personas"
ANY = {"If-Match": "*"}
DRAWN = {"model": "illustrated", "seed": 7, "width": 256, "height": 256}

Persona = Callable[..., dict[str, Any]]


def picture(side: int = 256, file_format: str = "PNG", seed: int = 1) -> bytes:
    buffer = io.BytesIO()
    chance = random.Random(seed)
    image = Image.new("RGB", (side, side), tuple(chance.randbytes(3)))
    image.save(buffer, file_format)
    return buffer.getvalue()


@pytest.fixture
def base(api: httpx2.Client, persona: Persona) -> str:
    """The base image of a new persona."""
    return str(api.post(PERSONAS, json=persona()).headers["location"]) + "/base-image"


@pytest.fixture
def draft(api: httpx2.Client, base: str) -> str:
    assert api.post(f"{base}/generate-local", json=DRAWN).status_code == 201
    return base


def etag_of(client: httpx2.Client, base: str) -> dict[str, str]:
    return {"If-Match": client.get(base).headers["etag"]}


def uploaded(client: httpx2.Client, base: str, data: bytes, **fields: str) -> httpx2.Response:
    return client.post(f"{base}/upload", files={"file": ("me.png", data)}, data=fields)


def faults(response: httpx2.Response) -> set[str]:
    assert response.status_code == 422, response.text
    return {fault["field"] for fault in response.json()["errors"]}


def test_persona_and_base_image_have_one_strong_tag(api: httpx2.Client, draft: str) -> None:
    tag = api.get(draft).headers["etag"]
    assert tag == f'"{api.get(draft).json()["revision"]}"'
    persona = draft.removesuffix("/base-image")
    assert api.get(persona).headers["etag"] == tag
    changed = api.patch(persona, json={"personality": "bold"}, headers={"If-Match": tag})
    assert changed.headers["etag"] != tag
    assert api.get(draft).headers["etag"] == changed.headers["etag"]


def test_approve_checks_precondition_then_state_then_attestation(
    api: httpx2.Client, base: str
) -> None:
    stale = {"If-Match": '"0"'}
    wanted = {"version": 1}
    assert api.post(f"{base}/approve", json=wanted).status_code == 428
    assert api.post(f"{base}/approve", json=wanted, headers=stale).status_code == 412
    assert api.post(f"{base}/approve", json=wanted, headers=ANY).status_code == 409
    assert uploaded(api, base, picture()).status_code == 201
    assert api.post(f"{base}/approve", json=wanted).status_code == 428
    assert api.post(f"{base}/approve", json=wanted, headers=stale).status_code == 412
    now = etag_of(api, base)
    assert api.post(f"{base}/approve", json={"version": 9}, headers=now).status_code == 409
    refused = api.post(f"{base}/approve", json=wanted, headers=now)
    assert faults(refused) == {"likeness_attestation"}
    assert api.get(base).json()["status"] == "draft"
    attested = wanted | {"likeness_attestation": True}
    approved = api.post(f"{base}/approve", json=attested, headers=now)
    assert (approved.status_code, approved.json()["approved_version"]) == (200, 1)
    assert approved.headers["etag"] not in now.values()
    assert api.post(f"{base}/approve", json=attested, headers=now).status_code == 412


@pytest.mark.parametrize("tag", ["W/{tag}", '"x"', "{bare}", '"0", "1000"', '"', ", ,", '""'])
def test_a_tag_that_is_not_the_current_one_is_refused(
    api: httpx2.Client, draft: str, tag: str
) -> None:
    current = api.get(draft).headers["etag"]
    given = tag.replace("{tag}", current).replace("{bare}", current.strip('"'))
    refused = api.post(f"{draft}/approve", json={"version": 1}, headers={"If-Match": given})
    assert refused.status_code == 412
    assert refused.json()["etag"] == current
    fine = api.post(
        f"{draft}/approve", json={"version": 1}, headers={"If-Match": f'"0", {current}'}
    )
    assert fine.status_code == 200


@pytest.mark.parametrize("action", ["approve", "reject", "reopen", "unlock", "purge"])
def test_every_decision_needs_a_precondition(api: httpx2.Client, draft: str, action: str) -> None:
    body = {"version": 1} if action == "approve" else {"reason": "because"}
    before = api.get(draft).json()
    assert api.post(f"{draft}/{action}", json=body).status_code == 428
    stale = api.post(f"{draft}/{action}", json=body, headers={"If-Match": '"0"'})
    assert stale.status_code == 412
    assert api.get(draft).json() == before


def test_a_patch_needs_a_precondition_and_names_the_locked_field(
    api: httpx2.Client, draft: str
) -> None:
    place = draft.removesuffix("/base-image")
    assert api.patch(place, json={"personality": "bold"}).status_code == 428
    stale = api.patch(place, json={"personality": "bold"}, headers={"If-Match": '"0"'})
    assert stale.status_code == 412
    assert api.post(f"{draft}/approve", json={"version": 1}, headers=ANY).status_code == 200
    for field, value in {
        "appearance": "short hair",
        "base_appearance_description": "other",
        "image_style": "film grain",
        "negative_prompt": "text",
        "model_adapters": [{"name": "watercolour"}],
    }.items():
        locked = api.patch(place, json={field: value}, headers=ANY)
        assert (locked.status_code, locked.json()["field"]) == (409, field)
    assert api.patch(place, json={"personality": "bold"}, headers=ANY).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("headers", [{}, ANY])
def test_status_lock_and_path_are_not_the_clients(
    api: httpx2.Client, draft: str, persona: Persona, method: str, headers: dict[str, str]
) -> None:
    place = draft.removesuffix("/base-image")
    whole = persona() if method == "PUT" else {}
    for field, value in {
        "base_image_status": "approved",
        "appearance_locked": True,
        "base_image_path": "/etc/passwd",
    }.items():
        refused = api.request(method, place, json={**whole, field: value}, headers=headers)
        assert faults(refused) == {field}
    assert api.get(draft).json()["status"] == "draft"


def test_a_persona_is_written_anew(api: httpx2.Client, draft: str, persona: Persona) -> None:
    place = draft.removesuffix("/base-image")
    whole = persona(name="New", content_themes=[])
    assert api.put(place, json=whole).status_code == 428
    written = api.put(place, json=whole, headers=etag_of(api, draft))
    assert written.status_code == 200, written.text
    assert (written.json()["name"], written.json()["content_themes"]) == ("New", [])
    assert written.json()["base_image_status"] == "draft"


def test_the_whole_way_and_its_log(api: httpx2.Client, draft: str) -> None:
    def post(action: str, **body: Any) -> dict[str, Any]:
        done = api.post(f"{draft}/{action}", json=body, headers=etag_of(api, draft))
        assert done.status_code in (200, 201), done.text
        found: dict[str, Any] = done.json()
        assert done.headers["etag"] == f'"{found["revision"]}"'
        return found

    assert post("reject", reason="too dark")["allowed_actions"] == ["seed", "reopen", "purge"]
    assert post("reopen")["status"] == "draft"
    assert post("approve", version=1)["status"] == "approved"
    assert post("generate-local", **DRAWN)["approved_version"] == 1
    assert post("approve", version=2)["approved_version"] == 2
    assert post("unlock", reason="new hair")["status"] == "draft"
    gone = post("purge", reason="asked to")
    assert (gone["status"], gone["versions"]) == ("pending_upload", [])
    assert api.get(f"{draft}/versions/1/image").status_code == 404
    log = api.get(f"{draft}/events").json()
    actions = [event["action"] for event in log["items"]]
    ways = ["seed", "reject", "reopen", "approve", "seed", "approve", "unlock", "purge"]
    assert actions == ways
    assert log["total"] == len(ways)
    assert {event["actor"] for event in log["items"]} == {"owner"}
    assert all(event["at"] and event["request_id"] for event in log["items"])
    assert log["items"][1]["reason"] == "too dark"
    assert (log["items"][1]["from"], log["items"][1]["to"]) == ("draft", "rejected")
    page = api.get(f"{draft}/events", params={"limit": 2, "offset": 1}).json()["items"]
    assert [event["action"] for event in page] == ways[1:3]


def test_candidates_stand_side_by_side(api: httpx2.Client, base: str) -> None:
    seeded = api.post(f"{base}/generate-local", json={**DRAWN, "count": 3})
    assert seeded.json()["candidates"] == [1, 2, 3]
    chosen = api.post(f"{base}/approve", json={"version": 2}, headers=ANY)
    assert chosen.json()["approved_version"] == 2
    for count in (0, 9):
        refused = api.post(f"{base}/generate-local", json={"count": count})
        assert faults(refused) == {"count"}


# What is sent twice


def test_a_seed_that_is_sent_again_is_answered_again(api: httpx2.Client, base: str) -> None:
    key = {"Idempotency-Key": f"seed-{base}"}
    first = api.post(f"{base}/generate-local", json=DRAWN, headers=key)
    again = api.post(f"{base}/generate-local", json=DRAWN, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["etag"] == first.headers["etag"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(api.get(f"{base}/versions").json()["items"]) == 1
    other = api.post(f"{base}/generate-local", json={**DRAWN, "seed": 8}, headers=key)
    assert faults(other) == {"Idempotency-Key"}
    elsewhere = api.post(f"{base}/generate-cloud", json={}, headers=key)
    assert faults(elsewhere) == {"Idempotency-Key"}


def test_an_upload_that_is_sent_again_is_known_by_its_bytes(api: httpx2.Client, base: str) -> None:
    key = {"Idempotency-Key": f"upload-{base}"}
    sent = [
        api.post(f"{base}/upload", files={"file": (name, data)}, headers=key)
        for name, data in (("a.png", picture()), ("b.png", picture()), ("a.png", picture(seed=2)))
    ]
    assert [response.status_code for response in sent] == [201, 201, 422]
    assert sent[0].content == sent[1].content
    assert len(api.get(f"{base}/versions").json()["items"]) == 1


def test_of_many_at_once_one_does_the_work(api: httpx2.Client, base: str) -> None:
    key = {"Idempotency-Key": f"crowd-{base}"}
    with ThreadPoolExecutor(8) as crowd:
        sent = list(
            crowd.map(
                lambda _: api.post(f"{base}/generate-local", json=DRAWN, headers=key), range(8)
            )
        )
    assert {response.status_code for response in sent} <= {201, 409}
    assert len({response.content for response in sent if response.status_code == 201}) == 1
    assert len(api.get(f"{base}/versions").json()["items"]) == 1


def test_what_failed_may_be_sent_again(api: httpx2.Client, base: str) -> None:
    key = {"Idempotency-Key": f"again-{base}"}
    wanted = {"model": "none-such"}
    for _ in range(2):
        failed = api.post(f"{base}/generate-local", json=wanted, headers=key)
        assert failed.status_code == 404
    assert api.post(f"{base}/generate-local", json=DRAWN, headers=key).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "é".encode("latin-1")])
def test_a_key_that_is_none_is_refused(api: httpx2.Client, base: str, key: Any) -> None:
    sent = api.post(f"{base}/generate-local", json=DRAWN, headers={"Idempotency-Key": key})
    assert faults(sent) == {"Idempotency-Key"}


def test_a_batch_that_is_sent_again_is_the_same_batch(
    api: httpx2.Client, approved: Callable[[httpx2.Client], str]
) -> None:
    wanted = {"persona_id": approved(api), "prompts": ["a", "b"], **DRAWN}
    key = {"Idempotency-Key": wanted["persona_id"]}
    first, again = (api.post("/api/v1/batches", json=wanted, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    changed = api.post("/api/v1/batches", json={**wanted, "seed": 9}, headers=key)
    assert faults(changed) == {"Idempotency-Key"}


# Uploads


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_an_upload_becomes_a_version(api: httpx2.Client, base: str, file_format: str) -> None:
    done = uploaded(api, base, picture(300, file_format))
    assert done.status_code == 201, done.text
    assert done.headers["location"] == f"{base}/versions/1/image"
    state = done.json()
    assert (state["status"], state["current_version"]) == ("draft", 1)
    assert state["versions"][0]["method"] == "upload"
    served = api.get(done.headers["location"])
    assert Image.open(io.BytesIO(served.content)).size == (300, 300)


def test_an_upload_with_leave_can_have_it_taken_back(api: httpx2.Client, base: str) -> None:
    done = uploaded(
        api,
        base,
        picture(),
        consent_subject="Ann Example",
        consent_granted_by="Ann Example",
        consent_expires_at="2999-01-01",
    )
    assert done.status_code == 201, done.text
    (consent,) = done.json()["consents"]
    assert (consent["real_person"], consent["person"]) == (True, "Ann Example")
    body = {"version": 1, "likeness_attestation": True}
    assert api.post(f"{base}/approve", json=body, headers=ANY).status_code == 200
    place = f"{base}/consents/{consent['id']}/revoke"
    assert faults(api.post(place, json={"reason": " "})) == {"reason"}
    revoked = api.post(place, json={"reason": "changed her mind"})
    assert (revoked.status_code, revoked.json()["status"]) == (200, "draft")
    assert api.post(place, json={"reason": "again"}).status_code == 409
    assert api.post(f"{base}/approve", json=body, headers=ANY).status_code == 409


@pytest.mark.parametrize(
    ("fields", "faulty"),
    [
        ({"consent_real_person": "true"}, "consent_granted_by"),
        ({"consent_real_person": "maybe"}, "consent_real_person"),
        ({"consent_expires_at": "soon"}, "consent_expires_at"),
        ({"consent_granted_by": "x" * 300}, "granted_by"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_faulty_field_of_the_form_is_named(
    api: httpx2.Client, base: str, fields: dict[str, str], faulty: str
) -> None:
    assert faults(uploaded(api, base, picture(), **fields)) == {faulty}
    assert api.get(base).json()["status"] == "pending_upload"


HOSTILE_NAMES = [
    b'filename="../../../../etc/passwd"',
    b'filename="x.html"',
    b'filename="a\\"; name=\\"other\\".png"',
    b'filename=""',
    b"filename=bare.png",
    b'filename="' + b"n" * 100_000 + b'"',
    b'filename="nul\x00.png"',
    b'filename="\xff\xfe\xed\xa0\x80"',
    b'filename="C:\\con\\aux.png"',
    b"filename*=utf-8''%2e%2e%2f%00",
    b'filename="\xf0\x9f\x90\x8a.svg"; filename="second"',
    b"",
]


def raw_form(*parts: bytes, boundary: bytes = b"XX") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + (
        b"--" + boundary + b"--\r\n"
    )


def file_part(data: bytes, name: bytes = b'filename="a"', field: bytes = b"file") -> bytes:
    head = b'Content-Disposition: form-data; name="' + field + b'"; ' + name
    return head.rstrip(b"; ") + b"\r\nContent-Type: text/html\r\n\r\n" + data


FORM = {"Content-Type": "multipart/form-data; boundary=XX"}


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_no_file_name_is_a_reason_to_refuse(api: httpx2.Client, base: str, name: bytes) -> None:
    body = raw_form(file_part(picture(), name))
    done = api.post(f"{base}/upload", content=body, headers=FORM)
    assert done.status_code == 201, done.text
    served = api.get(done.headers["location"])
    assert served.headers["content-type"] in ("image/png", "image/jpeg")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", FORM["Content-Type"]),
        (b"--XX--\r\n", FORM["Content-Type"]),
        (b"not a form", FORM["Content-Type"]),
        (raw_form(file_part(b"x"), file_part(b"y")), FORM["Content-Type"]),
        (raw_form(file_part(picture(), field=b"image")), FORM["Content-Type"]),
        (raw_form(file_part(picture()))[:-40], FORM["Content-Type"]),
        (raw_form(b"Content-Type: image/png\r\n\r\nx"), FORM["Content-Type"]),
        (raw_form(*[file_part(b"x", field=b"f%d" % n) for n in range(50)]), FORM["Content-Type"]),
        (raw_form(b'Content-Disposition: form-data; name="a"\r\n\r\n\xff'), FORM["Content-Type"]),
        (raw_form(file_part(picture())), "multipart/form-data"),
        (raw_form(file_part(picture())), "multipart/form-data; boundary=" + "X" * 300),
        (raw_form(file_part(picture())), "application/json"),
        (picture(), "image/png"),
        (b"{}", "application/json"),
    ],
)
def test_what_is_no_form_is_refused(
    api: httpx2.Client, base: str, body: bytes, content_type: str
) -> None:
    sent = api.post(f"{base}/upload", content=body, headers={"Content-Type": content_type})
    assert faults(sent)
    assert api.get(base).json()["status"] == "pending_upload"


@pytest.mark.parametrize(
    "data", [b"", b"<script>alert(1)</script>", b"GIF89a" + b"\0" * 99, picture(64), b"\x89PNG"]
)
def test_what_is_no_picture_is_refused_and_not_kept(
    api: httpx2.Client, base: str, data: bytes
) -> None:
    assert faults(uploaded(api, base, data)) == {"file"}
    assert api.get(base).json()["versions"] == []


def test_too_large_an_upload_is_refused_as_it_comes(api: httpx2.Client, base: str) -> None:
    declared = api.post(f"{base}/upload", content=b"x" * (22 * 1024**2), headers=FORM)
    assert declared.status_code == 413
    pieces = itertools.chain([b"--XX\r\n" + file_part(b"")], itertools.repeat(b"x" * 65_536))
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for piece in itertools.islice(pieces, 1_600):
            sent += len(piece)
            yield piece

    answer = api.post(f"{base}/upload", content=endless(), headers=FORM)
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"
    assert sent < 80 * 1024**2
    field = raw_form(file_part(b"y" * 20_000, field=b"consent_note"))
    assert api.post(f"{base}/upload", content=field, headers=FORM).status_code == 413
    assert api.get(base).json()["status"] == "pending_upload"


def test_a_client_that_goes_away_leaves_nothing(api: httpx2.Client, base: str) -> None:
    connection = http.client.HTTPConnection(api.base_url.host, api.base_url.port)
    connection.putrequest("POST", f"{base}/upload")
    connection.putheader("Content-Type", FORM["Content-Type"])
    connection.putheader("Content-Length", "1000000")
    connection.endheaders()
    connection.send(b"--XX\r\n" + file_part(picture()[:100]))
    time.sleep(0.1)
    connection.close()
    assert api.get(base).json()["status"] == "pending_upload"


def test_uploads_at_once_all_come_through(api: httpx2.Client, base: str) -> None:
    with ThreadPoolExecutor(8) as crowd:
        sent = list(crowd.map(lambda n: uploaded(api, base, picture(seed=n)), range(8)))
    assert [response.status_code for response in sent] == [201] * 8
    numbers = [version["n"] for version in api.get(base).json()["versions"]]
    assert numbers == list(range(1, 9))


# Pictures


def test_a_picture_is_served_in_ranges(api: httpx2.Client, draft: str) -> None:
    place = f"{draft}/versions/1/image"
    whole = api.get(place)
    size, data = len(whole.content), whole.content
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, part in {
        "bytes=0-9": data[:10],
        "bytes=10-": data[10:],
        "bytes=-7": data[-7:],
        f"bytes=5-{size + 99}": data[5:],
        f"bytes=-{size + 99}": data,
    }.items():
        answer = api.get(place, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["x-content-type-options"] == "nosniff"
        start = data.index(part) if len(part) < size else 0
        expected = f"bytes {start}-{start + len(part) - 1}/{size}"
        assert answer.headers["content-range"] == expected
    for asked in (f"bytes={size}-", f"bytes={size + 5}-{size + 9}", "bytes=-0"):
        beyond = api.get(place, headers={"Range": asked})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
        assert beyond.json()["code"] == "range_not_satisfiable"
    for asked in ("bytes=9-3", "bytes=0-1,4-5", "pages=1-2", "bytes=-", "bytes=" + "9" * 99 + "-"):
        assert api.get(place, headers={"Range": asked}).status_code == 200
    tag = whole.headers["etag"]
    for condition, status in ((tag, 206), ('"other"', 200)):
        answer = api.get(place, headers={"Range": "bytes=0-1", "If-Range": condition})
        assert answer.status_code == status


def test_thumbnails_have_two_widths(api: httpx2.Client, base: str) -> None:
    uploaded(api, base, picture(1_000))
    place = f"{base}/versions/1/image"
    for width in (256, 768):
        small = api.get(place, params={"width": width})
        assert small.headers["content-type"] == "image/webp"
        assert small.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert "immutable" in small.headers["cache-control"]
        assert Image.open(io.BytesIO(small.content)).width == width
        again = api.get(
            place, params={"width": width}, headers={"If-None-Match": small.headers["etag"]}
        )
        assert again.status_code == 304
    assert faults(api.get(place, params={"width": 100})) == {"width"}


# Roles and clouds


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.VIEWER, set()),
        (Role.EDITOR, {"generate-local"}),
        (Role.APPROVER, {"generate-local", "approve", "unlock", "reject", "reopen"}),
    ],
)
def test_a_role_may_what_it_may(
    tmp_path: Path, persona: Persona, role: Role, may: set[str]
) -> None:
    app = create_app(Settings(home=tmp_path, devices="cpu:1", self_approval="yes"))
    with client_of(app) as client:
        base = client.post(PERSONAS, json=persona()).headers["location"] + "/base-image"
        for action in ("generate-local", "approve", "unlock", "reject", "reopen", "purge"):
            body: dict[str, Any] = {"reason": "x"}
            if action in ("generate-local", "approve"):
                body = {"version": 1} if action == "approve" else DRAWN
            app.dependency_overrides[actor] = lambda: Actor("ann", role)
            mine = client.post(f"{base}/{action}", json=body, headers=ANY)
            app.dependency_overrides.clear()
            if action in may:
                assert mine.status_code in (200, 201), mine.text
            else:
                assert mine.status_code == 403
                assert client.post(f"{base}/{action}", json=body, headers=ANY).is_success


def test_a_cloud_makes_base_images_within_its_cap(tmp_path: Path, persona: Persona) -> None:
    with listening() as endpoint:
        endpoint.answers = [inline()]
        settings = Settings(
            home=tmp_path,
            devices="cpu:1",
            cloud_base_url=endpoint.base_url,
            cloud_model="cloudy",
            cloud_price_usd="0.04",
            cloud_spending_cap_usd="0.10",
        )
        with client_of(create_app(settings)) as client:
            base = client.post(PERSONAS, json=persona()).headers["location"] + "/base-image"
            estimate = client.get("/api/v1/cloud/spending", params={"count": 3}).json()
            assert (estimate["estimated_usd"], estimate["allowed"]) == ("0.12", False)
            refusal = client.post(f"{base}/generate-cloud", json={"count": 3})
            assert (refusal.status_code, refusal.json()["code"]) == (402, "spending_cap_reached")
            assert endpoint.asked == []
            made = client.post(f"{base}/generate-cloud", json={"count": 2})
            assert made.status_code == 201, made.text
            assert {v["method"] for v in made.json()["versions"]} == {"cloud"}
            assert client.post(f"{base}/generate-cloud").status_code == 402
            spent = client.get("/api/v1/cloud/spending").json()
            assert (spent["spent_usd"], spent["images"]) == ("0.08", 2)


def test_a_cloud_that_refuses_leaves_the_state(tmp_path: Path, persona: Persona) -> None:
    with listening() as endpoint:
        endpoint.answers = [refused(400, "content_policy_violation")]
        cloud = {"cloud_base_url": endpoint.base_url, "cloud_model": "cloudy"}
        with client_of(create_app(Settings(home=tmp_path, devices="cpu:1", **cloud))) as client:
            base = client.post(PERSONAS, json=persona()).headers["location"] + "/base-image"
            answer = client.post(f"{base}/generate-cloud", json={"prompt": "something bad"})
            assert (answer.status_code, answer.json()["code"]) == (422, "content_rejected")
            assert client.get(base).json()["status"] == "pending_upload"


def test_without_a_cloud_it_is_said_so(api: httpx2.Client, base: str) -> None:
    answer = api.post(f"{base}/generate-cloud", json={})
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_not_configured")
    assert json.loads(api.get(base).text)["status"] == "pending_upload"


def test_a_request_that_is_being_done_is_a_conflict(tmp_path: Path, persona: Persona) -> None:
    with listening() as endpoint:
        endpoint.answers = [inline()]
        endpoint.answers[0].slow_s = 1.0
        cloud = {"cloud_base_url": endpoint.base_url, "cloud_model": "cloudy"}
        with client_of(create_app(Settings(home=tmp_path, devices="cpu:1", **cloud))) as client:
            base = client.post(PERSONAS, json=persona()).headers["location"] + "/base-image"
            key = {"Idempotency-Key": "k"}
            first: list[httpx2.Response] = []
            thread = threading.Thread(
                target=lambda: first.append(client.post(f"{base}/generate-cloud", headers=key))
            )
            thread.start()
            while not endpoint.asked:
                time.sleep(0.01)
            assert client.post(f"{base}/generate-cloud", headers=key).status_code == 409
            thread.join()
            again = client.post(f"{base}/generate-cloud", headers=key)
            assert (again.status_code, again.content) == (201, first[0].content)
