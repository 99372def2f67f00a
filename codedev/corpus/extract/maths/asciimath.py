"""AsciiMath to LaTeX: the grammar of asciimath.org, in one pass over the symbols.

Each symbol is the longest name in the tables; brackets around a script, a fraction's parts or an argument are taken off.
0.5 to 3 µs a character. Beyond 32 levels brackets and functions are symbols like others. Colours are kept, classes and ids
of HTML are not. Any text of at most 1,000 characters gives LaTeX with its braces balanced, unless it would grow to four times its length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from codedev.corpus.extract.maths.symbols import joined, symbol, words

LONGEST = 1_000  # characters; 85 are the most in the page that the tests read
_MAX_DEPTH = 32  # each level copies what it holds
_GROWTH, _ALLOWED = 4, 200  # characters of LaTeX for one of the source, and besides: a matrix alone takes 40
_PAIRS = r"""
alpha alpha beta beta chi chi delta delta Delta Delta epsi epsilon epsilon epsilon varepsilon varepsilon eta eta gamma gamma Gamma Gamma
iota iota
kappa kappa lambda lambda Lambda Lambda lamda lambda Lamda Lambda mu mu nu nu omega omega Omega Omega phi phi varphi varphi Phi Phi pi pi
Pi Pi
psi psi Psi Psi rho rho sigma sigma Sigma Sigma tau tau theta theta vartheta vartheta Theta Theta upsilon upsilon xi xi Xi Xi zeta zeta
cdot cdot ast ast *** star star star // / \\ backslash backslash backslash setminus setminus xx times times times |>< ltimes ltimes ltimes
><| rtimes
rtimes rtimes |><| bowtie bowtie bowtie -: div div div divide div @ circ circ circ o+ oplus oplus oplus ox otimes otimes otimes o. odot
odot odot
sum sum prod prod ^^ wedge wedge wedge ^^^ bigwedge bigwedge bigwedge vv vee vee vee vvv bigvee bigvee bigvee nn cap cap cap nnn bigcap
bigcap bigcap
uu cup cup cup uuu bigcup bigcup bigcup != neq ne neq neq neq lt < gt > <= leq le leq leq leq lt= leq gt= geq >= geq ge geq geq geq mlt ll
ll ll
mgt gg gg gg -< prec prec prec -lt prec >- succ succ succ -<= preceq preceq preceq >-= succeq succeq succeq in in !in notin notin notin
sub subset
subset subset sup supset supset supset sube subseteq subseteq subseteq supe supseteq supseteq supseteq !sub not\subset !supe not\supseteq
-= equiv equiv equiv !-= not\equiv ~= cong cong cong ~~ approx approx approx ~ sim sim sim !~~ not\approx prop propto propto propto
not neg neg neg => implies implies implies <=> iff iff iff AA forall forall forall EE exists exists exists _|_ bot bot bot TT top top top
|-- vdash vdash vdash |== models models models int int oint oint del partial partial partial grad nabla nabla nabla +- pm pm pm -+ mp mp mp
O/ emptyset emptyset emptyset oo infty infty infty aleph aleph :. therefore therefore therefore :' because because because ... ldots ldots
ldots
cdots cdots vdots vdots ddots ddots frown frown /_\ triangle triangle triangle /_ angle angle angle diamond diamond square square
uarr uparrow uparrow uparrow darr downarrow downarrow downarrow rarr rightarrow rightarrow rightarrow -> to to to larr leftarrow leftarrow
leftarrow
harr leftrightarrow leftrightarrow leftrightarrow rArr Rightarrow Rightarrow Rightarrow lArr Leftarrow Leftarrow Leftarrow hArr
Leftrightarrow
Leftrightarrow Leftrightarrow >-> rightarrowtail rightarrowtail rightarrowtail ->> twoheadrightarrow twoheadrightarrow twoheadrightarrow
>->> twoheadrightarrowtail twoheadrightarrowtail twoheadrightarrowtail |-> mapsto mapsto mapsto hookrightarrow hookrightarrow
hookleftarrow hookleftarrow
quad quad qquad qquad prime prime dagger dagger lfloor lfloor rfloor rfloor hbar hbar ell ell
"""
_CONSTANTS = {
    name: command if command in "/<>" else "\\" + command for name, command in zip(_PAIRS.split()[::2], _PAIRS.split()[1::2], strict=True)
}
_CONSTANTS |= {
    "*": r"\cdot", "**": r"\ast", "CC": r"\mathbb{C}", "NN": r"\mathbb{N}", "QQ": r"\mathbb{Q}", "RR": r"\mathbb{R}",
    "ZZ": r"\mathbb{Z}", "dx": "dx", "dy": "dy",
    "dz": "dz", "dt": "dt", "\\ ": r"\ ", "and": r"\text{ and }", "or": r"\text{ or }", "if": r"\text{if }", "'": "'",
    "|cdots|": r"|\cdots|", "|ldots|": r"|\ldots|",
    "mod": r"\bmod", "bmod": r"\bmod", ":=": ":=", ">->>": r"\twoheadrightarrow", "twoheadrightarrowtail": r"\twoheadrightarrow",
    "!sube": r"\nsubseteq",
    "Lim": r"\operatorname{Lim}", "lim": r"\lim", "min": r"\min", "max": r"\max", ",": ",", "%": r"\%",
}  # fmt: skip
# Functions take the brackets that follow as they stand, so that f(x)/2 divides all of it.
_NAMED = "sin cos tan sinh cosh tanh cot sec csc arcsin arccos arctan coth log ln det dim gcd exp deg hom ker arg inf".split()
_FUNCTIONS = {name: "\\" + name for name in _NAMED} | {
    name.capitalize(): "\\" + name
    for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "log", "ln")
}
_FUNCTIONS |= {name: rf"\operatorname{{{name}}}" for name in ("sech", "csch", "lcm", "lub", "glb")} | {"f": "f", "g": "g"}
_UNARY = {
    "sqrt": r"\sqrt", "hat": r"\hat", "bar": r"\overline", "overline": r"\overline", "vec": r"\vec", "tilde": r"\tilde",
    "dot": r"\dot", "ddot": r"\ddot",
    "ul": r"\underline", "underline": r"\underline", "ubrace": r"\underbrace", "underbrace": r"\underbrace",
    "obrace": r"\overbrace", "overbrace": r"\overbrace",
    "overarc": r"\overset{\frown}", "overparen": r"\overset{\frown}", "cancel": r"\cancel", "bb": r"\mathbf", "mathbf": r"\mathbf",
    "sf": r"\mathsf",
    "mathsf": r"\mathsf", "bbb": r"\mathbb", "mathbb": r"\mathbb", "cc": r"\mathcal", "mathcal": r"\mathcal", "tt": r"\mathtt",
    "mathtt": r"\mathtt",
    "fr": r"\mathfrak", "mathfrak": r"\mathfrak", "phantom": r"\phantom", "rm": r"\mathrm", "mathrm": r"\mathrm",
}  # fmt: skip
_AROUND = {"abs": ("|", "|"), "Abs": ("|", "|"), "norm": (r"\|", r"\|"), "floor": (r"\lfloor", r"\rfloor"), "ceil": (r"\lceil", r"\rceil")}
_BINARY = frozenset(("frac", "root", "stackrel", "overset", "underset", "color", "class", "id"))
_LEFT = {"(": "(", "[": "[", "{": r"\{", "(:": r"\langle", "langle": r"\langle", "<<": r"\langle", "{:": ".", "left(": "(", "left[": "["}
_RIGHT = {")": ")", "]": "]", "}": r"\}", ":)": r"\rangle", "rangle": r"\rangle", ">>": r"\rangle", ":}": ".", "right)": ")", "right]": "]"}
_BARS = {"|": "|", "||": r"\|"}
_INFIX = frozenset("/^_")
_TEXT = frozenset(('"', "text", "mbox"))
_KINDS: dict[str, str] = {}
for _kind, _names in (
    ("constant", _CONSTANTS), ("function", _FUNCTIONS), ("unary", _UNARY), ("around", _AROUND), ("binary", _BINARY),
    ("left", _LEFT), ("right", _RIGHT),
    ("bar", _BARS), ("infix", _INFIX), ("text", _TEXT),
):  # fmt: skip
    _KINDS |= dict.fromkeys(_names, _kind)
_LENGTHS: dict[str, list[int]] = {}
for _name in sorted(_KINDS, key=len, reverse=True):
    if len(_name) not in _LENGTHS.setdefault(_name[0], []):
        _LENGTHS[_name[0]].append(len(_name))
_NUMBER = re.compile(r"[0-9]++(?:\.[0-9]++)?+|\.[0-9]++")
_BLANK = re.compile(r"[\s\x00-\x1f]++")
_ENDS = {"(": ")", "[": "]", "{": "}"}
_TALL = frozenset((r"\sum", r"\prod", r"\int", r"\oint", r"\bigcup", r"\bigcap", r"\bigvee", r"\bigwedge"))
_MATRICES = {
    ("(", ")"): "pmatrix", ("[", "]"): "bmatrix", (r"\{", r"\}"): "Bmatrix", ("|", "|"): "vmatrix",
    (r"\|", r"\|"): "Vmatrix", (".", "."): "matrix", (r"\{", "."): "cases",
}  # fmt: skip


class _Node(NamedTuple):
    latex: str
    tall: bool = False
    left: str = ""  # of a group, its brackets and
    right: str = ""
    parts: tuple[_Node, ...] = ()  # what stands between them; of an unclosed bar, all of it


def latex(text: str) -> str:
    """An AsciiMath expression as LaTeX without delimiters; empty where it is too long to be one, or nothing but what makes LaTeX long."""
    if len(text) > LONGEST:
        return ""
    reader = _Reader(_tokens(text))
    out: list[_Node] = []
    while reader.at < len(reader.tokens):  # a closing bracket without its opening one is a symbol
        out += _expression(reader, 0, "")
        if reader.at < len(reader.tokens):
            name = reader.next()[1]
            out.append(_Node("" if name == ":}" else _RIGHT.get(name) or _BARS.get(name, "")))
    made = _row(out).strip()
    if len(made) > _GROWTH * len(text) + _ALLOWED:
        return ""
    return made + " " if made.endswith("\\") else made  # a control space at the end


class _Reader:
    """The symbols and how far they are read."""

    __slots__ = ("at", "tokens")

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens, self.at = tokens, 0

    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def name(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def next(self) -> tuple[str, str]:
        self.at += 1
        return self.tokens[self.at - 1]


def _tokens(text: str) -> list[tuple[str, str]]:
    """Kind and name of every symbol, the longest name first."""
    out: list[tuple[str, str]] = []
    at, end = 0, len(text)
    unclosed: set[str] = set()  # ends that do not come any more
    while at < end:
        char = text[at]
        if blank := _BLANK.match(text, at):
            at = blank.end()
            continue
        if char == "\\" and at + 1 < end and text[at + 1] not in "\\ ":
            at += 1
            continue
        if number := _NUMBER.match(text, at):
            out.append(("number", number[0]))
            at = number.end()
            continue
        for length in _LENGTHS.get(char, ()):
            name = text[at : at + length]
            if name in _KINDS and len(name) == length:
                break
        else:
            out.append(("char", char))
            at += 1
            continue
        at += len(name)
        kind = _KINDS[name]
        if kind == "function" and len(name) == 1 and not (at < end and text[at] in "([{"):
            kind = "char"
        if kind == "text":
            if name != '"':
                while at < end and text[at] == " ":
                    at += 1
            closing = '"' if name == '"' else _ENDS.get(text[at : at + 1], "")
            start = at if name == '"' else at + 1
            stop = text.find(closing, start) if closing and closing not in unclosed else -1
            if stop < 0:
                if closing:
                    unclosed.add(closing)
                out += [("char", letter) for letter in name]
                continue
            out.append(("words", text[start:stop]))
            at = stop + 1
            continue
        out.append((kind, name))
    return out


def _expression(reader: _Reader, depth: int, bar: str) -> list[_Node]:
    """Intermediate expressions and their fractions up to a closing bracket, or the bar that is open."""
    out: list[_Node] = []
    while (kind := reader.kind()) and kind != "right" and not (kind == "bar" and reader.name() == bar):
        node = _intermediate(reader, depth)
        if reader.kind() == "infix" and reader.name() == "/":
            reader.next()
            below = _bare(_intermediate(reader, depth)) if reader.kind() not in ("", "right") else _Node("")
            node = _Node(rf"\frac{{{_bare(node).latex}}}{{{below.latex}}}", True)
        if node.parts and not node.left:
            out += node.parts
        else:
            out.append(node)
    return out


def _intermediate(reader: _Reader, depth: int) -> _Node:
    """A simple expression with its scripts."""
    base = _simple(reader, depth)
    tail = ""
    for sign in "_^":
        if reader.kind() == "infix" and reader.name() == sign:
            reader.next()
            tail += sign + _script(_bare(_simple(reader, depth)).latex if reader.kind() not in ("", "right") else "")
    if not tail:
        return base
    latex = base.latex or "{}"
    if base.parts and not base.left:  # an unclosed bar: the scripts are its last symbol's
        return base._replace(parts=(*base.parts, _Node("{}" + tail)))
    return _Node((f"{{{latex}}}" if "^" in tail and latex.endswith("'") and len(latex) > 1 else latex) + tail, base.tall, "", "", ())


def _script(latex: str) -> str:
    return latex if len(latex) == 1 and latex.isalnum() and latex.isascii() else f"{{{latex}}}"


def _simple(reader: _Reader, depth: int) -> _Node:
    kind, name = reader.next()
    if kind == "constant":
        return _Node(_CONSTANTS[name], _CONSTANTS[name] in _TALL)
    if kind == "number":
        return _Node(name)
    if kind == "char":
        return _Node(symbol(name))
    if kind == "words":
        return _Node(words(name))
    if kind in ("infix", "right"):
        return _Node(symbol(name) if kind == "infix" else _RIGHT[name].strip("."))
    if depth >= _MAX_DEPTH:
        return _Node((_LEFT | _BARS | _FUNCTIONS).get(name, joined([symbol(char) for char in name])).strip("."))
    if kind in ("left", "bar"):
        return _group(reader, name, depth + 1)
    if kind == "function":
        return _function(reader, name, depth + 1)
    if kind == "binary":
        return _binary(name, _argument(reader, depth + 1), _argument(reader, depth + 1))
    inside = _argument(reader, depth + 1)
    if kind == "around":
        return _Node(_between(*_AROUND[name], inside), inside.tall)
    command = _UNARY[name]
    if command.startswith(r"\math") and inside.latex.startswith(r"\text{"):
        return _Node(rf"{command.replace('math', 'text').replace('textbb', 'mathbb')}{inside.latex[5:]}")
    return _Node(f"{command}{{{inside.latex}}}", inside.tall or name in ("sqrt", "ubrace", "obrace", "underbrace", "overbrace"))


def _argument(reader: _Reader, depth: int) -> _Node:
    return _bare(_simple(reader, depth)) if reader.kind() not in ("", "right") else _Node("")


def _function(reader: _Reader, name: str, depth: int) -> _Node:
    latex = _FUNCTIONS[name]
    tail = ""
    for sign in "_^":  # sin^2 x, log_2 x
        if reader.kind() == "infix" and reader.name() == sign:
            reader.next()
            tail += sign + _script(_argument(reader, depth).latex)
    if reader.kind() in ("", "right", "infix", "bar") or reader.name() == ",":
        return _Node(latex + tail)
    inside = _simple(reader, depth)
    return _Node(joined([latex + tail, inside.latex]), inside.tall)


def _binary(name: str, first: _Node, second: _Node) -> _Node:
    if name == "frac":
        return _Node(rf"\frac{{{first.latex}}}{{{second.latex}}}", True)
    if name == "root":
        index = f"{{{first.latex}}}" if "]" in first.latex else first.latex
        return _Node(rf"\sqrt[{index}]{{{second.latex}}}", True)
    if name in ("class", "id"):
        return _Node(second.latex, second.tall)
    if name == "color":
        colour = re.sub(r"[^A-Za-z0-9#]", "", first.latex.replace(r"\#", "#"))[:40]
        return _Node(rf"{{\color{{{colour}}}{second.latex}}}" if colour and "#" not in colour else second.latex, second.tall)
    command = r"\underset" if name == "underset" else r"\overset"
    return _Node(rf"{command}{{{first.latex}}}{{{second.latex}}}", True)


def _group(reader: _Reader, name: str, depth: int) -> _Node:
    """Brackets and what they hold: a matrix, a group, or an opening symbol that nothing closes."""
    bar = name if name in _BARS else ""
    left = _BARS.get(name) or _LEFT[name]
    inside = _expression(reader, depth, bar)
    if bar:
        if reader.kind() != "bar":
            return _Node(left, False, "", "", (_Node(left), *inside))
        right = _BARS[reader.next()[1]]
    elif reader.kind() != "right":
        return _Node(left, False, "", "", (_Node(left.strip(".")), *inside))
    else:
        right = _RIGHT[reader.next()[1]]
    if (rows := _matrix(inside, right)) is not None:
        return _Node(_tabular(rows, left, right), True)
    content = _Node(_row(inside), any(part.tall for part in inside))
    return _Node(_between(left, right, content), content.tall, left, right, (content,))


def _between(left: str, right: str, content: _Node) -> str:
    if content.tall and not left == right == ".":
        return joined([r"\left" + left, content.latex, r"\right" + right])
    return joined([left.strip("."), content.latex, right.strip(".")])


def _bare(node: _Node) -> _Node:
    """Without the brackets that only hold it together."""
    if node.left in ("(", "[", r"\{", ".") and node.right in (")", "]", r"\}", "."):
        return node.parts[0]
    return _Node(_row(list(node.parts)), node.tall) if node.parts and not node.left else node


def _matrix(parts: Sequence[_Node], right: str) -> list[list[str]] | None:
    """Rows in brackets of one kind with commas between and as many cells in each."""
    if not parts or not parts[0].left or len(parts) % 2 == 0:
        return None
    rows = parts[::2]
    brackets = (rows[0].left, rows[0].right)
    if brackets not in (("(", ")"), ("[", "]")) or (brackets[0] == "(" and right == r"\}"):
        return None
    if any((row.left, row.right) != brackets for row in rows) or any(comma.latex != "," or comma.left for comma in parts[1::2]):
        return None
    cells = [_cells(row.parts[0].latex) for row in rows]
    alike = all(len(row) == len(cells[0]) for row in cells)
    return cells if alike and (len(cells) > 1 or len(cells[0]) > 1) else None


_DEPTHS = re.compile(r"\\[a-z]++|\\.|[{}()\[\],]", re.DOTALL)


def _cells(latex: str) -> list[str]:
    """Split at the commas outside all brackets."""
    out, start, depth = [], 0, 0
    for found in _DEPTHS.finditer(latex):
        char = found[0]
        if char in ("{", "(", "["):
            depth += 1
        elif char in ("}", ")", "]"):
            depth = max(0, depth - 1)
        elif char == "," and not depth:
            out.append(latex[start : found.start()])
            start = found.end()
    return [*out, latex[start:]]


def _tabular(rows: list[list[str]], left: str, right: str) -> str:
    ruled = [i for i, cell in enumerate(rows[0]) if cell == "|" and i]
    columns = "".join("|" if i in ruled else "c" for i in range(len(rows[0])))
    lines = ["&".join(cell for i, cell in enumerate(row) if i not in ruled) for row in rows]
    body = r"\\ ".join("{}" + line if line[:1] in ("[", "*") else line for line in lines)
    name = "" if ruled else _MATRICES.get((left, right), "")
    if name:
        return rf"\begin{{{name}}}{body}\end{{{name}}}"
    inside = rf"\begin{{array}}{{{columns}}}{body}\end{{array}}" if ruled else rf"\begin{{matrix}}{body}\end{{matrix}}"
    return joined([r"\left" + left, inside, r"\right" + right])


def _row(parts: Sequence[_Node]) -> str:
    out: list[str] = []
    for part in parts:
        after_script = part.latex == "'" and out and "^" in out[-1]
        out.append(r"\prime" if after_script else _row(part.parts) if part.parts and not part.left else part.latex)
    return joined(out)
