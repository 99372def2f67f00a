"""Finders of national identity numbers (see find.py). A number with a check that few pass by chance speaks for itself; a weaker one needs
its usual punctuation, or a word before it that names it.

    United States  SSN: 3-2-4 digits, areas and groups that were given out     China      GB 11643: date, ISO 7064 MOD 11-2
    India          Aadhaar: 4 4 4 digits, Verhoeff                            Brazil     CPF: two check digits
    France         NIR: 13 digits and 97 minus their remainder                Italy      codice fiscale: check letter
    Spain          DNI, NIE: check letter                                     United Kingdom  NINO: prefixes that are given out
    South Korea    RRN: date, 6-7 digits                                      Mexico     CURP: date, check digit
    Germany        Steuer-ID (ISO 7064 MOD 11,10)*                            Poland     PESEL*
    Canada         SIN: Luhn*                                                 Russia     SNILS: remainder 101
    * after a word that names it
"""

from __future__ import annotations

from typing import Any

import numba

from codedev.kernels.personal.characters import begins, ends, is_digit, is_letter, is_word, lower, told_before
from codedev.kernels.personal.numbers import BLANK, DASH, DOT, luhn

ID_WORDS = (
    "ssn|social security|social insurance|sin|national id|identity|identification|personal number|tax id|tin|steuer-id|"
    "steueridentifikationsnummer|idnr|pesel|cpf|aadhaar|aadhar|uidai|snils|снилс|nino|national insurance|dni|nie|"
    "codice fiscale|sécurité sociale|nir|curp|rrn|주민등록번호|身份证"
).split("|")

_INVERSE = (0, 4, 3, 2, 1, 5, 6, 7, 8, 9)
_VERHOEFF = (  # the dihedral group of ten
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4, 0, 6, 7, 8, 9, 5), (2, 3, 4, 0, 1, 7, 8, 9, 5, 6), (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8), (5, 9, 8, 7, 6, 0, 4, 3, 2, 1), (6, 5, 9, 8, 7, 1, 0, 4, 3, 2), (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4), (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)  # fmt: skip
_PERMUTED = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 5, 7, 6, 2, 8, 3, 0, 9, 4), (5, 8, 0, 3, 7, 9, 6, 1, 4, 2), (8, 9, 1, 6, 0, 4, 3, 5, 2, 7),
    (9, 4, 5, 3, 1, 2, 6, 8, 7, 0), (4, 2, 8, 6, 5, 7, 3, 9, 0, 1), (2, 7, 9, 3, 8, 0, 6, 4, 1, 5), (7, 0, 4, 6, 9, 1, 3, 2, 5, 8),
)  # fmt: skip
_CHINA = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_PESEL = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)
_ITALY_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_SPAIN = b"TRWAGMYFPDXBNJZSQVHLCKE"


@numba.njit()
def _is_date(month: int, day: int) -> Any:
    return bool(1 <= month <= 12 and 1 <= day <= 31)


@numba.njit()
def _number(digits: Any, first: int, last: int) -> int:
    value = 0
    for i in range(first, last):
        value = value * 10 + int(digits[i])
    return value


@numba.njit()
def of_digits(
    data: Any, low: int, clear: int, high: int, at: int, groups: int, digits: Any, ends_of: Any, counts: Any, separators: Any, words: Any,
    bounds: Any,
) -> Any:  # fmt: skip
    """(start, end) of the identity number whose first digit is at `at`."""
    none = (at, at)
    if not begins(data, clear, at) or (at > clear and data[at - 1] in (47, 61, 37, 36)):  # in an address, a query, money
        return none
    for last in range(min(groups, 6) - 1, -1, -1):
        total, end = counts[last], ends_of[last]
        if total < 8 or total > 18 or not (ends(data, high, end) or (end < high and is_letter(data[end]))):
            continue
        if end < high and is_letter(data[end]):
            if end + 1 < high and is_word(data[end + 1]):
                continue
            letter = int(data[end]) & 0xDF
            if last == 0 and total == 8 and letter == _SPAIN[_number(digits, 0, 8) % 23]:
                return (at, end + 1)
            if last == 0 and total == 17 and letter == 88 and _china(digits, 17, 10):
                return (at, end + 1)
            continue
        if _is_identity(data, low, at, last + 1, total, digits, counts, separators, words, bounds):
            return (at, end)
    return none


@numba.njit()
def _is_identity(
    data: Any, low: int, at: int, groups: int, total: int, digits: Any, counts: Any, separators: Any, words: Any, bounds: Any
) -> Any:
    same = True  # one separator throughout
    for group in range(2, groups):
        same &= separators[group] == separators[1]
    if groups == 3 and total == 9 and counts[0] == 3 and counts[1] == 5 and same and separators[1] <= DASH:
        area = _number(digits, 0, 3)
        given = area != 0 and area != 666 and area < 900 and _number(digits, 3, 5) != 0 and _number(digits, 5, 9) != 0
        return given and (separators[1] == DASH or told_before(data, low, at, 40, words, bounds))
    if groups == 1 and total == 18:
        return _china(digits, 17, int(digits[17]))
    if groups == 3 and total == 12 and counts[0] == 4 and counts[1] == 8 and same and separators[1] <= DASH:
        return digits[0] > 1 and _verhoeff(digits)
    if groups == 4 and total == 11 and counts[0] == 3 and counts[1] == 6 and counts[2] == 9:
        if separators[1] == DOT and separators[2] == DOT and separators[3] == DASH:
            return _cpf(digits)
        return separators[1] == DASH and separators[2] == DASH and _snils(digits)
    if total == 15 and (groups == 1 or (groups >= 6 and same and separators[1] == BLANK)):
        return digits[0] in (1, 2) and 1 <= _number(digits, 3, 5) <= 12 and 97 - _number(digits, 0, 13) % 97 == _number(digits, 13, 15)
    if groups == 2 and total == 13 and counts[0] == 6 and separators[1] == DASH:
        return _is_date(_number(digits, 2, 4), _number(digits, 4, 6)) and 1 <= digits[6] <= 8
    fits = False
    if total == 11 and groups == 1:
        fits = _pesel(digits) or _steuer(digits) or _cpf(digits)
    elif total == 12 and groups == 1:
        fits = digits[0] > 1 and _verhoeff(digits)
    elif total == 9:
        fits = luhn(digits, 9) and (groups == 1 or (groups == 3 and counts[0] == 3 and counts[1] == 6))
    return fits and told_before(data, low, at, 40, words, bounds)


@numba.njit()
def _china(digits: Any, count: int, check: int) -> Any:
    total = 0
    for i in range(count):
        total += int(digits[i]) * _CHINA[i]
    year = _number(digits, 6, 10)
    told = (12 - total % 11) % 11
    return told == check and 1900 <= year <= 2099 and _is_date(_number(digits, 10, 12), _number(digits, 12, 14))


@numba.njit()
def _verhoeff(digits: Any) -> Any:
    check = 0
    for i in range(12):
        check = _VERHOEFF[check][_PERMUTED[i % 8][int(digits[11 - i])]]
    return check == 0


@numba.njit()
def _cpf(digits: Any) -> Any:
    equal = True
    for length in (9, 10):
        total = 0
        for i in range(length):
            total += int(digits[i]) * (length + 1 - i)
            equal &= digits[i] == digits[0]
        if total * 10 % 11 % 10 != digits[length]:
            return False
    return not equal


@numba.njit()
def _snils(digits: Any) -> Any:
    total = 0
    for i in range(9):
        total += int(digits[i]) * (9 - i)
    return total % 101 % 100 == _number(digits, 9, 11)


@numba.njit()
def _pesel(digits: Any) -> Any:
    total = 0
    for i in range(10):
        total += int(digits[i]) * _PESEL[i]
    return (10 - total % 10) % 10 == digits[10] and _is_date(_number(digits, 2, 4) % 20, _number(digits, 4, 6))


@numba.njit()
def _steuer(digits: Any) -> Any:
    product = 10
    for i in range(10):
        product = ((int(digits[i]) + product - 1) % 10 + 1) * 2 % 11
    return digits[0] != 0 and (11 - product) % 10 == digits[10]


@numba.njit()
def of_letters(data: Any, low: int, high: int, at: int) -> Any:
    """(start, end) of the identity number that begins with the letter at `at`: NIE, NINO, codice fiscale, CURP."""
    none = (at, at)
    end = at
    while end < high and end - at < 19 and is_word(data[end]):
        end += 1
    size = end - at
    first = int(data[at]) & 0xDF
    if size == 9 and 88 <= first <= 90 and _digits_only(data, at + 1, at + 8) and is_letter(data[at + 8]):
        value = first - 88
        for i in range(at + 1, at + 8):
            value = value * 10 + int(data[i]) - 48
        return (at, end) if int(data[at + 8]) & 0xDF == _SPAIN[value % 23] else none
    if size == 16 and _italy(data, at):
        return (at, end)
    if size == 18 and _mexico(data, at):
        return (at, end)
    return _united_kingdom(data, high, at, end)


@numba.njit()
def _digits_only(data: Any, start: int, end: int) -> Any:
    for i in range(start, end):
        if not is_digit(data[i]):
            return False
    return True


@numba.njit()
def _letters_only(data: Any, start: int, end: int) -> Any:
    for i in range(start, end):
        if not is_letter(data[i]):
            return False
    return True


@numba.njit()
def _italy(data: Any, at: int) -> Any:
    if not (_letters_only(data, at, at + 6) and _digits_only(data, at + 6, at + 8) and is_letter(data[at + 8])):
        return False
    if not (_digits_only(data, at + 9, at + 11) and is_letter(data[at + 11]) and is_letter(data[at + 15])):
        return False
    total = 0
    for i in range(15):
        byte = int(data[at + i])
        value = byte - 48 if byte <= 57 else (byte & 0xDF) - 65
        total += value if i % 2 else _ITALY_ODD[value]
    return total % 26 == (int(data[at + 15]) & 0xDF) - 65


@numba.njit()
def _mexico(data: Any, at: int) -> Any:
    if not (_letters_only(data, at, at + 4) and _digits_only(data, at + 4, at + 10) and _letters_only(data, at + 10, at + 16)):
        return False
    if lower(data[at + 10]) not in (104, 109, 120) or not is_digit(data[at + 17]):  # h, m, x
        return False
    total = 0
    for i in range(17):
        byte = int(data[at + i])
        value = byte - 48 if byte <= 57 else (byte & 0xDF) - 55
        total += (value + (value > 23)) * (18 - i)  # Ñ has the place after N
    return (10 - total % 10) % 10 == int(data[at + 17]) - 48


@numba.njit()
def _united_kingdom(data: Any, high: int, at: int, end: int) -> Any:
    """AB 12 34 56 C or AB123456C, in capitals: prefixes without D F I Q U V (and O second), and none of those kept back."""
    none = (at, at)
    one, two = int(data[at]), int(data[at + 1]) if at + 1 < high else 0
    if not (65 <= one <= 90 and 65 <= two <= 90) or one in (68, 70, 73, 81, 85, 86) or two in (68, 70, 73, 79, 81, 85, 86):
        return none
    if (one, two) in ((66, 71), (71, 66), (75, 78), (78, 75), (78, 84), (84, 78), (90, 90)):
        return none
    i, digits = at + 2, 0
    if i < high and data[i] == 32 and end == i:
        i += 1
    spaced = i > at + 2
    while digits < 6:
        if i >= high or not is_digit(data[i]):
            return none
        digits += 1
        i += 1
        if spaced and digits % 2 == 0:
            if i >= high or data[i] != 32:
                return none
            i += 1
    if i >= high or not 65 <= data[i] <= 68 or (i + 1 < high and is_word(data[i + 1])):
        return none
    return (at, i + 1)
