"""How many formulas of a page's gold text an extraction has: multisets of what stands between dollars in Markdown.

Compared are strings without white space, so that nothing is forgiven but layout; a line break at a formula's very end, which shows nothing,
and a last full stop's place inside or outside of the dollars are no difference. Does not compare display with inline.
"""

from __future__ import annotations

import re
from collections import Counter

_CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1[ \t]*$|(?<!\\)(`+)(?!`)[^\n]*?(?<!`)\2(?!`)", re.MULTILINE | re.DOTALL)
_FORMULA = re.compile(r"(?<!\\)\$\$((?:\\.|[^$\\])+)\$\$|(?<!\\)\$(?!\s)((?:\\.|[^$\\\n]|\n(?!\s*\n))+?)(?<!\s)\$(?!\d)", re.DOTALL)
_SPACE = re.compile(r"\s+")


def gold_formulas(markdown: str) -> list[str]:
    """What is in $...$ and $$...$$, outside code."""
    return [(found[1] or found[2]).strip() for found in _FORMULA.finditer(_CODE.sub(" ", markdown))]


def normalised(formula: str) -> str:
    formula = _SPACE.sub("", formula)
    while formula.endswith("\\") and not formula.endswith("\\\\"):
        formula = formula[:-1]
    return re.sub(r"(?<!\\)[.,;]+$", "", formula.removesuffix("\\\\"))


def score(gold_markdown: str, predicted_markdown: str) -> tuple[int, int, int]:
    """(matched, gold, predicted) formulas, as multisets."""
    gold = Counter(map(normalised, gold_formulas(gold_markdown)))
    predicted = Counter(map(normalised, gold_formulas(predicted_markdown)))
    return (gold & predicted).total(), gold.total(), predicted.total()
