"""Everything the figures are drawn from, gathered from a finished corpus directory in one pass, part by part.

One Parquet row group is in memory at a time; what is kept of it are counters, sketches and a bounded number of examples, so that
memory depends on the size of a row group and the number of sources and score columns, not on the corpus.
Examples are those whose id hashes lowest: the same for the same corpus, and no favourites. Cost: reading the text column, about
400 MB of text a second on one core; a build has its workers do it. Parts are put together in their order, whoever gathered
them.

Where the recipe looks for personal data, what is quoted is masked: a document that was dropped for a card's number holds it.

It does not judge: figures.py turns this into figures.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from codedev._errors import InputError
from codedev._run import read_json
from codedev.corpus.expect import Held, expectations, recipe_of
from codedev.corpus.report.sketch import Sketch, TopSums
from codedev.corpus.report.text import EXCERPT

FORMAT = "codedev.corpus/1"
EXAMPLES = 3  # of each drop reason and error kind
BATCH_BYTES = 16 << 20  # of a batch, about: a few long documents or many short ones
BATCH_ROWS = 4096  # at most
RAW_SHOWN = 160  # characters of an unreadable record
MAX_NAMES = 4096  # languages, licences or kinds of one source that are told apart exactly, see TopSums
MASKED_BEHIND = 20_000  # characters behind an excerpt that are searched with it: a key is no shorter for being cut
MAX_REASONS = 500  # drop reasons, and error kinds, that get examples; there are some dozens

_COLUMNS = {
    "documents": {"text", "kind", "lang", "lang_score", "licence", "url", "origin", "meta"},
    "dropped": {"id", "text", "origin", "stage", "reason", "evidence"},
    "errors": {"file", "offset", "member", "kind", "message", "raw"},
}
_BROKEN = r'^\{"(?<column>[^"]+)":\s*(?<value>[^,"{}\[\]]+),\s*"bound":\s*(?<bound>[^,"{}\[\]]+)\}$'
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]  # (task, arguments) -> results in any order, as an engine's Run


class StageCounts(NamedTuple):
    stage: str
    rows_in: int
    rows_out: int
    drop: dict[str, int]
    error: dict[str, int]
    notes: dict[str, int]  # changes that lost no row
    joined: int = 0  # records that went into the documents of others

    @property
    def lost(self) -> int:
        return sum(self.drop.values()) + sum(self.error.values())


class Source(NamedTuple):
    name: str
    type: str
    files: int
    bytes_in: int


class Audited(NamedTuple):
    """Sampled near-duplicates of a source, or of all ("") as the manifest's `audit` has them (near/audit.py); None: nothing was read."""

    source: str
    dropped: int
    sampled: int
    skipped: int  # too long
    alike: int
    precision: float | None
    low: float | None  # of its 95 % interval
    high: float | None
    jaccard: float | None  # median
    held: float | None  # median share of the dropped text that the survivor holds
    least: dict[str, Any] | None  # {id, duplicate_of, jaccard, held} of the pair least alike


class NearAudit(NamedTuple):
    verify: float
    together: Audited
    sources: list[Audited]


class Example(NamedTuple):
    """A dropped document or an unreadable record, as far as the report quotes it."""

    source: str
    id: str | None
    file: str | None
    offset: int | None
    member: str | None
    text: str | None  # the first EXCERPT characters, while parts are gathered MASKED_BEHIND more; None where the row holds none
    said: str | None  # evidence (JSON) of a drop, message of an error
    cut: bool  # whether the document goes on after `text`


class Bound(NamedTuple):
    """A threshold as the evidence of the documents it dropped names it."""

    stage: str
    reason: str
    column: str
    bound: float


@dataclass
class Lengths:
    characters: Sketch = field(default_factory=Sketch)
    bytes: Sketch = field(default_factory=Sketch)

    def merge(self, other: Lengths) -> None:
        self.characters.merge(other.characters)
        self.bytes.merge(other.bytes)


@dataclass
class Kept:
    """What the report knows of one source's documents."""

    lengths: Lengths = field(default_factory=Lengths)
    kinds: TopSums = field(default_factory=lambda: TopSums(MAX_NAMES))
    languages: TopSums = field(default_factory=lambda: TopSums(MAX_NAMES))
    licences: TopSums = field(default_factory=lambda: TopSums(MAX_NAMES))

    @property
    def documents(self) -> int:
        return self.kinds.documents

    @property
    def bytes(self) -> int:
        return self.kinds.bytes

    def merge(self, other: Kept) -> None:
        self.lengths.merge(other.lengths)
        for mine, theirs in ((self.kinds, other.kinds), (self.languages, other.languages), (self.licences, other.licences)):
            mine.merge(theirs)


@dataclass
class CorpusData:
    name: str
    codedev: str
    recipe_hash: str
    seed: int
    sources: list[Source]  # in the recipe's order
    waterfall: dict[str, list[StageCounts]]  # by source
    totals: dict[str, int]  # as the manifest has them
    kept: dict[str, Kept]
    dropped: dict[str, Lengths]  # of the dropped documents that have a text
    rows: dict[str, Counter[str]]  # "dropped" and "errors": rows found in the Parquet files, by source
    origins: dict[str, TopSums]  # "domain", "repository", "file" -> where the kept text comes from
    scores: dict[str, Sketch]  # lang_score and each q.* column -> values of the kept documents
    drop_examples: dict[tuple[str, str], list[Example]]  # (stage, reason)
    error_examples: dict[tuple[str, str], list[Example]]  # ("", kind)
    refused: dict[Bound, Sketch] = field(default_factory=dict)  # the values for which documents were dropped
    expected: list[Held] = field(default_factory=list)  # what the recipe expects, and whether it holds
    near: NearAudit | None = None  # None: near-duplicates were not looked for, or not sampled


def gather(corpus: Path, run: Map = map) -> CorpusData:
    """Read the corpus directory once, part by part with `run`. InputError where it is not a finished one."""
    manifest = _manifest(corpus)
    try:
        sources = [Source(s["name"], s.get("type", ""), s.get("files", 0), s.get("bytes_in", 0)) for s in manifest["sources"]]
        waterfall = {
            source.name: [
                StageCounts(
                    s["stage"], s["rows_in"], s["rows_out"], s.get("drop", {}), s.get("error", {}), s.get("notes", {}), s.get("joined", 0)
                )
                for s in manifest["waterfall"].get(source.name, [])
            ]
            for source in sources
        }
        data = CorpusData(
            name=manifest["name"],
            codedev=manifest["codedev"],
            recipe_hash=manifest["recipe_hash"],
            seed=manifest["seed"],
            sources=sources,
            waterfall=waterfall,
            totals=manifest["totals"],
            kept={source.name: Kept() for source in sources},
            dropped={source.name: Lengths() for source in sources},
            rows={"dropped": Counter(), "errors": Counter()},
            origins=_origins(),
            scores={},
            drop_examples={},
            error_examples={},
            expected=expectations(recipe_of(corpus), manifest, corpus),
            near=_near(manifest.get("audit", {}).get("near")),
        )
        parts = {table: [str(part["path"]) for part in manifest["parts"].get(table, [])] for table in ("documents", "dropped", "errors")}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{corpus / 'manifest.json'}: is no complete manifest ({error!r}). {_rebuild(corpus)}") from None

    listed = [_listed(corpus, table, part, data) for table in _COLUMNS for part in parts[table]]
    examples = {"dropped": _Examples(), "errors": _Examples()}
    for part in _in_order(run(partial(_gather_part, corpus), enumerate(listed))):
        data.kept[part.source].merge(part.kept)
        data.dropped[part.source].merge(part.dropped)
        for name, sums in part.origins.items():
            data.origins[name].merge(sums)
        for column, sketch in part.scores.items():
            data.scores.setdefault(column, Sketch()).merge(sketch)
        for bound, sketch in part.refused.items():
            data.refused.setdefault(bound, Sketch()).merge(sketch)
        if part.table in examples:
            data.rows[part.table][part.source] += part.rows
            examples[part.table].merge(part.examples)
    quoted = _quoting(data)
    data.drop_examples = {key: [_quoted_drop(one, quoted) for one in told] for key, told in examples["dropped"].chosen().items()}
    data.error_examples = {key: [_quoted_error(one, quoted) for one in told] for key, told in examples["errors"].chosen().items()}
    data.scores = dict(sorted(data.scores.items()))
    return data


def _origins() -> dict[str, TopSums]:
    return {"domain": TopSums(), "repository": TopSums(), "file": TopSums()}


def _quoting(data: CorpusData) -> Callable[[str], str]:
    """What makes a text fit to be quoted."""
    if not any(stage.stage == "pii" for stages in data.waterfall.values() for stage in stages):
        return str
    from codedev.corpus.personal import masked  # its kernels: not for those who need none

    return masked


def _quoted_drop(example: Example, quoted: Callable[[str], str]) -> Example:
    return example._replace(text=example.text and quoted(example.text)[:EXCERPT])


def _quoted_error(example: Example, quoted: Callable[[str], str]) -> Example:
    return example._replace(text=quoted(example.text or "")[:RAW_SHOWN] or None, said=quoted(example.said or ""))


def _near(told: dict[str, Any] | None) -> NearAudit | None:
    if not told:
        return None

    def audited(entry: dict[str, Any]) -> Audited:
        least = entry["least"] and {"id": str(entry["least"]["id"]), "duplicate_of": str(entry["least"]["duplicate_of"])}
        least = least and least | {name: float(entry["least"][name]) for name in ("jaccard", "held")}
        counts = [int(entry[name]) for name in Audited._fields[1:5]]
        shares = [None if entry[name] is None else float(entry[name]) for name in Audited._fields[5:-1]]
        return Audited._make([str(entry.get("source", "")), *counts, *shares, least])

    return NearAudit(float(told["verify"]), audited(told), [audited(entry) for entry in told["sources"]])


def _rebuild(corpus: Path) -> str:
    return f"Run: codedev corpus build RECIPE --out {corpus}"


def _manifest(corpus: Path) -> dict[str, Any]:
    path = corpus / "manifest.json"
    if not path.is_file():
        missing = "there is no such directory" if not corpus.is_dir() else "is no finished corpus (it has no manifest.json)"
        raise InputError(f"{corpus}: {missing}. {_rebuild(corpus)}")
    manifest = read_json(path)
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise InputError(f"{path}: its format is {found!r}, this codedev reads {FORMAT!r}. {_rebuild(corpus)}")
    return dict(manifest)


def _listed(corpus: Path, table: str, part: str, data: CorpusData) -> tuple[str, str, str]:
    """(table, source, part) of a part that the manifest names. InputError where it is none of this corpus."""
    source = Path(part).parent.name  # documents/<source>/part-00000.parquet
    if source not in data.kept or not (corpus / part).resolve().is_relative_to(corpus.resolve()):
        raise InputError(f"{corpus / 'manifest.json'}: the part {part!r} belongs to no source of it. {_rebuild(corpus)}")
    return table, source, part


def _batches(corpus: Path, part: str, wanted: set[str]) -> Iterator[pa.RecordBatch]:
    """The part's rows: the `wanted` columns that are there, and all q.* columns."""
    path = corpus / part
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name in wanted or name.startswith("q.")]
            yield from file.iter_batches(_rows(file.metadata), columns=names)
    except FileNotFoundError:
        raise InputError(f"{path}: is named in the manifest and missing. {_rebuild(corpus)}") from None
    except (OSError, pa.ArrowException) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: cannot be read as Parquet: {first}. {_rebuild(corpus)}") from None


def _rows(metadata: pq.FileMetaData) -> int:
    """Rows that make a batch of about BATCH_BYTES, by the row group whose rows are largest."""
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    largest = max((group.total_byte_size / group.num_rows for group in groups if group.num_rows), default=1.0)
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(1.0, largest))))


@dataclass
class _Part:
    """What one part adds."""

    table: str
    source: str
    rows: int = 0
    kept: Kept = field(default_factory=Kept)
    dropped: Lengths = field(default_factory=Lengths)
    origins: dict[str, TopSums] = field(default_factory=_origins)
    scores: dict[str, Sketch] = field(default_factory=dict)
    refused: dict[Bound, Sketch] = field(default_factory=dict)
    examples: _Examples = field(default_factory=lambda: _Examples())


def _gather_part(corpus: Path, listed: tuple[int, tuple[str, str, str]]) -> tuple[int, _Part]:
    number, (table, source, path) = listed
    part = _Part(table, source)
    add = {"documents": _add_documents, "dropped": _add_dropped, "errors": _add_errors}[table]
    for batch in _batches(corpus, path, _COLUMNS[table]):
        part.rows += batch.num_rows
        add(part, batch)
    return number, part


def _in_order(numbered: Iterable[tuple[int, _Part]]) -> Iterator[_Part]:
    """The parts by their numbers 0, 1, 2 …; those that come early wait."""
    early: dict[int, _Part] = {}
    wanted = 0
    for number, part in numbered:
        early[number] = part
        while wanted in early:
            yield early.pop(wanted)
            wanted += 1


def _lengths(text: pa.Array, into: Lengths) -> pa.Array:
    """Count the lengths of the texts that are there; their bytes by row, 0 where there is none."""
    there = text.drop_null()
    into.characters.add(pc.utf8_length(there).to_numpy(zero_copy_only=False))
    into.bytes.add(pc.binary_length(there).to_numpy(zero_copy_only=False))
    return pc.fill_null(pc.binary_length(text), 0).cast(pa.int64())


def _add_documents(part: _Part, batch: pa.RecordBatch) -> None:
    kept = part.kept
    sizes = _lengths(batch["text"], kept.lengths)
    frame = pl.DataFrame(
        {
            "bytes": pl.Series(sizes.to_numpy()),
            "file": pl.from_arrow(pc.struct_field(batch["origin"], "file")),
            **{name: pl.from_arrow(batch[name].cast(pa.string())) for name in ("kind", "lang", "licence", "url", "meta")},
        }
    ).with_columns(
        repository=pl.col("meta").str.json_path_match("$.repo"),
        # The host of a URL: what lies between :// (and a user name) and the next / : ? or #.
        domain=pl.col("url").str.extract(r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?([^/:?#]+)").str.to_lowercase().str.strip_prefix("www."),
    )
    for sums, column in ((kept.kinds, "kind"), (kept.languages, "lang"), (kept.licences, "licence")):
        sums.add(_sums(frame, column))
    from_repository = pl.col("repository").is_not_null()
    from_web = ~from_repository & (pl.col("kind") == "web").fill_null(False) & pl.col("domain").is_not_null()
    for column, chosen in (("repository", from_repository), ("domain", from_web), ("file", ~from_repository & ~from_web)):
        part.origins[column].add(_sums(frame.filter(chosen), column))
    for column in batch.schema.names:
        values = batch[column]
        scored = column.startswith("q.") or column == "lang_score"
        if not scored or not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            continue
        part.scores.setdefault(column, Sketch()).add(values.drop_null().to_numpy(zero_copy_only=False))


def _sums(frame: pl.DataFrame, column: str) -> Iterator[tuple[str | None, int, int]]:
    """(name, bytes, documents) by `column`, in a fixed order."""
    return frame.group_by(column).agg(pl.col("bytes").sum(), pl.len()).sort(column).iter_rows()


def _add_dropped(part: _Part, batch: pa.RecordBatch) -> None:
    _lengths(batch["text"], part.dropped)
    _add_refused(part, batch)
    keys = [value or "" for value in batch["id"].to_pylist()]
    for row, key in part.examples.candidates(keys, batch["stage"], batch["reason"]):
        text = batch["text"][row : row + 1]
        origin = batch["origin"][row].as_py() or {}
        part.examples.add(
            key,
            Example(
                source=part.source,
                id=keys[row],
                file=origin.get("file"),
                offset=origin.get("offset"),
                member=origin.get("member"),
                text=pc.utf8_slice_codeunits(text, 0, EXCERPT + MASKED_BEHIND)[0].as_py(),
                said=batch["evidence"][row].as_py(),
                cut=(pc.utf8_length(text)[0].as_py() or 0) > EXCERPT,
            ),
        )


def _add_refused(part: _Part, batch: pa.RecordBatch) -> None:
    """The values that broke a bound, by that bound, from evidence as stage.rule_filter writes it."""
    seen = pl.col("evidence").str.extract_groups(_BROKEN)
    frame = pl.DataFrame({name: pl.from_arrow(batch[name].cast(pa.string())) for name in ("stage", "reason", "evidence")})
    numbers = [seen.struct.field(name).cast(pl.Float64, strict=False) for name in ("value", "bound")]
    broken = frame.select("stage", "reason", seen.struct.field("column"), *numbers).drop_nulls()
    for key, values in broken.group_by("stage", "reason", "column", "bound", maintain_order=True):
        part.refused.setdefault(Bound._make(key), Sketch()).add(values["value"].to_numpy())


def _add_errors(part: _Part, batch: pa.RecordBatch) -> None:
    columns = batch.select(["file", "offset", "member"]).to_pydict()
    keys = [f"{file}\0{offset}\0{member}" for file, offset, member in zip(*columns.values(), strict=True)]
    for row, key in part.examples.candidates(keys, pa.repeat("", batch.num_rows), batch["kind"]):
        raw = batch["raw"][row].as_py() or b""
        part.examples.add(
            key,
            Example(
                source=part.source,
                id=None,
                file=columns["file"][row],
                offset=columns["offset"][row],
                member=columns["member"][row],
                text=raw.decode("utf-8", errors="replace")[: RAW_SHOWN + MASKED_BEHIND],
                said=batch["message"][row].as_py(),
                cut=False,
            ),
        )


class _Examples:
    """The EXAMPLES rows of each (stage, reason) whose key hashes lowest; of rows with one key, the first."""

    def __init__(self) -> None:
        self.best: defaultdict[tuple[str, str], list[tuple[int, str, Example]]] = defaultdict(list)

    def candidates(self, keys: list[str], stage: pa.Array, reason: pa.Array) -> list[tuple[int, tuple[int, str, str, str]]]:
        """Rows of a batch that may be among the examples, each with the key to `add` it by."""
        # A Python call a dropped row: about 0.3 µs, to have a hash that no library's version changes.
        hashes = [xxhash.xxh3_64_intdigest(key.encode("utf-8", errors="surrogatepass")) for key in keys]
        frame = pl.DataFrame(
            {
                "row": pl.Series(range(len(keys)), dtype=pl.Int64),
                "hash": pl.Series(hashes, dtype=pl.UInt64),
                "key": pl.Series(keys, dtype=pl.String),
                "stage": pl.from_arrow(stage.cast(pa.string())),
                "reason": pl.from_arrow(reason.cast(pa.string())),
            }
        )
        once = frame.unique(["key", "stage", "reason"], keep="first", maintain_order=True)
        best = once.sort("hash", "key").group_by("stage", "reason", maintain_order=True).head(EXAMPLES)
        found = []
        for row, hashed, key, at, why in best.select("row", "hash", "key", "stage", "reason").iter_rows():
            rivals = self.best.get((at, why), [])
            if len(rivals) < EXAMPLES or (hashed, key) < rivals[-1][:2]:
                found.append((row, (hashed, key, at, why)))
        return found

    def add(self, key: tuple[int, str, str, str], example: Example) -> None:
        hashed, name, stage, reason = key
        if (stage, reason) not in self.best and len(self.best) >= MAX_REASONS:
            return
        rivals = self.best[stage, reason]
        if any(name == rival[1] for rival in rivals):
            return
        rivals.append((hashed, name, example))
        rivals.sort(key=lambda rival: rival[:2])
        del rivals[EXAMPLES:]

    def merge(self, other: _Examples) -> None:
        for (stage, reason), told in other.best.items():
            for hashed, name, example in told:
                self.add((hashed, name, stage, reason), example)

    def chosen(self) -> dict[tuple[str, str], list[Example]]:
        return {key: [example for _, _, example in self.best[key]] for key in sorted(self.best)}
