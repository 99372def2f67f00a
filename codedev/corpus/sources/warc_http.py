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

_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})\b[^\n]*(?:\n|$)")
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
_PIECE, _FEED = 1 << 16, 1 << 13  # bytes out and in at a time
_BOMB_BYTES, _BOMB_RATIO = 16 << 20, 500  # deflate reaches 1,032, pages 100


class BombError(ValueError):
    pass


class Response(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case, the first of a repeated name
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
    name, at = "", status.end()
    while at < len(block):
        newline = block.find(b"\n", at)
        newline = len(block) if newline < 0 else newline
        line = block[at:newline].rstrip(b"\r")
        at = newline + 1
        if not line:
            break
        key, colon, value = line.partition(b":")
        if line[0] in b" \t" and name:
            headers[name] += " " + line.strip().decode("latin-1")
        elif colon:
            name = key.strip().lower().decode("latin-1")
            headers.setdefault(name, value.strip().decode("latin-1"))
    return Response(int(status[1]), headers, block[at:])


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def charset(content_type: str) -> str | None:
    found = re.search(r"""charset\s*=\s*["']?([^\s;"']+)""", content_type, re.IGNORECASE)
    return found[1] if found else None


def decode(response: Response, limit: int) -> Body:
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
        data, cut = _undo(encoding.strip(), data, limit)
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


def _undo(encoding: str, data: bytes, limit: int) -> tuple[bytes, bool]:
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
    bound = min(limit, max(_BOMB_BYTES, _BOMB_RATIO * len(data)))
    decoded = bytearray()
    try:
        for piece in pieces:
            decoded += piece
            if len(decoded) > bound:
                raise BombError(f"{len(data)} bytes of {encoding} decode to more than {bound}")
    except (zlib.error, OSError):
        return (bytes(decoded), True) if decoded else (data, False)
    return bytes(decoded), False


def _is_zlib(data: bytes) -> bool:
    return len(data) >= 2 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0


def _inflate(data: bytes, wbits: int) -> Iterator[bytes]:
    """Pieces of at most 64 KiB. Raises zlib.error where the data is damaged or ends early; bytes after the end are left."""
    inflater = zlib.decompressobj(wbits)
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
