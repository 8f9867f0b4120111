"""Whatever a card holds, it comes back: in every file, with the fields that nobody knows."""

from __future__ import annotations

import copy
import json
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backend.cards.card import CardFormat
from backend.cards.gator import persona_fields
from backend.cards.packing import card_archive, card_png
from backend.cards.reading import read_card
from backend.cards.secrets import without_secrets
from backend.cards.writing import kept_card, written_card
from backend.errors import InvalidRequest
from backend.models.persona import PersonaCreate
from tests.fixtures.cards import as_json, charx, eliza, text_chunk, v1, v2, v3
from tests.fixtures.cards import card_png as png_of
from tests.fixtures.pictures import encoded, opened, portrait

OPTIONS = settings(
    max_examples=50, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
PICTURE = encoded(portrait(), "PNG")
TEXT = st.text(st.characters(codec=None), max_size=60)
KEY = st.text(string.ascii_lowercase + "_/ é", min_size=1, max_size=12)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3),
    max_leaves=8,
)
WORDS = ["red hair", "{{char}}", "Tone: dry", "\n", "She wears a coat.", 'Hair("red")', "kind,",
         "Personality: shy", "- Eyes: green", "[Ann's body= \"x\"]", "<USER>", "…", "日本語。",
         "  ", ";", "(", '"']  # fmt: skip
PHRASE = st.lists(st.sampled_from([*WORDS, "\r\n"]) | TEXT, max_size=8).map(" ".join)
CLEAN = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(lambda w: " ".join(["a", *w]))
UNKNOWN = st.dictionaries(KEY.map("x_{}".format), VALUE, max_size=3)
CARD_FIELDS = ("description", "personality", "scenario", "tags", "nickname", "character_book",
               "alternate_greetings", "assets", "creator_notes", "system_prompt")  # fmt: skip
ELIZA_FIELDS = ("bio", "adjectives", "topics", "style", "lore", "messageExamples", "knowledge")
PLAIN: dict[str, Any] = {"name": "a", "appearance": "b", "personality": "c", "content_themes": []}
PERSONAS = st.builds(
    dict,
    name=CLEAN.map(lambda t: t[:90]),
    appearance=CLEAN,
    personality=CLEAN,
    content_themes=st.lists(CLEAN.map(lambda t: t[:80]), max_size=3),
    style_preferences=st.dictionaries(
        st.sampled_from(["tone", "aesthetic", "voice_style"]), CLEAN.map(lambda t: t[:150])
    ).map(lambda known: {**known, "own": [1, {"x": None}]}),
    image_style=st.none() | st.just("film grain"),
    model_adapters=st.none() | st.just([{"name": "film", "weight": 0.5}]),
)


@st.composite
def cards(draw: Any) -> dict[str, Any]:
    """Cards with anything in any field, and fields that nobody knows at every level."""
    make = draw(st.sampled_from([v1, v2, v3, eliza]))
    names = ELIZA_FIELDS if make is eliza else CARD_FIELDS
    changes = draw(st.dictionaries(st.sampled_from(names), PHRASE | VALUE, max_size=5))
    document: dict[str, Any] = {**draw(UNKNOWN), **make(**changes), **draw(UNKNOWN)}
    if "data" in document:
        document["data"] = {**document["data"], **draw(UNKNOWN)}
    if make is not eliza:
        document.get("data", document)["extensions"] = draw(UNKNOWN)
    return without_secrets(document, eliza=make is eliza)[0]


def own(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without what Gator added."""
    document = copy.deepcopy(document)
    for home in (document, document.get("data", {})):
        for key in ("extensions", "settings"):
            if isinstance(home.get(key), dict):
                home[key].pop("gator", None)
    return document


def persona_of(values: dict[str, Any]) -> dict[str, Any]:
    """Return a persona as it is stored."""
    stored = PersonaCreate.model_validate(values).model_dump(mode="json")
    del stored["base_image_status"]
    return stored


@OPTIONS
@given(document=cards())
def test_an_unchanged_persona_gives_the_card_back_as_it_came(document: dict[str, Any]) -> None:
    data = json.dumps(document).encode()
    card = read_card(data).card
    persona = persona_of(persona_fields(card).values)
    wanted = CardFormat.V2 if card.format is CardFormat.V1 else card.format
    written = written_card(persona, kept_card(card), wanted, created=1, modified=2)
    back = own(read_card(json.dumps(written.document).encode()).card.document)
    if card.format is CardFormat.V1:
        flat = {**back, **back.pop("data")}
        assert {key: flat[key] for key in document} == document
    else:
        for at in ("extensions", "settings"):
            for home in (document, document.get("data", {}), back, back.get("data", {})):
                if home.get(at) == {}:
                    del home[at]
        assert back == document
        assert list(back) == list(document)


@OPTIONS
@example(document=v2(), persona={**PLAIN, "style_preferences": {"tone": 'a " "'}}, wanted="v2")
@example(document=v3(), persona={**PLAIN, "style_preferences": {"tone": '""'}}, wanted="v2")
@example(document=v3(), persona={**PLAIN, "style_preferences": {"tone": ";"}}, wanted="v3")
@example(document=v1(), persona={**PLAIN, "personality": "*", "appearance": "]"}, wanted="eliza")
@given(document=cards(), persona=PERSONAS, wanted=st.sampled_from(["v2", "v3", "eliza"]))
def test_a_changed_persona_comes_back_exactly_from_any_card(
    document: dict[str, Any], persona: dict[str, Any], wanted: str
) -> None:
    stored = persona_of(persona)
    card = read_card(json.dumps(document).encode()).card
    written = written_card(stored, kept_card(card), CardFormat(wanted))
    found = persona_fields(read_card(json.dumps(written.document).encode()).card)
    assert persona_of(found.values) == stored
    again = written_card(stored, kept_card(written), CardFormat(wanted))
    assert again.document == written.document


@OPTIONS
@given(document=cards(), persona=PERSONAS, wanted=st.sampled_from(["v2", "v3", "eliza"]))
def test_fields_that_nobody_knows_outlive_every_change(
    document: dict[str, Any], persona: dict[str, Any], wanted: str
) -> None:
    card = read_card(json.dumps(document).encode()).card
    stored = persona_of(persona)
    written = written_card(stored, kept_card(card), CardFormat(wanted))
    if (card.format is CardFormat.ELIZA) != (wanted == "eliza"):
        read = read_card(json.dumps(written.document).encode()).card
        back = CardFormat.ELIZA if card.format is CardFormat.ELIZA else CardFormat.V3
        written = written_card(stored, kept_card(read), back)
    homes = [written.document, written.data, written.data.get("extensions", {})]
    for home in (document, document.get("data", {}), document.get("extensions", {})):
        for key, value in home.items():
            if key.startswith("x_"):
                assert any(key in one and one[key] == value for one in homes), key


@OPTIONS
@given(
    document=cards().filter(lambda one: "bio" not in one),
    assets=st.dictionaries(
        st.sampled_from(["a", "0", "assets/icon/images/x.png", "b/c.bin", "module.risum", "é.png",
                         "card.json", "n" * 100]),
        st.binary(max_size=300),
        max_size=4,
    ),
)  # fmt: skip
def test_a_png_and_a_charx_hold_the_same_card_and_all_that_belongs_to_it(
    document: dict[str, Any], assets: dict[str, bytes]
) -> None:
    card = read_card(json.dumps(document).encode()).card
    persona = persona_of(persona_fields(card).values)
    written = written_card(persona, kept_card(card), CardFormat.V3)
    png = read_card(card_png(written, PICTURE, assets))
    assert own(png.card.document) == own(written.document)
    assert png.picture == PICTURE
    assert sorted(png.assets.values()) == sorted(assets.values())
    archive = read_card(card_archive(written, None, assets))
    assert sorted(archive.assets.values()) == sorted(assets.values())
    assert own(archive.card.document) == own(written.document)
    assert persona_of(persona_fields(png.card).values) == persona
    assert persona_of(persona_fields(archive.card).values) == persona
    assert not archive.ignored


def test_what_utf8_cannot_hold_goes_through_every_file() -> None:
    card = read_card(json.dumps(v3(first_mes="\ud800 ü", x_own={"\udfff": "\x00"})).encode()).card
    written = written_card(persona_fields(card).values, kept_card(card), CardFormat.V3)
    for data in (card_png(written, PICTURE, {}), card_archive(written, None, {})):
        assert own(read_card(data).card.document) == own(card.document)


@pytest.mark.parametrize("times", [1, 3])
def test_assets_keep_to_their_card_from_file_to_file(times: int) -> None:
    listed = [
        {"type": "icon", "uri": "embeded://assets/icon/images/main.png", "name": "main"},
        {"type": "emotion", "uri": "embedded://assets/emotion/ü.png", "name": "happy"},
        {"type": "background", "uri": "https://example.org/x.png", "name": "sea"},
    ]
    files = {"assets/icon/images/main.png": PICTURE, "assets/emotion/ü.png": b"happy"}
    found = read_card(charx(v3(assets=listed), *files.items()))
    for _ in range(times):
        persona = persona_of(persona_fields(found.card).values)
        card = written_card(persona, kept_card(found.card), CardFormat.V3)
        png = read_card(card_png(card, PICTURE, found.assets))
        uris = [asset["uri"] for asset in png.card.data["assets"]]
        assert uris[:2] == ["__asset:asset-1", "__asset:asset-0"]
        assert png.assets["asset-0"] == b"happy"
        found = read_card(card_archive(kept_card(png.card), None, png.assets))
        assert [asset["uri"] for asset in found.card.data["assets"]] == [
            "embeded://assets/icon/other/asset-1",
            "embeded://assets/emotion/other/asset-0",
            "https://example.org/x.png",
        ]
        found = read_card(charx(v3(assets=listed), *files.items()))


def test_the_picture_of_a_persona_is_its_main_icon_and_the_old_one_stays() -> None:
    listed = [{"type": "icon", "uri": "embeded://assets/icon/images/a.png", "name": "main"}]
    found = read_card(charx(v3(assets=listed), ("assets/icon/images/a.png", b"old")))
    for _ in range(3):  # it does not grow
        found = read_card(card_archive(kept_card(found.card), PICTURE, found.assets))
        assert found.picture == PICTURE
        assert found.card.data["assets"] == [
            {"type": "icon", "uri": "embeded://assets/icon/images/gator.png", "name": "main",
             "ext": "png"},
            {**listed[0], "name": "imported"},
        ]  # fmt: skip
        assert set(found.assets) == {"assets/icon/images/a.png", "assets/icon/images/gator.png"}


def test_a_png_holds_a_v2_card_for_readers_of_v2_and_replaces_what_was_there() -> None:
    written = written_card({"name": "Mira"}, None, CardFormat.V3)
    crowded = png_of(text_chunk("chara", v2()), text_chunk("ccv3", v3()), picture=PICTURE)
    png = card_png(written, crowded, {})
    assert opened(png).size == portrait().size
    assert png.count(b"tEXtchara\0") == png.count(b"tEXtccv3\0") == 1
    texts = opened(png).info
    assert set(texts) >= {"chara", "ccv3"}
    found = read_card(png)
    assert found.card.document == written.document
    assert [note.field for note in found.ignored] == ["chara"]
    two = read_card(png.replace(b"tEXtccv3\0", b"tEXtxxxx\0"))  # as a reader of V2 sees it
    assert two.card.format is CardFormat.V2
    assert two.card.data["creator_notes"].startswith("This character card is Character Card V3")
    assert "gator" not in two.card.data["extensions"]


def test_equal_cards_are_equal_files() -> None:
    written = written_card({"name": "Mira"}, None, CardFormat.V3)
    assets = {"a": b"1", "b": b"2"}
    assert card_archive(written, PICTURE, assets) == card_archive(
        written, PICTURE, dict(reversed(assets.items()))
    )
    assert card_png(written, PICTURE, assets) == card_png(written, PICTURE, assets)


def test_what_packs_too_well_is_not_packed_so_that_it_can_be_read_again() -> None:
    written = written_card({"name": "Mira"}, None, CardFormat.V3)
    assets = {"zeros": bytes(3 * 1024**2), "text": b"abc def ghi " * 300_000}
    assert read_card(card_archive(written, None, assets)).assets == assets


@OPTIONS
@given(data=st.binary(max_size=400), kind=st.sampled_from(["png", "charx", "json"]))
def test_nothing_but_a_stated_refusal_comes_of_noise(data: bytes, kind: str) -> None:
    whole = {
        "png": png_of(text_chunk("ccv3", v3()), picture=PICTURE),
        "charx": charx(v3(), ("a", b"b")),
        "json": as_json(v3()),
    }[kind]
    at = int.from_bytes(data[:3]) % len(whole)
    for damaged in (whole[:at], whole[:at] + data + whole[at:], whole[:at] + data, data):
        try:
            read_card(damaged)
        except InvalidRequest as exc:
            assert exc.details["errors"][0]["message"]  # noqa: PT017 - it may be read as well
