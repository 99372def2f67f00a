"""Finders of keys, tokens and passwords (see find.py): what the providers' prefixes announce, JSON Web Tokens, private keys in PEM,
passwords in URLs, and quoted values that an assignment calls a secret and whose characters look drawn by lot.

Randomness is Shannon's entropy of the value's bytes, in integers of 1/65536 bit, so that every processor says the same.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from codedev.kernels.personal.characters import is_digit, is_letter, is_word, lower

# (prefix, least and greatest length of what follows, characters: w = letters, digits, "_", "-"; d = and "."; u = capitals, digits; x = hex)
PREFIXES = (
    ("AKIA", 16, 16, "u"), ("ASIA", 16, 16, "u"), ("ABIA", 16, 16, "u"), ("ACCA", 16, 16, "u"),  # Amazon
    ("ghp_", 36, 36, "w"), ("gho_", 36, 36, "w"), ("ghu_", 36, 36, "w"), ("ghs_", 36, 36, "w"), ("ghr_", 36, 76, "w"),  # GitHub
    ("github_pat_", 22, 93, "w"), ("glpat-", 20, 40, "w"), ("gldt-", 20, 40, "w"), ("glrt-", 20, 40, "w"),
    ("sk-ant-", 32, 128, "w"), ("sk-proj-", 32, 200, "w"), ("sk-svcacct-", 32, 200, "w"), ("sk-", 40, 64, "w"),  # model providers
    ("hf_", 34, 40, "w"), ("gsk_", 40, 64, "w"), ("r8_", 37, 40, "w"), ("pplx-", 40, 64, "w"),
    ("xoxb-", 24, 90, "w"), ("xoxp-", 24, 90, "w"), ("xoxa-", 24, 90, "w"), ("xoxr-", 24, 90, "w"), ("xoxs-", 24, 90, "w"),  # Slack
    ("xapp-", 24, 120, "w"), ("AIza", 35, 35, "w"), ("ya29.", 40, 300, "w"), ("GOCSPX-", 28, 28, "w"),  # Google
    ("sk_live_", 20, 120, "w"), ("rk_live_", 20, 120, "w"), ("sk_test_", 20, 120, "w"), ("whsec_", 32, 64, "w"),  # Stripe
    ("SG.", 60, 80, "d"), ("npm_", 36, 36, "w"), ("pypi-AgE", 50, 200, "w"), ("dckr_pat_", 27, 36, "w"), ("rubygems_", 48, 48, "x"),
    ("dop_v1_", 64, 64, "x"), ("doo_v1_", 64, 64, "x"), ("shpat_", 32, 32, "x"), ("shpss_", 32, 32, "x"), ("shpca_", 32, 32, "x"),
    ("EAACEdEose0cBA", 20, 200, "w"), ("sq0atp-", 22, 22, "w"), ("sq0csp-", 43, 43, "w"), ("key-", 32, 32, "x"),
    ("LTAI", 16, 24, "w"), ("AKID", 32, 36, "w"), ("dapi", 32, 32, "x"), ("PMAK-", 59, 59, "w"), ("lin_api_", 40, 40, "w"),
    ("glsa_", 41, 41, "w"), ("NRAK-", 27, 27, "u"), ("hvs.", 24, 120, "w"), ("atlasv1.", 60, 70, "w"), ("AGE-SECRET-KEY-1", 58, 58, "u"),
)  # fmt: skip
# What an assignment calls a secret, without "_" and "-".
NAMES = (
    "password passwd pwd passphrase secret secretkey apikey accesskey accesstoken authtoken privatekey clientsecret token apitoken".split()
)
_LEAST_BITS = 3 << 16  # a byte; English words have 2 to 3, 20 characters drawn from 62 about 4.1


def prefixes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(bytes, bounds, int64[n, 3] least, greatest, characters) of PREFIXES."""
    encoded = [prefix.encode() for prefix, *_ in PREFIXES]
    bounds = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(prefix) for prefix in encoded], out=bounds[1:])
    rules = np.array([(least, most, ord(kind)) for _, least, most, kind in PREFIXES], np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8).copy(), bounds, rules


def logarithms() -> np.ndarray:
    """int64[257]: n log2 n in 1/65536."""
    return np.array([0, *(round(n * math.log2(n) * 65536) for n in range(1, 257))], np.int64)


@numba.njit()
def is_random(data: Any, start: int, end: int, logs: Any, counts: Any) -> Any:
    """Whether the bytes have LEAST_BITS of entropy each. `counts` is zeroed scratch of 256, and left so."""
    size = min(end - start, 256)
    for i in range(start, start + size):
        counts[data[i]] += 1
    total = logs[size]
    for i in range(start, start + size):
        total -= logs[counts[data[i]]]
        counts[data[i]] = 0
    return bool(total >= _LEAST_BITS * size)


@numba.njit()
def _fits(byte: Any, kind: int) -> Any:
    if kind == 117:  # u
        return bool(65 <= byte <= 90 or 48 <= byte <= 57)
    if kind == 120:  # x
        return bool(48 <= byte <= 57 or 97 <= lower(byte) <= 102)
    return bool(is_word(byte) or byte == 45 or (byte == 46 and kind == 100))


@numba.njit()
def prefixed(data: Any, low: int, high: int, at: int, bytes_: Any, bounds: Any, rules: Any, logs: Any, scratch: Any) -> Any:
    """(start, end) of a provider's key that begins at `at`."""
    for i in range(len(rules)):
        begin, size = bounds[i], bounds[i + 1] - bounds[i]
        if data[at] != bytes_[begin] or at + size + rules[i, 0] > high:
            continue
        same = 1
        while same < size and data[at + same] == bytes_[begin + same]:
            same += 1
        if same < size:
            continue
        end = at + size
        while end < high and end - at - size <= rules[i, 1] and _fits(data[end], rules[i, 2]):
            end += 1
        while end > at + size and data[end - 1] in (45, 46):
            end -= 1
        length = end - at - size
        if (
            rules[i, 0] <= length <= rules[i, 1]
            and not (end < high and is_word(data[end]))
            and is_random(data, at + size, end, logs, scratch)
        ):
            digit = False
            for j in range(at + size, end):
                digit |= is_digit(data[j])
            if digit:
                return (at, end)
    return (at, at)


@numba.njit()
def json_web_token(data: Any, low: int, high: int, at: int, seen: Any) -> Any:
    """(start, end) of header.payload.signature in base64url; the header of every one begins with "eyJ", and so does the payload.

    `seen` int64[4], zeros at first: what the last call read. A start within the header that it read goes on where it stopped, so that a
    header of many beginnings is read once: where the header ends, where reading stopped, dots so far, where the part after them began."""
    end, dots, since = at, 0, at
    if at < seen[0]:
        if seen[2] and seen[0] - at < 10:
            return (at, at)
        end, dots = seen[1], seen[2]
        since = seen[3] if dots else at
    seen[0] = seen[0] if dots else 0
    while end < high and end - at < 8192:
        byte = data[end]
        if byte == 46:
            if dots == 2 or end - since < 10:
                break
            if dots == 0 and not (end + 3 < high and data[end + 1] == 101 and data[end + 2] == 121 and data[end + 3] == 74):
                break
            dots += 1
            since = end + 1
            if dots == 1:
                seen[0] = end
        elif not (is_word(byte) or byte == 45):
            break
        end += 1
    if dots == 0:
        seen[0] = end
    seen[1], seen[2], seen[3] = end, dots, since
    return (at, end) if dots == 2 and end - since >= 16 else (at, at)


@numba.njit()
def _stands(data: Any, high: int, at: int, word: Any) -> Any:
    if at + len(word) > high:
        return False
    for i in range(len(word)):
        if data[at + i] != word[i]:
            return False
    return True


@numba.njit()
def pem(data: Any, low: int, high: int, at: int) -> Any:
    """(start, end) of the key between "-----BEGIN … PRIVATE KEY-----" at `at` and its end line, at most 16 KB on; both lines stay."""
    none = (at, at)
    if not _stands(data, high, at, b"-----BEGIN "):
        return none
    line = at + 11
    while line < high and line - at < 60 and data[line] != 45 and data[line] != 10:
        line += 1
    if not _stands(data, high, line, b"-----") or line - 11 < at or not _stands(data, high, line - 11, b"PRIVATE KEY"):
        return none
    start = line + 5
    drawn = 0  # characters of base64: a placeholder has few
    for end in range(start, min(high, start + 16384)):
        drawn += is_word(data[end]) or data[end] in (43, 47)
        if data[end] == 45 and _stands(data, high, end, b"-----BEGIN "):
            return none
        if data[end] == 45 and _stands(data, high, end, b"-----END "):
            while start < end and data[start] in (10, 13, 32):
                start += 1
            while end > start and data[end - 1] in (10, 13, 32):
                end -= 1
            return (start, end) if drawn >= 40 else none
    return none


@numba.njit()
def url_password(data: Any, low: int, high: int, at: int) -> Any:
    """(start, end) of the password in "scheme://user:password@host"; `at` is the first "/" of two."""
    none = (at, at)
    if at == low or data[at - 1] != 58 or at + 2 >= high or data[at + 1] != 47:
        return none
    start = 0
    for i in range(at + 2, min(high, at + 258)):
        byte = data[i]
        if byte == 58 and start == 0:
            start = i + 1
        elif byte == 64:
            hidden = start and (data[start] in (36, 60, 123, 37, 42, 91) or i - start < 3)  # ${PASSWORD}, <password>, {}, %s, ***
            return (start, i) if start > at + 3 and i > start and not hidden else none
        elif byte <= 32 or byte in (47, 34, 39, 60, 62, 96) or byte >= 0x7F:
            return none
    return none


@numba.njit()
def assigned(data: Any, low: int, high: int, at: int, words: Any, bounds: Any, logs: Any, scratch: Any) -> Any:
    """(start, end) of the value in quotes that is assigned to a name that ends in one of NAMES; `at` is the "=" or ":"."""
    none = (at, at)
    start = at + 1
    while start < high and start - at < 4 and data[start] in (32, 9, 61, 62):  # := => ==
        start += 1
    if start >= high or data[start] not in (34, 39, 96):
        return none
    quote = data[start]
    start += 1
    end = start
    digit = letter = False
    while end < high and end - start <= 200 and data[end] != quote:
        byte = data[end]
        if byte <= 32 or byte >= 0x7F or byte in (36, 60, 62, 123, 125, 92, 40, 41):  # blanks, $ < > { } \ ( ): a template, not a value
            return none
        digit |= is_digit(byte)
        letter |= is_letter(byte)
        end += 1
    size = end - start
    if end >= high or size < 8 or size > 200 or not (digit and letter) or not _names_secret(data, low, at, words, bounds):
        return none
    for i in range(start, end - 2):  # "example", "xxx", "your…"
        if data[i] == data[i + 1] == data[i + 2]:
            return none
    return (start, end) if is_random(data, start, end, logs, scratch) or size < 16 else none


@numba.njit()
def _names_secret(data: Any, low: int, at: int, words: Any, bounds: Any) -> Any:
    """Whether the identifier before `at` ends in one of the names, "_" and "-" left out."""
    end = at
    while end > low and at - end < 4 and data[end - 1] in (32, 9, 34, 39, 58, 93):  # blanks, quotes, ":" of ":=", "]"
        end -= 1
    for word in range(len(bounds) - 1):
        i, j = bounds[word + 1] - 1, end - 1
        while i >= bounds[word] and j >= low:
            if data[j] in (95, 45) and i < bounds[word + 1] - 1:
                j -= 1
                continue
            if lower(data[j]) != words[i]:
                break
            i -= 1
            j -= 1
        if i < bounds[word]:
            if j >= low and data[j] in (95, 45):
                j -= 1
            return not (j - 5 >= low and _is_public(data, j - 5))
    return False


@numba.njit()
def _is_public(data: Any, start: int) -> Any:
    """Whether "public" stands there: such a key is everybody's."""
    for i in range(6):
        if lower(data[start + i]) != (112, 117, 98, 108, 105, 99)[i]:
            return False
    return True
