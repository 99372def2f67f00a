"""Rows of instruction, preference and reward sets as conversations of one form, checked row by row.

    layout        columns                                                      meta
    instruction   instruction|prompt|question|query (+ input|context,          messages
                  history, system), output|response|completion|answer
    messages      messages: [{role, content}]                                  messages
    sharegpt      conversations: [{from, value}]                               messages
    preference    prompt|question|instruction|messages|conversations,          prompt, chosen, rejected
                  chosen, rejected: text, one message or a list of them
    hh            chosen, rejected: whole dialogues of "\\n\\nHuman: …\\n\\nAssistant: …"   prompt, chosen, rejected
    kto           prompt and completion, or messages; label                    prompt, completion, label
    reward        messages, or prompt and answer, or one text; reward|score    messages, reward
    prompts       prompt or messages, perhaps with an answer; only where asked messages: what may yet be answered

`messages`, `prompt`, `chosen`, `rejected` and `completion` are lists of {role, content} with the roles system, user, assistant and tool;
what else a message has (tool_calls, name) stays in it. A call in ShareGPT's role `function_call` becomes an assistant's message with
`tool_calls`. The text is the conversation with its roles named. Columns beside these stay in `meta` as they are.

A row that is no such conversation is a drop that says why. Cost: 30 to 60 µs a row of a few messages.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

# The parts of a conversation, and the columns that hold them where the recipe does not say, in order of preference.
PARTS = {
    "prompt": ("instruction", "prompt", "question", "query"),
    "input": ("input", "context", "passage"),
    "answer": ("output", "response", "completion", "answer"),
    "history": ("history",),
    "system": ("system", "system_prompt"),
    "messages": ("messages", "conversations", "conversation"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "label": ("label", "kto_tag"),
    "reward": ("reward", "score"),
    "tools": ("tools",),
}
# A recipe may name a part by any of these.
PART_OF = {name: part for part, names in PARTS.items() for name in (part, *names)}
# Which of them a layout reads.
_OF = {
    "instruction": ("prompt", "input", "answer", "history", "system", "tools"),
    "messages": ("messages", "system", "tools"),
    "sharegpt": ("messages", "system", "tools"),
    "preference": ("prompt", "input", "history", "system", "messages", "chosen", "rejected", "tools"),
    "hh": ("chosen", "rejected"),
    "kto": ("prompt", "input", "history", "answer", "system", "messages", "label", "tools"),
    "reward": ("prompt", "input", "answer", "history", "system", "messages", "reward", "tools"),
    "prompts": ("prompt", "input", "answer", "history", "system", "messages", "tools"),
}
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "ipython": "tool",
}
_CHOICES = {"options", "choices", "A", "B", "C", "D"}  # of multiple-choice questions: their answer is a letter

Message = dict[str, Any]


class Made(NamedTuple):
    """A conversation (kind, text, meta), or why a row is none (reason, evidence)."""

    kind: str | None = None
    text: str | None = None
    meta: Mapping[str, Any] = {}
    reason: str = ""
    evidence: str = "{}"


class _NoneError(Exception):
    """The row is no conversation."""

    def __init__(self, reason: str, **evidence: Any) -> None:
        super().__init__(reason)
        self.made = Made(reason=reason, evidence=orjson.dumps(evidence, default=str, option=orjson.OPT_NON_STR_KEYS).decode())


def layout_of(has: set[str], mapped: Mapping[str, str]) -> str:
    """The layout that columns speak for; `text` where they speak for none."""

    def given(part: str) -> bool:
        return part in mapped or any(name in has for name in PARTS[part])

    if given("chosen") and given("rejected"):
        return "preference" if given("prompt") or given("messages") or given("input") else "hh"
    if given("messages"):
        if given("label"):
            return "kto"
        if "reward" in mapped or "reward" in has:
            return "reward"
        return "messages" if mapped.get("messages", "messages") in has else "sharegpt"
    if has & _CHOICES and not mapped:
        return "text"
    if given("label") and ("completion" in has or "answer" in mapped) and given("prompt"):
        return "kto"
    if ("reward" in mapped or "reward" in has) and (given("prompt") or given("input")):
        return "reward"
    return "instruction" if given("answer") and (given("prompt") or given("input")) else "text"


def parts_of(layout: str, has: set[str], mapped: Mapping[str, str], text: str) -> dict[str, str]:
    """The column of each part that the layout reads."""
    found: dict[str, str] = {}
    for part in _OF[layout]:
        column = mapped.get(part) or next((name for name in PARTS[part] if name in has and name not in found.values()), None)
        if column is not None:
            found[part] = column
    if layout == "reward" and not found.keys() & {"prompt", "input", "answer", "messages"} and text in has:
        found["input"] = text
    return found


def read(layout: str, record: dict[str, Any], parts: Mapping[str, str], *, auto: bool) -> Made:
    """The row's conversation; the columns that it is made of are taken out of the record."""
    taken = {part: record.pop(column, None) for part, column in parts.items()}
    try:
        if layout == "kto" and auto and "messages" in parts and _truth(taken["label"]) is None:
            record[parts["label"]] = taken.pop("label")  # a label of another kind
            layout = "messages"
        meta = _READERS[layout](taken)
    except _NoneError as none:
        return none.made
    except RecursionError:
        return Made(reason="too_deep")
    if taken.get("tools") not in (None, "", []):
        meta["tools"] = taken["tools"]
    instruction = layout in ("instruction", "messages", "sharegpt", "prompts")
    return Made("instruction" if instruction else "preference", _readable(meta), meta)


# -- layouts -----------------------------------------------------------------------------------------------------------------------


def _instruction(taken: dict[str, Any]) -> dict[str, Any]:
    return {"messages": _whole([*_prompt(taken), *_answer(taken.get("answer"))])}


def _messages(taken: dict[str, Any]) -> dict[str, Any]:
    return {"messages": _whole(_with_system(_list(taken.get("messages")), taken))}


def _preference(taken: dict[str, Any]) -> dict[str, Any]:
    before = _prompt(taken)
    chosen, rejected = (_side(taken.get(side), side) for side in ("chosen", "rejected"))
    if chosen[0]["role"] != "assistant" and rejected[0]["role"] != "assistant":
        # Both are whole conversations, and the prompt repeats what they begin with.
        before = _with_system([], taken) if chosen[0]["role"] != "system" else []
        common = _common(chosen, rejected)
        before, chosen, rejected = [*before, *chosen[:common]], chosen[common:], rejected[common:]
    return _pair(before, chosen, rejected)


def _hh(taken: dict[str, Any]) -> dict[str, Any]:
    sides = []
    for side in ("chosen", "rejected"):
        value = taken.get(side)
        if not isinstance(value, str):
            sides.append(_side(value, side))
        elif (dialogue := _dialogue(value)) is None:
            raise _NoneError("no_dialogue", column=side, begins=value[:80])
        else:
            sides.append(dialogue)
    common = _common(*sides)
    return _pair(sides[0][:common], sides[0][common:], sides[1][common:])


def _pair(prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> dict[str, Any]:
    if chosen == rejected:
        raise _NoneError("same_answers")
    if not prompt:
        raise _NoneError("empty_prompt")
    for side, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer or answer[0]["role"] not in ("assistant", "tool"):
            raise _NoneError("prompts_differ" if answer else "empty_answer", column=side)
        _whole([*prompt, *answer])
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _kto(taken: dict[str, Any]) -> dict[str, Any]:
    label = _truth(taken.get("label"))
    if label is None:
        raise _NoneError("no_label", found=_short(taken.get("label")))
    if taken.get("messages") is not None and taken.get("answer") is None:
        messages = _messages(taken)["messages"]
        last = max(place for place, message in enumerate(messages) if message["role"] == "user") + 1
    else:
        before = _prompt(taken)
        messages, last = _whole([*before, *_answer(taken.get("answer"))]), len(before)
    return {"prompt": messages[:last], "completion": messages[last:], "label": label}


def _reward(taken: dict[str, Any]) -> dict[str, Any]:
    reward = _number(taken.get("reward"))
    if reward is None:
        raise _NoneError("no_reward", found=_short(taken.get("reward")))
    if taken.get("messages") is not None or taken.get("answer") is not None:
        messages = _whole([*_prompt(taken), *(_answer(taken["answer"]) if taken.get("answer") is not None else [])])
    else:  # one text to be judged, which may be a dialogue
        messages = _prompt(taken)
        _check_turns(messages)
    return {"messages": messages, "reward": reward}


def _prompts(taken: dict[str, Any]) -> dict[str, Any]:
    messages = _prompt(taken)
    given = taken.get("answer")
    if isinstance(given, list | dict) or _text(given, "answer").strip():
        messages = [*messages, *_answer(given)]
    _check_turns(messages)
    return {"messages": messages}


_READERS = {
    "instruction": _instruction,
    "messages": _messages,
    "sharegpt": _messages,
    "preference": _preference,
    "hh": _hh,
    "kto": _kto,
    "reward": _reward,
    "prompts": _prompts,
}


# -- parts -------------------------------------------------------------------------------------------------------------------------


def _prompt(taken: dict[str, Any]) -> list[Message]:
    """What stands before the answer."""
    if taken.get("messages") is not None:
        return _with_system(_list(taken["messages"]), taken)
    asked = taken.get("prompt")
    if isinstance(asked, list | dict):
        return _with_system(_list(asked), taken)
    texts = [text for text in (_text(asked, "prompt"), _text(taken.get("input"), "input")) if text.strip()]
    if not texts:
        raise _NoneError("empty_prompt")
    if len(texts) == 1 and (dialogue := _dialogue(texts[0])) is not None:
        return _with_system(dialogue, taken)
    messages: list[Message] = []
    history = _decoded(taken.get("history"))
    for turn in history if isinstance(history, list) else []:
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(side, str) for side in turn):
            raise _NoneError("not_messages", column="history")
        messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    return _with_system([*messages, {"role": "user", "content": "\n\n".join(texts)}], taken)


def _answer(value: Any) -> list[Message]:
    if isinstance(value, list | dict):
        return _list(value)
    text = _text(value, "answer")
    if not text.strip():
        raise _NoneError("empty_answer")
    return [{"role": "assistant", "content": text}]


def _side(value: Any, side: str) -> list[Message]:
    """The chosen or rejected side: an answer, or a whole conversation."""
    value = _decoded(value)
    if isinstance(value, str) and (dialogue := _dialogue(value)) is not None:
        return dialogue
    messages = _answer(value)
    if not messages:
        raise _NoneError("empty_answer", column=side)
    return messages


def _with_system(messages: list[Message], taken: dict[str, Any]) -> list[Message]:
    system = _text(taken.get("system"), "system")
    if system.strip() and (not messages or messages[0]["role"] != "system"):
        return [{"role": "system", "content": system}, *messages]
    return messages


def _text(value: Any, column: str) -> str:
    if value is None or value != value:  # pandas writes NaN where there is nothing
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # the answer of a sum
    if not isinstance(value, str):
        raise _NoneError("not_text", column=column, found=type(value).__name__)
    return value


def _decoded(value: Any) -> Any:
    """A list that a CSV column holds as JSON."""
    if isinstance(value, str) and value.lstrip().startswith(("[{", "[[", "[ {", "[\n", "{")):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _list(value: Any) -> list[Message]:
    value = _decoded(value)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise _NoneError("not_messages", found=_short(value))
    return [_message(message) for message in value]


def _message(message: dict[Any, Any]) -> Message:
    rest = {key: value for key, value in message.items() if value is not None}
    given = rest.pop("role", None) or rest.pop("from", None)
    role = _ROLES.get(given.lower()) if isinstance(given, str) else None
    if role is None:
        raise _NoneError("unknown_role", found=_short(given))
    content = next((rest.pop(key) for key in ("content", "value", "text") if key in rest), "")
    if isinstance(content, list):  # parts of several media
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise _NoneError("not_text", found="parts that are no text")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise _NoneError("not_text", found=type(content).__name__)
    if given == "function_call" and (calls := _calls(content)):
        return {**rest, "role": role, "content": "", "tool_calls": calls}
    return {**rest, "role": role, "content": content}


def _calls(content: str) -> list[dict[str, Any]]:
    """The calls that a text of JSON asks for; none, if it is something else, which stays as it is."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return []
    value = value if isinstance(value, list) else [value]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in value):
        return []
    return [{"type": "function", "function": call} for call in value]


_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def _dialogue(text: str) -> list[Message] | None:
    """The messages of a dialogue written as one text; None when it is none."""
    begins = list(_TURN.finditer(text))
    if not begins or begins[0].start() != 0:
        return None
    ends = [turn.start() for turn in begins[1:]] + [len(text)]
    return [
        {"role": _ROLES[turn[1].lower()], "content": text[turn.end() : end].strip()} for turn, end in zip(begins, ends, strict=True)
    ]  # fmt: skip


def _common(one: list[Message], other: list[Message]) -> int:
    """Messages that both begin with, as far as the last one of them is not the assistant's."""
    common = 0
    while common < min(len(one), len(other)) and one[common] == other[common]:
        common += 1
    while common and one[common - 1]["role"] == "assistant":
        common -= 1
    return common


# -- checks ------------------------------------------------------------------------------------------------------------------------


def _whole(messages: list[Message]) -> list[Message]:
    """The messages, which must be a conversation that ends with an answer."""
    _check_turns(messages)
    if messages[-1]["role"] != "assistant":
        raise _NoneError("no_answer", last=messages[-1]["role"])
    return messages


def _check_turns(messages: list[Message]) -> None:
    """system? (user (assistant tool*)* …)*: no user and no assistant speaks twice in a row; a tool answers an assistant or another tool."""
    turns = messages
    while turns and turns[0]["role"] == "system":
        turns = turns[1:]
    if not turns:
        raise _NoneError("empty_prompt")
    before = "assistant"
    for place, message in enumerate(turns):
        role = message["role"]
        if role == "system" or (role == "tool" and before == "user") or (role == before and role != "tool"):
            raise _NoneError("roles_not_alternating", place=place, before=before if place else None, role=role)
        if place == 0 and role != "user":
            raise _NoneError("roles_not_alternating", place=0, role=role)
        if not message["content"].strip() and not message.get("tool_calls") and role != "tool":
            raise _NoneError("empty_answer" if role == "assistant" else "empty_prompt", place=place)
        before = role


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int | float) else ""
    return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(word)


def _number(value: Any) -> float | int | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return value


def _short(value: Any) -> str:
    return type(value).__name__ if isinstance(value, list | dict) else repr(value)[:60]


# -- text --------------------------------------------------------------------------------------------------------------------------


def _readable(meta: Mapping[str, Any]) -> str:
    """What is good to learn from: an answer that was rejected stands in `meta` alone."""
    if "messages" in meta:
        return "\n\n".join(_spoken(meta["messages"]))
    answer = () if meta.get("label") is False else meta.get("chosen") or meta.get("completion") or ()
    return "\n\n".join([*_spoken(meta["prompt"]), *_spoken(answer)])


def _spoken(messages: Iterable[Message]) -> Iterable[str]:
    for message in messages:
        content = message["content"]
        if message.get("tool_calls"):
            content = "\n".join(filter(None, (content, orjson.dumps(message["tool_calls"]).decode())))
        yield f"{message['role'].capitalize()}: {content}"
