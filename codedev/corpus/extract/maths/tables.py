"""Tables of MathML as LaTeX environments: matrices with their fences, cases, aligned equations, arrays with rules."""

from __future__ import annotations

from codedev.corpus.extract.maths.piece import Piece, attribute

_MATRICES = {
    ("(", ")"): "pmatrix",
    ("[", "]"): "bmatrix",
    ("{", "}"): "Bmatrix",
    ("|", "|"): "vmatrix",
    ("∣", "∣"): "vmatrix",
    ("‖", "‖"): "Vmatrix",
    ("∥", "∥"): "Vmatrix",
}
_MOST_COLUMNS = 1_000


def matrix(opening: Piece, table: Piece, closing: Piece) -> str:
    """A table between fences; empty where no environment has these fences, or rules must be drawn."""
    if table.kind != "table":
        return ""
    if opening.text == "{" and closing.kind == "null":
        return environment(table, "cases")
    name = _MATRICES.get((opening.text, closing.text), "")
    return environment(table, name) if name and not _ruled(table) else ""


def environment(table: Piece, name: str = "") -> str:
    """The table as an environment: the one named, else as its columns are aligned."""
    if len(table.parts) == 1 and table.parts[0].text and len(table.parts[0].parts) <= 3 and not name:
        line = table.parts[0]  # one numbered equation
        return "".join(cell.latex for cell in line.parts) + rf"\tag{{{_label(line.text)}}}"
    name = name or _environment(table)
    spec = f"{{{_columns(table)}}}" if name == "array" else ""
    return rf"\begin{{{name}}}{spec}{lines(table)}\end{{{name}}}"


def lines(table: Piece) -> str:
    rules = (_attribute(table, "rowlines") or "").split()
    framed = _attribute(table, "frame") in ("solid", "dashed")
    out: list[str] = [r"\hline "] if framed else []
    for i, line in enumerate(table.parts):
        cells = "&".join(cell.latex for cell in line.parts)
        if line.text:
            cells += rf"\quad {{{line.text}}}"
        if i:
            out.append(r"\\ ")
            if rules and rules[min(i - 1, len(rules) - 1)] in ("solid", "dashed"):
                out.append(r"\hline ")
        out.append("{}" + cells if cells[:1] in ("[", "*") else cells)
    return "".join([*out, r"\\ \hline" if framed else ""])


def _label(latex: str) -> str:
    """(1) of a numbered equation: \\tag puts the parentheses."""
    inside = latex.removeprefix(r"\text{").removesuffix("}") if latex.startswith(r"\text{") and latex.count("{") == 1 else latex
    return inside[1:-1] if inside.startswith("(") and inside.endswith(")") else inside


def _attribute(piece: Piece, name: str) -> str:
    return (attribute(piece.attrs, name) or "").strip().lower()


def _ruled(table: Piece) -> bool:
    said = table.attrs
    return ("columnlines" in said or "rowlines" in said or "frame" in said) and any(
        word in _attribute(table, name) for name in ("columnlines", "rowlines", "frame") for word in ("solid", "dashed")
    )


def _width(table: Piece) -> int:
    return min(max((len(line.parts) for line in table.parts), default=0), _MOST_COLUMNS)


def _alignments(table: Piece) -> list[str]:
    """left, right or center of each column, as the table says or its first row's cells."""
    said = _attribute(table, "columnalign").split()
    if not said and table.parts:
        said = [_attribute(cell, "columnalign") or _styled(cell) for cell in table.parts[0].parts[:_MOST_COLUMNS]]
    width = _width(table)
    return [said[min(i, len(said) - 1)] or "center" for i in range(width)] if said else ["center"] * width


def _styled(cell: Piece) -> str:
    style = _attribute(cell, "style") if "text-align" in cell.attrs else ""
    return next((side for side in ("left", "right") if "text-align:" + side in style.replace(" ", "").replace("-webkit-", "")), "")


def _environment(table: Piece) -> str:
    if _ruled(table):
        return "array"
    sides = _alignments(table)
    if len(sides) > 1 and all(side == ("left" if i % 2 else "right") for i, side in enumerate(sides)):
        return "aligned"
    if "true" in _attribute(table, "displaystyle"):
        return "gathered" if len(sides) == 1 and sides[0] == "center" else "aligned"
    return "matrix" if set(sides) <= {"center"} else "array"


def _columns(table: Piece) -> str:
    rules = _attribute(table, "columnlines").split()
    out = [side[:1] if side in ("left", "right") else "c" for side in _alignments(table)]
    for i in range(len(out) - 1):
        if rules and rules[min(i, len(rules) - 1)] in ("solid", "dashed"):
            out[i] += "|"
    edge = "|" if _attribute(table, "frame") in ("solid", "dashed") else ""
    return edge + "".join(out) + edge
