"""N-gram kernels against plain Python: the tokens, Kneser-Ney's formulas, the scores of the packed model, and hostile text."""

from __future__ import annotations

import math
import random
import time
import unicodedata
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev.corpus.buffers import text_buffers
from codedev.kernels import ngram, tokens
from codedev.kernels.characters import CLUSTER, MARK, SINGLE, SPACE, properties
from codedev.kernels.ngram import NGramModel

BEGIN, STOP, UNKNOWN = "<s>", "</s>", "<unk>"


def _buffers(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return text_buffers(pa.array(texts, pa.large_string()))


def _cut(text: str, piece: int = 0) -> list[list[str]]:
    """The tokens of each line, in plain Python; digits as 0, later pieces of a word with a mark before them."""
    table = properties()
    lines: list[list[str]] = []
    for line in text.split("\n"):
        found: list[str] = []
        at = 0
        while at < len(line):
            bits = int(table[ord(line[at])])
            if bits & SPACE or line[at] < " ":
                at += 1
                continue
            end = at + 1
            if _alone(bits):
                while end < len(line) and _in_mark(line[end]):
                    end += 1
                found.append(line[at:end])
            elif _in_word(line[at]):
                while end < len(line) and _in_word(line[end]) and not _alone(int(table[ord(line[end])])):
                    end += 1
                word = "".join("0" if c.isdecimal() else c for c in line[at:end])
                size = piece or len(word)
                found += [("" if n == 0 else "##") + word[n : n + size] for n in range(0, len(word), size)]
            else:
                found.append(line[at])
            at = end
        lines.append(found)
    return lines


def _alone(bits: int) -> bool:
    return bool(bits & (SINGLE | CLUSTER)) and not bits & MARK


def _in_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"


def _words_differ_as_hashes_do(texts: list[str], piece: int = 0) -> None:
    hashes, kinds = tokens.tokens(*_buffers(texts), piece)
    want: list[str | None] = []
    for text in texts:
        for line in _cut(text, piece):
            want += [*line, None]
    assert len(want) == len(hashes)
    assert [word is None for word in want] == (kinds == tokens.LINE).tolist()
    names: dict[int, str] = {}
    for word, value in zip(want, hashes.tolist(), strict=True):
        if word is not None:
            assert names.setdefault(value, word) == word
    assert len(names) == len({word for word in want if word is not None})


def test_tokens_are_words_single_ideographs_and_marks() -> None:
    assert _cut("Don't pay 1234€ 漢字かな")[0] == ["Don", "'", "t", "pay", "0000", "€", "漢", "字", "か", "な"]
    _words_differ_as_hashes_do(
        ["Don't pay 1234€, 5678€!\n漢字かな と 漢", "", "ein Straßenbahnhaltestellenschild\n\n", "नमस्ते दुनिया ก็ไม่ e\u0301te\u0301"]
    )
    _words_differ_as_hashes_do(["internationalisation of internationals, inter nation"], 5)


LETTERS = "ab1٣é漢かกก็ि'. \n\t-€😀ß\u00a0\u2028\x00"


@settings(max_examples=150)
@given(st.lists(st.text(LETTERS, max_size=40), min_size=1, max_size=4), st.integers(0, 4))
def test_tokens_of_any_text(texts: list[str], piece: int) -> None:
    _words_differ_as_hashes_do(texts, piece)


class _Plain:
    """Interpolated modified Kneser-Ney over tuples of words, as its formulas are written down."""

    def __init__(self, lines: list[list[str]], order: int, min_words: int, min_counts: tuple[int, ...]) -> None:
        counts = Counter(word for line in lines for word in line)
        self.known = {word for word, count in counts.items() if count >= min_words}
        self.stands_for = len(counts) - len(self.known)
        self.order = order
        sentences = [[BEGIN, *self.named(line), STOP] for line in lines if line]
        raw: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(order)]
        for sentence in sentences:
            for n in range(1, order + 1):
                raw[n - 1].update(tuple(sentence[at : at + n]) for at in range(len(sentence) - n + 1))
        self.chance: dict[tuple[str, ...], float] = {}
        self.left: dict[tuple[str, ...], float] = {}
        vocabulary = {(UNKNOWN,), *(gram for gram in raw[0] if gram != (BEGIN,))}
        for n in range(1, order + 1):
            before: dict[tuple[str, ...], set[str]] = defaultdict(set)
            for gram in raw[n] if n < order else ():
                before[gram[1:]].add(gram[0])
            adjusted = {gram: raw[n - 1][gram] if n == order or gram[0] == BEGIN else len(before[gram]) for gram in raw[n - 1]}
            adjusted.pop((BEGIN,), None)
            discount = self._discounts(list(adjusted.values()))
            least = min_counts[min(n - 1, len(min_counts) - 1)]
            total: Counter[tuple[str, ...]] = Counter()
            spent: dict[tuple[str, ...], float] = defaultdict(float)
            kept = {gram: count for gram, count in adjusted.items() if raw[n - 1][gram] >= least}
            for gram, count in adjusted.items():
                total[gram[:-1]] += count
            for gram, count in kept.items():
                spent[gram[:-1]] += count - discount[min(count, 3)]
            for context in total:
                self.left[context] = (total[context] - spent[context]) / total[context]
            for gram, count in kept.items():
                lower = self.chance[gram[1:]] if n > 1 else 1 / len(vocabulary)
                self.chance[gram] = (count - discount[min(count, 3)]) / total[gram[:-1]] + self.left[gram[:-1]] * lower

        if (UNKNOWN,) not in self.chance:
            self.chance[(UNKNOWN,)] = self.left[()] / len(vocabulary)

    def named(self, line: list[str]) -> list[str]:
        return [word if word in self.known else UNKNOWN for word in line]

    @staticmethod
    def _discounts(counts: list[int]) -> list[float]:
        n = [counts.count(k) for k in range(5)]
        if all(n[1:]):
            y = n[1] / (n[1] + 2 * n[2])
            found = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
            if all(0 < value < k for k, value in enumerate(found, 1)):
                return [0.0, *found]
        return [0.0, 0.5, 1.0, 1.5]

    def log(self, context: tuple[str, ...], word: str, model: NGramModel | None = None) -> float:
        """Of the probability; with `model`, in the steps of its packed numbers."""
        gram = (*context, word)
        if gram in self.chance:
            value = math.log(self.chance[gram])
            return _step(value, *model.scale[:2]) if model else value
        left = math.log(self.left[context]) if context in self.left else 0.0
        if model and context in self.left:
            left = _step(left, *model.scale[2:])
        return left + self.log(context[1:], word, model)

    def score(self, lines: list[list[str]], model: NGramModel | None = None) -> tuple[float, int]:
        total, count = 0.0, 0
        for line in filter(None, lines):
            sentence = [BEGIN, *self.named(line), STOP]
            for at in range(1, len(sentence)):
                total += self.log(tuple(sentence[max(0, at - self.order + 1) : at]), sentence[at], model)
                total -= math.log(max(self.stands_for, 1)) if sentence[at] == UNKNOWN else 0
                count += 1
        return total, count


def _step(value: float, least: float, step: float) -> float:
    return least + step * round((value - least) / step)


def _lines(seed: int, number: int) -> list[str]:
    """Lines of words that depend on the one before, a few of them rare."""
    rng = random.Random(seed)
    words = [f"w{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(60)]
    found = []
    for _ in range(number):
        at = rng.randrange(60)
        line = []
        for _ in range(rng.randrange(1, 12)):
            line.append(
                words[at] if rng.random() > 0.03 else f"rare{rng.randrange(10**6):06x}".translate(str.maketrans("0123456789", "ghijklmnop"))
            )
            at = (at * 3 + rng.randrange(4)) % 60
        found.append(" ".join(line))
    return found


@pytest.mark.parametrize(
    ("order", "min_words", "min_counts"), [(1, 1, (1,)), (2, 2, (1,)), (3, 2, (1, 1, 2)), (5, 2, (1, 1, 2)), (4, 1, (1, 2, 2, 3))]
)
def test_kneser_ney_is_that_of_plain_python(order: int, min_words: int, min_counts: tuple[int, ...]) -> None:
    texts = ["\n".join(_lines(n, 15)) for n in range(12)]
    model = ngram.fit(*tokens.tokens(*_buffers(texts)), order, min_words, min_counts)
    plain = _Plain([line for text in texts for line in _cut(text)], order, min_words, min_counts)
    assert np.count_nonzero(model.marks) == len(plain.chance) + 1  # and the beginning, which nothing predicts
    tests = ["\n".join(_lines(100 + n, 6)) for n in range(20)] + ["", "\n\n", "unseen words alone", texts[0]]
    sums, counts = ngram.log_likelihood(model, *_buffers(tests))
    for text, total, count in zip(tests, sums.tolist(), counts.tolist(), strict=True):
        want, tokens_of = plain.score(_cut(text), model)
        assert count == tokens_of
        assert total == pytest.approx(want, abs=1e-6 * max(count, 1))
        exact = plain.score(_cut(text))[0]
        assert abs(total - exact) <= count * (model.scale[1] + model.scale[3] * (order - 1)) / 2 + 1e-9  # half a step of each number


def test_probabilities_of_all_words_sum_to_one() -> None:
    lines = [line for n in range(12) for line in _cut("\n".join(_lines(n, 15)))]
    plain = _Plain(lines, 4, 2, (1, 1, 2))
    words = [gram[0] for gram in plain.chance if len(gram) == 1]
    for context in [(), (BEGIN,), *(tuple(plain.named(line[:3])) for line in lines[:40]), ("never", "met", "before")]:
        assert sum(math.exp(plain.log(context, word)) for word in words) == pytest.approx(1, abs=1e-9)


def test_like_text_is_less_perplexing_than_other_text_and_that_less_than_none() -> None:
    learnt = ["\n".join(_lines(n, 40)) for n in range(60)]
    model = ngram.fit(*tokens.tokens(*_buffers(learnt)), 3)
    same = "\n".join(_lines(999, 40))
    words = same.split()
    random.Random(0).shuffle(words)
    rng = random.Random(1)
    foreign = " ".join("".join(rng.choices("bdgkptvz", k=6)) for _ in range(200))
    found = ngram.perplexity(model, *_buffers([same, " ".join(words), foreign])).tolist()
    assert found[0] * 1.5 < found[1] < found[2]


def test_text_of_unknown_words_is_never_likely() -> None:
    """One word in two is unknown: the unknown word is likely, each of the words that it stands for is not."""
    rng = random.Random(0)
    text = "\n".join("the " + "".join(rng.choices("abcdefghij", k=8)) for _ in range(2000))
    model = ngram.fit(*tokens.tokens(*_buffers([text])), 3)
    found = ngram.perplexity(model, *_buffers(["qqqq wwww eeee rrrr tttt", "the the the"]))
    assert found[0] > 1000


def test_prefix_ends_at_a_character() -> None:
    model = ngram.fit(*tokens.tokens(*_buffers(["äöü äöü ß\näöü ß ä"])), 2, 1)
    text = "äöü ß äöü"
    for size in range(1, len(text.encode()) + 3):
        head = text.encode()[:size].decode("utf-8", "ignore")
        a, b = ngram.log_likelihood(model, *_buffers([text]), size), ngram.log_likelihood(model, *_buffers([head]))
        assert [part.tolist() for part in a] == [part.tolist() for part in b]


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5))
def test_bytes_that_are_no_text_are_read_within_bounds(parts: list[bytes]) -> None:
    """A text's score depends on its own bytes alone, whatever lies behind them."""
    model = ngram.fit(*tokens.tokens(*_buffers(["a b c\nb c d"])), 3, 1)
    offsets = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    together = ngram.log_likelihood(model, np.frombuffer(b"".join(parts), np.uint8), offsets)
    for number, part in enumerate(parts):
        alone = ngram.log_likelihood(model, np.frombuffer(part + b"\xbf\xbf", np.uint8), np.array([0, len(part)]))
        assert [part[0] for part in alone] == [part[number] for part in together]


def test_hostile_text_takes_linear_time() -> None:
    model = ngram.fit(*tokens.tokens(*_buffers(["a b c\nb c d"])), 5, 1)
    size = 1 << 20
    plain = min(_seconds(model, "b c d a " * (size // 8)) for _ in range(3))
    for text in ("a" * size, "\n" * size, "\0" * size, "a\u0301" * (size // 3), "漢" * (size // 3), "\U0010ffff" * (size // 4), "'" * size):
        assert min(_seconds(model, text) for _ in range(3)) < 10 * plain + 0.05, repr(text[:2])


def _seconds(model: NGramModel, text: str) -> float:
    data, offsets = _buffers([text])
    start = time.process_time()
    ngram.log_likelihood(model, data, offsets)
    return time.process_time() - start


def test_a_model_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no words"):
        ngram.fit(*tokens.tokens(*_buffers(["", " \n "])))
    with pytest.raises(ValueError, match="never fall"):
        ngram.fit(*tokens.tokens(*_buffers(["a b"])), 3, 1, (1, 3, 2))
