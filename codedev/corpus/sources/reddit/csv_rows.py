"""Posts of Reddit as CSV, one a row under a header with the dumps' own names, where an empty field is a missing one.

Offsets are bytes, a record may span lines. It is read in one piece. Cost: 10 µs a post.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources.lines import Line, blocks
from codedev.corpus.sources.reddit.post import Post, is_post, lenient, no_post

_SUBREDDIT = re.compile(r"/r/(\w+)/")
_ENDS = re.compile(rb"[\r\n]*+")


@contextmanager
def fields_up_to(limit: int) -> Iterator[None]:
    """The csv module knows one limit for all its readers: it is put back, or a small one would be the next source's too."""
    before = csv.field_size_limit(limit)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def csv_posts(stream: BinaryIO, extent: Extent, limit: int) -> Iterator[tuple[int, int, Post | Failure]]:
    """(offset, length, post or what is wrong) of every row."""
    feed = _Feed(blocks(stream, extent, limit))
    rows = csv.reader(feed, strict=True)
    header: list[str] = []
    while True:
        feed.skip_blank_lines()
        offset, raw = feed.offset, feed.first_line
        before = csv.field_size_limit(limit)  # `fields_up_to` in short: 0.8 µs a row less
        damage = None
        try:
            fields = next(rows, None)
        except csv.Error as error:
            damage = str(error)
        finally:
            csv.field_size_limit(before)
        if damage:
            kind = "too_large" if "field larger" in damage else "invalid_csv"
            yield offset, 0, Failure(kind, f"{damage}; a record of {feed.offset - offset:,} bytes", offset, raw=raw)
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
            record = {name: field for name, field in zip(header, fields, strict=True) if field or name == "selftext"}
            if "subreddit" not in record and (found := _SUBREDDIT.search(record.get("permalink", ""))):
                record["subreddit"] = found[1]
            post = lenient(record)
            yield offset, feed.offset - offset, post if is_post(post) else no_post(raw, offset)


class _Feed:
    """Decoded lines for the csv module, which asks for just the lines of a record: so `offset` is where the next record starts."""

    def __init__(self, source: Iterator[Line | Failure]) -> None:
        self._blocks = source
        self._start = 0  # of the block
        self._block = b""
        self._at = 0  # in the block: where the next line starts
        self.failures: list[Failure] = []  # met on the way; whoever takes them empties the list
        self._fill()

    def _fill(self) -> None:
        """Take the next block when this one is used up."""
        if self._at < len(self._block):
            return
        for block in self._blocks:
            if not isinstance(block, Failure):
                self._start, self._block = block
                self._at = 0
                return
            self.failures.append(block)

    def _end(self) -> int:
        return self._block.find(b"\n", self._at) + 1 or len(self._block)

    @property
    def offset(self) -> int:
        return self._start + self._at

    @property
    def first_line(self) -> bytes:
        """The line at `offset`: the next record's first."""
        return self._block[self._at : self._end()]

    def skip_blank_lines(self) -> None:
        """Where a record may start, and all in one: a bomb of them would cost 1 µs a byte."""
        while self._block[self._at : self._at + 1] in (b"\r", b"\n"):
            run = _ENDS.match(self._block, self._at)
            end = self._block.rfind(b"\n", self._at, run.end() if run else self._at) + 1
            if end <= self._at:
                return
            self._at = end
            self._fill()

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self._at >= len(self._block):
            raise StopIteration
        offset, raw = self._start + self._at, self.first_line
        self._at += len(raw)
        if self._at >= len(self._block):
            self._fill()
        return raw.decode("utf-8-sig" if offset == 0 else "utf-8", "surrogateescape")
