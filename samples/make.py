"""Rebuilds the sample files that cannot be written by hand, from the sources beside them: `python samples/make.py [OUT]`.

    web/pages.warc.gz       the pages of web/pages/ as a crawler stores them: one gzip member a record
    web/pages.warc.wet.gz   the texts of web/texts/ as conversion records
    tables/notes.parquet    the rows of tables/notes_parquet.json, eight to a row group
    tables/broken.jsonl.gz  lines that a reader must complain about, in a gzip stream that ends too early
    code/matrix/fixtures/identity.bin

The same sources give the same bytes: dates are fixed and record ids are name-based UUIDs. Bytes that a compressor made depend on its
version (zlib here, and Arrow's writer for Parquet); what they decompress to does not.
"""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import hashlib
import io
import json
import struct
import sys
import uuid
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

SAMPLES = Path(__file__).resolve().parent
CRAWL = dt.datetime(2025, 4, 8, 6, 0, 0, tzinfo=dt.UTC)
WORKSHOP, HARBOUR = "https://workshop.example.org/notes/", "https://harbour.example.net/handbook/"

# file in web/pages -> the URL it was fetched from, in the order of the crawl
PAGES = {
    "ring-buffers": WORKSHOP,
    "bloom-filters": WORKSHOP,
    "running-variance": WORKSHOP,
    "write-ahead-log": WORKSHOP,
    "birthday-bounds": WORKSHOP,
    "schaltjahre": WORKSHOP,
    "moyenne-mediane": WORKSHOP,
    "erfen-chazhao": WORKSHOP,
    "soon": WORKSHOP,
    "expansion-joints": HARBOUR,
    "tide-gauges": HARBOUR,
    "clock-drift": HARBOUR,
    "forum-thread": "https://forum.example.com/t/4711/",
}
DUPLICATE, DUPLICATE_URL = "write-ahead-log", "https://workshop.example.org/notes/write-ahead-log?utm_source=feed"
LATIN_1, ENCODED = "schaltjahre", "clock-drift"  # a page that is not UTF-8; one sent chunked and compressed
TEXTS = ("dry-stone", "paper-sizes", "reloj-de-sol")  # web/texts, the last one in Spanish
# A PNG image of one grey pixel.
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg==")

NOT_FOUND = b"<!doctype html>\n<html><head><title>404</title></head><body><h1>Not Found</h1><p>There is no such note.</p></body></html>\n"


# --- web archives


class Fetched(NamedTuple):
    url: str
    status: str
    headers: tuple[str, ...]
    body: bytes


def fetched() -> list[Fetched]:
    """What the crawl met, in order."""
    html = "Content-Type: text/html; charset=utf-8"
    found = []
    for slug, folder in PAGES.items():
        url = folder if slug == "forum-thread" else folder + slug
        body = (SAMPLES / "web/pages" / f"{slug}.html").read_bytes()
        if slug == ENCODED:
            packed = _gzip(body)
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (packed[:1000], packed[1000:], b""))
            found.append(Fetched(url, "200 OK", (html, "Transfer-Encoding: chunked", "Content-Encoding: gzip"), chunks))
        else:
            charset = html.replace("utf-8", "iso-8859-1") if slug == LATIN_1 else html
            found.append(Fetched(url, "200 OK", (charset, f"Content-Length: {len(body)}"), body))
    duplicate = next(page for page in found if page.url.endswith(DUPLICATE))
    return [
        *found,
        duplicate._replace(url=DUPLICATE_URL),
        Fetched(WORKSHOP + "no-such-note", "404 Not Found", (html, f"Content-Length: {len(NOT_FOUND)}"), NOT_FOUND),
        Fetched("https://harbour.example.net/img/dot.png", "200 OK", ("Content-Type: image/png", f"Content-Length: {len(PIXEL)}"), PIXEL),
    ]


def warc() -> bytes:
    records = [_warcinfo("pages.warc.gz")]
    for number, page in enumerate(fetched()):
        host, path = page.url.removeprefix("https://").split("/", 1)
        request = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sample-crawler\r\nAccept: text/html,*/*;q=0.5\r\n\r\n".encode()
        head = "\r\n".join([f"HTTP/1.1 {page.status}", "Date: Tue, 08 Apr 2025 06:00:00 GMT", *page.headers]) + "\r\n\r\n"
        date = CRAWL + dt.timedelta(seconds=5 * number)
        asked, answered = _record_id("request", page.url), _record_id("response", page.url)
        common = [f"WARC-Target-URI: {page.url}", f"WARC-Concurrent-To: {answered}"]
        records.append(_record("request", asked, date, [*common, "Content-Type: application/http; msgtype=request"], request))
        payload = [f"WARC-Target-URI: {page.url}", f"WARC-Payload-Digest: {_sha1(page.body)}"]
        fields = [*payload, "Content-Type: application/http; msgtype=response"]
        records.append(_record("response", answered, date, fields, head.encode() + page.body))
    return b"".join(_gzip(record) for record in records)


def wet() -> bytes:
    records = [_warcinfo("pages.warc.wet.gz")]
    for number, name in enumerate(TEXTS):
        url = f"https://almanac.example.org/{name}"
        fields = [f"WARC-Target-URI: {url}", f"WARC-Refers-To: {_record_id('response', url)}", "Content-Type: text/plain"]
        body = (SAMPLES / "web/texts" / f"{name}.txt").read_bytes()
        records.append(_record("conversion", _record_id("conversion", url), CRAWL + dt.timedelta(seconds=5 * number), fields, body))
    return b"".join(_gzip(record) for record in records)


def _warcinfo(name: str) -> bytes:
    body = b"software: codedev samples/make.py\r\nformat: WARC File Format 1.1\r\n"
    fields = [f"WARC-Filename: {name}", "Content-Type: application/warc-fields"]
    return _record("warcinfo", _record_id("warcinfo", name), CRAWL, fields, body)


def _record(kind: str, record_id: str, date: dt.datetime, fields: list[str], block: bytes) -> bytes:
    head = [
        "WARC/1.1",
        f"WARC-Type: {kind}",
        f"WARC-Record-ID: {record_id}",
        f"WARC-Date: {date:%Y-%m-%dT%H:%M:%SZ}",
        *fields,
        f"WARC-Block-Digest: {_sha1(block)}",
        f"Content-Length: {len(block)}",
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + block + b"\r\n\r\n"


def _record_id(kind: str, name: str) -> str:
    return f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{kind} {name}')}>"


def _sha1(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def _gzip(data: bytes) -> bytes:
    packed = bytearray(gzip.compress(data, 9, mtime=0))
    packed[9] = 255  # "unknown operating system": some versions of Python write their own there
    return bytes(packed)


# --- tables


def notes_parquet() -> bytes:
    rows = json.loads((SAMPLES / "tables/notes_parquet.json").read_text(encoding="utf-8"))
    created = [dt.datetime.fromisoformat(row["created"]).replace(tzinfo=dt.UTC) for row in rows]
    table = pa.table(
        {
            "id": pa.array([row["id"] for row in rows], pa.string()),
            "text": pa.array([row["text"] for row in rows], pa.large_string()),
            "lang": pa.array([row["lang"] for row in rows], pa.string()).dictionary_encode(),
            "created": pa.array(created, pa.timestamp("ms", tz="UTC")),
            "licence": pa.array([row["licence"] for row in rows], pa.string()),
            "topic": pa.array([row["topic"] for row in rows], pa.string()),
            "stars": pa.array([row["stars"] for row in rows], pa.int8()),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=8, compression="zstd")
    return sink.getvalue()


def broken_jsonl() -> bytes:
    """Five good lines, three bad ones between them, and the last 40 bytes of the stream missing."""
    good = [
        "The first line of this file is in order, so that a reader which gives up at the first fault still has something to show for it.",
        "A line that cannot be parsed is no reason to stop: the lines around it are independent of each other, and most of them are fine.",
        "What was lost has to be said, with the place where it was lost, or the next person will look for it in vain and blame the data.",
        "Bytes that are not UTF-8 most often come from a file in another encoding which somebody appended to this one without looking.",
        "The stream ends in the middle of what follows this line, as it does when a disk is full or a download was interrupted.",
    ]
    lines = [json.dumps({"id": f"good-{number}", "text": text, "lang": "en"}).encode() for number, text in enumerate(good)]
    lines.insert(1, b'{"id": "cut-off", "text": "This record has no end')
    lines.insert(3, b'{"id": "latin-1", "text": "' + "Der Schlüssel liegt unter der Fußmatte.".encode("latin-1") + b'"}')
    lines.insert(5, b'["a list", "where a record should be"]')
    # Digits of hashes do not compress, so that the cut takes the tail alone.
    tail = "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(8))
    stream = b"\n".join([*lines, json.dumps({"id": "lost", "text": tail}).encode()]) + b"\n"
    return _gzip(stream)[:-40]


# --- code


def identity_matrix() -> bytes:
    """The unit matrix of four rows as little-endian float32: 64 bytes."""
    return struct.pack("<16f", *(float(cell // 4 == cell % 4) for cell in range(16)))


FILES = {
    "web/pages.warc.gz": warc,
    "web/pages.warc.wet.gz": wet,
    "tables/notes.parquet": notes_parquet,
    "tables/broken.jsonl.gz": broken_jsonl,
    "code/matrix/fixtures/identity.bin": identity_matrix,
}


def make(out: Path) -> None:
    """Write every file of `FILES` under `out`."""
    for name, content in FILES.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content())


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES)
