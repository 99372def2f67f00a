"""Train a language identifier of our own: `codedev corpus langid train`.

The model is a fastText file like any other: `language: {model: my.ftz}` uses it, fastText's own tools read it. data/languages.ftz, which
the default identifier asks beside lid.176 and CLD2, is made by this command from the sets that texts.py lists, with nothing changed but
--out.
"""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from codedev._errors import InputError
from codedev._run import atomic_write
from codedev.corpus.buffers import text_buffers
from codedev.corpus.language.texts import Lines, gather
from codedev.corpus.learned.files import check_writable
from codedev.kernels.fasttext import predict
from codedev.kernels.fasttext_file import FastText, parse
from codedev.kernels.fasttext_train import ngrams_of, train
from codedev.kernels.fasttext_write import write

MIN_N, MAX_N, BUCKET = 1, 4, 1 << 18
LEAST_BYTES, MOST_BYTES = 2_000, 120_000  # of text a language needs, and that are used of each of its sets
HELD_OUT = 20  # one line in so many is for the test
LONGEST_WORD = 128  # bytes


class Trained(NamedTuple):
    labels: int
    rows: int  # n-grams kept
    size: int  # bytes of the file
    held_out: dict[str, float]  # label: share of its held-out lines of 5 words and more that the model knows


def train_identifier(
    data: Path, out: Path, dim: int = 32, steps: int = 1_000_000, rows: int = 60_000, bag: tuple[int, int] = (2, 6), rate: float = 1.5,
    seed: int = 0,
) -> Trained:  # fmt: skip
    """Learns the languages of the texts in `data` (see texts.py) and writes a .ftz file. 20 µs a step for 370 languages; one thread."""
    check_writable(out)
    learnt, held_out = split(gather(data), seed)
    if len(learnt) < 2:
        raise InputError(f"{data}: texts of two languages at least are needed, of {LEAST_BYTES} bytes each; {len(learnt)} found")
    model = learn(learnt, dim, steps, rows, bag, rate, seed)
    with atomic_write(out) as temporary:
        temporary.write_bytes(model)
    read = parse(model)
    return Trained(len(read.labels), len(read.inputs), len(model), _known(read, held_out))


def learn(learnt: dict[str, list[str]], dim: int, steps: int, rows: int, bag: tuple[int, int], rate: float, seed: int) -> bytes:
    """A .ftz file that tells the words of each label apart."""
    labels = sorted(learnt)
    vocabulary: dict[str, int] = {}
    words: list[int] = []
    word_starts = [0]
    for label in labels:
        words += [vocabulary.setdefault(word, len(vocabulary)) for word in learnt[label]]
        word_starts.append(len(words))
    spelt = [word.encode()[:LONGEST_WORD] for word in vocabulary]
    blob, starts = np.frombuffer(b"".join(spelt), np.uint8).copy(), np.zeros(len(spelt) + 1, np.int64)
    np.cumsum([len(word) for word in spelt], out=starts[1:])
    grams, gram_starts = ngrams_of(blob, starts, MIN_N, MAX_N, BUCKET)
    inputs, outputs = train(
        grams, gram_starts, np.array(words, np.int32), np.array(word_starts, np.int64), BUCKET, dim, steps, bag, rate, seed
    )
    # The rows that say most, as fastText prunes: those of the largest norm, among n-grams that were met.
    met = np.unique(grams)
    kept = np.sort(met[np.argsort(-np.linalg.norm(inputs[met], axis=1), kind="stable")[:rows]])
    return write(labels, inputs[kept], outputs, kept, BUCKET, MIN_N, MAX_N, seed)


def split(texts: Iterable[Lines], seed: int = 0) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """(words to learn, lines held out) of each language that has enough text. A line is held out by its own hash, so that whoever tests the
    model can tell which lines it has not seen."""
    learnt: dict[str, list[str]] = defaultdict(list)
    held_out: dict[str, list[str]] = defaultdict(list)
    sizes: dict[str, int] = defaultdict(int)
    for tag, _, lines in texts:
        lines = list(lines)
        random.Random(seed).shuffle(lines)  # noqa: S311
        used = 0
        for line in lines:
            if is_held_out(line):
                held_out[tag].append(line)
            elif used < MOST_BYTES:
                learnt[tag] += spelling(line).split()
                used += len(line.encode())
        sizes[tag] += used
    enough = {tag for tag, size in sizes.items() if size >= LEAST_BYTES}
    return {tag: learnt[tag] for tag in enough}, {tag: lines for tag, lines in held_out.items() if tag in enough}


def spelling(line: str) -> str:
    """The form that the model learns and reads: small letters, accents composed. ensemble.py gives texts the same."""
    return unicodedata.normalize("NFC", line.lower())


def is_held_out(line: str) -> bool:
    return int.from_bytes(hashlib.blake2b(line.strip().encode(), digest_size=4).digest(), "little") % HELD_OUT == 0


def _known(model: FastText, held_out: dict[str, list[str]]) -> dict[str, float]:
    known = {}
    for label, lines in sorted(held_out.items()):
        if lines := [spelling(line) for line in lines if len(line.split()) >= 5]:
            numbers, _ = predict(model, *text_buffers(pa.array(lines, pa.large_string())), 1)
            known[label] = float(np.mean([number >= 0 and model.labels[number] == label for number in numbers[:, 0].tolist()]))
    return known
