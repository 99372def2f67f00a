"""The kernels behind the quality filters against plain Python that splits, strips, counts and searches as their docstrings say, on texts of
all kinds; the compiled kernels against themselves with every index checked."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from conftest import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codedev.corpus.buffers import text_buffers
from codedev.kernels import lines, marks, segment, textstats
from codedev.kernels.characters import BREAK, DECIMAL, PUNCTUATION, SPACE, SYMBOL, TERMINAL, UPPER, properties
from codedev.kernels.repetition import NEAR
from codedev.kernels.words import CHUNK, DEFINITIONS

PIECES = [
    *(
        "the",
        "be",
        "The",
        "of",
        "word",
        "words",
        "a",
        "b",
        "don't",
        "U.S.",
        "e.g.",
        "end.",
        "end.The",
        "why?",
        '"so!"',
        "'s",
        "(to",
        "x-y",
        "3.5",
    ),
    *("...", "....", "…", "#", "##", "•", "- ", "* x", "\n", "\n\n", "\r\n", "\r", "\x0b", "\x85", "\u2028", " ", "  ", "\t", "\u3000"),
    *(
        "lorem ipsum",
        "Lorem Ipsum",
        "JavaScript",
        "{",
        "[1]",
        "[edit]",
        "[citation needed]",
        "[12",
        "[٣]",
        "privacy policy",
        "USE COO\u212aIES",
    ),
    *(
        "é",
        "𝒳",
        "😀",
        "٣",
        "²",
        "½",
        "\0",
        "你好。",
        "ですか？",
        "カタカナ",
        "ภาษาไทย",
        "Ünï",
        "READ MORE...",
        "3 likes",
        "1.2K views",
        "sign in now",
    ),
    *("$x^2$", "$$a$$", "\\frac", "\\(y\\)", "$5", "the be of the be of", "one line again.\none line again.\n"),
]
hostile = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \n."), max_size=60).map("".join)


def buffers(*texts: str | bytes) -> tuple[np.ndarray, np.ndarray]:
    raw = [text if isinstance(text, bytes) else text.encode() for text in texts]
    data, offsets = np.frombuffer(b"".join(raw), np.uint8), np.cumsum([0, *map(len, raw)])
    data.flags.writeable = offsets.flags.writeable = False
    return data, offsets


def segmented(text: str, definition: str = "whitespace", *, ngrams: bool = True) -> dict[str, int]:
    row = segment.segment_stats(*buffers(text), np.array([DEFINITIONS.index(definition)], np.int8), ngrams=ngrams)[0]
    return dict(zip(segment.COLUMNS, row.tolist(), strict=True))


def is_symbol(character: str) -> bool:
    return bool(properties()[ord(character)] & SYMBOL)


def repeated(parts: list[str]) -> tuple[int, int]:
    again = [part for place, part in enumerate(parts) if part in parts[:place]]
    return len(again), sum(map(len, again))


def dup(words: list[str], n: int, joint: str) -> int:
    seen, at, chars = set(), 0, 0
    while at < len(words) - n + 1:
        gram = joint.join(words[at : at + n])
        chars, at = (chars + len("".join(words[at : at + n])), at + n) if gram in seen else (chars, at + 1)
        seen.add(gram)
    return chars


def plain(text: str) -> dict[str, int]:
    """What segment.COLUMNS mean for whitespace words."""
    words, split, full = text.split(), text.splitlines(), [line for line in text.split("\n") if line.strip()]
    real = [word for word in words if not all(map(is_symbol, word))]
    rows, paragraphs = re.split("\n+", text), re.split("\n{2,}", text.strip())
    found = {
        "chars": len(text),
        "words": len(words),
        "real_words": len(real),
        "real_word_chars": sum(map(len, real)),
        "alpha_words": sum(any(map(str.isalpha, word)) for word in words),
        "stop_words": len({*words} & {*segment.STOP_WORDS}),
        "hashes": text.count("#"),
        "ellipses": text.count("...") + text.count("…"),
        "split_lines": len(split),
        "bullet_lines": sum(line.lstrip().startswith(("•", "-")) for line in split),
        "ellipsis_lines": sum(line.rstrip().endswith(("...", "…")) for line in split),
        "newlines": text.count("\n"),
        "full_lines": len(full),
        "terminal_lines": sum(bool(properties()[ord(line[-1])] & TERMINAL) for line in full),
        "short_lines": sum(len(line) <= segment.SHORT_LINE for line in full),
        "lines": len(rows),
        "paragraphs": len(paragraphs),
        "dup_full_line_chars": repeated(full)[1],
    }
    found["dup_lines"], found["dup_line_chars"] = repeated(rows)
    found["dup_paragraphs"], found["dup_paragraph_chars"] = repeated(paragraphs)
    for n in (2, 3, 4):
        grams = Counter(" ".join(words[at : at + n]) for at in range(len(words) - n + 1))
        found[f"top_{n}"] = max((len(gram) * count for gram, count in grams.most_common(1)), default=0)
    found.update({f"dup_{n}": dup(words, n, " ") for n in range(5, 11)})
    if any(found[f"dup_{n}"] * NEAR >= len(text) for n in range(5, 11)):
        found.update({f"dup_{n}": dup(words, n, "") for n in range(5, 11)})  # as datatrove does: wherever it is parted
    return {name: found[name] for name in segment.COLUMNS}


@settings(max_examples=400, deadline=None)
@given(hostile)
@example("")
@example("\n\n")
@example("  a b\n\n  a b  \n\n \n a b")
@example("a b c d e f a b c d e f a b c d e f")
def test_segments_against_plain_python(text: str) -> None:
    assert segmented(text) == plain(text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "the", "cc"]), max_size=80).map(" ".join))
def test_ngrams_of_few_words_against_plain_python(text: str) -> None:
    assert segmented(text) == plain(text)


def test_runs_of_words_are_alike_wherever_they_are_parted() -> None:
    text = "ab c d e f. " * 3 + "a bc d e f. a b c d e f g."
    assert segmented(text) == plain(text)
    assert segmented(text)["dup_5"] > dup(text.split(), 5, " ")


def test_without_ngrams_the_rest_is_the_same() -> None:
    text = "the rain of the day\nthe rain of the day\n\n" * 5
    expected = {name: 0 if name.startswith("top_") or name in segment.NGRAM_COLUMNS else value for name, value in plain(text).items()}
    assert segmented(text, ngrams=False) == expected


def test_every_character_is_what_python_says() -> None:
    table = properties()
    for code in itertools.chain(range(0xD800), range(0xE000, 0x30000)):
        character, bits = chr(code), int(table[code])
        said = (bool(bits & SPACE), bool(bits & BREAK), bool(bits & DECIMAL))
        assert said == (character.isspace(), len(f"a{character}b".splitlines()) == 2, character.isdecimal()), hex(code)
    assert all(table[ord(c)] & PUNCTUATION for c in "!\"#%&'()*,-./:;?@[]_{}")
    assert not any(table[ord(c)] & PUNCTUATION for c in "$+<=>^`|~a1")


@pytest.mark.parametrize(
    ("text", "words", "stops"),
    [
        ('(the cat), "of" Rome.', 10, 2),  # ( the cat ) , " of " Rome .
        ("don't well-known and/or", 8, 1),
        ("http://example.org/a,b", 1, 0),
        ("it's U.K. e.g. 3.5 km... end.The", 11, 0),
        ("a" * (3 * CHUNK), 3, 0),  # cut, so that work stays linear
    ],
)
def test_spacy_like_words(text: str, words: int, stops: int) -> None:
    got = segmented(text, "spacy-like")
    assert got["words"] == words
    assert got["stop_words"] == stops
    expected = plain(text)
    assert [got[name] for name in ("chars", "split_lines", "newlines", "lines")] == [
        expected[name] for name in ("chars", "split_lines", "newlines", "lines")
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("今天天气很好。", 7),
        ("東京タワーへ行きます", 6),  # 東 京 タワー へ 行 きます
        ("ภาษาไทย", 7),
        ("น้ำดื่ม", 4),
        ("Hello 世界 123", 4),
        ("naïve e\u0301te\u0301", 2),
    ],
)
def test_words_of_scripts_without_spaces(text: str, words: int) -> None:
    assert segmented(text, "scripts")["words"] == words


# -- lines


SENTENCE = re.compile(
    r"""(?:(?<!\.)\.(?!\.)|[!?])[CLOSERS]*(?=\s|$)|[OTHERS]+[CLOSERS]*""".replace("CLOSERS", r"""\"'\])”’»›）」』】》〉""")
)


def sentences(line: str) -> int:
    others = "".join(chr(code) for code in np.flatnonzero(properties() & TERMINAL) if chr(code) not in ".!?")
    pattern = SENTENCE.pattern.replace("OTHERS", others)
    ends = [match.end() for match in re.finditer(pattern, line)]
    return max(1, len(ends) + (not ends or bool(line[ends[-1] :].strip())))


def c4_lines(text: str, *, terminal: bool = True) -> tuple[dict[str, int], str]:
    """C4's rules on lines, and what stays."""
    count = dict.fromkeys(lines.COLUMNS, 0)
    kept = []
    for raw in text.splitlines():
        line, words = raw.strip(), raw.split()
        if not words:
            continue
        count["lines"] += 1
        line = re.sub(r"\[\d*]|\[edit]|\[citation needed]", "", line)
        small = line.lower()
        if max(map(len, words)) > 1000:
            count["long_word_lines"] += 1
        elif terminal and (not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...")):
            count["unterminated_lines"] += 1
        elif len(words) < 3:
            count["few_words_lines"] += 1
        else:
            count["lorem_ipsum_lines"] += "lorem ipsum" in small
            if "javascript" in small:
                count["javascript_lines"] += 1
                continue
            count["curly_bracket_lines"] += "{" in line
            phrases = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
            if any(phrase in small for phrase in phrases):
                count["policy_lines"] += 1
                continue
            count["kept_lines"] += 1
            count["kept_chars"] += len(line)
            count["sentences"] += sentences(line)
            kept.append(line)
    return count, "\n".join(kept)


def lined(text: str, **rules: object) -> dict[str, int]:
    return dict(zip(lines.COLUMNS, lines.line_stats(*buffers(text), **rules)[0].tolist(), strict=True))  # type: ignore[arg-type]


LINES = st.lists(
    st.lists(st.sampled_from([p for p in PIECES if "\n" not in p]) | st.sampled_from([" ", ". ", "? ", '" ', "."]), max_size=12).map(
        " ".join
    ),
    max_size=8,
).map("\n".join)


@settings(max_examples=400, deadline=None)
@given(hostile | LINES, st.booleans())
@example("one two three [1].\none two three. [1]\n[edit]one two three.", True)
@example("\u0130 uses cook\u0130es one two.", True)
def test_c4_lines_against_plain_python(text: str, terminal: bool) -> None:
    expected, kept = c4_lines(text, terminal=terminal)
    got = lined(text, terminal=terminal)
    for name in ("words", "flagged_words"):
        expected[name] = got[name]
    assert got == expected
    assert got["words"] == len(text.split())
    data, offsets, stats = lines.kept_lines(*buffers("before.", text, "after"), terminal=terminal)
    assert bytes(data[offsets[1] : offsets[2]]).decode() == kept
    assert stats[1].tolist() == [got[name] for name in lines.COLUMNS]


@pytest.mark.parametrize(
    ("line", "flagged"),
    [
        ("One ordinary line of prose that says something.", False),
        ("READ ALL ABOUT IT TODAY", True),
        ("12 300 4,5", True),
        ("3 likes", True),
        ("1.2K views", True),
        ("three likes", False),
        ("Home", True),
        ("Sign in to comment", True),
        ("Read this story and read more...", True),
        ("There are 3 items in cart", True),
        ("Read more of the story that began on a day when nobody was there to see it begin", False),
    ],
)
def test_lines_that_refinedweb_corrects(line: str, flagged: bool) -> None:
    got = lined(f"{line}\n")
    assert (got["words"], got["flagged_words"]) == (len(line.split()), len(line.split()) if flagged else 0)


def test_rows_that_are_not_wanted_are_zeros() -> None:
    texts = buffers("one two three.", "four five six $x$.", "seven eight nine.")
    wanted = np.array([True, False, True])
    for stats in (
        lines.line_stats(*texts, wanted=wanted),
        marks.maths_stats(*texts, wanted),
        marks.compressed_sizes(*texts, wanted),
        textstats.text_stats(*texts, wanted=wanted),
        segment.segment_stats(*texts, np.array([0, segment.SKIP, 1]), ngrams=True),
    ):
        assert stats[0].any()
        assert not stats[1].any()
        assert stats[2].any()
    data, offsets, _ = lines.kept_lines(*texts, wanted=wanted)
    assert bytes(data) == b"one two three.seven eight nine."
    assert offsets.tolist() == [0, 14, 14, 31]


# -- marks and code


@pytest.mark.parametrize(
    ("text", "formula", "commands", "outside", "symbols"),
    [
        ("so $x^2$ is", 5, 0, 0, 0),
        ("so $$\\frac{a}{b}$$ is", 15, 1, 0, 0),
        ("so \\(a\\) and \\[b\\]", 10, 0, 0, 0),
        ("it costs $5 and $6 there", 0, 0, 0, 0),
        ("C:\\temp \\alpha", 0, 1, 6, 0),
        ("a ≤ b ∈ 𝐗", 0, 0, 0, 3),
        ("$a\n\nb$", 0, 0, 0, 0),
        ("$a \\$ b$", 8, 0, 0, 0),
    ],
)
def test_marks_of_mathematics(text: str, formula: int, commands: int, outside: int, symbols: int) -> None:
    assert marks.maths_stats(*buffers(text))[0].tolist() == [len(text), formula, commands, outside, symbols]


def lz4_size(data: bytes) -> int:
    """What LZ4's format needs for the parse that `compressed_sizes` describes, from the matches themselves."""
    seen: dict[int, int] = {}
    at = literal = size = tries = 0
    while at + 4 <= len(data):
        place = (int.from_bytes(data[at : at + 4], "little") * 2654435761 & 0xFFFFFFFF) >> 19
        before = seen.get(place)
        seen[place] = at
        if before is None or data[before : before + 4] != data[at : at + 4]:
            tries += 1
            at += 1 + (tries >> 6)
            continue
        tries, length = 0, 4
        while at + length < len(data) and data[before + length] == data[at + length]:
            length += 1
        literals = at - literal
        size += 3 + literals + (literals >= 15) * (1 + (literals - 15) // 255) + (length >= 19) * (1 + (length - 19) // 255)
        at += length
        literal = at
    literals = len(data) - literal
    return size + (literals > 0) * (1 + literals + (literals >= 15) * (1 + (literals - 15) // 255))


@pytest.mark.parametrize("text", ["", "a", "abc" * 1000, "the rain in spain " * 3 + "x" * 300, "".join(map(chr, range(33, 800)))])
def test_compressed_sizes(text: str) -> None:
    raw = text.encode()
    assert marks.compressed_sizes(*buffers(text))[0].tolist() == [len(raw), lz4_size(raw)]


def test_compression_orders_texts() -> None:
    prose = "The rain had stopped, and the people of the village went out to see what had become of their gardens that night. "
    varied = "".join(unicodedata.name(chr(code)).title() + ", " for code in range(0x4E, 0x17F) if unicodedata.name(chr(code), ""))
    size = {name: sizes[1] / sizes[0] for name, text in (("prose", prose), ("again", prose * 50), ("varied", varied)) for sizes in
            marks.compressed_sizes(*buffers(text))}  # fmt: skip
    assert size["again"] < 0.05 < size["varied"] < size["prose"]


@pytest.mark.parametrize(
    ("style", "text", "comments"),
    [
        ("hash", "# one\nx = 1  # two\n  # three\n", 5 + 7),
        ("c", "// a\nint x; /* no */\n/* b\n c */ int y;\n", 4 + 4 + 4),
        ("python", '"""doc\nstring"""\nx = 1\n', 6 + 9),
        ("html", "<!-- a -->\n<p>\n", 10),
        ("none", "# one", 0),
    ],
)
def test_comments(style: str, text: str, comments: int) -> None:
    styles = np.array([list(textstats.STYLES).index(style)], np.uint8)
    row = dict(zip(textstats.COLUMNS, textstats.text_stats(*buffers(text), code=np.ones(1, bool), styles=styles)[0], strict=True))
    assert row["comment_chars"] == comments


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("aB3" * 30, 90),
        ("key: " + "aB3/+" * 20 + "==\n", 102),
        ("=" * 200 + "a" * 100, 0),
        ("0x1f, " * 20, 118),
        ("0x1f, 0x20", 0),
        ("\\x1f\\x20" * 10, 80),
        ("\\u00e9" * 10, 60),
    ],
)
def test_encoded_data(text: str, encoded: int) -> None:
    row = dict(zip(textstats.COLUMNS, textstats.text_stats(*buffers(text), code=np.ones(1, bool))[0].tolist(), strict=True))
    assert row["encoded_chars"] == encoded == row["max_encoded"]


# -- hostile input

HOSTILE: list[bytes] = [
    *(b"", b"\0", b"\0" * 200_000, b"x" * 3_000_000, b"\n" * 1_000_000, b" " * 500_000, b". " * 200_000, b"a " * 300_000, b"." * 200_000),
    *(
        b"[" * 200_000,
        b"$" * 200_000,
        b"\\(" * 100_000,
        b"$a " * 100_000,
        b"'" * 100_000,
        b"-a" * 100_000,
        b"/*" * 100_000,
        b"0x1" * 50_000,
    ),
    "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000).encode(),
    *(b"\xff\xfe" * 1000, b"\xf8\x88\x80\x80\x80", b"\xf7\xbf\xbf\xbf", b"\xe4\xb8", b"a\xc3", b"\xed\xa0\x80", b"\x80" * 1000),
]
KERNELS = {
    "whitespace": lambda data, offsets: segment.segment_stats(data, offsets, np.zeros(len(offsets) - 1, np.int8), ngrams=True),
    "spacy": lambda data, offsets: segment.segment_stats(data, offsets, np.ones(len(offsets) - 1, np.int8), ngrams=True),
    "scripts": lambda data, offsets: segment.segment_stats(data, offsets, np.full(len(offsets) - 1, 2, np.int8), ngrams=True),
    "lines": lambda data, offsets: lines.kept_lines(data, offsets)[2],
    "maths": marks.maths_stats,
    "compressed": marks.compressed_sizes,
    "text": lambda data, offsets: textstats.text_stats(
        data, offsets, code=np.ones(len(offsets) - 1, bool), styles=(np.arange(len(offsets) - 1) % len(textstats.STYLES)).astype(np.uint8)
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_hostile_texts_are_counted_alone_as_together(name: str) -> None:
    """Nothing of one document reaches the next, and no text takes more than its share of the time."""
    together = KERNELS[name](*buffers(*HOSTILE))
    backwards = KERNELS[name](*buffers(*HOSTILE[::-1]))[::-1]
    if name != "text":  # there the style goes with the place
        np.testing.assert_array_equal(together, backwards)
    for place in (0, 1, 8, 17, 19, 20, 22):
        if name != "text":
            np.testing.assert_array_equal(KERNELS[name](*buffers(HOSTILE[place]))[0], together[place])


def test_more_words_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one two three four\n" * 200
    whole = segmented(text)
    monkeypatch.setattr(segment, "LIMIT", 100)
    capped = segmented(text)
    counted = segment.COLUMNS[: -len(segment.LINE_COLUMNS) - len(segment.NGRAM_COLUMNS)]
    assert [capped[name] for name in counted] == [whole[name] for name in counted]
    assert 0 < capped["dup_5"] < whole["dup_5"]


_CHECKED = """
import sys
sys.path[:0] = ["tests"]
import test_kernels_quality as t
sizes = [text[:2000] for text in t.HOSTILE] + [" ".join(t.PIECES).encode() * 3, "\\n".join(t.PIECES).encode()]
for name, kernel in t.KERNELS.items():
    print(name, kernel(*t.buffers(*sizes)).tolist())
"""


@pytest.mark.slow
def test_checked_indices_find_nothing(tmp_path: object) -> None:
    """Every kernel compiled with bounds checks gives the same numbers and raises nothing."""
    said = []
    for checks in ("0", "1"):
        environment = {**os.environ, "NUMBA_BOUNDSCHECK": checks, "NUMBA_CACHE_DIR": str(tmp_path) + checks}
        done = subprocess.run([sys.executable, "-c", _CHECKED], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr[-2000:]
        said.append(done.stdout)
    assert said[0] == said[1]


def test_upper_case_is_known() -> None:
    assert all(properties()[ord(c)] & UPPER for c in "AÉЖΩ")


def test_slices_of_arrow_arrays() -> None:
    array = pa.array(["skip", "one two three.", None, "the end..."], pa.large_string()).slice(1)
    for name, kernel in KERNELS.items():
        alone = [kernel(*buffers(text or ""))[0].tolist() for text in array.to_pylist()]
        if name != "text":
            assert kernel(*text_buffers(array)).tolist() == alone
