"""Is what the near-duplicate barrier dropped really like what stayed? A sample of drops, read again and compared another way.

    draw      up to SAMPLE drops by a hash of row and seed: half of them shared out evenly, so that every source that loses has some, the
              other half by how much a source loses
    find      the survivor by the id that the evidence names, among the rows that stand for a cluster; one that is not there is a miss
    compare   the Jaccard similarity of the shingles, as Python sets of the words themselves, made after the rules that kernels/shingles.py
              states and without its code; and, as a second opinion that knows no shingles, the share of the dropped text's characters
              (white space apart) that stand in a run of RUN or more that the survivor holds too
    judge     the share of the sample that is as alike as `verify`, with Wilson's 95 % interval

The sources' shares are weighed by what they lose; the interval then counts as many drops as an even draw of the same spread would have
(Kish's effective size). The result depends on the rows and the seed alone. Cost: a read of the sampled rows' row groups (at most twice
SAMPLE), the survivors' ids, and about 0.1 s for 1 MB of text, of which HELD bytes at most are held: longer texts are skipped, and counted.
"""

from __future__ import annotations

import math
import statistics
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codedev.corpus.dedup import Changes
from codedev.corpus.standing import Table, ids_of

SAMPLE = 400
LONGEST = 1 << 20  # bytes of a text that is compared: its sets take some 60 MB
HELD = 12 << 20  # bytes of all texts
RUN = 20  # characters
TOLERANCE = 0.001  # below `verify`: the kernels compute in 32 bits, and hash
_ROWS = 1 << 16
MISSING = -1
_Z = statistics.NormalDist().inv_cdf(0.975)


class Pair(NamedTuple):
    """A sampled drop, its place in the draw, what its evidence says, and the survivor's row; MISSING where no survivor has that id."""

    hash: int
    row: int
    source: str
    id: str
    survivor_id: str
    said: float
    survivor: int


class Compared(NamedTuple):
    pair: Pair
    jaccard: float
    held: float


def audit_near(
    tables: Sequence[Table], found: Path, clusters: Path, starts: Sequence[tuple[int, str]], *, verify: float, ngram: int, seed: int
) -> dict[str, Any]:
    """What the manifest tells of `found/near-0000.parquet`: {verify, tolerance, dropped, sampled, skipped, alike, precision, low, high,
    jaccard, held, differs, least, sources}; `sources` holds the same for each that loses one. `jaccard` and `held` are medians, `differs`
    is the greatest difference from the evidence, `least` the pair least alike; null where nothing was compared.

    `clusters` holds the rows of the survivors (find.py), `starts` (first row, name) of each source, sorted.
    """
    path = found / "near-0000.parquet"
    drawn, dropped = _draw(path, starts, seed) if path.exists() else ({}, {})
    pairs = _pairs(tables, path, clusters, drawn, Changes(found)) if drawn else []
    compared = _compare(tables, pairs, ngram)
    chosen: dict[str, int] = dict.fromkeys(dropped, 0)
    for pair in pairs:
        chosen[pair.source] += 1
    sources: list[dict[str, Any]] = []
    for name, lost in dropped.items():
        mine = [told for told in compared if told.pair.source == name]
        alike = sum(told.jaccard >= verify - TOLERANCE for told in mine)
        share = alike / len(mine) if mine else None
        counted = {"source": name, "dropped": lost, "sampled": len(mine), "skipped": chosen[name] - len(mine), "alike": alike}
        sources.append(counted | _interval(share, len(mine)) | _figures(mine))
    summed = {name: sum(int(source[name]) for source in sources) for name in ("dropped", "sampled", "skipped", "alike")}
    share, size = _weighed([(source["dropped"], source["sampled"], source["alike"]) for source in sources])
    bounds = {"verify": verify, "tolerance": TOLERANCE}
    return bounds | summed | _interval(share, size) | _figures(compared) | {"sources": sources}


def wilson(share: float, size: float) -> tuple[float, float]:
    """The 95 % interval of a share of `size` > 0 draws (Wilson 1927): unlike the normal one it has a width at 0 and at 1."""
    spread = _Z * math.sqrt(share * (1 - share) / size + (_Z / (2 * size)) ** 2)
    middle, scale = share + _Z * _Z / (2 * size), 1 + _Z * _Z / size
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def _weighed(counted: list[tuple[int, int, int]]) -> tuple[float | None, float]:
    """(share that is alike, effective size) of (dropped, sampled, alike) of each source; a source of which none was read has no say."""
    read = [(dropped, sampled, alike / sampled) for dropped, sampled, alike in counted if sampled]
    if not read:
        return None, 0.0
    whole = sum(dropped for dropped, _, _ in read)
    share = math.fsum(dropped * share for dropped, _, share in read) / whole
    return share, whole**2 / math.fsum(dropped**2 / sampled for dropped, sampled, _ in read)


def _interval(share: float | None, size: float) -> dict[str, float | None]:
    if share is None:
        return {"precision": None, "low": None, "high": None}
    return {name: round(value, 6) for name, value in zip(("precision", "low", "high"), (share, *wilson(share, size)), strict=True)}


def _figures(compared: list[Compared]) -> dict[str, Any]:
    if not compared:
        return dict.fromkeys(("jaccard", "held", "differs", "least"))
    least = min(compared, key=lambda told: (told.jaccard, told.held, told.pair.row))
    return {
        "jaccard": round(statistics.median(told.jaccard for told in compared), 4),
        "held": round(statistics.median(told.held for told in compared), 4),
        "differs": round(max(abs(told.jaccard - told.pair.said) for told in compared), 4),
        "least": {
            "id": least.pair.id,
            "source": least.pair.source,
            "duplicate_of": least.pair.survivor_id,
            "survivor": "missing" if least.pair.survivor == MISSING else "stays",
            "jaccard": round(least.jaccard, 4),
            "held": round(least.held, 4),
            "said": least.pair.said,
        },
    }


# -- draw ------------------------------------------------------------------------------------------------------------------------------


def _draw(path: Path, starts: Sequence[tuple[int, str]], seed: int) -> tuple[dict[int, tuple[int, str]], dict[str, int]]:
    """({row: (hash, source)} of the sample, {source: drops}), both in order. Holds SAMPLE rows a source."""
    firsts, names = np.array([first for first, _ in starts], np.int64), [name for _, name in starts]
    lowest: dict[str, np.ndarray] = {}  # (hash, row) by source
    dropped: dict[str, int] = {}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS, columns=["row"], use_threads=False):
            rows = batch.column(0).to_numpy()
            told = np.stack([_hashes(rows, seed), rows.astype(np.uint64)], axis=1)
            places = np.searchsorted(firsts, rows, side="right") - 1
            for place in np.unique(places).tolist():
                name, mine = names[place], told[places == place]
                dropped[name] = dropped.get(name, 0) + len(mine)
                mine = np.concatenate([lowest[name], mine]) if name in lowest else mine
                lowest[name] = mine[np.lexsort((mine[:, 1], mine[:, 0]))[:SAMPLE]]
    drawn: dict[int, tuple[int, str]] = {}
    for (name, held), count in zip(lowest.items(), _shares(list(dropped.values())), strict=True):
        drawn |= {int(row): (int(hashed), name) for hashed, row in held[:count].tolist()}
    return dict(sorted(drawn.items())), dropped


def _hashes(rows: np.ndarray, seed: int) -> np.ndarray:
    """uint64 of each row: splitmix64 (Steele, Lea, Flood 2014) of row and seed."""
    with np.errstate(over="ignore"):
        mixed = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed & (1 << 64) - 1)
        mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ mixed >> np.uint64(31))


def _shares(dropped: list[int]) -> list[int]:
    """How many of each source's drops to draw: SAMPLE in all, or one of each source where there are more sources."""
    least = max(1, SAMPLE // 2 // max(1, len(dropped)))
    counts = [min(least, lost) for lost in dropped]
    left, rest = max(0, SAMPLE - sum(counts)), [lost - count for lost, count in zip(dropped, counts, strict=True)]
    whole = sum(rest)
    if whole <= left:
        return dropped
    more = [left * lost // whole for lost in rest]
    by_remainder = sorted(range(len(rest)), key=lambda place: -(left * rest[place] % whole))  # stable: ties go to the first
    for place in by_remainder[: left - sum(more)]:
        more[place] += 1
    return [count + further for count, further in zip(counts, more, strict=True)]


# -- find ------------------------------------------------------------------------------------------------------------------------------


def _pairs(tables: Sequence[Table], path: Path, clusters: Path, drawn: dict[int, tuple[int, str]], changes: Changes) -> list[Pair]:
    rows = np.array(list(drawn), np.int64)
    evidence: list[dict[str, Any]] = []
    with pq.ParquetFile(path) as file:
        for group in _groups_of(file, rows):
            told = file.read_row_group(group, columns=["row", "evidence"], use_threads=False)
            chosen = told.filter(pc.is_in(told.column("row"), pa.array(rows)))
            evidence += [orjson.loads(text) for text in chosen.column("evidence").to_pylist()]
    survivors = _rows_of_ids({str(told["duplicate_of"]) for told in evidence}, tables, path, clusters, changes)
    return [
        Pair(
            hashed, row, source, name, str(told["duplicate_of"]), float(told["jaccard"]), survivors.get(str(told["duplicate_of"]), MISSING)
        )
        for (row, (hashed, source)), name, told in zip(drawn.items(), ids_of(tables, rows, changes), evidence, strict=True)
    ]


def _groups_of(file: pq.ParquetFile, rows: np.ndarray) -> Iterator[int]:
    """The row groups, sorted by their first column, that may hold any of the sorted rows."""
    for group in range(file.num_row_groups):
        bounds = file.metadata.row_group(group).column(0).statistics
        if np.searchsorted(rows, bounds.min) < np.searchsorted(rows, bounds.max, side="right"):
            yield group


def _rows_of_ids(wanted: set[str], tables: Sequence[Table], path: Path, clusters: Path, changes: Changes) -> dict[str, int]:
    """{id: row} of the survivors among `wanted` that this barrier has not dropped itself."""
    found: dict[str, int] = {}
    with pq.ParquetFile(clusters) as file:
        for batch in file.iter_batches(_ROWS, columns=["row"], use_threads=False):
            rows = batch.column(0).to_numpy()
            told = zip(ids_of(tables, rows, changes), rows.tolist(), strict=True)  # a Python loop over survivors: 0.1 µs each
            found |= {name: row for name, row in told if name in wanted}
            if len(found) == len(wanted):
                break
    rows = np.array(sorted(found.values()), np.int64)
    gone: set[int] = set()
    with pq.ParquetFile(path) as file:
        for group in _groups_of(file, rows):
            told = file.read_row_group(group, columns=["row"], use_threads=False).column(0).to_numpy()
            gone |= set(np.intersect1d(told, rows).tolist())
    return {name: row for name, row in found.items() if row not in gone}


# -- compare ---------------------------------------------------------------------------------------------------------------------------


def _compare(tables: Sequence[Table], pairs: list[Pair], ngram: int) -> list[Compared]:
    """Every pair that could be read; without a survivor it is nothing like it."""
    texts, read = _texts(tables, pairs)
    compared = [Compared(pair, 0.0, 0.0) for pair in pairs if pair.survivor == MISSING]
    last, theirs = MISSING, frozenset[tuple[str, ...]]()
    for pair in sorted(read, key=lambda pair: (pair.survivor, pair.row)):
        text, unit = texts[pair.row]
        kept, kept_unit = texts[pair.survivor]
        if pair.survivor != last:
            last, theirs = pair.survivor, shingles(kept, ngram, kept_unit)
        mine = shingles(text, ngram, unit)
        both = len(mine & theirs)
        whole = len(mine) + len(theirs) - both
        compared.append(Compared(pair, both / whole if whole and unit == kept_unit else 0.0, held_share(text, kept)))
    return sorted(compared, key=lambda told: told.pair.row)


def _texts(tables: Sequence[Table], pairs: list[Pair]) -> tuple[dict[int, tuple[str, str]], list[Pair]]:
    """({row: (text, unit)}, the pairs of which both texts are there); the longest go until the others fit into HELD."""
    users: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.survivor != MISSING:
            users[pair.row].append(pair)
            users[pair.survivor].append(pair)
    live = {pair for both in users.values() for pair in both}
    texts: dict[int, tuple[str, str]] = {}
    sizes: dict[int, int] = {}
    held = 0

    def give_up(pair: Pair) -> int:
        """Bytes that nothing needs any more."""
        live.discard(pair)
        freed = 0
        for row in (pair.row, pair.survivor):
            if row in texts and not any(other in live for other in users[row]):
                del texts[row]
                freed += sizes[row]
        return freed

    for row, text, unit, size in _read(tables, np.array(sorted(users), np.int64)):
        if not any(pair in live for pair in users[row]):
            continue
        if text is None:
            held -= sum(give_up(pair) for pair in users[row] if pair in live)
            continue
        texts[row], sizes[row] = (text, unit), size
        held += size
        while held > HELD:
            longest = max(live, key=lambda pair: (max(sizes.get(pair.row, 0), sizes.get(pair.survivor, 0)), pair.hash))
            held -= give_up(longest)
    return texts, [pair for pair in pairs if pair in live]


def _read(tables: Sequence[Table], rows: np.ndarray) -> Iterator[tuple[int, str | None, str, int]]:
    """(row, text, unit, bytes) of the sorted rows; no text where it is longer than LONGEST."""
    for table in tables:
        first = table.first_row
        with pq.ParquetFile(table.scored) as file:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(rows, (first, first + count))
                if high > low:
                    read = file.read_row_group(group, columns=["text", "kind"], use_threads=False)
                    taken = read.take(pa.array(rows[low:high] - first))
                    sizes = pc.binary_length(taken.column("text"))
                    short = pc.if_else(pc.less_equal(sizes, LONGEST), taken.column("text"), pa.scalar(None, taken.column("text").type))
                    kinds = taken.column("kind").cast(pa.string()).to_pylist()
                    for row, text, kind, size in zip(rows[low:high].tolist(), short.to_pylist(), kinds, sizes.to_pylist(), strict=True):
                        yield row, text, "code" if kind == "code" else "words", size
                first += count


class _Characters(dict[int, str]):
    """What str.translate makes of a code point, found out when it is met: a character of a token, one that is a token, a blank, nothing."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._make = _code_character if unit == "code" else _word_character

    def __missing__(self, code: int) -> str:
        self[code] = made = self._make(chr(code))
        return made


def _code_character(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] in "LMN" or character in "_$":
        return character
    return f" {character} " if category[0] in "PS" else " "


# What is written without spaces by ideographs, kana or bopomofo: first and last code points of Unicode's blocks.
_ALONE = ((0x2E80, 0x312F), (0x31A0, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F), (0x20000, 0x3FFFF))


def _word_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Mn":
        return ""
    if category == "Nd":
        return str(unicodedata.digit(character))
    if category[0] not in "LMN":
        return " "
    if "\uac00" <= character <= "\ud7a3":
        return character
    base = unicodedata.normalize("NFD", character.lower()[0])[0]
    letter = category[0] == "L" or (category == "Nl" and "\u3000" <= character <= "\u303f")
    return f" {base} " if letter and any(first <= ord(character) <= last for first, last in _ALONE) else base


_CHARACTERS = {unit: _Characters(unit) for unit in ("words", "code")}
_MOST = 1 << 16  # characters remembered: 10 MB


def shingles(text: str, ngram: int, unit: str) -> frozenset[tuple[str, ...]]:
    """The distinct n-grams of a text's words ("words": figures count) or code tokens; of fewer tokens than `ngram` all that it has."""
    characters = _CHARACTERS[unit]
    tokens = text.translate(characters).split()
    if len(characters) > _MOST:
        characters.clear()
    if len(tokens) < ngram:
        return frozenset([tuple(tokens)] if tokens else [])
    return frozenset(zip(*(tokens[start:] for start in range(ngram)), strict=False))


def held_share(dropped: str, survivor: str) -> float:
    """Share of `dropped`'s characters, white space apart, that lie in a run of RUN characters (or all, where it has fewer) that `survivor`
    holds too, in whatever order; 1 of nothing. Linear but for a sort."""
    mine, theirs = ("".join(text.split()) for text in (dropped, survivor))
    if not mine:
        return 1.0
    run = min(RUN, len(mine))
    if len(theirs) < run:
        return 0.0
    wanted, held = _windows(mine, run), np.sort(_windows(theirs, run))
    inside = held[np.minimum(np.searchsorted(held, wanted), len(held) - 1)] == wanted
    steps = np.zeros(len(mine) + 1, np.int64)
    starts = np.flatnonzero(inside)
    steps[starts] += 1
    steps[starts + run] -= 1
    return float(np.count_nonzero(np.cumsum(steps[:-1])) / len(mine))


def _windows(text: str, run: int) -> np.ndarray:
    """uint64[len(text) - run + 1]: a polynomial in each run's code points modulo 2^64."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    hashed = np.zeros(len(codes) - run + 1, np.uint64)
    for start in range(run):
        hashed *= np.uint64(0xD6E8FEB86659FD93)
        hashed += codes[start : start + len(hashed)]
    return hashed
