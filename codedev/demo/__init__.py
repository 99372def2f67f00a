"""`codedev demo`: the whole road once, on real data that every machine has, in minutes on a CPU.

The Python standard library's own source and docstrings and the bundled samples become a corpus, a tokenizer, shards, a small trained model.
What its docstrings say of its functions becomes instructions, and the model answers in their form. A reward model learns to tell those
docstrings from what the model says in their place, and PPO moves the model to where the reward is.
Everything is written under one directory, with the recipes that a user would write, so that each step can be run again by hand.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import yaml

from codedev._recipe import load
from codedev._run import read_json
from codedev._terminal import note, print_table, print_tokens, print_waterfall, watch
from codedev.corpus import recipe as corpus_recipes
from codedev.corpus.build import build
from codedev.demo import recipes
from codedev.demo.instructions import write_instructions
from codedev.demo.recipes import SEQ_LEN
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.train import train_tokenizer

VOCAB_SIZE = 4096
HOLDOUT = 0.03
PROMPT = "class Reader:\n    def __init__(self"
_STEPS = 9


def run_demo(out: Path, workers: int) -> None:
    """Run every stage and print what each one made; InputError where the samples or the standard library's sources are not to be found."""
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    for name, recipe in recipes.ALL.items():
        (out / f"{name}.yaml").write_text(yaml.safe_dump(recipe(), sort_keys=False), encoding="utf-8")
    _data(out, workers)
    _model(out)
    _answers(out)
    _alignment(out)
    note(f"\nDone in {time.monotonic() - started:.0f} s. Everything lies under {out}/")
    print(f"The data-quality report: {(out / 'corpus' / 'report' / 'index.html').resolve()}")
    print(f"How the reward rose: {(out / 'ppo' / 'index.html').resolve()}")
    print(f"From a token back to its bytes: codedev trace {out}/shards 0 10")


def _step(number: int, command: str) -> None:
    note(f"\n[{number}/{_STEPS}] {command}")


def _data(out: Path, workers: int) -> None:
    _step(1, f"corpus: codedev corpus build {out}/corpus.yaml --out {out}/corpus")
    with watch() as progress:
        corpus = build(corpus_recipes.load(out / "corpus.yaml"), out.resolve(), out / "corpus", workers=workers, progress=progress)
    print_waterfall(corpus)

    _step(2, f"tokenizer: codedev tokenizer train {out}/corpus --out {out}/tokenizer --vocab-size {VOCAB_SIZE} --special-slots 64")
    with watch() as progress:
        tokenizer = train_tokenizer(out / "corpus", out / "tokenizer", vocab_size=VOCAB_SIZE, special_slots=64, progress=progress)
    print(f"{tokenizer['vocab_size']:,} tokens, {tokenizer['bytes_per_token']:.2f} bytes a token")

    _step(
        3, f"shards: codedev tokenize {out}/corpus --tokenizer {out}/tokenizer --out {out}/shards --seq-len {SEQ_LEN} --holdout {HOLDOUT}"
    )
    with watch() as progress:
        shards = tokenize_corpus(
            out / "corpus",
            out / "tokenizer",
            out / "shards",
            TokenizeRecipe(seq_len=SEQ_LEN, holdout=HOLDOUT),
            workers=workers,
            progress=progress,
        )
    print_tokens(f"{out}/shards", shards)


def _train(out: Path, name: str) -> dict[str, Any]:
    from codedev.train import TrainRecipe, run

    with watch() as progress:
        return run(load(out / f"{name}.yaml", TrainRecipe), out.resolve(), progress=progress)


def _model(out: Path) -> None:
    _step(4, f"model: codedev train {out}/train.yaml")
    trained = _train(out, "train")
    bits = trained["bits_per_byte"]
    gzip_bits = _gzip_bits(out)
    rows = [["untrained model", bits["before"]], ["gzip -9, each document alone", gzip_bits], ["trained model", bits["after"]]]
    print_table("Held-out documents, bits per byte (8 = no compression)", ["", "bits per byte"], rows)
    print(f"{trained['parameters']:,} parameters, {trained['tokens_seen']:,} tokens in {trained['seconds']:.0f} s")

    _step(5, f"text: codedev generate {out}/run/model --prompt ${PROMPT!r} --temperature 0.4")
    from codedev.train.use.generate import generate

    print(PROMPT + generate(out / "run" / "model", PROMPT, max_new_tokens=96, temperature=0.4, top_p=0.95, seed=0))


def _answers(out: Path) -> None:
    _step(6, f"instructions: codedev train {out}/sft.yaml")
    count = write_instructions(recipes.standard_library(), out / "instructions.jsonl")
    tuned = _train(out, "sft")
    bits, seconds = tuned["bits_per_byte"], tuned["seconds"]
    print(
        f"{count:,} instructions, {seconds:.0f} s; held-out answers: {bits['before']:.2f} bits per byte before, {bits['after']:.2f} after"
    )


def _alignment(out: Path) -> None:
    from codedev.demo.alignment import ask, write_pairs

    _step(7, f"reward model: codedev train {out}/reward.yaml")
    print(f"{write_pairs(out):,} pairs: what a docstring says, and what the model says in its place")
    judge = _train(out, "reward")
    before, after = (100 * judge["heldout"][when]["heldout_accuracy"] for when in ("before", "after"))
    print(f"held-out pairs: right in {before:.0f} % before, {after:.0f} % after")

    _step(8, f"PPO: codedev train {out}/ppo.yaml")
    moved = _train(out, "ppo")
    before, after = (moved["heldout_reward"][when] for when in ("before", "after"))
    print(f"reward of answers to held-out questions: {before:.2f} before, {after:.2f} after")

    _step(9, f"evaluation: answers of codedev chat {out}/tuned and {out}/ppo to questions that neither saw")
    ask({"tuned": out / "tuned", "after PPO": out / "ppo"})


def _gzip_bits(out: Path) -> float:
    """gzip -9 of each held-out document by itself, in bits per byte."""
    import pyarrow.dataset as ds

    from codedev.eval.perplexity import gzip_bits_per_byte
    from codedev.tokenize.shards import open_shards

    held = open_shards(out / "shards" / "heldout").documents()
    parts = [str(out / "corpus" / part["path"]) for part in read_json(out / "corpus" / "manifest.json")["parts"]["documents"]]
    table = ds.dataset(parts).to_table(columns=["text"], filter=ds.field("id").isin(sorted(held)))
    return gzip_bits_per_byte(table.column("text").to_pylist())
