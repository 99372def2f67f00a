"""Code: checkouts and plain folders, git repositories at a revision, tars and zips of a tree, tables such as The Stack's. Every file is one
record: a document, a drop with its reason, or a failure.

    paths name        a folder           a tree, or many: what lies in it is found (checkouts, bare repositories); globs such as `repos/*`
                      a file             an archive of a tree, a Parquet table of source files, or a tree of one file, told by its bytes

A folder with a `.git` that names a commit is a checkout, also inside another tree (a submodule, or a folder full of checkouts); its files
belong to it. With `revision:` the objects of that commit are read instead of the work tree; of a bare repository always (default: its
HEAD). The folders of version control are no content and are passed over; other hidden files and folders are content. Links are drops, and
never followed below a tree. Archives and tables inside a tree are binary files: name them in `paths:`.

Ids. `repo@commit:path`; the work tree of a checkout is taken to be its commit. Where there is no commit, `repo@<16 digits of the file's
hash>:path` (in an archive: of the archive's), where repo is the name of the tree's folder: other content at the same place has another
id, and the same content at the same place of two trees of one name is the same record, of which exact deduplication keeps one. In other
modes than `files` ids have a suffix.

Licence of a file: its `SPDX-License-Identifier`, else the notice in its first 4 KiB (not of prose), else that of REUSE annotations, else
that of the nearest folder above it with a licence file, up to the tree's own. `meta.licence_from` says which: spdx, header, reuse, file,
metadata, recipe.

Cost a core: planning about 20 µs a file; reading about 50 µs a file and 1 ms a MB: 120 MB/s on real trees, whose files average 6 KB.
It does not read a repository's history: one revision.
"""

from __future__ import annotations

import bisect
import fnmatch
import functools
import os
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from codedev._errors import InputError, nearest
from codedev._files import matches, nothing_at
from codedev._remote import is_url
from codedev.corpus import languages
from codedev.corpus.source import Document, Drop, Extent, Failure, Piece, SourceConfig
from codedev.corpus.sources.code import archive as code_archive
from codedev.corpus.sources.code import context as code_context
from codedev.corpus.sources.code import folder as code_folder
from codedev.corpus.sources.code import git as code_git
from codedev.corpus.sources.code import metadata as code_metadata
from codedev.corpus.sources.code import parquet as code_parquet
from codedev.corpus.sources.code.folder import Walk

VERSION = 2
Class = Literal["permissive", "copyleft", "other", "unknown"]


class Config(SourceConfig):
    type: Literal["code"] = "code"
    mode: Literal["files", "context", "docstrings", "pairs"] = "files"
    # context: a repository's files joined into one document. docstrings: instead of each Python file, what its docstrings say, as prose.
    # pairs: a document for each documented function, docstring -> code, kind instruction
    revision: str | None = None  # branch, tag or full hash: read that commit's objects, not the work tree; null = HEAD of bare repositories
    exclude: tuple[str, ...] = ()  # globs of paths inside a tree that are passed over and counted nowhere: `site-packages`, `*/testdata`
    languages: tuple[str, ...] | None = None  # names as in corpus/data/languages.tsv; null = all
    licences: Literal["any", "permissive", "permissive_or_unknown"] | tuple[Class, ...] = "any"
    prose: Literal["keep", "drop"] = "keep"  # Markdown, reStructuredText, plain text
    test_data: Literal["drop", "keep"] = "drop"  # files in testdata/, tests/fixtures/ and the like: inputs and expected outputs
    min_chars: int = Field(default=10, ge=0)  # characters that are not blank; an `__init__.py` of one import has more
    max_data_bytes: int = Field(
        default=32 << 10, ge=0
    )  # of JSON, YAML, XML, CSV, word lists, ...: what is larger is data, not configuration
    notebooks: Literal["script", "markdown", "raw"] = "script"  # cells after `# %%` lines; Markdown with fenced code; the JSON as it is
    notebook_outputs: Literal["drop", "keep"] = "drop"
    max_output_chars: int = Field(default=2000, ge=0)  # of each output that is kept
    comments: bool = False  # parse every file for `meta.comment_share` and `docstring_share`
    metadata: tuple[str, ...] = ()  # JSON lines, CSV or Parquet: repository -> stars, forks, dates, topics
    order: Literal["dependencies", "path"] = "dependencies"  # of the files in `mode: context`
    max_repository_bytes: int = Field(
        default=8 << 20, gt=0
    )  # of text in one document of `mode: context`; larger repositories become several

    @field_validator("languages")
    @classmethod
    def _known(cls, wanted: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in wanted or ():
            if name not in languages.names():
                raise ValueError(f"unknown language '{name}': {nearest(name, languages.names())}")
        return wanted


def plan(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    """One extent a file of a folder, runs of files of commits, archives and tables; in order of the paths and sorted inside each tree."""
    about, metadata = code_metadata.load(config.metadata, base)
    done: set[str] = set()  # the trees so far: a path that lies in one of them is not walked again

    def commit(directory: str) -> Iterator[Extent] | None:
        bare = not os.path.lexists(os.path.join(directory, ".git"))
        return code_git.plan(directory, walk, config, unit_bytes) if bare or config.revision else None

    walk = Walk(base, _excluded(config.exclude), functools.partial(code_metadata.of, about), commit)
    for pattern in config.paths:
        earlier = sorted(done)
        for root in _roots(pattern, base):
            real = os.path.realpath(root)
            if not done.isdisjoint((real, *map(str, Path(real).parents))):
                continue
            done.add(real)
            if os.path.isfile(root) and code_parquet.is_parquet(root):
                yield from code_parquet.plan(root, base, unit_bytes, metadata)
            elif os.path.isfile(root) and code_archive.form_of(root):
                yield from code_archive.plan(root, walk, config, unit_bytes)
            else:
                yield from code_folder.plan(root, walk, _inside(real, earlier))


@functools.cache
def _excluded(globs: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, globs))) if globs else None


def _inside(real: str, trees: list[str]) -> set[str]:
    """Those of the sorted `trees` that lie below `real`."""
    first = bisect.bisect_left(trees, real + os.sep)
    return set(takewhile(lambda tree: tree.startswith(real + os.sep), trees[first:]))


def _roots(pattern: str, base: Path) -> list[str]:
    if is_url(pattern):
        raise InputError(f"{pattern}: code is read from local files. Copy or clone it, and name that folder in `paths:`")
    roots = matches(pattern, base)
    if not roots:
        raise nothing_at(pattern, base)
    return roots


def read(extent: Extent, config: Config, base: Path) -> Iterator[Document | Drop | Failure | Piece]:
    # No generator of its own: one more would cost each of the many small files half a microsecond.
    if extent.context.startswith('{"git":'):
        return code_git.read(extent, config, _excluded(config.exclude))
    if extent.context.startswith('{"archive":'):
        return code_archive.read(extent, config, _excluded(config.exclude))
    if extent.context.startswith('{"parquet":'):
        return code_parquet.read(extent, config, code_metadata.load(config.metadata, base)[0])
    return code_folder.read(extent, config)


def rounds(config: Config) -> int:
    return 1 if config.mode == "context" else 0


def gather(number: int, key: str, pieces: list[Piece], config: Config) -> Iterator[Document]:
    yield from code_context.join(pieces, config)
