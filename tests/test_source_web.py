"""The web source: exact framing against warcio, extents against one another, damage, hostile input."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import time
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path

import lz4.frame
import orjson
import pytest
import zstandard
from warcio.archiveiterator import ArchiveIterator
from warcio.recordloader import ArchiveLoadFailed

from codedev import _files
from codedev._errors import InputError
from codedev.corpus.source import Document, Drop, Extent, Failure
from codedev.corpus.sources.web import source as web
from codedev.corpus.sources.web import warc, warc_stream

Thing = Document | Drop | Failure
# Long enough to be taken for content whatever the model has learnt.
MORE = (
    "The harbour lies in the north of the town, where the river meets the sea, and ships have come here since the bridge was built. "
    "Most of them bring wood and salt, and they leave again with the tide in the morning."
)
HTML = (
    b"<html><head><title>T</title></head><body><p>A paragraph that says something about %s, in words. "
    + MORE.encode()
    + b"</p></body></html>"
)


def extents(path: Path, unit_bytes: int = 1 << 40, **keys: object) -> list[Extent]:
    return list(web.plan(web.Config(name="w", paths=(str(path),), **keys), path.parent, unit_bytes))


def read(path: Path, unit_bytes: int = 1 << 40, **keys: object) -> list[Thing]:
    config = web.Config(name="w", paths=(str(path),), **keys)
    return [thing for extent in extents(path, unit_bytes, **keys) for thing in web.read(extent._replace(hash="h"), config, path.parent)]


def kinds(things: list[Thing]) -> list[str]:
    return [
        "document" if isinstance(thing, Document) else thing.reason if isinstance(thing, Drop) else f"failure {thing.kind}"
        for thing in things
    ]


def record(number: int, block: bytes, kind: str = "response", length: int | None = None, **fields: str) -> bytes:
    told = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{number:08}>",
        "WARC-Target-URI": f"http://example.org/{number}",
        "WARC-Date": "2020-02-03T04:05:06Z",
        "Content-Type": "application/http; msgtype=response",
    }
    told |= {name.replace("_", "-"): value for name, value in fields.items()}
    told["Content-Length"] = str(len(block) if length is None else length)
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return b"WARC/1.0\r\n" + head.encode() + b"\r\n" + block + b"\r\n\r\n"


def response(body: bytes, status: str = "200 OK", content_type: str = "text/html; charset=utf-8", **headers: str) -> bytes:
    told = {"Content-Type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
    return f"HTTP/1.1 {status}\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in told.items()).encode() + b"\r\n" + body


def pages(count: int, first: int = 0) -> list[bytes]:
    return [record(number, response(HTML % str(number).encode())) for number in range(first, first + count)]


def members(records: list[bytes], level: int = 6) -> bytes:
    return b"".join(gzip.compress(one, level, mtime=0) for one in records)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# --- real archives


def archives(data_dir: Path) -> list[Path]:
    names = (".warc", ".wet", ".wat", ".arc")
    found = [path for path in sorted((data_dir / "web").rglob("*")) if path.is_file() and any(name in path.name for name in names)]
    return [path for path in found if path.suffix != ".html"]


def stored_bytes(path: Path, thing: Document | Drop) -> bytes:
    """The raw record that `offset` and `meta` point at."""
    data = path.read_bytes()
    meta = orjson.loads(thing.meta)
    assert thing.offset is not None
    assert thing.length is not None
    if meta.get("stream") == "decompressed":
        with _files.open_decompressed(str(path)) as file:
            return file.read()[thing.offset : thing.offset + thing.length]
    raw = data[thing.offset : thing.offset + thing.length]
    return gzip.decompress(raw) if data.startswith(b"\x1f\x8b") else raw


@pytest.mark.realdata
def test_extents_of_real_archives_give_what_one_extent_gives(data_dir: Path) -> None:
    split = 0
    for path in archives(data_dir):
        whole = read(path)
        assert read(path, 1) == whole, path
        assert read(path, 20_000) == whole, path
        split += len(extents(path, 1)) > 1
    assert split > 20


@pytest.mark.realdata
def test_real_archives_hold_what_warcio_reads(data_dir: Path) -> None:
    compared = 0
    for path in archives(data_dir):
        expected: list[tuple[str, str, bytes]] = []
        try:
            with path.open("rb") as file:
                for one in ArchiveIterator(file):
                    if one.format != "warc":
                        break
                    raw = one.raw_stream.read()
                    expected.append((one.rec_type, one.rec_headers.get_header("WARC-Record-ID").strip("<>"), raw))
        except (ArchiveLoadFailed, zlib.error):
            continue  # ARC, lz4, single-stream gzip: not warcio's
        things = read(path)
        if not expected or any(isinstance(thing, Failure) for thing in things):
            continue
        compared += 1
        assert [thing.id for thing in things] == [id_ for _, id_, _ in expected], path
        types = Counter(orjson.loads(thing.meta)["warc_type"] for thing in things)
        assert types == Counter(kind for kind, _, _ in expected), path
        for thing, (kind, id_, raw) in zip(things, expected, strict=True):
            assert id_.encode() in stored_bytes(path, thing), (path, thing.offset)
            if kind == "conversion":
                assert isinstance(thing, Document)
                assert thing.text.encode() == raw
    assert compared >= 20


@pytest.mark.realdata
def test_single_stream_archives_point_into_the_decompressed_stream(data_dir: Path) -> None:
    seen = 0
    for path in archives(data_dir):
        for thing in read(path):
            if isinstance(thing, Document) and orjson.loads(thing.meta).get("stream"):
                raw = stored_bytes(path, thing)
                assert raw.startswith(b"WARC/1.0")
                assert thing.id.encode() in raw
                seen += 1
    assert seen > 40


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clipped.warc.gz", {"failure truncated": 1}),
        ("example-trunc.warc", {"warcinfo": 2, "failure corrupt": 1, "request": 1}),
        ("example-bad.warc.gz.bad", {"warcinfo": 1, "document": 1, "request": 2, "revisit": 1, "http_status": 1}),
        ("example-wrong-chunks.warc.gz", {"document": 1, "request": 1}),  # members that are no records
        ("fragment1_incomplete_last.wet.gz", {"warcinfo": 1, "document": 1, "failure truncated": 1}),
        ("fragment2_no_header.wet.gz", {"failure corrupt": 1, "document": 1, "failure truncated": 1}),  # starts inside a record
        ("clueweb-quirk.warc.gz", {"warcinfo": 1, "document": 29}),  # line feeds alone, impossible dates
        ("warcfile.warc.lz4", {"warcinfo": 1, "request": 17, "document": 16, "metadata": 16}),
        ("CC-MAIN-2024-22.warc.paths.gz", {"not_html": 1}),
        ("example.arc", {"warcinfo": 1, "document": 1}),
        ("example-space-in-url.arc", {"warcinfo": 1, "failure truncated": 1}),  # its URL was changed, and its length was not
        ("bad.arc", {"failure corrupt": 2}),  # lengths of -1 and abc
    ],
)
def test_damaged_and_odd_real_archives(data_dir: Path, name: str, expected: dict[str, int]) -> None:
    (path, *_) = sorted((data_dir / "web").rglob(name))
    assert Counter(kinds(read(path))) == expected


# --- framing


@pytest.mark.parametrize("codec", ["plain", "members", "gzip", "zstd", "lz4", "bz2", "xz"])
def test_every_way_to_store_an_archive_gives_the_same_documents(tmp_path: Path, codec: str) -> None:
    import bz2
    import lzma

    records = [record(0, b"software: x\r\n", "warcinfo"), *pages(20, 1)]
    plain = b"".join(records)
    store = {
        "plain": lambda: plain,
        "members": lambda: members(records),
        "gzip": lambda: gzip.compress(plain),
        "zstd": lambda: zstandard.compress(plain),
        "lz4": lambda: b"".join(lz4.frame.compress(one) for one in records),
        "bz2": lambda: bz2.compress(plain),
        "xz": lambda: lzma.compress(plain),
    }
    things = read(write(tmp_path / "no-extension", store[codec]()), 200)
    assert kinds(things) == ["warcinfo"] + ["document"] * 20
    assert [thing.id for thing in things] == [f"urn:uuid:{number:08}" for number in range(21)]
    assert all(isinstance(thing, Drop) or "something about" in thing.text for thing in things)
    assert (len(extents(tmp_path / "no-extension", 200)) > 5) == (codec in ("plain", "members"))


def test_a_document_carries_its_origin(tmp_path: Path) -> None:
    data = members(pages(3))
    _, second, _ = read(write(tmp_path / "a", data))
    assert isinstance(second, Document)
    assert gzip.decompress(data[second.offset : second.offset + second.length]) == pages(3)[1]
    assert second.url == "http://example.org/1"
    assert second.created is not None
    assert second.created.isoformat() == "2020-02-03T04:05:06+00:00"
    meta = orjson.loads(second.meta)
    assert (meta["title"], meta["http_status"], meta["content_type"], meta["charset"]) == ("T", 200, "text/html", "utf-8")


def test_archives_inside_records_make_no_phantom_records(tmp_path: Path) -> None:
    """A WARC.gz as payload lies verbatim in stored blocks of the outer member; a plain WARC verbatim in the outer file."""
    noise = random.Random(0)
    inner = [record(1000 + n, response(noise.randbytes(noise.randrange(100, 9000)), content_type="image/png")) for n in range(150)]
    outer = [*pages(3), record(3, response(members(inner, 0), content_type="application/gzip")), *pages(60, 4)]
    path = write(tmp_path / "gz", members(outer, 0))
    stored = warc_stream.Window(warc_stream.Stored(path.open("rb")))
    assert warc.find_member(stored, len(members(outer[:4], 0)) // 2) < len(members(outer[:4], 0))  # a phantom is there to be found
    for unit_bytes in (1, 50_000, 300_000, 1 << 40):
        assert [thing.id for thing in read(path, unit_bytes)] == [f"urn:uuid:{number:08}" for number in range(64)], unit_bytes
    starts = {thing.offset for thing in read(path)}
    assert {extent.start for extent in extents(path, 1)} <= starts

    plain = [*pages(3), record(3, response(b"".join(inner), content_type="application/warc")), *pages(6, 4)]
    path = write(tmp_path / "plain", b"".join(plain))
    for unit_bytes in (1, 1000, 300_000, 1 << 40):
        assert [thing.id for thing in read(path, unit_bytes)] == [f"urn:uuid:{number:08}" for number in range(10)], unit_bytes


@pytest.mark.parametrize("gz", [False, True])
def test_an_archive_cut_anywhere_loses_only_its_last_record(tmp_path: Path, gz: bool) -> None:
    records = pages(4)
    stored = [members([one]) if gz else one for one in records]
    data = b"".join(stored)
    whole = read(write(tmp_path / "w", data))
    for cut in range(10, len(data), 3):
        things = read(write(tmp_path / "w", data[:cut]))
        before = sum(cut >= sum(map(len, stored[: n + 1])) - (0 if gz else 4) for n in range(4))
        assert things[:before] == whole[:before], cut
        at_boundary = any(sum(map(len, stored[:n])) - (0 if gz else 4) <= cut <= sum(map(len, stored[:n])) for n in range(1, 5))
        if before or not gz:  # a lone member without its last bytes may be one record or the start of a stream of many
            assert len(things) == before + (not at_boundary), (cut, kinds(things))
            assert all(isinstance(thing, Failure) for thing in things[before:]), cut
        else:
            assert isinstance(things[-1], Failure), cut


def test_a_damaged_member_costs_no_other_record(tmp_path: Path) -> None:
    noise = random.Random(1)
    records = pages(30)
    stored = [members([one]) for one in records]
    ids = [f"urn:uuid:{number:08}" for number in range(30)]
    for _ in range(60):
        victim = noise.randrange(1, 30)
        hurt = bytearray(stored[victim])
        at = noise.randrange(10, len(hurt))  # behind the member's header, whose bytes may not matter
        hurt[at] ^= 1 << noise.randrange(8)
        with contextlib.suppress(OSError, EOFError, zlib.error):
            if gzip.decompress(hurt) == records[victim]:
                continue  # a bit behind the end of the deflated data, which says nothing
        path = write(tmp_path / "w", b"".join([*stored[:victim], bytes(hurt), *stored[victim + 1 :]]))
        things = read(path)
        assert [getattr(thing, "id", "failed") for thing in things] == [*ids[:victim], "failed", *ids[victim + 1 :]]
        assert isinstance(things[victim], Failure)
        assert things[victim].offset == sum(map(len, stored[:victim]))
        assert read(path, 1) == things


def test_a_wrong_content_length_costs_one_record(tmp_path: Path) -> None:
    for wrong in (0, 10, 150, 700, 5000, 10**9, 10**17):
        records = pages(9)
        records[4] = record(4, response(HTML % b"4"), length=wrong)
        for data in (b"".join(records), members(records)):
            path = write(tmp_path / "w", data)
            things = read(path)
            assert [getattr(thing, "id", "failed")[-1] for thing in things] == list("0123d5678"), (wrong, kinds(things))
            assert read(path, 1) == things


def test_any_bytes_are_read_to_the_end(tmp_path: Path) -> None:
    """Random damage of every kind: no exception, and splitting changes nothing."""
    noise = random.Random(2)
    sources = [b"".join(pages(12)), members(pages(12)), gzip.compress(b"".join(pages(12))), zstandard.compress(b"".join(pages(12)))]
    for round_ in range(120):
        data = bytearray(sources[round_ % len(sources)])
        for _ in range(noise.randrange(1, 5)):
            at = noise.randrange(len(data))
            match noise.randrange(4):
                case 0:
                    data[at] = noise.randrange(256)
                case 1:
                    del data[at : at + noise.randrange(1, 400)]
                case 2:
                    data[at:at] = noise.randbytes(noise.randrange(1, 400))
                case 3:
                    data[at:at] = data[: noise.randrange(1, 900)]
        path = write(tmp_path / "w", bytes(data))
        things = read(path)
        assert things
        assert read(path, 1) == things, round_


def test_members_are_not_found_again_and_again(tmp_path: Path) -> None:
    """Members inside members, each running to the end of the file: quadratic for a reader without a bound."""
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    text = b"WARC/1.0\r\na: b\r\n"
    block = b"\0" + (65535).to_bytes(2, "little") + (65535 ^ 65535).to_bytes(2, "little")
    path = write(tmp_path / "w", (head + block + text) * 15_000 + b"x" * 100_000)
    started = time.perf_counter()
    assert read(path)
    assert read(path, 1000)
    assert time.perf_counter() - started < 20

    for length in (60_000_000, 70_000_000_000):
        path = write(tmp_path / "w", b"WARC/1.0\r\na: b\r\nContent-Length: %d\r\n\r\n" % length * 10_000)
        started = time.perf_counter()
        assert len(read(path)) == 10_000
        assert time.perf_counter() - started < 10


# --- bounds


def test_a_huge_record_is_skipped_without_being_held(tmp_path: Path) -> None:
    size = 1 << 30
    head = record(1, b"", length=size)[:-4]
    path = tmp_path / "w"
    with path.open("wb") as file:
        file.write(pages(1)[0] + head)
        file.seek(size, os.SEEK_CUR)
        file.write(b"\r\n\r\n" + pages(1, 2)[0])
    tracemalloc.start()
    things = read(path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    assert kinds(things) == ["document", "failure too_large", "document"]

    noise = random.Random(3).randbytes(1 << 16) * 480  # 30 MB, 3,000 to 1 for a window of 64 KiB and more, not for gzip's 32 KiB
    records = [*pages(1), record(1, noise), *pages(1, 2)]
    for data in (members(records, 1), gzip.compress(b"".join(records), 1), zstandard.compress(b"".join(records))):
        write(path, data)
        del data
        tracemalloc.reset_peak()
        base = tracemalloc.get_traced_memory()[0]
        assert kinds(read(path, max_record_bytes=1 << 20)) == ["document", "failure too_large", "document"]
        assert tracemalloc.get_traced_memory()[1] - base < 12 << 20
    tracemalloc.stop()


def test_bombs_are_left_unexploded(tmp_path: Path) -> None:
    zeros = bytes(100 << 20)
    bomb = gzip.compress(zeros, 9)
    body = gzip.compress(b"<html><body>" + bytes(50 << 20), 9)
    records = [*pages(1), record(1, response(body, Content_Encoding="gzip")), *pages(1, 2)]
    assert kinds(read(write(tmp_path / "w", members(records)))) == ["document", "failure bomb", "document"]
    path = write(tmp_path / "w", members(pages(1)) + members([record(1, zeros)], 9) + members(pages(1, 2)))
    assert kinds(read(path, max_record_bytes=1 << 20)) == ["document", "failure bomb", "document"]
    assert kinds(read(write(tmp_path / "w", bomb))) == ["failure corrupt"]


# --- HTTP


def chunked(body: bytes) -> bytes:
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(body[at : at + 40]), body[at : at + 40]) for at in range(0, len(body), 40)) + b"0\r\n\r\n"


def test_encoded_bodies_are_decoded(tmp_path: Path) -> None:
    import brotli

    page = HTML % b"encodings"
    raw_deflate = zlib.compressobj(wbits=-15)
    bodies = [
        response(page),
        response(chunked(page), Transfer_Encoding="chunked"),
        response(page, Transfer_Encoding="chunked"),  # stored joined under its old header
        response(gzip.compress(page), Content_Encoding="gzip"),
        response(page, Content_Encoding="gzip"),  # stored decoded under its old header
        response(zlib.compress(page), Content_Encoding="deflate"),
        response(raw_deflate.compress(page) + raw_deflate.flush(), Content_Encoding="deflate"),
        response(brotli.compress(page), Content_Encoding="br"),
        response(zstandard.compress(page), Content_Encoding="zstd"),
        response(chunked(zlib.compress(gzip.compress(page))), Transfer_Encoding="chunked", Content_Encoding="gzip, deflate"),
        response(page, Content_Encoding="utf-8"),
        response(page).replace(b"\r\n", b"\n"),
    ]
    things = read(write(tmp_path / "w", b"".join(record(n, block) for n, block in enumerate(bodies))))
    assert kinds(things) == ["document"] * len(bodies)
    assert {thing.text for thing in things if isinstance(thing, Document)} == {
        f"A paragraph that says something about encodings, in words. {MORE}"
    }
    assert not any("truncated" in thing.meta for thing in things if isinstance(thing, Document))


def test_bodies_that_break_off_are_documents_that_say_so(tmp_path: Path) -> None:
    page = HTML % (b"breaking off, " * 400)
    packed = gzip.compress(page)
    blocks = [
        response(page[:2000], Content_Length=str(len(page))),
        response(chunked(page)[:2000], Transfer_Encoding="chunked"),
        response(packed[:-30], Content_Encoding="gzip"),
    ]
    data = b"".join(record(n, block) for n, block in enumerate(blocks)) + record(3, response(page), WARC_Truncated="length")
    things = read(write(tmp_path / "w", data))
    assert kinds(things) == ["document"] * 4
    assert [orjson.loads(thing.meta)["truncated"] for thing in things if isinstance(thing, Document)] == [True, True, True, "length"]
    assert all("breaking off" in thing.text for thing in things if isinstance(thing, Document))


def test_records_that_are_no_pages_say_why(tmp_path: Path) -> None:
    blocks = [
        (response(b"gone", "404 Not Found"), "http_status"),
        (response(b"\x89PNG\r\n\x1a\n", content_type="image/png"), "not_html"),
        (response(b"%PDF-1.4\n%\xe2\xe3", content_type="text/html"), "not_html"),
        (response(b'{"a": 1}', content_type="application/json"), "not_html"),
        (response(b""), "empty_text"),
        (response(b"<html><body> </body></html>"), "empty_text"),
        (b"nonsense", "failure bad_http"),
        (b"", "failure bad_http"),
        (response(HTML % b"no type", content_type=""), "document"),
        (response(HTML % b"XHTML", content_type="application/xhtml+xml"), "document"),
        (response(b"plain words", content_type="text/plain"), "document"),
        (response("Grüße".encode("latin-1"), content_type="text/plain; charset=iso-8859-1"), "document"),
    ]
    things = read(write(tmp_path / "w", b"".join(record(n, block) for n, (block, _) in enumerate(blocks))))
    assert kinds(things) == [kind for _, kind in blocks]
    assert isinstance(things[-1], Document)
    assert things[-1].text == "Grüße"
    assert isinstance(things[0], Drop)
    assert orjson.loads(things[0].evidence) == {"status": 404}
    others = [record(n, b"x", kind) for n, kind in enumerate(["warcinfo", "request", "metadata", "revisit", "continuation", "odd"])]
    assert kinds(read(write(tmp_path / "w", b"".join(others)))) == [
        "warcinfo",
        "request",
        "metadata",
        "revisit",
        "continuation",
        "unknown_type",
    ]


def test_a_record_without_id_or_date_gets_an_id_from_its_place(tmp_path: Path) -> None:
    bare = b"WARC/1.1\r\nWARC-Type: resource\r\nContent-Type: text/plain\r\nWARC-Date: never\r\nContent-Length: 5\r\n\r\nhello\r\n\r\n"
    first, second = read(write(tmp_path / "w", bare * 2))
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert len(first.id) == 32
    assert first.id != second.id
    assert first.created is None


# --- files


def test_a_folder_of_mixed_files(tmp_path: Path) -> None:
    write(tmp_path / "page", b"\xef\xbb\xbf<!-- saved --><!DOCTYPE html>\n" + HTML % b"files")
    write(tmp_path / "page.gz", gzip.compress(HTML % b"gzip"))
    write(tmp_path / "utf16.htm", (HTML % b"utf16").decode().encode("utf-16"))
    write(tmp_path / "notes.html", b"# Notes\n\nabout <html> pages\n")
    write(tmp_path / "picture.warc.gz", b"\x89PNG\r\n\x1a\n" + bytes(50))
    write(tmp_path / "zz-empty.warc", b"")
    write(tmp_path / "zz-empty.warc.gz", gzip.compress(b""))
    write(tmp_path / "zz-garbage.warc.gz", random.Random(4).randbytes(3000))
    write(tmp_path / "zz-headless.warc", b"garbage\n" + b"".join(pages(2)))
    write(tmp_path / "zz-headless.warc.gz", members(pages(3))[20:])
    os.mkfifo(tmp_path / "zzz-fifo")
    by_name = {extent.name: kinds(list(web.read(extent, web.Config(name="w", paths=(".",)), tmp_path))) for extent in extents(tmp_path)}
    assert {name.split("/")[-1]: found for name, found in by_name.items()} == {
        "page": ["document"],
        "page.gz": ["document"],
        "utf16.htm": ["document"],
        "notes.html": ["not_html"],
        "picture.warc.gz": ["not_html"],
        "zz-empty.warc": ["failure empty"],
        "zz-empty.warc.gz": ["failure empty"],
        "zz-garbage.warc.gz": ["failure corrupt"],
        "zz-headless.warc": ["failure corrupt", "document", "document"],
        "zz-headless.warc.gz": ["failure corrupt", "document", "document"],
        "zzz-fifo": ["failure unreadable"],
    }


def test_a_file_that_vanishes_is_a_failure_and_a_missing_path_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "w", b"".join(pages(2)))
    (extent,) = extents(path)
    path.unlink()
    assert kinds(list(web.read(extent, web.Config(name="w", paths=("w",)), tmp_path))) == ["failure unreadable"]
    with pytest.raises(InputError, match="no such file"):
        extents(path)


def test_a_fragment_is_a_page_by_its_name(tmp_path: Path) -> None:
    """A file without doctype or html tag is told from plain text by its name alone."""
    text = f"Some <b>bold</b> words of a fragment that starts with plain text. {MORE}<p>And more of it. {MORE}</p>".encode()
    for name in ("page.html", "notes.txt"):
        (tmp_path / name).write_bytes(text)
    config = web.Config(name="w", type="web", paths=("*",))
    records = [record for extent in web.plan(config, tmp_path, 1 << 20) for record in web.read(extent, config, tmp_path)]
    assert [type(record).__name__ for record in records] == ["Drop", "Document"]
    assert "words of a fragment that starts" in records[1].text
