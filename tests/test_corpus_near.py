"""Near-duplicates in whole builds, against brute force over all pairs."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codedev._errors import InputError
from codedev.corpus import recipe as recipes
from codedev.corpus.buffers import text_buffers
from codedev.corpus.build import build
from codedev.corpus.near.external import sorted_blocks
from codedev.corpus.near.prefer import check_keep
from codedev.corpus.standing import share_out
from codedev.kernels.bands import alike, band_keys, ends_of_last, low_bits, mark, marked, pairs, places, repeated
from codedev.kernels.overlap import jaccard
from codedev.kernels.shingles import shingle_hashes

WORDS = [
    f"{a}{b}" for a in ("ka", "lo", "mi", "ru", "te", "so", "na", "vi") for b in ("nt", "rd", "sh", "lm", "x", "g", "b", "st", "ch", "p")
]


def run(
    folder: Path, documents: list[dict[str, Any]], *, workers: int = 1, memory: int = 1 << 30, unit_bytes: int = 1 << 25, **minhash: Any
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "in.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in documents))
    recipe = {
        "name": "n",
        "sources": [
            {
                "name": "s",
                "type": "tables",
                "paths": ["in.jsonl"],
                "text": "text",
                "columns": {"id": "id"},
                "kind": documents[0].get("kind", "web"),
            }
        ],
        "dedup": {"minhash": minhash},
        "unit_bytes": unit_bytes,
    }
    return build(recipes.check(recipe, "recipe"), folder, folder / "out", workers=workers, memory=memory)


def table(folder: Path, part: str) -> dict[str, dict[str, Any]]:
    paths = sorted((folder / "out" / part).rglob("*.parquet"))
    return {row["id"].removeprefix("s:"): row for path in paths for row in pq.read_table(path).to_pylist()}


def tree(folder: Path) -> dict[str, bytes]:
    out = folder / "out"
    return {
        str(path.relative_to(out)): path.read_bytes()
        for part in ("documents", "dropped")
        for path in sorted((out / part).rglob("*.parquet"))
    }


def similarity(one: str, other: str, unit: str = "figures") -> float:
    hashes, bounds = shingle_hashes(*text_buffers(pa.array([one, other], pa.large_string())), unit=unit)
    return jaccard(hashes[: bounds[1]], hashes[bounds[1] :])


def text(rng: random.Random, words: int) -> list[str]:
    return rng.choices(WORDS, k=words)


def edited(rng: random.Random, words: list[str], share: float) -> list[str]:
    return [rng.choice(WORDS) if rng.random() < share else word for word in words]


def families(seed: int, count: int) -> list[dict[str, Any]]:
    """Documents and copies of them with a few words or many changed, shuffled."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        base = text(rng, rng.randrange(30, 400))
        rows.append((number, base))
        rows += [(number, edited(rng, base, share)) for share in (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3) if rng.random() < 0.4]
    rng.shuffle(rows)
    return [{"id": f"{place}-{number}", "text": " ".join(words)} for place, (number, words) in enumerate(rows)]


@pytest.mark.parametrize("seed", range(8))
def test_against_brute_force(tmp_path: Path, seed: int) -> None:
    """Every dropped document is as like as `verify` to the survivor it names; what is left holds next to no pair that is."""
    rows = families(seed, 120)
    run(tmp_path, rows, seed=seed)
    kept, dropped = table(tmp_path, "documents"), table(tmp_path, "dropped")
    assert len(kept) + len(dropped) == len(rows)
    for row in dropped.values():
        told = json.loads(row["evidence"])
        survivor = kept[told["duplicate_of"].removeprefix("s:")]
        assert (row["stage"], row["reason"]) == ("near", "near_duplicate")
        assert told["jaccard"] == pytest.approx(similarity(row["text"], survivor["text"]), abs=1e-4)
        assert told["jaccard"] >= 0.8
        assert told["cluster_size"] == survivor["q.near.cluster_size"] >= 2
    # Greedy by brute force in the order of the file: a document is dropped when it is as like to one that is kept.
    hashes, bounds = shingle_hashes(*text_buffers(pa.array([row["text"] for row in rows], pa.large_string())), unit="figures")
    sets = [set(hashes[low:high].tolist()) for low, high in itertools.pairwise(bounds)]
    survivors: list[int] = []
    expected = set()
    for i, mine in enumerate(sets):
        if any(len(mine & sets[j]) >= 0.8 * len(mine | sets[j]) for j in survivors):
            expected.add(rows[i]["id"])
        else:
            survivors.append(i)
    found = set(dropped)
    assert len(found & expected) >= 0.95 * len(expected) >= 20
    assert len(found - expected) <= 0.02 * len(found)  # like a document that brute force has dropped for another
    assert sum(row["q.near.cluster_size"] for row in kept.values()) == len(rows)


def test_a_chain_of_resemblance_drops_only_what_is_like_the_survivor(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = text(rng, 300)
    rows = []
    for step in range(12):  # each like the one before it, the last nothing like the first
        rows.append({"id": str(step), "text": " ".join(words)})
        words = words[20:] + text(rng, 20)
    assert similarity(rows[0]["text"], rows[1]["text"]) > 0.8
    assert similarity(rows[0]["text"], rows[3]["text"]) < 0.8
    run(tmp_path, rows, bands=30, rows=4)
    kept, dropped = table(tmp_path, "documents"), table(tmp_path, "dropped")
    assert len(kept) >= 4
    for row in dropped.values():
        assert similarity(row["text"], kept[json.loads(row["evidence"])["duplicate_of"].removeprefix("s:")]["text"]) >= 0.8


def test_templates_lose_nothing_that_differs(tmp_path: Path) -> None:
    """5,000 documents of one template that share most of their shingles, and below `verify` of them: all stay. Their equals go."""
    rng = random.Random(1)
    frame = text(rng, 120)
    rows = [{"id": str(i), "text": " ".join([*frame, *text(rng, 60)])} for i in range(5_000)]
    rows += [{"id": f"again-{i}", "text": rows[i]["text"] + "."} for i in range(50)]
    assert 0.3 < similarity(rows[0]["text"], rows[1]["text"]) < 0.8
    run(tmp_path, rows, bands=20, rows=2)
    assert set(table(tmp_path, "dropped")) == {f"again-{i}" for i in range(50)}


def test_figures_count(tmp_path: Path) -> None:
    """Tables that differ in nothing but their figures are different tables; a page with another date is the same page."""
    rng = random.Random(2)
    rows = [
        {"id": f"table-{i}", "text": " ".join(f"row {rng.randrange(10**6)} {rng.randrange(10**6)}" for _ in range(50))} for i in range(20)
    ]
    page = " ".join(text(rng, 300))
    rows += [{"id": f"page-{day}", "text": f"{page} printed on the {day}th of May {page[:500]}"} for day in (11, 12, 13)]
    run(tmp_path, rows)
    assert set(table(tmp_path, "dropped")) == {"page-12", "page-13"}


@pytest.mark.parametrize(
    ("keep", "survivor"),
    [
        ((), "long"),
        (("shortest",), "short"),
        (("longest",), "long"),
        (("newest",), "new"),
        (("-q.words",), "short"),
        (("licence", "newest"), "free"),
    ],
)
def test_who_is_kept(tmp_path: Path, keep: tuple[str, ...], survivor: str) -> None:
    words = text(random.Random(3), 300)
    base = " ".join(words)
    rows = [
        {"id": "long", "text": base + " one two three four", "created": "2020-01-01", "licence": None},
        {"id": "short", "text": " ".join(words[:-4]), "created": "2021-01-01", "licence": "LicenseRef-no"},
        {"id": "free", "text": base + " one", "created": "2019-01-01", "licence": "MIT"},
        {"id": "new", "text": base + " one two", "created": "2024-01-01", "licence": "GPL-3.0-only"},
    ]
    tmp_path.joinpath("in.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    columns = {"id": "id", "created": "created", "licence": "licence"}
    source = {"name": "s", "type": "tables", "paths": ["in.jsonl"], "text": "text", "columns": columns, "kind": "web"}
    recipe = {"name": "n", "sources": [source], "dedup": {"minhash": {"keep": list(keep)}}}
    build(recipes.check(recipe, "recipe"), tmp_path, tmp_path / "out")
    assert list(table(tmp_path, "documents")) == [survivor]


def test_an_unknown_criterion_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'zzz': known: licence, longest, newest, .*q\.chars"):
        run(tmp_path, [{"id": "1", "text": "a b c d e f"}], keep=["zzz"])


def test_memory_workers_and_units_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = families(9, 150)
    run(tmp_path / "one", rows)
    expected = tree(tmp_path / "one")
    run(tmp_path / "small", rows, memory=1 << 16)  # 256 files of keys
    assert tree(tmp_path / "small") == expected
    run(tmp_path / "two", rows, workers=2)
    assert tree(tmp_path / "two") == expected
    run(tmp_path / "units", rows, unit_bytes=20_000)
    ids = set(table(tmp_path / "one", "dropped"))
    assert set(table(tmp_path / "units", "dropped")) == ids
    # Resumed: nothing is done again, another threshold reads nothing raw.
    run(tmp_path / "one", rows)
    assert tree(tmp_path / "one") == expected
    strict = run(tmp_path / "one", rows, verify=0.95)
    assert 0 < strict["totals"]["dropped"] < len(ids)


@pytest.mark.parametrize("kind", ["protein", "preference"])
def test_what_is_not_compared(tmp_path: Path, kind: str) -> None:
    rows = [{"id": str(i), "text": "M" * 50 + "K" * 50, "kind": kind} for i in range(3)]
    run(tmp_path, rows)
    assert len(table(tmp_path, "documents")) == 3


@pytest.mark.parametrize(
    "texts",
    [
        ["a"],
        ["", " ", "\n"],
        ["same words here"] * 5,
        ["\0" * 100, "漢" * 1000, "漢" * 1000, "\n" * 1000 + "x", "..."],
        ["one two", "one three"],
    ],
)
def test_little_and_odd_texts(tmp_path: Path, texts: list[str]) -> None:
    manifest = run(tmp_path, [{"id": str(i), "text": one} for i, one in enumerate(texts)])
    kept, dropped = table(tmp_path, "documents"), table(tmp_path, "dropped")
    assert manifest["totals"]["documents"] + manifest["totals"]["dropped"] + manifest["totals"]["errors"] == len(texts)
    assert all(row["stage"] != "near" or row["text"] in [other["text"] for other in kept.values()] for row in dropped.values())


def test_pairs_are_linear_and_those_of_the_first_and_the_last() -> None:
    keys = np.sort(np.random.default_rng(0).integers(0, 50, 3000).astype(np.uint64))
    ranks = np.concatenate(
        [np.sort(np.random.default_rng(int(key)).permutation(5000)[: (keys == key).sum()]) for key in np.unique(keys)]
    ).astype(np.uint32)
    expected = set()
    for key in np.unique(keys):
        mine = ranks[keys == key].tolist()
        for i, later in enumerate(mine):
            expected |= {(later, earlier) for earlier in [*mine[: min(i, 8)], *mine[max(i - 8, 0) : i]]}
    found = np.concatenate([some.copy() for some in pairs(keys, ranks, 8)])
    assert sorted({(int(pair >> np.uint64(32)), int(pair & np.uint64(0xFFFFFFFF))) for pair in found}) == sorted(expected)
    # In pieces of any size, each led by what it needs of those before it.
    for size in (1, 7, 100, 1000):
        told, held, held_ranks = [], keys[:0], ranks[:0]
        for low in range(0, len(keys), size):
            led = ends_of_last(held, 8)
            assert len(led) <= 16
            held = np.concatenate([held[led], keys[low : low + size]])
            held_ranks = np.concatenate([held_ranks[led], ranks[low : low + size]])
            told += [some.copy() for some in pairs(held, held_ranks, 8, len(led))]
        assert np.concatenate(told).tolist() == found.tolist()
    assert (repeated(keys) == np.array([(keys == key).sum() > 1 for key in keys])).all()
    assert not repeated(np.arange(10_000, dtype=np.uint64) << np.uint64(40)).any()


def test_bands_agree_where_their_rows_do() -> None:
    rng = np.random.default_rng(1)
    sketch = rng.integers(0, 1 << 32, (2, 112), np.uint32)
    sketch[1, :8], sketch[1, 48:56] = sketch[0, :8], sketch[0, 48:56]
    keys = band_keys(sketch, 14, 8, np.zeros(2, np.uint64))
    assert np.flatnonzero(keys[0] == keys[1]).tolist() == [0, 6]
    assert not (band_keys(sketch[[0, 0]], 14, 8, np.array([0, 1], np.uint64))[0] == keys[0]).all() or len(np.unique(keys)) > 14
    salted = band_keys(sketch[[0, 0]], 14, 8, np.array([0, 1], np.uint64))
    assert not (salted[0] == salted[1]).any()
    assert len(np.unique(band_keys(np.zeros((1, 112), np.uint32), 14, 8, np.zeros(1, np.uint64)))) == 14  # a band is no other band


@pytest.mark.parametrize("coordinates", [1, 5, 40, 63, 64, 112, 130])
def test_bits_agree_as_those_of_like_documents_do(coordinates: int) -> None:
    """Of pairs of similarity 0.8, 99 of 100 pass; of pairs that have nothing in common, few once there are 40 coordinates."""
    rng = np.random.default_rng(coordinates)
    sketches = rng.integers(0, 1 << 32, (2000, 2, coordinates), np.uint32)
    same = rng.random((2000, coordinates)) < 0.8
    sketches[:, 1][same] = sketches[:, 0][same]
    bits = low_bits(np.concatenate([sketches[:, 0], sketches[:, 1], rng.integers(0, 1 << 32, (2000, coordinates), np.uint32)]))
    used = min(coordinates, bits.shape[1] * 64)
    assert bits.shape == (6000, max(1, coordinates // 64))
    shown = (bits[:, :, None] >> np.arange(63, -1, -1, dtype=np.uint64) & np.uint64(1)).reshape(6000, -1)
    if coordinates < 64:
        assert not shown[:, : 64 - used].any()
        shown = shown[:, 64 - used :]
    expected = (np.concatenate([sketches[:, 0], sketches[:, 1]]).astype(np.uint64) * np.uint64(0x9E3779B1) >> np.uint64(31)) & np.uint64(1)
    assert (shown[:4000] == expected[:, :used]).all()
    assert (shown[:2000] == shown[2000:4000]).mean() == pytest.approx(0.9, abs=0.02)  # (1 + s) / 2
    first = np.arange(2000, dtype=np.uint64)
    like = alike(bits, (first << np.uint64(32)) | (first + np.uint64(2000)), 0.8, coordinates)
    unlike = alike(bits, (first << np.uint64(32)) | (first + np.uint64(4000)), 0.8, coordinates)
    assert like.mean() > 0.985
    assert coordinates < 40 or unlike.mean() < 0.15


def test_places_of_marked_rows() -> None:
    rows = np.sort(np.random.default_rng(0).permutation(5000)[:700])
    marks, before = np.zeros(80, np.uint64), np.empty(80, np.uint32)
    mark(marks, np.concatenate([rows, rows[::3]]))
    assert marked(marks, before, np.empty(0, np.uint32)) == 700
    out = np.empty(700, np.uint32)
    marked(marks, before, out)
    assert (out == rows).all()
    at = np.empty(700, np.int64)
    places(marks, before, rows, at)
    assert (at == np.arange(700)).all()


@pytest.mark.parametrize("budget", [48, 1000, 20_000, 1 << 20])
def test_blocks_in_order(tmp_path: Path, budget: int) -> None:
    """Also where one key is most of the records, and where one record is."""
    kind = np.dtype([("key", "<u8"), ("rank", "<u4")])
    rng = np.random.default_rng(budget)
    records = np.empty(4000, kind)
    records["key"], records["rank"] = rng.integers(0, 1 << 64, 4000, np.uint64), rng.permutation(4000)
    records["key"][rng.random(4000) < 0.7] = 5
    records[3000:3100] = records[0]
    records.tofile(tmp_path / "records")
    blocks = list(sorted_blocks(tmp_path / "records", kind, budget))
    assert np.concatenate(blocks).tolist() == sorted(records.tolist())
    assert sum(block.nbytes > max(budget, 1300) for block in blocks) == 0
    assert not list(tmp_path.iterdir())


def test_records_shared_out_over_as_many_files_as_a_byte_counts(tmp_path: Path) -> None:
    records = np.arange(10_000, dtype=np.uint32)
    files = [(tmp_path / f"{number:03d}").open("wb") for number in range(256)]
    share_out(records, (records % 256).astype(np.uint8), files)
    for number, file in enumerate(files):
        file.close()
        assert np.fromfile(file.name, np.uint32).tolist() == list(range(number, 10_000, 256))


def test_what_is_kept_is_checked_before_anything_is_read() -> None:
    columns = pa.schema([("q.x", pa.float32()), ("created", pa.timestamp("us")), ("text", pa.large_string()), ("licence", pa.string())])
    check_keep(columns, ["newest", "-q.x", "licence"])
    for wrong, message in (
        ("q.y", "no column 'q.y': did you mean 'q.x'"),
        ("-text", "'text' holds no figures"),
        ("longest", "no column 'q.chars'"),
    ):
        with pytest.raises(InputError, match=message):
            check_keep(columns, [wrong])
