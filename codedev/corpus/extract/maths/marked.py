"""Formulas in elements that say so: pandoc, Sphinx, CKEditor, Stack Exchange, Zhihu, XenForo, JATS, and attributes that hold LaTeX.

An element's text is taken whole where it is in delimiters of its own, or where the element can be nothing but a formula (`tex-math`,
`data-tex`); a class that other things have too (`math`, `equation`) also asks that it reads like LaTeX. Linear in the text. Leaves alone
what holds markup, such as Wikipedia's `texhtml`.
"""

from __future__ import annotations

import re
from typing import Any

from codedev.corpus.extract.maths.delimiters import LONGEST, stripped
from codedev.corpus.extract.maths.images import reads
from codedev.corpus.extract.maths.rendered import Found

_ATTRIBUTES = ("data-tex", "data-latex", "data-formula", "data-equation", "data-math", "data-katex", "data-expr")
ATTRIBUTES = ", ".join(f"[{name}]" for name in _ATTRIBUTES)
TAGS = "tex, latex, tex-math, formula, math-field, math-renderer, dt-math, d-math, inline-formula > tex-math"
MATH_CLASSES = (
    "span.math, div.math, p.math, code.math, span.math-container, .math-tex, .mathjax-tex, .math-inline, .math-display, .math-block, "
    ".math_inline, .math_block, .mathjax-block, .mathjax-inline"
)
TEX_CLASSES = "span.tex, div.tex, span.latex, div.latex, .tex2jax, .arithmatex, .wp-katex-eq, .katex-eq, .js-math, .ltx_Math"
EQUATION_CLASSES = "span.equation, div.equation, span.formula, div.formula, p.formula"
_BLOCKS = frozenset({"div", "p", "figure", "center"})
_DISPLAY = re.compile(r"(?:^|[\s_-])(?:display(?:ed)?|block|mathblock)(?:[\s_-]|$)")
_INLINE = re.compile(r"(?:^|[\s_-])inline(?:[\s_-]|$)")
_BODY = re.compile(r"\\begin\{document\}(.*?)\\end\{document\}", re.DOTALL)
_SURE_CLASS = re.compile(r"math-tex|mathjax-tex|arithmatex|math-container|wp-katex-eq|katex-eq")


_WHOLE = frozenset({"html", "body", "article", "section", "main", "td", "th", "table", "ul", "ol"})
_SWITCH = re.compile(r"\s*(?:true|false|yes|no|on|off|\d+)\s*", re.IGNORECASE)
_SHOWN = 200  # characters that a short formula may be shown by


def by_attribute(element: Any) -> Found:
    told = next((value for name in _ATTRIBUTES if (value := element.getattr(name))), "")
    if not told or len(told) > LONGEST or (told[0] == "{" and '":' in told):
        return None  # settings in JSON
    if element.tag in _WHOLE or _SWITCH.fullmatch(told) or told[0] == "=":
        return None  # of a part of the page or a cell of a sheet, not of a formula
    if len(element.text or "") > 4 * len(told) + _SHOWN or element.query_selector("p, div, ul, ol, table, h1, h2, h3, h4, pre") is not None:
        return None  # it holds more than what a formula is shown by
    if not element.hasattr("data-tex") and not element.hasattr("data-latex") and not reads(told):
        return None
    one = stripped(told)
    if one is None or not one[0]:
        return None
    kind = element.getattr("class") or ""
    said = (element.getattr("data-display") or element.getattr("data-mode") or element.getattr("data-type") or "").lower()
    return one[0], _display(element, one[1], kind) or said in ("true", "block", "display")


def by_tag(element: Any) -> Found:
    text = element.text or ""
    if len(text) > 4 * LONGEST:
        return None
    if body := _BODY.search(text):
        text = body[1]
    one = stripped(text)
    if one is None or not one[0] or _holds_markup(element):
        return None
    if element.tag in ("latex", "tex", "formula") and one[1] is None and not reads(one[0]):
        return None
    said = (element.getattr("display") or element.getattr("mode") or "").lower()
    if element.tag == "formula" and not said and (element.getattr("class") or "").startswith("mathJaxEqu"):
        said = "block"  # XenForo's: the page shows each on a line of its own
    return one[0], bool(one[1]) or said in ("block", "display", "true") or element.hasattr("block")


def by_class(element: Any) -> Found:
    text = element.text or ""
    if not text.strip() or len(text) > LONGEST + 100 or _holds_markup(element):
        return None
    kind = element.getattr("class") or ""
    if " ignore" in kind:
        return None
    one = stripped(text)
    if one is None or not one[0] or one[0].count("$") > one[0].count("\\$"):
        return None
    if one[1] is None and not _SURE_CLASS.search(kind) and not reads(one[0]):
        return None
    return one[0], _display(element, one[1], kind)


def _display(element: Any, told: bool | None, kind: str) -> bool:
    if told is not None:
        return told or (element.tag == "div" and not _INLINE.search(kind) and "$" not in kind and bool(_DISPLAY.search(kind)))
    return not _INLINE.search(kind) and (bool(_DISPLAY.search(kind)) or element.tag in _BLOCKS)


def _holds_markup(element: Any) -> bool:
    inner = element.first_element_child
    return inner is not None and (inner.tag not in ("br", "wbr") or element.query_selector(":not(br):not(wbr)") is not None)
