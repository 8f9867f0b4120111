"""Cards are read from every file that holds one, and what is passed over is told."""

from __future__ import annotations

import base64
import codecs
import json
import zlib
from typing import Any

import pytest

from backend.cards.card import CardFormat, Container
from backend.cards.reading import read_card
from backend.errors import InvalidRequest
from tests.fixtures.cards import as_json, card_png, charx, eliza, text_chunk, v1, v2, v3
from tests.fixtures.pictures import encoded, opened, png_chunk, portrait

BACKGROUND = encoded(portrait(300, 260), "PNG")


def refused(data: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read_card(data)
    assert caught.value.details["errors"]
    return caught.value.message


@pytest.mark.parametrize(
    ("document", "kind"),
    [(v1(), "v1"), (v2(), "v2"), (v3(), "v3"), (eliza(), "eliza"), (eliza(bio="One."), "eliza")],
)
def test_plain_json_is_told_by_what_it_says(document: dict[str, Any], kind: str) -> None:
    found = read_card(as_json(document))
    assert (found.card.format, found.container) == (kind, Container.JSON)
    assert found.card.document == document
    assert not found.ignored
    assert found.picture is None


@pytest.mark.parametrize(("keyword", "document"), [("chara", v2()), ("ccv3", v3())])
def test_a_card_in_a_png_comes_with_its_picture(keyword: str, document: dict[str, Any]) -> None:
    found = read_card(card_png(text_chunk(keyword, document)))
    assert found.container is Container.PNG
    assert found.card.document == document
    assert found.picture is not None
    assert opened(found.picture).size == portrait().size
    assert b"tEXt" not in found.picture


def test_v3_is_preferred_where_both_chunks_stand() -> None:
    old = text_chunk("chara", v2(name="Old"))
    new = text_chunk("ccv3", v3(name="New"))
    for chunks in ((old, new), (new, old)):
        found = read_card(card_png(*chunks))
        assert (found.card.format, found.card.data["name"]) == (CardFormat.V3, "New")
        assert [(n.field, n.reason) for n in found.ignored] == [
            ("chara", "holds a v2 card; the v3 card in ccv3 is used")
        ]


def test_v2_inside_ccv3_is_read_as_v2_and_told() -> None:
    found = read_card(card_png(text_chunk("ccv3", v2())))
    assert found.card.format is CardFormat.V2
    assert found.ignored[0] == ("ccv3", "holds a v2 card, and is read as that")


def test_v3_inside_chara_goes_before_v2_inside_ccv3() -> None:
    chunks = text_chunk("ccv3", v2(name="Two")), text_chunk("chara", v3(name="Three"))
    assert read_card(card_png(*chunks)).card.data["name"] == "Three"


def test_of_two_chunks_of_a_name_the_first_that_can_be_read_counts() -> None:
    chunks = (
        text_chunk("chara", b"{broken"),
        text_chunk("chara", v2(name="First")),
        text_chunk("chara", v2(name="Second")),
    )
    found = read_card(card_png(*chunks))
    assert found.card.data["name"] == "First"
    assert [note.field for note in found.ignored] == ["chara", "chara"]
    assert "not readable JSON" in found.ignored[0].reason


def test_text_chunks_that_an_editor_packed_anew_are_read() -> None:
    packed = base64.b64encode(as_json(v2()))
    ztxt = png_chunk(b"zTXt", b"chara\0\0" + zlib.compress(packed))
    itxt = png_chunk(b"iTXt", b"Chara\0\0\0\0\0" + packed)
    packed_itxt = png_chunk(b"iTXt", b"chara\0\1\0en\0name\0" + zlib.compress(packed))
    for chunk in (ztxt, itxt, packed_itxt):
        assert read_card(card_png(chunk)).card.document == v2()


def test_a_png_without_a_card_is_refused_in_words() -> None:
    assert "PNG without a card" in refused(encoded(portrait(), "PNG"))


def test_a_charx_comes_with_what_is_packed_into_it() -> None:
    icon = {"type": "icon", "uri": "embeded://assets/icon/images/a.png", "name": "main"}
    other = {"type": "icon", "uri": "embeded://assets/icon/images/b.png", "name": "other"}
    files = (
        ("assets/icon/images/b.png", b"b"),
        ("assets/icon/images/a.png", BACKGROUND),
        ("module.risum", b"\0risu"),
    )
    found = read_card(charx(v3(assets=[other, icon]), *files))
    assert found.container is Container.CHARX
    assert found.assets == dict(files)
    assert found.picture == BACKGROUND


def test_a_charx_behind_a_jpeg_is_read() -> None:
    found = read_card(encoded(portrait(), "JPEG") + charx(v3(), ("assets/a.png", b"a")))
    assert (found.container, found.assets) == (Container.CHARX, {"assets/a.png": b"a"})


def test_assets_in_a_png_are_read_and_the_main_icon_is_the_picture() -> None:
    assets = [{"type": "icon", "uri": "__asset:0", "name": "main", "ext": "png"}]
    chunk = text_chunk("chara-ext-asset_:0", BACKGROUND)
    found = read_card(card_png(chunk, text_chunk("ccv3", v3(assets=assets))))
    assert found.assets == {"0": BACKGROUND}
    assert found.picture == BACKGROUND


def test_an_icon_inside_the_json_is_the_picture() -> None:
    uri = "data:image/png;base64," + base64.b64encode(BACKGROUND).decode()
    icon = {"type": "icon", "uri": uri, "name": "main", "ext": "png"}
    found = read_card(as_json(v3(assets=[icon])))
    assert found.picture == BACKGROUND
    assert found.card.data["assets"][0]["uri"] == uri


@pytest.mark.parametrize("uri", ["https://127.0.0.1:9/x.png", "file:///etc/passwd", 7, None])
def test_a_url_is_text_and_nothing_is_fetched(uri: Any) -> None:
    icon = {"type": "icon", "uri": uri, "name": "main", "ext": "png"}
    found = read_card(as_json(v3(assets=[icon])))
    assert found.picture is None
    assert found.card.data["assets"] == [icon]


def test_a_byte_order_mark_is_passed_over() -> None:
    assert read_card(codecs.BOM_UTF8 + as_json(v2())).card.document == v2()
    found = read_card(card_png(text_chunk("chara", codecs.BOM_UTF8 + as_json(v2()))))
    assert found.card.document == v2()


def test_lone_surrogates_and_zeros_are_kept_as_they_came() -> None:
    text = json.dumps(v2(first_mes="\ud800 \udfff \x00"))
    assert read_card(text.encode()).card.data["first_mes"] == "\ud800 \udfff \x00"


@pytest.mark.parametrize("value", [None, "1687194031049", 7, {}])
def test_what_other_programs_write_wrongly_does_not_stop_the_import(value: Any) -> None:
    document = v2(character_book=value, alternate_greetings=value, tags=value, creator=value)
    assert read_card(as_json(document)).card.document == document


def test_extensions_that_are_no_object_are_left_out_and_told() -> None:
    found = read_card(as_json(v2(extensions=["x"])))
    assert "extensions" not in found.card.data
    assert [note.field for note in found.ignored] == ["extensions"]


def test_a_later_version_is_read_and_told() -> None:
    found = read_card(as_json({**v3(), "spec_version": "3.1"}))
    assert found.card.format is CardFormat.V3
    assert "3.1" in found.ignored[0].reason


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"spec": "chara_card_v9", "data": {}}, "chara_card_v9"),
        ({"spec": ["chara_card_v2"], "data": {}}, "no known kind"),
        ({"spec": "chara_card_v2", "data": []}, "has no `data`"),
        ({"spec": "lorebook_v3", "data": {}}, "lorebook_v3"),
        ({"hello": 1}, "neither a character card"),
        ({"name": "x"}, "neither a character card"),
    ],
)
def test_what_is_no_card_is_refused_by_name(document: dict[str, Any], words: str) -> None:
    assert words in refused(as_json(document))


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"[1]", b'"x"', b"name = 1", b"\x89PNG"])
def test_what_is_no_file_of_a_card_is_refused(data: bytes) -> None:
    assert refused(data).startswith("file: ")


def test_secrets_are_taken_out_before_anything_is_kept() -> None:
    character = eliza(
        secrets={"OPENAI_API_KEY": "whatever"},
        settings={
            "secrets": {"x": "y"},
            "DISCORD_APPLICATION_ID": "123",
            "voice": {"model": "v", "elevenLabsApiKey": "abc"},
            "note": "sk-proj-abcdefghijklmnopqrstuvwx",
            "tokens_per_minute": 7,
        },
        clientConfig={"telegram": {"botToken": "1:a"}},
    )
    found = read_card(as_json(character))
    assert "secrets" not in found.card.document
    assert found.card.document["settings"] == {"voice": {"model": "v"}, "tokens_per_minute": 7}
    assert found.card.document["clientConfig"] == {"telegram": {}}
    assert {note.field for note in found.ignored} == {
        "secrets",
        "settings.secrets",
        "settings.DISCORD_APPLICATION_ID",
        "settings.voice.elevenLabsApiKey",
        "settings.note",
        "clientConfig.telegram.botToken",
    }


def test_keys_in_a_cards_extensions_are_taken_out_and_stories_are_not() -> None:
    extensions = {
        "tts": {"api_key": "abc", "voice": "x"},
        "secrets": ["She is the heir."],
        "token_budget": 100,
        "list": ["AKIAABCDEFGHIJKLMNOP", "fine"],
        "empty_api_key": "",
    }
    found = read_card(as_json(v2(extensions=extensions)))
    assert found.card.data["extensions"] == {
        "tts": {"voice": "x"},
        "secrets": ["She is the heir."],
        "token_budget": 100,
        "list": ["fine"],
        "empty_api_key": "",
    }
    assert len(found.ignored) == 2
