"""The kernels behind codedev.corpus.repeats, against definitions written out in Python."""

from __future__ import annotations

import itertools
import re
import time
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev.kernels import linehash
from codedev.kernels.repeats import ANCHOR, anchors, repeated
from codedev.kernels.snap import snapped
from codedev.kernels.urls import canonical
from codedev.kernels.wholes import wholes


def packed(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    data = np.frombuffer(b"".join(texts), np.uint8)
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    data.flags.writeable = offsets.flags.writeable = False
    return data, offsets


def brute(texts: list[bytes], window: int) -> set[int]:
    """The definition: bytes of windows that a text before holds."""
    first: dict[bytes, int] = {}
    out: set[int] = set()
    base = 0
    for number, text in enumerate(texts):
        for at in range(len(text) - window + 1):
            if first.setdefault(text[at : at + window], number) < number:
                out.update(range(base + at, base + at + window))
        base += len(text)
    return out


def covered(spans: np.ndarray) -> set[int]:
    return {place for start, end, *_ in spans.tolist() for place in range(start, end)}


def pieces(rng: np.random.Generator, window: int, letters: int, rows: int = 8) -> list[bytes]:
    parts = [bytes(rng.integers(97, 97 + letters, rng.integers(1, 4 * window)).astype(np.uint8)) for _ in range(6)]
    tail = [bytes(rng.integers(97, 123, rng.integers(0, 20)).astype(np.uint8)) for _ in range(rows)]
    return [b"".join(parts[i] for i in rng.integers(0, 6, rng.integers(0, 6))) + tail[row] for row in range(rows)]


@pytest.mark.parametrize("letters", [1, 2, 4, 26])
@pytest.mark.parametrize("window", [2, 3, 7, 16, 40])
def test_repeated_bytes_are_those_of_the_definition(window: int, letters: int) -> None:
    rng = np.random.default_rng([window, letters])
    for _ in range(12):
        texts = pieces(rng, window, letters)
        data, offsets = packed(texts)
        spans, _ = repeated(data, offsets, anchors(data, offsets, window), window)
        assert covered(spans) == brute(texts, window)
        for start, end, copy in spans.tolist():
            assert bytes(data[start:end]) == bytes(data[copy : copy + end - start])
            assert np.searchsorted(offsets, copy, side="right") < np.searchsorted(offsets, start, side="right")


@pytest.mark.parametrize("slots", [1 << 4, 1 << 6, 1 << 24])
@pytest.mark.parametrize("most", [3, 17])
def test_anchors_in_turns_and_small_tables_miss_nothing(most: int, slots: int) -> None:
    rng = np.random.default_rng([most, slots])
    for window in (4, 12, 30):
        texts = pieces(rng, window, 3, rows=20)
        data, offsets = packed(texts)
        told = anchors(data, offsets, window)
        led, out = np.empty(0, ANCHOR), set()
        for low in range(0, len(told), most):
            turn = np.concatenate([led, told[low : low + most]])
            spans, fresh = repeated(data, offsets, turn, window, slots)
            out |= covered(spans)
            led = turn[fresh]
        assert out == brute(texts, window)


def test_every_window_has_the_anchor_of_least_hash_and_texts_longer_than_a_block_are_no_other() -> None:
    rng = np.random.default_rng(1)
    long = bytes(rng.integers(0, 256, 600_000).astype(np.uint8))  # of three blocks
    data, offsets = packed([long, long[100_000:400_000], b"x" + long[262_000:262_500]])
    told = anchors(data, offsets, 100)
    assert (told["far"] >= told["near"]).all()
    assert int((told["far"] - told["near"] + 1).sum()) == sum(int(size) - 99 for size in np.diff(offsets))  # each window has one
    assert 3.5 < len(told) / len(data) * 100 < 4.5
    spans, _ = repeated(data, offsets, told, 100)
    assert covered(spans) == set(range(600_000, 900_000)) | set(range(900_001, 900_501))


def test_one_character_and_short_periods_take_linear_time() -> None:
    texts = [b"a" * 300_000, b"ab" * 150_000, b"a" * 300_000, b"abc" * 100_000, b"ab" * 150_000]
    data, offsets = packed(texts)
    repeated(*packed([b"aa"] * 2), anchors(*packed([b"aa"] * 2), 2), 2)
    start = time.process_time()
    spans, _ = repeated(data, offsets, anchors(data, offsets, 500), 500)
    assert time.process_time() - start < 10  # 0.5 s
    marks = np.zeros(len(data) + 1, np.int64)
    np.add.at(marks, spans[:, 0], 1)
    np.add.at(marks, spans[:, 1], -1)
    expected = [*range(600_000, 900_000), *range(1_200_000, 1_500_000)]
    assert np.array_equal(np.flatnonzero(marks.cumsum() > 0), expected)


def test_texts_too_short_for_a_window_have_none() -> None:
    data, offsets = packed([b"", b"abc", b"abc", b"abcd"])
    assert len(anchors(data, offsets, 4)) == 1
    assert len(repeated(data, offsets, anchors(data, offsets, 4), 4)[0]) == 0


MARKDOWN = """Costs $5 and $6, but $x^2$ and `a $ b` and ``a ` b`` are \\(q\\) whole.
```python
a = 1

b = 2
```
| a | b |
|---|---|
text
$$
x = y
$$ tail
    indented
    more
\\begin{align} x \\end{other}
\\end{align}
\\[ never closed
   ~~~
open
"""


def test_wholes_are_code_tables_and_formulas() -> None:
    text = MARKDOWN.encode()
    data, offsets = packed([b"$no$ looked at", text])
    found = [bytes(data[start:end]).decode() for start, end in wholes(data, offsets, np.array([False, True])).tolist()]
    assert found == [
        "$x^2$", "`a $ b`", "``a ` b``", "\\(q\\)",
        "```python\na = 1\n\nb = 2\n```\n", "| a | b |\n|---|---|\n", "$$\nx = y\n$$", "    indented\n    more\n",
        "\\begin{align} x \\end{other}\n\\end{align}", "   ~~~\nopen\n",
    ]  # fmt: skip


@given(st.text(alphabet="`$|\\[]()\n ~a{}5", max_size=200))
@settings(max_examples=300, deadline=None)
def test_wholes_are_sorted_apart_and_inside(text: str) -> None:
    data, offsets = packed([text.encode(), b"$a$"])
    flat = wholes(data, offsets, np.ones(2, bool)).ravel()
    assert (np.diff(flat) >= 0).all()
    assert flat.min(initial=0) >= 0
    assert flat.max(initial=0) <= len(data)
    assert flat.tolist()[-2:] == [len(data) - 3, len(data)]  # what stands open in a text ends with it


@pytest.mark.parametrize("line", [b"\\[\n", b"$$ a\n\n", b"\\begin{a}\n", b"`", b"$a", b"\\(", b"```\n"])
def test_wholes_take_linear_time_on_what_never_closes(line: bytes) -> None:
    data, offsets = packed([line * (2_000_000 // len(line))])
    wholes(*packed([b"a"]), np.ones(1, bool))
    start = time.process_time()
    wholes(data, offsets, np.ones(1, bool))
    assert time.process_time() - start < 2  # 0.04 s


def normal(line: str, digits: bool) -> str:
    line = "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in re.sub(r"[ \t\n\v\f\r]+", " ", line).strip(" \t\n\v\f\r"))
    return re.sub("[0-9]+", "0", line) if digits else line


@given(st.lists(st.text(alphabet="aAb 12\tü。\n", max_size=60), max_size=5), st.booleans(), st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_lines_are_equal_when_their_normal_forms_are(texts: list[str], digits: bool, min_chars: int) -> None:
    data, offsets = packed([text.encode() for text in texts])
    none = np.empty((0, 2), np.int64)
    told = linehash.lines(data, offsets, none, np.ones(len(texts), bool), min_chars=min_chars, digits=digits, paragraphs=False)
    expected = []
    for number, text in enumerate(texts):
        at = 0
        for line in text.split("\n"):
            size = len(line.encode())
            form = normal(line, digits)
            if len(form) >= min_chars:
                expected.append((number, at, min(at + size + 1, len(text.encode())), form))
            at += size + 1
    assert [*zip(told.text.tolist(), told.start.tolist(), told.end.tolist(), strict=True)] == [row[:3] for row in expected]
    hashes = [*zip(told.high.tolist(), told.low.tolist(), strict=True)]
    assert len({*hashes}) == len({row[3] for row in expected}) == len({*zip(hashes, (row[3] for row in expected), strict=True)})


def test_paragraphs_end_at_blank_lines_and_wholes_stay_whole() -> None:
    text = b"\n\nOne\nline\n \t\nTwo  words\n\n\nOne line"
    data, offsets = packed([text])
    none = np.empty((0, 2), np.int64)
    told = linehash.lines(data, offsets, none, np.ones(1, bool), min_chars=1, digits=False, paragraphs=True)
    assert [text[a:b] for a, b in zip(told.start, told.end, strict=True)] == [b"\n\nOne\nline\n \t\n", b"Two  words\n\n", b"\nOne line"]
    assert told.low[0] == told.low[2] != told.low[1]
    table = b"start\n| a |\n| b |\nend\n$$\nx\n$$\n"
    data, offsets = packed([table])
    told = linehash.lines(
        data, offsets, wholes(data, offsets, np.ones(1, bool)), np.ones(1, bool), min_chars=1, digits=False, paragraphs=False
    )
    assert [table[a:b] for a, b in zip(told.start, told.end, strict=True)] == [b"start\n", b"end\n"]


@pytest.mark.parametrize(("within", "more_than", "keep"), [(True, 3, 1), (False, 2, 2), (True, 1, 0), (False, 10**9, 1)])
def test_surplus_lines_are_those_of_the_definition(within: bool, more_than: int, keep: int) -> None:
    rng = np.random.default_rng(3)
    line = rng.integers(0, 3000, 20_000)
    row = np.sort(rng.integers(0, 4000, 20_000))
    high, low = line.astype(np.uint64) << np.uint64(40), (line % 7).astype(np.uint64)  # equal low halves
    table = linehash.counted(16)
    for part in np.array_split(np.arange(20_000), 7):
        table = linehash.count(table, high[part], low[part], row[part])
    linehash.second_turn(table)
    why = [
        linehash.surplus(table, high[p], low[p], row[p], within=within, more_than=more_than, keep=keep)[0]
        for p in np.array_split(np.arange(20_000), 5)
    ]
    rows_of: dict[int, list[int]] = {}
    for number, where in zip(line.tolist(), row.tolist(), strict=True):
        rows_of.setdefault(number, []).append(where)
    seen: set[tuple[int, int]] = set()
    expected = []
    for number, where in zip(line.tolist(), row.tolist(), strict=True):
        distinct = sorted({*rows_of[number]})
        if len(distinct) > more_than and where not in distinct[:keep]:
            expected.append(linehash.ACROSS)
        else:
            expected.append(linehash.WITHIN if within and (number, where) in seen else 0)
        seen.add((number, where))
    assert np.concatenate(why).tolist() == expected


@given(st.text(alphabet="ab é日\n$`", min_size=1, max_size=80), st.data(), st.sampled_from(["character", "word", "line"]))
@settings(max_examples=400, deadline=None)
def test_snapped_spans_keep_characters_words_lines_and_wholes(text: str, data: st.DataObject, mode: str) -> None:
    raw = text.encode()
    low = data.draw(st.integers(0, len(raw)))
    high = data.draw(st.integers(low, len(raw)))
    buffer, offsets = packed([raw])
    kept = wholes(buffer, offsets, np.ones(1, bool))
    out, of = snapped(buffer, offsets, np.array([[low, high]]), kept, mode, 1)
    assert of.tolist() in ([], [0])
    for start, end in out.tolist():
        assert low <= start < end <= high
        raw[:start].decode(), raw[start:end].decode()  # both whole characters
        for first, last in kept.tolist():
            assert start <= first < last <= end or last <= start or first >= end
        for place in (start, end):
            if 0 < place < len(raw):
                left, right = raw[:place].decode()[-1], raw[place:].decode()[0]
                assert mode != "line" or left == "\n"
                assert mode != "word" or not (left in "abé" and right in "abé")
        if mode == "word" and start > 0 and end < len(raw):
            assert not (raw[:start].decode()[-1] in "abé" and raw[end:].decode()[0] in "abé")  # no two words become one
    if mode == "character" and not len(kept):
        inner = [i for i in range(low, high + 1) if i == len(raw) or raw[i] & 0xC0 != 0x80]
        assert out.tolist() == ([[inner[0], inner[-1]]] if inner and inner[-1] > inner[0] else [])


def form(*urls: str) -> list[str]:
    data, offsets = canonical(*packed([url.encode() for url in urls]))
    return [bytes(data[a:b]).decode() for a, b in itertools.pairwise(offsets.tolist())]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://www.Example.com:80/a/%7euser/index.html?b=2&a=1&utm_source=x#frag", "example.com/a/~user?a=1&b=2"),
        ("https://example.com/a/~user/?a=1&b=2", "example.com/a/~user?a=1&b=2"),
        ("http://example.com:8080/", "example.com:8080"),
        ("https://u:P@EX.com.:443/x;jsessionid=AB?q=é b&&fbclid=1&PHPSESSID=3#!/x", "u:P@ex.com/x?q=%C3%A9%20b#!/x"),
        ("http://h/%e9%zz?x", "h/%E9%25zz?x"),
        ("ftp://Ex.com/A", "ftp://ex.com/A"),
        ("mailto:a@b", "mailto:a@b"),
        ("http://www.com/", "www.com"),
        ("//h/x", "//h/x"),
        ("", ""),
    ],
)
def test_canonical_urls(url: str, expected: str) -> None:
    assert form(url) == [expected]
    assert form(f" {url}\n", url) == [expected, expected]


# What w3lib 2.5.0 (canonicalize_url) or url-normalize 3.1.0 says is one address, and what both say are two.
AGREED = [
    ("http://example.com/a?b=1&a=2", "http://EXAMPLE.com/a?a=2&b=1", True),
    ("http://example.com/%7Ea", "http://example.com/~a", True),
    ("http://example.com/%c3%a9", "http://example.com/é", True),
    ("http://example.com:80/a", "http://example.com/a", True),
    ("http://example.com/a", "http://example.com/A", False),
    ("http://example.com/a?x=1", "http://example.com/a?x=2", False),
    ("http://example.com/a%2Fb", "http://example.com/a/b", False),
    ("http://example.com/a?x=a%26b", "http://example.com/a?x=a&b", False),
    ("http://example.com:8080/a", "http://example.com/a", False),
    ("http://a.example.com/", "http://b.example.com/", False),
]


@pytest.mark.parametrize(("one", "other", "same"), AGREED)
def test_canonical_urls_agree_where_others_do(one: str, other: str, same: bool) -> None:
    a, b = form(one, other)
    assert (a == b) == same


@given(
    st.text(alphabet="abAB./%41e;=~ é", max_size=20),
    st.lists(st.tuples(st.sampled_from(["a", "b", "utm_x", "fbclid", "c%41"]), st.text(alphabet="xy%20é", max_size=4)), max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_canonical_urls_are_stable_and_know_no_order(path: str, query: list[tuple[str, str]]) -> None:
    parameters = [f"{name}={value}" for name, value in query]
    one = f"https://example.com/{path}?{'&'.join(parameters)}"
    other = f"http://www.EXAMPLE.com:80/{path}?{'&'.join(reversed(parameters))}#x"
    a, b = form(one, other)
    assert a == b
    assert form(f"https://{a}") == [a]
    kept = parse_qsl(urlsplit(f"//{a}").query, keep_blank_values=True)
    assert sorted(kept) == sorted(
        pair for pair in parse_qsl(urlsplit(one).query, keep_blank_values=True) if pair[0] not in ("utm_x", "fbclid")
    )
