"""fastText models read and scored by our kernel against the C++ library that fasttext-predict binds: every loss, quantisation and n-gram
setting, on files written here; damaged files; hostile texts."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev.corpus.buffers import text_buffers
from codedev.corpus.language import model_path
from codedev.kernels import fasttext as kernel
from codedev.kernels import fasttext_file, fasttext_train, fasttext_write
from codedev.kernels.fasttext_file import ModelError

LOSSES = {"hs": 1, "ns": 2, "softmax": 3, "ova": 4}
WORDS = ["</s>", "the", "ferry", "Fähre", "море", "海", "a", "x" * 300, "__label__no", "\x7f"]
TEXTS = [
    "the ferry leaves the harbour at seven", "Die Fähre fährt um sieben über das Meer", "паром идёт через море",
    "渡轮七点半离开港口 海",
    "a", "the</s> the", "ferry </s> never read", "</s>", "__label__l1 the ferry", "the __label__zz ferry __label__",
    "__label__l2", "\0a\0\0b\0",
    "tab\tnew\nline\r\x0b\x0c end", "x" * 300, "y" * 5000, "é" * 2000, "😀 " * 300, "\u3000 \u00a0", "\u202e\ufeff\u0300", "the " * 2000,
]  # fmt: skip


def model_file(
    loss: str = "softmax", *, dim: int = 10, labels: int = 7, bucket: int = 500, min_n: int = 2, max_n: int = 4, word_ngrams: int = 1,
    quantised: bool = False, norms: bool = False, pruned: bool = False, part: int = 3,
    words: list[str] = WORDS, seed: int = 0, version: int = 12,
) -> bytes:  # fmt: skip
    """A model of random weights in fastText's layout, written from its description, not with our writer."""
    rng = np.random.default_rng(seed)
    out = struct.pack("<ii12id", 793712314, version, dim, 5, 5, 1, 5, word_ngrams, LOSSES[loss], 3, bucket, min_n, max_n, 100, 1e-4)
    kept = rng.choice(bucket, 300, replace=False) if pruned else np.arange(bucket)
    out += struct.pack("<3i2q", len(words) + labels, len(words), labels, 1000, len(kept) if pruned else -1)
    for word in words:
        out += word.encode() + struct.pack("<xqb", 10, 0)
    for number in range(labels):
        out += f"__label__l{number}".encode() + struct.pack("<xqb", 1000 // (number + 1), 1)
    if pruned:
        out += np.column_stack([kept, np.arange(len(kept))]).astype("<i4").tobytes()
    rows = len(words) + len(kept)

    def quantiser(width: int, size: int) -> bytes:
        parts = -(-width // size)
        table = rng.normal(0, 1, width * 256).astype("<f4").tobytes()
        return struct.pack("<4i", width, parts, size, width - (parts - 1) * size) + table

    if quantised:
        parts = -(-dim // part)
        codes = rng.integers(0, 256, rows * parts).astype(np.uint8)
        out += b"\1" + struct.pack("<?qqi", norms, rows, dim, len(codes)) + codes.tobytes() + quantiser(dim, part)
        if norms:
            out += rng.integers(0, 256, rows).astype(np.uint8).tobytes() + quantiser(1, 1)
    else:
        out += b"\0" + struct.pack("<qq", rows, dim) + rng.normal(0, 1, rows * dim).astype("<f4").tobytes()
    return out + b"\0" + struct.pack("<qq", labels, dim) + rng.normal(0, 3, labels * dim).astype("<f4").tobytes()


def reference(data: bytes, folder: Path) -> Any:
    (folder / "m.bin").write_bytes(data)
    return fasttext.load_model(str(folder / "m.bin"))


def run(model: fasttext_file.FastText, texts: list[str], k: int = 3, prefix: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return kernel.predict(model, *text_buffers(pa.array(texts, pa.large_string())), k, prefix)


def agrees(model: fasttext_file.FastText, peer: Any, texts: list[str], prefix: int = 0, tolerance: float = 1e-6) -> None:
    labels, scores = run(model, texts, 3, prefix)
    for row, text in enumerate(texts):
        head = text.encode()[: prefix or None].decode("utf-8", "ignore").replace("\n", " ")
        if not head.strip(" \t\r\v\f\0"):
            assert labels[row].tolist() == [-1] * 3
            assert not scores[row].any()
            continue
        said = peer.f.predict(head + "\n", 3, 0.0, "strict")
        assert scores[row, : len(said)] == pytest.approx([value for value, _ in said], abs=tolerance), text
        assert (scores[row, len(said) :] < 2e-5).all()  # the library stops there
        if len(said) < 2 or said[0][0] - said[1][0] > 2e-7:
            assert [model.labels[n] for n in labels[row, :1] if n >= 0] == [label.removeprefix("__label__") for _, label in said[:1]], text


SETTINGS = [
    {"loss": loss, **more}
    for loss, more in itertools.product(
        LOSSES,
        (
            {},
            {"min_n": 1, "max_n": 3, "word_ngrams": 3, "dim": 37},
            {"min_n": 0, "max_n": 0, "word_ngrams": 2},
            {"quantised": True, "pruned": True, "labels": 2},
            {"quantised": True, "pruned": True, "norms": True, "min_n": 3, "max_n": 6, "part": 4, "word_ngrams": 2},
            {"quantised": True, "words": ["the", "море"], "labels": 1, "dim": 16, "part": 2},
        ),
    )
]


@pytest.mark.parametrize("keys", SETTINGS, ids=lambda keys: "-".join(f"{k}={v}" for k, v in keys.items() if k != "words"))
def test_every_kind_of_model_against_the_library(keys: dict[str, Any], tmp_path: Path) -> None:
    data = model_file(**keys)
    agrees(fasttext_file.parse(data), reference(data, tmp_path), TEXTS)


def test_old_models_have_no_subwords(tmp_path: Path) -> None:
    data = model_file(version=11, word_ngrams=2)
    agrees(fasttext_file.parse(data), reference(data, tmp_path), TEXTS)


@pytest.fixture(scope="module")
def lid() -> tuple[fasttext_file.FastText, Any]:
    return fasttext_file.parse(model_path().read_bytes()), fasttext.load_model(str(model_path()))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), min_size=1, max_size=5), st.integers(0, 40))
def test_any_text(lid: tuple[fasttext_file.FastText, Any], texts: list[str], prefix: int) -> None:
    agrees(*lid, texts, prefix)


def test_a_text_says_the_same_whatever_stands_beside_it(lid: tuple[fasttext_file.FastText, Any]) -> None:
    model, _ = lid
    texts = TEXTS * 3 + [" ".join(f"w{n}" for n in range(20_000)), *TEXTS]  # more words than are remembered
    labels, scores = run(model, texts)
    for row in range(len(TEXTS)):
        one_labels, one_scores = run(model, [texts[row]])
        for at in (row, row + len(TEXTS), row + 3 * len(TEXTS) + 1):
            assert labels[at].tolist() == one_labels[0].tolist()
            assert scores[at].tobytes() == one_scores[0].tobytes()
    with ThreadPoolExecutor(2) as pool:
        for other, other_scores in pool.map(lambda _: run(model, texts), range(4)):
            assert other.tobytes() == labels.tobytes()
            assert other_scores.tobytes() == scores.tobytes()


def test_all_probabilities(lid: tuple[fasttext_file.FastText, Any]) -> None:
    model, peer = lid
    every = kernel.probabilities(model, *text_buffers(pa.array(TEXTS[:4], pa.large_string())))
    for row, text in enumerate(TEXTS[:4]):
        said = {label.removeprefix("__label__"): value for value, label in peer.f.predict(text + "\n", 176, 0.0, "strict")}
        assert every[row] == pytest.approx([said.get(label, 0.0) for label in model.labels], abs=2e-5)
        assert [every[row, model.labels.index(label)] for label in said] == pytest.approx(list(said.values()), abs=1e-6)


def test_the_prefix_ends_between_characters(lid: tuple[fasttext_file.FastText, Any]) -> None:
    for text in ("ab" + "é" * 50, "海" * 50, "😀" * 30, "a" + "😀" * 30):
        for prefix in range(1, 20):
            agrees(*lid, [text, "the end"], prefix)


PLANES = "".join(chr(code) for code in range(1, 0x110000, 37) if not 0xD800 <= code < 0xE000)


@pytest.mark.parametrize("text", ["x" * 2_000_000, "\n" * 1_000_000, "\0" * 100_000, "a " * 500_000, "é" * 500_000, PLANES, ""], ids=len)
def test_hostile_texts(lid: tuple[fasttext_file.FastText, Any], text: str) -> None:
    agrees(*lid, [text, "and then", text], 0, 2e-6)
    agrees(*lid, [text, "and then", text], 4096)


def test_time_is_linear_in_a_single_word(lid: tuple[fasttext_file.FastText, Any]) -> None:
    def seconds(size: int) -> float:
        texts = ["ab" * size]
        return min(_timed(lambda: run(lid[0], texts)) for _ in range(3))

    assert seconds(1_000_000) < 10 * max(seconds(250_000), 1e-3)


def test_a_prefix_of_a_hundred_megabytes_costs_a_prefix(lid: tuple[fasttext_file.FastText, Any]) -> None:
    data = np.full(100_000_000, ord("x"), np.uint8)
    assert _timed(lambda: kernel.predict(lid[0], data, np.array([0, len(data)]), 1, 4096)) < 1


def _timed(call: Any) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


@pytest.mark.parametrize("keys", [{}, {"quantised": True, "pruned": True, "norms": True}, {"loss": "hs"}])
def test_a_cut_file_is_an_error(keys: dict[str, Any]) -> None:
    data = model_file(**keys)
    fasttext_file.parse(data)
    for size in [*range(400), *range(400, len(data), 997), len(data) - 1]:
        with pytest.raises(ModelError):
            fasttext_file.parse(data[:size], "cut")
    with pytest.raises(ModelError, match="too many"):
        fasttext_file.parse(data + b"\0", "long")


@pytest.mark.parametrize("keys", [{}, {"quantised": True, "pruned": True, "norms": True}, {"loss": "hs", "word_ngrams": 2}])
def test_a_damaged_file_is_an_error_or_a_model(keys: dict[str, Any]) -> None:
    data = model_file(**keys)
    rng = random.Random(1)
    head = data.index(b"__label__l6") + 20  # what decides sizes lies before; further on are weights
    outcomes = set()
    for _ in range(700):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 1, 4])):
            damaged[rng.randrange(head if rng.random() < 0.8 else len(data))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        try:
            model = fasttext_file.parse(bytes(damaged), "damaged")
        except ModelError:
            outcomes.add("error")
            continue
        outcomes.add("model")
        run(model, TEXTS[:12])
    assert outcomes == {"error", "model"}


@pytest.mark.parametrize(
    ("place", "value"),
    [(8, 2**31 - 1), (8, -5), (40, 2**31 - 1), (64, 2**31 - 1), (68, 2**31 - 1), (72, 2**30), (72, -1), (84, 2**62), (84, -(2**62))],
)
def test_lying_counts_cost_nothing(place: int, value: int) -> None:
    data = bytearray(model_file())
    data[place : place + (8 if place == 84 else 4)] = struct.pack("<q" if place == 84 else "<i", value)
    start = time.thread_time()
    with contextlib.suppress(ModelError):  # where less is read than there is, it is a smaller model
        fasttext_file.parse(bytes(data), "liar")
    assert time.thread_time() - start < 2


def test_files_of_something_else() -> None:
    for data in (b"", b"\x80\x04cos\nsystem\n", b"x" * 1000):
        with pytest.raises(ModelError):
            fasttext_file.parse(data, "odd.bin")
    words = bytearray(model_file())
    words[36:40] = struct.pack("<i", 2)  # a model of word vectors
    with pytest.raises(ModelError, match="labels"):
        fasttext_file.parse(bytes(words), "vectors.bin")


def trained(seed: int = 0) -> tuple[list[str], bytes, list[tuple[str, str]]]:
    spellings = {"aa": "abcde", "bb": "dexyz", "cc": "морепа", "dd": "éüöexy"}
    rng = random.Random(5)

    def word(label: str) -> str:
        return "".join(rng.choices(spellings[label], k=rng.randint(3, 8)))

    texts = {label: [word(label) for _ in range(2000)] for label in spellings}
    labels = list(spellings)
    blob = np.frombuffer("".join(w for label in labels for w in texts[label]).encode(), np.uint8).copy()
    starts = np.concatenate([[0], np.cumsum([len(w.encode()) for label in labels for w in texts[label]])])
    grams, gram_starts = fasttext_train.ngrams_of(blob, starts, 1, 3, 4096)
    words, word_starts = np.arange(8000, dtype=np.int32), np.arange(0, 8001, 2000)
    inputs, outputs = fasttext_train.train(grams, gram_starts, words, word_starts, 4096, 12, 8000, (2, 6), 1.0, seed)
    kept = np.unique(grams)
    data = fasttext_write.write(labels, inputs[kept], outputs, kept, 4096, 1, 3)
    return labels, data, [(label, " ".join(word(label) for _ in range(6))) for label in labels for _ in range(50)]


def test_what_we_train_and_write_the_library_reads(tmp_path: Path) -> None:
    labels, data, texts = trained()
    assert trained()[1] == data  # to the byte
    assert trained(1)[1] != data
    model, peer = fasttext_file.parse(data), reference(data, tmp_path)
    assert list(model.labels) == labels
    agrees(model, peer, [text for _, text in texts] + TEXTS)
    found, _ = run(model, [text for _, text in texts], 1)
    right = [model.labels[n] == label for n, (label, _) in zip(found[:, 0].tolist(), texts, strict=True)]
    assert np.mean(right) > 0.95


@pytest.mark.realdata
def test_ten_thousand_documents_without_a_different_label(lid: tuple[fasttext_file.FastText, Any], data_dir: Path) -> None:
    texts: list[str] = []
    for path in sorted((data_dir / "multilingual/MicrosoftTranslator__NTREX/NTREX-128").glob("*.txt")):
        lines = path.read_text().split("\n")
        texts += ["\n".join(lines[n : n + 20]) for n in range(0, 300, 20)] + lines[300:345]
    for path in sorted(data_dir.glob("books/**/*.txt"))[:60] + sorted(data_dir.glob("code/**/*.py"))[:1500]:
        text = path.read_bytes()[: 1 << 17].decode("utf-8", "replace")
        texts += [text[n : n + 5000] for n in range(0, len(text), 5000)][:12]
    if len(texts) < 10_000:
        pytest.skip("the real texts are not unpacked")
    texts = random.Random(0).sample(texts, 10_000)  # half a minute, most of it the library
    model, peer = lid
    labels, scores = run(model, texts, 1, 4096)
    different, furthest = 0, 0.0
    for row, text in enumerate(texts):
        head = text.encode()[:4096].decode("utf-8", "ignore").replace("\n", " ")
        if head.strip(" \t\r\v\f\0"):
            [(value, label)] = peer.f.predict(head + "\n", 1, 0.0, "strict")
            different += label != f"__label__{model.labels[labels[row, 0]]}"
            furthest = max(furthest, abs(value - float(scores[row, 0])))
        else:
            different += labels[row, 0] != -1
    assert different == 0
    assert furthest < 1e-6


@pytest.mark.slow
def test_nothing_is_read_or_written_out_of_bounds(tmp_path: Path) -> None:
    (tmp_path / "texts.py").write_text(
        "import sys; sys.path.insert(0, sys.argv[1]); import test_kernels_fasttext as t\n"
        "from codedev.kernels import fasttext_file as f\n"
        "for keys in t.SETTINGS: t.run(f.parse(t.model_file(**keys)), t.TEXTS + [t.PLANES])\n"
        "t.trained()\n"
    )
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    arguments = [sys.executable, str(tmp_path / "texts.py"), str(Path(__file__).parent)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=600, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr[-2000:]
