"""Reddit: submissions and comments of the Pushshift and Arctic Shift dumps, one document each or put together again as threads.

Input is one JSON record a line, plain or compressed (told by content; Zstandard windows up to 2 GiB), in the layouts of 2005 to 2025;
or a JSON array, bare or as the API gives it ({"data": […]}), records over several lines, or CSV with a header that names a title or a
body. Submissions and comments are told apart by their fields, so one source may name both.

posts     a document for each post. id t3_… or t1_…; text = title, blank line, selftext; or the comment's body; without Markdown
threads   a document for each submission with its comments (corpus/sources/reddit_threads.py), brought together out of core

Plain files split by byte ranges; compressed ones and CSV are read in one piece. What the recipe drops is dropped before text is made of it.
Cost of posts: 2 µs and 1 ns a byte each beside decompression, 2 µs more where it is kept, and 1 to 50 µs more for its Markdown. Memory: a
block of 1 MiB and some MiB of documents.

What it does not do: it does not read the .zst_blocks of 2023, and does not find a comment's NSFW mark, since comments carry none (in
threads the submission's counts for all).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from codedev._files import Found, compression, decompressed, expand, is_damage, open_raw
from codedev.corpus.document import DOCUMENT, position_id
from codedev.corpus.extract.markdown import MARKS, NEEDS, entities, tidy, without_marks
from codedev.corpus.source import Document, Drop, Extent, Failure, Piece, SourceConfig
from codedev.corpus.sources import DEFAULT_KIND
from codedev.corpus.sources.json_array import Beside, elements, wrapped
from codedev.corpus.sources.lines import blocks
from codedev.corpus.sources.reddit.csv_rows import csv_posts, fields_up_to
from codedev.corpus.sources.reddit.post import (
    Post,
    all_usual,
    decode,
    decode_lines,
    evidence,
    is_post,
    judge_of,
    metas,
    no_post,
    parse,
    seconds,
    text_of,
    url_of,
)
from codedev.corpus.sources.reddit.threads import gather_thread, piece_of, tombstone_of

VERSION = 1
_BATCH = 1024  # documents,
_BATCH_BYTES = 8 << 20  # or raw bytes of them
_HEAD = 1 << 16
_BLOCK_BYTES = 1 << 18  # what is read at a time
_FIRST_LINES = 8  # of which one must be a post where the first is nothing known
_BLANK = re.compile(rb"\s*+")
_MARK = b"\xef\xbb\xbf"
_LINE_FEED, _OPENING, _CLOSING = b"\n{}"
_LAST_SECOND = 253402300799  # of the year 9999


class Config(SourceConfig):
    type: Literal["reddit"]
    mode: Literal["posts", "threads"] = "posts"
    subreddits: tuple[str, ...] | None = None  # only these, in any case; null = all
    not_subreddits: tuple[str, ...] = ()
    min_score: int | None = None  # a post without a score is kept
    nsfw: Literal["keep", "drop"] = "drop"  # submissions marked over_18; in threads, all that hangs on them
    bots: Literal["keep", "drop"] = "drop"  # AutoModerator and other known ones, names that end in "bot", and
    bot_names: tuple[str, ...] = ()
    stickied: Literal["keep", "drop"] = "keep"
    removed: Literal["keep", "drop"] = "drop"  # posts that were deleted or removed later, but whose text is there
    link_posts: Literal["keep", "drop"] | None = None  # submissions of a title alone; null = drop them as posts, keep them in threads
    # Threads alone.
    authors: Literal["labels", "names"] = "labels"  # who speaks, in the text: OP, User1, User2, …; or their names
    siblings: Literal["score", "time"] = "score"  # order of the replies to one post: best first, or oldest first
    min_comments: int = Field(default=1, ge=0)
    max_comments: int = Field(default=10_000, ge=1)  # further ones, in the order of the text, are dropped
    no_submission: Literal["keep", "drop"] = "keep"  # comments whose submission is not there: a thread of their own
    messages: bool = True  # in `meta`: the thread's best path as turns of user and assistant


# -- plan ----------------------------------------------------------------------------------------------------------------------------


def plan(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    for found in expand(config.paths, base):
        yield from _extents(found, unit_bytes)


def _extents(found: Found, unit_bytes: int) -> Iterator[Extent]:
    whole = Extent(found.path, found.name, 0, -1, found.size)
    if found.size > unit_bytes and _splits(found.path):
        for start in range(0, found.size, unit_bytes):
            end = min(start + unit_bytes, found.size)
            yield whole._replace(start=start, end=end, size=end - start)
    else:
        yield whole


def _splits(path: str) -> bool:
    try:
        with open_raw(path) as file:
            head = file.read(_HEAD)
    except OSError:
        return False  # its reader will say what is wrong
    return compression(head) is None and _form(head) == "lines"


def _form(head: bytes) -> str:
    """`lines` of JSON, an `array`, one `wrapped` in an object as the API's, `values` (objects over many lines), `csv`, `empty` or `other`,
    told by the beginning."""
    visible = head.removeprefix(_MARK).lstrip()
    if not visible:
        return "empty"
    if visible[:1] == b"[":
        return "array"
    if visible[:1] == b"{":
        if wrapped(visible) == b'"data"':
            return "wrapped"
        return "values" if visible.split(b"\n", 1)[0].strip() == b"{" else "lines"
    first, *following = visible.split(b"\n", _FIRST_LINES)
    try:
        with fields_up_to(_HEAD):
            header = set(next(csv.reader([first.decode("utf-8", "replace").strip()])))
    except csv.Error:  # a carriage return in the line
        header = set()
    if header & {"title", "body", "selftext"} and header & {"id", "name"}:
        return "csv"
    return "lines" if any(isinstance(_post(line, 0), Post) for line in following) else "other"  # the first is cut or damaged


# -- read ----------------------------------------------------------------------------------------------------------------------------


class Posts(NamedTuple):
    """Posts that lie one behind the other, as columns: no tuple for each, which the garbage collector would look through."""

    posts: list[Post]
    offsets: list[int]
    lengths: list[int]


def read(extent: Extent, config: Config, base: Path) -> Iterator[Document | Drop | Failure | Piece | pa.RecordBatch]:
    try:
        with open_raw(extent.file) as file:
            parsed = _parsed(file, extent, config)
            yield from _pieces(parsed, extent, config) if config.mode == "threads" else _documents(parsed, extent, config)
    except OSError as error:
        yield Failure("unreadable", error.strerror or str(error))


def _parsed(file: BinaryIO, extent: Extent, config: Config) -> Iterator[Posts | Failure]:
    """Everything that is in the extent."""
    if extent.start > 0:  # only lines are split
        yield from _json_lines(file, extent, config)
        return
    head = file.read(_HEAD)
    file.seek(0)
    codec = compression(head)
    stream = decompressed(file, codec, config.max_ratio)
    form = _form(_first_block(stream) if codec else head)
    file.seek(0)
    stream = decompressed(file, codec, config.max_ratio)
    match form:
        case "lines":
            yield from _json_lines(stream, extent, config)
        case "csv":
            yield from _together(csv_posts(stream, extent, config.max_record_bytes))
        case "empty":
            damage = [thing for thing in blocks(stream, extent, config.max_record_bytes) if isinstance(thing, Failure)]
            yield from damage or [Failure("empty", "the file holds no records", 0)]
        case "other":
            message = "neither JSON nor CSV with an id and a title, selftext or body in its header"
            yield Failure("not_a_dump", message, 0, raw=head[:256])
        case _:
            yield from _together(_json_values(stream, form, config))


def _first_block(stream: BinaryIO) -> bytes:
    """Up to 64 KB that hold something visible, if the stream does; what comes before a damage, if it has one."""
    head = b""
    try:
        while len(head) < _HEAD and (block := stream.read1(_HEAD)):  # type: ignore[attr-defined]
            head = head.lstrip() + block
    except Exception as error:
        if not is_damage(error):
            raise
    return head


def _together(found: Iterable[tuple[int, int, Post | Failure]]) -> Iterator[Posts | Failure]:
    """Posts that come one by one (offset, length, post), many at a time."""
    posts = Posts([], [], [])
    size = 0
    for offset, length, post in found:
        if isinstance(post, Failure):
            yield post
            continue
        posts.posts.append(post)
        posts.offsets.append(offset)
        posts.lengths.append(length)
        size += length
        if len(posts.posts) == _BATCH or size >= _BLOCK_BYTES:
            yield posts
            posts, size = Posts([], [], []), 0
    yield posts


def _json_lines(stream: BinaryIO, extent: Extent, config: Config) -> Iterator[Posts | Failure]:
    for block in blocks(stream, extent, config.max_record_bytes):
        if isinstance(block, Failure):
            yield block
        elif block[1].isspace():
            continue
        elif (posts := _whole(*block)) is not None:
            yield posts
        else:
            yield from _together(_line_by_line(*block))


def _whole(at: int, data: bytes) -> Posts | None:
    """The posts of a block in one go, where every line holds just one and the decoder has understood them all."""
    try:
        posts = decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    codes = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(codes == _LINE_FEED)  # of the lines, without their line feeds
    if codes[-1] != _LINE_FEED:
        ends = np.append(ends, len(data))
    if len(ends) != len(posts):
        return None
    starts = np.concatenate(([0], ends[:-1] + 1))
    # The decoder takes line feeds for any white space. No value has one between "}" and "{", so that here each parts two records.
    if not ((codes[starts] == _OPENING) & (codes[ends - 1] == _CLOSING)).all() or not all_usual(posts):
        return None
    lengths = np.append(starts[1:], len(data)) - starts
    return Posts(posts, (starts + at).tolist(), lengths.tolist())


def _line_by_line(at: int, data: bytes) -> Iterator[tuple[int, int, Post | Failure]]:
    """A Python loop over records: 0.7 µs each beside the decoder, which sees the block itself: to cut it into lines costs 0.4 µs a line."""
    view, find = memoryview(data), data.find
    start = len(_MARK) if at == 0 and data.startswith(_MARK) else 0
    while start < len(data):
        end = find(b"\n", start) + 1 or len(data)
        post: Post | Failure | None
        try:
            post = decode(view[start:end])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            post = _post(data[start:end], at + start)
        else:
            if not all_usual([post]):
                post = _post(data[start:end], at + start)
        if post is not None:
            yield at + start, end - start, post
        elif run := _BLANK.match(data, end):  # all blank lines in one: a bomb of them would cost 2 µs a byte
            end = max(end, data.rfind(b"\n", end, run.end()) + 1)
        start = end


def _post(raw: bytes, offset: int) -> Post | Failure | None:
    """What `raw` holds, of whatever layout; None for a blank line."""
    post = parse(raw, offset)
    return no_post(raw, offset) if isinstance(post, Post) and not is_post(post) else post


def _json_values(stream: BinaryIO, form: str, config: Config) -> Iterator[tuple[int, int, Post | Failure]]:
    for value in elements(stream, config.max_record_bytes, form):
        if isinstance(value, Failure):
            yield value.offset or 0, 0, value
        elif not isinstance(value, Beside):
            offset, raw = value
            post = _post(raw, offset)
            if post is not None:
                yield offset, len(raw), post


# -- posts ---------------------------------------------------------------------------------------------------------------------------


def _documents(parsed: Iterator[Posts | Failure], extent: Extent, config: Config) -> Iterator[Drop | Failure | pa.RecordBatch]:
    """Python loops over posts: about 0.5 µs each beside the drops and the columns."""
    judge = judge_of(config)
    held = Posts([], [], [])
    size = 0
    for found in parsed:
        if isinstance(found, Failure):
            yield found
            continue
        reasons = judge(found.posts)
        for post, offset, length, reason in zip(*found, reasons, strict=True):
            if reason:
                yield _drop(post, reason, offset, length, extent)
                continue
            held.posts.append(post)
            held.offsets.append(offset)
            held.lengths.append(length)
            size += length
            if len(held.posts) == _BATCH or size >= _BATCH_BYTES:
                yield from _batch(held, extent, config)
                held, size = Posts([], [], []), 0
    yield from _batch(held, extent, config)


def _id(post: Post, offset: int, extent: Extent) -> str:
    if not post.id:
        return position_id(extent.hash, offset)
    return ("t3_" if post.body is None else "t1_") + post.id


def _drop(post: Post, reason: str, offset: int, length: int, extent: Extent) -> Drop:
    return Drop(_id(post, offset, extent), reason, evidence(post, reason), offset, length)


def _batch(held: Posts, extent: Extent, config: Config) -> Iterator[Drop | pa.RecordBatch]:
    """The posts as columns of the DOCUMENT schema: about 1.2 µs a post beside their texts."""
    posts, offsets, lengths = held
    texts = _texts(posts)
    if not all(texts):  # pictures alone, blanks alone
        empty = [number for number, text in enumerate(texts) if not text]
        for number in empty:
            yield _drop(posts[number], "no_text", offsets[number], lengths[number], extent)
        for number in reversed(empty):
            del posts[number], texts[number], offsets[number], lengths[number]
    if not posts:
        return
    count = len(posts)
    origin = {
        "file": _same(extent.name, count),
        "offset": pa.array(offsets, pa.int64()),
        "length": pa.array(lengths, pa.int64()),
        "member": pa.nulls(count, pa.string()),
    }
    columns = {
        "id": pa.array([_id(post, offset, extent) for post, offset in zip(posts, offsets, strict=True)], pa.string()),
        "source": _same(config.name, count).dictionary_encode(),
        "kind": _same(config.kind or DEFAULT_KIND["reddit"], count).dictionary_encode(),
        "text": pa.array(texts, pa.large_string()),
        "licence": _same(config.licence, count).dictionary_encode(),
        "url": pa.array([url_of(post) for post in posts], pa.string()),
        "created": _times(posts),
        "origin": pa.StructArray.from_arrays(list(origin.values()), fields=list(DOCUMENT.field("origin").type)),
        "meta": pa.array(metas(posts), pa.binary()).view(pa.string()),  # at last: it empties the posts
    }
    arrays = [columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in DOCUMENT]
    yield pa.RecordBatch.from_arrays(arrays, schema=DOCUMENT)


def _times(posts: list[Post]) -> pa.Array:
    created = np.array([seconds(post) if isinstance(post.created_utc, str) else post.created_utc for post in posts], np.float64)
    known = (created >= 0) & (created <= _LAST_SECOND)  # not of what is no number
    return pa.array((np.where(known, created, 0) * 1e6).astype(np.int64), mask=~known).cast(DOCUMENT.field("created").type)


def _same(value: str | None, count: int) -> pa.Array:
    return pa.nulls(count, pa.string()) if value is None else pa.repeat(pa.scalar(value, pa.string()), count)


def _texts(posts: list[Post]) -> list[str]:
    """The text of each post. What needs work is looked for in the whole column at once, which takes 0.4 µs a post."""
    texts = [post.selftext or "" if post.body is None else post.body for post in posts]
    column = pa.array(texts, pa.large_string())
    needing = pc.indices_nonzero(pc.match_substring_regex(column, NEEDS))
    marked = pc.match_substring_regex(column.take(needing), MARKS)
    for place, has_marks in zip(needing.to_numpy().tolist(), marked.to_numpy(zero_copy_only=False).tolist(), strict=True):
        texts[place] = without_marks(texts[place]) if has_marks else tidy(texts[place])
    for place, post in enumerate(posts):
        if post.body is None and post.title:
            texts[place] = f"{entities(post.title).strip()}\n\n{texts[place]}".strip()
    return texts


# -- threads ---------------------------------------------------------------------------------------------------------------------------


def _pieces(parsed: Iterator[Posts | Failure], extent: Extent, config: Config) -> Iterator[Drop | Failure | Piece]:
    """Every post on its way to its submission. What the recipe drops leaves a mark there, so that its replies find their place."""
    judge = judge_of(config)
    for found in parsed:
        if isinstance(found, Failure):
            yield found
            continue
        for post, offset, length, reason in zip(*found, judge(found.posts), strict=True):
            own = _id(post, offset, extent)
            key = own if post.body is None else post.link_id or post.parent_id or own
            text = "" if reason else text_of(post)
            if not text:
                reason = reason or "no_text"
                yield _drop(post, reason, offset, length, extent)
                yield Piece(0, key, tombstone_of(post, own, reason), records=0, offset=offset, length=length)
            else:
                yield Piece(0, key, piece_of(post, own, text), offset=offset, length=length)


def rounds(config: Config) -> int:
    return 1 if config.mode == "threads" else 0


def gather(number: int, key: str, pieces: list[Piece], config: Config) -> Iterator[Document | Drop | Failure | Piece]:
    return gather_thread(key, pieces, config)
