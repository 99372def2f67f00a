"""SentencePiece models: the `sentencepiece` library encodes and decodes them (1 to 3 MB/s a core).

Of the model file itself only the kinds of its pieces are read here, which the library does not tell. Control symbols (`<s>`, `</s>`) are
never made from text: the library does not look for them. User-defined symbols are: the model says that its text is cut so, and there is no
way to encode around it; they are therefore no special tokens here. Source: sentencepiece_model.proto.

What decodes differently: a literal U+2581 (the library writes blanks so, and reads it as one), what the model's normalizer changes, and
characters that are no pieces where the model has no byte fallback.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codedev._errors import InputError, MissingExtraError
from codedev.tokenize import blanks

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
ALGORITHMS = {1: "Unigram", 2: "BPE", 3: "words", 4: "characters"}


class Pieces(NamedTuple):
    processor: Any  # sentencepiece.SentencePieceProcessor (or `blanks` before one), which any number of threads may use
    names: list[str]  # of every id
    kinds: np.ndarray  # uint8[size]
    algorithm: str

    @property
    def controls(self) -> dict[str, int]:
        """The symbols that no text gives."""
        return {self.names[number]: number for number in np.flatnonzero(self.kinds == CONTROL).tolist()}


def library() -> Any:
    """The sentencepiece module. MissingExtraError where it is not installed."""
    try:
        import sentencepiece
    except ImportError:
        raise MissingExtraError("sentencepiece", "sentencepiece") from None
    return sentencepiece


def load_pieces(path: Path, data: bytes) -> Pieces:
    """The model in `data`, which `path` held. InputError for what is none."""
    try:
        names, kinds, algorithm = _read(data)
    except (ValueError, IndexError) as error:
        raise InputError(f"{path}: is no SentencePiece model: {error}") from None
    module = library()
    try:
        processor = module.SentencePieceProcessor(model_proto=data)
    except RuntimeError as error:
        raise InputError(f"{path}: is no SentencePiece model: {error}") from None
    if processor.vocab_size() != len(names):
        raise InputError(f"{path}: is no SentencePiece model that can be used: it has {len(names)} pieces and reads as another number")
    return Pieces(blanks.Blanks(processor) if blanks.written_so(names) else processor, names, kinds, algorithm)


def encode(pieces: Pieces, texts: Sequence[str], dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids of all texts one after another, int64[texts] tokens of each, uint32 a token: bytes of text it covers).

    A token covers the text from its beginning to the next one's, the first from 0, the last to the end. The tokens of a character that is
    no piece have its bytes with the last of them, as the library counts.
    """
    ids: list[np.ndarray] = [np.empty(0, dtype)]
    covered: list[np.ndarray] = [np.empty(0, np.uint32)]
    counts = np.zeros(len(texts), np.int64)
    for index, text in enumerate(texts):
        if not text:
            continue
        data = text.encode()
        found = pieces.processor.encode(data, return_type="offset_mapping", add_bos=False, add_eos=False)
        if not found["ids"]:
            continue
        begins = np.fromiter((begin for begin, _ in found["offsets"]), np.int64, len(found["ids"]))  # 100 ns a token
        begins = np.minimum(np.maximum.accumulate(begins), len(data))
        begins[0] = 0
        ids.append(np.array(found["ids"], dtype))
        covered.append(np.diff(begins, append=len(data)).astype(np.uint32))
        counts[index] = len(begins)
    return np.concatenate(ids), counts, np.concatenate(covered)


def decode(pieces: Pieces, ids: Sequence[int], *, specials: bool) -> str:
    """The text of ids; control symbols by their names where `specials`, else left out. What stands between two of them is a text of its
    own, as chat templates encode it."""
    texts: list[str] = []
    run: list[int] = []
    for number in [*ids, -1]:
        inside = 0 <= number < len(pieces.names)
        if inside and pieces.kinds[number] not in (CONTROL, UNUSED):
            run.append(number)
            continue
        if run:
            texts.append(pieces.processor.decode(run))
            run = []
        if inside and specials:
            texts.append(pieces.names[number])
    return "".join(texts)


# The model file


def _read(data: bytes) -> tuple[list[str], np.ndarray, str]:
    """(names, kinds, algorithm). ValueError where it breaks the format."""
    names: list[str] = []
    kinds: list[int] = []
    algorithm = 1
    for field, value in fields(data):
        if field == 1 and isinstance(value, bytes):
            name, kind = "", NORMAL
            for inner, part in fields(value):
                if inner == 1 and isinstance(part, bytes):
                    name = part.decode()
                elif inner == 3 and isinstance(part, int):
                    kind = part
            names.append(name)
            kinds.append(kind if kind in range(NORMAL, BYTE + 1) else NORMAL)
        elif field == 2 and isinstance(value, bytes):
            algorithm = next((part for inner, part in fields(value) if inner == 3 and isinstance(part, int)), 1)
    if not names:
        raise ValueError("it has no pieces")
    return names, np.array(kinds, np.uint8), ALGORITHMS.get(algorithm, "?")


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of the fields of a protocol buffer message; fixed-width values as bytes. ValueError where it is none."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 2, 5):
            size, at = _varint(data, at) if wire == 2 else ((8, at) if wire == 1 else (4, at))
            if size > len(data) - at:
                raise ValueError("it is cut short")
            value = data[at : at + size]
            at += size
        else:
            raise ValueError("it is no protocol buffer")
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("it is no protocol buffer")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
