"""What a source is: a module of `corpus/sources/` that turns raw files into documents.

A source module (`corpus/sources/<name>/source.py`) defines

    class Config(SourceConfig)                          its recipe keys, strict and frozen; `type: Literal["<its name>"]`
    VERSION: int                                        raised whenever the same bytes would give other documents
    plan(config, base, unit_bytes) -> Iterator[Extent]  every piece of input, in a fixed order, large files split
    read(extent, config, base) -> Iterator[Document | Drop | Failure | pa.RecordBatch]

and, where a document is made of records from several places (a thread of comments, a question with its answers),

    rounds(config) -> int                               how many times records are brought together; 0 = not with this recipe
    gather(number, key, pieces, config) -> Iterator[Document | Drop | Failure | Piece]

`plan` runs once in the parent and streams: it never holds all paths of a large tree. `read` runs in a worker, sees one extent and
yields one thing for each raw record: a Document, a Drop (a record that is no document, with the reason) or a Failure (a record
that cannot be read). A source whose input is a table may yield whole record batches of the DOCUMENT schema instead.
The balance `records = documents + drops + failures` follows, where a further document of records that are already counted (the second
pair of two answers, `records=0`) counts as a record of its own. `read` never raises for bad input and depends on nothing but the
extent's bytes, its config and its context. Two extents of one file yield together exactly what one extent over both would.
"""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

from pydantic import Field

from codedev._recipe import Model


class Extent(NamedTuple):
    """A piece of one file that can be read by itself."""

    file: str  # the path to open: absolute, or a URL
    name: str  # the path to show and to store in `origin.file`
    start: int  # first byte (or row group) of the piece; a record belongs to the extent in which it starts
    end: int  # first byte (or row group) after it; -1 = to the end of the file
    size: int  # bytes, for balancing work units and for the progress bar
    context: str = "{}"  # JSON of what the planner learned beside the bytes: the repository, its licence and commit
    hash: str = ""  # content hash of the whole file, filled in by the build


class Document(NamedTuple):
    id: str
    text: str
    offset: int | None = None
    length: int | None = None
    member: str | None = None
    kind: str | None = None  # None = the source's kind
    lang: str | None = None
    lang_score: float | None = None
    licence: str | None = None
    url: str | None = None
    created: dt.datetime | None = None  # aware, UTC
    meta: str = "{}"  # canonical JSON, see document.meta_json
    file: str | None = None  # `name` of the file it lies in; None = the extent's. Given by `gather`, which has no extent
    records: int = 1  # raw records it was made of; 0 = they are all counted with an earlier document: it counts as one more


class Drop(NamedTuple):
    """A record that was read and is no document: an image in a web archive, a vendored file in a repository."""

    id: str
    reason: str  # a word or two in snake_case: not_html, vendored, minified
    evidence: str = "{}"  # JSON: what was seen
    offset: int | None = None
    length: int | None = None
    member: str | None = None
    url: str | None = None
    meta: str = "{}"
    file: str | None = None


class Failure(NamedTuple):
    """A record that cannot be read. `kind` is a word in snake_case: truncated, corrupt, invalid_utf8, invalid_json, unreadable."""

    kind: str
    message: str
    offset: int | None = None
    member: str | None = None
    raw: bytes = b""
    file: str | None = None


class Piece(NamedTuple):
    """A record on its way to the others of its document."""

    round: int  # of `gather`, from 0
    key: str  # pieces of one key meet
    data: bytes  # in the source's own encoding
    records: int = 1  # raw records that it stands for; 0 = a look-up (a user's name, a vote), which becomes no text of its own
    file: str | None = None  # as in Document; None = the extent's
    offset: int | None = None
    length: int | None = None
    member: str | None = None


class SourceConfig(Model):
    """The recipe keys every source has."""

    type: str  # which module of corpus/sources reads it; each Config narrows it to its own word
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)  # also the folder under documents/
    paths: tuple[str, ...] = Field(min_length=1)  # files, directories or globs, relative to the recipe's folder; or URLs
    kind: str | None = None  # overrides the kind that the source gives its documents
    licence: str | None = None  # SPDX expression for documents whose own licence is unknown
    max_record_bytes: int = Field(default=64 << 20, gt=0, lt=1 << 31)  # a larger record becomes an error row `too_large`
    max_record_seconds: float = Field(default=30, gt=0)  # CPU time of a page; one that takes more becomes an error row `timeout`
    max_ratio: int = Field(default=1000, gt=1)  # bytes that one byte may unfold to; past 64 MiB, a stream of more ends in an error `bomb`
