"""A tokenizer made ready for encoding: texts in Arrow buffers in, token ids as NumPy out.

The kernels (`engine`) encode what they reproduce to the last id, byte-level BPE of the pretokenizations in wide use; anything else is
left to the library that reads it, and `Vocabulary.why_library` says why. Text never gives a special token: a literal "<|endoftext|>" is
encoded as the characters it consists of.

How many bytes of text each token covers is known in one of two ways:

    vocabulary  byte-level BPE without a normalizer: every id stands for fixed bytes, one table serves all.
    offsets     any other tokenizer (SentencePiece style, WordPiece, a normalizer): by the offsets that the library reports. A token
                covers the text from its own beginning to the next token's, so the tokens of a document tile its text; in such a
                tokenizer the bytes covered need not be what the token decodes to.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from codedev._errors import InputError, nearest
from codedev._run import file_hash, read_json
from codedev.corpus.buffers import text_buffers
from codedev.tokenize import engine, library, residues
from codedev.tokenize.presets import BOS_NAMES, EOS_NAMES, PAD_NAMES

MAX_SIZE = 1 << 24  # of a vocabulary: tables of this length are made; the largest that are in use hold 300,000


class Vocabulary(NamedTuple):
    tokenizer: Tokenizer
    path: Path
    hash: str  # of tokenizer.json
    size: int  # every id is below it
    bos_id: int | None
    eos_id: int
    pad_id: int  # eos_id where the tokenizer has no token for padding
    byte_lengths: np.ndarray | None  # uint32[size]: bytes of text each id stands for, 0 for special tokens; None = by offsets
    why_library: str | None  # why `tokenizers` encodes and not the kernels; None: they do

    @property
    def engine(self) -> engine.Engine | None:
        """The kernels' engine, made when it is first asked for; None: `tokenizers` encodes."""
        return _engine(self.path, self.hash) if self.why_library is None else None

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.size <= 1 << 16 else np.uint32)


class Plain(NamedTuple):
    """Texts' tokens one after another, nothing added."""

    ids: np.ndarray  # uint16 or uint32
    offsets: np.ndarray  # int64[texts + 1]: where the tokens of each text start
    byte_lengths: np.ndarray | None  # uint32 a token: bytes of text it covers; None where the vocabulary tells


def load_vocabulary(path: Path, *, eos: str | None = None, bos: str | None = None, pad: str | None = None) -> Vocabulary:
    """The tokenizer in `path`, a tokenizer.json or a directory with one. Special tokens not named are found by their well-known names.
    InputError when there is no such tokenizer, it cannot be read, or has no end-of-document token."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: there is no such tokenizer. Make one with `codedev tokenizer train CORPUS --out {path}`")
    model = read_json(file)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{file}: is no tokenizer.json of the tokenizers library: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # text that looks like a special token stays text
    ids: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)

    def special(named: str | None, flag: str, known: Sequence[str]) -> int | None:
        if named is not None and named not in ids:
            raise InputError(f"{file}: {flag} {named}: no such token in the vocabulary: {nearest(named, _special_names(model))}")
        return ids[named] if named is not None else next((ids[name] for name in known if name in ids), None)

    eos_id = special(eos, "--eos", EOS_NAMES)
    if eos_id is None:
        raise InputError(f"{file}: no token that ends a document is known ({', '.join(EOS_NAMES)}). Name it with --eos TOKEN")
    if max(ids.values()) >= MAX_SIZE:
        raise InputError(f"{file}: has the token id {max(ids.values())}, above {MAX_SIZE - 1}. Use another tokenizer")
    pad_id = special(pad, "--pad", PAD_NAMES)
    lengths, digest = _byte_lengths(tokenizer, model), file_hash(file)
    return Vocabulary(
        tokenizer=tokenizer,
        path=file,
        hash=digest,
        size=max(ids.values()) + 1,
        bos_id=special(bos, "--bos", BOS_NAMES),
        eos_id=eos_id,
        pad_id=eos_id if pad_id is None else pad_id,
        byte_lengths=lengths,
        why_library=engine.supported(model) or ("its tokens do not stand for fixed bytes" if lengths is None else None),
    )


def special_id(vocabulary: Vocabulary, name: str) -> int | None:
    """The id of the special token called `name`; None where the vocabulary has no such special token."""
    number: int | None = vocabulary.tokenizer.token_to_id(name)
    return number if number is not None and number in special_ids(vocabulary) else None


def special_ids(vocabulary: Vocabulary) -> frozenset[int]:
    """The ids that no text gives."""
    return frozenset(number for number, token in vocabulary.tokenizer.get_added_tokens_decoder().items() if token.special)


def token_name(vocabulary: Vocabulary, token_id: int) -> str:
    """How the tokenizer's file writes this token; "" for an id without one."""
    return vocabulary.tokenizer.id_to_token(token_id) or ""


def encode_plain(vocabulary: Vocabulary, texts: pa.LargeStringArray) -> Plain:
    """The tokens of each text (null = none), nothing added. Any number of threads may call it at a time."""
    if (fast := vocabulary.engine) is not None:
        return Plain(*engine.encode(fast, *text_buffers(texts), vocabulary.dtype), None)
    ids, counts, spans = library.encode(
        vocabulary.tokenizer,
        [text or "" for text in texts.to_pylist()],
        vocabulary.dtype,
        spans=vocabulary.byte_lengths is None,
    )
    return Plain(ids, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), spans)


def token_bytes(vocabulary: Vocabulary, plain: Plain) -> np.ndarray:
    """uint32 a token: bytes of text it covers."""
    if plain.byte_lengths is not None:
        return plain.byte_lengths
    assert vocabulary.byte_lengths is not None  # one of the two is there
    covered: np.ndarray = vocabulary.byte_lengths[plain.ids]
    return covered


@functools.lru_cache(maxsize=4)
def _engine(file: Path, digest: str) -> engine.Engine:
    """Tables saved beside the file are used where they are of its bytes."""
    return engine.load_saved(tables_file(file, digest)) or engine.load_engine(file)


def tables_file(file: Path, digest: str) -> Path:
    """Where the kernels' tables of a tokenizer.json are kept: beside it, named by its bytes."""
    return file.parent / f"{file.stem}.{digest.rpartition(':')[2][:16]}.npz"


def _byte_lengths(tokenizer: Tokenizer, model: dict[str, Any]) -> np.ndarray | None:
    """Bytes of each id where they are fixed, else None."""
    bpe, split = model["model"], model.get("pre_tokenizer") or {}
    levels = [step for step in split.get("pretokenizers", [split]) if step.get("type") == "ByteLevel"]
    plain = (
        bpe.get("type") == "BPE"
        and model.get("normalizer") is None
        and len(levels) == 1
        and not levels[0].get("add_prefix_space", True)
        and not bpe.get("continuing_subword_prefix")
        and not bpe.get("end_of_word_suffix")
        and not any(token["lstrip"] or token["rstrip"] for token in model.get("added_tokens") or [] if not token["special"])
    )
    if not plain:
        return None
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    lengths = np.zeros(max(vocab.values()) + 1, np.uint32)
    for token, token_id in tokenizer.get_vocab(with_added_tokens=False).items():
        lengths[token_id] = len(token)  # a character of the byte-level alphabet is a byte
    for token_id in residues.ids(vocab).values():
        lengths[token_id] = 1
    for token in model.get("added_tokens") or []:
        lengths[vocab[token["content"]]] = 0 if token["special"] else len(token["content"].encode())
    return lengths


def _special_names(model: dict[str, Any]) -> list[str]:
    return [token["content"] for token in model.get("added_tokens") or []]
