"""The stackexchange source beside lxml.etree.iterparse over the same tables: every element a dictionary of its attributes, then cleared.

`read` includes finding and checking rows, their ids, and the pieces that go on to the join (for Posts.xml alone there is one a post, else
three); HTML is not converted there. `attributes` decodes every attribute of every row, as the peer does. `gather` is what comes after
reading: all rounds of the join, with HTML converted and documents made, without the files between them. Resiliparse, the peer of the
conversion, keeps neither code, links nor lists. The real posts of .data/stackexchange are repeated under new ids.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _bench import Case, SkipError

from codedev import _sevenzip
from codedev.corpus.extract.post_html import to_markdown
from codedev.corpus.source import Piece
from codedev.corpus.sources.stackexchange import source as stackexchange
from codedev.corpus.sources.stackexchange import xml_rows

_ID = re.compile(rb' (Id|ParentId|AcceptedAnswerId)="(\d+)"')


def cases(data: Path, work: Path) -> dict[str, Case]:
    paths = sorted((data / "stackexchange").rglob("Posts.xml"))
    if not paths:
        raise SkipError(f"no real data at {data / 'stackexchange'}")
    work.mkdir(parents=True, exist_ok=True)
    posts, some, votes = work / "Posts.xml", work / "some" / "Posts.xml", work / "Votes.xml"
    _repeat(paths, posts, b"posts", 60)
    _repeat(paths, some, b"posts", 10)
    _repeat(sorted((data / "stackexchange").rglob("Votes.xml")), votes, b"votes", 10)
    size, some_size, votes_size = (path.stat().st_size / 1e6 for path in (posts, some, votes))
    lxml = {"lxml iterparse": lambda: _lxml(posts)}
    bodies = [row["Body"] for path in paths for row in map(xml_rows.attributes, _rows(path)) if row["Body"]]
    html = sum(len(body.encode()) for body in bodies) / 1e6
    groups = _groups(some)
    made = {
        "read Posts.xml": Case(lambda: _read(posts), size, "MB raw", peers=lxml),
        "read Posts.xml alone": Case(lambda: _read(posts, lookups=()), size, "MB raw", peers=lxml),
        "read Votes.xml": Case(lambda: _read(votes), votes_size, "MB raw", peers={"lxml iterparse": lambda: _lxml(votes)}),
        "attributes of Posts.xml": Case(lambda: _attributes(posts), size, "MB raw", peers=lxml),
        "HTML to Markdown": Case(lambda: _convert(bodies), html, "MB of HTML", peers=_converters(bodies)),
        "gather": Case(lambda: _gather(groups), some_size, "MB raw"),
    }
    if packed := _pack(some, work / "Posts.7z"):
        made["Posts.7z"] = Case(lambda: _unpack(packed), some_size, "MB raw", peers={"py7zr": lambda: _py7zr(packed)})
    return made


def _repeat(sources: list[Path], target: Path, root: bytes, megabytes: int) -> None:
    """A table of so many megabytes, in which every repetition has ids of its own."""
    if target.exists():
        return
    lines = [
        (number, line)
        for number, path in enumerate(sources)
        for line in path.read_bytes().splitlines()
        if line.lstrip().startswith(b"<row")
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.write(b'<?xml version="1.0" encoding="utf-8"?>\n<%s>\n' % root)
        round_ = 0
        while file.tell() < megabytes * 1e6:
            for number, line in lines:
                shift = (round_ * len(sources) + number) * 1_000_000
                file.write(_ID.sub(lambda found: b' %s="%d"' % (found[1], int(found[2]) + shift), line) + b"\n")  # noqa: B023  used at once
            round_ += 1
        file.write(b"</%s>\n" % root)


def _config(path: Path, **keys: Any) -> stackexchange.Config:
    return stackexchange.Config(name="s", paths=(str(path),), site="example.stackexchange.com", **keys)


def _read(path: Path, **keys: Any) -> int:
    config = _config(path, **keys)
    return sum(1 for extent in stackexchange.plan(config, path.parent, 1 << 40) for _ in stackexchange.read(extent, config, path.parent))


def _rows(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [row[1] for row in xml_rows.rows(file) if not isinstance(row, xml_rows.Damage)]


def _attributes(path: Path) -> int:
    with path.open("rb") as file:
        return sum(len(xml_rows.attributes(row[1])) for row in xml_rows.rows(file) if not isinstance(row, xml_rows.Damage))


def _lxml(path: Path) -> int:
    from lxml import etree

    count = 0
    for _, element in etree.iterparse(str(path), tag="row"):
        count += len(dict(element.attrib))
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]
    return count


def _convert(bodies: list[str]) -> int:
    return sum(len(to_markdown(body)) for body in bodies)


def _converters(bodies: list[str]) -> dict[str, Callable[[], Any]]:
    from resiliparse.extract.html2text import extract_plain_text

    return {"Resiliparse": lambda: sum(len(extract_plain_text(body)) for body in bodies)}


def _groups(path: Path) -> list[dict[str, list[Piece]]]:
    config = _config(path)
    groups: list[dict[str, list[Piece]]] = [defaultdict(list) for _ in range(stackexchange.rounds(config))]
    for extent in stackexchange.plan(config, path.parent, 1 << 40):
        for thing in stackexchange.read(extent, config, path.parent):
            if isinstance(thing, Piece):
                groups[thing.round][thing.key].append(thing._replace(file=extent.name))
    return groups


def _gather(groups: list[dict[str, list[Piece]]]) -> int:
    config = _config(Path("Posts.xml"))
    return sum(
        1 for number, keys in enumerate(groups) for key, pieces in keys.items() for _ in stackexchange.gather(number, key, pieces, config)
    )


def _pack(path: Path, target: Path) -> Path | None:
    try:
        import py7zr
    except ImportError:
        return None
    if not target.exists():
        with py7zr.SevenZipFile(target, "w", filters=[{"id": py7zr.FILTER_LZMA2, "preset": 3}]) as archive:
            archive.write(path, path.name)
    return target


def _unpack(path: Path) -> int:
    with path.open("rb") as file:
        (member,) = _sevenzip.members(file, limit=1 << 40)
        assert not isinstance(member, _sevenzip.Refused)
        stream, size = member.stream(), 0
        while block := stream.read(1 << 16):
            size += len(block)
        return size


def _py7zr(path: Path) -> int:
    import py7zr

    factory: Any = py7zr.io.BytesIOFactory(1 << 40)
    with py7zr.SevenZipFile(path) as archive:
        archive.extractall(factory=factory)
    return len(factory.products)
