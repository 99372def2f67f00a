"""The fast encoder: what `tokenizers` gives for a tokenizer.json of byte-level BPE, at many times its speed, from Arrow buffers.

`supported` says whether a tokenizer is one that the kernels reproduce to the last id, and if not, why; anything else goes to the library.
They cover byte-level BPE with a pretokenization of `shapes`, without a normalizer, whose added tokens text never gives. Special tokens are
never made from text. tiktoken's files load with the name of their shape.

Making the tables of a vocabulary takes 0.15 s (cl100k); `save` keeps them, to be read in 5 ms. An Engine is shared by threads: each call
to `encode` borrows one of its word caches, or makes one, so that there are as many as calls at a time. They begin at 43 MB and grow to 220
where texts have that many words (kernels/bpe_grow.py).
"""

from __future__ import annotations

import base64
import binascii
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codedev._errors import InputError, nearest
from codedev._run import read_json
from codedev.kernels import bpe_encode
from codedev.kernels.bpe_encode import WordCache, word_cache
from codedev.kernels.bpe_grow import grown
from codedev.kernels.bpe_tables import LONGEST, MAX_IDS, BpeTables, checked, tables_from_merges, tables_from_ranks
from codedev.kernels.pretokens import SHAPES, Shape
from codedev.tokenize.shapes import GPT2, shape_of

FORMAT = 1  # of saved tables
_ALPHABET_SIZE = 324


class Engine(NamedTuple):
    shape: Shape
    tables: BpeTables
    caches: list[WordCache]  # those that no call holds


def supported(model: Mapping[str, Any]) -> str | None:
    """None for a tokenizer.json that the engine covers, else why not, in a few words."""
    bpe = model.get("model") or {}
    if bpe.get("type") != "BPE":
        return f"its model is {bpe.get('type')}, not BPE"
    for setting in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if bpe.get(setting):
            return f"its BPE has {setting}"
    if model.get("normalizer") is not None:
        return f"it has a normalizer ({model['normalizer'].get('type')})"
    if _shape(model) is None:
        return "its pretokenization is none of the known ones"
    given = [token["content"] for token in model.get("added_tokens") or [] if not token["special"]]
    if given:
        return f"text gives added tokens ({given[0]!r})"
    vocab = bpe.get("vocab") or {}
    if not vocab or max(vocab.values()) >= MAX_IDS or min(vocab.values()) < 0:
        return f"it has no ids, or some above {MAX_IDS - 1}"
    if len(set(vocab.values())) < len(vocab):
        return "two of its tokens have one id"
    if (longest := max(map(len, vocab))) > LONGEST:
        return f"it has a token of {longest} bytes, and more than {LONGEST} are not parted in a bounded time"
    missing = [char for char in byte_characters() if char not in vocab]
    return f"{len(missing)} of 256 bytes are no tokens" if missing else None


def _shape(model: Mapping[str, Any]) -> Shape | None:
    """The shape of a Split and a ByteLevel behind it, or of a ByteLevel that splits by itself."""
    outer = model.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", []) if outer.get("type") == "Sequence" else [outer]
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space", True):
        return None
    if len(steps) == 1:
        return shape_of(GPT2) if steps[0].get("use_regex", True) else None
    if len(steps) != 2 or steps[0].get("type") != "Split" or steps[-1].get("use_regex", True):
        return None
    # The patterns leave no character out: what is found and what is not make the same pieces.
    keeps = (steps[0].get("behavior"), bool(steps[0].get("invert"))) in (("Isolated", False), ("Isolated", True), ("Removed", True))
    return shape_of(steps[0].get("pattern", {}).get("Regex", "")) if keeps else None


def load_engine(path: Path, model: Mapping[str, Any] | None = None) -> Engine:
    """The engine of a tokenizer.json, or of `model`, the content of one. InputError for one that is not supported."""
    if model is None:
        model = read_json(path)
    try:
        reason, shape = supported(model), _shape(model)
        if reason is None and shape is not None:
            return Engine(shape, _tables(model["model"]), [])
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # a file of strangers
        reason = f"{type(error).__name__}: {error}"
    raise InputError(f"{path}: the fast encoder does not cover this tokenizer: {reason}")


def load_ranks(path: Path, shape: str) -> Engine:
    """The engine of a file of tiktoken's ranks, cut as the named one of SHAPES. InputError for what is no such file."""
    if shape not in SHAPES:
        raise InputError(f"{shape}: there is no such pretokenization: {nearest(shape, SHAPES)}")
    tokens: dict[int, bytes] = {}
    try:
        for line in path.read_bytes().splitlines():
            if line.strip():
                text, rank = line.split()
                tokens[int(rank)] = base64.b64decode(text, validate=True)
        return Engine(SHAPES[shape], tables_of_tokens(tokens), [])
    except (ValueError, binascii.Error, OSError) as error:
        raise InputError(f"{path}: is no file of tiktoken's ranks: {error}") from None


def encode(engine: Engine, data: np.ndarray, offsets: np.ndarray, dtype: Any = np.uint32) -> tuple[np.ndarray, np.ndarray]:
    """(ids of `dtype`, int64[texts + 1]: where those of each text start) of Arrow text buffers (corpus.buffers.text_buffers).

    No special token is added. ValueError for offsets that do not rise within the data or a text of 2 GiB. Any
    number of threads may call it at a time.
    """
    try:
        cache = engine.caches.pop()
    except IndexError:
        cache = word_cache()
    ids, starts = bpe_encode.encode(data, offsets, engine.shape, engine.tables, cache)
    engine.caches.append(grown(cache))
    return ids.astype(dtype, copy=False), starts


def save(engine: Engine, path: Path) -> None:
    """Keep the engine in a file of 5 to 15 MB that `load_saved` reads in a few milliseconds."""
    shape = np.array([list(SHAPES.values()).index(engine.shape)])
    with path.open("wb") as file:
        np.savez(file, format=np.array([FORMAT]), shape=shape, **engine.tables._asdict())


def load_saved(path: Path) -> Engine | None:
    """What `save` wrote; None for no such file, one of another version or one that is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if int(file["format"][0]) != FORMAT:
                return None
            tables = BpeTables(*(file[name] for name in BpeTables._fields))
            return Engine(list(SHAPES.values())[int(file["shape"][0])], checked(tables), [])
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile):
        return None


def byte_characters() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary: printable Latin-1 for itself, the rest from U+0100 on."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    shifted = iter(range(256, _ALPHABET_SIZE))
    return [chr(byte) if byte in plain else chr(next(shifted)) for byte in range(256)]


def _tables(bpe: Mapping[str, Any]) -> BpeTables:
    vocab: dict[str, int] = bpe["vocab"]
    names = list(vocab)
    ids = np.fromiter(vocab.values(), np.int64, len(names))
    sizes = np.fromiter(map(len, names), np.int64, len(names))
    letters = np.full(0x110000, 256, np.uint16)
    letters[[ord(char) for char in byte_characters()]] = np.arange(256)
    text = letters[np.frombuffer("".join(names).encode("utf-32-le", "surrogatepass"), np.uint32)]
    # A token with a character of another alphabet stands for no bytes, and no merge makes it.
    begins = np.cumsum(sizes) - sizes
    foreign = np.zeros(len(names), np.bool_)
    foreign[np.searchsorted(begins, np.flatnonzero(text == 256), side="right") - 1] = True
    data, offsets = _by_id(text, begins, np.where(foreign, 0, sizes), ids)

    merges = bpe["merges"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    flat = [number for left, right in pairs for number in (vocab[left], vocab[right], vocab[left + right])]
    return tables_from_merges(data, offsets, np.array(flat, np.int64).reshape(-1, 3), bool(bpe.get("ignore_merges")))


def _by_id(text: np.ndarray, begins: np.ndarray, sizes: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 data, int64[highest id + 2] offsets) of the tokens text[begins : begins + sizes] in the order of their ids."""
    order = np.argsort(ids)
    lengths = np.zeros(int(ids.max()) + 1, np.int64)
    lengths[ids] = sizes
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    counts = sizes[order]
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return text[np.repeat(begins[order], counts) + within].astype(np.uint8), offsets


def tables_of_tokens(tokens: Mapping[int, bytes]) -> BpeTables:
    """The tables of tiktoken's ranks. ValueError where there are too many, or a byte is no token."""
    return tables_from_ranks(*_packed(tokens))


def _packed(tokens: Mapping[int, bytes]) -> tuple[np.ndarray, np.ndarray]:
    if not tokens or min(tokens) < 0 or max(tokens) >= MAX_IDS:
        raise ValueError(f"ranks must be from 0 to {MAX_IDS - 1}")
    ids = sorted(tokens)
    sizes = np.array([len(tokens[number]) for number in ids], np.int64)
    text = np.frombuffer(b"".join(tokens[number] for number in ids), np.uint8)
    return _by_id(text, np.cumsum(sizes) - sizes, sizes, np.array(ids, np.int64))
