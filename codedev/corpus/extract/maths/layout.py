"""The elements of presentation MathML, each from its converted children: a Piece of LaTeX and what its neighbours must know of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from codedev.corpus.extract.maths import tables
from codedev.corpus.extract.maths.piece import EMPTY, Piece, attribute
from codedev.corpus.extract.maths.symbols import (
    FUNCTIONS,
    INTEGRALS,
    LIMITS,
    joined,
)  # fmt: skip
from codedev.corpus.extract.maths.tokens import DELIMITERS, shared, space, token

_OVER = {
    "^": r"\hat", "ˆ": r"\hat", "\u0302": r"\hat", "¯": r"\bar", "ˉ": r"\bar", "‾": r"\bar", "―": r"\bar", "_": r"\bar",
    "\u0304": r"\bar", "\u0305": r"\bar",
    "→": r"\vec", "⃗": r"\vec", "⇀": r"\vec", "~": r"\tilde", "˜": r"\tilde", "\u0303": r"\tilde", "∼": r"\tilde", "˙": r"\dot",
    ".": r"\dot",
    "\u0307": r"\dot", "¨": r"\ddot", "..": r"\ddot", "\u0308": r"\ddot", "⃛": r"\dddot", "...": r"\dddot", "…": r"\dddot",
    "⃜": r"\ddddot", "ˇ": r"\check",
    "\u030c": r"\check", "˘": r"\breve", "\u0306": r"\breve", "´": r"\acute", "\u0301": r"\acute", "`": r"\grave", "\u0300": r"\grave",
    "˚": r"\mathring",
    "\u030a": r"\mathring", "⏞": r"\overbrace", "︷": r"\overbrace", "←": r"\overleftarrow", "↔": r"\overleftrightarrow",
    "⎴": r"\overbracket",
    "⏜": r"\overparen",
}  # fmt: skip
_WIDE = {r"\hat": r"\widehat", r"\bar": r"\overline", r"\vec": r"\overrightarrow", r"\tilde": r"\widetilde", r"\check": r"\widecheck"}
_UNDER = {
    "⏟": r"\underbrace", "︸": r"\underbrace", "_": r"\underline", "¯": r"\underline", "‾": r"\underline", "\u0332": r"\underline",
    "―": r"\underline",
    "\u0331": r"\underline", "ˉ": r"\underline", "→": r"\underrightarrow", "←": r"\underleftarrow", "↔": r"\underleftrightarrow",
    "⎵": r"\underbracket",
    "⏝": r"\underparen", "~": r"\utilde", "˜": r"\utilde",
}  # fmt: skip
_ARROWS = {"→": r"\xrightarrow", "⟶": r"\xrightarrow", "←": r"\xleftarrow", "⟵": r"\xleftarrow", "↔": r"\xleftrightarrow",
    "⇒": r"\xRightarrow",
           "⇐": r"\xLeftarrow", "⇔": r"\xLeftrightarrow", "↦": r"\xmapsto", "↪": r"\xhookrightarrow", "↩": r"\xhookleftarrow"}  # fmt: skip


def row(parts: Sequence[Piece], attrs: str = "") -> Piece:
    """Pieces side by side; one alone stays what it is."""
    kept = [part for part in parts if part.latex or part.kind in ("null", "apply", "table", "none", "tr", "cell", "content")]
    if len(kept) <= 1:
        return kept[0] if kept else EMPTY
    kept = _chosen(_named(kept))
    if len(kept) == 1:
        return kept[0]
    pairs, closers = _fences(kept)
    tall = any(part.tall or part.kind in ("table", "choose") for part in kept)
    done: list[Piece] = []
    heights = [0]
    for part in kept:
        heights.append(heights[-1] + (part.tall or part.kind in ("table", "choose")))
    skip = -1
    for i, part in enumerate(kept):
        if i <= skip:
            continue
        j = pairs.get(i, -1)
        if j >= 0 or i in closers:
            opener = i if j >= 0 else closers[i]
            inside = kept[opener + 1 : opener + 2] if pairs[opener] == opener + 2 else []
            if j >= 0 and inside and (made := tables.matrix(kept[i], inside[0], kept[j])):
                done.append(Piece(made + kept[j].tail, "atom", "", "", True))
                skip = j
                continue
            stretched = heights[pairs[opener]] > heights[opener + 1] and _stretches(kept[opener]) and _stretches(kept[pairs[opener]])
            done.append(_fence(part, r"\left" if j >= 0 else r"\right") if stretched else part)
        elif part.kind == "open" and part.text == "{" and i + 2 == len(kept) and kept[i + 1].kind == "table":
            done.append(Piece(tables.environment(kept[i + 1], "cases"), "atom", "", "", True))
            break
        else:
            done.append(_finished(part))
    whole = len(pairs) and pairs.get(0) == len(kept) - 1 and not kept[-1].tail
    return Piece(joined(shared(done)), "atom" if len(done) == 1 else "fenced" if whole else "row", "", "", tall)


def _chosen(parts: list[Piece]) -> list[Piece]:
    """One over another between parentheses, of any size, is a binomial coefficient."""
    if not any(part.kind == "choose" for part in parts):
        return parts
    out: list[Piece] = []
    for part in parts:
        if part.text == ")" and len(out) > 1 and out[-1].kind == "choose" and out[-2].text == "(":
            top, bottom = out.pop().parts
            out[-1] = Piece(rf"\binom{{{top.latex}}}{{{bottom.latex}}}{part.tail}", "atom", "", part.tail, True)
        else:
            out.append(part)
    return out


def _stretches(part: Piece) -> bool:
    return part.attrs == "" or attribute(part.attrs, "stretchy") != "false"


def _fence(part: Piece, side: str) -> Piece:
    bare = part.latex.removesuffix(part.tail) if part.tail else part.latex
    delimiter = DELIMITERS.get(part.text, bare) or "."
    return part._replace(latex=side + delimiter + part.tail, tall=True)


def _named(parts: list[Piece]) -> list[Piece]:
    """Names before an invisible application are operators; the application itself is nothing."""
    if not any(part.kind == "apply" for part in parts):
        return parts
    out: list[Piece] = []
    for part in parts:
        if part.kind != "apply":
            out.append(part)
        elif out and out[-1].font == r"\mathrm" and out[-1].kind == "id" and out[-1].latex.startswith(r"\mathrm"):
            names = [out.pop()]
            while out and out[-1].font == r"\mathrm" and not out[-1].tail and out[-1].kind == "id":
                names.append(out.pop())
            name = "".join(piece.text for piece in reversed(names))
            command = "\\" + name if name in FUNCTIONS else rf"\operatorname{{{name}}}"
            out.append(Piece(command + names[0].tail, "id", name, names[0].tail))
    return out


def _fences(parts: Sequence[Piece]) -> tuple[dict[int, int], dict[int, int]]:
    """Where each fence that opens is closed, and the reverse. A bar opens after an operator and closes the bar that is open."""
    pairs: dict[int, int] = {}
    waiting: list[int] = []
    last = len(parts) - 1
    for i, part in enumerate(parts):
        kind = part.kind
        if kind not in ("open", "close", "bar", "null"):
            continue
        before = parts[i - 1].kind if i else "open"
        top = parts[waiting[-1]] if waiting else None
        if kind == "bar":
            if top is not None and (top.kind == "null" or (top.text == part.text and before not in ("op", "open"))):
                kind = "close"
            elif i < last and not part.tail and before in ("op", "open", "null", "space"):
                kind = "open"
            elif top is not None and i == last and top.kind in ("open", "null") and attribute(part.attrs, "fence") == "true":
                kind = "close"
            else:
                continue
        elif kind == "null":
            kind = "close" if top is not None and i == last else "open"
        if kind == "open":
            waiting.append(i)
            continue
        while waiting and parts[waiting[-1]].kind == "bar" and parts[waiting[-1]].text != part.text and part.kind == "close":
            waiting.pop()
        if waiting:
            pairs[waiting.pop()] = i
    return pairs, {j: i for i, j in pairs.items()}


def _finished(part: Piece) -> Piece:
    if part.kind == "table":
        return Piece(tables.environment(part), "atom", "", "", True)
    if part.kind in ("tr", "cell"):
        return row(part.parts) if part.kind == "tr" else Piece(part.latex, "row", "", "", part.tall)
    if part.kind == "choose":
        return Piece(rf"{{{part.parts[0].latex}\atop {part.parts[1].latex}}}", "atom", "", "", True)
    return part


def finished(part: Piece) -> str:
    """The LaTeX of a whole formula."""
    latex = _finished(part).latex.strip()
    return latex + " " if latex.endswith("\\") and not latex.endswith("\\\\") else latex  # a control space at the end


def _argument(part: Piece) -> str:
    """In braces, for a command."""
    return f"{{{_finished(part).latex.strip(' ')}}}" if not part.latex.endswith("\\ ") else f"{{{part.latex}}}"


def _script(part: Piece) -> str:
    if part.kind == "table" and part.parts and all(len(line.parts) == 1 for line in part.parts):
        return rf"{{\substack{{{tables.lines(part)}}}}}"
    part = _finished(part)
    return part.latex if len(part.latex) == 1 and part.latex.isascii() and part.latex.isalnum() else f"{{{part.latex}}}"


def _base(part: Piece) -> str:
    part = _finished(part)
    if not part.latex:
        return "{}"
    return f"{{{part.latex}}}" if part.tail or part.kind in ("row", "space") or part.latex.endswith("'") else part.latex


def scripts(base: Piece, sub: Piece | None, sup: Piece | None) -> Piece:
    """A base with what stands at its feet and at its head."""
    tail = "_" + _script(sub) if sub is not None and sub.latex + sub.kind not in ("row", "none") else ""
    if sup is not None and sup.latex + sup.kind not in ("row", "none"):
        primes = sup.latex
        tail += (
            primes if primes.strip("'") == "" else r"^{\circ}" if primes == r"\circ" else "^" + _script(sup).replace("{'", r"{\prime ", 1)
        )
    if tail and not tail.strip("'") and base.tail.endswith("'"):
        head = base.latex  # one more prime
    elif not base.tail.strip("'"):
        head = base.latex if base.tail and tail.startswith("_") else _base(base)
    else:
        head = _base(base)
    tall = base.tall or base.kind == "table" or bool(sub and sub.tall) or bool(sup and sup.tall)
    if head == base.latex and tail and base.kind in ("id", "op", "open", "close", "bar", "num", "null", "atom", "fenced", "limits"):
        font = base.font if base.font and base.latex.startswith(r"\mathrm") else ""
        return Piece(
            head + tail,
            base.kind if base.kind in ("id", "op", "open", "close", "bar", "null") else "atom",
            base.text,
            base.tail + tail,
            tall,
            font,
            base.attrs,
        )
    return Piece(head + tail, "atom", "", tail or "^", tall)


def _accented(base: Piece, mark: Piece, table: dict[str, str], wide: bool) -> Piece | None:
    command = table.get(mark.text) if mark.kind in ("op", "id", "bar") and not mark.tail else None
    if mark.text in ("…", "...") and command and base.kind != "id":
        return None
    if command is None or (base.text in _ARROWS and base.kind == "op") or not base.latex:
        return None
    stretchy = attribute(mark.attrs, "stretchy") if mark.attrs else None
    one = base.kind in ("id", "num") and len(base.text) <= 1 and not base.tail
    if stretchy == "true" or (stretchy is None and not one) or (wide and mark.text in "¯‾―"):
        command = _WIDE.get(command, command)
    kind = "limits" if command in (r"\overbrace", r"\underbrace", r"\overbracket", r"\underbracket") else "atom"
    return Piece(command + _argument(base), kind, "", "", base.tall or kind == "limits")


def limits(base: Piece, under: Piece | None, over: Piece | None, attrs: str = "") -> Piece:
    """What stands below and above: accents, limits, labels of arrows, stacks."""
    under = under if under is not None and under.latex else None
    over = over if over is not None and over.latex else None
    if base.kind == "op" and base.text in _ARROWS and (over or under) and attribute(base.attrs, "stretchy") != "false":
        below = f"[{{{under.latex}}}]" if under else ""
        return Piece(_ARROWS[base.text] + below + (_argument(over) if over else "{}"), "op", base.text, "", True)
    if over and (made := _accented(base, over, _OVER, "false" in (attribute(over.attrs, "accent") or ""))):
        base, over = made, None
    if under and (made := _accented(base, under, _UNDER, False)):
        base, under = made, None
    if not over and not under:
        return base
    if base.kind == "limits" or base.text in LIMITS:
        return scripts(base, under, over)._replace(tall=True)
    if base.text in INTEGRALS:
        return scripts(base._replace(latex=base.latex + r"\limits"), under, over)._replace(tall=True)
    if base.kind == "id" and base.font == r"\mathrm" and len(base.text) > 1:
        return scripts(Piece(rf"\operatorname*{{{base.text}}}", "id", base.text), under, over)
    latex = _finished(base).latex
    if over:
        latex = rf"\overset{_argument(over)}{{{latex}}}"
    if under:
        latex = rf"\underset{_argument(under)}{{{latex}}}"
    return Piece(latex, "op" if base.kind == "op" else "atom", "", "", True)


def _nth(parts: Sequence[Piece], at: int) -> Piece:
    return parts[at] if len(parts) > at else EMPTY


def _with_rest(made: Piece, parts: Sequence[Piece], arity: int) -> Piece:
    """Children beyond what the element takes are kept after it."""
    return row([made, *parts[arity:]]) if len(parts) > arity else made


def _fraction(parts: Sequence[Piece], attrs: str) -> Piece:
    top, bottom = _nth(parts, 0), _nth(parts, 1)
    if attrs and attribute(attrs, "bevelled") == "true":
        return _with_rest(Piece(f"{_base(top)}/{_base(bottom)}", "row"), parts, 2)
    thickness = attribute(attrs, "linethickness") if attrs else None
    if thickness is not None and re.match(r"\s*0*\.?0*\s*[a-z%]*\s*$", thickness[:40]):
        made = Piece("?", "choose", "", "", True, "", "", (_finished(top), _finished(bottom)))
        return made if len(parts) <= 2 else _with_rest(made, parts, 2)
    return _with_rest(Piece(rf"\frac{_argument(top)}{_argument(bottom)}", "atom", "", "", True), parts, 2)


def _root(parts: Sequence[Piece], attrs: str) -> Piece:
    index = _finished(_nth(parts, 1)).latex
    index = f"[{{{index}}}]" if "]" in index or "[" in index else f"[{index}]" if index else ""
    return _with_rest(Piece(rf"\sqrt{index}{_argument(_nth(parts, 0))}", "atom", "", "", True), parts, 2)


def _square_root(parts: Sequence[Piece], attrs: str) -> Piece:
    return Piece(rf"\sqrt{_argument(row(parts))}", "atom", "", "", True)


def _style(parts: Sequence[Piece], attrs: str) -> Piece:
    inside = row(parts)
    if "displaystyle" in attrs and inside.kind == "atom" and inside.latex.startswith(r"\frac") and len([p for p in parts if p.latex]) == 1:
        size = {"true": r"\dfrac", "false": r"\tfrac"}.get(attribute(attrs, "displaystyle") or "", r"\frac")
        return inside._replace(latex=size + inside.latex[5:])
    return inside


def _fenced(parts: Sequence[Piece], attrs: str) -> Piece:
    opening = attribute(attrs, "open")
    closing = attribute(attrs, "close")
    separators = "".join((attribute(attrs, "separators") or ",").split()) if 'separators=""' not in attrs else ""
    inside: list[Piece] = []
    for i, part in enumerate(parts):
        if i and separators:
            inside.append(token("mo", separators[min(i - 1, len(separators) - 1)], "", ""))
        inside.append(part)
    left, right = (
        token("mo", (said if said is not None else other)[:8], "", "fence=true") for said, other in ((opening, "("), (closing, ")"))
    )
    return row([left._replace(kind="open" if left.text else "null"), *inside, right._replace(kind="close" if right.text else "null")])


def _enclosed(parts: Sequence[Piece], attrs: str) -> Piece:
    inside = row(parts)
    notation = set((attribute(attrs, "notation") or "longdiv").split()[:8])
    if {"updiagonalstrike", "downdiagonalstrike"} <= notation:
        command = r"\xcancel"
    else:
        command = next((name for key, name in _NOTATIONS.items() if key in notation), "")
    return Piece(command + _argument(inside), "atom", "", "", True) if command else inside


_NOTATIONS = {"box": r"\boxed", "roundedbox": r"\boxed", "circle": r"\boxed", "updiagonalstrike": r"\cancel",
    "downdiagonalstrike": r"\bcancel", "radical": r"\sqrt",
              "horizontalstrike": r"\cancel", "top": r"\overline", "bottom": r"\underline", "actuarial": r"\overline",
              "longdiv": r"\overline"}  # fmt: skip


def _multiscripts(parts: Sequence[Piece], attrs: str) -> Piece:
    made = _nth(parts, 0)
    at = next((i for i, part in enumerate(parts) if part.kind == "prescripts"), len(parts))
    after, before = parts[1:at], parts[at + 1 :]
    for i in range(0, len(after), 2):
        base = made if i == 0 else Piece("{}", "atom")
        scripted = scripts(base, after[i], _nth(after, i + 1))
        made = scripted if i == 0 else Piece(made.latex + scripted.latex, "row", "", "", made.tall)
    if not before:
        return made
    heads = [scripts(Piece("{}", "atom"), before[i], _nth(before, i + 1)).latex for i in range(0, len(before), 2)]
    return Piece(joined([*heads, made.latex]), "row", "", "", made.tall)


def _cell(parts: Sequence[Piece], attrs: str) -> Piece:
    inside = _finished(row(parts))
    return Piece(inside.latex, "cell", "", "", inside.tall, "", attrs)


def _line(parts: Sequence[Piece], attrs: str) -> Piece:
    cells = tuple(part if part.kind == "cell" else Piece(_finished(part).latex, "cell") for part in parts)
    return Piece("", "tr", "", "", True, "", attrs, cells)


def _labelled(parts: Sequence[Piece], attrs: str) -> Piece:
    line = _line(parts[1:], attrs)
    return line._replace(text=parts[0].latex) if parts else line


def _table(parts: Sequence[Piece], attrs: str) -> Piece:
    lines = tuple(part if part.kind == "tr" else _line([part], "") for part in parts)
    return Piece("?", "table", "", "", True, "", attrs, lines)


SCHEMATA: dict[str, Callable[[Sequence[Piece], str], Piece]] = {
    "mrow": row, "math": row, "mpadded": row, "merror": row, "semantics": lambda parts, attrs: _nth(parts, 0),
    "maction": lambda parts, attrs: _nth(parts, 0), "mphantom": lambda parts, attrs: Piece(rf"\phantom{_argument(row(parts))}", "atom"),
    "mstyle": _style, "mfrac": _fraction, "msqrt": _square_root, "mroot": _root, "mfenced": _fenced, "menclose": _enclosed,
    "mspace": space,
    "msub": lambda parts, attrs: _with_rest(scripts(_nth(parts, 0), _nth(parts, 1), None), parts, 2),
    "msup": lambda parts, attrs: _with_rest(scripts(_nth(parts, 0), None, _nth(parts, 1)), parts, 2),
    "msubsup": lambda parts, attrs: _with_rest(scripts(_nth(parts, 0), _nth(parts, 1), _nth(parts, 2)), parts, 3),
    "munder": lambda parts, attrs: _with_rest(limits(_nth(parts, 0), _nth(parts, 1), None), parts, 2),
    "mover": lambda parts, attrs: _with_rest(limits(_nth(parts, 0), None, _nth(parts, 1)), parts, 2),
    "munderover": lambda parts, attrs: _with_rest(limits(_nth(parts, 0), _nth(parts, 1), _nth(parts, 2)), parts, 3),
    "mmultiscripts": _multiscripts, "none": lambda parts, attrs: Piece("", "none"),
    "mprescripts": lambda parts, attrs: Piece("", "prescripts"),
    "mtable": _table, "mtr": _line, "mlabeledtr": _labelled, "mtd": _cell,
}  # fmt: skip
