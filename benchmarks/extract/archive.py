"""WARC -> text: an archive made of the real pages, read and extracted by the web source and by peers, each in a process of its own."""

from __future__ import annotations

import io
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from extract import extractors

from codedev.corpus.extract.learn.gold import GoldPage
from codedev.corpus.source import Document, Extent
from codedev.corpus.sources.web import source as web

Row = dict[str, Any]


def make(pages: Sequence[GoldPage], path: Path) -> float:
    """Writes the pages as gzip members, and gives their megabytes as HTML."""
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    with open(path, "wb") as file:
        writer = WARCWriter(file, gzip=True)
        for page in pages:
            headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
            url = page.url if page.url.startswith("http") else f"https://example.org/{page.set}/{page.id}"
            writer.write_record(writer.create_warc_record(url, "response", payload=io.BytesIO(page.html), http_headers=headers))
    return sum(len(page.html) for page in pages) / 1e6


def rows(path: Path, amount: float, repeats: int) -> list[Row]:
    """Rates of one core, in turns; then ours on two processes that share the archive."""
    ways: dict[str, Callable[[str], tuple[float, int]]] = {
        "codedev: the web source": _ours,
        "FastWARC + Resiliparse": _with_resiliparse,
        "FastWARC + trafilatura": _with_trafilatura,
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds, found[name] = _alone(way, str(path))
            spent[name].append(seconds)
    result: list[Row] = [
        {"way": name, "rate": statistics.median(amount / seconds for seconds in spent[name]), "documents": found[name]} for name in ways
    ]
    base = result[-1]["rate"]
    for row in result:
        row["times_trafilatura"] = row["rate"] / base
    return [*result, *_two(path, amount, repeats)]


def _alone(way: Callable[[str], tuple[float, int]], path: str) -> tuple[float, int]:
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(way, path).result()


def _two(path: Path, amount: float, repeats: int) -> list[Row]:
    """One process and two, by the clock and by CPU time. Beside other work on the machine the clock shows that work too; half of the CPU
    time of both is what it would show on two free cores: pieces are small, and each process takes the next when it is done."""
    config = web.Config(name="web", paths=(str(path),))
    pieces = list(web.plan(config, path.parent, path.stat().st_size // 32))
    runs = [[_shared(workers, pieces) for workers in (1, 2)] for _ in range(repeats)]
    walls, cpus = ([statistics.median(run[workers][kind] for run in runs) for workers in (0, 1)] for kind in (0, 1))
    title = "codedev: the web source, 2 processes"
    return [{"way": title, "rate": 2 * amount / cpus[1], "speed_up_wall": walls[0] / walls[1], "speed_up_cpu": 2 * cpus[0] / cpus[1]}]


def _shared(workers: int, pieces: Sequence[Extent]) -> tuple[float, float]:
    """(seconds by the clock, CPU seconds of all); starting them is not counted."""
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(_ready, range(workers)))
        started = time.perf_counter()
        spent = sum(pool.map(_piece, pieces))
        return time.perf_counter() - started, spent


def _ready(_: object = None) -> None:
    extractors.extractor(extractors.OURS)(b"<html><body><p>one page, so that all is loaded</p></body></html>")
    time.sleep(0.5)  # so that each process takes one


def _piece(piece: Extent) -> float:
    return _timed(lambda: _documents(piece))[0]


def _documents(piece: Extent) -> int:
    config = web.Config(name="web", paths=(piece.file,))
    return sum(isinstance(one, Document) for one in web.read(piece, config, Path(piece.file).parent))


def _timed(run: Callable[[], int]) -> tuple[float, int]:
    started = time.process_time()
    count = run()
    return time.process_time() - started, count


def _ours(path: str) -> tuple[float, int]:
    _ready()
    return _timed(lambda: _documents(Extent(path, Path(path).name, 0, -1, Path(path).stat().st_size)))


def _with_resiliparse(path: str) -> tuple[float, int]:
    return _fastwarc(path, "Resiliparse")


def _with_trafilatura(path: str) -> tuple[float, int]:
    return _fastwarc(path, "trafilatura")


def _fastwarc(path: str, name: str) -> tuple[float, int]:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    extract = extractors.extractor(name)
    _quietly(extract, b"<html><body><p>one</p></body></html>")

    def run() -> int:
        with open(path, "rb") as file:
            records = ArchiveIterator(file, record_types=WarcRecordType.response, parse_http=True)
            return sum(bool(_quietly(extract, record.reader.read())) for record in records)

    return _timed(run)


def _quietly(extract: extractors.Extract, html: bytes) -> str:
    try:
        return extract(html)
    except Exception as error:
        print(f"{type(error).__name__}: {error}"[:200], file=sys.stderr)
        return ""
