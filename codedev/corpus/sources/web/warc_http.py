"""HTTP responses as archives hold them: status, headers, and the body without its transfer and content encodings.

Archives disagree with their own headers: bodies already decoded under a `Content-Encoding`, already joined under `chunked`, cut
short by the crawler. Such a body is taken as far as it can be read; `Body.truncated` says that something is missing.
Decoding stops at a bound (`BombError`). Does not follow redirects, ranges or multipart bodies.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from fastwarc.stream_io import BrotliReader, ZstdReader
from isal import isal_zlib

from codedev._files import MAX_RATIO
from codedev.corpus.sources.web.warc_stream import INFLATE_ERRORS

_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})\b[^\n]*(?:\n|$)")
_END = re.compile(rb"\n\r*\n")
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s;"']+)""", re.IGNORECASE)
_PIECE, _FEED = 1 << 16, 1 << 13  # bytes out and in at a time
_FREE = 16 << 20  # bytes that any body may unfold to
_BROKEN: tuple[type[Exception], ...] = (*INFLATE_ERRORS, OSError)
_REPEATED = frozenset({"x-robots-tag", "link"})  # headers of which all count


class BombError(ValueError):
    pass


class Response(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case, the first of a repeated name; of `_REPEATED` all, as lines
    body: bytes  # as stored: still encoded


class Body(NamedTuple):
    data: bytes
    truncated: bool


def parse(block: bytes) -> Response | None:
    """The response in a record's block; None when it does not start with an HTTP status line."""
    status = _STATUS.match(block)
    if not status:
        return None
    headers: dict[str, str] = {}
    found = _END.search(block, status.end() - 1)
    # Line ends of other systems, and obsolete folding: a line that begins with a blank goes on with the last.
    name = ""
    for line in block[status.end() : found.start() if found else len(block)].decode("latin-1").split("\n"):
        key, colon, value = line.partition(":")
        if line[:1] in (" ", "\t") and name:
            headers[name] += " " + line.strip()
        elif colon:
            name = key.strip().lower()
            if name in headers and name in _REPEATED:
                headers[name] += "\n" + value.strip()
            else:
                headers.setdefault(name, value.strip())
    at = found.end() if found else len(block)
    return Response(int(status[1]), headers, block[at:])


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def charset(content_type: str) -> str | None:
    found = _CHARSET.search(content_type)
    return found[1] if found else None


def decode(response: Response, limit: int, max_ratio: int = MAX_RATIO) -> Body:
    """The body with `Transfer-Encoding` and `Content-Encoding` undone. Raises BombError when it grows past `limit` bytes or out of
    proportion. An encoding that the body does not have, or an unknown one, leaves it as it is."""
    headers, data = response.headers, response.body
    if "chunked" in headers.get("transfer-encoding", "").lower():
        data, truncated = _dechunk(data)
    else:
        declared = headers.get("content-length", "")
        truncated = declared.isascii() and declared.isdigit() and len(declared) < 19 and len(data) < int(declared)
        # A crawler that stores the decoded body may keep the length of the encoded one, so a longer body is no fault.
    for encoding in reversed(headers.get("content-encoding", "").lower().split(",")):
        data, cut = _undo(encoding.strip(), data, limit, max_ratio)
        truncated = truncated or cut
    return Body(data, truncated)


def _dechunk(data: bytes) -> tuple[bytes, bool]:
    """(joined chunks, whether the last one is missing). Data that does not start with a chunk is returned as it is."""
    pieces: list[bytes] = []
    at = 0
    while header := _CHUNK.match(data, at):
        size = int(header[1], 16)
        if size == 0:
            return b"".join(pieces), False
        at = header.end() + size
        pieces.append(data[header.end() : at])
        if data[at : at + 2] == b"\r\n":
            at += 2
        elif data[at : at + 1] == b"\n":
            at += 1
        elif at < len(data):
            break  # the size was wrong, or this is no chunked body
    if not pieces or (len(pieces) == 1 and at < len(data)):
        return data, False
    return b"".join(pieces), True


def _undo(encoding: str, data: bytes, limit: int, max_ratio: int) -> tuple[bytes, bool]:
    """(decoded, whether it breaks off)."""
    match encoding:
        case "gzip" | "x-gzip":
            pieces = _inflate(data, 31)
        case "deflate":  # zlib says the standard, raw deflate some servers
            pieces = _inflate(data, 15 if _is_zlib(data) else -15)
        case "br":
            pieces = _read(BrotliReader(io.BytesIO(data)))
        case "zstd":
            pieces = _read(ZstdReader(io.BytesIO(data)))
        case _:
            return data, False
    bound = min(limit, max(_FREE, max_ratio * len(data)))
    decoded = bytearray()
    try:
        for piece in pieces:
            decoded += piece
            if len(decoded) > bound:
                raise BombError(f"{len(data)} bytes of {encoding} decode to more than {bound}")
    except _BROKEN:
        return (bytes(decoded), True) if decoded else (data, False)
    return bytes(decoded), False


def _is_zlib(data: bytes) -> bool:
    return len(data) >= 2 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0


def _inflate(data: bytes, wbits: int) -> Iterator[bytes]:
    """Pieces of at most 64 KiB. Raises zlib.error where the data is damaged or ends early; bytes after the end are left."""
    inflater = isal_zlib.decompressobj(wbits)
    at = 0
    while not inflater.eof:
        fed = inflater.unconsumed_tail
        if not fed:
            fed = data[at : at + _FEED]
            at += len(fed)
        piece = inflater.decompress(fed, _PIECE)
        if not piece and not fed and not inflater.eof:
            raise zlib.error("ends early")
        yield piece


def _read(reader: BrotliReader | ZstdReader) -> Iterator[bytes]:
    while piece := reader.read(_PIECE):
        yield piece
