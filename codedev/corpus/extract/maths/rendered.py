"""Formulas that a renderer wrote into the page: MathJax 2 and 3, KaTeX, MediaWiki, LaTeXML, and MathML by itself.

Each function takes the outermost element of one rendering and says (LaTeX, display), or None where the page holds no source and no
MathML to convert. TeX beside the rendering comes first, then MathML, then what the glyphs say. Scripts cost 25 µs each.
"""

from __future__ import annotations

import re
from typing import Any

from codedev.corpus.extract.maths import asciimath, glyphs, mathml
from codedev.corpus.extract.maths.delimiters import canonical, stripped, unwrapped
from codedev.corpus.extract.maths.images import reads

Found = tuple[str, bool] | None

MATHJAX = ".MathJax_Display, .MathJax_SVG_Display, .mjx-full-width, .mjx-chtml, .MathJax_SVG, .MathJax_MathML, .MathJax_PHTML, .MathJax"
_OUTPUT = ("MathJax", "mjx-", "MJX")
_SPOKEN = re.compile(r"[^\W\d_]{2}\s|\s[^\W\d_]{2}")
# Previews and renderings stand right before their script: at most these many elements.
_MOST_BESIDE = 4


def script(element: Any) -> Found:
    """MathJax 2's <script type="math/tex; mode=display">. Its previews and renderings go."""
    kind = (element.getattr("type") or "").lower()
    text = element.text or ""
    if len(text) > 500_000:
        return None
    if "mml" in kind:
        found = mathml.latex_of_source(text)
        display = 'display="block"' in text[:500]
    elif "asciimath" in kind:
        found, display = asciimath.latex(text.strip()), False
    elif "tex" in kind:
        text = text.replace("% <![CDATA[", "", 1).replace("%]]>", "", 1) if "<![CDATA[" in text else text
        found, display = canonical(text), "mode=display" in kind.replace(" ", "")
    else:
        return None
    if found:
        _drop_output(element)
    return (found, display or "mode=display" in kind.replace(" ", "")) if found else None


def _drop_output(element: Any) -> None:
    for _ in range(_MOST_BESIDE):
        before = element.previous_element_sibling
        if before is None or not (before.getattr("class") or "").startswith(_OUTPUT):
            break
        before.remove()


def mathjax(element: Any) -> Found:
    """A rendering of MathJax 2 whose script is gone."""
    kind = element.getattr("class") or ""
    if "mjx-chtml" in kind and (label := element.query_selector(".mjx-math[aria-label]")):
        # What MathJax 2 made on a server: the label is the TeX, or words for a speech synthesiser.
        told = canonical(label.getattr("aria-label")).removeprefix("\\displaystyle").strip()
        return None if "\\" not in told and _SPOKEN.search(told) else (told, "MJXc-display" in kind)
    held = element if element.hasattr("data-mathml") else element.query_selector("[data-mathml]")
    found = mathml.latex_of_source(held.getattr("data-mathml")) if held else None
    inner = None if found else element.query_selector("math")
    if inner:
        found = mathml.latex(inner)
    if not found:
        return None
    _drop_output(element)
    return unwrapped(found), "isplay" in kind or "full-width" in kind or bool(
        held and 'display="block"' in held.getattr("data-mathml")[:300]
    )


def mathjax3(element: Any) -> Found:
    display = element.getattr("display") in ("true", "block")
    told = element.getattr("data-latex") or element.getattr("data-tex")
    if not told and (inner := element.query_selector("mjx-math[data-latex], math[data-latex], g[data-mml-node=math][data-latex]")):
        told = inner.getattr("data-latex")
    if told:
        return canonical(told), display
    inner = element.query_selector("math")
    if inner:
        return mathml.latex(inner), display
    built = glyphs.mathml(element)
    return (mathml.latex_of_source(built) or "", display) if built else None


def katex(element: Any) -> Found:
    kind = element.getattr("class") or ""
    if "katex-error" in kind:
        return canonical(element.text or ""), False
    inner = element.query_selector("math")
    if not inner:
        return None
    tex = inner.query_selector('annotation[encoding*="tex" i]')
    display = "katex-display" in kind or inner.getattr("display") == "block"
    return canonical(tex.text or "") if tex else mathml.latex(inner), display


def mediawiki(element: Any) -> Found:
    image = element.query_selector("img[alt]")
    kind = (image.getattr("class") or "") if image else ""
    inner = element.query_selector("math")
    display = "fallback-image-display" in kind or bool(inner and inner.getattr("display") == "block" and not kind)
    told = (image.getattr("alt") or "" if image else "") if not inner else inner.getattr("alttext") or ""
    return (unwrapped(told) if told else unwrapped(mathml.latex(inner)) if inner else ""), display


def bare(element: Any) -> Found:
    """<math> by itself; in some pages it holds LaTeX, as in a wiki's source."""
    if element.html.count("<") == 2:  # a node that is asked for costs 4 µs
        one = stripped(element.text or "")
        if one is not None and one[0] and (one[1] is not None or reads(one[0])):
            return one[0], bool(one[1]) or mathml.is_display(element)
    return unwrapped(mathml.latex(element)), mathml.is_display(element)


_FORMULAS = "math, img.ltx_Math, codedev-math"
_HIGHEST = 12  # elements between a formula of LaTeXML and its row


def latexml(element: Any) -> Found:
    """LaTeXML's table of one equation, or of several that are aligned; the cells of their numbers go."""
    rows: dict[Any, list[str]] = {}
    outer = None
    for inner in element.query_selector_all(_FORMULAS)[:]:
        if outer is not None and outer.contains(inner):
            continue
        outer = inner
        # An aligned equation is cut into cells at its alignment marks. Each formula is its nearest row's: groups are nested.
        rows.setdefault(_row(inner), []).append(_source(inner))
    if not rows:
        return None
    cells = list(rows.values())
    if len(cells) == 1 and len(cells[0]) == 1:
        return cells[0][0], True
    return "\\begin{align*}\n" + " \\\\\n".join(" & ".join(row) for row in cells) + "\n\\end{align*}", True


def _row(element: Any) -> Any:
    """The row around it; None where there is none near."""
    around = element.parent_element
    for _ in range(_HIGHEST):
        if around is None or around.tag == "tr":
            return around
        around = around.parent_element
    return None


def _source(element: Any) -> str:
    told = element.getattr("alttext") or element.getattr("alt")
    latex = canonical(told) if told else element.text if element.tag == "codedev-math" else mathml.latex(element)
    return latex.removeprefix("\\displaystyle").strip()
