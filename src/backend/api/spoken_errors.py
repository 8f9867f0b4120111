"""Errors in the words of other tools, as the API's document tells of them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pydantic import BaseModel

from backend.api.dialects import Speak, openai_error, web_ui_error
from backend.api.openai_schemas import OpenAIError
from backend.api.problems import first_line
from backend.api.web_ui_schemas import WebUiError
from backend.errors import (
    AllDevicesLost,
    Conflict,
    ContentRejected,
    DeviceFault,
    DeviceLost,
    DeviceOutOfMemory,
    Forbidden,
    GatorError,
    GenerationFailed,
    InvalidRequest,
    ModelLoadFailed,
    ModelNotAvailable,
    ProviderError,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderTimeout,
    SpendingCapReached,
    StorageError,
    TooLarge,
    UnsupportedTask,
)

DRAWING: tuple[type[GatorError], ...] = (
    Conflict,
    ContentRejected,
    ModelNotAvailable,
    UnsupportedTask,
    TooLarge,
    SpendingCapReached,
    ModelLoadFailed,
    GenerationFailed,
    DeviceLost,
    DeviceFault,
    DeviceOutOfMemory,
    AllDevicesLost,
    ProviderError,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderTimeout,
)
"""What drawing a picture may fail of."""


def openai_errors(*kinds: type[GatorError]) -> dict[int | str, dict[str, Any]]:
    """Document the errors of a route of OpenAI's: its own, and those that every route may give."""
    errors = spoken_errors(OpenAIError, openai_error, *kinds)
    # where there is no 422, and none is given, the framework would promise one of its own
    return {**errors, "default": {"model": OpenAIError, "description": "Any other error."}}


def web_ui_errors(*kinds: type[GatorError]) -> dict[int | str, dict[str, Any]]:
    """Document the errors of a route of the web UI's, as `openai_errors` does."""
    return spoken_errors(WebUiError, web_ui_error, *kinds)


def spoken_errors(
    model: type[BaseModel], speak: Speak, *kinds: type[GatorError]
) -> dict[int | str, dict[str, Any]]:
    """Document errors in the words of another tool.

    Args:
        model: the form of an answer.
        speak: words an error.
        *kinds: what the route's service may raise.
    """
    by_status: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    every: list[type[GatorError]] = [*kinds, InvalidRequest, Forbidden, StorageError, GatorError]
    for kind in every:
        status, body, _ = speak(kind(first_line(kind)))
        by_status[status][kind.code] = {"summary": first_line(kind), "value": body}
    return {
        status: {
            "model": model,
            "description": " · ".join(f"`{k}`: {v['summary']}" for k, v in examples.items()),
            "content": {"application/json": {"examples": examples}},
        }
        for status, examples in sorted(by_status.items())
    }
