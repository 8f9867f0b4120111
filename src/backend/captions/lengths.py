"""How platforms count the length of a text.

Invariants: no text takes longer than linear time, every repetition in a pattern is bounded or
cannot be entered twice; and text without emoji and links, which is most, is counted by its length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Literal, cast

import regex

Unit = Literal["utf16", "weighted", "emoji-bytes", "graphemes", "mastodon", "bytes"]

LINK = 23
"""What a link counts on X and on Mastodon, however long it is."""

EMOJI = 2
"""What an emoji counts on X, however many code points it takes."""

# What weighs two on X: all but the ranges that twitter-text's third configuration lists.
_HEAVY = re.compile(r"[^\u0000-\u10ff\u2000-\u200d\u2010-\u201f\u2032-\u2037]")
_MAYBE_EMOJI = re.compile(
    r"[\u203c\u2049\u20e3\u2122\u2139\u2194-\u2bff\u3030\u303d\u3297\u3299\ufe0f"
    r"\U0001f000-\U0001fbff]"
)
_ONE = (
    r"(?:[©®\u2122\u265f]\ufe0f"
    r"|(?![©®\u2122\u265f])\p{Extended_Pictographic}(?!\ufe0e)"
    r"(?:\ufe0f|(?<=\p{Emoji_Modifier_Base})\p{Emoji_Modifier})?)"
)
_EMOJI = regex.compile(
    r"[#*0-9]\ufe0f?\u20e3"
    r"|\p{Regional_Indicator}{1,2}"
    r"|\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{2,6}\U000e007f"
    rf"|{_ONE}(?:\u200d(?:{_ONE}|[\u2640\u2642]\ufe0f?)){{0,3}}"
    r"|\p{Emoji_Modifier}"
)
_GRAPHEME = regex.compile(r"\X")
_FLAG = re.compile(r"[\U0001f1e6-\U0001f1ff]{2}")
# Signs of which each is a grapheme whatever stands beside it.
_PLAIN = re.compile(r"[\u0000-\u02ff\u2010-\u2027\u20a0-\u20bf]*")
# All others, with their neighbours.
_NOT_PLAIN = re.compile(r".?(?:[^\u0000-\u02ff\u2010-\u2027\u20a0-\u20bf]++.?+)++", re.DOTALL)

_GENERIC = (
    "com net org info biz edu gov mil int app dev page blog shop store online site website web "
    "xyz tech cloud studio design art photo photography media news live life world today digital "
    "agency space club social team company solutions services academy school education global "
    "group link click fun games game video music film band style fashion beauty fitness health "
    "care food restaurant cafe coffee bar wine travel tours hotel house home garden land city "
    "berlin hamburg koeln london paris nyc tokyo wien museum jobs name pro mobi asia eco green "
    "earth network tools software systems email zone guru expert wiki gallery events community "
    "foundation market money finance bank business consulting marketing plus one top vip ink love"
)
_COUNTRIES = (
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs "
    "bt bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee "
    "eg er es et eu fi fj fk fm fo fr ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm "
    "hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb "
    "lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz "
    "na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs "
    "ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl "
    "tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw"
)
_TLDS = "|".join(sorted([*_GENERIC.split(), *_COUNTRIES.split()], key=len, reverse=True))
_TAIL = (
    r"(?::[0-9]{1,5})?"
    r"(?:[/?#][^\s<>\"“”„‘’…\u2e80-\U0010ffff]{0,2000}(?<![.,;:!?'*)\]}]))?"
)
_SCHEME = rf"https?://(?:[^\W_][\w-]{{0,62}}\.){{1,8}}[a-z]{{2,24}}(?![a-z0-9-]){_TAIL}"
_BARE = rf"(?:[a-z0-9][a-z0-9-]{{0,62}}\.){{1,8}}(?:{_TLDS})(?![a-z0-9-]){_TAIL}"
_SCHEME_LINK = re.compile(rf"(?<![\w@＠#＃$]){_SCHEME}", re.IGNORECASE)
_ANY_LINK = re.compile(rf"(?<![\w@＠#＃$]){_SCHEME}|(?<![\w@＠#＃$./-]){_BARE}", re.IGNORECASE)
_MAYBE_LINK = re.compile(r"://|[^\W_]\.[A-Za-z]{2}")
_MENTION = re.compile(
    r"(?<![=/\w])@([a-z0-9_][a-z0-9_.-]{0,63})@[a-z0-9][a-z0-9.-]{0,251}[a-z0-9]", re.IGNORECASE
)


def utf16(text: str) -> int:
    """Count UTF-16 code units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def utf8(text: str) -> int:
    """Count bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def graphemes(text: str) -> int:
    """Count what a reader sees as one sign."""
    text = text.replace("\r\n", "\n")
    if text.isascii() or _PLAIN.fullmatch(text):
        return len(text)
    text = _FLAG.sub("x", text)  # a row of flags takes the pattern below quadratic time
    joined = sum(len(run) - len(_GRAPHEME.findall(run)) for run in _NOT_PLAIN.findall(text))
    return len(text) - joined


def weighted(text: str) -> int:
    """Count as X does, by the third configuration of twitter-text.

    A link without a scheme is one where its last part is a country's code or in common use.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    length = 0
    if _MAYBE_LINK.search(text):
        text, links = _ANY_LINK.subn("", text)
        length = LINK * links
    if text.isascii():
        return length + len(text)
    if _MAYBE_EMOJI.search(text):
        text, emojis = _EMOJI.subn("", text)
        length += EMOJI * emojis
    return length + len(text) + len(_HEAVY.findall(text))


def emoji_bytes(text: str) -> int:
    """Count as Threads does: an emoji by its bytes in UTF-8."""
    if text.isascii() or not _MAYBE_EMOJI.search(text):
        return utf16(text)
    emojis = cast("list[str]", _EMOJI.findall(text))
    return utf16(_EMOJI.sub("", text)) + sum(map(utf8, emojis))


def mastodon(text: str) -> int:
    """Count as Mastodon does: graphemes, links as 23, mentions without their server."""
    length = 0
    if "://" in text:
        text, links = _SCHEME_LINK.subn("", text)
        length = LINK * links
    if "@" in text:
        text = _MENTION.sub(r"@\1", text)
    return length + graphemes(text)


UNITS: Mapping[Unit, Callable[[str], int]] = {
    "utf16": utf16,
    "weighted": weighted,
    "emoji-bytes": emoji_bytes,
    "graphemes": graphemes,
    "mastodon": mastodon,
    "bytes": utf8,
}
