"""Where spans of a text lie once C4's lines alone are kept of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")


def moved_spans(column: pa.Array, before: pa.Array, after: pa.Array) -> pa.Array:
    """A column of lists of (type, offset, length) in UTF-8 bytes of `before`, as they stand in `after`; what was cut out is gone.
    A Python loop over the documents that changed and have spans: 3 µs a line of theirs."""
    marked = pc.and_(pc.greater(pc.list_value_length(column), 0), pc.not_equal(before, after))
    told = np.flatnonzero(pc.fill_null(marked, False).to_numpy(zero_copy_only=False))
    if not len(told):
        return column
    lists = column.to_pylist()
    for row in told.tolist():
        lists[row] = list(_moved(lists[row], before[row].as_py(), after[row].as_py()))
    return pa.array(lists, column.type)


def _moved(spans: list[dict[str, object]], before: str, after: str) -> Iterator[dict[str, object]]:
    """The spans that stand in a piece that was kept, in their order."""
    pieces = list(_kept_pieces(before, after))
    for span in spans:
        start, length = int(span["offset"]), int(span["length"])  # type: ignore[call-overload]
        for old, new, size in pieces:
            if old <= start and start + length <= old + size:
                yield {**span, "offset": new + start - old}
                break


def _kept_pieces(before: str, after: str) -> Iterator[tuple[int, int, int]]:
    """(offset before, offset after, length) in bytes of the pieces that were kept, in order: lines without their citations and the blanks
    around them. A line of `after` is the first of `before`, behind those taken already, that gives it."""
    lines = after.split("\n")
    taken = old = new = 0
    for line in before.splitlines(keepends=True):
        stripped = line.strip()
        if taken < len(lines) and stripped and _CITATION.sub("", stripped) == lines[taken]:
            first = old + len(line[: line.find(stripped)].encode())
            for start, end in _between_citations(stripped):
                size = len(stripped[start:end].encode())
                yield first + len(stripped[:start].encode()), new, size
                new += size
            new += 1  # the line end
            taken += 1
        old += len(line.encode())


def _between_citations(line: str) -> Iterator[tuple[int, int]]:
    at = 0
    for found in _CITATION.finditer(line):
        yield at, found.start()
        at = found.end()
    yield at, len(line)
