"""`codedev corpus dedup` on Parquet that others wrote."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codedev._errors import InputError
from codedev.corpus.dedup_files import dedup_files

TEXT = " ".join(random.Random(0).choices(["sun", "moon", "rain", "wind", "hill", "brook", "stone", "leaf", "bird", "road"], k=300))


def write(path: Path, texts: list[str | None], **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {
        "body": pa.array(texts, pa.string()),
        "n": np.arange(len(texts)),
        "vector": [[1.0, float(i)] for i in range(len(texts))],
    } | columns
    pq.write_table(pa.table(rows), path, row_group_size=3)


def test_rows_keep_their_columns_and_what_went_is_said(tmp_path: Path) -> None:
    write(tmp_path / "in/a.parquet", [TEXT, None, "one of a kind", "", TEXT + " end", "one of a kind"])
    write(tmp_path / "in/sub/b.parquet", ["one  of a\nkind", "other " + TEXT.split(" ", 3)[3], "last", None], extra=["p", "q", "r", "s"])
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "codedev",
        "corpus",
        "dedup",
        "in",
        "--out",
        "out",
        "--text-column",
        "body",
        "--workers",
        "2",
        "--json",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert (report["rows"], report["kept"], report["dropped"]) == (10, 6, {"duplicate": 2, "near_duplicate": 2})
    first, second = pq.read_table(out / "a.parquet"), pq.read_table(out / "sub/b.parquet")
    assert first.schema == pq.read_schema(tmp_path / "in/a.parquet")
    assert first.to_pylist() == [row for row in pq.read_table(tmp_path / "in/a.parquet").to_pylist() if row["n"] not in (4, 5)]
    assert second.to_pylist() == pq.read_table(tmp_path / "in/sub/b.parquet").to_pylist()[2:]
    lost = pq.read_table(out / "duplicates.parquet").to_pylist()
    assert [(row["file"], row["row"], row["stage"]) for row in lost] == [
        ("a.parquet", 4, "near"), ("a.parquet", 5, "exact"), ("sub/b.parquet", 0, "exact"), ("sub/b.parquet", 1, "near"),
    ]  # fmt: skip
    assert [(row["of_file"], row["of_row"], row["against"]) for row in lost] == [("a.parquet", at, None) for at in (0, 2, 2, 0)]
    assert lost[0]["jaccard"] > 0.99
    assert [row["jaccard"] is None for row in lost] == [row["stage"] == "exact" for row in lost]
    assert {row["id"] for row in lost} == {None}
    assert report["without_text"] == 3
    # Again: the same bytes, for one worker and little memory too.
    before = {path.name: path.read_bytes() for path in out.rglob("*.parquet") if ".corpus" not in path.parts}
    dedup_files([tmp_path / "in"], tmp_path / "again", text="body", minhash={}, memory=1 << 20)
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").rglob("*.parquet") if ".corpus" not in path.parts} == before


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ["x"])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    for paths, out, text, said in [
        ([tmp_path / "a.parquet"], tmp_path / "o", "text", r"has no column 'text' \(it has: body, n, vector\). Name it with --text-column"),
        ([tmp_path / "bad.parquet"], tmp_path / "o", "body", "is no Parquet file that can be read"),
        ([tmp_path / "none.parquet"], tmp_path / "o", "body", "is no Parquet file that can be read"),
        ([tmp_path / "a.parquet"], tmp_path, "body", "lies in --out"),
    ]:
        with pytest.raises(InputError, match=said):
            dedup_files(paths, out, text=text, minhash=None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no Parquet file"):
        dedup_files([tmp_path / "empty"], tmp_path / "o", minhash=None)


def test_rows_are_named_by_a_column_and_by_the_run_that_holds_them(tmp_path: Path) -> None:
    """Of two months: what January holds names January's row; an id is the user's own value."""
    write(tmp_path / "jan/a.parquet", [TEXT, "one of a kind"], key=["x", "y"])
    write(tmp_path / "feb/b.parquet", ["new", "one of  a kind", TEXT + " end", "new"], key=["p", "q", "r", "s"])
    dedup_files([tmp_path / "jan"], tmp_path / "one", text="body", id_column="key", minhash={})
    report = dedup_files([tmp_path / "feb"], tmp_path / "two", text="body", id_column="key", minhash={}, against=[tmp_path / "one"])
    assert (report["kept"], report["without_text"]) == (1, 0)
    lost = pq.read_table(tmp_path / "two" / "duplicates.parquet").to_pylist()
    earlier = str(tmp_path / "one")
    assert [(row["id"], row["of_id"], row["of_file"], row["of_row"], row["against"]) for row in lost] == [
        ("q", "y", "a.parquet", 1, earlier), ("r", "x", "a.parquet", 0, earlier), ("s", "p", "b.parquet", 0, None),
    ]  # fmt: skip


def test_a_folder_holds_the_result_of_one_set_of_files(tmp_path: Path) -> None:
    write(tmp_path / "jan/a.parquet", [TEXT])
    write(tmp_path / "jan/b.parquet", ["other"])
    dedup_files([tmp_path / "jan"], tmp_path / "out", text="body", minhash={})
    with pytest.raises(InputError, match=r"holds the result for other files \(such as .*b.parquet\). Choose another --out"):
        dedup_files([tmp_path / "jan/a.parquet"], tmp_path / "out", text="body", minhash={})
    dedup_files([tmp_path / "jan"], tmp_path / "out", text="body", minhash={"verify": 0.9})  # another option is no other set of files


def test_a_criterion_that_is_none_and_a_run_that_is_none(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [TEXT])
    command = [sys.executable, "-m", "codedev", "corpus", "dedup", "a.parquet", "--out", "out", "--text-column", "body"]
    for options, said in (
        (["--keep", "longestt"], "error: --keep: no column 'longestt': did you mean 'longest'?\n"),
        (["--against", str(tmp_path / "nope")], f"error: {tmp_path / 'nope'}: holds no finished corpus"),
    ):
        done = subprocess.run([*command, *options, "-q"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith(said)
