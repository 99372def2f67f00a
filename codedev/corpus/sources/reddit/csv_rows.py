"""Posts of Reddit as CSV, one a row under a header with the dumps' own names, where an empty field is a missing one.

Offsets are bytes, a record may span lines. It is read in one piece. Cost: 10 µs a post.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources.lines import Line, lines
from codedev.corpus.sources.reddit.post import Post, is_post, lenient, no_post


def csv_posts(stream: BinaryIO, extent: Extent, limit: int) -> Iterator[tuple[int, int, Post | Failure]]:
    """(offset, length, post or what is wrong) of every row."""
    feed = _Feed(lines(stream, extent, limit))
    csv.field_size_limit(limit)
    rows = csv.reader(feed, strict=True)
    header: list[str] = []
    while True:
        offset, raw = feed.offset, feed.first_line
        try:
            fields = next(rows, None)
        except csv.Error as error:
            kind = "too_large" if "field larger" in str(error) else "invalid_csv"
            yield offset, 0, Failure(kind, f"{error}; a record of {feed.offset - offset:,} bytes", offset, raw=raw)
            continue
        for failure in feed.failures:
            yield failure.offset or 0, 0, failure
        feed.failures = []
        if fields is None:
            return
        if not fields:
            continue  # a blank line is no record
        if not header:
            header = fields
            continue
        if any("\udc80" <= character <= "\udcff" for field in fields if not field.isascii() for character in field):
            yield offset, 0, Failure("invalid_utf8", "the record is not UTF-8", offset, raw=raw)
        elif len(fields) != len(header):
            yield offset, 0, Failure("wrong_columns", f"{len(fields)} fields where the header has {len(header)}", offset, raw=raw)
        else:
            # An empty text is one: a link's selftext.
            post = lenient({name: field for name, field in zip(header, fields, strict=True) if field or name == "selftext"})
            yield offset, feed.offset - offset, post if is_post(post) else no_post(raw, offset)


class _Feed:
    """Decoded lines for the csv module, which asks for just the lines of a record: so `offset` is where the next record starts."""

    def __init__(self, source: Iterator[Line | Failure]) -> None:
        self._lines = source
        self._next: Line | None = None
        self.failures: list[Failure] = []  # met on the way; whoever takes them empties the list
        self.offset = 0
        self._advance()

    def _advance(self) -> None:
        end = self._next[0] + len(self._next[1]) if self._next else 0
        self._next = None
        for line in self._lines:
            if not isinstance(line, Failure):
                self._next = line
                break
            self.failures.append(line)
        self.offset = self._next[0] if self._next else end

    @property
    def first_line(self) -> bytes:
        """The line at `offset`: the next record's first."""
        return self._next[1] if self._next else b""

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self._next is None:
            raise StopIteration
        offset, raw = self._next
        self._advance()
        return raw.decode("utf-8-sig" if offset == 0 else "utf-8", "surrogateescape")
