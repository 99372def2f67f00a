"""`codedev tokenizer train`: a byte-level BPE vocabulary from a corpus.

The tokenizer is lossless: no normalizer, every byte is a token (ids 0 to 255 in byte order), the merges follow, the special tokens
stand at the end, behind those of residues. A corpus larger than `sample_bytes` is sampled by a hash of seed and document id, so the
sample is the same for any order of the corpus. Learning (bpe.py) gives the merges of `tokenizers.trainers.BpeTrainer`; where the distinct
words pass its memory the rarest are left out, and the manifest says so.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from codedev._errors import InputError, nearest
from codedev._run import Progress, file_hash, no_progress, write_json, write_text
from codedev.kernels.bpe_tables import MAX_IDS
from codedev.tokenize import engine, residues
from codedev.tokenize.bpe import LONGEST_TOKEN, Learned, learn_bpe
from codedev.tokenize.documents import Corpus, Part, batches, id_hashes, open_corpus, verify
from codedev.tokenize.hashing import mix
from codedev.tokenize.presets import NEEDED, PATTERNS, SPECIAL_TOKENS
from codedev.tokenize.shapes import shape_of
from codedev.tokenize.vocabulary import encode_plain, load_vocabulary, tables_file

FORMAT = "codedev.tokenizer/1"
SAMPLE_BYTES = 1_000_000_000
MEASURE_BYTES = 4_000_000  # of the sample: what bytes per token is measured on
IN_THREES = ("u7", "u7-aligned", "cl100k", "llama3")  # presets that give digits in pieces of up to three
NUMBERS_FROM = 16_384  # tokens of a vocabulary that has room for all of these pieces: 1,100
MIN_FREQUENCY = 2  # a pair seen once teaches nothing
_SAMPLE, _MEASURE = 0x73616D706C65, 0x6D656173757265


def train_tokenizer(
    corpus: Path,
    out: Path,
    *,
    vocab_size: int = 65536,
    preset: str = "u7",
    special_slots: int = 256,
    sample_bytes: int = SAMPLE_BYTES,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Train and write OUT/tokenizer.json, tokenizer_config.json (for transformers), tokenizer.tiktoken (ranks), the tables of the fast
    encoder and tokenizer.manifest.json; returns the manifest.

    `special_slots` ids at the end are reserved, named ones first; at least <|endoftext|>, <|pad|> and <|bos|>. A corpus too small for
    `vocab_size` gives a smaller vocabulary, and the manifest says so (`vocab_size` beside `vocab_size_asked`). A source of weight 2 is
    sampled twice as densely as one of weight 1, which all have that `weights` does not name. InputError for what cannot be used.
    `progress` is called with "train", bytes of text fed so far and in all.
    """
    if preset not in PATTERNS:
        raise InputError(f"--preset {preset}: there is no such pretokenization: {nearest(preset, PATTERNS)}")
    if special_slots < NEEDED:
        raise InputError(f"--special-slots {special_slots}: at least {NEEDED} are needed ({', '.join(SPECIAL_TOKENS[:NEEDED])})")
    reserved = len(residues.names()) + special_slots
    if vocab_size < 256 + reserved:
        raise InputError(
            f"--vocab-size {vocab_size}: too small for 256 bytes, {len(residues.names())} residues and {special_slots} special tokens. "
            "Raise it or lower --special-slots"
        )
    if vocab_size > MAX_IDS:
        raise InputError(f"--vocab-size {vocab_size}: the encoder has room for {MAX_IDS} tokens. Lower it")
    if sample_bytes < 1:
        raise InputError(f"--sample-bytes {sample_bytes}: must be positive")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is not a directory. Choose another --out")
    source = open_corpus(corpus)
    sample = Sample(source, sample_bytes, weights or {}, seed)
    shape = shape_of(PATTERNS[preset])
    assert shape is not None  # the presets are among the shapes
    numbers = preset in IN_THREES and vocab_size >= NUMBERS_FROM
    learned = learn_bpe(
        sample.texts(progress),
        shape,
        vocab_size - reserved,
        min_frequency=MIN_FREQUENCY,
        max_token_length=LONGEST_TOKEN + 1,
        numbers=numbers,
    )
    if sample.bytes == 0:
        raise InputError(
            f"{corpus}: the sample of {sample_bytes} bytes holds no text. Raise --sample-bytes, or look at `codedev corpus report`"
        )
    tokenizer = _assemble(learned, PATTERNS[preset], special_slots)

    file = out / "tokenizer.json"
    write_text(file, tokenizer.to_str(pretty=True))
    write_json(out / "tokenizer_config.json", _config())
    write_text(out / "tokenizer.tiktoken", _ranks(learned))
    (out / "tokenizer.model").unlink(missing_ok=True)  # of another engine
    for stale in out.glob("tokenizer.*.npz"):
        stale.unlink()
    vocabulary = load_vocabulary(file)
    assert vocabulary.engine is not None, vocabulary.why_library
    engine.save(vocabulary.engine, tables_file(file, vocabulary.hash))
    kept = sample.to_measure()
    measured = sum(int(pc.sum(pc.binary_length(texts)).as_py() or 0) for texts in kept)
    tokens = sum(len(encode_plain(vocabulary, texts).ids) for texts in kept)
    manifest = {
        "format": FORMAT,
        "vocab_size": vocabulary.size,
        "vocab_size_asked": vocab_size,
        "preset": preset,
        "regex": PATTERNS[preset],
        "numbers": "every one of up to three digits" if numbers else "learned",
        "special": {token: tokenizer.token_to_id(token) for token in special_names(special_slots)},
        "seed": seed,
        "corpus": {"manifest_hash": source.manifest_hash},
        "sample": {
            "documents": sample.documents,
            "bytes": sample.bytes,
            "of_documents": source.rows,
            "of_bytes": source.text_bytes,
            "whole": sample.documents == source.rows,
            "weights": dict(sorted((weights or {}).items())),
            "words": len(learned.words.words.counts),
            "words_dropped": learned.words.dropped_words,  # the rarest, where memory did not suffice
            "words_least": learned.words.least,  # those that stand less often were dropped
        },
        "tokenizer_hash": file_hash(file),
        "bytes_per_token": round(measured / max(1, tokens), 4),
        "bytes_per_token_measured_on": measured,
    }
    write_json(out / "tokenizer.manifest.json", manifest)
    return manifest


def special_names(slots: int) -> list[str]:
    """The names of the reserved tokens in the order of their ids."""
    return [*SPECIAL_TOKENS[:slots], *(f"<|reserved_{i}|>" for i in range(slots - len(SPECIAL_TOKENS)))]


class Sample:
    """The texts to learn from, in the corpus's order, and what was taken. A small share of them is kept to measure on; with `apart` these
    are not learned from, and are a tenth at most."""

    def __init__(self, corpus: Corpus, sample_bytes: int, weights: Mapping[str, float], seed: int, *, apart: bool = False) -> None:
        self.corpus, self.seed, self.apart = corpus, seed, apart
        sources = {part.source for part in corpus.parts}
        for name, weight in weights.items():
            if name not in sources:
                raise InputError(f"--weight {name}: the corpus has no such source: {nearest(name, sorted(sources))}")
            if not 0 <= weight < float("inf"):
                raise InputError(f"--weight {name}={weight}: a weight is a number from 0 on")
        weight_of = {name: weights.get(name, 1.0) for name in sources}
        if not any(weight_of.values()):
            raise InputError(f"--weight: every source of {corpus.path} has the weight 0. Give one of them more")
        weighed = sum(part.text_bytes * weight_of[part.source] for part in corpus.parts)
        share = min(sample_bytes / max(1.0, weighed), 1 / max(weight_of.values()))
        self.shares = {name: weight * share for name, weight in weight_of.items()}
        self.expected = int(sum(part.text_bytes * self.shares[part.source] for part in corpus.parts))
        self.measure_share = min(0.1 if apart else 1.0, MEASURE_BYTES / max(1, self.expected))
        self.documents = self.bytes = 0
        self.measured: list[pa.LargeStringArray] = []
        self.first: pa.LargeStringArray | None = None  # a text to measure on where chance keeps none

    def to_measure(self) -> list[pa.LargeStringArray]:
        """Texts to measure on, once all are taken: at least one, which chance may keep of few."""
        return self.measured if self.first is None or any(map(len, self.measured)) else [self.first]

    def texts(self, progress: Progress) -> Iterator[pa.LargeStringArray]:
        for part in self.corpus.parts:
            if self.shares[part.source]:
                verify(part)
                yield from self._of_part(part, progress)

    def _of_part(self, part: Part, progress: Progress) -> Iterator[pa.LargeStringArray]:
        for group in batches(part, ["id", "text"]):
            hashes = id_hashes(group.column("id"))
            chosen = _below(mix(hashes, self.seed ^ _SAMPLE), self.shares[part.source])
            measured = chosen & _below(mix(hashes, self.seed ^ _MEASURE), self.measure_share)
            self.measured.append(group.column("text").filter(pa.array(measured)))
            if self.apart:
                chosen &= ~measured
            taken = group.column("text").filter(pa.array(chosen)) if not chosen.all() else group.column("text")
            self.documents += len(taken)
            self.bytes += int(pc.sum(pc.binary_length(taken)).as_py() or 0)
            if self.first is None and len(taken) and not self.apart:
                self.first = taken.slice(0, 1)
            yield taken
            progress("train", min(self.bytes, self.expected), self.expected)


def _below(hashes: np.ndarray, share: float) -> np.ndarray:
    return np.ones(len(hashes), np.bool_) if share >= 1 else hashes < np.uint64(int(share * 2.0**64))


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def _assemble(learned: Learned, pattern: str, special_slots: int) -> Tokenizer:
    vocab = {token: number for number, token in enumerate([*learned.tokens, *residues.names()])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=learned.merges))
    tokenizer.pre_tokenizer = _split(pattern)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(Regex(residues.NAMED), ""), decoders.ByteLevel()])
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special_names(special_slots)])
    return tokenizer


def _ranks(learned: Learned) -> str:
    """tiktoken's form: the bytes of each token in base64, and its id. Special tokens have no place in it."""
    byte_of = {letter: byte for byte, letter in enumerate(engine.byte_characters())}
    texts = (bytes(byte_of[letter] for letter in token) for token in learned.tokens)
    return "".join(f"{base64.b64encode(text).decode()} {number}\n" for number, text in enumerate(texts))


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
