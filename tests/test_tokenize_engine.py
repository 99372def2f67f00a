"""The fast encoder against `tokenizers`: the same ids for trained, real and random vocabularies; bounded on hostile text."""

from __future__ import annotations

import itertools
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pretoken_support import REGEX_OF, boundaries, buffers, fuzz, reference_ids, tokenizer_of_ranks
from test_kernels_pretokens import real_texts, run_guarded
from test_tokenize_documents import NASTY, document, stdlib_texts, write_corpus
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from codedev._errors import InputError
from codedev.corpus.buffers import text_buffers
from codedev.kernels import bpe_encode, bpe_grow
from codedev.kernels.bpe_encode import word_cache
from codedev.kernels.bpe_grow import grown
from codedev.kernels.bpe_tables import MAX_IDS, token_ids
from codedev.kernels.pretokens import SHAPES
from codedev.tokenize.engine import Engine, byte_characters, encode, load_engine, load_ranks, load_saved, save, supported
from codedev.tokenize.presets import PATTERNS, SPECIAL_TOKENS
from codedev.tokenize.shapes import shape_of
from codedev.tokenize.train import train_tokenizer


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small tokenizer.json of each preset."""
    folder = tmp_path_factory.mktemp("engine")
    corpus = write_corpus(folder / "corpus", [document(i, text) for i, text in enumerate([*stdlib_texts(30), *NASTY])])
    for preset in PATTERNS:
        train_tokenizer(corpus, folder / preset, vocab_size=1500, preset=preset, special_slots=60, sample_bytes=500_000)
    return {preset: folder / preset / "tokenizer.json" for preset in PATTERNS}


def library(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def differing(engine: Engine, tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    data, offsets = buffers(texts)
    ids, starts = encode(engine, data, offsets)
    expected = reference_ids(tokenizer, texts)
    return [text for i, text in enumerate(texts) if ids[starts[i] : starts[i + 1]].tolist() != expected[i]]


@pytest.mark.parametrize("preset", PATTERNS)
def test_same_ids_for_every_preset(trained: dict[str, Path], preset: str) -> None:
    texts = [*fuzz(500, 23), *boundaries(), *NASTY, *stdlib_texts(4), *SPECIAL_TOKENS, "", "x" * 3000, "ab " * 700]
    engine = load_engine(trained[preset])
    assert differing(engine, library(trained[preset]), texts) == []
    assert differing(engine, library(trained[preset]), texts) == []  # with what the cache holds


SIZES = [2, 5, 9, 15, 16, 17, 40, 63, 64, 65, 200, 255, 256, 257, 600, 1023, 1024, 1025, 1500]


def random_model(seed: int, whole: bool) -> dict[str, Any]:
    """Merges in an order that no training gives, some of them twice or never reached."""
    rng = random.Random(seed)
    names = byte_characters()
    merges: list[tuple[str, str]] = []
    pool = list("abcd")
    for _ in range(120):
        left, right = rng.choice(pool), rng.choice(pool)
        if len(left + right) <= 20:
            merges.append((left, right))
            pool.append(left + right)
    rng.shuffle(merges)
    merges += rng.choices(merges, k=5)
    vocab = {name: number for number, name in enumerate(dict.fromkeys([*names, *pool]))}
    return {"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": whole}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("whole", [False, True])
def test_same_ids_for_random_merges(tmp_path: Path, seed: int, whole: bool) -> None:
    model = random_model(seed, whole)
    tokenizer = Tokenizer(models.BPE(model["vocab"], model["merges"], ignore_merges=whole))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    rng = random.Random(seed)
    texts = ["".join(rng.choices("aaabbcd", k=rng.choice(SIZES))) for _ in range(400)]
    assert differing(load_engine(tmp_path / "tokenizer.json"), tokenizer, texts) == []


def test_ids_up_to_the_limit(tmp_path: Path) -> None:
    names = byte_characters()
    made = ["ab", "abc", "abab", "cc"]
    vocab = {name: MAX_IDS - 1 - number for number, name in enumerate([*names, *made])}
    model = models.BPE(vocab, [("a", "b"), ("ab", "c"), ("ab", "ab"), ("c", "c")])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    texts = ["abab", "ababc", "ccc", "abcabcc", "zé", "ab" * 50]
    assert differing(load_engine(tmp_path / "tokenizer.json"), tokenizer, texts) == []
    vocab["zz"] = MAX_IDS
    described = json.loads(tokenizer.to_str())
    described["model"]["vocab"] = vocab
    assert "above" in str(supported(described))


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "shape"),
    [
        ("openai/cl100k_base", "cl100k"),
        pytest.param("qwen/qwen", "qwen", marks=pytest.mark.slow),
        pytest.param("openai/o200k_base", "o200k", marks=pytest.mark.slow),
        pytest.param("openai/r50k_base", "gpt2", marks=pytest.mark.slow),
    ],
)
def test_same_ids_for_real_vocabularies(data_dir: Path, file: str, shape: str) -> None:
    ranks = data_dir / "tokenizers" / f"{file}.tiktoken"
    tokenizer = tokenizer_of_ranks(ranks, REGEX_OF[shape])
    texts = [*fuzz(800, 7), *boundaries(), *real_texts(data_dir, 2, 60_000)]
    assert differing(load_ranks(ranks, shape), tokenizer, texts) == []


@pytest.mark.realdata
def test_same_ids_for_a_real_tokenizer_json(data_dir: Path) -> None:
    path = data_dir / "tokenizers/pytorch__torchtune/tests/assets/tokenizer.json"
    assert differing(load_engine(path), library(path), [*fuzz(800, 8), *boundaries(), *real_texts(data_dir, 2, 60_000)]) == []


def test_same_ids_a_character_at_a_time(trained: dict[str, Path]) -> None:
    """Where there are no vectors, the machine that is their oracle does the work."""
    data, offsets = buffers([*fuzz(300, 6), *boundaries(), *stdlib_texts(3)])
    for path in trained.values():
        engine = load_engine(path)
        found, _ = bpe_encode.encode(data, offsets, engine.shape, engine.tables, word_cache(10, 8), vectors=False)
        assert np.array_equal(found, encode(engine, data, offsets)[0])


def test_a_small_cache_empties_itself(trained: dict[str, Path]) -> None:
    engine = load_engine(trained["cl100k"])
    texts = [*fuzz(300, 2), *stdlib_texts(3)]
    data, offsets = buffers(texts)
    expected, starts = encode(engine, data, offsets)
    for short_bits, long_bits in itertools.product((3, 6, 10), (2, 8)):
        found, places = bpe_encode.encode(data, offsets, engine.shape, engine.tables, word_cache(short_bits, long_bits))
        assert np.array_equal(found, expected)
        assert np.array_equal(places, starts)


def test_threads_share_an_engine(trained: dict[str, Path]) -> None:
    engine = load_engine(trained["u7"])
    parts = [buffers([*fuzz(60, seed), *stdlib_texts(2)]) for seed in range(8)]
    expected = [encode(engine, *part)[0].tolist() for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert [ids.tolist() for ids, _ in pool.map(lambda part: encode(engine, *part), parts)] == expected
    assert 1 <= len(engine.caches) <= 4


@pytest.mark.parametrize("run", ["a", "ab", "1", " ", "é", "中", "aaab", "\n", "\\"])
def test_long_runs_take_n_log_n(trained: dict[str, Path], run: str) -> None:
    engine = load_engine(trained["u7"])
    small = run * (3000 // len(run))
    assert differing(engine, library(trained["u7"]), [small]) == []
    data, offsets = buffers([run * (1_000_000 // len(run))])
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        ids, starts = encode(engine, data, offsets)
        seconds.append(time.process_time() - begin)
    assert starts[-1] == len(ids) > 0
    assert min(seconds) < 2  # measured: 0.2


def test_arrow_slices_and_narrow_ids(trained: dict[str, Path]) -> None:
    import pyarrow as pa

    engine = load_engine(trained["u7"])
    texts = pa.array(["first", None, "second text 123", "", "third"], pa.large_string())
    whole, starts = encode(engine, *text_buffers(texts))
    part, places = encode(engine, *text_buffers(texts.slice(2, 2)), dtype=np.uint16)
    assert part.dtype == np.uint16
    assert part.tolist() == whole[starts[2] : starts[4]].tolist()
    assert places.tolist() == [0, len(part), len(part)]
    data, offsets = text_buffers(texts)
    for wrong in (offsets - 1, offsets + 1, offsets[::-1]):
        with pytest.raises(ValueError, match="rise"):
            encode(engine, data[: offsets[-1]], wrong)
    with pytest.raises(ValueError, match="at most"):
        encode(engine, np.lib.stride_tricks.as_strided(data, (1 << 31,), (0,)), np.array([0, 1 << 31]))
    empty, none = encode(engine, *text_buffers(texts.slice(0, 0)))
    assert (len(empty), none.tolist()) == (0, [0])


def test_saved_tables(trained: dict[str, Path], tmp_path: Path) -> None:
    engine = load_engine(trained["u7"])
    save(engine, tmp_path / "tables.npz")
    loaded = load_saved(tmp_path / "tables.npz")
    assert loaded is not None
    data, offsets = buffers(fuzz(100, 4))
    assert np.array_equal(encode(loaded, data, offsets)[0], encode(engine, data, offsets)[0])
    assert loaded.shape == engine.shape
    for name, wrong in (("rank_ids", MAX_IDS), ("byte_ids", 1 << 30), ("tokens", 1 << 30), ("offsets", 1 << 40), ("pairs", 0xFFFFF1)):
        table = getattr(engine.tables, name).copy()
        table[int(np.flatnonzero(table)[-1])] = wrong
        save(engine._replace(tables=engine.tables._replace(**{name: table})), tmp_path / "wrong.npz")
        assert load_saved(tmp_path / "wrong.npz") is None, name
    (tmp_path / "torn.npz").write_bytes((tmp_path / "tables.npz").read_bytes()[:500])
    assert load_saved(tmp_path / "torn.npz") is None
    assert load_saved(tmp_path / "absent.npz") is None


def test_what_is_not_covered(trained: dict[str, Path], tmp_path: Path) -> None:
    def changed(**settings: Any) -> dict[str, Any]:
        return {**json.loads(trained["cl100k"].read_text()), **settings}

    model = changed()["model"]
    added = {"id": 7, "content": "<x>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    cases = {
        "not BPE": changed(model={"type": "Unigram", "vocab": []}),
        "normalizer (NFC)": changed(normalizer={"type": "NFC"}),
        "byte_fallback": changed(model={**model, "byte_fallback": True}),
        "dropout": changed(model={**model, "dropout": 0.1}),
        "'<x>'": changed(added_tokens=[added]),
        "pretokenization": changed(pre_tokenizer={"type": "Whitespace"}),
        "are no tokens": changed(model={**model, "vocab": {name: i for name, i in model["vocab"].items() if name != "a"}}),
        "no ids": changed(model={**model, "vocab": {}}),
        "or some above": changed(model={**model, "vocab": {**model["vocab"], "a": -1}}),
        "one id": changed(model={**model, "vocab": {**model["vocab"], "a": 1}}),
    }
    for reason, described in cases.items():
        assert reason in str(supported(described))
        file = tmp_path / "tokenizer.json"
        file.write_text(json.dumps(described))
        with pytest.raises(InputError, match="does not cover"):
            load_engine(file)
    assert supported(changed()) is None
    odd = [{"model": 7}, {"pre_tokenizer": "x"}, {"added_tokens": [1]}, {"normalizer": "x"}, {"model": {**model, "merges": [["a"]]}}]
    odd += [{"model": {**model, "merges": ["a nowhere"]}}, {"model": {**model, "vocab": {**model["vocab"], "a": "b"}}}]
    odd.append({"model": {**model, "vocab": {**model["vocab"], "a" * 5000: 5000}}})
    for settings in odd:
        (tmp_path / "tokenizer.json").write_text(json.dumps(changed(**settings)))
        with pytest.raises(InputError, match="does not cover"):
            load_engine(tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match="cl100k"):
        load_ranks(tmp_path / "bad.tiktoken", "cl100")
    assert shape_of(r"\w+") is None
    (tmp_path / "bad.tiktoken").write_text("no ranks at all")
    with pytest.raises(InputError, match="tiktoken"):
        load_ranks(tmp_path / "bad.tiktoken", "cl100k")


def test_words_for_bytes(trained: dict[str, Path]) -> None:
    library_alphabet = pre_tokenizers.ByteLevel.alphabet()
    assert sorted(byte_characters()) == sorted(library_alphabet)
    engine = load_engine(trained["u7"])
    assert token_ids(engine.tables, [b"a", b"\n", b"\xff", b"no such token at all"]) == [97, 10, 255, -1]


def test_split_that_keeps_what_it_finds(trained: dict[str, Path], tmp_path: Path) -> None:
    described = json.loads(trained["cl100k"].read_text())
    described["pre_tokenizer"]["pretokenizers"][0] |= {"behavior": "Removed", "invert": True}
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(described))
    assert differing(load_engine(file), library(file), fuzz(200, 9)) == []


ENCODED = """
            from codedev.kernels.bpe_encode import encode, word_cache
            from codedev.kernels.bpe_tables import tables_from_ranks
            if "tables" not in globals():
                ranks = np.frombuffer(bytes(range(256)) + b"abab  thein", np.uint8)
                tables = tables_from_ranks(ranks, np.array([*range(257), 258, 260, 262, 264, 265, 266, 267]))
                cache = word_cache(8, 6)
            for vectors in (False, True):
                ids, starts = encode(own, offsets, shape, tables, cache, vectors=vectors)
                texts = (tables.data[tables.offsets[i] : tables.offsets[i + 1]].tobytes() for i in ids)
                assert len(ids) == starts[-1] and b"".join(texts) == own.tobytes()
"""


def test_nothing_is_read_past_the_buffer() -> None:
    assert run_guarded(ENCODED.strip()) == "inside\n"


CHECKED = """
            import numba
            from codedev.kernels.memory import peek_word, view
            if "reads_on" not in globals():
                reads_on = numba.njit(lambda array, at: peek_word(view(array), at))
                reads_on(np.zeros(8, np.uint8), 0)
                try:
                    reads_on(np.zeros(8, np.uint8), 1)
                    sys.exit("not checked")
                except IndexError:
                    pass
"""


@pytest.mark.slow
def test_kernels_stay_inside_their_arrays(tmp_path: Path) -> None:
    """All reads and writes with their bounds checked, which takes a compilation of its own."""
    environment = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert run_guarded(CHECKED.strip() + "\n            " + ENCODED.strip(), environment) == "inside\n"


def test_regexes_are_compiled_alike() -> None:
    """Every shape has a regex that the library accepts."""
    assert set(REGEX_OF) == set(SHAPES)
    for regex in REGEX_OF.values():
        Regex(regex)


def test_caches_grow_and_keep_what_they_hold(trained: dict[str, Path]) -> None:
    """From the smallest cache on, a text at a time: the same ids as before, and no piece is merged twice."""
    engine = load_engine(trained["u7"])
    texts = [
        *fuzz(400, 5),
        *stdlib_texts(6),
        "".join(chr(0x4E00 + i) for i in range(3000)),
        *(f"word{i}x " + "y" * (i % 40) for i in range(500)),
    ]
    cache, sizes = word_cache(8, 6), []
    for again in range(2):
        merged = int(cache.state[5])
        for text in texts:
            data, offsets = buffers([text])
            ids, _ = bpe_encode.encode(data, offsets, engine.shape, engine.tables, cache)
            expected, _ = bpe_encode.encode(data, offsets, engine.shape, engine.tables, word_cache(10, 8), vectors=False)
            assert np.array_equal(ids, expected)
            cache = grown(cache)
            sizes.append(len(cache.short))
        if again:
            assert int(cache.state[5]) - merged < 0.02 * merged  # those too long to be kept alone
    assert sizes[0] < sizes[-1]
    assert sizes == sorted(sizes)
    filled = cache.short.reshape(-1, 4)
    assert np.count_nonzero(filled[:, 1]) == cache.state[0]
    assert np.count_nonzero(cache.long.reshape(-1, 3)[:, 0]) == cache.state[1]
    assert bpe_grow.grown(cache) is cache or len(bpe_grow.grown(cache).short) <= bpe_grow.LARGEST["short"]
