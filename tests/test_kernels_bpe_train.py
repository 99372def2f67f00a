"""Learned merges and counted words against `tokenizers`, plain Python, and what must hold of any words."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from codedev.corpus.buffers import text_buffers
from codedev.kernels.bpe_train import Merges, learn
from codedev.kernels.pretokens import SHAPES
from codedev.kernels.word_counts import Kept, WordCounts, Words
from codedev.tokenize.bpe import count_texts, learn_bpe, learn_words
from codedev.tokenize.engine import byte_characters, encode, load_engine
from codedev.tokenize.shapes import REGEXES

ROOT = Path(__file__).parent.parent
LETTERS = byte_characters()
ORDER = sorted(range(256), key=LETTERS.__getitem__)  # bytes by their ids
IDS = np.argsort(ORDER).astype(np.int32)


def packed(words: Iterable[bytes], counts: Iterable[int]) -> Words:
    words = list(words)
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum([len(word) for word in words], out=offsets[1:])
    return Words(np.frombuffer(b"".join(words), np.uint8), offsets, np.fromiter(counts, np.int64))


def as_dict(tables: Iterable[Words]) -> dict[bytes, int]:
    """The counts by word; a word that comes twice is an error."""
    found: dict[bytes, int] = {}
    for words in tables:
        data, offsets = words.data.tobytes(), words.offsets.tolist()
        for begin, end, count in zip(offsets, offsets[1:], words.counts.tolist(), strict=False):
            assert data[begin:end] not in found
            found[data[begin:end]] = count
    return found


def as_bytes(merges: Merges) -> list[tuple[bytes, bytes]]:
    made = [bytes([byte]) for byte in ORDER]
    found = []
    for left, right in merges.pairs.tolist():
        found.append((made[left], made[right]))
        made.append(made[left] + made[right])
    return found


def of_library(
    words: dict[bytes, int], size: int, min_frequency: int = 0, max_token_length: int | None = None
) -> list[tuple[bytes, bytes]]:
    """What BpeTrainer makes of the words, each fed as often as it counts."""
    byte_of = {letter: byte for byte, letter in enumerate(LETTERS)}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        max_token_length=max_token_length,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (" ".join(["".join(LETTERS[byte] for byte in word)] * count) for word, count in words.items())
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(bytes(byte_of[letter] for letter in left), bytes(byte_of[letter] for letter in right)) for left, right in merges]


def twin(words: dict[bytes, int], merges: int, min_frequency: int, max_length: int) -> tuple[list[tuple[bytes, bytes]], list[int]]:
    """Count all pairs anew for each merge."""
    spelled = [([int(IDS[byte]) for byte in word], count) for word, count in words.items()]
    made = [bytes([byte]) for byte in ORDER]
    found, counts = [], []
    while len(found) < merges:
        pairs: Counter[tuple[int, int]] = Counter()
        for symbols, count in spelled:
            for left, right in itertools.pairwise(symbols):
                length = len(made[left] + made[right])
                if max_length == 0 or length == 2 or length < max_length:
                    pairs[left, right] += count
        frequent = [(-count, pair) for pair, count in pairs.items() if count >= max(1, min_frequency)]
        if not frequent:
            break
        negative, (left, right) = min(frequent)
        found.append((made[left], made[right]))
        counts.append(-negative)
        for symbols, _ in spelled:
            place = 0
            while place + 1 < len(symbols):
                if symbols[place] == left and symbols[place + 1] == right:
                    symbols[place : place + 2] = [len(made)]
                place += 1
        made.append(made[left] + made[right])
    return found, counts


def word_lists(max_size: int = 12) -> st.SearchStrategy[dict[bytes, int]]:
    letters = st.sampled_from([b"a", b"ab", b"abc", b" xy\n", bytes(range(256))])
    some = letters.flatmap(lambda alphabet: st.lists(st.sampled_from(list(alphabet)), max_size=30).map(bytes))
    return st.dictionaries(some, st.integers(0, 5), max_size=max_size)


@given(word_lists(), st.integers(0, 40), st.integers(0, 4), st.sampled_from([0, 0, 0, 1, 2, 3, 4, 7]))
@settings(max_examples=250, deadline=None)
def test_equals_the_twin(words: dict[bytes, int], merges: int, min_frequency: int, max_length: int) -> None:
    found = learn(*packed(words, words.values()), IDS, merges, min_frequency=min_frequency, max_length=max_length)
    pairs, counts = twin(words, merges, min_frequency, max_length)
    assert as_bytes(found) == pairs
    assert found.counts.tolist() == counts


@given(word_lists(), st.integers(0, 3), st.sampled_from([None, None, 2, 3, 5]))
@settings(max_examples=60, deadline=None)
def test_equals_the_library(words: dict[bytes, int], min_frequency: int, max_length: int | None) -> None:
    found = learn(*packed(words, words.values()), IDS, 60, min_frequency=min_frequency, max_length=max_length or 0)
    assert as_bytes(found) == of_library(words, 316, min_frequency, max_length)


def hostile() -> dict[str, dict[bytes, int]]:
    rng = np.random.default_rng(5)
    draw = random.Random(5)
    return {
        "one word": {b"codedev": 1},
        "one letter": {b"a" * size: 1 for size in range(1, 200)},
        "a long run": {b"a" * 9999: 1},
        "two letters": {b"ab" * 4999 + b"a": 1},
        "ties everywhere": {bytes([left, right]): 3 for left in range(0, 256, 2) for right in range(0, 256, 2)},
        "ties in long words": {bytes(range(byte, byte + 20)): 1 for byte in range(236)},
        "runs of all lengths": {
            bytes(b for letter in draw.choices(b"abc", k=8) for b in [letter] * draw.randint(1, 9)): 2 for _ in range(900)
        },
        "one byte": {bytes([byte]): 7 for byte in range(256)},
        "random bytes": {rng.bytes(int(size)): 1 for size in rng.integers(1, 60, 2000)},
        "Chinese": {"".join(draw.choices("的一是不了人我在有他这中大来上国", k=draw.randint(1, 40))).encode(): 1 for _ in range(1500)},
        "counts of many sizes": {rng.bytes(3): int(2**size) for size in rng.integers(0, 11, 300)},
    }


@pytest.mark.parametrize("name", hostile())
def test_hostile_words_equal_the_library(name: str) -> None:
    words = hostile()[name]
    found = learn(*packed(words, words.values()), IDS, 3000)
    assert as_bytes(found) == of_library(words, 3256)


def test_large_counts() -> None:
    rng = np.random.default_rng(3)
    words = {bytes(rng.integers(97, 105, int(size), np.uint8)): int(count) for size, count in rng.integers(1, 30, (400, 2))}
    plain = learn(*packed(words, words.values()), IDS, 500)
    large = learn(*packed(words, (count << 40 for count in words.values())), IDS, 500)
    assert np.array_equal(plain.pairs, large.pairs)
    assert (plain.counts << 40).tolist() == large.counts.tolist()
    assert large.counts[0] > 1 << 45
    # Three differ by 1 in 2^61: no rounding on the way.
    words = {b"ab": 1 << 60, b"cd": (1 << 60) + 1, b"ef": (1 << 60) - 1}
    assert learn(*packed(words, words.values()), IDS, 9).counts.tolist() == [(1 << 60) + 1, 1 << 60, (1 << 60) - 1]


def test_order_and_spread_change_nothing() -> None:
    words = Counter(path.read_bytes()[begin : begin + 7] for path in ROOT.glob("codedev/*.py") for begin in range(0, 20000, 7))
    expected = learn(*packed(words, words.values()), IDS, 2000)
    assert len(expected.pairs) == 2000
    parts = [(word, part) for word, count in words.items() for part in (count // 3, count - count // 3)]
    random.Random(0).shuffle(parts)
    found = learn(*packed((word for word, _ in parts), (count for _, count in parts)), IDS, 2000)
    assert np.array_equal(found.pairs, expected.pairs)
    assert np.array_equal(found.counts, expected.counts)


def test_nothing_and_bad_arguments() -> None:
    for words in ({}, {b"": 4}, {b"a": 4, b"b": 1}, {b"ab": 0}):
        assert learn(*packed(words, words.values()), IDS, 10).pairs.shape == (0, 2)
    one = packed([b"abab"], [3])
    assert len(learn(*one, IDS, 0).pairs) == len(learn(*one, IDS, -1).pairs) == 0
    assert learn(*one, IDS, 1 << 40).counts.tolist() == [6, 3]  # as many as there are
    assert len(learn(*one, IDS, 9, min_frequency=7).pairs) == 0
    for offsets, counts in (([0, 5], [1]), ([0, 4], [1, 1]), ([3, 1], [1]), ([-1, 2], [1]), ([0, 4], [-1]), ([0, 4], [1 << 62])):
        with pytest.raises(ValueError, match=r"offsets|counts"):
            learn(one.data, np.array(offsets), np.array(counts), IDS, 5)
    with pytest.raises(ValueError, match="ids"):
        learn(*one, np.zeros(256, np.int32), 5)


def test_a_word_of_a_megabyte() -> None:
    # 2^20 letters: twenty merges, each halves the run.
    found = learn(*packed([b"a" * (1 << 20)], [3]), IDS, 100)
    assert as_bytes(found) == [(b"a" * (1 << power),) * 2 for power in range(20)]
    assert found.counts.tolist() == [3 * ((1 << power) - 1) for power in range(20, 0, -1)]


def fibonacci(size: int) -> bytes:
    short, long = b"a", b"ab"
    while len(long) < size:
        short, long = long, long + short
    return long[:size]


ADVERSARIES: dict[str, Callable[[int], bytes]] = {
    "aaaa": lambda size: b"a" * size,
    "abab": lambda size: b"ab" * (size // 2),
    "fibonacci": fibonacci,
    "squares": lambda size: b"".join(b"a" * length + b"b" for length in range(int((2 * size) ** 0.5))),
    "random": lambda size: np.random.default_rng(0).bytes(size),
}


@pytest.mark.parametrize("name", ADVERSARIES)
def test_time_is_linear(name: str) -> None:
    def seconds(size: int) -> float:
        words = packed([ADVERSARIES[name](size)], [1])
        times = []
        for _ in range(3):
            begin = time.thread_time()
            learn(*words, IDS, 5000)
            times.append(time.thread_time() - begin)
        return min(times)

    # A method that reads the word for each merge takes 250 times as long for 16 times the word.
    assert seconds(1 << 20) < 100 * max(seconds(1 << 16), 0.002)
    assert seconds(1 << 20) < 8  # 0.2 at most on the machine of benchmarks/


# --- words


def split(data: bytes, seed: int, longest: int) -> np.ndarray:
    """Ends of pieces of up to `longest` bytes, empty ones among them."""
    ends = np.cumsum(np.random.default_rng(seed).integers(0, longest + 1, len(data) + 1))
    return ends[ends <= len(data)]


def counted(data: bytes, ends: np.ndarray, begin: int = 0) -> dict[bytes, int]:
    pieces = (data[start:end] for start, end in itertools.pairwise([begin, *ends.tolist()]))
    return dict(Counter(piece for piece in pieces if piece))


@given(st.binary(max_size=300) | st.text("ab ", max_size=300).map(str.encode), st.integers(0, 99), st.sampled_from([1, 3, 8, 15, 17, 40]))
@settings(max_examples=200, deadline=None)
def test_words_equal_a_counter(data: bytes, seed: int, longest: int) -> None:
    ends = split(data, seed, longest)
    counts = WordCounts()
    counts.add(np.frombuffer(data, np.uint8), ends)
    assert as_dict(counts.tables()) == counted(data, ends)


def many(seed: int, size: int = 600_000) -> tuple[bytes, np.ndarray]:
    """Words of which many are distinct and some are long."""
    rng = np.random.default_rng(seed)
    data = np.minimum(rng.geometric(0.1, size), 90).astype(np.uint8).tobytes()
    lengths = np.where(rng.random(size) < 0.05, rng.integers(12, 70, size), rng.integers(0, 7, size))
    ends = np.cumsum(lengths)
    return data, ends[ends <= size]


def test_words_by_any_batches_bounds_and_threads(tmp_path: Path) -> None:
    data, ends = many(1)
    buffer, expected = np.frombuffer(data, np.uint8), counted(data, ends)
    assert len(expected) > 50_000
    whole, small = WordCounts(), WordCounts(1 << 20, tmp_path)
    whole.add(buffer, ends)
    small.add(buffer, ends)
    assert whole.spills == 0 < small.spills
    assert as_dict(whole.tables()) == as_dict(small.tables()) == as_dict(small.tables()) == expected

    batches, cut = WordCounts(1 << 20, tmp_path), [0, 1, 5, 5, 40_000, 90_000, len(ends)]
    for first, last in itertools.pairwise(cut):
        batches.add(buffer, ends[first:last], int(ends[first - 1]) if first else 0)
    assert as_dict(batches.tables()) == expected

    parts = [WordCounts(1 << 20, tmp_path) for _ in range(3)]
    bounds = [0, len(ends) // 3, len(ends) // 2, len(ends)]

    def work(number: int) -> None:
        first, last = bounds[number], bounds[number + 1]
        parts[number].add(buffer, ends[first:last], int(ends[first - 1]) if first else 0)

    threads = [Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parts[0].absorb(parts[1])
    parts[0].absorb(parts[2])
    assert as_dict(parts[0].tables()) == expected
    parts.clear()
    del small, batches
    assert not any(tmp_path.iterdir())


def test_words_that_are_kept() -> None:
    data, ends = many(2, 200_000)
    expected = counted(data, ends)
    for memory in (1 << 30, 1 << 20):
        counts = WordCounts(memory)
        counts.add(np.frombuffer(data, np.uint8), ends)
        for most in (0, 1, 50, 3000, 100_000, 10**9):
            kept = counts.keep(most)
            least = next(n for n in range(1, 10**9) if sum(len(word) + 1 for word, count in expected.items() if count >= n) <= most)
            assert kept.least == least
            assert as_dict([kept.words]) == {word: count for word, count in expected.items() if count >= least}
            gone = {word: count for word, count in expected.items() if count < least}
            assert (kept.dropped_words, kept.dropped_occurrences, kept.dropped_bytes) == (
                len(gone), sum(gone.values()), sum(map(len, gone))
            )  # fmt: skip


def test_words_longer_than_the_bound() -> None:
    data = b"x" * (3 << 20) + b"y" + b"x" * (3 << 20) + b"y" * (2 << 20)
    ends = np.array([3 << 20, (3 << 20) + 1, (6 << 20) + 1, (8 << 20) + 1])
    counts = WordCounts(1 << 20)
    counts.add(np.frombuffer(data, np.uint8), ends)
    assert as_dict(counts.tables()) == {b"x" * (3 << 20): 2, b"y": 1, b"y" * (2 << 20): 1}


def test_words_outside_data() -> None:
    data = np.frombuffer(b"abcdef", np.uint8)
    for ends, begin in (([3, 2], 0), ([7], 0), ([2], 3), ([4], -1), ([6], 7), ([-1], 0)):
        with pytest.raises(ValueError, match=r"piece|begin"):
            WordCounts().add(data, np.array(ends), begin)


# --- texts


def of_texts(texts: Iterator[list[str]], shape: str, size: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens and merges of the library, from its own pretokenizer."""
    regex = next(regex for regex, name in REGEXES.items() if SHAPES[name] == SHAPES[shape])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(tokenizer.to_str())["model"]
    learned = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return LETTERS + learned[256:], [tuple(merge) for merge in model["merges"]]


def sources() -> list[str]:
    return [path.read_text() for path in sorted(ROOT.glob("codedev/kernels/*.py"))[:20]]


@pytest.mark.parametrize("shape", ["u7", "cl100k", "gpt2", "o200k"])
def test_texts_equal_the_library(shape: str) -> None:
    texts = sources()
    found = learn_bpe([pa.array(texts, pa.large_string())], SHAPES[shape], 1500)
    assert (found.tokens, found.merges) == of_texts(iter([texts]), shape, 1500)
    assert found.words.least == 1
    assert len(found.counts) == len(found.merges) == 1500 - 256


def test_batches_and_memory_change_no_merge() -> None:
    texts = sources()
    whole = pa.array([*texts, None, ""], pa.large_string())
    expected = learn_bpe([whole], SHAPES["u7"], 1000)
    parts = [whole[:3], whole[3:3], whole[3:11], whole[11:]]
    found = learn_bpe(parts, SHAPES["u7"], 1000, count_bytes=1 << 20)
    assert found[:3] == expected[:3]


def test_rare_words_left_out() -> None:
    texts = pa.array(sources(), pa.large_string())
    counts = WordCounts()
    count_texts(counts, texts, SHAPES["u7"])
    full = as_dict(counts.tables())
    found = learn_bpe([texts], SHAPES["u7"], 1000, most_bytes=20_000)
    assert found.words.least > 1
    assert found.words.dropped_words + len(found.words.words.counts) == len(full)
    rest = {word: count for word, count in full.items() if count >= found.words.least}
    words = packed(rest, rest.values())
    assert words.offsets[-1] + len(rest) <= 20_000
    assert learn_words(Kept(words, 1, 0, 0, 0), 1000)[:3] == found[:3]


def real_texts(data_dir: Path, size: int) -> list[str]:
    """About `size` bytes of code, LaTeX, books, prose in many languages and tables."""
    texts = []
    for folder, share, suffixes in (
        ("code", 0.45, ".py .c .h .rs .go .js .ts .java .rb .hs"),
        ("science", 0.12, ".tex"),
        ("books", 0.2, ".txt .html"),
        ("multilingual", 0.18, ".txt .tsv"),
        ("eval", 0.05, ".jsonl .json"),
    ):
        files = sorted(path for path in (data_dir / folder).rglob("*") if path.suffix in suffixes.split() and path.is_file())
        random.Random(1).shuffle(files)
        room = int(size * share)
        for path in files:
            texts.append(path.read_bytes()[:400_000].decode(errors="ignore"))
            room -= len(texts[-1].encode())
            if room < 0:
                break
    return texts


def check_real_texts(texts: list[str], size: int) -> None:
    found = learn_bpe([pa.array(texts, pa.large_string())], SHAPES["u7"], size)
    tokens, merges = of_texts(iter([texts]), "u7", size)
    assert len(merges) == size - 256
    assert found.merges == merges
    assert found.tokens == tokens


@pytest.mark.realdata
def test_real_texts_equal_the_library(data_dir: Path) -> None:
    check_real_texts(real_texts(data_dir, 10_000_000), 8000)


@pytest.mark.realdata
@pytest.mark.slow
def test_more_real_texts_equal_the_library(data_dir: Path) -> None:
    check_real_texts(real_texts(data_dir, 30_000_000), 32000)


def test_every_number_of_three_digits_is_a_token(tmp_path: Path) -> None:
    """By our engine and by the library, whatever the texts hold."""
    texts = [f"in {year} there were {year * 7 % 1000} of 10 and 007 x1y22z333" * 3 for year in range(300)]
    shape = SHAPES["u7"]
    found = learn_bpe([pa.array(texts, pa.large_string())], shape, 1700, numbers=True)
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(found.tokens)}, merges=found.merges))
    pattern = next(regex for regex, name in REGEXES.items() if name == "u7")
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    engine = load_engine(path)
    numbers = [f"{n:0{width}d}" for width in (1, 2, 3) for n in range(10**width)]
    ids, starts = encode(engine, *text_buffers(pa.array(numbers, pa.large_string())))
    assert np.array_equal(np.diff(starts), np.ones(len(numbers)))
    assert [tokenizer.id_to_token(number) for number in ids.tolist()] == numbers
    long = ["1234567", "x1234567890", "00000", *texts[:20]]
    ids, starts = encode(engine, *text_buffers(pa.array(long, pa.large_string())))
    for i, text in enumerate(long):
        assert ids[starts[i] : starts[i + 1]].tolist() == tokenizer.encode(text, add_special_tokens=False).ids
    assert len(set(found.tokens)) == len(found.tokens)
