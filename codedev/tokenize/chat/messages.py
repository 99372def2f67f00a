"""The conversation of a document, out of its `meta` (corpus/sources/tables/conversations.py writes it there)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from codedev.tokenize.chat.render import Message


class Conversation(NamedTuple):
    """One document's. What its layout lacks is None."""

    messages: list[Message] | None = None
    prompt: list[Message] | None = None
    chosen: list[Message] | None = None
    rejected: list[Message] | None = None
    completion: list[Message] | None = None
    label: bool | None = None
    reward: float | None = None
    tools: list[dict[str, Any]] | None = None


LISTS = ("messages", "prompt", "chosen", "rejected", "completion")


def conversation(meta: str | None, system: str | None = None) -> Conversation | None:
    """None where `meta` holds no conversation. `system` is given to conversations without a system message."""
    try:
        record = orjson.loads(meta or "null")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict):
        return None
    found: dict[str, Any] = {}
    for key in LISTS:
        if record.get(key) is not None:
            found[key] = _messages(record[key])
            if found[key] is None:
                return None
    if not found:
        return None
    for key in ("messages", "prompt"):
        if system is not None and found.get(key) and found[key][0]["role"] != "system":
            found[key] = [{"role": "system", "content": system}, *found[key]]
    label, reward = record.get("label"), record.get("reward")
    return Conversation(
        **found,
        label=label if isinstance(label, bool) else None,
        reward=float(reward) if isinstance(reward, int | float) and not isinstance(reward, bool) else None,
        tools=_tools(record.get("tools")),
    )


def turns(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """(the system messages at the beginning, groups of messages that begin with a user's)."""
    first = next((place for place, message in enumerate(messages) if message["role"] != "system"), len(messages))
    groups: list[list[Message]] = []
    for message in messages[first:]:
        if message["role"] == "user" or not groups:
            groups.append([])
        groups[-1].append(message)
    return list(messages[:first]), groups


def _messages(value: Any) -> list[Message] | None:
    """Messages with a role and text each; None where they are not."""
    if not isinstance(value, list):
        return None
    found: list[Message] = []
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return None
        content = message.get("content")
        if content is None:
            content = ""
        if not isinstance(content, str):
            return None
        message = {**message, "content": content}
        calls = message.get("tool_calls")
        if calls:
            if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
                return None
            message["tool_calls"] = [_call(call) for call in calls]
        else:
            message.pop("tool_calls", None)
        found.append(message)
    return found


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """The call with its arguments as an object: templates print them as JSON, and would quote a text of JSON once more."""
    if isinstance(call.get("function"), dict):
        return {**call, "function": _call(call["function"])}
    if isinstance(call.get("arguments"), str):
        try:
            given = orjson.loads(call["arguments"])
        except orjson.JSONDecodeError:
            return call
        if isinstance(given, dict):
            return {**call, "arguments": given}
    return call


def _tools(value: Any) -> list[dict[str, Any]] | None:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value or not all(isinstance(tool, dict) for tool in value):
        return None
    return value
