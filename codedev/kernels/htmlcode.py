"""Code in a page: what to call its language, and its lines as they are shown, without the numbers and buttons beside them.

A `<pre>`, or a highlighter's table of line numbers and code, becomes one text; blanks at the start of lines and empty lines between them
stay, blanks at the end of lines do not. Powers and indices are written as ^ and _. Linear in the bytes of the element. Does not guess a
language from the code, and knows no highlighter that draws with scripts.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.htmlscript import BRACED, PLAIN, power
from codedev.kernels.htmltape import INLINE, OTHER, RAW, SKIPPED, TAG, TEXT, is_space, table_of


def _hash(word: str) -> int:
    value = 14695981039346656037
    for byte in word.encode():
        value = (value ^ byte) * 1099511628211 & (1 << 64) - 1
    return value


def _hashes(words: str) -> np.ndarray:
    return np.array([_hash(word) for word in words.split()], np.uint64)


def name(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


CLASS, ROLE, START, VALUE, DISPLAY, COLSPAN, ROWSPAN = map(name, ("class", "role", "start", "value", "display", "colspan", "rowspan"))
_LANG, _DATA_NUMBER = name("lang"), name("data-line-number")
_DATA_LANG, _DATA_LANGUAGE, _DATA_CODE_LANGUAGE = map(name, ("data-lang", "data-language", "data-code-language"))

_GUTTER = _hashes(
    "linenos lineno line-number line-numbers line-numbers-rows linenumber linenumbers linenodiv gutter rouge-gutter hljs-ln-numbers "
    "blob-num lnt ln crayon-nums crayon-num react-syntax-highlighter-line-number code-block-line-number line-num linenum line_number "
    "line_numbers line-numbers-wrapper file-line-num diff-line-num lines-num pre-numbering hljs-line-numbers td-lineno code-line-number"
)
_TABLES = _hashes("highlighttable rouge-table syntaxhighlighter lntable crayon-table hljs-ln js-file-line-container")
_LINES = _hashes("line code-line view-line crayon-line cm-line codeline")
# Classes that say that a name of a language stands beside them.
_MARKERS = _hashes("hljs highlight codehilite sourcecode src prettyprint prism code syntaxhighlighter crayon-syntax brush chroma shiki")
_NO_LANGUAGE = _hashes("none default nohighlight no-highlight undefined auto unknown null wrapper")
# In `lang` a name of two letters may be a tongue of men: those that are not can be told.
_KNOWN_SHORT = _hashes("js py rb c r go")
_KNOWN = _hashes(
    "abap ada apache applescript arduino asm assembly awk bash basic batch bat brainfuck c c# c++ c-sharp clojure cmake cobol "
    "coffeescript console cpp crystal cs csharp css cuda cython d dart delphi diff docker dockerfile dos elixir elm erlang f# fish "
    "fortran fsharp gherkin glsl go golang gradle graphql groovy handlebars haskell hcl hlsl html http ini java javascript jinja js "
    "json jsonc jsp jsx julia kotlin kt latex less lisp lua makefile markdown mathematica matlab mysql nasm nginx nim nix objc "
    "objective-c objectivec ocaml octave pascal perl pgsql php pl plaintext plpgsql plsql postgresql powershell prolog properties "
    "protobuf ps1 puppet py py3 pycon python python2 python3 r racket rb rest rst ruby rust sas sass scala scheme scss sed sh shell "
    "shell-session smalltalk solidity sparql sql swift systemverilog tcl terraform tex text toml ts tsql tsx twig typescript vala vb "
    "vb.net vbnet verilog vhdl vim vue wasm xml xhtml yaml yml zig zsh"
)
_PREFIXES = tuple(map(name, ("language-", "lang-", "highlight-source-", "highlight-", "src-", "brush:")))
_PRE = table_of("pre listing xmp plaintext")
_PRE_OR_CODE = table_of("pre code listing")
_CELL = table_of("td th")
_ROW = table_of("li tr")
_NO_LINE = table_of("pre listing xmp codedev-math table ul dl h1 h2 h3 h4 h5 h6")
_BR, _BUTTON, _CODE, _TR, _SUP, _SUB = TAG["br"], TAG["button"], TAG["code"], TAG["tr"], TAG["sup"], TAG["sub"]

_TAG_BYTES = 4096  # of a tag that are looked through for an attribute
_NAME_BYTES = 20  # of a language
_NUMBERS_BYTES = 32_768  # beside code; elements may be nested
_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_i32 = numba.int32[::1]


@numba.njit(nogil=True, cache=True)
def attribute(data: Any, start: int, stop: int, wanted: Any) -> Any:
    """Where the value of an attribute lies in the tag data[start:stop]; start -1 where it has none."""
    stop = min(stop, start + _TAG_BYTES)
    at = start + 1
    while at < stop and not is_space(data[at]):
        at += 1
    while at < stop:
        if is_space(data[at]) or data[at] == 61:
            at += 1
            continue
        begin = at
        while at < stop and data[at] != 61 and not is_space(data[at]):
            at += 1
        same = at - begin == len(wanted)
        if same:
            for i in range(len(wanted)):
                if data[begin + i] != wanted[i]:
                    same = False
                    break
        if at + 1 < stop and data[at] == 61 and data[at + 1] == 34:
            at += 2
            value = at
            while at < stop and data[at] != 34:
                at += 1
            if same:
                return value, at
            at += 1
        elif same:
            return at, at
    return -1, -1


@numba.njit(nogil=True, cache=True)
def number(data: Any, start: int, stop: int, wanted: Any, otherwise: int) -> int:
    """The value of an attribute that is an integer of at most nine digits."""
    at, end = attribute(data, start, stop, wanted)
    value, digits = 0, 0
    while at >= 0 and at < end and digits < 10 and 48 <= data[at] <= 57:
        value = value * 10 + data[at] - 48
        digits += 1
        at += 1
    return value if 0 < digits < 10 else otherwise


@numba.njit(nogil=True, cache=True)
def _word(data: Any, at: int, end: int) -> Any:
    """The word of a class attribute at or behind `at`: where it begins and ends, and the hash of its small letters."""
    while at < end and is_space(data[at]):
        at += 1
    begin = at
    value = numba.uint64(14695981039346656037)
    while at < end and not is_space(data[at]):
        byte = data[at]
        if 65 <= byte <= 90:
            byte |= 32
        value = (value ^ numba.uint64(byte)) * numba.uint64(1099511628211)
        at += 1
    return begin, at, value


@numba.njit(nogil=True, cache=True)
def _among(value: Any, hashes: Any) -> bool:
    for known in hashes:  # a loop in a kernel
        if known == value:
            return True
    return False


@numba.njit(nogil=True, cache=True)
def has_class(data: Any, start: int, stop: int, hashes: Any) -> bool:
    at, end = attribute(data, start, stop, CLASS)
    while 0 <= at < end:
        _, at, value = _word(data, at, end)
        if _among(value, hashes):
            return True
    return False


@numba.njit(nogil=True, cache=True)
def _begins(data: Any, at: int, end: int, prefix: Any) -> bool:
    if end - at < len(prefix):
        return False
    for i in range(len(prefix)):
        byte = data[at + i]
        if (byte | 32 if 65 <= byte <= 90 else byte) != prefix[i]:
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _spell(data: Any, at: int, end: int, spelled: Any) -> int:
    """Write the name of a language in small letters: its length, 0 where it is none."""
    size = 0
    value = numba.uint64(14695981039346656037)
    while at < end and size < _NAME_BYTES:
        byte = data[at]
        if 65 <= byte <= 90:
            byte |= 32
        if not (97 <= byte <= 122 or 48 <= byte <= 57 or byte == 43 or byte == 35 or byte == 45 or byte == 46):
            break
        spelled[size] = byte
        value = (value ^ numba.uint64(byte)) * numba.uint64(1099511628211)
        size += 1
        at += 1
    if _among(value, _NO_LANGUAGE):
        return 0
    return size


@numba.njit(nogil=True, cache=True)
def _class_language(data: Any, start: int, stop: int, prefix: Any, known: bool, spelled: Any) -> int:
    """The language that a class names behind `prefix`."""
    at, end = attribute(data, start, stop, CLASS)
    while 0 <= at < end:
        begin, at, value = _word(data, at, end)
        if _begins(data, begin, at, prefix):
            begin += len(prefix)
            if begin == at:  # `brush: python`
                begin, at, value = _word(data, at, end)
            size = _spell(data, begin, at, spelled)
            if size > 0 and known:
                _, _, value = _word(data, begin, at)
                if not _among(value, _KNOWN):
                    size = 0
            if size > 0:
                return size
    return 0


@numba.njit(nogil=True, cache=True)
def _element_language(data: Any, start: int, stop: int, own: bool, spelled: Any) -> int:
    """The language that one element names; `own`: it is the pre or the code itself, and a bare `python` says enough."""
    size = _class_language(data, start, stop, _PREFIXES[0], False, spelled)
    if size == 0:
        size = _class_language(data, start, stop, _PREFIXES[1], False, spelled)
    if size == 0:
        size = _class_language(data, start, stop, _PREFIXES[2], False, spelled)
    if size == 0:
        size = _class_language(data, start, stop, _PREFIXES[5], False, spelled)
    if size == 0:
        size = _class_language(data, start, stop, _PREFIXES[4], True, spelled)
    if size == 0:
        size = _class_language(data, start, stop, _PREFIXES[3], True, spelled)
    if size > 0:
        return size
    at, end = attribute(data, start, stop, _DATA_LANG)
    if at < 0:
        at, end = attribute(data, start, stop, _DATA_LANGUAGE)
    if at < 0:
        at, end = attribute(data, start, stop, _DATA_CODE_LANGUAGE)
    if at >= 0:
        size = _spell(data, at, end, spelled)
        if size > 0:
            return size
    if own or has_class(data, start, stop, _MARKERS):
        at, end = attribute(data, start, stop, CLASS)
        while 0 <= at < end:
            begin, at, value = _word(data, at, end)
            if _among(value, _KNOWN):
                return _spell(data, begin, at, spelled)
    at, end = attribute(data, start, stop, _LANG)
    if at >= 0:
        _, _, value = _word(data, at, end)
        if _among(value, _KNOWN_SHORT) or (end - at > 2 and _among(value, _KNOWN)):
            return _spell(data, at, end, spelled)
    return 0


@numba.njit(
    numba.int64(_bytes, numba.uint8[::1], _i32, _i32, _i32, _i32, numba.int64, numba.boolean, numba.uint8[::1]), nogil=True, cache=True
)
def language(data: Any, tag: Any, parent: Any, after: Any, start: Any, inner: Any, root: int, above: bool, spelled: Any) -> int:
    """Write the language of the code in `root`, looked for in it, in what it begins with and, if `above`, in two elements around it."""
    node = root
    seen = 0
    while node < after[root] and seen < 12:
        if tag[node] != TEXT and (node == root or _PRE_OR_CODE[tag[node]]):
            size = _element_language(data, start[node], inner[node], True, spelled)
            if size > 0:
                return size
            if tag[node] == _CODE:
                break
        node += 1
        seen += 1
    node = parent[root]
    for _ in range(2):
        if node <= 0 or not above:
            break
        size = _element_language(data, start[node], inner[node], False, spelled)
        if size > 0:
            return size
        node = parent[node]
    return 0


@numba.njit(numba.boolean(_bytes, numba.uint8[::1], _i32, _i32, _i32, numba.int64), nogil=True, cache=True)
def is_highlighter(data: Any, tag: Any, after: Any, start: Any, inner: Any, table: int) -> bool:
    """Whether a table shows code beside the numbers of its lines: it or its first cell says so."""
    if has_class(data, start[table], inner[table], _TABLES):
        return True
    for node in range(table + 1, min(after[table], table + 16)):
        if _CELL[tag[node]]:
            return has_class(data, start[node], inner[node], _GUTTER)
    return False


@numba.njit(numba.types.UniTuple(numba.int64, 2)(_bytes, numba.uint8[::1], _i32, _i32, _i32, numba.int64), nogil=True, cache=True)  # type: ignore[no-untyped-call]
def code_lines(data: Any, tag: Any, after: Any, start: Any, end: Any, root: int) -> tuple[int, int]:
    """How many lines an element has that shows nothing but `<code>`, and where the looking ended: 0 and the first text that is no code."""
    inside = after[root] if tag[root] == _CODE else 0
    lines, fresh = 0, True
    node, size = root + 1, len(data)
    while node < after[root]:
        kind = tag[node]
        if kind == TEXT:
            at, stop = start[node], end[node]
            while at < stop and (is_space(data[at]) or (data[at] == 38 and at + 5 < size and data[at + 1] == 110)):
                at += 6 if data[at] == 38 else 1
            if at < stop:
                if node >= inside:
                    return 0, node
                lines += fresh
                fresh = False
        elif SKIPPED[kind]:
            node = after[node]
            continue
        elif kind == _CODE:
            inside = max(inside, after[node])
        elif _NO_LINE[kind]:
            return 0, node
        elif kind == _BR or not INLINE[kind]:
            fresh = True
        node += 1
    return lines, after[root]


@numba.njit(nogil=True, cache=True)
def _is_number(data: Any, tag: Any, start: Any, end: Any, after: Any, node: int) -> bool:
    """Whether an element holds digits and blanks alone, of which no more than those of some 5,000 lines."""
    most = _NUMBERS_BYTES
    for i in range(node + 1, after[node]):
        if tag[i] == TEXT:
            most -= end[i] - start[i]
            if most < 0:
                return False
            for at in range(start[i], end[i]):
                if not (is_space(data[at]) or 48 <= data[at] <= 57):
                    return False
    return True


@numba.njit(nogil=True, cache=True)
def _is_shown(data: Any, tag: Any, after: Any, start: Any, inner: Any, end: Any, node: int) -> bool:
    """Whether an element in code is part of it, and no number or button beside it."""
    kind = tag[node]
    if SKIPPED[kind] or kind == _BUTTON:
        return False
    if has_class(data, start[node], inner[node], _GUTTER):  # some highlighters have it on what holds the code too
        return kind == _CODE and not _is_number(data, tag, start, end, after, node)
    return not (
        _CELL[kind] and attribute(data, start[node], inner[node], _DATA_NUMBER)[0] >= 0 and _is_number(data, tag, start, end, after, node)
    )


@numba.njit(nogil=True, cache=True)
def _counted(data: Any, tag: Any, parent: Any, after: Any, start: Any, end: Any, node: int, counted: int) -> int:
    """The last number of a cell of line numbers, -1 of any other: the first cell of a row of more, that counts on from `counted`."""
    if tag[parent[node]] != _TR:
        return -1
    cell = parent[node] + 1
    while cell < node and not _CELL[tag[cell]]:
        cell = after[cell]
    following = after[node]
    while following < after[parent[node]] and not _CELL[tag[following]]:
        following = after[following]
    if cell != node or following >= after[parent[node]]:
        return -1
    last = counted
    for i in range(node + 1, after[node]):
        if tag[i] != TEXT:
            continue
        at, stop = start[i], end[i]
        while at < stop:
            if is_space(data[at]):
                at += 1
                continue
            value, begin = 0, at
            while at < stop and at < begin + 9 and 48 <= data[at] <= 57:
                value = value * 10 + data[at] - 48
                at += 1
            if at == begin or (last >= 0 and value != last + 1):
                return -1
            last = value
    return -1 if last == counted else last


@numba.njit(
    numba.types.UniTuple(numba.int64, 2)(  # type: ignore[no-untyped-call]  # numba declares no types
        _bytes, numba.uint8[::1], _i32, _i32, _i32, _i32, _i32, _i32, numba.boolean[::1], numba.int64, numba.uint8[::1], _i32,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def code_text(
    data: Any, tag: Any, parent: Any, after: Any, start: Any, inner: Any, end: Any, block: Any, keep: Any, root: int, out: Any, stack: Any
) -> tuple[int, int]:
    """Write the kept text of a `<pre>` or a highlighter's table: where in `out` it begins and ends. `out` needs the bytes of the element,
    `stack` twice its depth."""
    size = 0
    depth = 0
    swallow = False  # a line end of the text's own is the one that has been written
    pre_end = after[root] if _PRE[tag[root]] else 0
    counted = -1  # the last number of a line
    node = root + 1
    while True:
        while depth > 0 and node >= after[stack[2 * depth - 2]]:
            depth -= 1
            left, begun = stack[2 * depth], stack[2 * depth + 1]
            if tag[left] == _SUP or tag[left] == _SUB:
                out[size] = 41
                size += 1
                continue
            shown = size == begun and (_ROW[tag[left]] or has_class(data, start[left], inner[left], _LINES))
            if shown or (size > 0 and out[size - 1] != 10):
                out[size] = 10
                size += 1
                swallow = True
        if node >= after[root]:
            break
        kind = tag[node]
        if kind == _BR:
            out[size] = 10
            size += 1
            swallow = True
        elif kind != TEXT:
            if not _is_shown(data, tag, after, start, inner, end, node):
                node = after[node]
                continue
            if _CELL[kind]:
                last = _counted(data, tag, parent, after, start, end, node, counted)
                if last >= 0:
                    counted = last
                    node = after[node]
                    continue
            if _PRE[kind]:
                pre_end = max(pre_end, after[node])
            if kind in (_SUP, _SUB):
                how = power(data, tag, after, start, end, node, out, size, True)
                if how != PLAIN:
                    out[size] = 94 if kind == _SUP else 95
                    size += 1
                if how == BRACED:
                    out[size] = 40
                    size += 1
                    stack[2 * depth], stack[2 * depth + 1] = node, size
                    depth += 1
            elif not INLINE[kind] and not _CELL[kind] and (kind != OTHER or node >= pre_end):
                if size > 0 and out[size - 1] != 10:
                    out[size] = 10
                    size += 1
                    swallow = True
                stack[2 * depth], stack[2 * depth + 1] = node, size
                depth += 1
        elif block[node] < 0 or keep[block[node]]:
            at, stop = start[node], end[node]
            raw = RAW[tag[parent[node]]]
            if node >= pre_end and block[node] < 0 and not INLINE[tag[parent[node]]]:
                i = at
                while i < stop and data[i] != 10:
                    i += 1
                if i < stop:  # white space between the elements of a table
                    node += 1
                    continue
            while at < stop:
                byte = data[at]
                at += 1
                if byte == 10 and swallow and node < pre_end:
                    swallow = False
                    continue
                if byte == 10 and node >= pre_end:  # outside of a pre a line end is a blank
                    while at < stop and is_space(data[at]):
                        at += 1
                    if size == 0 or is_space(out[size - 1]):
                        continue
                    byte = 32
                swallow = False
                if byte == 13:
                    continue
                if byte == 38 and not raw:
                    following = data[at] if at < stop else 0
                    while at < stop and data[at] != 59:
                        at += 1
                    at += 1
                    byte = (
                        60 if following == 108 else 62 if following == 103 else 32 if following == 110 else 34 if following == 113 else 38
                    )
                elif byte == 0xC2 and at < stop and data[at] == 0xA0:
                    byte = 32
                    at += 1
                elif byte == 0xE2 and at + 1 < stop and data[at] == 0x80 and data[at + 1] == 0x8B:
                    at += 2
                    continue
                out[size] = byte
                size += 1
        node += 1
    while size > 0 and is_space(out[size - 1]):
        size -= 1
    begin = at = 0
    while at < size and is_space(out[at]):  # empty lines before the first
        at += 1
        if out[at - 1] == 10:
            begin = at
    at = written = begin
    while at < size:  # blanks at the ends of lines, which no one sees
        if out[at] == 10:
            while written > begin and (out[written - 1] == 32 or out[written - 1] == 9):
                written -= 1
        out[written] = out[at]
        written += 1
        at += 1
    return begin, written
