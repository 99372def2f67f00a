"""`codedev tokenizer train --engine sentencepiece-bpe|sentencepiece-unigram`: a SentencePiece model, trained by its own library.

The sample of documents is that of `train`; the library is given its lines, since it merges nothing across line ends. Text is not changed:
identity normalisation, no blank put before it, blanks kept, every digit a piece, bytes for characters that are no pieces. Line ends and
tabs in runs of up to four are user-defined symbols, so that they compress. Special tokens are control symbols, which no text gives; their
ids come first, behind `<unk>`. What is lossy: the library writes a blank as U+2581, so a literal U+2581 decodes to a blank; the manifest
counts the documents where that happens. There are no ids for residues, whose decoding needs a tokenizer.json.

Memory: the library holds the sample, 13 bytes a byte of it for BPE and 24 for Unigram (10 to 40 MB of LaTeX and Python), so the sample is
bounded (MOST_BYTES). Deterministic: no sampling of its own, a fixed number of threads.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from codedev._errors import InputError, nearest
from codedev._run import Progress, atomic_write, file_hash, no_progress, write_json
from codedev.tokenize import pieces
from codedev.tokenize.documents import open_corpus
from codedev.tokenize.formats import JSON, PIECES
from codedev.tokenize.presets import NEEDED, SPECIAL_TOKENS
from codedev.tokenize.train import FORMAT, SAMPLE_BYTES, Sample, special_names
from codedev.tokenize.vocabulary import Vocabulary, decode, encode_plain, load_vocabulary

ENGINES = {"sentencepiece-bpe": "bpe", "sentencepiece-unigram": "unigram"}
MOST_BYTES = {"bpe": 100_000_000, "unigram": 50_000_000}  # 1.7 and 1.5 GB of memory
LINE = 4096  # characters of a line given at once: a longer one is cut
BLANKS = [letter * count for letter in "\n\t" for count in range(1, 5)]  # user-defined symbols
_SETTINGS = {
    "normalization_rule_name": "identity",
    "add_dummy_prefix": False,
    "remove_extra_whitespaces": False,
    "allow_whitespace_only_pieces": True,
    "split_digits": True,
    "byte_fallback": True,
    "character_coverage": 0.9995,
    "required_chars": "▁",  # a blank that the text is too short of would be written as bytes, and read as U+2581
    "max_sentence_length": 4 * LINE,
    "max_sentencepiece_length": 32,
    "hard_vocab_limit": False,
    "num_threads": 4,  # the result depends on it, not on the machine's
    "shuffle_input_sentence": False,
    "minloglevel": 2,
}


def train_pieces(
    corpus: Path,
    out: Path,
    *,
    engine: str,
    vocab_size: int = 65536,
    special_slots: int = 256,
    sample_bytes: int = SAMPLE_BYTES,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Train and write OUT/tokenizer.model and tokenizer.manifest.json; returns the manifest. The arguments are those of
    `train_tokenizer`. InputError for what cannot be used, MissingExtraError without the library."""
    if engine not in ENGINES:
        raise InputError(f"--engine {engine}: there is no such engine: {nearest(engine, ENGINES)}")
    if special_slots < NEEDED:
        raise InputError(f"--special-slots {special_slots}: at least {NEEDED} are needed ({', '.join(SPECIAL_TOKENS[:NEEDED])})")
    least = 256 + 1 + special_slots + len(BLANKS)
    if vocab_size <= least:
        raise InputError(
            f"--vocab-size {vocab_size}: too small for 256 bytes and {special_slots} special tokens. Make it more than {least}"
        )
    if sample_bytes < 1:
        raise InputError(f"--sample-bytes {sample_bytes}: must be positive")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is not a directory. Choose another --out")
    library = pieces.library()
    source = open_corpus(corpus)
    kind = ENGINES[engine]

    def draw() -> Sample:
        return Sample(source, min(sample_bytes, MOST_BYTES[kind]), weights or {}, seed)

    model, sample = _train(library, draw, kind, vocab_size, special_slots, progress)
    if model is None:
        raise InputError(
            f"{corpus}: the sample of {sample_bytes} bytes holds too little text. Raise --sample-bytes, or use a larger corpus"
        )

    file = out / PIECES
    with atomic_write(file) as temporary:
        temporary.write_bytes(model)
    for stale in (JSON, "tokenizer_config.json", "tokenizer.tiktoken"):  # of a tokenizer of another kind
        (out / stale).unlink(missing_ok=True)
    vocabulary = load_vocabulary(file)
    manifest = {
        "format": FORMAT,
        "engine": engine,
        "library": f"sentencepiece {library.__version__}",
        "settings": {name: value for name, value in _SETTINGS.items() if name != "minloglevel"},
        "vocab_size": vocabulary.size,
        "vocab_size_asked": vocab_size,
        "special": {name: vocabulary.model.controls[name] for name in special_names(special_slots)} if vocabulary.model else {},
        "seed": seed,
        "corpus": {"manifest_hash": source.manifest_hash},
        "sample": {
            "documents": sample.documents,
            "bytes": sample.bytes,
            "of_documents": source.rows,
            "of_bytes": source.text_bytes,
            "whole": sample.documents == source.rows,
            "weights": dict(sorted((weights or {}).items())),
        },
        "tokenizer_hash": file_hash(file),
        **_measure(vocabulary, sample.to_measure()),
    }
    write_json(out / "tokenizer.manifest.json", manifest)
    return manifest


def sentences(texts: Iterable[pa.LargeStringArray]) -> Iterator[str]:
    """The lines of texts without their ends, long ones in pieces; empty ones are left out. 0.3 microseconds a line."""
    for batch in texts:
        for text in batch.to_pylist():
            for line in (text or "").split("\n"):
                for begin in range(0, len(line), LINE):
                    yield line[begin : begin + LINE]


def _train(
    library: Any, draw: Callable[[], Sample], kind: str, vocab_size: int, special_slots: int, progress: Progress
) -> tuple[bytes | None, Sample]:
    """(the model, None where the text is too little for any; the sample it was trained on)."""
    names = special_names(special_slots)
    while True:
        sample, model = draw(), io.BytesIO()
        try:
            library.SentencePieceTrainer.train(
                sentence_iterator=sentences(sample.texts(progress)),
                model_writer=model,
                model_type=kind,
                vocab_size=vocab_size,
                unk_id=0,
                eos_id=1,
                pad_id=2,
                bos_id=3,
                eos_piece=names[0],
                pad_piece=names[1],
                bos_piece=names[2],
                control_symbols=names[3:],
                user_defined_symbols=BLANKS,
                **_SETTINGS,
            )
            return model.getvalue(), sample
        except RuntimeError as error:  # all that the library raises; the text decides how many pieces there can be
            most = re.search(r"set it to a value <= (\d+)", str(error))
            if most is None or not 0 < int(most[1]) < vocab_size:
                if "required_chars" in str(error) or "Vocabulary size is smaller" in str(error):
                    raise InputError(f"--vocab-size {vocab_size}: the text has more characters than that. Raise it") from None
                if sample.bytes and "empty" not in str(error) and "Vocabulary size" not in str(error):
                    raise InputError(f"sentencepiece cannot train on {sample.corpus.path}: {error}") from None
                return None, sample
            vocab_size = int(most[1])


def _measure(vocabulary: Vocabulary, measured: list[pa.LargeStringArray]) -> dict[str, Any]:
    """Bytes per token, and what does not decode to itself."""
    size = tokens = documents = lossy = 0
    blanks = 0
    for texts in measured:
        plain = encode_plain(vocabulary, texts)
        ids, offsets = plain.ids.tolist(), plain.offsets.tolist()
        tokens += len(ids)
        size += int(pc.sum(pc.binary_length(texts)).as_py() or 0)
        for number, text in enumerate(texts.to_pylist()):
            documents += 1
            if decode(vocabulary, ids[offsets[number] : offsets[number + 1]]) != (text or ""):
                lossy += 1
                blanks += "\u2581" in text
    return {
        "bytes_per_token": round(size / max(1, tokens), 4),
        "bytes_per_token_measured_on": size,
        "lossy": {"documents": lossy, "of_documents": documents, "with_u2581": blanks},
    }
