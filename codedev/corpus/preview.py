"""What a source makes of files, without a recipe or a corpus: documents one after another, as the reader gives them.

Nothing is normalised, judged or deduplicated. Sources that bring records together read all input first, into a temporary folder.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from codedev import _recipe
from codedev._errors import RecipeError, nearest
from codedev.corpus import join
from codedev.corpus.plan import hashed
from codedev.corpus.recipe import check_source
from codedev.corpus.records import Reader
from codedev.corpus.source import SourceConfig
from codedev.corpus.sources import SOURCES, module_of, rounds


def source_of(kind: str, paths: tuple[str, ...], overrides: tuple[str, ...]) -> SourceConfig:
    """The checked configuration of a source; RecipeError for an unknown type or key."""
    if kind not in SOURCES:
        raise RecipeError(f"unknown type '{kind}': {nearest(kind, SOURCES)}")
    return check_source(_recipe.overridden({"name": kind, "type": kind, "paths": list(paths)}, overrides), kind)


class Preview:
    """`rows()` yields documents, drops and errors as dictionaries with their `part`; `counts` are complete once it has ended."""

    def __init__(self, config: SourceConfig, base: Path, unit_bytes: int = 32 << 20) -> None:
        self._config, self._base, self._unit_bytes = config, base, unit_bytes
        self.counts: Counter[str] = Counter()

    def rows(self) -> Iterator[dict[str, Any]]:
        with tempfile.TemporaryDirectory(prefix="codedev-") as folder:
            work = Path(folder)
            written: list[join.PieceWriter] = []
            extents = hashed(module_of(self._config.type).plan(self._config, self._base, self._unit_bytes))
            yield from self._rows(work, written, lambda reader: reader.batches(extents))
            for number in range(rounds(self._config)):
                facts = [one.facts()[str(number)] for one in written if str(number) in one.facts()]
                for span in join.spans(work, number, facts):
                    groups = join.groups(work, span)
                    yield from self._rows(work, written, lambda reader, groups=groups, number=number: reader.gathered(number, groups))

    def _rows(self, work: Path, written: list[join.PieceWriter], batches: Any) -> Iterator[dict[str, Any]]:
        pieces = join.PieceWriter(work / "scored" / f"{len(written)}")
        written.append(pieces)
        reader = Reader(self._config, self._base, pieces.add)
        for batch in batches(reader):
            yield from _as_rows("documents", batch)
            yield from _aside(reader)
        yield from _aside(reader)
        pieces.flush()
        self.counts.update(reader.counts)


def _aside(reader: Reader) -> Iterator[dict[str, Any]]:
    dropped = (row for batch in reader.drop_batches() for row in _as_rows("dropped", batch))
    failed = (row for batch in reader.failure_batches() for row in _as_rows("errors", batch))
    return chain(dropped, failed)


def _as_rows(part: str, batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    for row in batch.to_pylist():
        yield {"part": part, **{name: value for name, value in row.items() if value is not None}}
