"""Judged examples as what a run reads: rows by number, each a pair of sequences or one with its reward. Knows nothing of torch.

A sequence is a prompt and an answer to it. Those that are computed together are padded at their ends: a model that reads from left to right
never sees what follows a token, so padding needs no mask and sequences cannot see each other.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from codedev._errors import InputError, RecipeError
from codedev._run import read_json
from codedev.tokenize.chat.encoded import encode
from codedev.tokenize.chat.render import render
from codedev.tokenize.vocabulary import Vocabulary, special_ids
from codedev.train.align.examples import Examples
from codedev.train.data import Segment
from codedev.train.instructions.prepared import Reader
from codedev.train.order import shuffled


class Scale(NamedTuple):
    """A reward is mean + deviation * what the model gives. Pairs tell of differences alone: 0 and 1."""

    mean: float = 0.0
    deviation: float = 1.0


class Verdicts(NamedTuple):
    """B judged examples: of pairs 2B sequences, chosen before rejected; of rewards B."""

    numbers: np.ndarray  # (B,) int64, row numbers
    input_ids: np.ndarray  # (sequences, longest) int64
    lasts: np.ndarray  # (sequences,) int64, where each one's last token is
    wanted: np.ndarray  # (B,) float64: margins of pairs, 0 where none is asked for; standardised rewards
    pairs: bool

    def counts(self) -> np.ndarray:
        """float64: examples, tokens, Σ length²."""
        lengths = self.lasts + 1
        return np.array([len(self.numbers), lengths.sum(), (lengths**2).sum()], np.float64)


class Ids(NamedTuple):
    bos_id: int | None
    eos_id: int | None
    pad_id: int


class _Column(NamedTuple):
    """A list column of a record batch: row i holds values[offsets[i]:offsets[i + 1]]."""

    offsets: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Judged:
    """Examples of one kind, numbered in their order."""

    folder: Path
    table: pa.Table
    pairs: bool
    wanted: np.ndarray  # (rows,) float64: margins, or rewards as they were given
    scale: Scale
    seq_len: int
    vocab_size: int
    tokenizer_file: Path
    manifest: Ids
    digest: str  # of the examples: changes when they do
    starts: np.ndarray = field(repr=False)  # (record batches + 1,) the first row of each
    columns: list[tuple[_Column, ...]] = field(repr=False)  # of each record batch: prompt, and chosen and rejected or the answer

    @property
    def rows(self) -> int:
        return int(self.starts[-1])

    def drawn(self, positions: np.ndarray, seed: int) -> np.ndarray:
        """Row numbers at `positions` (int64) of the stream that a run reads: epoch after epoch, each shuffled anew."""
        return shuffled(positions, self.rows, seed)

    def arranged(self, numbers: np.ndarray) -> np.ndarray:
        """The same, the longest first, so that what is computed together needs little padding."""
        lengths = [self.longest(int(number)) for number in numbers]
        return numbers[np.argsort(-np.array(lengths), kind="stable")]

    def longest(self, number: int) -> int:
        """Tokens of the longest sequence of row `number`."""
        batch, i = self._place(number)
        prompt, *answers = (int(column.offsets[i + 1] - column.offsets[i]) for column in self.columns[batch])
        return prompt + max(answers)

    def sequences(self, number: int) -> list[np.ndarray]:
        """Of row `number`: prompt + chosen and prompt + rejected, or prompt + answer; int32."""
        batch, i = self._place(number)
        prompt, *answers = (column.values[column.offsets[i] : column.offsets[i + 1]] for column in self.columns[batch])
        return [np.concatenate([prompt, answer]) for answer in answers]

    def read(self, numbers: np.ndarray) -> Verdicts:
        found = [sequence for number in numbers.tolist() for sequence in self.sequences(number)]
        ids, lasts = padded(found, self.manifest.pad_id)
        wanted = self.wanted[numbers]
        if not self.pairs:
            wanted = (wanted - self.scale.mean) / self.scale.deviation
        return Verdicts(np.asarray(numbers), ids, lasts, wanted, self.pairs)

    def document(self, number: int) -> str:
        name: str = self.table.column("document")[number].as_py()
        return name

    def segments(self, number: int) -> list[Segment]:
        """What row `number` consists of: its longest sequence."""
        return [Segment(number, 0, self.longest(number), self.document(number), 0)]

    def place_of(self, number: int) -> tuple[Path, int]:
        return self.folder, number

    def _place(self, number: int) -> tuple[int, int]:
        batch = int(np.searchsorted(self.starts, number, "right")) - 1
        return batch, number - int(self.starts[batch])


def padded(sequences: list[np.ndarray], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """((sequences, longest) int64, where each one's last token is), padded at their ends."""
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    ids = np.full((len(sequences), int(lengths.max())), pad, np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    return ids, lengths - 1


def judged(found: Examples, reader: Reader, margin: str | None) -> tuple[Judged, Judged | None]:
    """What is learned, and what it is measured on. `margin`: the column that says by how much the chosen answer is better.

    Raises InputError for rewards or margins that nothing can be learned from.
    """
    pairs = found.told["kind"] == "pairs"
    folder = Path(found.told["prepared"])
    if margin is not None and not pairs:
        raise RecipeError("reward.margin: is of pairs of answers, and data.tables hold rewards. Leave it out")
    if found.table.num_rows < 2:
        raise InputError("data.tables: one example is nothing to learn from. Give more rows, or a smaller data.holdout")
    manifests = read_json(folder / "prepared.json")["manifests"]

    def one(table: pa.Table, name: str, scale: Scale | None) -> Judged:
        wanted = _margins(table, margin) if pairs else table.column("reward").to_numpy()
        lists = ("prompt_ids", "chosen_ids", "rejected_ids") if pairs else ("prompt_ids", "answer_ids")
        batches = table.to_batches()
        return Judged(
            folder=folder,
            table=table,
            pairs=pairs,
            wanted=wanted,
            scale=scale or (Scale() if pairs else _scale(wanted)),
            seq_len=found.told["seq_len"],
            vocab_size=reader.vocabulary.size,
            tokenizer_file=reader.vocabulary.path,
            manifest=ids_of(reader),
            digest=manifests[name],
            starts=np.cumsum([0] + [batch.num_rows for batch in batches]),
            columns=[tuple(_column(batch.column(column)) for column in lists) for batch in batches],
        )

    train = one(found.table, "examples.arrow", None)
    return train, one(found.heldout, "heldout.arrow", train.scale) if found.heldout.num_rows else None


def ids_of(reader: Reader) -> Ids:
    """The special tokens, as the model's configuration names them. Padding is a token that ends no answer: transformers reads a number at
    the last token that is no padding, and where the token that ends answers is padding too it reads that before it."""
    vocabulary = reader.vocabulary
    ends = _ends(reader)
    known = [vocabulary.pad_id, *([vocabulary.bos_id] if vocabulary.bos_id is not None else []), *sorted(special_ids(vocabulary))]
    fallback = next(number for number in range(vocabulary.size) if number not in ends)
    pad = next((number for number in known if number >= 0 and number not in ends), fallback)
    return Ids(vocabulary.bos_id, vocabulary.eos_id if vocabulary.eos_id >= 0 else None, pad)


def _ends(reader: Reader) -> set[int]:
    """Tokens that may be the last one of a sequence."""
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rendered = [render(reader.template, some, spans="none") for some in (talk, talk[:1])]
    made = encode(reader.vocabulary, reader.template, rendered)
    found = {number for some in rendered for _, end, number in some.specials if not some.text[end:].strip()}
    found |= {int(made.row(row)[-1]) for row in range(len(rendered)) if len(made.row(row))}
    return found | ({reader.vocabulary.eos_id} - {-1})


def token_of(vocabulary: Vocabulary, number: int) -> str:
    from codedev.tokenize.vocabulary import token_name

    return token_name(vocabulary, number)


def _column(column: Any) -> _Column:
    return _Column(column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=True))


def _scale(rewards: np.ndarray) -> Scale:
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(rewards.mean()), float(rewards.std())
    if not (math.isfinite(mean) and math.isfinite(deviation)):
        raise InputError("data.tables: the rewards are too large to be averaged. Scale them down")
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        raise InputError(f"data.tables: all {len(rewards):,} rewards are {mean:g}, so there is nothing to learn. Give rewards that differ")
    return Scale(mean, deviation)


def _margins(table: pa.Table, column: str | None) -> np.ndarray:
    """(rows,) float64. InputError for a row whose margin is no number."""
    found = np.zeros(table.num_rows)
    if column is None:
        return found
    references, names = table.column("reference"), table.column("document")
    for row in range(table.num_rows):  # 5 µs each
        beside = json.loads(references[row].as_py() or "{}")
        given = beside.get(column)
        try:
            number = float(given) if isinstance(given, int | float | str) and not isinstance(given, bool) else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            known = ", ".join(sorted(set(beside) - {"answer"})) or "no other"
            raise InputError(f"reward.margin: '{column}' of {names[row].as_py()} is {given!r:.60}, which is no number; it has {known}")
        found[row] = number
    return found
