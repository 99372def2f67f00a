"""The tape of a page against a walk over the parser's own tree: every real page's nodes, made pages, pages cut short."""

from __future__ import annotations

import html
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realpages import real_pages
from resiliparse.parse.html import HTMLTree, NodeType

from codedev.kernels import htmltape
from codedev.kernels.htmltape import NAMES, OTHER, RAW, TEXT, Tape

CLOSED = ("svg", "math", "template")  # what is in them is compared as far as it comes to an end
Node = tuple[str, int, str]  # tag or "", depth, the start tag or the text


def serialised(tree: HTMLTree) -> bytes:
    document: Any = tree.document
    return document.html.encode("utf-8", "replace")


def tape_of(data: bytes) -> Tape:
    return htmltape.tape(np.frombuffer(data, np.uint8))


def of_tree(tree: HTMLTree) -> list[Node]:
    """Elements and texts in the order of the document."""
    found: list[Node] = []
    waiting: list[tuple[Any, int]] = [(tree.document, 0)]
    after_text = None  # two texts side by side are one when serialised
    while waiting:
        node, depth = waiting.pop()
        if node.type == NodeType.TEXT:
            if after_text == (len(found), depth):
                found[-1] = ("", depth, found[-1][2] + node.value)
            elif node.value:
                found.append(("", depth, node.value))
            after_text = (len(found), depth)
            continue
        after_text = None
        if node.type == NodeType.ELEMENT:
            attributes = "".join(f' {name}="{escaped(node.getattr(name) or "")}"' for name in node.attrs)
            found.append((node.tag, depth, f"<{node.tag}{attributes}>"))
        if node.type in (NodeType.ELEMENT, NodeType.DOCUMENT) and node.tag not in CLOSED:
            children, child = [], node.first_child
            while child is not None:
                children.append((child, depth + 1))
                child = child.next
            waiting.extend(reversed(children))
    return found


def escaped(value: str) -> str:
    return html.escape(value, quote=False).replace('"', "&quot;").replace("\xa0", "&nbsp;")


def of_tape(tape: Tape) -> list[Node]:
    data, found, node = tape.data.tobytes(), [], 1
    while node < len(tape.tag):
        tag, depth = int(tape.tag[node]), int(tape.depth[node])
        if tag == TEXT:
            text = data[tape.start[node] : tape.end[node]].decode()
            found.append(("", depth, text if RAW[tape.tag[tape.parent[node]]] else html.unescape(text)))
        else:
            start = data[tape.start[node] : tape.inner[node]].decode()
            name = start[1:].split()[0].split(">")[0]
            assert NAMES[tag - OTHER - 1] == name if tag != OTHER else name not in NAMES
            found.append((name, depth, start))
            if name in CLOSED:
                node = int(tape.after[node])
                continue
        node += 1
    return found


def lawful(tape: Tape) -> None:
    """Nothing beyond the data, subtrees within subtrees."""
    nodes, size = len(tape.tag), len(tape.data)
    here = np.arange(nodes)
    assert tape.parent[0] == -1
    assert (tape.after > here).all()
    assert (tape.after <= nodes).all()
    assert (tape.parent[1:] < here[1:]).all()
    if nodes > 1:
        up = tape.parent[1:]
        assert (up >= 0).all()
        assert (tape.after[1:] <= tape.after[up]).all()
        assert (tape.depth[1:] == tape.depth[up] + 1).all()
        assert (tape.start[1:] >= tape.inner[up]).all()
        assert (tape.end[1:] <= tape.end[up]).all()
    assert (tape.start >= 0).all()
    assert (tape.start <= tape.inner).all()
    assert (tape.inner <= tape.end).all()
    assert (tape.end <= size).all()


def same(source: str) -> None:
    tree = HTMLTree.parse(source)
    tape = tape_of(serialised(tree))
    lawful(tape)
    assert of_tape(tape) == of_tree(tree)


PAGES = [
    "",
    "x",
    "<!-->a<!--->b<!--x--!>c<!-- <!-- d -->e<!---->f<!--a--->g<!-->-->h<!->i</->j",
    "<!-- never closed",
    "<!doctype html><!DOCTYPE x SYSTEM 'a>b'><?php echo 1 > 2 ?><p>a<?x?>b<![CDATA[c]]>",
    '<a"b=c>t</a"b=c><p ="a="b>c">d<p =>e<p =">f<p ="x" y>g<p a\'b=\'>"\' c = "<&>">h',
    "<p a=>b<p a=b/c/>d<br/><hr a='>'><img alt=\"a>b\">e",
    "<textarea>a<b>&amp;</textarea><title>x<b>&lt;</title><xmp>a<b>&amp;</xmp>c<noembed><p></noembed><iframe><b></iframe>d",
    "<script>if (a < b && c > d) e('</scripty>')</script>f",
    "<script><!-- document.write('<script>a</script>') --></script>b",
    "<script><!-- <script> --> a</script>b<script><!--> <script></script>c<script><!--<script>x</script>--></script>d",
    "<style><!-- <style> --></style>a<style>b</styles></style>c",
    "<body><script><!-- <script>a</script>",
    "a<plaintext>b<c>&d",
    "<div><svg><input>x</input></svg>a</div>b",
    "<div><svg><style><style>x</style></style></svg>a</div><div><svg><script><script></script></script></svg>b</div>c",
    "<math><mi>x<source>y</math>a<table><tr>b<td>c<table>d",
    "<p>\xa0&nbsp;\u200b\r\n\f\0é漢\U0001f600 &amp;lt; &notit; &#x80;",
    "<FORM><custom-el X=1>a</custom-el><foo:bar>b</FORM>",
    "<b><i><p>a</b>b</i><a><p><a>c<select><option>d<div>e</select>f<frameset>",
    "<template><p>a<template>b</template></template>c<noscript><p>d</noscript>",
]


@pytest.mark.parametrize("source", PAGES)
def test_nodes_are_those_of_the_tree(source: str) -> None:
    same(source)


PIECES = """
    <p> </p> <b> </b> <div> </div> <br> <a\thref='x>y'> </a> <svg> </svg> <math> <mi> </math> <script> </script> <style> </style> <xmp>
    </xmp> <title> </title> <textarea> </textarea> <table> <tr> <td> </table> <ul> <li> <pre> <select> <option> </select> <!-- --> --!>
    <!--> <!doctype> <?x <iframe> </iframe> <noscript> <template> </template> <input> <foo:x> </foo:x> <p/> <img/ </ < > & &amp; &lt;
    =" ' x a=b -- ! <body> <h1> </h1> <foreignObject> <plaintext> é \0
"""
MARKUP = st.sampled_from([*PIECES.split(), " ", "\xa0"])


@settings(max_examples=400, deadline=None)
@given(st.lists(MARKUP | st.text("<>/!-=\"' ab\n&;", max_size=6), max_size=30).map("".join))
def test_made_pages(source: str) -> None:
    if "<plaintext" in source and "</plaintext" in source:
        return  # no end tag ends it in a page; serialised it would
    same(source)


def test_empty_and_cut_short() -> None:
    empty = tape_of(b"")
    assert len(empty.tag) == 1
    lawful(empty)
    for source in PAGES:
        data = serialised(HTMLTree.parse(source))
        for end in range(len(data)):
            lawful(tape_of(data[:end]))


CUT = """
import numpy as np, sys
from resiliparse.parse.html import HTMLTree
from codedev.kernels import blockfeatures, htmlblocks, htmltape
for source in eval(sys.stdin.read()):
    data = np.frombuffer(HTMLTree.parse(source).document.html.encode("utf-8", "replace"), np.uint8)
    for end in range(len(data) + 1):
        tape = htmltape.tape(data[:end].copy())
        blocks = htmlblocks.blocks(tape)
        blockfeatures.features(tape, blocks, np.zeros(1, np.uint64))
"""


@pytest.mark.slow  # compiles the kernels anew: a minute
def test_cut_short_with_bounds_checked(tmp_path: Path) -> None:
    env = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CUT], input=repr(PAGES), text=True, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.realdata
def test_real_pages(data_dir: Path) -> None:
    pages = list(real_pages(data_dir / "web"))
    for page in random.Random(4).sample(pages, 60):
        tree = page.tree()
        tape = tape_of(serialised(tree))
        lawful(tape)
        assert of_tape(tape) == of_tree(tree), page.id
