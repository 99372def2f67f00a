"""A tokenizer made ready for encoding documents: text in, token ids as NumPy out.

A document becomes [bos] + its tokens + [eos]; bos only if the vocabulary has one. The text of a document never gives a special token:
a literal "<|endoftext|>" is encoded as the characters it consists of. An empty document gives no token at all.

How many bytes of text each token covers is known in one of two ways:

    vocabulary  byte-level BPE without a normalizer: every id stands for fixed bytes, one table serves all. Checked for each document.
    offsets     any other tokenizer (SentencePiece style, WordPiece, a normalizer): by the offsets that the library reports. A token
                covers the text from its own beginning to the next token's, so the tokens of a document tile its text; in such a
                tokenizer the bytes covered need not be what the token decodes to.

Encoding goes through `tokenizers`: 1 to 3 MB/s a core and 116 bytes of memory for each byte of text being encoded, so texts are encoded in
pieces of PIECE characters where that does not change the result. Everything else is below 5 % of the time. `encode_texts` is the one
function that knows the library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from codedev._errors import InputError, nearest
from codedev._run import file_hash, read_json
from codedev.tokenize.presets import BOS_NAMES, EOS_NAMES, PAD_NAMES, PATTERNS, cuts

MAX_SIZE = 1 << 24  # of a vocabulary: tables of this length are made; the largest that are in use hold 300,000
PIECE = 256 << 10  # characters encoded at a time: 30 MB of memory


class Vocabulary(NamedTuple):
    tokenizer: Tokenizer
    path: Path
    hash: str  # of tokenizer.json
    size: int  # every id is below it
    bos_id: int | None
    eos_id: int
    pad_id: int  # eos_id where the tokenizer has no token for padding
    byte_lengths: np.ndarray | None  # uint32[size]: bytes of text each id stands for, 0 for special tokens; None = by offsets
    pattern: str | None  # the preset whose regex this is: long texts may be cut

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.size <= 1 << 16 else np.uint32)


class Tokens(NamedTuple):
    ids: np.ndarray  # uint16 or uint32: the documents' token sequences one after another
    counts: np.ndarray  # int64[documents]: tokens of each, 0 for an empty text
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
    return Vocabulary(
        tokenizer=tokenizer,
        path=file,
        hash=file_hash(file),
        size=max(ids.values()) + 1,
        bos_id=special(bos, "--bos", BOS_NAMES),
        eos_id=eos_id,
        pad_id=eos_id if pad_id is None else pad_id,
        byte_lengths=_byte_lengths(tokenizer, model),
        pattern=_pattern(model),
    )


def encode_texts(vocabulary: Vocabulary, texts: Sequence[str]) -> Tokens:
    """The token sequences of `texts`, specials included. About 3 µs a document beside the library's own time."""
    begin = [] if vocabulary.bos_id is None else [np.array([vocabulary.bos_id], vocabulary.dtype)]
    end = [np.array([vocabulary.eos_id], vocabulary.dtype)]
    special = np.zeros(1, np.uint32)
    ids: list[np.ndarray] = []
    spans: list[np.ndarray] = []
    counts = np.zeros(len(texts), np.int64)
    last = -1
    for document, piece, encoding in _encodings(vocabulary, texts):
        if document != last:
            if last >= 0:
                ids += end
                spans.append(special)
            ids += begin
            spans += [special] * len(begin)
            counts[document] = len(begin) + 1
            last = document
        piece_ids = np.array(encoding.ids, vocabulary.dtype)  # 40 ns a token
        ids.append(piece_ids)
        counts[document] += len(piece_ids)
        if vocabulary.byte_lengths is None:
            spans.append(_spans(piece, encoding))
    if last >= 0:
        ids += end
        spans.append(special)
    flat = np.concatenate(ids) if ids else np.empty(0, vocabulary.dtype)
    return Tokens(flat, counts, np.concatenate([special[:0], *spans]) if vocabulary.byte_lengths is None else None)


def _encodings(vocabulary: Vocabulary, texts: Sequence[str]) -> Iterator[tuple[int, str, Encoding]]:
    """(index of the document, piece, its encoding) in order; at most about PIECE characters are in the library's hands at a time."""
    exact = vocabulary.byte_lengths is not None
    encode = vocabulary.tokenizer.encode_batch_fast if exact else vocabulary.tokenizer.encode_batch
    owners: list[int] = []
    pieces: list[str] = []
    held = 0
    for document, text in enumerate(texts):
        for piece in cuts(text, PIECE, numbers=vocabulary.pattern == "u7") if exact and vocabulary.pattern else [text] if text else []:
            owners.append(document)
            pieces.append(piece)
            held += len(piece)
            if held >= PIECE:
                yield from zip(owners, pieces, encode(pieces, add_special_tokens=False), strict=True)
                owners, pieces, held = [], [], 0
    if pieces:
        yield from zip(owners, pieces, encode(pieces, add_special_tokens=False), strict=True)


def _spans(text: str, encoding: Encoding) -> np.ndarray:
    """uint32 a token: bytes from its beginning to the beginning of the next one; the first begins at 0, the last ends with the text."""
    if not encoding.ids:
        return np.empty(0, np.uint32)
    begins = np.array([begin for begin, _ in encoding.offsets], np.int64)  # 100 ns a token
    begins = np.minimum(np.maximum.accumulate(begins), len(text))
    begins[0] = 0
    data = np.frombuffer(text.encode(), np.uint8)
    if len(data) != len(text):
        begins = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))[begins]  # characters -> bytes
    return np.diff(begins, append=len(data)).astype(np.uint32)


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
    for token in model.get("added_tokens") or []:
        lengths[vocab[token["content"]]] = 0 if token["special"] else len(token["content"].encode())
    return lengths


def _pattern(model: dict[str, Any]) -> str | None:
    """The preset whose pretokenization this is, exactly as `codedev tokenizer train` writes it, and no added token that text may give."""
    steps = (model.get("pre_tokenizer") or {}).get("pretokenizers", [])
    if len(steps) != 2 or steps[0].get("type") != "Split" or any(not token["special"] for token in model.get("added_tokens") or []):
        return None
    regex = steps[0]["pattern"].get("Regex")
    return next((name for name, pattern in PATTERNS.items() if pattern == regex and steps[0]["behavior"] == "Isolated"), None)


def _special_names(model: dict[str, Any]) -> list[str]:
    return [token["content"] for token in model.get("added_tokens") or []]
