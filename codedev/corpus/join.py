"""Records that belong together are brought together out of core: a thread of comments, a question with its answers.

`read` yields Pieces (corpus/source.py); a unit writes them in sorted runs beside its other tables. A round has as many spans as its pieces
need to be PART_BYTES each; a span is a work unit of its own, which takes its share of the hashes of keys out of every run, sorts it and
gives the pieces of each key to `gather`. The number of spans and the order in them depend on the pieces alone, so that neither workers
nor the size of units show in the corpus.

Memory: RUN_BYTES of pieces in a unit that writes, and in one that gathers a span, which is larger than PART_BYTES where one key's pieces
are. Cost: about 10 µs a piece; runs x spans row groups are read: at 256 KB each twice the bytes up to some hundred runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from codedev._run import atomic_write, content_key
from codedev.corpus.source import Piece

RUN_BYTES = 128 << 20
PART_BYTES = 96 << 20
_PIECE_BYTES = 400  # what a piece takes beside its data, as a Python object
_GROUP_BYTES = 256 << 10

_RUN = pa.schema(
    [
        pa.field("hash", pa.uint64()),  # of the key
        pa.field("key", pa.binary()),  # UTF-8, and lone surrogates of a stranger's JSON
        pa.field("file", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("member", pa.string()),
        pa.field("data", pa.large_binary()),
        pa.field("length", pa.int64()),
        pa.field("records", pa.int32()),
    ]
)
_ORDER = [(name, "ascending") for name in ("hash", "key", "file", "offset", "member", "data")]


class Span(NamedTuple):
    """A share of a round's pieces: those whose key's hash lies in the part."""

    round: int
    part: int
    parts: int
    runs: str  # name of the list of runs under `.work/pieces`, a hash of what is in it


class Written(NamedTuple):
    """The pieces of one round that a unit wrote."""

    runs: list[str]  # names of files in `.work/scored`
    bytes: int  # in memory


class PieceWriter:
    """Takes pieces and writes them in runs `<stem>.<round>.<number>.pieces`, each sorted by the hash of the key."""

    def __init__(self, stem: Path) -> None:
        self._stem = stem
        self._held: dict[int, list[tuple[Any, ...]]] = {}
        self._size = 0
        self._runs: dict[int, list[Path]] = {}
        self._bytes: dict[int, int] = {}

    def add(self, piece: Piece, file: str) -> None:
        key = piece.key.encode("utf-8", "surrogatepass")
        row = (xxhash.xxh3_64_intdigest(key), key, piece.file or file, piece.offset, piece.member, piece.data, piece.length, piece.records)
        self._held.setdefault(piece.round, []).append(row)
        size = len(piece.data) + _PIECE_BYTES
        self._size += size
        self._bytes[piece.round] = self._bytes.get(piece.round, 0) + size
        if self._size >= RUN_BYTES:
            self.flush()

    def flush(self) -> None:
        for number, rows in sorted(self._held.items()):
            runs = self._runs.setdefault(number, [])
            path = self._stem.with_name(f"{self._stem.name}.{number}.{len(runs):05d}.pieces")
            table = pa.Table.from_arrays(
                [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _RUN, strict=True)], schema=_RUN
            ).sort_by(_ORDER[:1])
            with atomic_write(path) as temporary:
                rows_of_group = max(1, _GROUP_BYTES * table.num_rows // max(1, table.nbytes))
                pq.write_table(
                    table, temporary, row_group_size=rows_of_group, compression="zstd", compression_level=1, use_dictionary=["file"]
                )
            runs.append(path)
        self._held, self._size = {}, 0

    @property
    def paths(self) -> list[Path]:
        return [path for runs in self._runs.values() for path in runs]

    def facts(self) -> dict[str, Written]:
        """By round, as a receipt holds it."""
        return {str(number): Written([path.name for path in runs], self._bytes[number]) for number, runs in self._runs.items()}


def spans(work: Path, number: int, written: Iterable[Written]) -> list[Span]:
    """The spans of round `number` over what its units wrote, given in their order; none where nothing was."""
    written = list(written)
    runs = [name for one in written for name in one.runs]
    if not runs:
        return []
    parts = -(-sum(one.bytes for one in written) // PART_BYTES)
    name = content_key(runs)
    with atomic_write(work / "pieces" / f"{name}.json") as temporary:
        temporary.write_bytes(orjson.dumps(runs))
    return [Span(number, part, parts, name) for part in range(parts)]


def groups(work: Path, span: Span) -> Iterator[tuple[str, list[Piece]]]:
    """(key, its pieces) of the span, ordered by the hash of the key, then by file, offset, member and data."""
    low, high = -(-(span.part << 64) // span.parts), -(-((span.part + 1) << 64) // span.parts)  # hashes low <= hash < high
    names = orjson.loads((work / "pieces" / f"{span.runs}.json").read_bytes())
    tables = [table for name in names for table in _between(work / "scored" / name, low, high - 1)]
    if not tables:
        return
    table = pa.concat_tables(tables)
    del tables
    order = pc.sort_indices(table, _ORDER)
    for raw, rows in itertools.groupby(_rows(table, order), key=lambda row: row[1]):
        key = raw.decode("utf-8", "surrogatepass")
        pieces = [Piece(span.round, key, row[5], row[7], row[2], row[3], row[6], row[4]) for row in rows]
        yield key, pieces


def _rows(table: pa.Table, order: pa.Array) -> Iterator[tuple[Any, ...]]:
    """Rows in order, some thousand at a time as Python objects."""
    for start in range(0, len(order), 4096):
        batch = table.take(order.slice(start, 4096))
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _between(path: Path, least: int, greatest: int) -> Iterator[pa.Table]:
    """The rows of a run with least <= hash <= greatest."""
    with pq.ParquetFile(path) as file:
        groups = []
        for number in range(file.num_row_groups):
            bounds = file.metadata.row_group(number).column(0).statistics
            if bounds.min <= greatest and bounds.max >= least:
                groups.append(number)
        if groups:
            table = file.read_row_groups(groups, use_threads=False)
            hashes = table.column("hash").to_numpy()
            start, end = hashes.searchsorted(least, "left"), hashes.searchsorted(greatest, "right")
            if end > start:
                # A copy: a slice would keep the row groups whole.
                yield table.slice(start, end - start).take(pa.array(range(end - start)))
