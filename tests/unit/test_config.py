"""Settings: what is accepted, what stops the start, and what is never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.config import Settings, load_settings
from backend.errors import ConfigurationError
from backend.imaging.devices import Device, resolve_devices


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
    (tmp_path / ".env").write_text("GATOR_DEVICES=cpu:3\nGATOR_LLM_MODEL=from-file\nOTHER=1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")
    monkeypatch.setenv("GATOR_LLM_MODEL", "from-environment")
    settings = load_settings()
    assert (settings.devices, settings.llm_model) == ("cpu:3", "from-environment")


def test_secrets_and_passwords_are_masked() -> None:
    settings = load_settings(
        cloud_api_key="sk-secret-1",
        llm_api_key="sk-secret-2",
        database_url="postgresql+psycopg://ann:sk-secret-3@db/gator",
        llm_base_url="http://ann:sk-secret-4@llm/v1",
    )
    assert "sk-secret" not in str(settings.public())
    assert settings.public()["database_url"] == "postgresql+psycopg://ann:**********@db/gator"


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
