"""The lexemes of source code, as byte spans: what its grammar reads as one thing, and a token should not straddle.

    Python      NAME, OP and NUMBER of the standard library's `tokenize`, which the project's reference figures were measured with
    others      leaves of tree-sitter's tree (corpus/extract/comments knows the grammars) that hold no white space and stand in no comment,
                string or text: keywords, names, numbers, operators, brackets

Of a document the first DOCUMENT_BYTES are looked at, up to a line's end: `tokenize` takes quadratic time in a long string, at that size
0.3 s. After `find.MAX_SECONDS` of a parser's time, a document has no lexemes. About 1 MB/s.
"""

from __future__ import annotations

import io
import re
import time
import tokenize
from typing import Any

from codedev.corpus.extract.comments import find

DOCUMENT_BYTES = 64 << 10
_CHUNK = 4096
_ASIDE = re.compile("(?:^|_)(?:comment|haddock|string|str|text|heredoc|char|charlist|character|regex)(?:_|$)")
_LEXEMES = frozenset({tokenize.NAME, tokenize.OP, tokenize.NUMBER})
Span = tuple[int, int]


def lexemes(data: bytes, language: str) -> list[Span] | None:
    """Spans of a document's lexemes in their order; None for a language without a grammar, or a document that takes its parser too long.
    `language` by linguist's name. InputError where the grammar's package is not installed."""
    if len(data) > DOCUMENT_BYTES:
        data = data[: data.rfind(b"\n", 0, DOCUMENT_BYTES) + 1]
    if language == "Python":
        return _python(data)
    if language == "HTML":  # all but its tags is text
        return None
    grammar = find._grammar(language)
    if grammar is None:
        return None
    deadline = time.thread_time() + find.MAX_SECONDS

    def chunk(position: int, point: object) -> bytes:
        return data[position : position + _CHUNK]

    try:
        tree = grammar.parser.parse(chunk, progress_callback=lambda position, error: time.thread_time() > deadline)
    except ValueError:  # how the binding says that it was told to stop
        grammar.parser.reset()  # it would go on with this document otherwise
        return None
    return _leaves(data, tree)


def _leaves(data: bytes, tree: Any) -> list[Span]:
    found: list[Span] = []
    cursor = tree.walk()
    while True:
        node = cursor.node
        aside = node.is_named and _ASIDE.search(node.type)
        if not aside:
            if cursor.goto_first_child():
                continue
            begin, end = node.start_byte, node.end_byte
            if begin < end and len(data[begin:end].split()) == 1 and not data[begin:end][:1].isspace():
                text = data[begin:end].rstrip()
                found.append((begin, begin + len(text)))
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return found


def _python(data: bytes) -> list[Span]:
    """Up to the first thing that is no Python."""
    text = data.decode("utf-8", "replace")
    lines = io.StringIO(text, newline="\n").readlines()
    begins = [0]
    for line in lines:
        begins.append(begins[-1] + len(line.encode()))
    found: list[Span] = []
    try:
        for token in tokenize.generate_tokens(iter([*lines, ""]).__next__):
            if token.type in _LEXEMES and token.string:
                row, column = token.start
                begin = begins[row - 1] + len(lines[row - 1][:column].encode())
                found.append((begin, begin + len(token.string.encode())))
    except (tokenize.TokenError, SyntaxError, StopIteration):  # IndentationError is a SyntaxError
        pass
    return [span for span in found if data[slice(*span)].strip()]


def choose(languages: list[str], sizes: list[int], each: int, together: int) -> list[int]:
    """Which documents are parsed, of those given: in their order, until a language has `each` bytes and all have `together`."""
    seen: dict[str, int] = {}
    chosen = []
    for index, (language, size) in enumerate(zip(languages, sizes, strict=True)):
        if seen.get(language, 0) < each and sum(seen.values()) < together:
            seen[language] = seen.get(language, 0) + min(size, DOCUMENT_BYTES)
            chosen.append(index)
    return chosen
