"""Line by line: C4's rules (Raffel et al. 2020, JMLR 21:140, §2.2) and RefinedWeb's line-wise corrections (arXiv 2306.01116, G.2).

Input is the pair of buffers of an Arrow large_string array, `data` uint8[bytes] and `offsets` int64[documents + 1]. A line is what
`str.splitlines` makes, without white space at its ends; a blank one is never kept and never counted. C4 goes through a line's rules in the
order of REASONS and keeps a line that breaks none; of lines that get as far, it notes those with "lorem ipsum" or a curly bracket.

A sentence ends at a full stop that is part of no ellipsis, an exclamation or a question mark, where closing quotes and brackets may follow
and then white space must; or anywhere at a sentence end of another script ("。"). What is left behind the last one is a sentence too.

A line is read as SYMBOLS: ASCII as it is, one byte for each other class of characters, so that all rules look at one byte a character.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np

from codedev.kernels.characters import ALPHA, BREAK, DATA, DECIMAL, OFFSETS, SPACE, TABLE, TERMINAL, UPPER, properties
from codedev.kernels.segment import decoded

REASONS = ("long_word", "unterminated", "few_words", "javascript", "policy")  # why C4 drops a line
COLUMNS = (
    "lines",
    "kept_lines",
    *(f"{reason}_lines" for reason in REASONS),
    "lorem_ipsum_lines",
    "curly_bracket_lines",
    "sentences",  # of kept lines
    "kept_chars",
    "words",
    "flagged_words",  # RefinedWeb: words of lines that are upper case, numbers, a counter, one word, or a call to action
)
_DECIMAL, _TERMINAL, _CLOSER, _UPPER, _LETTER, _OTHER = range(128, 134)
_CLOSERS = "”’»›）」』】》〉"

# (phrases, one after another; where each starts)
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_COUNTED = (
    *("likes", "like", "shares", "share", "comments", "comment", "retweets", "reposts", "quotes", "bookmarks", "upvotes", "downvotes"),
    *("downloads", "download", "views", "view", "followers", "follower", "replies", "reply", "votes", "vote"),
)
_PHRASES = ("lorem ipsum", "javascript", *_POLICY, "sign in", "sign-in", "read more", "items in cart", *_COUNTED)
_TEXT = np.frombuffer("".join(_PHRASES).encode(), np.uint8)
_STARTS = np.cumsum([0, *map(len, _PHRASES)])
_LOREM, _JAVASCRIPT, _POLICIES, _CALLS = 0, 1, 2, 2 + len(_POLICY)
_COUNTERS, _END = _CALLS + 4, len(_PHRASES)
# By a phrase's first letter its second one: the phrases that C4 looks for have six beginnings.
_SECOND = np.zeros(256, np.uint8)
for _pair in ("lo", "ja", "te", "pr", "co", "us"):
    _SECOND[[ord(_pair[0]), ord(_pair[0].upper())]] = ord(_pair[1])
# Symbols that may end a sentence are 2, blanks 0, all others 1.
_ENDING = np.ones(256, np.uint8)
_ENDING[[9, 32]], _ENDING[[*b".!?", _TERMINAL]] = 0, 2

_SYMBOLS = numba.types.Array(numba.uint8, 1, "C")


@functools.cache
def symbols() -> np.ndarray:
    """uint8[0x110000], read-only: the symbol of each code point."""
    bits = properties()
    table = np.full(0x110000, _OTHER, np.uint8)
    table[(bits & ALPHA) != 0] = _LETTER
    table[(bits & UPPER != 0) & (bits & ALPHA != 0)] = _UPPER
    table[(bits & DECIMAL) != 0] = _DECIMAL
    table[(bits & TERMINAL) != 0] = _TERMINAL
    table[(bits & SPACE) != 0] = 9
    table[[ord(character) for character in _CLOSERS]] = _CLOSER
    table[:128] = np.where(bits[:128] & SPACE, 9, np.arange(128))
    table[32] = 32
    table[(bits & BREAK) != 0] = 10
    table[0x212A] = ord("K")  # the Kelvin sign, the one character beyond ASCII whose lower case is one of ASCII's letters
    table.flags.writeable = False
    return table


def line_stats(
    data: np.ndarray,
    offsets: np.ndarray,
    *,
    citations: bool = True,
    terminal: bool = True,
    min_words: int | None = 3,
    max_word_length: int | None = 1000,
    javascript: bool = True,
    policy: bool = True,
    flagged: bool = True,
    wanted: np.ndarray | None = None,
) -> np.ndarray:
    """int64[documents, len(COLUMNS)]. `citations`: "[1]", "[edit]" and "[citation needed]" are taken out before a line is judged; the other
    arguments switch rules off by False or None; without `flagged`, `flagged_words` is zeros; so are rows that are not `wanted`,
    bool[documents]."""
    return _run(data, offsets, _rules(citations, terminal, min_words, max_word_length, javascript, policy, flagged), wanted, False)[0]


def kept_lines(
    data: np.ndarray,
    offsets: np.ndarray,
    *,
    citations: bool = True,
    terminal: bool = True,
    min_words: int | None = 3,
    max_word_length: int | None = 1000,
    javascript: bool = True,
    policy: bool = True,
    flagged: bool = True,
    wanted: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(data, offsets) of the texts whose lines are the kept ones without their citations, parted by "\\n"; and what `line_stats` says."""
    rules = _rules(citations, terminal, min_words, max_word_length, javascript, policy, flagged)
    stats, text, bounds = _run(data, offsets, rules, wanted, True)
    return text[: bounds[-1]], bounds, stats


def _rules(
    citations: bool, terminal: bool, min_words: int | None, max_word_length: int | None, javascript: bool, policy: bool, flagged: bool
) -> np.ndarray:
    longest = np.iinfo(np.int64).max if max_word_length is None else max_word_length
    return np.array([citations, terminal, min_words or 0, longest, javascript, policy, flagged], np.int64)


def _run(
    data: np.ndarray, offsets: np.ndarray, rules: np.ndarray, wanted: np.ndarray | None, rewrite: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = len(offsets) - 1
    out = np.zeros((rows, len(COLUMNS)), np.int64)
    text = np.empty(int(offsets[-1] - offsets[0]) + rows if rewrite else 0, np.uint8)
    bounds = np.zeros(rows + 1, np.int64)
    mask = np.ones(rows, np.uint8) if wanted is None else np.ascontiguousarray(wanted, np.uint8)
    _lines(data, offsets, mask, properties(), symbols(), rules, out, text, bounds)
    return out, text, bounds


@numba.njit(numba.boolean(_SYMBOLS, numba.int64, numba.int64, numba.int64), nogil=True, cache=True)
def _is_at(line: Any, at: Any, length: Any, phrase: Any) -> Any:
    """Whether the phrase stands at this place of the line, in whatever case."""
    first, last = _STARTS[phrase], _STARTS[phrase + 1]
    if at + last - first > length:
        return False
    for step in range(last - first):
        symbol = line[at + step]
        if (symbol + 32 if 65 <= symbol <= 90 else symbol) != _TEXT[first + step]:
            return False
    return True


@numba.njit(numba.int64(_SYMBOLS, numba.int64), nogil=True, cache=True)
def _sentences(line: Any, length: Any) -> Any:
    count = 0
    ending = run = swallow = rest = False
    at = -1
    while at + 1 < length:
        at += 1
        if not (ending or run or swallow):  # then nothing matters before the next sign that ends a sentence
            kind = _ENDING[line[at]]
            while kind < 2:
                rest |= kind == 1
                at += 1
                if at == length:
                    break
                kind = _ENDING[line[at]]
            if at == length:
                break
        symbol = line[at]
        if symbol == 32 or symbol == 9:
            if ending:
                count += 1
                rest = False
            ending = run = swallow = False
            continue
        closer = symbol == 34 or symbol == 39 or symbol == 41 or symbol == 93 or symbol == _CLOSER
        if symbol == _TERMINAL:
            count += not run
            run = swallow = True
            ending = rest = False
            continue
        run = False
        if closer and swallow:
            continue
        swallow = False
        rest = True
        if symbol == 46:
            ending = (at == 0 or line[at - 1] != 46) and (at + 1 == length or line[at + 1] != 46)
        elif symbol == 33 or symbol == 63:
            ending = True
        elif not closer:
            ending = False
    return max(count + rest, 1)


@numba.njit(numba.int64(DATA, numba.int64, numba.int64, TABLE), nogil=True, cache=True)
def _citation(data: Any, at: Any, end: Any, table: Any) -> Any:
    """Where the citation that starts at the "[" ends; `at` if none does."""
    place = at + 1
    if place < end and data[place] == 101:  # e
        word = b"edit]"
    elif place < end and data[place] == 99:
        word = b"citation needed]"
    else:
        while place < end:
            if data[place] < 0x80:
                code, after = np.int64(data[place]), place + 1
            else:
                code, after = decoded(data, place, end)
            if not table[code] & DECIMAL:
                return after if code == 93 else at
            place = after
        return at
    if place + len(word) > end:
        return at
    for step in range(len(word)):
        if data[place + step] != word[step]:
            return at
    return place + len(word)


@numba.njit(numba.boolean(_SYMBOLS, numba.int64, numba.int64), nogil=True, cache=True)
def _is_flagged(line: Any, length: Any, words: Any) -> Any:
    """RefinedWeb: mainly upper case, numbers alone, a counter such as "3 likes", one word, or at most ten words with a call to action."""
    if words <= 1:
        return True
    letters = uppers = visible = 0
    for at in range(length):
        symbol = line[at]
        upper = 65 <= symbol <= 90 or symbol == _UPPER
        uppers += upper
        letters += upper or 97 <= symbol <= 122 or symbol == _LETTER
        visible += symbol != 32 and symbol != 9
    if 2 * uppers > visible or letters == 0:
        return True
    if words > 10:
        return False
    for phrase in range(_CALLS, _CALLS + 2):
        if line[0] | 32 == 115 and _is_at(line, 0, length, phrase):
            return True
    last = length
    while last > 0 and (line[last - 1] == 46 or line[last - 1] == _OTHER):
        last -= 1
    if last >= 9 and line[last - 1] | 32 == 101 and _is_at(line, last - 9, last, _CALLS + 2):
        return True
    for at in range(length - 12):
        if line[at] | 32 == 105 and line[at + 1] | 32 == 116 and _is_at(line, at, length, _CALLS + 3):
            return True
    if words == 2 and 48 <= line[0] <= 57:  # a counter: "1.2K views"
        at = 0
        while at < length and (
            48 <= line[at] <= 57 or line[at] == 44 or line[at] == 46 or line[at] == 75 or line[at] == 107 or line[at] == 77
        ):
            at += 1
        if at < length and line[at] == 32:
            for phrase in range(_COUNTERS, _END):
                if at + 1 + _STARTS[phrase + 1] - _STARTS[phrase] == length and _is_at(line, at + 1, length, phrase):
                    return True
    return False


@numba.njit(
    numba.void(
        DATA,
        OFFSETS,
        _SYMBOLS,
        TABLE,
        numba.types.Array(numba.uint8, 1, "C", readonly=True),
        numba.types.Array(numba.int64, 1, "C"),
        numba.types.Array(numba.int64, 2, "C"),
        _SYMBOLS,
        numba.types.Array(numba.int64, 1, "C"),
    ),
    nogil=True,
    cache=True,
)
def _lines(data: Any, offsets: Any, wanted: Any, table: Any, symbol_of: Any, rules: Any, out: Any, text: Any, bounds: Any) -> None:
    longest = np.int64(0)
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    line = np.zeros(longest + 4, np.uint8)
    second, third, fourth = line[1:], line[2:], line[3:]
    citations, terminal, min_words, max_word_length, no_javascript, no_policy, calls = rules
    written = 0
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        lines = kept = long_words = unterminated = few = javascripts = policies = lorems = brackets = sentences = kept_chars = 0
        all_words = flagged = 0
        first_byte = written
        if not wanted[row]:
            at = end
        while at < end:
            # One line: its symbols, words and bytes
            length = full = words = word = longest_word = 0
            copied = copied_full = written
            skip = at  # bytes before this one belong to a citation
            cited = False  # and then bytes are copied one by one, else the whole line is once it stays
            first = last = at  # its bytes without white space at the ends
            while at < end:
                place = at
                if data[at] < 0x80:
                    code = np.int64(data[at])
                    at += 1
                else:
                    code, at = decoded(data, at, end)
                symbol = symbol_of[code]
                if symbol == 10:
                    if code == 13 and at < end and data[at] == 10:
                        at += 1
                    break
                blank = symbol == 32 or symbol == 9
                if blank:
                    word = 0
                    if words == 0:
                        continue
                else:
                    if words == 0:
                        first = place
                    words += word == 0
                    word += 1
                    longest_word = max(longest_word, word)
                    if symbol == 91 and citations and place >= skip:
                        skip = max(skip, _citation(data, place, end, table))
                        if skip > place and not cited and len(text):
                            cited = True
                            for byte in range(first, place):
                                text[copied] = data[byte]
                                copied += 1
                if place >= skip:
                    line[length] = symbol
                    length += 1
                    if cited:
                        for byte in range(place, at):
                            text[copied] = data[byte]
                            copied += 1
                if not blank:
                    # Plain ASCII goes on in a loop that does less
                    start = at
                    if at >= skip:
                        while at < end and 33 <= data[at] < 127 and data[at] != 91:
                            line[length] = data[at]
                            length += 1
                            at += 1
                    if at > start:
                        word += at - start
                        longest_word = max(longest_word, word)
                        if cited:
                            for place in range(start, at):
                                text[copied] = data[place]
                                copied += 1
                    full, copied_full, last = length, copied, at
            if words == 0:
                continue
            length = full
            lines += 1
            all_words += words
            if calls:
                flagged += words if _is_flagged(line, length, words) else 0
            if longest_word > max_word_length:
                long_words += 1
                continue
            if terminal:
                mark = line[length - 1] if length else 0
                dots = length >= 3 and mark == 46 and line[length - 2] == 46 and line[length - 3] == 46
                if dots or not (mark == 46 or mark == 63 or mark == 33 or mark == 34 or mark == 39):
                    unterminated += 1
                    continue
            if words < min_words:
                few += 1
                continue
            lorem = javascript = policy = bracket = False
            hit = False  # becomes vector instructions; what stands behind the line may make it true, not the phrases
            for start in range(length):
                one, two, three, four = line[start] | 32, second[start] | 32, third[start] | 32, fourth[start] | 32
                bracket |= line[start] == 123
                hit |= (one == 108) & (two == 111) & (three == 114) & (four == 101)  # lore
                hit |= (one == 106) & (two == 97) & (three == 118) & (four == 97)  # java
                hit |= (one == 116) & (two == 101) & (three == 114) & (four == 109)  # term
                hit |= (one == 112) & (two == 114) & (three == 105) & (four == 118)  # priv
                hit |= (one == 99) & (two == 111) & (three == 111) & (four == 107)  # cook
                hit |= (one == 117) & (two == 115) & (three == 101) & ((four == 115) | (four == 32))  # uses, use
            for start in range(length if hit else 0):
                if _SECOND[line[start]] and second[start] | 32 == _SECOND[line[start]]:
                    symbol = line[start] | 32
                    if symbol == 108:
                        lorem = lorem or _is_at(line, start, length, _LOREM)
                    elif symbol == 106:
                        javascript = javascript or _is_at(line, start, length, _JAVASCRIPT)
                    else:
                        for phrase in range(_POLICIES, _CALLS):
                            if _TEXT[_STARTS[phrase]] == symbol:  # a call counts references, which takes longer than this
                                policy = policy or _is_at(line, start, length, phrase)
            lorems += lorem
            if no_javascript and javascript:
                javascripts += 1
                continue
            brackets += bracket
            if no_policy and policy:
                policies += 1
                continue
            kept += 1
            kept_chars += length
            sentences += _sentences(line, length)
            if len(text):
                if cited:
                    written = copied_full
                else:
                    for byte in range(first, last):
                        text[written] = data[byte]
                        written += 1
                text[written] = 10
                written += 1
        if written > first_byte and len(text):
            written -= 1  # the last line's end
        bounds[row + 1] = written
        counted = (
            lines, kept, long_words, unterminated, few, javascripts, policies, lorems, brackets, sentences, kept_chars, all_words, flagged
        )  # fmt: skip
        for column in range(len(COLUMNS)):
            out[row, column] = counted[column]


def warm() -> None:
    line_stats(np.frombuffer(b"a", np.uint8), np.array([0, 1]))
