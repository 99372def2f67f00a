"""Reading a corpus directory; also the makers of small corpora that the other tests of tokenization use."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codedev._errors import InputError
from codedev._run import file_hash, write_json
from codedev.corpus.document import DOCUMENT
from codedev.tokenize.documents import batches, find_document, open_corpus, verify

NASTY = [
    "",
    " ",
    "\x00",
    "\n",
    "\r\n\r\n  \t x",
    "<|endoftext|>",
    "a<|endoftext|><|pad|>b <|reserved_0|> <|bos|>",
    "naïve café e\u0301 Å \u212b \ufb01 ｆｕｌｌ",  # NFC and NFKC would change these
    "日本語のテキスト。中文，没有空格",
    "👩‍👩‍👧‍👦 🏳️‍🌈 \U0010ffff",
    "it's IT'S ſ's 'ſ",  # U+017F equals S when case is ignored
    "12345678901234567890 3.14159 ½ ٣٤٥",
    r"\alpha_{\beta}^2 \\ \{ \_ x\y \frac{1}{2}",
    "def f(x):\n    return x\n\n\n\tif y:\n\t\tz = 1  \n",
    " " * 500 + "\n" * 70 + "\t" * 30,
    "\u2028\u2029\u0085\u00a0\u3000\ufeff\u200b",
    "x" * 3000,
    "=" * 1000,
    "'" * 5 + "''re 'll'LL",
]


def document(number: int, text: str, source: str = "web", **columns: Any) -> dict[str, Any]:
    return {"id": f"{source}/{number}", "source": source, "kind": "web", "text": text, "meta": "{}", **columns}


def stdlib_texts(limit: int) -> list[str]:
    """Real text that every machine has: source files of the standard library of up to 20 kB."""
    folder = Path(random.__file__).parent
    files = sorted(
        (path for path in folder.glob("*.py") if path.stat().st_size < 20_000), key=lambda path: (path.stat().st_size, path.name)
    )
    return [path.read_text("utf-8", errors="replace") for path in files[-limit:]]


def write_corpus(folder: Path, documents: list[dict[str, Any]], *, part_rows: int = 50, row_group: int = 20) -> Path:
    """A corpus directory as `codedev corpus build` leaves it, sources in the order in which they appear."""
    parts = []
    for source in dict.fromkeys(d["source"] for d in documents):
        rows = [d for d in documents if d["source"] == source]
        for index, begin in enumerate(range(0, len(rows), part_rows)):
            table = pa.Table.from_pylist(rows[begin : begin + part_rows], schema=DOCUMENT)
            table = table.append_column("q.words", pa.array([1.0] * table.num_rows, pa.float32()))
            path = folder / "documents" / source / f"part-{index:05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path, compression="zstd", row_group_size=row_group)
            size = sum(len((d["text"] or "").encode()) for d in rows[begin : begin + part_rows])
            name = path.relative_to(folder).as_posix()
            parts.append({"path": name, "rows": table.num_rows, "text_bytes": size, "hash": file_hash(path)})
    write_json(folder / "manifest.json", {"format": "codedev.corpus/1", "parts": {"documents": parts}})
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    texts = [f"text number {i}" for i in range(130)]
    rows = [document(i, text, "b" if i % 3 else "a") for i, text in enumerate(texts)]
    rows[5]["text"] = None
    return write_corpus(tmp_path / "corpus", rows)


def test_order_and_nulls(corpus: Path) -> None:
    opened = open_corpus(corpus)
    assert opened.rows == 130
    read = [row for part in opened.parts for batch in batches(part, ["id", "text"]) for row in batch.to_pylist()]
    assert [row["id"] for row in read] == [f"a/{i}" for i in range(0, 130, 3)] + [f"b/{i}" for i in range(130) if i % 3]
    assert {row["id"]: row["text"] for row in read}["b/5"] == ""


def test_find_document_with_and_without_its_position(corpus: Path) -> None:
    opened = open_corpus(corpus)
    read = [row["id"] for part in opened.parts for batch in batches(part, ["id"]) for row in batch.to_pylist()]
    for position, name in enumerate(read):
        for hint in (position, None, (position + 7) % 130, 10_000):
            if hint in (position, None) or position % 20 == 0:
                found = find_document(opened, name, hint)
                assert found is not None
                assert found["id"] == name
    assert find_document(opened, "nobody", None) is None


def test_no_corpus(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(InputError, match="no such corpus"):
        open_corpus(tmp_path / "nowhere")
    with pytest.raises(InputError, match="codedev corpus build"):
        open_corpus(tmp_path)  # a directory without a manifest
    manifest = orjson.loads((corpus / "manifest.json").read_bytes())
    for broken, message in (
        ({**manifest, "format": "codedev.shards/1"}, "format"),
        ({**manifest, "parts": {"documents": [{"path": "x"}]}}, "list of parts"),
        ({**manifest, "parts": {"documents": []}}, "holds no documents"),
        ([], "format"),
    ):
        write_json(corpus / "manifest.json", broken)
        with pytest.raises(InputError, match=message):
            open_corpus(corpus)
    (corpus / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="JSON"):
        open_corpus(corpus)


def test_damaged_parts(corpus: Path) -> None:
    opened = open_corpus(corpus)
    part = opened.parts[0]
    whole = part.path.read_bytes()
    part.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        verify(part)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        list(batches(part, ["text"]))
    part.path.write_bytes(whole)
    with pytest.raises(InputError, match="rows"):
        list(batches(part._replace(rows=3), ["text"]))
    part.path.unlink()
    with pytest.raises(InputError, match="missing"):
        open_corpus(corpus)
