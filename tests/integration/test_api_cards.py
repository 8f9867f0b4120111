"""Personas come in as character cards and go out as such, over a real server."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from backend.cards.reading import read_card
from tests.fixtures.cards import as_json, card_png, charx, eliza, text_chunk, v1, v2, v3
from tests.fixtures.pictures import encoded, opened, png_chunk, portrait

IMPORT = "/api/v1/personas/import"
PICTURE = encoded(portrait(), "PNG")


def send(api: httpx2.Client, file: bytes, status: int = 201, **options: Any) -> dict[str, Any]:
    answer = api.post(IMPORT, files={"file": ("../../x.png", file, "image/png")}, **options)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def card(api: httpx2.Client, persona_id: str, kind: str, status: int = 200) -> httpx2.Response:
    answer = api.get(f"/api/v1/personas/{persona_id}/card", params={"format": kind})
    assert answer.status_code == status, answer.text
    return answer


def own(document: dict[str, Any]) -> dict[str, Any]:
    home = document.get("data", document)
    for key in ("extensions", "settings"):
        home.get(key, {}).pop("gator", None)
    return document


@pytest.mark.parametrize(
    ("document", "kind"), [(v1(), "v1"), (v2(), "v2"), (v3(), "v3"), (eliza(), "eliza")]
)
def test_plain_json_becomes_a_persona_and_comes_back(
    api: httpx2.Client, document: dict[str, Any], kind: str
) -> None:
    answer = api.post(IMPORT, json={**document, "x_unknown": [1, {"a": None}]})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["format"], made["container"]) == (kind, "json")
    assert made["persona"]["name"] == "Ondine"
    assert made["persona"]["base_image_status"] == "pending_upload"
    assert made["base_image"] is None
    assert "x_unknown" in made["kept"]
    assert made["sources"]["name"] in ("name", "data.name")
    assert answer.headers["location"] == f"/api/v1/personas/{made['persona']['id']}"
    assert answer.headers["etag"] == '"1"'
    back = own(card(api, made["persona"]["id"], "v2" if kind == "v1" else kind).json())
    assert back.pop("x_unknown") == [1, {"a": None}]
    if kind == "v1":
        assert {key: back["data"][key] for key in document} == document
    else:
        assert back == document


def test_the_answer_tells_what_was_found_and_what_was_ignored(api: httpx2.Client) -> None:
    chunks = text_chunk("chara", v2()), text_chunk("ccv3", v3(extensions={"api_key": "abc"}))
    made = send(api, card_png(*chunks))
    assert (made["format"], made["container"], made["spec_version"]) == ("v3", "png", "3.0")
    ignored = {note["field"]: note["reason"] for note in made["ignored"]}
    assert ignored == {
        "chara": "holds a v2 card; the v3 card in ccv3 is used",
        "data.extensions.api_key": "looks like a secret, and was left out",
        "data.tags": "files the card and is no theme: Female",
    }
    assert "data.first_mes" in made["kept"]


def test_a_picture_becomes_a_candidate_only_on_request_and_is_never_approved_by_itself(
    api: httpx2.Client,
) -> None:
    png = card_png(text_chunk("ccv3", v3()))
    made = send(api, png)
    assert made["persona"]["base_image_status"] == "pending_upload"
    made = send(api, png, params={"base_image": True})
    assert made["persona"]["base_image_status"] == made["base_image"]["status"] == "draft"
    assert made["base_image"]["candidates"] == [1]
    assert made["base_image"]["versions"][0]["method"] == "upload"
    base = f"/api/v1/personas/{made['persona']['id']}/base-image"
    served = api.get(f"{base}/versions/1/image")
    assert opened(served.content).size == portrait().size
    assert b"ccv3" not in served.content
    etag = {"If-Match": api.get(base).headers["etag"]}
    refused = api.post(f"{base}/approve", json={"version": 1}, headers=etag)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "likeness_attestation"


def test_the_icon_of_a_charx_becomes_a_candidate_with_its_consent(api: httpx2.Client) -> None:
    icon = [{"type": "icon", "uri": "embeded://assets/i.png", "name": "main", "ext": "png"}]
    made = send(
        api,
        charx(v3(assets=icon), ("assets/i.png", PICTURE)),
        params={"base_image": "true"},
        data={"consent_subject": "Ondine Doe", "consent_granted_by": "herself"},
    )
    (consent,) = made["base_image"]["consents"]
    assert (consent["person"], consent["granted_by"]) == ("Ondine Doe", "herself")
    for kind in ("v2", "v3", "eliza"):
        assert "herself" not in card(api, made["persona"]["id"], kind).text
        assert "Ondine Doe" not in card(api, made["persona"]["id"], kind).text


def test_a_picture_that_is_not_accepted_is_told_and_the_persona_stays(api: httpx2.Client) -> None:
    small = card_png(text_chunk("ccv3", v3()), picture=encoded(portrait(100, 100), "PNG"))
    made = send(api, small, params={"base_image": "1"})
    assert made["base_image"] is None
    assert made["persona"]["base_image_status"] == "pending_upload"
    (note,) = [note for note in made["ignored"] if note["field"] == "picture"]
    assert note["reason"].startswith("is 100 x 100 pixels")
    none = api.post(IMPORT, json=v3(), params={"base_image": True}).json()
    assert {"field": "picture", "reason": "did not come with the card"} in none["ignored"]


def test_a_consent_that_does_not_hold_stops_everything_before_it_begins(
    api: httpx2.Client,
) -> None:
    before = api.get("/api/v1/personas").json()["total"]
    past = {"consent_granted_by": "x", "consent_expires_at": "2001-01-01"}
    send(api, card_png(text_chunk("ccv3", v3())), 422, params={"base_image": 1}, data=past)
    send(api, card_png(text_chunk("ccv3", v3())), 422, data={"unknown": "x"})
    assert api.get("/api/v1/personas").json()["total"] == before


def test_an_approved_persona_goes_out_as_a_png_that_comes_back(
    api: httpx2.Client, approved: Callable[[httpx2.Client], str]
) -> None:
    persona_id = approved(api)
    answer = card(api, persona_id, "png")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="persona-{persona_id}.png"'
    )
    picture = api.get(f"/api/v1/personas/{persona_id}/base-image/versions/1/image").content
    assert opened(answer.content).tobytes() == opened(picture).tobytes()
    made = send(api, answer.content, params={"base_image": True})
    before = api.get(f"/api/v1/personas/{persona_id}").json()
    for field in ("name", "appearance", "personality", "content_themes", "style_preferences",
                  "base_appearance_description"):  # fmt: skip
        assert made["persona"][field] == before[field], field
    assert (made["persona"]["appearance_locked"], made["persona"]["approved_by"]) == (False, None)
    assert made["base_image"]["status"] == "draft"


def test_nothing_but_the_persona_goes_out(
    api: httpx2.Client, approved: Callable[[httpx2.Client], str]
) -> None:
    persona_id = approved(api)
    persona = api.get(f"/api/v1/personas/{persona_id}").json()
    for kind in ("v2", "v3", "eliza"):
        text = card(api, persona_id, kind).text
        for private in (
            "approved",
            "revision",
            "base_image",
            persona_id,
            persona["approved_sha256"],
        ):
            assert private not in text, private


def test_without_an_approved_picture_there_is_no_png_but_a_charx(api: httpx2.Client) -> None:
    made = send(api, card_png(text_chunk("ccv3", v3())), params={"base_image": True})
    persona_id = made["persona"]["id"]
    problem = card(api, persona_id, "png", 409).json()
    assert (problem["code"], problem["state"]) == ("conflict", "draft")
    archive = zipfile.ZipFile(io.BytesIO(card(api, persona_id, "charx").content))
    assert archive.namelist() == ["card.json"]


def test_a_picture_whose_consent_was_revoked_does_not_go_out(api: httpx2.Client) -> None:
    made = send(
        api,
        card_png(text_chunk("ccv3", v3())),
        params={"base_image": True},
        data={"consent_granted_by": "herself"},
    )
    base = f"/api/v1/personas/{made['persona']['id']}/base-image"
    etag = {"If-Match": api.get(base).headers["etag"]}
    body = {"version": 1, "likeness_attestation": True}
    assert api.post(f"{base}/approve", json=body, headers=etag).status_code == 200
    png = card(api, made["persona"]["id"], "png")
    assert read_card(png.content).card.format == "v3"
    consent = made["base_image"]["consents"][0]["id"]
    api.post(f"{base}/consents/{consent}/revoke", json={"reason": "asked"})
    card(api, made["persona"]["id"], "png", 409)
    assert read_card(card(api, made["persona"]["id"], "charx").content).picture is None


def test_what_is_packed_with_a_card_goes_out_with_it_and_is_gone_with_the_persona(
    api: httpx2.Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    listed = [{"type": "emotion", "uri": "embeded://assets/emotion/images/a.webp", "name": "happy"}]
    files = (("assets/emotion/images/a.webp", b"happy"), ("module.risum", b"\0risu"))
    made = send(api, charx(v3(assets=listed), *files))
    persona_id = made["persona"]["id"]
    found = read_card(card(api, persona_id, "charx").content)
    assert found.assets == dict(files)
    assert own(found.card.document) == v3(assets=listed)
    assert api.delete(f"/api/v1/personas/{persona_id}").status_code == 204
    card(api, persona_id, "charx", 404)


async def test_assets_are_kept_while_their_persona_is_and_checked_as_blobs(tmp_path: Path) -> None:
    from backend.bootstrap import LOCAL_OWNER, open_studio
    from backend.config import Settings

    async with open_studio(Settings(home=tmp_path / "home", devices="cpu:1")) as studio:
        made = await studio.cards.import_card(charx(v3(), ("a", b"b")), actor=LOCAL_OWNER)
        report = await studio.blob_check.check()
        assert (report.blobs, report.orphans, report.missing) == (1, (), ())
        await studio.personas.delete(made.persona.id)
        assert (await studio.blob_check.check()).blobs == 0


async def test_both_databases_give_back_every_text(database_url: str, tmp_path: Path) -> None:
    from backend.bootstrap import LOCAL_OWNER, open_studio
    from backend.config import Settings
    from backend.services.card_service import CardKind

    settings = Settings(home=tmp_path / "home", devices="cpu:1", database_url=database_url)
    document = v3(first_mes="\ud800 \x00 ü 日本", x_number=10**30, x_float=0.1)
    async with open_studio(settings) as studio:
        made = await studio.cards.import_card(json.dumps(document).encode(), actor=LOCAL_OWNER)
        exported = await studio.cards.export(made.persona.id, CardKind.V3)
    assert own(json.loads(exported.data)) == document


def test_a_change_here_goes_out_and_an_edit_elsewhere_comes_in(api: httpx2.Client) -> None:
    made = api.post(IMPORT, json=v3()).json()["persona"]
    answer = api.patch(
        f"/api/v1/personas/{made['id']}",
        json={"personality": "wild", "image_style": "film grain"},
        headers={"If-Match": "*"},
    )
    assert answer.status_code == 200
    out = card(api, made["id"], "v3").json()
    assert out["data"]["personality"] == "wild"
    assert out["data"]["first_mes"] == v3()["data"]["first_mes"]
    out["data"]["personality"] = "wilder"
    again = api.post(IMPORT, json=out).json()
    assert again["persona"]["personality"] == "wilder"
    assert again["persona"]["image_style"] == "film grain"
    assert again["sources"]["image_style"] == "extensions.gator"


def test_a_gator_field_that_is_not_valid_any_more_is_told_and_left_out(api: httpx2.Client) -> None:
    gator = {
        "version": 1,
        "persona": {"image_style": "x" * 501, "model_adapters": "film", "negative_prompt": "text"},
    }
    made = api.post(IMPORT, json=v2(extensions={"gator": gator})).json()
    assert made["persona"]["image_style"] is None
    assert made["persona"]["model_adapters"] is None
    assert made["persona"]["negative_prompt"] == "text"
    told = [note["reason"] for note in made["ignored"] if note["field"] == "extensions.gator"]
    assert len(told) == 2


def test_where_it_is_not_valid_what_the_card_says_itself_counts(api: httpx2.Client) -> None:
    made = api.post(IMPORT, json=v3()).json()["persona"]
    out = card(api, made["id"], "v3").json()
    out["data"]["extensions"]["gator"]["persona"]["personality"] = "x" * 3_000
    again = api.post(IMPORT, json=out).json()
    assert again["persona"]["personality"] == made["personality"]
    assert "personality that is not valid" in again["ignored"][-1]["reason"]


def test_a_card_cannot_approve_itself(api: httpx2.Client) -> None:
    gator = {
        "version": 1,
        "persona": {"base_image_status": "approved", "appearance_locked": True, "id": "x"},
    }
    made = api.post(IMPORT, json=v2(extensions={"gator": gator})).json()["persona"]
    assert (made["base_image_status"], made["appearance_locked"]) == ("pending_upload", False)
    assert made["id"] != "x"


def test_lone_surrogates_and_control_signs_do_no_harm(api: httpx2.Client) -> None:
    document = v2(
        name="O\ud800ndi\x00ne",
        first_mes="\udfff",
        extensions={"\x1b[31m\ud800": 1, "\x1b\ud800_api_key": "x"},
    )
    body = json.dumps({**document, "top\udc00": "\x00"})
    answer = api.post(IMPORT, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["persona"]["name"] == "Ondine"
    assert "data.extensions.[31m" in made["kept"]
    assert "data.extensions._api_key" in {note["field"] for note in made["ignored"]}
    back = card(api, made["persona"]["id"], "v2").json()
    assert back["data"]["first_mes"] == "\udfff"
    assert back["data"]["name"] == document["data"]["name"]
    assert back["top\udc00"] == "\x00"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "invalid_request"),
        (b"GIF89a", 422, "invalid_request"),
        (PICTURE, 422, "invalid_request"),
        (as_json({"spec": "chara_card_v2"}), 422, "invalid_request"),
        (as_json(v2(name="")), 422, "invalid_request"),
        (b'{"a":' * 100_000, 422, "invalid_request"),
        (charx(v3(), ("a", bytes(15 * 1024**2))), 413, "too_large"),
        (charx(v3(), *((str(i), b"") for i in range(10_000))), 413, "too_large"),
        (card_png(png_chunk(b"tEXt", b"chara\0" + b"A" * 12_000_000)), 413, "too_large"),
        (bytes(33 * 1024**2), 413, "too_large"),
    ],
    ids=range(10),
)
def test_hostile_and_broken_files_are_problems_and_make_nobody(
    api: httpx2.Client, data: bytes, status: int, code: str
) -> None:
    before = api.get("/api/v1/personas").json()["total"]
    problem = send(api, data, status)
    assert problem["code"] == code
    assert api.get("/api/v1/personas").json()["total"] == before


def test_other_bodies_are_refused(api: httpx2.Client) -> None:
    assert api.post(IMPORT, content=b"x", headers={"Content-Type": "text/plain"}).status_code == 422
    assert api.post(IMPORT).status_code == 422
    assert api.post(IMPORT, files={"other": b"x"}).json()["errors"][0]["field"] == "file"
    large = b'{"a":"' + b"x" * 9 * 1024**2 + b'"}'
    answer = api.post(IMPORT, content=large, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert api.get("/api/v1/personas/none/card").status_code == 404


def test_a_format_that_there_is_not_is_refused(api: httpx2.Client) -> None:
    made = api.post(IMPORT, json=v1()).json()["persona"]
    assert card(api, made["id"], "exe", 422).json()["errors"][0]["field"] == "format"


def test_an_upload_that_was_a_large_jpeg_goes_out_as_a_png_of_bounded_size(
    api: httpx2.Client,
) -> None:
    icon = [{"type": "icon", "uri": "embeded://i", "name": "main", "ext": "jpg"}]
    large = encoded(portrait(3000, 2400), "JPEG")
    made = send(api, charx(v3(assets=icon), ("i", large)), params={"base_image": True})
    base = f"/api/v1/personas/{made['persona']['id']}/base-image"
    etag = {"If-Match": api.get(base).headers["etag"]}
    body = {"version": 1, "likeness_attestation": True}
    assert api.post(f"{base}/approve", json=body, headers=etag).status_code == 200
    png = card(api, made["persona"]["id"], "png").content
    assert opened(png).format == "PNG"
    assert opened(png).size == (2048, 1638)
