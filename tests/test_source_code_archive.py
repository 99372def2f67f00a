"""Tars and zips of a source tree, and Parquet tables of source files: against the same files on disk; hostile ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import subprocess
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import lz4.frame
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from test_source_code import DROPS, GPL, KEPT, MIT, SOURCE, by_name, config, make, verdict

from codedev.corpus.source import Document, Drop, Failure, Piece
from codedev.corpus.sources.code import source as code

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def read(base: Path, *paths: str, unit: int = 1 << 20, **keys: Any) -> list[Document | Drop | Failure]:
    settings = config(*paths, **keys)
    return [record for extent in code.plan(settings, base, unit) for record in code.read(extent, settings, base)]


def tar(path: Path, files: dict[str, str | bytes], *, compression: str = "", comment: str | None = None) -> Path:
    kind = tarfile.PAX_FORMAT
    headers = {"comment": comment} if comment else None
    with tarfile.open(path, f"w:{compression}", format=kind, pax_headers=headers) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def zipped(path: Path, files: dict[str, str | bytes], comment: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment.encode()
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def content(record: Document | Drop | Failure) -> tuple[Any, ...]:
    if isinstance(record, Failure):
        return record.kind, record.message
    path = record.id.partition(":")[2]
    if isinstance(record, Drop):
        return path, record.reason, record.evidence
    meta = orjson.loads(record.meta)
    return path, record.text, record.lang, record.licence, meta.get("licence_from"), meta["repo"]


TREE: dict[str, str | bytes] = {
    **{name: text for name, text, _ in DROPS},
    **dict(KEPT),
    "LICENSE": MIT,
    "lib/COPYING": GPL,
    "lib/deep/x.py": SOURCE,
    "reuse/REUSE.toml": 'version = 1\n[[annotations]]\npath = "*.py"\nprecedence = "override"\nSPDX-License-Identifier = "Zlib"\n',
    "reuse/y.py": "# SPDX-License-Identifier: ISC\n" + SOURCE,
    "art/z.py": SOURCE,
    "art/z.py.license": "SPDX-License-Identifier: CC0-1.0\n",
    "bad.py": b"# caf\xc3\xa9 \xc3\xa9 \xff\n",
}


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_a_tar_is_read_as_its_folder(tmp_path: Path, compression: str) -> None:
    make(tmp_path / "tree", TREE)
    expected = Counter(content(record) for record in by_name(tmp_path, "tree").values())
    name = f"tree.tar.{compression}".rstrip(".")
    tar(tmp_path / name, {f"tree-1.2.3/{path}": data for path, data in TREE.items()}, compression=compression)
    assert Counter(map(content, read(tmp_path, name))) == expected
    tar(tmp_path / name, TREE, compression=compression)
    assert Counter(map(content, read(tmp_path, name))) == expected
    tar(tmp_path / name, {f"./{path}": data for path, data in TREE.items()}, compression=compression)
    assert Counter(map(content, read(tmp_path, name))) == expected
    licences = {r.id.partition(":")[2]: r.licence for r in read(tmp_path, name) if isinstance(r, Document)}
    assert (licences["lib/deep/x.py"], licences["reuse/y.py"], licences["art/z.py"]) == ("GPL-2.0-only", "Zlib", "CC0-1.0")


def test_a_zip_is_read_as_its_folder(tmp_path: Path) -> None:
    make(tmp_path / "tree", TREE)
    expected = Counter(content(record) for record in by_name(tmp_path, "tree").values())
    zipped(tmp_path / "tree.zip", {f"tree-main/{path}": data for path, data in TREE.items()})
    assert Counter(map(content, read(tmp_path, "tree.zip"))) == expected


@pytest.mark.parametrize("name", ["tree.tar", "tree.zip"])
def test_any_unit_gives_the_same(tmp_path: Path, name: str) -> None:
    (zipped if name.endswith("zip") else tar)(tmp_path / name, {f"t/{path}": data for path, data in TREE.items()})
    whole = read(tmp_path, name, unit=1 << 30)
    for unit in (1, 600, 5000):
        assert read(tmp_path, name, unit=unit) == whole
    assert len(list(code.plan(config(name), tmp_path, 1))) > 10


def test_lineage(tmp_path: Path) -> None:
    path = tar(tmp_path / "tree.tar", {f"t/{name}": data for name, data in TREE.items()})
    raw = path.read_bytes()
    seen = 0
    for record in read(tmp_path, "tree.tar"):
        if isinstance(record, Document):
            assert record.offset is not None
            assert record.length is not None
            assert raw[record.offset : record.offset + record.length].decode() == record.text
            assert record.member == "t/" + record.id.partition(":")[2]
            seen += 1
    assert seen >= len(KEPT)


def test_names_and_commits(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a.py": SOURCE}

    def identity(made: Path) -> str:
        (record,) = read(tmp_path, made.name)
        assert isinstance(record, Document)
        return record.id

    def under(top: str) -> dict[str, str | bytes]:
        return {f"{top}/{path}": data for path, data in files.items()}

    assert identity(tar(tmp_path / "x.tar.gz", under(f"name-{COMMIT}"), compression="gz", comment=COMMIT)) == f"name@{COMMIT}:a.py"
    assert identity(tar(tmp_path / "x.tar", under(f"owner-name-{COMMIT[:7]}"), comment=COMMIT)) == f"owner-name@{COMMIT}:a.py"
    assert identity(zipped(tmp_path / "x.zip", under("name-main"), COMMIT)) == f"name@{COMMIT}:a.py"
    assert identity(zipped(tmp_path / "x.zip", under("name-2"), "not a commit")).startswith("name@")
    without = identity(tar(tmp_path / "name-1.0.tar.gz", files, compression="gz"))
    assert without.startswith("name@")
    assert without.endswith(":a.py")


def test_git_archives(tmp_path: Path) -> None:
    pytest.importorskip("pygit2")
    from test_source_code_git import commit

    root = make(tmp_path / "tree", {"LICENSE": MIT, "a.py": SOURCE, "lib/b.py": SOURCE})
    hashed = commit(root)
    for name, form in (("g.tar", "tar"), ("g.tgz", "tgz"), ("g.zip", "zip")):
        subprocess.run(
            ["git", "archive", f"--format={form}", "--prefix=tree-v1/", "-o", str(tmp_path / name), "HEAD"], cwd=root, check=True
        )
        assert {record.id for record in read(tmp_path, name) if not isinstance(record, Failure)} == {
            f"tree@{hashed}:{path}" for path in ("LICENSE", "a.py", "lib/b.py")
        }


def test_hostile_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = SOURCE.encode(), target: str = "") -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, target, len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(data) if kind == tarfile.REGTYPE else None)

        add("t/good.py")
        add("../../etc/passwd")
        add("/etc/shadow")
        add("t/../../x.py")
        add("t/link.py", tarfile.SYMTYPE, target="/etc/passwd")
        add("t/hard.py", tarfile.LNKTYPE, target="t/good.py")
        add("t/pipe.py", tarfile.FIFOTYPE)
        add("t/LICENSE", tarfile.SYMTYPE, target="/etc/passwd")
        add("t/inner.zip", data=zipped(tmp_path / "inner.zip", {"a.py": SOURCE}).read_bytes())
        add("t/nul.py", data=b"x = 1\0\0")
        add("t/.git/config", data=b"[core]\n\tfsmonitor = touch ran\n")
        add("t/last.py")
    found = [(record.member, verdict(record)) for record in read(tmp_path, "evil.tar")]
    assert found == [
        ("t/good.py", "kept"),
        ("../../etc/passwd", "unsafe_path"),
        ("/etc/shadow", "unsafe_path"),
        ("t/../../x.py", "unsafe_path"),
        ("t/link.py", "link"),
        ("t/hard.py", "link"),
        ("t/pipe.py", "special"),
        ("t/LICENSE", "link"),
        ("t/inner.zip", "binary"),
        ("t/nul.py", "binary"),
        ("t/last.py", "kept"),
    ]
    assert not list(tmp_path.rglob("passwd"))


def test_bombs(tmp_path: Path) -> None:
    zipped(tmp_path / "bomb.zip", {"t/a.py": SOURCE, "t/bomb.py": b"#" * (100 << 20), "t/z.py": SOURCE})
    assert [verdict(record) for record in read(tmp_path, "bomb.zip", max_ratio=100, max_record_bytes=200 << 20)] == ["kept", "bomb", "kept"]
    with gzip.open(tmp_path / "bomb.tar.gz", "wb") as file:
        member = tarfile.TarInfo("t/bomb.py")
        member.size = 100 << 20
        file.write(member.tobuf())
        for _ in range(100):
            file.write(bytes(1 << 20))
    assert verdict(read(tmp_path, "bomb.tar.gz", max_ratio=100)[-1]) == "bomb"


def test_damaged_archives(tmp_path: Path) -> None:
    whole = tar(tmp_path / "whole.tar", {f"t/{n}.py": SOURCE * 30 for n in range(20)}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    verdicts = [verdict(record) for record in read(tmp_path, "cut.tar")]
    assert verdicts.count("kept") >= 8
    assert verdicts[-1] == "truncated"
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(whole)[:-200])
    assert "truncated" in [verdict(record) for record in read(tmp_path, "cut.tar.gz")]
    (tmp_path / "cut.zip").write_bytes(zipped(tmp_path / "w.zip", TREE).read_bytes()[:-100])
    assert [verdict(record) for record in read(tmp_path, "cut.zip")] == ["corrupt"]


@pytest.mark.parametrize("codec", ["gz", "bz2", "xz", "zst", "lz4"])
def test_a_compressed_tar_with_a_damaged_head(tmp_path: Path, codec: str) -> None:
    """Its members must not vanish as those of a `binary` file."""
    noise = random.Random(0).randbytes(100_000).hex()
    whole = tar(tmp_path / "whole.tar", {"t/a.py": SOURCE, "t/b.py": noise}).read_bytes()
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.compress, "lz4": lz4.frame.compress}[codec]
    packed = pack(whole)
    (tmp_path / "cut").write_bytes(packed[:40])
    assert [verdict(record) for record in read(tmp_path, "cut")] == ["truncated"]
    (tmp_path / "torn").write_bytes(packed[:12] + b"\xff" * 40 + packed[52:])
    assert not {verdict(record) for record in read(tmp_path, "torn")} & {"binary", "kept"}
    (tmp_path / "other").write_bytes(pack(b"no archive " * 100))
    assert [verdict(record) for record in read(tmp_path, "other")] == ["binary"]


def test_containers_inside_a_tree_are_binary_files(tmp_path: Path) -> None:
    make(tmp_path / "tree", {"a.py": SOURCE})
    tar(tmp_path / "tree/old.tar", {"t/a.py": SOURCE})
    pq.write_table(pa.table({"content": [SOURCE], "path": ["a.py"]}), tmp_path / "tree/t.parquet")
    assert {name: verdict(record) for name, record in by_name(tmp_path, "tree").items()} == {
        "tree/a.py": "kept",
        "tree/old.tar": "binary",
        "tree/t.parquet": "binary",
    }


def test_a_line_of_100_mb(tmp_path: Path) -> None:
    line = b"x = '" + b"ab " * (34 << 20) + b"'\n"
    make(tmp_path / "tree", {"long.py": line, "a.py": SOURCE})
    found = {name: verdict(record) for name, record in by_name(tmp_path, "tree").items()}
    assert found == {"tree/long.py": "too_large", "tree/a.py": "kept"}
    kept = by_name(tmp_path, "tree", max_record_bytes=200 << 20)["tree/long.py"]
    assert isinstance(kept, Document)
    assert len(kept.text) == len(line)


# Parquet.

STACK = {
    "hexsha": ["aa", "bb", "cc", "dd", "ee", "ff"],
    "ext": ["py", "md", "js", "py", "c", "py"],
    "lang": ["Python", "Markdown", "JavaScript", "Python", "C", "Python"],
    "max_stars_repo_path": ["src/a.py", "README.md", "lib.min.js", "node_modules/x.py", "noext", "empty.py"],
    "max_stars_repo_name": ["o/one", "o/one", "o/two", "o/two", "o/three", "o/three"],
    "max_stars_repo_head_hexsha": [COMMIT] * 6,
    "max_stars_repo_licenses": [["MIT"], ["MIT", "GPL-2.0"], ["Apache-2.0"], ["MIT"], [], ["nonsense"]],
    "max_stars_count": [5, None, 7, 0, 1, 2],
    "content": [SOURCE, "# A title\n\nWords.\n", "var a=1;" * 9, SOURCE, "int f(void) { return 1; }\n", ""],
}


def test_the_stacks_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table(STACK), tmp_path / "stack.parquet", row_group_size=2)
    records = read(tmp_path, "stack.parquet")
    assert [verdict(record) for record in records] == ["kept", "kept", "minified", "vendored", "kept", "empty"]
    first, second, *_, fifth, _ = records
    assert isinstance(first, Document)
    assert (first.id, first.text, first.lang, first.licence, first.offset) == (f"o/one@{COMMIT}:src/a.py", SOURCE, "Python", "MIT", 0)
    meta = orjson.loads(first.meta)
    assert meta == {
        "repo": "o/one",
        "commit": COMMIT,
        "path": "src/a.py",
        "stars": 5,
        "blob": "aa",
        "ext": "py",
        "licence_from": "metadata",
    }
    assert isinstance(second, Document)
    assert second.licence == "MIT AND GPL-2.0-only"
    assert isinstance(fifth, Document)
    assert (fifth.lang, fifth.licence, fifth.offset) == ("C", None, 4)  # by the column, since the name says nothing
    assert [verdict(r) for r in read(tmp_path, "stack.parquet", licences=["permissive"])][:2] == ["kept", "licence"]
    for unit in (1, 1 << 30):
        assert read(tmp_path, "stack.parquet", unit=unit) == records
    assert len(list(code.plan(config("stack.parquet"), tmp_path, 1))) == 3


@pytest.mark.parametrize(
    ("columns", "identity", "licence"),
    [
        ({"content": SOURCE, "path": "a.py", "repo": "o/x", "blob_id": "b", "revision_id": "r", "license": ["MIT"]}, "o/x@r:a.py", "MIT"),
        ({"code": SOURCE, "path": "a.py", "repo_name": "o/x", "language": "Python", "license": "apache-2.0"}, None, "Apache-2.0"),
        ({"content": SOURCE, "sample_path": "a.py", "sample_repo_name": "o/x", "id": "c0ffee", "size": 1}, "o/x@c0ffee:a.py", None),
        ({"content": SOURCE.encode(), "max_stars_repo_path": "a.py", "max_stars_repo_name": "o/x", "id": "7"}, "o/x@7:a.py", None),
    ],
)  # fmt: skip
def test_other_layouts(tmp_path: Path, columns: dict[str, Any], identity: str | None, licence: str | None) -> None:
    pq.write_table(pa.table({name: [value] for name, value in columns.items()}), tmp_path / "t.parquet")
    (record,) = read(tmp_path, "t.parquet")
    assert isinstance(record, Document)
    assert (record.text, record.licence, record.lang) == (SOURCE, licence, "Python")
    assert record.id == identity or (identity is None and record.id.startswith("o/x@"))


def test_bad_rows_and_tables(tmp_path: Path) -> None:
    content = pa.array([SOURCE.encode(), None, b"\xff\xfe\xff", b"a\0b", SOURCE.encode(), b"\xef\xbb\xbf" + SOURCE.encode()], pa.binary())
    table = pa.table({"content": content, "path": ["a.py", "b.py", "c.py", "d.py", None, "f.py"]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert [verdict(r) for r in read(tmp_path, "t.parquet")] == ["kept", "no_text", "invalid_utf8", "binary", "no_path", "kept"]
    assert verdict(read(tmp_path, "t.parquet", max_record_bytes=5)[0]) == "too_large"
    pq.write_table(pa.table({"text": ["words"]}), tmp_path / "u.parquet")
    assert [verdict(r) for r in read(tmp_path, "u.parquet")] == ["unknown_columns"]
    pq.write_table(pa.table({"content": [1], "path": ["a.py"]}), tmp_path / "v.parquet")
    assert [verdict(r) for r in read(tmp_path, "v.parquet")] == ["no_text_column"]
    (tmp_path / "w.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-20])
    assert [verdict(r) for r in read(tmp_path, "w.parquet")] == ["corrupt"]


def test_values_that_python_does_not_hold(tmp_path: Path) -> None:
    count = 5
    table = pa.table(
        {
            "content": [SOURCE] * count,
            "path": pa.array([b"a.py", b"\xff.py", b"c.py", b"d.py", b"e.py"]).cast(pa.binary()).view(pa.string()),
            "repo": ["o/x"] * count,
            "license": ["MIT"] * count,
            "said": pa.array([b"x", b"y", b"\xfe", b"z", b"z"]).view(pa.string()),
            "tags": pa.array([[b"x"], [], None, [b"\xfe"], [b"z"]], pa.list_(pa.binary())).cast(pa.list_(pa.binary())),
            "nanos": pa.array([1, 2, 3, 4, 5], pa.timestamp("ns", "UTC")),
            "far": pa.array([1, 2, 3, 4, 1 << 62], pa.timestamp("us")),
            "days": pa.array([1, 2, 3, 4, 1 << 30], pa.date32()),
            "raw": pa.array([b"\xff\0"] * count),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    for mode in ("files", "docstrings", "pairs"):
        records = read(tmp_path, "t.parquet", mode=mode)
        assert [verdict(record) for record in records if isinstance(record, Failure)] == ["invalid_utf8", "invalid_utf8"]
    records = read(tmp_path, "t.parquet")
    assert [verdict(record) for record in records] == ["kept", "invalid_utf8", "invalid_utf8", "kept", "kept"]
    first, last = records[0], records[-1]
    assert isinstance(first, Document)
    assert isinstance(last, Document)
    meta = orjson.loads(first.meta)
    assert meta["nanos"].startswith("1970-01-01T00:00:00")
    assert (meta["days"], meta["raw"]) == ("1970-01-02", "\ufffd\0")
    assert not {"far", "days"} & set(orjson.loads(last.meta))
    settings = config("t.parquet", mode="context")
    pieces = [piece for extent in code.plan(settings, tmp_path, 1) for piece in code.read(extent, settings, tmp_path)]
    (joined,) = code.gather(0, "", [piece for piece in pieces if isinstance(piece, Piece)], settings)
    assert len(orjson.loads(joined.meta)["files"]) == 3
    assert orjson.loads(joined.meta)["raw"] == "\ufffd\0"


def test_columns_of_one_name(tmp_path: Path) -> None:
    columns = [pa.array([value]) for value in (SOURCE, "a.py", "b.py", 1, 2)]
    pq.write_table(pa.Table.from_arrays(columns, ["content", "path", "path", "n", "n"]), tmp_path / "t.parquet")
    (record,) = read(tmp_path, "t.parquet")
    assert isinstance(record, Document)
    meta = orjson.loads(record.meta)
    assert (meta["path"], meta["n"]) == ("b.py", 2)


@pytest.mark.parametrize("column", ["content", "path", "licenses", "tags"])
def test_a_table_that_unfolds_without_end(tmp_path: Path, column: str) -> None:
    """40 rows of one text of 30 MB are 1,655 bytes."""
    text = "x = 1\n" * (5 << 20)
    values: Any = pa.DictionaryArray.from_arrays(pa.array([0] * 40, pa.int32()), pa.array([text]))
    if column in ("licenses", "tags"):
        values = pa.ListArray.from_arrays(pa.array(range(41), pa.int32()), values)
    table = pa.table({"content": [SOURCE] * 40, "path": [f"{n}.py" for n in range(40)]})
    table = (
        table.set_column(table.schema.names.index(column), column, values)
        if column in table.schema.names
        else table.append_column(column, values)
    )
    options: dict[str, Any] = {"compression": "zstd", "store_schema": False, "dictionary_pagesize_limit": 1 << 30}
    pq.write_table(table, tmp_path / "t.parquet", **options)
    assert (tmp_path / "t.parquet").stat().st_size < 10_000
    pa.default_memory_pool().release_unused()
    before = pa.total_allocated_bytes()
    for ratio, record_bytes, expected in ((1000, 64 << 20, {"bomb"}), (1 << 20, 1 << 20, {"too_large"})):
        settings = config("t.parquet", max_ratio=ratio, max_record_bytes=record_bytes)
        found = set()
        for extent in code.plan(settings, tmp_path, 1):
            for record in code.read(extent, settings, tmp_path):
                found.add(verdict(record))
                assert pa.total_allocated_bytes() - before < 200 << 20
        assert found == expected


def test_other_ways_to_unfold(tmp_path: Path) -> None:
    plain = {"content": [SOURCE] * 40, "path": [f"{n}.py" for n in range(40)]}
    wide = pa.array([bytes(4 << 20)] * 40, pa.binary(4 << 20))
    pq.write_table(pa.table({**plain, "wide": wide}), tmp_path / "wide.parquet", compression="zstd")
    assert [verdict(record) for record in read(tmp_path, "wide.parquet")] == ["bomb"]
    nothing = pa.nulls(3_000_000, pa.string())
    pq.write_table(pa.table({"content": nothing, "path": nothing}), tmp_path / "nulls.parquet", row_group_size=1 << 30, compression="zstd")
    assert [verdict(record) for record in read(tmp_path, "nulls.parquet")][-1] == "bomb"
    tags = pa.array([[("a", "b"), ("c", None)], [], None, [("x", "y")]] * 10, pa.map_(pa.string(), pa.string()))
    inner = pa.array([{"a": ["x", None], "b": None}, None, {"a": None, "b": "z"}, {"a": [], "b": ""}] * 10)
    pq.write_table(pa.table({**plain, "tags": tags, "inner": inner}), tmp_path / "nested.parquet")
    records = read(tmp_path, "nested.parquet")
    assert [verdict(record) for record in records] == ["kept"] * 40
    first = records[0]
    assert isinstance(first, Document)
    assert orjson.loads(first.meta)["tags"] == [["a", "b"], ["c", None]]
    assert orjson.loads(first.meta)["inner"] == {"a": ["x", None], "b": None}


def test_a_table_is_judged_as_files_are(tmp_path: Path) -> None:
    """The same contents in a folder and in a table end the same way, but for encodings, which a table has none of."""
    files = [(name, text) for name, text in [*((n, t) for n, t, _ in DROPS), *KEPT] if isinstance(text, str)]
    make(tmp_path / "x", dict(files))
    expected = {
        record.id.partition(":")[2]: verdict(record) for record in by_name(tmp_path, "x").values() if not isinstance(record, Failure)
    }
    table = {"path": [name for name, _ in files], "content": [text for _, text in files], "repo_name": ["x"] * len(files)}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    assert {
        record.id.partition(":")[2]: verdict(record) for record in read(tmp_path, "t.parquet") if not isinstance(record, Failure)
    } == expected
