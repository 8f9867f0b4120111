"""Lengths as platforms count them, and hashtags as platforms link them."""

from __future__ import annotations

import datetime as dt
import time
import unicodedata
from collections.abc import Callable

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.captions import lengths
from backend.captions.platforms import (
    ANY,
    EVERYWHERE,
    PLATFORMS,
    READABLE_TAG,
    hashtag,
    hashtags,
    hashtags_in,
    platform_named,
    platforms_named,
)
from backend.errors import InvalidRequest

FAMILY = "👨\u200d👩\u200d👧\u200d👦"
ENGLAND = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
LINK = "https://example.com/" + "a" * 300


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("This is a test.", 15),
        ("Hi http://test.co", 26),
        ("http://test.com", 23),
        ("test.com", 23),
        ("Test https://test.com test https://test.com test.com test", 86),
        (f"See {LINK}.", 4 + 23 + 1),
        (f"({LINK})", 25),
        ("foo.co.jp/path?x=1", 23),
        ("me@example.com", 14),
        ("Node.js, e.g. today.Then more", 29),
        ("https://not a link", 18),
        ("😷👾😡🔥💩", 10),
        (f"H🐱☺{FAMILY}", 7),
        ("🙋🏽👨\u200d🎤", 4),
        (ENGLAND, 2),
        ("🇩🇪🇫🇷", 4),
        ("1\ufe0f\u20e3", 2),
        ("❤\ufe0f", 2),
        ("🏳\ufe0f\u200d🌈", 2),
        ("🤷🏽\u200d♀\ufe0f", 2),
        ("👩\u200d❤\ufe0f\u200d💋\u200d👨", 2),
        ("☺\ufe0e", 4),
        ("©", 1),
        ("©\ufe0f", 2),
        ("A\u0301B", 2),
        ("\ufb2c", 3),
        ("“quoted” – it’s", 15),
        ("a\u2026", 3),
        ("5 €", 4),
        ("静か", 4),
        ("\u10ff\u1100", 3),
        ("\u200d\u200e\u2010\u201f\u2020\u2032\u2037\u2038", 1 + 2 + 1 + 1 + 2 + 1 + 1 + 2),
    ],
)
def test_x_weighs_signs_by_the_published_ranges(text: str, length: int) -> None:
    assert platform_named("x").length(text) == length


@pytest.mark.parametrize(
    ("platform", "text", "length"),
    [
        ("threads", "ä" * 10, 10),
        ("threads", "🎨", 4),
        ("threads", f"a{FAMILY}b", 27),
        ("threads", "❤\ufe0f", 6),
        ("bluesky", FAMILY * 3, 3),
        ("bluesky", "e\u0301\r\nक्षि", 3),
        ("bluesky", "🇩🇪🇫🇷", 2),
        ("mastodon", f"hi {LINK} there", 3 + 23 + 6),
        ("mastodon", "example.com", 11),
        ("mastodon", "@alice@example.social hi", 9),
        ("mastodon", "@alice and me@example.com", 25),
        ("mastodon", FAMILY, 1),
        ("instagram", "𝐀", 2),
        ("tiktok", "🎨ä", 3),
        ("linkedin", "naïve", 5),
        ("youtube", "ä€🎨", 2 + 3 + 4),
    ],
)
def test_each_platform_counts_in_its_own_unit(platform: str, text: str, length: int) -> None:
    assert platform_named(platform).length(text) == length


def test_a_text_of_the_limit_fits_and_one_sign_more_does_not() -> None:
    for platform in PLATFORMS.values():
        assert platform.fits("x" * platform.limit), platform.name
        assert not platform.fits("x" * (platform.limit + 1)), platform.name


def test_bluesky_limits_bytes_beside_graphemes() -> None:
    assert platform_named("bluesky").fits(FAMILY * 119 + "a" * 25)  # 144 graphemes, 3,000 bytes
    assert not platform_named("bluesky").fits(FAMILY * 120 + "a")  # 121 graphemes, 3,001 bytes


@given(
    st.text(
        st.sampled_from(
            "ab\r\n1#é’…\u0301\u0600\u200d\ufe0f\u20e3\u00ad\u0915\u094d\u0937\u1100\u1161\u11a8\u0e33"
            "👨👩🏽🇩🇪한©",
        ),
        max_size=14,
    )
)
@settings(max_examples=300, derandomize=True, deadline=None)
def test_graphemes_are_those_of_the_unicode_standard(text: str) -> None:
    assert lengths.graphemes(text) == len(regex.findall(r"\X", text))


@given(st.text(max_size=40))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_text_without_emoji_and_links_weighs_what_its_signs_weigh(text: str) -> None:
    plain = "".join(char for char in text if unicodedata.category(char) in {"Lu", "Ll", "Lo", "Nd"})
    composed = unicodedata.normalize("NFC", plain)
    light = sum(ord(char) <= 4351 or 8192 <= ord(char) <= 8205 for char in composed)
    assert lengths.weighted(plain) == 2 * len(composed) - light


HOSTILE = [
    "a" * 100_000,
    "a." * 50_000,
    ".a" * 50_000,
    "http://" * 14_000,
    "http://a." * 11_000,
    "http://a.bc/" + "." * 100_000,
    "http://" + "-" * 100_000,
    ("http://" + "a." * 8 + "1 ") * 4_000,
    ("a" * 62 + ".") * 1_600,
    "@a@a." * 20_000,
    "👨\u200d" * 50_000,
    "🇩" * 100_000,
    "1\ufe0f" * 50_000,
    "e\u0301" * 50_000,
    "#" * 100_000,
    "#a" * 50_000,
    "\ud800" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=[ascii(text[:12]) for text in HOSTILE])
@pytest.mark.parametrize("count", [*lengths.UNITS.values(), hashtags_in])
def test_no_text_of_100_kb_holds_up_a_count(count: Callable[[str], object], text: str) -> None:
    started = time.process_time()
    count(text)
    assert time.process_time() - started < 1


def test_every_limit_names_its_page_and_when_it_was_read() -> None:
    for platform in PLATFORMS.values():
        assert platform.sources, platform.name
        for source in platform.sources:
            assert source.url.startswith("https://")
            assert source.title
            assert source.says
            assert source.read >= dt.date(2026, 11, 22)


def test_all_means_eight_platforms() -> None:
    names = " ".join(platform.name for platform in EVERYWHERE)
    assert names == "x instagram threads bluesky mastodon linkedin tiktok youtube"


def test_a_server_of_mastodon_has_a_limit_of_its_own() -> None:
    server = platform_named(" Mastodon:5000 ")
    assert (server.name, server.limit, server.max_hashtags) == ("mastodon:5000", 5_000, 3)
    assert platform_named(server.name) == server
    assert server.length("@a@b.social") == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("friendster", "instagram"),
        ("x:500", "280 everywhere"),
        ("mastodon:9", "from 280 to 100000"),
        ("mastodon:", "No platform"),
        ("mastodon:many", "No platform"),
        ("x,threads", "No platform"),
    ],
)
def test_an_unknown_platform_is_refused_with_what_is_known(name: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        platform_named(name)


def test_no_name_means_any_platform() -> None:
    assert platform_named(None) is ANY
    assert platform_named("  ") is ANY


def test_several_platforms_are_named_at_once_and_each_once() -> None:
    assert [p.name for p in platforms_named("x, Threads,x")] == ["x", "threads"]
    assert platforms_named("all") == EVERYWHERE
    named = [p.name for p in platforms_named(["all", "mastodon:1000", "facebook"])]
    assert len(named) == 9
    assert "mastodon:1000" in named
    assert "mastodon" not in named


@pytest.mark.parametrize(
    ("words", "tag"),
    [
        ("machine learning", "#MachineLearning"),
        ("vegan", "#Vegan"),
        ("##vegan", "#Vegan"),
        ("＃vegan", "#Vegan"),
        ("R&D", "#RAndD"),
        ("food & drink", "#FoodAndDrink"),
        ("AI art", "#AIArt"),
        ("NASA", "#NASA"),
        ("NEW YORK CITY", "#NewYorkCity"),
        ("iPhone photography", "#iPhonePhotography"),
        ("sci-fi", "#SciFi"),
        ("snake_case words", "#SnakeCaseWords"),
        ("don't panic", "#DontPanic"),
        ("what’s new?", "#WhatsNew"),
        ("self-care (daily)", "#SelfCareDaily"),
        ("St. Moritz", "#StMoritz"),
        ("3D printing", "#3DPrinting"),
        ("straße", "#Straße"),
        ("naïve café", "#NaïveCafé"),
        ("e\u0301toile", "#E\u0301toile"),
        ("мир и труд", "#МирИТруд"),
        ("静かな本屋", "#静かな本屋"),
        ("가을 산책", "#가을산책"),
        ("القهوة العربية", "#القهوة_العربية"),
        ("हिन्दी भाषा", "#हिन्दी_भाषा"),
        ("می\u200cخواهم", "#می\u200cخواهم"),
        ("", ""),
        ("#", ""),
        ("24/7", ""),
        ("１２３", ""),
        ("C++", ""),
        ("C#", ""),
        (".NET", ""),
        ("a.b", ""),
        ("50% off", ""),
        ("🎨 art", ""),
        ("x" * READABLE_TAG, ""),
    ],
)
def test_a_theme_becomes_a_tag_that_platforms_link_and_readers_read(words: str, tag: str) -> None:
    for platform in (ANY, *PLATFORMS.values()):
        assert hashtag(words, platform) == tag


def test_an_ampersand_is_spoken_in_the_captions_language() -> None:
    assert hashtag("Brot & Salz", ANY, "de") == "#BrotUndSalz"
    assert hashtag("pain & sel", ANY, "fr") == "#PainSel"


@given(st.text(max_size=40))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_whatever_becomes_a_tag_is_linked_whole(words: str) -> None:
    tag = hashtag(words)
    assert tag == "" or hashtags_in(f"see {tag} now") == (tag[1:],)
    assert len(tag) <= READABLE_TAG


def test_no_tag_is_made_twice_and_none_beyond_the_platforms_limit() -> None:
    themes = ["street food", "Street-Food", "C++", "STREETFOOD", "markets", "tea", "rain"]
    assert hashtags(themes, platform_named("instagram")) == (
        "#StreetFood",
        "#Markets",
        "#Tea",
        "#Rain",
    )
    assert hashtags(themes, platform_named("threads")) == ("#StreetFood",)


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("no tags", ()),
        ("#One, #two. #1st ＃東京 #हिन्दी", ("One", "two", "1st", "東京", "हिन्दी")),
        ("C# and x#y &#39; https://a.bc/#part https://a.bc/d#e", ()),
        ("#2024 #_ # #! ##", ()),
        ("#a-b #don't", ("a", "don")),
        ("(#Tea)#Rain", ("Tea", "Rain")),
    ],
)
def test_tags_are_found_as_platforms_find_them(text: str, tags: tuple[str, ...]) -> None:
    assert hashtags_in(text) == tags
