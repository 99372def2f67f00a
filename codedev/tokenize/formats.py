"""Which file a tokenizer is read from, and what it holds: any of the forms below, as a tokenizer.json or a SentencePiece model.

    tokenizer.json                the tokenizers library's
    *.tiktoken, *.model of ranks  tiktoken's; Llama 3's tokenizer.model is one
    tekken.json                   Mistral's
    vocab.json and merges.txt     byte-level BPE as GPT-2's
    *.model                       SentencePiece, BPE and Unigram

Of a directory the first that it has is taken, in this order: tokenizer.json, tekken.json, tokenizer.model, the only *.tiktoken, the only
*.model, vocab.json with merges.txt. Files are told apart by their contents.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import orjson
from tokenizers import Tokenizer

from codedev._errors import InputError
from codedev.tokenize import tiktoken
from codedev.tokenize.pieces import Pieces, load_pieces

MAX_BYTES = 1 << 28  # of a file; the largest in use have 35 MB
JSON, PIECES = "tokenizer.json", "tokenizer.model"  # what shards call them


class Found(NamedTuple):
    path: Path  # the file, or vocab.json
    data: bytes  # as shards hold it
    model: dict[str, Any] | None  # the content of a tokenizer.json
    pieces: Pieces | None
    converted: bool  # `data` is not what the file holds


def read_tokenizer(path: Path, shape: str | None = None) -> Found:
    """The tokenizer in `path`, a file or a directory. `shape`: how text is cut, where a file does not say so. InputError where there is
    none, or it cannot be read."""
    file = find_file(path)
    if file.name in ("vocab.json", "merges.txt") and all((file.parent / name).is_file() for name in ("vocab.json", "merges.txt")):
        return converted(file.parent / "vocab.json", tiktoken.from_vocab_and_merges(file.parent, shape))
    data = _read(file)
    if data[:64].lstrip()[:1] == b"{":
        try:
            content = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise InputError(f"{file}: is not valid JSON: {error}") from None
        if isinstance(content.get("model"), dict):
            return Found(file, data, content, None, False)
        if isinstance(content.get("vocab"), list) and isinstance(content.get("config"), dict):
            return converted(file, tiktoken.from_tekken(file, content))
        raise InputError(f"{file}: is no tokenizer.json of the tokenizers library, and no tekken file")
    if tiktoken.looks_like_ranks(data):
        return converted(file, tiktoken.from_ranks(file, data, shape))
    if file.suffix in (".json", ".tiktoken", ".txt"):
        raise InputError(f"{file}: is no tokenizer: neither JSON nor tiktoken's ranks")
    return Found(file, data, None, load_pieces(file, data), False)


def find_file(path: Path) -> Path:
    """The file of a tokenizer. InputError where there is none, or several that could be meant."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"{path}: there is no such tokenizer. Make one with `codedev tokenizer train CORPUS --out {path}`")
    for name in (JSON, "tekken.json", PIECES):
        if (path / name).is_file():
            return path / name
    for pattern in ("*.tiktoken", "*.model"):
        found = sorted(path.glob(pattern))
        if len(found) > 1:
            raise InputError(f"{path}: holds {', '.join(one.name for one in found)}. Name one of them")
        if found:
            return found[0]
    if (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
        return path / "vocab.json"
    raise InputError(
        f"{path}: there is no such tokenizer: no tokenizer.json, tekken.json, *.model, *.tiktoken, or vocab.json with merges.txt. "
        f"Make one with `codedev tokenizer train CORPUS --out {path}`"
    )


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InputError(f"{file}: has {file.stat().st_size} bytes, more than any tokenizer. Name another file")
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None


def converted(file: Path, model: dict[str, Any]) -> Found:
    """As a tokenizer.json, after a look whether text could give one of its special tokens: a piece that is a token's whole name."""
    data = orjson.dumps(model)
    try:
        tokenizer = Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{file}: cannot be used as a tokenizer.json: {error}") from None
    tokenizer.encode_special_tokens = True
    special = {token["id"]: token["content"] for token in model["added_tokens"] if token["special"]}
    for encoding in tokenizer.encode_batch_fast(list(special.values()), add_special_tokens=False):
        if any(number in special for number in encoding.ids):
            raise InputError(f"{file}: text gives its special tokens ({special[next(n for n in encoding.ids if n in special)]!r})")
    return Found(file, data, model, None, True)
