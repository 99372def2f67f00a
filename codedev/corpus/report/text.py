"""Words and numbers as the report shows them, the same in HTML and Markdown."""

from __future__ import annotations

import re
from typing import Any

import orjson

EXCERPT = 400  # characters of a document that the report quotes
NONE = "–"  # a value that does not apply

# What can make a terminal or a browser show other text than is there: C0 and C1 controls, bidi marks, embeddings and isolates,
# zero-width characters, line and paragraph separators, interlinear and tag characters, noncharacters at the ends of the planes.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def neutral(text: str) -> str:
    """`text` with every invisible or direction-changing character spelled out as ⟨U+202E⟩; tabs and line feeds stay."""
    return _UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text.replace("\r\n", "\n"))


def clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def count(value: float) -> str:
    return f"{value:,.0f}"


def size(value: float) -> str:
    """Bytes in decimal units with three digits: 1.23 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if abs(value) < 999.5 or unit == "PB":
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:.{max(0, 3 - len(str(int(abs(value)))))}f} {unit}"
        value /= 1000
    raise AssertionError("the loop ends at PB")


def share(value: float) -> str:
    """A share of 1 as per cent; a share that is not nothing never reads 0 %, one that is not all never 100 %."""
    if 0 < value < 0.001:
        return "<0.1 %"
    if 0.999 < value < 1:
        return ">99.9 %"
    return f"{value * 100:.1f} %"


def number(value: float) -> str:
    """A score with three significant digits."""
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def shown(value: Any, unit: str) -> str:
    """`value` in its unit: count, bytes, share, number or text; None is a dash."""
    if value is None:
        return NONE
    formats = {"count": count, "bytes": size, "share": share, "number": number}
    return formats[unit](value) if unit in formats else str(value)


def counted(counts: dict[str, int], named: int | None = None) -> str:
    """`too_few_words 12 · not_html 3 · 4 more`, most frequent first, the first `named` by name."""
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    more = [f"{len(ranked[named:])} more"] if named is not None and ranked[named:] else []
    return " · ".join([f"{name} {number:,}" for name, number in ranked[:named]] + more)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def evidence(raw: str | None) -> str:
    """A dropped document's evidence for the eye: `{"q.gopher.words": 12, "bound": 50}` reads `gopher.words = 12, bound 50`."""
    if not raw or raw == "{}":
        return ""
    try:
        seen = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return clip(raw, 200)
    if not isinstance(seen, dict):
        return clip(str(seen), 200)
    parts = []
    for key, value in seen.items():
        if isinstance(value, float):
            value = number(value)
        elif isinstance(value, dict | list):
            value = orjson.dumps(value).decode()
        parts.append(f"{key} {value}" if key == "bound" else f"{key.removeprefix('q.')} = {value}")
    return clip(", ".join(parts), 200)
