"""`codedev tokenize`: a corpus and a tokenizer in, a shard directory out (and one with the held-out documents in OUT/heldout).

Three steps: encode every part into the token store (OUT/.work, with a receipt a part), plan the rows, write them. A run that was
killed goes on with the first part that has no receipt; packing is done anew, as it takes seconds where encoding takes minutes. The
output depends on the corpus, the tokenizer and the arguments alone, not on `workers`, kills or earlier contents of OUT. When OUT
already holds what is asked for, nothing is done.
Disk: the store takes as much as the shards, and is removed at the end.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from codedev._errors import InputError
from codedev._run import Progress, atomic_write, file_hash, held, locked, no_progress, read_json, sweep, write_json
from codedev.tokenize.chat.budget import first_said
from codedev.tokenize.chat.templates import load_template
from codedev.tokenize.documents import Corpus, open_corpus
from codedev.tokenize.encode import State, encode_corpus
from codedev.tokenize.hashing import held_out
from codedev.tokenize.mixture import Column, Mixture, copies
from codedev.tokenize.mixture import plan as plan_mixture
from codedev.tokenize.pack import POOL, Documents, Times, plans
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.shards import FORMAT, Written, write_rows
from codedev.tokenize.store import Store
from codedev.tokenize.tables import FORMAT as TABLES
from codedev.tokenize.tables import build_tables
from codedev.tokenize.vocabulary import Vocabulary, copy_into, load_vocabulary, token_name

HELDOUT = "heldout"
DROPPED = "dropped.parquet"
_WORK, _STORE, _LOCK = ".work", "store", ".lock"
_SLICE = 1 << 18  # units looked at together


def tokenize_corpus(
    corpus: Path,
    tokenizer: Path,
    out: Path,
    recipe: TokenizeRecipe = TokenizeRecipe(),  # noqa: B008  frozen
    *,
    eos: str | None = None,
    shape: str | None = None,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Tokenize and pack; returns {"manifest", "heldout": its manifest or None, "parts", "parts_kept"}.

    `recipe.holdout` is the share of documents (by a hash of the id) that goes to OUT/heldout. `recipe.overlong` says what becomes of
    documents longer than a row: split into full rows and a tail, truncate to one row, or drop; what is lost is counted as
    tokens_truncated. `eos` names the token that ends a document where the tokenizer's is not known, `shape` how a file of ranks cuts text.
    `workers` are encoding threads, all cores when None. Raises InputError for what cannot be used, RunError when OUT is being written to.
    """
    source, vocabulary = open_corpus(corpus), load_vocabulary(tokenizer, eos=eos, shape=shape)
    _check_out(out)
    with locked(out):
        request = _request(source, vocabulary, recipe)
        done = _complete(out, request)
        if done is None:
            (out / _WORK / _STORE).mkdir(parents=True, exist_ok=True)  # before the manifest goes: one of the two says that `out` is ours
            (out / "manifest.json").unlink(missing_ok=True)
            sweep(out)
            threads = workers or len(os.sched_getaffinity(0))
            if recipe.mode in ("preference", "prompt"):
                template = load_template(recipe.chat.template, vocabulary)
                kept = build_tables(source, vocabulary, template, recipe, out, request, threads, progress)[1]
            else:
                kept = _build(source, vocabulary, recipe, out, request, threads, progress)
            done = {name: read_json(folder / "manifest.json") for name, folder in _folders(out, recipe.holdout).items()}
        else:
            kept = len(source.parts)
        shutil.rmtree(out / _WORK, ignore_errors=True)
    return {"manifest": done["train"], "heldout": done.get("heldout"), "parts": len(source.parts), "parts_kept": kept}


def _folders(out: Path, holdout: float) -> dict[str, Path]:
    return {"train": out, **({"heldout": out / HELDOUT} if holdout else {})}


def _request(corpus: Corpus, vocabulary: Vocabulary, recipe: TokenizeRecipe) -> dict[str, Any]:
    """The part of the manifest that is known before the work: everything that decides the output."""
    return {
        "format": TABLES if recipe.mode in ("preference", "prompt") else FORMAT,
        "mode": recipe.mode,
        "seq_len": recipe.seq_len,
        "dtype": vocabulary.dtype.name,
        "vocab_size": vocabulary.size,
        "bos_id": vocabulary.bos_id,
        "eos_id": vocabulary.eos_id,
        "pad_id": vocabulary.pad_id,
        "tokenizer": {
            "file": vocabulary.file,
            "hash": vocabulary.hash,
            "eos": token_name(vocabulary, vocabulary.eos_id),
            "byte_spans": "offsets" if vocabulary.byte_lengths is None else "vocabulary",
            "encoder": "kernels" if vocabulary.why_library is None else f"library: {vocabulary.why_library}",
        },
        "seed": recipe.seed,
        "holdout": recipe.holdout,
        "packing": {"method": recipe.packing, "overlong": recipe.too_long, "pool_segments": POOL},
        "recipe": recipe.model_dump(mode="json"),
        "corpus": {"manifest_hash": corpus.manifest_hash},
    }


def _check_out(out: Path) -> None:
    """InputError when `out` holds something that is not ours."""
    if out.is_dir():
        names = {entry.name for entry in out.iterdir()} - {_LOCK}
        work = out / _WORK
        # A corpus being built has a .work too; an empty one is what a run left that could not go on at once.
        ours = (work / _STORE).is_dir() or (names == {_WORK} and work.is_dir() and not any(work.iterdir()))
        if "manifest.json" in names:
            manifest = read_json(out / "manifest.json")
            ours = isinstance(manifest, dict) and manifest.get("format") in (FORMAT, TABLES)
        if names and not ours and not held(out):  # by another run, which is just beginning: the lock will say so
            raise InputError(f"{out}: is not empty and holds no shards ({', '.join(sorted(names)[:3])} …). Choose another --out")
    elif out.exists():
        raise InputError(f"{out}: is not a directory. Choose another --out")


def _complete(out: Path, request: dict[str, Any]) -> dict[str, dict[str, Any]] | None:
    """The manifests by split, when OUT holds exactly what is asked for and its files are whole."""
    manifests = {}
    for split, folder in _folders(out, request["holdout"]).items():
        try:
            manifest = read_json(folder / "manifest.json")
            same = all(manifest[key] == value for key, value in request.items() if key not in ("packing", "corpus"))
            same &= manifest["packing"].items() >= request["packing"].items()
            same &= request["corpus"].items() <= manifest["corpus"].items()
            same &= all(file_hash(folder / entry["name"]) == entry["hash"] for entry in manifest["files"])
            same &= file_hash(folder / request["tokenizer"]["file"]) == manifest["tokenizer"]["hash"]
        except (InputError, OSError, KeyError, TypeError):
            return None
        if not same:
            return None
        manifests[split] = manifest
    return manifests


class _Split(NamedTuple):
    name: str
    folder: Path
    times: Times  # how often each unit stands in it
    totals: _Totals


class _Totals(NamedTuple):
    """Of a split, before packing. By source: int64[sources]."""

    documents: np.ndarray
    documents_empty: int
    dropped: np.ndarray  # by reason
    documents_left_out: int  # the mixture has no place for them
    tokens: np.ndarray
    bytes: np.ndarray


def _build(
    corpus: Corpus, vocabulary: Vocabulary, recipe: TokenizeRecipe, out: Path, request: dict[str, Any], workers: int, progress: Progress
) -> int:
    store = Store(out / _WORK / _STORE, vocabulary.dtype, token_bytes=vocabulary.byte_lengths is None, loss=recipe.mode == "sft")
    state, kept = encode_corpus(corpus, vocabulary, recipe, store, workers=workers, progress=progress)
    documents = _documents(store, vocabulary)
    if not recipe.holdout and (out / HELDOUT).is_dir():
        shutil.rmtree(out / HELDOUT)  # of an earlier run on this directory
    mixture = _mixture(recipe, documents, store, state)
    splits = [
        _Split(name, folder, times, _totals(documents, store, times, state))
        for name, folder in _folders(out, recipe.holdout).items()
        for times in [_times(name, documents, recipe, mixture, store)]
    ]
    for split in splits:
        if not split.totals.tokens.any():
            why = "no text"
            if mixture:
                why = "the mixture leaves no text"
            elif recipe.holdout:
                why = f"holdout {recipe.holdout} leaves no text {'held out' if split.name == 'heldout' else 'to train on'}"
            lost = ", ".join(f"{count} {name}" for name, count in zip(state.reasons[1:], split.totals.dropped[1:], strict=True) if count)
            told = f" ({lost}){first_said(state.said)}" if lost else ""
            raise InputError(f"{corpus.path}: {why} among {corpus.rows} documents{told}. Change the recipe or use a larger corpus")
    total, done = sum(int(split.totals.tokens.sum()) for split in splits), 0
    for split in reversed(splits):  # the manifest of the whole is the last thing written
        split.folder.mkdir(parents=True, exist_ok=True)
        (split.folder / "manifest.json").unlink(missing_ok=True)
        packed = plans(
            documents,
            split.times,
            recipe.seq_len,
            seed=recipe.seed,
            overlong=recipe.too_long,
            packing=recipe.packing,
            folder=out / _WORK / "buckets",
        )
        written = write_rows(
            split.folder,
            packed,
            store,
            documents,
            recipe.seq_len,
            vocabulary.pad_id,
            lambda tokens, begin=done: progress("pack", begin + tokens, total),  # type: ignore[misc]  # mypy cannot infer a lambda's default
        )
        if not written.rows:
            raise InputError(
                f"{corpus.path}: every document {'held out' if split.name == HELDOUT else 'to train on'} is longer than a row of "
                f"{recipe.seq_len} tokens, and overlong: {recipe.too_long} leaves those out. Raise seq_len, or choose overlong: split"
            )
        done += int(split.totals.tokens.sum())
        copy_into(vocabulary, split.folder)
        _write_dropped(split, store, state)
        manifest = _manifest(request, split, corpus, written, state, mixture if split.name == "train" else None)
        write_json(split.folder / "manifest.json", manifest)
    return kept


def _documents(store: Store, vocabulary: Vocabulary) -> Documents:
    by_id = vocabulary.byte_lengths is not None
    return Documents(
        begins=store.read("begins"),
        counts=store.read("counts"),
        bytes=store.read("bytes"),
        hashes=store.read("hashes"),
        tokens=store.read("tokens"),
        token_bytes=vocabulary.byte_lengths if vocabulary.byte_lengths is not None else store.read("token_bytes"),
        by_id=by_id,
    )


def _mixture(recipe: TokenizeRecipe, documents: Documents, store: Store, state: State) -> Mixture | None:
    if recipe.mixture is None:
        return None
    columns = _columns(recipe, documents, store)
    return plan_mixture(recipe.mixture, columns, state.groups, recipe.seed)


def _columns(recipe: TokenizeRecipe, documents: Documents, store: Store) -> Column:
    return Column(documents.counts, documents.hashes, store.read("groups"), store.read("factors"), recipe.holdout)


def _times(name: str, documents: Documents, recipe: TokenizeRecipe, mixture: Mixture | None, store: Store) -> Times:
    """How often each unit stands in the split of this name."""
    if name == HELDOUT:
        return lambda at: held_out(documents.hashes[at], recipe.holdout).astype(np.int64)
    if mixture is None:
        return lambda at: (~held_out(documents.hashes[at], recipe.holdout)).astype(np.int64)
    columns = _columns(recipe, documents, store)
    return lambda at: copies(mixture, columns, at)


def _totals(documents: Documents, store: Store, times: Times, state: State) -> _Totals:
    of_source, offsets, reasons = (store.read(name) for name in ("sources", "offsets", "reasons"))
    found, tokens, text = (np.zeros(len(state.sources), np.int64) for _ in range(3))
    dropped = np.zeros(len(state.reasons), np.int64)
    empty = left_out = 0
    for begin in range(0, len(documents.counts), _SLICE):
        at = slice(begin, min(begin + _SLICE, len(documents.counts)))
        copied, first = times(at), offsets[at] == 0  # others are further pieces of one document
        here = copied > 0
        found += np.bincount(of_source[at][here & first], minlength=len(found))
        empty += int((here & (documents.counts[at] == 0) & (reasons[at] == 0)).sum())
        dropped += np.bincount(reasons[at][here & first], minlength=len(dropped))
        left_out += int((~here & first).sum())
        # float64 weights are exact below 2**53 bytes of text.
        tokens += np.bincount(of_source[at], documents.counts[at] * copied, len(found)).astype(np.int64)
        text += np.bincount(of_source[at], documents.bytes[at] * copied, len(found)).astype(np.int64)
    return _Totals(found, empty, dropped, left_out, tokens, text)


def _write_dropped(split: _Split, store: Store, state: State) -> None:
    """dropped.parquet: the documents of the split that gave no tokens for a reason; no file where there is none."""
    path = split.folder / DROPPED
    path.unlink(missing_ok=True)
    if not split.totals.dropped[1:].any():
        return
    reasons, positions, ids = store.read("reasons"), store.read("positions"), store.document_ids()
    layout = pa.schema([("document", pa.string()), ("position", pa.int64()), ("reason", pa.string())])
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, layout, compression="zstd") as writer:
        for begin in range(0, len(reasons), _SLICE):
            at = slice(begin, min(begin + _SLICE, len(reasons)))
            rows = begin + np.flatnonzero((reasons[at] > 0) & (split.times(at) > 0))
            names = [state.reasons[reason] for reason in reasons[rows].tolist()]
            columns = [ids.take(pa.array(rows)).cast(pa.string()), pa.array(positions[rows]), pa.array(names, pa.string())]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=layout))


def _manifest(
    request: dict[str, Any], split: _Split, corpus: Corpus, written: Written, state: State, mixture: Mixture | None
) -> dict[str, Any]:
    """The finished manifest, after the balance of tokens and bytes has been checked against what was written."""
    totals = split.totals
    counts = {
        "documents": int(totals.documents.sum()),
        "documents_empty": totals.documents_empty,  # without text: they give no token
        **({"documents_dropped": int(totals.dropped[1:].sum())} if len(totals.dropped) > 1 else {}),
        "documents_overlong": written.overlong,
        "documents_cut": written.cut,  # though no longer than a row
        "tokens_in": int(totals.tokens.sum()),
        "tokens_packed": written.tokens,
        "tokens_truncated": written.truncated,
        "padding": written.padding,
        "bytes": int(totals.bytes.sum()),
        "bytes_truncated": int(totals.bytes.sum()) - written.bytes,
        "segments": written.segments,
    }
    slots = written.rows * request["seq_len"]
    if counts["tokens_in"] != counts["tokens_packed"] + counts["tokens_truncated"] or slots != counts["tokens_packed"] + counts["padding"]:
        raise AssertionError(f"tokens do not balance: {counts}")
    if counts["bytes_truncated"] < 0 or (counts["tokens_truncated"] == 0 and counts["bytes_truncated"] != 0):
        raise AssertionError(f"bytes do not balance: {counts}")
    by_source = {
        name: {"documents": int(documents), "tokens": int(tokens), "bytes": int(text)}
        for name, documents, tokens, text in zip(state.sources, totals.documents, totals.tokens, totals.bytes, strict=True)
        if documents
    }
    dropped = {name: int(count) for name, count in zip(state.reasons[1:], totals.dropped[1:], strict=True) if count}
    left_out = {"documents_left_out": totals.documents_left_out} if mixture else {}
    return {
        **request,
        "split": split.name,
        "rows": written.rows,
        "counts": {**counts, **left_out},
        "by_source": by_source,
        "dropped": dropped,
        **({"dropped_first": dict(sorted(state.said.items()))} if state.said else {}),  # of the whole corpus, as `made`
        **({"mixture": mixture.told} if mixture else {}),
        "made": dict(sorted(state.counters.items())),  # of the whole corpus: what was not told plainly
        "packing": {**request["packing"], "padding_share": round(written.padding / slots, 6)},
        "files": written.files,
        "corpus": {**request["corpus"], "path": os.path.relpath(corpus.path.resolve(), split.folder.resolve())},
    }
