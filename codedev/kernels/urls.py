"""URLs in canonical form: what two spellings of one address have in common. A key to compare, no address to open.

    scheme      http:// and https:// go, others stay in lower case; what has no "://" is taken as it is but for the rules of paths, and
                what has a scheme of its own kind (data:, javascript:, mailto:, urn:) but for percent-encoding
    host        lower case (ASCII), without "www.", a full stop at the end, and of http and https the ports 80 and 443; user and password
                stay
    path        %XX of letters, digits and -._~ decoded, other %XX in capitals; blanks, controls, bytes beyond ASCII and a % of none encoded
                (RFC 3986 §6.2.2); ;jsessionid=… goes (to the next / or ;); index.html and its like at the end go, then slashes at the end
    query       parameters sorted by bytes; empty ones, tracking (utm_…, fbclid, gclid, …) and session ids go; more than 64 stay as they are
    fragment    goes, but for #!…

One pass, 4 million short ones a second a core.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

MAX_PARAMETERS = 64

# Names of parameters that say where a reader came from or who he is, never what the page shows. Compared in lower case.
TRACKING = (
    *("fbclid", "gclid", "gclsrc", "dclid", "gbraid", "wbraid", "msclkid", "yclid", "ymclid", "twclid", "ttclid", "igshid", "igsh"),
    *("mc_cid", "mc_eid", "_hsenc", "_hsmi", "__hssc", "__hstc", "__hsfp", "hsctatracking", "mkt_tok", "_ga", "_gl", "_openstat", "s_cid"),
    *("oly_anon_id", "oly_enc_id", "vero_id", "vero_conv", "wickedid", "rb_clickid", "ml_subscriber", "ml_subscriber_hash", "srsltid"),
    *("pk_campaign", "pk_kwd", "pk_keyword", "pk_source", "pk_medium", "pk_content", "pk_cid", "pk_vid"),  # pk_id may be a primary key
    *("li_fat_id", "epik", "ef_id", "s_kwcid", "cmpid", "icid", "ncid"),
    *("phpsessid", "jsessionid", "sessionid", "session_id", "cfid", "cftoken", "zenid", "oscsid"),
)
PREFIXES = ("utm_", "mtm_", "hsa_", "aspsessionid")
INDEX = ("index.html", "index.htm", "index.xhtml", "index.shtml", "index.php", "index.jsp", "index.asp", "index.aspx", "default.asp",
         "default.aspx", "default.htm", "default.html")  # fmt: skip


def _set(names: tuple[str, ...]) -> np.ndarray:
    """uint64[sorted]: FNV-1a of the names."""
    return np.array(sorted(_fnv(name.encode()) for name in names), np.uint64)


def _fnv(name: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in name:
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return value


_TRACKING, _PREFIXES, _INDEX = _set(TRACKING), _set(PREFIXES), _set(INDEX)
_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_OUT: Any = numba.types.Array(numba.uint8, 1, "C")
_HEX = np.frombuffer(b"0123456789ABCDEF", np.uint8)


def canonical(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(data uint8[bytes], offsets int64[urls + 1]) of the canonical forms."""
    sizes = np.diff(offsets)
    out = np.empty(3 * int(sizes.sum()) + 16, np.uint8)
    scratch = np.empty(3 * int(sizes.max(initial=0)) + 16, np.uint8)
    out_offsets = np.zeros(len(offsets), np.int64)
    size = _canonical(data, offsets, out, out_offsets, scratch)
    return out[:size], out_offsets


@numba.njit(numba.boolean(numba.types.Array(numba.uint64, 1, "C", readonly=True), numba.uint64), nogil=True, cache=True)
def _holds(names: Any, value: Any) -> Any:
    low, high = 0, len(names)
    while low < high:
        middle = (low + high) // 2
        if names[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low < len(names) and names[low] == value


@numba.njit(numba.int64(numba.uint8), nogil=True, cache=True)
def _digit(byte: Any) -> Any:
    if 48 <= byte <= 57:
        return np.int64(byte) - 48
    if 65 <= byte <= 70:
        return np.int64(byte) - 55
    return np.int64(byte) - 87 if 97 <= byte <= 102 else np.int64(-1)


@numba.njit(numba.int64(_BYTES, numba.int64, numba.int64, _OUT, numba.int64), nogil=True, cache=True)
def _encoded(data: Any, at: Any, end: Any, out: Any, size: Any) -> Any:
    """Writes the bytes in the normal form of percent-encoding; returns where it ends."""
    while at < end:
        byte = data[at]
        if byte == 37 and at + 2 < end and _digit(data[at + 1]) >= 0 and _digit(data[at + 2]) >= 0:
            code = np.uint8(16 * _digit(data[at + 1]) + _digit(data[at + 2]))
            at += 3
            plain = 48 <= code <= 57 or 65 <= code <= 90 or 97 <= code <= 122 or code == 45 or code == 46 or code == 95 or code == 126
        else:
            code = byte
            at += 1
            plain = 32 < code < 127 and code != 37
        if plain:
            out[size] = code
            size += 1
        else:
            out[size], out[size + 1], out[size + 2] = 37, _HEX[code >> 4], _HEX[code & 15]
            size += 3
    return size


@numba.njit(numba.boolean(_OUT, numba.int64, numba.int64), nogil=True, cache=True)
def _tracks(query: Any, at: Any, end: Any) -> Any:
    """Whether a parameter is one to leave out, by its name."""
    value = np.uint64(0xCBF29CE484222325)
    for place in range(at, end):
        byte = query[place]
        if byte == 61:
            break
        if 65 <= byte <= 90:
            byte = np.uint8(byte + 32)
        value = (value ^ np.uint64(byte)) * np.uint64(0x100000001B3)
        if place - at < 12 and _holds(_PREFIXES, value):
            return True
    return _holds(_TRACKING, value)


@numba.njit(numba.boolean(_OUT, numba.int64, numba.int64, numba.int64, numba.int64), nogil=True, cache=True)
def _less(query: Any, at: Any, end: Any, other: Any, other_end: Any) -> Any:
    while at < end and other < other_end:
        if query[at] != query[other]:
            return query[at] < query[other]
        at += 1
        other += 1
    return at == end and other < other_end


@numba.njit(numba.boolean(_BYTES, numba.int64, numba.int64, numba.types.Array(numba.uint8, 1, "C", readonly=True)), nogil=True, cache=True)
def _begins(data: Any, at: Any, end: Any, word: Any) -> Any:
    if at + len(word) > end:
        return False
    for step in range(len(word)):
        byte = data[at + step]
        if (byte + 32 if 65 <= byte <= 90 else byte) != word[step]:
            return False
    return True


@numba.njit(numba.boolean(_BYTES, numba.int64, numba.int64, numba.int64), nogil=True, cache=True)
def _is_opaque(data: Any, at: Any, colon: Any, end: Any) -> Any:
    """Whether [at:colon] is a scheme without a host, such as data: or mailto:, and no host before a port: no dot in it, no digit next."""
    if colon == at or colon >= end or data[colon] != 58 or (colon + 1 < end and 48 <= data[colon + 1] <= 57):
        return False
    for place in range(at, colon):
        byte = data[place] | 32
        if not (97 <= byte <= 122 or (place > at and (48 <= data[place] <= 57 or data[place] == 43 or data[place] == 45))):
            return False
    return True


_SESSION, _WWW = np.frombuffer(b";jsessionid=", np.uint8), np.frombuffer(b"www.", np.uint8)
_HTTP, _HTTPS = np.frombuffer(b"http://", np.uint8), np.frombuffer(b"https://", np.uint8)


@numba.njit(numba.int64(_BYTES, _OFFSETS, _OUT, numba.int64[::1], _OUT), nogil=True, cache=True)
def _canonical(data: Any, offsets: Any, out: Any, out_offsets: Any, query: Any) -> Any:
    size = np.int64(0)
    starts, ends = np.empty(MAX_PARAMETERS, np.int64), np.empty(MAX_PARAMETERS, np.int64)
    for url in range(len(offsets) - 1):
        at, end = offsets[url], offsets[url + 1]
        while at < end and data[at] <= 32:
            at += 1
        while end > at and data[end - 1] <= 32:
            end -= 1
        # Scheme
        hosted = web = True
        if _begins(data, at, end, _HTTP):
            at += 7
        elif _begins(data, at, end, _HTTPS):
            at += 8
        else:
            place = at
            while place < end and data[place] != 58 and data[place] != 47 and data[place] != 63 and data[place] != 35:
                place += 1
            hosted = place + 2 < end and data[place] == 58 and data[place + 1] == 47 and data[place + 2] == 47
            web = False
            if not hosted and _is_opaque(data, at, place, end):
                size = _encoded(data, at, end, out, size)
                out_offsets[url + 1] = size
                continue
            if hosted:
                while at < place + 3:
                    byte = data[at]
                    out[size] = byte + 32 if 65 <= byte <= 90 else byte
                    size += 1
                    at += 1
        # Host
        if hosted:
            stop, host = at, at
            while stop < end and data[stop] != 47 and data[stop] != 63 and data[stop] != 35:
                if data[stop] == 64:
                    host = stop + 1
                stop += 1
            size = _encoded(data, at, host, out, size)
            if _begins(data, host, stop, _WWW):
                place = host + 4
                while place < stop and data[place] != 46:
                    place += 1
                host = host + 4 if place + 1 < stop else host  # www.com is a host of its own
            colon = stop
            while colon > host and 48 <= data[colon - 1] <= 57:
                colon -= 1
            last = stop
            if colon > host and data[colon - 1] == 58:
                port: Any = np.int64(0)
                for place in range(colon, stop):
                    port = min(10 * port + np.int64(data[place]) - 48, 1 << 20)
                last = colon - 1 if stop == colon or (web and (port == 80 or port == 443)) else stop
                if last == colon - 1 and last > host and data[last - 1] == 46:
                    last -= 1
            elif stop > host and data[stop - 1] == 46:
                last = stop - 1
            for place in range(host, last):
                byte = data[place]
                out[size] = byte + 32 if 65 <= byte <= 90 else byte
                size += 1
            at = stop
        # Path
        path = size
        stop = at
        while stop < end and data[stop] != 63 and data[stop] != 35:
            stop += 1
        place = at
        while place < stop:
            if data[place] == 59 and _begins(data, place, stop, _SESSION):
                size = _encoded(data, at, place, out, size)
                place += 1
                while place < stop and data[place] != 47 and data[place] != 59:
                    place += 1
                at = place
            else:
                place += 1
        size = _encoded(data, at, stop, out, size)
        last = size
        while last > path and out[last - 1] != 47:
            last -= 1
        if last > path and size - last <= 12:
            value = np.uint64(0xCBF29CE484222325)
            for place in range(last, size):
                byte = out[place]
                byte = np.uint8(byte + 32) if 65 <= byte <= 90 else byte
                value = (value ^ np.uint64(byte)) * np.uint64(0x100000001B3)
            if _holds(_INDEX, value):
                size = last
        while size > path and out[size - 1] == 47:
            size -= 1
        # Query
        at = stop
        if at < end and data[at] == 63:
            stop = at + 1
            while stop < end and data[stop] != 35:
                stop += 1
            filled = _encoded(data, at + 1, stop, query, 0)
            count: Any = np.int64(0)
            total: Any = np.int64(0)
            place = np.int64(0)
            while place < filled:
                close = place
                while close < filled and query[close] != 38:
                    close += 1
                if close > place and not _tracks(query, place, close):
                    total += 1
                    if count < MAX_PARAMETERS:
                        slot = count
                        while slot > 0 and _less(query, place, close, starts[slot - 1], ends[slot - 1]):
                            starts[slot], ends[slot] = starts[slot - 1], ends[slot - 1]
                            slot -= 1
                        starts[slot], ends[slot] = place, close
                        count += 1
                place = close + 1
            if total > MAX_PARAMETERS:
                count, starts[0], ends[0] = 1, 0, filled
            for number in range(count):
                out[size] = 63 if number == 0 else 38
                size += 1
                for place in range(starts[number], ends[number]):
                    out[size] = query[place]
                    size += 1
            at = stop
        if at + 1 < end and data[at] == 35 and data[at + 1] == 33:
            size = _encoded(data, at, end, out, size)
        out_offsets[url + 1] = size
    return size
