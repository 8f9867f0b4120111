"""Read a card from a file of any kind, told by its own bytes and not by its name."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

from backend.cards.archive import SIGNATURES, has_archive, read_archive
from backend.cards.card import Card, CardFile, CardFormat, Container, recognise
from backend.cards.document import read_document
from backend.cards.faults import Note, refuse, refuse_size
from backend.cards.limits import MAX_ASSET_BYTES, MAX_FILE_BYTES
from backend.cards.names import packed_name
from backend.cards.png import SIGNATURE, PngTexts, read_png
from backend.cards.secrets import without_secrets
from backend.errors import InvalidRequest

_JPEG = b"\xff\xd8\xff"
_NEWEST = 3.0
_DEFAULT = "ccdefault:"


def read_card(data: bytes) -> CardFile:
    """Read a card: JSON, a PNG with a card in it, or a `.charx`.

    Secrets are taken out at once, so that whoever keeps the card keeps none.

    Raises:
        InvalidRequest: it holds no card that is read, or is damaged.
        TooLarge: more than is read of anything.
    """
    if len(data) > MAX_FILE_BYTES:
        refuse_size(f"has more than {MAX_FILE_BYTES // 1024**2} MiB")
    if data.startswith(SIGNATURE):
        found = _from_png(read_png(data))
    elif data.startswith(SIGNATURES) or (data.startswith(_JPEG) and has_archive(data)):
        found = _from_archive(data)
    elif data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        document, notes = read_document(data)
        card = recognise(document)
        found = CardFile(card, Container.JSON, picture=_picture(card, {}), ignored=tuple(notes))
    else:
        refuse("is no character card: neither JSON nor a PNG or .charx file with a card in it")
    return _cleaned(found)


def _from_png(texts: PngTexts) -> CardFile:
    """Choose among the cards of a PNG: V3 before all others, then as they stand."""
    ignored = list(texts.ignored)
    cards: list[tuple[str, Card]] = []
    for keyword, data in texts.documents:
        try:
            document, notes = read_document(data, keyword)
            cards.append((keyword, recognise(document, keyword)))
            ignored += notes
        except InvalidRequest as exc:
            ignored.append(Note(keyword, exc.message.removeprefix(f"{keyword}: ")))
    if not cards:
        reasons = "; ".join(f"{note.field} {note.reason}" for note in ignored)
        refuse(f"is a PNG without a card that can be read{': ' if reasons else ''}{reasons}")
    keyword, card = min(cards, key=lambda one: one[1].format is not CardFormat.V3)
    for other, passed_over in cards:
        if passed_over is not card:
            why = f"holds a {passed_over.format} card; the {card.format} card in {keyword} is used"
            ignored.append(Note(other, why))
    if keyword == "ccv3" and card.format is not CardFormat.V3:
        ignored.append(Note(keyword, f"holds a {card.format} card, and is read as that"))
    picture = _picture(card, texts.assets) or texts.picture
    return CardFile(card, Container.PNG, texts.assets, picture, tuple(ignored))


def _from_archive(data: bytes) -> CardFile:
    unpacked = read_archive(data)
    document, notes = read_document(unpacked.document, "card.json")
    card = recognise(document, "card.json")
    ignored = (*unpacked.ignored, *notes)
    picture = _picture(card, unpacked.assets)
    return CardFile(card, Container.CHARX, unpacked.assets, picture, ignored)


def _picture(card: Card, assets: Mapping[str, bytes]) -> bytes | None:
    """Return the main icon, where it came with the card; none is fetched from anywhere."""
    for asset in _icons(card):
        uri = asset.get("uri")
        if uri == _DEFAULT:
            return None
        name = packed_name(uri)
        if name is not None and name in assets:
            return assets[name]
        if isinstance(uri, str) and (found := _from_data_uri(uri)):
            return found
    return None


def _icons(card: Card) -> list[dict[str, Any]]:
    """Return a card's icons, the main one first."""
    listed = card.data.get("assets")
    if card.format is CardFormat.ELIZA or not isinstance(listed, list):
        return []
    icons = [one for one in listed if isinstance(one, dict) and one.get("type") == "icon"]
    return sorted(icons, key=lambda icon: icon.get("name") != "main")


def _from_data_uri(uri: str) -> bytes | None:
    head, comma, text = uri.partition(",")
    if not (comma and head.startswith("data:image/") and head.endswith(";base64")):
        return None
    if len(text) > MAX_ASSET_BYTES * 4 // 3 + 4:
        return None
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None


def _cleaned(found: CardFile) -> CardFile:
    document, removed = without_secrets(found.card.document, eliza=found.card.format == "eliza")
    ignored = list(found.ignored) + removed
    card = Card(found.card.format, document)
    ignored += _newer(card)
    if card.format is not CardFormat.ELIZA and "extensions" in card.data:
        extensions = card.data["extensions"]
        if not isinstance(extensions, dict):
            del card.data["extensions"]
            if extensions is not None:
                ignored.append(Note("extensions", "is no object, and was left out"))
    return CardFile(card, found.container, found.assets, found.picture, tuple(ignored))


def _newer(card: Card) -> list[Note]:
    """Tell of a card of a later version, which is read as far as this one goes."""
    version = card.document.get("spec_version")
    try:
        newer = card.format is CardFormat.V3 and float(str(version)[:20]) > _NEWEST
    except ValueError:
        newer = False
    reason = f"is {version}; what is newer than {_NEWEST} is kept but not understood"
    return [Note("spec_version", reason[:200])] if newer else []
