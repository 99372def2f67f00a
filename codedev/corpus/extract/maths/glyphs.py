"""MathJax 3 output without its source, back to MathML: the tags say how it is built, the classes which characters it shows.

`mjx-mi`, `mjx-mfrac` and the others (in SVG: `data-mml-node`) are MathML's elements with layout boxes around their parts; a character is
the class `mjx-c1D465` of an `mjx-c` (in SVG: `data-c` of a `use` or `path`). One pass with a stack, of at most 20,000 elements.
Does not know what is drawn rather than written: long division, cancelled terms, and tables' lines.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

_CODE = re.compile(r"\bmjx-c([0-9A-F]{1,6})\b")
_TOKENS = frozenset({"mi", "mn", "mo", "mtext", "ms"})
_NODES = _TOKENS | {
    *("math", "mrow", "msup", "msub", "msubsup", "mfrac", "msqrt", "mroot", "munder", "mover", "munderover", "mtable", "mtr", "mtd"),
    *("mstyle", "mspace", "mpadded", "mphantom", "menclose", "mmultiscripts", "mlabeledtr", "merror"),
}
# Boxes that hold one part of a script or a fraction, and must stay one.
_PARTS = frozenset({"num", "den", "script", "base", "over", "under", "box", "root"})
_DRAWN = frozenset({"surd", "line", "nstrut", "dstrut", "assistive-mml", "strut", "tstrut", "labels"})
# In HTML what stands above comes before its base, and what stands below is a box with the base.
_OVER_FIRST = {"mjx-munderover": "mover", "mjx-mover": "mover", "mjx-mroot": "mroot"}
_MOST = 20_000


def mathml(container: Any) -> str | None:
    """The MathML that an `mjx-container` shows; None without characters."""
    written: list[str] = []
    shown = seen = 0
    stack: list[Any] = [container]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            written.append(node)
            continue
        seen += 1
        if seen > _MOST:
            return None
        name = _name(node)
        code = _character(node, name)
        if code is not None:
            written.append(escape(code))
            shown += 1
            continue
        if name in _DRAWN:
            continue
        children = list(node.children[:])
        if name == "script" and len(children) > 1:  # above first, then a spacer, then below
            children = [child for child in children if _name(child) != "spacer"][::-1]
            name = ""
        elif name in ("texatom", "TeXAtom") or name in _PARTS:
            name = "mrow"
        elif name == "utext":
            written.append(escape(node.text))
            shown += 1
            continue
        if node.tag in _OVER_FIRST:
            children.sort(key=lambda child: child.tag in ("mjx-over", "mjx-root"))
            name = _OVER_FIRST[node.tag]
        if name in _NODES and name != "math":
            stack.append(f"</{name}>")
            written.append(f"<{name}>")
        stack.extend(reversed(children))
    return f"<math>{''.join(written)}</math>" if shown else None


def _name(node: Any) -> str:
    tag = node.tag or ""
    if tag.startswith("mjx-"):
        return str(tag[4:])
    return str(node.getattr("data-mml-node") or "") if tag == "g" else ""


def _character(node: Any, name: str) -> str | None:
    if name == "c":
        found = _CODE.search(node.getattr("class") or "")
        point = int(found[1], 16) if found else 0
    elif node.tag in ("use", "path") and (code := node.getattr("data-c")):
        point = int(code, 16) if re.fullmatch("[0-9A-Fa-f]{1,6}", code) else 0
    else:
        return None
    return chr(point) if 32 <= point < 0x110000 and not 0xD800 <= point < 0xE000 else None
