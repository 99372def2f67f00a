"""Blocks against a plain walk over the parser's tree; words in names and short texts against a search; places and what is hidden."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realpages import real_pages
from resiliparse.parse.html import HTMLTree, NodeType

from codedev.kernels import htmlblocks, htmltape
from codedev.kernels.htmlblocks import (
    BREAKS,
    CHARS,
    COMMAS,
    DIGITS,
    ELEMENT_MARKS,
    EMPHASIS,
    IMAGES,
    LINK_CHARS,
    LINK_WORDS,
    LINKS,
    PLACES,
    TEXT_MARKS,
    WORDS,
    Blocks,
)
from codedev.kernels.htmltape import INLINE, SKIPPED, TAG, TEXT, Tape

COLUMNS = (CHARS, WORDS, LINK_CHARS, LINK_WORDS, LINKS, DIGITS, COMMAS, IMAGES, BREAKS, EMPHASIS)
BLANKS = " \t\n\f\r"
VERBATIM = ("pre", "listing", "xmp", "plaintext")
INLINES = {name for name in TAG if INLINE[TAG[name]]}
SKIPS = {name for name in TAG if SKIPPED[TAG[name]]}


class Plain(NamedTuple):
    tag: str  # of the block-level element around
    text: list[tuple[str, bool]]  # characters, and whether in a link; `\v` where words part that is no text
    counts: Counter[int]


def read(source: str | HTMLTree) -> tuple[Tape, Blocks]:
    document: Any = (HTMLTree.parse(source) if isinstance(source, str) else source).document
    tape = htmltape.tape(np.frombuffer(document.html.encode("utf-8", "replace"), np.uint8))
    return tape, htmlblocks.blocks(tape)


def plain_blocks(tree: HTMLTree) -> list[Plain]:
    blocks: list[Plain] = []
    inside: Counter[str] = Counter()  # open elements by what they are
    around = ["#document"]
    fresh, blank, breaks, images = True, True, 0, 0
    waiting: list[tuple[Any, bool]] = [(tree.document, False)]
    while waiting:
        node, closing = waiting.pop()
        if node.type == NodeType.TEXT:
            text = node.value or ""
            if not text.replace("\xa0", "").replace("\u200b", "").strip(BLANKS):
                if text and not fresh:
                    blocks[-1].text.append(("\v", False))
                blank = blank or bool(text)
                continue
            if fresh:
                text = text.lstrip(BLANKS)
                blocks.append(Plain(around[-1], [], Counter({IMAGES: images, LINKS: int(inside["a"] > 0)})))
                fresh, blank, images = False, False, 0
            breaks = 0
            block = blocks[-1]
            lead = len(text) - len(text.lstrip(BLANKS))
            for at, char in enumerate(text):
                space = char in BLANKS or char == "\xa0"
                counted = not (space and blank)
                block.text.append((" " if space else char, inside["a"] > 0))
                block.counts[CHARS] += counted
                block.counts[LINK_CHARS] += counted and inside["a"] > 0 and at >= lead  # a blank before a link is none of it
                block.counts[EMPHASIS] += counted and inside["emphasis"] > 0 and at >= lead
                blank = space
            continue
        if node.type not in (NodeType.ELEMENT, NodeType.DOCUMENT):
            continue
        tag = node.tag
        block_level = tag not in INLINES
        emphasis = tag in ("b", "strong", "em", "i")
        if closing:
            inside["a"] -= tag == "a"
            inside["emphasis"] -= emphasis
            if tag in VERBATIM:
                inside["pre"] -= 1
            if block_level and not inside["pre"]:
                around.pop()
                fresh = True
            continue
        if tag in SKIPS:
            continue
        if tag == "br":
            breaks += 1
            if breaks >= 2 and not inside["pre"]:
                fresh = True
            elif not fresh:
                blocks[-1].counts[BREAKS] += 1
                blocks[-1].text.append(("\v", False))
                blank = True
        elif not fresh:
            blocks[-1].counts[LINKS] += tag == "a"
            blocks[-1].counts[IMAGES] += tag == "img"
        images += tag == "img"
        inside["a"] += tag == "a"
        inside["emphasis"] += emphasis
        if block_level and not inside["pre"]:
            around.append(tag)
            fresh = True
        inside["pre"] += tag in VERBATIM
        children, child = [], node.first_child
        while child is not None:
            children.append((child, False))
            child = child.next
        waiting.append((node, True))
        waiting.extend(reversed(children))
    for block in blocks:
        count_words(block)
    return blocks


WIDE = "\u3003-\u9fff\uf000-\ufeff\uff40-\uffff"
WORD = re.compile(
    rf"[A-Za-z0-9\x80-\u1fff\ua000-\uefff\U00010000-\U0010ffff][A-Za-z0-9'\x80-\u1fff\ua000-\uefff\U00010000-\U0010ffff]*|[{WIDE}]"
)


def count_words(block: Plain) -> None:
    text, counts = "".join(char for char, _ in block.text), block.counts
    wide = 0
    for match in WORD.finditer(text):
        if re.match(f"[{WIDE}]", match[0]):
            wide += 1
            if wide % 2 == 0:
                continue
        counts[WORDS] += 1
        counts[LINK_WORDS] += block.text[match.start()][1]
    counts[DIGITS] = len(re.findall("[0-9]", text))
    counts[COMMAS] = len(re.findall("[,;\u3000\u3001\uff00-\uff3f]", text))


def same(source: str | HTMLTree) -> int:
    tree = HTMLTree.parse(source) if isinstance(source, str) else source
    tape, blocks = read(tree)
    expected = plain_blocks(tree)
    names = ["?", "?", *htmltape.NAMES]
    assert len(blocks.first) == len(expected)
    for number, block in enumerate(expected):
        text = "".join(char for char, _ in block.text)
        assert names[tape.tag[blocks.element[number]]] in (block.tag, "?"), text
        assert {column: int(blocks.counts[number, column]) for column in COLUMNS} == {c: block.counts[c] for c in COLUMNS}, text
        assert int(blocks.hashes[number]) == htmlblocks.hash_of(text), text
        held = np.flatnonzero(blocks.of_node == number)
        assert held[0] == blocks.first[number]
        assert (tape.tag[held] == TEXT).all()
        marks = found_in(text_of(block), TEXT_MARKS)
        assert int(blocks.text_marks[number]) == (marks if len(text_of(block)) < 240 else 0), text
    return len(expected)


def text_of(block: Plain) -> bytes:
    """The bytes in which marks are looked for: the lead of each character."""
    text = re.sub("[ \v]+", lambda blanks: blanks[0][0].strip("\v"), "".join(char for char, _ in block.text))
    return bytes(char.encode("utf-8", "replace")[0] for char in text)


def found_in(text: bytes, groups: tuple[str, ...]) -> int:
    parted = re.sub(rb"(?<=[a-z])(?=[A-Z])", b"^", text)
    seen = b"^" + re.sub(rb"[^a-z]", b"^", parted.lower()) + b"^"
    return sum(1 << bit for bit, group in enumerate(groups) if any(word.encode() in seen for word in group.split()))


PAGES = [
    "",
    "a<p>b <a href=x>c d</a> e</p>f",
    "<p>a<br>b<br><br>c<br> <br>d",
    "<pre>a<br><br>b<div>c</div></pre>d",
    "<div>a<p>b</p>c<table><tr><td>d<td>e</table>f</div>g<h1>h<img></h1><img>i",
    "<p>don't a''b x1 1,5; 漢字仮 名、前。é—è <b>bo</b>ld<i> x</i>",
    "<b><div>a</div>b<div>c</div></b><a href=x>d<p>e</p>f</a>",
    "<script>x</script><select><option>y</select><p>a<svg><text>z</text></svg>b",
    "<p>&nbsp;&nbsp;a&nbsp;b &lt;c&gt; &amp;nbsp;\u200b<p>\u200b&nbsp;<p>d",
    "<p>Veröffentlicht am 3. Mai<p>shareThis<p>Read more about newsLetter signUp",
]
PIECES = """
    <p> </p> <div> </div> <b> </b> <a> </a> <br> <br> <img> <pre> </pre> <table> <tr> <td> </table> <h2> </h2> <li> <ul> </ul> <hr>
    <script>x</script> <span> </span> <em> </em> <select> </select> <svg> </svg> <button> </button> a B c1 don't , ; . 2 é 漢 字 、 。 —
    &nbsp; &lt; &amp; share sign\tup \u200b
"""


@pytest.mark.parametrize("source", PAGES)
def test_blocks_are_those_of_a_plain_walk(source: str) -> None:
    same(source)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from([*PIECES.split(), " ", "\n"]), max_size=40).map("".join))
def test_made_pages(source: str) -> None:
    same(source)


@pytest.mark.realdata
def test_real_pages(data_dir: Path) -> None:
    pages = list(real_pages(data_dir / "web"))
    assert sum(same(page.tree()) for page in random.Random(5).sample(pages, 25)) > 2_000


NAMES = st.text("adAD-_ 1éöß", max_size=6) | st.sampled_from(
    ["article", "Body", "^", "navMenu", "ad", "post-body", "shareBar", "text", "main", "Author", "side", "rail", "n", "repl"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(NAMES, max_size=5).map("".join), st.sampled_from(["class", "id", "role", "itemprop", "data-testid", "aria-label"]))
def test_marks_of_names(name: str, attribute: str) -> None:
    _, blocks = read(f'<div {attribute}="{name}">a</div>')
    node = int(blocks.element[0])
    assert int(blocks.marks[node]) == found_in(name.encode(), ELEMENT_MARKS)


def test_marks_know_edges() -> None:
    for groups, text, expected in [
        (("^ad^",), "ad", 1),
        (("^ad^",), "head", 0),
        (("^ad^",), "topAd", 1),
        (("^ad^",), "adWrapper", 1),
        (("^ad^", "wrap"), "ADWrapper", 2),
        (("he", "she hers"), "ushers", 3),
    ]:
        marks = htmlblocks.compile_marks(groups)
        data = np.frombuffer(text.encode(), np.uint8)
        assert int(htmlblocks.marks_of(data, 0, len(data), marks.step, marks.found)) == expected == found_in(text.encode(), groups), text


def bits(place: int) -> set[str]:
    names = {**dict(enumerate(PLACES)), 60: "hidden", 61: "aria_hidden", 62: "article_body", 63: "role_main"}
    return {names[bit] for bit in range(64) if place >> bit & 1}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<article><div><p>a", {"article", "div", "p"}),
        ("<table><tr><td><ul><li>a", {"table", "td", "ul", "li"}),
        ("<div hidden>a", {"div", "hidden"}),
        ("<div style='color:red; Display : none'>a", {"div"}),
        ("<div style='color:red; display :  none'>a", {"div", "hidden"}),
        ("<div style='visibility:hidden'><p>a", {"div", "p", "hidden"}),
        ("<div style='visibility:visible'>a", {"div"}),
        ("<div aria-hidden=true>a", {"div", "aria_hidden"}),
        ("<div aria-hidden=false>a", {"div"}),
        ("<div itemprop=articleBody>a", {"div", "article_body"}),
        ("<div role=main><span>a", {"div", "span", "role_main"}),
        ("<div hidden>b</div><p>a", {"p"}),
    ],
)
def test_places(source: str, expected: set[str]) -> None:
    _, blocks = read(source)
    assert bits(int(blocks.places[blocks.first[-1]])) == expected | {"body"}


def test_time_is_linear() -> None:
    """Inline elements around block-level ones, many short texts in one block, one long attribute."""

    def seconds(source: bytes) -> float:
        tape = htmltape.tape(np.frombuffer(source, np.uint8))
        begin = time.process_time()
        htmlblocks.blocks(tape)
        return time.process_time() - begin

    seconds(b"<p>a</p>")
    assert seconds(b"<b>" * 2_000 + b"<div>x</div>" * 100_000 + b"</b>" * 2_000) < 0.5
    assert seconds(b"<p>" + b"<b>x</b>" * 300_000 + b"</p>") < 0.5
    assert seconds(b'<p class="' + b"a " * 5_000_000 + b'">x</p>') < 0.5
