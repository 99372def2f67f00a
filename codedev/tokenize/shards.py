"""The shard directory: packed rows as Arrow IPC files that any Arrow reader maps into memory, and its manifest.

    shard-00000.arrow …   one row a training sequence; uncompressed; record batches of a fixed number of rows
    tokenizer.json        the tokenizer that made them
    manifest.json         written last: without it the directory is unfinished

Columns of a row (`schema`): the row's token ids, padded at the end; for each segment its tokens, its document, where it begins in the
document's token sequence and in its text, how many bytes of text it covers, the document's position in the corpus; the spans that
carry loss (null = all); and, for segments that do not tell one document's text in its order, where their tokens come from (null = none
is such). A segment takes about 40 bytes and its document's id beside its tokens. Writing is one gather from the memory-mapped store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev._errors import InputError
from codedev._run import atomic_write, file_hash, read_json
from codedev.kernels.packing import copy_segments
from codedev.tokenize.pack import Documents, Plan
from codedev.tokenize.rowspans import PART, SPAN, Segments, loss_spans, part_lists
from codedev.tokenize.store import LOSS, Store

FORMAT = "codedev.shards/1"
FILE_BYTES = 256 << 20  # a file is closed before it would grow beyond this
BATCH_BYTES = 4 << 20  # of token ids in a record batch


def schema(seq_len: int, dtype: np.dtype[Any]) -> pa.Schema:
    return pa.schema(
        [
            pa.field("input_ids", pa.list_(pa.from_numpy_dtype(dtype), seq_len)),
            pa.field("segment_lengths", pa.list_(pa.int32())),  # tokens; sum to seq_len less padding
            pa.field("segment_documents", pa.list_(pa.string())),  # document ids
            pa.field("segment_offsets", pa.list_(pa.int64())),  # first token within the document's token sequence
            pa.field("segment_bytes", pa.list_(pa.int64())),  # UTF-8 bytes of text covered; special tokens cover none
            pa.field("segment_byte_offsets", pa.list_(pa.int64())),  # first byte within the document's text
            pa.field("segment_positions", pa.list_(pa.int64())),  # the document's position in the corpus: parts and rows in order
            pa.field("loss_spans", pa.list_(SPAN)),  # null = every token
            pa.field("parts", pa.list_(PART)),  # null = each segment covers its bytes in their order
        ],
        metadata={"codedev.schema": "shard/1"},
    )


class Written(NamedTuple):
    files: list[dict[str, Any]]  # name, rows, hash
    rows: int
    tokens: int
    padding: int
    bytes: int
    segments: int
    overlong: int  # as in the plans, and the next two
    cut: int
    truncated: int


def write_rows(
    folder: Path, plans: Iterable[Plan], store: Store, documents: Documents, seq_len: int, pad_id: int, progress: Callable[[int], None]
) -> Written:
    """The plans' rows as shard files in `folder`; shard files of an earlier run are removed. The counts returned are taken from what was
    written. `progress` is called with the tokens written so far."""
    for stale in folder.glob("shard-*.arrow"):
        stale.unlink()
    dtype = store.columns["tokens"]
    batch_rows = max(1, BATCH_BYTES // (seq_len * dtype.itemsize))
    seen = Counter[str]()
    batches = _batches(_counted(plans, seen), store, documents, seq_len, pad_id, batch_rows)
    files: list[dict[str, Any]] = []
    written = tokens = text = segments = 0
    batch = next(batches, None)
    while batch is not None:
        path = folder / f"shard-{len(files):05d}.arrow"
        rows = 0
        with (
            atomic_write(path) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, schema(seq_len, dtype)) as writer,
        ):
            while batch is not None and (rows == 0 or sink.tell() + batch.nbytes <= FILE_BYTES):
                writer.write_batch(batch)
                rows += batch.num_rows
                lengths = batch.column("segment_lengths").flatten().to_numpy()
                tokens, segments = tokens + int(lengths.sum(dtype=np.int64)), segments + len(lengths)
                text += int(batch.column("segment_bytes").flatten().to_numpy().sum())
                written += batch.num_rows
                progress(tokens)
                store.release()
                batch = next(batches, None)
        files.append({"name": path.name, "rows": rows, "hash": file_hash(path)})
    assert written == seen["rows"]
    padding = written * seq_len - tokens
    return Written(files, written, tokens, padding, text, segments, seen["overlong"], seen["cut"], seen["truncated"])


def _counted(plans: Iterable[Plan], seen: Counter[str]) -> Iterator[Plan]:
    for plan in plans:
        seen.update(rows=len(plan.rows) - 1, overlong=plan.overlong, cut=plan.cut, truncated=plan.truncated)
        yield plan


def _by_rows(plans: Iterable[Plan], rows: int) -> Iterator[Plan]:
    """The plans' rows, so many at a time but for the last ones: a row of a file is found by its number."""
    rest: Plan | None = None
    for plan in plans:
        whole = plan if rest is None else _joined(rest, plan)
        full = (len(whole.rows) - 1) // rows * rows
        for row in range(0, full, rows):
            yield _cut(whole, row, row + rows)
        rest = _cut(whole, full, len(whole.rows) - 1) if full < len(whole.rows) - 1 else None
    if rest is not None:
        yield rest


_OF_SEGMENTS = ("documents", "offsets", "lengths", "byte_offsets", "byte_lengths")


def _cut(plan: Plan, begin: int, end: int) -> Plan:
    at = slice(int(plan.rows[begin]), int(plan.rows[end]))
    columns: dict[str, Any] = {name: getattr(plan, name)[at] for name in _OF_SEGMENTS}
    return plan._replace(**columns, rows=plan.rows[begin : end + 1] - plan.rows[begin])


def _joined(one: Plan, other: Plan) -> Plan:
    columns: dict[str, Any] = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in _OF_SEGMENTS}
    return one._replace(**columns, rows=np.concatenate([one.rows, other.rows[1:] + one.rows[-1]]))


def _batches(
    plans: Iterable[Plan], store: Store, documents: Documents, seq_len: int, pad_id: int, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    tokens, ids, begins = store.read("tokens"), store.document_ids(), documents.begins
    positions, offsets, byte_offsets = (store.read(name) for name in ("positions", "offsets", "byte_offsets"))
    part_columns = store.read("part_units"), store.read("part_starts"), store.read("part_bytes")
    loss_columns = [store.read(name) for name in LOSS] if LOSS[0] in store.columns else None

    def covered(unit: int, begin: int, end: int) -> int:
        at = slice(int(begins[unit]) + begin, int(begins[unit]) + end)
        return int((documents.token_bytes[tokens[at]] if documents.by_id else documents.token_bytes[at]).sum(dtype=np.int64))

    layout = schema(seq_len, tokens.dtype)
    for plan in _by_rows(plans, batch_rows):
        rows, document, offset, length = len(plan.rows) - 1, plan.documents, plan.offsets, plan.lengths
        flat = np.full(rows * seq_len, pad_id, tokens.dtype)
        before = np.cumsum(length) - length  # tokens before the segment in the batch, padding not counted
        of_row = np.repeat(np.arange(rows), np.diff(plan.rows))
        targets = of_row * seq_len + before - before[plan.rows[:-1]][of_row]
        copy_segments(tokens, begins[document] + offset, length, targets, flat)
        list_offsets = pa.array(plan.rows, pa.int32())
        names, places = ids.take(pa.array(document)), positions[document]
        segments = Segments(document, offset, length, of_row, targets - of_row * seq_len)

        def listed(values: pa.Array, list_offsets: pa.Array = list_offsets) -> pa.ListArray:
            return pa.ListArray.from_arrays(list_offsets, values)

        yield pa.RecordBatch.from_arrays(
            [
                pa.FixedSizeListArray.from_arrays(pa.array(flat), seq_len),
                listed(pa.array(length.astype(np.int32))),
                listed(names.cast(pa.string())),
                listed(pa.array(offset + offsets[document])),
                listed(pa.array(plan.byte_lengths)),
                listed(pa.array(plan.byte_offsets + byte_offsets[document])),
                listed(pa.array(places)),
                loss_spans(segments, rows, *loss_columns) if loss_columns else pa.nulls(rows, layout.field("loss_spans").type),
                part_lists(segments, rows, part_columns, names, places, covered),
            ],
            schema=layout,
        )


class Shards(NamedTuple):
    """A finished shard directory, open for reading."""

    path: Path
    manifest: dict[str, Any]

    @property
    def rows(self) -> int:
        return int(self.manifest["rows"])

    def row(self, row: int) -> tuple[str, dict[str, Any]]:
        """(name of the file, the row as Python values); InputError when there is no such row."""
        if not 0 <= row < self.rows:
            raise InputError(f"{self.path}: has the rows 0 to {self.rows - 1}, not {row}")
        for entry in self.manifest["files"]:
            if row < entry["rows"]:
                return entry["name"], self._read(entry["name"], row)
            row -= entry["rows"]
        raise InputError(f"{self.path}/manifest.json: its files hold fewer rows than it says. Run `codedev tokenize` again")

    def documents(self) -> list[str]:
        """The ids of the documents in the rows, each once, in their order; removed ones left out. Reads that column alone."""
        found: dict[str, None] = {}
        for entry in self.manifest["files"]:
            with pa.memory_map(str(self.path / entry["name"])) as source:
                reader = pa.ipc.open_file(source)
                for number in range(reader.num_record_batches):
                    found |= dict.fromkeys(pc.unique(reader.get_batch(number).column("segment_documents").flatten()).to_pylist())
        found.pop("", None)
        return list(found)

    def _read(self, name: str, row: int) -> dict[str, Any]:
        try:
            with pa.memory_map(str(self.path / name)) as source:
                reader = pa.ipc.open_file(source)
                batch_rows = reader.get_batch(0).num_rows  # every batch but the last of the directory has as many
                values: dict[str, Any] = reader.get_batch(row // batch_rows).slice(row % batch_rows, 1).to_pylist()[0]
                self._check(values)
                return values
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, ZeroDivisionError) as error:  # damaged somewhere
            said = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"{self.path / name}: cannot be read: {said}. Run `codedev tokenize` again") from None

    def _check(self, values: Mapping[str, Any]) -> None:
        """ValueError, TypeError or KeyError where the row cannot be one: what was damaged on the disk still reads as Arrow."""
        lengths, seq_len, size = values["segment_lengths"], self.manifest["seq_len"], self.manifest["vocab_size"]
        if len(values["input_ids"]) != seq_len or min(lengths, default=0) < 0 or sum(lengths) > seq_len:
            raise ValueError(f"row of {len(values['input_ids'])} tokens and segments of {sum(lengths)}")
        if not 0 <= min(values["input_ids"]) <= max(values["input_ids"]) < size:
            raise ValueError(f"a token id is not below {size}")
        for name in ("segment_documents", "segment_offsets", "segment_bytes", "segment_byte_offsets"):
            if len(values[name]) != len(lengths) or None in values[name]:
                raise ValueError(f"{name} is not as long as segment_lengths")
        if values.get("segment_positions") is not None and len(values["segment_positions"]) != len(lengths):
            raise ValueError("segment_positions is not as long as segment_lengths")
        for part in values.get("parts") or ():
            if None in (part["start"], part["byte_begin"]):
                raise ValueError("a part has no place")


def open_shards(path: Path) -> Shards:
    """InputError when `path` is no finished shard directory."""
    manifest_path = path / "manifest.json"
    if not manifest_path.is_file():
        raise InputError(f"{path}: has no manifest.json, so it is no shard directory or an unfinished one. Run `codedev tokenize` again")
    manifest = read_json(manifest_path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{manifest_path}: is not the manifest of a shard directory ('{FORMAT}')")
    try:
        whole = all(isinstance(manifest[name], int) for name in ("rows", "seq_len", "vocab_size"))
        whole &= all(isinstance(entry["rows"], int) and Path(entry["name"]).name == entry["name"] for entry in manifest["files"])
        whole &= all(
            isinstance(manifest[of][name], str)
            for of, name in (("corpus", "path"), ("corpus", "manifest_hash"), ("tokenizer", "eos"), ("tokenizer", "file"))
        )
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise InputError(f"{manifest_path}: is no complete manifest. Run `codedev tokenize` again")
    return Shards(path, manifest)
