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
from typing import Any

import numpy as np

from codedev._errors import InputError
from codedev._run import Progress, atomic_write, file_hash, locked, no_progress, read_json, sweep, write_json
from codedev.tokenize.documents import Corpus, open_corpus
from codedev.tokenize.encode import State, encode_corpus
from codedev.tokenize.pack import POOL, Documents, Plan, held_out, plan_rows
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.shards import FORMAT, Written, write_rows
from codedev.tokenize.store import Store
from codedev.tokenize.vocabulary import Vocabulary, load_vocabulary, token_name

HELDOUT = "heldout"
_WORK, _STORE, _LOCK = ".work", "store", ".lock"


def tokenize_corpus(
    corpus: Path,
    tokenizer: Path,
    out: Path,
    recipe: TokenizeRecipe = TokenizeRecipe(),  # noqa: B008  frozen
    *,
    eos: str | None = None,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Tokenize and pack; returns {"manifest", "heldout": its manifest or None, "parts", "parts_kept"}.

    `recipe.holdout` is the share of documents (by a hash of the id) that goes to OUT/heldout. `recipe.overlong` says what becomes of
    documents longer than a row: split into full rows and a tail, truncate to one row, or drop; what is lost is counted as
    tokens_truncated. `eos` names the token that ends a document where the tokenizer's is not known. `workers` are encoding threads, all
    cores when None. Raises InputError for what cannot be used, RunError when OUT is being written to.
    """
    source, vocabulary = open_corpus(corpus), load_vocabulary(tokenizer, eos=eos)
    _check_out(out)
    with locked(out):
        request = _request(source, vocabulary, recipe)
        done = _complete(out, request)
        if done is None:
            (out / _WORK / _STORE).mkdir(parents=True, exist_ok=True)  # before the manifest goes: one of the two says that `out` is ours
            (out / "manifest.json").unlink(missing_ok=True)
            sweep(out)
            kept = _build(source, vocabulary, recipe, out, request, workers or len(os.sched_getaffinity(0)), progress)
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
        "format": FORMAT,
        "mode": recipe.mode,
        "seq_len": recipe.seq_len,
        "dtype": vocabulary.dtype.name,
        "vocab_size": vocabulary.size,
        "bos_id": vocabulary.bos_id,
        "eos_id": vocabulary.eos_id,
        "pad_id": vocabulary.pad_id,
        "tokenizer": {
            "file": "tokenizer.json",
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
        ours = (out / _WORK / _STORE).is_dir()  # a corpus being built has a .work too
        if "manifest.json" in names:
            manifest = read_json(out / "manifest.json")
            ours = isinstance(manifest, dict) and manifest.get("format") == FORMAT
        if names and not ours:
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
            same &= request["packing"].items() <= manifest["packing"].items()
            same &= request["corpus"].items() <= manifest["corpus"].items()
            same &= all(file_hash(folder / entry["name"]) == entry["hash"] for entry in manifest["files"])
            same &= file_hash(folder / "tokenizer.json") == manifest["tokenizer"]["hash"]
        except (InputError, OSError, KeyError, TypeError):
            return None
        if not same:
            return None
        manifests[split] = manifest
    return manifests


def _build(
    corpus: Corpus, vocabulary: Vocabulary, recipe: TokenizeRecipe, out: Path, request: dict[str, Any], workers: int, progress: Progress
) -> int:
    store = Store(out / _WORK / _STORE, vocabulary.dtype, token_bytes=vocabulary.byte_lengths is None)
    state, kept = encode_corpus(corpus, vocabulary, recipe, store, workers=workers, progress=progress)
    documents = _documents(store, vocabulary)
    held = held_out(documents.hashes, request["holdout"]) if request["holdout"] else np.zeros(len(documents.counts), np.bool_)
    chosen = {"heldout": np.flatnonzero(held), "train": np.flatnonzero(~held)}
    folders = _folders(out, request["holdout"])
    if not request["holdout"] and (out / HELDOUT).is_dir():
        shutil.rmtree(out / HELDOUT)  # of an earlier run on this directory
    for split in folders:
        if not documents.counts[chosen[split]].any():
            why = (
                f"--holdout {request['holdout']} leaves no text {'held out' if split == 'heldout' else 'to train on'}"
                if len(folders) > 1
                else "no text"
            )
            raise InputError(f"{corpus.path}: {why} among {corpus.rows} documents. Change --holdout or use a larger corpus")
    total, done = 0, 0
    plans: dict[str, Plan] = {}
    for split in folders:
        plans[split] = plan_rows(documents, chosen[split], recipe.seq_len, seed=recipe.seed, overlong=recipe.too_long)
        total += len(plans[split].rows) - 1
    for split in ("heldout", "train"):  # the manifest of the whole is the last thing written
        if split not in folders:
            continue
        plan, folder = plans[split], folders[split]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").unlink(missing_ok=True)
        written = write_rows(
            folder,
            plan,
            store,
            documents,
            recipe.seq_len,
            vocabulary.pad_id,
            lambda rows, begin=done: progress("pack", begin + rows, total),  # type: ignore[misc]  # mypy cannot infer a lambda's default
        )
        done += written.rows
        with atomic_write(folder / "tokenizer.json") as temporary:
            temporary.write_bytes(vocabulary.path.read_bytes())
        write_json(
            folder / "manifest.json", _manifest(request, split, folder, corpus, documents, chosen[split], plan, written, state, store)
        )
    return kept


def _documents(store: Store, vocabulary: Vocabulary) -> Documents:
    counts = store.read("counts")
    by_id = vocabulary.byte_lengths is not None
    return Documents(
        begins=np.cumsum(counts) - counts,
        counts=counts,
        bytes=store.read("bytes"),
        hashes=store.read("hashes"),
        tokens=store.read("tokens"),
        token_bytes=vocabulary.byte_lengths if vocabulary.byte_lengths is not None else store.read("token_bytes"),
        by_id=by_id,
    )


def _manifest(
    request: dict[str, Any],
    split: str,
    folder: Path,
    corpus: Corpus,
    documents: Documents,
    chosen: np.ndarray,
    plan: Plan,
    written: Written,
    state: State,
    store: Store,
) -> dict[str, Any]:
    """The finished manifest, after the balance of tokens and bytes has been checked against what was written."""
    token_counts, text_bytes, of_source = documents.counts[chosen], documents.bytes[chosen], store.read("sources")[chosen]
    first = store.read("offsets")[chosen] == 0  # others are further pieces of one document
    counts = {
        "documents": int(first.sum()),
        "documents_empty": int((token_counts == 0).sum()),  # without text: they give no token
        "documents_overlong": plan.overlong,
        "tokens_in": int(token_counts.sum()),
        "tokens_packed": written.tokens,
        "tokens_truncated": plan.tokens_truncated,
        "padding": written.padding,
        "bytes": int(text_bytes.sum()),
        "bytes_truncated": int(text_bytes.sum()) - written.bytes,
        "segments": written.segments,
    }
    slots = written.rows * request["seq_len"]
    if counts["tokens_in"] != counts["tokens_packed"] + counts["tokens_truncated"] or slots != counts["tokens_packed"] + counts["padding"]:
        raise AssertionError(f"tokens do not balance: {counts}")
    if counts["bytes_truncated"] < 0 or (counts["tokens_truncated"] == 0 and counts["bytes_truncated"] != 0):
        raise AssertionError(f"bytes do not balance: {counts}")

    def per_source(values: np.ndarray) -> list[int]:
        # float64 weights are exact below 2**53 bytes of text.
        return [int(value) for value in np.bincount(of_source, values, len(state.sources))]

    by_source = {
        name: {"documents": d, "tokens": t, "bytes": b}
        for name, d, t, b in zip(state.sources, per_source(first), per_source(token_counts), per_source(text_bytes), strict=True)
        if d
    }
    return {
        **request,
        "split": split,
        "rows": written.rows,
        "counts": counts,
        "by_source": by_source,
        "made": dict(sorted(state.counters.items())),  # of the whole corpus: what was not told plainly
        "packing": {**request["packing"], "padding_share": round(written.padding / slots, 6)},
        "files": written.files,
        "corpus": {**request["corpus"], "path": os.path.relpath(corpus.path.resolve(), folder.resolve())},
    }
