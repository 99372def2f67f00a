"""TEI XML (P4, P5) -> the text of a book and what its header says: title, authors, licence, languages.

Divisions give Markdown headings, lines of verse keep their lines, speakers stand before their speeches. Of readings that the editor gives
side by side (`choice`) the corrected, regularised and expanded one is kept, of variants (`app`) the lemma. Page and line beginnings, gaps
and milestones leave no mark; words that a page break cuts are whole. Notes stay in brackets where they stand, or go by recipe, as do the
bibliography's entries with them. Cost: 17 MB of markup a second. A corpus of several texts (`teiCorpus`) becomes one book.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from codedev.corpus.extract import markup
from codedev.corpus.extract.blocks import Blocks, Text, visible, walk
from codedev.corpus.extract.book.gutenberg import PAGES
from codedev.corpus.extract.book.html import FOOTNOTES, Options, formula

ROOTS = frozenset({"TEI", "TEI.2", "teiCorpus", "teiCorpus.2"})
HEADER, READINGS = "tei_header", "other_readings"

_BLOCKS = frozenset(
    {
        *(
            "p",
            "ab",
            "div",
            "div0",
            "div1",
            "div2",
            "div3",
            "div4",
            "div5",
            "div6",
            "div7",
            "lg",
            "sp",
            "stage",
            "list",
            "table",
            "figure",
            "opener",
            "closer",
        ),
        *(
            "epigraph",
            "argument",
            "byline",
            "docTitle",
            "docAuthor",
            "docImprint",
            "titlePart",
            "titlePage",
            "trailer",
            "salute",
            "signed",
            "dateline",
            "front",
        ),
        *(
            "body",
            "back",
            "text",
            "group",
            "floatingText",
            "listBibl",
            "castList",
            "castItem",
            "postscript",
            "imprimatur",
            "label",
            "bibl",
            "biblStruct",
        ),
        *("quote", "q", "cit", "formula", "figDesc", "listPerson", "abstract", "address", "addrLine"),
    }
)
_INLINE_WHEN_AMONG_TEXT = frozenset(
    {"quote", "q", "cit", "stage", "list", "label", "bibl", "biblStruct", "formula", "salute", "figure", "address"}
)
_PHRASES = frozenset({"p", "l", "ab", "item", "head", "seg", "said", "cell", "speaker", "hi", "cit", "quote", "q", "ref"})
# Of what stands in `choice` the first that is there; the others are left out.
_PREFERRED = ("corr", "reg", "expan", "unclear", "seg")
_LEFT_OUT = frozenset(
    {"teiHeader", "fw", "del", "rdg", "witDetail", "facsimile", "sourceDoc", "standOff", "interpGrp", "index", "graphic", "metamark"}
)


def extract(root: Any, options: Options) -> Text:
    """Raises MarkupError."""
    walker = _Walker(options)
    walk(root, walker.start, walker.end, walker.out.add)
    return walker.out.done()


class _Walker:
    def __init__(self, options: Options) -> None:
        self.out = Blocks()
        self._options = options
        self._depth = 0  # of divisions
        self._phrases = 0  # open elements of running text
        self._kept: dict[Any, Any] = {}  # open choice -> the reading that is kept
        self._rows: list[str] = []
        self._notes: list[str] = []  # what closes each open note
        self._entries = 0  # open entries of a bibliography

    def start(self, element: Any) -> bool:
        name = markup.local(element)
        out = self.out
        if name in _LEFT_OUT:
            if name == "fw" or name == "del":
                out.remove(PAGES if name == "fw" else READINGS, len(visible(element)))
            elif name in ("rdg", "teiHeader"):
                out.remove(READINGS if name == "rdg" else HEADER, len(visible(element)))
            return False
        parent = element.getparent()
        if parent in self._kept and self._kept[parent] is not element:
            out.remove(READINGS, len(visible(element)))
            return False
        match name:
            case "choice":
                self._kept[element] = _reading(element)
            case "note":
                return self._note(element)
            case "head":
                out.flush()
            case "l":
                out.flush(tight=_follows(element, "l"))
            case "lb":
                if element.get("break") != "no":
                    out.add(" ")
            case "item" | "row" | "speaker":
                out.flush()
                if name == "item":
                    out.prefix("- ")
            case "cell":
                out.hold()
            case "math":
                out.add(formula(element))
                return False
            case _ if name in _BLOCKS and not self._inline(name):
                out.flush()
                self._depth += name.startswith("div")
        self._phrases += name in _PHRASES
        self._entries += name == "biblStruct"
        return True

    def end(self, element: Any) -> None:
        name = markup.local(element)
        out = self.out
        self._phrases -= name in _PHRASES
        self._entries -= name == "biblStruct"
        if self._entries:
            out.add(" ")  # parts of an entry stand apart
        match name:
            case "choice":
                self._kept.pop(element, None)
            case "note":
                out.add(self._notes.pop())
                self._phrases -= 1
            case "head":
                out.heading(min(6, max(1, self._depth)))
            case "l":
                out.flush(tight=_follows(element, "l"))
            case "speaker" | "item":
                out.flush()
            case "cell":
                self._rows.append(out.cell())
            case "row":
                if any(self._rows):
                    out.emit("| " + " | ".join(self._rows) + " |" if len(self._rows) > 1 else self._rows[0], tight=_follows(element, "row"))
                self._rows = []
            case _ if name in _BLOCKS and not self._inline(name):
                out.flush()
                self._depth -= name.startswith("div")

    def _inline(self, name: str) -> bool:
        return self._phrases > 0 and name in _INLINE_WHEN_AMONG_TEXT

    def _note(self, element: Any) -> bool:
        if self._options.notes == "drop" or element.get("type") == "raw_reference":  # which an entry beside it gives again
            self.out.remove(FOOTNOTES if self._options.notes == "drop" else READINGS, len(visible(element)))
            return False
        begun = self.out.begun
        self.out.add(" [" if begun else "[")
        self._notes.append("]" if begun else "] ")
        self._phrases += 1
        return True


def _follows(element: Any, name: str) -> bool:
    """Whether the element before this one has the name too: they stand on lines that follow one another."""
    before = element.getprevious()
    while before is not None and (not isinstance(before.tag, str) or markup.local(before) in ("pb", "milestone", "lb", "note")):
        before = before.getprevious()
    return before is not None and markup.local(before) == name


def _reading(choice: Any) -> Any:
    """The child of a choice that is kept."""
    children = [child for child in choice if isinstance(child.tag, str)]
    for name in _PREFERRED:
        for child in children:
            if markup.local(child) == name:
                return child
    return children[0] if children else None


# --- the header


def metadata(root: Any) -> dict[str, Any]:
    """What the header says; None where it says nothing."""
    header = next(root.iter("{*}teiHeader"), None)
    if header is None:
        return {"language": _language(root, None)}
    statement = next(header.iter("{*}titleStmt"), header)
    availability = next(header.iter("{*}availability"), None)
    licence = None
    if availability is not None:
        licence = next(
            (e.get("target") for e in availability.iter("{*}licence", "{*}license", "{*}ref", "{*}ptr") if e.get("target")), None
        )
    authors = _all(statement, "author") or _all(next(header.iter("{*}sourceDesc"), statement), "author")
    return {
        "title": next(iter(_all(statement, "title")), None),
        "authors": authors or None,
        "editors": _all(statement, "editor") or None,
        "publisher": next(iter(_all(header, "publisher")), None),
        "date": next(
            (date.get("when") or visible(date) or None for part in header.iter("{*}publicationStmt") for date in part.iter("{*}date")), None
        ),
        "identifiers": [
            f"{e.get('type') or 'idno'}:{visible(e)}"[:300] for part in header.iter("{*}publicationStmt") for e in part.iter("{*}idno")
        ][:20]
        or None,
        "rights": visible(availability)[:2000] or None if availability is not None else None,
        "licence_url": licence,
        "language": _language(root, header),
    }


def _all(element: Any, name: str) -> list[str]:
    found = []
    for inner in element.iter("{*}" + name):
        person = next(inner.iter("{*}persName"), None)
        said = (
            " ".join(visible(part) for part in person if isinstance(part.tag, str))
            if person is not None and len(person)
            else visible(inner)
        )
        if said and said not in found:
            found.append(said[:300])
        if len(found) == 50:
            break
    return found


_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def _language(root: Any, header: Any) -> str | None:
    """The language that most of the text is marked with, else the header's only one."""
    marks: Counter[str] = Counter()
    for text in root.iter("{*}text"):
        for element in (text, *text.iterchildren("{*}body"), *(d for b in text.iterchildren("{*}body") for d in b.iterchildren("{*}div"))):
            said = element.get(_XML_LANG) or element.get("lang")
            if said:
                marks[said] += 1
    if not marks:
        said = root.get(_XML_LANG) or root.get("lang")
        listed = [e.get("ident") or e.get("id") for e in header.iter("{*}language")] if header is not None else []
        return said or (listed[0] if len(listed) == 1 else None)
    return max(marks, key=lambda mark: (marks[mark], mark))
