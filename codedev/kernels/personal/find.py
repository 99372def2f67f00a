"""Where personal data and secrets stand in UTF-8 text: one pass over the bytes, finders at the few that can begin one.

Input is the pair of buffers of an Arrow large_string array, output int64[n, 4] of (row, start, end, type): byte offsets within the row's
text, in order, none overlapping another; `type` is an index into TYPES. Linear: no finder looks further than a bound of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import numba
import numpy as np

from codedev.kernels.personal import identity, network, numbers, secrets
from codedev.kernels.personal.characters import begins, is_digit, is_letter, is_word, table

TYPES = ("email", "ip", "phone", "card", "iban", "national_id", "secret", "username")
EMAIL, IP, PHONE, CARD, IBAN, NATIONAL_ID, SECRET, USERNAME = range(len(TYPES))
_HEADERS = ("from:", "to:", "cc:", "bcc:", "reply-to:", "sender:")

# What a byte can begin.
_AT, _DIGIT, _LETTER, _ASSIGN, _SLASH, _DASH, _LINE, _UNDERSCORE = 1, 2, 4, 8, 16, 32, 64, 128
_WORD = _DIGIT | _LETTER | _UNDERSCORE


@numba.njit()
def _beginning(one: int, two: int, three: int) -> int:
    return (int(one) << 6 ^ int(two) << 3 ^ int(three)) & 4095


@functools.cache
def _tables() -> tuple[np.ndarray, ...]:
    classes = np.zeros(256, np.uint8)
    classes[ord("@")] |= _AT
    classes[ord("0") : ord("9") + 1] |= _DIGIT
    for first in range(26):
        classes[ord("a") + first] |= _LETTER
        classes[ord("A") + first] |= _LETTER
    classes[[ord("="), ord(":")]] |= _ASSIGN
    classes[ord("/")] |= _SLASH
    classes[ord("-")] |= _DASH
    classes[ord("\n")] |= _LINE
    classes[ord("_")] |= _UNDERSCORE
    begin = np.zeros(4096, np.uint8)  # three bytes that a provider's prefix may begin with: one word in some hundred has such
    for prefix, *_ in secrets.PREFIXES:
        begin[_beginning.py_func(*map(ord, prefix[:3]))] = 1
    return (
        classes, begin, network.top_level_domains(), numbers.iban_lengths(), *table(numbers.PHONE_WORDS), *table(identity.ID_WORDS),
        *table(secrets.NAMES), *table(_HEADERS), *secrets.prefixes(), secrets.logarithms(),
    )  # fmt: skip


def find(data: np.ndarray, offsets: np.ndarray, types: Collection[str] = TYPES) -> np.ndarray:
    """int64[n, 4]: row, start, end, type of everything of `types` that the texts hold."""
    wanted = sum(1 << TYPES.index(name) for name in set(types))
    found: list[np.ndarray] = []
    room = np.empty((max(1024, len(offsets)), 4), np.int64)
    place = np.array([0, offsets[0], 0], np.int64)  # row, byte, number of finds
    while wanted and place[0] < len(offsets) - 1:
        place[2] = 0
        _find(data, offsets, wanted, *_tables(), place, room)  # type: ignore[call-arg]  # mypy counts the tables as one
        found.append(room[: place[2]].copy())
    return np.concatenate(found) if found else np.empty((0, 4), np.int64)


def found_in(text: str) -> list[tuple[int, int, str]]:
    """(start, end, type) of what one text holds, in UTF-8 bytes."""
    data = np.frombuffer(text.encode(), np.uint8)
    spans = find(data, np.array([0, len(data)])) if len(data) else np.empty((0, 4), np.int64)
    return [(start, end, TYPES[kind]) for _, start, end, kind in spans.tolist()]


_U8, _I64, _U64 = numba.uint8[::1], numba.int64[::1], numba.uint64[::1]


@numba.njit(
    numba.void(
        numba.types.Array(numba.uint8, 1, "C", readonly=True), numba.types.Array(numba.int64, 1, "C", readonly=True), numba.int64,
        _U8, _U8, _U64, _U8, _U8, _I64, _U8, _I64, _U8, _I64, _U8, _I64, _U8, _I64, numba.int64[:, ::1], _I64, _I64, numba.int64[:, ::1],
    ),
    nogil=True, cache=True,
)  # fmt: skip
def _find(
    data: Any, offsets: Any, wanted: int, classes: Any, first_letters: Any, domains: Any, lengths: Any, phone_words: Any, phone_bounds: Any,
    id_words: Any, id_bounds: Any, names: Any, name_bounds: Any, headers: Any, header_bounds: Any, prefixes: Any, prefix_bounds: Any,
    rules: Any, logs: Any, place: Any, room: Any,
) -> None:  # fmt: skip
    """Go on at `place` until the end or until `room` is full."""
    digits = np.zeros(numbers.MOST_DIGITS, np.uint8)
    ends_of, counts = np.zeros(numbers.MOST_GROUPS, np.int64), np.zeros(numbers.MOST_GROUPS, np.int64)
    separators = np.zeros(numbers.MOST_GROUPS, np.int64)
    scratch, read_to = np.zeros(256, np.int64), np.zeros(4, np.int64)
    row, at, n = place[0], place[1], 0
    emails, ips, phones, cards = wanted >> EMAIL & 1, wanted >> IP & 1, wanted >> PHONE & 1, wanted >> CARD & 1
    ibans, ids, keys, users = wanted >> IBAN & 1, wanted >> NATIONAL_ID & 1, wanted >> SECRET & 1, wanted >> USERNAME & 1
    while row < len(offsets) - 1:
        low, high = offsets[row], offsets[row + 1]
        at = max(at, low)
        clear = at  # what lies before belongs to a find, of this call or the one before: masked, nothing of a word would stand there
        if users and at == low and high > low and is_letter(data[low]):
            start, end = network.header_name(data, low, high, low, headers, header_bounds)
            if end > start:
                room[n, 0], room[n, 1], room[n, 2], room[n, 3] = row, start - low, end - low, USERNAME
                n += 1
                at = clear = end
                if n == len(room):
                    place[0], place[1], place[2] = row, at, n
                    return
        while at < high:
            kind = classes[data[at]]
            if kind == 0 or kind == _UNDERSCORE:
                at += 1
                continue
            start = end = at
            what = EMAIL
            if kind == _LETTER:
                if at > clear and is_word(data[at - 1]):
                    at += 1
                    continue
                # Most words are letters alone: nothing but a prefix begins with one, and where there is none the next byte is behind it.
                stop, seen = at + 1, 0
                while stop < high and classes[data[stop]] & _WORD:
                    seen |= classes[data[stop]]
                    stop += 1
                if keys and at + 2 < high:
                    if first_letters[_beginning(data[at], data[at + 1], data[at + 2])]:
                        start, end = secrets.prefixed(data, low, high, at, prefixes, prefix_bounds, rules, logs, scratch)
                    if end == start and data[at] == 101 and data[at + 1] == 121 and data[at + 2] == 74:  # eyJ
                        start, end = secrets.json_web_token(data, low, high, at, read_to)
                    what = SECRET
                if end == start and (seen & _DIGIT or (stop - at == 2 and stop + 1 < high and is_digit(data[stop + 1]))):
                    if ibans and at + 2 < high and is_letter(data[at + 1]) and is_digit(data[at + 2]):
                        start, end = numbers.iban(data, clear, high, at, lengths)
                        what = IBAN
                    if ids and end == start and begins(data, clear, at):
                        start, end = identity.of_letters(data, low, high, at)
                        what = NATIONAL_ID
                if end == start and users and (data[at] | 32) == 117:
                    start, end = network.reddit_user(data, clear, high, at)
                    what = USERNAME
                if end == start:
                    at = stop
                    continue
            elif kind == _DIGIT:
                if at > clear and is_word(data[at - 1]):
                    at += 1
                    continue
                if ips:
                    start, end = network.ipv4(data, low, high, at)
                    if end == start and (data[at] == 50 or data[at] == 51):
                        start, end = network.ipv6(data, low, high, at)
                    what = IP
                if end == start and (cards or ids or phones):
                    groups = numbers.read_groups(data, high, at, digits, ends_of, counts, separators)
                    if groups and counts[groups - 1] >= 7:
                        if cards and begins(data, clear, at):
                            start, end = numbers.card(data, clear, high, at, groups, digits, ends_of, counts, separators)
                            what = CARD
                        if ids and end == start:
                            start, end = identity.of_digits(
                                data, low, clear, high, at, groups, digits, ends_of, counts, separators, id_words, id_bounds
                            )
                            what = NATIONAL_ID
                        if phones and end == start:
                            start, end = numbers.phone(
                                data, low, clear, high, at, groups, digits, ends_of, counts, separators, phone_words, phone_bounds
                            )
                            what = PHONE
                if end == start:
                    while at + 1 < high and is_digit(data[at + 1]):
                        at += 1
            elif kind == _AT:
                if emails:
                    start, end = network.email(data, low, high, at, domains)
            elif kind == _ASSIGN:
                if keys:
                    start, end = secrets.assigned(data, low, high, at, names, name_bounds, logs, scratch)
                    what = SECRET
            elif kind == _SLASH:
                if keys and at + 1 < high and data[at + 1] == 47:
                    start, end = secrets.url_password(data, low, high, at)
                    what = SECRET
            elif kind == _DASH:
                if keys and at + 9 < high and data[at + 1] == 45 and data[at + 4] == 45 and data[at + 5] == 66:  # -----B
                    start, end = secrets.pem(data, low, high, at)
                    what = SECRET
            elif users and at + 1 < high and is_letter(data[at + 1]):
                start, end = network.header_name(data, low, high, at + 1, headers, header_bounds)
                what = USERNAME
            start = max(start, clear)  # of what begins inside the find before, the rest; of an address without its name, nothing
            if end <= start or (kind == _AT and start == at):
                at += 1
                continue
            room[n, 0], room[n, 1], room[n, 2], room[n, 3] = row, start - low, end - low, what
            n += 1
            at = clear = end
            if n == len(room):
                place[0], place[1], place[2] = row, at, n
                return
        row += 1
    place[0], place[1], place[2] = row, at, n


def warm() -> None:
    find(np.frombuffer(b"a", np.uint8), np.array([0, 1]))
