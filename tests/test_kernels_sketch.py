"""Sketches against their definitions, datasketch, and exact Jaccard similarities; exact Jaccard against Python's sets."""

from __future__ import annotations

import inspect
import math
import random
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from codedev.kernels.overlap import jaccard, jaccards
from codedev.kernels.shingles import PIECE, shingle_hashes
from codedev.kernels.sketch import EMPTY, METHODS, estimate, parameters, sketches, sketches_of
from codedev.kernels.symbols import UNITS

ROOT = Path(__file__).parent.parent
GOLDEN = 0x9E3779B97F4A7C15


def buffers(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    contents = [text.encode() for text in texts]
    return np.frombuffer(b"".join(contents), np.uint8), np.cumsum([0, *map(len, contents)], dtype=np.int64)


def arrays(sets: Iterable[Iterable[int]]) -> tuple[np.ndarray, np.ndarray]:
    lists = [np.array(list(one), np.uint64) for one in sets]
    return np.concatenate([np.empty(0, np.uint64), *lists]), np.cumsum([0, *map(len, lists)], dtype=np.int64)


def mix(values: np.ndarray) -> np.ndarray:
    values = (values ^ values >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ values >> np.uint64(33)) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ values >> np.uint64(33)


def twin_fss(x: np.ndarray, bins: int, seed: int) -> np.ndarray:
    """The definition: all 2 K rounds over all shingles, the least (round, hash) of each bin. No early end, no pieces."""
    if len(x) == 0:
        return np.full(bins, EMPTY, np.uint32)
    offsets, factors = parameters("fss", bins, seed)
    best = np.full(bins, (1 << 64) - 1, np.uint64)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for r in range(2 * bins):
        h = mix(x + offsets[r]) if r else (x ^ offsets[0]) * factors[0]
        at = (h >> half) * np.uint64(bins) >> half if r < bins else np.full(len(x), r - bins, np.uint64)
        np.minimum.at(best, at.astype(np.int64), np.uint64(r) << half | h & low)
    out = (best & low).astype(np.uint32) ^ ((best >> half) * np.uint64(0x9E3779B1)).astype(np.uint32)
    return np.where(out == EMPTY, np.uint32(EMPTY - 1), out)


def twin_kperm(x: np.ndarray, count: int, seed: int) -> np.ndarray:
    if len(x) == 0:
        return np.full(count, EMPTY, np.uint32)
    a, b = parameters("kperm", count, seed)
    values = (a[:, None] * (x >> np.uint64(32)) + b[:, None] & np.uint64(0xFFFFFFFF)).min(axis=1)
    return np.minimum(values, np.uint64(EMPTY - 1)).astype(np.uint32)


def random_sets(generator: random.Random) -> list[list[int]]:
    """Sizes where FSS takes one round, many, and the fixed ones; repeated shingles; more than one slice."""
    sizes = [0, 1, 1, 2, 3, 7, 20, 60, 112, 300, 1000, 4095, 4096, 4097, 9000]
    sets = [[generator.getrandbits(64) for _ in range(size)] for size in sizes]
    few = [generator.getrandbits(64) for _ in range(3)]
    many = [generator.getrandbits(64) for _ in range(700)]
    sets += [few * 5, few * 3000, few * 3000 + many * 10, many * 10 + few * 3000, [few[0]] * 9000, few[:1] * 4096 + many]
    return [*sets, [0], [(1 << 64) - 1], list(range(500)), [i << 32 for i in range(500)]]


@pytest.mark.parametrize("num_hashes", [1, 2, 16, 112, 257])
@pytest.mark.parametrize("seed", [0, 1])
def test_as_defined(num_hashes: int, seed: int) -> None:
    sets = random_sets(random.Random(seed))
    hashes, bounds = arrays(sets)
    for method, twin in (("fss", twin_fss), ("kperm", twin_kperm)):
        out = sketches_of(hashes, bounds, num_hashes=num_hashes, seed=seed, method=method)
        for row, one in enumerate(sets):
            assert out[row].tolist() == twin(np.array(sorted(set(one)), np.uint64), num_hashes, seed).tolist(), (method, row)


@pytest.mark.parametrize("unit", UNITS)
def test_text_goes_through_its_shingles(unit: str) -> None:
    """From text in pieces as from all shingles at once; the order and repetition of shingles do not count, nor does the batch."""
    generator = random.Random(5)
    words = [str(generator.getrandbits(20)) + chr(generator.randrange(97, 1200)) for _ in range(5000)]
    texts = [
        "",
        "one",
        "one two three four five six",
        " ".join(words),
        " ".join(words) * 3,
        "a " * (3 * PIECE),
        "\n" * PIECE + "b c d e f g",
    ]
    texts += [" ".join(words[:size]) for size in (5, 10, 40, 150, 600)]
    data, offsets = buffers(texts)
    hashes, bounds = shingle_hashes(data, offsets, unit=unit)
    shuffled = hashes.copy()
    for row in range(len(texts)):
        np.random.default_rng(row).shuffle(shuffled[bounds[row] : bounds[row + 1]])
    for method in METHODS:
        for num_hashes in (9, 112):
            out = sketches(data, offsets, unit=unit, method=method, num_hashes=num_hashes, seed=3)
            assert (out == sketches_of(shuffled, bounds, method=method, num_hashes=num_hashes, seed=3)).all()
            one_by_one = [sketches(*buffers([text]), unit=unit, method=method, num_hashes=num_hashes, seed=3)[0] for text in texts]
            assert (out == np.array(one_by_one)).all()
            if method == "fss":
                for row in range(len(texts)):
                    assert (out[row] == twin_fss(np.unique(hashes[bounds[row] : bounds[row + 1]]), num_hashes, 3)).all()


def test_documents_without_a_word_resemble_nothing() -> None:
    data, offsets = buffers(["", " .,!", "", "a"])
    for method in METHODS:
        out = sketches(data, offsets, method=method)
        assert (out[:3] == EMPTY).all()
        assert (out[3] != EMPTY).all()
        assert estimate(out[0], out[1]) == 0
        assert estimate(out[3], out[3]) == 1
        assert estimate(out, out).tolist() == [0, 0, 0, 1]


def test_threads_agree() -> None:
    data, offsets = buffers([" ".join(map(str, range(size))) + " words" * size for size in range(1, 400)])
    alone = sketches(data, offsets)
    with ThreadPoolExecutor(4) as pool:
        assert all((out == alone).all() for out in pool.map(lambda _: sketches(data, offsets), range(8)))


# -- datasketch --------------------------------------------------------------------------------------------------------------------

FROZEN = {  # datasketch 2.0.0: MinHash(num_perm=6, seed, hashfunc=lambda x: x >> 32, scheme) of i * GOLDEN mod 2^64, i in 1..50
    ("datasketch", 1): [9124631, 178074187, 15916231, 2137721, 46765378, 30959839],
    ("datasketch", 42): [184299482, 106419382, 10437377, 109151503, 88351909, 54870962],
    ("datasketch-legacy", 1): [105364364, 72372940, 223711294, 55154479, 11785685, 9948147],
    ("datasketch-legacy", 42): [66484329, 93463306, 282555924, 118647625, 78126120, 8313961],
}


@pytest.mark.parametrize(("method", "seed"), list(FROZEN))
def test_frozen_values_of_datasketch(method: str, seed: int) -> None:
    hashes, bounds = arrays([[i * GOLDEN % (1 << 64) for i in range(1, 51)]])
    assert sketches_of(hashes, bounds, num_hashes=6, seed=seed, method=method)[0].tolist() == FROZEN[method, seed]


@pytest.mark.parametrize("seed", [1, 2**32 - 1])
@pytest.mark.parametrize("num_hashes", [1, 128])
def test_equals_datasketch(num_hashes: int, seed: int) -> None:
    """As the docstring of `sketches` says. datasketch 1 knows the legacy scheme alone."""
    datasketch = pytest.importorskip("datasketch")
    current = "scheme" in inspect.signature(datasketch.MinHash).parameters
    paths = sorted((ROOT / "docs").glob("*.md"))
    data, offsets = buffers(["", "one", *(path.read_text() for path in paths)])
    hashes, bounds = shingle_hashes(data, offsets)
    for method, options in (("datasketch", {}), ("datasketch-legacy", {"scheme": "legacy"} if current else {})):
        if method == "datasketch" and not current:
            continue
        out = sketches(data, offsets, num_hashes=num_hashes, seed=seed, method=method)
        for row in range(len(paths) + 2):
            minhash = datasketch.MinHash(num_perm=num_hashes, seed=seed, hashfunc=lambda shingle: int(shingle) >> 32, **options)
            if row:  # an empty batch is an error there
                minhash.update_batch(hashes[bounds[row] : bounds[row + 1]])
            assert minhash.hashvalues.tolist() == out[row].tolist()


# -- estimates ---------------------------------------------------------------------------------------------------------------------


def pairs_of(size: int, similarity: float, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """`count` pairs of random sets with `size` shingles in both together, and their Jaccard similarity."""
    common = round(similarity * size)
    own = (size - common) // 2
    x = generator.integers(0, 1 << 64, (count, size), dtype=np.uint64)
    left, right = x[:, : common + own], np.concatenate([x[:, :common], x[:, common + own :]], axis=1)
    bounds = np.cumsum([0] + [left.shape[1], right.shape[1]] * count)
    return np.concatenate([left, right], axis=1).ravel(), bounds, common / size


@pytest.mark.parametrize(("method", "least", "most"), [("fss", 0.6, 1.06), ("kperm", 0.94, 1.06), ("datasketch", 0.94, 1.06)])
def test_errors_are_those_of_theory(method: str, least: float, most: float) -> None:
    """Root mean square errors over sqrt(J (1 - J) / K), and the bias in standard errors, on 3,200 estimates a cell (so ± 1.3 %)."""
    generator = np.random.default_rng(1)
    for size in (20, 300, 3000):
        errors = []
        for similarity in (0.2, 0.5, 0.8, 0.95):
            hashes, bounds, exact = pairs_of(size, similarity, 100, generator)
            scale = math.sqrt(exact * (1 - exact) / 112)
            for seed in range(8):
                out = sketches_of(hashes, bounds, seed=seed, method=method)
                errors.append((estimate(out[::2], out[1::2]) - exact) / scale)
        every = np.concatenate(errors)
        assert least < np.sqrt((every**2).mean()) < most, size
        assert abs(every.mean()) * math.sqrt(len(every)) < 4, size
        if method == "fss" and size < 112:
            assert np.sqrt((every**2).mean()) < 0.8  # where its bins are filled by more than one shingle's rounds


def test_seeds_are_independent() -> None:
    """The mean of 16 seeds' estimates errs a quarter as much as one; no two seeds give a document the same coordinates."""
    for size in (20, 2000):
        hashes, bounds, exact = pairs_of(size, 0.5, 200, np.random.default_rng(size))
        every = [sketches_of(hashes, bounds, seed=seed) for seed in range(16)]
        errors = np.array([estimate(out[::2], out[1::2]) - exact for out in every])
        ratio = np.sqrt((errors.mean(axis=0) ** 2).mean() / (errors**2).mean())
        assert 0.2 < ratio < 0.3
        assert max(estimate(every[i], every[j]).max() for i in range(4) for j in range(i)) < 0.05


@pytest.mark.realdata
def test_errors_on_real_pairs(data_dir: Path) -> None:
    """Files of a source tree against versions of them with words changed; exact Jaccard of the shingles as the truth."""
    generator = random.Random(2)
    texts = []
    for path in sorted((data_dir / "code").rglob("*.py"))[::97][:300]:
        words = path.read_text(errors="replace").split()[:3000]
        rate = generator.choice([0.005, 0.02, 0.05, 0.1])
        texts += [" ".join(words), " ".join("changed" if generator.random() < rate else word for word in words)]
    data, offsets = buffers(texts)
    hashes, bounds = shingle_hashes(data, offsets)
    pairs = np.arange(len(texts)).reshape(-1, 2)
    exact = jaccards(hashes, bounds, pairs)
    scale = np.sqrt((exact * (1 - exact)).mean() / 112)
    for method, most in (("fss", 1.02), ("kperm", 1.1)):
        errors = np.concatenate(
            [estimate(out[::2], out[1::2]) - exact for out in (sketches(data, offsets, seed=seed, method=method) for seed in range(16))]
        )
        assert np.sqrt((errors**2).mean()) < most * scale
        assert abs(errors.mean()) < 0.002


# -- exact -------------------------------------------------------------------------------------------------------------------------


def test_jaccard_as_pythons_sets() -> None:
    generator = random.Random(11)
    sets = [[generator.randrange(1 << bits) for _ in range(size)] for bits in (3, 8, 64) for size in (0, 1, 2, 63, 64, 65, 500, 3000)]
    sets += [sets[-1][:1500], sets[-1] + sets[-2], [0] * 100, [(1 << 64) - 1] * 100, [0, (1 << 64) - 1], list(range(1000))[::-1]]
    hashes, bounds = arrays(sets)
    pairs = [(i, j) for i in range(len(sets)) for j in range(len(sets))]
    expected = [len(set(sets[i]) & set(sets[j])) / max(1, len(set(sets[i]) | set(sets[j]))) for i, j in pairs]
    before = hashes.copy()
    assert jaccards(hashes, bounds, np.array(pairs)).tolist() == expected
    assert (hashes == before).all()
    for i, j in pairs[:: len(sets) + 5]:
        left, right = np.array(sets[i], np.uint64), np.array(sets[j], np.uint64)
        assert jaccard(left, right) == expected[i * len(sets) + j]


def test_jaccard_of_nothing_and_of_what_is_not_there() -> None:
    hashes, bounds = arrays([[], [1], []])
    assert jaccards(hashes, bounds, np.array([[0, 2], [0, 0], [0, 1], [1, 1]])).tolist() == [0, 0, 0, 1]
    assert jaccards(hashes, bounds, np.empty((0, 2), np.int64)).tolist() == []
    for wrong in ([[0, 3]], [[-1, 0]]):
        with pytest.raises(IndexError):
            jaccards(hashes, bounds, np.array(wrong))
    with pytest.raises(ValueError, match="bounds"):
        jaccards(hashes, np.array([0, 2]), np.array([[0, 0]]))


def test_wrong_arguments() -> None:
    data, offsets = buffers(["one"])
    for options in ({"method": "simhash"}, {"num_hashes": 0}, {"num_hashes": 1 << 20}, {"seed": -1}, {"unit": "x"}, {"ngram": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            sketches(data, offsets, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="offsets"):
        sketches(data, np.array([0, 9]))
    with pytest.raises(ValueError, match="bounds"):
        sketches_of(np.zeros(2, np.uint64), np.array([0, 3]))


@pytest.mark.parametrize("num_hashes", [112, 9000])
def test_repeats_take_linear_time(num_hashes: int) -> None:
    """Text of one or few distinct shingles never fills the bins early; without taking repeats out, 2 K rounds would go over all of it."""
    few = "a b c d e f g h i j k l m n o p q r s t u v w x y z "
    for text in ("a " * 1_000_000, few * 40_000, "word " * 200_000 + few * 20_000):
        data, offsets = buffers([text])
        started = time.thread_time()
        sketches(data, offsets, num_hashes=num_hashes)
        assert time.thread_time() - started < 4  # 0.02 s at 112 and 0.3 s at 9000 on a free core; minutes without
