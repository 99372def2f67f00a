"""The short cuts of the web source beside the long ways that they stand for."""

from __future__ import annotations

import gzip
import io
import random
import re
from pathlib import Path

import numpy as np
import pytest

from codedev.corpus.extract import charset, html, html_head, page_rights
from codedev.corpus.sources.web import arc, warc, warc_stream
from codedev.kernels import htmltags

# What the text of heads is made of, good and bad.
PIECES = (
    "<noscript>", "</noscript>", "<meta name=robots content=noindex>", "<meta name='robots' content='NONE, noindex'/>", "<title/>",
    "<title>a &amp; b</title>", "<title>", "</title>", "</TITLE >", "<!--", "-->", "--!>", "<!-->", "<!--->", "<script>", "</script>",
    "<SCRIPT SRC=a></SCRIPT\n>", "<style>", "</style>", "<link rel=canonical href=/a>", "<link rel='Canonical x' href='b?a&amp;b'>",
    "<link rel='&#99;anonical' href=x>", "<html lang=de>", " lang=fr", "<meta name=tdm-reservation content=1>", "<img src=x>", "<p>text",
    "<meta name=GPTBot content=noindex", "<![endif]>", "<?x?>", "<base href=x>", "<head>", "</meta>", "</head>", "&nbsp;", "&#8211;",
    "&copy", "\r\n", "\f", "<!doctype html>", "<template>", "\u00a0", "\u0130", "`", "x", "<", " ", '"', "'", "=", "/", ">",
)  # fmt: skip


def head_of(source: str) -> str:
    found = html._HEAD_END.search(source)
    return source[: found.start()] if found else source


def by_tree(head: str) -> object:
    return html._facts(html._parse(head, head.encode("utf-8", "replace")), marks=False)


def test_heads_made_at_random_say_what_their_trees_say() -> None:
    random_ = random.Random(5)
    read = 0
    for _ in range(20_000):
        head = "".join(random_.choice(PIECES) for _ in range(random_.randrange(1, 9)))
        if (facts := html._facts_of_head(head)) is not None:
            read += 1
            assert facts == by_tree(head), head
    assert read > 1_000


@pytest.mark.realdata
def test_heads_of_real_pages_say_what_their_trees_say(data_dir: Path) -> None:
    random_ = random.Random(6)
    heads = [head_of(charset.decode(path.read_bytes(), markup=True)[0]) for path in sorted((data_dir / "web").rglob("*.html"))]
    heads += [head[: random_.randrange(len(head) + 1)] + random_.choice(PIECES) + head for head in heads]
    read = [(head, facts) for head in heads if (facts := html._facts_of_head(head)) is not None]
    assert len(read) > len(heads) / 4
    for head, facts in read:
        assert facts == by_tree(head), head[:2000]


def test_hostile_heads_cost_linear_time_or_go_to_the_parser() -> None:
    for piece in ("<!--", "<script>", "<title>", "<meta a", "<meta a='", "<link a=b ", "<!", "&amp", "<script></script"):
        html_head.facts(piece * (1_000_000 // len(piece)))
        html_head.facts(piece + " a" * 500_000)
        html_head.facts(piece + "=" * 1_000_000)


def counted(data: bytes) -> tuple[int, ...]:
    formatting = rb"<(/?)(?:a|b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)[\t-\r\x1c- >/]"
    lower = data.lower()
    unclosed = sum(-1 if found[1] else 1 for found in re.finditer(formatting, lower))
    roots = lower.count(b"<body") + lower.count(b"<html")
    stray = lower.count(b"</p") - lower.count(b"<p")
    self_closed = len(re.findall(rb"<(?:(?:title|script|style|iframe)(?![a-z])|textare|noscrip)[^<>]*/>", lower))
    return data.count(b"<"), unclosed, lower.count(b"<option"), roots, stray, self_closed, squares(data)


TAG, RUN = re.compile(rb"<(?=[A-Za-z])"), re.compile(rb"""[^\t-\r "'/=>]*+""")


def squares(data: bytes) -> int:
    """The sum over all tags with more than 64 attributes of the square of their number, read byte by byte."""
    total, at = 0, 0
    while tag := TAG.search(data, at):
        at, attributes, is_value = tag.end(), -1, False
        while True:
            run = RUN.match(data, at)
            assert run is not None
            at = run.end()
            if run[0]:
                attributes, is_value = attributes + (not is_value), False
            sign = data[at : at + 1]
            if sign in (b"", b">"):
                break
            at += 1
            if sign == b"=":
                is_value = True
            elif sign in (b'"', b"'"):
                if is_value:
                    end = data.find(sign, at)
                    at, is_value = (len(data) if end < 0 else end + 1), False
                elif not run[0]:
                    attributes += 1
        total += attributes**2 if attributes > 64 else 0
    return total


def test_tags_and_words_are_counted_as_python_counts_them() -> None:
    words = page_rights._SURE + page_rights._WORDS
    pieces = b"< </ a B big strong strongs option OPTIONs body html p pre > / \t x 1 \x1c \xa0 \xe1 reativ icens .right".split(b" ")
    pieces += [b" ", *(word.encode() for word in words)]
    pieces += [b"=", b'"', b"'", b"/>", b"<script", b"noscript", b"<TextArea", b"title", b"<a " + b"b=c " * 70, b"x/" * 70]
    random_ = random.Random(7)
    for _ in range(20_000):
        data = b"".join(random_.choice(pieces) for _ in range(random_.randrange(25)))
        assert htmltags.counts(np.frombuffer(data, np.uint8)) == counted(data), data
        assert page_rights.words_in(data) == sum((word.encode() in data) << bit for bit, word in enumerate(words)), data


def member_by_frame(stored: bytes, grammar: warc.Grammar) -> list[warc.Record | warc.Damage]:
    """The only member's records by way of a window."""
    content = warc_stream.Inflate(_window(stored), 0, whole=False)
    return list(warc.frame(warc_stream.Window(content), 1 << 20, sealed=True, grammar=grammar))


def _window(stored: bytes) -> warc_stream.Window:
    return warc_stream.Window(warc_stream.Stored(io.BytesIO(stored)))


@pytest.mark.parametrize("name", ["warc", "arc"])
def test_small_members_give_what_a_window_gives(name: str) -> None:
    grammar = warc.WARC if name == "warc" else arc.ARC
    line = b"http://a.example/ 1.2.3.4 20200101000000 text/html "
    random_ = random.Random(8)
    whole = 0
    for _ in range(2_000):
        block = b"x" * random_.choice((0, 1, 5, 3000)) + random_.choice((b"", b"\r\n", b"\n"))
        length = str(len(block) + random_.choice((0, 0, 0, 1, -1, 3, 1 << 21))).encode()
        header = line + length + b"\n" if name == "arc" else b"WARC/1.0\r\nWARC-Type: resource\r\nContent-Length: " + length + b"\r\n\r\n"
        content = (
            random_.choice((b"", b"", b"\r\n", b"x")) + header + block + random_.choice((b"\r\n\r\n", b"\n", b"", b"\r\n\r\nx", header))
        )
        stored = gzip.compress(content, 1)
        expected, found = member_by_frame(stored, grammar), list(warc.gzip_records(_window(stored), 1 << 20, grammar=grammar))
        assert [type(one) for one in found] == [type(one) for one in expected], content[:200]
        for one, other in zip(found, expected, strict=True):
            if isinstance(one, warc.Record) and isinstance(other, warc.Record):
                assert (one.fields, one.block, one.last) == (other.fields, other.block, other.last)
                whole += one.length == len(stored)
            elif isinstance(one, warc.Damage) and isinstance(other, warc.Damage):
                assert (one.kind, one.message) == (other.kind, other.message)
    assert whole > 300
