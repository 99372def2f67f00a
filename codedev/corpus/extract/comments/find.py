"""The comments and the documentation of a source file, found by a parser: tree-sitter's grammars, or Pygments where they have none.

`spans` gives byte spans of comments (the `#!` line and licence headers are comments), and for tree-sitter's languages every docstring with
the definition that it documents. Which node is what stands in `data/parsers.toml`; definitions are described in `comments_define`.
A parser and its query are made once a language and process, when first asked for.

Cost: 3 to 10 MB/s with tree-sitter, 0.1 to 2 MB/s with Pygments. Memory: about 60 times the file while its tree is alive.
A parser's work is limited by counts, so that a file has the same comments on every machine: the file's size, the parser's steps, the bytes
it looks at (some grammars look ahead to the end of the file from every token), tokens in a row inside an error (a query takes quadratic
time over those), elements of HTML inside one another (the scanner takes quadratic time over those).
`None` is the answer for a file over a limit, all of them far above what real files need. Some grammars (Haskell, Scala,
Julia) have quadratic cases that no count shows: after MAX_SECONDS of processor time, fifteen times what any real file took, the answer
is None too.

What it does not do: a language inside another (a script in HTML, code in a Markdown file) is not looked into, but by some of Pygments'
lexers. Text after Ruby's `__END__` is no comment.
"""

from __future__ import annotations

import functools
import importlib
import re
import time
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from codedev._errors import InputError

TABLE = Path(__file__).parents[2] / "data" / "parsers.toml"
MAX_BYTES = 8 << 20
MAX_CHILDREN = 5000  # of one erroneous node
MAX_MATCHES = 1000  # of the query, unfinished at one place
MAX_SECONDS = 5.0
MAX_OPEN = 10_000  # elements of HTML inside one another
_TAG = re.compile(rb"<(/?)([A-Za-z][A-Za-z0-9-]{0,63})")
_EMPTY = frozenset(b"area base br col embed hr img input link meta param source track wbr".split())
# What ends the element before it that has no end tag.
_ENDS = {
    **{name: frozenset([name]) for name in b"p li option optgroup rb rt rp colgroup thead tbody tfoot".split()},
    **{name: frozenset([b"dt", b"dd"]) for name in (b"dt", b"dd")},
    **{name: frozenset([b"td", b"th"]) for name in (b"td", b"th")},
    b"tr": frozenset([b"td", b"th", b"tr"]),
}
# The most of 30,000 real files: 3 steps a byte (the parser reports every hundred), 44 looks at each chunk.
_FREE_STEPS, _STEPS_PER_BYTE = 100_000, 10
_CHUNK, _FREE_READS, _READS_PER_CHUNK = 4096, 1000, 100


class Docstring(NamedTuple):
    name: str  # qualified inside the file; a file's own documentation has none
    kind: str  # module, class, type, function, method, value
    signature: str  # the definition up to its body, on one line
    text: str  # what it says, without markers, quotes and indentation
    span: tuple[int, int]  # of the docstring, with its markers
    code: tuple[int, int]  # of the definition that it documents


class Comments(NamedTuple):
    comments: list[tuple[int, int]]  # merged and sorted; docstrings are among them where they are comments and not strings
    docstrings: list[Docstring]  # in order of their definitions
    parser: str  # tree-sitter or pygments
    errors: int  # places that the parser did not understand


class Grammar(NamedTuple):
    """A language's row of the table, ready for use."""

    parser: Any  # tree_sitter.Parser
    cursor: Any  # tree_sitter.QueryCursor
    documents: re.Pattern[bytes] | None  # None: any comment
    inner: re.Pattern[bytes] | None
    unlike: re.Pattern[str] | None
    name_end: re.Pattern[str] | None
    separator: str
    after: bool
    joined: bool
    line: bool
    words: dict[str, str]
    xml: bool
    python: bool
    otherwise: str | None


def spans(data: bytes, language: str) -> Comments | None:
    """`language` by linguist's name. None where no parser knows it, and for a file over a limit. Raises InputError when the grammar that it
    needs is not installed."""
    if len(data) > MAX_BYTES:
        return None
    grammar = _grammar(language)
    if language == "HTML" and _deep(data):
        return None
    if grammar is None:
        from codedev.corpus.extract.comments import pygments as comments_pygments

        return comments_pygments.spans(data, language)
    found = _parsed(data, grammar)
    if found is not None and found.errors and grammar.otherwise:
        other_grammar = _grammar(grammar.otherwise)
        other = _parsed(data, other_grammar) if other_grammar else None
        return min(found, other, key=lambda comments: comments.errors) if other else found
    return found


def _parsed(data: bytes, grammar: Grammar) -> Comments | None:
    from codedev.corpus.extract.comments import define as comments_define

    steps = (_FREE_STEPS + _STEPS_PER_BYTE * len(data)) // 100
    reads = _FREE_READS + _READS_PER_CHUNK * len(data) // _CHUNK
    deadline = time.thread_time() + MAX_SECONDS

    served = 0  # where the last chunk ended

    def chunk(position: int, point: object) -> bytes:
        nonlocal reads, served
        reads -= 1
        # Over the limit the file ends here. But bytes that are no UTF-8 at the end of a chunk are asked for again, and the lexer would
        # crash if there were none.
        given = data[position : position + _CHUNK] if reads >= 0 else b"    " if served - 4 < position < served else b""
        served = position + len(given)
        return given

    def over(position: int, error: bool) -> bool:
        nonlocal steps
        steps -= 1
        return steps < 0 or reads < 0 or time.thread_time() > deadline

    try:
        tree = grammar.parser.parse(chunk, progress_callback=over)
    except ValueError:  # how the binding says that it was told to stop
        tree = None
    if tree is None or reads < 0:
        grammar.parser.reset()  # it would go on with this file otherwise
        return None
    errors = _errors(tree) if tree.root_node.has_error else 0
    if errors is None:
        return None
    matches = grammar.cursor.matches(tree.root_node)
    if grammar.cursor.did_exceed_match_limit:
        return None
    comments, docstrings = comments_define.described(data, matches, grammar)
    return Comments(merged(comments), docstrings, "tree-sitter", errors)


def _deep(data: bytes) -> bool:
    """Whether more than MAX_OPEN elements are open at one place. Linear; a file with few tags costs 0.1 ms a MB, others 0.5 µs a tag."""
    if data.count(b"<") <= MAX_OPEN:
        return False
    opened: list[bytes] = []
    count: dict[bytes, int] = {}
    for match in _TAG.finditer(data):
        name = match[2].lower()
        if match[1]:
            while count.get(name):
                last = opened.pop()
                count[last] -= 1
                if last == name:
                    break
        elif name not in _EMPTY:
            while opened and opened[-1] in _ENDS.get(name, ()):
                count[opened.pop()] -= 1
            opened.append(name)
            count[name] = count.get(name, 0) + 1
            if len(opened) > MAX_OPEN:
                return True
    return False


def _errors(tree: Any) -> int | None:
    """How many nodes are errors or missing; None when one has too many children."""
    count, cursor = 0, tree.walk()
    while True:
        node = cursor.node
        if node.is_error or node.is_missing:
            count += 1
            if node.child_count > MAX_CHILDREN:
                return None
        if node.has_error and cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return count


def merged(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans sorted, those that overlap as one; empty ones left out."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if result and start < result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        elif start < end:
            result.append((start, end))
    return result


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {name: {**rows[row["like"]], **row} if "like" in row else row for name, row in rows.items()}


@functools.cache
def _grammar(language: str) -> Grammar | None:
    row = _table().get(language)
    if row is None:
        return None
    try:
        import tree_sitter

        module = importlib.import_module(row["module"])
    except ImportError:
        wheel = f"{row['module']}".replace("_", "-")
        raise InputError(f"comments of {language} need tree-sitter and {wheel}: pip install -e '.[parsers]'") from None
    known = tree_sitter.Language(getattr(module, row.get("function", "language"))())
    cursor = tree_sitter.QueryCursor(tree_sitter.Query(known, row["query"]), match_limit=MAX_MATCHES)
    bytes_of = {key: re.compile(row[key].encode()) if key in row else None for key in ("documents", "inner")}
    text_of = {key: re.compile(row[key]) if key in row else None for key in ("unlike", "name_end")}
    return Grammar(
        parser=tree_sitter.Parser(known),
        cursor=cursor,
        documents=bytes_of["documents"],
        inner=bytes_of["inner"],
        unlike=text_of["unlike"],
        name_end=text_of["name_end"],
        separator=row.get("separator", "."),
        after=row.get("after", False),
        joined=row.get("joined", False),
        line=row.get("line", False),
        words=row.get("words", {}),
        xml=row.get("xml", False),
        python=row["module"] == "tree_sitter_python",
        otherwise=row.get("otherwise"),
    )
