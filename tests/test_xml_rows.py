"""Rows of XML tables against lxml, and what becomes of damage: the same whatever the blocks, byte ranges and limits."""

from __future__ import annotations

import io
import itertools
import re
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from codedev.corpus.sources.stackexchange import xml_rows
from codedev.corpus.sources.stackexchange.xml_rows import Damage, Row, attributes, head_of, rows
from codedev.kernels.xmlrows import NONE

HEAD = b'<?xml version="1.0" encoding="utf-8"?>\n<posts>\n'
TAIL = b"</posts>\n"


def read(data: bytes, *cuts: int, block: int = 1 << 20, **keys: Any) -> list[Row | Damage]:
    """What `rows` gives of the byte ranges between the cuts, one after another."""
    found: list[Row | Damage] = []
    edges = [0, *sorted(cuts), xml_rows.FOREVER]
    for start, stop in itertools.pairwise(edges):
        stream = Dripping(data, block)
        stream.seek(start)
        found += rows(stream, ("Id",), start=start, stop=stop, **keys)
    return found


class Dripping(io.BytesIO):
    """Gives a few bytes at a time."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self._most = most

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._most if size is None or size < 0 else min(size, self._most))


def table(*inner: bytes) -> bytes:
    return HEAD + b"\n".join(inner) + b"\n" + TAIL


def kinds(found: list[Row | Damage]) -> list[str]:
    """Ids of rows and kinds of damage."""
    return [thing.kind if isinstance(thing, Damage) else str(thing[2][0]) for thing in found]


def by_lxml(data: bytes) -> list[dict[str, str]]:
    return [dict(element.attrib) for _, element in etree.iterparse(io.BytesIO(data), tag="row", huge_tree=True)]  # type: ignore[misc]


def sound(found: list[Row | Damage]) -> list[dict[str, str]]:
    return [attributes(thing[1]) for thing in found if not isinstance(thing, Damage)]


# -- against lxml ------------------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_every_real_table_as_lxml_reads_it(data_dir: Path) -> None:
    paths = sorted((data_dir / "stackexchange").rglob("*.xml"))
    assert len(paths) >= 10
    for path in paths:
        data = path.read_bytes()
        found = read(data)
        assert sound(found) == by_lxml(data), path
        assert len(sound(found)) == len(found) == data.count(b"<row ")
        for offset, raw, _ in found:  # type: ignore[misc]
            assert data[offset : offset + len(raw)] == raw
            assert raw.endswith(b"/>")
        assert read(data, *range(10_000, len(data), 77_777)) == found


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff").filter(lambda c: c in "\t\n\r" or c >= " ")
values = st.text(characters | st.sampled_from("&<>\"'\n\r\t "), max_size=30)
numbers = st.integers(-(10**19), 10**19).map(str)


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """A table, each attribute written in one of the ways that XML allows."""
    out = [HEAD]
    for _ in range(draw(st.integers(0, 5))):
        out.append(b"<row")
        for name, value in draw(st.dictionaries(names | st.just("Id"), values | numbers, max_size=5)).items():
            quote = draw(st.sampled_from("\"'"))
            text = "".join(draw(st.sampled_from(_ways(character, quote))) for character in value)
            blanks = draw(st.sampled_from(("=", " = ", "\n=", "=\t")))
            out.append(f"{draw(st.sampled_from((' ', chr(10), '  ')))}{name}{blanks}{quote}{text}{quote}".encode())
        out.append(draw(st.sampled_from((b"/>", b" />", b"></row>", b" >\n</row>"))))
        out.append(draw(st.sampled_from((b"", b"\n", b"\r\n  ", b"<!-- a comment -->\n"))))
    return b"".join([*out, TAIL])


def _ways(character: str, quote: str) -> list[str]:
    named = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
    ways = [f"&#{ord(character)};", f"&#x{ord(character):x};", f"&#x{ord(character):X};"]
    if character in named:
        ways.append(named[character])
    if character not in f"&<{quote}":  # white space written plainly reads as a blank: to lxml too
        ways.append(character)
    return ways


@settings(max_examples=150, deadline=None)
@given(written(), st.integers(1, 40), st.lists(st.integers(1, 400), max_size=4))
def test_any_table_as_lxml_reads_it(data: bytes, block: int, cuts: list[int]) -> None:
    found = read(data)
    assert not [thing for thing in found if isinstance(thing, Damage)]
    expected = by_lxml(data)
    assert sound(found) == expected
    assert read(data, *cuts, block=block) == found
    for (_, _, (number,)), row in zip(found, expected, strict=True):  # type: ignore[misc]
        told = row.get("Id", "")
        assert number == (int(told) if re.fullmatch("-?[0-9]{1,18}", told) and b"&" not in _raw(found, row) else number)
        assert number == NONE or number == int(told)


def _raw(found: list[Row | Damage], row: dict[str, str]) -> bytes:
    return next(thing[1] for thing in found if not isinstance(thing, Damage) and attributes(thing[1]) == row)


JUNK = (
    b"<",
    b">",
    b'"',
    b"&",
    b"/",
    b"<row ",
    b"<row",
    b"\xff",
    b"\0",
    b"",
    b"<!DOCTYPE x [",
    b"</posts>",
    b"<b>x</b>",
    b"/>",
    b"/<row <>",
)


@settings(max_examples=600, deadline=None)
@given(st.randoms(use_true_random=False))
def test_damage_is_the_same_in_any_pieces(rng: Random) -> None:
    """Bytes changed anywhere: every cut, block and limit gives what one pass gives, rows that were not touched are all there."""
    good = [b'<row Id="%d" Body="&lt;p&gt;\xc3\xa4 %s"/>' % (number, b"x" * rng.randrange(30)) for number in range(6)]
    whole = bytearray(table(*good))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(whole))
        junk = rng.choice(
            [b"<", b">", b'"', b"&", b"<row ", b"<row", b"\xff", b"\0", b"", b"<!DOCTYPE x [", b"</posts>", b"<b>x</b>", b"/>"]
        )
        whole[at : at + rng.choice([0, 1, 5])] = junk
    mangled = bytes(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
    limit = rng.choice([1 << 20, 60])
    found = read(mangled, limit=limit)
    cuts = [rng.randrange(1, len(mangled) + 1) for _ in range(rng.randrange(4))] if mangled else []
    assert read(mangled, *cuts, block=rng.choice([1, 3, 17, 1000]), limit=limit) == found
    offsets = [thing.offset if isinstance(thing, Damage) else thing[0] for thing in found]
    assert offsets == sorted(offsets)
    rows_found = {thing[1] for thing in found if not isinstance(thing, Damage)}
    for row in rows_found:
        attributes(row)  # never raises
    if limit > 60:
        # Rows that stand whole before another are found whatever came before them.
        assert all(row in rows_found for row in good if re.search(re.escape(row) + rb"\s*<row[\s/>]", mangled))


# -- damage ------------------------------------------------------------------------------------------------------------------------

A, B = b'<row Id="1" Text="a"/>', b'<row Id="2" Text="b" />'


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (table(A, B), ["1", "2"]),
        (table(), []),
        (b"<posts/>", []),
        (b"\xef\xbb\xbf" + table(A), ["1"]),
        (table(A, b'<row Id="9" Text="<p>"/>', B), ["1", "invalid_xml", "2"]),
        (table(A, b'<row Id="9" Text="no end', B), ["1", "invalid_xml", "2"]),
        (table(A, b'<row Id="9" Text=naked />', B), ["1", "invalid_xml", "2"]),
        (table(A, b'<row Id="9"Text="x" />', B), ["1", "invalid_xml", "2"]),
        (table(A, b'<row Id="9" Text />', B), ["1", "invalid_xml", "2"]),
        (table(A, b'<row Id="9" Text="&nbsp;" />', B), ["1", "invalid_xml", "2"]),
        (table(A, b'<row Id="9" Text="R & D" />', B), ["1", "invalid_xml", "2"]),
        (table(A, b'<row Id="9" Text="&#xZZ;" />', B), ["1", "invalid_xml", "2"]),
        (table(A, b'<row Id="9" Text="\xe4" />', B), ["1", "invalid_utf8", "2"]),
        (table(A, b"stray text", B), ["1", "invalid_xml", "2"]),
        (table(A, b'<other a="1"/>', B), ["1", "invalid_xml", "2"]),
        (table(A, b"<!-- - -->", B), ["1", "2"]),
        (table(b"text before", A), ["invalid_xml", "1"]),
        (HEAD + A + b"\n" + B, ["1", "2", "truncated"]),
        (HEAD + A + b"\n" + B + b"\n", ["1", "2", "truncated"]),
        (HEAD + A + b'<row Id="2" Te', ["1", "truncated"]),
        (HEAD, ["truncated"]),
        (b'<!DOCTYPE posts [<!ENTITY a "b">]>' + table(A), ["entity_declaration", "1"]),
        (table(A, b'<!DOCTYPE posts SYSTEM "http://127.0.0.1/x.dtd">', B), ["1", "entity_declaration", "2"]),
        (table(b'<row Id="x"/>', b"<row/>", b"<rows/>"), [str(NONE), str(NONE)]),
        (table(b'<row Id="1234567890123456789"/>', b'<row Id="-1"/>'), [str(NONE), "-1"]),
    ],
)
def test_damage(data: bytes, expected: list[str]) -> None:
    assert kinds(read(data)) == expected
    for cut in range(1, len(data)):
        assert kinds(read(data, cut)) == expected


def test_a_bomb_of_entities_is_never_expanded() -> None:
    levels = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    data = f'<?xml version="1.0"?><!DOCTYPE posts [<!ENTITY a0 "ha">{levels}]><posts><row Id="1" Text="&a11;"/></posts>'.encode()
    began = time.process_time()
    assert kinds(read(data)) == ["entity_declaration", "invalid_xml"]
    assert time.process_time() - began < 3


def test_files_outside_are_never_read() -> None:
    data = b'<!DOCTYPE posts [<!ENTITY x SYSTEM "file:///etc/passwd">]><posts><row Id="1" Text="&x;"/>' + A + b"</posts>"
    assert kinds(read(data)) == ["entity_declaration", "invalid_xml", "1"]


def test_what_no_text_may_hold_becomes_a_replacement_character() -> None:
    row = b'<row Id="1" Text="a\0b&#0;c&#xD800;d&#x110000;e&#99999999;f&#x1F600;&#x1f;"/>'
    (found,) = read(table(row))
    assert attributes(found[1])["Text"] == "a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf\U0001f600\x1f"  # type: ignore[arg-type]


def test_of_two_attributes_of_one_name_the_last_counts() -> None:
    (found,) = read(table(b'<row Id="1" Id="2"/>'))
    assert attributes(found[1]) == {"Id": "2"}  # type: ignore[arg-type]
    assert found[2] == [2]


@pytest.mark.parametrize("size", [99, 100, 101, 5_000, 3_000_000])
def test_a_row_over_the_limit_is_damage_and_no_more(size: int) -> None:
    long = b'<row Id="9" Text="%s"/>' % (b"x" * (size - 22))
    assert len(long) + 1 == size  # with its line feed
    expected = ["1", "9" if size <= 100 else "too_large", "2"]
    assert kinds(read(table(A, long, B), limit=100)) == expected
    assert kinds(read(table(A, long, B), 120, 200, limit=100)) == expected


def test_a_hundred_megabytes_on_one_line_cost_little() -> None:
    began = time.process_time()
    open_row = HEAD + A + b'<row Id="9" Text="' + b"x" * 100_000_000
    assert kinds(read(open_row, limit=8 << 20)) == ["1", "too_large"]
    junk = HEAD + A + b"<b>" * 10_000_000
    assert kinds(read(junk, limit=8 << 20)) == ["too_large"]
    quotes = HEAD + b'<row a="' * 200_000
    assert set(kinds(read(quotes, limit=8 << 20))) == {"invalid_xml", "truncated"}
    many = HEAD + b'<row a="%s"/>' % (b"x" * 6_000_000) + b"<row/>" * 300_000 + TAIL
    assert len(read(many, limit=8 << 20)) == 300_001
    comments = HEAD + A + b"<!--" * 1_000_000
    assert kinds(read(comments, limit=8 << 20)) == ["1", "invalid_xml"]
    assert time.process_time() - began < 10


# -- heads -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "root", "encoding"),
    [
        (table(A), "posts", None),
        (b"\xef\xbb\xbf<posts>", "posts", None),
        (b'<!-- x --><?xml-stylesheet href="a"?><Users a="b">', "Users", None),
        (b'<!DOCTYPE votes [<!ENTITY a "b">]><votes>', "votes", None),
        (table(A).decode().encode("utf-16"), None, "UTF-16 or UTF-32"),
        (table(A).decode().encode("utf-16-le"), None, "UTF-16 or UTF-32"),
        (table(A).decode().encode("utf-32-be"), None, "UTF-16 or UTF-32"),
        (b'<?xml version="1.0" encoding="ISO-8859-1"?><posts>', "posts", "iso-8859-1"),
        (b"Id,Body\n1,x\n", None, None),
        (b"", None, None),
    ],
)
def test_heads(data: bytes, root: str | None, encoding: str | None) -> None:
    found = head_of(data)
    assert (found.root, found.encoding) == (root, encoding)


@pytest.mark.parametrize("data", [b"<!--" * 16_384, b"<?" * 32_768, b"<!DOCTYPE" + b"[" * 65_000, b"<a " * 20_000, b"<!DOCTYPE a[" * 5_000])
def test_heads_cost_linear_time(data: bytes) -> None:
    began = time.process_time()
    head_of(data)
    assert time.process_time() - began < 2
