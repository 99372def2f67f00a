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
documents of one id. Split by row groups. Cost: 40 µs a row beside the rules'. Held: a batch of 512 rows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from codedev._files import open_raw, shown, storable
from codedev.corpus import languages, licence
from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources.code.file import File, Record, by_name, by_text, json_of
from codedev.corpus.sources.code.text import HEAD

if TYPE_CHECKING:
    from codedev.corpus.sources.code.source import Config

_ROWS = 512
_REPO = ("max_stars_repo_", "max_issues_repo_", "max_forks_repo_")
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
            table = pq.ParquetFile(file)
            how = layout(table.schema_arrow.names)
            if how is None:
                columns = ", ".join(table.schema_arrow.names[:20])
                yield Failure(
                    "unknown_columns", f"no columns of source files with their paths (has: {columns}). Read it with type: tables", 0
                )
                return
            groups = range(extent.start, table.num_row_groups if extent.end < 0 else extent.end)
            row = sum(table.metadata.row_group(group).num_rows for group in range(extent.start))
            for group in groups:
                at, row = row, row + table.metadata.row_group(group).num_rows
                try:
                    for batch in table.iter_batches(_ROWS, row_groups=[group], use_threads=False):
                        yield from _rows(batch, at, how, config, about)
                        at += batch.num_rows
                except (pa.ArrowException, OSError, OverflowError) as error:
                    said = (str(error).splitlines() or [type(error).__name__])[0]
                    yield Failure("corrupt", f"rows {at:,} to {row - 1:,} are not readable as Parquet: {said}", at)
    except OSError as error:
        yield Failure("unreadable", error.strerror or str(error))
    except pa.ArrowException as error:
        yield Failure("corrupt", f"not readable as Parquet: {(str(error).splitlines() or [''])[0]}", 0)


def _rows(batch: pa.RecordBatch, first: int, how: _Layout, config: Config, about: dict[str, bytes]) -> Iterator[Record]:
    column = batch.column(how.columns["text"])
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    binary = pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type) or column.type == pa.binary_view()
    if not binary and not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or column.type == pa.string_view()):
        for place in range(batch.num_rows):
            yield Failure("no_text_column", f"the column {how.columns['text']} holds {column.type}", first + place)
        return
    data = column.cast(pa.large_binary())  # Arrow does not check UTF-8 on reading
    sizes = pc.fill_null(pc.binary_length(data), -1).to_pylist()
    # A Python loop over rows: what it costs beside the rules is in the module's docstring.
    for place, values in enumerate(batch.select([*how.columns.values(), *how.others]).drop_columns([how.columns["text"]]).to_pylist()):
        row = first + place
        if sizes[place] < 0:
            yield Failure("no_text", "the row has no text", row)
            continue
        if sizes[place] > config.max_record_bytes:
            yield Failure("too_large", f"a text of {sizes[place]:,} bytes; max_record_bytes is {config.max_record_bytes:,}", row)
            continue
        raw = data[place].as_py()
        yield from _row(values, raw, row, how, config, about)


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
