"""Answers that can be checked, graded: 1 for right, 0 for wrong. No model and no torch: text in, numbers out.

    answer       the last number, \\boxed{…}, `#### …` or letter of a text is that of the gold answer
    unit_tests   code of a text passes unit tests, in the sandbox

Both are rewards of training (stages ppo, grpo) and tasks of evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from codedev.eval.equivalence import equal
from codedev.eval.sandbox import run_many
from codedev.eval.sandbox.outside import Policy

_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?|-?\.\d+")
_MARKED = re.compile(r"####\s*([^\n]*)")
_SAID = re.compile(r"(?:answer|result)\s*(?:is|=|:)\s*([^\n]*)", re.IGNORECASE)
_FENCE = re.compile(r"```(?:[pP]ython3?|py)?[^\S\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_LONGEST = 200_000  # characters looked at, the last ones


def answer(texts: Sequence[str], golds: Sequence[str]) -> list[float]:
    """1.0 where the final answer of a text equals the gold one: as numbers, as mathematics (equivalence.py), or as text."""
    right = [gold.strip() if short(gold) else final(gold) for gold in golds]
    return [float(same(_given(text, gold), gold)) for text, gold in zip(texts, right, strict=True)]


def final(text: str) -> str:
    r"""The final answer of a text: what follows the last `####` (GSM8K), stands in the last \boxed{…} (MATH), follows the last "answer is",
    or else the last number; all of it where there is none of these."""
    said = _marked(text)
    return _number_of(text[-_LONGEST:]) if said is None else said


def short(text: str) -> bool:
    """Whether a text is nothing but an answer."""
    return len(text) <= 100 and "\n" not in text.strip() and _marked(text) is None


def _given(text: str, gold: str) -> str:
    """The answer of a text to a question whose answer is `gold`: a number where that is one."""
    said = _marked(text)
    said = text[-_LONGEST:] if said is None else said
    return said if _value(gold) is None or _value(said) is not None else _number_of(said)


def _marked(text: str) -> str | None:
    text = text[-_LONGEST:]
    if marked := _MARKED.findall(text):
        return str(marked[-1]).strip()
    if (boxed := _boxed(text)) is not None:
        return boxed.strip()
    if said := _SAID.findall(text):
        return str(said[-1]).strip().rstrip(".")
    return None


def same(answer: str, gold: str) -> bool:
    """Equal as numbers (1,000 = 1000.0, 1/2 = 0.5), as text, or as mathematics."""
    numbers = (_value(answer), _value(gold))
    if None not in numbers:
        return numbers[0] == numbers[1]
    return _plain(answer) == _plain(gold) != "" or equal(answer, gold)


def unit_tests(texts: Sequence[str], checks: Sequence[str], *, seconds: float = 5.0, policy: Policy = "strict") -> list[float]:
    """1.0 where the code of a text (its first fenced block, or all of it) runs and then its checks (Python, such as asserts)."""
    programs = [f"{code(text)}\n\n{check}\n" for text, check in zip(texts, checks, strict=True)]
    return [float(outcome.passed) for outcome in run_many(programs, seconds=seconds, policy=policy)]


def code(text: str) -> str:
    """The first fenced block of Python of a text, or the text where it has none."""
    found = fenced(text)
    return text if found is None else found


def fenced(text: str) -> str | None:
    """The first fenced block of Python of a text."""
    found = _FENCE.search(text)
    return found[1] if found else None


def _boxed(text: str) -> str | None:
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    begin = text.index("{", start) + 1
    depth = 1
    for at in range(begin, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if not depth:
            return text[begin:at]
    return None


def _number_of(text: str) -> str:
    """The last number of a text, or the text where it has none."""
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else text.strip(" .$")


def _value(text: str) -> Fraction | None:
    plain = _plain(text).removesuffix("%").replace(",", "").lstrip("$")
    latex = re.fullmatch(r"(-?)\\[dt]?frac\{(\d{1,50})\}\{(\d{1,50})\}", plain)
    if latex:
        plain = f"{latex[1]}{latex[2]}/{latex[3]}"
    if len(plain) > 100 or not re.fullmatch(r"-?(\d+\.?\d*|\.\d+)(/\d+)?", plain):
        return None
    top, _, bottom = plain.partition("/")
    try:
        return Fraction(top) / Fraction(bottom or 1)
    except ZeroDivisionError:
        return None


def _plain(text: str) -> str:
    return re.sub(r"\s+|\\[!,;: ]|\\left|\\right|\\\$", "", text).strip("$").rstrip(".").lower()
