"""Duplicate removal on what strangers bring: odd Parquet, odd addresses, times without end, full disks, tiny memory."""

from __future__ import annotations

import datetime as dt
import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codedev._errors import InputError
from codedev._run import file_hash
from codedev.corpus import dedup_files as files
from codedev.corpus.buffers import text_buffers
from codedev.corpus.dedup_files import _copy, dedup_files
from codedev.corpus.near.find import _writable, clusters_path, find_near
from codedev.corpus.near.sketch import sketch_stage
from codedev.corpus.recipe import MinHash
from codedev.corpus.repeats.config import Lines, Substring, Url
from codedev.corpus.repeats.lines import find_lines
from codedev.corpus.repeats.substring import find_repeats
from codedev.corpus.repeats.url import canonical_urls, find_urls
from codedev.corpus.standing import Table
from codedev.kernels.bands import decide
from codedev.kernels.shingles import shingle_hashes

WORDS = ["sun", "moon", "rain", "wind", "hill", "brook", "stone", "leaf", "bird", "road"]
TEXT = " ".join(random.Random(0).choices(WORDS, k=200))
OTHER = " ".join(random.Random(1).choices(WORDS, k=200))


def put(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


# -- Parquet of anybody: what is said before anything is read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"text": pa.array([1, 1])}, {}, "column 'text' holds int64, which is no text. Name the text's with --text-column"),
        ({"text": pa.array([["a"], ["a"]])}, {}, "which is no text"),
        ({"text": pa.array([{"a": "x"}])}, {}, "which is no text"),
        ({"text": pa.array([1, 1]).dictionary_encode()}, {}, "which is no text"),
        ({"text": ["a"], "x": [1]}, {"minhash": {"keep": ["newest"]}}, "need a column of times .* with --created-column"),
        ({"text": ["a"], "x": [1]}, {"minhash": {"keep": ["licence"]}}, "needs a column of licences"),
        ({"text": ["a"], "x": [1]}, {"minhash": {}, "created_column": "when"}, "has no column 'when' .*Name it with --created-column"),
    ],
)
def test_columns_that_cannot_serve_are_named(tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], said: str) -> None:
    path = put(tmp_path / "a.parquet", columns)
    with pytest.raises(InputError, match=said):
        dedup_files([path], tmp_path / "out", **({"minhash": None} | options))
    assert not (tmp_path / "out").exists()


def test_two_columns_of_one_name_are_not_chosen_from(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="has 2 columns 'text'"):
        dedup_files([tmp_path / "a.parquet"], tmp_path / "out", minhash=None)


def test_no_file_is_waited_for_and_nothing_of_others_is_written_over(tmp_path: Path) -> None:
    path = put(tmp_path / "in/a.parquet", {"text": ["a"]})
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(InputError, match="is no regular file"):
        dedup_files([tmp_path / "pipe.parquet"], tmp_path / "out", minhash=None)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is no folder"):
        dedup_files([path], tmp_path / "file", minhash=None)
    mine = put(tmp_path / "mine/a.parquet", {"precious": [1]})
    before = mine.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for out in (tmp_path / "mine", tmp_path / "link"):  # another's file of that name; the inputs themselves by another way
        with pytest.raises(InputError, match="is there already, and not of this command"):
            dedup_files([path], out, minhash=None)
    assert mine.read_bytes() == before
    with pytest.raises(InputError, match="has the name of a file that is written"):
        dedup_files([put(tmp_path / "n/duplicates.parquet", {"text": ["a"]})], tmp_path / "out", minhash=None)


def test_a_folder_of_folders_and_out_within_it(tmp_path: Path) -> None:
    """Folders may be named like files; a second run over a folder does not take the first one's result for its input."""
    put(tmp_path / "in/spark.parquet/part-0.parquet", {"{text}": [TEXT, TEXT, "k"], "text": ["p", "q", "r"]})
    put(tmp_path / "in/b.parquet", {"{text}": ["k"], "text": ["r"]})
    for _ in range(2):  # a column's name is no template
        report = dedup_files([tmp_path / "in"], tmp_path / "in/clean", text="{text}", minhash=None)
        assert (report["rows"], report["kept"]) == (4, 2)
    assert pq.read_table(tmp_path / "in/clean/spark.parquet/part-0.parquet").column("text").to_pylist() == ["p"]
    assert pq.read_table(tmp_path / "in/clean/b.parquet").num_rows == 1


# -- and what is read of it ----------------------------------------------------------------------------------------------------------


def test_ids_are_the_users_own_values(tmp_path: Path) -> None:
    """Also where an id occurs again, looks as if it had been renamed, or is missing."""
    ids = ["a", "a", "a", None, "b", "x~0123456789abcdef", "x~0123456789abcdef", "c"]
    texts = [TEXT, TEXT, OTHER, OTHER + " x", TEXT, "one of a kind", "one of a kind", "one of a kind"]
    path = put(tmp_path / "a.parquet", {"text": texts, "n": ids, "created": ["9999-12-31", "0001-01-01", None, "2020-01-01", *[None] * 4]})
    report = dedup_files([path], tmp_path / "out", id_column="n", minhash={"keep": ["newest"]})
    assert report["without_created"] == 5
    lost = pq.read_table(tmp_path / "out/duplicates.parquet").to_pylist()
    assert [(row["row"], row["id"], row["of_row"], row["of_id"], row["reason"]) for row in lost] == [
        (1, "a", 0, "a", "duplicate_id"),
        (2, "a", 3, None, "near_duplicate"),
        (4, "b", 0, "a", "duplicate"),
        (6, "x~0123456789abcdef", 5, "x~0123456789abcdef", "duplicate_id"),
        (7, "c", 5, "x~0123456789abcdef", "duplicate"),
    ]


def test_rows_that_are_no_documents_stay_and_are_counted(tmp_path: Path) -> None:
    """Invalid UTF-8 costs its row the comparison; of one text a million times over no bomb is made."""
    path = put(tmp_path / "in/a.parquet", {"text": pa.array([b"\xff", b"a b", b"\xff", b"a  b"])})
    same = pa.DictionaryArray.from_arrays(np.zeros(70_000, np.int32), [TEXT])
    put(tmp_path / "in/b.parquet", {"text": same}, row_group_size=70_000)
    view = put(tmp_path / "in/c.parquet", {"text": pa.array(["v", TEXT, "w"], pa.string_view())})
    command = ["corpus", "dedup", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--exact", "--workers", "1"]
    done = subprocess.run([sys.executable, "-m", "codedev", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 rows could not be read as documents: they were compared with nothing, and kept (a.parquet: row 0: " in done.stderr
    report = orjson.loads((tmp_path / "out/report.json").read_bytes())
    assert {key: report[key] for key in ("rows", "kept", "unread", "without_text")} == {
        "rows": 70_007, "kept": 6, "unread": 2, "without_text": 0,
    }  # fmt: skip
    assert pq.read_table(tmp_path / "out" / path.name).column("text").to_pylist() == [b"\xff", b"a b", b"\xff"]
    kept = pq.read_table(tmp_path / "out" / view.name)
    assert kept.column("text").to_pylist() == ["v", "w"]
    assert kept.schema == pq.read_schema(view)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_damaged_row_group_is_named(tmp_path: Path, compression: str) -> None:
    path = put(
        tmp_path / "a.parquet",
        {"text": [f"{number} {TEXT}" for number in range(900)]},
        row_group_size=300,
        compression=compression,
        use_dictionary=False,
    )
    data = bytearray(path.read_bytes())
    group = pq.read_metadata(path).row_group(1).column(0)
    data[group.data_page_offset : group.data_page_offset + 200] = bytes(range(200))
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"row group 1 \(rows 300 to 599\) cannot be read from row 300 on .*Repair it, or leave it out"):
        _copy(path, tmp_path / "out", np.empty(0, np.int64))
    assert not (tmp_path / "out").exists()


def test_row_groups_of_any_size_and_type_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that stay are those of `take`, row groups stay but for the large ones, of which little is held."""
    rng = np.random.default_rng(0)
    count = 9000
    table = pa.table({
        "text": pa.array([f"t{number}" for number in range(count)], pa.string_view()),
        "n": pa.array([None if number % 7 == 0 else {"a": [number], "b": {"c": str(number)}} for number in range(count)]),
        "d": pa.array([str(number % 5) for number in range(count)]).dictionary_encode(),
        "m": pa.array([[("k", number)] for number in range(count)], pa.map_(pa.string(), pa.int64())),
    }).replace_schema_metadata({"mine": "x"})  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4000)
    for gone in (np.empty(0, np.int64), np.arange(count), np.sort(rng.choice(count, 3000, replace=False)), np.arange(3990, 4010)):
        stays = np.setdiff1d(np.arange(count), gone)
        assert _copy(tmp_path / "a.parquet", tmp_path / "out", gone) == {"rows": count, "kept": len(stays)}
        copy = pq.read_table(tmp_path / "out")
        assert copy.schema.equals(pq.read_schema(tmp_path / "a.parquet"), check_metadata=True)
        assert copy.to_pylist() == [
            table_row for table_row, stay in zip(rows_of(table), np.isin(np.arange(count), stays), strict=True) if stay
        ]
        facts = pq.read_metadata(tmp_path / "out")
        assert [facts.row_group(group).num_rows for group in range(facts.num_row_groups)] == [
            size for size in np.histogram(stays, [0, 4000, 8000, 9000])[0].tolist() if size
        ]
    monkeypatch.setattr(files, "_GROUP", 1)
    _copy(tmp_path / "a.parquet", tmp_path / "out", np.empty(0, np.int64))
    facts = pq.read_metadata(tmp_path / "out")
    assert [facts.row_group(group).num_rows for group in range(facts.num_row_groups)] == [2048, 1952, 2048, 1952, 1000]


def rows_of(table: pa.Table, known: dict[int, list[Any]] = {}) -> list[Any]:  # noqa: B006  a memory
    if id(table) not in known:
        known[id(table)] = table.to_pylist()
    return known[id(table)]


# -- addresses -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://x.org/a;jsessionid=1/b", "http://x.org/a;jsessionid=2/c"),
        ("http://x.org/a;jsessionid=1;p=1", "http://x.org/a;jsessionid=1;p=2"),
        ("http://x.org:000080999/a", "http://x.org/a"),
        ("ftp://x.org:80/a", "ftp://x.org/a"),
        ("javascript:a?b&c", "javascript:a?c&b"),
        ("data:text/plain,a#b", "data:text/plain,a#c"),
        ("mailto:a@x.org?subject=b", "mailto:a@x.org?subject=c"),
        ("urn:isbn:1/", "urn:isbn:1"),
        ("http://x.org/?pk_id=17", "http://x.org/?pk_id=18"),
        ("http://x.org/A", "http://x.org/a"),
        ("http://x.org/a%2Fb", "http://x.org/a/b"),
        ("http://x.org/?q=%26a", "http://x.org/?q=&a"),
        ("http://x.org/a+b", "http://x.org/a%20b"),
        ("http://x.org/a\0b", "http://x.org/ab"),
        ("http://[::80]/", "http://[::]/"),
        ("http://u:p@x.org/", "http://x.org/"),
    ],
)
def test_addresses_of_other_meaning_stay_apart(one: str, other: str) -> None:
    forms = canonical_urls(pa.array([one, other])).to_pylist()
    assert forms[0] != forms[1]
    assert canonical_urls(pa.array(forms)).to_pylist() == forms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://x.org/a;jsessionid=1/b", "http://x.org/a/b"),
        ("http://x.org:00080/a", "http://x.org/a"),
        ("example.org:8080/a/", "http://example.org:8080/a"),
        ("http://x.org/?pk_campaign=a&PK_KWD=b", "http://x.org"),
        ("DATA:a%7eb", "DATA:a~b"),
    ],
)
def test_addresses_of_one_meaning_come_together(one: str, other: str) -> None:
    assert len(set(canonical_urls(pa.array([one, other])).to_pylist())) == 1


def test_what_is_no_address_drops_nothing(tmp_path: Path) -> None:
    rows = [{"text": f"t{number}", "url": url} for number, url in enumerate(["", " ", "/", "#top", "https://", "http://x/", "x", None, ""])]
    tables, found = stored(tmp_path, rows, None, 4, 2)
    assert find_urls(tables, found, config=Url(keep="first"), memory=1 << 20) == 1
    assert pq.read_table(found / "url-0000.parquet").column("row").to_pylist() == [6]


@pytest.mark.parametrize(
    "url", ["http://x/" + ";jsessionid=" * 100_000, "http://" + ":80" * 300_000, "a" * 10**6 + ":", "http://x/?" + "a&" * 500_000]
)
def test_long_addresses_cost_little(url: str) -> None:
    canonical_urls(pa.array(["x"]))
    assert fastest(lambda: canonical_urls(pa.array([url]))) < 0.5  # 0.01 s measured


def fastest(run: Any) -> float:
    import time

    spent = []
    for _ in range(3):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return min(spent)


# -- near-duplicates -----------------------------------------------------------------------------------------------------------------


def stored(folder: Path, rows: list[dict[str, Any]], config: MinHash | None, per_table: int, group: int) -> tuple[list[Table], Path]:
    """The rows as scored and judged tables."""
    shutil.rmtree(folder / "found", ignore_errors=True)
    tables = []
    for number, low in enumerate(range(0, len(rows), per_table)):
        part = rows[low : low + per_table]
        ids = [f"d{low + at}" for at in range(len(part))]
        batch = pa.RecordBatch.from_pydict({
            "id": pa.array(ids),
            "text": pa.array([row["text"] for row in part], pa.large_string()),
            "kind": pa.array([row.get("kind", "web") for row in part]),
            "url": pa.array([row.get("url") for row in part], pa.string()),
            "created": pa.array([row.get("created") for row in part], pa.timestamp("us", tz="UTC")),
            "q.chars": pa.array([len(row["text"]) for row in part], pa.int64()),
        })  # fmt: skip
        if config:
            batch, _ = sketch_stage(config)(batch)
        table = Table(folder / f"s{number}.parquet", folder / f"j{number}.parquet", low)
        pq.write_table(pa.Table.from_batches([batch]), table.scored, row_group_size=group)
        pq.write_table(pa.table({"id": ids, "reason": pa.nulls(len(part), pa.string())}), table.judged, row_group_size=group)
        tables.append(table)
    found = folder / "found"
    found.mkdir(parents=True)
    return tables, found


ALPHABETS = [
    *(
        list("abcdefg"),
        [str(number) for number in range(20)],
        list("日本語文章漢字春夏秋冬"),
        "if ( x == 1 ) { return y ; } _z $ +".split(),
    ),
    ["é", "É", "e\u0301", "ß", "ﬁ", "١٢", "１２", "\u200b", "\u00a0", "😀"],
]


def corpus(rng: random.Random) -> list[dict[str, Any]]:
    mode = rng.choice(["families", "families", "identical", "empty", "short", "mixed"])
    rows: list[dict[str, Any]] = []
    for _ in range(rng.choice([0, 1, 2, 5, 20, 40])):
        alphabet = rng.choice(ALPHABETS)
        text = " ".join(rng.choices(alphabet, k=rng.randrange(0, 6 if mode == "short" else 80)))
        if mode == "identical":
            text = TEXT
        elif mode == "empty":
            text = rng.choice(["", " ", "\n", "!!!"])
        elif mode == "families" and rows and rng.random() < 0.7:
            words = rng.choice(rows)["text"].split(" ")
            for _ in range(rng.choice([0, 1, 2, 3, 8])):
                words[rng.randrange(len(words))] = rng.choice(alphabet)
            text = " ".join(words[: rng.randrange(len(words) + 1)] if rng.random() < 0.3 else words)
        created = rng.choice([None, dt.datetime(2020, 1, rng.randrange(1, 28), tzinfo=dt.UTC), dt.datetime(9999, 12, 31, tzinfo=dt.UTC)])
        rows.append({"text": text, "created": created, "kind": rng.choice(["web", "code", "protein"]) if mode == "mixed" else "web"})
    return rows


@pytest.mark.parametrize("seed", range(29))
def test_any_parameters_against_sets(tmp_path: Path, seed: int) -> None:
    """Every drop is as alike as `verify`, to the digit, to one that stays; of equal texts one stays; all whatever memory and tables."""
    rng = random.Random(seed)
    rows = corpus(rng)
    config = MinHash(
        bands=rng.choice([1, 2, 3, 7, 14, 33, 65, 256]),
        rows=rng.choice([1, 1, 2, 3, 5]),
        verify=rng.choice([1e-9, 0.1, 0.3, 0.55, 0.7, 0.8, 1.0]),
        ngram=rng.choice([1, 2, 5, 64]),
        method=rng.choice(["fss", "kperm", "datasketch"]),
        seed=rng.choice([0, 1, 2**32 - 1]),
        keep=tuple(rng.sample(["newest", "oldest", "longest", "-q.chars"], rng.choice([0, 0, 1, 2]))),
    )
    results = []
    for per_table, group, memory in ((1000, 1000, 1 << 30), (rng.randrange(1, 9), rng.randrange(1, 5), 1)):
        tables, found = stored(tmp_path, rows, config, per_table, group)
        count = find_near(tables, found, config=config, memory=memory)
        path = found / "near-0000.parquet"
        told = pq.read_table(path).to_pylist() if path.exists() else []
        results.append((count, told, pq.read_table(clusters_path(found)).to_pylist() if clusters_path(found).exists() else []))
        assert sorted(one.name for one in tmp_path.iterdir() if one.is_dir()) == ["found"]
    assert results[0] == results[1]
    lost = {row["row"]: orjson.loads(row["evidence"]) for row in results[0][1]}
    assert results[0][0] == len(lost)
    sets = []
    for row in rows:
        unit = "code" if row["kind"] == "code" else "figures"
        sets.append(
            set(shingle_hashes(*text_buffers(pa.array([row["text"]], pa.large_string())), ngram=config.ngram, unit=unit)[0].tolist())
        )
    sizes: dict[int, int] = {}
    for row, evidence in lost.items():
        survivor = int(evidence["duplicate_of"][1:])
        assert survivor not in lost
        assert (rows[row]["kind"] == "code") == (rows[survivor]["kind"] == "code")
        assert "protein" not in (rows[row]["kind"], rows[survivor]["kind"])
        alike = len(sets[row] & sets[survivor]) / len(sets[row] | sets[survivor])
        assert alike >= config.verify
        assert evidence["jaccard"] == pytest.approx(alike, abs=6e-5)
        sizes[survivor] = sizes.get(survivor, 1) + 1
    assert {told["row"]: told["size"] for told in results[0][2]} == sizes
    stays = [
        (row["text"], row["kind"]) for at, row in enumerate(rows) if at not in lost and row["kind"] != "protein" and len(sets[at]) >= 6
    ]
    assert len(stays) == len(set(stays))


@given(st.integers(6, 60), st.integers(0, 60), st.integers(0, 60), st.integers(1, 100))
def test_a_pair_at_the_very_bound_is_decided_by_its_fraction(common: int, more: int, further: int, hundredth: int) -> None:
    """Sizes alone rule no pair out that is as alike as the bound: 0.55 x 20 is more than 11 in binary."""
    least = hundredth / 100
    sets = np.arange(2 * common + more + further, dtype=np.uint64)
    sets[common + more : 2 * common + more] = sets[:common]
    bounds = np.array([0, common + more, len(sets)], np.int64)
    sets[common + more + common :] += np.uint64(1000)
    survivor, jaccard = np.arange(2, dtype=np.uint32), np.ones(2, np.float32)
    decide(sets, bounds, np.array([1]), np.array([0]), least, 1, survivor, jaccard)
    assert (survivor[1] == 0) == (common / (common + more + further) >= least)


@pytest.mark.slow
def test_a_bucket_of_very_many(tmp_path: Path) -> None:
    """More than 2^16 documents of one key, in 256 parts and in one: linear, one stays."""
    config = MinHash(bands=1, rows=1)
    rows = [{"text": "one two three four five six seven eight nine ten eleven"}] * ((1 << 16) + 7)
    results = []
    for memory in (1, 1 << 30):
        tables, found = stored(tmp_path, rows, config, 1 << 20, 1 << 15)
        assert find_near(tables, found, config=config, memory=memory) == len(rows) - 1
        results.append((found / "near-0000.parquet").read_bytes())
    assert results[0] == results[1]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot take disk at once")
def test_a_map_takes_its_disk_at_once(tmp_path: Path) -> None:
    """A page of a map without disk kills the process by SIGBUS: no message, nothing to resume from."""
    (tmp_path / "bits").touch()
    _writable(tmp_path / "bits", 1 << 20).close()
    assert (tmp_path / "bits").stat().st_blocks * 512 >= 8 << 20


# -- lines and spans -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["lines", "substring"])
def test_as_many_parts_as_files_may_be_open(tmp_path: Path, stage: str) -> None:
    """Most systems let a process open 1024 files; memory so small, or a corpus so large, that a barrier shares out to very many parts."""
    rows = [{"text": f"a line that stands in all of them, long enough to count\nand line {number} alone\n"} for number in range(9)]
    tables, found = stored(tmp_path, rows, None, 4, 2)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
    try:
        if stage == "lines":
            assert find_lines(tables, found, config=Lines(max_documents=2), memory=1) == 8
        else:
            assert find_repeats(tables, found, config=Substring(min_bytes=40), memory=1) == 8
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# -- earlier runs --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    path = put(folder / "a.parquet", {"text": [TEXT, "one", OTHER]})
    dedup_files([path], folder / "out", minhash={})
    return folder / "out"


def _spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)


def _listed(corpus: Path, **changed: Any) -> None:
    manifest = orjson.loads((corpus / "manifest.json").read_bytes())
    manifest["parts"]["documents"][0].update(changed)
    (corpus / "manifest.json").write_bytes(orjson.dumps(manifest))


@pytest.mark.parametrize("damage", ["pages", "columns", "path", "index"])
def test_a_damaged_earlier_run_is_named(tmp_path: Path, earlier: Path, damage: str) -> None:
    """A damaged index is made anew; damaged documents are an error, though nothing but a survivor's place may be wanted of them."""
    shutil.copytree(earlier, tmp_path / "earlier")
    corpus = tmp_path / "earlier/.corpus"
    part = next((corpus / "documents").rglob("*.parquet"))
    if damage == "pages":
        _spoil(part)
    elif damage == "columns":
        put(part, {"x": [1, 2, 3]})
        _listed(corpus, hash=file_hash(part))
    elif damage == "path":
        _listed(corpus, path="")
    else:
        _spoil(next((corpus / "index").rglob("*.parquet")))
    path = put(tmp_path / "b.parquet", {"text": ["new", TEXT + " x", "one"]})
    if damage == "index":
        assert dedup_files([path], tmp_path / "out", minhash={}, against=[tmp_path / "earlier"])["kept"] == 1
    else:
        with pytest.raises(InputError, match=r"Build that corpus again$"):
            dedup_files([path], tmp_path / "out", minhash={}, against=[tmp_path / "earlier"])
