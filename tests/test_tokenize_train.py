"""Training a vocabulary: lossless, safe from special tokens in text, the same for any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tokenize_documents import NASTY, document, stdlib_texts, write_corpus
from tokenizers import Tokenizer

from codedev._errors import InputError
from codedev.tokenize import residues
from codedev.tokenize.engine import byte_characters
from codedev.tokenize.presets import PATTERNS, SPECIAL_TOKENS
from codedev.tokenize.train import train_tokenizer
from codedev.tokenize.vocabulary import Vocabulary, encode_plain, load_vocabulary


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [*stdlib_texts(40), *NASTY]
    return write_corpus(tmp_path_factory.mktemp("train") / "corpus", [document(i, text) for i, text in enumerate(texts)])


@pytest.fixture(scope="module")
def trained(corpus: Path) -> dict[str, Vocabulary]:
    """A small vocabulary of each preset."""
    found = {}
    for preset in PATTERNS:
        out = corpus.parent / preset
        train_tokenizer(corpus, out, vocab_size=1500, preset=preset, special_slots=60, sample_bytes=600_000)
        found[preset] = load_vocabulary(out)
    return found


def encoded(vocabulary: Vocabulary, text: str) -> list[int]:
    return encode_plain(vocabulary, pa.array([text], pa.large_string())).ids.tolist()


def decode(vocabulary: Vocabulary, text: str) -> str:
    ids = encoded(vocabulary, text)
    assert not set(ids) & {vocabulary.bos_id, vocabulary.eos_id, vocabulary.pad_id}
    assert max(ids, default=0) < vocabulary.size - 60 - len(residues.names())  # no reserved token, no residue from text
    assert vocabulary.byte_lengths is not None
    assert vocabulary.byte_lengths[ids].sum() == len(text.encode())
    return vocabulary.tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("preset", list(PATTERNS))
@pytest.mark.parametrize("text", NASTY)
def test_lossless_on_nasty_text(trained: dict[str, Vocabulary], preset: str, text: str) -> None:
    assert decode(trained[preset], text) == text


@given(st.lists(st.one_of(st.text(max_size=40), st.sampled_from(SPECIAL_TOKENS), st.sampled_from(["'s", "\\x", "\r\n", "   "]))))
@settings(max_examples=200, deadline=None)
def test_lossless_on_any_text(trained: dict[str, Vocabulary], parts: list[str]) -> None:
    text = "".join(parts)
    for vocabulary in trained.values():
        assert decode(vocabulary, text) == text


def test_layout_of_the_vocabulary(corpus: Path, trained: dict[str, Vocabulary]) -> None:
    vocabulary = trained["u7"]
    assert vocabulary.size == 1500
    assert [vocabulary.tokenizer.id_to_token(i) for i in range(256)] == byte_characters()
    assert vocabulary.tokenizer.encode("A", add_special_tokens=False).ids == [65]
    names = [vocabulary.tokenizer.id_to_token(i) for i in range(1440, 1500)]
    assert names[:4] == ["<|endoftext|>", "<|pad|>", "<|bos|>", "<|mask|>"]
    assert names[-1] == f"<|reserved_{60 - len(SPECIAL_TOKENS) - 1}|>"
    assert (vocabulary.eos_id, vocabulary.pad_id, vocabulary.bos_id) == (1440, 1441, 1442)
    manifest = orjson.loads((corpus.parent / "u7" / "tokenizer.manifest.json").read_bytes())
    assert manifest["vocab_size"] == 1500
    assert manifest["special"]["<|bos|>"] == 1442
    assert manifest["tokenizer_hash"] == vocabulary.hash
    assert 2 < manifest["bytes_per_token"] < 6


def test_literal_special_tokens_stay_text(trained: dict[str, Vocabulary]) -> None:
    """As loaded by codedev. The library's own default would give the special id: the test can fail."""
    vocabulary = trained["u7"]
    text = "a<|endoftext|>b"
    assert vocabulary.eos_id in Tokenizer.from_file(str(vocabulary.path)).encode(text).ids
    assert vocabulary.eos_id not in encoded(vocabulary, text)


def test_u7_splits(trained: dict[str, Vocabulary]) -> None:
    split = trained["u7"].tokenizer.pre_tokenizer
    assert split is not None

    def pieces(text: str) -> list[str]:
        return [text[begin:end] for _, (begin, end) in split.pre_tokenize_str(text)]

    assert pieces("if x:\n    return 1234567") == ["if", " x", ":", "\n    ", "return", " ", "1", "234", "567"]
    assert pieces(r"x_{\alpha} \beta") == ["x", "_{", r"\alpha", "}", r" \beta"]
    assert pieces("don't stop") == ["don", "'t", " stop"]


def test_patterns_agree_with_the_regex_module(trained: dict[str, Vocabulary]) -> None:
    regex = pytest.importorskip("regex")
    for preset, vocabulary in trained.items():
        split = vocabulary.tokenizer.pre_tokenizer
        assert split is not None
        for text in [*NASTY, *stdlib_texts(3)]:
            # What no alternative matches stands as a piece of its own in both.
            expected = [m.span() for m in regex.finditer(PATTERNS[preset], text) if m.end() > m.start()]
            found = [span for _, span in split.pre_tokenize_str(text)]
            assert found == expected, (preset, text[:80])


def test_deterministic_for_threads_and_corpus_order(corpus: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from codedev.tokenize.train import train_tokenizer;"
        "train_tokenizer(Path(sys.argv[1]), Path(sys.argv[2]), vocab_size=3000, seed=7)"
    )
    written = []
    for threads in (1, 2):
        out = tmp_path / str(threads)
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
        subprocess.run([sys.executable, "-c", script, str(corpus), str(out)], check=True, env=environment)
        written.append([(out / name).read_bytes() for name in ("tokenizer.json", "tokenizer.manifest.json", "tokenizer_config.json")])
    assert written[0] == written[1]
    texts = [*stdlib_texts(40), *NASTY]
    shuffled = write_corpus(tmp_path / "shuffled", [document(i, text) for i, text in enumerate(texts)][::-1])
    train_tokenizer(shuffled, tmp_path / "s", vocab_size=3000, seed=7)
    assert (tmp_path / "s" / "tokenizer.json").read_bytes() == written[0][0]


def test_sample_is_a_function_of_seed_and_ids(tmp_path: Path) -> None:
    rows = [document(i, f"document {i} says word{i % 97} " * 5) for i in range(2000)]
    folder = write_corpus(tmp_path / "corpus", rows, part_rows=700)
    total = sum(len(row["text"]) for row in rows)
    results = [
        train_tokenizer(folder, tmp_path / f"t{i}", vocab_size=400, special_slots=3, sample_bytes=total // 4, seed=s)
        for i, s in enumerate((0, 0, 1))
    ]
    assert results[0] == results[1]
    assert results[0] != results[2]
    sample = results[0]["sample"]
    assert not sample["whole"]
    assert abs(sample["bytes"] / total - 0.25) < 0.05
    assert (sample["of_documents"], sample["of_bytes"]) == (2000, total)
    assert train_tokenizer(folder, tmp_path / "all", vocab_size=400, special_slots=3)["sample"]["whole"]


def test_loads_in_transformers(corpus: Path, trained: dict[str, Vocabulary]) -> None:
    transformers = pytest.importorskip("transformers")
    loaded = transformers.AutoTokenizer.from_pretrained(trained["u7"].path.parent)
    assert (loaded.eos_token_id, loaded.pad_token_id, loaded.bos_token_id) == (1440, 1441, 1442)
    text = "def f(x):\n    return naïve + 1234"
    assert loaded.decode(loaded(text, add_special_tokens=False)["input_ids"]) == text


def test_small_corpus_gives_a_smaller_vocabulary(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "corpus", [document(0, "abc abc abc")])
    result = train_tokenizer(folder, tmp_path / "t", vocab_size=65536)
    assert result["vocab_size"] < 1700  # bytes, numbers, residues, special tokens
    assert result["vocab_size_asked"] == 65536


def test_bad_arguments(corpus: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ({"vocab_size": 300}, "vocab-size 300"),
        ({"preset": "llama"}, "did you mean 'llama3'"),
        ({"special_slots": 2}, "at least 3"),
        ({"sample_bytes": 0}, "positive"),
    ):
        with pytest.raises(InputError, match=message):
            train_tokenizer(corpus, tmp_path / "t", **arguments)  # type: ignore[arg-type]
    empty = write_corpus(tmp_path / "empty", [document(0, ""), document(1, "")])
    with pytest.raises(InputError, match="no text"):
        train_tokenizer(empty, tmp_path / "t")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not a directory"):
        train_tokenizer(corpus, tmp_path / "file")


def test_unknown_tokenizers(tmp_path: Path, trained: dict[str, Vocabulary]) -> None:
    with pytest.raises(InputError, match="no such tokenizer"):
        load_vocabulary(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(InputError, match=r"tokenizers library"):
        load_vocabulary(tmp_path)
    model = orjson.loads(trained["u7"].path.read_bytes())
    model["added_tokens"] = [token for token in model["added_tokens"] if token["content"] not in ("<|endoftext|>", "<|im_end|>")]
    model["added_tokens"] = [{**token, "id": 1440 + i} for i, token in enumerate(model["added_tokens"])]
    (tmp_path / "tokenizer.json").write_bytes(orjson.dumps(model))
    with pytest.raises(InputError, match="--eos TOKEN"):
        load_vocabulary(tmp_path)
    with pytest.raises(InputError, match="no such token"):
        load_vocabulary(tmp_path, eos="<|nope|>")
    named = load_vocabulary(tmp_path, eos="<|doc_code|>")
    assert named.tokenizer.id_to_token(named.eos_id) == "<|doc_code|>"
