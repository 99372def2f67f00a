"""The built-in templates without Jinja, for conversations of plain messages: 3 µs instead of 50.

What such a template writes around the messages' texts depends on their roles alone. So a conversation of marks in the place of its texts is
rendered by Jinja once for every sequence of roles, and what stands between the marks is kept. A template looks at texts in two ways only,
which are known here: it strips them, or it looks for a thought at an answer's beginning. Anything beyond role and content goes to Jinja.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from codedev.tokenize.chat.budget import RenderError

LONGEST = 64  # messages of a conversation with a plan
MOST = 4096  # plans kept
STRIPPED = ("llama2", "llama3")
_MARK = re.compile("\x02(\\d+)\x03")
ROLES = ("system", "user", "assistant", "tool")

Parts = tuple[str, list[tuple[int, int, int]], list[tuple[int, int]]]  # text, special tokens, loss
Render = Callable[[Sequence[Mapping[str, Any]]], Parts]


class _Shape(NamedTuple):
    """What stands around the texts of a sequence of roles. Places are in the literals alone, with the number of texts before each."""

    literals: list[str]  # one more than texts
    specials: list[tuple[int, int, int, int]]  # texts before, begin, end, id
    loss: list[tuple[int, int, int, int]]  # texts before its begin, begin, texts before its end, end


class Plan(NamedTuple):
    strip: bool
    shapes: dict[tuple[Any, ...], _Shape | None]  # None: not to be told by roles alone


def planned(plan: Plan, messages: Sequence[Mapping[str, Any]], prompt: bool, by_jinja: Render) -> Parts | None:
    """Text, special tokens and loss of the conversation; None where it needs Jinja."""
    if len(messages) > LONGEST:
        return None
    roles, texts = [], []
    for message in messages:
        content, role = message.get("content"), message.get("role")
        if (
            len(message) != 2
            or type(content) is not str
            or type(role) is not str
            or (role == "assistant" and content.startswith("<think>"))
        ):
            return None
        roles.append(role)
        texts.append(content.strip() if plan.strip else content)
    key = (prompt, *roles)
    if key not in plan.shapes:
        if len(plan.shapes) >= MOST:
            return None
        plan.shapes[key] = _shape(roles, by_jinja)
    shape = plan.shapes[key]
    if shape is None:
        return None
    parts, before, length = [shape.literals[0]], [0], 0
    for text, literal in zip(texts, shape.literals[1:], strict=True):
        parts += (text, literal)
        length += len(text)
        before.append(length)
    specials = [(begin + before[texts], end + before[texts], number) for texts, begin, end, number in shape.specials]
    loss = [(begin + before[first], end + before[last]) for first, begin, last, end in shape.loss]
    return "".join(parts), specials, loss


def _shape(roles: Sequence[str], by_jinja: Render) -> _Shape | None:
    try:
        text, specials, loss = by_jinja([{"role": role, "content": f"\x02{number}\x03"} for number, role in enumerate(roles)])
    except RenderError:
        return None  # Jinja says why, for each conversation
    marks = list(_MARK.finditer(text))
    if [int(mark[1]) for mark in marks] != list(range(len(roles))):
        return None

    def place(at: int) -> tuple[int, int]:
        """(texts before, characters of literals before)"""
        passed = [mark.end() - mark.start() for mark in marks if mark.end() <= at]
        return len(passed), at - sum(passed)

    return _Shape(
        literals=_MARK.sub("\x02", text).split("\x02"),
        specials=[(*place(begin), place(end)[1], number) for begin, end, number in specials],
        loss=[(*place(begin), *place(end)) for begin, end in loss],
    )
