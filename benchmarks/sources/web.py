"""The web source beside warcio: every record framed, and pages handed over without extraction."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _bench import Case, SkipError

MB = 60  # of decompressed records that each archive is repeated to


def cases(data: Path, work: Path) -> dict[str, Case]:
    from codedev.corpus.source import Extent
    from codedev.corpus.sources.web import arc, warc, warc_stream
    from codedev.corpus.sources.web import source as web

    if importlib.util.find_spec("warcio") is None:
        raise SkipError("warcio, the peer, is not installed")
    warc_gz, warc_size = _repeated(data, work, "sample-0000.warc.gz", "warcfile.warc.gz")
    plain, plain_size = _repeated(data, work, "warcfile.warc", "whirlwind.warc")
    wet_gz, wet_size = _repeated(data, work, "whirlwind.warc.wet.gz")
    arc_gz, arc_size = _repeated(data, work, "arc/example.arc.gz")

    def frame(path: Path, grammar: warc.Grammar = warc.WARC) -> Callable[[], Any]:
        def run() -> None:
            with open(path, "rb") as file:
                stored = warc_stream.Window(warc_stream.Stored(file))
                walk = warc.gzip_records if path.suffix == ".gz" else warc.frame
                for _ in walk(stored, 64 << 20, grammar=grammar):
                    pass

        return run

    def read(path: Path, **keys: Any) -> Callable[[], Any]:
        config = web.Config(name="web", paths=(str(path),), **keys)

        def run() -> None:
            for _ in web.read(Extent(str(path), path.name, 0, -1, path.stat().st_size), config, work):
                pass

        return run

    listed = {"domains": ("./domains",), "urls": ("example.org/a",), "words": ("casino",), "subwords": ("xxx",)}
    (work / "domains").write_bytes(b"".join(b"site-%d.example\n" % number for number in range(1_000_000)))
    unit = "MB raw"
    return {
        "web_frame_gz": Case(frame(warc_gz), warc_size, unit, peers={"warcio": _warcio(warc_gz, content=False)}),
        "web_frame_plain": Case(frame(plain), plain_size, unit, peers={"warcio": _warcio(plain, content=False)}),
        "web_frame_arc": Case(frame(arc_gz, arc.ARC), arc_size, unit, peers={"warcio": _warcio(arc_gz, content=False)}),
        "web_none_gz": Case(read(warc_gz, extract="none"), warc_size, unit, peers={"warcio": _warcio(warc_gz)}),
        "web_none_plain": Case(read(plain, extract="none"), plain_size, unit, peers={"warcio": _warcio(plain)}),
        "web_none_arc": Case(read(arc_gz, extract="none"), arc_size, unit, peers={"warcio": _warcio(arc_gz)}),
        "web_wet": Case(read(wet_gz), wet_size, unit, peers={"warcio": _warcio(wet_gz)}),
        "web_main": Case(read(warc_gz), warc_size, unit, peers={"warcio+Resiliparse": _resiliparse(warc_gz)}),
        "web_lists": Case(read(warc_gz, extract="none", urls=listed), warc_size, unit),
    }


def _repeated(data: Path, work: Path, *names: str) -> tuple[Path, float]:
    """An archive of the named files under `data`, one behind the other and repeated, and its size without compression."""
    found = [path for name in names for path in sorted((data / "web").rglob(name.rpartition("/")[2])) if str(path).endswith(name)]
    if not found:
        raise SkipError(f"no {names[0]} under {data / 'web'}")
    stored = b"".join(path.read_bytes() for path in found)
    packed = found[0].suffix == ".gz"
    size = len(gzip.decompress(stored) if packed else stored)
    times = max(1, round(MB * 1e6 / size))
    path = work / f"bench-{found[0].name}"
    path.write_bytes(stored * times)
    return path, size * times / 1e6


def _warcio(path: Path, *, content: bool = True) -> Callable[[], Any]:
    from warcio.archiveiterator import ArchiveIterator

    def run() -> None:
        with open(path, "rb") as file:
            for record in ArchiveIterator(file, no_record_parse=not content):
                (record.content_stream() if content else record.raw_stream).read()

    return run


def _resiliparse(path: Path) -> Callable[[], Any]:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding
    from warcio.archiveiterator import ArchiveIterator

    def run() -> None:
        with open(path, "rb") as file:
            for record in ArchiveIterator(file):
                if record.rec_type == "response" and "html" in (record.http_headers.get_header("Content-Type") or ""):
                    page = record.content_stream().read()
                    extract_plain_text(bytes_to_str(page, detect_encoding(page)), main_content=True)

    return run
