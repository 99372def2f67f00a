"""Finders of payment cards, bank accounts and telephone numbers (see find.py).

Card: ISO/IEC 7812 (Luhn) with the issuers' prefixes and lengths. IBAN: ISO 13616 with the length of each country and the remainder 97.
Telephone: E.164 with a "+" or "00"; the North American plan; numbers with a trunk zero or an area code in parentheses; any plausible run of
digits after a word that announces one; Chinese mobile numbers beside Chinese text.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.personal.characters import begins, ends, is_digit, is_letter, is_word, told_before

# Separators between groups of digits.
BLANK, DASH, DOT, PARENTHESIS, SLASH = 1, 2, 3, 4, 5
MOST_DIGITS, MOST_GROUPS = 24, 12

PHONE_WORDS = (
    "tel phone call fax mobile cell whatsapp telephone handy telefon telefono teléfono téléphone telefone puhelin telefoon mobil móvil "
    "portable celular celulare office text reach dial ring contact 电话 手机 联系 電話 携帯 전화 휴대폰 телефон тел моб هاتف फोन"
).split()  # "number" alone names orders and tickets too
# ISO 13616 registry: country code -> length.
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28, "CH": 21,
    "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18,
    "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23,
    "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27,
    "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28,
    "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip


def iban_lengths() -> np.ndarray:
    """uint8[26 * 26]: the length of a country's IBAN, 0 where it has none."""
    lengths = np.zeros(26 * 26, np.uint8)
    for code, length in IBAN_LENGTHS.items():
        lengths[(ord(code[0]) - 65) * 26 + ord(code[1]) - 65] = length
    return lengths


@numba.njit()
def read_groups(data: Any, high: int, at: int, digits: Any, ends_of: Any, counts: Any, separators: Any) -> int:
    """The groups of digits from `at` on, at most MOST_GROUPS and MOST_DIGITS: their number. Fills `digits` (values), and for each group
    where it ends (byte and digits so far) and the separator before it. 0 where the first run is longer than any number here."""
    groups = total = 0
    separator = 0
    while groups < MOST_GROUPS:
        start = at
        while at < high and is_digit(data[at]):
            if total == MOST_DIGITS:
                return groups
            digits[total] = data[at] - 48
            total += 1
            at += 1
        if at == start:
            return groups
        ends_of[groups], counts[groups], separators[groups] = at, total, separator
        groups += 1
        separator = 0
        if at < high:
            byte = data[at]
            if byte == 32 or byte == 45 or byte == 46 or byte == 47:
                separator = BLANK if byte == 32 else DASH if byte == 45 else DOT if byte == 46 else SLASH
                at += 1
                if at < high and data[at] == 40 and byte == 32 and total <= 3:  # "+44 (0)20"
                    separator = PARENTHESIS
                    at += 1
            elif byte == 40 or byte == 41:
                separator = PARENTHESIS
                at += 1
                if at < high and (data[at] == 32 or data[at] == 45):
                    at += 1
            elif byte == 0xC2 and at + 1 < high and data[at + 1] == 0xA0:  # no-break space
                separator = BLANK
                at += 2
            elif byte == 0xE2 and at + 2 < high and data[at + 1] == 0x80 and 0x90 <= data[at + 2] <= 0x93:  # dashes
                separator = DASH
                at += 3
        if separator == 0:
            return groups
    return groups


@numba.njit()
def luhn(digits: Any, count: int) -> Any:
    total = 0
    for i in range(count):
        value = int(digits[count - 1 - i])
        if i % 2:
            value = 2 * value - 9 if value > 4 else 2 * value
        total += value
    return total % 10 == 0


@numba.njit()
def _is_card(digits: Any, count: int) -> Any:
    """Prefix and length of an issuer, and Luhn's sum."""
    if count < 12 or count > 19:
        return False
    two = int(digits[0]) * 10 + int(digits[1])
    four = two * 100 + int(digits[2]) * 10 + int(digits[3])
    if digits[0] == 4:
        fits = count in (13, 16, 19)
    elif 51 <= two <= 55 or 2221 <= four <= 2720:
        fits = count == 16
    elif two in (34, 37):
        fits = count == 15
    elif two in (36, 38, 39) or 3000 <= four <= 3059:
        fits = count == 14 or (count >= 16 and two != 36)
    elif two == 35 or four in (1800, 2131):
        fits = count == 15 or count == 16
    elif four == 6011 or 6440 <= four <= 6599 or two == 62:
        fits = count >= 16
    else:
        fits = four in (5018, 5020, 5038, 5893, 6304, 6759, 6761, 6762, 6763)
    return fits and luhn(digits, count)


@numba.njit()
def card(data: Any, low: int, high: int, at: int, groups: int, digits: Any, ends_of: Any, counts: Any, separators: Any) -> Any:
    """(start, end): one run of digits, or groups of three to seven with one separator between all of them."""
    if at > low and data[at - 1] in (47, 61, 35, 37, 46, 58, 36):  # parts of addresses, numbers and money: / = # % . : $
        return (at, at)
    used = 0
    for group in range(groups):
        size = counts[group] - (counts[group - 1] if group else 0)
        if groups > 1 and group > 0 and (separators[group] != separators[1] or separators[group] > DASH):
            break
        if group > 0 and (size < 2 or size > 7):
            break
        used = group + 1
    for group in range(used - 1, -1, -1):
        first = counts[0]
        if group > 0 and (first < 4 or first > 6 or group > 4):  # more and shorter groups are a drawing's figures
            continue
        after = data[ends_of[group]] if ends_of[group] < high else 0
        if _is_card(digits, counts[group]) and ends(data, high, ends_of[group]) and after != 42 and after != 94:  # a factor: * ^
            return (at, ends_of[group])
    return (at, at)


@numba.njit()
def iban(data: Any, low: int, high: int, at: int, lengths: Any) -> Any:
    """(start, end) of the IBAN that begins at `at` with two letters, written in one piece or in groups of four."""
    none = (at, at)
    if at + 15 > high or not begins(data, low, at) or not (is_letter(data[at + 1]) and is_digit(data[at + 2]) and is_digit(data[at + 3])):
        return none
    length = int(lengths[((int(data[at]) & 0xDF) - 65) * 26 + (int(data[at + 1]) & 0xDF) - 65])
    if length == 0:
        return none
    head = rest = 0  # remainders of the first four characters, which go last, and of the others
    end, taken = at, 0
    while taken < length:
        if end >= high:
            return none
        byte = data[end]
        if byte == 32 and taken % 4 == 0 and taken:
            end += 1
            continue
        if is_digit(byte):
            value = int(byte) - 48
        elif is_letter(byte):
            value = (int(byte) & 0xDF) - 55
        else:
            return none
        if taken < 4:
            head = (head * (100 if value > 9 else 10) + value) % 97
        else:
            rest = (rest * (100 if value > 9 else 10) + value) % 97
        taken += 1
        end += 1
    if (rest * 1_000_000 + head) % 97 != 1 or (end < high and is_word(data[end])):  # two letters are four digits there
        return none
    return (at, end)


@numba.njit()
def phone(
    data: Any, low: int, clear: int, high: int, at: int, groups: int, digits: Any, ends_of: Any, counts: Any, separators: Any, words: Any,
    bounds: Any,
) -> Any:  # fmt: skip
    """(start, end) of the telephone number whose first digit is at `at`, with its "+", its parenthesis and its extension."""
    none = (at, at)
    start = at
    opened = plus = False
    if start > clear and data[start - 1] == 40:
        opened = True
        start -= 1
    if start > clear and data[start - 1] == 43:
        plus = True
        start -= 1
        if start > clear and data[start - 1] == 40:
            start -= 1
            opened = True
    if not begins(data, clear, start) or (
        start > clear and data[start - 1] in (47, 61, 63, 35, 37, 36, 40, 58) and not plus and data[start - 1] != 58
    ):
        return none
    for last in range(groups - 1, -1, -1):
        total = counts[last]
        if opened and not plus and (last == 0 or separators[1] != PARENTHESIS):
            start, opened = at, False  # the parenthesis is the sentence's
        if total < 7 or total > 17 or not _may_end(data, high, ends_of[last]):
            continue
        if _is_phone(data, low, clear, high, start, last, total, plus, opened, digits, ends_of, counts, separators, words, bounds):
            return (start, _extension(data, high, ends_of[last]))
    return none


@numba.njit()
def _may_end(data: Any, high: int, end: int) -> Any:
    if end < high and data[end] in (120, 88) and end + 1 < high and is_digit(data[end + 1]):  # x123
        return True
    return ends(data, high, end) and not (end + 1 < high and data[end] in (47, 58, 42, 94) and not is_letter(data[end + 1]))


@numba.njit()
def _extension(data: Any, high: int, end: int) -> int:
    """The end of "x123" or " ext. 123" behind a number, or `end`."""
    at = end
    while at < high and data[at] == 32 and at - end < 2:
        at += 1
    if at < high and (data[at] | 32) == 120:
        at += 1
    elif at + 3 < high and (data[at] | 32) == 101 and (data[at + 1] | 32) == 120 and (data[at + 2] | 32) == 116:
        at += 3
        while at < high and data[at] in (32, 46) and at - end < 8:
            at += 1
    else:
        return end
    first = at
    while at < high and at - first < 7 and is_digit(data[at]):
        at += 1
    return at if 1 <= at - first <= 6 and not (at < high and is_word(data[at])) else end


@numba.njit()
def _is_phone(
    data: Any, low: int, clear: int, high: int, start: int, last: int, total: int, plus: bool, opened: bool, digits: Any, ends_of: Any,
    counts: Any, separators: Any, words: Any, bounds: Any,
) -> Any:  # fmt: skip
    groups = last + 1
    kinds = singles = 0  # bits of the separators in use; groups of one digit
    for group in range(1, groups):
        kinds |= 1 << separators[group]
        singles += counts[group] - counts[group - 1] == 1
    if singles > 1 + plus or (
        kinds & (1 << DOT) and (groups < 3 or singles or (counts[0] == 1 and digits[0] == 0))
    ):  # a row of figures; decimals
        return False
    if kinds & (1 << SLASH) and (groups > 2 or counts[0] < 3):  # a date, or several numbers
        return False
    if plus:
        return digits[0] != 0 and 8 <= total <= 15
    if total >= 10 and digits[0] == 0 and digits[1] == 0 and digits[2] != 0 and groups >= 2 and counts[0] > 1:  # not 0 0 1024 1024
        zone = digits[2] * 10 + digits[3]
        national = counts[0] <= 5 and digits[counts[0]] == 0 and separators[1] == BLANK  # code points: 0041 0301 0327
        return zone not in (28, 83, 89) and not national  # zones of no country
    if total > 15:
        return False
    first = counts[0]
    # North America: an area code, an exchange, four digits.
    country = 1 if digits[0] == 1 and first in (1, 4) else 0
    if total == 10 + country and groups == 3 + (first == 1) and digits[country] > 1 and digits[country + 3] > 1:
        split = 1 if first == 1 else 0
        alike = separators[split + 2] == DASH or (separators[split + 2] == separators[split + 1] != PARENTHESIS) or opened
        if counts[split] == 3 + country and counts[split + 1] == 6 + country and alike and separators[split + 2] != PARENTHESIS:
            return opened or kinds & ~(1 << BLANK) != 0 or told_before(data, low, start, 32, words, bounds)
    if opened and separators[1] == PARENTHESIS and 7 <= total <= 11 and (groups >= 3 or (groups == 2 and first == 3 and total == 10)):
        return first <= 5 and not (first == 4 and 15 <= digits[0] * 10 + digits[1] <= 20)  # a year
    end = ends_of[last]
    behind = end
    while behind < high and behind - end < 16 and data[behind] == 32:
        behind += 1
    if (start - 1 > clear and data[start - 1] == 32 and is_digit(data[start - 2])) or (end < behind < high and is_digit(data[behind])):
        return False  # one number of several in a row
    # A trunk zero, and groups that no date and no decimal has.
    if (
        digits[0] == 0
        and digits[1] != 0
        and first > 1
        and 9 <= total <= 11
        and groups >= 3
        and not kinds & (1 << DOT)
        and not _is_date(digits, counts, groups)
    ):
        return True
    if total == 11 and groups == 1 and digits[0] == 1 and digits[1] >= 3:  # a Chinese mobile number beside Chinese text
        for i in range(max(low, start - 12), start):
            if data[i] >= 0xE3:
                return True
    if _is_date(digits, counts, groups) and kinds != (1 << BLANK):
        return False
    if told_before(data, low, start, 24, words, bounds):
        return True
    after = data[end] if end < high else 34  # a quote ends an attribute: id="1646226747" type="text"
    return after not in (34, 39, 60, 62, 92) and told_before(data, end, min(high, end + 12), 12, words, bounds)


@numba.njit()
def _is_date(digits: Any, counts: Any, groups: int) -> Any:
    """Whether the groups are those of a date: 4-2-2 or 2-2-4, with a time or not."""
    if groups < 3:
        return False
    one, two, three = counts[0], counts[1] - counts[0], counts[2] - counts[1]
    return (one == 4 and digits[0] in (1, 2) and two <= 2 and three <= 2) or (one <= 2 and two <= 2 and three == 4)
