"""Mixtures against brute force over documents, and packing in one bucket and many."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tokenize_documents import document, stdlib_texts, write_corpus
from test_tokenize_shards import rows_of

from codedev._errors import InputError, RecipeError
from codedev._recipe import check
from codedev._run import file_hash, read_json, write_json
from codedev.tokenize import build, pack
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.mixture import Column, copies, plan
from codedev.tokenize.pack import Documents, plans
from codedev.tokenize.recipe import MixtureRecipe, TokenizeRecipe
from codedev.tokenize.train import train_tokenizer

SOURCES = {"code": 1.0, "books": 0.5, "web": 0.25}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    words = " ".join(stdlib_texts(6)).split()
    rng = np.random.default_rng(0)
    rows = []
    for number, (source, share) in enumerate(itertools.product(SOURCES, [None] * 150)):
        del share
        size = int(rng.integers(1, 200) * (4 if source == "code" else 1))
        begin = int(rng.integers(0, len(words) - size))
        rows.append(document(number, " ".join(words[begin : begin + size]), source=source, lang=["en", "fr"][number % 2]))
    corpus = write_corpus(folder / "corpus", rows)
    _with_columns(corpus)
    train_tokenizer(corpus, folder / "tokenizer", vocab_size=1000, special_slots=8)
    return folder


def _with_columns(corpus: Path) -> None:
    """Scores and sizes of clusters beside the documents, as a corpus has them."""
    manifest = read_json(corpus / "manifest.json")
    for part in manifest["parts"]["documents"]:
        path = corpus / part["path"]
        table = pq.read_table(path)
        numbers = [int(name.partition("/")[2]) for name in table.column("id").to_pylist()]
        table = table.append_column("q.learned.prose", pa.array([None if n % 7 == 0 else n % 10 / 10 for n in numbers], pa.float32()))
        table = table.append_column("q.near.cluster_size", pa.array([1 + n % 5 for n in numbers], pa.int32()))
        pq.write_table(table, path)
        part["hash"] = file_hash(path)
    write_json(corpus / "manifest.json", manifest)


def mixed(home: Path, out: Path, mixture: dict[str, Any], **keys: Any) -> tuple[dict[str, Any], Counter[str]]:
    """(manifest, how often each document begins in the rows)."""
    recipe = check({"seq_len": 256, "mixture": mixture, **keys}, TokenizeRecipe, "recipe")
    manifest = tokenize_corpus(home / "corpus", home / "tokenizer", out, recipe)["manifest"]
    seen = Counter[str]()
    for row in rows_of(out):
        for name, offset in zip(row["segment_documents"], row["segment_offsets"], strict=True):
            seen[name] += offset == 0
    return manifest, seen


def test_weights_are_shares_of_the_tokens(home: Path, tmp_path: Path) -> None:
    manifest, seen = mixed(home, tmp_path / "s", {"weights": {"code": 0.2, "books": 0.5, "web": 0.3}})
    groups = manifest["mixture"]["groups"]
    natural = sum(group["tokens"] for group in groups.values())
    for name, share in (("code", 0.2), ("books", 0.5), ("web", 0.3)):
        assert abs(share * natural - groups[name]["tokens_mixed"]) < 1600, name  # a document of 800 words at most, and what others left
        assert abs(groups[name]["share"] - share) < 0.02
        assert manifest["by_source"][name]["tokens"] == groups[name]["tokens_mixed"]
    assert manifest["counts"]["tokens_in"] == sum(group["tokens_mixed"] for group in groups.values())
    books = [count for name, count in seen.items() if name.startswith("books/")]
    assert max(books) - min(books) <= 1
    assert manifest["counts"]["documents_left_out"] == 450 - len(seen) > 0


def test_what_one_group_leaves_goes_to_the_others() -> None:
    """Three long documents in one group, many short ones in the other: the whole is met, though the first group cannot meet its share."""
    rng = np.random.default_rng(1)
    counts = np.concatenate([np.full(3, 60_000), rng.integers(50, 200, 5000)])
    groups = np.repeat([0, 1], [3, 5000]).astype(np.int32)
    columns = Column(counts, rng.integers(0, 2**63, 5003).astype(np.uint64), groups, np.ones(5003, np.float32), 0.0)
    mixture = plan(MixtureRecipe(weights={"long": 0.25, "short": 0.75}, tokens=300_000), columns, ["long", "short"], 3)
    told = mixture.told
    assert told["tokens"] <= 300_000
    assert told["tokens"] > 299_500
    assert told["groups"]["long"]["tokens_mixed"] == 60_000 < told["groups"]["long"]["tokens_asked"] == 75_000
    assert told["groups"]["short"]["tokens_mixed"] > told["groups"]["short"]["tokens_asked"]


def test_those_not_named_keep_their_proportions(home: Path, tmp_path: Path) -> None:
    groups = mixed(home, tmp_path / "s", {"weights": {"code": 0.1}})[0]["mixture"]["groups"]
    assert abs(groups["code"]["share"] - 0.1) < 0.01
    natural = groups["books"]["tokens"] / groups["web"]["tokens"]
    assert abs(groups["books"]["tokens_mixed"] / groups["web"]["tokens_mixed"] - natural) < 0.05 * natural
    with pytest.raises(InputError, match=r"leave nothing for books, web"):
        mixed(home, tmp_path / "t", {"weights": {"code": 1.5}})


def test_epochs_are_times(home: Path, tmp_path: Path) -> None:
    _, seen = mixed(home, tmp_path / "s", {"epochs": {"code": 2.5, "web": 0}})
    code = Counter(seen[f"code/{n}"] for n in range(150))
    assert set(code) == {2, 3}
    assert 55 < code[3] < 95
    assert all(seen[f"books/{n}"] == 1 for n in range(150, 300))
    assert not any(name.startswith("web/") for name in seen)
    _, again = mixed(home, tmp_path / "s3", {"epochs": {"code": 2.8, "web": 0}})
    assert all(again[name] >= count for name, count in seen.items())  # those of fewer epochs are among those of more


def test_tokens_and_temperature(home: Path, tmp_path: Path) -> None:
    groups = mixed(home, tmp_path / "s", {"temperature": 3.0, "tokens": 40_000, "by": "lang"})[0]["mixture"]
    assert 38_000 < groups["tokens"] <= 40_000
    natural = {name: group["tokens"] for name, group in groups["groups"].items()}
    flat = {name: tokens ** (1 / 3) for name, tokens in natural.items()}
    for name, group in groups["groups"].items():
        assert abs(group["tokens_asked"] - 40_000 * flat[name] / sum(flat.values())) <= 1


def test_what_a_group_cannot_take_goes_to_the_others(home: Path, tmp_path: Path) -> None:
    manifest, seen = mixed(home, tmp_path / "s", {"weights": {"code": 0.02, "books": 0.96, "web": 0.02}, "max_epochs": 2})
    groups = manifest["mixture"]["groups"]
    assert max(seen.values()) == 2
    assert groups["books"]["tokens_mixed"] == 2 * groups["books"]["tokens"] < groups["books"]["tokens_asked"]
    assert groups["code"]["tokens_mixed"] > groups["code"]["tokens_asked"]
    assert manifest["mixture"]["tokens"] > 0.98 * sum(group["tokens"] for group in groups.values())


def test_quality_and_clusters_are_factors(home: Path, tmp_path: Path) -> None:
    mixture = {"epochs": {"code": 2}, "quality": {"learned.prose": [[0.2, 0.5], [0.6, 2]]}, "cluster_size": [[3, 1.5]], "max_epochs": 100}
    _, seen = mixed(home, tmp_path / "s", mixture)
    for source, number in itertools.product(SOURCES, range(450)):
        name = f"{source}/{number}"
        if (source != list(SOURCES)[number // 150]) or number >= 450:
            continue
        value = -1 if number % 7 == 0 else round(number % 10 / 10, 6)
        factor = 2 if value >= 0.6 else 0.5 if value >= 0.2 else 1
        times = (2 if source == "code" else 1) * factor * (1.5 if 1 + number % 5 >= 3 else 1)
        assert seen[name] in (int(times), int(times) + (times % 1 > 0)), (name, times)
    for bad, message in (({"quality": {"nope": [[0, 1]]}}, "no column q.nope"), ({"epochs": {"cod": 1}}, "did you mean 'code'")):
        with pytest.raises(InputError, match=message):
            mixed(home, tmp_path / "t", bad)
    with pytest.raises(RecipeError, match="one of weights and epochs"):
        mixed(home, tmp_path / "t", {"epochs": {"code": 1}, "weights": {"code": 1}})


def test_held_out_documents_stand_in_no_mixture(home: Path, tmp_path: Path) -> None:
    _, seen = mixed(home, tmp_path / "s", {"epochs": {"code": 3, "books": 3, "web": 3}}, holdout=0.2)
    held = {name for row in rows_of(tmp_path / "s" / "heldout") for name in row["segment_documents"]}
    assert 50 < len(held) < 140
    assert not held & set(seen)
    assert len(held) + len(seen) == 450
    assert set(seen.values()) == {3}


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 3), st.sampled_from([0.5, 1.0, 2.0])), min_size=1, max_size=60),
    st.integers(1, 20_000),
    st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_budgets_are_kept_to_less_than_a_document(units: list[tuple[int, int, float]], tokens: int, seed: int) -> None:
    counts, groups, factors = (np.array(column) for column in zip(*units, strict=True))
    hashes = np.random.default_rng(seed).integers(0, 2**63, len(units)).astype(np.uint64)
    columns = Column(counts, hashes, groups.astype(np.int32), factors.astype(np.float32), 0.0)
    names = [str(i) for i in range(4)]
    recipe = MixtureRecipe(tokens=tokens, max_epochs=8)
    if not counts.sum():
        with pytest.raises(InputError, match="no text"):
            plan(recipe, columns, names, seed)
        return
    mixture = plan(recipe, columns, names, seed)
    times = copies(mixture, columns, slice(0, len(units)))
    assert mixture.told["tokens"] == int((times * counts).sum())
    assert (times <= 9).all()
    for name, told in mixture.told["groups"].items():
        of = groups == int(name)
        assert told["tokens_mixed"] == int((times * counts)[of].sum())
    if mixture.told["tokens"] < tokens - 4 * counts.max() * 1.0 - 4:  # short by more than a document a group: only where all are full
        assert (mixture.epochs[np.unique(groups[counts > 0])] * factors.min() >= 1).all()


def laid(documents: Documents, **keys: Any) -> list[pack.Plan]:
    once = keys.pop("times", lambda at: np.ones(at.stop - at.start, np.int64))
    return list(plans(documents, once, **{"seed": 1, "overlong": "split", "packing": "best-fit", **keys}))


def some_documents(number: int, most: int) -> Documents:
    rng = np.random.default_rng(number)
    counts = rng.integers(0, most, number)
    tokens = rng.integers(0, 200, int(counts.sum())).astype(np.uint16)
    lengths = rng.integers(1, 5, 200).astype(np.uint32)
    begins = np.cumsum(counts) - counts
    text = np.array([int(lengths[tokens[b : b + c]].sum()) for b, c in zip(begins, counts, strict=True)])
    return Documents(begins, counts, text, rng.integers(0, 2**63, number).astype(np.uint64), tokens, lengths, by_id=True)


@pytest.mark.parametrize("packing", ["best-fit", "concatenate"])
@pytest.mark.parametrize("pool", [1 << 18, 100])
def test_every_token_stands_once(tmp_path: Path, packing: Any, pool: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "_SLICE", 37)
    documents = some_documents(500, 90)
    found = laid(documents, seq_len=32, packing=packing, folder=tmp_path / "buckets", pool=pool)
    assert (len(found) > 1) == (pool == 100)
    assert not (tmp_path / "buckets").exists()
    seen: dict[int, list[tuple[int, int, int, int]]] = {}
    for one in found:
        assert np.array_equal(np.add.reduceat(one.lengths, one.rows[:-1]) <= 32, np.ones(len(one.rows) - 1, bool))
        for unit, *rest in zip(one.documents, one.offsets, one.lengths, one.byte_offsets, one.byte_lengths, strict=True):
            seen.setdefault(int(unit), []).append(tuple(map(int, rest)))  # type: ignore[arg-type]
    cut = 0
    for unit, count in enumerate(documents.counts.tolist()):
        pieces = sorted(seen.get(unit, []))
        assert sum(length for _, length, _, _ in pieces) == count
        assert [offset for offset, *_ in pieces] == [sum(p[1] for p in pieces[:i]) for i in range(len(pieces))]
        assert [begin for _, _, begin, _ in pieces] == [sum(p[3] for p in pieces[:i]) for i in range(len(pieces))]
        assert sum(size for *_, size in pieces) == documents.bytes[unit]
        cut += count <= 32 and len(pieces) > 1
    assert sum(one.cut for one in found) == cut
    assert (cut > 0) == (packing == "concatenate")
    if packing == "concatenate":
        assert all((np.add.reduceat(one.lengths, one.rows[:-1])[:-1] == 32).all() for one in found)


@pytest.mark.parametrize("overlong", ["truncate", "drop"])
@pytest.mark.parametrize("packing", ["best-fit", "concatenate"])
def test_what_is_lost_is_counted(tmp_path: Path, packing: Any, overlong: Any) -> None:
    documents = some_documents(300, 90)
    (one,) = laid(documents, seq_len=32, packing=packing, overlong=overlong, folder=tmp_path / "buckets")
    kept = np.where(documents.counts > 32, 32 if overlong == "truncate" else 0, documents.counts)
    assert int(one.lengths.sum()) == int(kept.sum())
    assert one.truncated == int((documents.counts - kept).sum())
    assert one.tokens == int(documents.counts.sum())
    assert one.overlong == int((documents.counts > 32).sum())
    per_unit = np.bincount(one.documents, one.lengths, 300)
    assert np.array_equal(per_unit, kept)


def test_copies_are_apart(tmp_path: Path) -> None:
    documents = some_documents(400, 20)
    found = laid(documents, seq_len=32, folder=tmp_path / "b", pool=64, times=lambda at: np.full(at.stop - at.start, 3))
    counts = Counter(int(unit) for one in found for unit in one.documents)
    assert all(counts[unit] == 3 for unit in np.flatnonzero(documents.counts))
    bucket = {unit: [i for i, one in enumerate(found) if unit in one.documents] for unit in np.flatnonzero(documents.counts)[:100].tolist()}
    assert np.mean([len(set(where)) for where in bucket.values()]) > 2.5


def test_order_leaves_no_trace_of_the_disk(tmp_path: Path) -> None:
    documents = some_documents(2000, 20)
    (one,) = laid(documents, seq_len=32, folder=tmp_path / "b")
    assert abs(float(np.corrcoef(one.documents, np.arange(len(one.documents)))[0, 1])) < 0.06


def test_rows_of_many_buckets_are_found_by_number(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "plans", lambda *a, **k: plans(*a, **{**k, "pool": 40}))
    from codedev.tokenize import shards

    monkeypatch.setattr(shards, "BATCH_BYTES", 256 * 2 * 7)
    tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "s", TokenizeRecipe(seq_len=256))
    opened = shards.open_shards(tmp_path / "s")
    rows = rows_of(tmp_path / "s")
    assert opened.rows == len(rows)
    for number in range(0, len(rows), 5):
        assert opened.row(number)[1] == rows[number]
