"""Documents -> units: the token sequences that are packed. What mode `pt` makes of a batch of documents.

A unit is a sequence of spans, each a special token, text, or residues of a sequence (layout.py). Most documents are one unit, [bos] text
[eos] with a token for their kind before the text; those are laid out in arrays. A protein stands between markers; a repository's files
are parted by markers in the place of the lines that name them; a document told by filling in the middle (fim.py) is several spans, and
several units where it is longer than a row: about 20 µs for each of these. An empty document is a unit without tokens.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from codedev.corpus.buffers import text_buffers
from codedev.tokenize import fim
from codedev.tokenize.layout import RESIDUES, TEXT, Layout, Span, Tokens, laid_out, merged, tokens
from codedev.tokenize.markers import Markers
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.vocabulary import Vocabulary, encode_plain, token_bytes


class Parts(NamedTuple):
    """Where units that do not tell one document's text from its beginning on get their tokens' bytes from."""

    units: np.ndarray  # int64[parts], rising
    starts: np.ndarray  # int64: from this token of the unit on, tokens cover the document's text …
    bytes: np.ndarray  # int64: … from this byte on


class Loss(NamedTuple):
    """Tokens [start, end) of units that carry loss; a unit without a span carries none."""

    units: np.ndarray  # int64[spans], rising
    starts: np.ndarray
    ends: np.ndarray


class Units(NamedTuple):
    ids: np.ndarray  # uint16 or uint32: the units' tokens one after another
    counts: np.ndarray  # int64[units]: tokens of each
    rows: np.ndarray  # int64[units], rising: the row of the batch it is of
    bytes: np.ndarray  # int64[units]: bytes of text that its tokens cover
    told: np.ndarray  # int64[units]: bytes of text that were given to the tokenizer; another number is the tokenizer's fault
    offsets: np.ndarray  # int64[units]: tokens of the document's units before it
    byte_offsets: np.ndarray  # int64[units]: bytes that they cover
    byte_lengths: np.ndarray | None  # uint32 a token; None where the vocabulary tells
    parts: Parts
    loss: Loss | None  # None: every token
    dropped: list[str] | None  # [units]: why it has no tokens, "" where it has or the document is empty; None: nothing was dropped
    counters: Counter[str]
    said: dict[str, tuple[int, str]] | None = None  # reason -> the first row of the batch that was dropped for it, and what was said of it


def make_units(batch: pa.RecordBatch, hashes: np.ndarray, vocabulary: Vocabulary, marks: Markers, recipe: TokenizeRecipe) -> Units:
    """The units of a batch with the columns kind, text (large_string) and meta; `hashes` are those of the documents' ids."""
    texts = batch.column("text")
    data, borders = text_buffers(texts)
    counters: Counter[str] = Counter()
    told = _told(batch, data, borders, hashes, vocabulary, marks, recipe, counters)
    layout = merged(_plain(batch, borders, marks, np.array(sorted(told), np.int64)), laid_out(told))
    made = tokens(layout, data, vocabulary, [table for _, _, table in marks.residues.values()])
    return _units(layout, made, borders, vocabulary, counters)


def _plain(batch: pa.RecordBatch, borders: np.ndarray, marks: Markers, but: np.ndarray) -> Layout:
    """[bos] [kind] text [eos] of every row with text that is not among `but`."""
    sizes = np.diff(borders)
    usual = sizes > 0
    usual[but] = False
    rows = np.flatnonzero(usual)
    absent = np.int64(-(1 << 40))
    columns = [np.full(len(rows), absent if marks.bos is None else marks.bos)]
    if marks.kinds:
        kinds = batch.column("kind").cast(pa.string()).take(pa.array(rows)).to_pylist()  # 20 ns each
        columns.append(np.array([marks.kinds.get(kind, absent) for kind in kinds], np.int64))
    columns += [np.full(len(rows), TEXT), np.full(len(rows), marks.eos)]
    special = np.stack(columns, axis=1)
    at = np.repeat(rows, len(columns))
    flat = special.reshape(-1).astype(np.int64)
    here = flat != absent
    at, flat = at[here], flat[here]
    begins, ends = np.where(flat == TEXT, borders[at], 0), np.where(flat == TEXT, borders[at + 1], 0)
    return Layout(at, np.zeros(len(at), np.int64), flat, begins, ends)


def _told(
    batch: pa.RecordBatch,
    data: np.ndarray,
    borders: np.ndarray,
    hashes: np.ndarray,
    vocabulary: Vocabulary,
    marks: Markers,
    recipe: TokenizeRecipe,
    counters: Counter[str],
) -> dict[int, list[list[Span]]]:
    """Row -> the units of documents that are not told plainly, each without bos and eos at its ends where it has none."""
    sizes = np.diff(borders)
    kinds = batch.column("kind").cast(pa.string())
    found: dict[int, list[list[Span]]] = {}
    names = np.array([kind or "" for kind in kinds.to_pylist()])
    for row in np.flatnonzero((names == "protein") & (sizes > 0)) if marks.residues else []:
        if (spans := _sequence(batch, int(row), borders, marks)) is not None:
            found[int(row)] = [_whole(spans, marks, str(names[row]))]
            counters["sequences"] += 1
    for row in np.flatnonzero((names == "code") & (sizes > 0)) if marks.repository else []:
        if (spans := _repository(batch, int(row), data, borders, marks)) is not None:
            found[int(row)] = [_whole(spans, marks, str(names[row]))]
            counters["repositories"] += 1
    if recipe.fim and marks.fim:
        usual = np.isin(names, recipe.fim.kinds) & (sizes > 0)
        usual[list(found)] = False
        rows = np.flatnonzero(usual)
        room = recipe.seq_len - 2 - (marks.bos is not None) - bool(marks.kinds) - fim.MARKS - fim.SLACK
        found |= _filled(rows, data, borders, hashes, vocabulary, marks, recipe, max(1, room), names, counters)
    return found


def _whole(spans: list[Span], marks: Markers, kind: str, *, first: bool = True, last: bool = True) -> list[Span]:
    before = [Span(marks.bos)] if first and marks.bos is not None else []
    before += [Span(marks.kinds[kind])] if first and kind in marks.kinds else []
    return [*before, *spans, *([Span(marks.eos)] if last else [])]


def _sequence(batch: pa.RecordBatch, row: int, borders: np.ndarray, marks: Markers) -> list[Span] | None:
    """A sequence between its markers, a token a residue."""
    molecule = _meta(batch, row).get("molecule") or "protein"
    molecule = molecule.lower() if isinstance(molecule, str) else ""
    if molecule not in marks.residues:
        return None
    start, end, _ = marks.residues[molecule]
    inside = RESIDUES - list(marks.residues).index(molecule)
    return [Span(start), Span(inside, int(borders[row]), int(borders[row + 1])), Span(end)]


def _repository(batch: pa.RecordBatch, row: int, data: np.ndarray, borders: np.ndarray, marks: Markers) -> list[Span] | None:
    """<|file_sep|> path, line end, the file's text, …; None for what is no document of a repository's files.

    The corpus writes `# File: PATH` and an empty line before each file (sources/code/context.py); the markers stand in the place of
    these lines but for the path. A line that is not found, since a stage changed it, leaves the document as it is.
    """
    meta = _meta(batch, row)
    files = meta.get("files")
    if not isinstance(files, list) or not files or marks.repository is None:
        return None
    begin, end = int(borders[row]), int(borders[row + 1])
    text = data[begin:end].tobytes()
    spans: list[Span] = []
    bodies: list[tuple[int, int, int]] = []  # the path's begin, its end, where the line before the file begins
    at = 0
    for file in files:
        path = " ".join(str(file.get("path", "") if isinstance(file, dict) else "").split("\n")).encode(errors="replace")
        line = b"# File: " + path + b"\n"
        place = 0 if not bodies and text.startswith(line) else text.find(b"\n" + line, at) + 1
        if not bodies and place != 0:
            return None
        if bodies and place == 0:
            return None
        bodies.append((place + 8, place + 8 + len(path), place))
        at = place + len(line) - 1
    for (path_begin, path_end, _), following in zip(bodies, [*bodies[1:], None], strict=True):
        stop = following[2] if following else len(text)
        body = path_end
        while body < stop and text[body : body + 1] == b"\n":
            body += 1
        while following and stop > body and text[stop - 1 : stop] == b"\n":
            stop -= 1
        spans += [Span(marks.repository), Span(TEXT, begin + path_begin, begin + min(path_end + 1, len(text)))]
        spans += [Span(TEXT, begin + body, begin + stop)] if stop > body else []
    return spans


def _meta(batch: pa.RecordBatch, row: int) -> dict[str, object]:
    try:
        meta = orjson.loads(batch.column("meta")[row].as_py() or "{}")
    except orjson.JSONDecodeError:
        return {}
    return meta if isinstance(meta, dict) else {}


def _filled(
    rows: np.ndarray,
    data: np.ndarray,
    borders: np.ndarray,
    hashes: np.ndarray,
    vocabulary: Vocabulary,
    marks: Markers,
    recipe: TokenizeRecipe,
    room: int,
    names: np.ndarray,
    counters: Counter[str],
) -> dict[int, list[list[Span]]]:
    """Row -> units of the documents that are told by filling in the middle, at least in part. A unit ends with eos when it is told so,
    since the middle must end, and where its document ends."""
    assert recipe.fim is not None
    assert marks.fim is not None
    found: dict[int, list[list[Span]]] = {}
    first = fim.draws(hashes[rows], recipe.seed, np.zeros(len(rows), np.uint64))
    for row, drawn in zip(rows.tolist(), first, strict=True):
        begin, end = int(borders[row]), int(borders[row + 1])
        pieces = [(begin, end)]
        if end - begin > room:  # a token is at least a byte: others fit
            text = pa.array([data[begin:end].tobytes().decode()], pa.large_string())
            covered = token_bytes(vocabulary, encode_plain(vocabulary, text))
            if len(covered) > room:
                pieces = fim.cut(data, begin, end, covered, room)
        units, told = [], False
        for number, (piece_begin, piece_end) in enumerate(pieces):
            if number:
                drawn = fim.draws(hashes[row : row + 1], recipe.seed, np.array([number]))[0]
            spans = fim.spans(data, piece_begin, piece_end, drawn, recipe.fim, marks.fim)
            told |= spans is not None
            counters["fim_texts"] += spans is not None
            last = spans is not None or number == len(pieces) - 1
            units.append(_whole(spans or [Span(TEXT, piece_begin, piece_end)], marks, str(names[row]), first=number == 0, last=last))
        counters["fim_documents"] += told
        if told:
            found[row] = units
    return found


def _units(layout: Layout, made: Tokens, borders: np.ndarray, vocabulary: Vocabulary, counters: Counter[str]) -> Units:
    """The layout's tokens as units, and one without tokens for every document without text."""
    rows = len(borders) - 1
    fresh = np.ones(len(layout.rows), np.bool_)
    fresh[1:] = (np.diff(layout.rows) != 0) | (np.diff(layout.pieces) != 0)
    first = np.flatnonzero(fresh)
    empty = np.setdiff1d(np.arange(rows), layout.rows)
    of_row = np.concatenate([layout.rows[first], empty])
    order = np.argsort(of_row, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))  # of each unit as they were made

    lengths = made.byte_lengths if made.byte_lengths is not None else vocabulary.byte_lengths
    assert lengths is not None
    covered = np.concatenate([[0], np.cumsum(lengths[made.ids] if made.byte_lengths is None else lengths, dtype=np.int64)])
    starts = made.spans[:-1][first]
    stops = np.append(starts[1:], len(made.ids))
    empties = np.zeros(len(empty), np.int64)
    counts = np.concatenate([stops - starts, empties])[order]
    sizes = np.concatenate([covered[stops] - covered[starts], empties])[order]
    of_row = of_row[order]
    counters["bytes_of_markers"] += int((borders[-1] - borders[0]) - (layout.ends - layout.begins).sum())  # text that they stand for
    told = np.concatenate([np.add.reduceat(layout.ends - layout.begins, first) if len(first) else empties[:0], empties])[order]
    return Units(
        ids=made.ids,
        counts=counts,
        rows=of_row,
        bytes=sizes,
        told=told,
        offsets=before(counts, of_row),
        byte_offsets=before(sizes, of_row),
        byte_lengths=made.byte_lengths,
        parts=_parts(layout, made, borders, np.cumsum(fresh) - 1, starts, place),
        loss=None,
        dropped=None,
        counters=counters,
    )


def before(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The sum of the values of the same group that stand before each; groups rise."""
    total = np.cumsum(values) - values
    first = np.searchsorted(groups, groups)
    found: np.ndarray = total - total[first]
    return found


def _parts(layout: Layout, made: Tokens, borders: np.ndarray, unit: np.ndarray, starts: np.ndarray, place: np.ndarray) -> Parts:
    """The text spans of those documents whose tokens do not cover the text in its order without a gap."""
    spans = np.flatnonzero((layout.what < 0) & (layout.ends > layout.begins))
    rows = layout.rows[spans]
    begins = layout.begins[spans] - borders[rows]
    odd = np.unique(rows[begins != before(layout.ends[spans] - layout.begins[spans], rows)])
    spans = spans[np.isin(rows, odd)]
    order = np.argsort(place[unit[spans]], kind="stable")
    spans = spans[order]
    rows = layout.rows[spans]
    return Parts(place[unit[spans]], made.spans[:-1][spans] - starts[unit[spans]], layout.begins[spans] - borders[rows])
