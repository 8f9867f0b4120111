"""Packs: the shipped ones are sound, bad ones are refused, own ones extend them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from backend.captions import golden, steering
from backend.captions.grammar import FLAGS, TONE, Pack, Situation, fill, join
from backend.captions.lint import SAMPLE, LintFinding, lint_library, lint_pack, texts_of
from backend.captions.packs import Library, compile_pack
from backend.captions.scoring import MODIFIERS, STYLES
from backend.captions.seeds import mix
from backend.captions.words import lexicon
from backend.errors import ConfigurationError

SHIPPED = Library()
LOCALES = SHIPPED.locales()


@pytest.fixture(params=[(locale, style) for locale in LOCALES for style in STYLES], ids="/".join)
def pack(request: pytest.FixtureRequest) -> Pack:
    locale, style = request.param
    return SHIPPED.pack(style, locale)


def small(**changes: Any) -> dict[str, Any]:
    """A pack without a fault, of the fewest words."""
    tones = [
        {
            "id": f"tone-{modifier}",
            "slot": "tone",
            "modifiers": [modifier],
            "texts": [f"{modifier.title()} indeed, {word}." for word in "abcdefgh"],
        }
        for modifier in MODIFIERS
    ]
    return {
        "words": ["today"],
        "default_themes": ["small joys"],
        "plan": [{"id": "only", "slots": ["opening", "core", "tone", "tags"]}],
        "fragment": [
            {"id": "open", "slot": "opening", "needs": ["topic"], "texts": ["Seen: {topic}."]},
            {"id": "plain", "slot": "opening", "needs": ["no-topic"], "texts": ["Hello there."]},
            {"id": "core", "slot": "core", "texts": ["Today we speak of {theme}{context}."]},
            {"id": "calm", "slot": "tone", "texts": ["Calm and collected."]},
            *tones,
        ],
        **changes,
    }


def with_fragment(**fragment: Any) -> dict[str, Any]:
    added = {"id": "added", "slot": "core", "texts": ["Today it is {theme}{context}."], **fragment}
    return small(fragment=[*small()["fragment"], added])


def found_in(data: dict[str, Any]) -> list[LintFinding]:
    return list(lint_pack(compile_pack(data, "casual", "own")))


# Shipped ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", LOCALES)
def test_lint_finds_nothing_in_the_shipped_packs(locale: str) -> None:
    found = lint_library(SHIPPED, [locale])
    assert not found, "\n".join(f"{f.where}: {f.code}: {f.detail}" for f in found)


@pytest.mark.parametrize("locale", LOCALES)
def test_the_first_seeds_give_the_captions_that_were_accepted(locale: str) -> None:
    assert not list(golden.changed(SHIPPED, locale))


def test_a_pack_that_says_something_else_changes_its_golden_captions(tmp_path: Path) -> None:
    library = write(tmp_path, "casual", {"disable": [SHIPPED.pack("casual").plans[0].id]})
    assert [finding.where for finding in golden.changed(library, "en")] == ["en/casual"]


@pytest.mark.parametrize("keyword", ["future", "analysis", "community"])
@pytest.mark.parametrize("style", STYLES)
def test_no_english_fragment_breaks_when_it_is_turned(style: str, keyword: str) -> None:
    for _, text in texts_of(SHIPPED.pack(style)):
        turned = steering.customize(text, [keyword])
        assert not re.search(r"for the future (is|was|has|'s)|analysis (are|keep)", turned), turned
        assert not re.search(
            r"\b(on|to|for|of|about|my|your|this|put|spend) for the future", turned
        ), turned


def test_each_modifier_is_heard_in_every_style(pack: Pack) -> None:
    neutral = pack.bind(Situation.of("noun")).choices[TONE]
    heard = {}
    for modifier in MODIFIERS:
        bound = pack.bind(Situation.of("noun", modifiers=frozenset({modifier})))
        heard[modifier] = {fragment.id for fragment in bound.choices[TONE].fragments}
        assert len(heard[modifier]) >= 20, modifier
        assert heard[modifier].isdisjoint(fragment.id for fragment in neutral.fragments)
    assert len(set().union(*heard.values())) == sum(map(len, heard.values()))


@pytest.mark.parametrize("kind", list(FLAGS))
def test_there_is_enough_to_say_on_every_kind_of_topic(pack: Pack, kind: str) -> None:
    bound = pack.bind(Situation.of(kind))
    openings = len(bound.choices["opening"]) + len(bound.choices["lead"])
    assert openings >= 50, openings
    for slot in ("core", "depth", "close", TONE):
        assert len(bound.choices[slot]) >= 24, slot


def test_flirting_is_left_out_where_the_rating_is_safe_for_work(pack: Pack) -> None:
    safe, moderate = (
        {
            fragment.id
            for choices in pack.bind(Situation.of("noun", rating=rating)).choices.values()
            for fragment in choices.fragments
        }
        for rating in ("sfw", "moderate")
    )
    assert safe < moderate


def test_a_time_of_day_adds_what_suits_it(pack: Pack) -> None:
    plain, morning, night = (
        {
            fragment.id
            for choices in pack.bind(Situation.of("noun", time_of_day=time)).choices.values()
            for fragment in choices.fragments
        }
        for time in (None, "morning", "night")
    )
    assert plain < morning
    assert plain < night
    assert not (morning & night) - plain


# Refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fragment",
    [
        {"texts": ["Hello {name}."]},
        {"texts": ["Hello {topic."]},
        {"texts": ["Hello {topic!r}."]},
        {"texts": ["[a|b|{topic}]."]},
        {"texts": ["[a|[b|c]]."]},
        {"texts": ["[a|b."]},
        {"texts": ["[a|b|c|d][a|b|c|d][a|b|c|d][a|b]."]},
        {"texts": "Hello."},
        {"needs": ["weather"]},
        {"modifiers": ["grumpy"]},
        {"rating": ["anything"]},
        {"time": ["noon"]},
        {"weight": 0},
        {"weight": 1.5},
        {"weight": True},
        {"claims": ["number"]},
        {"colour": "red"},
        {"slot": 7},
        {"id": ""},
    ],
)
def test_a_fragment_that_would_fail_later_is_refused(fragment: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="own/casual"):
        compile_pack(with_fragment(**fragment), "casual", "own")


@pytest.mark.parametrize(
    "plan",
    [
        {"id": "p", "slots": ["opening", "nowhere"]},
        {"id": "p", "slots": ["opening", "opening"]},
        {"id": "p", "slots": "opening"},
        {"id": "", "slots": ["opening"]},
        {"id": "p", "slots": ["opening"], "colour": 1},
    ],
)
def test_a_plan_that_would_fail_later_is_refused(plan: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="own/casual"):
        compile_pack(small(plan=[plan]), "casual", "own")


# Linted -----------------------------------------------------------------------------------------


def test_a_sound_pack_has_no_findings() -> None:
    assert found_in(small()) == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (with_fragment(slot="epilogue", texts=["The end."]), "unreachable"),
        (with_fragment(needs=["gerund", "noun"]), "unreachable"),
        (with_fragment(texts=["Today is a good day."]), "theme"),
        (with_fragment(texts=["A word about {theme}{context}."]), "style"),
        (with_fragment(slot="opening", texts=["Good to see you."]), "topic"),
        (with_fragment(texts=["Today it is {theme}{context}. {topic}."]), "topic"),
        (with_fragment(texts=["Today  it is {theme}{context}."]), "punctuation"),
        (with_fragment(texts=["Today it is {theme}{context} !"]), "punctuation"),
        (with_fragment(texts=["Today it is {theme}{context}"]), "punctuation"),
        (with_fragment(texts=["today it is {theme}{context}."]), "punctuation"),
        (with_fragment(texts=["Today 3 times {theme}{context}."]), "punctuation"),
        (with_fragment(texts=["Today I tried {theme}{context}."]), "claim"),
        (with_fragment(texts=["Today {theme}{context} cures anxiety."]), "claim"),
        (with_fragment(texts=["Today it is {theme}{context}. #blessed."]), "hashtag"),
        (small(default_themes=["24"]), "hashtag"),
        (with_fragment(texts=["Today it is {theme}{context} " + "very " * 60 + "much."]), "length"),
        (small(fragment=small()["fragment"][:5]), "modifier"),
    ],
)
def test_each_fault_of_a_pack_is_found(data: dict[str, Any], code: str) -> None:
    assert code in {finding.code for finding in found_in(data)}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Today, as ever, {theme} keeps going{context}.", True),
        ("Confession of today: {theme} relaxes me{context}.", True),
        ("{theme}{context} are good for today.", True),
        ("A day of today's {theme} makes me happy{context}.", False),
        ("Today {theme} can wait{context}.", False),
        ("Today, {theme} as ever{context}.", False),
    ],
)
def test_a_theme_governs_no_verb_since_it_may_be_a_plural(text: str, found: bool) -> None:
    data = with_fragment(texts=[text])
    pack = compile_pack(data, "casual", "en")
    assert ("agreement" in {finding.code for finding in lint_pack(pack)}) is found


def test_texts_that_share_four_words_are_found_across_styles(tmp_path: Path) -> None:
    for style, text in (
        ("casual", "Today it is one of those days with {theme}{context}."),
        ("creative", "Creative days, one of those days about {theme}{context}."),
    ):
        write(tmp_path, style, {"fragment": [{"id": "own", "slot": "core", "texts": [text]}]})
    found = lint_library(Library((*SHIPPED.folders, tmp_path)), ["en"])
    assert any(f.code == "duplicate" and "one of those days" in f.detail for f in found)


# Own packs --------------------------------------------------------------------------------------


def write(folder: Path, style: str, data: dict[str, Any], locale: str = "en") -> Library:
    (folder / locale).mkdir(exist_ok=True, parents=True)
    (folder / locale / f"{style}.toml").write_text(tomli_w.dumps(data))
    return Library((*SHIPPED.folders, folder))


def all_texts(pack: Pack) -> set[str]:
    return {text for _, text in texts_of(pack)}


def test_an_own_pack_adds_replaces_and_disables_by_id(tmp_path: Path) -> None:
    shipped = SHIPPED.pack("casual")
    replaced = shipped.fragments["close"][0].id.split("/")[2].rsplit(".", 1)[0]
    gone = shipped.plans[0].id
    library = write(
        tmp_path,
        "casual",
        {
            "disable": [gone],
            "fragment": [
                {"id": "mine", "slot": "close", "texts": ["My very own goodbye."]},
                {"id": replaced, "slot": "close", "texts": ["Instead of the shipped ones."]},
            ],
        },
    )
    own = library.pack("casual")
    assert {"My very own goodbye.", "Instead of the shipped ones."} <= all_texts(own)
    lost = {t for f, t in texts_of(shipped) if f"/{replaced}." in f.id}
    assert lost
    assert not lost & all_texts(own)
    assert gone not in {plan.id for plan in own.plans}
    assert len(own.plans) == len(shipped.plans) - 1
    assert all_texts(library.pack("tech")) == all_texts(SHIPPED.pack("tech"))


def test_an_own_pack_may_stand_alone(tmp_path: Path) -> None:
    library = write(tmp_path, "casual", small(extend=False))
    assert len(library.pack("casual").plans) == 1
    assert "Calm and collected." in all_texts(library.pack("casual"))


def test_a_distribution_adds_packs_by_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backend.captions import packs

    package = tmp_path / "house_phrases"
    write(package, "tech", {"fragment": [{"id": "m", "slot": "close", "texts": ["House rules."]}]})
    (package / "__init__.py").touch()
    metadata = tmp_path / "house_phrases-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: house-phrases\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[gator.packs]\nhouse = house_phrases\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    packs._distributed.cache_clear()
    try:
        assert "House rules." in all_texts(Library.installed().pack("tech"))
    finally:
        packs._distributed.cache_clear()
        sys.modules.pop("house_phrases", None)


@pytest.mark.parametrize(
    "text", ["words = [", "colour = 1", "fragment = 3", "plan = [1]", "\udcff"]
)
def test_a_file_that_is_no_pack_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "en").mkdir()
    path = tmp_path / "en" / "casual.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match=str(path)):
        Library((*SHIPPED.folders, tmp_path)).pack("casual")


def test_an_unknown_style_is_casual_and_an_unknown_locale_english() -> None:
    assert SHIPPED.pack("baroque", "tlh") is SHIPPED.pack("casual", "en")


# Drawing ----------------------------------------------------------------------------------------


def test_adding_to_one_slot_leaves_the_draws_of_the_others_alone() -> None:
    changed = with_fragment(texts=["Today, as ever, {theme}{context}."], weight=3)
    packs = [compile_pack(data, "casual", "own") for data in (small(), changed)]
    differing = 0
    for seed in map(mix, range(200)):
        drawn = []
        for pack in packs:
            bound = pack.bind(Situation.of("noun", modifiers=frozenset({"warm"})))
            parts = fill(bound.plan(mix(seed)), seed, bound.choices)
            drawn.append({part.slot: part.template for part in parts})
        differing += drawn[0].pop("core") != drawn[1].pop("core")
        assert drawn[0] == drawn[1]
    assert 100 < differing < 190


def test_a_weight_is_how_often_a_text_is_drawn() -> None:
    pack = compile_pack(with_fragment(weight=3), "casual", "own")
    bound = pack.bind(Situation.of("noun"))
    drawn = [bound.choices["core"].draw(mix(seed)).weight for seed in range(4_000)]
    assert 0.72 < drawn.count(3) / len(drawn) < 0.78


def test_every_alternative_is_drawn_and_no_value_is_read_as_one() -> None:
    data = small(plan=[{"id": "p", "slots": ["opening", "core"]}])
    data["fragment"][0]["texts"] = ["[Seen|Found]: {topic}."]
    bound = compile_pack(data, "casual", "own").bind(Situation.of("noun"))
    leaves = {**SAMPLE, "topic": "[a|b] {theme} {0}"}
    texts = {
        join(fill(bound.plan(mix(seed)), seed, bound.choices)[:1], leaves)
        for seed in map(mix, range(50))
    }
    assert texts == {"Seen: [a|b] {theme} {0}.", "Found: [a|b] {theme} {0}."}


@pytest.mark.parametrize("locale", LOCALES)
def test_no_word_list_names_a_word_twice(locale: str) -> None:
    words = lexicon(locale)
    lists = [words["negators"], words["affirmations"], words["stop"], words["renderer"]]
    for table in ("styles", "modifiers", "grammar", "turns"):
        lists += words[table].values()
    for listed in lists:
        assert len(listed) == len(set(listed)), sorted(w for w in listed if listed.count(w) > 1)
