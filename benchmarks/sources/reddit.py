"""The reddit source beside json.loads on a Zstandard stream, as the dumps' own scripts read them.

The peer only parses: it drops nothing, makes no text of Markdown and no columns. Ours goes all the way to record batches of the corpus's
schemas, those of the dropped posts too. The dumps are repeated as further frames of the same file.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import zstandard
from _bench import Case, SkipError

from codedev.corpus import records
from codedev.corpus.source import Piece
from codedev.corpus.sources import reddit

_MB = 30  # of decompressed bytes in a run


def cases(data: Path, work: Path) -> dict[str, Case]:
    base = data / "reddit"
    if not base.is_dir():
        raise SkipError(f"no real data at {base}")
    comments = base / "tanaym42__anlp-project/RC_2005-12.zst"
    submissions = base / "tanaym42__anlp-project/reddit/submissions/RS_2019-10.zst"
    late = base / "Paul-E__Pushshift-Importer/test_data"
    today = work / "today.zst"
    today.write_bytes(zstandard.compress((late / "test_comments.json").read_bytes().rstrip() + b"\n"))
    return {
        "posts/submissions of 2019": _posts(submissions, work / "rs.zst"),
        "posts/comments of 2005": _posts(comments, work / "rc.zst"),
        "posts/comments of 2024": _posts(today, work / "today-rc.zst"),
        "threads/comments of 2005": _threads(comments, work / "threads.zst"),
    }


def _repeated(source: Path, path: Path) -> tuple[Path, float]:
    """A file of as many frames as make _MB, and its decompressed size in MB."""
    packed = source.read_bytes()
    size = sum(map(len, _chunks(source)))
    times = max(1, round(_MB * 1e6 / size))
    path.write_bytes(packed * times)
    return path, size * times / 1e6


def _chunks(path: Path) -> Any:
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(file, read_across_frames=True)
        while chunk := reader.read(1 << 20):
            yield chunk


def _json_loads(path: Path) -> None:
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(file, read_across_frames=True)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            json.loads(line)


def _posts(source: Path, path: Path) -> Case:
    path, amount = _repeated(source, path)
    config = reddit.Config(type="reddit", name="r", paths=(path.name,))

    def run() -> None:
        reader = records.Reader(config, path.parent)

        def drain() -> None:
            for _ in (*reader.drop_batches(), *reader.failure_batches()):
                pass

        for _ in reader.batches(reddit.plan(config, path.parent, 1 << 40), drain):
            pass
        drain()

    return Case(run, amount, "MB raw", peers={"json.loads": lambda: _json_loads(path)})


def _threads(source: Path, path: Path) -> Case:
    """Reading and gathering, without the sorting between them: pieces meet in a dictionary. The repeated dump is one of duplicates."""
    path, amount = _repeated(source, path)
    config = reddit.Config(type="reddit", name="r", paths=(path.name,), mode="threads")

    def run() -> None:
        groups: defaultdict[str, list[Piece]] = defaultdict(list)
        reader = records.Reader(config, path.parent, lambda piece, file: groups[piece.key].append(piece._replace(file=file)))
        for _ in reader.batches(reddit.plan(config, path.parent, 1 << 40)):
            pass
        for _ in reader.gathered(0, groups.items()):
            pass
        for _ in reader.drop_batches():
            pass

    return Case(run, amount, "MB raw", peers={"json.loads": lambda: _json_loads(path)})
