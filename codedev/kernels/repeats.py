"""Spans of at least N bytes that an earlier text holds already: anchors in texts, and the windows round anchors compared byte by byte.

The definition. A window is N consecutive bytes of one text. It repeats when a text before its own holds the same N bytes; what is repeated
are the bytes of all windows that repeat. So of every repeated span the copy in the first text stays, whatever else is cut, since each cut
byte has its like in an earlier text, and that one too or it stays. Repeats within one text are none.

The method. A window's anchor is the k-gram of least hash in it, the first of equal ones (winnowing: Schleimer, Wilkerson, Aiken 2003,
SIGMOD, "Winnowing: Local Algorithms for Document Fingerprinting"), with k = N // 2. Equal windows have equal anchors at equal places, so
windows need be compared among those of one anchor alone. A text of random bytes has 4 anchors in N bytes. Nothing is missed, nothing is
sampled, and no hash decides: windows of equal hash are compared byte by byte.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

# An anchor's hash, its place in the data, and the least and greatest distance to it from the starts of the windows that chose it.
ANCHOR = np.dtype([("hash", np.uint64), ("at", np.int64), ("near", np.int32), ("far", np.int32)])
_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)
_BLOCK = 1 << 18  # window starts at a time: 2 MB of hashes
_PROBES = 64  # windows of one hash and different bytes that are looked at before one counts as new: no end to them is only forged

_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_INTS: Any = numba.types.Array(numba.int64, 1, "C")
_HASHES: Any = numba.types.Array(numba.uint64, 1, "C")


def anchors(data: np.ndarray, offsets: np.ndarray, window: int) -> np.ndarray:
    """ANCHOR[n] of all windows of `window` bytes in the texts, in order of place. `offsets` int64[texts + 1] into `data` uint8[bytes]."""
    room = 1024 + int(offsets[-1] - offsets[0]) // window * 6
    scratch = np.empty(_BLOCK + window, np.uint64)
    while True:
        hashes, places = np.empty(room, np.uint64), np.empty((room, 3), np.int64)
        count = _anchors(data, offsets, window, scratch, hashes, places)
        if count <= room:
            break
        room = count  # texts of one character have an anchor a byte
    out = np.empty(count, ANCHOR)
    out["hash"], out["at"] = hashes[:count], places[:count, 0]
    out["near"], out["far"] = places[:count, 1], places[:count, 2]
    return out


@numba.njit(numba.int64(_BYTES, _OFFSETS, numba.int64, _HASHES, _HASHES, numba.types.Array(numba.int64, 2, "C")), nogil=True, cache=True)
def _anchors(data: Any, offsets: Any, window: Any, scratch: Any, hashes: Any, places: Any) -> Any:
    """Fills both arrays as far as they reach; returns how many anchors there are."""
    gram = window // 2
    choices = window - gram + 1  # k-grams in a window
    power = np.uint64(1)
    for _ in range(gram):
        power *= _BASE
    count = 0
    for text in range(len(offsets) - 1):
        start, end = offsets[text], offsets[text + 1]
        last: Any = np.int64(-1)  # place of the anchor that is being filled
        near = far = np.int64(0)
        for block in range(start, end - window + 1, _BLOCK):
            stop = min(block + _BLOCK, end - window + 1)  # window starts of this block: block .. stop - 1
            grams = stop - block + choices - 1
            value = np.uint64(0)
            for at in range(block, block + gram):
                value = value * _BASE + np.uint64(data[at])
            for place in range(grams):
                mixed = value ^ (value >> np.uint64(29))
                scratch[place] = mixed * np.uint64(0xBF58476D1CE4E5B9)
                if place + 1 < grams:
                    at = block + place
                    value = value * _BASE + np.uint64(data[at + gram]) - power * np.uint64(data[at])
            best: Any = np.int64(-1)
            for first in range(stop - block):
                newest = first + choices - 1
                if best < first:
                    # All but the newest were no less than the one that left: an equal one is the least of them, and periods are quick.
                    floor = scratch[best] if best >= 0 else np.uint64(0)
                    best = first
                    least = scratch[first]
                    for place in range(first + 1, newest):
                        if least == floor:
                            break
                        if scratch[place] < least:
                            least = scratch[place]
                            best = place
                    if scratch[newest] < least:
                        best = newest
                elif scratch[newest] < scratch[best]:
                    best = newest
                distance = best - first
                if block + best == last:
                    near = distance
                else:
                    if last >= 0 and count <= len(hashes):
                        places[count - 1, 1] = near
                        places[count - 1, 2] = far
                    last, near, far = block + best, distance, distance
                    if count < len(hashes):
                        hashes[count] = scratch[best]
                        places[count, 0] = last
                    count += 1
        if last >= 0 and count <= len(hashes):
            places[count - 1, 1] = near
            places[count - 1, 2] = far
    return count


def repeated(data: np.ndarray, offsets: np.ndarray, found: np.ndarray, window: int, slots: int = 1 << 24) -> tuple[np.ndarray, np.ndarray]:
    """int64[spans, 3]: (start, end, start of the first copy) in `data` of runs of windows that repeat, in no useful order, overlapping;
    and which anchors have a window that none before it has, bool[anchors].

    `found` holds the anchors of some hashes in order of place; windows whose anchors are not there are not looked at. Anchors that come
    in several turns are to be led by those of the turns before that have a new window: then nothing is missed.
    `slots`, a power of two, bounds the table: 16 bytes each."""
    hashes = np.ascontiguousarray(found["hash"]).astype(np.uint64)
    shared = np.zeros(len(found), np.uint8)  # what no other anchor is like needs no sorting: most of them
    _shared(hashes, np.zeros(1 << max(4, (2 * len(found)).bit_length()), np.uint8), shared)
    order = np.flatnonzero(shared)
    order = order[np.argsort(hashes[order], kind="stable")]
    found, hashes, everyone = found[order], hashes[order], len(found)
    bounds = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])) if len(hashes) else np.empty(0, np.int64)
    bounds = np.append(bounds, len(hashes))
    # Groups that lie in more than one text; the others repeat nothing.
    texts = np.searchsorted(offsets, found["at"], side="right") - 1
    several = texts[bounds[:-1]] != texts[bounds[1:] - 1]
    news = np.ones(everyone, bool)
    if not several.any():
        return np.empty((0, 3), np.int64), news
    groups = np.stack([bounds[:-1][several], bounds[1:][several]], axis=1)
    sizes = np.append(0, (found["far"].astype(np.int64) - found["near"] + 1).cumsum())
    windows = sizes[groups[:, 1]] - sizes[groups[:, 0]]
    at, near, far = (np.ascontiguousarray(found[name].astype(np.int64)) for name in ("at", "near", "far"))
    fresh = np.repeat(~several, np.diff(bounds)).astype(np.uint8)
    # Groups of very many windows are gone through in turns, each with the windows of some hashes.
    parts: list[np.ndarray] = []
    wide = np.flatnonzero(windows > slots // 2).tolist()
    for chosen, turns in [(groups[windows <= slots // 2], 1), *((groups[i : i + 1], int(-(-4 * windows[i] // slots))) for i in wide)]:
        if not len(chosen):
            continue
        room = 2 * int((chosen[:, 1] - chosen[:, 0]).sum()) + 16
        capacity = 1 << max(4, int(2 * windows.max() - 1).bit_length()) if turns == 1 else slots
        capacity = min(capacity, slots)
        turn = 0
        while turn < turns:
            out = np.empty((room, 3), np.int64)
            table, keys = np.full(capacity, -1, np.int64), np.empty(capacity, np.uint64)
            count = _repeated(data, offsets, texts, at, near, far, chosen, window, turn, turns, table, keys, fresh, out)
            if count > room:
                room = count
                continue
            parts.append(out[:count])
            turn += 1
    news[order] = fresh != 0
    return np.concatenate(parts), news


@numba.njit(numba.void(_HASHES, numba.uint8[::1], numba.uint8[::1]), nogil=True, cache=True)
def _shared(hashes: Any, seen: Any, shared: Any) -> None:
    """Marks all hashes that occur twice, and some that do not."""
    mask = np.uint64(len(seen) - 1)
    for number in range(len(hashes)):
        slot = (hashes[number] * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)) & mask
        if seen[slot] < 2:
            seen[slot] += 1
    for number in range(len(hashes)):
        slot = (hashes[number] * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)) & mask
        shared[number] = seen[slot] > 1


@numba.njit(numba.int64(_BYTES, numba.int64, numba.int64, numba.int64), nogil=True, cache=True)
def _equal(data: Any, one: Any, other: Any, size: Any) -> Any:
    """How many bytes from both places on are equal, at most `size`. Unsigned: signed indices take five times as long."""
    left, right, most, done, block = np.uint64(one), np.uint64(other), np.uint64(size), np.uint64(0), np.uint64(32)
    while done + block <= most:
        differs = np.uint8(0)
        for step in range(block):
            differs |= data[left + done + step] ^ data[right + done + step]
        if differs:
            break
        done += block
    while done < most and data[left + done] == data[right + done]:
        done += np.uint64(1)
    return np.int64(done)


@numba.njit(
    numba.int64(
        _BYTES, _OFFSETS, _INTS, _INTS, _INTS, _INTS, numba.types.Array(numba.int64, 2, "C"), numba.int64, numba.int64, numba.int64,
        _INTS, _HASHES, numba.types.Array(numba.uint8, 1, "C"),
        numba.types.Array(numba.int64, 2, "C"),
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def _repeated(
    data: Any,
    offsets: Any,
    texts: Any,
    places: Any,
    near: Any,
    far: Any,
    groups: Any,
    window: Any,
    turn: Any,
    turns: Any,
    table: Any,
    keys: Any,
    fresh: Any,
    out: Any,
) -> Any:
    """Group by group: a table of the windows seen, each by its hash and its distance to the anchor, with the place of its first copy."""
    power = np.uint64(1)
    for _ in range(window):
        power *= _BASE
    count = 0
    for group in range(len(groups)):
        low, high = groups[group, 0], groups[group, 1]
        windows = np.int64(0)
        for number in range(low, high):
            windows += far[number] - near[number] + 1
        slots = np.int64(16)
        while slots < 2 * windows and slots < len(table):
            slots *= 2
        mask = np.uint64(slots - 1)
        table[:slots] = -1
        value: Any = np.uint64(0)
        rolled: Any = np.int64(-1)
        for number in range(low, high):
            begin, end = places[number] - far[number], places[number] - near[number]  # first and last window
            if number > low and texts[low] != texts[number] and far[low] >= far[number] and near[low] <= near[number]:
                # The common case: all windows are those of the group's first anchor.
                first = places[low] - far[number]
                if _equal(data, first, begin, end - begin + window) == end - begin + window:
                    if turn == 0:
                        if count < len(out):
                            out[count, 0], out[count, 1], out[count, 2] = begin, end + window, first
                        count += 1
                    continue
            if begin != rolled:
                value = np.uint64(0)
                for at in range(begin, begin + window):
                    value = value * _BASE + np.uint64(data[at])
            run: Any = np.int64(-1)  # start of the run of repeated windows; `kept`, of its first copy
            kept: Any = np.int64(-1)
            before = np.int64(-1)  # place of the copy of the window before this one, whose bytes are known to be equal
            for start in range(begin, end + 1):
                mixed = (value ^ np.uint64(places[number] - start)) * np.uint64(0x94D049BB133111EB)
                mixed ^= mixed >> np.uint64(31)
                slot = mixed & mask
                copy = np.int64(-1)
                probes = 0
                mine = turns == 1 or np.int64(mixed >> np.uint64(34)) % turns == turn
                while mine and table[slot] >= 0:
                    if keys[slot] == mixed:
                        other = table[slot]
                        if other == before + 1 and before >= 0:
                            same = data[other + window - 1] == data[start + window - 1]
                        else:
                            same = _equal(data, other, start, window) == window
                        if same:
                            copy = other
                            break
                        probes += 1
                        if probes == _PROBES:
                            break
                    slot = (slot + np.uint64(1)) & mask
                if mine and copy < 0 and probes < _PROBES:
                    table[slot] = start
                    keys[slot] = mixed
                    fresh[number] = 1
                before = copy
                old = copy >= 0 and copy < offsets[texts[number]]  # in an earlier text
                if old and run >= 0 and copy == kept + start - run:
                    pass
                else:
                    if run >= 0:
                        if count < len(out):
                            out[count, 0], out[count, 1], out[count, 2] = run, start - 1 + window, kept
                        count += 1
                    run, kept = (start, copy) if old else (np.int64(-1), np.int64(-1))
                if start < end or end + window < offsets[texts[number] + 1]:
                    value = value * _BASE + np.uint64(data[start + window]) - power * np.uint64(data[start])
                    rolled = start + 1  # anchors side by side go on from there
                else:
                    rolled = np.int64(-1)
            if run >= 0:
                if count < len(out):
                    out[count, 0], out[count, 1], out[count, 2] = run, end + window, kept
                count += 1
    return count
