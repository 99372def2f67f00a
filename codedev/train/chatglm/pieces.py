"""The SentencePiece models of ChatGLM, with the special tokens that the released code keeps beside them written into them.

ChatGLM-6B    the model has all pieces, [gMASK], <sop> and <eop> among them as pieces that text may give. They become control symbols, which
              no text gives. The first revision counts 20,000 tokens for pictures before them: so many unused pieces are put in front.
ChatGLM2/3    [MASK], [gMASK], [sMASK], sop, eop, and for ChatGLM3 the markers of roles, come behind the model's own pieces.

What a text encodes to is left as it was. Source of the format: sentencepiece_model.proto; of the numbers: the released tokenizers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from codedev.tokenize.pieces import CONTROL, NORMAL, UNUSED, fields

V1 = ("[MASK]", "[gMASK]", "[sMASK]", "<unused_0>", "<sop>", "<eop>", "<ENC>", "<dBLOCK>")
V2 = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
V3 = (*V2, "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
_TRAINER = 2  # number of the field trainer_spec
_ROLES = {"bos": 46, "eos": 47, "pad": 48}  # fields of trainer_spec that name a piece


class Piece(NamedTuple):
    name: str
    score: float
    kind: int


def rewritten(data: bytes, controls: tuple[str, ...], named: Mapping[str, str], before: int = 0) -> bytes:
    """The model in `data` with every piece of `controls` as a control symbol, those that it has not put behind all others; `named`: which
    pieces are bos, eos and pad; `before`: unused pieces in front. ValueError where `data` is no such model.
    """
    pieces, others = [], []
    trainer = b""
    for number, value in fields(data):
        if not isinstance(value, bytes):
            raise ValueError("it is no SentencePiece model")
        if number == 1:
            pieces.append(_piece(value))
        elif number == _TRAINER:
            trainer += value
        else:
            others.append(_bytes(number, value))
    known = {piece.name for piece in pieces}
    pieces = [piece._replace(kind=CONTROL) if piece.name in controls else piece for piece in pieces]
    pieces += [Piece(name, 0.0, CONTROL) for name in controls if name not in known]
    pieces = [Piece(f"<unused_before_{index}>", 0.0, UNUSED) for index in range(before)] + pieces
    trainer += b"".join(_bytes(_ROLES[role], name.encode()) for role, name in named.items())  # of a field written twice the last counts
    return b"".join([*(_bytes(1, _written(piece)) for piece in pieces), _bytes(_TRAINER, trainer), *others])


def names(data: bytes) -> list[str]:
    """Of all pieces, by id. ValueError where `data` is no model."""
    return [_piece(value).name for number, value in fields(data) if number == 1 and isinstance(value, bytes)]


def _piece(data: bytes) -> Piece:
    name, score, kind = "", 0.0, NORMAL
    for number, value in fields(data):
        if number == 1 and isinstance(value, bytes):
            name = value.decode()
        elif number == 2 and isinstance(value, bytes) and len(value) == 4:
            score = struct.unpack("<f", value)[0]
        elif number == 3 and isinstance(value, int):
            kind = value
    return Piece(name, score, kind)


def _written(piece: Piece) -> bytes:
    return _bytes(1, piece.name.encode()) + b"\x15" + struct.pack("<f", piece.score) + b"\x18" + bytes(_varint(piece.kind))


def _bytes(number: int, value: bytes) -> bytes:
    return bytes(_varint(number << 3 | 2)) + bytes(_varint(len(value))) + value


def _varint(value: int) -> Iterator[int]:
    while value > 127:
        yield value & 127 | 128
        value >>= 7
    yield value
