"""What a source's reader yields, as record batches of the DOCUMENT, DROPPED and ERROR schemas, with every record counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from codedev._errors import RunError
from codedev.corpus import guard
from codedev.corpus.document import DOCUMENT, DROPPED, ERROR, ORIGIN, RAW_PREFIX
from codedev.corpus.source import Document, Drop, Extent, Failure, Piece, SourceConfig
from codedev.corpus.sources import DEFAULT_KIND, module_of

BATCH_ROWS = 1024
BATCH_BYTES = 8 << 20  # of text: what a worker holds at a time

Thing: TypeAlias = Document | Drop | Failure | Piece | pa.RecordBatch
_NOWHERE = Extent("", "", 0, -1, 0)  # of what `gather` yields: it names files itself


class Reader:
    """Batches of documents from extents or from groups of pieces; what is no document is kept aside until it is asked for.

    `counts` balances in the end: rows_in = rows_out + joined + drops + errors. Pieces go to `take_piece` with the name of their file, and
    are counted where they end. A document with `records=0`, all of whose records are counted with earlier ones, is a record more: `joined`
    would fall below zero.
    """

    def __init__(self, config: SourceConfig, base: Path, take_piece: Callable[[Piece, str], None] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._config = config
        self._base = base
        self._kind = config.kind or DEFAULT_KIND[config.type]
        self._module = module_of(config.type)
        self._take_piece = take_piece
        # Some hundred bytes a record, without text.
        self._drops: list[tuple[Extent, Drop]] = []
        self._failures: list[tuple[Extent, Failure]] = []

    def batches(self, extents: Iterable[Extent], drain: Callable[[], None] | None = None) -> Iterator[pa.RecordBatch]:
        """`drain` is called whenever BATCH_ROWS drops and failures have gathered: it should take them."""
        return self._batches(
            ((e, thing) for e in guard.numbered(extents) for thing in self._module.read(e, self._config, self._base)), drain
        )

    def gathered(
        self, number: int, groups: Iterable[tuple[str, list[Piece]]], drain: Callable[[], None] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """What the source's `gather` makes of the groups. Raises RunError where it loses or invents records."""
        return self._batches(((_NOWHERE, thing) for key, pieces in groups for thing in self._gather(number, key, pieces)), drain)

    def _gather(self, number: int, key: str, pieces: list[Piece]) -> Iterator[Thing]:
        came = sum(piece.records for piece in pieces)
        went = 0
        for thing in self._module.gather(number, key, pieces, self._config):
            went += thing.records if isinstance(thing, Document | Piece) else 1
            yield thing if thing.file else thing._replace(file=pieces[0].file)
        if came != went:
            what = f"{came} records with the key {key!r} became {went}"
            raise RunError(f"{self._config.name}: {what}. This is a bug in codedev; please report it")

    def _batches(self, things: Iterable[tuple[Extent, Thing]], drain: Callable[[], None] | None) -> Iterator[pa.RecordBatch]:
        held: list[tuple[Extent, Document]] = []
        size = 0
        for extent, record in things:
            match record:
                case Document():
                    self.counts["rows_in"] += record.records or 1
                    if record.records > 1:
                        self.counts["joined"] += record.records - 1
                    held.append((extent, record))
                    size += len(record.text)
                    if len(held) >= BATCH_ROWS or size >= BATCH_BYTES:
                        yield from self._flush(held)
                        held, size = [], 0
                case Drop():
                    self.counts["rows_in"] += 1
                    self.counts[f"drop.{record.reason}"] += 1
                    self._drops.append((extent, record))
                case Failure():
                    self.counts["rows_in"] += 1
                    self._fail(extent, record)
                case Piece():
                    if self._take_piece is None:
                        raise RunError(f"{self._config.name}: nothing takes its pieces. This is a bug in codedev; please report it")
                    self._take_piece(record, extent.name)
                case _:
                    yield from self._flush(held)
                    held, size = [], 0
                    self.counts.update(rows_in=record.num_rows, rows_out=record.num_rows)
                    yield record
            if drain and len(self._drops) + len(self._failures) >= BATCH_ROWS:
                drain()
        yield from self._flush(held)

    def _fail(self, extent: Extent, failure: Failure) -> None:
        self.counts[f"error.{failure.kind}"] += 1
        self._failures.append((extent, failure))

    def _flush(self, held: list[tuple[Extent, Document]]) -> Iterator[pa.RecordBatch]:
        if not held:
            return
        try:
            batch = _document_batch(held, self._config, self._kind)
        except UnicodeEncodeError:  # lone surrogates, which no encoding can hold: those rows become failures
            clean = []
            for extent, document in held:
                if _encodable(document):
                    clean.append((extent, document))
                else:
                    others = max(document.records - 1, 0)  # one error row stands for all of them
                    self.counts["joined"] -= others
                    self.counts["rows_in"] -= others
                    message = "the record holds lone surrogates"
                    self._fail(extent, Failure("invalid_unicode", message, document.offset, document.member, file=document.file))
            yield from self._flush(clean)
            return
        self.counts["rows_out"] += batch.num_rows
        yield batch

    def drop_batches(self) -> Iterator[pa.RecordBatch]:
        """The drops since the last call, in one batch of the DROPPED schema; none, no batch."""
        if not self._drops:
            return
        drops = [drop for _, drop in self._drops]
        columns: dict[str, Any] = {
            "id": [_storable(drop.id) for drop in drops],
            "source": [self._config.name] * len(drops),
            "kind": [self._kind] * len(drops),
            "url": [drop.url and _storable(drop.url) for drop in drops],
            "origin": _origins(self._drops),
            "meta": [drop.meta for drop in drops],
            "stage": ["read"] * len(drops),
            "reason": [drop.reason for drop in drops],
            "evidence": [drop.evidence for drop in drops],
        }
        self._drops = []
        yield _batch(columns, DROPPED, len(drops))

    def failure_batches(self) -> Iterator[pa.RecordBatch]:
        """The failures since the last call, in one batch of the ERROR schema; none, no batch."""
        if not self._failures:
            return
        failures = [failure for _, failure in self._failures]
        columns: dict[str, Any] = {
            "source": [self._config.name] * len(failures),
            "file": [failure.file or extent.name for extent, failure in self._failures],
            "offset": [failure.offset for failure in failures],
            "member": [failure.member and _storable(failure.member) for failure in failures],
            "kind": [failure.kind for failure in failures],
            "message": [_storable(failure.message) for failure in failures],
            "raw": [failure.raw[:RAW_PREFIX] for failure in failures],
        }
        self._failures = []
        yield _batch(columns, ERROR, len(failures))


def _document_batch(held: list[tuple[Extent, Document]], config: SourceConfig, kind: str) -> pa.RecordBatch:
    """Python objects to Arrow: about 3 µs a document."""
    columns: dict[str, Any] = dict(zip(Document._fields, zip(*(document for _, document in held), strict=True), strict=True))
    columns["source"] = [config.name] * len(held)
    columns["kind"] = [config.kind or own or kind for own in columns["kind"]]
    columns["licence"] = [own or config.licence for own in columns["licence"]]
    columns["origin"] = _origins(held)
    return _batch(columns, DOCUMENT, len(held))


def _origins(held: list[tuple[Extent, Any]]) -> pa.StructArray:
    """Column by column: dictionaries would cost three times as much."""
    columns = (
        pa.array([thing.file or extent.name for extent, thing in held], pa.string()),
        pa.array([thing.offset for _, thing in held], pa.int64()),
        pa.array([thing.length for _, thing in held], pa.int64()),
        pa.array([thing.member and _storable(thing.member) for _, thing in held], pa.string()),
    )
    return pa.StructArray.from_arrays(columns, fields=list(ORIGIN))


def _batch(columns: dict[str, Any], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    """A batch of `schema`; columns that are not given are null."""
    arrays = [_array(columns[field.name], field.type) if field.name in columns else pa.nulls(rows, field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode()
    return pa.array(values, kind)


def _storable(text: str) -> str:
    """`text` with lone surrogates, which UTF-8 cannot hold, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _encodable(document: Document) -> bool:
    try:
        for field in document._replace(member=None):  # which is escaped
            if isinstance(field, str):
                field.encode()
    except UnicodeEncodeError:
        return False
    return True
