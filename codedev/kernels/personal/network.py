"""Finders of e-mail addresses, IP addresses and user names (see find.py).

E-mail: the addr-spec of RFC 5322 without quotes and comments, its domain with a top-level domain that exists (two letters of a country,
or one of the generic ones that carry nearly all mail). Addresses of the domains that RFC 2606 keeps for examples are nobody's.
IP: dotted IPv4 and RFC 4291 IPv6, global addresses alone (IANA's special-purpose registries).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.personal.characters import is_digit, is_letter, is_word, lower

# Generic top-level domains; a two-letter one is a country's (ISO 3166, and the few beside it).
_GENERIC = (
    "com org net edu gov mil int info biz name pro museum aero coop jobs mobi travel tel cat asia post app dev shop online site "
    "store tech xyz club top live news blog cloud email space website world today agency company systems solutions design digital "
    "network media group center studio academy education school college institute foundation ngo health care clinic law legal "
    "finance bank insurance art life global one page work works team software services support zone plus ltd gmbh inc llc "
    "consulting capital ventures partners international press photography video music games game guru expert tools run link chat "
    "social wiki science university berlin london paris tokyo nyc wien hamburg koeln moscow eus gal scot wales bzh corsica quebec "
    "vip win bid loan men party review trade date icu fun host arpa "
)
_COUNTRIES = (
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf cg ch ci "
    "ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn "
    "gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc "
    "li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz "
    "om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz "
    "tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw "
)


def top_level_domains() -> np.ndarray:
    """Sorted uint64 hashes of the top-level domains."""
    names = {*_GENERIC.split(), *_COUNTRIES.split()}
    return np.array(sorted(map(_hashed, names)), np.uint64)


def _hashed(name: str) -> int:
    """What `hash_name` makes of it; in Python's integers, since compiling that takes half a second."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return value


@numba.njit()
def hash_name(data: Any, start: int, end: int) -> Any:
    """FNV-1a of the lower-cased bytes."""
    value = np.uint64(0xCBF29CE484222325)
    for at in range(start, end):
        value = (value ^ np.uint64(lower(data[at]))) * np.uint64(0x100000001B3)
    return value


@numba.njit()
def email(data: Any, low: int, high: int, at: int, domains: Any) -> Any:
    """(start, end) of the address around the "@" at `at`; start = end where there is none."""
    none = (at, at)
    start = at
    while start > low and at - start < 64:
        byte = data[start - 1]
        if not (is_word(byte) or byte in (46, 37, 43, 45, 39, 61, 38)):  # . % + - ' = &
            break
        start -= 1
    while start < at and (data[start] in (46, 45, 39, 61, 38, 37)):  # '=' and '&' end what stands before an address in a query
        start += 1
    for i in range(start, at):  # name=me@home.org, 'me@home.org'
        if data[i] in (61, 38):
            start = i + 1
    while start < at and data[start] in (39, 46, 45):
        start += 1
    if start == at or data[at - 1] == 46:
        return none
    end, label, dots = at + 1, at + 1, 0
    last = at + 1
    while end < high and end - at < 255:
        byte = data[end]
        if byte == 46:
            if end == label or data[end - 1] == 45 or end + 1 >= high or not (is_letter(data[end + 1]) or is_digit(data[end + 1])):
                break
            dots += 1
            label = end + 1
        elif not (is_letter(byte) or is_digit(byte) or byte == 45):
            break
        end += 1
    while end > label and data[end - 1] == 45:
        end -= 1
    if dots == 0 or (end < high and data[end] in (95, 64)):
        return none
    # The longest beginning whose last label is a top-level domain: "me@home.org.The" ends before the full stop.
    for _ in range(3):
        if end - label >= 2 and is_letter(data[label]):
            name = hash_name(data, label, end)
            found = np.searchsorted(domains, name)
            if found < len(domains) and domains[found] == name:
                break
        end = label - 1
        label = end
        while label > last and data[label - 1] != 46:
            label -= 1
        if label <= last:
            return none
    else:
        return none
    if _is_example(data, last, end):
        return none
    if end < high and data[end] == 58 and at - start == 3 and data[start] == 103 and data[start + 1] == 105 and data[start + 2] == 116:
        return none  # git@host.org:path names a repository, nobody
    return (start, end)


@numba.njit()
def _is_example(data: Any, start: int, end: int) -> Any:
    """Whether the domain ends in example.com, example.net or example.org, or is of .example, .invalid or .test."""
    size = end - start
    if size < 11 or (size > 11 and data[end - 12] != 46):
        return False
    kind = (lower(data[end - 3]), lower(data[end - 2]), lower(data[end - 1]))
    if data[end - 4] != 46 or kind not in ((99, 111, 109), (110, 101, 116), (111, 114, 103)):
        return False
    word = (101, 120, 97, 109, 112, 108, 101)
    for i in range(7):
        if lower(data[end - 11 + i]) != word[i]:
            return False
    return True


@numba.njit()
def ipv4(data: Any, low: int, high: int, at: int) -> Any:
    """(start, end) of the global IPv4 address that begins at the digit `at`. Four numbers below 10 are a version or a section."""
    none = (at, at)
    if at > low:
        before = data[at - 1]
        if is_word(before) or before in (46, 45, 64):
            return none
    end = at
    greatest = 0
    first = second = third = 0
    for part in range(4):
        start = end
        value = 0
        while end < high and is_digit(data[end]) and end - start < 4:
            value = value * 10 + int(data[end]) - 48
            end += 1
        size = end - start
        if size == 0 or size > 3 or value > 255 or (size > 1 and data[start] == 48):
            return none
        greatest = max(greatest, value)
        if part == 0:
            first = value
        elif part == 1:
            second = value
        elif part == 2:
            third = value
        if part < 3:
            if end >= high or data[end] != 46:
                return none
            end += 1
    if end < high and (
        is_word(data[end]) or (data[end] in (46, 45) and end + 1 < high and (is_word(data[end + 1]) or data[end + 1] == 46))
    ):
        return none
    if at - 2 >= low and data[at - 1] == 32 and is_digit(data[at - 2]) and _is_decimal(data, high, end):
        return none  # a drawing's figures, run together
    if greatest < 10 or not _is_global_v4(first, second, third):
        return none
    if _is_version(data, low, at):
        return none
    return (at, end)


@numba.njit()
def _is_decimal(data: Any, high: int, end: int) -> Any:
    """Whether a blank at `end` and a decimal fraction follow, whose digits end at no second point."""
    at, dots = end + 1, 0
    if at >= high or data[end] != 32:
        return False
    if at + 2 < high and data[at] == 48 and data[at + 1] == 32:  # a zero between
        at += 2
    at += data[at] == 45
    while at < high and at - end < 12 and (is_digit(data[at]) or data[at] == 46):
        dots += data[at] == 46
        at += 1
    return dots == 1


@numba.njit()
def _is_version(data: Any, low: int, at: int) -> Any:
    """Whether "version", "release" or "v" stands right before, over blanks and punctuation."""
    end = at
    while end > low and at - end < 4 and not is_letter(data[end - 1]):
        end -= 1
    if end > low and lower(data[end - 1]) == 118 and (end - 1 == low or not is_letter(data[end - 2])):
        return True
    for word in ((118, 101, 114, 115, 105, 111, 110), (114, 101, 108, 101, 97, 115, 101)):
        if end - 7 >= low:
            same = True
            for i in range(7):
                same &= lower(data[end - 7 + i]) == word[i]
            if same:
                return True
    return False


@numba.njit()
def _is_global_v4(a: int, b: int, c: int) -> Any:
    """By the IANA IPv4 special-purpose address registry, multicast and reserved space."""
    if a in (0, 10, 127) or a >= 224:
        return False
    if a == 100:
        return not 64 <= b <= 127
    if a == 169:
        return b != 254
    if a == 172:
        return not 16 <= b <= 31
    if a == 192:
        return not (b == 168 or (b == 0 and c in (0, 2)) or (b == 88 and c == 99))
    if a == 198:
        return not (b in (18, 19) or (b == 51 and c == 100))
    return not (a == 203 and b == 0 and c == 113)


@numba.njit()
def ipv6(data: Any, low: int, high: int, at: int) -> Any:
    """(start, end) of the global unicast IPv6 address (2000::/3) that begins at `at`, a "2" or "3"."""
    none = (at, at)
    if at > low and (is_word(data[at - 1]) or data[at - 1] in (58, 46, 45)):
        return none
    groups = 0
    gap = -1  # groups before "::"
    end = at
    first = second = 0
    while True:
        start = end
        value = 0
        while end < high and end - start < 5 and (is_digit(data[end]) or 97 <= lower(data[end]) <= 102):
            byte = lower(data[end])
            value = value * 16 + (byte - 48 if byte <= 57 else byte - 87)
            end += 1
        size = end - start
        if size > 4 or (groups == 0 and size != 4):
            return none
        if size == 0:
            if gap != groups:
                return none
            break
        if groups == 0:
            first = value
        elif groups == 1 and gap < 0:
            second = value
        groups += 1
        if groups == 8 or end + 1 >= high or data[end] != 58:
            break
        if data[end + 1] == 58:
            if gap >= 0:
                return none
            gap = groups
            end += 2
        elif is_digit(data[end + 1]) or 97 <= lower(data[end + 1]) <= 102:
            end += 1
        else:
            break
    if (groups != 8) if gap < 0 else (groups > 7):
        return none
    if end < high and (is_word(data[end]) or data[end] == 58):
        return none
    if not 0x2000 <= first <= 0x3FFF or first == 0x2002 or first == 0x3FFF:
        return none
    if first == 0x2001 and (second == 0xDB8 or second < 0x200):  # documentation; IETF protocol assignments
        return none
    return (at, end)


@numba.njit()
def reddit_user(data: Any, low: int, high: int, at: int) -> Any:
    """(start, end) of the name after the "u/" at `at`: 3 to 20 letters, digits, underscores and dashes."""
    if at + 2 >= high or data[at + 1] != 47:
        return (at, at)
    if at > low and (is_word(data[at - 1]) or (data[at - 1] == 47 and at - 1 > low and (is_word(data[at - 2]) or data[at - 2] == 47))):
        return (at, at)
    if at > low and data[at - 1] in (46, 45, 58, 64):
        return (at, at)
    end = at + 2
    while end < high and (is_word(data[end]) or data[end] == 45):
        end += 1
    size = end - at - 2
    if size < 3 or size > 20 or (end < high and data[end] == 47):
        return (at, at)
    return (at + 2, end)


@numba.njit()
def header_name(data: Any, low: int, high: int, at: int, words: Any, bounds: Any) -> Any:
    """(start, end) of the name that a mail header gives before an address in angle brackets; `at` is the first byte of a line."""
    for word in range(len(bounds) - 1):
        size = bounds[word + 1] - bounds[word]
        if at + size >= high:
            continue
        i = 0
        while i < size and lower(data[at + i]) == words[bounds[word] + i]:
            i += 1
        if i < size:
            continue
        start = at + size
        while start < high and data[start] in (32, 9, 34):
            start += 1
        end = start
        while end < high and end - start < 200 and data[end] not in (60, 10, 64):  # < line end @
            end += 1
        if end >= high or data[end] != 60:
            return (at, at)
        sign = end + 1  # List<String> is no address
        while sign < high and sign - end < 255 and data[sign] not in (64, 62, 10):
            sign += 1
        if sign >= high or data[sign] != 64:
            return (at, at)
        while end > start and data[end - 1] in (32, 9, 34):
            end -= 1
        return (start, end)
    return (at, at)
