"""Definitions and what documents them, from the matches of a grammar's query.

A definition's documentation is the comment, the run of line comments or (Elixir, Julia) the string that ends directly above it: white space
with one line break at most, attributes and decorators may stand between. Or it is what the body begins with: Python's docstring, Rust's
`//!`, Elixir's @moduledoc. Each documents one definition, the outermost that begins there.
Names are qualified by the definitions around, not by the package or the folder. Cost: linear in the number of matches.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from codedev.corpus.extract.comments import text as comments_text
from codedev.corpus.extract.comments.find import Docstring

if TYPE_CHECKING:
    from codedev.corpus.extract.comments.find import Grammar

KINDS = ("module", "class", "type", "function", "method", "value")
_GAP = 1000  # bytes of white space looked through
_STEPS = 50  # attributes and comments passed on the way up
_SIGNATURE = 2000  # bytes
_NAME = 200  # characters
Span = tuple[int, int]

# What may stand on a definition's line before it: modifiers that the grammar puts outside. `pub(crate)`, `export default`, `private`
_MODIFIERS = re.compile(rb"[ \t]*((?:[A-Za-z_]\w*(?:\([\w:, ]*\))?[ \t]+)*)")
_LINE_COMMENT = re.compile(rb"//[/!]?|--|#(?!=)|;+")
_SPACE = re.compile(r"\s+")
_SIGNATURE_END = re.compile(r"\s*(?:[:={;]|=>|->|\bdo|\bwhere|\bthen|\bis)?\s*$")


class _Definition:
    __slots__ = ("body", "end", "kind", "name", "node", "own", "qualified", "start")

    def __init__(self, kind: str, node: Any, own: dict[str, Any]) -> None:
        self.kind, self.node, self.own = kind, node, own
        self.start, self.end = node.start_byte, node.end_byte  # decorators and modifiers included
        self.body: int | None = own["body"].start_byte if "body" in own else None
        self.name = self.qualified = ""


class _Scene:
    """What the query found, sorted."""

    def __init__(self, data: bytes, matches: list[tuple[int, dict[str, list[Any]]]], grammar: Grammar) -> None:
        self.data, self.grammar = data, grammar
        self.comments: list[Span] = []
        self.strings: dict[int, Span] = {}  # end of a documenting string -> its span
        self.inner: list[Span] = []
        self.statements: dict[int, Span] = {}  # start -> span
        self.skips: dict[int, int] = {}  # end -> start
        found: dict[Span, _Definition] = {}
        for _, captures in matches:  # about 1.5 µs each
            own = {name: nodes[0] for name, nodes in captures.items()}
            if "word" in own:
                own = self._by_word(own)
            kind = next((kind for kind in KINDS if kind in own), None)
            if kind is not None:
                node = own[kind]
                place = (node.start_byte, -node.end_byte)
                if place not in found or (found[place].body is None and "body" in own):
                    found[place] = _Definition(kind, node, own)
                definition = found[place]
                if "wrap" in own:
                    definition.start, definition.end = own["wrap"].start_byte, max(own["wrap"].end_byte, definition.end)
            elif "comment" in own:
                self.comments.append((own["comment"].start_byte, own["comment"].end_byte))
            elif "doc" in own:
                end = own["doc"].end_byte
                self.strings[end] = (own["doc"].start_byte, end)
            elif "inner" in own:
                self.inner.append((own["inner"].start_byte, own["inner"].end_byte))
            elif "statement" in own:
                self.statements[own["statement"].start_byte] = (own["statement"].start_byte, own["statement"].end_byte)
            if "skip" in own:
                self.skips[own["skip"].end_byte] = own["skip"].start_byte
        self.comments = [(start, start + len(data[start:end].rstrip())) for start, end in sorted(set(self.comments))]
        self.ends = [end for _, end in self.comments]
        self.definitions = [found[key] for key in sorted(found)]
        for definition in self.definitions:
            definition.start = self._modifiers(definition.start)
        self._qualify()

    def _by_word(self, own: dict[str, Any]) -> dict[str, Any]:
        """What an attribute or a call stands for: Elixir has no other definitions."""
        word = self.data[own["word"].start_byte : min(own["word"].end_byte, own["word"].start_byte + _NAME)].decode("utf-8", "replace")
        attribute = own.get("attribute")
        role = self.grammar.words.get(f"@{word}" if attribute else word)
        skip = {"skip": attribute} if attribute else {}
        if role in ("doc", "inner"):
            return {role: own["name"]} if own["name"].type in ("string", "sigil") else skip
        return {**own, role: attribute or own["call"]} if role else skip

    def _modifiers(self, start: int) -> int:
        """Where the modifiers before `start` on its line begin; `start` when something else stands there."""
        line = self.data.rfind(b"\n", max(0, start - 200), start) + 1
        match = _MODIFIERS.fullmatch(self.data, line, start) if line else None
        return match.start(1) if match else start

    def _qualify(self) -> None:
        open_: list[_Definition] = []
        for definition in self.definitions:
            while open_ and open_[-1].end <= definition.start:
                open_.pop()
            definition.name = self._name(definition)
            around = open_[-1].qualified if open_ else ""
            if "scope" in definition.own:
                around = self._text(definition.own["scope"]).lstrip("*& ")
            parts = [part for part in (around, definition.name) if part]
            definition.qualified = self.grammar.separator.join(parts)[-4 * _NAME :]
            if definition.kind == "function" and open_ and open_[-1].kind in ("class", "type"):
                definition.kind = "method"
            open_.append(definition)

    def _name(self, definition: _Definition) -> str:
        node = definition.own.get("name")
        if node is None:
            return ""
        for _ in range(_STEPS):  # C's declarators: pointers and parentheses around a name
            inner = node.child_by_field_name("declarator")
            if inner is None:
                break
            node = inner
        return self._text(node).strip("\"'`")

    def _text(self, node: Any) -> str:
        text = self.data[node.start_byte : min(node.end_byte, node.start_byte + 4 * _NAME)].decode("utf-8", "replace")
        if self.grammar.name_end:
            text = self.grammar.name_end.split(text.lstrip(), maxsplit=1)[0]
        return _SPACE.sub(" ", text).strip()[:_NAME]

    def above(self, position: int) -> Span | None:
        """The documentation that ends directly above `position`."""
        for _ in range(_STEPS):
            end = _before(self.data, position)
            if end is None:
                return None
            if end in self.strings:
                return self.strings[end]
            if end in self.skips:
                position = self.skips[end]
                continue
            index = bisect_left(self.ends, end)
            if index == len(self.ends) or self.ends[index] != end:
                return None
            span = self._run(index)
            if span is None:
                return None
            documents = self.grammar.documents
            if documents is None or documents.match(self.data, *span):
                return span
            position = span[0]
        return None

    def _run(self, index: int) -> Span | None:
        """The comment, with the line comments of its kind directly above it; None when code stands before the first on its line."""
        start, end = self.comments[index]
        marker = _LINE_COMMENT.match(self.data, start, end)
        while marker and index and _before(self.data, start) == self.ends[index - 1]:
            above = self.comments[index - 1]
            match = _LINE_COMMENT.match(self.data, *above)
            if match is None or match[0] != marker[0] or not self._alone(above[0]):
                break
            index, start = index - 1, above[0]
        return (start, end) if self._alone(start) or not marker else None

    def _alone(self, start: int) -> bool:
        """Whether only white space stands before it on its line."""
        line = self.data.rfind(b"\n", max(0, start - _GAP), start) + 1
        return not self.data[line:start].strip(b" \t\xef\xbb\xbf")

    def below(self, definition: _Definition) -> Span | None:
        """OCaml's other custom: the comment that begins directly after the definition, before an empty line or the end."""
        gap = self.data[definition.end : definition.end + _GAP]
        start = definition.end + len(gap) - len(gap.lstrip())
        index = bisect_left(self.comments, (start, 0))
        if gap[: start - definition.end].count(b"\n") > 1 or index == len(self.comments) or self.comments[index][0] != start:
            return None
        span = self.comments[index]
        rest = self.data[span[1] : span[1] + _GAP].lstrip(b" \t\r")
        ends = not rest or (rest.startswith(b"\n") and not rest[1:].lstrip(b" \t\r")[:1].strip())
        return span if ends and self.grammar.documents and self.grammar.documents.match(self.data, *span) else None

    def statement(self, position: int) -> Span | None:
        """The string that is the first statement at `position` or after the comments there."""
        for _ in range(_STEPS * 10):
            gap = self.data[position : position + _GAP]
            position += len(gap) - len(gap.lstrip(b" \t\r\n\f\\\xef\xbb\xbf"))
            if position in self.statements:
                return self.statements[position]
            index = bisect_left(self.comments, (position, 0))
            if index < len(self.comments) and self.comments[index][0] == position:
                position = self.comments[index][1]
            elif gap.strip():
                return None
        return None

    def signature(self, definition: _Definition) -> str:
        body = definition.own.get("body") or definition.node.child_by_field_name("body")
        end = definition.node.end_byte
        if body is not None and body.start_byte > definition.start:
            end = body.start_byte
        end = min(end, definition.start + _SIGNATURE)
        raw = self._without_comments(definition.start, end)
        if body is None or self.grammar.line:
            raw = _opening(raw, self.grammar.line, definition.kind != "value")
        text = _SPACE.sub(" ", raw.decode("utf-8", "replace")).strip()
        return text if definition.kind == "value" else _SIGNATURE_END.sub("", text)

    def _without_comments(self, start: int, end: int) -> bytes:
        parts, at = [], start
        for index in range(bisect_left(self.comments, (start, 0)), len(self.comments)):
            comment = self.comments[index]
            if comment[0] >= end:
                break
            parts.append(self.data[at : comment[0]])
            at = max(at, comment[1])
        return b"".join([*parts, self.data[at:end]])


def _opening(raw: bytes, line: bool, brace: bool) -> bytes:
    """`raw` up to its body: an opening brace, or (`line`) the end of the line, where no bracket is open."""
    depth = 0
    for match in re.finditer(rb"[\n()\[\]{}]", raw):
        token = match[0]
        if depth == 0 and ((token == b"\n" and line) or (token == b"{" and brace)):
            return raw[: match.start()]
        depth += (token in b"([{") - (token in b")]}")
    return raw


def _before(data: bytes, position: int) -> int | None:
    """Where the text before `position` ends, when no more than one line break stands between."""
    gap = data[max(0, position - _GAP) : position]
    text = gap.rstrip()
    return None if gap.count(b"\n", len(text)) > 1 or (not text and len(gap) == _GAP) else position - len(gap) + len(text)


def described(data: bytes, matches: list[tuple[int, dict[str, list[Any]]]], grammar: Grammar) -> tuple[list[Span], list[Docstring]]:
    scene = _Scene(data, matches, grammar)
    found = list(_python(scene)) if grammar.python else [*_inner(scene), *_outer(scene)]
    return scene.comments, sorted(found, key=lambda docstring: (docstring.code[0], -docstring.code[1], docstring.span))


def _docstring(scene: _Scene, definition: _Definition | None, span: Span, text: str) -> Docstring | None:
    if not text:
        return None
    if definition is None:
        return Docstring("", "module", "", text, span, (0, len(scene.data)))
    return Docstring(definition.qualified, definition.kind, scene.signature(definition), text, span, (definition.start, definition.end))


def _python(scene: _Scene) -> Iterator[Docstring]:
    for definition in (None, *scene.definitions):
        body = 0 if definition is None else definition.body
        span = None if body is None else scene.statement(body)
        text = comments_text.python_string(scene.data[slice(*span)]) if span else None
        if span and text and (found := _docstring(scene, definition, span, text)):
            yield found


def _outer(scene: _Scene) -> Iterator[Docstring]:
    claimed: set[Span] = set()
    if scene.grammar.joined:
        _join(scene)
    for definition in scene.definitions:
        span = scene.above(definition.start) or (scene.below(definition) if scene.grammar.after else None)
        if span is None or span in claimed:
            continue
        claimed.add(span)
        text = comments_text.cleaned(scene.data[slice(*span)], scene.grammar.unlike, scene.grammar.xml)
        if found := _docstring(scene, definition, span, text):
            yield found


def _join(scene: _Scene) -> None:
    """Definitions of one name in a row become one, as long as the first."""
    last: dict[str, _Definition] = {}
    joined = []
    for definition in scene.definitions:
        around = definition.qualified[: -len(definition.name)] if definition.name else definition.qualified
        before = last.get(around)
        if before and before.name == definition.name and before.kind == definition.kind and before.end <= definition.start:
            before.end = definition.end
        else:
            last[around] = definition
            joined.append(definition)
    scene.definitions = joined


def _inner(scene: _Scene) -> Iterator[Docstring]:
    """Rust's `//!` and Elixir's @moduledoc: they document what they stand in."""
    spans = list(scene.inner)
    if scene.grammar.inner:
        previous = -1
        for index, span in enumerate(scene.comments):
            if not scene.grammar.inner.match(scene.data, *span):
                continue
            if previous == index - 1 and spans and _before(scene.data, span[0]) == spans[-1][1] and scene.data[span[0] + 1] == ord("/"):
                spans[-1] = (spans[-1][0], span[1])
            else:
                spans.append(span)
            previous = index
    starts = [definition.start for definition in scene.definitions]
    parents = _parents(scene.definitions)
    for span in spans:
        index = bisect_right(starts, span[0]) - 1
        while index >= 0 and scene.definitions[index].end < span[1]:
            index = parents[index]
        text = comments_text.cleaned(scene.data[slice(*span)], scene.grammar.unlike, scene.grammar.xml)
        if found := _docstring(scene, scene.definitions[index] if index >= 0 else None, span, text):
            yield found


def _parents(definitions: list[_Definition]) -> list[int]:
    """The index of the definition around each; -1 for none."""
    parents: list[int] = []
    open_: list[int] = []
    for index, definition in enumerate(definitions):
        while open_ and definitions[open_[-1]].end <= definition.start:
            open_.pop()
        parents.append(open_[-1] if open_ else -1)
        open_.append(index)
    return parents
