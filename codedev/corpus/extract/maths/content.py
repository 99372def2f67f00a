"""Content MathML to LaTeX: what a formula means, written as it is commonly set. Operators outside the tables are applied by name."""

from __future__ import annotations

from collections.abc import Sequence

from codedev.corpus.extract.maths.piece import Piece, attribute
from codedev.corpus.extract.maths.symbols import FUNCTIONS, joined, symbol, words

LEAVES = frozenset(("ci", "cn", "csymbol"))
_CONSTANTS = {
    "pi": r"\pi", "infinity": r"\infty", "exponentiale": "e", "imaginaryi": "i", "eulergamma": r"\gamma", "emptyset": r"\emptyset",
    "true": r"\mathrm{true}",
    "false": r"\mathrm{false}", "notanumber": r"\mathrm{NaN}", "reals": r"\mathbb{R}", "integers": r"\mathbb{Z}",
    "rationals": r"\mathbb{Q}",
    "naturalnumbers": r"\mathbb{N}", "complexes": r"\mathbb{C}", "primes": r"\mathbb{P}",
}  # fmt: skip
# Infix operators: LaTeX and how tightly it binds.
_INFIX = {
    "plus": ("+", 5), "minus": ("-", 5), "times": ("", 6), "eq": ("=", 3), "neq": (r"\neq", 3), "lt": ("<", 3), "gt": (">", 3),
    "leq": (r"\leq", 3),
    "geq": (r"\geq", 3), "equivalent": (r"\equiv", 3), "approx": (r"\approx", 3), "in": (r"\in", 3), "notin": (r"\notin", 3),
    "subset": (r"\subseteq", 3),
    "prsubset": (r"\subset", 3), "notsubset": (r"\nsubseteq", 3), "notprsubset": (r"\not\subset", 3), "tendsto": (r"\to", 3),
    "factorof": (r"\mid", 3),
    "and": (r"\land", 2), "or": (r"\lor", 2), "xor": (r"\oplus", 2), "implies": (r"\implies", 1), "union": (r"\cup", 4),
    "intersect": (r"\cap", 4),
    "setdiff": (r"\setminus", 4), "cartesianproduct": (r"\times", 4), "compose": (r"\circ", 6),
    "vectorproduct": (r"\times", 6), "scalarproduct": (r"\cdot", 6),
    "outerproduct": (r"\otimes", 6), "rem": (r"\bmod", 5),
}  # fmt: skip
_AROUND = {"abs": ("|", "|"), "floor": (r"\lfloor", r"\rfloor"), "ceiling": (r"\lceil", r"\rceil"), "card": ("|", "|"),
    "conjugate": (r"\overline{", "}"),
           "mean": (r"\langle", r"\rangle")}  # fmt: skip
_NAMED = {"arccosh": "arccosh", "arcsinh": "arcsinh", "arctanh": "arctanh", "arccot": "arccot", "sech": "sech",
    "csch": "csch", "determinant": "det", "real": "Re",
          "imaginary": "Im", "divergence": "div", "curl": "curl", "sdev": "sd", "variance": "Var",
          "lcm": "lcm"}  # fmt: skip
_BIG = {"sum": r"\sum", "product": r"\prod", "int": r"\int", "limit": r"\lim", "forall": r"\forall", "exists": r"\exists"}
_PREFIX = {"not": (r"\neg", 7), "laplacian": (r"\nabla^{2}", 7), "grad": (r"\nabla", 7)}
_OTHER = frozenset(
    [
        "power",
        "root",
        "divide",
        "quotient",
        "factorial",
        "log",
        "ln",
        "exp",
        "diff",
        "partialdiff",
        "transpose",
        "inverse",
        "max",
        "min",
        "gcd",
        "arg",
        "selector",
        "median",
        "mode",
        "moment",
    ]
)
_OPERATORS = frozenset(_INFIX) | _AROUND.keys() | _NAMED.keys() | _BIG.keys() | _PREFIX.keys() | _OTHER | FUNCTIONS
_HELD = frozenset(
    [
        "bvar",
        "lowlimit",
        "uplimit",
        "degree",
        "logbase",
        "condition",
        "domainofapplication",
        "momentabout",
        "otherwise",
        "piece",
        "matrixrow",
    ]
)
_SETS = frozenset(
    ["apply", "reln", "interval", "set", "list", "vector", "matrix", "piecewise", "lambda", "bind", "cerror", "fn", "declare"]
)
ELEMENTS = LEAVES | frozenset(_CONSTANTS) | _OPERATORS | _HELD | _SETS
_CLOSURES = {"open": ("(", ")"), "open-closed": ("(", "]"), "closed-open": ("[", ")")}


def leaf(tag: str, text: str, attrs: str) -> Piece:
    """ci, cn or csymbol that holds text."""
    text = " ".join(text.split())
    kind = attribute(attrs, "type") or ""
    if tag == "cn":
        parts = text.split()
        if len(parts) == 2 and kind == "rational":
            return Piece(rf"\frac{{{_number(parts[0])}}}{{{_number(parts[1])}}}", "atom", "", "", True)
        if len(parts) == 2 and kind == "e-notation":
            return Piece(rf"{_number(parts[0])}\times 10^{{{_number(parts[1])}}}", "row")
        if len(parts) == 2 and kind.startswith("complex"):
            latex = (
                f"{_number(parts[0])}+{_number(parts[1])}i"
                if kind.endswith("cartesian")
                else f"{_number(parts[0])}e^{{i{_number(parts[1])}}}"
            )
            return Piece(latex, "row")
        return Piece(_number(text), "num", text)
    if tag == "csymbol" and text in _OPERATORS:
        return Piece("", "content", text)
    if len(text) <= 1:
        return Piece(symbol(text) if text else "", "id", text)
    if text in FUNCTIONS:
        return Piece("\\" + text, "id", text)
    if not text.isascii() and not text.isalpha():
        return Piece(joined([symbol(char) for char in text]), "row")
    return Piece(rf"\mathrm{{{text}}}" if text.isalpha() and text.isascii() else words(text), "id", text)


def element(tag: str, parts: Sequence[Piece], attrs: str) -> Piece:
    """Any element of content markup, from its converted children."""
    if tag in _CONSTANTS:
        return Piece(_CONSTANTS[tag], "id", tag)
    if tag in LEAVES:
        return Piece(joined([part.latex for part in parts]), "row" if len(parts) > 1 else "id")
    if tag in _HELD:
        cells = tuple(Piece(part.latex, "cell") for part in parts if part.latex)
        if tag == "matrixrow":
            return Piece("", "tr", "", "", True, "", "", cells)
        # a degree within a bound variable stays a part of its own
        return Piece(joined([part.latex for part in parts if part.text != "degree"]), "content", tag, "", False, "", "", tuple(parts))
    if tag in ("apply", "reln", "bind"):
        return _applied(parts)
    if tag in _SETS:
        return _collected(tag, parts, attrs)
    return Piece("", "content", tag)


def _number(text: str) -> str:
    return joined([symbol(char) for char in text])


def _bound(part: Piece, level: int) -> str:
    """With parentheses where it binds more loosely. Levels are told by font, which content markup has no other use for."""
    own = int(part.font) if part.font.isdigit() else 9
    return rf"\left({part.latex}\right)" if own < level and part.tall else f"({part.latex})" if own < level else part.latex


def _made(latex: str, level: int = 9, tall: bool = False) -> Piece:
    return Piece(latex, "row" if level < 9 else "atom", "", "", tall, str(level))


def _listed(parts: Sequence[Piece]) -> str:
    return ",".join(part.latex for part in parts)


def _applied(parts: Sequence[Piece]) -> Piece:
    if not parts:
        return Piece("")
    operator, rest = parts[0], list(parts[1:])
    held = {part.text: part for part in rest if part.kind == "content" and part.text in _HELD}
    arguments = [part for part in rest if not (part.kind == "content" and part.text in _HELD)]
    tall = any(part.tall for part in arguments)
    name = operator.text if operator.kind == "content" else ""
    if name in _BIG:
        return _big(name, held, arguments, tall)
    if name in _INFIX and arguments and not (len(arguments) == 1 and name not in ("minus", "plus")):
        return _infix(name, arguments, tall)
    if name in _AROUND:
        left, right = _AROUND[name]
        if tall and left[-1] != "{":
            left, right = r"\left" + left, r"\right" + right
        return _made(joined([left, _listed(arguments), right]), 9, tall)
    if name in _PREFIX:
        return _made(joined([_PREFIX[name][0], *(_bound(part, 7) for part in arguments)]), 7, tall)
    return _special(name, held, arguments, tall) or _named(operator, name, arguments, tall)


def _big(name: str, held: dict[str, Piece], arguments: list[Piece], tall: bool) -> Piece:
    variable, low, high, condition = (held[key].latex if key in held else "" for key in ("bvar", "lowlimit", "uplimit", "condition"))
    latex = _BIG[name]
    body = joined([_bound(part, 5 if name == "int" else 6) for part in arguments])
    if name == "int":
        latex += (f"_{{{low or condition}}}" if low or condition else "") + (f"^{{{high}}}" if high else "")
        return _made(joined([latex, body, rf"\,d{variable}" if variable else ""]), 6, True)
    if name in ("forall", "exists"):
        return _made(joined([latex, variable, r"\colon" if variable else "", body or condition]), 1, tall)
    joint = r"\to" if name == "limit" else "="
    below = condition or (joined([variable, joint, low]) if low and variable else low or variable)
    latex += (f"_{{{below}}}" if below else "") + (f"^{{{high}}}" if high else "")
    return _made(joined([latex, body]), 6, True)


def _infix(name: str, arguments: list[Piece], tall: bool) -> Piece:
    sign, level = _INFIX[name]
    if len(arguments) == 1:
        return _made(joined([sign, _bound(arguments[0], level + 1)]), level, tall)
    out: list[str] = []
    for i, part in enumerate(arguments):
        latex = _bound(part, level + (name in ("minus", "setdiff", "rem") and i > 0))
        if i and not (name == "plus" and latex.startswith("-")):
            out.append(r"\cdot" if name == "times" and latex[:1].isdigit() else sign)
        out.append(latex)
    return _made(joined(out), level, tall)


def _special(name: str, held: dict[str, Piece], arguments: list[Piece], tall: bool) -> Piece | None:
    """Operators with a layout of their own."""
    first = arguments[0] if arguments else Piece("")
    second = arguments[1] if len(arguments) > 1 else Piece("")
    if name == "power" and len(arguments) == 2:
        base = f"{{{first.latex}}}" if first.tail or (first.font.isdigit() and first.font == "8") else _bound(first, 9)
        return _made(f"{base}^{{{second.latex}}}", 8, tall)
    if name == "divide" and len(arguments) == 2:
        return _made(rf"\frac{{{first.latex}}}{{{second.latex}}}", 8, True)
    if name == "quotient" and len(arguments) == 2:
        return _made(rf"\left\lfloor\frac{{{first.latex}}}{{{second.latex}}}\right\rfloor", 9, True)
    if name == "root":
        degree = held["degree"].latex if "degree" in held else ""
        return _made(rf"\sqrt{f'[{degree}]' if degree and degree != '2' and ']' not in degree else ''}{{{first.latex}}}", 9, True)
    if name == "factorial":
        return _made(_bound(first, 9) + "!", 8, tall)
    if name == "exp":
        return _made(f"e^{{{first.latex}}}", 8, tall)
    if name == "log" and "logbase" in held:
        return _made(joined([rf"\log_{{{held['logbase'].latex}}}", _bound(first, 7)]), 7, tall)
    if name in ("transpose", "inverse"):
        return _made(_bound(first, 9) + ("^{T}" if name == "transpose" else "^{-1}"), 8, tall)
    if name == "selector" and len(arguments) > 1:
        return _made(f"{_bound(first, 9)}_{{{_listed(arguments[1:])}}}", 8, tall)
    if name in ("diff", "partialdiff") and arguments:
        d = "d" if name == "diff" else r"\partial"
        variable = held.get("bvar")
        if variable is None:
            return _made(_bound(first, 9) + "'", 8, tall)
        degree = next((part.latex for part in variable.parts if part.text == "degree"), held["degree"].latex if "degree" in held else "")
        power = f"^{{{degree}}}" if degree else ""
        top = joined([d + power, first.latex])
        return _made(rf"\frac{{{top}}}{{{joined([d, variable.latex])}{power}}}", 8, True)
    return None


def _named(operator: Piece, name: str, arguments: list[Piece], tall: bool) -> Piece:
    """f(x, y): a function by its name."""
    function = name and _NAMED.get(name, name)
    if function in FUNCTIONS:
        latex = "\\" + function
        if len(arguments) == 1 and arguments[0].kind in ("id", "num"):
            return _made(joined([latex, arguments[0].latex]), 7, tall)
    else:
        latex = rf"\operatorname{{{function}}}" if function else _bound(operator, 9)
    if not arguments:
        return _made(latex, 9, tall)
    inside = _listed(arguments)
    return _made(latex + (rf"\left({inside}\right)" if tall else f"({inside})"), 8 if function else 9, tall)


def _collected(tag: str, parts: Sequence[Piece], attrs: str) -> Piece:
    tall = any(part.tall for part in parts)
    if tag == "interval":
        left, right = _CLOSURES.get(attribute(attrs, "closure") or "", ("[", "]"))
        return _made(f"{left}{_listed(parts)}{right}", 9, tall)
    if tag in ("set", "list"):
        bound = [part for part in parts if part.text in ("bvar", "condition") and part.kind == "content"]
        conditions = [part.latex for part in bound if part.text == "condition"]
        inside = _listed([part for part in parts if part not in bound] or [part for part in bound if part.text == "bvar"])
        inside += r"\mid " + ",".join(conditions) if conditions else ""
        return _made(rf"\{{{inside}\}}" if tag == "set" else f"[{inside}]", 9, tall)
    if tag in ("vector", "matrix"):
        lines = ["&".join(cell.latex for cell in part.parts) if part.kind == "tr" else part.latex for part in parts]
        return _made(rf"\begin{{pmatrix}}{_rows(lines)}\end{{pmatrix}}", 9, True)
    if tag == "piecewise":
        lines = [
            r"&\text{otherwise}".join([part.latex, ""]) if part.text == "otherwise" else "&".join(cell.latex for cell in part.parts)
            for part in parts
        ]
        return _made(rf"\begin{{cases}}{_rows(lines)}\end{{cases}}", 9, True)
    if tag == "lambda":
        bound = [part for part in parts if part.text == "bvar" and part.kind == "content"]
        return _made(joined([_listed(bound), r"\mapsto", joined([part.latex for part in parts if part not in bound])]), 1, tall)
    return _made(joined([part.latex for part in parts]), 9, tall)


def _rows(lines: list[str]) -> str:
    return r"\\ ".join("{}" + line if line[:1] in ("[", "*") else line for line in lines)
