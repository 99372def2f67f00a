r"""Whether two answers of mathematics are the same: as text once it is spelt alike, as lists, or as expressions with the same values.

    spelling     $…$, \left, \dfrac, \frac12, units in \text, degrees, percent signs, 1,000, `x = `
    lists        (1, 2) and [0, 1) in their order with their brackets, \{1, 2\}, `1 and 2` and 2 \pm 1 in any; matrices by rows
    values       + - * / ^, fractions, roots, |x|, n!, functions, π, e, i and letters: equal where both come to the same number where their
                 letters have the same values (Schwartz 1980, Zippel 1979), to 10⁻¹¹ of their size
    equations    the same up to a factor

Nothing is executed, and nothing takes long: arithmetic is that of floats, texts above MAX characters are compared as texts.
"""

from __future__ import annotations

import cmath
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

MAX = 400  # characters of an answer that is read as an expression
_DEPTH = 50
_POINTS = 4
_NEAR = 1e-11

_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)")
_NAMED = re.compile(r"^[a-z](?:_\{\w\})?(?:\([a-z]\))?(?:=|\\in(?![a-z]))(?=[^=]*$)")

Value = Callable[[dict[str, complex]], complex]


def equal(one: str, other: str) -> bool:
    """Whether two answers say the same. Both are what an answer holds, without the sentence around it."""
    a, b = spelt(one), spelt(other)
    if ("=" in a) != ("=" in b) or (r"\in" in a) != (r"\in" in b):
        a, b = (_NAMED.sub("", text) for text in (a, b))  # x = 5 where 5 is asked for
    if a == b:
        return a != ""
    if not a or not b or max(len(a), len(b)) > MAX:
        return False
    if _NUMBER.fullmatch(a) and _NUMBER.fullmatch(b):
        return Fraction(a) == Fraction(b)  # of any length
    try:
        return _same(a, b)
    except (_UnreadError, RecursionError, ValueError, OverflowError, ArithmeticError):
        return False


def spelt(text: str) -> str:
    """An answer as it is compared: one spelling of each thing, without blanks."""
    text = text[: 8 * MAX].strip()
    for mark in (r"\(", r"\)", r"\[", r"\]", "$", r"\!", r"\,", r"\;", r"\:", r"\quad", r"\qquad", r"\displaystyle", r"\limits", "−"):
        text = text.replace("\\$", "").replace(mark, "-" if mark == "−" else "")
    text = re.sub(r"\\(?:left|right|bigg?|Bigg?)(?=[^a-zA-Z]|$)\.?", "", text)
    text = re.sub(r"\\(?:math(?:rm|bf|it|cal|bb)|operatorname\*?|boldsymbol)\s*\{([^{}]*)\}", r"\1", text)
    text = _texts(text)
    text = re.sub(r"\\[dtc]frac", r"\\frac", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"(\\frac\s*\{[^{}]*\})\s*(\w)", r"\1{\2}", text)
    text = re.sub(r"\\sqrt\s*([0-9a-zA-Z])", r"\\sqrt{\1}", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degrees?|°", "", text)
    text = text.replace(r"\%", "").replace("%", "").replace(r"\cdot", "*").replace(r"\times", "*").replace("×", "*").replace(r"\div", "/")
    text = text.replace(r"\leq", r"\le").replace(r"\geq", r"\ge").replace(r"\neq", r"\ne").replace(r"\varnothing", r"\emptyset")
    text = text.replace("√", r"\sqrt").replace("π", r"\pi").replace("∞", r"\infty").replace("∪", r"\cup").replace("^{\\prime}", "'")
    text = text.replace("{,}", ",")
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))(?![^(\[{]*[)\]}])", "", text)  # 1,000; not (1,000)
    text = re.sub(r"_(\w)", r"_{\1}", text)
    text = re.sub(r"\s+", " ", text).strip().rstrip(".,;").strip()
    if not re.search(r"\\[a-zA-Z]", text) and re.fullmatch(r"\(?([A-Za-z])\)?", text):
        return text.strip("()").lower()  # (C)
    return (
        re.sub(r"(?<=\\[a-zA-Z]) (?=[^a-zA-Z])|(?<![a-zA-Z]) | (?![a-zA-Z])", "", text).lower()
        if "\\" in text
        else text.replace(" ", "").lower()
    )


def _texts(text: str) -> str:
    r"""Without \text{…} where something else stands before it, as units do; else what it says."""

    def said(found: re.Match[str]) -> str:
        inner = found[1].strip()
        if re.fullmatch(r"(?:and|or)", inner):
            return ","
        before = text[: found.start()].strip()
        return "" if before and re.search(r"[\w})\]]$", before) and "," not in before[-1:] else inner

    return re.sub(r"\\(?:text|mbox|textbf|textrm|textit|hbox)\s*\{([^{}]*)\}(?:\^\{?\d\}?)?", said, text)


def _same(a: str, b: str) -> bool:
    lists = _parts(a), _parts(b)
    if all(lists):
        return _same_lists(*lists)  # type: ignore[arg-type]
    if any(lists):
        return False
    if ("=" in a) != ("=" in b):
        return False
    if "=" in a:
        return _same_equations(a, b)
    return _same_values(_parse(a), _parse(b))


class _List(NamedTuple):
    open: str
    close: str
    items: list[str]


_SPLIT = re.compile(r"\\begin\{([pbv]?matrix)\}(.*)\\end\{\1\}", re.DOTALL)


def _parts(text: str) -> _List | None:
    """The items of a list, a matrix or a union; None where a text is one thing."""
    if found := _SPLIT.fullmatch(text):
        rows = [row for row in found[2].split(r"\\") if row.strip()]
        return _List("matrix", str(len(rows)), [item for row in rows for item in row.split("&")])
    if r"\cup" in text:
        return _List("union", "", text.split(r"\cup"))
    for begin, end in ((r"\{", r"\}"), ("(", ")"), ("[", "]"), ("(", "]"), ("[", ")")):
        if text.startswith(begin) and text.endswith(end):
            items = _split(text[len(begin) : len(text) - len(end)])
            if items is not None and (len(items) > 1 or begin == r"\{"):
                return _List(begin, end, items)
    items = _split(re.sub(r"(?<=[\w})])(?:and|or)(?=[\w\\(-])", ",", text) if "\\" not in text else text)
    if items is not None and len(items) > 1:
        return _List(r"\{", r"\}", items)
    if r"\pm" in text:
        return _List(r"\{", r"\}", [text.replace(r"\pm", "+", 1), text.replace(r"\pm", "-", 1)])
    return None


def _split(text: str) -> list[str] | None:
    """At commas outside of brackets; None where the brackets do not fit."""
    items, depth, begin = [], 0, 0
    for at, sign in enumerate(text):
        depth += sign in "([{"
        depth -= sign in ")]}"
        if depth < 0:
            return None
        if sign in ",;" and not depth:
            items.append(text[begin:at])
            begin = at + 1
    return [*items, text[begin:]] if not depth else None


def _same_lists(a: _List, b: _List) -> bool:
    if len(a.items) != len(b.items) or (a.open, a.close) != (b.open, b.close) or len(a.items) > 100:
        return False
    if a.open not in (r"\{", "union"):
        return all(equal(one, other) for one, other in zip(a.items, b.items, strict=True))
    left = list(b.items)
    for one in a.items:
        found = next((other for other in left if equal(one, other)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _same_values(a: Value, b: Value) -> bool:
    return all(_near(x, y) for x, y in _values(a, b))


def _same_equations(a: str, b: str) -> bool:
    """Both sides' differences are each other's multiples."""
    if a.count("=") != 1 or b.count("=") != 1:
        return False
    (left, right), (other, last) = ([_parse(side) for side in text.split("=")] for text in (a, b))
    differences = [_both(left, right, operator.sub), _both(other, last, operator.sub)]
    pairs = _values(*differences)
    factors = [x / y for x, y in pairs if abs(y) > _NEAR]
    return len(factors) == len(pairs) and all(_near(factor, factors[0]) for factor in factors)


def _values(a: Value, b: Value) -> list[tuple[complex, complex]]:
    found = []
    for number in range(_POINTS):
        # Irrational and unlike each other, so that no identity holds by chance.
        at = {name: complex(0.3 + (position * 0.6180339887 + number * 0.7548776662) % 1.7, 0.0) for position, name in enumerate(_NAMES)}
        found.append((a(at), b(at)))
    return found


def _near(x: complex, y: complex) -> bool:
    if cmath.isnan(x) or cmath.isnan(y):
        return False
    if cmath.isinf(x) or cmath.isinf(y):
        return x == y
    return abs(x - y) <= _NEAR * max(1e-300, abs(x), abs(y)) or (abs(x) < 1e-12 and abs(y) < 1e-12)


# ---- expressions

_NAMES = [chr(code) for code in range(ord("a"), ord("z") + 1) if chr(code) not in "ei"] + ["theta", "alpha", "beta", "phi", "lambda", "mu"]
_CONSTANTS = {"pi": math.pi, "e": math.e, "i": 1j, "infty": math.inf}
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "ln": cmath.log, "exp": cmath.exp, "arcsin": cmath.asin, "arccos": cmath.acos,
    "arctan": cmath.atan, "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh, "log": lambda x: cmath.log(x) / math.log(10),
    "cot": lambda x: 1 / cmath.tan(x), "sec": lambda x: 1 / cmath.cos(x), "csc": lambda x: 1 / cmath.sin(x), "lg": cmath.log10,
}  # fmt: skip
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*|\.\d+)|\\([a-z]+)|(sqrt|sin|cos|tan|ln|log|exp|pi)(?![a-z])|([a-z])|([-+*/^()\[\]{}|!_]))")
_CALLED = re.compile(r"(?<![a-z])[fgh]\(")
_LARGEST = 170  # of n!, as a float


class _UnreadError(ValueError):
    """A text that is no expression."""


def _parse(text: str) -> Value:
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            if not text[at:].strip():
                break
            raise _UnreadError(text)
        kind = ("number", "word", "word", "letter", "sign")[next(i for i in range(5) if found[i + 1] is not None)]
        tokens.append((kind, next(part for part in found.groups() if part is not None)))
        at = found.end()
    letters = "".join(kind[0] for kind, _ in tokens)
    if not tokens or "llll" in letters or _CALLED.search(text):  # words, or f(x) of an unknown f: no product of letters
        raise _UnreadError(text)
    reader = _Reader(tokens)
    value = reader.sum(0)
    if reader.at < len(tokens):
        raise _UnreadError(text)
    return value


class _Reader:
    """Recursive descent: sum, product (signs may be left out), power, atom."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens, self.at, self.bars = tokens, 0, 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self, sign: str) -> None:
        if self.peek() != ("sign", sign):
            raise _UnreadError(sign)
        self.at += 1

    def sum(self, depth: int) -> Value:
        if depth > _DEPTH:
            raise _UnreadError("too deep")
        value = self.product(depth)
        while self.peek() in (("sign", "+"), ("sign", "-")):
            minus = self.peek()[1] == "-"
            self.at += 1
            value = _both(value, self.product(depth), operator.sub if minus else operator.add)
        return value

    def product(self, depth: int) -> Value:
        minus = self.peek() == ("sign", "-")
        self.at += minus or self.peek() == ("sign", "+")
        whole = self.peek()[0] == "number" and self.at + 1 < len(self.tokens) and self.tokens[self.at + 1] == ("word", "frac")
        value = self.power(depth)
        if whole:  # a mixed number: 3\frac{1}{2}
            value = _both(value, self.power(depth), operator.add)
        while True:
            kind, sign = self.peek()
            if kind == "sign" and sign in "*/":
                self.at += 1
                value = _both(value, self.signed(depth), operator.truediv if sign == "/" else operator.mul)
            elif kind in ("number", "word", "letter") or (kind == "sign" and (sign in "([{" or (sign == "|" and not self.bars))):
                value = _both(value, self.power(depth), operator.mul)
            else:
                return _of(value, operator.neg) if minus else value

    def signed(self, depth: int) -> Value:
        if self.peek() == ("sign", "-"):
            self.at += 1
            return _of(self.power(depth), operator.neg)
        return self.power(depth)

    def power(self, depth: int) -> Value:
        value = self.atom(depth + 1)
        while self.peek() == ("sign", "!"):
            self.at += 1
            value = _of(value, _factorial)
        if self.peek() == ("sign", "^"):
            self.at += 1
            raised = self.signed(depth + 1)
            return _both(value, raised, operator.pow)
        return value

    def atom(self, depth: int) -> Value:
        if depth > _DEPTH:
            raise _UnreadError("too deep")
        kind, said = self.peek()
        self.at += 1
        if kind == "number":
            number = complex(float(said))
            return lambda at: number
        if kind == "letter" or (kind == "word" and said in (*_CONSTANTS, *_NAMES)):
            if said in _CONSTANTS:
                constant = complex(_CONSTANTS[said])
                return lambda at: constant
            return lambda at: at[said]
        if kind == "word":
            return self.called(said, depth)
        if said == "|":
            self.bars += 1
            value = self.sum(depth + 1)
            self.bars -= 1
            self.take("|")
            return _of(value, lambda x: complex(abs(x)))
        if said in "([{":
            bars, self.bars = self.bars, 0
            value = self.sum(depth + 1)
            self.bars = bars
            self.take({"(": ")", "[": "]", "{": "}"}[said])
            return value
        raise _UnreadError(said)

    def called(self, word: str, depth: int) -> Value:
        if word == "frac":
            return _both(self.atom(depth + 1), self.atom(depth + 1), operator.truediv)
        if word == "sqrt":
            degree: Value = _two
            if self.peek() == ("sign", "["):
                degree = self.atom(depth + 1)
            return _both(self.atom(depth + 1), degree, _root)
        if word == "binom":
            return _both(self.atom(depth + 1), self.atom(depth + 1), _binomial)
        if word not in _FUNCTIONS:
            raise _UnreadError(word)
        raised: Value | None = None
        base: Value | None = None
        while self.peek() in (("sign", "^"), ("sign", "_")):
            mark = self.peek()[1]
            self.at += 1
            if mark == "^":
                raised = self.signed(depth + 1)
            else:
                base = self.atom(depth + 1)
        function = _FUNCTIONS[word] if base is None or word != "log" else cmath.log
        value = _of(self.power(depth + 1), function)
        if base is not None and word == "log":
            value = _both(value, _of(base, cmath.log), operator.truediv)
        elif base is not None:
            raise _UnreadError(word)
        return value if raised is None else _both(value, raised, operator.pow)


def _both(a: Value, b: Value, how: Callable[[complex, complex], complex]) -> Value:
    return lambda at: how(a(at), b(at))


def _of(a: Value, how: Callable[[complex], complex]) -> Value:
    return lambda at: how(a(at))


def _two(at: dict[str, complex]) -> complex:
    return 2 + 0j


def _root(x: complex, n: complex) -> complex:
    if n == 2:
        return cmath.sqrt(x)
    if x.imag == 0 and x.real < 0 and n.real % 2 == 1:
        return complex(-((-x.real) ** (1 / n.real)))
    return x ** (1 / n)


def _factorial(x: complex) -> complex:
    if x.imag or x.real != int(x.real) or not 0 <= x.real <= _LARGEST:
        raise _UnreadError("!")
    return complex(math.factorial(int(x.real)))


def _binomial(n: complex, k: complex) -> complex:
    if any(x.imag or x.real != int(x.real) or not 0 <= x.real <= _LARGEST for x in (n, k)):
        raise _UnreadError("binom")
    return complex(math.comb(int(n.real), int(k.real)))
