"""LaTeX of one formula brought to one form, so that two ways of writing it compare equal; and a checker of what converters write."""

# ruff: noqa: E501 -- tables
from __future__ import annotations

import re

from pylatexenc.latexwalker import LatexWalker

_TOKEN = re.compile(r"\\(?:[A-Za-z]+\*?|.)|[^\\\s]", re.DOTALL)
_DROPPED = {
    r"\left", r"\right", r"\big", r"\Big", r"\bigg", r"\Bigg", r"\bigl", r"\bigr", r"\Bigl", r"\Bigr", r"\biggl", r"\biggr", r"\bigm", r"\limits", r"\nolimits",
    r"\displaystyle", r"\textstyle", r"\scriptstyle", r"\,", r"\;", r"\:", r"\!", r"\ ", r"\quad", r"\qquad", r"\enspace", "~", r"\>", r"\middle", r"\nonumber",
    r"\mathopen", r"\mathclose", r"\mathrel", r"\mathbin", r"\mathord", r"\mathstrut", r"\smash", r"\/", r"\thinspace", r"\hfill", r"\-",
}  # fmt: skip
_SAME = {
    r"\le": r"\leq", r"\ge": r"\geq", r"\ne": r"\neq", r"\rightarrow": r"\to", r"\gets": r"\leftarrow", r"\dots": r"\ldots", r"\dotsc": r"\ldots", r"\land": r"\wedge",
    r"\dotsb": r"\cdots", r"\lor": r"\vee", r"\lnot": r"\neg", r"\|": r"\Vert", r"\parallel": r"\Vert", r"\lVert": r"\Vert", r"\rVert": r"\Vert", r"\mid": "|",
    r"\vert": "|", r"\lvert": "|", r"\rvert": "|", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lbrack": "[", r"\rbrack": "]", r"\ast": "*", r"\dfrac": r"\frac",
    r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\dbinom": r"\binom", r"\tbinom": r"\binom", r"\implies": r"\Rightarrow", r"\iff": r"\Leftrightarrow", r"\bm": r"\mathbf",
    r"\Longrightarrow": r"\Rightarrow", r"\Longleftrightarrow": r"\Leftrightarrow", r"\longrightarrow": r"\to", r"\longleftarrow": r"\leftarrow",
    r"\longmapsto": r"\mapsto", r"\varnothing": r"\emptyset", r"\text": r"\mathrm", r"\textrm": r"\mathrm", r"\textnormal": r"\mathrm", r"\mbox": r"\mathrm",
    r"\operatorname": r"\mathrm", r"\operatorname*": r"\mathrm", r"\textup": r"\mathrm", r"\hbox": r"\mathrm", r"\rm": r"\mathrm", r"\widehat": r"\hat",
    r"\overline": r"\bar", r"\widetilde": r"\tilde", r"\overrightarrow": r"\vec", r"\mathscr": r"\mathcal", r"\boldsymbol": r"\mathbf", r"\colon": ":", r"\square": r"\Box",
    r"\stackrel": r"\overset", r"\mathit": r"\mathrm", r"\textit": r"\mathrm", r"\textbf": r"\mathbf", r"\coloneqq": ":=", r"\Box": r"\Box", r"\owns": r"\ni",
    r"\textsf": r"\mathsf", r"\texttt": r"\mathtt", r"\emph": r"\mathrm", r"\slash": "/", r"\setminus": r"\backslash", r"\smallsetminus": r"\backslash", r"\bmod": "mod",
    r"\leadsto": r"\rightsquigarrow", r"\blacksquare": r"\Box", r"\Diamond": r"\diamond", r"\lozenge": r"\diamond", r"\models": r"\vDash", r"\triangledown": r"\nabla",
}  # fmt: skip
_ARGUMENTS = {
    r"\frac": 2, r"\binom": 2, r"\overset": 2, r"\underset": 2, r"\sqrt": 1, r"\hat": 1, r"\bar": 1, r"\vec": 1, r"\tilde": 1, r"\dot": 1, r"\ddot": 1, r"\mathbb": 1,
    r"\mathcal": 1, r"\mathfrak": 1, r"\mathsf": 1, r"\mathtt": 1, r"\mathbf": 1, r"\underline": 1, r"\underbrace": 1, r"\overbrace": 1, r"\check": 1, r"\phantom": 1,
    r"\xrightarrow": 1, r"\xleftarrow": 1, r"\boxed": 1,
}  # fmt: skip


def normal(tex: str) -> str:
    """One form: no space or size, one name for what looks the same, upright text as bare letters, scripts in braces, the lower one first."""
    tex = tex.replace(r"\right.", "").replace(r"\left.", "").replace("{cases}", "{matrix}").replace(r"\{\begin{matrix}", r"\begin{matrix}")
    tex = re.sub(r"\\not\s*\\in(?![a-z])", r"\\notin ", re.sub(r"\\left\s*\\\{\s*\\begin\{matrix\}", r"\\begin{matrix}", tex))
    tokens = [_SAME.get(token, token) for token in _TOKEN.findall(tex)]
    tokens = [token for token in tokens if token not in _DROPPED]
    text, rest = _sequence(tokens, 0, 0)
    assert rest >= len(tokens), tex
    return text


def _group(tokens: list[str], at: int, depth: int) -> tuple[str, int]:
    if at >= len(tokens):
        return "", at
    if tokens[at] == "{":
        text, at = _sequence(tokens, at + 1, depth + 1)
        return text, at + 1
    return _atom(tokens, at, depth)


def _atom(tokens: list[str], at: int, depth: int) -> tuple[str, int]:
    token = tokens[at]
    at += 1
    if token == "{":
        return _group(tokens, at - 1, depth)
    if token == r"\mathrm":
        return _group(tokens, at, depth)
    if count := _ARGUMENTS.get(token, 0):
        out = token
        if at < len(tokens) and tokens[at] == "[" and token in (r"\sqrt", r"\xrightarrow"):
            end = tokens.index("]", at) if "]" in tokens[at:] else at
            out += "[" + "".join(tokens[at + 1 : end]).replace("{", "").replace("}", "") + "]"
            at = end + 1
        for _ in range(count):
            text, at = _group(tokens, at, depth)
            out += "{" + text + "}"
        return out, at
    return token.removeprefix("\\") if token[1:].isalpha() and token in _UPRIGHT else token, at


_UPRIGHT = {
    "\\" + name
    for name in "sin cos tan log ln exp lim max min sup inf det dim ker gcd deg arg hom Pr limsup liminf sinh cosh tanh cot sec csc arctan".split()
}


def _sequence(tokens: list[str], at: int, depth: int) -> tuple[str, int]:
    out: list[str] = []
    while at < len(tokens) and not (tokens[at] == "}" and depth):
        base = ""
        if tokens[at] not in ("_", "^", "'"):
            base, at = _atom(tokens, at, depth)
        sub = sup = ""
        while at < len(tokens) and tokens[at] in ("_", "^", "'"):
            sign = tokens[at]
            at += 1
            if sign == "'":
                sup += r"\prime"
                continue
            text, at = _group(tokens, at, depth)
            if sign == "_":
                sub += text
            else:
                sup += text
        out.append(base + (f"_{{{sub}}}" if sub else "") + (f"^{{{sup}}}" if sup else ""))
    return "".join(out), at


_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)


def check(tex: str) -> None:
    """Braces and environments pair off, and a parser that tolerates nothing reads it to its end."""
    depth = 0
    for found in _BRACES.findall(tex):
        depth += (found == "{") - (found == "}")
        assert depth >= 0, tex
    assert depth == 0, tex
    assert len(re.findall(r"\\left(?![A-Za-z])", tex)) == len(re.findall(r"\\right(?![A-Za-z])", tex)), tex
    assert sorted(re.findall(r"\\begin(\{\w+\*?\})", tex)) == sorted(re.findall(r"\\end(\{\w+\*?\})", tex)), tex
    LatexWalker(rf"\({tex}\)", tolerant_parsing=False).get_latex_nodes()
