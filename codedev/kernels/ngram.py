"""N-gram models of text: trained by interpolated modified Kneser-Ney, held in nine bytes an n-gram, scored over Arrow text buffers.

Smoothing is that of Chen and Goodman (1999), counts of lower orders are continuation counts, discounts are theirs in closed form. A line
is a sentence, with a mark before its first token and one after its last, which counts as a token. N-grams below `min_counts` are left out,
what they held goes to the shorter ones. Words seen less than `min_words` times are one word, the unknown one; each of the words that it
stands for gets an even share of its probability, so that text of unknown words is never likely.

    p(w | context) = (c - D(c)) / total + gamma(context) * p(w | shorter context),    gamma = what the kept n-grams leave

The model is a hash table of all orders: 32 bits of the n-gram's 64-bit hash (a wrong hit in 2^32 look-ups), and one byte each for the
logarithms of its probability and of its gamma, in even steps between the least and the largest. Files are mapped, not read: workers share
one copy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from codedev.kernels.characters import DATA, OFFSETS, TABLE, properties
from codedev.kernels.tokens import END, LINE, PART, mixed, next_token

UNKNOWN, BEGIN, STOP = 1, 2, 3  # hashes of the tokens that are no text
MAX_ORDER = 8
_FACTOR = 0x9E3779B97F4A7C15
_LOAD = 0.65  # of the table's slots

_SLOTS = numba.types.Array(numba.uint32, 1, "C", readonly=True)
_CODES = numba.types.Array(numba.uint8, 1, "C", readonly=True)


class NGramModel(NamedTuple):
    order: int
    piece: int  # characters of a piece of a word; 0 = words are whole
    marks: np.ndarray  # uint32[slots]: the lower half of the n-gram's hash, 0 where empty
    chances: np.ndarray  # uint8[slots]: the logarithm of the probability, as a step
    gammas: np.ndarray  # uint8[slots]: of what the context leaves to shorter ones
    scale: tuple[float, float, float, float]  # least chance and size of a step, least gamma and size of a step; natural logarithms
    unknown: float  # logarithm added for an unknown word: one of so many


class Order(NamedTuple):
    """The n-grams of one length, by rising hash."""

    keys: np.ndarray  # uint64
    raw: np.ndarray  # int64: how often it occurs
    adjusted: np.ndarray  # int64: the same, or for lower orders how many tokens go before it
    places: np.ndarray  # int64: where it ends for the first time
    kept: np.ndarray  # bool
    chances: np.ndarray  # float64: probability
    gammas: np.ndarray  # float64: what it leaves as a context; 1 where it never is one


def fit(
    hashes: np.ndarray, kinds: np.ndarray, order: int = 5, min_words: int = 2, min_counts: tuple[int, ...] = (1, 1, 2), piece: int = 0
) -> NGramModel:
    """A model of the tokens that `tokens()` found. `min_counts` are the least counts of n-grams by length, the last for all longer ones.
    250 bytes and 2 µs a token for order 5. ValueError where there are no tokens."""
    orders, words = _orders(hashes, kinds, order, min_words, min_counts)
    keys = np.concatenate([one.keys[one.kept] for one in orders])
    with np.errstate(divide="ignore"):
        chances = np.log(np.concatenate([one.chances[one.kept] for one in orders]))
        gammas = np.log(np.concatenate([one.gammas[one.kept] for one in orders]))
    chance_codes, chance_scale = _steps(chances)
    gamma_codes, gamma_scale = _steps(gammas)
    slots = max(16, int(len(keys) / _LOAD))
    if slots >= 1 << 32:
        raise ValueError(f"{len(keys)} n-grams; a model holds 2.7 billion. Raise min_counts")
    marks, chance, gamma = np.zeros(slots, np.uint32), np.zeros(slots, np.uint8), np.zeros(slots, np.uint8)
    _fill(keys, chance_codes, gamma_codes, marks, chance, gamma)
    return NGramModel(order, piece, marks, chance, gamma, (*chance_scale, *gamma_scale), -float(np.log(max(words, 1))))


def _steps(values: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Each value as one of 256 even steps: of a probability, 4% off at most for a least one of e^-20, and as often above as below."""
    values = np.maximum(values, -50.0)
    least, most = float(values.min()), float(values.max())
    step = max((most - least) / 255, 1e-9)
    return np.round((values - least) / step).astype(np.uint8), (least, step)


def sequence(hashes: np.ndarray, kinds: np.ndarray, min_words: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(tokens uint64 with BEGIN and STOP around each line that holds any and rare words UNKNOWN, place of each token in its line, words
    that UNKNOWN stands for). ValueError where there are no tokens, or all are rare."""
    ends = kinds == LINE
    line = np.cumsum(ends) - ends  # of each token
    text = ~ends
    if not text.any():
        raise ValueError("there are no words in the texts to learn from")
    words, inverse, counts = np.unique(hashes[text], return_inverse=True, return_counts=True)
    rare = counts < min_words
    if rare.all():
        raise ValueError(f"no word of the texts to learn from occurs {min_words} times; name more texts, or lower min_words")
    known = np.where(rare[inverse], np.uint64(UNKNOWN), words[inverse])
    line = line[text]
    first = np.flatnonzero(np.r_[True, line[1:] != line[:-1]])
    sizes = np.diff(np.r_[first, len(known)]) + 2
    starts = np.r_[0, np.cumsum(sizes)]
    out = np.empty(starts[-1], np.uint64)
    out[starts[:-1]], out[starts[1:] - 1] = BEGIN, STOP
    inner = np.ones(len(out), bool)
    inner[starts[:-1]] = inner[starts[1:] - 1] = False
    out[inner] = known
    return out, np.arange(len(out)) - np.repeat(starts[:-1], sizes), int(rare.sum())


def _mixed(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _orders(hashes: np.ndarray, kinds: np.ndarray, order: int, min_words: int, min_counts: tuple[int, ...]) -> tuple[list[Order], int]:
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"order {order}: 1 to {MAX_ORDER}")
    least = [min_counts[min(n, len(min_counts) - 1)] for n in range(order)]
    if sorted(least) != least or least[0] > 1:
        raise ValueError(f"min_counts {min_counts}: they begin with 1 and never fall, since a kept n-gram needs its parts")
    tokens, places, words = sequence(hashes, kinds, min_words)
    ending = _mixed(tokens)  # the hash of the n-gram that ends at each place
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []  # keys, raw counts, first places, keys of all places
    whole = [ending]
    for n in range(1, order + 1):
        if n > 1:
            ending = np.r_[np.zeros(n - 1, np.uint64), _mixed(ending[n - 1 :] * np.uint64(_FACTOR) + _mixed(tokens[: len(tokens) - n + 1]))]
            whole.append(ending)
        at = np.flatnonzero(places >= n - 1)
        keys, first, counts = np.unique(ending[at], return_index=True, return_counts=True)
        found.append((keys, counts, at[first], ending))
    orders: list[Order] = []
    unmet = not words  # the unknown word has a share even so
    even = 1 / (len(found[0][0]) - 1 + unmet)  # the beginning is never predicted
    for n, (keys, raw, at, _) in enumerate(found, 1):
        opening = places[at] == n - 1  # begins with BEGIN: nothing goes before it
        adjusted = raw.copy()
        if n < order:
            longer = found[n]
            before = np.bincount(np.searchsorted(keys, whole[n - 1][longer[2]]), minlength=len(keys))
            adjusted = np.where(opening, raw, before)
        predicted = np.ones(len(keys), bool) if n > 1 else tokens[at] != BEGIN
        kept = raw >= least[n - 1]
        discounts = _discounts(adjusted[predicted])
        rest = (adjusted - discounts[np.minimum(adjusted, 3)]) * predicted
        # Contexts: the (n - 1)-gram before; one and the same for n = 1.
        if n == 1:
            context, contexts = np.zeros(len(keys), np.int64), 1
            lower = np.full(len(keys), even)
        else:
            context, contexts = np.searchsorted(orders[-1].keys, whole[n - 2][at - 1]), len(orders[-1].keys)
            lower = orders[-1].chances[np.searchsorted(orders[-1].keys, whole[n - 2][at])]
        totals = np.bincount(context, adjusted * predicted, contexts)
        spent = np.bincount(context, rest * kept, contexts)
        left = np.where(totals > 0, (totals - spent) / np.maximum(totals, 1), 1.0)
        chances = np.where(predicted, rest / np.maximum(totals[context], 1) + left[context] * lower, 1.0)
        if n > 1:
            orders[-1] = orders[-1]._replace(gammas=left)
        else:
            rest_of_words = float(left[0]) * even
        orders.append(Order(keys, raw, adjusted, at, kept, chances, np.ones(len(keys))))
    if unmet:
        shortest = orders[0]
        key = _mixed(np.array([UNKNOWN], np.uint64))
        orders[0] = shortest._replace(
            keys=np.r_[shortest.keys, key],
            kept=np.r_[shortest.kept, True],
            chances=np.r_[shortest.chances, rest_of_words],
            gammas=np.r_[shortest.gammas, 1.0],
        )
    return orders, words


def _discounts(counts: np.ndarray) -> np.ndarray:
    """float64[4]: what counts of 0, 1, 2 and 3 or more lose (Chen and Goodman 1999, eq. 26); 0.5, 1 and 1.5 where counts are too few."""
    n = [int((counts == k).sum()) for k in range(5)]
    if min(n[1:]) > 0:
        y = n[1] / (n[1] + 2 * n[2])
        found = [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        if all(0 < value < k for k, value in enumerate(found, 1)):
            return np.array([0.0, *found])
    return np.array([0.0, 0.5, 1.0, 1.5])


@numba.njit(
    numba.void(numba.uint64[::1], numba.uint8[::1], numba.uint8[::1], numba.uint32[::1], numba.uint8[::1], numba.uint8[::1]),
    nogil=True,
    cache=True,
)
def _fill(keys: Any, chance_codes: Any, gamma_codes: Any, marks: Any, chances: Any, gammas: Any) -> None:
    for number in range(len(keys)):
        at = np.int64(((keys[number] >> np.uint64(32)) * np.uint64(len(marks))) >> np.uint64(32))
        mark = max(np.uint32(keys[number] & np.uint64(0xFFFFFFFF)), np.uint32(1))
        while marks[at] != 0 and marks[at] != mark:
            at = np.int64(at + 1 if at + 1 < len(marks) else 0)
        if marks[at] == 0:  # of two that look alike, the shorter one
            marks[at], chances[at], gammas[at] = mark, chance_codes[number], gamma_codes[number]


@numba.njit(numba.int64(numba.uint64, _SLOTS), nogil=True, cache=True, inline="always")
def _slot(key: Any, marks: Any) -> Any:
    """Where an n-gram stands, or -1."""
    at = np.int64(((key >> np.uint64(32)) * np.uint64(len(marks))) >> np.uint64(32))
    mark = max(np.uint32(key & np.uint64(0xFFFFFFFF)), np.uint32(1))
    while marks[at] != 0:
        if marks[at] == mark:
            return at
        at = np.int64(at + 1 if at + 1 < len(marks) else 0)
    return -1


def log_likelihood(model: NGramModel, data: np.ndarray, offsets: np.ndarray, prefix: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(sum of natural logarithms float64[texts], tokens int64[texts], line ends among them) of the first `prefix` bytes of each text
    (0 = all); 0 and 0 for a text without tokens."""
    texts = len(offsets) - 1
    sums, counts = np.zeros(texts, np.float64), np.zeros(texts, np.int64)
    if texts:
        longest = int(np.diff(offsets).max())
        shape = np.array([model.order, model.piece, min(prefix or longest, longest)], np.int64)
        scale = np.array([*model.scale, model.unknown])
        _score(
            data,
            offsets,
            properties(),
            shape,
            _readonly(model.marks),
            _readonly(model.chances),
            _readonly(model.gammas),
            scale,
            sums,
            counts,
        )
    return sums, counts


def perplexity(model: NGramModel, data: np.ndarray, offsets: np.ndarray, prefix: int = 0) -> np.ndarray:
    """float64[texts]: e to the mean negative logarithm of a token's probability; NaN for a text without tokens."""
    sums, counts = log_likelihood(model, data, offsets, prefix)
    with np.errstate(invalid="ignore"):
        return np.exp(-sums / np.where(counts > 0, counts, np.nan))


def _readonly(values: np.ndarray) -> np.ndarray:
    view = values.view()
    view.flags.writeable = False
    return view


@numba.njit(
    numba.void(
        DATA, OFFSETS, TABLE, numba.int64[::1], _SLOTS, _CODES, _CODES, numba.float64[::1], numba.float64[::1], numba.int64[::1],
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def _score(
    data: Any, offsets: Any, table: Any, shape: Any, marks: Any, chances: Any, gammas: Any, scale: Any, sums: Any, counts: Any
) -> None:
    order, piece, prefix = shape[0], shape[1], shape[2]
    least_chance, chance_step, least_gamma, gamma_step, one_of_many = scale[0], scale[1], scale[2], scale[3], scale[4]
    factor = np.uint64(_FACTOR)
    begin, stop, unknown = mixed(np.uint64(BEGIN)), mixed(np.uint64(STOP)), mixed(np.uint64(UNKNOWN))
    begin_slot = _slot(begin, marks)
    # Of the tokens before, latest first, and of the runs that end at the last one: how many the model knows, and their gammas.
    history = np.empty(MAX_ORDER, np.uint64)
    left, next_left = np.zeros(MAX_ORDER + 1, np.float64), np.zeros(MAX_ORDER + 1, np.float64)
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        if end - at > prefix:
            end = at + prefix
            while end > at and (data[end] & 0xC0) == 0x80:
                end -= 1
        inside, filled = False, False  # whether the line holds a token yet
        held, known = 0, 0
        total, number = 0.0, 0
        while True:
            kind, at, value = next_token(data, at, end, table, piece, inside)
            inside = kind == PART
            closing = kind in (END, LINE)
            if closing and not filled:
                if kind == END:
                    break
                continue
            if not filled:
                history[0], held, known, filled = begin, 1, 1, True
                left[1] = least_gamma + gamma_step * gammas[begin_slot] if begin_slot >= 0 else 0.0
            token = stop if closing else mixed(value)
            slot = _slot(token, marks)
            if slot < 0:
                token = unknown
                slot = _slot(token, marks)
            if token == unknown:
                total += one_of_many
            chance = least_chance + chance_step * chances[slot] if slot >= 0 else least_chance
            match = 1
            next_left[1] = least_gamma + gamma_step * gammas[slot] if slot >= 0 else 0.0
            run = token
            for n in range(2, min(order, held + 1) + 1):
                run = mixed(run * factor + history[n - 2])
                slot = _slot(run, marks)
                if slot < 0:
                    break
                match = n
                chance = least_chance + chance_step * chances[slot]
                next_left[n] = least_gamma + gamma_step * gammas[slot]
            total += chance
            for n in range(match, min(known, order - 1) + 1):
                total += left[n]
            number += 1
            for n in range(1, match + 1):
                left[n] = next_left[n]
            known = match
            for n in range(min(held, MAX_ORDER - 1), 0, -1):
                history[n] = history[n - 1]
            history[0] = token
            held = min(held + 1, order - 1)
            if closing:
                filled = False
                if kind == END:
                    break
        sums[text], counts[text] = total, number
