"""Normalisation against `unicodedata` and `re`, by kind, with its counters."""

from __future__ import annotations

import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codedev.corpus.document import DOCUMENT, KINDS, PROSE_KINDS
from codedev.corpus.normalise import normalise

# As the module says: C0 and C1 controls but tab, line feed, vertical tab and form feed; byte order marks; non-characters.
CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")


def batch_of(texts: list[str], kinds: list[str]) -> pa.RecordBatch:
    columns = {"id": pa.array([str(n) for n in range(len(texts))]), "kind": pa.array(kinds), "text": pa.array(texts, pa.large_string())}
    arrays = [columns[f.name].cast(f.type) if f.name in columns else pa.nulls(len(texts), f.type) for f in DOCUMENT]
    return pa.RecordBatch.from_arrays(arrays, schema=DOCUMENT)


def plain(text: str, kind: str) -> str:
    text = CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return unicodedata.normalize("NFC", text) if kind in PROSE_KINDS else text


# Characters of Unicode 3.2, whose composition every later version keeps.
old = st.characters(exclude_categories=["Cs"]).filter(lambda c: unicodedata.ucd_3_2_0.category(c) != "Cn")
awkward = st.sampled_from(
    [
        "\r",
        "\r\n",
        "\n\r",
        "\0",
        "\x0b",
        "\x0c",
        "\x7f",
        "\x85",
        "\ufeff",
        "\uffff",
        "e\u0301",
        "\u1100\u1161",
        "\u0344",
        "\u212b",
        "\u0958",
        "a\u0327\u0301",
        "a\0\u0301",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.lists(old | awkward, max_size=12).map("".join), st.sampled_from(KINDS)), min_size=1, max_size=6))
@example([("\r\r\n\n\r", "web"), ("e\0\u0301", "web"), ("e\u0301", "code"), ("\u212b", "protein"), ("", "web")])
def test_against_the_standard_library(rows: list[tuple[str, str]]) -> None:
    batch = batch_of([text for text, _ in rows], [kind for _, kind in rows])
    out, counts = normalise(batch)
    out.validate(full=True)
    expected = [plain(text, kind) for text, kind in rows]
    assert out.column("text").to_pylist() == expected
    assert (counts["rows_in"], counts["rows_out"]) == (len(rows), len(rows))
    assert out.drop_columns(["text"]) == batch.drop_columns(["text"])
    assert counts["note.line_ends"] == sum("\r" in text for text, _ in rows)
    without_cr = [text.replace("\r\n", "\n").replace("\r", "\n") for text, _ in rows]
    assert counts["note.control_characters"] == sum(bool(CONTROLS.search(text)) for text in without_cr)
    bare = [CONTROLS.sub("", text) for text in without_cr]
    assert counts["note.nfc"] == sum(
        kind in PROSE_KINDS and unicodedata.normalize("NFC", text) != text for text, (_, kind) in zip(bare, rows, strict=True)
    )
    again, counts = normalise(out)  # once is enough
    assert again.equals(out)
    assert not any(name.startswith("note.") for name in counts)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    [text] = normalise(batch_of(["\fe\u0301\r\n\x1b[31m"], [kind]))[0].column("text").to_pylist()
    assert text == ("\f\u00e9\n[31m" if kind in PROSE_KINDS else "\fe\u0301\n[31m")


def test_latin_1_is_composed_already() -> None:
    """What lets the stage pass by text without a character beyond U+02FF."""
    for code in range(0x300):
        assert unicodedata.normalize("NFC", chr(code)) == chr(code)


def test_nothing_to_do_gives_the_very_batch() -> None:
    batch = batch_of(["plain", "prose"], ["web", "code"])
    out, _ = normalise(batch)
    assert out.column("text").buffers()[2].address == batch.column("text").buffers()[2].address
