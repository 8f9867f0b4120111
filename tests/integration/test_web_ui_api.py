"""The web UI's routes, asked as its scripts ask, of a really served Gator with real workers."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from PIL import Image

from tests.fixtures.gator_server import CLASSIC, approved_persona, gator, wait_for
from tests.fixtures.solid_engine import CARD
from tests.integration.conftest import Documented

USUAL = {
    "enable_hr": False,
    "denoising_strength": 0.7,
    "firstphase_width": 0,
    "firstphase_height": 0,
    "hr_scale": 2,
    "hr_upscaler": "Latent",
    "hr_prompt": "",
    "styles": [],
    "seed": 11,
    "subseed": -1,
    "subseed_strength": 0.0,
    "seed_resize_from_h": 0,
    "seed_resize_from_w": 0,
    "batch_size": 2,
    "n_iter": 2,
    "steps": 20,
    "cfg_scale": 7.0,
    "width": 512,
    "height": 384,
    "restore_faces": False,
    "tiling": False,
    "do_not_save_samples": False,
    "do_not_save_grid": False,
    "negative_prompt": "text",
    "eta": 1.0,
    "s_churn": 0,
    "s_tmax": 0,
    "s_tmin": 0,
    "s_noise": 1,
    "override_settings": {"show_progress_every_n_steps": 5, "sd_model_checkpoint": "classic"},
    "override_settings_restore_afterwards": True,
    "sampler_name": "Euler a",
    "sampler_index": "Euler a",
    "script_name": None,
    "script_args": [],
    "send_images": True,
    "save_images": False,
    "alwayson_scripts": {},
}
"""What the clients of many years send with every request."""


@pytest.fixture(scope="module")
def web_ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with gator(tmp_path_factory.mktemp("web-ui"), [CARD, CLASSIC]) as url:
        document = httpx2.get(f"{url}/openapi.json", trust_env=False).json()
        hooks = {"response": [Documented(document)]}
        with httpx2.Client(base_url=url, trust_env=False, timeout=30, event_hooks=hooks) as client:
            yield client


def drawn(client: httpx2.Client, **body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask for pictures; return the answer and its `info`."""
    answer = client.post("/sdapi/v1/txt2img", json={"prompt": "a harbour", **body})
    assert answer.status_code == 200, answer.text
    return answer.json(), json.loads(answer.json()["info"])


def test_the_usual_request_is_answered_in_the_usual_form(web_ui: httpx2.Client) -> None:
    answer, info = drawn(web_ui, **USUAL)
    shown = [Image.open(io.BytesIO(base64.b64decode(one))) for one in answer["images"]]
    assert [one.size for one in shown] == [(512, 384)] * 4
    assert [one.getpixel((0, 0)) for one in shown] == [(seed, 0, 0) for seed in range(11, 15)]
    assert info["all_seeds"] == [11, 12, 13, 14]
    assert (info["seed"], info["steps"], info["cfg_scale"]) == (11, 20, 7.0)
    assert (info["width"], info["height"], info["batch_size"]) == (512, 384, 2)
    assert (info["sampler_name"], info["sd_model_name"]) == ("Euler a", "classic")
    assert info["all_prompts"] == ["a harbour"] * 4
    assert info["infotexts"][1] == (
        "a harbour\nNegative prompt: text\nSteps: 20, Sampler: Euler a, CFG scale: 7.0, Seed: 12, "
        "Size: 512x384, Model: classic"
    )
    request = info["gator"][0]["receipt"]["request"]
    assert (request["scheduler"], request["num_inference_steps"]) == ("euler_a", 20)
    assert (request["guidance_scale"], request["negative_prompt"]) == (7.0, "text")
    assert answer["parameters"]["sampler_name"] == "Euler a"


def test_what_is_left_out_is_the_models_own(web_ui: httpx2.Client) -> None:
    answer, info = drawn(web_ui, seed=-1)
    assert len(answer["images"]) == 1
    assert (info["width"], info["steps"], info["cfg_scale"]) == (64, 30, 7.5)
    assert info["sampler_name"] == "Automatic"
    assert set(info["gator"][0]["receipt"]["request"]) == {"prompt", "seed", "format"}
    assert drawn(web_ui, seed=-1)[1]["seed"] != info["seed"]


@pytest.mark.parametrize(
    "asked",
    [
        {"sampler_name": "DPM++ 3M SDE"},
        {"sampler_name": "Euler", "scheduler": "Karras"},
        {"sampler_name": "Euler", "override_settings": {"sd_model_checkpoint": "solid"}},
    ],
)
def test_a_sampler_that_is_not_ours_is_the_models_own_and_that_is_said(
    web_ui: httpx2.Client, asked: dict[str, Any]
) -> None:
    own = {"override_settings": {"sd_model_checkpoint": "classic"}}
    _, info = drawn(web_ui, **{**own, **asked})
    assert info["sampler_name"] == "Automatic"
    assert "scheduler" not in info["gator"][0]["receipt"]["request"]


def test_a_checkpoint_may_be_a_persona(web_ui: httpx2.Client) -> None:
    mira = approved_persona(str(web_ui.base_url).rstrip("/"), "Mira")
    titles = [one["title"] for one in web_ui.get("/sdapi/v1/sd-models").json()]
    assert titles == ["solid", "classic", "persona:Mira"]
    _, info = drawn(web_ui, override_settings={"sd_model_checkpoint": titles[2]})
    about = info["gator"][0]
    assert about["receipt"]["request"]["reference_sha256"] == mira["approved_sha256"]
    content = web_ui.get(f"/api/v1/content/{about['content_id']}").json()
    assert content["persona_id"] == mira["id"]


def test_the_options_name_the_model_that_is_used(web_ui: httpx2.Client) -> None:
    options = web_ui.get("/sdapi/v1/options").json()
    assert options == {"sd_model_checkpoint": "solid", "samples_format": "png"}


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"enable_hr": True}, 422, "enable_hr is not taken here, but for False"),
        ({"restore_faces": True}, 422, "restore_faces is not taken"),
        ({"tiling": True}, 422, "tiling is not taken"),
        ({"styles": ["noir"]}, 422, "styles is not taken"),
        ({"subseed_strength": 0.5}, 422, "subseed_strength is not taken"),
        ({"alwayson_scripts": {"controlnet": {}}}, 422, "alwayson_scripts is not taken"),
        ({"send_images": False}, 422, "send_images is not taken"),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, 422, "is not a setting"),
        ({"override_settings": {"sd_model_checkpoint": 3}}, 422, "valid string"),
        ({"override_settings": {"sd_model_checkpoint": "a\ud800"}}, 422, "U+D800"),
        ({"override_settings": {"a\ud800": 1}}, 422, "is not a setting"),
        ({"sampler_name": "\ud800"}, 422, "U+D800"),
        ({"override_settings": {"sd_model_checkpoint": "v1-5"}}, 404, "'v1-5' is not available"),
        ({"init_images": ["x"]}, 422, "init_images: Extra inputs"),
        ({"batch_size": 4, "n_iter": 3}, 422, "n: is 12; 1 to 10"),
        ({"batch_size": 11}, 422, "less than or equal to 10"),
        ({"prompt": ""}, 422, "at least 1"),
        ({"width": 100}, 422, "multiples of 8"),
        ({"steps": 0}, 422, "greater than or equal to 1"),
        ({"prompt": "fail"}, 500, "the paint has run out"),
    ],
)
def test_what_is_refused_is_said_in_the_web_uis_form(
    web_ui: httpx2.Client, change: dict[str, Any], status: int, says: str
) -> None:
    answer = web_ui.post(
        "/sdapi/v1/txt2img",
        content=json.dumps({"prompt": "a harbour", **change}),
        headers={"content-type": "application/json"},
    )
    body = answer.json()
    assert answer.status_code == status, body
    assert set(body) == {"error", "detail", "body", "errors"}
    assert says in body["detail"]


def test_a_list_for_a_body_is_refused(web_ui: httpx2.Client) -> None:
    assert web_ui.post("/sdapi/v1/txt2img", json=["a harbour"]).status_code == 422


def test_who_hangs_up_stops_the_drawing(web_ui: httpx2.Client) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        web_ui.post("/sdapi/v1/txt2img", json={"prompt": "steps:400"}, timeout=1.5)
    wait_for("idle", str(web_ui.base_url).rstrip("/"), within_s=3)
