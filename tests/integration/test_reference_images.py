"""Pictures that start from another one: real pipelines, real workers, the studio, API and cloud."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image, ImageChops, ImageStat

from backend.bootstrap import LOCAL_OWNER, open_studio
from backend.config import Settings
from backend.errors import GatorError, InvalidRequest, ModelLoadFailed, UnsupportedTask
from backend.imaging.builtin.cards import cards
from backend.imaging.catalog import discover
from backend.imaging.cloud.openai_images import OpenAIImages
from backend.imaging.diffusion.engine import DiffusionEngine, build
from backend.imaging.diffusion.references import decode
from backend.imaging.selection import choose_model, steps_of
from backend.imaging.types import EngineContext, GeneratedImage, ImageRequest, ModelCard
from backend.models.persona import PersonaCreate
from backend.services.ai_models import AIModelManager
from tests.fixtures import tiny_adapters, tiny_models
from tests.fixtures.images_endpoint import inline, listening, png
from tests.fixtures.rendering import rendered

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:diffusers.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers.*"),
]

CARDS = {card.name: card for card in cards()}
PORTRAIT, ILLUSTRATED = CARDS["portrait"], CARDS["illustrated"]
CLOUD = ModelCard("cloudy", "openai", "cloud", "", "cloudy")
SMALL = {"width": 64, "height": 64, "num_inference_steps": 4}
FAMILIES = {
    "StableDiffusionImg2ImgPipeline": tiny_models.save_stable_diffusion,
    "StableDiffusionXLImg2ImgPipeline": tiny_models.save_stable_diffusion_xl,
    "FluxImg2ImgPipeline": tiny_models.save_flux,
}


@pytest.fixture(scope="module")
def engine() -> DiffusionEngine:
    return build(EngineContext(device_id=0, device="cpu:0", torch_device="cpu", cpu_threads=1))


@pytest.fixture(scope="module")
def reference(engine: DiffusionEngine) -> bytes:
    asked = ImageRequest.from_call("smiling, green background", {"seed": 5, "identity": "Noor"})
    return rendered(engine, asked, PORTRAIT).image_data


def request_of(**options: Any) -> ImageRequest:
    words = "smiling, red jacket, blue background"
    return ImageRequest.from_call(words, {"seed": 1, "identity": "Mira", **options})


def noise(side: int = 64, seed: int = 1) -> bytes:
    buffer = io.BytesIO()
    data = random.Random(seed).randbytes(3 * side * side)
    Image.frombytes("RGB", (side, side), data).save(buffer, "PNG")
    return buffer.getvalue()


def distance(one: bytes, other: bytes) -> float:
    """The mean difference of two pictures' channels, 0 to 255."""
    pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in (one, other)]
    means: list[float] = ImageStat.Stat(ImageChops.difference(*pictures)).mean
    return sum(means) / 3


# The engine


def test_a_picture_stays_near_its_reference(engine: DiffusionEngine, reference: bytes) -> None:
    def from_reference(strength: float, seed: int) -> float:
        request = request_of(seed=seed, reference=reference, strength=strength)
        return distance(rendered(engine, request, PORTRAIT).image_data, reference)

    for seed in (77, 78, 79):
        unrelated = distance(
            rendered(engine, request_of(seed=seed), PORTRAIT).image_data, reference
        )
        near, default, far = (from_reference(strength, seed) for strength in (0.3, 0.6, 0.9))
        assert 0 < near < default < far
        assert default < 0.75 * unrelated, (near, default, far, unrelated)


def test_a_reference_leaves_nothing_behind(engine: DiffusionEngine, reference: bytes) -> None:
    plain = rendered(engine, request_of(seed=6), PORTRAIT)
    asked = request_of(seed=6, reference=reference)
    first = rendered(engine, asked, PORTRAIT)
    between = rendered(engine, request_of(seed=6), PORTRAIT)
    again = rendered(engine, asked, PORTRAIT)
    fresh = rendered(build(EngineContext(1, "cpu:1", "cpu", 1)), asked, PORTRAIT)
    assert first.image_data == again.image_data == fresh.image_data
    assert plain.image_data == between.image_data != first.image_data
    assert plain.receipt["model_fingerprint"] == first.receipt["model_fingerprint"]


@pytest.mark.parametrize("scheduler", [None, "euler", "dpm++_2m", "heun", "unipc"])
def test_schedulers_begin_in_the_midst_and_forget_it(
    engine: DiffusionEngine, reference: bytes, scheduler: str | None
) -> None:
    plain = request_of(scheduler=scheduler, num_inference_steps=4)
    started = request_of(scheduler=scheduler, num_inference_steps=4, reference=reference)
    asked = (plain, started, plain, started)
    first, second, third, fourth = (rendered(engine, r, PORTRAIT).image_data for r in asked)
    assert (first, second) == (third, fourth)
    assert first != second


def test_the_receipt_names_the_reference_and_stays_json(
    engine: DiffusionEngine, reference: bytes
) -> None:
    import hashlib

    image = rendered(engine, request_of(reference=reference), PORTRAIT)
    receipt = json.loads(json.dumps(dict(image.receipt)))
    assert receipt["reference"] == {
        "sha256": hashlib.sha256(reference).hexdigest(),
        "strength": 0.6,
        "way": "image_to_image",
    }
    assert receipt["pipeline"] == "StableDiffusionImg2ImgPipeline"
    assert (receipt["width"], receipt["height"]) == (image.width, image.height) == (128, 128)
    assert "reference" not in rendered(engine, request_of(), PORTRAIT).receipt


@pytest.mark.parametrize(("pipeline", "save"), FAMILIES.items())
def test_every_family_starts_from_a_picture_and_shares_its_weights(
    engine: DiffusionEngine, tmp_path: Path, pipeline: str, save: Callable[[Path], Path]
) -> None:
    [card] = discover([save(tmp_path / "mine")], [])

    def made(**options: Any) -> GeneratedImage:
        return rendered(engine, request_of(**SMALL, **options), card)

    plain, first, other = made(), made(reference=noise()), made(reference=noise(seed=2))
    again, after = made(reference=noise()), made()
    assert first.receipt["pipeline"] == pipeline
    assert (first.width, first.height) == (64, 64)
    assert first.image_data == again.image_data != other.image_data
    assert plain.image_data == after.image_data
    resident = engine._residency.residents[f"diffusers_{card.name}_gpu0"]
    parts = resident.pipeline.components
    for name, part in resident.image_to_image.components.items():
        assert part is parts[name] or name == "scheduler"


def test_a_family_without_image_to_image_says_so(tmp_path: Path, engine: DiffusionEngine) -> None:
    folder = tiny_models.save_stable_diffusion(tmp_path / "sag")
    index = folder / "model_index.json"
    values = {**json.loads(index.read_text()), "_class_name": "StableDiffusionSAGPipeline"}
    index.write_text(json.dumps(values))
    [card] = discover([folder], [])
    with pytest.raises(UnsupportedTask, match="no image-to-image pipeline for StableDiffusionSAG"):
        rendered(engine, request_of(reference=noise(), **SMALL), card)


def test_a_distilled_models_single_step_is_raised_and_a_requests_is_refused(
    engine: DiffusionEngine, tmp_path: Path
) -> None:
    [card] = discover([tiny_models.save_stable_diffusion(tmp_path / "sd-turbo")], [])
    size = {"width": 64, "height": 64}
    made = rendered(engine, request_of(reference=noise(), **size), card)
    assert (card.num_inference_steps, made.receipt["num_inference_steps"]) == (1, 2)
    asked = request_of(reference=noise(), num_inference_steps=3, strength=0.3)
    for refused in (
        lambda: choose_model(asked, [PORTRAIT]),
        lambda: rendered(engine, asked, PORTRAIT),
    ):
        with pytest.raises(UnsupportedTask, match=r"3 step\(s\) at strength 0.3.* at least 4"):
            refused()
    assert choose_model(replace(asked, num_inference_steps=4), [PORTRAIT]) is PORTRAIT
    for hundredth in range(1, 100):
        strength = hundredth / 100
        one = replace(PORTRAIT, num_inference_steps=1, strength=strength)
        steps = steps_of(request_of(reference=noise()), one)
        assert int(steps * strength) == 1
        assert choose_model(request_of(reference=noise(), num_inference_steps=steps), [one])


# The picture


def test_a_reference_is_cut_evenly_and_keeps_its_shape() -> None:
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("blue", (100, 0, 200, 100))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    cut = decode(buffer.getvalue(), 64, 64)
    assert (cut.size, cut.mode) == ((64, 64), "RGB")
    assert {cut.getpixel((x, 32)) for x in (6, 32, 57)} == {(0, 0, 255)}


def test_what_shines_through_is_white() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(buffer, "PNG")
    assert decode(buffer.getvalue(), 16, 16).getpixel((8, 8)) == (255, 255, 255)


def bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (bomb(7_000, 7_000), "49.0 megapixels"),
        (bomb(60_000, 60_000), "cannot be decoded"),
        (noise()[:200], "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
        (b"\xff\xd8\xff" + b"\0" * 99, "cannot be decoded"),
    ],
)
def test_a_damaged_or_oversized_reference_fails_alone(
    engine: DiffusionEngine, data: bytes, why: str
) -> None:
    plain = rendered(engine, request_of(), PORTRAIT)
    with pytest.raises(InvalidRequest, match=f"reference: .*{why}"):
        rendered(engine, request_of(reference=data), PORTRAIT)
    assert rendered(engine, request_of(), PORTRAIT).image_data == plain.image_data


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"reference": "me.png"}, "reference: must be a picture's bytes, not str"),
        ({"reference": b""}, "reference: is not a PNG, JPEG or WebP file"),
        ({"reference": b"<svg/>"}, "reference: is not a PNG"),
        ({"reference": b"\x89PNG\r\n\x1a\n" + bytes(64 * 1024**2)}, "more than 64 MiB"),
        ({"strength": 0.5}, "strength: has no say without a reference"),
        ({"reference": noise(), "strength": 0}, "strength: is 0; it must be a number"),
        ({"reference": noise(), "strength": 1}, "strength: is 1; it must be a number"),
        ({"reference": noise(), "strength": float("nan")}, "strength: is nan"),
    ],
)
def test_faulty_references_are_named(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request_of(**options)
    assert why in caught.value.message
    assert "PNG\\r" not in repr(ImageRequest("a", 1, reference=noise()))


# IP-Adapter


@pytest.fixture(scope="module")
def with_ip_adapter(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    folder = tiny_models.save_stable_diffusion(tmp_path_factory.mktemp("ip") / "model")
    tiny_adapters.save_ip_adapter(folder)
    return discover([folder], [])[0]


def test_an_ip_adapter_is_used_where_the_model_has_one(
    engine: DiffusionEngine, with_ip_adapter: ModelCard
) -> None:
    def made(**options: Any) -> GeneratedImage:
        return rendered(engine, request_of(**SMALL, **options), with_ip_adapter)

    plain, first = made(), made(reference=noise())
    other, again, after = made(reference=noise(seed=2)), made(reference=noise()), made()
    bare = replace(with_ip_adapter, name="bare", ip_adapter="")
    never = rendered(engine, request_of(**SMALL), bare)
    assert plain.image_data == after.image_data == never.image_data
    assert first.image_data == again.image_data != other.image_data
    assert first.image_data != plain.image_data
    assert made(reference=noise(), strength=0.9).image_data != first.image_data
    about = first.receipt["reference"]
    assert (about["way"], about["strength"]) == ("ip_adapter", 0.4)
    assert len(about["ip_adapter_fingerprint"]) == 64
    assert plain.receipt["model_fingerprint"] == never.receipt["model_fingerprint"]
    assert first.receipt["pipeline"] == "StableDiffusionPipeline"
    single = {**SMALL, "num_inference_steps": 1, "strength": 0.01}  # no step is skipped
    assert rendered(engine, request_of(reference=noise(), **single), with_ip_adapter)


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "ip-adapter.safetensors").write_bytes(b"junk"),
        lambda f: (f / "ip-adapter.safetensors").unlink(),
        lambda f: (f / "second.safetensors").write_bytes(b""),
        lambda f: (f / "image_encoder" / "model.safetensors").unlink(),
        lambda f: (f / "image_encoder" / "config.json").write_text("{"),
    ],
)
def test_a_damaged_ip_adapter_is_named_and_the_model_goes_on(
    engine: DiffusionEngine, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    folder = tiny_models.save_stable_diffusion(tmp_path / "damaged")
    damage(tiny_adapters.save_ip_adapter(folder))
    [card] = discover([folder], [])
    plain = rendered(engine, request_of(**SMALL), card)
    for _ in range(2):
        with pytest.raises(ModelLoadFailed, match="IP-Adapter of 'damaged' did not load"):
            rendered(engine, request_of(reference=noise(), **SMALL), card)
    assert rendered(engine, request_of(**SMALL), card).image_data == plain.image_data


# Who can


def test_the_model_is_one_that_can_start_from_a_picture() -> None:
    asked = request_of(reference=noise())
    assert choose_model(asked, [ILLUSTRATED, CLOUD, PORTRAIT]) is PORTRAIT
    assert choose_model(request_of(), [ILLUSTRATED, CLOUD]) is ILLUSTRATED
    assert choose_model(asked, [CLOUD]) is CLOUD
    with pytest.raises(UnsupportedTask, match=r"'illustrated' .* that can: cloudy\."):
        choose_model(asked, [ILLUSTRATED, CLOUD])
    with pytest.raises(UnsupportedTask, match=r"takes no reference .* that can: portrait\."):
        choose_model(replace(asked, model="illustrated"), [ILLUSTRATED, PORTRAIT])
    with pytest.raises(UnsupportedTask, match="no strength"):
        choose_model(replace(asked, strength=0.5), [CLOUD])
    with pytest.raises(UnsupportedTask, match=r"that can: none\."):
        choose_model(asked, [ILLUSTRATED, replace(PORTRAIT, loaded=False)])


async def test_slots_and_neighbours_do_not_matter(reference: bytes) -> None:
    prompts = ["smiling", "angry", "red jacket", "sad"]
    made = []
    for devices in ("cpu:1", "cpu:2"):
        async with AIModelManager(Settings(devices=devices)) as manager:
            options = {"seed": 4, "model": "portrait", "num_inference_steps": 4}
            plain = await manager.generate_images_batch(prompts, **options)
            started = await manager.generate_images_batch(prompts, reference=reference, **options)
            again = await manager.generate_images_batch(prompts, reference=reference, **options)
        results = [*plain, *started, *again]
        assert [result["status"] for result in results] == ["completed"] * 12, results
        made.append([result["image_data"] for result in results])
    assert made[0] == made[1]
    assert made[0][4:8] == made[0][8:]


# The studio


async def test_candidates_start_from_the_approved_else_the_current_version(tmp_path: Path) -> None:
    words = {"name": "Mira", "appearance": "long red hair, pale skin", "personality": "warm"}
    async with open_studio(Settings(home=tmp_path, devices="cpu:1")) as studio:
        persona = await studio.personas.create(PersonaCreate(**words))
        seed = studio.base_images.seed_local
        with pytest.raises(InvalidRequest, match="no version to start from"):
            await seed(persona.id, actor=LOCAL_OWNER, reference=True)
        await seed(persona.id, actor=LOCAL_OWNER, seed=1)
        await seed(persona.id, actor=LOCAL_OWNER, seed=2, reference=True, strength=0.4)
        await studio.base_images.approve(persona.id, 2, actor=LOCAL_OWNER)
        view = await seed(persona.id, actor=LOCAL_OWNER, seed=3, count=2, reference=True)
        assert [v.parent for v in view.versions] == [None, 1, 2, 2]
        sha256 = view.versions[1].sha256
        assert view.versions[2].receipt["reference"]["sha256"] == sha256
        assert view.versions[1].receipt["reference"]["strength"] == 0.4
        assert view.approved is not None
        assert view.approved.n == 2
        pictures = [(await studio.base_images.image(persona.id, n))[1] for n in (1, 2, 3, 4)]
        assert pictures[2] != pictures[3]
        assert distance(pictures[1], pictures[0]) < 30
        view = await seed(persona.id, actor=LOCAL_OWNER, seed=4, reference=True)
        assert view.versions[-1].parent == 2
        with pytest.raises(UnsupportedTask, match="that can: portrait"):
            await seed(persona.id, actor=LOCAL_OWNER, reference=True, model="illustrated")
        with pytest.raises(InvalidRequest, match="strength"):
            await seed(persona.id, actor=LOCAL_OWNER, strength=0.5)


def test_the_api_starts_from_a_reference(
    open_api: Callable[..., Any], persona: Callable[..., dict[str, Any]]
) -> None:
    with open_api() as api:
        made = api.post("/api/v1/personas", json=persona())
        place = made.headers["location"] + "/base-image/generate-local"
        body = {"reference": True, "strength": 0.5, "num_inference_steps": 4, "seed": 7}
        assert faulty(api.post(place, json=body)) == {"reference"}
        assert api.post(place, json={"seed": 7}).status_code == 201
        answer = api.post(place, json=body)
        assert answer.status_code == 201, answer.text
        version = answer.json()["versions"][-1]
        assert (version["n"], version["parent"], version["model"]) == (2, 1, "portrait")
        assert faulty(api.post(place, json=body | {"strength": 1})) == {"strength"}
        drawn = api.post(place, json=body | {"model": "illustrated"})
        assert (drawn.status_code, drawn.json()["code"]) == (422, "unsupported_task")
        assert drawn.json()["able"] == ["portrait"]
        few = api.post(place, json=body | {"num_inference_steps": 1})
        assert (few.status_code, few.json()["num_inference_steps"]) == (422, 2)


def faulty(response: httpx2.Response) -> set[str]:
    assert response.status_code == 422, response.text
    return {fault["field"] for fault in response.json()["errors"]}


# The cloud


@pytest.fixture
def cloud() -> Iterator[tuple[OpenAIImages, Any]]:
    with listening() as endpoint:
        endpoint.answers = [inline()]
        yield (
            OpenAIImages(base_url=endpoint.base_url, api_key="sk-mine", model="m", timeout_s=5.0),
            endpoint,
        )


async def test_a_cloud_is_sent_the_picture(cloud: tuple[OpenAIImages, Any]) -> None:
    images, endpoint = cloud
    made = await images.generate(request_of(reference=noise(), width=512), images.cards()[0])
    await images.close()
    assert made.image_data == png()
    assert made.receipt["reference"]["way"] == "edit"
    ((path, headers, body),) = endpoint.asked
    assert path == "/v1/images/edits"
    assert headers["content-type"].startswith("multipart/form-data")
    assert headers["idempotency-key"]
    assert noise() in body
    for part in (b'filename="reference.png"', b"image/png", b"512x1024", b"smiling, red jacket"):
        assert part in body


async def test_a_cloud_refuses_what_it_does_not_have(cloud: tuple[OpenAIImages, Any]) -> None:
    images, endpoint = cloud
    for options in ({"strength": 0.5, "reference": noise()}, {"adapters": [("film", 1.0)]}):
        with pytest.raises(GatorError, match="does not take"):
            await images.generate(request_of(**options), images.cards()[0])
    assert endpoint.asked == []


def test_the_api_sends_a_reference_to_the_cloud(
    open_api: Callable[..., Any], persona: Callable[..., dict[str, Any]]
) -> None:
    with listening() as endpoint:
        endpoint.answers = [inline()]
        values = {"cloud_base_url": endpoint.base_url, "cloud_model": "cloudy"}
        with open_api(**values) as api:
            base = api.post("/api/v1/personas", json=persona()).headers["location"] + "/base-image"
            assert api.post(f"{base}/generate-cloud").status_code == 201
            answer = api.post(f"{base}/generate-cloud", json={"reference": True})
            assert answer.status_code == 201, answer.text
            assert answer.json()["versions"][-1]["parent"] == 1
    assert endpoint.paths() == ["/v1/images/generations", "/v1/images/edits"]
