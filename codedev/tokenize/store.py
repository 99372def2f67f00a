"""The token store: what encoding leaves on disk for packing. One growing file a column, memory-mapped when read.

A unit is a document, or a piece of one (units.py); they stand in the corpus's order.

    tokens          uint16 or uint32   the token sequences of all units, one after another
    token_bytes     uint32             bytes of text each token covers; only where the vocabulary does not tell
    counts          int64              tokens of each unit, 0 for a document without text
    bytes           int64              UTF-8 bytes of text they cover
    offsets, byte_offsets  int64       tokens and bytes of the document's units before it
    positions       int64              the document's place in the corpus
    hashes          uint64             xxh3-64 of its id: decides held-out and the order of packing
    sources         int32              index in the receipt's list of source names
    begins          int64              the unit's first token
    groups          int32              index in the receipt's list of the mixture's groups
    reasons         int32              index in the receipt's list of why documents were dropped; 0 = was not
    factors         float32            how much more often than others the document stands in a mixture
    ids, id_offsets uint8, int64       the ids' UTF-8, one after another, and where each begins: one more than units
    part_*          int64              units.Parts: unit, token, byte
    loss_*          int64              units.Loss: unit, first token, end; only where not every token carries loss

A part of the corpus is appended, flushed to disk, and then named by a receipt that holds the length of every column. A run that was
killed cuts the columns back to the last receipt and goes on from there.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from codedev._errors import InputError
from codedev._run import read_json, write_json

_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("counts", "bytes", "offsets", "byte_offsets", "positions"), np.int64),
    **dict.fromkeys(("part_units", "part_starts", "part_bytes"), np.int64),
    "hashes": np.uint64,
    "begins": np.int64,
    "sources": np.int32,
    "groups": np.int32,
    "reasons": np.int32,
    "factors": np.float32,
    "ids": np.uint8,
    "id_offsets": np.int64,
}
LOSS = ("loss_units", "loss_starts", "loss_ends")


class Store:
    def __init__(self, folder: Path, dtype: np.dtype[Any], *, token_bytes: bool, loss: bool = False) -> None:
        self.folder = folder
        self.columns: dict[str, np.dtype[Any]] = {"tokens": dtype, **{name: np.dtype(kind) for name, kind in _COLUMNS.items()}}
        if token_bytes:
            self.columns["token_bytes"] = np.dtype(np.uint32)
        if loss:
            self.columns |= dict.fromkeys(LOSS, np.dtype(np.int64))
        self._maps: list[mmap.mmap] = []
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, arrays: Mapping[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            assert array.dtype == self.columns[name], (name, array.dtype)
            with open(self._path(name), "ab") as file:
                file.write(np.ascontiguousarray(array).tobytes())

    def commit(self, part: int, key: str, state: Mapping[str, Any]) -> None:
        """Flush, and write the receipt of the part."""
        for name in self.columns:
            with open(self._path(name), "ab") as file:
                os.fsync(file.fileno())
        write_json(self._receipt(part), {"key": key, "lengths": self._lengths(), "state": state})

    def resume(self, keys: list[str]) -> tuple[int, dict[str, Any]]:
        """(parts that need not be encoded again, the state at their end); the columns are cut back to exactly those."""
        done, lengths, state = 0, dict.fromkeys(self.columns, 0), dict[str, Any]()
        for part, key in enumerate(keys):
            try:
                receipt = read_json(self._receipt(part))
                if receipt["key"] != key or any(self.length(name) < receipt["lengths"][name] for name in self.columns):
                    break
            except (InputError, KeyError, TypeError):
                break
            done, lengths, state = part + 1, receipt["lengths"], receipt["state"]
        for stale in range(done, len(list(self.folder.glob("part-*.json")))):
            self._receipt(stale).unlink(missing_ok=True)  # before the columns are cut: it must never name other bytes
        for name, dtype in self.columns.items():
            with open(self._path(name), "ab") as file:
                file.truncate(lengths[name] * dtype.itemsize)
        return done, state

    def read(self, name: str) -> np.ndarray:
        """The column, mapped into memory."""
        if self.length(name) == 0:
            return np.empty(0, self.columns[name])
        with open(self._path(name), "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._maps.append(mapped)
        return np.frombuffer(mapped, self.columns[name])

    def release(self) -> None:
        """Give the mapped pages back to the system: what was read stays in its cache and no longer counts as ours."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)

    def document_ids(self) -> pa.LargeStringArray:
        """The ids of all units as one Arrow array that stays on disk."""
        units = self.length("counts")
        if not units:
            return pa.array([], pa.large_string())
        return pa.LargeStringArray.from_buffers(units, pa.py_buffer(self.read("id_offsets")), pa.py_buffer(self.read("ids")))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"

    def _receipt(self, part: int) -> Path:
        return self.folder / f"part-{part:05d}.json"

    def length(self, name: str) -> int:
        """Values in the column."""
        path = self._path(name)
        return path.stat().st_size // self.columns[name].itemsize if path.exists() else 0

    def _lengths(self) -> dict[str, int]:
        return {name: self.length(name) for name in self.columns}
