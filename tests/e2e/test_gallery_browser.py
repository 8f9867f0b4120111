"""The gallery as a person meets it: opened from the disk, offline, in Debian's chromium."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from PIL import Image

from backend.services.gallery import (
    GalleryItem,
    GalleryPersona,
    GalleryPicture,
    GallerySummary,
    write_gallery,
)

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 3
HOSTILE = '"><script>document.title="taken"</script><img src=x onerror="document.title=1">\u202eabc'

LOW_CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(e).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility() || element.closest("[aria-hidden]")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(parse(style.color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push([element.className || element.tagName, ratio.toFixed(2)]);
  }
  return found;
}"""


def _picture(shade: int, kind: str = "diffusion") -> GalleryPicture:
    file = io.BytesIO()
    Image.new("RGB", (128, 128), (shade, 160, 200)).save(file, "PNG")
    return GalleryPicture(file.getvalue(), "image/png", 128, 128, kind)  # type: ignore[arg-type]


def _items(count: int) -> list[GalleryItem]:
    made = [
        GalleryItem(
            prompt=f"laughing, picture {index}",
            picture=_picture(10 * index),
            caption="A thought to share. " * (index + 1) + "#colour #today",
            caption_origin="llm" if index % 2 else "template",
            caption_model="qwen3-8b",
            seed=2**53 - 1 - index,
            device="cpu:0",
            model="stable-diffusion-xl-base-1.0-with-a-long-name",
            seconds=0.4 + index,
            prompt_report={"ignored": ["studio", "microphone"]},
        )
        for index in range(count)
    ]
    failed = GalleryItem(prompt=LONG, seed=3, error="the worker of cpu:1 was killed by SIGKILL")
    return [*made, failed]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery with more accents than there are, long words, hostile ones and none."""
    personas = [
        GalleryPersona(
            name=name,
            personality=f"artistic, {LONG}, warm",
            style="creative",
            themes=("illustration", LONG),
            appearance=f"long pink hair, {HOSTILE}",
            tagline="an illustrator, at home in purple",
            base_image=_picture(200, "illustrated"),
            base_image_status=status,
            items=_items(5),
        )
        for name, status in [
            ("Mira Solane", "approved"),
            (LONG, "draft"),
            ("شخصية", "approved"),
            (HOSTILE, "approved"),
            ("Teo", "rejected"),
            ("Noor", "approved"),
        ]
    ]
    summary = GallerySummary(
        created_at=datetime(2026, 3, 5, 14, 7, tzinfo=UTC),
        version="0.1.0",
        personas=7,
        images=30,
        errors=6,
        devices=("cpu:0", "cpu:1"),
        seconds={"set up": 1.5, "render": 12.4},
    )
    path = tmp_path_factory.mktemp("gallery") / "gallery.html"
    return write_gallery(path, summary, [*personas, GalleryPersona(name="Nobody yet")])


@asynccontextmanager
async def _opened(
    browser: Browser, gallery: Path, **context: Any
) -> AsyncIterator[tuple[Page, list[str], list[str]]]:
    """Open the gallery offline; hand over the page, what it complained of and what it asked for."""
    complaints: list[str] = []
    requests: list[str] = []
    opened = await browser.new_context(offline=True, **context)
    page = await opened.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    await page.goto(gallery.as_uri())
    yield page, complaints, requests
    await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def desktop(browser: Browser, gallery: Path) -> AsyncIterator[Page]:
    """The gallery on a wide screen."""
    async with _opened(browser, gallery, viewport={"width": 1440, "height": 900}) as (page, _, _):
        yield page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
async def test_opens_whole_at_every_width_in_both_schemes(
    browser: Browser, gallery: Path, width: int, scheme: str
) -> None:
    look = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    async with _opened(browser, gallery, **look) as (page, complaints, requests):
        sizes = await page.evaluate("[...document.images].map((i) => i.complete && i.naturalWidth)")
        overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        shown = await page.evaluate(
            "[...document.images].map((i) => Math.round(i.getBoundingClientRect().width))"
        )
        low = await page.evaluate(LOW_CONTRAST)

    assert sizes == [128] * 36
    assert overflow <= 0
    assert min(shown) >= 200
    assert low == []
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [gallery.as_uri()]


async def test_the_schemes_differ(browser: Browser, gallery: Path) -> None:
    colours = []
    for scheme in ("light", "dark"):
        async with _opened(browser, gallery, color_scheme=scheme) as (page, _, _):
            colours.append(await page.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert len(set(colours)) == 2


async def test_hostile_words_are_only_shown(desktop: Page) -> None:
    assert await desktop.title() == "Persona gallery · Gator"
    assert await desktop.locator("script").count() == 1
    assert await desktop.locator("h2", has_text="<script>document.title").count() == 1


async def test_a_picture_is_enlarged_by_keyboard_and_closed_again(desktop: Page) -> None:
    first = desktop.locator("button.zoom").first
    await first.focus()
    assert await first.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    await desktop.keyboard.press("Enter")

    enlarged = desktop.locator("dialog img")
    assert await enlarged.evaluate("i => i.naturalWidth") == 128
    assert await enlarged.evaluate("i => i.getBoundingClientRect().width") > 400
    assert await desktop.locator("dialog .words").inner_text() != ""

    await desktop.keyboard.press("ArrowRight")
    assert "picture 0" in await desktop.locator("dialog .words").inner_text()
    await desktop.keyboard.press("ArrowLeft")
    await desktop.get_by_role("button", name="Previous").click()
    assert "Noor" in await desktop.locator("dialog .words").inner_text()

    await desktop.keyboard.press("Escape")
    assert not await desktop.locator("dialog").is_visible()
    assert await desktop.evaluate("document.activeElement.className") == "zoom"


async def test_is_whole_without_script(browser: Browser, gallery: Path) -> None:
    async with _opened(browser, gallery, java_script_enabled=False) as (page, complaints, _):
        assert await page.locator(".card").count() == 36
        assert await page.get_by_text("killed by SIGKILL").count() == 6
        assert not await page.locator("dialog").is_visible()

    assert [line for line in complaints if "script" not in line.lower()] == []


async def test_prints(desktop: Page) -> None:
    await desktop.emulate_media(media="print")

    assert not await desktop.locator("nav").is_visible()
    assert (await desktop.pdf()).startswith(b"%PDF")


async def test_every_control_has_a_name_and_every_section_a_heading(desktop: Page) -> None:
    tree = await desktop.locator("body").aria_snapshot()

    assert 'button "Base image of Mira Solane: long pink hair' in tree
    assert re.findall(r'button(?! ")', tree) == []
    assert 'region "Mira Solane"' in tree
    assert 'heading "Persona gallery" [level=1]' in tree
