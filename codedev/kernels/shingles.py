"""Shingles of documents: the hashes of their n-grams of words, characters or code tokens, straight from Arrow's buffers.

    words   runs of letters and digits, lower-cased and without combining marks ("É" = "e" + U+0301 = "e"); a run of digits of any script
            is one symbol, so that texts which differ by a date or a counter stay alike; an ideograph and a kana are a word each; all else
            separates
    figures those words with every digit counted, for a close look
    chars   the characters of those words, one space between two words that something separated
    code    identifiers and numbers as they are written, each other character that is no space; layout does not count

A document of fewer than `ngram` tokens has one shingle of all it has; one without a token has none. Unicode properties come from the
running Python's `unicodedata`, over all planes. Bytes that are no UTF-8 separate; nothing is read outside a document.

The hash: a token is h = 0; h = h * M + g(c) for each symbol c; an n-gram is a polynomial in its tokens' hashes modulo 2^64, finalised by
murmur3's mixer. Integers alone, one pass, no branch for ASCII: some look-ups and multiplications a byte. Documents are read in
pieces of `PIECE` bytes, so that a piece's tokens stay in the processor's cache whatever a document's length.

The `@njit` functions here are compiled into those of `sketch.py` too: numba does not see that they changed, clear its cache then.
"""

from __future__ import annotations

import numba
import numpy as np

from codedev.kernels.symbols import FLAG_SHIFT, MULTIPLIER, SINGLE, UNITS, WORD, tables

PIECE = 32_768  # bytes of text at a time: its tokens' hashes fill 48 KB at words, 256 KB at one character a token
MAX_NGRAM = 1024

_BASE = 0xD1342543DE82EF95  # of the polynomial: Steele and Vigna 2021, a multiplier for 64-bit congruential generators
_SPACE = 32
_LEAD_BITS = np.array([0x7F] * 0x80 + [0] * 0x40 + [0x1F] * 0x20 + [0x0F] * 0x10 + [0] * 0x10, np.uint64)  # of a character's first byte

DATA = numba.types.Array(numba.uint8, 1, "C", readonly=True)
OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)
TABLE = numba.types.Array(numba.uint32, 1, "C", readonly=True)
SYMBOLS = numba.types.Array(numba.uint64, 1, "C", readonly=True)


def shingle_hashes(
    data: np.ndarray, offsets: np.ndarray, *, ngram: int = 5, unit: str = "words", max_bytes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(hashes uint64[n], bounds int64[rows + 1]): document i's shingles are `hashes[bounds[i]:bounds[i + 1]]`, in the order of the text,
    repeated ones repeated.

    `data` uint8[bytes] and `offsets` int64[rows + 1] are the buffers of an Arrow large_string array (corpus/buffers.py). Of each document
    the first `max_bytes` are read (None: all). Memory: 8 bytes a shingle. ValueError where offsets leave `data` or fall, or an option
    is out of its range.
    """
    data, offsets = checked_buffers(data, offsets)
    check_shingling(ngram, unit)
    limit = byte_limit(max_bytes)
    rows = len(offsets) - 1
    bounds = np.zeros(rows + 1, np.int64)
    lengths = np.minimum(np.diff(offsets), limit)
    # A token has at least a byte; pages that are never touched take no memory, and the rest goes back at once.
    hashes = np.empty(int(lengths.sum()) + rows, np.uint64)
    count = _shingles(data, offsets, limit, UNITS[unit], ngram, base_power(ngram), *tables(unit), hashes, bounds)
    hashes.resize(count, refcheck=False)
    return hashes, bounds


def checked_buffers(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two as the kernels take them; ValueError where a document would lie outside `data`."""
    data, offsets = np.ascontiguousarray(data, np.uint8), np.ascontiguousarray(offsets, np.int64)
    if len(offsets) == 0 or int(offsets[0]) < 0 or int(offsets[-1]) > len(data) or bool((np.diff(offsets) < 0).any()):
        raise ValueError(f"offsets must rise from 0 or more to at most {len(data)}, the bytes of the data")
    return data, offsets


def check_shingling(ngram: int, unit: str) -> None:
    if unit not in UNITS:
        raise ValueError(f"unit {unit!r}: one of {', '.join(UNITS)}")
    if not 1 <= ngram <= MAX_NGRAM:
        raise ValueError(f"ngram {ngram}: must lie in 1..{MAX_NGRAM}")


def byte_limit(max_bytes: int | None) -> int:
    if max_bytes is not None and max_bytes < 0:
        raise ValueError(f"max_bytes {max_bytes}: must not be negative")
    return (1 << 62) if max_bytes is None else max_bytes


def base_power(ngram: int) -> np.uint64:
    """The weight of the token that leaves the window."""
    return np.uint64(pow(_BASE, ngram, 1 << 64))


# -- kernels -----------------------------------------------------------------------------------------------------------------------
# Flags are read by their bits: 0 part of a word, 1 a digit, 2 dropped, 3 a token of its own (symbols.py).
# Positions and counts are unsigned: numba then adds no test for a negative index. A mix of signed and unsigned would become a float.


@numba.njit(inline="always")
def _mix(value):  # type: ignore[no-untyped-def]  # compiled by numba
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@numba.njit(inline="always")
def _decode(lead, second, third):  # type: ignore[no-untyped-def]  # compiled by numba
    """bytes << 32 | code point of a character of up to three bytes; that of one byte and U+0000, a separator, for a byte that begins none.
    Without a branch, as scripts and spaces alternate: three bytes' worth of bits, and those that are another character's cut off.

    Takes bytes, as numba counts a reference for each array passed to what it inlines, which would cost 20 cycles.
    """
    low, six = np.uint64(0x3F), np.uint64(6)
    size = np.uint64(1) + np.uint64(lead >= np.uint64(0xC0)) + np.uint64(lead >= np.uint64(0xE0))
    bits = (lead & _LEAD_BITS[lead]) << np.uint64(12) | (np.uint64(second) & low) << six | np.uint64(third) & low
    return size << np.uint64(32) | bits >> (np.uint64(18) - size * six)


@numba.njit(nogil=True)
def _decode_rare(data, at, end):  # type: ignore[no-untyped-def]  # compiled by numba
    """The same for one of four bytes, or among a document's last two; a separator too where a character is cut off or too large."""
    one, two, low, six = np.uint64(1), np.uint64(2), np.uint64(0x3F), np.uint64(6)
    length = np.uint64(32)
    lead = np.uint64(data[at])
    if lead < np.uint64(0x80):
        return one << length | lead
    if np.uint64(0xC0) <= lead < np.uint64(0xE0) and at + one < end:
        return two << length | (lead & np.uint64(0x1F)) << six | np.uint64(data[at + one]) & low
    if np.uint64(0xF0) <= lead and at + np.uint64(3) < end:
        code = (lead & np.uint64(0x07)) << six | np.uint64(data[at + one]) & low
        code = (code << six | np.uint64(data[at + two]) & low) << six | np.uint64(data[at + np.uint64(3)]) & low
        if code < np.uint64(0x110000):
            return np.uint64(4) << length | code
    return one << length


@numba.njit(inline="always")
def _rare_symbol(entry):  # type: ignore[no-untyped-def]  # compiled by numba
    """g of what a code point beyond the first plane is folded to."""
    return _mix((np.uint64(entry & np.uint32(0xFFFFFF)) + np.uint64(1)) * np.uint64(MULTIPLIER))


@numba.njit(inline="always")
def _words(data, at, stop, end, table, symbols, steps, out, count, h, inside, digit):  # type: ignore[no-untyped-def]  # compiled by numba
    """Tokens of data[at:stop] to out[count:]; the open word's state goes in and comes out. `end` is the document's."""
    zero, one, two = np.uint64(0), np.uint64(1), np.uint64(2)
    multiplier = np.uint64(MULTIPLIER)
    state = digit << np.uint64(7) | inside << np.uint64(8)
    while at < stop:
        first = np.uint64(data[at])
        if first < np.uint64(0x80):
            step = first | state
            factor, g = steps[step + np.uint64(512)], steps[step]
            out[count] = h  # counts only where a word ends here
            count += steps[step + np.uint64(1024)]
            second = np.uint64(data[at + one]) if at + one < stop else np.uint64(0x80)
            if second < np.uint64(0x80):
                # Two bytes in one: what the hash waits for is one multiplication and one addition, not two of each.
                at += two
                step = second | steps[first + np.uint64(1536)]
                factor2, g2 = steps[step + np.uint64(512)], steps[step]
                out[count] = h * factor + g
                count += steps[step + np.uint64(1024)]
                h = h * (factor * factor2) + (g * factor2 + g2)
                state = steps[second + np.uint64(1536)]
            else:
                at += one
                h = h * factor + g
                state = steps[first + np.uint64(1536)]
            continue
        # Characters of any length, until two of ASCII in a row: the spaces between the words of most scripts are.
        narrow = zero
        inside, digit = state >> np.uint64(8), (state >> np.uint64(7)) & one
        while at < stop and narrow < two:
            lead = np.uint64(data[at])
            if lead < np.uint64(0xF0) and at + two < end:
                sized = _decode(lead, data[at + one], data[at + two])
            else:
                sized = _decode_rare(data, at, end)
            at += sized >> np.uint64(32)
            code = sized & np.uint64(0xFFFFFFFF)
            narrow = (narrow + one) & (zero - np.uint64(code < np.uint64(0x80)))
            entry = table[code]
            g = symbols[code] if code < np.uint64(0x10000) else _rare_symbol(entry)
            flags = np.uint64(entry >> np.uint32(FLAG_SHIFT))
            word, dropped = flags & one, (flags >> np.uint64(2)) & one
            single, is_digit = flags >> np.uint64(3), (flags >> one) & one
            stays = dropped | (is_digit & digit)
            changes = stays - one
            out[count] = h
            count += inside & ((word | dropped) ^ one)
            out[count] = g
            count += single
            h = h * ((multiplier & (zero - word) & changes) | stays) + (g & changes & (zero - word))
            inside = (inside & dropped) | word
            digit = (digit & dropped) | is_digit
        state = digit << np.uint64(7) | inside << np.uint64(8)
    return at, count, h, state >> np.uint64(8), (state >> np.uint64(7)) & one


@numba.njit(inline="always")
def _chars(data, at, stop, end, table, symbols, out, count, gap, inside, digit):  # type: ignore[no-untyped-def]  # compiled by numba
    """As `_words`, a token a character. `gap`: a separator was met since the last token; `inside`: there is a token before."""
    one, two = np.uint64(1), np.uint64(2)
    space = _mix(np.uint64(_SPACE + 1) * np.uint64(MULTIPLIER))
    while at < stop:
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
        g = symbols[code] if code < np.uint64(0x10000) else _rare_symbol(entry)
        flags = np.uint64(entry >> np.uint32(FLAG_SHIFT))
        dropped, is_digit = (flags >> np.uint64(2)) & one, (flags >> one) & one
        token = np.uint64(flags & np.uint64(WORD | SINGLE) != np.uint64(0)) & (is_digit & digit ^ one)
        out[count] = space
        count += gap & inside & token
        out[count] = g
        count += token
        # After a token or another digit of its run there is no gap, after a separator one.
        gap = (gap & dropped) | np.uint64(flags == np.uint64(0))
        inside |= token
        digit = (digit & dropped) | is_digit
    return at, count, gap, inside, digit


@numba.njit(inline="always")
def _code(data, at, stop, end, table, symbols, out, count, h, inside, digit):  # type: ignore[no-untyped-def]  # compiled by numba
    """As `_words`, for the tokens of a program; `digit` has no use."""
    zero, one, two = np.uint64(0), np.uint64(1), np.uint64(2)
    multiplier = np.uint64(MULTIPLIER)
    while at < stop:
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
        g = symbols[code] if code < np.uint64(0x10000) else _rare_symbol(entry)
        flags = np.uint64(entry >> np.uint32(FLAG_SHIFT))
        word = flags & one
        out[count] = h
        count += inside & (word ^ one)
        h = (h * multiplier + g) & (zero - word)
        inside = word
        out[count] = g
        count += flags >> np.uint64(3)
    return at, count, h, inside, digit


@numba.njit(inline="always")
def _ngrams(tokens, count, ngram, power, out, at):  # type: ignore[no-untyped-def]  # compiled by numba
    """The hashes of the n-grams of tokens[:count] to out[at:]; returns how many, none where tokens are fewer than `ngram`."""
    base = np.uint64(_BASE)
    if count < ngram:
        return np.uint64(0)
    total = np.uint64(0)
    for i in range(ngram):
        total = total * base + tokens[i]
    out[at] = _mix(total)
    for i in range(ngram, count):
        total = total * base + (tokens[i] - tokens[i - ngram] * power)
        out[at + i - ngram + np.uint64(1)] = _mix(total)
    return count - ngram + np.uint64(1)


@numba.njit(nogil=True)
def _piece(data, at, end, unit, ngram, power, table, symbols, steps, state, tokens, out, out_at):  # type: ignore[no-untyped-def]  # compiled by numba
    """Shingles of the next `PIECE` bytes to out[out_at:]: (new position, how many).

    `state` uint64[5]: h or gap, inside, digit, the tokens at the start of `tokens` that later n-grams need (at most ngram - 1), and whether
    the document has a shingle yet.
    At the end of the document the open token is closed, and a document of few tokens gives its one shingle.
    """
    zero, one = np.uint64(0), np.uint64(1)
    h, inside, digit, count = state[0], state[1], state[2], state[3]
    stop = min(end, at + np.uint64(PIECE))
    if unit == 0:
        at, count, h, inside, digit = _words(data, at, stop, end, table, symbols, steps, tokens, count, h, inside, digit)
    elif unit == 1:
        at, count, h, inside, digit = _chars(data, at, stop, end, table, symbols, tokens, count, h, inside, digit)
    else:
        at, count, h, inside, digit = _code(data, at, stop, end, table, symbols, tokens, count, h, inside, digit)
    if at >= end and unit != 1:
        tokens[count] = h
        count += inside
    made = _ngrams(tokens, count, ngram, power, out, out_at)
    if made == zero and state[4] == zero and at >= end and count > zero:
        total = zero
        for i in range(count):
            total = total * np.uint64(_BASE) + tokens[i]
        out[out_at] = _mix(total)
        made = one
    kept = min(count, ngram - one)
    for i in range(kept):
        tokens[i] = tokens[count - kept + i]
    state[0], state[1], state[2], state[3] = h, inside, digit, kept
    state[4] |= made
    return at, made


@numba.njit(
    numba.int64(
        DATA, OFFSETS, numba.int64, numba.int64, numba.int64, numba.uint64, TABLE, SYMBOLS, SYMBOLS, numba.uint64[::1], numba.int64[::1]
    ),
    nogil=True,
    cache=True,
)
def _shingles(  # type: ignore[no-untyped-def]  # compiled by numba
    data, offsets, limit, unit, ngram, power, table, symbols, steps, out, bounds
):
    tokens = np.empty(PIECE + ngram + 8, np.uint64)
    state = np.zeros(5, np.uint64)
    n = np.uint64(ngram)
    count = np.uint64(0)
    for row in range(len(offsets) - 1):
        at = np.uint64(offsets[row])
        end = at + np.uint64(min(offsets[row + 1] - offsets[row], limit))
        state[:] = np.uint64(0)
        while at < end:
            at, made = _piece(data, at, end, unit, n, power, table, symbols, steps, state, tokens, out, count)
            count += made
        bounds[row + 1] = np.int64(count)
    return np.int64(count)


def warm() -> None:
    """Compile, or load from the cache, and make the tables."""
    for unit in UNITS:
        shingle_hashes(np.frombuffer(b"a", np.uint8), np.array([0, 1]), unit=unit)
