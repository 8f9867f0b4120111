"""The packs, linted: whole sentences, reachable fragments, no claims, each modifier heard."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from backend.captions import grammar, steering
from backend.captions.claims import CLAIM
from backend.captions.grammar import FLAGS, Fragment, Pack, compile_pack, load_pack
from backend.captions.platforms import hashtag
from backend.captions.scoring import MODIFIERS, STYLES
from backend.captions.words import lexicon
from backend.errors import ConfigurationError

CARRIERS = {"core", "lead"}
TOPIC_SLOTS = {"opening", "scene"}
LEAVES = {
    "topic": "a cat on a wall",
    "Topic": "A cat on a wall",
    "theme": "street food",
    "context": "",
}
DENIED = re.compile(
    r"\b(tried|tested|used|loved|love|bought|cure|guaranteed?|profits?|risk-free|best-selling)\b",
    re.I,
)


def fragments(pack: Pack) -> list[tuple[str, Fragment]]:
    return [(slot, fragment) for slot, found in pack.fragments.items() for fragment in found]


@pytest.fixture(params=STYLES)
def pack(request: pytest.FixtureRequest) -> Pack:
    return load_pack(request.param)


def test_every_fragment_can_be_reached(pack: Pack) -> None:
    slots = {slot.name for plan in pack.plans for slot in plan.slots}
    for slot, fragment in fragments(pack):
        assert slot in slots
        assert fragment.weight > 0
        assert fragment.modifiers <= set(MODIFIERS)
        assert any(fragment.needs <= flags for flags in FLAGS.values()), fragment.id


@pytest.mark.parametrize("kind", list(FLAGS))
def test_every_plan_names_a_theme_and_carries_the_topic(pack: Pack, kind: str) -> None:
    flags = FLAGS[kind]  # type: ignore[index]
    for plan in pack.plans:
        names = [slot.name for slot in plan.slots if not slot.optional]
        assert sum(name in CARRIERS for name in names) == 1
        assert sum(name in TOPIC_SLOTS for name in names) == 1
        for name in CARRIERS & set(names):
            assert pack.candidates(name, flags, ())
        if kind != "none":
            assert all(pack.candidates(name, flags, ()) for name in TOPIC_SLOTS & set(names))


def test_carriers_name_the_theme_and_show_the_style(pack: Pack) -> None:
    for slot, fragment in fragments(pack):
        leaves = fragment.pieces[1::2]
        assert leaves.count("theme") == leaves.count("context") == (slot in CARRIERS), fragment.id
        if slot in CARRIERS:
            assert pack.shows_style(" ".join(fragment.pieces[::2])), fragment.id
        if slot in TOPIC_SLOTS and "no-topic" not in fragment.needs:
            assert sum(leaf.casefold() == "topic" for leaf in leaves) == 1, fragment.id
        else:
            assert not any(leaf.casefold() == "topic" for leaf in leaves), fragment.id


def test_every_fragment_is_a_clean_sentence(pack: Pack) -> None:
    for _, fragment in fragments(pack):
        text = fragment.render(LEAVES)
        assert re.match(r"[A-Z]", text), text
        assert re.search(r"([.!?]|[.!?] \W{1,2})$", text), text
        assert not re.search(r"  | [.,;:!?]|[.,;:!?]{2}|\d|#|\bi\b", text), text
        assert not CLAIM.search(text), text
        assert not DENIED.search(text), text


def test_no_sentence_stands_in_two_styles() -> None:
    texts = {style: {f.render(LEAVES) for _, f in fragments(load_pack(style))} for style in STYLES}
    for one, other in combinations(STYLES, 2):
        shared = texts[one] & texts[other]
        assert len(shared) <= 1, shared


@pytest.mark.parametrize("keyword", ["future", "analysis", "community"])
def test_no_fragment_breaks_when_it_is_turned(pack: Pack, keyword: str) -> None:
    for _, fragment in fragments(pack):
        turned = steering.customize(fragment.render(LEAVES), [keyword])
        assert not re.search(r"for the future (is|was|has|'s)|analysis (are|keep)", turned), turned
        assert not re.search(r"\b(on|to|for|of|about) for the future", turned), turned


def test_there_is_room_for_many_captions(pack: Pack) -> None:
    for flags in FLAGS.values():
        space = sum(
            len(pack.candidates("opening", flags, ()))
            * len(pack.candidates("core", flags, ()))
            * len(pack.candidates("close", flags, ()) or " ")
            for plan in pack.plans
            if plan.id == "scene-first"
        )
        assert space * len(pack.candidates("depth", flags, ())) >= 10_000


def test_each_modifier_has_sentences_of_its_own(pack: Pack) -> None:
    flags = FLAGS["none"]
    assert not pack.candidates(grammar.TONE, flags, ())
    found = {m: {f.id for f in pack.candidates(grammar.TONE, flags, (m,))} for m in MODIFIERS}
    assert all(len(ids) >= 8 for ids in found.values())
    assert len(set().union(*found.values())) == sum(map(len, found.values()))


@pytest.mark.parametrize(
    ("text", "needs"), [("Hello {name}.", []), ("Hello {topic.", []), ("Hello.", ["weather"])]
)
def test_a_pack_with_an_unknown_leaf_or_need_is_refused(text: str, needs: list[str]) -> None:
    group = {"id": "x", "slot": "opening", "needs": needs, "texts": [text]}
    data = {"fragment": [group], "plan": [], "words": [], "default_themes": []}
    with pytest.raises(ConfigurationError, match="own/casual"):
        compile_pack(data, "casual", "own")


def test_a_plan_with_an_unknown_slot_is_refused() -> None:
    data = {
        "fragment": [],
        "plan": [{"id": "p", "slots": ["opening"]}],
        "words": [],
        "default_themes": [],
    }
    with pytest.raises(ConfigurationError, match="opening"):
        compile_pack(data, "casual", "own")


def test_no_word_list_names_a_word_twice() -> None:
    words = lexicon()
    lists = [words["negators"], words["affirmations"], words["stop"], words["renderer"]]
    for table in ("styles", "modifiers", "grammar", "turns"):
        lists += words[table].values()
    for listed in lists:
        assert len(listed) == len(set(listed)), sorted(w for w in listed if listed.count(w) > 1)


@pytest.mark.parametrize(
    ("theme", "tag"),
    [
        ("street food", "#StreetFood"),
        ("AI", "#AI"),
        ("slow-living", "#SlowLiving"),
        ("women's health", "#WomensHealth"),
        ("café culture", "#CaféCulture"),
        ("R&D", ""),
        ("24", ""),
        ("C++", ""),
        ("", ""),
        ("a very long theme that no reader would ever tap on", ""),
    ],
)
def test_a_hashtag_is_valid_or_absent(theme: str, tag: str) -> None:
    assert hashtag(theme) == tag
