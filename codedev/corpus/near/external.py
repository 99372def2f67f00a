"""Records of fixed size in files, in order: a sort by ranges for what does not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from codedev.corpus.standing import share_out

_WAYS = 64
_SAMPLE = 4096


def sorted_blocks(path: Path, kind: np.dtype, budget: int) -> Iterator[np.ndarray]:
    """The records of a file of `kind` (a structured type), in order of its fields, a block of at most `budget` bytes at a time; the file is
    removed. Records that are equal lie in one block: more of them than fit into it are all that breaks the bound. What is larger is shared
    out by ranges that a sample bounds (samplesort: Frazer and McKellar, 1970), again where one is still too large.
    Memory: four times `budget`. Disk: twice the file."""
    count = path.stat().st_size // kind.itemsize
    if count * kind.itemsize <= budget:
        yield _taken(path, kind)
        return
    bounds = _bounds(path, kind, count)
    paths = [path.with_name(f"{path.name}-{part:02d}") for part in range(len(bounds) + 1)]
    _share(path, kind, budget, bounds, paths)
    path.unlink()
    for piece in paths:
        if piece.stat().st_size == count * kind.itemsize:  # the sample said nothing: one record, over and over
            yield _taken(piece, kind)
        else:
            yield from sorted_blocks(piece, kind, budget)


def _taken(path: Path, kind: np.dtype) -> np.ndarray:
    records = np.fromfile(path, kind)
    path.unlink()
    return _sorted(records)


def _sorted(records: np.ndarray) -> np.ndarray:
    names = records.dtype.names or ()
    return records[np.lexsort([np.ascontiguousarray(records[name]) for name in reversed(names)])]


def _bounds(path: Path, kind: np.dtype, count: int) -> np.ndarray:
    """At most _WAYS - 1 distinct records, in order."""
    mapped = np.memmap(path, kind, "r")
    sample = _sorted(np.asarray(mapped[np.sort(np.random.default_rng(count).integers(0, count, _SAMPLE))]))
    chosen = sample[_SAMPLE // _WAYS :: _SAMPLE // _WAYS]
    return np.asarray(chosen[np.append(True, chosen[1:] != chosen[:-1])])


def _share(path: Path, kind: np.dtype, budget: int, bounds: np.ndarray, paths: list[Path]) -> None:
    names = kind.names or ()
    with ExitStack() as stack:
        files = [stack.enter_context(one.open("wb", buffering=1 << 14)) for one in paths]
        file = stack.enter_context(path.open("rb"))
        while len(records := np.fromfile(file, kind, max(min(budget // kind.itemsize, 1 << 18), 1))):
            if len(names) == 1:
                part = np.searchsorted(bounds[names[0]], records[names[0]], side="right").astype(np.uint8)
            else:
                part = np.zeros(len(records), np.uint8)
                for bound in bounds:
                    part += _reaches(records, bound, names)
            share_out(records, part, files)


def _reaches(records: np.ndarray, bound: np.void, names: tuple[str, ...]) -> np.ndarray:
    """bool[n]: not before `bound`."""
    out = records[names[-1]] >= bound[names[-1]]
    for name in reversed(names[:-1]):
        out = (records[name] > bound[name]) | ((records[name] == bound[name]) & out)
    return np.asarray(out)
