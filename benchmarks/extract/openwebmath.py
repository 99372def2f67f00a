"""OpenWebMath's way with formulas, as its paper tells it: LaTeX is looked up in the tree, put in place of what shows it, and the text is
extracted behind that.

Formulas come from MathJax's scripts, from annotations and `alttext` of MathML (KaTeX has such an annotation), and from the alternative
text or the address of pictures. A word without meaning stands for each until the text is there, so that extraction does not break it.
Left out: AsciiMath, MathML without LaTeX by a style sheet, and the paper's own rules of what is boilerplate; Resiliparse's are used.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs, unquote, urlsplit

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding
from resiliparse.parse.html import DOMNode, HTMLTree

_FORMULAS = ", ".join(
    (
        'script[type^="math/tex"]',
        ".mwe-math-element",
        "math",
        ".katex",
        'img[alt][class*="tex"]',
        'img[alt][class*="math"]',
        'img[src*="tex"]',
    )
)
_PICTURE = re.compile(r"latex\.codecogs\.com|/(?:la|mime|math)tex\.(?:php|cgi)")
_PLACE = re.compile(r"formula(\d+)place")
_DELIMITERS = re.compile(r"\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def decoded(html: bytes) -> str:
    """UTF-8 where it is valid: Resiliparse's guess alone is wrong for one page of a hundred."""
    try:
        return html.decode()
    except UnicodeDecodeError:
        return bytes_to_str(html, detect_encoding(html))


def openwebmath(html: bytes) -> str:
    tree = HTMLTree.parse(decoded(html))
    document = tree.document
    assert document is not None
    found: list[str] = []
    for node in document.query_selector_all(_FORMULAS):
        if node.parent is None or not (latex := _latex(node)):
            continue
        display = "mode=display" in (node.getattr("type") or "") or node.getattr("display") == "block"
        mark = "$$" if display else "$"
        found.append(f"{mark}{latex.strip()}{mark}")
        node.parent.replace_child(tree.create_text_node(f" formula{len(found) - 1}place "), node)
    for preview in document.query_selector_all(".MathJax_Preview, .MathJax, .MathJax_Display, .mwe-math-fallback-image-inline"):
        preview.decompose()
    text = extract_plain_text(tree, preserve_formatting=True, main_content=True, alt_texts=False, links=False)
    text = _DELIMITERS.sub(lambda part: f"${part[1]}$" if part[1] else f"$${part[2]}$$", text)
    return _PLACE.sub(lambda place: found[int(place[1])] if int(place[1]) < len(found) else place[0], text)


def _latex(node: DOMNode) -> str | None:
    match node.tag:
        case "script":
            return node.text
        case "img":
            address = urlsplit(node.getattr("src") or "")
            if not _PICTURE.search(f"{address.netloc}{address.path}"):
                return node.getattr("alt")
            return parse_qs(address.query).get("latex", [unquote(address.query)])[0]
    annotation = node.query_selector('annotation[encoding*="tex" i]')
    return annotation.text if annotation else node.getattr("alttext")
