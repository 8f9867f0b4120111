"""OpenAI's routes, asked by OpenAI's own SDK, of a really served Gator with real workers."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from PIL import Image

from backend.imaging.intake import accept_picture
from tests.fixtures.base_images import picture
from tests.fixtures.gator_server import (
    CLASSIC,
    POSTER,
    approved_persona,
    device_of,
    gator,
    wait_for,
)
from tests.fixtures.solid_engine import CARD
from tests.integration.conftest import Documented

ANY_URL = {"trust_env": False, "timeout": 30}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with gator(tmp_path_factory.mktemp("openai"), (CARD, POSTER, CLASSIC)) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    document = httpx2.get(f"{url}/openapi.json", **ANY_URL).json()
    hooks = {"response": [Documented(document)]}
    http = httpx2.Client(trust_env=False, event_hooks=hooks)
    with OpenAI(base_url=f"{url}/v1", api_key="sk-any", http_client=http, max_retries=0) as sdk:
        yield sdk


@pytest.fixture(scope="module")
def mira(url: str) -> dict[str, Any]:
    return approved_persona(
        url, "Mira", image_style="film grain", negative_prompt="text, watermark"
    )


def bytes_of(datum: Any) -> bytes:
    return base64.b64decode(datum.b64_json)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def kept(url: str) -> int:
    total: int = httpx2.get(f"{url}/api/v1/content", **ANY_URL).json()["total"]
    return total


def test_a_picture_of_a_model_comes_in_the_answer_and_is_not_kept(client: OpenAI, url: str) -> None:
    before = kept(url)
    asked_at = int(time.time())
    answer = client.images.generate(model="solid", prompt="a harbour", extra_body={"seed": 7})
    (datum,) = answer.data or []
    assert (answer.size, answer.output_format, answer.background) == ("64x64", "png", "opaque")
    assert (answer.quality, answer.usage) == ("medium", None)
    assert asked_at <= answer.created <= time.time() + 1
    assert opened(bytes_of(datum)).getpixel((0, 0)) == (7, 0, 0)
    assert datum.url is None
    about = datum.gator
    assert (about["model"], about["seed"], about["device"]) == ("solid", 7, "cpu:0")
    assert about["sha256"] == hashlib.sha256(bytes_of(datum)).hexdigest()
    assert about["receipt"]["request"] == {"prompt": "a harbour", "seed": 7, "format": "png"}
    assert "content_id" not in about
    assert kept(url) == before


def test_several_pictures_have_seeds_of_their_own_and_come_again(client: OpenAI) -> None:
    def drawn() -> list[bytes]:
        body = {"seed": 5}
        answer = client.images.generate(prompt="a harbour", n=3, size="auto", extra_body=body)
        return [bytes_of(datum) for datum in answer.data or []]

    first = drawn()
    assert len(set(first)) == 3
    assert drawn() == first


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_the_format_and_the_size_are_those_asked_for(client: OpenAI, name: Any) -> None:
    answer = client.images.generate(prompt="a harbour", size="128x96", output_format=name)
    shown = opened(bytes_of((answer.data or [])[0]))
    assert (shown.format or "").lower() == name == answer.output_format
    assert shown.size == (128, 96)
    assert answer.size == "128x96"


@pytest.mark.parametrize(
    ("quality", "steps"),
    [("auto", None), ("standard", None), ("low", 15), ("medium", None), ("hd", 45), ("max", 60)],
)
def test_quality_is_how_many_steps_are_taken(
    client: OpenAI, quality: Any, steps: int | None
) -> None:
    answer = client.images.generate(model="solid", prompt="a harbour", quality=quality)
    request = (answer.data or [])[0].gator["receipt"]["request"]
    assert request.get("num_inference_steps") == steps


def test_a_personas_picture_has_its_locked_look_and_is_kept(
    client: OpenAI, url: str, mira: dict[str, Any]
) -> None:
    answer = client.images.generate(
        model="persona:Mira", prompt="in a workshop", extra_body={"negative_prompt": "rain"}
    )
    (datum,) = answer.data or []
    request = datum.gator["receipt"]["request"]
    assert request["appearance"] == "long red hair, film grain"
    assert request["identity"] == "Mira"
    assert request["negative_prompt"] == "text, watermark, rain"
    assert request["reference_sha256"] == mira["approved_sha256"]
    assert request["strength"] == 0.8
    content = httpx2.get(f"{url}/api/v1/content/{datum.gator['content_id']}", **ANY_URL).json()
    assert (content["persona_id"], content["base_version"]) == (mira["id"], 1)
    assert (content["prompt"], content["sha256"]) == ("in a workshop", datum.gator["sha256"])
    assert content["receipt"] == datum.gator["receipt"]


def test_a_kept_picture_has_the_address_of_its_content(
    client: OpenAI, url: str, mira: dict[str, Any]
) -> None:
    answer = client.images.generate(
        model=f"persona:{mira['id']}", prompt="at sea", response_format="url"
    )
    (datum,) = answer.data or []
    assert datum.b64_json is None
    assert datum.url == f"{url}/api/v1/content/{datum.gator['content_id']}/image"
    data = httpx2.get(datum.url, **ANY_URL).raise_for_status().content
    assert hashlib.sha256(data).hexdigest() == datum.gator["sha256"]


def test_a_picture_that_is_not_kept_has_an_address_for_an_hour(client: OpenAI, url: str) -> None:
    answer = client.images.generate(
        prompt="../../etc/passwd", response_format="url", output_format="webp"
    )
    (datum,) = answer.data or []
    place, _, name = str(datum.url).rpartition("/")
    assert place == f"{url}/api/v1/content/passing"
    assert len(bytes.fromhex(name)) == 32
    found = httpx2.get(str(datum.url), **ANY_URL).raise_for_status()
    assert hashlib.sha256(found.content).hexdigest() == datum.gator["sha256"]
    assert found.headers["content-type"] == "image/webp"
    assert found.headers["content-security-policy"] == "sandbox; default-src 'none'"
    age = int(found.headers["cache-control"].split("max-age=")[1].split(",")[0])
    assert 3_500 < age <= 3_600
    assert httpx2.get(f"{place}/{'0' * 64}", **ANY_URL).status_code == 404


def test_a_stream_shows_the_picture_on_the_way(client: OpenAI) -> None:
    events = list(
        client.images.generate(
            prompt="previews:9",
            stream=True,
            partial_images=2,
            output_format="jpeg",
            size="96x64",
            user="u-1",
        )
    )
    *partials, last = events
    assert [event.type for event in partials] == ["image_generation.partial_image"] * 2
    assert [event.partial_image_index for event in partials] == [0, 1]  # type: ignore[union-attr]
    shades = [opened(bytes_of(event)).convert("L").getpixel((0, 0)) for event in partials]
    assert 70 <= shades[0] < 145 <= shades[1]  # from steps 3 to 5, and from 6 on
    assert {opened(bytes_of(event)).format for event in events} == {"JPEG"}
    assert {(event.size, event.output_format) for event in events} == {("96x64", "jpeg")}
    assert last.type == "image_generation.completed"
    assert opened(bytes_of(last)).size == (96, 64)
    assert last.usage.total_tokens == 0
    assert last.safety_identifier == "u-1"
    assert last.gator["receipt"]["together"] == 1  # type: ignore[union-attr]


def test_a_stream_without_previews_is_the_picture_alone(
    client: OpenAI, mira: dict[str, Any]
) -> None:
    (event,) = client.images.generate(model="persona:mira", prompt="previews:4", stream=True)
    assert event.type == "image_generation.completed"
    assert event.gator["content_id"]


def test_what_fails_in_the_midst_of_a_stream_is_an_error_of_the_sdk(client: OpenAI) -> None:
    events = client.images.generate(prompt="previews:5 fail", stream=True, partial_images=1)
    assert next(iter(events)).type == "image_generation.partial_image"
    with pytest.raises(openai.APIError, match="the paint has run out") as caught:
        list(events)
    assert (caught.value.code, caught.value.type) == ("generation_failed", "server_error")


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_stops_the_drawing(url: str, stream: bool) -> None:
    body = {"prompt": "steps:400", "stream": stream}
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{url}/v1/images/generations", json=body, timeout=1.5, trust_env=False)
    wait_for("idle", url, within_s=3)
    assert device_of(url)["waiting"] == 0


def test_who_waits_goes_before_a_batch(client: OpenAI, url: str) -> None:
    body = {"prompts": ["sleep:0.5"] * 24, "priority": 9}
    batch = httpx2.post(f"{url}/api/v1/batches", json=body, **ANY_URL).json()
    wait_for("rendering", url)
    client.images.generate(prompt="now")
    place = f"{url}/api/v1/batches/{batch['id']}"
    assert httpx2.get(place, **ANY_URL).json()["counts"]["done"] < 12
    httpx2.post(f"{place}/cancel", **ANY_URL)
    wait_for("idle", url)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"n": 11}, "n", "less than or equal to 10"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"n": "2"}, "n", "valid integer"),
    ({"prompt": ""}, "prompt", "at least 1"),
    ({"prompt": "   "}, "prompt", "at least 1"),
    ({"prompt": "x" * 4_001}, "prompt", "at most 4000"),
    ({"prompt": "a\x00b"}, "prompt", "U+0000"),
    ({"model": "persona:\x00"}, "model", "U+0000"),
    ({"size": "large"}, "size", "must be auto, or width x height"),
    ({"size": "8x8"}, "size", "must be auto, or width x height"),
    ({"size": "4096x4096"}, "size", "up to 2048 pixels a side"),
    ({"size": "9999x64"}, "size", "from 16 to 4,096"),
    ({"size": "100x100"}, "size", "multiples of 8"),
    ({"background": "transparent"}, "background", "'auto' or 'opaque'"),
    ({"style": "vivid"}, "style", "say the style in the prompt"),
    ({"moderation": "low"}, "moderation", "'auto'"),
    ({"output_compression": 50}, "output_compression", "chooses how files are compressed"),
    ({"output_format": "gif"}, "output_format", "'png', 'jpeg' or 'webp'"),
    ({"svg": {"model": "x"}}, "svg", "pictures here are pixels"),
    ({"frame_count": 4}, "frame_count", "pictures here stand still"),
    ({"complexity": "high"}, "complexity", "do not plan"),
    ({"response_format": "base64"}, "response_format", "'b64_json' or 'url'"),
    ({"partial_images": 2}, "partial_images", "goes with stream"),
    ({"partial_images": 4, "stream": True}, "partial_images", "less than or equal to 3"),
    ({"n": 2, "stream": True}, "n", "is 1 with stream"),
    ({"response_format": "url", "stream": True}, "response_format", "is b64_json with stream"),
    ({"quality": "best"}, "quality", "Input should be"),
    ({"quality": "high", "model": "poster"}, "quality", "knows one quality"),
    ({"quality": "high", "num_inference_steps": 3}, "quality", "give one of them"),
    ({"seed": -1}, "seed", "greater than or equal to 0"),
    ({"frames": 3}, "frames", "not permitted"),
    ({"user": "x" * 513}, "user", "at most 512"),
]


@pytest.mark.parametrize(("change", "param", "says"), REFUSED)
def test_what_is_wrong_is_refused_by_its_name_before_it_costs(
    client: OpenAI, url: str, change: dict[str, Any], param: str, says: str
) -> None:
    done = device_of(url)["done"]
    body = {"prompt": "a harbour", "model": "solid", **change}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/images/generations", body=body, cast_to=object)
    error = caught.value
    assert (error.param, error.type) == (param, "invalid_request_error")
    assert says in error.message
    assert error.response.headers["x-should-retry"] == "false"
    assert error.request_id
    assert device_of(url)["done"] == done


def test_a_model_that_is_not_here_is_named(client: OpenAI) -> None:
    for name in ("dall-e-3", "persona:Nobody"):
        with pytest.raises(openai.NotFoundError, match=name.removeprefix("persona:")) as caught:
            client.images.generate(model=name, prompt="a harbour")
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(name)


@pytest.mark.parametrize("name", ["%00", "persona:%00", "%ed%a0%80", "x" * 301, "..%2f..%2fetc"])
def test_a_name_that_is_none_is_refused_in_words(url: str, name: str) -> None:
    answer = httpx2.get(f"{url}/v1/models/{name}", **ANY_URL)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["message"]


def test_a_persona_that_is_not_approved_is_not_drawn(client: OpenAI, url: str) -> None:
    body = {"name": "Draft", "appearance": "tall", "personality": "calm"}
    httpx2.post(f"{url}/api/v1/personas", json=body, **ANY_URL).raise_for_status()
    with pytest.raises(openai.BadRequestError, match="pending_upload, not approved") as caught:
        client.images.generate(model="persona:Draft", prompt="a harbour")
    assert caught.value.code == "conflict"
    assert "persona:Draft" not in [model.id for model in client.models.list()]


@pytest.mark.parametrize(
    ("prompt", "kind", "code", "again"),
    [
        ("fail", openai.InternalServerError, "generation_failed", "false"),
        ("oom", openai.InternalServerError, "device_out_of_memory", "true"),
        ("die", openai.InternalServerError, "device_lost", "true"),
    ],
)
def test_what_the_engine_fails_of_says_whether_to_ask_again(
    client: OpenAI, prompt: str, kind: Any, code: str, again: str
) -> None:
    with pytest.raises(kind) as caught:
        client.images.generate(prompt=prompt)
    assert (caught.value.code, caught.value.type) == (code, "server_error")
    assert caught.value.response.headers["x-should-retry"] == again
    assert "Traceback" not in str(caught.value.body)


def test_the_sdk_does_not_ask_again_for_what_fails_for_good(url: str, client: OpenAI) -> None:
    failed = device_of(url)["failed"]
    with pytest.raises(openai.InternalServerError):
        client.with_options(max_retries=2).images.generate(prompt="fail")
    assert device_of(url)["failed"] == failed + 1


def test_the_edge_refuses_in_openais_words_there_and_in_ours_elsewhere(url: str) -> None:
    def asked(method: str, path: str, **more: Any) -> tuple[int, Any]:
        answer = httpx2.request(method, f"{url}{path}", **more, **ANY_URL)
        return answer.status_code, answer.json()

    elsewhere = {"Host": "evil.example"}
    json = {"Content-Type": "application/json"}
    paths = {
        (403, "forbidden"): asked("GET", "/v1/models", headers=elsewhere),
        (404, "not_found"): asked("GET", "/v1/files"),
        (405, "method_not_allowed"): asked("DELETE", "/v1/models"),
        (400, "invalid_request"): asked(
            "POST", "/v1/images/generations", content=b"{", headers=json
        ),
        (413, "too_large"): asked(
            "POST", "/v1/images/generations", content=b" " * 1_100_000, headers=json
        ),
    }
    for (status, code), (found, body) in paths.items():
        assert found == status
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert body["error"]["code"] == code
    status, body = asked("GET", "/api/v1/models", headers=elsewhere)
    assert (status, body["type"]) == (403, "urn:gator:problem:forbidden")
    status, body = asked("GET", "/v10")
    assert (status, body["type"]) == (404, "urn:gator:problem:not_found")


def test_an_edit_starts_from_the_picture_that_is_sent(client: OpenAI, url: str) -> None:
    before = kept(url)
    data = picture(red=33, size=128)
    answer = client.images.edit(
        image=("../x.exe", data, "text/html"), prompt="at night", n=2, extra_body={"seed": 3}
    )
    requests = [datum.gator["receipt"]["request"] for datum in answer.data or []]
    stored = hashlib.sha256(accept_picture(data, 16).data).hexdigest()
    assert [request["reference_sha256"] for request in requests] == [stored] * 2
    assert "strength" not in requests[0]
    assert kept(url) == before
    close = client.images.edit(image=[data], prompt="at night", input_fidelity="high", user="")
    assert (close.data or [])[0].gator["receipt"]["request"]["strength"] == 0.36


def test_an_edit_of_a_persona_starts_from_what_is_sent(
    client: OpenAI, mira: dict[str, Any]
) -> None:
    answer = client.images.edit(
        image=picture(red=12), prompt="at night", model="persona:Mira", response_format="url"
    )
    (datum,) = answer.data or []
    request = datum.gator["receipt"]["request"]
    assert request["appearance"] == "long red hair, film grain"
    assert request["reference_sha256"] not in (None, mira["approved_sha256"])
    assert "/api/v1/content/" in str(datum.url)


def test_an_edit_streams_too(client: OpenAI) -> None:
    events = list(
        client.images.edit(image=picture(), prompt="previews:6", stream=True, partial_images=1)
    )
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


def text(value: str) -> tuple[None, str]:
    return None, value


EDITS: list[tuple[list[tuple[str, Any]], int, str | None, str]] = [
    ([], 400, "image", "Field required"),
    ([("image", picture()), ("image", picture())], 400, "image", "is there twice"),
    ([("image[]", picture()), ("image[]", picture())], 400, "image", "is there twice"),
    ([("image", picture()), ("mask", b"\x89PNG" * 20_000)], 400, "mask", "drawn anew"),
    ([("image", b"<svg/>")], 400, "image", "is an SVG"),
    ([("image", b"")], 400, "image", "is empty"),
    ([("image", picture()), ("n", text("many"))], 400, "n", "valid integer"),
    ([("image", picture()), ("style", text("vivid"))], 400, "style", "not permitted"),
    ([("image", picture()), ("model", text("poster"))], 400, None, "takes no reference"),
    ([("image", bytes(20 * 1024**2 + 9))], 413, "image", "larger than 20 MiB"),
    ([("image", picture()), ("user", text("x" * 20_000))], 413, None, "larger than 16,384"),
]


@pytest.mark.parametrize(("parts", "status", "param", "says"), EDITS)
def test_an_edit_that_is_wrong_is_refused_by_its_name(
    url: str, parts: list[tuple[str, Any]], status: int, param: str | None, says: str
) -> None:
    files = [("prompt", text("at night")), *parts]
    answer = httpx2.post(f"{url}/v1/images/edits", files=files, **ANY_URL)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    assert says in error["message"]


def test_models_and_personas_are_listed_by_the_names_that_are_taken(
    client: OpenAI, url: str, mira: dict[str, Any]
) -> None:
    twins = [approved_persona(url, "Twin") for _ in range(2)]
    names = [f"persona:{twin['id']}" for twin in twins]
    slashed = approved_persona(url, "Ünal/Kaya")
    listed = {model.id: model for model in client.models.list()}
    assert {"solid", "poster", "classic", "persona:Mira", "persona:Ünal/Kaya", *names} <= set(
        listed
    )
    assert "persona:Twin" not in listed
    assert (listed["solid"].owned_by, listed["persona:Mira"].owned_by) == ("local", "gator")
    assert abs(listed["persona:Mira"].created - time.time()) < 600
    for name in ("solid", "persona:Mira", "persona:Ünal/Kaya", names[0]):
        assert client.models.retrieve(name).id == name
        assert client.images.generate(model=name, prompt="now").data
    assert slashed["name"] == "Ünal/Kaya"
    with pytest.raises(openai.BadRequestError, match="2 personas are called"):
        client.images.generate(model="persona:twin", prompt="now")


def test_the_example_of_the_documents_runs(
    url: str,
    mira: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "*")
    exec(example.replace("http://127.0.0.1:8000", url), {})
    assert opened((tmp_path / "workshop.png").read_bytes()).getpixel((0, 0)) == (7, 0, 0)
    assert "image_generation.completed" in capsys.readouterr().out
