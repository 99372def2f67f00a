"""XML and HTML of strangers -> lxml trees. No document type is ever loaded, no entity expanded, nothing fetched.

The document type declaration is cut off before parsing. Names of characters (`&nbsp;` `&mdash;`, all that HTML knows, which are ISO's too)
become characters; a name that the document declares itself is refused as `entity_declaration`, one that nobody declares stays as it stands.
Cost: 100 MB/s and some, a tree of about ten times the bytes of the markup.
"""

from __future__ import annotations

import html.entities
import re
from typing import Any

from lxml import etree

from codedev.corpus import encoding
from codedev.corpus.extract.blocks import MarkupError

_DECLARED = re.compile(rb"""\A(?:\xef\xbb\xbf)?\s{0,100}<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_.:-]{1,40})["']""")
_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)([A-Za-z][A-Za-z0-9.]{0,40});")
_OWN = re.compile(r"<!ENTITY\s+([A-Za-z_][\w.-]*)\s")
_SUBSET_PART = re.compile(r"""<!--.*?-->|<\?.*?\?>|"[^"]*"|'[^']*'|[\[\]>]""", re.DOTALL)
_XML_DECLARATION = re.compile(r"\A\s{0,100}<\?xml\b[^>]{0,300}\?>")
# An HTML parser takes these for begun and never ended.
_SELF_CLOSED = re.compile(
    r"<(title|script|style|textarea|iframe|noscript|a|p|div|span|b|i|em|strong|td|th|li)\b([^<>]{0,2000})/>", re.IGNORECASE
)
# No XML may hold these.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|&#(?:0*(?:[0-8]|1[1245-9]|2\\d|3[01])|x0*(?:[0-8bcBC]|[eE]|1[\\da-fA-F]));")


def decode(data: bytes) -> str:
    """The text of markup. Raises MarkupError."""
    declared = _DECLARED.match(data)
    try:
        return encoding.decode(data, declared[1].decode() if declared else None).text
    except encoding.UndecodableError as error:
        raise MarkupError("invalid_encoding", str(error)) from None


# libxml2 looks through a tag's attributes for each further one: 0.6 s for 20,000.
_MOST_ATTRIBUTES = 20_000
_TAG = re.compile(r"""<[A-Za-z](?:[^"'>]++|"[^"]*+"|'[^']*+')*+""")
_QUOTED = re.compile(r""""[^"]*+"|'[^']*+'""")


def _check_attributes(text: str) -> None:
    if len(text) < 2 * _MOST_ATTRIBUTES:
        return
    for tag in _TAG.finditer(text):
        if tag.end() - tag.start() > 2 * _MOST_ATTRIBUTES and len(_QUOTED.sub(" ", tag[0]).split()) > _MOST_ATTRIBUTES:
            raise MarkupError("too_large", f"a tag has more than {_MOST_ATTRIBUTES:,} attributes")


def parse_xml(text: str, *, recover: bool = False) -> Any:
    """The root of an XML document. Raises MarkupError."""
    body = _resolved(*_without_doctype(text))
    _check_attributes(body)
    if _ILLEGAL.search(body):
        body = _ILLEGAL.sub("", body)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=True,  # the size is bounded by the bytes, the depth by `blocks.walk`
        remove_comments=True,
        remove_pis=True,
        recover=recover,
        encoding="utf-8",
    )
    try:
        root = etree.fromstring(body.encode("utf-8", "replace"), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise MarkupError("invalid_xml", str(error)[:300]) from None
    if root is None:
        raise MarkupError("invalid_xml", "no element")
    return root


def parse_html(text: str) -> Any:
    """The root of an HTML document, by HTML's rules: never refused but for its depth. Raises MarkupError where it holds no element."""
    declaration = _XML_DECLARATION.match(text)
    if declaration:
        text = _SELF_CLOSED.sub(r"<\1\2></\1>", text[declaration.end() :])
    _check_attributes(text)
    parser = etree.HTMLParser(
        no_network=True, huge_tree=True, remove_comments=True, remove_pis=True, encoding="utf-8", default_doctype=False
    )
    try:
        root = etree.fromstring(text.replace("\0", "").encode("utf-8", "replace"), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise MarkupError("invalid_html", str(error)[:300]) from None
    if root is None:
        raise MarkupError("invalid_html", "no element")
    return root


def parse_xhtml(text: str) -> Any:
    """The root of an XHTML document: by XML's rules where it keeps them, else by HTML's."""
    try:
        return parse_xml(text)
    except MarkupError as error:
        if error.kind != "invalid_xml":
            raise
        return parse_html(text)


def root_name(text: str) -> str:
    """The local name of a document's first element, or "" where it has none. Looks at the prologue alone."""
    body, _ = _without_doctype(text)
    found = re.compile(r"<(?:[\w.-]+:)?([A-Za-z_][\w.-]*)").search(body, 0, 100_000)
    return found[1] if found else ""


def local(element: Any) -> str:
    """The element's name without its namespace."""
    name: str = element.tag
    return name.rpartition("}")[2]


def _without_doctype(text: str) -> tuple[str, str]:
    """The document without its declarations, and the internal subset of its document type."""
    at = len(text) - len(text.lstrip("\ufeff \t\r\n"))
    while text.startswith(("<?", "<!--"), at):
        close = "?>" if text[at + 1] == "?" else "-->"
        end = text.find(close, at)
        if end < 0:
            return text[at:], ""
        end += len(close)
        at = end + len(text[end : end + 10_000]) - len(text[end : end + 10_000].lstrip())
    if text[at : at + 9].upper() != "<!DOCTYPE":
        return text[at:], ""
    depth, begin = 0, at
    for part in _SUBSET_PART.finditer(text, at):
        depth += {"[": 1, "]": -1}.get(part[0], 0)
        if part[0] == "[" and depth == 1:
            begin = part.end()
        elif part[0] == ">" and depth <= 0:
            return text[part.end() :], text[begin : part.start()] if begin > at else ""
    return text[at:], ""


def _resolved(text: str, subset: str) -> str:
    if "&" not in text:
        return text
    own = set(_OWN.findall(subset)) if subset else set()

    def character(found: re.Match[str]) -> str:
        name = found[1]
        if name in own:
            raise MarkupError("entity_declaration", f"the document declares and uses the entity {name}: entities are not expanded")
        known = html.entities.html5.get(name + ";")
        # What stands for a sign of markup must stay one that is no markup.
        return html.escape(known) if known else f"&amp;{name};"

    return _ENTITY.sub(character, text)
