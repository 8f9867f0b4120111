"""Examples of talk: a text of `mes_example`, or elizaOS' lists of messages."""

from __future__ import annotations

import re
from typing import Any

_START = re.compile(r"(?im)^[ \t]{0,20}<start>[ \t]{0,20}$")
_SPEAKER = re.compile(
    r"^(\{\{(?:char|user)\}\}|<(?:bot|user)>|[^\s:{}<>][^:\n{}<>]{0,60}):[ \t]{0,20}(.*)$"
)
_TO_ELIZA = {"{{user}}": "{{user1}}", "<user>": "{{user1}}", "{{char}}": "{{agentName}}"}
_TO_CARD = re.compile(r"(?i)\{\{user\d*\}\}")
_AGENT = re.compile(r"(?i)\{\{(?:agentname|name|char)\}\}")


def as_examples(text: str) -> list[list[dict[str, Any]]]:
    """Turn a text into conversations; lines before anybody speaks are left out."""
    conversations = []
    for block in _START.split(text):
        messages: list[dict[str, Any]] = []
        for line in block.strip().splitlines():
            if match := _SPEAKER.match(line):
                name = _TO_ELIZA.get(match[1].lower(), match[1])
                name = "{{agentName}}" if name.lower() in ("<bot>", "{{char}}") else name
                messages.append({"name": name, "content": {"text": match[2]}})
            elif messages:
                messages[-1]["content"]["text"] += f"\n{line}"
        if messages:
            conversations.append(messages)
    return conversations


def as_dialogue(examples: Any) -> str:
    """Turn conversations into a text; what is no message is passed over."""
    blocks = []
    for conversation in examples if isinstance(examples, list) else []:
        listed = conversation.get("examples") if isinstance(conversation, dict) else conversation
        messages = listed if isinstance(listed, list) else []
        lines = [line for message in messages if (line := _line(message))]
        if lines:
            blocks.append("\n".join(["<START>", *lines]))
    return "\n".join(blocks)


def _line(message: Any) -> str | None:
    if not isinstance(message, dict):
        return None
    speaker = message.get("name", message.get("user"))
    content = message.get("content")
    said = content.get("text") if isinstance(content, dict) else None
    if not (isinstance(speaker, str) and isinstance(said, str)):
        return None
    speaker = _AGENT.sub("{{char}}", _TO_CARD.sub("{{user}}", speaker))
    return f"{speaker}: {said}"
