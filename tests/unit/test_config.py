"""Settings: what is accepted, what stops the start, and what is never shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.config import Settings, load_settings
from backend.errors import ConfigurationError
from backend.imaging.devices import Device, resolve_devices

RUNG = {"name": "near", "base_url": "http://localhost:8080/v1", "model": "m"}


def test_defaults_need_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATOR_HOME")
    settings = load_settings()
    assert settings.home == Path("gator-data")
    assert settings.devices == "auto"
    assert settings.effective_database_url.startswith("sqlite+aiosqlite:////")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEVICES", "gpu:0"),
        ("DEVICES", "cpu:0"),
        ("DEVICES", "cuda:0,cpu:1"),
        ("DATABASE_URL", "mysql://x"),
        ("CPU_THREADS", "0"),
        ("CPU_THREADS", "many"),
        ("LLM_BASE_URL", "localhost:11434"),
        ("LLM_TIMEOUT_S", "-1"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_wrong_value_names_the_setting_the_value_and_what_is_accepted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"GATOR_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert f"GATOR_{name}={value!r} cannot be used. Accepted: " in caught.value.message
    assert str(Settings.model_fields[name.lower()].description) in caught.value.message
    assert caught.value.details["settings"] == [f"GATOR_{name}"]


def test_a_misspelt_name_is_refused_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATOR_DEVICE", "cpu:2")
    with pytest.raises(ConfigurationError, match="Did you mean GATOR_DEVICES"):
        load_settings()


def test_a_dotenv_file_is_read_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("GATOR_DEVICES=cpu:3\nGATOR_CLOUD_MODEL=from-file\nOTHER=1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")
    monkeypatch.setenv("GATOR_CLOUD_MODEL", "from-environment")
    settings = load_settings()
    assert (settings.devices, settings.cloud_model) == ("cpu:3", "from-environment")


def test_secrets_and_passwords_are_masked() -> None:
    settings = load_settings(
        cloud_api_key="sk-secret-1",
        llm_api_key="sk-secret-2",
        database_url="postgresql+psycopg://ann:sk-secret-3@db/gator",
        llm_base_url="http://ann:sk-secret-4@llm/v1",
        llm_model="m",
        llm_rungs=json.dumps(
            [RUNG | {"api_key": "sk-secret-5", "base_url": "http://b:sk-secret-6@llm"}]
        ),
    )
    assert "sk-secret" not in str(settings.public())
    assert settings.public()["llm_rungs"][0]["base_url"] == "http://b:**********@llm"
    assert settings.public()["database_url"] == "postgresql+psycopg://ann:**********@db/gator"


def test_language_models_are_asked_in_order_with_the_common_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = {"name": "far", "base_url": "https://far.example/v1", "model": "n", "api_key": "k"}
    monkeypatch.setenv("GATOR_LLM_BASE_URL", "http://localhost:11434/v1")
    monkeypatch.setenv("GATOR_LLM_MODEL", "small")
    monkeypatch.setenv("GATOR_LLM_RUNGS", json.dumps([RUNG | {"timeout_s": 20}, second]))
    monkeypatch.setenv("GATOR_LLM_TIMEOUT_S", "30")
    first, near, far = load_settings().caption_rungs()
    assert (first.name, first.model, first.timeout_s) == ("default", "small", 30)
    assert (near.timeout_s, near.stall_s, near.first_token_s) == (20, 10, None)
    assert (far.model, far.timeout_s) == ("n", 30)
    assert far.api_key is not None
    assert far.api_key.get_secret_value() == "k"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("sk-1", "GATOR_LLM_RUNGS cannot be used: it is not such a list"),
        ('{"a": "sk-1"}', "GATOR_LLM_RUNGS cannot be used: it is not such a list"),
        ('["sk-1"]', "GATOR_LLM_RUNGS[0] cannot be used: it is not such a list"),
        (json.dumps([RUNG, RUNG]), "GATOR_LLM_RUNGS cannot be used: a name stands twice"),
        (
            json.dumps([RUNG | {"first_token_s": -1}]),
            "GATOR_LLM_RUNGS[0].first_token_s=-1 cannot be used. Accepted: seconds, above 0",
        ),
        (
            json.dumps([RUNG | {"timeout_s": float("nan")}]),
            "GATOR_LLM_RUNGS[0].timeout_s=nan cannot be used. Accepted: seconds",
        ),
        (
            json.dumps([RUNG, RUNG | {"name": "no spaces"}]),
            "GATOR_LLM_RUNGS[1].name='no spaces' cannot be used. Accepted: 1 to 40 letters",
        ),
        (
            json.dumps([RUNG | {"base_url": "ftp://ann:sk-1@host"}]),
            "GATOR_LLM_RUNGS[0].base_url='ftp://**********@host' cannot be used. Accepted: an Open",
        ),
        (
            json.dumps([{"name": "a", "base_url": "http://localhost"}]),
            "GATOR_LLM_RUNGS[0].model is missing. Accepted: the language model's name",
        ),
        (
            json.dumps([RUNG | {"token": "sk-1"}]),
            "GATOR_LLM_RUNGS[0].token is not known. Accepted: name, base_url, model, api_key",
        ),
        (
            json.dumps([RUNG | {"api_key": ["sk-1"]}]),
            "GATOR_LLM_RUNGS[0].api_key=a value that is not shown cannot be used. Accepted: the k",
        ),
    ],
)
def test_a_wrong_endpoint_is_told_by_its_place_and_without_its_key(
    monkeypatch: pytest.MonkeyPatch, value: str, told: str
) -> None:
    monkeypatch.setenv("GATOR_LLM_RUNGS", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert caught.value.message.startswith(told)
    assert "sk-1" not in caught.value.message
    assert caught.value.details["settings"] == ["GATOR_LLM_RUNGS"]


def test_the_first_language_model_s_name_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATOR_LLM_RUNGS", json.dumps([RUNG | {"name": "default"}]))
    assert [rung.name for rung in load_settings().caption_rungs()] == ["default"]
    with pytest.raises(ConfigurationError, match="a name stands twice"):
        load_settings(llm_base_url="http://localhost", llm_model="m")


@pytest.mark.parametrize("half", [{"llm_base_url": "http://localhost/v1"}, {"llm_model": "small"}])
def test_half_a_language_model_is_refused(half: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"GATOR_LLM_MODEL=.* the two go together"):
        load_settings(**half)


@pytest.mark.parametrize(
    "url", ["http://", "https://host:99999/v1", "http://[::1/v1", "http://a b"]
)
def test_an_address_that_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="GATOR_CLOUD_BASE_URL"):
        load_settings(cloud_base_url=url)


def test_a_refused_address_is_shown_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(database_url="mysql://ann:sk-1@db/gator")
    assert "mysql://**********@db/gator" in caught.value.message


def test_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATOR_MODEL_DIRS", "/a, /b,")
    monkeypatch.setenv("GATOR_IMAGE_MODELS", "org/one,org/two")
    settings = load_settings()
    assert settings.model_dirs == (Path("/a"), Path("/b"))
    assert settings.image_models == ("org/one", "org/two")


@pytest.fixture
def four_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.usefixtures("four_cards")
@pytest.mark.parametrize(
    ("setting", "ids"),
    [("auto", [0, 1, 2, 3]), ("cuda", [0, 1, 2, 3]), ("cuda:2,cuda:0", [2, 0]), ("cuda:1", [1])],
)
def test_cards_are_chosen(setting: str, ids: list[int]) -> None:
    assert resolve_devices(setting) == tuple(Device("cuda", i) for i in ids)


@pytest.mark.usefixtures("four_cards")
def test_a_card_that_is_not_here_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"torch sees 4 GPU\(s\)"):
        resolve_devices("cuda:4")


@pytest.mark.parametrize(
    ("setting", "slots", "names"),
    [
        ("cpu", 2, ["cpu:0"]),
        ("cpu:3", 1, ["cpu:0", "cpu:1", "cpu:2"]),
        ("auto", 1, ["cpu:0"]),
        ("auto", 2, ["cpu:0", "cpu:1"]),
    ],
)
def test_cpu_slots(setting: str, slots: int, names: list[Any]) -> None:
    assert [d.name for d in resolve_devices(setting, cpu_slots=slots)] == names
