"""ARC archives against warcio and against the same crawl as WARC; archives inside of archives; long lines and bombs."""

from __future__ import annotations

import gzip
import random
import time
from pathlib import Path

import orjson
import pytest
import zstandard
from test_source_web import HTML, extents, kinds, members, pages, read, record, response, write
from warcio.archiveiterator import ArchiveIterator

from codedev.corpus.source import Document, Drop, Failure
from codedev.corpus.sources.web import format as web_format
from codedev.corpus.sources.web import source as web
from codedev.corpus.sources.web import warc

HEAD = b"filedesc://a.arc 0.0.0.0 20080430204825 text/plain %d\n"
VERSION_1 = b"1 0 Crawler\nURL IP-address Archive-date Content-type Archive-length\n"
VERSION_2 = (
    b"2 0 Crawler\nURL IP-address Archive-date Content-type Result-code Checksum Location Offset Filename Archive-length\n"
    b"<?xml version='1.0'?>\n"
)


def arc_record(number: int, block: bytes, version: int = 1, url: str = "http://example.org/%d", kind: str = "text/html") -> bytes:
    words = [url.replace("%d", str(number)), "192.0.2.7", "20200203040506", kind]
    words += ["200", "5d41402abc4b2a76b9719d911017c592", "-", "1234", "a.arc"] if version == 2 else []
    return " ".join([*words, str(len(block))]).encode() + b"\n" + block + b"\n"


def arc_pages(count: int, version: int = 1) -> list[bytes]:
    described = VERSION_2 if version == 2 else VERSION_1
    return [
        HEAD % len(described) + described + b"\n",
        *(arc_record(n, response(HTML % str(n).encode()), version) for n in range(1, count)),
    ]


def real_arcs(data_dir: Path) -> list[Path]:
    return sorted(path for path in (data_dir / "web").rglob("*") if path.name.endswith((".arc", ".arc.gz")))


def records_of(path: Path) -> list[warc.Record]:
    (extent,) = extents(path)
    with path.open("rb") as file:
        form = web_format.identify(file, 64 << 20, 1000)
        found = web._records(file, extent, form, web.Config(name="w", paths=(".",)))
        return [one for one in found if isinstance(one, warc.Record)]


# --- against warcio


@pytest.mark.realdata
def test_real_arcs_hold_what_warcio_reads(data_dir: Path) -> None:
    compared = 0
    for path in real_arcs(data_dir):
        # Impossible lengths, one gzip stream, one line end behind the description: warcio refuses them.
        if path.name in ("bad.arc", "badexample.arc.gz", "small-sample-1262850551027_8.arc"):
            continue
        with path.open("rb") as file:
            expected = [
                (one.rec_headers.get_header("WARC-Target-URI"), one.rec_headers.get_header("WARC-Date"), one.raw_stream.read())
                for one in ArchiveIterator(file, no_record_parse=True, arc2warc=True)
                if one.rec_type != "warcinfo"
            ]
        found = records_of(path)
        ours = [
            (one.fields["warc-target-uri"], one.fields["warc-date"], one.block) for one in found if one.fields["warc-type"] == "response"
        ]
        if path.name == "example-space-in-url.arc":  # its last record is clipped, which is a failure here
            assert ours == []
            continue
        assert [(url.replace(" ", "%20"), date, block) for url, date, block in ours] == expected, path
        compared += len(ours)
    assert compared > 290


@pytest.mark.realdata
def test_real_arcs_become_the_documents_of_the_same_crawl_in_warc(tmp_path: Path, data_dir: Path) -> None:
    documents = 0
    for path in real_arcs(data_dir):
        things = read(path)
        assert read(path, 1) == things
        assert read(path, 50_000) == things
        found = records_of(path)
        copies = []
        for number, one in enumerate(found):
            told = {"WARC_Target_URI": one.fields["warc-target-uri"], "WARC_Date": one.fields["warc-date"]}
            kind = one.fields["warc-type"]
            is_http = kind == "response" and one.block.startswith(b"HTTP/")
            copies.append(
                record(number, one.block, kind, Content_Type="application/http" if is_http else one.fields["content-type"], **told)
            )
        if not copies:
            continue
        again = read(write(tmp_path / "copy.warc", b"".join(copies)))

        def facts(things: list[Document | Drop | Failure]) -> list[tuple[object, ...]]:
            return [
                (
                    thing.url,
                    thing.meta.replace('"stream":"decompressed",', ""),
                    getattr(thing, "text", ""),
                    getattr(thing, "created", None),
                    getattr(thing, "reason", None),
                )
                for thing in things
                if not isinstance(thing, Failure)
            ]

        assert facts(again) == facts(things), path
        documents += kinds(things).count("document")
    assert documents > 130


@pytest.mark.realdata
def test_the_origin_of_an_arc_page_is_its_record(data_dir: Path) -> None:
    (path,) = (data_dir / "web").rglob("arc/example.arc.gz")
    data = path.read_bytes()
    found = [thing for thing in read(path, extract="all") if isinstance(thing, Document)]
    for thing in random.Random(0).sample(found, 100):
        raw = gzip.decompress(data[thing.offset : thing.offset + thing.length])
        assert raw.startswith(f"{thing.url} ".encode())
        words = [word for word in thing.text.split() if word.isalpha() and word.isascii()][:5]
        assert all(word.encode() in raw for word in words)


# --- framing


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("codec", ["plain", "members", "gzip", "zstd"])
def test_every_way_to_store_an_arc_gives_the_same_documents(tmp_path: Path, codec: str, version: int) -> None:
    records = arc_pages(21, version)
    plain = b"".join(records)
    data = {"plain": plain, "members": members(records), "gzip": gzip.compress(plain), "zstd": zstandard.compress(plain)}[codec]
    path = write(tmp_path / "w", data)
    things = read(path, 200)
    assert kinds(things) == ["warcinfo"] + ["document"] * 20
    assert [thing.url for thing in things if isinstance(thing, Document)] == [f"http://example.org/{number}" for number in range(1, 21)]
    assert {thing.created.isoformat() for thing in things if isinstance(thing, Document)} == {"2020-02-03T04:05:06+00:00"}
    assert (len(extents(path, 200)) > 5) == (codec in ("plain", "members"))
    assert len({thing.id for thing in things}) == 21


def test_arc_records_that_are_no_pages(tmp_path: Path) -> None:
    records = [
        *arc_pages(1),
        arc_record(1, b"20200203040506\nexample.org.  3600 IN A 192.0.2.7\n", url="dns:example.org", kind="text/dns"),
        arc_record(2, response(b"\x89PNG\r\n\x1a\n", content_type="image/png"), kind="image/png"),
        arc_record(3, response(b"gone", "404 Not Found")),
        arc_record(4, b"", kind="no-type"),
        arc_record(5, response(HTML % b"blanks"), url="http://example.org/a b/%d c", kind="text/html; charset=utf-8"),
        arc_record(6, HTML % b"no HTTP header"),
    ]
    for data in (b"".join(records), members(records)):
        things = read(write(tmp_path / "w", data))
        assert kinds(things) == ["warcinfo", "not_html", "not_html", "http_status", "empty_text", "document", "document"]
        assert things[5].url == "http://example.org/a b/5 c"
        assert orjson.loads(things[1].evidence)["content_type"] == "text/dns"


def test_damage_in_an_arc_costs_one_record(tmp_path: Path) -> None:
    urls = [f"http://example.org/{number}" for number in range(1, 20)]
    for victim in (1, 7, 19):
        records = arc_pages(20)
        stored = [members([one]) for one in records]
        hurt = bytearray(stored[victim])
        hurt[len(hurt) // 2] ^= 16
        path = write(tmp_path / "w", b"".join([*stored[:victim], bytes(hurt), *stored[victim + 1 :]]))
        things = read(path)
        left = [url for url in urls if url != f"http://example.org/{victim}"]
        assert [thing.url for thing in things if isinstance(thing, Document)] == left
        assert sum(isinstance(thing, Failure) for thing in things) == 1
        assert read(path, 1) == things
        if victim < 19:
            records[victim] = records[victim].replace(b" text/html ", b" text/html 9")
            things = read(write(tmp_path / "w", b"".join(records)))
            assert [thing.url for thing in things if isinstance(thing, Document)] == left
            assert sum(isinstance(thing, Failure) for thing in things) == 1


def test_any_arc_bytes_are_read_to_the_end(tmp_path: Path) -> None:
    noise = random.Random(5)
    sources = [b"".join(arc_pages(12)), members(arc_pages(12)), gzip.compress(b"".join(arc_pages(12)))]
    for round_ in range(90):
        data = bytearray(sources[round_ % len(sources)])
        for _ in range(noise.randrange(1, 5)):
            at = noise.randrange(len(data))
            match noise.randrange(3):
                case 0:
                    data[at] = noise.randrange(256)
                case 1:
                    del data[at : at + noise.randrange(1, 400)]
                case 2:
                    data[at:at] = noise.randbytes(noise.randrange(1, 400))
        path = write(tmp_path / "w", bytes(data))
        things = read(path)
        assert things
        assert read(path, 1) == things, round_


def test_false_arc_headers_cost_linear_time(tmp_path: Path) -> None:
    line = b"http://x " + b"1.2.3.4 20200101000000 " * 700 + b"text/html x\n"
    path = write(tmp_path / "w", b"".join(arc_pages(3)) + b"broken\n" + line * 600)
    started = time.perf_counter()
    assert kinds(read(path))[:3] == ["warcinfo", "document", "document"] or read(path)
    assert time.perf_counter() - started < 5


# --- archives inside of archives


def inner_archive() -> list[bytes]:
    noise = random.Random(0)
    return [record(1000 + n, response(noise.randbytes(noise.randrange(100, 9000)), content_type="image/png")) for n in range(60)]


def test_an_archive_inside_a_damaged_member_stays_unread(tmp_path: Path) -> None:
    """Its bytes stand in stored blocks of the outer member, and a flipped one spoils no more than the checksum."""
    outer = [*pages(3), record(3, response(members(inner_archive(), 0), content_type="application/gzip")), *pages(40, 4)]
    stored = [members([one], 0) for one in outer]
    expected = [f"urn:uuid:{number:08}" for number in range(44) if number != 3]
    for share in (0.05, 0.5, 0.9):
        hurt = bytearray(stored[3])
        hurt[int(len(hurt) * share)] ^= 64
        path = write(tmp_path / "w", b"".join([*stored[:3], bytes(hurt), *stored[4:]]))
        things = read(path)
        assert [thing.id for thing in things if not isinstance(thing, Failure)] == expected
        assert [type(thing).__name__ for thing in things].count("Failure") == 1
        for unit_bytes in (1, 100_000):
            assert read(path, unit_bytes) == things


def test_an_archive_inside_a_damaged_plain_record_stays_unread(tmp_path: Path) -> None:
    inner = b"".join(inner_archive())
    for block in (inner, response(inner, content_type="application/warc")):
        outer = [*pages(3), record(3, block, length=len(block) - 7), *pages(5, 4)]
        things = read(write(tmp_path / "w", b"".join(outer)))
        assert [getattr(thing, "id", "failed")[-1] for thing in things] == list("012d45678")


@pytest.mark.parametrize("grammar", ["warc", "arc"])
def test_an_archive_of_the_other_format_is_a_record(tmp_path: Path, grammar: str) -> None:
    inner = members(arc_pages(5)) if grammar == "warc" else members(pages(5))
    block = response(inner, content_type="text/html")
    records = [*pages(2), record(2, block)] if grammar == "warc" else [*arc_pages(3), arc_record(4, block)]
    things = read(write(tmp_path / "w", members(records)))
    assert kinds(things)[-1] == "not_html"
    assert len(things) == len(records)


# --- sizes


def test_a_hundred_megabytes_on_one_line(tmp_path: Path) -> None:
    line = b"word " * (20 << 20)
    page = b"<html><head><title>T</title></head><body><p>" + line + b"</p></body></html>"
    records = [*pages(1), record(1, response(page)), record(2, response(line, content_type="text/plain")), *pages(1, 3)]
    path = write(tmp_path / "w", b"".join(records))
    assert kinds(read(path)) == ["document", "failure too_large", "failure too_large", "document"]
    started = time.perf_counter()
    things = read(path, max_record_bytes=200 << 20, extract="none")
    assert kinds(things) == ["document"] * 4
    assert len(things[1].text) == len(page)
    assert time.perf_counter() - started < 30
    assert kinds(read(write(tmp_path / "w", line))) == ["not_html"]
    header = b"WARC/1.0\r\nWARC-Type: " + b"x" * (100 << 20)
    assert kinds(read(write(tmp_path / "w", header))) == ["failure corrupt"]


def test_the_ratio_of_a_bomb_is_the_recipes(tmp_path: Path) -> None:
    text = b"a" * (90 << 20)
    records = [*pages(1), record(1, text, "conversion", Content_Type="text/plain"), *pages(1, 2)]
    path = write(tmp_path / "w", members(records, 9))
    assert kinds(read(path, max_record_bytes=100 << 20, max_ratio=500)) == ["document", "failure bomb", "document"]
    assert kinds(read(path, max_record_bytes=100 << 20, max_ratio=2000)) == ["document", "document", "document"]
    packed = response(gzip.compress(HTML % text[: 40 << 20], 9), Content_Encoding="gzip")
    path = write(tmp_path / "w", record(1, packed))
    assert kinds(read(path, max_ratio=500)) == ["failure bomb"]
    assert kinds(read(path, max_ratio=2000)) == ["document"]
