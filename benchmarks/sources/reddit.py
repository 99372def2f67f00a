"""The reddit source beside plain Python on a Zstandard stream, as the dumps' own scripts read them.

json.loads    only parses: it drops nothing, makes no text and keeps nothing
plain Python  parses, drops what our defaults drop, undoes entities and makes a dictionary of our fields for each post and each drop; it
              takes no Markdown away and makes no columns

Ours goes all the way to record batches of the corpus's schemas, those of the dropped posts too. The dumps are repeated as further frames
of the same file.
"""

from __future__ import annotations

import datetime as dt
import html
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard
from _bench import Case, SkipError

from codedev.corpus import records
from codedev.corpus.source import Piece
from codedev.corpus.sources.reddit import source as reddit

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


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(file, read_across_frames=True)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            yield json.loads(line)


def _json_loads(path: Path) -> None:
    for _ in _records(path):
        pass


_KEPT = ("author", "link_flair_text", "link_id", "num_comments", "parent_id", "retrieved_on", "score", "subreddit", "title")


def _plain_python(path: Path) -> None:
    """A batch of documents and one of drops at a time, as a script that writes them would hold them."""
    documents: list[dict[str, Any]] = []
    drops: list[dict[str, Any]] = []
    for record in _records(path):
        is_comment = "body" in record
        text = record["body"] if is_comment else record.get("selftext") or ""
        name = ("t1_" if is_comment else "t3_") + record["id"]
        if reason := _reason(record, text):
            drops.append({"id": name, "reason": reason, "removed_by": record.get("removed_by_category")})
        else:
            text = html.unescape(html.unescape(text)).replace("\r\n", "\n").strip()
            if not is_comment:
                text = f"{html.unescape(record['title']).strip()}\n\n{text}".strip()
            link = record.get("permalink") or f"/comments/{(record.get('link_id') or name)[3:]}/_/{record['id']}/"
            created = dt.datetime.fromtimestamp(float(record["created_utc"]), dt.UTC)
            meta = json.dumps({key: record[key] for key in _KEPT if record.get(key) is not None})
            documents.append({"id": name, "text": text, "url": f"https://www.reddit.com{link}", "created": created, "meta": meta})
        if len(documents) + len(drops) >= 1024:
            documents, drops = [], []


def _reason(record: dict[str, Any], text: str) -> str | None:
    if record.get("over_18"):
        return "nsfw"
    if text in ("[deleted]", "[removed]") or record.get("removed_by_category"):
        return "deleted" if text == "[deleted]" or record.get("removed_by_category") in ("deleted", "author") else "removed"
    if (record.get("_meta") or {}).get("was_deleted_later"):
        return "removed"
    author = (record.get("author") or "").lower()
    if author == "automoderator" or author.endswith("bot"):
        return "bot"
    return None if text else "no_text"


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

    return Case(run, amount, "MB raw", peers={"plain Python": lambda: _plain_python(path), "json.loads": lambda: _json_loads(path)})


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
