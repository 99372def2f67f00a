"""The elements of a JSON array one by one, with their byte offsets, in bounded memory.

The array is the whole document, or stands under a key of one object (`{"data": [...]}`; several such keys are read one after another).
The same for JSON objects that follow one another over several lines, as `jq .` writes them. An element is not parsed here: whoever reads
it does that, and loses it alone if it is no JSON.

A bracket or a quote that is missing is noticed soon after; that element becomes a failure and reading goes on at the next one that begins
as the first one did, `{"<its first key>":`. Cost: 1 GB/s a core, and 0.4 µs an element. Memory: two blocks, or the largest element.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from codedev._files import damage_kind, is_damage
from codedev.corpus.document import RAW_PREFIX
from codedev.corpus.source import Failure
from codedev.kernels import json_array as kernel

_BLOCK = 1 << 18
_MARKS = 4096
_AHEAD = 1 << 16  # bytes looked at behind the end of an array

_MARK = b"\xef\xbb\xbf"
_STRING = rb'"(?:[^"\\\n]|\\.)*+"'
_SCALAR = rb"(?:" + _STRING + rb"|[-+.\w]+)"
_KEY = _STRING + rb"\s*+:\s*+"
# An object up to the array that one of its keys holds; what stands before it are scalars.
_WRAPPED = re.compile(rb"\s*+\{\s*+(?P<beside>(?:" + _KEY + _SCALAR + rb"\s*+,\s*+)*+)(?P<key>" + _STRING + rb")\s*+:\s*+\[")
_NEXT_ARRAY = re.compile(rb"\s*+,\s*+(?P<beside>(?:" + _KEY + _SCALAR + rb"\s*+,\s*+)*+)" + _KEY + rb"\[")
_BLANKS = re.compile(rb"\s*+")
_CLOSED_OBJECT = re.compile(rb"(?:\s*+,\s*+(?P<beside>(?:" + _KEY + _SCALAR + rb"\s*+,?\s*+)*+))?\}")
_FIRST_KEY = re.compile(rb"\{\s*+(" + _STRING + rb")\s*+:")
_ANY_OBJECT = re.compile(rb'(?:[,}\]]\s*+|\n)(?=\{\s*+")')

Element = tuple[int, bytes]  # byte offset, the element without white space around it


class Beside(NamedTuple):
    """What stands beside the array in its object: scalars under other keys."""

    offset: int
    data: bytes


def wrapped(head: bytes) -> bytes | None:
    """The key, with its quotes, under which an object has an array of objects, when `head` is the beginning of such a document."""
    found = _WRAPPED.match(head := head.removeprefix(_MARK))
    if found is None or head[found.end() :].lstrip()[:1] not in (b"", b"{", b"]"):
        return None
    return found["key"]


def elements(stream: BinaryIO, limit: int, form: str = "array") -> Iterator[Element | Beside | Failure]:
    """The elements of the array at the beginning of `stream`; one over the limit is a failure. Forms: `array`; `wrapped`, for which
    `wrapped` must have found an array; `values`, for objects one after another."""
    return _Scan(stream, limit, form).run()


class _Scan:
    """What is being read: `buffer` holds the bytes from `base` on that are still needed."""

    def __init__(self, stream: BinaryIO, limit: int, form: str) -> None:
        self._stream = stream
        self._limit = limit
        self._form = form
        self._buffer = bytearray()
        self._base = 0  # offset of buffer[0] in the stream
        self._ended = False
        self._damage: Exception | None = None
        self._lost = False  # nothing was found to go on with
        self._first_key: re.Pattern[bytes] | None = None
        self._array = form != "values"
        self._state = kernel.new_state(self._array)
        self._at = 0  # in the buffer: what has been scanned

    def run(self) -> Iterator[Element | Beside | Failure]:
        yield from self._opening()
        marks = np.empty((_MARKS, 2), np.int64)
        while True:
            view = np.frombuffer(self._buffer, np.uint8)
            self._at, why, found = kernel.scan(view, self._at, self._state, marks)
            del view  # a buffer that is looked at cannot change its size
            for begin, end in marks[:found].tolist():  # 0.4 µs an element
                yield self._element(begin, end)
            if why == kernel.MORE:
                self._forget()
                if self._too_long():
                    yield from self._pass_long()
                elif not self._more():
                    yield from self._ending()
                    return
            elif why == kernel.DAMAGED:
                yield from self._resume("a bracket or a quote is missing")
            elif why == kernel.CLOSED:
                done = yield from self._closing()
                if done:
                    return

    def _opening(self) -> Iterator[Beside]:
        while len(self._buffer) < (_AHEAD if self._form == "wrapped" else len(_MARK)) and self._more():
            pass
        at = len(_MARK) if self._buffer.startswith(_MARK) else 0
        if self._form == "array":
            while (bracket := self._buffer.find(b"[", at)) < 0 and self._more():
                pass
            at = bracket + 1
        elif self._form == "wrapped":
            found = _WRAPPED.match(self._buffer, at)
            if found is None:
                raise ValueError("no array under a key of an object")
            if found["beside"]:
                yield Beside(self._base + found.start("beside"), bytes(found["beside"]))
            at = found.end()
        self._at = at

    def _more(self) -> bool:
        """Read a block; False at the end or where the stream is damaged."""
        if self._ended:
            return False
        try:
            block = self._stream.read1(_BLOCK)  # type: ignore[attr-defined]
        except Exception as error:
            if not is_damage(error):
                raise
            self._damage, block = error, b""
        self._buffer += block
        self._ended = not block
        return bool(block)

    def _element(self, begin: int, end: int) -> Element | Failure:
        offset = self._base + begin
        if begin == end:
            return Failure("invalid_json", "a comma with no element before it", offset)
        data = bytes(memoryview(self._buffer)[begin:end])
        if end - begin > self._limit:
            return self._too_large(offset, end - begin, data)
        if self._first_key is None and (key := _FIRST_KEY.match(data)):
            self._first_key = re.compile(rb"(?:[,}\]]\s*+|\n)(?=\{\s*+" + re.escape(key[1]) + rb"\s*+:)")
        return offset, data

    def _too_large(self, offset: int, size: int, head: bytes) -> Failure:
        message = f"an element of {size:,} bytes; max_record_bytes is {self._limit:,}"
        return Failure("too_large", message, offset, raw=head[:RAW_PREFIX])

    def _head(self, at: int) -> bytes:
        """What stands at `at`, for an error row."""
        while len(self._buffer) < at + RAW_PREFIX and self._more():
            pass
        return bytes(memoryview(self._buffer)[at : at + RAW_PREFIX])

    def _forget(self) -> None:
        """Drop the bytes before the element that is being read."""
        begin = int(self._state[kernel.BEGIN])
        keep = begin if begin >= 0 else self._at
        if keep:
            del self._buffer[:keep]
            self._base += keep
            self._at -= keep
            if begin >= 0:
                self._state[kernel.BEGIN] = 0

    def _too_long(self) -> bool:
        return int(self._state[kernel.BEGIN]) == 0 and len(self._buffer) > self._limit

    def _pass_long(self) -> Iterator[Failure]:
        """Scan to the end of an element that is over the limit, without keeping it."""
        offset, head = self._base, self._head(0)
        marks = np.empty((1, 2), np.int64)
        while True:
            self._base += self._at  # all that was scanned may go
            del self._buffer[: self._at]
            self._at = 0
            if not self._buffer and not self._more():
                break
            self._state[kernel.BEGIN] = 0
            view = np.frombuffer(self._buffer, np.uint8)
            self._at, why, found = kernel.scan(view, 0, self._state, marks)
            del view
            if why == kernel.DAMAGED:
                self._state[:] = kernel.new_state(self._array)
                self._state[kernel.BEGIN] = 0
                skipped = self._skip(self._at)
                size = self._base + skipped - offset
                yield Failure("too_large", f"a damaged element of {size:,} bytes", offset, raw=head[:size])
                self._restart(skipped)
                return
            if found:
                size = self._base + int(marks[0, 1]) - offset
                yield self._too_large(offset, size, head[:size])
                return
        yield self._too_large(offset, self._base - offset, head)
        self._state[:] = kernel.new_state(self._array)

    def _restart(self, at: int) -> None:
        self._at = at
        self._state[:] = kernel.new_state(self._array)
        self._forget()

    def _resume(self, message: str) -> Iterator[Failure]:
        """Give the element at hand up, and go on where one begins as the first one did."""
        begin = int(self._state[kernel.BEGIN])
        begin = self._at if begin < 0 else begin
        offset, head = self._base + begin, self._head(begin)
        skipped = self._skip(begin)
        size = self._base + skipped - offset
        yield Failure("invalid_json", f"{message}: {size:,} bytes are passed over", offset, raw=head[:size])
        self._restart(skipped)

    def _skip(self, at: int) -> int:
        """Where in the buffer the next element begins behind `at`, which may be the buffer's end."""
        pattern = self._first_key or _ANY_OBJECT
        while (found := pattern.search(self._buffer, at)) is None:
            # What could be the beginning of a match stays.
            keep = max(at, len(self._buffer) - 4096)
            del self._buffer[:keep]
            self._base += keep
            at = 0
            if not self._more():
                self._lost = True
                return len(self._buffer)
        return found.end()

    def _closing(self) -> Generator[Element | Beside | Failure, None, bool]:
        """Behind a bracket that closes the array, or closes too much. Returns whether the document ends here."""
        self._state[kernel.BEGIN] = -1
        ended = self._pass_blanks()
        if self._form == "wrapped" and not ended:
            while len(self._buffer) - self._at < _AHEAD and self._more():
                pass
            if found := _NEXT_ARRAY.match(self._buffer, self._at):
                if found["beside"]:
                    yield Beside(self._base + found.start("beside"), bytes(found["beside"]))
                self._restart(found.end())
                return False
            if found := _CLOSED_OBJECT.match(self._buffer, self._at):
                if found["beside"]:
                    yield Beside(self._base + found.start("beside"), bytes(found["beside"]))
                self._at = found.end()
                if self._pass_blanks():
                    if self._damage is not None:
                        yield from self._ending()
                    return True
        if not ended:
            yield from self._resume("what follows the end of the array is no end")
            return False
        if self._damage is not None or self._form == "wrapped":
            yield from self._ending()
        return True

    def _pass_blanks(self) -> bool:
        """Go on to what is visible; whether nothing is, up to the end of the stream."""
        while True:
            self._at = _BLANKS.match(self._buffer, self._at).end()  # type: ignore[union-attr]  # it matches nothing too
            self._forget()
            if self._at < len(self._buffer):
                return False
            if not self._more():
                return True

    def _ending(self) -> Iterator[Element | Failure]:
        """At the end of the stream, with the array not closed."""
        begin = int(self._state[kernel.BEGIN])
        offset = self._base + (begin if begin >= 0 else self._at)
        head = self._head(begin) if begin >= 0 else b""
        if begin >= 0 and self._state[kernel.TOKEN] == kernel.SCALAR and not self._state[kernel.DEPTH]:
            yield self._element(begin, self._at)
            offset, begin, head = self._base + self._at, -1, b""
        if self._damage is not None:
            message = f"the stream ends damaged after {offset:,} bytes: {self._damage}"
            yield Failure(damage_kind(self._damage), message, offset)
        elif begin >= 0 or (self._array and not self._lost):
            yield Failure("truncated", "the array is not closed" if self._array else "the last object is not closed", offset, raw=head)
