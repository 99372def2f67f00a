"""Bytes a token of held-out code, LaTeX, prose, Chinese and multilingual text, beside tokenizers in use and beside retrained ones.

    python benchmarks/bench_compression.py [--data .data] [--vocab-size 65536] [--json FILE]

`u7` and `u7-aligned` are learned from the same texts as the retrained ones, which differ in their pretokenization alone: a fair comparison.
Tokenizers in use were learned from other texts and have other sizes; their sizes are in the table. Higher is better.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from _texts import split
from rich.console import Console
from rich.table import Table

from codedev.corpus.buffers import text_buffers
from codedev.kernels.pretokens import SHAPES
from codedev.tokenize import shapes
from codedev.tokenize.bpe import learn_bpe
from codedev.tokenize.engine import encode, load_engine, load_ranks
from codedev.tokenize.presets import PATTERNS
from codedev.tokenize.train import _assemble

RETRAINED = {
    **{name: PATTERNS[name] for name in ("u7", "u7-aligned", "gpt2", "cl100k", "qwen")},
    "o200k": shapes.O200K,
    "tekken": shapes.TEKKEN,
}
RANKS = {"cl100k": "cl100k_base", "o200k": "o200k_base", "gpt2": "r50k_base"}
KINDS = ("code", "latex", "prose", "chinese", "multilingual")
SPECIAL_SLOTS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--vocab-size", type=int, default=65_536)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    learn, held = split(arguments.data)
    sizes = {kind: (_bytes(learn[kind]), _bytes(held[kind])) for kind in KINDS}
    rows: list[dict[str, Any]] = []
    for name, pattern in RETRAINED.items():
        engine, size = _retrained(learn, pattern, arguments.vocab_size)
        rows.append({"tokenizer": f"{name} retrained" if not name.startswith("u7") else name, "size": size, **_measured(engine, held)})
    for name, file in RANKS.items():
        path = arguments.data / "tokenizers/openai" / f"{file}.tiktoken"
        rows.append({"tokenizer": name, "size": sum(1 for _ in path.open("rb")), **_measured(load_ranks(path, name), held)})
    path = arguments.data / "tokenizers/qwen/qwen.tiktoken"
    rows.append({"tokenizer": "qwen", "size": sum(1 for _ in path.open("rb")), **_measured(load_ranks(path, "qwen"), held)})
    for name in ("llama2", "claude"):
        rows.append({"tokenizer": name, **_by_library(arguments.data / "tokenizers" / name / "tokenizer.json", held)})
    _print(rows, sizes)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"bytes": sizes, "rows": rows}, indent=2))


def _retrained(learn: dict[str, list[str]], pattern: str, size: int) -> tuple[Any, int]:
    shape = shapes.shape_of(pattern)
    assert shape in SHAPES.values()
    learned = learn_bpe((pa.array(learn[kind], pa.large_string()) for kind in KINDS), shape, size - SPECIAL_SLOTS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        file.write_text(_assemble(learned, pattern, SPECIAL_SLOTS).to_str())
        return load_engine(file), len(learned.tokens)


def _measured(engine: Any, held: dict[str, list[str]]) -> dict[str, float]:
    return {kind: _bytes(held[kind]) / len(encode(engine, *text_buffers(pa.array(held[kind], pa.large_string())))[0]) for kind in KINDS}


def _by_library(path: Path, held: dict[str, list[str]]) -> dict[str, Any]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokens = {kind: sum(len(found.ids) for found in tokenizer.encode_batch_fast(held[kind], add_special_tokens=False)) for kind in KINDS}
    return {"size": tokenizer.get_vocab_size(), **{kind: _bytes(held[kind]) / tokens[kind] for kind in KINDS}}


def _bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _print(rows: list[dict[str, Any]], sizes: dict[str, tuple[int, int]]) -> None:
    table = Table(title="Bytes a token, held-out text")
    table.add_column("tokenizer")
    for name in ("size", *KINDS):
        table.add_column(name, justify="right")
    table.add_row("MB learned from", "", *(f"{sizes[kind][0] / 1e6:.1f}" for kind in KINDS), style="dim")
    table.add_row("MB held out", "", *(f"{sizes[kind][1] / 1e6:.1f}" for kind in KINDS), style="dim")
    best = {kind: max(row[kind] for row in rows) for kind in KINDS}
    for row in rows:
        cells = [f"[bold]{row[kind]:.3f}[/]" if row[kind] == best[kind] else f"{row[kind]:.3f}" for kind in KINDS]
        table.add_row(row["tokenizer"], f"{row['size']:,}", *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
