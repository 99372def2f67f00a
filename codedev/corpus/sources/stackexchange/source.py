"""Stack Exchange data dumps: Posts.xml alone or with Comments, Users, Votes and PostLinks; as files, compressed, or in 7z, zip and tar.

What a table is, is told by its root element. Posts and comments are records: each goes into one document or is a Drop or a Failure. Users,
votes and links are look-ups: their rows become names, counts and lists in `meta`. All other tables, and those that the recipe leaves out,
are passed over and counted once each (`not_read`): a row for every badge would be millions that say nothing.

`read` only scans: it finds rows, their ids and the places they go to, and hands each on as it stands; HTML is converted when a document is
put together (join.py), so that nothing is converted that is dropped. Plain tables split into byte ranges; an archive or a
compressed file is one piece. Cost: 370 MB of Posts.xml a second and core, 500 where the recipe needs one round alone.

What it does not do: revisions (PostHistory), archives in archives, and two dumps of one site beside each other: of two posts with one id
the first file's is taken.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

import orjson
from pydantic import Field, model_validator

from codedev import _archive
from codedev._files import compression, damage_kind, decompressed, expand, is_damage, is_url, open_raw
from codedev.corpus.document import meta_json, position_id
from codedev.corpus.source import Document, Drop, Extent, Failure, Piece, SourceConfig
from codedev.corpus.sources.stackexchange import join, xml_rows
from codedev.corpus.sources.stackexchange.xml_rows import HEAD, LONG_HEAD, Damage
from codedev.kernels.xmlrows import NONE

VERSION = 1
LookUp = Literal["users", "votes", "postlinks"]


class Config(SourceConfig):
    type: Literal["stackexchange"] = "stackexchange"
    site: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")  # null = told by the folder's or the archive's name
    mode: Literal["questions", "pairs"] = "questions"  # one document a question, or one a pair of answers of which one is better
    comments: Literal["none", "all", "scored"] = "none"  # under the post they belong to; scored = with at least min_comment_score
    min_comment_score: int = 1
    lookups: tuple[LookUp, ...] = ("users", "votes", "postlinks")  # tables that complete the posts, where they are there
    min_score: int | None = None  # of a question
    min_answer_score: int | None = None
    min_answers: int = Field(default=0, ge=0)  # of those that are kept
    accepted_only: bool = False  # of the answers
    closed: Literal["keep", "drop"] = "keep"
    tags: tuple[str, ...] | None = None  # questions with one of them; null = all
    measure: Literal["log", "score"] = "log"  # of pairs: see stackexchange_join.measure
    min_margin: int = Field(default=1, ge=1)  # of pairs: by how much the chosen answer is better
    max_pairs: int = Field(default=10, ge=1)  # of one question

    @model_validator(mode="after")
    def _pairs_have_no_comments(self) -> Config:
        if self.mode == "pairs" and self.comments != "none":
            raise ValueError("comments: pairs hold none; take `mode: questions`")
        return self


def rounds(config: Config) -> int:
    return join.rounds_of(config).total


def gather(number: int, key: str, pieces: list[Piece], config: Config) -> Iterator[Document | Drop | Failure | Piece]:
    yield from join.gather(number, key, pieces, config)


# -- plan --------------------------------------------------------------------------------------------------------------------------

TABLES = ("posts", "comments", "users", "votes", "postlinks")


def plan(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    """One extent a file; plain tables larger than `unit_bytes` in byte ranges."""
    for found in expand(config.paths, base):
        table = _plain_table(found.path) if found.size > unit_bytes else None
        if table is None or not _is_read(table, config):
            yield Extent(found.path, found.name, 0, -1, found.size)
            continue
        context = meta_json({"table": table})
        for start in range(0, found.size, unit_bytes):
            end = min(start + unit_bytes, found.size)
            yield Extent(found.path, found.name, start, -1 if end == found.size else end, end - start, context)


def _plain_table(path: str) -> str | None:
    """Which table a file is, None when it is compressed, an archive, or none of ours."""
    try:
        with open_raw(path) as file:
            head = file.read(HEAD)
    except OSError:
        return None  # `read` meets the same error and reports it
    if compression(head) or _archive.form(head):
        return None
    return _table_of(head, path)


def _table_of(head: bytes, name: str) -> str | None:
    """The table's name by its root element; by the file's where the head is damaged but rows follow."""
    said = xml_rows.head_of(head)
    if said.encoding:
        return None
    if said.root is None and b"<row" in head:
        said = said._replace(root=re.split(r"[/\\-]", name.lower())[-1].split(".")[0])
    return said.root.lower() if said.root and said.root.lower() in TABLES else None


def _is_read(table: str, config: Config) -> bool:
    return table == "posts" or (config.comments != "none" if table == "comments" else table in config.lookups)


# -- read --------------------------------------------------------------------------------------------------------------------------


class _Content(NamedTuple):
    """Where the bytes of a table come from."""

    name: str  # of the file or of the member, which may tell the table
    site: str
    member: str | None
    is_stream: bool  # offsets count decompressed bytes
    hash: str


def read(extent: Extent, config: Config, base: Path) -> Iterator[Document | Drop | Failure | Piece]:
    """A Piece, Drop or Failure for each record that starts in the extent; look-ups for others."""
    try:
        with open_raw(extent.file) as file:
            yield from _read(file, extent, config)
    except OSError as error:
        yield Failure("unreadable", error.strerror or str(error))


def _read(file: BinaryIO, extent: Extent, config: Config) -> Iterator[Drop | Failure | Piece]:
    content = _Content(extent.name, site_of(extent.name, None, config), None, False, extent.hash)
    table = orjson.loads(extent.context).get("table")
    if table:
        file.seek(extent.start)
        yield from _rows(file, table, content, config, extent.start, extent.end)
        return
    codec = compression(file.read(8))
    file.seek(0)
    stream = decompressed(file, codec, config.max_ratio)
    try:
        head = _first(stream, HEAD)
    except Exception as error:
        if not is_damage(error):
            raise
        yield _damaged(error, None)
        return
    form = _archive.form(head)
    if form is None:
        yield from _table(head, stream, content._replace(is_stream=codec is not None), config)
    elif codec and form != "tar":
        yield Failure("unsupported", f"a {form} archive that is compressed again: decompress it first")
    else:
        if codec is None:
            file.seek(0)
        whole = file if codec is None else _whole(head, stream)
        yield from _members(whole, form, extent, config)


def _members(file: BinaryIO, form: _archive.Form, extent: Extent, config: Config) -> Iterator[Drop | Failure | Piece]:
    # A member may have 90 GB: rows have a limit, members none.
    for member in _archive.members(file, form, limit=sys.maxsize, ratio=config.max_ratio):
        if isinstance(member, _archive.Refused):
            if member.kind == "link":
                yield _not_read(_Content(member.name, "", member.name, False, extent.hash), {"link": True})
            else:
                yield Failure(member.kind, member.message, member.offset, member.name or None)
            continue
        content = _Content(member.name, site_of(extent.name, member.name, config), member.name, False, extent.hash)
        try:
            stream = member.stream()
            head = _first(stream, HEAD)
            if codec := compression(head):
                stream = decompressed(_whole(head, stream), codec, config.max_ratio)
                head = _first(stream, HEAD)
                content = content._replace(is_stream=True)
        except Exception as error:
            if not is_damage(error):
                raise
            yield _damaged(error, member.name)
            continue
        yield from _table(head, stream, content, config)


def _table(head: bytes, stream: BinaryIO, content: _Content, config: Config) -> Iterator[Drop | Failure | Piece]:
    """What a file or member is, of which `head` has been read."""
    if xml_rows.is_open(head):
        head = _first(stream, LONG_HEAD, head)
    said = xml_rows.head_of(head)
    if not head:
        yield Failure("empty", "the file holds nothing", 0, content.member)
    elif said.encoding:
        yield Failure("unsupported", f"the encoding is {said.encoding}: convert the file to UTF-8", 0, content.member, head)
    elif (table := _table_of(head, content.name)) is None:
        yield _not_read(content, {"root": said.root})
    elif not _is_read(table, config):
        yield _not_read(content, {"root": said.root, "why": "left out by the recipe"})
    else:
        yield from _rows(_whole(head, stream), table, content, config, 0, -1)


def _rows(stream: BinaryIO, table: str, content: _Content, config: Config, start: int, end: int) -> Iterator[Drop | Failure | Piece]:
    stop = xml_rows.FOREVER if end < 0 else end
    rows = xml_rows.rows(stream, _WANTED[table], start=start, stop=stop, limit=config.max_record_bytes)
    match table:
        case "posts":
            yield from _posts(rows, content, config)
        case "comments":
            yield from _comments(rows, content, config)
        case "users":
            yield from _users(rows, content)
        case _:
            yield from _votes_or_links(rows, table, content, config)


_WANTED = {
    "posts": ("Id", "PostTypeId", "ParentId", "OwnerUserId"),
    "comments": ("Id", "PostId", "UserId", "Score"),
    "users": ("Id",),
    "votes": ("PostId", "VoteTypeId"),
    "postlinks": ("PostId", "RelatedPostId", "LinkTypeId"),
}
_Rows = Iterator[xml_rows.Row | Damage]
_LONGEST_NAME = 256  # characters; the network allows 40
POST_TYPES = {
    3: "orphaned_tag_wiki", 4: "tag_wiki_excerpt", 5: "tag_wiki", 6: "moderator_nomination", 7: "wiki_placeholder", 8: "privilege_wiki",
    9: "article", 10: "help_article", 12: "collection", 13: "moderator_questionnaire_response", 14: "announcement",
    15: "collective_discussion", 17: "collective_collection",
}  # fmt: skip


def _posts(rows: _Rows, content: _Content, config: Config) -> Iterator[Drop | Failure | Piece]:
    """Cost of this loop: 1.2 µs a post, and 0.7 µs for each look-up it announces."""
    site, member, tag = content.site, content.member, b"Z" if content.is_stream else b""
    to_question, to_post, to_user = (f"{site}/{letter}/" for letter in "qpu")
    number = join.rounds_of(config)
    last, about, users = number.questions, number.posts, number.users
    for row in rows:
        if isinstance(row, Damage):
            yield _failure(row, content)
            continue
        offset, raw, (own, kind, parent, owner) = row
        if own == NONE or kind == NONE:
            yield Failure("invalid_row", "a post without Id or PostTypeId", offset, member, raw)
            continue
        if kind == 1:
            question = own
        elif kind == 2 and parent != NONE:
            question = parent
        else:
            reason, evidence = (
                ("no_question", "{}") if kind == 2 else ("post_type", meta_json({"type": kind, "name": POST_TYPES.get(kind)}))
            )
            yield Drop(f"{site}/{own}", reason, evidence, offset, len(raw), member)
            continue
        yield Piece(last, f"{to_question}{question}", tag + raw if tag else raw, 1, None, offset, len(raw), member)
        if about >= 0:
            yield Piece(about, f"{to_post}{own}", b"q%d" % question, 0)
            if users >= 0 and owner != NONE:
                yield Piece(users, f"{to_user}{owner}", b"m%d" % own, 0)


def _comments(rows: _Rows, content: _Content, config: Config) -> Iterator[Drop | Failure | Piece]:
    site, member, tag = content.site, content.member, b"C" if content.is_stream else b"c"
    number = join.rounds_of(config)
    least = config.min_comment_score if config.comments == "scored" else NONE
    for row in rows:
        if isinstance(row, Damage):
            yield _failure(row, content)
            continue
        offset, raw, (own, post, user, score) = row
        if own == NONE or post == NONE:
            yield Failure("invalid_row", "a comment without Id or PostId", offset, member, raw)
        elif score < least:
            known = None if score == NONE else score
            yield Drop(f"{site}/comment/{own}", "low_score", meta_json({"score": known, "post": post}), offset, len(raw), member)
        else:
            yield Piece(number.posts, f"{site}/p/{post}", tag + raw, 1, None, offset, len(raw), member)
            if number.users >= 0 and user != NONE:
                yield Piece(number.users, f"{site}/u/{user}", b"m%d" % post, 0)


def _users(rows: _Rows, content: _Content) -> Iterator[Failure | Piece]:
    for row in rows:
        if isinstance(row, Damage):
            yield _failure(row, content)
            continue
        offset, raw, (own,) = row
        if own == NONE:
            yield Failure("invalid_row", "a user without Id", offset, content.member, raw)
        else:
            # A name is written into every post of its user: one of 60 MB would be a bomb.
            name = xml_rows.attributes(raw).get("DisplayName", "")[:_LONGEST_NAME]
            yield Piece(0, f"{content.site}/u/{own}", b"n" + name.encode(), 0)


def _votes_or_links(rows: _Rows, table: str, content: _Content, config: Config) -> Iterator[Failure | Piece]:
    number, site = join.rounds_of(config).posts, content.site
    for row in rows:
        if isinstance(row, Damage):
            yield _failure(row, content)
            continue
        offset, raw, values = row
        if NONE in values:
            yield Failure("invalid_row", f"a row of {table} without all of {', '.join(_WANTED[table])}", offset, content.member, raw)
        elif table == "postlinks":
            yield Piece(number, f"{site}/p/{values[0]}", b"l%d %d" % (values[2], values[1]), 0)
        elif values[1] in join.VOTES:
            yield Piece(number, f"{site}/p/{values[0]}", b"v%d" % values[1], 0)


# -- small things ------------------------------------------------------------------------------------------------------------------


class _Rest:
    """A stream of which the head has been read."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int) -> bytes:
        if not self._head:
            return self._stream.read(size)
        data, self._head = self._head[:size], self._head[size:]
        return data

    def seekable(self) -> bool:
        return False


def _whole(head: bytes, stream: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, _Rest(head, stream))


def _first(stream: BinaryIO, size: int, head: bytes = b"") -> bytes:
    """The first `size` bytes of a stream, of which `head` has been read. It may give fewer at a time. What is damaged behind the first
    byte is met again."""
    data = bytearray(head)
    while len(data) < size:
        try:
            piece = stream.read(size - len(data))
        except Exception as error:
            if not data or not is_damage(error):
                raise
            break
        if not piece:
            break
        data += piece
    return bytes(data)


def _failure(damage: Damage, content: _Content) -> Failure:
    return Failure(damage.kind, damage.message, damage.offset, content.member, damage.raw)


def _damaged(error: Exception, member: str | None) -> Failure:
    return Failure(damage_kind(error), str(error), 0, member)


def _not_read(content: _Content, evidence: dict[str, object]) -> Drop:
    return Drop(position_id(f"{content.hash}:{content.member or ''}", 0), "not_read", meta_json(evidence), member=content.member)


_HOST = re.compile(
    r"(?:[a-z0-9-]+\.)*(?:stackexchange\.com|stackoverflow\.com|superuser\.com|serverfault\.com|askubuntu\.com|stackapps\.com|mathoverflow\.net)"
)
_SUFFIX = re.compile(
    r"(?:-(?:posts|comments|users|votes|postlinks|badges|posthistory|tags))?(?:\.(?:7z|zip|tar|tgz|xml|gz|bz2|xz|zst|lz4)){0,3}$",
    re.IGNORECASE,
)


def site_of(name: str, member: str | None, config: Config) -> str:
    """The recipe's site, else the nearest part of the file's path that is a host of the network (3dprinting.stackexchange.com.7z,
    stackoverflow.com-Posts.7z), else the folder's path, so that folders of unknown sites do not mix."""
    if config.site:
        return config.site
    path = name.split("://", 1)[1].split("/", 1)[-1] if is_url(name) else name
    parts = [part for part in (*path.split("/"), *(member or "").split("/")) if part not in ("", ".", "..") and len(part) < 256]
    for part in reversed(parts):
        if _HOST.fullmatch(word := _SUFFIX.sub("", part).lower()):
            return word
    return "/".join(_SUFFIX.sub("", part) for part in parts[:-1]) or config.name
