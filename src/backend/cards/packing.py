"""Put a card, its picture and what belongs to it into a file.

How a card calls what is packed with it depends on the file: `embeded://path` in a `.charx`,
`__asset:name` in a PNG. The URIs are rewritten to fit, and stay as they are in plain JSON.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

from backend.cards.archive import DOCUMENT, write_archive
from backend.cards.card import Card, CardFormat
from backend.cards.conversion import converted
from backend.cards.document import Document, write_document
from backend.cards.names import EMBEDDED, packed_name
from backend.cards.png import write_png

BACKFILLED = (
    "This character card is Character Card V3, but it is loaded as a Character Card V2. Please use "
    "a Character Card V3 compatible application to use this character card properly."
)
_CHUNK_NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_KIND = re.compile(r"[a-z][a-z_]{0,30}")


def card_png(card: Card, picture: bytes, assets: Mapping[str, bytes]) -> bytes:
    """Pack a V3 card into its picture, with a V2 card beside it for whoever reads no V3.

    Args:
        card: V3.
        picture: a PNG file.
        assets: by the names that the card calls them by.
    """
    names = {
        name: name if _CHUNK_NAME.fullmatch(name) else f"asset-{index}"
        for index, name in enumerate(sorted(assets))
    }
    document = _renamed(card, lambda _, name: f"__asset:{names[name]}", assets)
    documents = {
        "chara": write_document(_backfilled(Card(card.format, document))),
        "ccv3": write_document(document),
    }
    return write_png(picture, documents, {names[name]: assets[name] for name in assets})


def card_archive(card: Card, picture: bytes | None, assets: Mapping[str, bytes]) -> bytes:
    """Pack a V3 card into a `.charx`; its main icon is the picture, where there is one.

    Args:
        card: V3.
        picture: a PNG file.
        assets: by the names that the card calls them by.
    """
    card = Card(card.format, copy.deepcopy(card.document))
    packed = dict(assets)
    if picture is not None:
        name = "assets/icon/images/gator.png"
        packed[name] = picture
        _set_icon(card.data, f"{EMBEDDED[0]}{name}")
    kinds = _kinds(card.data)
    paths = {name: _path(name, kinds.get(name), packed) for name in packed}
    document = _renamed(card, lambda _, name: f"{EMBEDDED[0]}{paths[name]}", packed)
    return write_archive(write_document(document), {paths[name]: packed[name] for name in packed})


def _path(name: str, kind: str | None, packed: Mapping[str, bytes]) -> str:
    """Return where an asset goes: below `assets`, unless it has a folder or is no asset."""
    path = f"assets/{kind or 'other'}/other/{name}"
    if name == DOCUMENT:
        return path
    return name if "/" in name or kind is None or path in packed else path


def _kinds(data: Document) -> dict[str, str]:
    """Return what each packed asset is used as."""
    found: dict[str, str] = {}
    for asset in _listed(data):
        name, kind = packed_name(asset.get("uri")), asset.get("type")
        if name and isinstance(kind, str) and _KIND.fullmatch(kind):
            found.setdefault(name, kind)
    return found


def _renamed(
    card: Card, uri_of: Callable[[Document, str], str], packed: Mapping[str, Any]
) -> Document:
    """Return a card's document whose assets are called as the file calls them."""
    document = copy.deepcopy(card.document)
    for asset in _listed(document["data"]):
        name = packed_name(asset.get("uri"))
        if name is not None and name in packed:
            asset["uri"] = uri_of(asset, name)
    return document


def _listed(data: Document) -> list[Document]:
    assets = data.get("assets")
    return [one for one in assets if isinstance(one, dict)] if isinstance(assets, list) else []


def _set_icon(data: Document, uri: str) -> None:
    """Make a picture the main icon, of which there is one; what was it stays beside it."""
    assets = data.get("assets")
    others = list(assets) if isinstance(assets, list) else []
    others = [one for one in others if not (isinstance(one, dict) and one.get("uri") == uri)]
    for one in others:
        if isinstance(one, dict) and one.get("type") == "icon" and one.get("name") == "main":
            one["name"] = "imported"
    data["assets"] = [{"type": "icon", "uri": uri, "name": "main", "ext": "png"}, *others]


def _backfilled(card: Card) -> Document:
    """Return the V2 card that stands beside a V3 one, and says so."""
    document = converted(card, CardFormat.V2).document
    data = document["data"]
    notes = data.get("creator_notes")
    told = [BACKFILLED, notes] if isinstance(notes, str) and notes else [BACKFILLED]
    data["creator_notes"] = "\n\n".join(told)
    data["extensions"].pop("gator", None)  # it is in the card that this one stands in for
    return document
