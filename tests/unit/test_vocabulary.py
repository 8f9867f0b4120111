"""The portrait model's tokenizer: every phrase becomes exactly the token of its value."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("transformers")

TRAINING = Path(__file__).parents[2] / "training"

RECOMMENDED = (
    ("black hair", "HAIR_BLACK"),
    ("brown hair", "HAIR_BROWN"),
    ("blonde hair", "HAIR_BLONDE"),
    ("red hair", "HAIR_RED"),
    ("grey hair", "HAIR_GREY"),
    ("pink hair", "HAIR_PINK"),
    ("blue hair", "HAIR_BLUE"),
    ("green hair", "HAIR_GREEN"),
    ("bun", "FRONT_BUN"),
    ("side-combed", "FRONT_SIDE_COMBED"),
    ("spiky", "FRONT_SPIKY"),
    ("undercut", "FRONT_UNDERCUT"),
    ("short hair", "REAR_SHORT"),
    ("neck-length hair", "REAR_NECK_LENGTH"),
    ("shoulder-length hair", "REAR_SHOULDER_LENGTH"),
    ("long-straight hair", "REAR_LONG_STRAIGHT"),
    ("long-wavy hair", "REAR_LONG_WAVY"),
    ("pale skin", "SKIN_PALE"),
    ("tan skin", "SKIN_TAN"),
    ("brown skin", "SKIN_BROWN"),
    ("dark skin", "SKIN_DARK"),
    ("clean-shaven", "BEARD_CLEAN_SHAVEN"),
    ("goatee", "BEARD_GOATEE"),
    ("full-beard", "BEARD_FULL_BEARD"),
    ("long-beard", "BEARD_LONG_BEARD"),
    ("moustache", "BEARD_MOUSTACHE"),
    ("glasses", "GLASSES_GLASSES"),
    ("smiling", "EXPRESSION_SMILING"),
    ("laughing", "EXPRESSION_LAUGHING"),
    ("sad", "EXPRESSION_SAD"),
    ("angry", "EXPRESSION_ANGRY"),
    ("surprised", "EXPRESSION_SURPRISED"),
    ("winking", "EXPRESSION_WINKING"),
    ("wearing black dress", "CLOTHES_COLOUR_BLACK CLOTHES_DRESS"),
    ("wearing white jacket", "CLOTHES_COLOUR_WHITE CLOTHES_JACKET"),
    ("wearing red shirt", "CLOTHES_COLOUR_RED CLOTHES_SHIRT"),
    ("wearing blue t-shirt", "CLOTHES_COLOUR_BLUE CLOTHES_T_SHIRT"),
    ("wearing green turtleneck", "CLOTHES_COLOUR_GREEN CLOTHES_TURTLENECK"),
    ("wearing yellow dress", "CLOTHES_COLOUR_YELLOW CLOTHES_DRESS"),
    ("wearing orange jacket", "CLOTHES_COLOUR_ORANGE CLOTHES_JACKET"),
    ("wearing purple shirt", "CLOTHES_COLOUR_PURPLE CLOTHES_SHIRT"),
    ("white background", "BACKGROUND_WHITE"),
    ("grey background", "BACKGROUND_GREY"),
    ("blue background", "BACKGROUND_BLUE"),
    ("green background", "BACKGROUND_GREEN"),
    ("yellow background", "BACKGROUND_YELLOW"),
    ("pink background", "BACKGROUND_PINK"),
    ("purple background", "BACKGROUND_PURPLE"),
    ("orange background", "BACKGROUND_ORANGE"),
)
SYNONYMS = (
    ("blond hair", "HAIR_BLONDE"),
    ("golden hair", "HAIR_BLONDE"),
    ("ginger hair", "HAIR_RED"),
    ("auburn hair", "HAIR_RED"),
    ("copper hair", "HAIR_RED"),
    ("orange hair", "HAIR_RED"),
    ("gray hair", "HAIR_GREY"),
    ("silver hair", "HAIR_GREY"),
    ("white hair", "HAIR_GREY"),
    ("dark hair", "HAIR_BLACK"),
    ("red-haired", "HAIR_RED"),
    ("side-swept hair", "FRONT_SIDE_COMBED"),
    ("side parted hair", "FRONT_SIDE_COMBED"),
    ("spiked hair", "FRONT_SPIKY"),
    ("long hair", "REAR_LONG_STRAIGHT"),
    ("straight hair", "REAR_LONG_STRAIGHT"),
    ("wavy hair", "REAR_LONG_WAVY"),
    ("curly hair", "REAR_LONG_WAVY"),
    ("a bob", "REAR_NECK_LENGTH"),
    ("light skin", "SKIN_PALE"),
    ("fair skin", "SKIN_PALE"),
    ("white skin", "SKIN_PALE"),
    ("olive skin", "SKIN_TAN"),
    ("tanned skin", "SKIN_TAN"),
    ("black skin", "SKIN_DARK"),
    ("dark-skinned", "SKIN_DARK"),
    ("beard", "BEARD_FULL_BEARD"),
    ("bearded", "BEARD_FULL_BEARD"),
    ("long beard", "BEARD_LONG_BEARD"),
    ("mustache", "BEARD_MOUSTACHE"),
    ("no beard", "BEARD_CLEAN_SHAVEN"),
    ("without a beard", "BEARD_CLEAN_SHAVEN"),
    ("spectacles", "GLASSES_GLASSES"),
    ("eyeglasses", "GLASSES_GLASSES"),
    ("happy", "EXPRESSION_SMILING"),
    ("friendly", "EXPRESSION_SMILING"),
    ("a smile", "EXPRESSION_SMILING"),
    ("joyful", "EXPRESSION_LAUGHING"),
    ("crying", "EXPRESSION_SAD"),
    ("furious", "EXPRESSION_ANGRY"),
    ("stern", "EXPRESSION_ANGRY"),
    ("shocked", "EXPRESSION_SURPRISED"),
    ("with a wink", "EXPRESSION_WINKING"),
    ("gown", "CLOTHES_DRESS"),
    ("suit", "CLOTHES_JACKET"),
    ("coat", "CLOTHES_JACKET"),
    ("blazer", "CLOTHES_JACKET"),
    ("cardigan", "CLOTHES_JACKET"),
    ("blouse", "CLOTHES_SHIRT"),
    ("tee", "CLOTHES_T_SHIRT"),
    ("sweater", "CLOTHES_TURTLENECK"),
    ("jumper", "CLOTHES_TURTLENECK"),
    ("polo neck", "CLOTHES_TURTLENECK"),
    ("gray backdrop", "BACKGROUND_GREY"),
    ("blue studio background", "BACKGROUND_BLUE"),
    ("pink plain backdrop", "BACKGROUND_PINK"),
)
SENTENCES = (
    ("", ""),
    ("a navy submarine in the fog, 4k, masterpiece", ""),
    ("CLOTHES_DRESS", ""),
    ("Red Hair (GREEN jacket)", "HAIR_RED CLOTHES_COLOUR_GREEN CLOTHES_JACKET"),
    ("red hair, red dress", "HAIR_RED CLOTHES_COLOUR_RED CLOTHES_DRESS"),
    ("black skin, black hair", "SKIN_DARK HAIR_BLACK"),
    ("white shirt; white background", "CLOTHES_COLOUR_WHITE CLOTHES_SHIRT BACKGROUND_WHITE"),
    (
        "portrait of a friendly librarian with long wavy auburn hair, glasses",
        "EXPRESSION_SMILING REAR_LONG_WAVY HAIR_RED GLASSES_GLASSES",
    ),
    (
        "blond-haired barista with a moustache, winking, wearing an orange shirt",
        "HAIR_BLONDE BEARD_MOUSTACHE EXPRESSION_WINKING CLOTHES_COLOUR_ORANGE CLOTHES_SHIRT",
    ),
)


@pytest.fixture(scope="module")
def training() -> dict[str, ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TRAINING)
        return {name: importlib.import_module(name) for name in ("portraits", "vocabulary")}


@pytest.fixture(scope="module")
def tokenizer(training):
    return training["vocabulary"].build_tokenizer()


@pytest.mark.parametrize(("phrase", "expected"), RECOMMENDED + SYNONYMS + SENTENCES)
def test_a_phrase_becomes_exactly_its_tokens(tokenizer, phrase, expected):
    assert tokenizer.tokenize(phrase) == expected.split()


def test_the_recommended_phrases_cover_the_vocabulary(training):
    covered = {token for _, tokens in RECOMMENDED for token in tokens.split()}
    vocabulary = training["vocabulary"]
    assert covered == set(vocabulary.vocabulary()) - set(vocabulary.SPECIAL)


def test_a_full_caption_reads_as_the_tokens_that_training_used(training, tokenizer):
    portraits = training["portraits"]
    rng = portraits.Random(3)
    for _ in range(200):
        portrait = portraits.sample_portrait(rng)
        read = tokenizer.tokenize(portraits.caption(portrait))
        assert sorted(read) == sorted(portraits.tokens(portrait))


def test_a_long_prompt_is_cut_to_what_the_text_encoder_holds(tokenizer):
    ids = tokenizer(" ".join(["smiling"] * 40), truncation=True).input_ids
    assert (len(ids), ids[0], ids[-1]) == (16, 1, 2)


def test_portraits_differ_only_where_asked(training):
    portraits = training["portraits"]
    base = portraits.sample_portrait(portraits.Random(1))
    changed = portraits.with_value(base, "hair", "pink")
    unchanged = portraits.with_value(changed, "hair", base.hair)
    assert unchanged == base
    assert portraits.from_dict(portraits.to_dict(changed)) == changed
