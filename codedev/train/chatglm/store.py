"""Tensors copied from file to file of safetensors as the bytes they are, a few megabytes in memory at a time.

A part of a tensor's first dimension is a range of its bytes, so that what is split needs no arithmetic either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import orjson

from codedev._errors import InputError
from codedev._run import write_json
from codedev.train.chatglm.family import Copy
from codedev.train.weights import INDEX, WEIGHTS, Tensor

LARGEST = 5_000_000_000  # bytes of a file's tensors; one larger tensor has a file to itself
_BUFFER = 1 << 24
_BYTES = {"F16": 2, "BF16": 2, "F32": 4}
DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


def part(name: str, source: str, tensor: Tensor, begin: int = 0, rows: int | None = None) -> Copy:
    """`rows` (all that are left) rows of a tensor from `begin` on, under a new name. InputError for a type that weights do not have."""
    if tensor.dtype not in _BYTES:
        raise InputError(f"{tensor.file}: {source} holds {tensor.dtype}, not {', '.join(_BYTES)}. Take the checkpoint in float16")
    shape = (tensor.shape[0] - begin if rows is None else rows, *tensor.shape[1:])
    numbers = math.prod(shape)
    return Copy(name, source, tensor.file, tensor.dtype, shape, begin, numbers, numbers * _BYTES[tensor.dtype])


def copy(copies: list[Copy], folder: Path, progress: Callable[[int, int], None], largest: int = LARGEST) -> int:
    """Write the tensors into `folder`, with an index where they are more than one file; the number of files."""
    groups: list[list[Copy]] = [[]]
    for one in copies:
        if groups[-1] and sum(other.bytes for other in groups[-1]) + one.bytes > largest:
            groups.append([])
        groups[-1].append(one)
    total, done = sum(one.bytes for one in copies), 0
    where = {}
    starts: dict[Path, tuple[int, dict[str, int]]] = {}
    for number, group in enumerate(groups, 1):
        name = WEIGHTS if len(groups) == 1 else f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        with open(folder / name, "wb") as target:
            target.write(_header(group))
            for one in group:
                if one.file not in starts:
                    starts[one.file] = _starts(one.file)
                data, offsets = starts[one.file]
                row = one.bytes // one.shape[0] if one.shape[0] else 0
                with open(one.file, "rb") as stream:
                    stream.seek(data + offsets[one.source] + one.begin * row)
                    _pipe(stream, target, one)
                where[one.name] = name
                done += one.bytes
                progress(done, total)
    if len(groups) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})
    return len(groups)


def _header(group: list[Copy]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for one in group:
        header[one.name] = {"dtype": one.dtype, "shape": list(one.shape), "data_offsets": [at, at + one.bytes]}
        at += one.bytes
    written = orjson.dumps(header)
    written += b" " * (-len(written) % 8)  # the tensors begin at a multiple of eight, as the format's own writer has it
    return len(written).to_bytes(8, "little") + written


def _starts(file: Path) -> tuple[int, dict[str, int]]:
    """(where the tensors begin, where each begins from there) of a file that check_checkpoint has looked at."""
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = orjson.loads(stream.read(length))
    header.pop("__metadata__", None)
    return 8 + length, {name: entry["data_offsets"][0] for name, entry in header.items()}


def _pipe(stream: BinaryIO, target: BinaryIO, one: Copy) -> None:
    left = one.bytes
    while left:
        data = stream.read(min(left, _BUFFER))
        if not data:
            raise InputError(f"{one.file}: has become shorter while it was read. Copy the checkpoint again")
        target.write(data)
        left -= len(data)
