"""Files that were made to do harm: refused in words, soon, and without the memory they ask for."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from backend.cards.card import CardFormat
from backend.cards.gator import persona_fields
from backend.cards.limits import MAX_DOCUMENT_BYTES, MAX_FILE_BYTES, MAX_TEXT_CHARACTERS
from backend.cards.names import is_plain, packed_name
from backend.cards.reading import read_card
from backend.cards.writing import kept_card, written_card
from backend.errors import InvalidRequest, TooLarge
from tests.fixtures.cards import as_json, card_png, charx, raw_chunk, text_chunk, v2, v3
from tests.fixtures.pictures import PNG_SIGNATURE, png_chunk

MIB = 1024**2


@contextmanager
def refused(words: str, kind: type[Exception] = TooLarge, *, mib: float = 60) -> Iterator[None]:
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(kind, match=words) as caught:
            yield
        assert caught.value.details["errors"]  # type: ignore[attr-defined]
        assert time.process_time() - began < 10
        assert tracemalloc.get_traced_memory()[1] < mib * MIB
    finally:
        tracemalloc.stop()


def zipped(*files: tuple[Any, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_zip_bomb_is_told_by_its_ratio() -> None:
    bomb = charx(v3(), ("assets/a.bin", bytes(15 * MIB)))
    assert len(bomb) < 100_000
    with refused("packed more than 100 to 1"):
        read_card(bomb)


def test_a_zip_bomb_that_lies_about_its_size_is_told_as_well() -> None:
    bomb = bytearray(charx(v3(), ("assets/a.bin", bytes(15 * MIB))))
    size = struct.pack("<I", 15 * MIB)
    while (at := bomb.find(size)) >= 0:
        bomb[at : at + 4] = struct.pack("<I", 100)
    with refused("zip", InvalidRequest):
        read_card(bytes(bomb))


def test_many_tight_entries_are_bounded_together() -> None:
    block = bytes(MIB - 1)
    with refused("unpacks to more than", mib=160):
        read_card(charx(v3(), *((f"assets/{i}", block) for i in range(80))))


def test_overlapping_entries_are_bounded_by_what_they_unpack_to() -> None:
    one = zipped(("card.json", as_json(v3())), ("a", bytes(MIB - 1)))
    start = one.index(b"PK\1\2")
    end = one.rindex(b"PK\5\6")
    first, second = (
        one[start : one.index(b"PK\1\2", start + 4)],
        one[one.index(b"PK\1\2", start + 4) : end],
    )
    copies = b"".join(second[:-1] + bytes([33 + i]) for i in range(90))
    tail = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 91, 91, len(first) + len(copies), start, 0)
    with pytest.raises((TooLarge, InvalidRequest)):
        read_card(one[:start] + first + copies + tail)


def test_ten_thousand_entries_are_not_listed() -> None:
    with refused("10,001 entries; 1,000 are read"):
        read_card(charx(v3(), *((f"assets/{i}", b"") for i in range(10_000))))


def test_a_list_of_entries_that_lies_about_its_length_is_counted() -> None:
    data = bytearray(charx(v3(), *((f"a{i}", b"") for i in range(1_500))))
    at = data.rindex(b"PK\5\6")
    data[at + 8 : at + 12] = struct.pack("<HH", 2, 2)
    with refused("1,501 entries"):
        read_card(bytes(data))


def test_a_huge_list_of_entries_is_not_read() -> None:
    data = bytearray(charx(v3()))
    at = data.rindex(b"PK\5\6")
    data[at + 12 : at + 16] = struct.pack("<I", 30 * MIB)
    with refused("entries"):
        read_card(bytes(data))


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd", "/etc/passwd", "a/../../b", "C:/x", "a\\..\\b", "./a", "a//b", "con",
        "aux.png", "a.", "a ", "x\x7f", "a:b", "n" * 201, "a/" * 120 + "b", "?", "*", "a\u202egnp",
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_left_out_and_told(name: str) -> None:
    found = read_card(charx(v3(), (name, b"x"), ("assets/good.png", b"y")))
    assert found.assets == {"assets/good.png": b"y"}
    assert [note.field for note in found.ignored] == [name[:200]]
    assert not is_plain(name)
    assert packed_name(f"embeded://{name}") is None


def test_a_name_with_a_zero_in_it_is_left_out() -> None:
    data = charx(v3(), ("assets/goodX.png", b"x")).replace(b"goodX", b"good\0")
    assert read_card(data).assets == {}


def test_links_in_a_zip_are_left_out() -> None:
    link = zipfile.ZipInfo("assets/link")
    link.external_attr = 0o120777 << 16
    found = read_card(zipped(("card.json", as_json(v3())), (link, b"/etc/passwd")))
    assert found.assets == {}
    assert found.ignored[0].reason == "is a link, not a file"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_counts_once_and_two_cards_are_refused() -> None:
    found = read_card(charx(v3(), ("a/b", b"first"), ("a/b", b"second")))
    assert found.assets == {"a/b": b"first"}
    assert "twice" in found.ignored[0].reason
    with refused("card.json twice", InvalidRequest):
        read_card(charx(v3(), ("card.json", b"{}")))


def test_a_zip_without_a_card_or_of_another_kind_is_refused() -> None:
    with refused("without card.json", InvalidRequest):
        read_card(zipped(("x.json", b"{}")))
    with refused("list of entries is missing", InvalidRequest):
        read_card(charx(v3())[:-30])
    with refused("encrypted", InvalidRequest):
        data = bytearray(charx(v3()))
        data[data.index(b"PK\1\2") + 8] |= 1
        read_card(bytes(data))
    with refused("64-bit", InvalidRequest):
        data = bytearray(charx(v3()))
        at = data.rindex(b"PK\5\6")
        read_card(bytes(data[:at]) + b"PK\6\7" + bytes(16) + bytes(data[at:]))
    found = read_card(_with_method(as_json(v3()), zipfile.ZIP_LZMA))
    assert found.assets == {}
    assert "packed in a way" in found.ignored[0].reason


def _with_method(card: bytes, method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("card.json", card)
        archive.writestr("a", b"x" * 100, method)
    return buffer.getvalue()


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_a_zip_that_is_damaged_anywhere_is_refused_or_read(cut: int) -> None:
    data = bytearray(charx(v3(), ("assets/a.png", b"abc" * 50)))
    for at in (cut, len(data) - 1 - cut, len(data) // 2 + cut):
        data[at] ^= 0xFF
    try:
        read_card(bytes(data))
    except (InvalidRequest, TooLarge):
        return


def test_a_chunk_that_claims_100_mb_is_cut_off() -> None:
    claim = struct.pack(">I4s", 100 * MIB, b"tEXt") + b"chara\0"
    with refused("claims more bytes than there are", InvalidRequest, mib=2):
        read_card(PNG_SIGNATURE + claim + bytes(1000))


def test_a_card_chunk_of_too_many_bytes_is_not_decoded() -> None:
    with refused("has a chunk chara of", mib=80):
        read_card(card_png(raw_chunk("chara", b"A" * (MAX_DOCUMENT_BYTES * 4 // 3 + 400))))


def test_text_that_unpacks_without_end_is_stopped_at_the_limit() -> None:
    bomb = png_chunk(b"zTXt", b"chara\0\0" + zlib.compress(b"A" * (30 * MIB), 9))
    with refused("unpacks to more than", InvalidRequest, mib=100):
        read_card(card_png(bomb))


def test_many_such_texts_are_not_looked_at() -> None:
    bomb = png_chunk(b"zTXt", b"chara\0\0" + zlib.compress(b"A" * (10 * MIB), 9))
    found = read_card(card_png(text_chunk("chara", v2()), *[bomb] * 300))
    assert found.card.document == v2()
    assert any("more than 4 times" in note.reason for note in found.ignored)


def test_a_png_of_endless_chunks_is_not_walked() -> None:
    with refused("chunks"):
        read_card(card_png(*[png_chunk(b"tEXt", b"x\0")] * 60_000))


def test_garbage_in_base64_and_a_wrong_checksum_are_told() -> None:
    good = text_chunk("chara", v2())
    damaged = good[:-1] + bytes([good[-1] ^ 1])
    with refused("chara is a chunk that cannot be read", InvalidRequest):
        read_card(card_png(raw_chunk("chara", b"!!! no base64 !!!")))
    with refused("its checksum is wrong", InvalidRequest):
        read_card(card_png(damaged))
    assert read_card(card_png(damaged, good)).card.document == v2()


def test_an_asset_of_a_png_cannot_take_a_name_twice_or_lead_elsewhere() -> None:
    chunks = [
        text_chunk("chara-ext-asset_:a", b"1"),
        text_chunk("chara-ext-asset_:a", b"2"),
        text_chunk("chara-ext-asset_:../../b", b"3"),
    ]
    found = read_card(card_png(*chunks, text_chunk("ccv3", v3())))
    assert found.assets == {"a": b"1"}
    assert len(found.ignored) == 2


def test_nested_json_is_refused_before_it_is_parsed() -> None:
    deep = b'{"spec":' + b"[" * 4_000_000
    with refused("nested more than 64 deep", InvalidRequest, mib=20):
        read_card(deep)
    with refused("nested more than 64 deep", InvalidRequest, mib=20):
        read_card(b'{"a":' * 1_000_000)


@pytest.mark.parametrize("filling", [b"[],", b"{},", b"0,", b'"",', b'""', b'"\\"",'], ids=repr)
def test_json_of_countless_values_is_refused_before_it_is_parsed(filling: bytes) -> None:
    data = b'{"a":[' + filling * (7 * MIB // len(filling)) + b"0]}"
    with refused("has more than 200,000 values", mib=30):
        read_card(data)


def test_long_texts_and_large_documents_are_refused() -> None:
    with refused("data.first_mes has more than"):
        read_card(as_json(v2(first_mes="x" * (MAX_TEXT_CHARACTERS + 1))))
    with refused("has a key that is too long"):
        read_card(as_json(v2(extensions={"x" * (MAX_TEXT_CHARACTERS + 1): 1})))
    with refused("MiB of JSON"):
        read_card(b'{"a":"' + bytes(MAX_DOCUMENT_BYTES) + b'"}')
    with refused("more than 32 MiB", mib=80):
        read_card(b"{" + bytes(MAX_FILE_BYTES))


@pytest.mark.parametrize(
    "text",
    [
        '{"a":NaN}',
        '{"a":-Infinity}',
        '{"a":1e999}',
        '{"a":' + "1" * 5_000 + "}",
        '{"a":1',
        "{'a':1}",
    ],
)
def test_what_json_could_not_give_back_is_refused(text: str) -> None:
    with refused("not readable JSON", InvalidRequest):
        read_card(text.encode())


@pytest.mark.parametrize("data", [b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', "{}".encode("utf-16")])
def test_what_is_not_utf8_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_card(data)


@pytest.mark.parametrize(
    "text",
    ["*" * 400_000, "{{" * 200_000, "Hair: " * 60_000, "- Hair:\n  " * 40_000, " " * 400_000 + "x",
     "sk-" + "a-" * 400_000 + "!", "a" * 400_000, '"' * 400_000, "Hair(" * 90_000, "{{ " * 100_000,
     "Hair:\n" + "- x\n" * 90_000, "x\n" * 200_000, "’s " * 100_000, "<START>" + "\n" * 300_000],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_no_text_makes_the_reading_slow(text: str) -> None:
    began = time.process_time()
    document = v3(description=text, personality="", mes_example=text, name=text)
    card = read_card(json.dumps(document).encode()).card
    persona = {**persona_fields(card).values, "appearance": "new", "personality": "new"}
    for wanted in (CardFormat.V2, CardFormat.ELIZA):
        written_card(persona, kept_card(card), wanted)
    assert time.process_time() - began < 5
