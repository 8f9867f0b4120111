"""What a synthetic persona must not say: that it has experienced a product.

One pattern serves the topic (a claim in a prompt is not repeated), the gate and the packs' tests.
"""

from __future__ import annotations

import re

_SUBJECT = r"(?:i|we|i've|we've|i’ve|we’ve|i'd|we'd|i’d|we’d)"
_ADVERBS = r"(?:(?:have|had|just|also|even|already|once|so|\w+ly)\s+){0,3}"
_VERBS = r"(?:tried|tested|used(?!\s+to\b)|loved|bought|purchased|ordered|tasted)"
_ONGOING = r"(?:been|was|were|am|are)\s+(?:trying|testing|using|loving)"

CLAIM = re.compile(
    rf"\b{_SUBJECT}\s+{_ADVERBS}(?:{_VERBS}|{_ONGOING})\b"
    rf"|\b(?:i['’]m|we['’]re)\s+{_ADVERBS}(?:using|loving|testing|trying(?!\s+to\b))\b"
    rf"|\b(?:after|since|been)\s+(?:\w+\s+){{0,3}}(?:using|testing|trying(?!\s+to\b))\b"
    rf"|(?:^|(?<=[.!?…\n]\s)){_ADVERBS}(?:tried|tested|bought|loved|used(?!\s+to\b))\b"
    r"|\btried[\s-]+and[\s-]+(?:tested|true)\b"
    r"|\bmy\s+(?:honest\s+)?(?:review|verdict)\s+after\b",
    re.IGNORECASE,
)
