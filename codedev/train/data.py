"""Shard directories as rows to train on: Arrow files mapped into memory, read without a copy until a batch is formed.

Opening costs one look at each record batch's header; reading about 20 µs a row. Token ids are compared with the vocabulary in
every batch that is read, not when a directory is opened: a terabyte of shards opens in a second. Hashes in the manifest are not
recomputed here. Knows nothing of torch.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codedev._errors import InputError
from codedev.train.order import mixed, shuffled

FORMAT = "codedev.shards/1"


# A plain file name: a manifest is input, and must not point out of its directory.
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]


class _TokenizerEntry(BaseModel):
    file: _Name
    hash: str


class _FileEntry(BaseModel):
    name: _Name
    rows: int


class Manifest(BaseModel):
    """The part of a shard directory's manifest.json that training needs."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    seq_len: Annotated[int, Field(gt=0)]
    rows: int
    vocab_size: Annotated[int, Field(gt=0)]
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    tokenizer: _TokenizerEntry
    files: tuple[_FileEntry, ...]


class Rows(NamedTuple):
    """B packed rows of S tokens."""

    numbers: np.ndarray  # (B,) int64, row numbers
    input_ids: np.ndarray  # (B, S) int64
    positions: np.ndarray  # (B, S) int64, from the start of the token's segment; padding counts as a segment
    real: np.ndarray  # (B, S) bool, the token is no padding
    targets: np.ndarray  # (B, S) bool, the token is predicted from earlier tokens of its segment and counts in the loss
    text_bytes: np.ndarray  # (B,) int64, UTF-8 bytes of the text that the row's tokens cover


class Segment(NamedTuple):
    """A document's piece in a row: the row's tokens [start, end), the document's tokens from `offset` on."""

    row: int
    start: int
    end: int
    document: str
    offset: int


class _Lists(NamedTuple):
    """A list column as NumPy views: row i holds values[offsets[i]:offsets[i + 1]]."""

    offsets: np.ndarray
    values: np.ndarray

    def row(self, i: int) -> np.ndarray:
        return self.values[self.offsets[i] : self.offsets[i + 1]]


class _Columns(NamedTuple):
    """One record batch as NumPy views."""

    input_ids: np.ndarray  # (rows, S)
    lengths: _Lists
    text_bytes: _Lists
    spans: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None  # valid, offsets, starts, ends


@dataclass(frozen=True)
class Shards:
    """The rows of one or more shard directories, numbered from 0 in the order of the directories and their files."""

    dirs: tuple[Path, ...]
    manifest: Manifest  # of the first directory: seq_len, vocab_size and the tokenizer are the same in all
    digest: str  # of every manifest: changes when any shard does
    files: tuple[Path, ...]  # of each record batch
    batches: tuple[pa.RecordBatch, ...]
    starts: np.ndarray  # (batches + 1,) the first row of each batch
    sizes: tuple[int, ...]  # rows of each directory
    weights: tuple[float, ...] | None = None  # of the directories; None: every row as often as any other
    views: dict[int, _Columns] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> int:
        return int(self.starts[-1])

    @property
    def seq_len(self) -> int:
        return self.manifest.seq_len

    @property
    def vocab_size(self) -> int:
        return self.manifest.vocab_size

    @property
    def bos_id(self) -> int | None:
        return self.manifest.bos_id

    @property
    def tokenizer_file(self) -> Path:
        return self.dirs[0] / self.manifest.tokenizer.file

    def drawn(self, positions: np.ndarray, seed: int) -> np.ndarray:
        """Row numbers at `positions` (int64) of the stream that a run reads."""
        return shuffled(positions, self.rows, seed) if self.weights is None else mixed(positions, self.sizes, self.weights, seed)

    def read(self, numbers: np.ndarray) -> Rows:
        """The rows with these numbers. Raises InputError for a row that breaks the format."""
        shape = (len(numbers), self.seq_len)
        input_ids, positions = np.empty(shape, np.int64), np.empty(shape, np.int64)
        real, targets = np.zeros(shape, bool), np.zeros(shape, bool)
        text_bytes = np.empty(len(numbers), np.int64)
        steps = np.arange(self.seq_len)
        for at, number in enumerate(numbers):  # about 20 µs a row
            columns, i, file = self._locate(int(number))
            input_ids[at] = columns.input_ids[i]
            lengths = columns.lengths.row(i)
            ends = np.cumsum(lengths)
            used = int(ends[-1]) if len(ends) else 0
            if used > self.seq_len or (len(lengths) and lengths.min() < 1):
                raise InputError(f"{file}: the segments of row {i} have {used} tokens in a row of {self.seq_len}. Pack the shards again")
            pieces = np.append(lengths, self.seq_len - used)
            positions[at] = steps - np.repeat(np.cumsum(pieces) - pieces, pieces)
            real[at, :used] = True
            targets[at, :used] = positions[at, :used] > 0
            if columns.spans is not None and columns.spans[0][i]:
                covered = _covered(columns.spans, i, self.seq_len)
                if covered is None:
                    raise InputError(f"{file}: the loss_spans of row {i} lie outside of its {self.seq_len} tokens. Pack the shards again")
                targets[at] &= covered
            text_bytes[at] = columns.text_bytes.row(i).sum()
        if len(numbers) and int(input_ids.max()) >= self.vocab_size:
            at = int(input_ids.max(axis=1).argmax())
            _, i, file = self._locate(int(numbers[at]))
            raise InputError(
                f"{file}: row {i} has the token id {input_ids[at].max()}, its vocabulary ends at {self.vocab_size}. Pack the shards again"
            )
        return Rows(np.asarray(numbers), input_ids, positions, real, targets, text_bytes)

    def segments(self, number: int) -> list[Segment]:
        """What row `number` consists of, padding left out."""
        batch, i = self._batch_of(number)
        row = {name: self.batches[batch].column(f"segment_{name}")[i].as_py() for name in ("lengths", "documents", "offsets")}
        segments, start = [], 0
        for length, document, offset in zip(row["lengths"], row["documents"], row["offsets"], strict=True):
            segments.append(Segment(number, start, start + length, document, offset))
            start += length
        return segments

    def place_of(self, number: int) -> tuple[Path, int]:
        """The shard directory of row `number`, and the row's number in it."""
        directory = self.files[self._batch_of(number)[0]].parent
        first = next(start for start, file in zip(self.starts, self.files, strict=False) if file.parent == directory)
        return directory, number - int(first)

    def _batch_of(self, number: int) -> tuple[int, int]:
        batch = int(np.searchsorted(self.starts, number, "right")) - 1
        return batch, number - int(self.starts[batch])

    def _locate(self, number: int) -> tuple[_Columns, int, Path]:
        batch, i = self._batch_of(number)
        if batch not in self.views:
            self.views[batch] = _columns(self.batches[batch], self.seq_len)
        return self.views[batch], i, self.files[batch]


def open_shards(dirs: tuple[Path, ...], weights: tuple[float, ...] | None = None) -> Shards:
    """Map shard directories of one tokenizer and one seq_len, of which a run reads as `weights` say.

    Raises InputError for what is missing, truncated or does not fit.
    """
    digest = hashlib.blake2b(digest_size=16)
    manifests, files, batches = [], [], []
    for directory in dirs:
        manifest, raw = _manifest(directory)
        digest.update(raw)
        manifests.append(manifest)
        _check_together(dirs[0], manifests[0], directory, manifest)
        for entry in manifest.files:
            for batch in _record_batches(directory / entry.name, entry.rows, manifest.seq_len):
                files.append(directory / entry.name)
                batches.append(batch)
    starts = np.cumsum([0] + [batch.num_rows for batch in batches])
    if not starts[-1]:
        raise InputError(f"{', '.join(map(str, dirs))}: the shards hold no rows. Pack a larger corpus, or a smaller --seq-len")
    sizes = tuple(sum(entry.rows for entry in manifest.files) for manifest in manifests)
    if weights is not None and not all(sizes):
        raise InputError(f"{dirs[sizes.index(0)]}: holds no rows to draw by its weight. Leave it out")
    return Shards(tuple(dirs), manifests[0], digest.hexdigest(), tuple(files), tuple(batches), starts, sizes, weights)


def _manifest(directory: Path) -> tuple[Manifest, bytes]:
    path = directory / "manifest.json"
    try:
        raw = path.read_bytes() if path.is_file() else None  # opening a pipe would wait for ever
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if raw is None:
        fault = "there is no such directory" if not directory.is_dir() else "has no manifest.json, it is no shard directory"
        raise InputError(f"{directory}: {fault}. Make shards with: codedev tokenize CORPUS --tokenizer T --out {directory}")
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: is not JSON: {error}") from None
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise InputError(f"{path}: its format is {found!r}, this version reads '{FORMAT}'. Pack the shards again with codedev tokenize")
    try:
        return Manifest.model_validate(data), raw
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}. Pack the shards again") from None


def _check_together(first: Path, expected: Manifest, directory: Path, manifest: Manifest) -> None:
    for name in ("seq_len", "vocab_size", "bos_id", "eos_id", "pad_id"):
        a, b = getattr(expected, name), getattr(manifest, name)
        if a != b:
            raise InputError(
                f"{directory}: its {name} is {b}, that of {first} is {a}. Shards of one run need the same: pack one of them again"
            )
    if manifest.tokenizer.hash != expected.tokenizer.hash:
        raise InputError(f"{directory}: was made with another tokenizer than {first}. Pack one of them again")


def _record_batches(path: Path, rows: int, seq_len: int) -> list[pa.RecordBatch]:
    """The record batches of a shard file; their columns are views into the mapped file."""
    if not path.is_file():
        fault = "is no file" if os.path.lexists(path) else "is named in the manifest and missing"
        raise InputError(f"{path}: {fault}. Pack the shards again, or copy them again")
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        _check_schema(path, reader.schema, seq_len)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        for batch in batches:
            batch.validate()  # buffers as long as the header says, so that the views below stay inside the file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: is damaged or cut short ({str(error).splitlines()[0]}). Pack the shards again, or copy them again"
        ) from None
    found = sum(batch.num_rows for batch in batches)
    if found != rows:
        raise InputError(f"{path}: has {found} rows, its manifest says {rows}. Pack the shards again, or copy them again")
    if any(_has_nulls(batch) for batch in batches):
        raise InputError(f"{path}: has nulls in the place of tokens or segments. Pack the shards again")
    return batches


# What stands in the lists of a column.
_INSIDE = {
    "segment_lengths": pa.types.is_integer,
    "segment_documents": pa.types.is_string,
    "segment_offsets": pa.types.is_integer,
    "segment_bytes": pa.types.is_integer,
    "loss_spans": pa.types.is_struct,
}


def _check_schema(path: Path, schema: pa.Schema, seq_len: int) -> None:
    if missing := sorted({"input_ids", *_INSIDE} - set(schema.names)):
        raise InputError(f"{path}: has no column {', '.join(missing)}. Pack the shards again")
    kind = schema.field("input_ids").type
    if not pa.types.is_fixed_size_list(kind) or kind.list_size != seq_len or kind.value_type not in (pa.uint16(), pa.uint32()):
        raise InputError(f"{path}: input_ids are {kind}, not fixed_size_list<uint16 or uint32>[{seq_len}]. Pack the shards again")
    for name, fits in _INSIDE.items():
        kind = schema.field(name).type
        whole = pa.types.is_list(kind) and fits(kind.value_type)
        if whole and name == "loss_spans":
            bounds = [kind.value_type.field(place) for place in range(kind.value_type.num_fields)]
            whole = [(bound.name, pa.types.is_integer(bound.type)) for bound in bounds] == [("start", True), ("end", True)]
        if not whole:
            raise InputError(f"{path}: the column {name} is {kind}, which no shard has. Pack the shards again")


def _has_nulls(batch: pa.RecordBatch) -> bool:
    """Of the loss spans a whole row's may be null: all of its tokens count."""
    columns = [batch.column(name) for name in ("input_ids", *_INSIDE)]
    bounds = [batch.column("loss_spans").values.field(name) for name in ("start", "end")]
    return (
        any(column.null_count for column in columns[:-1])
        or any(column.values.null_count for column in columns)
        or any(bound.null_count for bound in bounds)
    )


def _columns(batch: pa.RecordBatch, seq_len: int) -> _Columns:
    ids = batch.column("input_ids").flatten().to_numpy(zero_copy_only=True).reshape(-1, seq_len)
    return _Columns(ids, _lists(batch.column("segment_lengths")), _lists(batch.column("segment_bytes")), _spans(batch.column("loss_spans")))


def _lists(column: Any) -> _Lists:
    return _Lists(column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=False))


def _spans(column: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    if column.null_count == len(column):
        return None
    starts, ends = (column.values.field(name).to_numpy(zero_copy_only=False) for name in ("start", "end"))
    return (column.is_valid().to_numpy(zero_copy_only=False), column.offsets.to_numpy(), starts, ends)


def _covered(spans: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], i: int, seq_len: int) -> np.ndarray | None:
    """(S,) bool: the token lies in a loss span of row i of its batch. None where one is no part of the row."""
    _, offsets, starts, ends = spans
    covered = np.zeros(seq_len, bool)
    for start, end in zip(starts[offsets[i] : offsets[i + 1]].tolist(), ends[offsets[i] : offsets[i + 1]].tolist(), strict=True):
        if not 0 <= start <= end <= seq_len:
            return None
        covered[start:end] = True
    return covered
