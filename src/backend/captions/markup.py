"""What a prompt holds besides its words: requests, renderer markup, links, stray signs."""

from __future__ import annotations

import re
import unicodedata

_LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_TAG = re.compile(r"<(?:[^<>]{1,60}:[^<>]{1,60}|/?[a-z][^<>]{0,80})>", re.IGNORECASE)
_SCORE = re.compile(r"\bscore_\d\w*")
_WEIGHTED = re.compile(r"[(\[]([^()\[\]]{1,120}):\d+(?:\.\d+)?[)\]]")
_WEIGHT = re.compile(r"::-?\d*(?:\.\d+)?|:\d\.\d+(?=[\s,)\]]|$)")
_OPTION = re.compile(r"(?:^|\s)--(?:no\s[^-]*|[a-z]+(?:\s+[\w.:]+)?)")
_EMPHASIS = re.compile(r"[()\[\]]+")
_MENTION = re.compile(r"(?:^|(?<=\s))[#@]+(?=\w)")
_LAST_TAGS = re.compile(r"(?:\s+#\w+)+$")
_UNDERSCORE = re.compile(r"(?<=[^\W_])_+(?=[^\W_])")
_SPACED_SIGN = re.compile(r"\s+(?=,)|,(?=\s*,)")

_ENGLISH = (
    r"(?:please\s+|can\s+you\s+|could\s+you\s+)*(?:"
    r"(?:create|make|paint|design)(?=\s+(?:an?|the)\s+(?:[\w-]+\s+){0,3}?(?:portrait|scene|landscape"
    r"|headshot|selfie|illustration|painting|drawing|poster|wallpaper|logo)\b)|"
    r"(?:i\s+need|i\s+want|i['’]d\s+like|write|create|make|generate|draft|compose|post|publish|give|show|draw|render|paint)\b"
    r"(?:\s+(?:me|us))?(?:\s+(?:a|an|the|some|my|your))?(?:\s+[\w-]+){0,2}?"
    r"\s*\b(?:post|caption|text|message|tweet|story|image|photo|picture|content|piece|thread|thoughts"
    r"|article|portrait\s+photo|illustration)\b"
    r"\s*(?:about|on|for|of|showing|around|regarding)"
    r"|(?:share|post|tell|offer)\b(?:\s+(?:us|me))?(?:\s+(?:your|my|some|a few|the))?"
    r"(?:\s+(?:thoughts|views|ideas|opinion|take|insights|tips))?\s*(?:about|on)"
    r"|(?:write|talk|post|speak|think)\s+(?:about|on)"
    r"|(?:discuss|describe|explain)"
    r"|(?:generate|render|depict|illustrate|draw)(?=\s+(?:a|an|the)\s)"
    r"|show\s+(?:me|us)|/?imagine\s+prompt:?|/imagine"
    r"|(?:an?\s+|the\s+)?(?:photo|photograph|image|picture|shot|snapshot)\s+(?:of|showing)"
    r")\s+(?=\S)"
)
_GERMAN = (
    r"(?:bitte\s+|kannst\s+du\s+|könntest\s+du\s+)*(?:"
    r"(?:schreibe?|erstelle?|mache?|generiere?|zeige?|poste|verfasse?|entwirf|gib|zeichne|male?)\b"
    r"(?:\s+(?:mir|uns|bitte))?(?:\s+(?:eine?n?|den|die|das|deine))?(?:\s+[\w-]+){0,2}?"
    r"\s*\b(?:post|beitrag|text|caption|bildunterschrift|nachricht|bild|foto|story|thread|artikel|tweet"
    r"|gedanken)\b\s*(?:über|zum\s+thema|zu|zum|zur|von|vom|mit|für|rund\s+um)"
    r"|(?:teile?|erzähle?)\b(?:\s+(?:uns|mir))?(?:\s+(?:deine|ein\s+paar|einige|was))?"
    r"(?:\s+(?:gedanken|ideen|meinung|tipps|ansichten))?"
    r"\s*(?:über|zum\s+thema|zu|zum|zur|von|vom)"
    r"|(?:schreibe?|sprich|rede)\s+(?:über|von)|zum\s+thema"
    r"|zeige?\s+(?:mir|uns)(?:\s+bitte)?"
    r"|(?:ein\s+|das\s+)?(?:foto|bild|aufnahme|schnappschuss)\s+(?:von|vom)(?!\s+(?:eine[mr]|de[mnr])\b)"
    r")\s+(?=\S)"
)
_REQUEST = re.compile(rf"^(?:{_ENGLISH}|{_GERMAN})", re.IGNORECASE)

_ASKED_NICELY = re.compile(r"(?:can|could|would|will)\s+you\b|k(?:annst|önntest)\s+du\b", re.I)

_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"))
_QUOTES = '"“”„«»'
_CLOSING = {"(": ")", "[": "]", "{": "}", '"': '"', "“": "”“", "„": "“”", "«": "»", "»": "«"}
_OPENING = {
    closing: "".join(opening for opening, ends in _CLOSING.items() if closing in ends)
    for closing in ')]}"”“»«'
}
_OPENING_QUOTE = re.compile(r"(?<!\w)['‘](?=\w)")
_CLOSING_QUOTE = re.compile(r"(?<=\w)['’](?!\w)")
_KEYCAPS = "\ufe0f\u20e3"


def strip_request(text: str) -> str:
    """Take away who is asked to do what: "Write a post about rain" is about rain."""
    if text.endswith("?") and _ASKED_NICELY.match(text):
        text = text.rstrip("? ")
    previous = None
    while previous != text:
        previous, text = text, _REQUEST.sub("", text, count=1)
    return text


def strip_markup(text: str) -> str:
    """Take away links and what steers a renderer: weights, tags, options, emphasis."""
    if "--" in text:
        text = _OPTION.sub(" ", text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    if ":" in text or "www" in text.lower():
        text = _LINK.sub(" ", text)
        text = _WEIGHT.sub(",", _WEIGHTED.sub(r"\1", _WEIGHTED.sub(r"\1", text)))
    if "#" in text:
        text = _LAST_TAGS.sub(lambda tags: tags[0].replace(" #", ", "), text.rstrip())
    if "#" in text or "@" in text:
        text = _MENTION.sub("", text)
    if "_" in text:
        text = _UNDERSCORE.sub(" ", _SCORE.sub(" ", text))
    text = _EMPHASIS.sub(", ", text).replace(" BREAK ", ", ")
    if ", " in text:
        text = _SPACED_SIGN.sub("", text)
    return " ".join(text.split()).strip(" ,\"“”'`*_~")


def balanced(text: str) -> str:
    """Take away brackets and quotation marks that have no partner."""
    for opening, closing in _PAIRS:
        if (opening in text or closing in text) and not _is_nested(text, opening, closing):
            text = text.replace(opening, "").replace(closing, "")
    if sum(text.count(quote) for quote in _QUOTES) % 2:
        text = "".join(char for char in text if char not in _QUOTES)
    if "'" in text or "‘" in text:
        opened, closed = len(_OPENING_QUOTE.findall(text)), len(_CLOSING_QUOTE.findall(text))
        text = _OPENING_QUOTE.sub("", text) if opened > closed else text
    return text


def _is_nested(text: str, opening: str, closing: str) -> bool:
    depth = 0
    for char in text:
        depth += (char == opening) - (char == closing)
        if depth < 0:
            return False
    return not depth


def strip_edges(text: str) -> str:
    """Take stray signs and emoji from both ends; a pair of brackets or quotes stays."""
    start, end = 0, len(text)
    while start < end and _is_stray(text[start], text[start + 1 : end], _CLOSING, "$€£+"):
        start += 1
    while end > start and _is_stray(text[end - 1], text[start : end - 1][::-1], _OPENING, "%°+$€£"):
        end -= 1
    return text[start:end]


def _is_stray(char: str, inwards: str, partners: dict[str, str], kept: str) -> bool:
    if char.isalnum():
        return False
    if unicodedata.category(char)[0] == "M" and char not in _KEYCAPS:
        return False
    if char in kept:
        return not inwards[:1].isalnum()
    return not any(partner in inwards for partner in partners.get(char, ""))
