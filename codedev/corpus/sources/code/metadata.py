"""What a table says of repositories beside their files: stars, forks, dates, topics. Goes into the `meta` of every file.

JSON lines, CSV or Parquet, compressed or not, with a column of the repository's name (`repo`, `repo_name`, `full_name`, `name`, …) as
`owner/name`. Kept columns: stars, forks, watchers, open_issues, size, created, pushed, updated, topics, description, default_branch,
archived, fork, language, licence, under these names, also where GitHub's API calls them otherwise (stargazers_count, created_at). Of two
rows for one repository the last counts. A file's repository is found by its name, whatever its case, or, where that has no owner, by the
last part if just one row has it. The table is held in memory, about 300 bytes a repository, of which there may be MAX_REPOSITORIES.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from codedev._errors import InputError
from codedev._files import expand, hash_of, is_damage, open_decompressed, open_raw

MAX_REPOSITORIES = 500_000
_MAX_LINE = 1 << 20
_NAMES = ("repo", "repo_name", "repository", "repository_name", "full_name", "nameWithOwner", "name_with_owner", "name")
_KEPT = {
    "stars": ("stars", "stargazers_count", "star_count", "stargazers", "max_stars_count", "watch_count", "stars_count"),
    "forks": ("forks", "forks_count", "fork_count", "max_forks_count"),
    "watchers": ("watchers", "watchers_count", "subscribers_count"),
    "open_issues": ("open_issues", "open_issues_count"),
    "size": ("size", "disk_usage"),
    "created": ("created", "created_at", "createdAt"),
    "pushed": ("pushed", "pushed_at", "pushedAt"),
    "updated": ("updated", "updated_at", "updatedAt"),
    "topics": ("topics",),
    "description": ("description",),
    "default_branch": ("default_branch",),
    "archived": ("archived",),
    "fork": ("fork", "is_fork"),
    "language": ("language", "primary_language"),
    "repo_licence": ("licence", "license", "license_id", "license_spdx"),
}
_NUMBERS = ("stars", "forks", "watchers", "open_issues", "size")


def load(paths: tuple[str, ...], base: Path) -> tuple[dict[str, bytes], str | None]:
    """Lower-case repository -> JSON of what is said of it, and the hash of the tables; nothing without `paths`. Raises InputError."""
    files = [found.path for found in expand(paths, base)] if paths else []
    if not files:
        return {}, None
    hashes = tuple(hash_of(file) for file in files)
    return _load(tuple(files), hashes), ":".join(hashes)


@functools.lru_cache(2)
def _load(files: tuple[str, ...], hashes: tuple[str, ...]) -> dict[str, bytes]:
    table: dict[str, bytes] = {}
    for file in files:
        try:
            for number, row in enumerate(_rows(file), 1):
                name = next((row[key] for key in _NAMES if isinstance(row.get(key), str) and row[key]), None)
                if name is None:
                    raise InputError(f"{file}: row {number:,} names no repository (one of: {', '.join(_NAMES)})")
                table[name.lower()] = orjson.dumps(_about(row), default=str)
                if len(table) > MAX_REPOSITORIES:
                    raise InputError(f"{file}: metadata of more than {MAX_REPOSITORIES:,} repositories. Keep those that the source holds")
        except InputError:
            raise
        except Exception as error:
            if not is_damage(error) and not isinstance(error, pa.ArrowException | csv.Error):
                raise
            raise InputError(f"{file}: metadata cannot be read: {error}") from None
    short: dict[str, bytes | None] = {}
    for name in list(table):
        last = name.rpartition("/")[2]
        short[last] = None if last in short and last != name else table[name]
    return {**{name: said for name, said in short.items() if said is not None}, **table}


def of(table: dict[str, bytes], repo: str) -> dict[str, Any] | None:
    said = table.get(repo.lower())
    found: dict[str, Any] | None = orjson.loads(said) if said else None
    return found or None


def _about(row: dict[str, Any]) -> dict[str, Any]:
    about = {}
    for key, names in _KEPT.items():
        value = next((row[name] for name in names if row.get(name) not in (None, "", [])), None)
        if isinstance(value, dict):  # GitHub's licence is an object
            value = value.get("spdx_id") or value.get("name")
        if key in _NUMBERS and isinstance(value, str) and value.strip().isdecimal():
            value = int(value[:18])
        if value is not None:
            about[key] = value
    return about


def _rows(file: str) -> Iterator[dict[str, Any]]:
    with open_raw(file) as raw:
        if raw.read(4) == b"PAR1":
            raw.seek(0)
            for batch in pq.ParquetFile(raw).iter_batches(4096, use_threads=False):
                yield from batch.to_pylist()
            return
    with open_decompressed(file) as stream:
        lines = _lines(stream, file)
        first = next(lines, b"").removeprefix(b"\xef\xbb\xbf")
        if first.lstrip().startswith(b"{"):
            for line in _chain(first, lines):
                if line.strip():
                    row = orjson.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("a row that is no JSON object")
                    yield row
            return
        text = (line.decode() for line in _chain(first, lines))
        delimiter = max(",;\t|", key=first.decode("utf-8", "replace").count)
        yield from csv.DictReader(text, delimiter=delimiter)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _lines(stream: Any, file: str) -> Iterator[bytes]:
    while line := stream.readline(_MAX_LINE + 1):
        if len(line) > _MAX_LINE:
            raise InputError(f"{file}: a line of more than {_MAX_LINE:,} bytes")
        yield line
