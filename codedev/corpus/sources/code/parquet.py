"""Parquet tables of source files, as The Stack and its kin publish them: recognised by their columns.

    content       content, code, text                         starcoderdata, The Stack, github-code, the-stack-v2 with content
    path          path, max_stars_repo_path, sample_path, …   BigQuery's `contents` joined with `files`
    repository    repo_name, max_stars_repo_name, repo, …
    language      language, lang
    licences      licenses, max_stars_repo_licenses, detected_licenses, license, license_type: all of a list hold
    revision      commit of the repository: max_stars_repo_head_hexsha, revision_id, ref, …
    blob          hexsha, blob_id, content_id, id

The id is repo@revision:path; without a revision the blob stands there, without both the first 16 digits of the text's hash. Stars, forks,
sizes and dates go to `meta` under their own short names, all other columns as they are. Rules, drops and modes are those of files; the
text of a row was decoded by others, so that bytes and encoding are not looked at again. A table of two rows for one file has two
documents of one id. Split by row groups. Cost: 40 µs a row beside the rules'. A row group that unfolds to over
max_ratio times its compressed size, past 64 MiB, is a `bomb`. Held: a batch of 512 rows, of which 64 MiB are unfolded at once.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from codedev._files import open_raw, shown, storable
from codedev.corpus import languages, licence
from codedev.corpus.document import meta_json
from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources.code.file import File, Record, by_name, by_text, json_of
from codedev.corpus.sources.code.text import HEAD

if TYPE_CHECKING:
    from codedev.corpus.sources.code.source import Config

_ROWS = 512
_HELD = 64 << 20  # bytes of rows that are made Python's values at once
_ROW = 64  # bytes that a row counts for beside its values, so that empty ones cannot be without end
_FREE = 64 << 20  # bytes that any row group may unfold to
_TEXTS = (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view())
_ODD = (ValueError, KeyError, TypeError, OverflowError, RecursionError)  # what hostile values raise on their way to Python
COLUMNS: dict[str, tuple[str, ...]] = {
    "text": ("content", "code", "text", "file_content"),
    "path": (
        "path",
        "max_stars_repo_path",
        "max_issues_repo_path",
        "max_forks_repo_path",
        "file_path",
        "filepath",
        "sample_path",
        "filename",
    ),
    "repo": (
        "repo_name",
        "max_stars_repo_name",
        "max_issues_repo_name",
        "max_forks_repo_name",
        "repository_name",
        "repo",
        "sample_repo_name",
    ),
    "language": ("language", "lang", "programming_language"),
    "licences": ("licenses", "max_stars_repo_licenses", "detected_licenses", "license", "licence", "repo_license", "license_type"),
    "revision": ("max_stars_repo_head_hexsha", "revision_id", "commit", "commit_id", "head_hexsha", "revision"),
    "blob": ("hexsha", "blob_id", "content_id", "sha", "id"),
    "stars": ("max_stars_count", "stars", "star_events_count", "stars_count", "stargazers_count"),
    "forks": ("max_forks_count", "forks", "fork_events_count", "forks_count"),
}


class _Layout(NamedTuple):
    columns: dict[str, str]  # what -> the table's column
    others: tuple[str, ...]


def layout(names: list[str]) -> _Layout | None:
    """How the columns are to be read; None where they hold no source files with their paths."""
    found = {what: name for what, known in COLUMNS.items() if (name := next((name for name in known if name in names), None))}
    if "text" not in found or "path" not in found:
        return None
    return _Layout(found, tuple(name for name in names if name not in found.values()))


def is_parquet(path: str) -> bool:
    try:
        with open_raw(path) as file:
            return file.read(4) in (b"PAR1", b"PARE")
    except OSError:
        return False


def plan(path: str, base: Path, unit_bytes: int, metadata: str | None) -> Iterator[Extent]:
    """`metadata` is the hash of the metadata table, so that a changed one changes the work's key."""
    context = json_of({"parquet": True, **({"metadata": metadata} if metadata else {})})
    try:
        whole = Extent(storable(path), shown(path, base), 0, -1, Path(path).stat().st_size, context)
        with open_raw(path) as file:
            table = pq.read_metadata(file)
        start = size = 0
        for group in range(table.num_row_groups):
            size += table.row_group(group).total_byte_size
            if size >= unit_bytes or group == table.num_row_groups - 1:
                yield whole._replace(start=start, end=group + 1, size=size)
                start, size = group + 1, 0
        if table.num_row_groups == 0:
            yield whole._replace(end=0)
    except (OSError, pa.ArrowException):
        yield whole  # its reader will say what is wrong


def read(extent: Extent, config: Config, about: dict[str, bytes]) -> Iterator[Record]:
    try:
        with open_raw(extent.file) as file:
            footer = pq.read_metadata(file)
            how = layout(list(dict.fromkeys(footer.schema.to_arrow_schema().names)))
            if how is None:
                columns = ", ".join(footer.schema.to_arrow_schema().names[:20])
                yield Failure(
                    "unknown_columns", f"no columns of source files with their paths (has: {columns}). Read it with type: tables", 0
                )
                return
            # As dictionaries: a text that stands in every row is held once, and its size is known before it is copied.
            leaves = [footer.schema.column(number) for number in range(footer.num_columns)]
            texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
            table = pq.ParquetFile(file, read_dictionary=texts)
            groups = range(extent.start, footer.num_row_groups if extent.end < 0 else extent.end)
            row = sum(footer.row_group(group).num_rows for group in range(extent.start))
            for group in groups:
                at, row = row, row + footer.row_group(group).num_rows
                yield from _group(table, group, at, row - 1, os.path.getsize(extent.file), how, config, about)
    except OSError as error:
        yield Failure("unreadable", error.strerror or str(error))
    except (pa.ArrowException, *_ODD) as error:
        yield Failure("corrupt", f"not readable as Parquet: {_first_line(error)}", 0)


def _group(
    table: pq.ParquetFile, group: int, at: int, last: int, size: int, how: _Layout, config: Config, about: dict[str, bytes]
) -> Iterator[Record]:
    """The rows of a row group, from number `at` to `last`, of a file of `size` bytes."""
    known = table.metadata.row_group(group)
    packed = sum(known.column(number).total_compressed_size for number in range(known.num_columns))
    bound = max(_FREE, config.max_ratio * max(min(packed, size), 1))
    bomb = f"unfold to more than {bound:,} bytes: over max_ratio = {config.max_ratio:,}"
    columns_of = [(known.column(number), table.metadata.schema.column(number)) for number in range(known.num_columns)]
    # Values of a fixed length are unfolded on reading.
    fixed = sum(max(column.num_values, 0) * leaf.length for column, leaf in columns_of if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY")
    if fixed > bound or sum(column.total_uncompressed_size for column, _ in columns_of) > bound:
        yield Failure("bomb", f"rows {at:,} to {last:,} {bomb}", at)
        return
    unfolded = 0
    try:
        for batch in table.iter_batches(_ROWS, row_groups=[group], use_threads=False):
            columns = _flat(batch)
            sizes = sum(map(_sizes, columns.values()), np.full(batch.num_rows, _ROW, np.int64))
            unfolded += int(sizes.sum())
            if unfolded > bound:
                yield Failure("bomb", f"rows {at:,} to {last:,} {bomb}", at)
                return
            beside = sizes - _sizes(columns[how.columns["text"]])
            for start, end in _runs(np.where(beside > config.max_record_bytes, _HELD + 1, sizes)):
                if beside[start] > config.max_record_bytes:  # then it stands alone
                    said = f"{beside[start]:,} bytes beside the text; max_record_bytes is {config.max_record_bytes:,}"
                    yield Failure("too_large", said, at + start)
                    continue
                part = {name: column.slice(start, end - start) for name, column in columns.items()}
                yield from _rows(part, at + start, how, config, about)
            at += batch.num_rows
    except (pa.ArrowException, OSError, *_ODD) as error:
        yield Failure("corrupt", f"rows {at:,} to {last:,} are not readable as Parquet: {_first_line(error)}", at)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _flat(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """The last column of each name; no nanoseconds, which Python's times do not hold."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name, column in columns.items():
        if isinstance(column, pa.ExtensionArray):
            column = columns[name] = column.storage
        kind = column.type
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            columns[name] = column.cast(pa.timestamp("us", kind.tz), safe=False)
        elif pa.types.is_time64(kind) and kind.unit == "ns":
            columns[name] = column.cast(pa.time64("us"), safe=False)
        elif pa.types.is_duration(kind) and kind.unit == "ns":
            columns[name] = column.cast(pa.duration("us"), safe=False)
    return columns


def _sizes(column: pa.Array) -> np.ndarray:
    """Bytes that each row's value unfolds to: exact for texts, 8 for what is small. Raises ArrowInvalid for a dictionary's wrong index."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        of_value = _sizes(column.dictionary)
        index = pc.fill_null(column.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        if len(index) and index.max() >= len(of_value):
            raise pa.ArrowInvalid("an index beyond its dictionary")
        return np.asarray(np.append(of_value, 0)[index])
    if kind in _TEXTS:
        return np.asarray(pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False), np.int64)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_map(kind):
        if pa.types.is_map(kind):
            column = column.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        ends = np.cumsum(lengths, dtype=np.int64)
        upto = np.concatenate([[0], np.cumsum(_sizes(column.flatten()), dtype=np.int64)])
        return np.asarray(upto[ends] - upto[ends - lengths] + 8)
    if pa.types.is_struct(kind):
        return sum(map(_sizes, column.flatten()), np.full(len(column), 8, np.int64))
    return np.full(len(column), 8, np.int64)


def _runs(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Rows that unfold to at most _HELD bytes together, or one row."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        end = max(int(np.searchsorted(ends, before + _HELD, "right")), start + 1)
        yield start, end
        start = end


def _rows(columns: dict[str, pa.Array], first: int, how: _Layout, config: Config, about: dict[str, bytes]) -> Iterator[Record]:
    data = columns[how.columns["text"]]
    kind = data.type.value_type if pa.types.is_dictionary(data.type) else data.type
    if kind not in _TEXTS:
        for place in range(len(data)):
            yield Failure("no_text_column", f"the column {how.columns['text']} holds {kind}", first + place)
        return
    lengths = _sizes(data).tolist()
    bound = config.max_record_bytes
    bad: dict[int, str] = {}
    names = [name for name in (*how.columns.values(), *how.others) if name != how.columns["text"]]
    others = [_values(columns[name], bad) for name in names]
    # A Python loop over rows: what it costs beside the rules is in the module's docstring.
    for place, (text, *values) in enumerate(zip(data, *others, strict=True)):
        row = first + place
        if not text.is_valid:
            yield Failure("no_text", "the row has no text", row)
        elif lengths[place] > bound:
            yield Failure("too_large", f"a text of {lengths[place]:,} bytes; max_record_bytes is {bound:,}", row)
        elif place in bad:
            yield Failure("invalid_utf8", bad[place], row)
        else:
            value = text.value if isinstance(text, pa.DictionaryScalar) else text
            yield from _row(dict(zip(names, values, strict=True)), value.as_buffer().to_pybytes(), row, how, config, about)


def _values(column: pa.Array, bad: dict[int, str]) -> list[Any]:
    """The column's values, None for what Python's types do not hold (a year 10,000); `bad` is told of rows with text that is no UTF-8."""
    try:
        return list((column.dictionary_decode() if pa.types.is_dictionary(column.type) else column).to_pylist())
    except _ODD:
        values = []
        for place, value in enumerate(column):
            try:
                values.append(value.as_py())
            except UnicodeDecodeError as error:
                values.append(None)
                bad[place] = f"byte {error.start} of a value beside the text: {error.reason}"
            except _ODD:
                values.append(None)
        return values


def _row(values: dict[str, Any], raw: bytes, row: int, how: _Layout, config: Config, about: dict[str, bytes]) -> Iterator[Record]:
    said = {what: values.get(name) for what, name in how.columns.items() if what != "text"}
    path = said.get("path")
    if not isinstance(path, str) or not path:
        yield Failure("no_path", "the row has no path", row, raw=raw[:256])
        return
    repo = said.get("repo") if isinstance(said.get("repo"), str) and said.get("repo") else "unknown"
    revision, blob = (value if isinstance(value := said.get(what), str) and value else None for what in ("revision", "blob"))
    own = _licence(said.get("licences"))
    extra = {name: value for name in how.others if (value := values[name]) is not None and value != []}
    extra |= {what: said[what] for what in ("stars", "forks") if said.get(what) is not None}
    if blob:
        extra["blob"] = blob
    if own is None and said.get("licences"):
        extra["licences_said"] = said["licences"]
    if known := about.get(str(repo).lower()):
        extra = {**orjson.loads(known), **extra}
    try:
        extra = orjson.loads(meta_json(extra))  # no bytes, no times
    except TypeError as error:
        yield Failure("unreadable_value", f"values beside the text: {error}", row)
        return
    facts = {"repo": repo, "commit": revision, "root": None, "path": path, "licence": own, "licence_from": "metadata", "about": extra}
    file = File(config, facts, revision or blob or xxhash.xxh3_128_hexdigest(raw)[:16], len(raw), row)
    name = path.rpartition("/")[2]
    if dropped := by_name(file, name):
        yield dropped
        return
    nul = raw.find(b"\0")
    if nul >= 0 and (nul < HEAD or raw.count(b"\0") > len(raw) >> 10):
        yield file.drop("binary", nul=nul)
        return
    try:
        text = raw.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        yield Failure("invalid_utf8", f"byte {error.start} of the text: {error.reason}", row, raw=raw[:256])
        return
    given = said.get("language")
    language = languages.by_alias(given) if isinstance(given, str) else None
    yield from by_text(file, name, text, None, raw[: licence.HEADER_BYTES], language)


@functools.lru_cache(4096)
def _named(words: tuple[str, ...]) -> str | None:
    """The expression of a list of licences, which all hold; None where one of them is not known."""
    found = [licence.of_declaration(word) for word in words]
    known = [expression for expression in found if expression]
    return licence.both(known) if known and len(known) == len(found) else None


def _licence(value: Any) -> str | None:
    words = value if isinstance(value, list) else [value]
    texts = tuple(word for word in words if isinstance(word, str) and word.strip())
    return _named(texts) if texts and len(texts) == len(words) else None
