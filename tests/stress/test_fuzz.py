"""Fuzzing of what users send: prompts, options and persona files. Nothing but a stated refusal."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.errors import InvalidRequest
from backend.imaging.builtin.adapter import adapt
from backend.imaging.checks import PROMPT_LIMIT, SEED_LIMIT
from backend.imaging.types import ImageRequest
from backend.models.persona import PersonaCreate
from backend.services.persona_service import parse_persona

ANY_TEXT = st.text(st.characters(codec=None), max_size=300)
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
OPTIONS = st.dictionaries(
    st.sampled_from([*ImageRequest.__slots__, "size", "colour"]).filter(lambda n: n != "prompt"),
    ANY_VALUE,
    max_size=5,
)
PERSONAS = st.dictionaries(
    st.sampled_from([*PersonaCreate.model_fields, "extra"]), ANY_VALUE, max_size=8
)


def check_faults(exc: InvalidRequest) -> None:
    """A refusal names every faulty field."""
    assert exc.details["errors"]
    assert all(fault["field"] and fault["message"] for fault in exc.details["errors"])


def test_prompts_and_options(rounds: Any) -> None:
    @settings(
        max_examples=rounds(300, 20_000),
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(prompt=ANY_TEXT, options=OPTIONS)
    def check(prompt: str, options: dict[str, Any]) -> None:
        try:
            request = ImageRequest.from_call(prompt, options)
        except InvalidRequest as exc:
            check_faults(exc)
            return
        assert request.prompt.strip()
        assert len(request.prompt) <= PROMPT_LIMIT
        assert 0 <= request.seed < SEED_LIMIT
        request.prompt.encode("utf-8")
        adapt(request).prompt.encode("ascii")

    check()


def test_persona_files(rounds: Any) -> None:
    @settings(
        max_examples=rounds(300, 20_000),
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(values=PERSONAS)
    def check(values: dict[str, Any]) -> None:
        try:
            persona = parse_persona(values, "fuzz")
        except InvalidRequest as exc:
            check_faults(exc)
            return
        persona.model_dump_json().encode("utf-8")

    check()
