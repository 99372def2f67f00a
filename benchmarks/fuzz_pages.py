"""Mutated real pages through the extraction: none may crash, hang, raise anything but PageError, or leave memory behind.

    python benchmarks/fuzz_pages.py [--pages 10000] [--seed 0] [--workers 1] [--data .data/web] [--keep DIR] [--json FILE]
    python benchmarks/fuzz_pages.py --write N          page N of the seed, to stdout

A page is a real one after one to six mutations: bytes flipped, tags deleted, doubled, moved, nested or loaded with attributes, cut ends,
splices of two pages, entities, other encodings. Seed and number decide it. Each is read in a worker process, under its address as
`url`; a worker that dies or takes more than LIMIT seconds of CPU time for a page is replaced, and the page named. What is printed as
faults should be nothing. `--keep` writes the pages of faults and the slowest ones.
"""

from __future__ import annotations

import argparse
import gzip
import multiprocessing
import os
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from _bench import machine, write_json

from codedev.corpus.extract.html import PageError, html_to_text
from codedev.corpus.guard import cpu_seconds, resident

LIMIT = 20.0  # seconds of CPU time for a page
LARGEST = 1_500_000  # bytes of a page that is mutated
SHOWN = 10

_TAG = re.compile(rb"<[^<>]{1,2000}>")
_ENTITIES = b"&#0; &#xD800; &#1114112; &#x80; &nbsp; &nbsp &lt;b&gt; &bogus; & &# &#x &NotEqualTilde;".split(b" ")
_ENCODINGS = "utf-8 utf-16 utf-16-be utf-32 cp1252 iso8859-2 shift_jis gb18030 big5 euc-kr koi8-r utf-7".split()
_OPENED = b"<div>,<b>,<table><tr><td>,<ul><li>,<blockquote>,<p>,<svg>,<math>,<select>,<pre>,<!--,<a>".split(b",")
_NAMES = (b"a", b"class", b"id", b"style")
_VALUES = (b"", b"=x", b"='a b'", b'=""', b'="', b"=&quot;")

Mutation = Callable[[bytearray, random.Random, list[bytes]], None]


def flip_bytes(page: bytearray, draw: random.Random, others: list[bytes]) -> None:
    for _ in range(draw.choice((1, 10, 300))):
        page[draw.randrange(len(page))] = draw.randrange(256)


def delete_tags(page: bytearray, draw: random.Random, others: list[bytes]) -> None:
    share = draw.choice((0.02, 0.3, 0.9))
    page[:] = _TAG.sub(lambda tag: b"" if draw.random() < share else tag[0], page)


def double_tags(page: bytearray, draw: random.Random, others: list[bytes]) -> None:
    share, times = draw.choice(((0.02, 2), (0.3, 2), (0.002, 300)))
    page[:] = _TAG.sub(lambda tag: tag[0] * times if draw.random() < share else tag[0], page)


def move_tags(page: bytearray, draw: random.Random, others: list[bytes]) -> None:
    tags = _TAG.findall(page)
    draw.shuffle(tags)
    share = draw.choice((0.05, 0.5))
    page[:] = _TAG.sub(lambda tag: tags.pop() if draw.random() < share else tag[0], page)


def truncate(page: bytearray, draw: random.Random, others: list[bytes]) -> None:
    cut = draw.randrange(len(page))
    page[:] = page[cut:] if draw.random() < 0.3 else page[:cut]


def splice(page: bytearray, draw: random.Random, others: list[bytes]) -> None:
    other = draw.choice(others)
    start = draw.randrange(len(other))
    at = draw.randrange(len(page) + 1)
    page[at:at] = other[start : start + draw.choice((100, 5_000, 200_000))]


def add_attributes(page: bytearray, draw: random.Random, others: list[bytes]) -> None:
    tags = list(_TAG.finditer(page))
    if tags:
        at = draw.choice(tags).end() - 1
        value, count = draw.choice(_VALUES), draw.choice((5, 300, 30_000))
        page[at:at] = b"".join(b" %s%d%s" % (draw.choice(_NAMES), number, value) for number in range(count))


def add_entities(page: bytearray, draw: random.Random, others: list[bytes]) -> None:
    for _ in range(draw.choice((3, 50, 300))):
        at = draw.randrange(len(page) + 1)
        page[at:at] = draw.choice(_ENTITIES)


def nest(page: bytearray, draw: random.Random, others: list[bytes]) -> None:
    at = draw.randrange(len(page) + 1)
    page[at:at] = draw.choice(_OPENED) * draw.choice((10, 300, 3_000))


def recode(page: bytearray, draw: random.Random, others: list[bytes]) -> None:
    page[:] = bytes(page).decode(draw.choice(("utf-8", "cp1252")), "replace").encode(draw.choice(_ENCODINGS), "replace")


def insert_nothing(page: bytearray, draw: random.Random, others: list[bytes]) -> None:
    at = draw.randrange(len(page) + 1)
    page[at:at] = draw.choice((b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b$B", b"\r", b"\f", b" ")) * draw.choice((1, 100, 50_000))


MUTATIONS: tuple[Mutation, ...] = (
    flip_bytes, delete_tags, double_tags, move_tags, truncate, splice, add_attributes, add_entities, nest, recode, insert_nothing,
)  # fmt: skip


def originals(data: Path) -> list[bytes]:
    """Real pages, each once, in a fixed order."""
    paths = sorted(path for path in data.rglob("*") if path.name.endswith((".html", ".htm", ".html.gz")) and path.is_file())
    pages = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in paths)
    return list(dict.fromkeys(page for page in pages if 0 < len(page) <= LARGEST))


def mutated(pages: list[bytes], seed: int, number: int) -> bytes:
    draw = random.Random(f"{seed}:{number}")
    page = bytearray(draw.choice(pages))
    for mutation in draw.choices(MUTATIONS, k=draw.randint(1, 6)):
        if page:
            mutation(page, draw, pages)
    return bytes(page[: 4 * LARGEST])


# --- workers


class Seen(NamedTuple):
    number: int
    bytes: int
    seconds: float  # of CPU time
    resident: int  # bytes the worker holds afterwards
    error: str  # message of a PageError, or empty
    fault: str  # what must not be, or empty
    characters: int


def work(connection: Connection, data: Path, seed: int, numbers: range) -> None:
    pages = originals(data)
    html_to_text(pages[0])  # what is loaded once
    for number in numbers:
        page = mutated(pages, seed, number)
        connection.send(number)
        started = time.process_time()
        error = fault = text = ""
        try:
            text = html_to_text(page, None, "all" if number % 4 == 3 else "main", f"https://example.org/{number}").text
        except PageError as refused:
            error = re.sub(r"\d[\d,]*", "N", str(refused))
        except Exception as unexpected:
            fault = f"{type(unexpected).__name__}: {str(unexpected)[:200]}"
        seconds = time.process_time() - started
        fault = fault or fault_of(text, page)
        connection.send(Seen(number, len(page), seconds, resident(os.getpid()), error, fault, len(text)))


def fault_of(text: str, page: bytes) -> str:
    """What is wrong with a text, whatever its page."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "the text holds lone surrogates"
    if "\0" in text:
        return "the text holds NUL"
    return "the text is over ten times as long as its page" if len(text) > 10 * len(page) + 1000 else ""


class Worker:
    """A process that reads the pages from `first` on, every `step`-th of them."""

    def __init__(self, options: argparse.Namespace, first: int) -> None:
        spawned = multiprocessing.get_context("spawn")
        self._options = options
        self.connection, theirs = spawned.Pipe()
        numbers = range(first, options.pages, options.workers)
        self.process = spawned.Process(target=work, args=(theirs, options.data, options.seed, numbers), daemon=True)
        self.process.start()
        theirs.close()
        self.number, self._since = -1, 0.0

    def seen(self) -> Seen | None:
        """What has come of the next page; EOFError when it has died or is done."""
        message = self.connection.recv()
        if isinstance(message, Seen):
            self.number = -1
            return message
        self.number, self._since = message, cpu_seconds(self.process.pid or 0)
        return None

    def hangs(self) -> bool:
        return self.number >= 0 and cpu_seconds(self.process.pid or 0) - self._since > LIMIT


def run(options: argparse.Namespace) -> list[Seen]:
    seen: list[Seen] = []
    workers = [Worker(options, first) for first in range(min(options.workers, options.pages))]
    told = time.monotonic()
    while workers:
        for worker in multiprocessing.connection.wait([worker.connection for worker in workers], timeout=1):
            at = next(one for one in workers if one.connection is worker)
            try:
                found = at.seen()
            except (EOFError, ConnectionResetError):
                at.process.join()
                workers.remove(at)
                if at.number >= 0:
                    seen.append(Seen(at.number, 0, 0.0, 0, "", f"the worker died with exit code {at.process.exitcode}", 0))
                    workers.append(Worker(options, at.number + options.workers))
                continue
            if found:
                seen.append(found)
        for one in [worker for worker in workers if worker.hangs()]:
            one.process.kill()
            one.process.join()
            workers.remove(one)
            seen.append(Seen(one.number, 0, LIMIT, 0, "", f"took more than {LIMIT:g} s of CPU time", 0))
            workers.append(Worker(options, one.number + options.workers))
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"{len(seen):,} of {options.pages:,} pages, {sum(bool(one.fault) for one in seen)} faults", file=sys.stderr)
    return sorted(seen)


def figures(seen: list[Seen], options: argparse.Namespace) -> dict[str, Any]:
    def held(share: float) -> float:
        """MB: the median of the hundred pages before that share of the run."""
        end = max(1, round(share * len(seen)))
        return statistics.median(one.resident for one in seen[max(0, end - 100) : end]) / 1e6

    slowest = sorted(seen, key=lambda one: -one.seconds)[:SHOWN]
    return {
        "pages": len(seen),
        "seed": options.seed,
        "megabytes": sum(one.bytes for one in seen) / 1e6,
        "cpu_seconds": sum(one.seconds for one in seen),
        "texts": sum(one.characters > 0 for one in seen),
        "page_errors": dict(Counter(one.error for one in seen if one.error).most_common()),
        "faults": [{"page": one.number, "fault": one.fault} for one in seen if one.fault],
        "slowest": [{"page": one.number, "seconds": one.seconds, "bytes": one.bytes, "error": one.error} for one in slowest],
        "resident_mb": {f"{share:.0%}": held(share) for share in (0.1, 0.5, 1.0)},
        "peak_mb": max(one.resident for one in seen) / 1e6,
    }


def show(found: dict[str, Any]) -> None:
    print(f"{found['pages']:,} pages, {found['megabytes']:.0f} MB, {found['cpu_seconds']:.0f} s of CPU time, {found['texts']:,} with text")
    print("resident after", ", ".join(f"{share}: {amount:.0f} MB" for share, amount in found["resident_mb"].items()), end="; ")
    print(f"most: {found['peak_mb']:.0f} MB")
    for message, count in found["page_errors"].items():
        print(f"{count:6,}  PageError: {message}")
    for one in found["slowest"]:
        print(f"{one['seconds']:6.2f} s  page {one['page']} of {one['bytes']:,} bytes {one['error']}")
    print(f"{len(found['faults'])} faults")
    for one in found["faults"]:
        print(f"page {one['page']}: {one['fault']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path(".data/web"))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=int)
    options = parser.parse_args()
    if options.write is not None:
        sys.stdout.buffer.write(mutated(originals(options.data), options.seed, options.write))
        return
    found = figures(run(options), options)
    show(found)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        pages = originals(options.data)
        for number in {one["page"] for one in (*found["faults"], *found["slowest"])}:
            (options.keep / f"{options.seed}-{number}.html").write_bytes(mutated(pages, options.seed, number))
    if options.json:
        write_json(options.json, "fuzz_pages", machine(), {"pages": options.pages, "seed": options.seed}, [found])
    sys.exit(bool(found["faults"]))


if __name__ == "__main__":
    main()
