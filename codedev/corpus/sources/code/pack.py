"""How large the objects of a git pack say they are, without inflating any: a guard before a library that inflates what a delta builds upon.

The index gives the place of every object, whose first bytes there hold its type and size. Cost: 0.1 µs an object, and the pages that they
lie on.
"""

from __future__ import annotations

import numpy as np

_MAGIC = b"\xfftOc"


def largest(index: str, pack: str) -> int:
    """The size of the largest object, deltas as they are stored. Raises ValueError and OSError for files that are none of git's."""
    places = _places(np.fromfile(index, dtype=np.uint8))
    data = np.memmap(pack, dtype=np.uint8, mode="r")
    if bytes(data[:4]) != b"PACK" or (len(places) and int(places.max()) >= len(data)):
        raise ValueError("no pack, or not that of its index")
    first = data[places]
    sizes = (first & 0x0F).astype(np.uint64)
    going = np.flatnonzero(first & 0x80)
    for digit in range(9):  # 4 bits and 9 times 7: more than 64
        if not len(going):
            break
        at = places[going] + np.uint64(digit + 1)
        if int(at.max()) >= len(data):
            raise ValueError("the pack ends inside an object")
        byte = data[at]
        sizes[going] |= (byte & 0x7F).astype(np.uint64) << np.uint64(4 + 7 * digit)
        going = going[(byte & 0x80) != 0]
    if len(going):
        raise ValueError("an object without end")
    return int(sizes.max()) if len(sizes) else 0


def _places(index: np.ndarray) -> np.ndarray:
    """Offsets of all objects, of index versions 1 and 2."""
    newer = bytes(index[:4]) == _MAGIC
    begin = 8 if newer else 0
    if len(index) < begin + 1024:
        raise ValueError("no index")
    count = int(index[begin + 1020 : begin + 1024].view(">u4")[0])
    rows = index[begin + 1024 :]
    if len(rows) < count * 24:
        raise ValueError("the index is cut off")
    if not newer:
        return np.ascontiguousarray(rows[: count * 24].reshape(count, 24)[:, :4]).view(">u4").ravel().astype(np.uint64)
    places = rows[count * 24 : count * 28].view(">u4").astype(np.uint64)
    far = np.flatnonzero(places >> np.uint64(31))  # beyond 2 GiB: a second table
    table = rows[count * 28 : count * 28 + 8 * len(far)]
    if len(places) < count or len(table) < 8 * len(far):
        raise ValueError("the index is cut off")
    if len(far):
        number = places[far] & np.uint64(0x7FFFFFFF)
        if int(number.max()) >= len(far):
            raise ValueError("the index points beyond itself")
        places[far] = table.view(">u8").astype(np.uint64)[number]
    return places
