"""Addresses of endpoints as settings hold them, and what may be shown of them.

Invariant: nothing here puts a key or a password into a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

LONGEST_WAIT_S = 3_600
FIRST_RUNG = "default"

_RUNG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_CREDENTIALS = re.compile(r"(?<=//)[^/\s]+(?=@)")
_MASK = "**********"


class RungSettings(BaseModel):
    """One chat endpoint of GATOR_LLM_RUNGS."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="1 to 40 letters, digits, dots, dashes or underscores")
    base_url: str = Field(description="an OpenAI-compatible chat endpoint, http(s)://host/v1")
    model: str = Field(min_length=1, description="the language model's name at that endpoint")
    api_key: SecretStr | None = Field(None, description="the key of that endpoint, a text")
    first_token_s: float | None = Field(
        None, gt=0, le=LONGEST_WAIT_S, description="seconds, above 0, at most 3600"
    )
    stall_s: float | None = Field(
        None, gt=0, le=LONGEST_WAIT_S, description="seconds, above 0, at most 3600"
    )
    timeout_s: float | None = Field(
        None, gt=0, le=LONGEST_WAIT_S, description="seconds, above 0, at most 3600"
    )

    @field_validator("name")
    @classmethod
    def _short(cls, value: str) -> str:
        if not _RUNG_NAME.fullmatch(value):
            raise ValueError("not a short name")
        return value

    @field_validator("base_url")
    @classmethod
    def _http(cls, value: str) -> str:
        return http_url(value)


def explain_rungs(setting: str, accepted: str, error: Mapping[str, Any]) -> str:
    """Say what is wrong with a list of endpoints.

    Args:
        setting: the setting's name.
        accepted: what it takes.
        error: one of pydantic's; its place is below the list.
    """
    place = error["loc"][1:]
    if len(place) < 2:
        where = f"{setting}[{place[0]}]" if place else setting
        why = "a name stands twice" if "twice" in error["msg"] else "it is not such a list"
        return f"{where} cannot be used: {why}. Accepted: {accepted}."
    where, fields = f"{setting}[{place[0]}].{place[1]}", RungSettings.model_fields
    if error["type"] == "extra_forbidden":
        return f"{where} is not known. Accepted: {', '.join(fields)}."
    meant = fields[str(place[1])].description
    if error["type"] == "missing":
        return f"{where} is missing. Accepted: {meant}."
    return f"{where}={shown(str(place[1]), error['input'])} cannot be used. Accepted: {meant}."


def shown(name: str, value: object) -> str:
    """Return a refused value as a message may quote it."""
    if "key" in name or not isinstance(value, str | int | float | None):
        return "a value that is not shown"
    return _CREDENTIALS.sub(_MASK, repr(value))


def http_url(value: str) -> str:
    """Return an address that has a host, and a port that exists where it names one.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(value)
    named = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    if not named or any(char.isspace() for char in value):
        raise ValueError("not an http(s) URL")
    return value


def mask_password(url: str) -> str:
    """Return an address without the password in it."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user = f"{parts.username}:" if parts.username else ":"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}{_MASK}@{host}"))
