"""`codedev corpus remove --shards`: the tokens of documents that were removed from a corpus, out of the shards and tables made from it.

mask     (default) a removed document's segment stays where it is, of the same length, so that rows keep their numbers, other documents
         their places and attention its borders: its ids become the pad token, its document "", its position -1, its bytes 0, and the row's
         loss spans leave it out (null, every token, becomes the spans of the others). Every other row keeps its bytes.
repack   the segments that survive in rows concerned are packed anew, best fit first, into rows at the places of the old ones; where fewer
         do, the last places are closed up.

Tables of preferences and prompts (tables.py) lose the rows. The held-out split is done first. Only files concerned are rewritten, each
atomically, between the removal of manifest.json, after its content was put into `removed/pending.json`, and its return: whatever was killed
when, the same command run again ends with the same bytes. `removed/receipt-*.json` says which rows of which files.

Memory: one shard file (256 MB) in repack, else a record batch. The ids of a directory that is up to date are not read again.
"""

from __future__ import annotations

import bisect
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from codedev._errors import InputError
from codedev._run import Progress, atomic_write, file_hash, locked, no_progress, read_json, sweep, write_json
from codedev.corpus.look import is_below
from codedev.corpus.remove import FOLDER, PENDING, chain, check_pending, removed_ids
from codedev.tokenize.build import HELDOUT
from codedev.tokenize.rowspans import PART, SPAN
from codedev.tokenize.shards import FORMAT
from codedev.tokenize.tables import FORMAT as TABLES

RECEIPT = "codedev.shards-removal/1"
REMOVED = ""  # the document of a masked segment
MODES = ("mask", "repack")
_EXPORT = "codedev.export/1"


def check_shards(shards: Path, corpus: Path) -> None:
    """InputError where `shards` is no finished directory of shards or tables made from the corpus, before or after a removal."""
    known = set(chain(corpus))
    for folder in _folders(shards):
        if _manifest(folder)["corpus"]["manifest_hash"] not in known:
            raise InputError(f"{folder}: was not made from {corpus}, or from an earlier build of it. Run `codedev tokenize` on it instead")


def remove_from_shards(shards: Path, corpus: Path, *, mode: str = "mask", progress: Progress = no_progress) -> dict[str, Any]:
    """Bring the directory up to date with what was removed from the corpus; {path, rows, tokens, files: rewritten, receipts, stale: exports
    that were made of it before}. InputError as check_shards; RunError where the directory is being written to."""
    if mode not in MODES:
        raise InputError(f"--shards-mode {mode}: there are {', '.join(MODES)}")
    check_pending(corpus)
    check_shards(shards, corpus)
    told: dict[str, Any] = {"path": str(shards), "rows": 0, "tokens": 0, "files": 0, "receipts": []}
    ids = pa.array(sorted(removed_ids(corpus)), pa.string())
    now = chain(corpus)[-1]
    with locked(shards):
        for folder in _folders(shards):
            sweep(folder)
            done = [_finish(folder)] if (folder / FOLDER / PENDING).is_file() else []
            manifest = read_json(folder / "manifest.json")
            if manifest["corpus"]["manifest_hash"] != now:
                plan = _plan(folder, manifest, ids, mode, progress)
                plan["corpus"] = {"manifest_hash": now, "path": os.path.relpath(corpus.resolve(), folder.resolve())}
                write_json(folder / FOLDER / PENDING, plan)
                done.append(_finish(folder))
            for path, receipt in done:
                told["receipts"].append(str(path))
                told["files"] += len(receipt["files"])
                told["rows"] += sum(len(file["rows"]) for file in receipt["files"])
                told["tokens"] += receipt["tokens"]
    return told | {"stale": _stale(shards)}


def _folders(shards: Path) -> list[Path]:
    return [*([shards / HELDOUT] if (shards / HELDOUT).is_dir() else []), shards]


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest, or that of a removal that was killed."""
    pending = folder / FOLDER / PENDING
    if not pending.is_file() and not (folder / "manifest.json").is_file():
        raise InputError(f"{folder}: has no manifest.json, so it is no shard directory or an unfinished one. Run `codedev tokenize` again")
    manifest = read_json(pending)["manifest"] if pending.is_file() else read_json(folder / "manifest.json")
    try:
        whole = manifest["format"] in (FORMAT, TABLES) and isinstance(manifest["corpus"]["manifest_hash"], str)
        whole &= all(Path(file["name"]).name == file["name"] and isinstance(file["hash"], str) for file in manifest["files"])
        whole &= is_below(manifest["tokenizer"]["file"])
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise InputError(f"{folder}/manifest.json: is not the manifest of shards or tables ('{FORMAT}', '{TABLES}')")
    return dict(manifest)


def _stale(shards: Path) -> list[str]:
    """Exports beside the shards that were made of what they were before a removal."""
    before = {read_json(path)["manifest_before"] for folder in _folders(shards) for path in (folder / FOLDER).glob("receipt-*.json")}
    found = []
    for path in sorted({*shards.resolve().parent.glob("*/manifest.json"), *shards.resolve().glob("*/manifest.json")}) if before else ():
        try:
            told = read_json(path)
            if told["format"] == _EXPORT and any(split["shards"] in before for split in told["splits"].values()):
                found.append(str(path.parent))
        except (InputError, KeyError, TypeError, AttributeError):
            continue
    return found


# -- what is to be done --------------------------------------------------------------------------------------------------------------


def _plan(folder: Path, manifest: dict[str, Any], ids: pa.Array, mode: str, progress: Progress) -> dict[str, Any]:
    files = []
    documents: set[str] = set()
    for number, entry in enumerate(manifest["files"]):
        progress("look", number, len(manifest["files"]))
        if entry.get("kind") == "dropped":  # ids and reasons alone
            continue
        found = _look(folder, manifest, entry, ids, documents)
        if not found["rows"]:
            continue
        if file_hash(folder / entry["name"]) != entry["hash"]:
            raise InputError(
                f"{folder / entry['name']}: is not the file its manifest names. Run `codedev tokenize` again, or copy it again"
            )
        files.append({"name": entry["name"], "rows_before": entry["rows"], "hash_before": entry["hash"], **found})
    return {
        "number": len(list((folder / FOLDER).glob("receipt-*.json"))) + 1,
        "mode": mode,
        "manifest": manifest,
        "manifest_hash": file_hash(folder / "manifest.json"),
        "ids": ids.to_pylist(),
        "documents": len(documents),
        "files": files,
    }


def _look(folder: Path, manifest: dict[str, Any], entry: dict[str, Any], ids: pa.Array, documents: set[str]) -> dict[str, Any]:
    """Rows of the file that hold something of a removed document; tokens, bytes and segments of it."""
    told: dict[str, Any] = {"rows": [], "tokens": 0, "bytes": 0, "segments": 0}
    if manifest["format"] == TABLES:
        told["tokens_by_column"] = {}
    first = 0
    for batch in _batches(folder / entry["name"]):
        if manifest["format"] == TABLES:
            hit = pc.is_in(batch.column("document"), value_set=ids)
            gone = batch.filter(hit)
            documents.update(gone.column("document").to_pylist())
            rows = np.flatnonzero(hit.to_numpy(zero_copy_only=False))
            for name in (name for name in batch.schema.names if name.endswith("_ids")):
                tokens = int(pc.sum(pc.list_value_length(gone.column(name))).as_py() or 0)
                told["tokens_by_column"][name] = told["tokens_by_column"].get(name, 0) + tokens
                told["tokens"] += tokens
        else:
            segments = _segments(batch, ids)
            rows = np.unique(segments.rows[segments.hit])
            told["tokens"] += int(segments.lengths[segments.hit].sum())
            told["segments"] += int(segments.hit.sum())
            told["bytes"] += int(batch.column("segment_bytes").flatten().to_numpy()[segments.hit].sum())
            documents.update(batch.column("segment_documents").flatten().filter(pa.array(segments.hit)).to_pylist())
        told["rows"] += (first + rows).tolist()
        first += batch.num_rows
    return told


class _Segments(NamedTuple):
    """The segments of a record batch."""

    offsets: pa.Array  # of the lists: int32[rows + 1]
    rows: np.ndarray  # int64[segments]
    starts: np.ndarray  # int64[segments]: first token in the row
    lengths: np.ndarray  # int64[segments]
    hit: np.ndarray  # bool[segments]: it, or a part of it, is of a removed document


def _segments(batch: pa.RecordBatch, ids: pa.Array) -> _Segments:
    column = batch.column("segment_lengths")
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    edges = np.concatenate([[0], np.cumsum(counts)])
    lengths = column.flatten().to_numpy().astype(np.int64)
    before = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.repeat(np.arange(batch.num_rows), counts)
    starts = before[:-1] - before[edges[:-1]][rows]
    hit = pc.is_in(batch.column("segment_documents").flatten(), value_set=ids).to_numpy(zero_copy_only=False).copy()
    parts = batch.column("parts")
    if parts.null_count < len(parts):
        of = pc.list_parent_indices(parts).to_numpy()
        named = pc.is_in(parts.flatten().field("document"), value_set=ids).to_numpy(zero_copy_only=False)
        at = parts.flatten().field("start").to_numpy()
        for row, start in zip(of[named].tolist(), at[named].tolist(), strict=True):
            hit[edges[row] + np.searchsorted(starts[edges[row] : edges[row + 1]], start, "right") - 1] = True
    return _Segments(pa.array(edges.astype(np.int32)), rows, starts, lengths, hit)


# -- doing it ------------------------------------------------------------------------------------------------------------------------


def _finish(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Do what pending.json says, whatever of it was done before: a file changes at once or not at all. Returns path and receipt."""
    plan = read_json(folder / FOLDER / PENDING)
    (folder / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(folder / ".work", ignore_errors=True)
    ids = pa.array(plan["ids"], pa.string())
    manifest: dict[str, Any] = orjson.loads(orjson.dumps(plan["manifest"]))
    for file in plan["files"]:
        path = folder / file["name"]
        if path.is_file() and file_hash(path) == file["hash_before"]:
            _rewrite(path, manifest, ids, plan["mode"])
    manifest = _updated(folder, plan, manifest)
    if first := manifest.pop("dropped_first", None):  # what a template said may quote the text
        gone = set(plan["ids"])
        manifest["dropped_first"] = {reason: one for reason, one in first.items() if one["document"] not in gone}
    path = folder / FOLDER / f"receipt-{plan['number']:05d}.json"
    hashes = {file["name"]: file["hash"] for file in manifest["files"]}
    receipt = {
        "format": RECEIPT,
        "mode": plan["mode"],
        "manifest_before": plan["manifest_hash"],
        "corpus": {"before": plan["manifest"]["corpus"]["manifest_hash"], "after": plan["corpus"]["manifest_hash"]},
        "documents": plan["documents"],
        "tokens": sum(file["tokens"] for file in plan["files"]),
        "files": [{**file, "hash": hashes.get(file["name"])} for file in plan["files"]],
    }
    write_json(path, receipt)
    write_json(folder / "manifest.json", manifest)
    (folder / FOLDER / PENDING).unlink()
    return path, receipt


def _updated(folder: Path, plan: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    facts = {file["name"]: file for file in plan["files"]}
    left = []
    for entry in manifest["files"]:
        if entry["name"] in facts:
            if not (folder / entry["name"]).is_file():
                continue
            rows = sum(batch.num_rows for batch in _batches(folder / entry["name"]))
            entry |= {"rows": rows, "hash": file_hash(folder / entry["name"])}
        left.append(entry)
    manifest["files"] = left
    manifest["corpus"] |= plan["corpus"]
    counts = manifest["counts"]
    counts["documents"] -= plan["documents"]
    counts["documents_removed"] = counts.get("documents_removed", 0) + plan["documents"]
    if manifest["format"] == TABLES:
        kinds = {entry["name"]: entry["kind"] for entry in plan["manifest"]["files"]}
        for file in plan["files"]:
            counts[kinds[file["name"]]] -= len(file["rows"])
            for name, tokens in file["tokens_by_column"].items():
                counts["tokens"][name] -= tokens
        return manifest
    tokens, segments = (sum(file[name] for file in plan["files"]) for name in ("tokens", "segments"))
    counts["bytes"] -= sum(file["bytes"] for file in plan["files"])
    name = "tokens_masked" if plan["mode"] == "mask" else "tokens_removed"
    counts[name] = counts.get(name, 0) + tokens
    if plan["mode"] == "repack":
        manifest["rows"] = sum(entry["rows"] for entry in left)
        counts["tokens_in"] -= tokens
        counts["tokens_packed"] -= tokens
        counts["segments"] -= segments
        slots = manifest["rows"] * manifest["seq_len"]
        counts["padding"] = slots - counts["tokens_packed"]
        manifest["packing"]["padding_share"] = round(counts["padding"] / slots, 6) if slots else 0.0
    return manifest


def _rewrite(path: Path, manifest: dict[str, Any], ids: pa.Array, mode: str) -> None:
    pad = manifest["pad_id"] if manifest["pad_id"] is not None else manifest["eos_id"]
    if manifest["format"] == TABLES:
        kept = (batch.filter(pc.invert(pc.is_in(batch.column("document"), value_set=ids))) for batch in _batches(path))
        _write(path, kept)
    elif mode == "mask":
        _write(path, (_masked(batch, _segments(batch, ids), int(pad)) for batch in _batches(path)))
    else:
        _write(path, _repacked(path, ids, int(manifest["seq_len"]), int(pad)))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read: {str(error).splitlines()[0]}. Run `codedev tokenize` again") from None


def _write(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """The batches in the place of the file; no rows, no file."""
    with pa.memory_map(str(path)) as source:
        layout = pa.ipc.open_file(source).schema
    rows = 0
    with atomic_write(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, layout) as writer:
        for batch in batches:
            if batch.num_rows:
                writer.write_batch(batch)
                rows += batch.num_rows
    if not rows:
        path.unlink()


# -- mask ----------------------------------------------------------------------------------------------------------------------------


def _masked(batch: pa.RecordBatch, segments: _Segments, pad: int) -> pa.RecordBatch:
    hit = segments.hit
    if not hit.any():
        return batch
    column = batch.column("input_ids")
    flat = column.flatten().to_numpy().copy().reshape(batch.num_rows, -1)
    ranges: dict[int, list[tuple[int, int]]] = {}
    for row, start, length in zip(*(values[hit].tolist() for values in (segments.rows, segments.starts, segments.lengths)), strict=True):
        flat[row, start : start + length] = pad
        ranges.setdefault(row, []).append((start, start + length))
    used = np.bincount(segments.rows, segments.lengths, batch.num_rows).astype(np.int64)
    spans, parts = batch.column("loss_spans").to_pylist(), batch.column("parts").to_pylist()
    for row, cut in ranges.items():
        spans[row] = _without(_pairs(spans[row], int(used[row])), cut)
        lows = [low for low, _ in cut]
        left = [part for part in parts[row] or () if not _within(part["start"], lows, cut)]
        parts[row] = left or None

    def blank(name: str, value: Any) -> pa.ListArray:
        values = batch.column(name).flatten()
        return pa.ListArray.from_arrays(segments.offsets, pc.if_else(pa.array(hit), pa.scalar(value, values.type), values))

    columns = {
        "input_ids": pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1]),
        "segment_documents": blank("segment_documents", REMOVED),
        "segment_positions": blank("segment_positions", -1),
        **{name: blank(name, 0) for name in ("segment_offsets", "segment_bytes", "segment_byte_offsets")},
        "loss_spans": pa.array([_structs(told) for told in spans], pa.list_(SPAN)),
        "parts": pa.array(parts, pa.list_(PART)),
    }
    return pa.RecordBatch.from_arrays([columns.get(name, batch.column(name)) for name in batch.schema.names], schema=batch.schema)


def _within(token: int, lows: list[int], ranges: list[tuple[int, int]]) -> bool:
    at = bisect.bisect_right(lows, token) - 1
    return at >= 0 and token < ranges[at][1]


def _pairs(spans: list[dict[str, int]] | None, used: int) -> list[tuple[int, int]]:
    return [(0, used)] if spans is None else [(span["start"], span["end"]) for span in spans]


def _structs(spans: Any) -> Any:
    return spans and [{"start": span[0], "end": span[1]} if isinstance(span, tuple) else span for span in spans]


def _without(spans: list[tuple[int, int]], cut: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans less the ranges; both rise and do not overlap."""
    left: list[tuple[int, int]] = []
    at = 0
    for start, end in spans:
        while at < len(cut) and cut[at][1] <= start:
            at += 1
        number = at
        while number < len(cut) and cut[number][0] < end:
            low, high = cut[number]
            if start < low:
                left.append((start, low))
            start = max(start, high)
            number += 1
        if start < end:
            left.append((start, end))
    return left


# -- repack --------------------------------------------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """A segment out of its row: its tokens, and what the row said of them, counted from its first token."""

    row: int  # of the file, where it was
    ids: np.ndarray
    columns: dict[str, Any]  # segment_* but the length
    spans: list[tuple[int, int]] | None
    parts: list[dict[str, Any]]


def _repacked(path: Path, ids: pa.Array, seq_len: int, pad: int) -> Iterator[pa.RecordBatch]:
    """The file's rows without the removed segments, in record batches of as many rows as before: a row is found by its number."""
    batches = list(_batches(path))
    size, layout = batches[0].num_rows, batches[0].schema
    pieces: list[_Piece] = []
    concerned: list[list[int]] = []  # rows of the file, by batch
    first = 0
    for batch in batches:
        segments = _segments(batch, ids)
        rows = np.unique(segments.rows[segments.hit]).tolist()
        for row in rows:
            begin, end = np.searchsorted(segments.rows, [row, row + 1])
            pieces += _pieces(first + row, batch.slice(row, 1).to_pylist()[0], segments.hit[begin:end])
        concerned.append([first + row for row in rows])
        first += batch.num_rows
    made = iter(_bins(pieces, seq_len, sum(map(len, concerned))))
    tables, first = [], 0
    for batch, rows in zip(batches, concerned, strict=True):
        begin = 0
        for row in rows:
            tables.append(batch.slice(begin, row - first - begin))
            if (packed := next(made, None)) is not None:
                tables.append(_row(packed, layout, seq_len, pad))
            begin = row - first + 1
        tables.append(batch.slice(begin))
        first += batch.num_rows
    yield from pa.Table.from_batches([batch for batch in tables if batch.num_rows], layout).combine_chunks().to_batches(max_chunksize=size)


def _pieces(number: int, row: dict[str, Any], hit: np.ndarray) -> Iterator[_Piece]:
    ids = np.array(row["input_ids"])
    spans = None if row["loss_spans"] is None else _pairs(row["loss_spans"], 0)
    ends = [end for _, end in spans or ()]
    names = [name for name in row if name.startswith("segment_") and name != "segment_lengths"]
    start = 0
    for i, length in enumerate(row["segment_lengths"]):
        end = start + length
        if not hit[i]:
            own: list[tuple[int, int]] | None = None
            if spans is not None:
                own = []
                for low, high in spans[bisect.bisect_right(ends, start) :]:
                    if low >= end:
                        break
                    own.append((max(low, start) - start, min(high, end) - start))
            parts = [{**part, "start": part["start"] - start} for part in row["parts"] or () if start <= part["start"] < end]
            yield _Piece(number, ids[start:end], {name: row[name][i] for name in names}, own, parts)
        start = end


def _bins(pieces: list[_Piece], seq_len: int, most: int) -> list[list[_Piece]]:
    """The pieces in at most `most` rows: the longest first, each where it leaves least room; as they were where that takes more rows."""
    found: list[list[_Piece]] = []
    room: list[tuple[int, int]] = []  # (tokens free, row), rising
    for piece in sorted(pieces, key=lambda piece: -len(piece.ids)):
        at = bisect.bisect_left(room, (len(piece.ids), -1))
        free, number = room.pop(at) if at < len(room) else (seq_len, len(found))
        if number == len(found):
            found.append([])
        found[number].append(piece)
        bisect.insort(room, (free - len(piece.ids), number))
    if len(found) <= most:
        return found
    by_row: dict[int, list[_Piece]] = {}
    for piece in pieces:
        by_row.setdefault(piece.row, []).append(piece)
    return list(by_row.values())


def _row(pieces: list[_Piece], layout: pa.Schema, seq_len: int, pad: int) -> pa.RecordBatch:
    lengths = [len(piece.ids) for piece in pieces]
    starts = (np.cumsum(lengths) - lengths).tolist()
    ids = np.full(seq_len, pad, np.int64)
    ids[: sum(lengths)] = np.concatenate([piece.ids for piece in pieces])
    spans: list[tuple[int, int]] | None = None
    if any(piece.spans is not None for piece in pieces):
        spans = []
        for piece, start in zip(pieces, starts, strict=True):
            for low, high in [(0, len(piece.ids))] if piece.spans is None else piece.spans:
                if spans and spans[-1][1] == start + low:
                    spans[-1] = (spans[-1][0], start + high)
                else:
                    spans.append((start + low, start + high))
    parts = [{**part, "start": part["start"] + start} for piece, start in zip(pieces, starts, strict=True) for part in piece.parts]
    row = {"input_ids": ids.tolist(), "segment_lengths": lengths, "loss_spans": _structs(spans), "parts": parts or None}
    row |= {name: [piece.columns[name] for piece in pieces] for name in pieces[0].columns}
    return pa.RecordBatch.from_pylist([row], layout)
