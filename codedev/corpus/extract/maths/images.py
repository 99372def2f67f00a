"""Formulas shown as pictures: the LaTeX in an image's address, else in its alt text.

Known are WordPress (latex.php?latex=), codecogs (…latex?, svg.image?), mimeTeX, mathTeX, texify, Google's charts (cht=tx), Zhihu
(equation?tex=), Wikipedia's render images, and any image whose class says that it is a formula and whose alt reads like LaTeX. An address
is preferred to an alt, since alts are often shortened; sizes and colours that are meant for the renderer are taken off.
Does not read pictures: one without source stays a picture.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, unquote_plus

from codedev.corpus.extract.maths.delimiters import LONGEST, canonical, stripped, unwrapped

SELECTOR = ", ".join(
    [f'img[src*="{word}" i]' for word in ("latex", "tex.cgi", "texify", "cht=tx", "?tex=", "math/render", "mathrender", "/tex")]
    + [f'img[{name}*="latex" i]' for name in ("data-src", "data-lazy-src", "data-original", "class")]
    + [
        "img[eeimg]",
        "img.tex",
        'img[class*="math" i]',
        'img[class*="equation" i]',
        'img[class*="formula" i]',
        "img[data-latex]",
        "img[data-tex]",
    ]
)

_SOURCES = ("src", "data-src", "data-lazy-src", "data-original")
# (an address, whether its query is a form's, in which a plus sign is a space)
_ADDRESSES = (
    (re.compile(r"latex\.php\?(?:[^#]*?&)??latex=([^&#]*)", re.IGNORECASE), True),
    (re.compile(r"(?:/equation|/svg|/tex|/render)[\w./]*\?(?:[^#]*?&)??tex=([^&#]*)", re.IGNORECASE), True),
    (re.compile(r"[?&]cht=tx(?=&)[^#]*?&chl=([^&#]*)", re.IGNORECASE), True),
    (re.compile(r"[?&]chl=([^&#]*)[^#]*&cht=tx\b", re.IGNORECASE), True),
    (
        re.compile(
            r"codecogs\.com/(?:eqnedit\.php\?latex=|\w+\.(?:latex|image|download)\?|\w+/(?:latex|image)\?)(.*)", re.IGNORECASE | re.DOTALL
        ),
        False,
    ),
    (re.compile(r"/(?:gif|png|svg|pdf|emf)\.(?:latex|image)\?(.*)", re.IGNORECASE | re.DOTALL), False),
    (re.compile(r"/(?:mimetex|mathtex)(?:\.\w{1,4})?\?(.*)", re.IGNORECASE | re.DOTALL), False),
    (
        re.compile(r"/(?:texify|latexrender|latex2png|latex_?image)[\w./]*\?(?:(?:latex|tex|formula|math|eq)=)?([^&#]*)", re.IGNORECASE),
        False,
    ),
)
_CODECOGS = re.compile(r"&(space|plus|hash|amp|lt|gt);")
_CHARACTERS = {"space": " ", "plus": "+", "hash": "#", "amp": "&", "lt": "<", "gt": ">"}
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
# What tells a renderer of size, font and colour stands before the formula.
_RENDERING = re.compile(
    r"\s*(?:\\(?:dpi|bg|fn|fg|opaque|usepackage|png|gif|reverse|depth|density|gammacorrection)(?:_\w+|\{[^{}]*\})?"
    r"|\\(?:inline|tiny|scriptsize|footnotesize|small|normalsize|large|Large|LARGE|huge|Huge)(?![a-zA-Z]))"
)
_FORMULA_CLASS = re.compile(
    r"(?:^|[\s_-])(?:i?tex|(?:ql-|wp-)?(?:i?latex|math|equation|formula)(?:s|image|img|jax|ml)?)(?:[\s_-]|$)|mwe-math|ltx_Math", re.I
)
_DISPLAY = re.compile(
    r"mwe-math-fallback-image-display|ql-img-displayed|displayed-equation|display-?math|math-?display|ltx_eqn", re.IGNORECASE
)
_TEX = re.compile(r"\\[a-zA-Z]|[\^_]\s*[\w{(\\*+-]|\\[,;!{}|\\]")
_SYMBOLS = re.compile(
    r"[A-Za-z](?:\s*[-+*/=<>,()!|']\s*[A-Za-z0-9]{0,2}){0,10}|[A-Za-z0-9]{0,6}(?:\s*[-+*/=<>(),!|']+\s*[A-Za-z0-9]{0,6}){1,30}"
)
_PROSE = re.compile(r"(?:(?<![\w\\{])[^\W\d_]{3,}[,;:.]?\s+){3}[^\W\d_]{3,}")
_PLAIN = re.compile(r"[\w()\[\]|]{1,3}(?:\s*[-+*/=<>,.:!'|()\[\]]\s*[\w()\[\]|]{0,3}){0,12}")


def formula(image: Any) -> tuple[str, bool] | None:
    """(LaTeX, display) of an image that shows a formula."""
    kind = image.getattr("class") or ""
    said = image.getattr("alt") or image.getattr("title") or ""
    told = image.getattr("data-latex") or image.getattr("data-tex")
    if told:
        return _cleaned(told, kind)
    for name in _SOURCES:
        source = image.getattr(name)
        if source and len(source) <= 4 * LONGEST and not source.startswith("data:") and (latex := of_url(source)):
            return latex, bool(_DISPLAY.search(kind)) or ("\\displaystyle" in latex[:20] and not kind)
    if not said or len(said) > LONGEST:
        return None
    address = image.getattr("src") or ""
    sure = image.hasattr("eeimg") or "/math/render/" in address or "mwe-math" in kind or "/latex.php" in address
    if sure or (_FORMULA_CLASS.search(kind) and (looks_like_tex(said) or _PLAIN.fullmatch(said.strip()))):
        return _cleaned(said, kind)
    return None


def of_url(url: str) -> str | None:
    """The LaTeX that the address of a rendering service carries."""
    for pattern, form in _ADDRESSES:
        if found := pattern.search(url):
            text = (unquote_plus if form else unquote)(found[1])
            text = _CODECOGS.sub(lambda entity: _CHARACTERS[entity[1]], text)
            if text.startswith(("http://", "https://")):
                return None
            latex = _for_display(text)
            one = stripped(latex) if latex.startswith(("$", "\\(", "\\[")) else None
            return one[0] if one else latex or None
    return None


def looks_like_tex(text: str) -> bool:
    """Commands or scripts, and no sentence."""
    return bool(_TEX.search(text)) and not _PROSE.search(text)


def reads(text: str) -> bool:
    """LaTeX, or letters, figures and signs, as `x = a + 1`."""
    return looks_like_tex(text) or _SYMBOLS.fullmatch(text) is not None


def _cleaned(text: str, kind: str) -> tuple[str, bool] | None:
    latex = _for_display(text)
    one = stripped(latex)
    if one is None:
        return None
    return (one[0], bool(one[1]) or bool(_DISPLAY.search(kind))) if one[0] else None


def _for_display(text: str) -> str:
    latex = canonical(_BREAK.sub("", text))
    while found := _RENDERING.match(latex):
        # The braces of \\large{...} stay: they group, and do no harm.
        latex = latex[found.end() :].lstrip()
    if latex.startswith("$latex ") and latex.endswith("$"):
        latex = latex[7:-1].strip()
    return unwrapped(latex)
