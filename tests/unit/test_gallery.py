"""The gallery as a document: what it says, what it escapes, and that nothing leads out of it."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from backend.errors import StorageError
from backend.services.gallery import (
    GalleryItem,
    GalleryPersona,
    GalleryPicture,
    GallerySummary,
    render_gallery,
    write_gallery,
)

CREDIT = "Remixed from “Drawings” (https://example.org/drawings) by A. Painter, CC BY 4.0."
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>' {{ 7*7 }} & \u202egnp.exe"


class Page(HTMLParser):
    """Every element with its attributes, and the text in the order of reading."""

    VOID = ("meta", "link", "img", "br", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.inside: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.inside or self.inside.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.inside):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def picture(shade: int = 90, *, kind: str = "diffusion", credit: str = CREDIT) -> GalleryPicture:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, 120, 160)).save(file, "PNG")
    return GalleryPicture(file.getvalue(), "image/png", 16, 16, kind, credit)  # type: ignore[arg-type]


def item(**changes: object) -> GalleryItem:
    values: dict[str, object] = {
        "prompt": "laughing, orange t-shirt",
        "picture": picture(),
        "caption": "A thought to share on colour.",
        "caption_origin": "template",
        "seed": 9007199254740991,
        "device": "cpu:1",
        "model": "embedded-portrait",
        "seconds": 0.4449,
    }
    return GalleryItem(**(values | changes))  # type: ignore[arg-type]


def persona(*items: GalleryItem, **changes: object) -> GalleryPersona:
    values: dict[str, object] = {
        "name": "Mira Solane",
        "personality": "artistic, expressive",
        "style": "creative",
        "themes": ("illustration", "colour"),
        "appearance": "long pink hair",
        "base_image": picture(30),
        "items": items,
    }
    return GalleryPersona(**(values | changes))  # type: ignore[arg-type]


def summary(**changes: object) -> GallerySummary:
    values: dict[str, object] = {
        "created_at": datetime(2026, 3, 5, 14, 7, tzinfo=UTC),
        "version": "0.1.0",
        "personas": 1,
        "images": 1,
        "errors": 0,
        "devices": ("cpu:0", "cpu:1"),
        "seconds": {"render": 12.34, "captions": 0.5},
    }
    return GallerySummary(**(values | changes))  # type: ignore[arg-type]


def page(*personas: GalleryPersona, **changes: object) -> Page:
    return Page(render_gallery(summary(**changes), personas))


def test_shows_a_persona_with_its_base_image_and_what_each_picture_is_made_of() -> None:
    base = picture(30)
    shown = page(persona(item(), base_image=base)).text

    for words in (
        "Mira Solane",
        "creative",
        "artistic",
        "expressive",
        "illustration",
        "long pink hair",
        "Approved base image",
        hashlib.sha256(base.data).hexdigest()[:12],
        "A thought to share on colour.",
        "written by template engine",
        "laughing, orange t-shirt",
        "9007199254740991",
        "cpu:1",
        "embedded-portrait",
        "0.44 s",
        "5 March 2026, 14:07 UTC",
        "1 persona, 1 picture",
        "12.3 s",
    ):
        assert words in shown


def test_every_picture_is_the_very_bytes_as_a_data_uri_with_a_text_in_its_place() -> None:
    base, made = picture(30), picture(200)
    images = page(persona(item(picture=made), base_image=base)).all("img")

    assert [base64.b64decode(i["src"].removeprefix("data:image/png;base64,")) for i in images] == [
        base.data,
        made.data,
    ]
    assert [i["alt"] for i in images] == [
        "Base image of Mira Solane: long pink hair",
        "Mira Solane: laughing, orange t-shirt",
    ]
    assert all((i["width"], i["height"]) == ("16", "16") for i in images)


def test_no_link_leads_out_of_the_file() -> None:
    shown = page(persona(item()), persona(item(caption="see https://example.org")))

    for tag, attributes in shown.elements:
        for name in ("href", "src", "srcset", "action", "poster", "data", "background"):
            if name in attributes:
                assert attributes[name].startswith(("#", "data:")), (tag, attributes)
    assert not {"iframe", "object", "embed", "base", "video"} & {tag for tag, _ in shown.elements}
    html = render_gallery(summary(), [persona(item())])
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert CREDIT in shown.text


def test_jump_links_have_somewhere_to_go_and_ids_are_unique() -> None:
    shown = page(persona(), persona(name="Teo"))
    ids = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]

    assert len(ids) == len(set(ids))
    assert {link["href"].removeprefix("#") for link in shown.all("a")} <= set(ids)
    assert {s["aria-labelledby"] for s in shown.all("section")} <= set(ids)
    assert not shown.unbalanced
    assert not shown.inside


def test_headings_go_down_by_one_level_at_most() -> None:
    shown = page(persona(item(), item(picture=None, error="lost")), persona())
    levels = [int(tag[1]) for tag, _ in shown.elements if re.fullmatch(r"h[1-6]", tag)]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_policy_allows_only_the_pages_own_style_and_script() -> None:
    html = render_gallery(summary(), [persona(item())])
    policy = next(
        meta["content"]
        for meta in Page(html).all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )

    assert "default-src 'none'" in policy
    assert "img-src data:;" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        inline = html.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"<[^>]+\son\w+=", html)
    assert not re.search(r"<[^>]+\sstyle=", html)


@pytest.mark.parametrize("field", ["name", "personality", "style", "appearance", "tagline"])
def test_a_personas_words_stay_words(field: str) -> None:
    shown = page(persona(item(), **{field: HOSTILE}))

    assert len(shown.all("script")) == 1
    assert len(shown.all("img")) == 2
    assert not any("onerror" in attributes for _, attributes in shown.elements)
    assert not shown.unbalanced
    assert "<script>alert(1)</script>" in shown.text
    assert "{{ 7*7 }}" in shown.text


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": HOSTILE},
        {"caption": HOSTILE},
        {"model": HOSTILE},
        {"device": HOSTILE},
        {"picture": None, "error": HOSTILE},
        {"caption_origin": "llm", "caption_model": HOSTILE},
        {"prompt_report": {"ignored": [HOSTILE]}},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_an_items_words_stay_words(changes: dict[str, object]) -> None:
    shown = page(persona(item(**changes)))

    assert len(shown.all("script")) == 1
    assert not any("onerror" in attributes for _, attributes in shown.elements)
    assert not shown.unbalanced
    assert "<script>alert(1)</script>" in shown.text


def test_a_themes_and_a_credits_words_stay_words() -> None:
    shown = page(persona(item(picture=picture(credit=HOSTILE)), themes=(HOSTILE,)))

    assert len(shown.all("script")) == 1
    assert shown.text.count("<script>alert(1)</script>") == 2


def test_words_that_turn_the_direction_of_writing_turn_only_themselves() -> None:
    turned = "\u202egnp.exe"
    html = render_gallery(
        summary(devices=(turned,)),
        [
            persona(
                item(prompt=turned, caption=turned, model=turned, device=turned),
                item(picture=None, error=turned),
                name=turned,
                personality=turned,
                style=turned,
                themes=(turned,),
                appearance=turned,
                tagline=turned,
            ),
            persona(),
        ],
    )
    body = re.sub(r'alt="[^"]*"', "", html)

    found = re.findall(r"(<[^>]*>)\u202egnp\.exe", body)
    assert body.count("\u202e") == len(found) >= 12
    assert all(tag == "<bdi>" or 'dir="auto"' in tag for tag in found), found


def test_what_is_not_text_is_replaced_and_the_page_is_still_utf_8() -> None:
    html = render_gallery(summary(), [persona(item(prompt="a\x00b\ud800c\x1bd"))])

    assert "a\ufffdb\ufffdc\ufffdd" in html
    html.encode("utf-8")


def test_a_failed_item_stands_in_its_place_with_its_error() -> None:
    items = (item(prompt="first"), item(prompt="second", picture=None, error="killed by SIGKILL"))
    shown = page(persona(*items, item(prompt="third")), images=2, errors=1)

    cards = [a["class"] for a in shown.all("li") if a.get("class", "").startswith("card")]
    assert cards == ["card", "card failed", "card"]
    assert shown.text.index("first") < shown.text.index("killed by SIGKILL")
    assert shown.text.index("killed by SIGKILL") < shown.text.index("third")
    assert "2 pictures, 1 item not made" in shown.text


def test_a_prompt_that_was_refused_for_its_length_does_not_fill_the_page() -> None:
    shown = page(persona(item(prompt="very " * 2_000, picture=None, error="too long"))).text

    assert "very… (10,000 characters)" in shown
    assert shown.count("very") <= 200


def test_a_failed_item_without_an_error_says_so() -> None:
    assert "no error was recorded" in page(persona(item(picture=None))).text


def test_a_persona_without_anything_is_still_shown() -> None:
    shown = page(GalleryPersona(name="Nobody"))

    assert "Nobody" in shown.text
    assert "No base image yet" in shown.text
    assert "No pictures have been asked for yet." in shown.text
    assert "Approved" not in shown.text
    assert not shown.all("img")


def test_no_personas_at_all() -> None:
    assert "There are no personas yet." in page(personas=0, images=0).text


@pytest.mark.parametrize(
    ("changes", "byline"),
    [
        ({}, "written by template engine"),
        ({"caption_origin": "llm", "caption_model": "qwen3-8b"}, "written by qwen3-8b"),
        ({"caption_origin": "llm"}, "written by a language model"),
        ({"caption_origin": None}, "writer not recorded"),
        ({"caption": None, "caption_origin": None}, "no caption"),
    ],
)
def test_says_who_wrote_the_caption(changes: dict[str, object], byline: str) -> None:
    assert byline in page(persona(item(**changes))).text


def test_names_the_words_that_were_not_drawn_and_is_silent_where_there_are_none() -> None:
    said = page(persona(item(prompt_report={"ignored": ["studio", "microphone"]}))).text

    assert "Not drawn studio , microphone" in said
    assert "Not drawn" not in page(persona(item(prompt_report={"ignored": []}))).text


@pytest.mark.parametrize(
    ("kinds", "notice"),
    [
        (("diffusion", "cloud"), "synthetic: AI-generated, of characters"),
        (("illustrated", "illustrated"), "synthetic: illustrated, not AI-generated, of characters"),
        (("illustrated", "diffusion"), "some AI-generated, some illustrated"),
        (("upload", "diffusion"), "synthetic: AI-generated, of characters"),
    ],
)
def test_says_that_the_pictures_are_synthetic_and_how(kinds: tuple[str, str], notice: str) -> None:
    base, made = kinds
    shown = page(persona(item(picture=picture(kind=made)), base_image=picture(kind=base)))

    assert notice in shown.text


def test_a_picture_that_was_only_uploaded_is_not_called_synthetic() -> None:
    shown = page(persona(base_image=picture(kind="upload")))

    assert "Uploaded" in shown.text
    assert "synthetic" not in shown.text


def test_a_base_image_that_is_not_approved_is_not_said_to_be() -> None:
    shown = page(persona(base_image_status="draft"))

    assert "Draft base image, not approved" in shown.text
    assert "Approved" not in shown.text


def test_a_credit_is_given_once() -> None:
    assert page(persona(item(), item())).text.count(CREDIT) == 1


def test_is_written_whole_under_its_name_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "galleries" / "gallery.html"
    write_gallery(target, summary(), [persona(item())])
    written = write_gallery(target, summary(version="0.2.0"), [persona(item(caption="späť 🤝"))])

    assert written == target
    assert written.is_absolute()
    assert written.read_text("utf-8") == render_gallery(
        summary(version="0.2.0"), [persona(item(caption="späť 🤝"))]
    )
    assert [p.name for p in target.parent.iterdir()] == ["gallery.html"]


def test_a_gallery_that_cannot_be_written_says_where_and_leaves_the_old_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "gallery.html").mkdir()

    with pytest.raises(StorageError, match="file"):
        write_gallery(tmp_path / "file" / "gallery.html", summary(), [])
    with pytest.raises(StorageError, match=re.escape("gallery.html")):
        write_gallery(tmp_path / "gallery.html", summary(), [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "gallery.html"]
