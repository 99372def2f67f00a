"""The tokens of MathML, mi mn mo mtext ms and mspace, and neighbours that share a font."""

from __future__ import annotations

import re
from collections.abc import Sequence

from codedev.corpus.extract.maths.piece import EMPTY, Piece, attribute
from codedev.corpus.extract.maths.symbols import (
    BARS,
    CLOSING,
    COMMANDS,
    FUNCTIONS,
    INTEGRALS,
    LIMITS,
    OPENING,
    alphabet,
    joined,
    styled,
    symbol,
    words,
)

TOKENS = frozenset(("mi", "mn", "mo", "mtext", "ms"))
_MERGED = frozenset((r"\mathrm", r"\mathbf", r"\mathit", r"\mathsf", r"\mathtt"))
DELIMITERS = {"∥": r"\|", "∣": "|", "<": r"\langle", ">": r"\rangle"}
_OPERATORS = {"->": r"\to", "<-": r"\leftarrow", "=>": r"\Rightarrow", "<=": r"\leq", ">=": r"\geq", "!=": r"\neq", "...": r"\ldots",
              "||": r"\|", "mod": r"\bmod", "&&": r"\land", "⧸": r"\not"}  # fmt: skip
_NAMED_SPACES = {
    "veryverythinmathspace": 0.056,
    "verythinmathspace": 0.111,
    "thinmathspace": 0.167,
    "mediummathspace": 0.222,
    "thickmathspace": 0.278,
    "verythickmathspace": 0.333,
    "veryverythickmathspace": 0.389,
}
_SPACES = ((0.08, ""), (0.195, r"\,"), (0.25, r"\:"), (0.45, r"\;"), (0.75, r"\enspace"), (1.5, r"\quad"))
_BARE_TEXT = frozenset((".", ",", ";", ":", "/", "⧸"))  # punctuation, and a negation, that renderers call text
_BIG = ((1.5, r"\big"), (2.0, r"\Big"), (2.7, r"\bigg"), (99.0, r"\Bigg"))
_LENGTH = re.compile(r"([+-]?[\d.]{1,12})\s{0,4}([a-z%]{0,8})")
_EM = {"em": 1.0, "": 1.0, "ex": 0.43, "px": 1 / 16, "pt": 0.1, "mu": 1 / 18, "cm": 2.8, "mm": 0.28, "in": 7.2, "pc": 1.2, "rem": 1.0}


def token(tag: str, text: str, variant: str, attrs: str) -> Piece:
    """mi mn mo mtext ms."""
    text = text if text.isalnum() else " ".join(re.split(r"[ \t\r\n\f]+", text.strip(" \t\r\n\f")))
    if tag == "mo":
        return _operator(text, attrs)
    if tag == "mtext":
        return _text(text, variant)
    if tag == "ms":
        return Piece(words((attribute(attrs, "lquote") or '"') + text + (attribute(attrs, "rquote") or '"')), "text")
    if not text:
        return EMPTY
    if tag == "mn":
        return _number(text, variant)
    return _identifier(text, variant)


def _identifier(text: str, variant: str) -> Piece:
    if len(text) == 1:
        plain, own = alphabet(text)
        latex = styled(symbol(plain), own or ("" if variant == "italic" else variant))
        font, brace, _ = latex.partition("{")
        single = brace and plain.isalnum() and latex.count("{") == 1
        kind = "space" if not latex else "op" if text in LIMITS or text in INTEGRALS else "id"
        return Piece(latex, kind, plain if single else text, "", kind == "op", font if single else "")
    name = text.replace(" ", "").replace("\xa0", "").replace("\u2009", "").replace("\u202f", "")
    if name in FUNCTIONS:
        return Piece("\\" + name, "id", name)
    if not name.isalpha() or not name.isascii():
        if name.isalpha() and not any(alphabet(char)[1] or char in COMMANDS for char in name):
            return Piece(words(text), "id", name)  # words of another script
        return _characters(text, variant)
    if variant in ("", "normal"):
        if " " in text or name != text:
            return Piece(words(text), "text", text)
        return Piece(rf"\mathrm{{{name}}}", "id", name, "", False, r"\mathrm")
    return Piece(styled(name, variant), "id", name)


def _number(text: str, variant: str) -> Piece:
    latex = text if text.isascii() and text.isalnum() else joined([symbol(char) for char in text]).replace(",", "{,}")
    latex = latex if len(latex) == 1 or not any(alphabet(char)[1] for char in text) else joined(shared([_identifier(c, "") for c in text]))
    return Piece(styled(latex, variant) if variant not in ("", "normal") else latex, "num", text)


def _characters(text: str, variant: str) -> Piece:
    """A token of several characters that are no name."""
    pieces = [_identifier(char, variant) for char in text if not char.isspace() or char == "\xa0"]
    latex = joined(shared([piece for piece in pieces if piece.latex]))
    return Piece(latex, "row" if len(pieces) > 1 else "id", text)


def _text(text: str, variant: str) -> Piece:
    if not text:
        return EMPTY
    if not text.strip("\xa0 "):
        return Piece(r"\ " * len(text), "space")
    if text in _BARE_TEXT:
        return Piece(COMMANDS.get(text, text), "op", text)
    command = {"bold": r"\textbf", "italic": r"\textit", "monospace": r"\texttt", "sans-serif": r"\textsf"}.get(variant, r"\text")
    return Piece(words(text, command), "text", text)


def _operator(text: str, attrs: str) -> Piece:
    if not text:
        return Piece("", "null" if "fence" in attrs or "stretchy" in attrs or "form" in attrs else "space")
    stretch = not attrs or attribute(attrs, "stretchy") != "false"
    if len(text) == 1:
        latex, form = r"\not" if text in "⧸\u0338" else symbol(text), attribute(attrs, "form") if attrs else None
        fence = bool(attrs) and attribute(attrs, "fence") == "true"
        if fence and text in DELIMITERS:
            latex = DELIMITERS[text]
        big = _big(attrs) if attrs and "size" in attrs else ""
        if big and latex:
            return Piece(big + latex, "atom", text)
        kind = (
            "open" if text in OPENING else "close" if text in CLOSING else "bar" if text in BARS else "apply" if text == "\u2061" else "op"
        )
        if kind in ("bar", "op") and form in ("prefix", "postfix") and (fence or kind == "bar"):
            kind = "open" if form == "prefix" else "close"
        if fence and text in ("/", "\\", "↑", "↓"):
            kind = "bar"
        return Piece(latex, kind, text, "", text in LIMITS or text in INTEGRALS, "", attrs if stretch else attrs or "stretchy=false")
    name = text.replace(" ", "").replace("\xa0", "").replace("\u2009", "")
    if name in _OPERATORS:
        return Piece(_OPERATORS[name], "op", name)
    if name in FUNCTIONS:
        return Piece("\\" + name, "id", name)
    if name.isalpha() and name.isascii():
        inside = re.sub(r"\s", r"\\,", text)
        return Piece(rf"\operatorname{{{inside}}}", "id", inside, "", False, r"\mathrm" if name == text else "")
    if len(name) == 2 and name[1] in "\u0338⧸":
        return Piece({"=": r"\neq", "∈": r"\notin"}.get(name[0], r"\not" + symbol(name[0])), "op", name)
    if name.strip("\u2061\u2062\u2063\u2064") != name:
        return _operator(name.strip("\u2061\u2062\u2063\u2064"), attrs)
    return Piece(_characters(text, "").latex, "op", name)


def _length(text: str | None) -> float:
    """In em."""
    text = (text or "").strip().lower()
    if text in _NAMED_SPACES:
        return _NAMED_SPACES[text]
    if text.startswith("negative"):
        return -_NAMED_SPACES.get(text[8:], 0.0)
    found = _LENGTH.match(text)
    try:
        return float(found[1]) * _EM.get(found[2], 0.0) if found else 0.0
    except ValueError:
        return 0.0


def _big(attrs: str) -> str:
    size = _length(attribute(attrs, "minsize"))
    return next((name for most, name in _BIG if size <= most), "") if size > 1.05 else ""


def space(parts: Sequence[Piece], attrs: str) -> Piece:
    if attribute(attrs, "linebreak") == "newline":
        return Piece(r"\\ ", "space")
    width = _length(attribute(attrs, "width"))
    if width < 0:
        return Piece(r"\!" if width < -0.08 else "", "space")
    return Piece(next((name for most, name in _SPACES if width < most), r"\qquad"), "space")


def shared(parts: Sequence[Piece]) -> list[str]:
    """The LaTeX of each, neighbours in one font brought under one command."""
    out: list[str] = []
    font, held = "", [""]
    for part in parts:
        if font and part.font == font and not part.tail:
            held.append(part.text)
            out[-1] = ""
            continue
        if len(held) > 1:
            out.append(f"{font}{{{''.join(held)}}}")
        out.append(part.latex)
        font = part.font if part.font in _MERGED and not part.tail else ""
        held = [part.text]
    if len(held) > 1:
        out.append(f"{font}{{{''.join(held)}}}")
    return out
