"""The document: one schema for every kind of source, and the rule for ids.

A document's id is its record's own identity (WARC-Record-ID, repo@commit:path, the id column of a table). A record without one
gets `position_id`: a hash of its file's content and its position there, so that the same bytes have the same id for ever.
"""

from __future__ import annotations

import orjson
import pyarrow as pa
import xxhash

KINDS = ("web", "conversation", "book", "paper", "qa", "code", "protein", "table", "instruction", "preference")
# Kinds whose text is running prose: language identification and prose filters see these and no others.
PROSE_KINDS = frozenset({"web", "conversation", "book", "paper", "qa", "table"})

ORIGIN = pa.struct(
    [
        pa.field("file", pa.string()),  # as the recipe's paths name it, relative to the recipe's folder where possible
        pa.field("offset", pa.int64()),  # byte offset of the raw record (compressed offset in a WARC), or row number in a Parquet file
        pa.field("length", pa.int64()),  # bytes of the raw record, null where unknown
        pa.field("member", pa.string()),  # archive member, null where the file is no archive
    ]
)

_NAME = pa.dictionary(pa.int32(), pa.string())

DOCUMENT = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", _NAME),
        pa.field("kind", _NAME),
        pa.field("text", pa.large_string()),
        pa.field("lang", _NAME),
        pa.field("lang_score", pa.float32()),
        pa.field("licence", _NAME),
        pa.field("url", pa.string()),
        pa.field("created", pa.timestamp("us", tz="UTC")),
        pa.field("origin", ORIGIN),
        pa.field("meta", pa.string()),
    ],
    metadata={"codedev.schema": "document/1"},
)

# A record that is no document, or a document that a stage dropped. Read-level drops carry no text: their bytes are at `origin`.
DROPPED = pa.schema(
    [
        *DOCUMENT,
        pa.field("stage", _NAME, nullable=False),
        pa.field("reason", _NAME, nullable=False),
        pa.field("evidence", pa.string()),  # JSON: the score and the threshold, or the id of the duplicate it lost to
    ],
    metadata={"codedev.schema": "dropped/1"},
)

# A record that could not be read.
ERROR = pa.schema(
    [
        pa.field("source", _NAME, nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("member", pa.string()),
        pa.field("kind", _NAME, nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("raw", pa.binary()),  # the first RAW_PREFIX bytes of the record
    ],
    metadata={"codedev.schema": "error/1"},
)
RAW_PREFIX = 256


def position_id(file_hash: str, position: int) -> str:
    """32 hex digits that depend on the file's content and the record's position in it, not on the file's name."""
    return xxhash.xxh3_128_hexdigest(f"{file_hash}:{position}".encode())


def meta_json(meta: dict[str, object]) -> str:
    """`meta` as canonical JSON: keys sorted, None left out, what JSON does not know as text. TypeError beyond 254 levels."""
    known = {key: value for key, value in meta.items() if value is not None}
    return orjson.dumps(known, default=_as_text, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()


def _as_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
