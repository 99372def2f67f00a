"""CSV and TSV to documents: quoted fields over several lines, any encoding, offsets of the raw bytes.

The csv module parses some hundred records at a time. A record that it cannot parse, or that has not as many fields as the header, is a
failure, and reading goes on at the first line behind its own first one that is by itself a record with as many fields as the header: so a
quote that is never closed costs the lines up to there, and not the rest of the file.
Cost: 4.5 µs a record of five columns and 380 bytes, half of it in the csv module.

Encoding: by the mark (UTF-8, UTF-16); else the recipe's; else UTF-8, when the first 256 KiB are; else what is detected there. Records that
the encoding cannot decode are failures.

Of columns of one name the last one bears it; those before it are kept as `name.2`, `name.3`, …

What it does not do: split a file, since a place to cut cannot be told without reading it; carriage returns alone as line ends; UTF-32.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate, islice
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from codedev._files import damage_kind
from codedev.corpus.document import RAW_PREFIX
from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources import lines
from codedev.corpus.sources.code.text import BinaryError, UndecodableError, decode
from codedev.corpus.sources.tables.columns import Config, Shape, Thing, batch, distinct, document, fields_of, missing_columns, shape_of

_GROUP_BYTES = 1 << 18
_FEW = 8  # records of which a batch is not worth its making
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))

Line = tuple[int, int, str]  # byte offset, bytes, text with its end; bytes that are none in the encoding as lone surrogates
Block = tuple[int, list[int], list[str]]  # byte offset, and of each line its bytes and its text


def encoding_of(head: bytes, config: Config) -> str:
    marked = next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)
    if marked or config.encoding:
        name = marked or codecs.lookup(config.encoding or "").name
        return "utf-16-le" if name == "utf-16" else name
    whole = head[: head.rfind(b"\n") + 1] or head
    try:
        whole.decode()
        return "utf-8"
    except UnicodeDecodeError:
        pass
    try:
        return decode(whole)[1] or "utf-8"
    except (BinaryError, UndecodableError):
        return "utf-8"


def read(stream: BinaryIO, head: bytes, extent: Extent, config: Config) -> Iterator[Thing]:
    """`head` is what the stream, which stands at its beginning, begins with."""
    encoding = encoding_of(head, config)
    if encoding.startswith("utf-16"):
        found = _wide_lines(stream, encoding, config.max_record_bytes)
    else:
        found = _decoded(lines.blocks(stream, extent, config.max_record_bytes), encoding)
    yield from _Table(found, encoding, extent, config).read()


def _decoded(found: Iterator[lines.Line | Failure], encoding: str) -> Iterator[Block | Failure]:
    """0.1 µs a line and 1 ns a byte."""
    for block in found:
        if isinstance(block, Failure):
            yield block
            continue
        at, data = block
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            text = data.decode(encoding, "surrogateescape")
        texts = list(io.StringIO(text, newline="\n"))
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1
        sizes = np.diff(ends, prepend=0).tolist()
        if not data.endswith(b"\n"):
            sizes.append(len(data) - sum(sizes))
        if len(texts) != len(sizes):  # an encoding in which other bytes than one are a line end
            texts = [part.decode(encoding, "surrogateescape") for part in lines.split(data)]
        if at == 0:
            texts[0] = texts[0].removeprefix("\ufeff")
        yield at, sizes, texts


def _wide_lines(stream: BinaryIO, encoding: str, limit: int) -> Iterator[Block | Failure]:
    """Lines of UTF-16: a line feed is two bytes at an even place."""
    feed = "\n".encode(encoding)
    at, held, dropped = 0, b"", 0  # where a line begins, its bytes so far, and how many of them are not kept
    while True:
        block, error = lines.read_block(stream, 1 << 20)
        data, begin, search = held + block, 0, max(0, len(held) - 1)
        while (found := data.find(feed, search)) >= 0:
            search = found + 1
            if found % 2 == 0:
                yield _wide_line(data[begin : found + 2], at, dropped, encoding, limit)
                at += found + 2 - begin + dropped
                begin, search, dropped = found + 2, found + 2, 0
        held = data[begin:]
        if len(held) > limit + RAW_PREFIX:
            odd = len(held) % 2  # places stay even
            dropped += len(held) - odd - RAW_PREFIX
            held = held[:RAW_PREFIX] + held[len(held) - odd :]
        if error is not None:
            yield Failure(damage_kind(error), f"the stream ends damaged after {at:,} bytes: {error}", at)
            return
        if not block:
            if held:
                yield _wide_line(held, at, dropped, encoding, limit)
            return


def _wide_line(raw: bytes, at: int, dropped: int, encoding: str, limit: int) -> Block | Failure:
    if len(raw) + dropped > limit:
        return Failure("too_large", f"a line of {len(raw) + dropped:,} bytes; max_record_bytes is {limit:,}", at, raw=raw)
    text = raw.decode(encoding, "surrogatepass" if len(raw) % 2 == 0 else "replace")
    return at, [len(raw)], [text if at else text.removeprefix("\ufeff")]


class _Piece(NamedTuple):
    """Lines as one text, which costs their bytes and four for each."""

    at: int
    sizes: np.ndarray
    size: int
    text: str

    @classmethod
    def of(cls, at: int, sizes: Any, text: str) -> _Piece:
        narrow = np.asarray(sizes, np.int32 if max(sizes) < 1 << 31 else np.int64)
        return cls(at, narrow, int(narrow.sum(dtype=np.int64)), text)

    def lines(self) -> Iterator[str]:
        return iter(io.StringIO(self.text, newline="\n"))


class _Table:
    """Blocks of lines in, things out."""

    def __init__(self, found: Iterator[Block | Failure], encoding: str, extent: Extent, config: Config) -> None:
        self._found = found
        self._encoding = encoding
        self._extent = extent
        self._config = config
        self._limit = config.max_record_bytes
        # The lines from `_place` on are not parsed yet; `_bounds`: where each begins, and the last one ends.
        self._texts: list[str] = []
        self._bounds: list[int] = [0]
        self._place = 0
        self._failure: Failure | None = None  # what follows them
        self._ended = False
        self._header: tuple[str, ...] = ()
        self._delimiter = config.delimiter or ""
        csv.field_size_limit(self._limit)

    def read(self) -> Iterator[Thing]:
        shape: Shape | None = None
        while self._load(_GROUP_BYTES) or self._failure is not None:
            if self._place == len(self._texts):
                if self._failure is not None:
                    yield self._failure
                    self._failure = None
                continue
            if not self._delimiter:
                first = next((text for text in self._texts if text.strip()), "")
                self._delimiter = max(",;\t|", key=first.count)
            begin = self._place
            rows, ends, error = self._parse()
            used = ends[-1] if ends else begin
            if shape is None and any(rows):
                place = next(place for place, fields in enumerate(rows) if fields)
                line = ends[place - 1] if place else begin
                if _has_escapes(rows[place]):
                    yield self._undecodable("header", self._bounds[line], self._texts[line])
                    return
                self._header = distinct(rows[place])
                shape = shape_of(self._header, self._config)
                if missing := missing_columns(shape, self._header):
                    yield Failure("no_text_column", missing, self._bounds[line])
                    return
                begin = ends[place]
                rows, ends = rows[place + 1 :], ends[place + 1 :]
            if rows and shape is not None:
                yield from self._documents(rows, [begin, *ends], shape)
            self._drop(used - self._place)
            size = self._bounds[-1] - self._bounds[self._place]
            if self._place < len(self._texts) and (error is not None or size > self._limit):
                yield self._recover(error)
                if shape is None:  # without a header nothing can be told
                    return
            elif used == begin and size >= _GROUP_BYTES:  # a record of many lines
                if shape is None:
                    yield Failure("too_large", f"a header that does not end within {size:,} bytes", self._bounds[self._place])
                    return
                yield from self._long(shape)

    def _load(self, wanted: int) -> bool:
        """Hold lines of `wanted` bytes, as far as there are. Whether any are held."""
        while self._bounds[-1] - self._bounds[self._place] < wanted and not self._ended and self._failure is None:
            block = next(self._found, None)
            if block is None:
                self._ended = True
            elif isinstance(block, Failure):
                self._failure = block
            else:
                at, sizes, texts = block
                if self._place == len(self._texts):
                    self._texts, self._bounds, self._place = [], [at], 0
                self._texts += texts
                self._bounds += accumulate(sizes[1:], initial=at + sizes[0])
        return self._place < len(self._texts)

    def _drop(self, number: int) -> None:
        self._place += number
        if self._place * 2 > len(self._texts):  # so that each line is moved at most once
            del self._texts[: self._place]
            del self._bounds[: self._place]
            self._place = 0

    def _held(self) -> Iterator[str]:
        return map(self._texts.__getitem__, range(self._place, len(self._texts)))

    def _parse(self) -> tuple[list[list[str]], list[int], str | None]:
        """The whole records of the held lines up to one that is bad, the place behind the last line of each, and what is wrong with the
        bad one. Neither more lines nor an error: the next record goes on behind what is held."""
        reader = csv.reader(self._held(), delimiter=self._delimiter, strict=True)
        rows: list[list[str]] = []
        ends: list[int] = []
        width, place = len(self._header), self._place
        try:
            for fields in reader:  # 0.15 µs a record beside the csv module
                if len(fields) != width and fields:  # a blank line is no record
                    if width:
                        return rows, ends, f"{len(fields)} fields where the header has {width}"
                    width = len(fields)
                rows.append(fields)
                ends.append(place + reader.line_num)
        except csv.Error as wrong:
            if place + reader.line_num < len(self._texts) or "unexpected end" not in str(wrong):
                return rows, ends, str(wrong)
            if self._ended or self._failure is not None:
                return rows, ends, "a quote is not closed"
        return rows, ends, None

    def _long(self, shape: Shape) -> Iterator[Thing]:
        """The record at hand, which goes on behind what is held: parsed once, its lines kept in few pieces while it is gathered."""
        kept: list[_Piece] = [_Piece.of(self._bounds[self._place], np.diff(self._bounds[self._place :]), "".join(self._held()))]
        last: list[Block] = []  # the blocks since the last piece

        def pack() -> None:
            if last:
                sizes = np.concatenate([sizes for _, sizes, _ in last])
                kept.append(_Piece.of(last[0][0], sizes, "".join(text for _, _, texts in last for text in texts)))
                last.clear()

        def feed() -> Iterator[str]:
            yield from kept[0].lines()
            size, begun = kept[0].size, 0
            while size <= self._limit and self._failure is None and (block := next(self._found, None)) is not None:
                if isinstance(block, Failure):
                    self._failure = block
                    return
                last.append(block)
                size += sum(block[1])
                begun += sum(block[1])
                yield from block[2]
                if begun >= _GROUP_BYTES:
                    pack()
                    begun = 0
            self._ended = self._failure is None and size <= self._limit

        reader = csv.reader(feed(), delimiter=self._delimiter, strict=True)
        fields: list[str] = []
        error = None
        try:
            fields = next(reader)
            if len(fields) != len(self._header):
                error = f"{len(fields)} fields where the header has {len(self._header)}"
        except csv.Error as wrong:
            error = str(wrong)
        pack()
        whole = error is None
        number = reader.line_num
        if error is not None and "where the header has" in error:
            inside = islice((line for piece in kept for line in piece.lines()), 1, number)
            whole = len(self._header) == 1 or not all(map(self._is_record, inside))
        elif error is not None and "unexpected end" in error:
            error = "a quote is not closed" if self._ended or self._failure is not None else None
        start, first = kept[0].at, next(kept[0].lines())
        if not whole:  # what follows its first line is read once more
            self._give_back(kept)
            yield self._recover(error)
            return
        while number > len(kept[0].sizes):
            number -= len(kept.pop(0).sizes)
        end = kept[0].at + int(kept[0].sizes[:number].sum())
        self._give_back(kept)
        self._drop(number)
        if error is not None:
            yield self._passed("wrong_columns", error, (start, 0, first), end)
        elif fields:
            yield self._document(fields, start, end - start, first, shape)

    def _give_back(self, pieces: list[_Piece]) -> None:
        """Read the pieces' lines again, before what follows them."""
        again = deque(pieces)
        pieces.clear()

        def found(after: Iterator[Block | Failure], failure: Failure | None) -> Iterator[Block | Failure]:
            while again:
                piece = again.popleft()
                yield piece.at, piece.sizes.tolist(), list(piece.lines())
            if failure is not None:
                yield failure
            yield from after

        self._found, self._failure, self._ended = found(self._found, self._failure), None, False
        self._texts, self._bounds, self._place = [], [0], 0
        self._load(1)

    def _line(self, place: int) -> Line:
        return self._bounds[place], self._bounds[place + 1] - self._bounds[place], self._texts[place]

    def _recover(self, error: str | None) -> Failure:
        """Pass over a bad record, up to the first line that is a record by itself."""
        first = self._line(self._place)
        kind = "invalid_csv"
        if error is None or "field larger" in error:
            kind, error = "too_large", f"a quoted field that does not end within max_record_bytes = {self._limit:,}"
        elif "where the header has" in error:
            kind = "wrong_columns"
            reader = csv.reader(self._held(), delimiter=self._delimiter, strict=True)
            with suppress(csv.Error):  # one that goes on behind what is held
                next(reader)
                inside = range(self._place + 1, self._place + reader.line_num)
                if not inside or len(self._header) == 1 or not all(self._is_record(self._texts[place]) for place in inside):
                    # One failure, over however many lines: none of its further lines begins a record.
                    end = self._bounds[self._place + reader.line_num]
                    self._drop(reader.line_num)
                    return self._passed(kind, error, first, end)
        self._drop(1)
        while True:
            held = range(self._place, len(self._texts))
            place = next((place for place in held if self._is_record(self._texts[place])), None)
            end = self._bounds[-1 if place is None else place]
            self._drop(len(held) if place is None else place - self._place)
            if place is not None or not self._load(_GROUP_BYTES):
                return self._passed(kind, error, first, end)

    def _passed(self, kind: str, error: str, first: Line, end: int) -> Failure:
        size = end - first[0]
        return Failure(kind, f"{error}; {size:,} bytes are passed over", first[0], raw=self._raw(first[2]))

    def _raw(self, text: str) -> bytes:
        return text.encode(self._encoding, "surrogatepass" if self._encoding.startswith("utf-16") else "surrogateescape")

    def _is_record(self, line: str) -> bool:
        if line.count('"') % 2 or line.count(self._delimiter) + 1 < len(self._header):
            return False
        try:
            fields = next(csv.reader([line], delimiter=self._delimiter, strict=True), [])
        except csv.Error:
            return False
        return len(fields) == len(self._header)

    def _documents(self, rows: list[list[str]], ends: list[int], shape: Shape) -> Iterator[Thing]:
        """`ends` has the place of the first line in front."""
        if not all(rows):
            kept = [place for place, fields in enumerate(rows) if fields]
            begins, ends = [ends[place] for place in kept], [ends[place + 1] for place in kept]
            rows = [rows[place] for place in kept]
        else:
            begins, ends = ends[:-1], ends[1:]
        if not rows:
            return
        offsets = [self._bounds[place] for place in begins]
        lengths = [self._bounds[place] - offset for place, offset in zip(ends, offsets, strict=True)]
        made = self._batch(rows, offsets, lengths, shape) if len(rows) >= _FEW else None
        if made is not None:
            yield made
            return
        for fields, begin, offset, length in zip(rows, begins, offsets, lengths, strict=True):
            yield self._document(fields, offset, length, self._texts[begin], shape)

    def _document(self, fields: list[str], offset: int, length: int, line: str, shape: Shape) -> Thing:
        """`line`: its first one."""
        if length > self._limit:
            return Failure("too_large", f"a record of {length:,} bytes; max_record_bytes is {self._limit:,}", offset, raw=self._raw(line))
        if _has_escapes(fields):
            return self._undecodable("record", offset, line)
        record: dict[str, Any] = dict(zip(self._header, fields, strict=True))
        return document(record, offset, length, shape, self._extent, self._config)

    def _undecodable(self, what: str, offset: int, line: str) -> Failure:
        kind = "invalid_utf8" if self._encoding == "utf-8" else "invalid_encoding"
        return Failure(kind, f"the {what} is not {self._encoding}", offset, raw=self._raw(line))

    def _batch(self, rows: list[list[str]], offsets: list[int], lengths: list[int], shape: Shape) -> pa.RecordBatch | None:
        """The records as one batch; None where one of them is not as all others."""
        if shape.layout != "text" or shape.template or max(lengths) > self._limit:
            return None
        columns: dict[str, Any] = dict(zip(self._header, zip(*rows, strict=True), strict=True))
        text = columns.pop(shape.text[0])
        dumps = orjson.dumps
        try:
            made, left = fields_of({field: list(columns[name]) for field, name in shape.named}, offsets, self._extent, self._config)
            taken = [name for field, name in shape.named if field not in left]
            names = sorted(name for name in columns if name not in taken)
            if names:
                metas = [dumps(dict(zip(names, values, strict=True))) for values in zip(*(columns[name] for name in names), strict=True)]
            else:
                metas = [b"{}"] * len(offsets)
            named = dict(shape.named)
            for field, unused in left.items():  # only some rows keep the value
                for row in set(range(len(offsets))) - set(unused):
                    record = orjson.loads(metas[row])
                    del record[named[field]]
                    metas[row] = dumps(record)
            made |= {"text": text, "meta": pa.array(metas, pa.binary()).view(pa.string())}
            return batch(made, offsets, lengths, self._extent, self._config)
        except (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError):  # a lone surrogate: bytes that are none in the encoding
            return None


def _has_escapes(fields: list[str]) -> bool:
    return any(not field.isascii() and _SURROGATE.search(field) for field in fields)
