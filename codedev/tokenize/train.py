"""`codedev tokenizer train`: a byte-level BPE vocabulary from a corpus.

The tokenizer is lossless: no normalizer, every byte is a token (ids 0 to 255 in byte order), the merges follow, the special tokens
stand at the end. A corpus larger than `sample_bytes` is sampled by a hash of seed and document id, so the sample is the same for any
order of the corpus. Learning is done by `tokenizers` on its own threads and holds every distinct word in memory. Its trainer breaks ties
by token ids and sums its counts exactly, so threads do not change the result (tested with 1 and 2).
`_learn` is the one function that knows the trainer.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from codedev._errors import InputError, nearest
from codedev._run import Progress, file_hash, no_progress, write_json, write_text
from codedev.tokenize.documents import Corpus, batches, id_hashes, open_corpus, verify
from codedev.tokenize.pack import mix
from codedev.tokenize.presets import NEEDED, PATTERNS, SPECIAL_TOKENS
from codedev.tokenize.vocabulary import encode_texts, load_vocabulary

FORMAT = "codedev.tokenizer/1"
SAMPLE_BYTES = 1_000_000_000
MEASURE_BYTES = 4_000_000  # of the sample: what bytes per token is measured on
MIN_FREQUENCY = 2  # a pair seen once teaches nothing
_BATCH_BYTES = 1 << 20
_SAMPLE, _MEASURE = 0x73616D706C65, 0x6D656173757265


def train_tokenizer(
    corpus: Path,
    out: Path,
    *,
    vocab_size: int = 65536,
    preset: str = "u7",
    special_slots: int = 256,
    sample_bytes: int = SAMPLE_BYTES,
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Train and write OUT/tokenizer.json, tokenizer_config.json (for transformers) and tokenizer.manifest.json; returns the manifest.

    `special_slots` ids at the end are reserved, named ones first; at least <|endoftext|>, <|pad|> and <|bos|>. A corpus too small for
    `vocab_size` gives a smaller vocabulary, and the manifest says so (`vocab_size` beside `vocab_size_asked`). InputError for what
    cannot be used.
    `progress` is called with "train", bytes of text fed so far and in all.
    """
    if preset not in PATTERNS:
        raise InputError(f"--preset {preset}: there is no such pretokenization: {nearest(preset, PATTERNS)}")
    if special_slots < NEEDED:
        raise InputError(f"--special-slots {special_slots}: at least {NEEDED} are needed ({', '.join(SPECIAL_TOKENS[:NEEDED])})")
    if vocab_size < 256 + special_slots:
        raise InputError(
            f"--vocab-size {vocab_size}: too small for 256 bytes and {special_slots} special tokens. Raise it or lower --special-slots"
        )
    if sample_bytes < 1:
        raise InputError(f"--sample-bytes {sample_bytes}: must be positive")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is not a directory. Choose another --out")
    source = open_corpus(corpus)
    sample = _Sample(source, sample_bytes, seed)
    model = _learn(sample.texts(progress), PATTERNS[preset], vocab_size - special_slots)
    if sample.bytes == 0:
        raise InputError(
            f"{corpus}: the sample of {sample_bytes} bytes holds no text. Raise --sample-bytes, or look at `codedev corpus report`"
        )
    tokenizer = _assemble(model, PATTERNS[preset], special_slots)

    file = out / "tokenizer.json"
    write_text(file, tokenizer.to_str(pretty=True))
    write_json(out / "tokenizer_config.json", _config())
    vocabulary = load_vocabulary(file)
    tokens = encode_texts(vocabulary, sample.measured)
    measured = sum(len(text.encode()) for text in sample.measured)
    manifest = {
        "format": FORMAT,
        "vocab_size": vocabulary.size,
        "vocab_size_asked": vocab_size,
        "preset": preset,
        "regex": PATTERNS[preset],
        "special": {token: tokenizer.token_to_id(token) for token in special_names(special_slots)},
        "seed": seed,
        "corpus": {"manifest_hash": source.manifest_hash},
        "sample": {
            "documents": sample.documents,
            "bytes": sample.bytes,
            "of_documents": source.rows,
            "of_bytes": source.text_bytes,
            "whole": sample.documents == source.rows,
        },
        "tokenizer_hash": file_hash(file),
        "bytes_per_token": round(measured / max(1, len(tokens.ids) - 2 * int((tokens.counts > 0).sum())), 4),
        "bytes_per_token_measured_on": measured,
    }
    write_json(out / "tokenizer.manifest.json", manifest)
    return manifest


def special_names(slots: int) -> list[str]:
    """The names of the reserved tokens in the order of their ids."""
    return [*SPECIAL_TOKENS[:slots], *(f"<|reserved_{i}|>" for i in range(slots - len(SPECIAL_TOKENS)))]


class _Sample:
    """The texts to learn from, in the corpus's order, and what was taken. A small share of them is kept to measure on."""

    def __init__(self, corpus: Corpus, sample_bytes: int, seed: int) -> None:
        self.corpus, self.seed = corpus, seed
        self.share = min(1.0, sample_bytes / max(1, corpus.text_bytes))
        self.measure_share = min(1.0, MEASURE_BYTES / max(1.0, self.share * corpus.text_bytes))
        self.documents = self.bytes = 0
        self.measured: list[str] = []

    def texts(self, progress: Progress) -> Iterator[list[str]]:
        expected = int(self.share * self.corpus.text_bytes)
        for part in self.corpus.parts:
            verify(part)
            for group in batches(part, ["id", "text"]):
                hashes = id_hashes(group.column("id"))
                chosen = _below(mix(hashes, self.seed ^ _SAMPLE), self.share)
                measured = chosen & _below(mix(hashes, self.seed ^ _MEASURE), self.measure_share)
                self.measured += group.column("text").filter(pa.array(measured)).to_pylist()
                taken = group.filter(pa.array(chosen))
                self.documents += taken.num_rows
                sizes = pc.binary_length(taken.column("text")).to_numpy()
                self.bytes += int(sizes.sum())
                for begin, end in _slices(sizes):
                    yield taken.column("text").slice(begin, end - begin).to_pylist()
                progress("train", min(self.bytes, expected), expected)


def _below(hashes: np.ndarray, share: float) -> np.ndarray:
    return np.ones(len(hashes), np.bool_) if share >= 1 else hashes < np.uint64(int(share * 2.0**64))


def _slices(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Rows in runs of about _BATCH_BYTES: enough to occupy the library's threads."""
    edges = np.flatnonzero(np.diff(np.cumsum(sizes) // _BATCH_BYTES)) + 1
    bounds = [0, *edges.tolist(), len(sizes)]
    yield from itertools.pairwise(bounds)


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


class _Model(NamedTuple):
    tokens: list[str]  # all but the special ones, in the order of the ids, in the byte-level alphabet
    merges: list[tuple[str, str]]


def _learn(texts: Iterator[list[str]], pattern: str, size: int) -> _Model:
    """Up to `size` tokens: the 256 bytes in byte order, then the merges' results in the order they were learned."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _split(pattern)
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=MIN_FREQUENCY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    learned = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return _Model(byte_alphabet() + learned[256:], [tuple(merge) for merge in model["merges"]])


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary: printable Latin-1 for itself, the rest from U+0100 on."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    shifted = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(shifted)) for byte in range(256)]


def _assemble(model: _Model, pattern: str, special_slots: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(model.tokens)}, merges=model.merges))
    tokenizer.pre_tokenizer = _split(pattern)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special_names(special_slots)])
    return tokenizer


def _config() -> dict[str, Any]:
    """What `transformers.AutoTokenizer` needs beside tokenizer.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|pad|>",
        "bos_token": "<|bos|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000_000,
    }
