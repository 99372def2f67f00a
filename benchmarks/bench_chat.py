"""Conversations to tokens with their loss: rows a second of one core, beside transformers' apply_chat_template, with equal ids and masks.

    python benchmarks/bench_chat.py [--data .data] [--json FILE]

Real instruction sets are read by `codedev corpus build`, a tokenizer of 16,000 is trained on them, and both tools take the documents from
there: the JSON of each conversation parsed, rendered, encoded, and the assistant's tokens marked. transformers (with
`tokenize=True, return_assistant_tokens_mask=True`) has the same template and tokenizer.json. Ratios are medians of rounds in which both
run, in CPU seconds of the thread. That ids and masks are the same is checked for every conversation and told.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
from _bench import machine
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from codedev.corpus import recipe
from codedev.corpus.build import build
from codedev.tokenize.chat.rows import SftOptions, SftTokens, sft_tokens
from codedev.tokenize.chat.templates import load_template
from codedev.tokenize.train import train_tokenizer
from codedev.tokenize.vocabulary import load_vocabulary

HERE = Path(__file__).parent
SETS = {
    "code, English": "sahil280114__codealpaca/data/code_alpaca_2k.json",
    "Chinese": "carbonz0__alpaca-chinese-dataset/zh-data-part-00.json",
    "roleplay": "teknium1__GPTeacher/Roleplay/roleplay-simple-deduped-roleplay-instruct.json",
    "calls of tools": "hiyouga__LLaMA-Factory/data/glaive_toolcall_en_demo.json",
}
TEMPLATES = ("chatml", "qwen", "llama3", "zephyr")
FOREIGN = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
ROUNDS = 5
MOST = 2000  # conversations of a set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / ".data", help="folder of the real data")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    if not (arguments.data / "instruction").is_dir():
        raise SystemExit(f"{arguments.data}: holds no instruction folder. Name the folder of the real data with --data")
    told: dict[str, Any] = {"machine": machine(), "rows": []}
    print("set              template      rows   tokens a row   codedev, rows/s   transformers   ratio   ids equal   masks equal")
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        sources = [{"name": f"s{i}", "type": "tables", "paths": [path]} for i, path in enumerate(SETS.values())]
        checked = recipe.check({"name": "chats", "sources": sources, "quality": {}}, "benchmark")
        build(checked, (arguments.data / "instruction").resolve(), home / "corpus")
        train_tokenizer(home / "corpus", home / "tokenizer", vocab_size=16_000)
        _add(home / "tokenizer")
        for number, name in enumerate(SETS):
            table = pq.read_table(next((home / "corpus" / "documents" / f"s{number}").glob("*.parquet")))
            for template in TEMPLATES:
                row = _measured(table.slice(0, MOST).combine_chunks().to_batches()[0], home / "tokenizer", template)
                if row is not None:
                    told["rows"].append({"set": name, "template": template, **row})
                    print(
                        f"{name:16} {template:12} {row['rows']:5}   {row['tokens_a_row']:12.0f}   {row['codedev']:15,.0f}   "
                        f"{row['transformers']:12,.0f}   {row['ratio']:5.1f}   {row['ids_equal']:9.1%}   {row['masks_equal']:11.1%}"
                    )
    told["load"] = os.getloadavg()[0]
    print(f"load {told['load']:.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")


def _add(folder: Path) -> None:
    """Special tokens of foreign templates, into reserved slots' company."""
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in FOREIGN])
    tokenizer.save(str(folder / "tokenizer.json"))


def _measured(batch: Any, folder: Path, name: str) -> dict[str, Any] | None:
    """The figures of one set and template; None where the template has no tools and the set has."""
    vocabulary = load_vocabulary(folder)
    template = load_template(name, vocabulary)
    peer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token="<|bos|>", eos_token="<|endoftext|>", pad_token="<|pad|>"
    )
    peer.chat_template = template.source
    metas = batch.column("meta").to_pylist()

    def ours() -> SftTokens:
        return sft_tokens(vocabulary, template, batch, SftOptions(1 << 20))

    def theirs() -> list[Any]:
        found = []
        for meta in metas:
            record = orjson.loads(meta)
            found.append(
                peer.apply_chat_template(
                    record["messages"], tools=_tools(record), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
                )
            )
        return found

    made = ours()
    if any(made.status):
        return None
    rounds = [(_seconds(ours), _seconds(theirs)) for _ in range(ROUNDS)]
    ids = masks = 0
    for row, one in enumerate(theirs()):
        begin, end = made.offsets[row : row + 2].tolist()
        ids += made.ids[begin:end].tolist() == one["input_ids"]
        mask = [0] * (end - begin)
        for at in (made.loss.rows == row).nonzero()[0]:
            mask[made.loss.starts[at] : made.loss.ends[at]] = [1] * int(made.loss.ends[at] - made.loss.starts[at])
        masks += mask == one["assistant_masks"]
    return {
        "rows": batch.num_rows,
        "tokens_a_row": len(made.ids) / batch.num_rows,
        "codedev": batch.num_rows / statistics.median(a for a, _ in rounds),
        "transformers": batch.num_rows / statistics.median(b for _, b in rounds),
        "ratio": statistics.median(b / a for a, b in rounds),
        "ids_equal": ids / batch.num_rows,
        "masks_equal": masks / batch.num_rows,
    }


def _tools(record: dict[str, Any]) -> Any:
    tools = record.get("tools")
    return orjson.loads(tools) if isinstance(tools, str) else tools


def _seconds(run: Callable[[], Any]) -> float:
    begin = time.thread_time()
    run()
    return time.thread_time() - begin


if __name__ == "__main__":
    main()
