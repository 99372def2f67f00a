"""Every formula of a page as LaTeX: `rewrite` puts `<codedev-math>` with the LaTeX as its text in the place of each, however it was shown.

Elements first, those that hold others before those that they hold: renderings of KaTeX, MathJax and MediaWiki, then MathML, pictures, and
elements and attributes with LaTeX in them; then the running text, by the delimiters that the page itself sets up (`settings.py`). What
shows a formula a second time goes. Only systems whose words are in the page's bytes are looked for. `display="block"` marks what stands on
a line of its own: it says so, or is a picture alone in its paragraph. Cost: 37 µs per 100 kB where there is nothing; two in
a hundred pages without formulas are searched all the same, for 0.2 ms. With formulas 1 to 3 ms and 20 µs each, most of it for the parser's
nodes (4 µs for each that is seen or made); MathML costs 40 to 200 µs each. At most 100,000 formulas are taken.
Does not run scripts: a formula that a page fetches or computes is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from resiliparse.parse.html import DocumentNode, HTMLTree

from codedev.corpus.extract.maths import delimiters, images, marked, rendered, settings, unclosed
from codedev.corpus.extract.maths.delimiters import LONGEST
from codedev.corpus.extract.maths.rendered import Found
from codedev.corpus.extract.maths.settings import ALL, MARKS, Settings
from codedev.kernels.htmltags import Words

TAG = "codedev-math"
MOST = 100_000  # formulas of a page; what is beyond stays as it is

# Each word's first six bytes end in a pair that is rare in pages: `renderMath` would stop the search at every "er".
_MATHJAX = ("MathJa", "mathja")
# A closing tag may have a blank in it or be missing.
_MATHML = ("/math>", "/Math>", "/MATH>", ":math>", "<math>", "math >")
_IMAGES = (
    *("latex.", "latex?", '"latex', "latex2", "tex.cgi", "cht=tx", "math/r", "eeimg=", "on?tex=", "texify"),
    *('="tex"', '="math', "=math>", "mwe-ma"),
)
# (words of which one must be in the page, what is selected, what reads it)
_SYSTEMS: tuple[tuple[tuple[str, ...], str, Callable[[Any], Found]], ...] = (
    (('katex"', "katex-", "katex ", "=katex"), ".katex-display, .katex, .katex-error", rendered.katex),
    (("<mjx-c",), "mjx-container", rendered.mathjax3),
    (("math/t", "math/m", "math/a"), 'script[type^="math/" i]', rendered.script),
    (_MATHJAX, rendered.MATHJAX, rendered.mathjax),
    (("mwe-ma",), ".mwe-math-element", rendered.mediawiki),
    ((*_MATHML, "ltx_Ma"), "table.ltx_equationgroup, table.ltx_equation, div.ltx_equation", rendered.latexml),
    (_MATHML, "math, m\\:math, mml\\:math", rendered.bare),
    (_IMAGES, images.SELECTOR, images.formula),
    (("ta-tex=", "a-math=", "a-latex=", "-formula=", "a-equation=", "a-katex=", "a-expr="), marked.ATTRIBUTES, marked.by_attribute),
    (("</tex>", "</tex-", "latex>", "rmula>", "/math-f", "/math-r", "t-math>", "/d-math"), marked.TAGS, marked.by_tag),
    (('="math', "=math>", "hjax-te"), marked.MATH_CLASSES, marked.by_class),
    (('="tex"', '="tex2jax', '"latex', "arithmatex", "katex-"), marked.TEX_CLASSES, marked.by_class),
    (('="equation', '="formula'), marked.EQUATION_CLASSES, marked.by_class),
)
_SCRIPTS = (*_MATHJAX, "SCIIMath", "sciimath", "nderMath", "auto-render")
# Of the marks that mean a formula on any page, each with its word.
_MARKED = tuple((one, one.left if one.right == "$" else one.right[-6:]) for one in MARKS.delimiters)
_MARKS = tuple(word for _, word in _MARKED)

_WORDS = tuple(dict.fromkeys(word for words in (*(one[0] for one in _SYSTEMS), _SCRIPTS, _MARKS) for word in words))
_SEARCH = Words(*(word.encode() for word in _WORDS))


def _bits(words: tuple[str, ...]) -> int:
    return sum(1 << _WORDS.index(word) for word in words)


_RULES = tuple((_bits(words), selector, read) for words, selector, read in _SYSTEMS)
_SCRIPT_BITS, _MARK_BITS = _bits(_SCRIPTS), _bits(_MARKS)


def may_hold(data: bytes) -> bool:
    """Whether a formula could be in a page; of a page in UTF-16, ask its text in UTF-8."""
    return _SEARCH.found(data) != 0


def rewrite(tree: HTMLTree, data: bytes) -> int:
    """Replaces every formula of the tree, which was made of `data`; how many there were."""
    document = tree.document
    words = _SEARCH.found(data)
    if not words or document is None:
        return 0
    found = _settings(document) if words & _SCRIPT_BITS else None
    count = 0
    for bits, selector, read in _RULES:
        if words & bits:
            count += _elements(document, selector, read, MOST - count, len(data))
    if found is None and words & _MARK_BITS:
        found = MARKS
    if found:
        count += _texts(document, _present(found, data, words), MOST - count, len(data))
    # One may have become part of another, as server-side MathJax in a table of LaTeXML. Counting costs 2 ms for a megabyte.
    return len(document.query_selector_all(TAG)) if count else 0


def _settings(document: DocumentNode) -> Settings | None:
    return settings.of_page((script.getattr("src") or "", script.text or "") for script in document.query_selector_all("script")[:])


# --- elements

_MOST_SWALLOWED = 8  # times its length that a page's unclosed elements may be looked through, each inside another
_LONE = frozenset({"p", "div", "center", "blockquote", "dd", "figure", "section", "article"})


def _elements(document: DocumentNode, selector: str, read: Callable[[Any], Found], room: int, size: int) -> int:
    """A slice, since going through a collection of the parser costs the square of its length."""
    count, spare = 0, _MOST_SWALLOWED * size + 1000
    outer = None
    for element in document.query_selector_all(selector)[:]:
        if count >= room:
            break
        # In document order: what is inside another one comes right after it.
        if outer is not None and outer.contains(element):
            continue
        outer = element
        behind: list[Any] = []
        if read is rendered.bare:
            spare -= len(element.text or "")
            if spare < 0:
                break
            behind = unclosed.swallowed(element)
        found = read(element)
        if found is None or not 0 < len(found[0]) <= LONGEST:
            if behind:
                element.after(*behind)
            continue
        count += 1
        if behind:
            element.after(*behind)
        _replace(document, element, *found)
    return count


def _replace(document: DocumentNode, element: Any, latex: str, display: bool) -> None:
    around = element.parent  # each node that is asked for costs 2 µs
    if around is None:
        return
    display = display or (element.tag == "img" and _alone(element, around))
    if around.tag == "noscript":
        element = around  # the copy of a picture that is loaded late, or all that there is
        before = element.previous_element_sibling
        if before is not None and before.tag == TAG and before.text == latex:
            element.remove()
            return
    element.replace_with(_formula(document, latex, display))


def _formula(document: DocumentNode, latex: str, display: bool) -> Any:
    made = document.create_element(TAG)
    made.text = latex
    if display:
        made.setattr("display", "block")
    return made


def _alone(element: Any, around: Any) -> bool:
    """Whether a page shows it on a line of its own: from one edge of its block, or line break, to the next."""
    return around.tag in _LONE and _at_edge(element, "prev") and _at_edge(element, "next")


def _at_edge(element: Any, side: str) -> bool:
    beside = getattr(element, side)
    if beside is not None and beside.tag == "#text" and not beside.value.strip():
        beside = getattr(beside, side)
    return beside is None or beside.tag == "br"


# --- text


_MOST_LOOKED_THROUGH = 8  # times its length that a page's text is searched through again, each element inside another
_BIT_OF = {one: _bits((word,)) for one, word in _MARKED}


def _present(found: Settings, data: bytes, words: int) -> Settings:
    """With the delimiters that are in the page alone, unless it may hide them in character references; of marks, `words` tell."""
    found = found._replace(delimiters=tuple(one for one in found.delimiters if words & _BIT_OF.get(one, words)))
    if b"&#" in data or b"&bsol" in data or b"&dollar" in data:
        return found
    return found._replace(
        delimiters=tuple(one for one in found.delimiters if one in _BIT_OF or one.left.encode() in data),
        environments=found.environments and b"\\begin" in data,
        ascii=tuple(mark for mark in found.ascii if mark.encode() in data),
    )


def _texts(document: DocumentNode, found: Settings, room: int, size: int) -> int:
    starts = {one.left[0] if one.left[0] in "$\\[" else one.left for one in found.delimiters} | set(found.ascii)
    if found.environments:
        starts.add("\\")
    if not starts:
        return 0
    count, spare = 0, _MOST_LOOKED_THROUGH * size
    known: dict[Any, bool] = {}
    pairs = _pairs(found)
    # The parser's own search of the text costs a quarter of parsing for each string, a walk in Python 18 times as much as parsing.
    selector = ", ".join(f":lexbor-contains({_quoted(start)})" for start in sorted(starts))
    for element in document.query_selector_all(selector)[:]:
        if count >= room:
            break
        if spare > 0:  # a node costs 4 µs, its text 0.1: most that has a sign of a formula has none
            text = element.text or ""
            spare -= len(text)
            if not _holds(text, pairs):
                continue
        if _looked_at(element, found, known):
            for nodes in _runs(element):
                count += _run(document, nodes, found, starts, room - count)
    return count


def _pairs(found: Settings) -> list[tuple[str, str]]:
    pairs = [(one.left, one.right) for one in found.delimiters] + [(mark, mark) for mark in found.ascii]
    return [*pairs, ("\\begin{", "\\end{")] if found.environments else pairs


def _holds(text: str, pairs: list[tuple[str, str]]) -> bool:
    """What is so of every text with a formula: a left delimiter, and its right one somewhere behind it."""
    for left, right in pairs:
        start = text.find(left)
        if start >= 0 and text.find(right, start + len(left)) >= 0:
            return True
    return False


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\{ord(char):x} " if char in '"\\\n' else char for char in text) + '"'


def _looked_at(element: Any, found: Settings, known: dict[Any, bool]) -> bool:
    """Whether the page's settings have formulas looked for in it; each element is asked once."""
    path = []
    node = element
    while node is not None and node not in known:
        path.append(node)
        node = node.parent_element
    state = known[node] if node is not None else ALL not in found.ignored
    for node in reversed(path):
        classes = (node.getattr("class") or "").split()
        if classes and not found.processed.isdisjoint(classes):
            state = True
        elif node.tag in found.skipped_tags or (classes and not found.ignored.isdisjoint(classes)):
            state = False
        known[node] = state
    return state


def _runs(element: Any) -> Iterator[list[tuple[Any, str]]]:
    """Text that a formula may run over: neighbouring texts, comments and line breaks, as (node, its text)."""
    run: list[tuple[Any, str]] = []
    for child in element.child_nodes[:]:
        tag = child.tag
        if tag == "#text":
            run.append((child, child.value or ""))
        elif tag == "br":
            run.append((child, "\n"))
        elif tag in ("#comment", "wbr"):
            run.append((child, ""))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _run(document: DocumentNode, nodes: list[tuple[Any, str]], found: Settings, starts: set[str], room: int) -> int:
    """Replaces the formulas of one run, at most `room` of them; how many there were."""
    text = "".join(piece for _, piece in nodes) if len(nodes) > 1 else nodes[0][1]
    if not any(start in text for start in starts):
        return 0
    formulas = delimiters.find(text, found)[:room]
    if not formulas:
        return 0
    if len(formulas) == 1 and text[formulas[0].start] == "[" and not (text[: formulas[0].start] + text[formulas[0].end :]).strip():
        formulas = [formulas[0]._replace(display=True)]
    begin, at = 0, 0  # of the node in the text, and the next formula
    for node, piece in nodes:
        end = begin + len(piece)
        if node.tag != "#text":
            if at < len(formulas) and formulas[at].start < begin and formulas[at].end > begin:
                node.remove()
        elif at < len(formulas) and formulas[at].start < end:
            head = None  # the text before the first formula stays in its node: each node that is made costs 4 µs
            parts: list[Any] = []
            cursor = begin
            while at < len(formulas) and formulas[at].start < end:
                formula = formulas[at]
                if formula.start >= begin:
                    if formula.start > cursor:
                        if parts or head is not None:
                            parts.append(document.create_text_node(text[cursor : formula.start]))
                        else:
                            head = text[cursor : formula.start]
                    if formula.latex:
                        parts.append(_formula(document, formula.latex, formula.display))
                cursor = min(formula.end, end)
                if formula.end > end:
                    break
                at += 1
            if cursor < end:
                if parts or head is not None:
                    parts.append(document.create_text_node(text[cursor:end]))
                else:
                    head = text[cursor:end]
            if head is not None:
                node.value = head
                if parts:
                    node.after(*parts)
            elif parts:
                node.replace_with(*parts)
            else:
                node.remove()
        begin = end
    return sum(1 for formula in formulas if formula.latex)
