"""HTML and XHTML of books -> text that keeps their structure: headings as Markdown, verse with its lines, lists, tables, notes, formulas.

What is no part of the reading is left out and counted by part: page numbers, tables of contents (runs of links into the book), notes where
the recipe drops them, links back from notes, colophons and imprints that say what they are, notes of transcribers in a box of their own.
Emphasis leaves no mark. A formula stays as the LaTeX that it carries, else as its text. A picture leaves its description, where it has one.
Cost: about 13 MB of markup a second, a quarter of it parsing. What it does not do: look at style sheets, so what they hide is shown.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

from codedev.corpus.extract.blocks import Blocks, Text, beginning, visible, walk
from codedev.corpus.extract.book.gutenberg import ILLUSTRATIONS, NOTES, PAGES

FOOTNOTES, CONTENTS, BOILERPLATE = "notes", "contents", "boilerplate"


class Options(NamedTuple):
    notes: Literal["keep", "drop"] = "keep"
    captions: bool = True
    boilerplate: Literal["keep", "drop"] = "drop"


_HIDDEN = frozenset(
    {"script", "style", "head", "template", "iframe", "object", "embed", "audio", "video", "canvas", "rp", "noscript", "link", "meta"}
)
_LEVEL = {f"h{level}": level for level in range(1, 7)}
_BLOCK = frozenset(
    {
        *(
            "p",
            "div",
            "section",
            "article",
            "aside",
            "header",
            "footer",
            "main",
            "nav",
            "blockquote",
            "figure",
            "figcaption",
            "center",
            "address",
        ),
        *(
            "ul",
            "ol",
            "dl",
            "dt",
            "dd",
            "li",
            "hr",
            "body",
            "html",
            "caption",
            "fieldset",
            "form",
            "details",
            "summary",
            "hgroup",
            "tr",
            "td",
            "th",
        ),
        *("table", "tbody", "thead", "tfoot", "pre", "title"),
    }
)
_NOTE_TYPES = frozenset(
    {"footnote", "endnote", "rearnote", "footnotes", "endnotes", "rearnotes", "note", "doc-footnote", "doc-endnote", "doc-endnotes"}
)
_BOILERPLATE_TYPES = frozenset({"colophon", "imprint", "copyright-page", "doc-colophon"})
_CONTENTS_TYPES = frozenset({"toc", "landmarks", "page-list", "loi", "lot", "doc-toc", "doc-pagelist"})
_PAGE = re.compile(r"(?:^|\s)(?:page-?num(?:ber)?s?|pageno|page-?break|pb|doc-pagebreak|pginternal-num)(?:\s|$)", re.IGNORECASE)
_NOTE = re.compile(r"(?:^|\s)(?:footnotes?|endnotes?|fnote|rearnotes?)(?:\s|$)", re.IGNORECASE)
_TRANSCRIBER = re.compile(r"(?:^|\s)(?:trans(?:criber)?s?[-_]?notes?|tnotes?|tnbox|tn|mynote|transnote)(?:\s|$)", re.IGNORECASE)
_LINE = re.compile(r"(?:^|\s)(?:line|verse|l|poem-?line|(?:i|v|indent|verse|line)\d{1,2})(?:\s|$)", re.IGNORECASE)
_REFERENCE = re.compile(
    r"(?:^|\s)(?:noteref|doc-noteref|fnanchor|fn-?ref|footnote-?ref|footnote-?anchor|footnote-?link|endnote-?ref)(?:\s|$)", re.IGNORECASE
)
_BACK = re.compile(r"(?:^|\s)(?:backlink|doc-backlink|footnote-?back(?:ref)?|fnback)(?:\s|$)", re.IGNORECASE)
_LABEL = re.compile(r"[\s\[({]*(\d{1,4}|[ivxl]{1,6}|[a-zA-Z]|[*†‡§¶‖#]{1,3})[\s\])}.]*\Z")
_BACK_SIGNS = frozenset("↩↑⏎^←⤴")
_PLAIN_ALT = re.compile(
    r"(?:cover(?: image| page)?|image|illustration|decoration|ornament|\*|[\w-]+\.(?:jpe?g|png|gif|svg)|\[?illustrations?\]?)\Z",
    re.IGNORECASE,
)
_CONTENTS_TITLE = re.compile(
    r"#*\s*(?:the |table of )?(?:contents|content|illustrations|inhalt(?:sverzeichnis)?|[ií]ndice|sommaire"
    r"|table(?: des mati[eè]res)?|indice|inhoud|目[录錄次])[.:]?\Z",
    re.IGNORECASE,
)
_FEWEST_LINKS = 5  # that make a table of contents
_LONGEST_PAGE_NUMBER, _LONGEST_LABEL, _LONGEST_NOTE = 20, 20, 20_000  # characters
_MOST_LOOKS = 100  # elements that are looked through for links
_LONGEST_CELL = 400  # characters: tables of longer ones only lay out the page


def extract(root: Any, options: Options, *, wanted: frozenset[str] = frozenset(), own_files: bool = False) -> Text:
    """The text of a document's body. `wanted` are ids whose places are asked for; with `own_files` links to other files are the book's own.

    Raises MarkupError."""
    walker = _Walker(options, wanted, own_files)
    walk(root, walker.start, walker.end, walker.text)
    text = walker.out
    text.flush()
    walker.drop_contents()
    return text.done()


def name_of(element: Any) -> str:
    return str(element.tag).rpartition("}")[2].lower()


class _Walker:
    def __init__(self, options: Options, wanted: frozenset[str], own_files: bool) -> None:
        self.out = Blocks(wanted)
        self._options = options
        self._own_files = own_files
        self._lists: list[int] = []  # the next number of each open list; 0 = bullets
        self._tables: list[_Table | None] = []  # None = lays out the page
        self._link: Any = None  # the open link into the book
        self._linked = self._letters = self._links = 0  # of the open block: characters inside links, all, and links
        self._contents: list[tuple[int, int, bool]] = []  # block, links, whether it is a row of links
        self._follow = -2  # the last block that was an item or a line
        self._looks = 0

    def text(self, text: str) -> None:
        self.out.add(text)
        if not text.isspace():
            size = len(text.strip())
            self._letters += size
            self._linked += size if self._link is not None else 0

    # --- elements

    def start(self, element: Any) -> bool:
        name = name_of(element)
        if name in _HIDDEN:
            return False
        if element.attrib and not self._shown(element, name):
            return False
        table = self._tables[-1] if self._tables else None
        if name == "br":
            self.out.line_break()
        elif name == "a":
            return self._start_link(element)
        elif name == "img":
            self._image(element)
            return False
        elif name == "svg":
            self._svg(element)
            return False
        elif name == "math":
            self.text(formula(element))
            return False
        elif name == "rt":
            self.out.add("(")
        elif table is not None:
            table.start(name, self.out)
        elif name in _BLOCK or name in _LEVEL:
            self._flush(tight=self._continues(element, name))
            if name == "pre":
                self.out.verbatim += 1
            elif name in ("ul", "ol"):
                begin = element.get("start") or ""
                self._lists.append(0 if name == "ul" else int(begin) if begin.isdecimal() and len(begin) < 8 else 1)
            elif name == "li":
                self._item()
            elif name == "table":
                self._tables.append(_Table(self.out) if _holds_data(element) else None)
        return True

    def end(self, element: Any) -> None:
        name = name_of(element)
        if name == "rt":
            self.out.add(")")
        elif name == "a" and element is self._link:
            self._link = None
        if name == "table" and self._tables:
            table = self._tables.pop()
            if table is not None and self._enclosing() is None:
                self._end_table(table)
            return
        table = self._enclosing()
        if table is not None:
            table.end(name, self.out)
        elif name in _LEVEL:
            self.out.heading(_LEVEL[name])
            self._linked = self._letters = self._links = 0
        elif name in _BLOCK:
            line = _is_line(element)
            self._flush(tight=line or name == "li", verse=line)
            if name == "pre":
                self.out.verbatim -= 1
            elif name in ("ul", "ol") and self._lists:
                self._lists.pop()
                self.out.prefix("")

    def _enclosing(self) -> _Table | None:
        return self._tables[-1] if self._tables else None

    def _shown(self, element: Any, name: str) -> bool:
        """Look at what the element says of itself: False where it is left out."""
        says = ""
        for key, value in element.attrib.items():
            key = key.rpartition("}")[2]
            if key in ("class", "type", "epub:type", "role"):
                if key != "type" or name not in ("input", "button", "ol", "ul", "li", "a"):
                    says += " " + value
            elif key in ("id", "name") and (key == "id" or name == "a"):
                self.out.anchor(value)
            elif key == "hidden" and name in _BLOCK:
                says += " hidden"
        if not says:
            return True
        kinds = says.split()
        if (
            self._options.boilerplate == "drop"
            and _PAGE.search(says)
            and name not in _LEVEL
            and len(beginning(element, _LONGEST_PAGE_NUMBER)) <= _LONGEST_PAGE_NUMBER
        ):
            self._leave_out(element, PAGES)
            return False
        if _BACK.search(says):
            self._leave_out(element, FOOTNOTES if self._options.notes == "drop" else "links")
            return False
        if self._options.notes == "drop" and name in _BLOCK and (_NOTE.search(says) or not _NOTE_TYPES.isdisjoint(kinds)):
            self._leave_out(element, FOOTNOTES)
            return False
        if self._options.boilerplate == "drop" and name in _BLOCK:
            if not _BOILERPLATE_TYPES.isdisjoint(kinds):
                self._leave_out(element, BOILERPLATE)
                return False
            if name in ("nav", "section", "div", "ol") and not _CONTENTS_TYPES.isdisjoint(kinds) and self._looks < _MOST_LOOKS:
                self._looks += 1
                if _mostly_links(element):
                    self._leave_out(element, CONTENTS)
                    return False
            if _TRANSCRIBER.search(says):
                said = beginning(element, _LONGEST_NOTE)
                if len(said) <= _LONGEST_NOTE and ("ranscri" in said or "RANSCRI" in said):
                    self._leave_out(element, NOTES)
                    return False
        return True

    def _leave_out(self, element: Any, part: str) -> None:
        self.out.remove(part, len(visible(element)))

    def _continues(self, element: Any, name: str) -> bool:
        """Whether the element goes on with a list or a verse that is begun."""
        return (name in ("ul", "ol", "li") and bool(self._lists)) or _is_line(element)

    def _flush(self, *, tight: bool = False, verse: bool = False) -> None:
        """End the block that is begun; of items and lines of verse, which are `tight`, each stands right under the one before."""
        block = self.out.count
        letters, linked, links = self._letters, self._linked, self._links
        self._letters = self._linked = self._links = 0
        if self.out.flush(tight=tight and self._follow == block - 1, verse=verse):
            self._follow = block
            if links:
                self._contents.append((block, links, linked * 10 >= letters * 8 and letters < 300 * links))
        if not tight:
            self._follow = -2

    # --- kinds of elements

    def _start_link(self, element: Any) -> bool:
        target = element.get("href") or ""
        says = " ".join(value for key, value in element.attrib.items() if key.rpartition("}")[2] in ("class", "type", "epub:type", "role"))
        inside = target.startswith("#") or (self._own_files and bool(target) and ":" not in target)
        reference = _REFERENCE.search(says) is not None
        if inside or reference:
            said = beginning(element, _LONGEST_LABEL)
            if said and set(said) - {"\ufe0e"} <= _BACK_SIGNS:
                self.out.remove("links", len(said))
                return False
            label = _LABEL.match(said)
            if label and (reference or _raised(element) or said.startswith(("[", "("))):
                if self._options.notes == "drop":
                    self.out.remove(FOOTNOTES, len(said))
                else:
                    self.text(f"[{label[1]}]")
                return False
            if inside and said:
                self._link = element
                self._links += 1
        return True

    def _image(self, element: Any) -> None:
        said = " ".join((element.get("alt") or "").split())
        if not said or _PLAIN_ALT.match(said):
            return
        if len(said) <= 2 or self.out.begun or (element.tail or "").strip():
            self.text(said)  # an initial, a sign, a word among others
        elif self._options.captions:
            said = re.sub(r"^\[?illustrations?:?\s*|\]$", "", said, flags=re.IGNORECASE) or said
            self.out.add(f"[Illustration: {said}]")
        else:
            self.out.remove(ILLUSTRATIONS, len(said))

    def _svg(self, element: Any) -> None:
        for inner in element.iter():
            if isinstance(inner.tag, str) and inner.text and name_of(inner) in ("text", "title", "desc", "tspan"):
                self.text(f" {inner.text} ")

    def _item(self) -> None:
        indent = "  " * (len(self._lists) - 1)
        if not self._lists or not self._lists[-1]:
            self.out.prefix(indent + "- ")
        else:
            self.out.prefix(f"{indent}{self._lists[-1]}. ")
            self._lists[-1] += 1

    def _end_table(self, table: _Table) -> None:
        block, links = self.out.count, self._links
        text = table.text()
        self._letters = self._linked = self._links = 0
        if text:
            self.out.emit(text)
            if links:
                self._contents.append((block, links, links * 10 >= len(table.rows) * 8 and len(text) < 200 * links))

    # --- tables of contents

    def drop_contents(self) -> None:
        """Leave out runs of at least _FEWEST_LINKS blocks or rows of links, with their heading and single lines between them."""
        if self._options.boilerplate == "keep":
            return
        runs: list[list[int]] = []  # first block, block after the last, links
        for block, links, all_links in self._contents:
            if not all_links:
                continue
            if runs and block - runs[-1][1] <= 1:
                runs[-1][1:] = [block + 1, runs[-1][2] + links]
            else:
                runs.append([block, block + 1, links])
        for first, last, links in runs:
            if links >= _FEWEST_LINKS:
                if first and _CONTENTS_TITLE.match(self.out.text_of(first - 1)):
                    first -= 1
                self.out.take_out(first, last, CONTENTS)


def _is_line(element: Any) -> bool:
    """Whether the element is one line of verse by its class."""
    return _LINE.search(element.get("class") or "") is not None and not any(
        name_of(child) in _BLOCK for child in element if isinstance(child.tag, str)
    )


def _raised(element: Any) -> bool:
    parent = element.getparent()
    return (parent is not None and name_of(parent) == "sup") or any(
        isinstance(child.tag, str) and name_of(child) == "sup" for child in element
    )


def _mostly_links(element: Any) -> bool:
    linked = sum(len(visible(inner)) for inner in element.iter("{*}a"))
    return linked * 2 >= len(visible(element))


# --- tables


class _Table:
    """A table of data: its cells as one row a line."""

    def __init__(self, out: Blocks) -> None:
        self.rows: list[list[str]] = []
        self.caption = ""
        self.headed = False  # whether the first row names the columns
        self._open = False  # a cell or caption

    def start(self, name: str, out: Blocks) -> None:
        if name in ("td", "th", "caption"):
            if self._open:
                self._close(name, out)
            out.hold()
            self._open = True
            if len(self.rows) <= 1 and name != "caption":
                self.headed = name == "th" and (self.headed or not any(self.rows))
        elif name == "tr":
            self.rows.append([])
        elif name in _BLOCK or name in _LEVEL:
            out.add(" ")

    def end(self, name: str, out: Blocks) -> None:
        if name in ("td", "th", "caption") and self._open:
            self._close(name, out)
        elif name in _BLOCK or name in _LEVEL:
            out.add(" ")

    def _close(self, name: str, out: Blocks) -> None:
        self._open = False
        said = out.cell()
        if name == "caption":
            self.caption = said
        else:
            if not self.rows:
                self.rows.append([])
            self.rows[-1].append(said)

    def text(self) -> str:
        rows = [row for row in self.rows if any(row)]
        lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
        if any(len(row) > 1 for row in rows):
            lines = [f"| {line} |" for line in lines]
            if self.headed and len(rows) > 1:
                lines.insert(1, "|" + " --- |" * len(rows[0]))
        return "\n".join([*([self.caption, ""] if self.caption else []), *lines])


def _holds_data(table: Any) -> bool:
    """Whether a table's cells are short, and none holds a table: else it only lays out the page."""
    for inner in table.iter():
        if not isinstance(inner.tag, str):
            continue
        name = name_of(inner)
        if name in ("table", "pre", "h1", "h2", "h3") and inner is not table:
            return False
        if name in ("td", "th") and len(beginning(inner, _LONGEST_CELL)) > _LONGEST_CELL:
            return False
    return True


# --- what a page says of itself


def metadata(root: Any) -> dict[str, Any]:
    """Title, authors, language and licence of an HTML page; None where it says nothing."""
    named: dict[str, str] = {}
    for meta in root.iter("{*}meta"):
        name, said = (meta.get("name") or meta.get("property") or "").lower(), " ".join((meta.get("content") or "").split())
        if said:
            named.setdefault(name.removeprefix("dcterms.").removeprefix("dc."), said[:1000])
    title = next((visible(title) for title in root.iter("{*}title")), "")
    author = named.get("author") or named.get("creator")
    return {
        "title": title[:1000] or named.get("title"),
        "authors": [author] if author else None,
        "language": next((value for key in (_XML_LANG, "lang", "xml:lang") if (value := root.get(key))), None) or named.get("language"),
        "rights": named.get("rights"),
        "licence_url": next(
            (link.get("href") for link in root.iter("{*}link", "{*}a") if "license" in (link.get("rel") or "").lower().split()), None
        ),
    }


_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


# --- formulas


def formula(math: Any) -> str:
    """A MathML formula as the LaTeX that it carries, between dollars; else its description or its signs."""
    sign = "$$" if math.get("display") == "block" else "$"
    for inner in math.iter("{*}annotation"):
        if "tex" in (inner.get("encoding") or "").lower() and (tex := (inner.text or "").strip().strip("$")):
            return f"{sign}{tex}{sign}"
    said = " ".join((math.get("alttext") or "").split())
    if said and "not available" not in said:
        return f"{sign}{said.strip('$')}{sign}" if set(said) & set("\\^_{") else said
    return "".join(
        " ".join(inner.text.split())
        for inner in math.iter()
        if isinstance(inner.tag, str) and inner.text and name_of(inner) not in ("annotation", "annotation-xml")
    )
