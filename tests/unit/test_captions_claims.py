"""What a persona must not assert by itself."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from backend.captions.claims import CLAIM, claims_in

CASES: dict[str, list[Any]] = tomllib.loads(
    (Path(__file__).parents[1] / "fixtures" / "captions" / "claims.toml").read_text("utf-8")
)


@pytest.mark.parametrize(("kind", "text", "words"), CASES["found"])
def test_a_claim_is_found_with_its_words(kind: str, text: str, words: str) -> None:
    assert (kind, words) in [(claim.kind, claim.text) for claim in claims_in(text)]


@pytest.mark.parametrize("text", CASES["clean"])
def test_a_caption_that_claims_nothing_is_left_alone(text: str) -> None:
    assert claims_in(text) == ()


@pytest.mark.parametrize(("said", "text"), CASES["given"])
def test_what_the_request_said_may_be_said_again(said: str, text: str) -> None:
    assert claims_in(text) != ()
    assert claims_in(text, given=said) == ()


@pytest.mark.parametrize(("said", "text", "words"), CASES["not_given"])
def test_what_the_request_did_not_say_is_a_claim(said: str, text: str, words: str) -> None:
    assert [claim.text for claim in claims_in(text, given=said)][:1] == [words]


def test_there_are_cases_enough_of_every_kind() -> None:
    kinds = [kind for kind, _, _ in CASES["found"]]
    assert len(kinds) >= 60
    assert len(CASES["clean"]) >= 60
    assert all(kinds.count(kind) >= 10 for kind in set(kinds))
    assert set(kinds) == {"experience", "number", "health", "money", "proof"}


@pytest.mark.parametrize("case", [case for case in CASES["found"] if case[0] == "experience"])
def test_the_pattern_for_experiences_finds_them_without_the_list_of_words(case: list[str]) -> None:
    assert CLAIM.search(case[1])


@pytest.mark.parametrize("text", CASES["clean"])
def test_the_pattern_for_experiences_leaves_other_texts_alone(text: str) -> None:
    assert not CLAIM.search(text)


def test_what_overlaps_is_found_once() -> None:
    assert [claim.text for claim in claims_in("The #1 choice.")] == ["#1"]
    assert [claim.text for claim in claims_in("Join a million followers.")] == [
        "a million followers"
    ]


def test_a_typographic_apostrophe_hides_nothing() -> None:
    assert claims_in("I’ve tried it.")
    assert claims_in("the world’s best")


@pytest.mark.parametrize(
    "text",
    [
        "I have just " * 8_000,
        "ich habe " * 11_000 + "getestet",
        "two " * 25_000 + "times",
        "studies " * 12_000,
        "1." * 50_000,
        "i've been " * 10_000 + "using",
        " " * 100_000 + "cures colds",
        "no " * 33_000 + "risk-free",
    ],
    ids=lambda text: text[:12],
)
def test_no_text_of_100_kb_holds_up_the_search(text: str) -> None:
    started = time.process_time()
    claims_in(text)
    assert time.process_time() - started < 2
