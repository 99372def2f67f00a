"""Reading a shard directory for export: every file's hash first, then its record batches, mapped into memory, as NumPy views.

A batch's pages are given back to the system before the next one is read, so that memory does not grow with the file. What is read is
checked row by row against the format and, at the end, against the manifest's counts. Shared by all formats: positions, padding, loss.
Knows nothing of any format.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from codedev._errors import InputError
from codedev._run import file_hash
from codedev.tokenize.shards import open_shards, schema

_COLUMNS = ("input_ids", "segment_lengths", "segment_documents", "segment_offsets", "segment_positions", "loss_spans")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")  # a plain file name: a manifest is input, and must not point out of its directory
_AGAIN = "Run `codedev tokenize` again, or copy the shards again"


class Spans(NamedTuple):
    """Where the tokens of a batch carry loss."""

    every: np.ndarray  # bool[R]: the row has no spans, all of its tokens do
    rows: np.ndarray  # int64[spans]: row of the span
    starts: np.ndarray  # int64[spans]: its first token in the row
    ends: np.ndarray  # int64[spans]: after its last token


class Rows(NamedTuple):
    """R rows of S tokens, with their segments one after another."""

    input_ids: np.ndarray  # (R, S) uint16 or uint32
    column: pa.FixedSizeListArray  # the same, as it was read
    used: np.ndarray  # int64[R]: tokens of the row that are no padding
    edges: np.ndarray  # int64[R + 1]: first segment of each row
    lengths: np.ndarray  # int64[segments]: tokens
    documents: pa.StringArray  # [segments]: ids
    offsets: np.ndarray  # int64[segments]: first token within the document
    positions: np.ndarray  # int64[segments]: the document's place in the corpus
    spans: Spans | None  # None: every token of every row carries loss


class Source(NamedTuple):
    """A finished shard directory, one split of an export."""

    path: Path
    split: str  # train or heldout
    manifest: dict[str, Any]
    spans: bool  # some row has loss spans
    tick: Callable[[int], None]  # told the rows of each batch when it has been read

    @property
    def seq_len(self) -> int:
        return int(self.manifest["seq_len"])

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.manifest["dtype"])
        return dtype


def open_source(path: Path, tick: Callable[[int], None] = lambda rows: None) -> Source:
    """InputError where `path` is no finished shard directory, or its manifest names what cannot be. Looks into every file, as long as
    one look a record batch takes."""
    manifest, where = open_shards(path).manifest, f"{path}/manifest.json"
    counts = manifest.get("counts")
    whole = manifest.get("dtype") in ("uint16", "uint32") and isinstance(manifest.get("vocab_size"), int)
    whole &= all(isinstance(entry.get("hash"), str) and _NAME.fullmatch(entry["name"]) is not None for entry in manifest["files"])
    whole &= isinstance(counts, dict) and all(isinstance(counts.get(name), int) for name in ("tokens_packed", "padding", "segments"))
    tokenizer = manifest["tokenizer"]
    whole &= isinstance(tokenizer.get("hash"), str) and _NAME.fullmatch(str(tokenizer.get("file"))) is not None
    if not whole:
        raise InputError(f"{where}: is no complete manifest. Run `codedev tokenize` again")
    if not 1 <= manifest["seq_len"] < 1 << 31:
        raise InputError(f"{where}: seq_len {manifest['seq_len']} is no length of a row. {_AGAIN}")
    if manifest["rows"] < 1 or sum(entry["rows"] for entry in manifest["files"]) != manifest["rows"]:
        raise InputError(f"{where}: says {manifest['rows']} rows, which its files do not add up to. {_AGAIN}")
    source = Source(path, "heldout" if manifest.get("split") == "heldout" else "train", manifest, False, tick)
    spans = False
    for entry in manifest["files"]:
        with _mapped(source, path / entry["name"]) as (reader, _):
            for i in range(0 if spans else reader.num_record_batches):
                batch = reader.get_batch(i)
                spans |= batch.column("loss_spans").null_count < batch.num_rows
    return source._replace(spans=spans)


def read_rows(source: Source) -> Iterator[Rows]:
    """The rows in order, a record batch at a time; a batch is gone when the next one is asked for. InputError for a file that is
    missing or is not what the manifest says, and for a row that breaks the format; files before it have been handed out by then."""
    segments = tokens = 0
    for entry in source.manifest["files"]:
        path = source.path / entry["name"]
        try:
            found = file_hash(path)
        except OSError as error:
            raise _unreadable(path, error) from None
        if found != entry["hash"]:
            raise InputError(f"{path}: is not the file its manifest names: its hash differs. {_AGAIN}")
        rows = 0
        with _mapped(source, path) as (reader, release):
            for i in range(reader.num_record_batches):
                batch = _views(source, path, reader.get_batch(i))
                rows, segments, tokens = rows + len(batch.used), segments + len(batch.lengths), tokens + int(batch.used.sum())
                yield batch
                source.tick(len(batch.used))
                del batch
                release()
        if rows != entry["rows"]:
            raise InputError(f"{path}: has {rows} rows, its manifest says {entry['rows']}. {_AGAIN}")
    counts = source.manifest["counts"]
    if (segments, tokens) != (counts["segments"], counts["tokens_packed"]):
        raise InputError(
            f"{source.path}: holds {tokens} tokens in {segments} segments, its manifest says {counts['tokens_packed']} in"
            f" {counts['segments']}. {_AGAIN}"
        )


@contextmanager
def _mapped(source: Source, path: Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """(reader of the Arrow file, a function that gives its pages back)."""
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise pa.ArrowInvalid("the file is empty")
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.py_buffer(memory))
        for field in filter(lambda field: field.name in _COLUMNS, schema(source.seq_len, source.dtype)):
            found = reader.schema.field(field.name).type if field.name in reader.schema.names else "missing"
            if found != field.type:
                raise InputError(f"{path}: its column {field.name} is {found}, by its manifest it is {field.type}. {_AGAIN}")
        # Without MADV_DONTNEED every page that was read would count as ours until the file is unmapped: 256 MB.
        yield reader, lambda: memory.madvise(mmap.MADV_DONTNEED)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: is missing, damaged or cut short ({(str(error).splitlines() or ['?'])[0]}). {_AGAIN}")


def _views(source: Source, path: Path, batch: pa.RecordBatch) -> Rows:
    batch.validate(full=True)  # offsets within their buffers: the views below stay inside the file
    S = source.seq_len
    columns = [batch.column(name) for name in _COLUMNS[:-1]]
    if any(column.null_count or column.values.null_count for column in columns):
        raise InputError(f"{path}: has a row without tokens or segments. {_AGAIN}")
    ids, lengths, documents, offsets, positions = columns
    edges = lengths.offsets.to_numpy().astype(np.int64)
    if any(not np.array_equal(np.diff(edges), np.diff(column.offsets.to_numpy())) for column in (documents, offsets, positions)):
        raise InputError(f"{path}: has a row whose lists of segments differ in length. {_AGAIN}")
    tokens = ids.flatten().to_numpy(zero_copy_only=True).reshape(-1, S)
    pieces = lengths.flatten().to_numpy().astype(np.int64)
    edges -= edges[0]
    sums = np.concatenate([[0], np.cumsum(pieces)])
    used = np.diff(sums[edges])
    if len(pieces) and (pieces.min() < 1 or used.max() > S):
        raise InputError(f"{path}: has a row of {used.max()} tokens in segments of {pieces.min()} and more, in rows of {S}. {_AGAIN}")
    if tokens.size and int(tokens.max()) >= source.manifest["vocab_size"]:
        raise InputError(f"{path}: has the token id {tokens.max()}, its vocabulary ends at {source.manifest['vocab_size']}. {_AGAIN}")
    return Rows(
        tokens,
        ids,
        used,
        edges,
        pieces,
        documents.flatten(),
        offsets.flatten().to_numpy(),
        positions.flatten().to_numpy(),
        _spans(batch.column("loss_spans"), S, path),
    )


def _spans(column: pa.ListArray, seq_len: int, path: Path) -> Spans | None:
    if column.null_count == len(column):
        return None
    every = column.is_null().to_numpy(zero_copy_only=False)
    counts = np.where(every, 0, column.value_lengths().fill_null(0).to_numpy())
    values = column.flatten()  # what null rows hide is left out
    starts, ends = (values.field(name).to_numpy(zero_copy_only=False).astype(np.int64) for name in ("start", "end"))
    if values.null_count or (len(starts) and (starts.min() < 0 or ends.max() > seq_len or (starts > ends).any())):
        raise InputError(f"{path}: has a loss span outside of its row. {_AGAIN}")
    return Spans(every, np.repeat(np.arange(len(column)), counts), starts, ends)


def pieces(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """(int64[pieces], int64[R + 1]): lengths of each row's segments, then of its padding where there is any, and each row's first
    piece. The pieces of a row add up to S, so even a row without segments has one."""
    S = rows.input_ids.shape[1]
    padded = rows.used < S
    lengths = np.insert(rows.lengths, rows.edges[1:][padded], S - rows.used[padded])
    return lengths, rows.edges + np.concatenate([[0], np.cumsum(padded)])


def position_ids(rows: Rows) -> np.ndarray:
    """(R, S) int32: each token's place in its segment; padding counts as a segment."""
    lengths, _ = pieces(rows)
    steps = np.ones(rows.input_ids.size, np.int32)
    if steps.size:
        starts = np.cumsum(lengths) - lengths
        steps[0] = 0
        steps[starts[1:]] = 1 - lengths[:-1]
        np.cumsum(steps, dtype=np.int32, out=steps)
    return steps.reshape(rows.input_ids.shape)


def real(rows: Rows) -> np.ndarray:
    """(R, S) bool: the token is no padding."""
    return np.arange(rows.input_ids.shape[1]) < rows.used[:, None]


def unpadded(rows: Rows, values: np.ndarray) -> Iterator[np.ndarray]:
    """The numbers of an array (R, S) that are not those of padding, in their order, as views of a row and more. 1 µs a row with padding."""
    S, flat, begin = rows.input_ids.shape[1], values.reshape(-1), 0
    for row in np.flatnonzero(rows.used < S).tolist():
        yield flat[begin : row * S + int(rows.used[row])]
        begin = (row + 1) * S
    yield flat[begin:]


def loss_mask(rows: Rows) -> np.ndarray:
    """(R, S) bool: the token carries loss; padding never does."""
    mask = real(rows)
    if rows.spans is not None:
        every, row, starts, ends = rows.spans
        R, S = mask.shape
        steps = np.zeros((R, S + 1), np.int32)
        np.add.at(steps, (row, starts), 1)
        np.add.at(steps, (row, ends), -1)
        mask &= every[:, None] | (np.cumsum(steps, axis=1)[:, :S] > 0)
    return mask
