"""The plan of a build: every piece of input with its content hash, packed into work units. Depends on the recipe and the inputs alone.

Planning reads every input file once to hash it, at disk speed. The plan is a file of one line a unit, and is streamed from it. Files of the
corpus directory itself are no input, so that one which lies inside an input folder does not grow with every run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import xxhash

from codedev._files import hash_of
from codedev._run import Progress, atomic_write
from codedev.corpus.recipe import CorpusRecipe
from codedev.corpus.source import Extent
from codedev.corpus.sources import module_of
from codedev.corpus.unit import Context, Unit, from_line, score_key, to_line

MAX_EXTENTS = 4096  # of a unit: a tree of tiny files must not become one unit
_HASH_THREADS = 4
_WINDOW = 256  # extents hashed at a time
_TASK = 32  # files a task


class Plan(NamedTuple):
    path: Path
    hash: str  # of everything that decides the scored tables
    units: int
    bytes: int
    files: dict[str, int]  # by source name
    bytes_in: dict[str, int]


def make_plan(context: Context, path: Path, progress: Progress) -> Plan:
    """Write the plan of the recipe's sources to `path`. Raises InputError when a path names nothing."""
    recipe = context.recipe
    digest = xxhash.xxh3_128()
    units = total = 0
    files = {source.name: 0 for source in recipe.sources}
    sizes = dict(files)
    progress("plan", 0, None)
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        for unit in _units(recipe, context.base, context.out):
            name = recipe.sources[unit.source].name
            files[name] += sum(extent.start == 0 for extent in unit.extents)
            size = sum(extent.size for extent in unit.extents)
            sizes[name] += size
            units, total = units + 1, total + size
            digest.update(score_key(context, unit).encode())
            file.write(to_line(unit))
            progress("plan", total, None)
    progress("plan", total, total)
    return Plan(path, digest.hexdigest(), units, total, files, sizes)


def read_plan(path: Path) -> Iterator[Unit]:
    with open(path, "rb") as file:
        yield from map(from_line, file)


def _units(recipe: CorpusRecipe, base: Path, out: Path) -> Iterator[Unit]:
    own = (os.path.join(os.path.abspath(out), ""), os.path.join(os.path.realpath(out), ""))
    for number, source in enumerate(recipe.sources):
        planned: Iterator[Extent] = module_of(source.type).plan(source, base, recipe.unit_bytes)
        extents = hashed(extent for extent in planned if not extent.file.startswith(own))
        for unit, together in enumerate(packed(extents, recipe.unit_bytes)):
            yield Unit(number, unit, together)


def packed(extents: Iterable[Extent], unit_bytes: int) -> Iterator[tuple[Extent, ...]]:
    """Extents in order, as many as fit into a unit."""
    held: list[Extent] = []
    size = 0
    for extent in extents:
        if held and (size + extent.size > unit_bytes or len(held) == MAX_EXTENTS):
            yield tuple(held)
            held, size = [], 0
        held.append(extent)
        size += extent.size
    if held:
        yield tuple(held)


def hashed(extents: Iterator[Extent]) -> Iterator[Extent]:
    """Extents with the hash of their file, unless the source gave them one of their own, as for a database; empty where the file cannot be
    read, which its reader will report."""
    known: dict[str, str] = {}
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        while window := list(islice(extents, _WINDOW)):
            new = [path for path in dict.fromkeys(extent.file for extent in window if not extent.hash) if path not in known]
            # A task for every file would cost as much as hashing a small one: a fifth of planning.
            shares = [new[start : start + _TASK] for start in range(0, len(new), _TASK)]
            hashes = {path: digest for share in pool.map(_hashes, shares) for path, digest in share}
            # A large file's extents may go on in the next window.
            known = {extent.file: hashes.get(extent.file) or known.get(extent.file, "") for extent in window}
            yield from (extent._replace(hash=extent.hash or known[extent.file]) for extent in window)


def _hashes(paths: list[str]) -> list[tuple[str, str]]:
    found = []
    for path in paths:
        try:
            found.append((path, hash_of(path)))
        except OSError:
            found.append((path, ""))
    return found
