"""`codedev tokenize --mode preference|prompt`: a corpus's preferences or prompts as tables of tokens, for reward, DPO, KTO, PPO.

    OUT/pairs-00000.arrow …    one file a kind (chat/tables.py) and part of the corpus that has some; Arrow IPC, uncompressed
    OUT/dropped-00000.arrow …  documents that are in no table: document, position, reason
    OUT/tokenizer.json, manifest.json (`codedev.tables/1`), written last

and the same under OUT/heldout with `holdout`. Each part of the corpus is a step with a receipt: a run that was killed goes on behind the
last one. The bytes depend on the corpus, the tokenizer and the recipe alone.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev._errors import InputError
from codedev._run import Progress, atomic_write, content_key, file_hash, no_progress, read_json, write_json
from codedev.tokenize.chat.budget import first_said
from codedev.tokenize.chat.render import Template
from codedev.tokenize.chat.tables import TableOptions, Tables, preference_tables, prompt_table, table_schema
from codedev.tokenize.documents import Corpus, Part, batches, id_hashes, verify
from codedev.tokenize.hashing import held_out
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.vocabulary import Vocabulary, copy_into

FORMAT = "codedev.tables/1"
VERSION = 3
_ROWS = 1024  # documents rendered together
_DROPPED = pa.schema(
    [pa.field("document", pa.string()), pa.field("position", pa.int64()), pa.field("reason", pa.dictionary(pa.int32(), pa.string()))]
)


def build_tables(
    corpus: Corpus,
    vocabulary: Vocabulary,
    template: Template,
    recipe: TokenizeRecipe,
    out: Path,
    request: dict[str, Any],
    workers: int,
    progress: Progress = no_progress,
) -> tuple[dict[str, Any], int]:
    """Write the tables below `out`, which is ours; returns the manifests by split, and the number of parts kept."""
    work = out / ".work" / "tables"
    work.mkdir(parents=True, exist_ok=True)
    splits = ["train", *(["heldout"] if recipe.holdout else [])]
    kept = position = 0
    receipts: list[dict[str, Any]] = []
    with ThreadPoolExecutor(workers, "encode") as pool:
        for index, part in enumerate(corpus.parts):
            key = content_key(VERSION, part.hash, part.rows, position, vocabulary.hash, template.source, request["recipe"])
            receipt = _kept(work, index, key)
            if receipt is None:
                verify(part)
                receipt = {"key": key, **_part(pool, part, index, position, vocabulary, template, recipe, work, splits, 2 * workers)}
                write_json(work / f"part-{index:05d}.json", receipt)
            else:
                kept += 1
            receipts.append(receipt)
            position += part.rows
            progress("encode", sum(one.text_bytes for one in corpus.parts[: index + 1]), corpus.text_bytes)
    return {split: _finish(split, receipts, work, out, vocabulary, corpus, request) for split in reversed(splits)}, kept


def _kept(work: Path, index: int, key: str) -> dict[str, Any] | None:
    try:
        receipt: dict[str, Any] = read_json(work / f"part-{index:05d}.json")
        whole = receipt["key"] == key and all(file_hash(work / name) == hash_ for name, hash_ in receipt["files"].items())
    except (InputError, KeyError, TypeError, OSError):
        return None
    return receipt if whole else None


def _part(
    pool: ThreadPoolExecutor,
    part: Part,
    index: int,
    position: int,
    vocabulary: Vocabulary,
    template: Template,
    recipe: TokenizeRecipe,
    work: Path,
    splits: list[str],
    ahead: int,
) -> dict[str, Any]:
    options = TableOptions(recipe.seq_len, recipe.too_long, recipe.chat.system)  # type: ignore[arg-type]  # no split: by the recipe
    make = preference_tables if recipe.mode == "preference" else prompt_table
    tables: dict[tuple[str, str], list[pa.RecordBatch]] = {}
    counters, documents = Counter[str](), Counter[str]()
    said: dict[str, tuple[str, str]] = {}
    rows = 0
    for batch, made in _in_order(pool, part, position, lambda batch, at: make(vocabulary, template, batch, options, position=at), ahead):
        held = held_out(id_hashes(batch.column("id")), recipe.holdout)
        counters.update(made.counters)
        said = {**made.said, **said}
        for split in splits:
            mine = held if split == "heldout" else ~held
            documents[split] += int(mine.sum())
            for kind, table in made.tables.items():
                chosen = mine[table.column("position").to_numpy() - position - rows]
                tables.setdefault((split, kind), []).append(table.filter(pa.array(chosen)))
            lost = np.flatnonzero(mine & np.array([bool(reason) for reason in made.status]))
            reasons = pa.array([made.status[i] for i in lost.tolist()], pa.string()).dictionary_encode()
            columns = [batch.column("id").cast(pa.string()).take(pa.array(lost)), pa.array(position + rows + lost), reasons]
            tables.setdefault((split, "dropped"), []).append(pa.RecordBatch.from_arrays(columns, schema=_DROPPED))
        rows += batch.num_rows
    files = {}
    for (split, kind), found in sorted(tables.items()):
        table = pa.Table.from_batches(found).combine_chunks()
        if table.num_rows:
            name = f"{split}.{kind}-{index:05d}.arrow"
            with atomic_write(work / name) as temporary, pa.OSFile(str(temporary), "wb") as sink:
                with pa.ipc.new_file(sink, table.schema) as writer:
                    writer.write_table(table.unify_dictionaries(), max_chunksize=1 << 14)
            files[name] = file_hash(work / name)
    return {"files": files, "documents": dict(documents), "counters": dict(sorted(counters.items())), "said": said}


def _in_order(pool: ThreadPoolExecutor, part: Part, position: int, make: Any, ahead: int) -> Iterator[tuple[pa.RecordBatch, Tables]]:
    waiting: deque[Any] = deque()
    for group in batches(part, ["id", "kind", "meta"]):
        for begin in range(0, group.num_rows, _ROWS):
            batch = group.slice(begin, _ROWS)
            waiting.append((batch, pool.submit(make, batch, position)))
            position += batch.num_rows
            while len(waiting) >= ahead:
                first, future = waiting.popleft()
                yield first, future.result()
    for first, future in waiting:
        yield first, future.result()


def _finish(
    split: str, receipts: list[dict[str, Any]], work: Path, out: Path, vocabulary: Vocabulary, corpus: Corpus, request: dict[str, Any]
) -> dict[str, Any]:
    """Move the split's files to their places and write its manifest."""
    folder = out if split == "train" else out / "heldout"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.arrow"):
        stale.unlink()
    files, counts, reasons, tokens = [], Counter[str](), Counter[str](), Counter[str]()
    for receipt in receipts:
        counts["documents"] += receipt["documents"].get(split, 0)
        for name, hash_ in sorted(receipt["files"].items()):
            if not name.startswith(f"{split}."):
                continue
            target = name.removeprefix(f"{split}.")
            kind = target.rpartition("-")[0]
            shutil.copyfile(work / name, folder / target)
            with pa.memory_map(str(folder / target)) as source:
                table = pa.ipc.open_file(source).read_all()
                if kind == "dropped":
                    reasons.update(table.column("reason").cast(pa.string()).to_pylist())
                for column in table.schema.names:
                    if column.endswith("_ids"):
                        tokens[column] += int(pc.sum(pc.list_value_length(table.column(column))).as_py() or 0)
                counts[kind] += table.num_rows
                files.append({"name": target, "kind": kind, "rows": table.num_rows, "hash": hash_})
    if sum(counts[kind] for kind in counts if kind != "documents") != counts["documents"]:
        raise AssertionError(f"documents do not balance: {dict(counts)}")
    said = {reason: {"document": name, "said": why} for one in reversed(receipts) for reason, (name, why) in one["said"].items()}
    if counts["documents"] == counts["dropped"]:
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        raise InputError(
            f"{corpus.path}: no document gives a row for mode {request['mode']} ({told}){first_said(said)}. Build a corpus of conversations"
        )
    copy_into(vocabulary, folder)
    made = Counter[str]()
    for receipt in receipts:
        made.update(receipt["counters"])
    manifest = {
        **request,
        "format": FORMAT,
        "split": split,
        "counts": {**dict(sorted(counts.items())), "tokens": dict(sorted(tokens.items()))},
        "dropped": dict(sorted(reasons.items())),
        **({"dropped_first": dict(sorted(said.items()))} if said else {}),  # of the whole corpus, as `made`
        "made": dict(sorted(made.items())),  # of the whole corpus
        "columns": {kind: table_schema(kind, vocabulary).names for kind in counts if kind not in ("documents", "dropped")},  # type: ignore[arg-type]
        "files": files,
        "corpus": {**request["corpus"], "path": os.path.relpath(corpus.path.resolve(), folder.resolve())},
    }
    write_json(folder / "manifest.json", manifest)
    return manifest
