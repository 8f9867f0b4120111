"""One Gator as the cloud of another: the SDK asks the second, a worker of the first draws."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2
import openai
import pytest
from openai import OpenAI

from backend.imaging.intake import accept_picture
from tests.fixtures.base_images import picture
from tests.fixtures.gator_server import approved_persona, gator, wait_for
from tests.fixtures.solid_engine import CARD

ANY_URL = {"trust_env": False, "timeout": 30}


class Chain(NamedTuple):
    """The first Gator's address and persona, and clients of the second's."""

    first: str
    mira: dict[str, Any]
    second: str
    sdk: OpenAI


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    homes = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    with gator(homes[0], [CARD]) as first:
        mira = approved_persona(first, "Mira")
        cloud = {
            "cloud_base_url": f"{first}/v1",
            "cloud_model": "persona:Mira",
            "cloud_size": "auto",
            "cloud_price_usd": "0.25",
            "cloud_spending_cap_usd": "10",
        }
        with (
            gator(homes[1], [], **cloud) as second,
            httpx2.Client(trust_env=False) as http,
            OpenAI(base_url=f"{second}/v1", api_key="none", http_client=http, max_retries=0) as sdk,
        ):
            yield Chain(first, mira, second, sdk)


def contents(url: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = httpx2.get(f"{url}/api/v1/content", **ANY_URL).json()["items"]
    return items


def test_a_picture_is_drawn_by_the_first_for_who_asks_the_second(chain: Chain) -> None:
    assert [model.id for model in chain.sdk.models.list()] == ["persona:Mira"]
    answer = chain.sdk.images.generate(model="persona:Mira", prompt="in a workshop")
    (datum,) = answer.data or []
    (kept,) = contents(chain.first)
    assert hashlib.sha256(base64.b64decode(datum.b64_json or "")).hexdigest() == kept["sha256"]
    assert kept["persona_id"] == chain.mira["id"]
    assert kept["receipt"]["request"]["appearance"] == "long red hair"
    about = datum.gator  # type: ignore[attr-defined]
    assert (about["kind"], about["provider"]) == ("cloud", "openai")
    assert about["receipt"]["answered_with"] == "b64_json"
    assert about["receipt"]["cost_usd"] == "0.25"
    assert answer.size == "64x64"
    assert contents(chain.second) == []


def test_an_edit_goes_all_the_way(chain: Chain) -> None:
    sent = picture(red=21)
    chain.sdk.images.edit(image=sent, prompt="at night")
    reference = contents(chain.first)[0]["receipt"]["request"]["reference_sha256"]
    once = accept_picture(sent).data
    assert reference == hashlib.sha256(accept_picture(once, 16).data).hexdigest()


def test_a_base_image_of_the_second_is_drawn_by_the_first(chain: Chain) -> None:
    with httpx2.Client(base_url=f"{chain.second}/api/v1", **ANY_URL) as client:
        body = {"name": "Vera", "appearance": "grey coat", "personality": "calm"}
        persona = client.post("/personas", json=body).json()
        seeded = client.post(f"/personas/{persona['id']}/base-image/generate-cloud", json={})
        assert seeded.status_code == 201, seeded.text
    prompt = contents(chain.first)[0]["prompt"]
    assert prompt == "grey coat, portrait, facing the camera, friendly, plain background"


def test_a_persona_of_the_second_is_not_sent_to_the_first_unasked(chain: Chain) -> None:
    ours = approved_persona(chain.second, "Nova", negative_prompt="text")
    answer = chain.sdk.images.generate(model="persona:Nova", prompt="at sea")
    about = (answer.data or [])[0].gator  # type: ignore[attr-defined]
    assert "not sent a base image unasked" in about["without_base_image"]
    sent = contents(chain.first)[0]
    assert sent["prompt"] == "long red hair, at sea"
    assert sent["receipt"]["request"]["reference_sha256"] == chain.mira["approved_sha256"]
    assert contents(chain.second)[0]["persona_id"] == ours["id"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"output_format": "webp"}, "leave output_format out"),
        ({"extra_body": {"num_inference_steps": 4}}, "does not take num_inference_steps"),
        ({"quality": "high"}, "knows one quality"),
        ({"size": "100x100"}, "multiples of 8"),
    ],
)
def test_what_a_cloud_does_not_take_is_refused(
    chain: Chain, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(openai.APIStatusError, match=says):
        chain.sdk.images.generate(prompt="a harbour", **change)


def test_what_the_first_fails_of_for_good_is_asked_once(chain: Chain) -> None:
    before = httpx2.get(f"{chain.first}/api/v1/devices", **ANY_URL).json()["items"][0]["failed"]
    with pytest.raises(openai.InternalServerError, match="the paint has run out"):
        chain.sdk.images.generate(prompt="fail")
    after = httpx2.get(f"{chain.first}/api/v1/devices", **ANY_URL).json()["items"][0]["failed"]
    assert after == before + 1


def test_who_hangs_up_on_the_second_stops_the_first(chain: Chain) -> None:
    with pytest.raises(openai.APITimeoutError):
        chain.sdk.with_options(timeout=1.5).images.generate(prompt="steps:400")
    wait_for("idle", chain.first, within_s=3)


def test_a_cap_that_several_would_pass_refuses_them_all(chain: Chain) -> None:
    drawn = len(contents(chain.first))
    report = httpx2.get(f"{chain.second}/api/v1/cloud/spending", **ANY_URL).json()
    left = 10 - float(report["spent_usd"]) - float(report["reserved_usd"])
    spent = 0
    while left - 0.25 * spent >= 2.5:
        chain.sdk.images.generate(prompt="now")
        spent += 1
    with pytest.raises(openai.RateLimitError, match="Raise GATOR_CLOUD_SPENDING_CAP_USD") as caught:
        chain.sdk.images.generate(prompt="now", n=10)
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
    assert len(contents(chain.first)) <= drawn + spent
