"""Examples (examples.py) as what a run of dpo, kto, grpo or rloo reads: the tokens as they are, nothing cut, nothing rendered again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from codedev._run import write_json
from codedev.tokenize.chat.encoded import encode
from codedev.tokenize.chat.render import render
from codedev.tokenize.vocabulary import copy_into, special_ids
from codedev.train.align.rewards import Asked
from codedev.train.data import Segment
from codedev.train.instructions.prepared import Reader
from codedev.train.order import shuffled

_IDS = ("chosen_ids", "rejected_ids", "answer_ids")


class Batch(NamedTuple):
    """Examples that are computed together, as the collators of TRL take them."""

    rows: list[dict[str, Any]]  # prompt_ids and chosen_ids, rejected_ids; or completion_ids, KL_completion_ids and label: lists of int

    def counts(self) -> np.ndarray:
        """(examples, tokens, Σ length²) float64: the loss of a step is a mean over examples."""
        lengths = [len(row["prompt_ids"]) + len(row[name]) for row in self.rows for name in row if name[-4:] == "_ids" and name in _ANSWERS]
        return np.array([len(self.rows), sum(lengths), sum(length * length for length in lengths)], np.float64)


_ANSWERS = {"chosen_ids", "rejected_ids", "completion_ids"}


class Feed:
    """loop.Data of examples. `answers`: rows that an example stands for, of a stage that samples so many answers to it."""

    def __init__(self, reader: Reader, table: pa.Table, folder: Path, stage: str, answers: int = 1) -> None:
        self.table, self.folder, self.stage, self.answers = table, folder, stage, answers
        self.reader, self.vocabulary, self.seq_len = reader, reader.vocabulary, reader.seq_len
        self.rows = len(table) * answers
        self.vocab_size, self.dirs = reader.vocabulary.size, (folder,)
        ids = {"bos_id": self.vocabulary.bos_id, "eos_id": self.vocabulary.eos_id, "pad_id": self.vocabulary.pad_id}
        self.manifest = SimpleNamespace(**ids)
        # What a model is saved with lies beside shards; of examples it is put together here.
        self._beside = tempfile.TemporaryDirectory(prefix="codedev-tokenizer-")
        beside = Path(self._beside.name)
        copy_into(self.vocabulary, beside)
        write_json(beside / "manifest.json", ids)
        self.tokenizer_file = beside / self.vocabulary.file

    def drawn(self, positions: np.ndarray, seed: int) -> np.ndarray:
        """Row numbers at `positions` (int64) of the endless stream: the answers to a prompt lie together."""
        prompts: np.ndarray = shuffled(positions // self.answers, len(self.table), seed)
        numbers: np.ndarray = prompts * self.answers + positions % self.answers
        return numbers

    def arranged(self, numbers: np.ndarray) -> np.ndarray:
        """The same, the longest first, so that what is computed together needs little padding. Not of kto, which compares those."""
        if self.stage != "dpo":
            return numbers
        lengths = [self.segments(number)[0].end for number in numbers.tolist()]
        order: np.ndarray = np.argsort(-np.array(lengths), kind="stable")
        return np.asarray(numbers[order])

    def read(self, numbers: np.ndarray) -> Batch:
        found = self.table.take(pa.array(numbers // self.answers)).to_pylist() if self.answers == 1 else []
        return Batch(examples(found, self.stage))

    def prompts(self, numbers: np.ndarray) -> list[np.ndarray]:
        column = self.table.column("prompt_ids").take(pa.array(numbers // self.answers))
        return [np.asarray(one.values.to_numpy(zero_copy_only=False), np.int64) for one in column]

    def asked(self, numbers: np.ndarray, answers: Sequence[str]) -> list[Asked]:
        """The answers with what rewards are told of their prompts."""
        rows = self.table.select(["prompt", "reference", "document", "messages"]).take(pa.array(numbers // self.answers)).to_pylist()
        return [
            Asked(row["prompt"], answer, orjson.loads(row["reference"]) if row["reference"] else {}, row["document"], row["messages"])
            for row, answer in zip(rows, answers, strict=True)
        ]

    def segments(self, number: int) -> list[Segment]:
        row = self.table.slice(number // self.answers, 1)
        tokens = sum(len(row.column(name)[0].as_py() or ()) for name in ("prompt_ids", *_IDS))
        return [Segment(number // self.answers, 0, tokens, row.column("document")[0].as_py(), 0)]

    def documents(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        """The examples of these rows, each once, as explain.segment_losses has documents, without a loss."""
        found = []
        for number in dict.fromkeys((numbers // self.answers * self.answers).tolist()):
            segment = self.segments(number)[0]
            found.append({"shards": str(self.folder), **segment._asdict(), "tokens": segment.end, "supervised": 1, "loss": None})
        return found

    def place_of(self, number: int) -> tuple[Path, int]:
        return self.folder, number // self.answers

    @cached_property
    def stops(self) -> list[int]:
        """The tokens that end an answer: the one that ends texts, and the one by which the template closes a turn."""
        said = [{"role": "user", "content": "0"}, {"role": "assistant", "content": "0"}]
        made = encode(self.vocabulary, self.reader.template, [render(self.reader.template, said)])
        special = special_ids(self.vocabulary)
        ends = [number for number in made.ids[-4:].tolist() if number in special]
        return list(dict.fromkeys([*ends[-1:], self.vocabulary.eos_id]))


def examples(rows: list[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    """Rows of examples.SCHEMA as TRL names them. Of kto each is given the answer to the row before it (the first: the last one's)."""
    if stage == "dpo":
        return [{name: row[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")} for row in rows]
    if stage == "kto":
        return [
            {"prompt_ids": row["prompt_ids"], "completion_ids": row["answer_ids"], "label": row["label"]}
            | {"KL_completion_ids": rows[i - 1]["answer_ids"]}
            for i, row in enumerate(rows)
        ]
    return rows
