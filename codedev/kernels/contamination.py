"""Questions found again in documents: n-grams of a document's tokens are looked up in an index of all questions, and a hit is followed
both ways. After the manner of decon (github.com/allenai/decon); the measure is our own.

A token is a word of the unit `figures` of symbols.py: letters and digits, lower-cased and without combining marks, every digit counted; an
ideograph, a kana and a letter of Thai, Lao, Khmer, Myanmar or Tibetan is a token each; all else separates, `_` too. So quotation marks,
Markdown, indentation and line breaks do not hide a question, and `has_close_elements` is three tokens.

`scan` looks at every `step`-th n-gram of a document. One that is a seed of a question (see `index_of`) opens a match with it: from there,
left and right, the n-grams of the question that the document has are met, wherever in the question they are, until more than `max_misses`
n-grams in a row are none of its, or the document has gone on for twice the question's length. The overlap is the share of the question's
tokens that lie in n-grams that were met, each weighted by ln(1 + questions / questions that have the token): a changed word costs itself, a
word that is in every question little. Where an n-gram is missing, as where a word was put in, at least one token is. A run of ngram + step
- 1 tokens that are a question's whole text is always found: of each residue of positions modulo `step` the rarest n-gram is a seed.

Work is linear in the text, at about 200 MB/s where it resembles no question; memory is 16 bytes a token of the longest document.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from codedev.kernels.characters import CLUSTER, DATA, MARK, OFFSETS, TABLE, properties
from codedev.kernels.shingles import _decode, _decode_rare, _mix, _rare_symbol
from codedev.kernels.symbols import FLAG_SHIFT, MULTIPLIER, SINGLE, WORD, tables

COMMON = 32  # questions: an n-gram that more have is a seed only where a question has no rarer one
SLACK = 64  # tokens that a match may go on beyond twice its question
_BASE = np.uint64(0xD1342543DE82EF95)  # as in shingles.py
_SYMBOLS = numba.types.Array(numba.uint64, 1, "C", readonly=True)
_U64, _I64, _I32, _F64 = numba.uint64[::1], numba.int64[::1], numba.int32[::1], numba.float64[::1]


class Index(NamedTuple):
    """What `scan` looks n-grams up in: texts are numbered, and so are the places of n-grams in them (postings)."""

    ngram: int
    bits: np.ndarray  # uint64[power of two]: may there be an n-gram of this hash?
    slots: np.ndarray  # uint64[power of two]: hashes of n-grams, open addressing, 0 where empty
    grams: np.ndarray  # int32[slots]: which n-gram
    bounds: np.ndarray  # int64[n-grams + 1]: postings of each
    owners: np.ndarray  # int32[postings]: the text, rising within an n-gram
    places: np.ndarray  # int32[postings]: the token of the text where the n-gram begins, rising within a text
    seed_bounds: np.ndarray  # int64[n-grams + 1]
    seeds: np.ndarray  # int32: postings that open a match
    firsts: np.ndarray  # int64[texts + 1]: the first of each text's tokens
    weights: np.ndarray  # float64[tokens]
    totals: np.ndarray  # float64[texts]: the sum of a text's weights
    starts: np.ndarray  # int64[tokens + texts]: first byte of each token in the texts' data, and each text's end
    hashes: np.ndarray  # uint64[tokens]

    @property
    def lengths(self) -> np.ndarray:
        """int64[texts]: tokens."""
        return np.diff(self.firsts)


class Matches(NamedTuple):
    """Stretches of documents that hold much of a text, in the order of documents and of their places there. Bytes are those of the data."""

    row: np.ndarray  # int64: the document
    text: np.ndarray  # int32
    start: np.ndarray  # int64: the first byte of the stretch
    end: np.ndarray  # int64: where the token after it begins
    first: np.ndarray  # int64: the text's tokens that were met lie in the bytes first to last of the texts' data
    last: np.ndarray
    overlap: np.ndarray  # float64


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    table, symbols, _ = tables("figures")
    table = table.copy()
    alone = (properties() & np.uint32(CLUSTER) != 0) & (properties() & np.uint32(MARK) == 0) & (table >> np.uint32(FLAG_SHIFT) == WORD)
    table[alone] = np.uint32(SINGLE << FLAG_SHIFT) | (table[alone] & np.uint32(0xFFFFFF))
    table.flags.writeable = False
    return table, symbols


@numba.njit(numba.int64(DATA, numba.int64, numba.int64, TABLE, _SYMBOLS, _U64, _I64), nogil=True, cache=True)
def _tokens(data: Any, start: Any, stop: Any, table: Any, symbols: Any, hashes: Any, starts: Any) -> Any:
    """Hashes and first bytes of the tokens of data[start:stop]; `starts` has room for one more. Returns how many."""
    one, two = np.uint64(1), np.uint64(2)
    at, end = np.uint64(start), np.uint64(stop)
    count, h, inside = np.uint64(0), np.uint64(0), False
    while at < end:
        first = at
        code = np.uint64(data[at])
        if code < np.uint64(0x80):
            at += one
        else:
            if code < np.uint64(0xF0) and at + two < end:
                sized = _decode(code, data[at + one], data[at + two])
            else:
                sized = _decode_rare(data, at, end)
            at += sized >> np.uint64(32)
            code = sized & np.uint64(0xFFFFFFFF)
        entry = table[code]
        flags = entry >> np.uint32(FLAG_SHIFT)
        if flags & np.uint32(WORD):
            g = symbols[code] if code < np.uint64(0x10000) else _rare_symbol(entry)
            if not inside:
                starts[count] = np.int64(first)
                h, inside = np.uint64(0), True
            h = h * np.uint64(MULTIPLIER) + g
        elif flags != np.uint32(4):  # a combining mark is nothing
            if inside:
                hashes[count] = h
                count += one
                inside = False
            if flags & np.uint32(SINGLE):
                starts[count] = np.int64(first)
                hashes[count] = symbols[code] if code < np.uint64(0x10000) else _rare_symbol(entry)
                count += one
    if inside:
        hashes[count] = h
        count += one
    starts[count] = stop
    return np.int64(count)


def tokens(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(hashes uint64[tokens], starts int64[tokens + texts], bounds int64[texts + 1] of each text's tokens in `hashes`) of texts; text i
    has its starts, and its end, at starts[bounds[i] + i : bounds[i + 1] + i + 1]."""
    table, symbols = _tables()
    room = int(np.diff(offsets).max(initial=0)) // 2 + 2
    hashes, starts = np.empty(room, np.uint64), np.empty(room, np.int64)
    all_hashes, all_starts, bounds = [], [], np.zeros(len(offsets), np.int64)
    for text in range(len(offsets) - 1):  # 1 µs a text: questions and windows, never documents
        count = _tokens(data, offsets[text], offsets[text + 1], table, symbols, hashes, starts)
        all_hashes.append(hashes[:count].copy())
        all_starts.append(starts[: count + 1].copy())
        bounds[text + 1] = bounds[text] + count
    if not all_hashes:
        return np.empty(0, np.uint64), np.empty(0, np.int64), bounds
    return np.concatenate(all_hashes), np.concatenate(all_starts), bounds


def pairs(hashes: np.ndarray) -> np.ndarray:
    """uint64: of each two tokens in a row."""
    together: np.ndarray = hashes[:-1] * _BASE + hashes[1:]
    return together


@numba.njit(inline="always")
def _gram(hashes, at, ngram):  # type: ignore[no-untyped-def]  # compiled by numba
    """The hash of the n-gram at token `at`, never 0."""
    total = np.uint64(0)
    for i in range(at, at + ngram):
        total = total * _BASE + hashes[i]
    return _mix(total) | np.uint64(1)


@numba.njit(numba.void(_U64, _I64, numba.int64, _U64, _I64, _I64), nogil=True, cache=True)
def _grams(hashes: Any, bounds: Any, ngram: Any, out: Any, owners: Any, places: Any) -> None:
    """The n-grams of all texts, with the text and the token of each."""
    count = 0
    for text in range(len(bounds) - 1):
        for at in range(bounds[text], bounds[text + 1] - ngram + 1):
            out[count], owners[count], places[count] = _gram(hashes, at, ngram), text, at - bounds[text]
            count += 1


def index_of(data: np.ndarray, offsets: np.ndarray, ngram: int, step: int) -> Index:
    """The index of texts of at least ngram + step - 1 tokens each: others, ValueError. About 3 µs an n-gram.

    Seeds are the n-grams of at most COMMON texts, and of each text and residue of positions modulo `step` the rarest, the first of equals.
    """
    hashes, starts, bounds = tokens(data, offsets)
    lengths = np.diff(bounds)
    if (lengths < ngram + step - 1).any():
        raise ValueError(f"text {int(lengths.argmin())} has {int(lengths.min())} tokens; {ngram + step - 1} are needed")
    size = int((lengths - ngram + 1).sum())
    found, owners, places = np.empty(size, np.uint64), np.empty(size, np.int64), np.empty(size, np.int64)
    _grams(hashes, bounds, ngram, found, owners, places)
    distinct, which = np.unique(found, return_inverse=True)
    order = np.lexsort((places, owners, which))
    which, owners, places = which[order], owners[order], places[order]
    new = np.ones(size, bool)  # the first of a text's postings with an n-gram
    new[1:] = (which[1:] != which[:-1]) | (owners[1:] != owners[:-1])
    first = np.flatnonzero(new)[np.cumsum(new) - 1]
    shared = np.bincount(which[new], minlength=len(distinct))  # texts that have it
    rank = np.lexsort((places, shared[which], places % step, owners))
    rarest = np.ones(size, bool)
    rarest[1:] = (owners[rank][1:] != owners[rank][:-1]) | (places[rank][1:] % step != places[rank][:-1] % step)
    is_seed = new & (shared[which] <= COMMON)
    is_seed[first[rank[rarest]]] = True
    room = 1 << max(4, (2 * len(distinct)).bit_length())
    slots, grams = np.zeros(room, np.uint64), np.zeros(room, np.int32)
    bits = np.zeros(max(room // 8, 1), np.uint64)
    _fill(distinct, slots, grams, bits)
    return Index(
        ngram,
        bits,
        slots,
        grams,
        _bounds(which, len(distinct)),
        owners.astype(np.int32),
        places.astype(np.int32),
        _bounds(which[is_seed], len(distinct)),
        np.flatnonzero(is_seed).astype(np.int32),
        bounds,
        (weights := _weights(hashes, lengths)),
        np.add.reduceat(weights, bounds[:-1]) if len(lengths) else np.empty(0),
        starts,
        hashes,
    )


def _weights(hashes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """ln(1 + texts / texts that have it) of every token."""
    texts = np.repeat(np.arange(len(lengths)), lengths)
    words, which = np.unique(hashes, return_inverse=True)
    order = np.lexsort((texts, which))
    new = np.ones(len(hashes), bool)
    new[1:] = (which[order][1:] != which[order][:-1]) | (texts[order][1:] != texts[order][:-1])
    having = np.bincount(which[order][new], minlength=len(words))
    weights: np.ndarray = np.log1p(len(lengths) / having)[which]
    return weights


def _bounds(groups: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(np.bincount(groups, minlength=count)))).astype(np.int64)


@numba.njit(numba.void(_U64, _U64, _I32, _U64), nogil=True, cache=True)
def _fill(distinct: Any, slots: Any, grams: Any, bits: Any) -> None:
    mask, last_bit = np.uint64(len(slots) - 1), np.uint64((len(bits) << 6) - 1)
    for number in range(len(distinct)):
        value = distinct[number]
        bit = (value >> np.uint64(20)) & last_bit
        bits[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
        at = value & mask
        while slots[at] != np.uint64(0):
            at = (at + np.uint64(1)) & mask
        slots[at], grams[at] = value, number


@numba.njit(inline="always")
def _find(value, slots, grams, bits):  # type: ignore[no-untyped-def]  # compiled by numba
    """The number of the n-gram, or -1."""
    bit = (value >> np.uint64(20)) & np.uint64((len(bits) << 6) - 1)
    if not (bits[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1):
        return -1
    mask = np.uint64(len(slots) - 1)
    at = value & mask
    while slots[at] != np.uint64(0):
        if slots[at] == value:
            return np.int64(grams[at])
        at = (at + np.uint64(1)) & mask
    return -1


@numba.njit(inline="always")
def _posting(gram, text, bounds, owners):  # type: ignore[no-untyped-def]  # compiled by numba
    """The first posting of the n-gram with the text, or -1."""
    low, high = bounds[gram], bounds[gram + 1]
    stop = high
    while low < high:
        middle = (low + high) >> 1
        if owners[middle] < text:
            low = middle + 1
        else:
            high = middle
    return low if low < stop and owners[low] == text else -1


@numba.njit(inline="always")
def _meet(posting, text, ngram, owners, places, firsts, weights, met, begun, stamp, stop):  # type: ignore[no-untyped-def]  # compiled by numba
    """(weight of the tokens, n-grams) that the text's postings of an n-gram, `posting` the first, add to those that the match has met."""
    total, grams = 0.0, np.int64(0)
    while posting < stop and owners[posting] == text:
        begin = firsts[text] + places[posting]
        grams += begun[begin] != stamp
        begun[begin] = stamp
        for token in range(begin, begin + ngram):
            if met[token] != stamp:
                met[token] = stamp
                total += weights[token]
        posting += 1
    return total, grams


def scan(index: Index, data: np.ndarray, offsets: np.ndarray, step: int, max_misses: int, least: float) -> Matches:
    """All matches of an overlap of at least `least` in the documents. A document may match a text several times."""
    table, symbols = _tables()
    room = 4096
    while True:
        out = np.empty((6, room), np.int64)
        overlap = np.empty(room, np.float64)
        count = _scan(
            data, offsets, table, symbols, index.ngram, step, max_misses, least, index.bits, index.slots, index.grams, index.bounds,
            index.owners, index.places, index.seed_bounds, index.seeds, index.firsts, index.weights, index.totals, out, overlap,
        )  # fmt: skip
        if count <= room:
            break
        room = count
    row, text, start, end, first, last = out[:, :count].copy()
    at = index.firsts[text] + text
    return Matches(row, text.astype(np.int32), start, end, index.starts[at + first], index.starts[at + last], overlap[:count].copy())


@numba.njit(
    numba.int64(
        DATA, OFFSETS, TABLE, _SYMBOLS, numba.int64, numba.int64, numba.int64, numba.float64, _U64, _U64, _I32, _I64,
        _I32, _I32, _I64, _I32, _I64, _F64, _F64, numba.int64[:, ::1], _F64,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def _scan(  # type: ignore[no-untyped-def]  # compiled by numba
    data, offsets, table, symbols, ngram, step, max_misses, least, bits, slots, grams, bounds,
    owners, places, seed_bounds, seeds, firsts, weights, totals, out, overlaps,
):  # fmt: skip
    longest = np.int64(0)
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    room = longest // 2 + 2
    hashes, starts = np.empty(room, np.uint64), np.empty(room, np.int64)
    met, begun = np.zeros(len(weights), np.int32), np.zeros(len(weights), np.int32)  # the last match that met the token, the n-gram there
    covered = np.zeros(len(totals), np.int64)  # per text: a match has looked at the n-grams before this one, counted over all documents
    stamp, before, count = np.int32(0), np.int64(0), np.int64(0)
    for row in range(len(offsets) - 1):
        size = _tokens(data, offsets[row], offsets[row + 1], table, symbols, hashes, starts) - ngram + 1  # n-grams
        for at in range(0, size, step):
            gram = _find(_gram(hashes, at, ngram), slots, grams, bits)
            if gram < 0:
                continue
            for seed in range(seed_bounds[gram], seed_bounds[gram + 1]):
                posting = np.int64(seeds[seed])
                text = np.int64(owners[posting])
                if covered[text] > before + at:
                    continue
                stamp += np.int32(1)
                total, many = _meet(posting, text, ngram, owners, places, firsts, weights, met, begun, stamp, bounds[gram + 1])
                length = firsts[text + 1] - firsts[text]
                reach = 2 * length + SLACK
                left, right = at, at
                first = last = np.int64(places[posting])
                for way in range(2):
                    misses, here = 0, at
                    while misses <= max_misses:
                        here = here + 1 if way == 0 else here - 1
                        if here < 0 or here >= size or abs(here - at) > reach:
                            break
                        misses += 1
                        other = _find(_gram(hashes, here, ngram), slots, grams, bits)
                        if other < 0:
                            continue
                        own = _posting(other, text, bounds, owners)
                        if own < 0:
                            continue
                        misses = 0
                        if way == 0:
                            right = here
                        else:
                            left = here
                        place = np.int64(places[own])
                        if begun[firsts[text] + place] == stamp:
                            continue
                        more, others = _meet(own, text, ngram, owners, places, firsts, weights, met, begun, stamp, bounds[other + 1])
                        total, many = total + more, many + others
                        first, last = min(first, place), max(last, place)
                    if way == 0:
                        covered[text] = before + here
                overlap = total / totals[text]
                if many == length - ngram + 1:
                    overlap = 1.0  # not nearly, by the order of the sum
                else:
                    overlap = min(overlap, 1.0 - 1.0 / length)
                if overlap >= least:
                    if count < len(overlaps):
                        out[0, count], out[1, count] = row, text
                        out[2, count], out[3, count] = starts[left], starts[right + ngram]
                        out[4, count], out[5, count] = first, last + ngram
                        overlaps[count] = overlap
                    count += 1
        before += size + ngram if size > 0 else ngram
    return count


def warm() -> None:
    """Make the tables."""
    _tables()
