"""The reddit source against json.loads and a brute-force tree: every record once, whatever the layout, the compression and the extents."""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import gzip
import io
import json
import lzma
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pydantic import ValidationError

from codedev.corpus import recipe as recipes
from codedev.corpus import records
from codedev.corpus.build import build
from codedev.corpus.document import meta_json, position_id
from codedev.corpus.extract.markdown import entities, plain
from codedev.corpus.source import Document, Drop, Failure, Piece
from codedev.corpus.sources.reddit import source as reddit
from codedev.corpus.sources.reddit import threads

Thing = Document | Drop | Failure
OPEN: dict[str, Any] = {"bots": "keep", "nsfw": "keep", "removed": "keep", "link_posts": "keep"}


def config(**keys: Any) -> reddit.Config:
    return reddit.Config(type="reddit", name="s", **{"paths": ("a",), **keys})


def comment(name: str, body: str = "Some words.", **fields: Any) -> dict[str, Any]:
    return {"id": name, "body": body, "author": f"by_{name}", "link_id": "t3_s", "parent_id": "t3_s", "created_utc": 1500000000, "score": 1,
            "subreddit": "pics", **fields}  # fmt: skip


def submission(name: str = "s", title: str = "A title", selftext: str = "A text.", **fields: Any) -> dict[str, Any]:
    return {"id": name, "title": title, "selftext": selftext, "author": f"by_{name}", "created_utc": 1500000000, "score": 5,
            "subreddit": "pics", "permalink": f"/r/pics/comments/{name}/a_title/", "num_comments": 2, **fields}  # fmt: skip


def lines(*values: Any) -> bytes:
    return b"".join(orjson.dumps(value) + b"\n" for value in values)


def rows(batch: pa.RecordBatch) -> list[Document]:
    batch.validate(full=True)
    return [
        Document(
            row["id"], row["text"], row["origin"]["offset"], row["origin"]["length"], url=row["url"], created=row["created"],
            licence=row["licence"], kind=row["kind"], meta=row["meta"], file=row["origin"]["file"],
        )
        for row in batch.to_pylist()
    ]  # fmt: skip


def read(folder: Path, content: bytes | dict[str, bytes], unit_bytes: int = 1 << 40, **keys: Any) -> list[Thing]:
    """What the source makes of its files, threads put together; all of it must fit into the corpus's schemas and balance."""
    files = {"a": content} if isinstance(content, bytes) else content
    for name, data in files.items():
        (folder / name).write_bytes(data)
    chosen = config(paths=tuple(files), **keys)
    extents = [extent._replace(hash="h") for extent in reddit.plan(chosen, folder, unit_bytes)]
    groups: defaultdict[str, list[Piece]] = defaultdict(list)
    things: list[Thing] = []

    def take(piece: Piece, file: str) -> None:
        groups[piece.key].append(piece._replace(file=file))

    reader = records.Reader(chosen, folder, take)
    batches = list(reader.batches(extents))
    gathered = list(reader.gathered(0, sorted(groups.items())))
    batches += [*gathered, *reader.drop_batches(), *reader.failure_batches()]
    for batch in batches:
        if "stage" in batch.schema.names:
            things += [
                Drop(r["id"], r["reason"], r["evidence"], r["origin"]["offset"], file=r["origin"]["file"]) for r in batch.to_pylist()
            ]
        elif "message" in batch.schema.names:
            things += [Failure(r["kind"], r["message"], r["offset"], raw=r["raw"], file=r["file"]) for r in batch.to_pylist()]
        else:
            things += rows(batch)
    assert reader.counts["rows_in"] == len(things) + reader.counts["joined"]
    return things


def kinds(things: list[Thing]) -> list[str]:
    return ["ok" if isinstance(t, Document) else t.reason if isinstance(t, Drop) else t.kind for t in things]


def one(folder: Path, record: dict[str, Any], **keys: Any) -> Thing:
    (thing,) = read(folder, lines(record), **keys)
    return thing


# -- posts -----------------------------------------------------------------------------------------------------------------------------


def test_a_comment_and_a_submission(tmp_path: Path) -> None:
    data = lines(comment("c1", "It &gt; *that*", author="ann"), submission("s1", "Q&amp;A *not bold*", "Some **bold**\r\n\r\ntext"))
    first, second = read(tmp_path, data)
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert (first.id, first.text, first.url) == ("t1_c1", "It > that", "https://www.reddit.com/comments/s/_/c1/")
    assert first.created == dt.datetime(2017, 7, 14, 2, 40, tzinfo=dt.UTC)
    assert first.meta == meta_json({"author": "ann", "link_id": "t3_s", "parent_id": "t3_s", "score": 1, "subreddit": "pics"})
    assert (first.kind, first.offset, first.length) == ("conversation", 0, data.index(b"\n") + 1)
    assert (second.id, second.text) == ("t3_s1", "Q&A *not bold*\n\nSome bold\n\ntext")
    assert second.url == "https://www.reddit.com/r/pics/comments/s1/a_title/"
    meta = {"author": "by_s1", "num_comments": 2, "score": 5, "subreddit": "pics", "title": "Q&A *not bold*"}
    assert second.meta == meta_json(meta)


def test_links(tmp_path: Path) -> None:
    link = submission("s1", "Look", "", url="http://a.example/x", link_flair_text="News")
    assert kinds(read(tmp_path, lines(link))) == ["no_text"]
    kept = one(tmp_path, link, link_posts="keep")
    assert isinstance(kept, Document)
    assert kept.text == "Look"
    assert json.loads(kept.meta)["url"] == "http://a.example/x"
    own = submission("s1", url="https://www.reddit.com/r/pics/comments/s1/a_title/")
    assert "url" not in json.loads(one(tmp_path, own).meta)
    old = {name: value for name, value in link.items() if name not in ("permalink", "selftext")}
    assert one(tmp_path, old, link_posts="keep").url == "http://a.example/x"


@pytest.mark.parametrize(
    ("record", "keys", "reason"),
    [
        (comment("c", "[deleted]"), {}, "deleted"),
        (comment("c", "[removed]"), {"removed": "keep"}, "removed"),
        (comment("c", "[ Removed by Reddit ]"), {}, "removed"),
        (comment("c", "[ Removed by reddit in response to a copyright notice. ]"), {}, "removed"),
        (comment("c", "[deleted by user]"), {}, "deleted"),
        (comment("c", "[a](b) and [c]"), {}, "ok"),
        (comment("c", author="[deleted]"), {}, "ok"),
        (comment("c", author=None), {}, "ok"),
        (submission(selftext="[removed]"), {}, "removed"),
        (submission(removed_by_category="moderator"), {}, "removed"),
        (submission(removed_by_category="deleted"), {}, "deleted"),
        (submission(selftext="[removed]", removed_by_category="deleted"), {}, "deleted"),
        (submission(removed_by_category="moderator"), {"removed": "keep"}, "ok"),
        (comment("c", _meta={"was_deleted_later": True, "removal_type": "deleted"}), {}, "deleted"),
        (comment("c", _meta={"was_deleted_later": True}), {}, "removed"),
        (comment("c", _meta={"was_deleted_later": True}), {"removed": "keep"}, "ok"),
        (comment("c", _meta={"retrieved_2nd_on": 1706875209}), {}, "ok"),
        (comment("c", author="AutoModerator"), {}, "bot"),
        (comment("c", author="MetricConversionBot"), {}, "bot"),
        (comment("c", author="sneakpeek_bot"), {"bots": "keep"}, "ok"),
        (comment("c", author="Mr_Robot"), {}, "ok"),
        (comment("c", author="Helper9"), {"bot_names": ("helper9",)}, "bot"),
        (submission(over_18=True), {}, "nsfw"),
        (submission(over_18=True), {"nsfw": "keep"}, "ok"),
        (comment("c", score=2), {"min_score": 3}, "low_score"),
        (comment("c", score="2"), {"min_score": 3}, "low_score"),
        (comment("c", score=None), {"min_score": 3}, "ok"),
        (comment("c", subreddit="Pics"), {"subreddits": ("piCs",)}, "ok"),
        (comment("c", subreddit="Pics"), {"not_subreddits": ("piCs",)}, "subreddit"),
        (comment("c", subreddit=None), {"subreddits": ("pics",)}, "subreddit"),
        (comment("c", stickied=True), {"stickied": "drop"}, "stickied"),
        (comment("c", ""), {}, "no_text"),
        (comment("c", " \n"), {}, "no_text"),
        (comment("c", "![gif](giphy|x)"), {}, "no_text"),
        (submission("s", None, "text"), {}, "ok"),
        (submission("s", None, None, body=None), {}, "not_a_post"),
        ({"id": "x", "author": "y"}, {}, "not_a_post"),
    ],
)  # fmt: skip
def test_drops(tmp_path: Path, record: dict[str, Any], keys: dict[str, Any], reason: str) -> None:
    assert kinds([one(tmp_path, record, **keys)]) == [reason]


def test_evidence(tmp_path: Path) -> None:
    dropped = one(tmp_path, comment("c", score=-4), min_score=0)
    assert isinstance(dropped, Drop)
    assert (dropped.id, json.loads(dropped.evidence)) == ("t1_c", {"score": -4})
    dropped = one(tmp_path, submission(removed_by_category="automod_filtered"))
    assert isinstance(dropped, Drop)
    assert json.loads(dropped.evidence) == {"removed_by_category": "automod_filtered"}


def test_types_that_drift(tmp_path: Path) -> None:
    """What one layout writes as a number another writes as text, null or in base 10: the documents are the same."""
    usual = comment("c", link_id="t3_1afjd7n", parent_id="t1_kod0bkd", retrieved_on=1706745615, stickied=False)
    number = {"1afjd7n": int("1afjd7n", 36), "kod0bkd": int("kod0bkd", 36)}
    (expected,) = read(tmp_path, lines(usual))
    for change in (
        {"created_utc": "1500000000"}, {"created_utc": 1500000000.0}, {"created_utc": "1500000000.0"}, {"score": 1.0}, {"score": "1"},
        {"stickied": None}, {"retrieved_on": "1706745615"}, {"edited": 1500000001.0}, {"name": "t1_c"}, {"id": "t1_c"},
        {"link_id": "1afjd7n"}, {"link_id": number["1afjd7n"], "parent_id": number["kod0bkd"]}, {"_meta": []},
        {"distinguished": False}, {"title": 3},
        {"replies": {"kind": "Listing", "data": {"children": [{"body": "inner", "id": "z"}]}}},
    ):  # fmt: skip
        (found,) = read(tmp_path, lines({**usual, **change}))
        assert isinstance(found, Document)
        assert isinstance(expected, Document)
        assert found._replace(length=0) == expected._replace(length=0), change
    (found,) = read(tmp_path, lines({name: value for name, value in {**usual, "name": "t1_c"}.items() if name != "id"}))
    assert found.id == "t1_c"
    (found,) = read(tmp_path, lines({**usual, "link_id": 40, "parent_id": 40}))
    assert json.loads(found.meta)["parent_id"] == "t3_14"


@pytest.mark.parametrize("value", [10**30, -(10**30), 1e300, True, [1], {"a": 1}, "x", "1e999", ""])
def test_numbers_that_are_none(tmp_path: Path, value: Any) -> None:
    record = comment("c", created_utc=value, score=value, retrieved_on=value)
    (found,) = read(tmp_path, json.dumps(record).encode())
    assert isinstance(found, Document)
    assert found.created is None
    assert "score" not in json.loads(found.meta)


def test_times_at_the_ends(tmp_path: Path) -> None:
    times = [0, 253402300799, 253402300800, -1, 1.5]
    found = read(tmp_path, lines(*[comment(f"c{n}", created_utc=time) for n, time in enumerate(times)]))
    assert [thing.created and thing.created.timestamp() for thing in found] == [0, 253402300799, None, None, 1.5]


def test_no_id_gives_a_position_id(tmp_path: Path) -> None:
    record = comment("c")
    del record["id"]
    found = read(tmp_path, lines(comment("c0"), record))
    assert found[1].id == position_id("h", len(lines(comment("c0"))))


# -- files -----------------------------------------------------------------------------------------------------------------------------


def test_compressions(tmp_path: Path) -> None:
    data = lines(*[comment(f"c{n}", f"Words {n} *here*.") for n in range(50)])
    expected = read(tmp_path, data)
    assert kinds(expected) == ["ok"] * 50
    compressor = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=31))
    whole = compressor.compressobj()
    large = whole.compress(data) + whole.flush()
    two = zstandard.compress(data[:700]) + zstandard.compress(data[700:])
    for packed in (gzip.compress(data), bz2.compress(data), lzma.compress(data), zstandard.compress(data), large, two):
        assert read(tmp_path, packed) == expected


def test_other_forms(tmp_path: Path) -> None:
    posts = [comment(f"c{n}", f"Words {n}.") for n in range(5)]
    texts = [thing.text for thing in read(tmp_path, lines(*posts))]
    forms = (json.dumps(posts), json.dumps(posts, indent=2), json.dumps({"data": posts}), "\n".join(json.dumps(p, indent=2) for p in posts))
    for content in forms:
        found = read(tmp_path, content.encode())
        assert [thing.text for thing in found] == texts
        for thing in found:
            assert json.loads(content.encode()[thing.offset : thing.offset + thing.length])["body"] == thing.text
    assert kinds(read(tmp_path, b"# A readme\n\nwith text\n")) == ["not_a_dump"]
    assert kinds(read(tmp_path, b"a,b\n1,2\n")) == ["not_a_dump"]
    assert kinds(read(tmp_path, b"")) == ["empty"]
    assert kinds(read(tmp_path, gzip.compress(b" \n"))) == ["empty"]


def test_csv(tmp_path: Path) -> None:
    posts = [submission(f"s{n}", f'A "title", {n}', f"Line one\nline *two* {n}") for n in range(4)] + [submission("s4", "A link", "")]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(posts[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(posts)
    data = table.getvalue().encode()
    found = read(tmp_path, data, link_posts="keep")
    expected = read(tmp_path, lines(*posts), link_posts="keep")
    assert [t._replace(offset=0, length=0) for t in found] == [t._replace(offset=0, length=0) for t in expected]
    for post, thing in zip(posts, found, strict=True):
        assert post["id"] in data[thing.offset : thing.offset + thing.length].decode()
    bad = b"id,title\n1,a\n2\n\n3,\xff\n4,b\n" + b'5,"never closed\n'
    assert kinds(read(tmp_path, bad, link_posts="keep")) == ["ok", "ok", "wrong_columns", "invalid_utf8", "invalid_csv"]


@pytest.mark.parametrize("mode", ["posts", "threads"])
def test_extents(tmp_path: Path, mode: str) -> None:
    """Any size of units gives what one extent gives."""
    generator = random.Random(1)
    content = b"\xef\xbb\xbf" + b"".join(
        generator.choice([lines(comment(f"c{n}", "x" * generator.randrange(50))), b"\n", b"{bad\n", lines(comment(f"d{n}", "[deleted]"))])
        for n in range(60)
    )
    expected = read(tmp_path, content, mode=mode)
    for unit_bytes in (1, 7, 100, 333, 5000, len(content)):
        assert read(tmp_path, content, unit_bytes, mode=mode) == expected


def test_lines_that_only_count_right(tmp_path: Path) -> None:
    """A block is decoded in one go, in which a line feed is white space: as many records as lines does not mean one on each."""
    first, second = lines(comment("c1"))[:-1], lines(comment("c2"))[:-1]
    cut = first.index(b",") + 1
    good, bad = lines(comment("c0")), "invalid_json"
    for content, expected in (
        (first[:cut] + b"\n" + first[cut:] + second + b"\n", [bad, bad]),
        (first + second + b"\n\n", [bad]),
        (first + b"\n" + second, ["ok", "ok"]),
        (first + b" \n" + second + b"\r\n", ["ok", "ok"]),
        (b'{"id":"c","body":"a}\n{b"}\n', [bad, bad]),
        (b'{"x":{}\n,"id":"c","body":"y"}\n', [bad, bad]),
        (first[:-1] + b',"x":[{}\n{}]}' + second + b"\n", [bad, bad]),
        (b"\n".join([first, b"", second, b"", b""]), ["ok", "ok"]),
        (first + b"\n" + second[:-1], ["ok", bad]),
    ):
        found = read(tmp_path, good + content)
        assert sorted(kinds(found)) == sorted(["ok", *expected]), content
        for thing in found:
            if isinstance(thing, Document):
                raw = (good + content)[thing.offset : (thing.offset or 0) + (thing.length or 0)]
                assert "t1_" + json.loads(raw)["id"] == thing.id


def test_hostile_lines(tmp_path: Path) -> None:
    good = lines(comment("c"))
    deep = b'{"id":"x","body":"y","z":' + b"[" * 200_000 + b"]" * 200_000 + b"}\n"
    bad = {
        b"{\n": "invalid_json", b"[1]\n": "not_an_object", b'"x"\n': "not_an_object", b"null\n": "not_an_object", b"{}\n": "not_a_post",
        b'{"body": "\xff"}\n': "invalid_utf8", b'{"body": "\\ud800"}\n': "invalid_json", b'{"body": 3}\n': "not_a_post",
        b'{"body": "x"} y\n': "invalid_json", b"\x00\x00\n": "invalid_json", deep: "invalid_json",
        b'{"body": "' + b"x" * 3000 + b'"}\n': "too_large",
    }  # fmt: skip
    for line, kind in bad.items():
        found = read(tmp_path, good + line + good, max_record_bytes=2000 if kind == "too_large" else 64 << 20)
        assert sorted(kinds(found)) == sorted(["ok", "ok", kind]), line[:40]
    nul = one(tmp_path, comment("c", "a\x00b"))
    assert nul.text == "a\x00b"
    clipped = zstandard.compress(good * 100)[:-10]
    assert kinds(read(tmp_path, clipped))[-1] == "truncated"
    assert kinds(read(tmp_path, gzip.compress(good)[:-8] + b"\0" * 8))[-1] == "corrupt"
    bomb = zstandard.compress(b" " * (200 << 20))
    assert kinds(read(tmp_path, bomb)) == ["bomb"]
    extents = list(reddit.plan(config(), tmp_path, 1))
    (tmp_path / "a").unlink()
    assert kinds([thing for extent in extents for thing in reddit.read(extent, config(), tmp_path)]) == ["unreadable"]


def test_a_carriage_return_in_the_first_line(tmp_path: Path) -> None:
    for content in (b"hello\rworld\nx\n", b"id,body\r\rx,y\r"):
        assert kinds(read(tmp_path, content)) == ["not_a_dump"]
        assert kinds(read(tmp_path, content, unit_bytes=4)) == ["not_a_dump"]
    before = csv.field_size_limit()
    read(tmp_path, b"id,body\n1,a\n", max_record_bytes=20)
    assert csv.field_size_limit() == before
    csv.field_size_limit(3)  # another source's
    try:
        assert kinds(read(tmp_path, b"id,body\n1,some words\n")) == ["ok"]
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize("unit_bytes", [10, 1 << 40])
def test_a_first_line_that_is_cut(tmp_path: Path, unit_bytes: int) -> None:
    data = b'dy":"tail"}\n' + lines(*(comment(f"c{n}") for n in range(5)))
    assert sorted(kinds(read(tmp_path, data, unit_bytes))) == ["invalid_json", *["ok"] * 5]
    assert kinds(read(tmp_path, b"int main()\n{\n{1}\n" * 9, unit_bytes)) == ["not_a_dump"]


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        ((b"", b""), ["empty"]),
        ((lines(comment("c")), lines(comment("d"))), ["ok", "ok"]),
        ((b" \n" + lines(comment("c")), b"{\n" + lines(comment("d"))), ["invalid_json", "ok", "ok"]),
        ((b"id,body\n1,a\n", b'\r\n2,"b\n\nc"\n'), ["ok", "ok"]),
        ((b"[" + lines(comment("c")), b"]"), ["ok"]),
    ],
)
def test_blank_lines_cost_next_to_nothing(tmp_path: Path, around: tuple[bytes, bytes], expected: list[str]) -> None:
    data = (b"\n" * (40 << 20)).join(around)
    began = time.process_time()
    found = read(tmp_path, bz2.compress(data) if not around[0] else data)
    assert time.process_time() - began < 3
    assert sorted(kinds(found)) == expected
    for thing in found:
        if isinstance(thing, Document):
            assert data[thing.offset or 0 :][:1] in b"{12"


# -- threads ---------------------------------------------------------------------------------------------------------------------------


def thread(folder: Path, *posts: dict[str, Any], **keys: Any) -> tuple[Document, dict[str, Any], list[str]]:
    """The one document of these posts, its meta and what else came out."""
    things = read(folder, lines(*posts), mode="threads", **keys)
    (document,) = (thing for thing in things if isinstance(thing, Document))
    return (
        document,
        json.loads(document.meta),
        [f"{t.id} {t.reason}" if isinstance(t, Drop) else t.kind for t in things if t is not document],
    )


def test_a_thread(tmp_path: Path) -> None:
    posts = [
        comment("a", "First *answer*", score=2, author="ann"),
        comment("b", "Better answer", score=9, author="bob"),
        comment("c", "Thanks, /u/bob!", parent_id="t1_b", author="by_s"),
        comment("d", "Really", parent_id="t1_c", author="bob", score=3),
        comment("e", "Or u/nobody_here?", parent_id="t1_c", author="[deleted]", score=4),
        submission("s", "How?", "Tell me."),
    ]
    document, meta, rest = thread(tmp_path, *posts)
    assert rest == []
    assert document.text == (
        "How?\n\nTell me.\n\nUser1: Better answer\n\nOP: Thanks, User1!\n\nSomeone: Or u/nobody_here?\n\nUser1 to OP: Really\n\n"
        "User2 to OP: First answer"
    )
    assert (document.id, document.url) == ("t3_s", "https://www.reddit.com/r/pics/comments/s/a_title/")
    assert meta["messages"] == [
        {"role": "user", "content": "How?\n\nTell me."},
        {"role": "assistant", "content": "Better answer"},
        {"role": "user", "content": "Thanks, User1!"},
        {"role": "assistant", "content": "Or u/nobody_here?"},
    ]
    assert meta["authors"] == ["by_s", "bob", "ann"]
    assert meta["comment_ids"] == ["t1_b", "t1_c", "t1_e", "t1_d", "t1_a"]
    assert (meta["comments"], meta["depth"], meta["score"], meta["title"]) == (5, 3, 5, "How?")
    data = lines(*posts)
    assert json.loads(data[document.offset : (document.offset or 0) + (document.length or 0)])["id"] == "s"
    document, meta, _ = thread(tmp_path, *posts, authors="names", siblings="time", messages=False)
    assert document.text.startswith("How?\n\nTell me.\n\nann: First answer\n\nbob to by_s: Better answer\n\nby_s: Thanks, /u/bob!")
    assert "messages" not in meta


def test_dropped_comments_leave_their_replies(tmp_path: Path) -> None:
    document, meta, rest = thread(
        tmp_path, submission(), comment("a", author="ann"), comment("b", "[deleted]", parent_id="t1_a"),
        comment("c", "[removed]", parent_id="t1_b"),
        comment("d", "Still here", parent_id="t1_c", author="dan"), comment("e", "Where?", parent_id="t1_nowhere", score=0, author="eve"),
        comment("f", "Bot", author="somebot"), comment("g", "Too", parent_id="t1_f", score=-1, author="gus"),
    )  # fmt: skip
    assert sorted(rest) == ["t1_b deleted", "t1_c removed", "t1_f bot"]
    assert document.text.split("\n\n")[2:] == ["User1: Some words.", "User2: Still here", "User3 to OP: Where?", "User4 to OP: Too"]
    assert meta["no_parent"] == 1


def test_dropped_and_absent_submissions(tmp_path: Path) -> None:
    posts = [comment("a", author="ann"), comment("b", author="bob", score=0)]
    document, meta, rest = thread(tmp_path, *posts)
    assert (document.id, document.text, rest) == ("t3_s", "User1: Some words.\n\nUser2 to OP: Some words.", [])
    assert meta["no_submission"] == "absent"
    assert document.url == "https://www.reddit.com/comments/s/"
    document, meta, rest = thread(tmp_path, submission(selftext="[removed]"), *posts)
    assert (meta["no_submission"], rest) == ("removed", ["t3_s removed"])
    found = read(tmp_path, lines(*posts, submission(selftext="[removed]")), mode="threads", no_submission="drop")
    assert Counter(kinds(found)) == {"no_submission": 2, "removed": 1}
    assert Counter(kinds(read(tmp_path, lines(*posts, submission(over_18=True)), mode="threads"))) == {"nsfw": 3}
    assert kinds(read(tmp_path, lines(submission(over_18=False)), mode="threads")) == ["few_comments"]
    assert kinds(read(tmp_path, lines(submission(), posts[0]), mode="threads", min_comments=2)) == ["few_comments"] * 2
    assert kinds(read(tmp_path, lines(submission(selftext="")), mode="threads", min_comments=0)) == ["ok"]
    assert kinds(read(tmp_path, lines(submission(selftext="")), mode="threads", min_comments=0, link_posts="drop")) == ["no_text"]


def test_posts_crawled_twice(tmp_path: Path) -> None:
    """The copy retrieved last counts, wherever it stands."""
    posts = [submission(), comment("a", "old", retrieved_on=5), comment("a", "new", retrieved_on=9), comment("b", "kept", parent_id="t1_a")]
    for order in (posts, posts[::-1]):
        document, _, rest = thread(tmp_path, *order)
        assert "new" in document.text
        assert "old" not in document.text
        assert rest == ["t1_a duplicate_post"]
    gone = comment("a", "[deleted]", retrieved_on=9)
    for order in ([posts[0], posts[1], gone, posts[3]], [gone, posts[3], posts[1], posts[0]]):
        document, _, rest = thread(tmp_path, *order)
        assert document.text.endswith("User1: kept")
        assert rest == ["t1_a deleted", "t1_a deleted"]
    document, _, rest = thread(tmp_path, posts[0], comment("a", "[removed]", retrieved_on=1), posts[1])
    assert document.text.endswith("User1: old")
    assert rest == ["t1_a removed"]


def test_deep_chains_circles_and_limits(tmp_path: Path) -> None:
    number = 10_000
    chain = [comment(f"c{n}", f"Words {n}.", parent_id=f"t1_c{n - 1}" if n else "t3_s") for n in range(number)]
    random.Random(0).shuffle(chain)
    document, meta, rest = thread(tmp_path, submission(), *chain)
    assert (meta["depth"], meta["comments"], rest) == (number, number, [])
    assert document.text.split("\n\n")[2:5] == ["User1: Words 0.", "User2: Words 1.", "User3: Words 2."]
    assert len(meta["messages"]) == number
    gone = [comment(f"c{n}", "[deleted]", parent_id=f"t1_c{n - 1}" if n else "t3_s") for n in range(number)]
    leaves = [comment(f"d{n}", "Leaf", parent_id=f"t1_c{number - 1}") for n in range(2000)]
    _, meta, rest = thread(tmp_path, submission(), *gone, *leaves)
    assert (meta["depth"], meta["comments"], len(rest)) == (1, 2000, number)
    document, meta, rest = thread(tmp_path, submission(), *chain, max_comments=10)
    assert meta["comments"] == 10
    assert Counter(reason.split()[1] for reason in rest) == {"max_comments": number - 10}
    circle = [
        comment("a", parent_id="t1_b"),
        comment("b", parent_id="t1_a"),
        comment("c", parent_id="t1_c"),
        comment("d", parent_id="t1_b"),
    ]
    _, meta, _ = thread(tmp_path, submission(), *circle)
    assert (meta["comments"], meta["no_parent"]) == (4, 2)
    _, meta, _ = thread(tmp_path, submission(), comment("a", "[deleted]", parent_id="t1_b"), comment("b", "[deleted]", parent_id="t1_a"),
                        comment("c", parent_id="t1_b"), comment("d", parent_id="t1_a"))  # fmt: skip
    assert meta["comments"] == 2


def test_limits_that_make_no_sense() -> None:
    for keys in ({"max_comments": 0}, {"max_comments": -1}, {"min_comments": -1}):
        with pytest.raises(ValidationError):
            config(mode="threads", **keys)


def test_a_thread_larger_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = [submission(), comment("gone", "[deleted]"), *(comment(f"c{n}", f"{n} " + "x" * 500, score=n) for n in range(100))]
    random.Random(0).shuffle(posts)
    _, meta, rest = thread(tmp_path, *posts, max_record_bytes=7000)
    assert meta["comment_ids"][0] == "t1_c99"
    assert 8 <= meta["comments"] <= 13
    assert Counter(reason.split()[1] for reason in rest) == {"deleted": 1, "too_large": 100 - meta["comments"]}
    assert meta["comment_ids"] == [f"t1_c{99 - n}" for n in range(meta["comments"])]
    monkeypatch.setattr(threads, "_most", lambda config: 50)
    _, meta, rest = thread(tmp_path, *posts)
    assert (meta["comments"], len(rest)) == (48, 53)  # beside the submission and the mark


def walk(name: str, replies: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    for post in sorted(replies[name], key=lambda post: (-post["score"], post["created_utc"], post["id"])):
        yield "t1_" + post["id"]
        yield from walk("t1_" + post["id"], replies)


def test_random_threads_against_recursion(tmp_path: Path) -> None:
    """Trees in any order and over files, some posts deleted: the same order as a recursive walk of the tree without them."""
    generator = random.Random(5)
    for _ in range(30):
        posts: list[dict[str, Any]] = []
        for n in range(generator.randrange(1, 40)):
            parent = generator.choice([None, *posts]) if posts else None
            body = generator.choice(["Words", "Words", "[deleted]"])
            posts.append(comment(f"c{n}", body, parent_id=f"t1_{parent['id']}" if parent else "t3_s", score=generator.randrange(4)))
        by_id = {f"t1_{post['id']}": post for post in posts}
        replies: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for post in posts:
            parent = post["parent_id"]
            while parent in by_id and by_id[parent]["body"] == "[deleted]":
                parent = by_id[parent]["parent_id"]
            if post["body"] != "[deleted]":
                replies[parent].append(post)
        expected = list(walk("t3_s", replies))
        records_ = [submission(), *posts]
        generator.shuffle(records_)
        half = len(records_) // 2
        found = read(tmp_path, {"a": lines(*records_[:half]) or b"\n", "b": lines(*records_[half:])}, mode="threads", min_comments=0)
        (document,) = (thing for thing in found if isinstance(thing, Document))
        assert json.loads(document.meta)["comment_ids"] == expected


def test_build_joins_files_in_any_order(tmp_path: Path) -> None:
    posts = [submission(f"s{n}", f"Title {n}") for n in range(20)]
    posts += [comment(f"c{n}", f"Words of {n}", link_id=f"t3_s{n % 20}", parent_id=f"t3_s{n % 20}", score=n % 7) for n in range(200)]
    posts += [comment(f"d{n}", "[removed]", link_id=f"t3_s{n % 20}", parent_id=f"t1_c{n}") for n in range(40)]
    results = []
    for run, (workers, unit_bytes) in enumerate([(1, 32 << 20), (2, 1024)]):
        folder = tmp_path / str(run)
        folder.mkdir()
        (folder / "RC.ndjson").write_bytes(lines(*posts[20:]))
        (folder / "RS.zst").write_bytes(zstandard.compress(lines(*posts[:20])))
        source = {"name": "r", "type": "reddit", "paths": ["RC.ndjson", "RS.zst"], "mode": "threads"}
        recipe = recipes.check({"name": "t", "unit_bytes": unit_bytes, "sources": [source]}, "recipe")
        manifest = build(recipe, folder, folder / "out", workers=workers)
        read_row = manifest["waterfall"]["r"][0]
        assert (read_row["rows_in"], read_row["rows_out"], read_row["joined"]) == (260, 20, 200)
        assert read_row["drop"] == {"removed": 40}
        table = pa.concat_tables([pq.read_table(path) for path in sorted((folder / "out/documents/r").glob("*.parquet"))])
        results.append(table.sort_by("id"))
    assert results[0].num_rows == 20
    assert results[0].select(["id", "text", "meta"]).equals(results[1].select(["id", "text", "meta"]))


# -- real data -------------------------------------------------------------------------------------------------------------------------


def oracle(record: dict[str, Any]) -> tuple[str, str]:
    """Id and text of a kept post, as json.loads sees it."""
    if "body" in record:
        return "t1_" + record["id"], plain(record["body"])
    return "t3_" + record["id"], f"{entities(record['title']).strip()}\n\n{plain(record['selftext'] or '')}".strip()


def test_samples() -> None:
    """The sample dumps: what their recipe says of them."""
    base = Path(__file__).parent.parent / "samples/reddit"
    reader = records.Reader(config(paths=("RS_sample.ndjson", "RC_sample.ndjson", "top.csv")), base)
    batches = list(reader.batches(reddit.plan(config(paths=("RS_sample.ndjson", "RC_sample.ndjson", "top.csv")), base, 1 << 30)))
    assert sum(batch.num_rows for batch in batches) == 14
    assert {name: number for name, number in reader.counts.items() if name[0] in "de"} == {
        "drop.no_text": 2, "drop.deleted": 2, "drop.bot": 1, "drop.nsfw": 1, "error.invalid_json": 1,
    }  # fmt: skip


@pytest.mark.realdata
def test_real_dumps(data_dir: Path) -> None:
    """Every line of the real dumps, rows in = rows out + counted, texts as the oracle's, the raw record at its offset."""
    base = data_dir / "reddit"
    files = {
        "tanaym42__anlp-project/RC_2005-12.zst": 1075,
        "tanaym42__anlp-project/reddit/submissions/RS_2019-10.zst": 8271,
        "Paul-E__Pushshift-Importer/test_data/test_comments.json": None,
        "Paul-E__Pushshift-Importer/test_data/test_submissions.json": None,
    }
    for file, number in files.items():
        chosen = config(paths=(file,), **OPEN)
        raw = (base / file).read_bytes()
        if file.endswith("zst"):
            raw = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(raw, read_across_frames=True).read()
        reader = records.Reader(chosen, base)
        documents = [row for batch in reader.batches(reddit.plan(chosen, base, 1 << 30)) for row in rows(batch)]
        print(file, dict(reader.counts))
        parsed = [json.loads(line) for line in raw.splitlines() if line.strip()]
        assert reader.counts["rows_in"] == len(parsed)
        assert number is None or len(parsed) == number
        assert not any(name.startswith("error") for name in reader.counts)
        expected = dict(oracle(record) for record in parsed)
        assert len(documents) > 10
        for document in documents:
            assert expected[document.id] == document.text
            record = json.loads(raw[document.offset : (document.offset or 0) + (document.length or 0)])
            assert oracle(record) == (document.id, document.text)
            assert document.created == dt.datetime.fromtimestamp(float(record["created_utc"]), dt.UTC)
            meta = json.loads(document.meta)
            assert document.meta == meta_json(meta)
            assert (meta.get("author"), meta.get("score"), meta["subreddit"]) == (record["author"], record["score"], record["subreddit"])


@pytest.mark.realdata
def test_real_csv(data_dir: Path) -> None:
    base = data_dir / "reddit/umbrae__reddit-top-2.5-million/data"
    for path in sorted(base.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            parsed = {"t3_" + row["id"]: row for row in csv.DictReader(file)}
        chosen = config(paths=(path.name,), link_posts="keep")
        reader = records.Reader(chosen, base)
        documents = [row for batch in reader.batches(reddit.plan(chosen, base, 1)) for row in rows(batch)]
        assert reader.counts["rows_in"] == len(parsed)
        assert not any(name.startswith("error") for name in reader.counts)
        raw = path.read_bytes()
        for document in documents:
            row = parsed[document.id]
            assert document.text == f"{entities(row['title']).strip()}\n\n{plain(row['selftext'])}".strip()
            assert json.loads(document.meta)["score"] == int(row["score"])
        for document in random.Random(0).sample(documents, 100):
            at = raw[document.offset : (document.offset or 0) + (document.length or 0)].decode()
            assert next(csv.reader([at]))[3] == document.id[3:]


@pytest.mark.realdata
def test_every_layout_since_2005(data_dir: Path) -> None:
    """Records made of the types that the schema of each monthly dump names, all of which must be read."""
    samples = {"string": "1", "int": 1, "float": 1.5, "bool": False, "null": None, "object": {}, "array": []}
    schemas = sorted((data_dir / "reddit/ArthurHeitmann__arctic_shift/schemas").rglob("R?_*.json"))
    assert len(schemas) == 34
    for path in schemas:
        (schema,) = (one for one in json.loads(path.read_text()) if one["type"] == "object")
        for turn in range(3):
            record = {}
            for name, types in schema["schema"].items():
                kinds_ = [kind["type"] for kind in types]
                record[name] = samples[kinds_[turn % len(kinds_)]]
            record["created_utc"] = "1500000000" if isinstance(record["created_utc"], str) else 1500000000
            raw = orjson.dumps(record)
            found = reddit._post(raw, 0)
            assert not isinstance(found, Failure)
            assert found is not None
            assert (found.body is not None) == path.name.startswith("RC")
            assert (found.id, float(found.created_utc or 0)) == ("1", 1.5e9)


def test_a_csv_without_a_column_for_the_subreddit_has_it_in_its_links(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "id,title,selftext,permalink\n1,One,text,http://www.reddit.com/r/Fitness/comments/1/one/\n"
        "2,Two,text,http://www.reddit.com/r/math/comments/2/two/\n"
    )
    config = recipes.check_source({"name": "r", "type": "reddit", "paths": ["a.csv"], "subreddits": ["fitness"]}, "r")
    things = [thing for extent in reddit.plan(config, tmp_path, 1 << 20) for thing in reddit.read(extent, config, tmp_path)]
    rows = [row for thing in things if isinstance(thing, pa.RecordBatch) for row in thing.to_pylist()]
    assert [row["id"] for row in rows] == ["t3_1"]
    assert orjson.loads(rows[0]["meta"])["subreddit"] == "Fitness"
