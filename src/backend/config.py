"""Settings: one class, read once in bootstrap and passed down; nobody else reads the environment.

Every setting is `GATOR_<NAME>` in the environment or in `.env`. A value that cannot be used stops
the start with a `ConfigurationError` that names the setting, the value and what would be accepted;
so does a `GATOR_` name that no setting has, since a misspelt setting is a setting ignored.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from backend.endpoints import (
    FIRST_RUNG,
    LONGEST_WAIT_S,
    RungSettings,
    explain_rungs,
    http_url,
    mask_password,
    shown,
)
from backend.errors import ConfigurationError

PREFIX = "GATOR_"
_DEVICES = re.compile(r"auto|cpu(:[1-9]\d?)?|cuda(:\d+(,cuda:\d+)*)?")
_DEVICES_ACCEPTED = (
    "auto (all GPUs, else one CPU slot), cpu:2 (two CPU slots), cuda (all GPUs), cuda:0,cuda:2"
)
_BLOB_STORES = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s?#]*)?|file:///[^\s?#]+")
_DATABASES = ("sqlite+aiosqlite", "postgresql+psycopg")

CommaSeparated = NoDecode
JsonList = NoDecode


class Settings(BaseSettings):
    """Everything a user can set. Field descriptions say what is accepted; errors quote them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    home: Path = Field(
        Path("gator-data"), description="a folder for the database, blobs and galleries"
    )
    database_url: str | None = Field(
        None, description="sqlite+aiosqlite:///path or postgresql+psycopg://user:password@host/name"
    )
    blobs_url: str | None = Field(
        None,
        description="s3://bucket/prefix (keys, region and endpoint from the standard AWS_ "
        "variables), or file:///folder; the home's folder blobs where it is not set",
    )
    devices: str = Field("auto", description=_DEVICES_ACCEPTED)
    cpu_threads: int = Field(
        1, ge=1, le=256, description="torch threads of each CPU slot, 1 to 256; part of a receipt"
    )
    worker_start_timeout_s: float = Field(
        120, gt=0, description="seconds a worker may take to start, above 0"
    )
    load_timeout_s: float = Field(
        900, gt=0, description="seconds a worker may take to load a model, above 0"
    )
    compile_timeout_s: float = Field(
        1_800, gt=0, description="seconds a worker may take to compile a model, above 0"
    )
    step_timeout_s: float = Field(
        300, gt=0, description="seconds from one denoising step to the next, above 0"
    )
    encode_timeout_s: float = Field(
        120, gt=0, description="seconds from a picture's last step to its file, above 0"
    )
    cancel_timeout_s: float = Field(
        30, gt=0, description="seconds a cancelled picture may take to stop, above 0"
    )
    strict: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="yes, no or auto: is every picture rendered by itself, so that its bytes "
        "depend on nothing else? auto is yes on CPU slots, and no on GPUs, which gain from "
        "rendering several together",
    )
    model_dirs: Annotated[tuple[Path, ...], CommaSeparated] = Field(
        (),
        description="comma-separated folders that are, or hold, diffusers model folders or loras",
    )
    image_models: Annotated[tuple[str, ...], CommaSeparated] = Field(
        (), description="comma-separated hub ids, such as stabilityai/sd-turbo"
    )
    image_model: str | None = Field(
        None, description="the name of the image model to use where a request names none"
    )
    cloud_base_url: str | None = Field(
        None, description="an OpenAI-compatible images endpoint, http(s)://host/v1"
    )
    cloud_api_key: SecretStr | None = Field(None, description="the key of that endpoint")
    cloud_model: str | None = Field(None, description="the image model's name at that endpoint")
    cloud_size: str = Field(
        "1024x1024",
        pattern=r"^(auto|[1-9]\d{1,3}x[1-9]\d{1,3})$",
        description="the size to ask for where a request names none, such as 1536x1024; auto "
        "leaves it, and so perhaps the price, to the endpoint",
    )
    cloud_timeout_s: float = Field(
        120, gt=0, description="seconds one attempt at an image may take, above 0"
    )
    cloud_max_attempts: int = Field(
        4, ge=1, le=10, description="attempts at an image where a failure may pass, 1 to 10"
    )
    cloud_image_hosts: Annotated[tuple[str, ...], CommaSeparated] = Field(
        (), description="comma-separated hosts, beside the endpoint's own, that serve its images"
    )
    cloud_price_usd: Decimal | None = Field(
        None, ge=0, le=10_000, description="US dollars that an image costs, such as 0.04"
    )
    cloud_spending_cap_usd: Decimal | None = Field(
        None,
        ge=0,
        le=10_000_000,
        description="US dollars a calendar month (UTC), where GATOR_CLOUD_PRICE_USD is set too",
    )
    llm_base_url: str | None = Field(
        None, description="an OpenAI-compatible chat endpoint, http(s)://host/v1"
    )
    llm_api_key: SecretStr | None = Field(None, description="the key of that endpoint")
    llm_model: str | None = Field(
        None,
        validate_default=True,
        description="the language model's name at GATOR_LLM_BASE_URL; the two go together",
    )
    llm_rungs: Annotated[tuple[RungSettings, ...], JsonList] = Field(
        (),
        description="a JSON list of endpoints in the order they are asked, after "
        'GATOR_LLM_BASE_URL: [{"name": "cloud", "base_url": "https://host/v1", "model": "m", '
        '"api_key": "k", "first_token_s": 8, "stall_s": 10, "timeout_s": 120}], each with a name '
        "of its own; what follows the model may be left out",
    )
    llm_first_token_s: float | None = Field(
        None,
        gt=0,
        le=LONGEST_WAIT_S,
        description="seconds until a language model's first word, above 0, at most 3600; where it "
        "is not set, 60 at this machine and private addresses, 8 elsewhere",
    )
    llm_stall_s: float = Field(
        10, gt=0, le=LONGEST_WAIT_S, description="seconds between words, above 0, at most 3600"
    )
    llm_timeout_s: float = Field(
        120,
        gt=0,
        le=LONGEST_WAIT_S,
        description="seconds one endpoint may take over a caption in all, above 0, at most 3600",
    )
    caption_rewrite: Literal["off", "auto"] = Field(
        "off",
        description="off or auto: does the server have captions rewritten that the templates wrote "
        "because no language model answered, once one does?",
    )
    self_approval: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="yes, no or auto: may who seeded a base image approve it too? auto lets the "
        "owner of a single-user install, and nobody else",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "WARNING", description="DEBUG, INFO, WARNING or ERROR"
    )
    log_json: bool = Field(False, description="true for one JSON object a line")

    @field_validator("model_dirs", "image_models", "cloud_image_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("devices")
    @classmethod
    def _known_devices(cls, value: str) -> str:
        value = value.replace(" ", "").lower()
        if not _DEVICES.fullmatch(value):
            raise ValueError("not a device list")
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(tuple(f"{d}://" for d in _DATABASES)):
            raise ValueError("not a database Gator speaks")
        return value

    @field_validator("blobs_url")
    @classmethod
    def _known_blob_store(cls, value: str | None) -> str | None:
        if value is not None and not _BLOB_STORES.fullmatch(value):
            raise ValueError("not a blob store Gator knows")
        return value

    @field_validator("cloud_spending_cap_usd")
    @classmethod
    def _cap_needs_a_price(cls, value: Decimal | None, info: ValidationInfo) -> Decimal | None:
        if value is not None and info.data.get("cloud_price_usd") is None:
            raise ValueError("no price to count with")
        return value

    @field_validator("cloud_base_url", "llm_base_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        return value and http_url(value)

    @field_validator("llm_model")
    @classmethod
    def _model_and_endpoint(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "llm_base_url" in info.data and bool(value) != bool(info.data["llm_base_url"]):
            raise ValueError("one of the two is missing")
        return value

    @field_validator("llm_rungs", mode="before")
    @classmethod
    def _json_list(cls, value: Any) -> Any:
        rungs = json.loads(value) if isinstance(value, str) else value
        if not isinstance(rungs, list | tuple):
            raise ValueError("not a list")
        return rungs

    @field_validator("llm_rungs")
    @classmethod
    def _each_named_once(
        cls, value: tuple[RungSettings, ...], info: ValidationInfo
    ) -> tuple[RungSettings, ...]:
        names = [rung.name for rung in value]
        if info.data.get("llm_base_url"):
            names.append(FIRST_RUNG)
        if len(set(names)) < len(names):
            raise ValueError("a name stands twice")
        return value

    @property
    def effective_database_url(self) -> str:
        """The configured database, else the SQLite file in the home folder."""
        if self.database_url:
            return self.database_url
        return f"sqlite+aiosqlite:///{(self.home / 'gator.sqlite3').absolute()}"

    def public(self) -> dict[str, Any]:
        """Return every effective value as JSON-ready data, secrets and passwords masked."""
        values = self.model_dump(mode="json")
        values["database_url"] = mask_password(self.effective_database_url)
        for name in ("cloud_base_url", "llm_base_url"):
            values[name] = values[name] and mask_password(values[name])
        for rung in values["llm_rungs"]:
            rung["base_url"] = mask_password(rung["base_url"])
        return values

    def caption_rungs(self) -> tuple[RungSettings, ...]:
        """Return the chat endpoints in the order they are asked, the common limits filled in."""
        first: tuple[RungSettings, ...] = ()
        if self.llm_base_url and self.llm_model:
            first = (
                RungSettings(
                    name=FIRST_RUNG,
                    base_url=self.llm_base_url,
                    model=self.llm_model,
                    api_key=self.llm_api_key,
                ),
            )
        common = {
            "first_token_s": self.llm_first_token_s,
            "stall_s": self.llm_stall_s,
            "timeout_s": self.llm_timeout_s,
        }
        return tuple(
            rung.model_copy(update={n: v for n, v in common.items() if getattr(rung, n) is None})
            for rung in (*first, *self.llm_rungs)
        )


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `.env`; explicit `overrides` win.

    Raises:
        ConfigurationError: a value is not acceptable, or a `GATOR_` name is not a setting.
    """
    _refuse_unknown_names()
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        raise ConfigurationError(
            "\n".join(_explain(dict(error)) for error in exc.errors()),
            {"settings": [PREFIX + str(error["loc"][0]).upper() for error in exc.errors()]},
        ) from exc


def _explain(error: dict[str, Any]) -> str:
    name = str(error["loc"][0])
    accepted = str(Settings.model_fields[name].description)
    setting = PREFIX + name.upper()
    if name == "llm_rungs":
        return explain_rungs(setting, accepted, error)
    return f"{setting}={shown(name, error['input'])} cannot be used. Accepted: {accepted}."


def _refuse_unknown_names() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigurationError(
                f"{name} is not a setting of Gator.{hint} `gator config` lists them all.",
                {"settings": [name]},
            )


def child_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with `changes`, for a worker process.

    The import path goes along, so that a worker finds what its parent found.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, **changes}


def inherited(name: str) -> str | None:
    """Return a variable that another program's convention put into the environment."""
    return os.environ.get(name)
