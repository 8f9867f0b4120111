"""Describe, caption and draw the training portraits.

Every portrait is a set of attributes. `draw` turns one into pixels with DiceBear's "toon-head"
style (Johan Melin, CC BY 4.0; the glasses are ours), `caption` turns it into words. Both are
deterministic, so a generated image can be scored against the exact drawing its caption asks for.
"""

import io
import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from random import Random

import numpy as np
import resvg_py
from dicebear import Avatar, Style
from PIL import Image

HAIR = {
    "black": "1d1a1f",
    "brown": "6b4028",
    "blonde": "e3bf62",
    "red": "b5391f",
    "grey": "a9abb3",
    "pink": "ee7fb5",
    "blue": "3a6bd6",
    "green": "3fa45b",
}
SKIN = {"pale": "f4d3bb", "tan": "d39d78", "brown": "a36b4f", "dark": "5c3829"}
FRONT = {"bun": "bun", "side-combed": "sideComed", "spiky": "spiky", "undercut": "undercut"}
REAR = {
    "short": None,
    "neck-length": "neckHigh",
    "shoulder-length": "shoulderHigh",
    "long-straight": "longStraight",
    "long-wavy": "longWavy",
}
BEARD = {
    "clean-shaven": None,
    "goatee": "chin",
    "full-beard": "fullBeard",
    "long-beard": "longBeard",
    "moustache": "moustacheTwirl",
}
GLASSES = {"none": False, "glasses": True}
EXPRESSION = {  # mouth, eyebrows, eyes
    "smiling": ("smile", "happy", "happy"),
    "laughing": ("laugh", "happy", "bow"),
    "sad": ("sad", "sad", "humble"),
    "angry": ("angry", "angry", "wide"),
    "surprised": ("agape", "raised", "wide"),
    "winking": ("smile", "raised", "wink"),
}
CLOTHES = {
    "dress": "dress",
    "jacket": "openJacket",
    "shirt": "shirt",
    "t-shirt": "tShirt",
    "turtleneck": "turtleNeck",
}
CLOTHES_COLOUR = {
    "black": "1b1b1f",
    "white": "ececec",
    "red": "c62828",
    "blue": "1e55c0",
    "green": "1e8a45",
    "yellow": "eab308",
    "orange": "f97316",
    "purple": "7a2bd0",
}
BACKGROUND = {
    "white": "ffffff",
    "grey": "9aa0a6",
    "blue": "8fc5f0",
    "green": "a5d8a0",
    "yellow": "f9e27d",
    "pink": "f7b9cf",
    "purple": "c9b2f0",
    "orange": "f7b679",
}

ATTRIBUTES = {
    "hair": HAIR,
    "front": FRONT,
    "rear": REAR,
    "skin": SKIN,
    "beard": BEARD,
    "glasses": GLASSES,
    "expression": EXPRESSION,
    "clothes_colour": CLOTHES_COLOUR,
    "clothes": CLOTHES,
    "background": BACKGROUND,
}
CLEAN_SHAVEN_SHARE, GLASSES_SHARE = 0.52, 0.3

# Iris centres of the style are (314, 408) and (453, 408) on its 768-unit canvas.
_GLASSES_SVG = (
    '<g stroke="#15151a" stroke-width="11" fill="#ffffff" fill-opacity=".22">'
    '<circle cx="312" cy="408" r="61"/><circle cx="455" cy="408" r="61"/></g>'
    '<path d="M372 398q11.500-9 23 0M251 402l-48-14M516 402l48-14" stroke="#15151a" '
    'stroke-width="11" fill="none"/>'
)


@dataclass(frozen=True)
class Portrait:
    """One character; each field holds a key of the table of the same name in ATTRIBUTES."""

    hair: str
    front: str
    rear: str
    skin: str
    beard: str
    glasses: str
    expression: str
    clothes_colour: str
    clothes: str
    background: str


def sample_portrait(rng: Random) -> Portrait:
    """Draw attributes independently; half are clean-shaven, three in ten wear glasses."""
    values = {name: rng.choice(list(table)) for name, table in ATTRIBUTES.items()}
    values["beard"] = (
        "clean-shaven"
        if rng.random() < CLEAN_SHAVEN_SHARE
        else rng.choice([b for b in BEARD if b != "clean-shaven"])
    )
    values["glasses"] = "glasses" if rng.random() < GLASSES_SHARE else "none"
    return Portrait(**values)


@cache
def _style() -> Style:
    return Style(json.loads(files("dicebear_styles").joinpath("toon-head.json").read_text("utf-8")))


# Colours no toon-head part uses, replaced after the (slow) layout: one layout serves every palette.
_HAIR_MARK, _SKIN_MARK, _CLOTHES_MARK = "fe01fe", "fd02fd", "fc03fc"


@cache
def _layout(front: str, rear: str, beard: str, clothes: str, expression: str) -> str:
    mouth, eyebrows, eyes = EXPRESSION[expression]
    options = {
        "seed": "portrait",
        "size": 128,
        "hairVariant": [FRONT[front]],
        "hairProbability": 100,
        "hairColor": [_HAIR_MARK],
        "skinColor": [_SKIN_MARK],
        "clothesColor": [_CLOTHES_MARK],
        "clothesVariant": [CLOTHES[clothes]],
        "mouthVariant": [mouth],
        "eyebrowsVariant": [eyebrows],
        "eyesVariant": [eyes],
        "rearHairProbability": 100 if REAR[rear] else 0,
        "beardProbability": 100 if BEARD[beard] else 0,
    }
    if REAR[rear]:
        options["rearHairVariant"] = [REAR[rear]]
    if BEARD[beard]:
        options["beardVariant"] = [BEARD[beard]]
    return Avatar(_style(), options).to_string()


def draw(portrait: Portrait) -> Image.Image:
    """Draw a portrait as 128x128 RGBA on a transparent background."""
    svg = _layout(
        portrait.front, portrait.rear, portrait.beard, portrait.clothes, portrait.expression
    )
    for mark, colour in (
        (_HAIR_MARK, HAIR[portrait.hair]),
        (_SKIN_MARK, SKIN[portrait.skin]),
        (_CLOTHES_MARK, CLOTHES_COLOUR[portrait.clothes_colour]),
    ):
        svg = svg.replace(mark, colour)
    if GLASSES[portrait.glasses]:
        svg = svg.replace("</g></svg>", _GLASSES_SVG + "</g></svg>")
    png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def draw_rgb(portrait: Portrait) -> np.ndarray:
    """Draw a portrait over its background: (128, 128, 3) uint8."""
    canvas = Image.new("RGBA", (128, 128), "#" + BACKGROUND[portrait.background])
    canvas.alpha_composite(draw(portrait))
    return np.asarray(canvas.convert("RGB"))


def caption(portrait: Portrait) -> str:
    """Write the full caption, in the order and wording the README recommends."""
    parts = [
        "portrait",
        f"{portrait.rear} {portrait.front} {portrait.hair} hair",
        f"{portrait.skin} skin",
        portrait.beard,
    ]
    if GLASSES[portrait.glasses]:
        parts.append("glasses")
    parts += [
        portrait.expression,
        f"wearing {portrait.clothes_colour} {portrait.clothes}",
        f"{portrait.background} background",
    ]
    return ", ".join(parts)


def tokens(portrait: Portrait, rng: Random | None = None, drop: float = 0.0) -> list[str]:
    """List the attribute tokens of a portrait, as the tokenizer would for its caption.

    With `rng`, each is left out with probability `drop` and half the time the order is shuffled.
    Glasses and beards are never left out, so a prompt that names neither gets neither.
    """
    kept = []
    for name in ATTRIBUTES:
        value = getattr(portrait, name)
        if name == "glasses" and value == "none":
            continue
        spoken = (name == "glasses") or (name == "beard" and value != "clean-shaven")
        if spoken or rng is None or rng.random() >= drop:
            kept.append(token_name(name, value))
    if rng is not None and rng.random() < 0.5:
        rng.shuffle(kept)
    return kept


def token_name(attribute: str, value: str) -> str:
    """Spell the vocabulary entry of one attribute value, e.g. CLOTHES_COLOUR_RED."""
    return f"{attribute}_{value}".upper().replace("-", "_")


def from_dict(values: dict) -> Portrait:
    return Portrait(**values)


def to_dict(portrait: Portrait) -> dict:
    return asdict(portrait)


def with_value(portrait: Portrait, attribute: str, value: str) -> Portrait:
    return replace(portrait, **{attribute: value})
