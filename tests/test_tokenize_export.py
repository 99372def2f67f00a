"""Exports: each format read back by its own library, and by a plain reader of our own where that is not installed; the laws of every
directory that codedev writes; and shards that are unfinished, damaged or made to do harm."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from test_tokenize_documents import NASTY, document, stdlib_texts, write_corpus
from test_tokenize_shards import rows_of, tree

from codedev import cli
from codedev._errors import InputError, RunError
from codedev._run import file_hash, locked, write_json
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.export import hf, mds, megatron
from codedev.tokenize.export import rows as reader
from codedev.tokenize.export.run import export_shards
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.shards import schema
from codedev.tokenize.train import train_tokenizer

S, PAD, VOCABULARY = 16, 2, 1000
WAYS: list[tuple[str, dict[str, bool]]] = [
    ("hf", {}), ("hf", {"labels": True}), ("megatron", {}), ("mds", {}), ("npy", {}), ("npy", {"flat": True}),
]  # fmt: skip


class Row(NamedTuple):
    """A row as plain Python: what every format is compared with."""

    segments: list[tuple[int, int, list[int]]]  # document, first token within it, tokens
    spans: list[tuple[int, int]] | None

    @property
    def tokens(self) -> list[int]:
        return [token for _, _, tokens in self.segments for token in tokens]

    @property
    def ids(self) -> list[int]:
        return self.tokens + [PAD] * (S - len(self.tokens))

    @property
    def positions(self) -> list[int]:
        counts = [*(len(tokens) for _, _, tokens in self.segments), S - len(self.tokens)]
        return [place for count in counts for place in range(count)]

    @property
    def loss(self) -> list[int]:
        covered = set(range(S)) if self.spans is None else {i for start, end in self.spans for i in range(start, end)}
        return [int(i in covered and i < len(self.tokens)) for i in range(S)]


def random_rows(count: int, *, spans: bool, seed: int = 0) -> list[Row]:
    """Full rows, rows with padding and without segments, documents that go on in the next row; at the end a row of padding alone."""
    rng = random.Random(seed)
    rows: list[Row] = []
    document, offset = 0, 0
    for _ in range(count - 1):
        segments, room = [], rng.choice([S, S, S, S - 1, 5, 1, 0])
        while room:
            length = rng.randint(1, room)
            segments.append((document, offset, [rng.randrange(VOCABULARY) for _ in range(length)]))
            room -= length
            goes_on = rng.random() < 0.3
            document, offset = (document, offset + length) if goes_on else (document + 1, 0)
        chosen: list[tuple[int, int]] | None = None
        if spans and rng.random() < 0.7:
            cuts = sorted(rng.sample(range(S + 1), rng.choice([0, 2, 4, 6])))
            chosen = list(itertools.pairwise(cuts))[::2]  # [] too: nothing in the row carries loss
        rows.append(Row(segments, chosen))
    return [*rows, Row([], [] if spans else None)]


def name_of(document: int) -> str:
    return f"web/{document}" if document % 3 else f'a\n"{document}" é\u2028日'


def write_shards(
    folder: Path, rows: list[Row], dtype: Any = np.uint16, *, batch_rows: int = 3, file_rows: int = 20, **manifest: Any
) -> Path:
    """A shard directory with a file every `file_rows` rows."""
    folder.mkdir(parents=True)
    layout, files = schema(S, np.dtype(dtype)), []
    for begin in range(0, len(rows), file_rows):
        part = rows[begin : begin + file_rows]
        columns = {
            "input_ids": [row.ids for row in part],
            "segment_lengths": [[len(tokens) for _, _, tokens in row.segments] for row in part],
            "segment_documents": [[name_of(document) for document, _, _ in row.segments] for row in part],
            "segment_offsets": [[offset for _, offset, _ in row.segments] for row in part],
            "segment_bytes": [[len(tokens) for _, _, tokens in row.segments] for row in part],
            "segment_byte_offsets": [[offset for _, offset, _ in row.segments] for row in part],
            "segment_positions": [[document for document, _, _ in row.segments] for row in part],
            "loss_spans": [None if row.spans is None else [{"start": a, "end": b} for a, b in row.spans] for row in part],
        }
        table = pa.Table.from_pydict({name: columns.get(name, [None] * len(part)) for name in layout.names}, schema=layout)
        path = folder / f"shard-{len(files):05d}.arrow"
        with pa.ipc.new_file(str(path), layout) as writer:
            for batch in table.to_batches(max_chunksize=batch_rows):
                writer.write_batch(batch)
        files.append({"name": path.name, "rows": len(part), "hash": file_hash(path)})
    (folder / "tokenizer.json").write_text("{}")
    tokens = sum(len(row.tokens) for row in rows)
    counts = {"tokens_packed": tokens, "padding": len(rows) * S - tokens, "segments": sum(len(row.segments) for row in rows)}
    whole = {
        "format": "codedev.shards/1", "seq_len": S, "dtype": np.dtype(dtype).name, "rows": len(rows), "vocab_size": VOCABULARY,
        "bos_id": None, "eos_id": 1, "pad_id": PAD, "split": "train", "counts": counts, "files": files, "holdout": 0.0,
        "tokenizer": {"file": "tokenizer.json", "hash": file_hash(folder / "tokenizer.json"), "eos": "</s>"},
        "corpus": {"path": "corpus", "manifest_hash": "0"}, **manifest,
    }  # fmt: skip
    write_json(folder / "manifest.json", whole)
    return folder


class Shards(NamedTuple):
    path: Path
    rows: list[Row]
    held: list[Row]
    dtype: np.dtype[Any]
    spans: bool


@pytest.fixture(scope="module", params=["uint16", "uint32", "uint16-spans", "uint32-spans"])
def shards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    name, _, spans = request.param.partition("-")
    path, dtype = tmp_path_factory.mktemp("shards") / "shards", np.dtype(name)
    rows, held = random_rows(101, spans=bool(spans)), random_rows(11, spans=bool(spans), seed=1)
    write_shards(path, rows, dtype)
    write_shards(path / "heldout", held, dtype, split="heldout")
    return Shards(path, rows, held, dtype, bool(spans))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("plain") / "shards", random_rows(50, spans=False))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of real text as `codedev tokenize` leaves them."""
    home = tmp_path_factory.mktemp("real")
    write_corpus(home / "corpus", [document(i, text) for i, text in enumerate(stdlib_texts(40) + NASTY)])
    train_tokenizer(home / "corpus", home / "tokenizer", vocab_size=1200, special_slots=3)
    tokenize_corpus(home / "corpus", home / "tokenizer", home / "shards", TokenizeRecipe(seq_len=256, holdout=0.2))
    return home / "shards"


# Hugging Face datasets


def hf_rows(rows: list[Row], *, labels: bool, spans: bool) -> list[dict[str, Any]]:
    expected = []
    for row in rows:
        lengths = [len(tokens) for _, _, tokens in row.segments]
        left = S - sum(lengths)
        columns: dict[str, Any] = {
            "input_ids": row.ids,
            "position_ids": row.positions,
            "seq_lengths": [*lengths, left] if left else lengths,
            "segment_documents": [name_of(document) for document, _, _ in row.segments],
            "segment_offsets": [offset for _, offset, _ in row.segments],
        }
        if labels:
            columns["labels"] = [token if row.loss[i] and row.positions[i] else -100 for i, token in enumerate(row.ids)]
        elif spans:
            columns["loss_starts"] = None if row.spans is None else [start for start, _ in row.spans]
            columns["loss_ends"] = None if row.spans is None else [end for _, end in row.spans]
        expected.append(columns)
    return expected


@pytest.mark.parametrize("labels", [False, True])
def test_hf_is_read_by_datasets(shards: Shards, tmp_path: Path, labels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(hf, "FILE_BYTES", 5000)
    export_shards(shards.path, tmp_path / "out", "hf", labels=labels)
    assert len(list((tmp_path / "out" / "train").glob("*.arrow"))) > 2
    mapped = datasets.load_from_disk(str(tmp_path / "out"))
    copied = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    for loaded in (mapped, copied):
        assert list(loaded) == ["train", "validation"]
        for split, rows in (("train", shards.rows), ("validation", shards.held)):
            assert loaded[split].to_list() == hf_rows(rows, labels=labels, spans=shards.spans)
            features = loaded[split].features
            assert features["input_ids"].feature.dtype == shards.dtype.name
            assert features["input_ids"].length == features["position_ids"].length == S
    assert mapped["train"].split == "train"
    if importlib.util.find_spec("torch"):
        tensors = mapped["train"].with_format("torch")[7]  # uint16 and uint32 are no types that torch indexes with
        assert str(tensors["input_ids"].dtype) == "torch.int64"
        assert tensors["input_ids"].tolist() == shards.rows[7].ids
    again = mapped["train"].save_to_disk(tmp_path / "again")  # its own writer takes it as it is
    assert again is None
    assert datasets.load_from_disk(str(tmp_path / "again")).to_list() == mapped["train"].to_list()


def test_hf_without_datasets(shards: Shards, tmp_path: Path) -> None:
    """The same columns, by pyarrow alone."""
    export_shards(shards.path, tmp_path / "out", "hf", labels=True)
    for split, rows in (("train", shards.rows), ("validation", shards.held)):
        files = [entry["filename"] for entry in json.loads((tmp_path / "out" / split / "state.json").read_text())["_data_files"]]
        found = [row for name in files for row in pa.ipc.open_stream(str(tmp_path / "out" / split / name)).read_all().to_pylist()]
        assert found == hf_rows(rows, labels=True, spans=shards.spans)


def test_labels_are_what_codedev_trains_on(shards: Shards, tmp_path: Path) -> None:
    data = pytest.importorskip("codedev.train.data")
    export_shards(shards.path, tmp_path / "out", "hf", labels=True)
    table = pa.concat_tables(pa.ipc.open_stream(str(path)).read_all() for path in sorted((tmp_path / "out" / "train").glob("*.arrow")))
    rows = data.open_shards((shards.path,)).read(np.arange(len(shards.rows)))
    labels, positions = (np.array(table[name].to_pylist()) for name in ("labels", "position_ids"))
    assert (labels == np.where(rows.targets, rows.input_ids, -100)).all()
    assert (positions == rows.positions).all()
    assert rows.targets.any()


def test_transformers_keeps_the_documents_of_a_row_apart(real: Path, tmp_path: Path) -> None:
    """A packed row with its position_ids gives the logits that each document gives alone."""
    datasets, torch, transformers = (pytest.importorskip(name) for name in ("datasets", "torch", "transformers"))
    export_shards(real, tmp_path / "out", "hf", labels=True)
    loaded = datasets.load_from_disk(str(tmp_path / "out"))["train"].with_format("torch")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=1200, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=256
    )
    model = transformers.LlamaForCausalLM(config).eval()
    row = next(row for row in loaded if len(row["seq_lengths"]) > 2 and int((row["labels"] == -100).sum()) > len(row["seq_lengths"]))
    with torch.no_grad():
        # As in training: with a cache, transformers takes the row for one document.
        packed = model(**{name: row[name][None] for name in ("input_ids", "position_ids", "labels")}, use_cache=False)
        pieces = row["input_ids"].split(row["seq_lengths"].tolist())
        alone = torch.cat([model(input_ids=piece[None]).logits[0] for piece in pieces])
        losses = [torch.nn.functional.cross_entropy(model(input_ids=piece[None]).logits[0, :-1], piece[1:], reduction="sum")
                  for piece in pieces[: len(row["segment_documents"])] if len(piece) > 1]  # fmt: skip
    assert torch.allclose(packed.logits[0], alone, atol=1e-4)
    counted = int((row["labels"] != -100).sum())
    assert abs(float(packed.loss) - float(sum(losses)) / counted) < 1e-4


# Megatron-LM


def sequences_of(rows: list[Row]) -> tuple[list[list[int]], list[int], list[list[int]]]:
    """(sequences, first sequence of each document and the end, the loss mask of each sequence)."""
    sequences, edges, masks, before = [], [], [], (-1, -1)
    for row in rows:
        at = 0
        for name, offset, tokens in row.segments:
            if (name, offset) != before:
                edges.append(len(sequences))
            before = (name, offset + len(tokens))
            sequences.append(tokens)
            masks.append(row.loss[at : at + len(tokens)])
            at += len(tokens)
    return sequences, [*edges, len(sequences)], masks


def read_megatron(prefix: Path) -> tuple[list[list[int]], list[int], str]:
    """By the layout alone: struct and slices."""
    index, data = prefix.with_suffix(".idx").read_bytes(), prefix.with_suffix(".bin").read_bytes()
    magic, version, code, sequences, edges = struct.unpack_from("<9sQBQQ", index)
    assert (magic, version) == (b"MMIDIDX\0\0", 1)
    kind = {1: "uint8", 4: "int32", 8: "uint16"}[code]
    lengths = struct.unpack_from(f"<{sequences}i", index, 34)
    places = struct.unpack_from(f"<{sequences}q", index, 34 + 4 * sequences)
    bounds = struct.unpack_from(f"<{edges}q", index, 34 + 12 * sequences)
    assert len(index) == 34 + 12 * sequences + 8 * edges
    found = [np.frombuffer(data, kind, length, place).tolist() for length, place in zip(lengths, places, strict=True)]
    assert sum(lengths) * np.dtype(kind).itemsize == len(data)
    return found, list(bounds), kind


def test_megatron_layout(shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(megatron, "_BLOCK", 7)  # the index is put together over several blocks
    export_shards(shards.path, tmp_path / "out", "megatron")
    for folder, rows in ((tmp_path / "out", shards.rows), (tmp_path / "out" / "heldout", shards.held)):
        sequences, edges, masks = sequences_of(rows)
        assert len(edges) - 1 < len(sequences)  # some documents go on in the next row
        kind = "uint16" if shards.dtype == np.uint16 else "int32"
        assert read_megatron(folder / "tokens") == (sequences, edges, kind)
        if shards.spans:
            assert read_megatron(folder / "loss_mask") == (masks, edges, "uint8")
        names = {"tokens.bin", "tokens.idx"} | ({"loss_mask.bin", "loss_mask.idx"} if shards.spans else set())
        assert {path.name for path in folder.iterdir() if path.suffix in (".bin", ".idx", ".part")} == names


def test_megatron_is_read_by_megatron_core(shards: Shards, tmp_path: Path) -> None:
    """Its reader gives the same sequences and documents, and its builder makes the same bytes of them."""
    library = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    import torch

    export_shards(shards.path, tmp_path / "out", "megatron")
    (tmp_path / "built").mkdir()
    for name in ("tokens", "loss_mask") if shards.spans else ("tokens",):
        tokens, edges, masks = sequences_of(shards.rows)
        sequences = tokens if name == "tokens" else masks
        prefix = tmp_path / "out" / name
        for mapped in (True, False):
            opened = library.IndexedDataset(str(prefix), mmap=mapped)
            assert [opened[i].tolist() for i in range(len(opened))] == sequences
            assert opened.document_indices.tolist() == edges
            assert opened.sequence_lengths.tolist() == [len(sequence) for sequence in sequences]
            assert opened.get(3, offset=1).tolist() == sequences[3][1:]
        kind = np.uint8 if name == "loss_mask" else np.uint16 if shards.dtype == np.uint16 else np.int32
        builder = library.IndexedDatasetBuilder(str(tmp_path / "built" / f"{name}.bin"), dtype=kind)
        for begin, end in itertools.pairwise(edges):
            for sequence in sequences[begin:end]:
                builder.add_item(torch.tensor(sequence))
            builder.end_document()
        builder.finalize(str(tmp_path / "built" / f"{name}.idx"))
        for suffix in (".bin", ".idx"):
            assert (tmp_path / "built" / name).with_suffix(suffix).read_bytes() == prefix.with_suffix(suffix).read_bytes()


# MosaicML streaming


def mds_rows(rows: list[Row], *, spans: bool) -> list[dict[str, Any]]:
    expected = []
    for row in rows:
        lengths = [len(tokens) for _, _, tokens in row.segments]
        left = S - sum(lengths)
        expected.append({
            "tokens": row.ids,
            "seq_lengths": [*lengths, left] if left else lengths,
            "documents": [[name_of(document), offset] for document, offset, _ in row.segments],
            **({"loss_mask": row.loss} if spans else {}),
        })  # fmt: skip
    return expected


def read_mds(folder: Path) -> list[dict[str, Any]]:
    """By the layout alone; also that sizes, hashes and the head of each file are what the index says."""
    import xxhash

    rows = []
    index = json.loads((folder / "index.json").read_text())
    assert index["version"] == 2
    for shard in index["shards"]:
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        assert shard["raw_data"]["hashes"] == {"xxh3_128": xxhash.xxh3_128_hexdigest(data)}
        (samples,) = struct.unpack_from("<I", data)
        assert samples == shard["samples"]
        offsets = struct.unpack_from(f"<{samples + 1}I", data, 4)
        head = json.loads(data[8 + 4 * samples : offsets[0]])
        assert head == {name: value for name, value in shard.items() if name not in ("raw_data", "samples", "zip_data")}
        for begin, end in itertools.pairwise(offsets):
            sample = data[begin:end]
            sizes, at = list(shard["column_sizes"]), 0
            for i, size in enumerate(sizes):
                if size is None:
                    (sizes[i],) = struct.unpack_from("<I", sample, at)
                    at += 4
            row: dict[str, Any] = {}
            for name, encoding, size in zip(shard["column_names"], shard["column_encodings"], sizes, strict=True):
                value = sample[at : at + size]
                at += size
                if encoding == "json":
                    row[name] = json.loads(value)
                elif encoding.count(":") == 2:
                    row[name] = np.frombuffer(value, encoding.split(":")[1]).tolist()
                else:
                    axes, width = value[0] >> 2, 1 << (value[0] & 3)
                    assert axes == 1
                    row[name] = np.frombuffer(value[1 + width :], encoding.split(":")[1]).tolist()
                    assert int.from_bytes(value[1 : 1 + width], "little") == len(row[name])
            assert at == len(sample)
            rows.append(row)
    return rows


def test_mds_layout(shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mds, "SIZE_LIMIT", 2000)
    export_shards(shards.path, tmp_path / "out", "mds")
    assert read_mds(tmp_path / "out") == mds_rows(shards.rows, spans=shards.spans)
    assert read_mds(tmp_path / "out" / "heldout") == mds_rows(shards.held, spans=shards.spans)
    sizes = [path.stat().st_size for path in (tmp_path / "out").glob("shard.*.mds")]
    assert len(sizes) > 5
    assert max(sizes) <= 2000


def test_mds_is_what_its_writer_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte, the files of tests/golden/mds, which MDSWriter of mosaicml-streaming 0.13.0 made of these rows."""
    monkeypatch.setattr(mds, "SIZE_LIMIT", 2000)
    write_shards(tmp_path / "shards", random_rows(24, spans=True, seed=7))
    export_shards(tmp_path / "shards", tmp_path / "out", "mds")
    golden = Path(__file__).parent / "golden" / "mds"
    names = {path.name for path in golden.iterdir()}
    assert names == {path.name for path in (tmp_path / "out").iterdir()} - {"manifest.json", "tokenizer.json", ".lock"}
    assert len(names) > 2
    for name in names:
        assert (golden / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


READ_MDS = """
import json, sys
from pathlib import Path
import numpy as np
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory

out, built, limit = sys.argv[1:]
clean_stale_shared_memory()
plain = lambda sample: {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in sample.items()}
found = {}
for split in (None, "heldout"):
    opened = StreamingDataset(local=out, split=split, validate_hash="xxh3_128", batch_size=1, shuffle=False)
    found[split or "train"] = [plain(opened[i]) for i in range(len(opened))]
    index = json.loads(Path(out, split or "", "index.json").read_text())["shards"][0]
    columns = dict(zip(index["column_names"], index["column_encodings"]))
    with MDSWriter(columns=columns, out=str(Path(built, split or "train")), hashes=["xxh3_128"], size_limit=int(limit)) as writer:
        for i in range(len(opened)):
            writer.write(opened[i])
print("rows", json.dumps(found))
"""


def test_mds_is_read_by_streaming(shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """StreamingDataset gives the same rows, its hashes checked, and MDSWriter makes the same bytes of them. The library asks for older
    packages than ours (numpy < 2.2, xxhash < 4, transformers < 5), so it has to be in an environment of its own."""
    python = os.environ.get("CODEDEV_STREAMING_PYTHON")
    if python is None:
        pytest.skip("mosaicml-streaming needs an environment of its own: name its Python in CODEDEV_STREAMING_PYTHON")
    monkeypatch.setattr(mds, "SIZE_LIMIT", 4000)
    export_shards(shards.path, tmp_path / "out", "mds")
    done = subprocess.run(
        [python, "-W", "ignore", "-c", READ_MDS, tmp_path / "out", tmp_path / "built", "4000"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("rows "))[5:])
    assert found == {"train": mds_rows(shards.rows, spans=shards.spans), "heldout": mds_rows(shards.held, spans=shards.spans)}
    for split, folder in (("train", tmp_path / "out"), ("heldout", tmp_path / "out" / "heldout")):
        names = sorted(path.name for path in (tmp_path / "built" / split).iterdir())
        assert names == sorted(path.name for path in folder.iterdir() if path.suffix == ".mds" or path.name == "index.json")
        for name in names:
            assert (tmp_path / "built" / split / name).read_bytes() == (folder / name).read_bytes()


# NumPy


def test_npy(shards: Shards, tmp_path: Path) -> None:
    export_shards(shards.path, tmp_path / "out", "npy")
    for folder, rows in ((tmp_path / "out", shards.rows), (tmp_path / "out" / "heldout", shards.held)):
        arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in folder.glob("*.npy")}
        assert ("loss_mask" in arrays) == shards.spans
        assert arrays["input_ids"].dtype == shards.dtype
        assert arrays["input_ids"].tolist() == [row.ids for row in rows]
        if shards.spans:
            assert arrays["loss_mask"].dtype == np.bool_
            assert arrays["loss_mask"].astype(int).tolist() == [row.loss for row in rows]
        names = [json.loads(line) for line in (folder / "segment_documents.jsonl").read_bytes().splitlines()]
        edges = arrays["row_segments"]
        for i, row in enumerate(rows):
            at, start = slice(edges[i], edges[i + 1]), 0
            assert edges[i + 1] - edges[i] == len(row.segments)
            assert (arrays["segment_rows"][at] == i).all()
            assert names[at] == [name_of(document) for document, _, _ in row.segments]
            assert arrays["segment_offsets"][at].tolist() == [offset for _, offset, _ in row.segments]
            for begin, length, (_, _, tokens) in zip(
                arrays["segment_starts"][at], arrays["segment_lengths"][at], row.segments, strict=True
            ):
                assert begin == start
                assert arrays["input_ids"][i, begin : begin + length].tolist() == tokens
                start += len(tokens)
        assert edges[-1] == len(names) == len(arrays["segment_rows"])


def test_flat(shards: Shards, tmp_path: Path) -> None:
    export_shards(shards.path, tmp_path / "out", "npy", flat=True)
    for name, rows in (("train", shards.rows), ("val", shards.held)):
        tokens = np.memmap(tmp_path / "out" / f"{name}.bin", shards.dtype, "r")
        assert tokens.tolist() == [token for row in rows for token in row.tokens]
        if shards.spans:
            mask = np.memmap(tmp_path / "out" / f"{name}_loss.bin", np.uint8, "r")
            assert mask.tolist() == [flag for row in rows for flag in row.loss[: len(row.tokens)]]
    assert (tmp_path / "out" / "train_loss.bin").exists() == shards.spans


# What holds for every format


@pytest.mark.parametrize(("to", "options"), WAYS)
def test_no_token_of_real_text_is_lost(real: Path, tmp_path: Path, to: str, options: dict[str, bool]) -> None:
    manifest = export_shards(real, tmp_path / "out", to, **options)["manifest"]
    for split, folder in (("train", real), ("heldout", real / "heldout")):
        counts = json.loads((folder / "manifest.json").read_text())["counts"]
        said = manifest["splits"][split]
        assert said["tokens"] == counts["tokens_packed"]
        assert said["rows"] * 256 == said["tokens"] + said["padding"]
        rows = rows_of(folder)
        tokens = [token for row in rows for token in row["input_ids"][: sum(row["segment_lengths"])]]
        out = tmp_path / "out" / said["folder"]
        if to == "megatron":
            assert [token for sequence in read_megatron(out / "tokens")[0] for token in sequence] == tokens
        elif options.get("flat"):
            assert np.fromfile(out / ("train.bin" if split == "train" else "val.bin"), np.uint16).tolist() == tokens
        else:
            if to == "hf":
                found = [
                    row for path in sorted(out.glob("*.arrow")) for row in pa.ipc.open_stream(str(path)).read_all()["input_ids"].to_pylist()
                ]
            elif to == "mds":
                found = [row["tokens"] for row in read_mds(out)]
            else:
                found = np.load(out / "input_ids.npy").tolist()
            assert found == [row["input_ids"] for row in rows]
    assert file_hash(tmp_path / "out" / "tokenizer.json") == manifest["tokenizer"]["hash"]
    assert {entry["name"] for entry in manifest["files"]} | {"manifest.json"} == set(tree(tmp_path / "out"))
    assert all(file_hash(tmp_path / "out" / entry["name"]) == entry["hash"] for entry in manifest["files"])
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.json").read_text()


@pytest.mark.parametrize(("to", "options"), WAYS)
def test_same_bytes_again_and_after_other_exports(real: Path, tmp_path: Path, to: str, options: dict[str, bool]) -> None:
    assert not export_shards(real, tmp_path / "one", to, **options)["unchanged"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert export_shards(real, tmp_path / "one", to, **options)["unchanged"]
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*") if path.is_file()}
    shutil.copytree(real, tmp_path / "elsewhere" / "shards")  # where the shards lie is no matter
    for other, others in (*WAYS, (to, options)):  # every format in the place of every other, leaving nothing behind
        export_shards(tmp_path / "elsewhere" / "shards", tmp_path / "two", other, **others)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    largest = max((path for path in (tmp_path / "two").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(b"damage")
    assert not export_shards(real, tmp_path / "two", to, **options)["unchanged"]
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    shutil.rmtree(tmp_path / "elsewhere" / "shards" / "heldout")
    splits = export_shards(tmp_path / "elsewhere" / "shards", tmp_path / "two", to, **options)["manifest"]["splits"]
    assert list(splits) == ["train"]
    assert not any("val" in name or "heldout" in name for name in tree(tmp_path / "two"))


@pytest.mark.parametrize("to", ["hf", "megatron", "mds", "npy"])
def test_batches_and_files_of_the_shards_do_not_matter(tmp_path: Path, to: str) -> None:
    rows = random_rows(60, spans=True)
    trees = []
    for name, sizes in (("a", (3, 20)), ("b", (1, 7)), ("c", (100, 100))):
        write_shards(tmp_path / name, rows, batch_rows=sizes[0], file_rows=sizes[1])
        export_shards(tmp_path / name, tmp_path / f"out-{name}", to)
        if to == "hf":  # its record batches are those of the shards
            columns = [pa.ipc.open_stream(str(path)).read_all().to_pylist() for path in (tmp_path / f"out-{name}").rglob("*.arrow")]
            trees.append(columns)
        else:
            trees.append({path: digest for path, digest in tree(tmp_path / f"out-{name}").items() if path != "manifest.json"})
    assert trees[0] == trees[1] == trees[2]


@pytest.mark.slow
def test_killed_exports_end_with_the_same_bytes(real: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from codedev.tokenize.export import run; calls = 0\n"
        "def counted(function):\n"
        "    def call(*a, **k):\n"
        "        global calls; calls += 1\n"
        "        if calls == int(sys.argv[4]): os.kill(os.getpid(), 9)\n"
        "        return function(*a, **k)\n"
        "    return call\n"
        "os.replace, os.fsync, os.unlink, os.mkdir = map(counted, (os.replace, os.fsync, os.unlink, os.mkdir))\n"
        "run.export_shards(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])\n"
    )
    export_shards(real, tmp_path / "expected", "hf")
    killed = 0
    for kill in range(1, 200, 5):  # before each fifth call that changes the directory, by turns of two formats
        done = subprocess.run(
            [sys.executable, "-c", script, str(real), str(tmp_path / "out"), ["npy", "hf"][kill % 2], str(kill)], check=False
        )
        assert done.returncode in (0, -signal.SIGKILL)
        if not done.returncode:
            break
        killed += 1
    assert killed > 5
    export_shards(real, tmp_path / "out", "hf")
    assert tree(tmp_path / "out") == tree(tmp_path / "expected")


def test_interrupted_while_it_is_put_into_place(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_shards(plain, tmp_path / "expected", "npy")
    replace, calls = os.replace, 0

    def interrupted(*paths: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        replace(*paths)

    out = tmp_path / "out"
    export_shards(plain, out, "mds")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_shards(plain, out, "npy")
    monkeypatch.undo()
    assert not (out / "manifest.json").exists()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds mine\.txt beside"):
        export_shards(plain, out, "npy")
    assert (out / "mine.txt").read_text() == "mine"
    (out / "mine.txt").unlink()
    export_shards(plain, out, "npy")
    assert tree(out) == tree(tmp_path / "expected")


def test_nobody_elses_files_are_touched(plain: Path, tmp_path: Path) -> None:
    for name, content in (("notes.txt", "mine"), ("manifest.json", '{"format": "codedev.corpus/1"}'), ("index.json", "{}")):
        out = tmp_path / name.partition(".")[0]
        out.mkdir()
        (out / name).write_text(content)
        with pytest.raises(InputError, match="is not empty and holds no export"):
            export_shards(plain, out, "mds")
        assert [path.name for path in out.iterdir()] == [name]
        assert (out / name).read_text() == content
    with pytest.raises(InputError, match="is not empty and holds no export"):
        export_shards(plain, plain, "npy")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a directory"):
        export_shards(plain, tmp_path / "file", "npy")
    # A manifest of an export that names what lies elsewhere is no export.
    outside, out = tmp_path / "outside.txt", tmp_path / "evil"
    outside.write_text("stays")
    for name in ("../outside.txt", str(outside), "a/../../outside.txt", ""):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        write_json(out / "manifest.json", {"format": "codedev.export/1", "files": [{"name": name, "bytes": 5, "hash": file_hash(outside)}]})
        with pytest.raises(InputError, match="holds no export"):
            export_shards(plain, out, "npy")
        assert outside.read_text() == "stays"
    # Nor does the list of what an interrupted export wrote lead out of it.
    shutil.rmtree(out)
    for names in (["../outside.txt", str(outside), 5, "evil.txt"], [".."], ["."], [""], {"../outside.txt": 1}, "../outside.txt"):
        write_json(out / ".work" / "export" / "ours.json", names)
        export_shards(plain, out, "npy")
        assert outside.read_text() == "stays"
        assert out.is_dir()
    with locked(tmp_path / "locked"), pytest.raises(RunError, match="another run is writing here"):
        export_shards(plain, tmp_path / "locked", "npy")


def test_damaged_and_unfinished_shards_are_refused(tmp_path: Path) -> None:
    def refused(match: str, change: Any, *, held: bool = False) -> None:
        shutil.rmtree(tmp_path / "shards", ignore_errors=True)
        write_shards(tmp_path / "shards", random_rows(50, spans=False))
        write_shards(tmp_path / "shards" / "heldout", random_rows(10, spans=False, seed=1), split="heldout")
        folder = tmp_path / "shards" / ("heldout" if held else "")
        change(folder)
        for to in ("hf", "megatron", "mds", "npy"):
            with pytest.raises(InputError, match=match):
                export_shards(tmp_path / "shards", tmp_path / "out", to)
            assert not (tmp_path / "out" / "manifest.json").exists()

    def manifest(**keys: Any) -> Any:
        def change(folder: Path) -> None:
            write_json(folder / "manifest.json", {**json.loads((folder / "manifest.json").read_text()), **keys})

        return change

    def flip(folder: Path) -> None:
        data = bytearray((folder / "shard-00000.arrow").read_bytes())
        ids = np.array(random_rows(10, spans=False, seed=int(folder.name == "heldout"))[0].ids, np.uint16).tobytes()
        data[data.index(ids)] ^= 1  # a token of the first row: every reader would take it
        (folder / "shard-00000.arrow").write_bytes(data)

    def cut(folder: Path) -> None:
        path = sorted(folder.glob("shard-*.arrow"))[-1]
        path.write_bytes(path.read_bytes()[:-100])

    for held in (False, True):
        refused("unfinished", lambda folder: (folder / "manifest.json").unlink(), held=held)
        refused("its hash differs", flip, held=held)
        refused("missing, damaged or cut short", cut, held=held)
        refused("missing, damaged or cut short", lambda folder: (folder / "shard-00000.arrow").unlink(), held=held)
        refused("missing, damaged or cut short", lambda folder: (folder / "shard-00000.arrow").write_bytes(b""), held=held)
    refused("is not the tokenizer", lambda folder: (folder / "tokenizer.json").write_text("[]"))
    refused("its vocab_size is not that of", manifest(vocab_size=1001), held=True)
    refused("is not valid JSON", lambda folder: (folder / "manifest.json").write_text("{"))
    refused("rows, which its files do not add up to", manifest(rows=7))
    refused("is no length of a row", manifest(seq_len=2**31))
    refused("its column input_ids is", manifest(seq_len=S + 1))
    refused("no complete manifest", manifest(dtype="object"))
    refused("no complete manifest", manifest(counts={}))
    refused("no complete manifest", manifest(files=[{"name": "../manifest.json", "rows": 50, "hash": ""}]))
    refused("tokens in .* segments, its manifest says", manifest(counts={"tokens_packed": 5, "padding": 0, "segments": 1}))
    refused("holds no tokens", manifest(counts={"tokens_packed": 0, "padding": 0, "segments": 0}))
    with pytest.raises(InputError, match="no shard directory"):
        export_shards(tmp_path / "nothing", tmp_path / "out", "hf")


def test_rows_that_break_the_format_are_refused(tmp_path: Path) -> None:
    """The hash fits: whoever made the directory meant it."""
    good = [Row([(0, 0, [5] * 4)], None)] * 4
    bad: list[tuple[str, Row, dict[str, Any]]] = [
        ("token id 1000, its vocabulary ends at 1000", Row([(0, 0, [VOCABULARY])], None), {}),
        ("has a loss span outside of its row", Row([(0, 0, [5] * 4)], [(0, S + 1)]), {}),
        ("has a loss span outside of its row", Row([(0, 0, [5] * 4)], [(-1, 2)]), {}),
        ("has a loss span outside of its row", Row([(0, 0, [5] * 4)], [(3, 2)]), {}),
        ("segments of 0", Row([(0, 0, [5] * 4), (1, 0, [])], None), {}),
    ]
    for number, (match, row, _) in enumerate(bad):
        folder = write_shards(tmp_path / f"{number}", [*good, row])
        for to, options in WAYS:
            with pytest.raises(InputError, match=match):
                export_shards(folder, tmp_path / "out", to, **options)
    # Lists that do not fit each other, and segments beyond the row: written around the helper.
    layout = schema(S, np.dtype(np.uint16))
    for number, (match, change) in enumerate(
        (
            ("a row of 17 tokens", {"segment_lengths": [[S + 1]]}),
            ("a row of 2 tokens in segments of -1", {"segment_lengths": [[-1, 3]], "segment_documents": [["a", "b"]],
                                                      "segment_offsets": [[0, 0]], "segment_positions": [[0, 0]]}),
            ("lists of segments differ", {"segment_documents": [["a", "b"]]}),
            ("without tokens or segments", {"segment_documents": [[None]]}),
            ("without tokens or segments", {"input_ids": [None]}),
        )
    ):  # fmt: skip
        folder = write_shards(tmp_path / f"x{number}", [Row([(0, 0, [5])], None)])
        columns = {**pa.ipc.open_file(str(folder / "shard-00000.arrow")).read_all().to_pydict(), **change}
        with pa.ipc.new_file(str(folder / "shard-00000.arrow"), layout) as writer:
            writer.write_table(pa.Table.from_pydict(columns, schema=layout))
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"][0]["hash"] = file_hash(folder / "shard-00000.arrow")
        write_json(folder / "manifest.json", manifest)
        with pytest.raises(InputError, match=match):
            export_shards(folder, tmp_path / "out", "npy")


def test_overlapping_spans_count_once(tmp_path: Path) -> None:
    row = Row([(0, 0, list(range(10, 20)))], [(1, 4), (2, 6), (1, 4), (5, 5), (9, 16)])
    write_shards(tmp_path / "shards", [row])
    export_shards(tmp_path / "shards", tmp_path / "out", "npy")
    assert (
        np.load(tmp_path / "out" / "loss_mask.npy").astype(int).tolist() == [row.loss] == [[0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]]
    )


def test_the_held_out_part_alone(shards: Shards, tmp_path: Path) -> None:
    for to, name in (("hf", "validation/state.json"), ("megatron", "heldout/tokens.bin"), ("mds", "heldout/index.json")):
        manifest = export_shards(shards.path / "heldout", tmp_path / to, to)["manifest"]
        assert list(manifest["splits"]) == ["heldout"]
        assert (tmp_path / to / name).is_file()
    assert read_mds(tmp_path / "mds" / "heldout") == mds_rows(shards.held, spans=shards.spans)


def test_options_belong_to_their_formats(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="knows no --labels"):
        export_shards(plain, tmp_path / "out", "mds", labels=True)
    with pytest.raises(InputError, match="knows no --flat"):
        export_shards(plain, tmp_path / "out", "hf", flat=True)
    with pytest.raises(InputError, match="did you mean 'megatron'"):
        export_shards(plain, tmp_path / "out", "megatrom")
    assert not (tmp_path / "out").exists()


PEAK = """
import json, shutil, sys
from pathlib import Path
import codedev.tokenize.export.run as run

run.mds.SIZE_LIMIT = 4 << 20  # a file of MDS is put together in memory
home = Path(sys.argv[1])

def peak(field):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)) / 1e3

found = {}
for to, options in json.loads(sys.argv[2]):
    for size in ("small", "small", "large"):  # the first time what is loaded once is loaded
        Path("/proc/self/clear_refs").write_text("5")
        base = peak("VmRSS")
        run.export_shards(home / size, home / "out", to, **options)
        found.setdefault(f"{to} {options}", {})[size] = peak("VmHWM") - base
        shutil.rmtree(home / "out")
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_shards(tmp_path: Path) -> None:
    """8 and 64 MB of ids in one file: the same peak, in every format."""
    ids = np.random.default_rng(0).integers(0, VOCABULARY, 1 << 21, np.uint16)  # 4 MB
    layout, rows = schema(2048, ids.dtype), len(ids) // 2048
    lists = {
        field.name: pa.array([["d"] if "documents" in field.name else [2048 if "lengths" in field.name else 0]] * rows, field.type)
        for field in layout
        if field.name.startswith("segment")
    }
    lists |= {field.name: pa.nulls(rows, field.type) for field in layout if field.name not in lists and field.name != "input_ids"}
    columns = {"input_ids": pa.FixedSizeListArray.from_arrays(pa.array(ids), 2048), **lists}
    for name, batches in (("small", 2), ("large", 16)):
        folder = write_shards(tmp_path / name, [Row([(0, 0, [5])], None)])
        path = folder / "shard-00000.arrow"
        with pa.ipc.new_file(str(path), layout) as writer:
            for _ in range(batches):
                writer.write_batch(pa.RecordBatch.from_arrays([columns[field.name] for field in layout], schema=layout))
        manifest, total = json.loads((folder / "manifest.json").read_text()), rows * batches
        manifest |= {"seq_len": 2048, "rows": total, "counts": {"tokens_packed": total * 2048, "padding": 0, "segments": total}}
        manifest["files"] = [{"name": path.name, "rows": total, "hash": file_hash(path)}]
        write_json(folder / "manifest.json", manifest)
    done = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path), json.dumps(WAYS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for way, peaks in json.loads(done.stdout).items():
        assert peaks["large"] < peaks["small"] + 12, (way, peaks)


# The command


def test_command(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["codedev", "export", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capfd.readouterr()
        return int(stopped.value.code or 0), out, err

    out = str(tmp_path / "out")
    code, text, err = run(str(real), "--to", "hf", "--labels", "--out", out)
    assert code == 0, err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["options"] == {"labels": True, "flat": False}
    for split in ("train", "validation"):
        [line] = [line for line in text.splitlines() if f"{out}/{split} " in line]
        counts = manifest["splits"]["train" if split == "train" else "heldout"]
        assert f"{counts['rows']:,}" in line
        assert f"{counts['tokens']:,}" in line
    assert "export: 100%" in err
    code, text, err = run(str(real), "--to", "hf", "--labels", "--out", out, "--json")
    assert (code, err) == (0, "")
    assert json.loads(text) == {"manifest": manifest, "unchanged": True}
    code, text, err = run(str(real), "--to", "npy", "--flat", "--out", out, "-q")
    assert (code, err) == (0, "")
    assert (tmp_path / "out" / "val.bin").stat().st_size == 2 * manifest["splits"]["heldout"]["tokens"]
    assert run(str(real), "--to", "mds", "--labels", "--out", out)[0] == 2
    assert run(str(real), "--to", "parquet", "--out", out)[0] == 2
    code, text, err = run(str(tmp_path), "--to", "mds", "--out", str(tmp_path / "other"))
    assert (code, text) == (1, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_reading_gives_pages_back(plain: Path) -> None:
    """A batch that is kept is still what it was after its pages were given back."""
    kept = list(reader.read_rows(reader.open_source(plain)))
    expected = random_rows(50, spans=False)
    assert [ids for rows in kept for ids in rows.input_ids.tolist()] == [row.ids for row in expected]
    assert [name for rows in kept for name in rows.documents.to_pylist()] == [name_of(d) for row in expected for d, _, _ in row.segments]
