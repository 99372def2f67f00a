"""What a rendering of a stranger's template may use.

    steps       a turn of a loop or a call of a macro takes one for every 32 nodes of its body; a call of a function, filter or test takes
                one. A rendering has STEPS of them and one more for every character of the conversation.
    characters  every string or list that an operator, a call or a filter makes is charged by its length, and so is what is searched or
                compared: a rendering may use CHARACTERS and GROWTH for every character of the conversation. A container counts to its
                depth, so that a list of one list twice does not grow without end. What can be told beforehand (`*`, `**`, replace, join,
                widths of formats) is refused before it is made.

What a single operation costs is bounded by these sizes and by that of the source, so that a rendering ends within seconds whatever the
template (tests/test_tokenize_chat_sandbox.py has the bombs). SECONDS is a last resort that stops the run instead of dropping a document,
since a clock must not decide what stands in the shards.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateError, Undefined

from codedev._errors import RunError
from codedev.tokenize.chat.told import Told, trusted

STEPS = 100_000
CHARACTERS = 16_000_000
GROWTH = 64
SECONDS = 60.0  # and one for every 100,000 characters
_WIDTH = 1000  # of a field in a format
_DIGITS = 30  # behind the point, of round
_BITS = 4096  # of an integer
_PIECE = 32  # what splitting off a piece is charged as


class LimitError(Exception):
    """A rendering asks for more time or memory than it may have."""


class RenderError(Exception):
    """This conversation cannot be rendered; `reason` is a drop reason: template_refuses, template_limit, turns_rewritten, …"""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def first_said(said: Mapping[str, Mapping[str, str]]) -> str:
    """An example for an error in one line, or nothing."""
    return next((f"; document {one['document']}: {one['said']}" for one in said.values()), "")


class Budget:
    """What a rendering may still use."""

    __slots__ = ("characters", "ends", "limit", "steps")

    def __init__(self, characters: int) -> None:
        self.steps = STEPS + characters
        self.characters = self.limit = CHARACTERS + GROWTH * characters
        self.ends = time.monotonic() + SECONDS + characters / 100_000

    def step(self, steps: int = 1) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise LimitError(f"it takes more than {STEPS} steps and one a character of the conversation")
        if self.steps & 63 == 0 and time.monotonic() > self.ends:
            raise RunError("the chat template takes minutes for one conversation. Use another template")

    def charge(self, characters: int) -> None:
        self.characters -= characters
        if self.characters < 0:
            raise LimitError(f"it makes more than {CHARACTERS} characters and {GROWTH} a character of the conversation")

    def made(self, value: Any) -> Any:
        """The value, charged for."""
        kind = type(value)
        if kind is str:
            self.charge(len(value))
        elif kind is Told:
            self.charge(len(value) + 16 * len(trusted(value)))
        elif kind in (list, tuple, dict):
            self.weight(value)
        elif isinstance(value, str):
            self.charge(len(value))
        return value

    def compared(self, value: Any) -> Any:
        """The value, charged for being read through."""
        if isinstance(value, str):
            self.charge(len(value) // 8)
        elif isinstance(value, list | tuple | dict):
            self.weight(value)
        return value

    def weight(self, value: Any) -> int:
        """Characters of a value to its depth, at most `limit`. The walk is charged for, not the characters: they are there already."""
        total = nodes = 0
        waiting = [value]
        while waiting:
            one = waiting.pop()
            nodes += 1
            if isinstance(one, str):
                total += len(one)
            elif isinstance(one, list | tuple):
                waiting.extend(one)
            elif isinstance(one, dict):
                waiting.extend(one)
                waiting.extend(one.values())
            if total + 8 * (nodes + len(waiting)) > self.limit:
                raise LimitError(f"it makes a list of more than {CHARACTERS} characters and {GROWTH} a character of the conversation")
        self.charge(8 * nodes)
        return total + 8 * nodes


_PRINTING = "trim upper lower title capitalize replace indent e escape forceescape wordcount truncate urlencode format".split()
_SCALARS = (str, int, float, type(None), Undefined, range)


def printable(value: Any) -> Any:
    """The value, which is printed. An iterator or a function would print where it lies in memory: other bytes in every run."""
    if not isinstance(value, _SCALARS):
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if isinstance(one, list | tuple):
                waiting.extend(one)
            elif isinstance(one, dict):
                waiting.extend(one)
                waiting.extend(one.values())
            elif not isinstance(one, _SCALARS):
                raise TemplateError(f"it prints a {type(one).__name__}, which is no text")
    return value


_WIDTHS = re.compile(r"\d+|\*")


def _check_widths(format_: str) -> None:
    if any(number == "*" or len(number) > 4 or int(number) > _WIDTH for number in _WIDTHS.findall(format_)):
        raise LimitError(f"it formats to a width of more than {_WIDTH}")


def _check_format(format_: str) -> None:
    """{:>1000} and {:{}}: no width that is large or given elsewhere."""
    for spec in re.findall(r"[:!]([^}]*)", format_):
        if "{" in spec:
            raise LimitError("it formats to a width that is given elsewhere")
        _check_widths(spec)


def check_binop(budget: Budget, operator: str, left: Any, right: Any) -> None:
    if operator == "%":
        if isinstance(left, str):
            _check_widths(left)
            budget.charge(len(left) + left.count("%") * budget.weight(printable(right)))
    elif operator == "*":
        for one, other in ((left, right), (right, left)):
            if isinstance(one, str | list | tuple) and isinstance(other, int) and other > 0:
                budget.charge(min((budget.weight(one) + 8) * other, 1 << 62))
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _BITS:
            raise LimitError(f"it multiplies to more than {_BITS} bits")
    elif isinstance(left, int) and isinstance(right, int) and left.bit_length() * max(right, 1) > _BITS:
        raise LimitError(f"it raises to more than {_BITS} bits")


def checked_method(budget: Budget, text: str, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of a method of `text`, after a look at how long its outcome will be."""
    if name in ("format", "format_map"):
        _check_format(text)
        budget.charge(len(text) + text.count("{") * (budget.weight(printable(args)) + budget.weight(printable(dict(kwargs)))))
    elif name == "join" and args:
        args = (_joinable(budget, text, args[0]), *args[1:])
    elif name == "replace" and len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str):
        _check_replace(budget, text, args[0], args[1])
    elif name in ("split", "rsplit", "splitlines"):
        separator = args[0] if args and isinstance(args[0], str) and args[0] else " "
        budget.charge(len(text) + (len(text) // 2 if separator == " " else text.count(separator)) * _PIECE)
    else:
        budget.charge(len(text))
    return args


def checked_filter(budget: Budget, name: str, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    if name in _PRINTING:
        printable((value, args))
    if name == "replace":
        old, new = (str(given) for given in (*args, *(kwargs[key] for key in ("old", "new") if key in kwargs), "", "")[:2])
        _check_replace(budget, str(value), old, new)
    elif name == "join":
        if "attribute" in kwargs or len(args) > 1:
            raise LimitError("it joins by an attribute. Use map(attribute=…) before join")
        value = _joinable(budget, str(args[0] if args else kwargs.get("d", "")), value)
    elif name == "format":
        text = str(value)
        _check_widths(text)
        budget.charge(len(text) + text.count("%") * (budget.weight(printable(args)) + budget.weight(printable(dict(kwargs)))))
    elif name == "indent":
        width = args[0] if args else kwargs.get("width", 4)
        width = len(width) if isinstance(width, str) else int(width)
        budget.charge(max(width, 0) * (1 + str(value).count("\n")))
    elif name == "round" and abs(int(args[0] if args else kwargs.get("precision", 0))) > _DIGITS:
        raise LimitError(f"it rounds to more than {_DIGITS} digits")
    elif name == "sum" and (len(args) > 1 or isinstance(kwargs.get("start", 0), list | tuple | str)):
        raise LimitError("it sums what is no number")
    elif name in ("truncate", "urlencode", "escape", "e", "forceescape") and isinstance(value, str):
        budget.charge(8 * len(value))
    return value, args


def _joinable(budget: Budget, separator: str, parts: Any) -> list[Any]:
    """The parts as a list, charged for what joining them makes."""
    found = []
    for part in parts:
        budget.step()
        found.append(part)
        budget.charge(len(separator) + (len(part) if isinstance(part, str) else budget.weight(printable(part))))
    return found


def _check_replace(budget: Budget, text: str, old: str, new: str) -> None:
    budget.charge(len(text) + (text.count(old) if old else len(text) + 1) * (len(new) + _PIECE))
