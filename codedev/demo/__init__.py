"""`codedev demo`: the whole road once, on real data that every machine has, in minutes on a CPU.

The Python standard library's own source and docstrings and the bundled samples become a corpus, a tokenizer, shards, a small trained model;
what its docstrings say of its functions becomes instructions, and the model answers in their form.
Everything is written under one directory, with the recipes that a user would write, so that each step can be run again by hand.
"""

from __future__ import annotations

import sysconfig
import time
from pathlib import Path
from typing import Any

import yaml

from codedev._errors import InputError
from codedev._run import read_json
from codedev._terminal import note, print_table, print_tokens, print_waterfall, watch
from codedev.corpus import recipe as corpus_recipes
from codedev.corpus.build import build
from codedev.demo.instructions import in_form, write_instructions
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.train import train_tokenizer

VOCAB_SIZE = 4096
SEQ_LEN = 256
HOLDOUT = 0.03
QUESTIONS = [
    f"{module}.{name}"
    for module in ("parsing.text", "files", "network.client", "times")
    for name in ("read_lines", "Reader", "open_all", "is_valid", "split")
]
PROMPT = "class Reader:\n    def __init__(self"


def run_demo(out: Path, workers: int) -> None:
    """Run every stage and print what each one made; InputError where the samples or the standard library's sources are not to be found."""
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    (out / "corpus.yaml").write_text(yaml.safe_dump(_corpus_recipe(), sort_keys=False), encoding="utf-8")
    (out / "sft.yaml").write_text(yaml.safe_dump(_sft_recipe(), sort_keys=False), encoding="utf-8")
    (out / "train.yaml").write_text(yaml.safe_dump(_train_recipe(), sort_keys=False), encoding="utf-8")

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

    _step(4, f"model: codedev train {out}/train.yaml")
    from codedev._recipe import load
    from codedev.train import TrainRecipe, run

    with watch() as progress:
        trained = run(load(out / "train.yaml", TrainRecipe), out.resolve(), progress=progress)
    bits = trained["bits_per_byte"]
    gzip_bits = _gzip_bits(out)
    rows = [["untrained model", bits["before"]], ["gzip -9, each document alone", gzip_bits], ["trained model", bits["after"]]]
    print_table("Held-out documents, bits per byte (8 = no compression)", ["", "bits per byte"], rows)
    print(f"{trained['parameters']:,} parameters, {trained['tokens_seen']:,} tokens in {trained['seconds']:.0f} s")

    _step(5, f"text: codedev generate {out}/run/model --prompt ${PROMPT!r} --temperature 0.4")
    from codedev.train.use.generate import generate

    print(PROMPT + generate(out / "run" / "model", PROMPT, max_new_tokens=96, temperature=0.4, top_p=0.95, seed=0))

    _step(6, f"instructions: codedev train {out}/sft.yaml")
    count = write_instructions(_standard_library(), out / "instructions.jsonl")
    with watch() as progress:
        tuned = run(load(out / "sft.yaml", TrainRecipe), out.resolve(), progress=progress)
    bits, seconds = tuned["bits_per_byte"], tuned["seconds"]
    print(
        f"{count:,} instructions, {seconds:.0f} s; held-out answers: {bits['before']:.2f} bits per byte before, {bits['after']:.2f} after"
    )

    _step(7, f"answers: codedev chat {out}/tuned")
    _ask(out / "tuned")

    note(f"\nDone in {time.monotonic() - started:.0f} s. Everything lies under {out}/")
    print(f"The data-quality report: {(out / 'corpus' / 'report' / 'index.html').resolve()}")
    print(f"From a token back to its bytes: codedev trace {out}/shards 0 10")


def _step(number: int, command: str) -> None:
    note(f"\n[{number}/7] {command}")


def _corpus_recipe() -> dict[str, Any]:
    library, samples = _standard_library(), _samples()
    code = {
        "type": "code",
        "paths": [str(library)],
        "exclude": [
            "site-packages",
            "dist-packages",
            "test",
            "tests",
            "*/test",
            "*/tests",
            "lib2to3",
            "__pycache__",
            "*/__pycache__",
            "config-*",
            "lib-dynload",
        ],
    }
    return {
        "name": "demo",
        "sources": [
            {"name": "library", **code, "licence": "PSF-2.0", "languages": ["Python"]},
            {"name": "docstrings", **code, "licence": "PSF-2.0", "mode": "docstrings"},
            {"name": "web", "type": "web", "paths": [str(samples / "web")]},
            {"name": "notes", "type": "tables", "paths": [str(samples / "tables")]},
            {"name": "projects", "type": "code", "paths": [str(samples / "code" / "*")]},
        ],
        "language": {"keep": ["en", "de", "fr", "zh"], "min_score": 0.3},
        "quality": {"gopher": {"min_words": 20}, "code": {}},
        "dedup": {"exact": {}},
        "unit_bytes": 4_000_000,
    }


def _train_recipe() -> dict[str, Any]:
    return {
        "stage": "pt",
        "model": {
            "config": {
                "model_type": "llama",
                "hidden_size": 192,
                "intermediate_size": 512,
                "num_hidden_layers": 2,
                "num_attention_heads": 3,
                "num_key_value_heads": 3,
                "initializer_range": 0.06,
                "tie_word_embeddings": True,
            }
        },
        "data": {"shards": "shards", "eval": "shards/heldout"},
        "batch": {"rows": 4, "micro_rows": 4},
        # Measured: in this time two layers, small steps and this rate reach fewer bits than wider, deeper or larger ones.
        "optim": {"lr": 2e-3, "schedule": "wsd", "warmup": 0.05, "cooldown": 0.4},
        "run": {"dir": "run", "steps": 900, "save_every": 300},
    }


def _sft_recipe() -> dict[str, Any]:
    return {
        "stage": "sft",
        "model": {"path": "run/model"},
        "data": {"tables": "instructions.jsonl", "template": "chatml", "seq_len": SEQ_LEN, "holdout": 0.05},
        "batch": {"rows": 4, "micro_rows": 4},
        "optim": {"lr": 1e-3, "warmup": 0.05},
        "run": {"dir": "tuned", "epochs": 2},
    }


def _ask(model: Path) -> None:
    """Ask the tuned model what it was not taught, and say how many answers have the form of those it was."""
    from codedev.train.use.chat import answer, open_chat
    from codedev.train.use.generate import Sampling

    chat = open_chat(model)
    answers = []
    for name in QUESTIONS:
        written = answer(chat, [{"role": "user", "content": f"What is {name} for?"}], Sampling(80, 0.0))
        answers.append((name, written.text.strip(), written.why == "end" and in_form(written.text)))
    for name, text, _ in answers[:3]:
        print(f"What is {name} for?\n  {text}")
    print(f"{sum(right for *_, right in answers)} of {len(answers)} answers have the form `name(…)`: what it is for, and end by themselves")


def _standard_library() -> Path:
    path = Path(sysconfig.get_path("stdlib"))
    if not (path / "json" / "__init__.py").is_file():
        raise InputError(
            f"{path}: the Python standard library's sources are not there, and the demo reads them. Use a Python that has them"
        )
    return path


def _samples() -> Path:
    """The samples of the checkout, or those that the installed package carries."""
    package = Path(__file__).parent.parent
    for path in (package.parent / "samples", package / "_samples"):
        if (path / "tables").is_dir():
            return path
    raise InputError("the bundled samples are missing: reinstall codedev")


def _gzip_bits(out: Path) -> float:
    """gzip -9 of each held-out document by itself, in bits per byte."""
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.ipc

    from codedev.eval.perplexity import gzip_bits_per_byte

    held: set[str] = set()
    for file in read_json(out / "shards" / "heldout" / "manifest.json")["files"]:
        with pa.memory_map(str(out / "shards" / "heldout" / file["name"])) as source:
            for row in pyarrow.ipc.open_file(source).read_all().column("segment_documents").to_pylist():
                held.update(row)
    parts = [str(out / "corpus" / part["path"]) for part in read_json(out / "corpus" / "manifest.json")["parts"]["documents"]]
    table = ds.dataset(parts).to_table(columns=["text"], filter=ds.field("id").isin(sorted(held)))
    return gzip_bits_per_byte(table.column("text").to_pylist())
