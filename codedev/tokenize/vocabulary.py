"""A tokenizer made ready for encoding: texts in Arrow buffers in, token ids as NumPy out.

The kernels (`engine`) encode what they reproduce to the last id, byte-level BPE of the pretokenizations in wide use; anything else is
left to the library that reads it, and `Vocabulary.why_library` says why. Text never gives a special token: a literal "<|endoftext|>" is
encoded as the characters it consists of. Which files can be read is told in `formats`: whatever can be is made a tokenizer.json of the same
ids; SentencePiece models stay what they are (`pieces`).

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
import orjson
import pyarrow as pa
import xxhash
from tokenizers import Tokenizer

from codedev._errors import InputError, nearest
from codedev._run import atomic_write
from codedev.corpus.buffers import text_buffers
from codedev.tokenize import engine, library, pieces, residues
from codedev.tokenize.formats import JSON, PIECES, Found, read_tokenizer
from codedev.tokenize.pieces import Pieces
from codedev.tokenize.presets import BOS_NAMES, EOS_NAMES, PAD_NAMES

MAX_SIZE = 1 << 24  # of a vocabulary: tables of this length are made; the largest that are in use hold 300,000


class Vocabulary(NamedTuple):
    tokenizer: Tokenizer | None  # None: a SentencePiece model, see `model`
    path: Path
    hash: str  # of the file as shards hold it
    size: int  # every id is below it
    bos_id: int | None
    eos_id: int  # -1 where there is none, which only `need_eos=False` gives
    pad_id: int  # eos_id where the tokenizer has no token for padding
    byte_lengths: np.ndarray | None  # uint32[size]: bytes of text each id stands for, 0 for special tokens; None = by offsets
    why_library: str | None  # why a library encodes and not the kernels; None: they do
    model: Pieces | None = None  # of SentencePiece
    file: str = JSON  # what it is called in a shard directory
    data: bytes | None = None  # what is written there where it is not what `path` holds

    @property
    def engine(self) -> engine.Engine | None:
        """The kernels' engine, made when it is first asked for; None: `tokenizers` encodes."""
        return _engine(self.path, self.hash, self.data) if self.why_library is None else None

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.size <= 1 << 16 else np.uint32)


class Plain(NamedTuple):
    """Texts' tokens one after another, nothing added."""

    ids: np.ndarray  # uint16 or uint32
    offsets: np.ndarray  # int64[texts + 1]: where the tokens of each text start
    byte_lengths: np.ndarray | None  # uint32 a token: bytes of text it covers; None where the vocabulary tells


def load_vocabulary(
    path: Path,
    *,
    eos: str | None = None,
    bos: str | None = None,
    pad: str | None = None,
    need_eos: bool = True,
    shape: str | None = None,
) -> Vocabulary:
    """The tokenizer in `path`, a file or a directory of a form that `formats` knows. Special tokens not named are found by their well-known
    names. `shape` says how text is cut where a file of ranks does not. InputError when there is no such tokenizer, it cannot be read, or it
    has no end-of-document token while `need_eos`."""
    return vocabulary_of(read_tokenizer(path, shape), eos=eos, bos=bos, pad=pad, need_eos=need_eos)


def vocabulary_of(
    found: Found, *, eos: str | None = None, bos: str | None = None, pad: str | None = None, need_eos: bool = True
) -> Vocabulary:
    """As `load_vocabulary`, of what was read."""
    if found.pieces is not None:
        return _of_pieces(found, found.pieces, eos, bos, pad, need_eos)
    file, model = found.path, found.model
    assert model is not None  # one of the two is there
    try:
        tokenizer = Tokenizer.from_str(found.data.decode())
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{file}: is no tokenizer.json of the tokenizers library: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # text that looks like a special token stays text
    ids: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    highest = max(ids.values(), default=0)
    if highest >= MAX_SIZE:
        raise InputError(f"{file}: has the token id {highest}, above {MAX_SIZE - 1}. Use another tokenizer")
    bos_id, eos_id, pad_id = _specials(file, ids, _special_names(model), eos, bos, pad, need_eos)
    try:
        lengths, why_library = _byte_lengths(tokenizer, model), engine.supported(model)
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # the library reads what no one writes
        raise InputError(f"{file}: a part of it is not written as the library writes it ({type(error).__name__}: {error})") from None
    return Vocabulary(
        tokenizer=tokenizer,
        path=file,
        hash=xxhash.xxh3_128_hexdigest(found.data),
        size=highest + 1,
        bos_id=bos_id,
        eos_id=eos_id,
        pad_id=pad_id,
        byte_lengths=lengths,
        why_library=why_library or ("its tokens do not stand for fixed bytes" if lengths is None else None),
        data=found.data if found.converted else None,
    )


def _of_pieces(found: Found, model: Pieces, eos: str | None, bos: str | None, pad: str | None, need_eos: bool) -> Vocabulary:
    controls, processor = model.controls, model.processor
    # What the model itself says goes before well-known names.
    own = {"bos": processor.bos_id(), "eos": processor.eos_id(), "pad": processor.pad_id()}
    named = [
        given or (model.names[own[flag]] if own[flag] in controls.values() else None)
        for flag, given in (("eos", eos), ("bos", bos), ("pad", pad))
    ]
    bos_id, eos_id, pad_id = _specials(found.path, controls, list(controls), named[0], named[1], named[2], need_eos)
    return Vocabulary(
        tokenizer=None,
        path=found.path,
        hash=xxhash.xxh3_128_hexdigest(found.data),
        size=len(model.names),
        bos_id=bos_id,
        eos_id=eos_id,
        pad_id=pad_id,
        byte_lengths=None,
        why_library=f"it is a SentencePiece model ({model.algorithm})",
        model=model,
        file=PIECES,
    )


def _specials(
    file: Path, ids: dict[str, int], names: Sequence[str], eos: str | None, bos: str | None, pad: str | None, need_eos: bool
) -> tuple[int | None, int, int]:
    """(bos, eos, pad) by their names, as told or well known."""

    def special(named: str | None, flag: str, known: Sequence[str]) -> int | None:
        if named is not None and named not in ids:
            raise InputError(f"{file}: {flag} {named}: no such token in the vocabulary: {nearest(named, names)}")
        return ids[named] if named is not None else next((ids[name] for name in known if name in ids), None)

    eos_id = special(eos, "--eos", EOS_NAMES)
    if eos_id is None and need_eos:
        raise InputError(
            f"{file}: no token that ends a document is known ({', '.join(EOS_NAMES)}). Name it with --eos TOKEN, "
            "or add one with `codedev tokenizer extend`"
        )
    end = -1 if eos_id is None else eos_id
    pad_id = special(pad, "--pad", PAD_NAMES)
    return special(bos, "--bos", BOS_NAMES), end, end if pad_id is None else pad_id


def copy_into(vocabulary: Vocabulary, folder: Path) -> None:
    """Write the tokenizer into a directory as `vocabulary.file`; another one there is removed."""
    with atomic_write(folder / vocabulary.file) as temporary:
        temporary.write_bytes(vocabulary.path.read_bytes() if vocabulary.data is None else vocabulary.data)
    (folder / (PIECES if vocabulary.file == JSON else JSON)).unlink(missing_ok=True)


def special_id(vocabulary: Vocabulary, name: str) -> int | None:
    """The id of the special token called `name`; None where the vocabulary has no such special token."""
    if vocabulary.model is not None:
        return vocabulary.model.controls.get(name)
    number: int | None = _library(vocabulary).token_to_id(name)
    return number if number is not None and number in special_ids(vocabulary) else None


def special_ids(vocabulary: Vocabulary) -> frozenset[int]:
    """The ids that no text gives."""
    if vocabulary.model is not None:
        return frozenset(vocabulary.model.controls.values())
    return frozenset(number for number, token in _library(vocabulary).get_added_tokens_decoder().items() if token.special)


def token_name(vocabulary: Vocabulary, token_id: int) -> str:
    """How the tokenizer's file writes this token; "" for an id without one."""
    if not 0 <= token_id < vocabulary.size:
        return ""
    if vocabulary.model is not None:
        return vocabulary.model.names[token_id]
    return _library(vocabulary).id_to_token(token_id) or ""


def names_of_text(vocabulary: Vocabulary) -> dict[str, int]:
    """The tokens of the vocabulary without those that were added to it, by name."""
    if vocabulary.model is not None:
        hidden = set(vocabulary.model.controls)
        return {name: number for number, name in enumerate(vocabulary.model.names) if name not in hidden}
    names: dict[str, int] = _library(vocabulary).get_vocab(with_added_tokens=False)
    return names


def added_names(vocabulary: Vocabulary) -> frozenset[str]:
    """The names of tokens that were added to the vocabulary, special or not; each is written as the text it stands for."""
    if vocabulary.model is not None:
        return frozenset(vocabulary.model.controls)
    return frozenset(token.content for token in _library(vocabulary).get_added_tokens_decoder().values())


def decode(vocabulary: Vocabulary, ids: Sequence[int], *, specials: bool = True) -> str:
    """The text of ids; special tokens by their names, or left out."""
    if vocabulary.model is not None:
        return pieces.decode(vocabulary.model, ids, specials=specials)
    return str(_library(vocabulary).decode(list(ids), skip_special_tokens=not specials))


def _library(vocabulary: Vocabulary) -> Tokenizer:
    assert vocabulary.tokenizer is not None  # where there is no SentencePiece model
    return vocabulary.tokenizer


def encode_plain(vocabulary: Vocabulary, texts: pa.LargeStringArray) -> Plain:
    """The tokens of each text (null = none), nothing added. Any number of threads may call it at a time."""
    if (fast := vocabulary.engine) is not None:
        return Plain(*engine.encode(fast, *text_buffers(texts), vocabulary.dtype), None)
    given = [text or "" for text in texts.to_pylist()]
    spans: np.ndarray | None
    if vocabulary.model is not None:
        ids, counts, spans = pieces.encode(vocabulary.model, given, vocabulary.dtype)
    else:
        ids, counts, spans = library.encode(_library(vocabulary), given, vocabulary.dtype, spans=vocabulary.byte_lengths is None)
    return Plain(ids, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), spans)


def token_bytes(vocabulary: Vocabulary, plain: Plain) -> np.ndarray:
    """uint32 a token: bytes of text it covers."""
    if plain.byte_lengths is not None:
        return plain.byte_lengths
    assert vocabulary.byte_lengths is not None  # one of the two is there
    covered: np.ndarray = vocabulary.byte_lengths[plain.ids]
    return covered


@functools.lru_cache(maxsize=4)
def _engine(file: Path, digest: str, data: bytes | None) -> engine.Engine:
    """Tables saved beside the file are used where they are of its bytes."""
    return engine.load_saved(tables_file(file, digest)) or engine.load_engine(file, None if data is None else orjson.loads(data))


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
    for token in filter(lambda token: token["content"] in vocab, model.get("added_tokens") or []):  # the library leaves out an empty one
        lengths[vocab[token["content"]]] = 0 if token["special"] else len(token["content"].encode())
    return lengths


def _special_names(model: dict[str, Any]) -> list[str]:
    return [token["content"] for token in model.get("added_tokens") or []]
