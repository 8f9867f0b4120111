"""What the adapter says, the shipped tokenizer hears: nothing is lost between them."""

from __future__ import annotations

import random

import pytest

transformers = pytest.importorskip("transformers")

from backend.imaging.builtin.adapter import adapt, phrase  # noqa: E402
from backend.imaging.builtin.cards import WEIGHTS  # noqa: E402
from backend.imaging.builtin.vocabulary import vocabulary  # noqa: E402
from backend.imaging.types import ImageRequest  # noqa: E402

VALUES = [(a, value) for a, values in vocabulary().values.items() for value in values]


@pytest.fixture(scope="module")
def hear():
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(
        WEIGHTS / "tokenizer", local_files_only=True
    )

    def tokens(prompt: str) -> list[str]:
        ids = tokenizer(prompt)["input_ids"]
        assert len(ids) <= tokenizer.model_max_length
        return tokenizer.convert_ids_to_tokens(ids)[1:-1]

    tokens.vocabulary = set(tokenizer.get_vocab())
    return tokens


def token(attribute: str, value: str) -> str:
    return f"{attribute}_{value}".upper().replace("-", "_")


def spoken(values: dict[str, str]) -> set[str]:
    return {token(a, v) for a, v in values.items() if (a, v) != ("glasses", "none")}


def test_vocabulary_is_the_model_s_whole_vocabulary(hear) -> None:
    special = {"<pad>", "<s>", "</s>", "<unk>"}
    assert spoken_all() == hear.vocabulary - special


def spoken_all() -> set[str]:
    return {token(a, v) for a, v in VALUES if (a, v) != ("glasses", "none")}


@pytest.mark.parametrize(("attribute", "value"), VALUES)
def test_each_value_is_heard_alone(hear, attribute: str, value: str) -> None:
    values = {attribute: value}
    if attribute == "clothes_colour":
        values["clothes"] = "shirt"
    assert set(hear(phrase(values))) == spoken(values)


@pytest.mark.parametrize("seed", range(20))
def test_full_and_partial_portraits_are_heard(hear, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        values = {a: rng.choice(v) for a, v in vocabulary().values.items() if rng.random() < 0.8}
        if "clothes" not in values:
            values.pop("clothes_colour", None)
        heard = hear(phrase(values))
        assert len(heard) == len(set(heard))
        assert set(heard) == spoken(values)


def test_a_persona_s_prompt_is_heard_whole(hear) -> None:
    request = ImageRequest(
        "grinning on the beach with red hair",
        7,
        identity="nova",
        appearance="a woman with raven hair, olive skin, glasses and a teal blazer",
    )
    result = adapt(request)
    heard = set(hear(result.prompt))
    assert {"HAIR_BLACK", "SKIN_TAN", "GLASSES_GLASSES", "CLOTHES_COLOUR_BLUE"} <= heard
    assert "HAIR_RED" not in heard
    assert spoken(dict(result.look)) <= heard


@pytest.mark.parametrize(
    "said",
    [
        "blond hair", "golden hair", "ginger hair", "auburn hair", "copper hair", "orange hair",
        "gray hair", "silver hair", "white hair", "dark hair", "red-haired", "side-swept",
        "side-parted", "spiked", "long hair", "straight hair", "wavy hair", "curly hair", "bob",
        "light skin", "fair skin", "white skin", "olive skin", "tanned skin", "black skin",
        "dark-skinned", "beard", "bearded", "mustache", "no beard", "spectacles", "eyeglasses",
        "happy", "friendly", "smile", "joyful", "crying", "furious", "stern", "shocked", "wink",
        "gown", "suit", "coat", "blazer", "cardigan", "blouse", "tee", "sweater", "jumper",
        "polo neck", "green backdrop", "plain blue background", "pink studio background",
    ],
)  # fmt: skip
def test_words_that_the_model_understands_are_no_approximations(hear, said: str) -> None:
    result = adapt(ImageRequest(said, 1))
    assert result.report["approximated"] == {}
    assert set(hear(result.prompt)) == set(hear(said))
