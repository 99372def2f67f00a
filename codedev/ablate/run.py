"""The steps of an ablation, each of which goes on where it was interrupted.

    OUT/corpora/<variant>    built as `codedev corpus build` does; what the base has scored is not scored again
    OUT/tokenizer            one for all: given, or learned from the base
    OUT/shards/<variant>     with the same documents held out everywhere, by a hash of their ids
    OUT/runs/<variant>-<seed>-<key>   models, the key that of all they depend on
    OUT/measured/            bits of every held-out document by each model
    OUT/results.json, index.html

Held-out documents are those of all variants together, in the text of the first variant that has them, without those whose very text is
among what any variant trains on. A variant with fewer tokens than are trained on repeats its own: `epochs` says how often.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codedev import __version__
from codedev._errors import ExpectationError, InputError
from codedev._run import Progress, atomic_write, content_key, file_hash, locked, no_progress, read_json, sweep, write_json, write_text
from codedev.ablate import figures
from codedev.ablate.variants import BASE
from codedev.corpus.build import build
from codedev.corpus.recipe import CorpusRecipe
from codedev.eval.lm import LM
from codedev.eval.tasks.asked import chosen
from codedev.tokenize import documents
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.shards import open_shards
from codedev.tokenize.train import train_tokenizer
from codedev.train import TrainRecipe
from codedev.train import run as train

FORMAT = "codedev.ablation/1"
MOST_TOKENS = 4_000_000  # that are trained on where nobody says: minutes on a CPU
COMMON, ALL = "kept by all", "all"
BY = ("source", "kind", "lang")  # domains
_OWN = {"corpora", "tokenizer", "shards", "runs", "measured", "results.json", "index.html"}
_AT_ONCE = 64  # documents read by a model together


class Asked(NamedTuple):
    """What an ablation is to do."""

    variants: Mapping[str, CorpusRecipe]  # `base` first
    base: Path  # the folder of the recipe
    out: Path
    train: dict[str, Any]  # a train recipe of stage pt without data and run
    seeds: int = 3
    tokens: int | None = None  # trained on in each run; None: what the smallest variant has, at most MOST_TOKENS
    tokenizer: Path | None = None  # None: learned from the base
    vocab_size: int = 8192
    seq_len: int = 256
    holdout: float = 0.05
    documents: int = 400  # held-out documents that are measured
    workers: int = 1


class HeldOut(NamedTuple):
    ids: list[str]
    texts: list[str]
    domains: dict[str, np.ndarray]  # (n,) bool by name
    left_out: int  # their text is trained on somewhere


Step = Callable[[str], None]  # told before each step


def ablate(
    asked: Asked, open_lm: Callable[[Path], LM], on_step: Step = lambda told: None, progress: Progress = no_progress
) -> dict[str, Any]:
    """Carry it out; what results.json holds. Raises RecipeError, InputError, RunError as building, tokenizing and training do."""
    out = asked.out
    if out.exists() and (others := sorted({one.name for one in out.iterdir() if not one.name.startswith(".")} - _OWN)):
        raise InputError(f"{out}: holds {others[0]}, so it is no ablation. Choose another --out")
    began, steps = time.perf_counter(), _Steps(len(asked.variants) * (2 + asked.seeds) + 1, on_step)
    with locked(out):
        sweep(out)
        for name, recipe in asked.variants.items():
            steps(f"corpus {name}")
            _corpus(asked, name, recipe, progress)
        steps("tokenizer")
        tokenizer = asked.tokenizer or _tokenizer(asked, progress)
        shards = {}
        for name in asked.variants:
            steps(f"shards {name}")
            told = TokenizeRecipe(seq_len=asked.seq_len, holdout=asked.holdout)
            where = out / "shards" / name
            shards[name] = tokenize_corpus(out / "corpora" / name, tokenizer, where, told, workers=asked.workers, progress=progress)
        tokens = {name: _tokens(one["manifest"]) for name, one in shards.items()}
        if empty := [name for name, count in tokens.items() if not count]:
            raise InputError(f"{', '.join(empty)}: no document is left to train on. Look at {out}/corpora/{empty[0]}/report")
        budget = asked.tokens or min(*tokens.values(), MOST_TOKENS)
        held = _held_out(asked)
        measured: dict[str, dict[str, np.ndarray]] = {}
        for seed in range(asked.seeds):  # seed by seed: a first answer comes early
            for name in asked.variants:
                steps(f"train {name}, seed {seed}")
                run = _train(asked, name, seed, budget, progress)
                measured.setdefault(name, {})[str(seed)] = _measure(asked, run, held, open_lm, progress)
        sizes = np.array([len(text.encode()) for text in held.texts])
        bits = {name: figures.bits(own, sizes, held.domains) for name, own in measured.items()}
        results = {
            "format": FORMAT,
            "codedev": __version__,
            "tokens": budget,
            "seeds": asked.seeds,
            "held_out": {"documents": len(held.ids), "bytes": int(sizes.sum()), "left_out": held.left_out},
            "domains": {name: int(mask.sum()) for name, mask in held.domains.items()},
            "variants": {name: _data(out, name, tokens[name], budget) for name in asked.variants},
            "bits": figures.told(bits, BASE),
        }
        write_json(out / "results.json", results)
        from codedev.ablate.page import render

        write_text(out / "index.html", render(results))
    return results | {"out": str(out), "seconds": round(time.perf_counter() - began, 1)}


class _Steps:
    """Tells which of how many steps comes."""

    def __init__(self, count: int, told: Step) -> None:
        self.count, self.done, self.told = count, 0, told

    def __call__(self, what: str) -> None:
        self.done += 1
        self.told(f"[{self.done}/{self.count}] {what}")


def _corpus(asked: Asked, name: str, recipe: CorpusRecipe, progress: Progress) -> None:
    folder, base = asked.out / "corpora" / name, asked.out / "corpora" / BASE
    if name != BASE and not folder.exists() and (base / ".work").is_dir():
        # Receipts are known by content: what this variant would score alike it finds done. Files are replaced, never changed in place.
        shutil.copytree(base / ".work" / "scored", folder / ".work" / "scored", copy_function=os.link)
        shutil.copyfile(base / ".work" / "plan.jsonl", folder / ".work" / "plan.jsonl")
    with contextlib.suppress(ExpectationError):  # the corpus is whole; what it was expected to be is for its own build to say
        build(recipe, asked.base, folder, workers=asked.workers, isolated=True, progress=progress)


def _tokenizer(asked: Asked, progress: Progress) -> Path:
    folder, corpus = asked.out / "tokenizer", asked.out / "corpora" / BASE
    key = content_key(file_hash(corpus / "manifest.json"), asked.vocab_size)
    known = folder / ".ablation"
    if not (known.is_file() and known.read_text() == key):
        shutil.rmtree(folder, ignore_errors=True)
        train_tokenizer(corpus, folder, vocab_size=asked.vocab_size, special_slots=64, progress=progress)
        write_text(known, key)
    return folder


def _tokens(manifest: dict[str, Any]) -> int:
    return int(manifest["counts"]["tokens_packed"])


def _held_out(asked: Asked) -> HeldOut:
    """`asked.documents` of the held-out documents of all variants, by a hash of their ids."""
    found: dict[str, dict[str, Any]] = {}
    keeps: Counter[str] = Counter()
    trained: list[np.ndarray] = []
    for name in asked.variants:
        held = pa.array(open_shards(asked.out / "shards" / name / "heldout").documents(), pa.string())
        for part in documents.open_corpus(asked.out / "corpora" / name).parts:
            for batch in documents.batches(part, ["id", "text", *BY]):
                own = pc.is_in(batch.column("id").cast(pa.string()), held)
                trained.append(_hashes(batch.filter(pc.invert(own)).column("text")))
                for row in batch.filter(own).to_pylist():
                    if row["text"]:
                        found.setdefault(row["id"], row)
                        keeps[row["id"]] += 1
    if not found:
        raise InputError(f"{asked.out}: no document is held out. Give more documents, or a larger --holdout")
    rows = list(found.values())
    seen = np.isin(_hashes(pa.array([row["text"] for row in rows], pa.large_string())), np.concatenate(trained))
    rows = [row for row, known in zip(rows, seen.tolist(), strict=True) if not known]
    if not rows:
        raise InputError(f"{asked.out}: every held-out document is in what is trained on. Remove exact duplicates: dedup: {{exact: {{}}}}")
    rows = [rows[at] for at in chosen([row["id"] for row in rows], asked.documents)]
    common = np.array([keeps[row["id"]] == len(asked.variants) for row in rows])
    # What every variant wants is what they are compared on first: of all together a variant is best by keeping what nobody else wants.
    domains = ({COMMON: common} if common.any() else {}) | {ALL: np.ones(len(rows), bool)}
    for column in BY:
        values = [row[column] for row in rows]
        for value in sorted({value for value in values if value is not None}) if len(set(values)) > 1 else ():
            domains[f"{column}={value}"] = np.array([one == value for one in values])
    return HeldOut([row["id"] for row in rows], [row["text"] for row in rows], domains, int(seen.sum()))


def _hashes(texts: pa.Array) -> np.ndarray:
    return pl.Series(texts).hash().to_numpy() if len(texts) else np.zeros(0, np.uint64)


def _train(asked: Asked, name: str, seed: int, tokens: int, progress: Progress) -> Path:
    shards = asked.out / "shards" / name
    rows = int(asked.train["batch"]["rows"])
    steps = max(1, round(tokens / (rows * asked.seq_len)))
    key = content_key(file_hash(shards / "manifest.json"), asked.train, steps, seed)
    folder = asked.out / "runs" / f"{name}-{seed}-{key[:10]}"
    if not (folder / "model" / "config.json").is_file() or not (folder / ".trained").is_file():
        run = {"dir": str(folder), "steps": steps, "seed": seed, "keep": 1}
        recipe = TrainRecipe.model_validate(
            asked.train | {"stage": "pt", "data": {"shards": str(shards)}, "run": asked.train.get("run", {}) | run}
        )
        train(recipe, asked.base, progress=progress)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        write_text(folder / ".trained", key)
    return folder


def _measure(asked: Asked, run: Path, held: HeldOut, open_lm: Callable[[Path], LM], progress: Progress) -> np.ndarray:
    """Bits of each held-out document (n,)."""
    file = asked.out / "measured" / f"{run.name}.parquet"
    if file.is_file():
        table = pq.read_table(file)
        if table.column("id").to_pylist() == held.ids:
            known: np.ndarray = table.column("bits").to_numpy()
            return known
    lm = open_lm(run)
    bits: list[float] = []
    for at in range(0, len(held.texts), _AT_ONCE):
        bits += [one.bits for one in lm.read(held.texts[at : at + _AT_ONCE], 0, no_progress)]
        progress("measure", len(bits), len(held.texts))
    with atomic_write(file) as temporary:
        pq.write_table(pa.table({"id": held.ids, "bits": bits}), temporary)
    return np.array(bits)


def _data(out: Path, name: str, tokens: int, budget: int) -> dict[str, Any]:
    """What a variant holds."""
    manifest = read_json(out / "corpora" / name / "manifest.json")
    totals = manifest["totals"]
    dropped: dict[str, int] = {}
    for stages in manifest["waterfall"].values():
        for stage in stages:
            for reason, count in stage["drop"].items():
                dropped[f"{stage['stage']}: {reason}"] = dropped.get(f"{stage['stage']}: {reason}", 0) + count
    return {
        "records": totals["records"],
        "documents": totals["documents"],
        "bytes": totals["text_bytes"],
        "tokens": tokens,
        "epochs": budget / tokens,
        "dropped": totals["dropped"],
        "drop_share": totals["dropped"] / totals["records"] if totals["records"] else 0.0,
        "reasons": dict(sorted(dropped.items(), key=lambda item: -item[1])[:20]),
    }
