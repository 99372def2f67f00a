"""`codedev corpus remove`: documents out of a finished corpus, by their ids.

Erasure: no text of a removed document is left in the directory. Rows go from `documents/`, `dropped/` (the same id), `errors/` (the same
record) and `index/`; the report, which quotes, is written anew, and `.work`, which holds every text, is deleted.
What stays is its id, in `removed/receipt-*.json` with a hash of the text, and in the evidence of those that were dropped as its duplicates.

Only the parts concerned are rewritten, each atomically. Before that the list and the old manifest are put into `removed/pending.json` and
manifest.json is removed, so that a manifest never names a part that does not match; whatever is killed when, the same command run
again goes on from there to the same bytes. A build on the same directory reads the receipts and keeps the documents out (`keep_out`).

Memory: the ids and one row group. Cost: reading the id columns, and copying the parts concerned.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from codedev._errors import InputError, RunError, printable
from codedev._run import TEMPORARY, Events, Progress, file_hash, locked, no_progress, read_json, sweep, write_json
from codedev.corpus.look import manifest_of
from codedev.corpus.parts import PartWriter, read_part
from codedev.corpus.report import write_report

FORMAT = "codedev.removal/1"
FOLDER, PENDING = "removed", "pending.json"
STAGE, REASON = "removed", "user"  # in the waterfall
_SHOWN = 10  # ids that a message names
_KINDS = ("documents", "dropped", "errors")
_PLACE = ["file", "offset", "member"]


def removed_ids(corpus: Path) -> set[str]:
    """The ids of every document that was ever removed from the corpus directory."""
    return {str(row["id"]) for path in _receipts(corpus) for row in read_json(path)["removed"] if row["id"] is not None}


def chain(corpus: Path) -> list[str]:
    """Hashes of the manifest of a finished corpus: before each removal, and now. Shards of each of them may be brought up to date."""
    manifest = manifest_of(corpus)
    return [*map(str, manifest.get("removed", {}).get("before", [])), file_hash(corpus / "manifest.json")]


def finish_removal(corpus: Path) -> bool:
    """End a removal that was killed; whether there was one."""
    if not (corpus / FOLDER / PENDING).is_file():
        return False
    with locked(corpus):
        sweep(corpus)
        return _finish(corpus) is not None


def remove_documents(
    corpus: Path, ids: Iterable[str], *, missing_ok: bool = False, duplicates: bool = False, progress: Progress = no_progress
) -> dict[str, Any]:
    """Take the documents with these ids out of the corpus; {removed, already, unknown, duplicates, receipt: its path or None}.

    `removed` counts documents, `already` ids that an earlier removal took, `unknown` lists ids that the corpus does not have (InputError
    unless `missing_ok`, before anything is changed), `duplicates` those of dropped documents whose evidence names a removed one: they hold
    the same text or much of it under `dropped/`, and go too where the argument says so. RunError where the corpus is being written to.
    """
    finish_removal(corpus)
    manifest_of(corpus)  # before a lock file is made where there is no corpus
    with locked(corpus):
        sweep(corpus)
        manifest = manifest_of(corpus)
        wanted, gone = set(ids), removed_ids(corpus)
        copies = _duplicates(corpus, manifest, wanted | gone) - gone if wanted or gone else set()
        plan = _plan(corpus, manifest, wanted | (copies if duplicates else set()), progress)
        unknown = sorted(wanted - gone - {row["id"] for row in plan["removed"]})
        if unknown and not missing_ok:
            named = ", ".join(map(repr, unknown[:_SHOWN])) + (" …" if len(unknown) > _SHOWN else "")
            raise InputError(
                f"{corpus}: has no document with {len(unknown):,} of {len(wanted):,} ids: {named}. --missing-ok passes over them"
            )
        told: dict[str, Any] = {"removed": 0, "already": len(wanted & gone), "unknown": unknown, "receipt": None}
        told["duplicates"] = sorted(copies - {row["id"] for row in plan["removed"]})
        if plan["parts"]:
            plan["asked"] = {"ids": len(wanted), "already": told["already"], "unknown": unknown, "duplicates": duplicates}
            plan["duplicates_left"] = told["duplicates"]
            write_json(corpus / FOLDER / PENDING, plan)
            told["removed"] = sum(row["from"] == "documents" for row in plan["removed"])
            told["receipt"] = str(_finish(corpus, progress))
    return told


def keep_out(corpus: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """For a build, when its parts are written and its manifest is not: take out what was removed before. Returns the manifest to write.
    Where there was something, `.work` is emptied: it holds the texts."""
    receipts = _receipts(corpus)
    if not receipts:
        return manifest
    plan = _plan(corpus, manifest, removed_ids(corpus))
    _rewrite_all(corpus, plan)
    manifest = _updated(corpus, plan)
    manifest["removed"] = {"documents": manifest["totals"]["removed"], "receipts": [path.name for path in receipts], "before": []}
    shutil.rmtree(corpus / ".work", ignore_errors=True)
    (corpus / ".work").mkdir(exist_ok=True)
    return manifest


def check_pending(corpus: Path) -> None:
    """RunError where a removal was killed: a build would begin anew on what it left."""
    if (corpus / FOLDER / PENDING).is_file():
        raise RunError(f"{corpus}: a removal was interrupted here. Run `codedev corpus remove {corpus} --ids FILE` again first (any FILE)")


def _receipts(corpus: Path) -> list[Path]:
    return sorted((corpus / FOLDER).glob("receipt-*.json"))


# -- what is to be done --------------------------------------------------------------------------------------------------------------


def _duplicates(corpus: Path, manifest: dict[str, Any], ids: set[str]) -> set[str]:
    """Ids of dropped documents whose evidence says that they lost to one of `ids`."""
    found: set[str] = set()
    for part in manifest["parts"]["dropped"]:
        for batch in _read(corpus, part, ["id", "evidence"]):
            naming = batch.filter(pc.fill_null(pc.match_substring(batch.column("evidence"), '"duplicate_of"'), False))
            for name, evidence in zip(*(naming.column(at).to_pylist() for at in (0, 1)), strict=True):  # 1 µs each
                if name is not None and orjson.loads(evidence).get("duplicate_of") in ids:
                    found.add(name)
    return found


def _plan(corpus: Path, manifest: dict[str, Any], ids: set[str], progress: Progress = no_progress) -> dict[str, Any]:
    """What pending.json holds: the old manifest, its hash, the rows that go, and of each part concerned how many. InputError where such a
    part is not what the manifest says."""
    wanted = pa.array(sorted(ids), pa.string())
    removed: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    places: dict[str, set[tuple[Any, ...]]] = {}
    listed = [(kind, part) for kind in _KINDS for part in manifest["parts"][kind]] if ids else []
    for number, (kind, part) in enumerate(listed):
        progress("look", number, len(listed))
        source = Path(part["path"]).parent.name
        gone = Counter[str]()
        columns = [*_PLACE] if kind == "errors" else ["id", "origin", *(["licence"] if kind == "documents" else [])]
        hits: list[int] = []  # rows of the part
        first = 0
        for batch in _read(corpus, part, columns) if kind != "errors" or source in places else ():
            at = np.flatnonzero(_goes(batch, kind, wanted, places.get(source, set())))
            hits += (first + at).tolist()
            first += batch.num_rows
            if kind == "errors":
                removed += [{"id": None, "source": source, "from": kind, "hash": None} for _ in at]
                continue
            chosen = batch.take(pa.array(at))
            places.setdefault(source, set()).update(
                tuple(row[name] for name in _PLACE) for row in chosen.column("origin").to_pylist() if row
            )
            if kind == "documents":
                gone["unknown_licence"] += chosen.column("licence").null_count
        if not hits:
            continue
        entry = {"path": part["path"], "kind": kind, "source": source, "rows_before": part["rows"], "rows": len(hits)}
        if kind != "errors":
            for row in _texts(corpus, part, np.array(hits)):
                text = (row["text"] or "").encode()
                gone["text_bytes"] += len(text)
                hashed = xxhash.xxh3_128_hexdigest(text) if row["text"] is not None else None
                removed.append({"id": row["id"], "source": source, "from": kind, "hash": hashed})
        index = "/".join(["index", *Path(part["path"]).parts[1:]]) if kind == "documents" else ""
        beside = next((one for one in manifest["parts"].get("index", []) if one["path"] == index), None)
        for one in filter(None, (part, beside)):
            if file_hash(corpus / one["path"]) != one["hash"]:
                raise InputError(f"{corpus / one['path']}: is not what the corpus wrote. Run its build again")
        entry |= {"gone": dict(gone), "hash_before": part["hash"], "bytes_before": (corpus / part["path"]).stat().st_size}
        entry["index"] = beside and {"path": beside["path"], "hash_before": beside["hash"], "rows_before": beside["rows"]}
        parts.append(entry)
    return {
        "number": len(_receipts(corpus)) + 1,
        "manifest": manifest,
        "manifest_hash": file_hash(corpus / "manifest.json") if (corpus / "manifest.json").is_file() else None,
        "ids": wanted.to_pylist(),
        "places": {source: sorted(told, key=repr) for source, told in places.items()},
        "removed": removed,
        "parts": parts,
    }


def _read(corpus: Path, part: dict[str, Any], columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    path = corpus / part["path"]
    try:
        if not path.is_file():
            raise InputError(f"{path}: this part of the corpus is missing. Run its build again")
        yield from read_part(path, columns)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: this part of the corpus is damaged: {str(error).splitlines()[0]}. Run its build again") from None


def _goes(batch: pa.RecordBatch, kind: str, wanted: pa.Array, places: set[tuple[Any, ...]]) -> np.ndarray:
    """bool a row: it is to be removed. Errors have no id: those go that tell of the record of a removed document."""
    if kind != "errors":
        found: np.ndarray = pc.is_in(batch.column("id"), value_set=wanted).to_numpy(zero_copy_only=False)
        return found
    rows = zip(*(batch.column(name).to_pylist() for name in _PLACE), strict=True)
    return np.array([row in places for row in rows], np.bool_)


def _texts(corpus: Path, part: dict[str, Any], rows: np.ndarray) -> Iterator[dict[str, Any]]:
    first = 0
    for batch in _read(corpus, part, ["id", "text"]):
        here = rows[(rows >= first) & (rows < first + batch.num_rows)] - first
        first += batch.num_rows
        for at in here.tolist():
            yield {"id": batch.column(0)[at].as_py(), "text": batch.column(1)[at].as_py()}


# -- doing it ------------------------------------------------------------------------------------------------------------------------


def _finish(corpus: Path, progress: Progress = no_progress) -> Path | None:
    """Do what pending.json says, whatever of it was done before; the path of the receipt."""
    if not (corpus / FOLDER / PENDING).is_file():
        return None
    plan = read_json(corpus / FOLDER / PENDING)
    (corpus / "manifest.json").unlink(missing_ok=True)  # from here on the directory is no finished corpus
    shutil.rmtree(corpus / ".work", ignore_errors=True)
    _rewrite_all(corpus, plan, progress)
    manifest = _updated(corpus, plan)
    told = plan["manifest"].get("removed", {"documents": 0, "receipts": [], "before": []})
    path = corpus / FOLDER / f"receipt-{plan['number']:05d}.json"
    manifest["removed"] = {
        "documents": manifest["totals"]["removed"],
        "receipts": [*told["receipts"], path.name],
        "before": [*told["before"], plan["manifest_hash"]],
    }
    write_json(path, _receipt(corpus, plan))
    write_json(corpus / "manifest.json", manifest)
    write_report(corpus)
    Events(corpus).log("removed", receipt=path.name, rows=len(plan["removed"]), parts=len(plan["parts"]))
    (corpus / FOLDER / PENDING).unlink()
    return path


def _rewrite_all(corpus: Path, plan: dict[str, Any], progress: Progress = no_progress) -> None:
    wanted = pa.array(plan["ids"], pa.string())
    for number, part in enumerate(plan["parts"]):
        progress("rewrite", number, len(plan["parts"]))
        path = corpus / part["path"]
        if not path.is_file() or file_hash(path) != part["hash_before"]:
            continue  # it was done before a kill: a part changes at once or not at all, its index before it
        places = {tuple(place) for place in plan["places"].get(part["source"], [])}
        index = corpus / part["index"]["path"] if part["index"] else None
        if index and not (index.is_file() and file_hash(index) == part["index"]["hash_before"]):
            index = None
        _rewrite(path, index, part["kind"], wanted, places)
        for folder in {path.parent, index.parent if index else path.parent}:
            if not any(folder.iterdir()):
                folder.rmdir()


def _rewrite(path: Path, index: Path | None, kind: str, wanted: pa.Array, places: set[tuple[Any, ...]]) -> None:
    """The part without the rows that go, and its index cut into the same row groups."""
    beside: Iterable[pa.RecordBatch | None] = read_part(index) if index else itertools.repeat(None)
    with (
        PartWriter(path, pq.read_schema(path)) as writer,
        PartWriter(index, pq.read_schema(index)) if index else contextlib.nullcontext() as second,
    ):
        for batch, own in zip(read_part(path), beside, strict=False):
            stays = pa.array(~_goes(batch, kind, wanted, places))
            writer.add(batch.filter(stays))
            if second and own is not None:
                columns = [*own.columns, batch.column("text")]  # by whose size row groups are cut
                second.add(pa.RecordBatch.from_arrays(columns, names=[*own.schema.names, "text"]).filter(stays))


def _updated(corpus: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The manifest of what is left. In the waterfall a removal is a drop of a stage of its own, the last one; rows that went from
    dropped/ and errors/ stay counted where they were lost, and stand in that stage's notes."""
    manifest: dict[str, Any] = orjson.loads(orjson.dumps(plan["manifest"]))
    totals = manifest["totals"]
    totals.setdefault("removed", 0)
    totals.setdefault("erased", 0)
    facts = {part["path"]: part for part in plan["parts"]}
    facts |= {part["index"]["path"]: {**part, "kind": "index"} for part in plan["parts"] if part["index"]}
    for kind, entries in manifest["parts"].items():
        left = []
        for entry in entries:
            if change := facts.get(entry["path"]):
                entry |= {"rows": entry["rows"] - change["rows"]}
                if not entry["rows"]:
                    continue
                entry |= {"hash": file_hash(corpus / entry["path"])}
                if kind == "documents":
                    entry["text_bytes"] -= change["gone"]["text_bytes"]
            left.append(entry)
        manifest["parts"][kind] = left
    for part in plan["parts"]:
        stages = manifest["waterfall"][part["source"]]
        if not stages or stages[-1]["stage"] != STAGE:
            rows = stages[-1]["rows_out"] if stages else 0
            stages.append({"stage": STAGE, "rows_in": rows, "rows_out": rows, "joined": 0, "drop": {}, "error": {}, "notes": {}})
        stage = stages[-1]
        totals[part["kind"]] -= part["rows"]
        if part["kind"] == "documents":
            stage["rows_out"] -= part["rows"]
            stage["drop"][REASON] = stage["drop"].get(REASON, 0) + part["rows"]
            totals["removed"] += part["rows"]
            totals["text_bytes"] -= part["gone"]["text_bytes"]
            totals["unknown_licence"] -= part["gone"].get("unknown_licence", 0)
        else:
            totals["erased"] += part["rows"]
            name = f"{part['kind']}_erased"
            stage["notes"][name] = stage["notes"].get(name, 0) + part["rows"]
    return manifest


def _receipt(corpus: Path, plan: dict[str, Any]) -> dict[str, Any]:
    parts = []
    for part in plan["parts"]:
        path = corpus / part["path"]
        told = {name: part[name] for name in ("path", "rows_before", "bytes_before", "hash_before")}
        there = path.is_file()
        told |= {"rows": part["rows_before"] - part["rows"], "bytes": path.stat().st_size if there else 0}
        parts.append(told | {"hash": file_hash(path) if there else None})
    return {
        "format": FORMAT,
        "reason": REASON,
        "asked": plan["asked"],
        "manifest_before": plan["manifest_hash"],
        "removed": [{**row, "reason": "removed"} for row in plan["removed"]],
        "duplicates_left": plan["duplicates_left"],
        "parts": parts,
    }


# -- lists of ids --------------------------------------------------------------------------------------------------------------------


def read_ids(path: Path) -> list[str]:
    """The ids that a file lists, each once: the column `id` of Parquet or CSV (told by the name's ending), else one a line; `-` is
    standard input. Blanks belong to an id, empty lines are passed over. InputError for what is no such file."""
    try:
        if path.suffix.lower() == ".parquet":
            table = pq.read_table(path, columns=["id"])
            found = table.column("id").cast(pa.string()).drop_null().to_pylist()
        elif path.suffix.lower() == ".csv":
            import polars as pl

            frame = pl.read_csv(path, columns=["id"], infer_schema=False)
            found = frame["id"].drop_nulls().to_list()
        else:
            data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
            found = [line.removesuffix("\r") for line in data.decode("utf-8-sig").split("\n")]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or printable(str(error))}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 at byte {error.start}. Give one id a line, or Parquet or CSV with a column id") from None
    except Exception as error:
        if not isinstance(error, pa.ArrowException) and type(error).__module__.split(".")[0] != "polars":
            raise
        told = (str(error).splitlines() or [""])[0]
        raise InputError(f"{path}: has no readable column 'id': {told}") from None
    return list(dict.fromkeys(one for one in found if one))


def copy_corpus(corpus: Path, out: Path) -> None:
    """The finished corpus as it is, in a directory of its own, without `.work`; nothing where `out` is a copy already. Files are linked
    where the disk can, since a removal never writes into one. InputError where `out` is something else."""
    manifest_of(corpus)
    check_pending(corpus)
    if (out / FOLDER / PENDING).is_file() or (out / "manifest.json").is_file():
        before = [read_json(out / FOLDER / PENDING)["manifest_hash"]] if (out / FOLDER / PENDING).is_file() else chain(out)
        if file_hash(corpus / "manifest.json") in before:
            return
        raise InputError(f"{out}: holds another corpus. Choose another --out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is not empty and holds no copy of {corpus}. Choose another --out")
    temporary = out.with_name(f"{TEMPORARY}{os.getpid()}-{out.name}")
    temporary.mkdir(parents=True)
    for name in ("recipe.yaml", "manifest.json", "documents", "dropped", "errors", "index", FOLDER):
        if (corpus / name).is_dir():
            shutil.copytree(corpus / name, temporary / name, copy_function=_linked)
        elif (corpus / name).is_file():
            _linked(str(corpus / name), str(temporary / name))
    temporary.rename(out)  # over an empty directory
    write_report(out)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
