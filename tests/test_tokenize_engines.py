"""Tokenizers of every form against the libraries they come from: tiktoken, tokenizers, sentencepiece; their training and extension."""

from __future__ import annotations

import base64
import itertools
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pretoken_support import boundaries, fuzz
from test_tokenize_documents import NASTY, document, stdlib_texts, write_corpus
from tokenizers import Tokenizer
from tokenizers.implementations import ByteLevelBPETokenizer

from codedev._errors import InputError
from codedev.cli import cli
from codedev.kernels.bpe_extend import LONGEST, learn_further
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.extend import extend_tokenizer, mean_of_pieces
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.shapes import O200K, TEKKEN
from codedev.tokenize.trace import trace
from codedev.tokenize.train import special_names, train_tokenizer
from codedev.tokenize.vocabulary import Vocabulary, decode, encode_plain, load_vocabulary, special_id, special_ids, token_bytes, token_name

SPECIALS = ["<|endoftext|>", "<|fim_prefix|>", "<|im_start|>", "<s>", "</s>", "[INST]", "a<|endoftext|>b", "<unk>"]
# As tiktoken 0.14 has them (openai_public.py); its patterns are the reference, not those of tokenizers.
R50K = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def texts(count: int = 200) -> list[str]:
    return [*fuzz(count, 31), *boundaries()[::7], *NASTY, *stdlib_texts(3), *SPECIALS, ""]


def ids_of(vocabulary: Vocabulary, some: list[str]) -> list[list[int]]:
    plain = encode_plain(vocabulary, pa.array(some, pa.large_string()))
    ids = plain.ids.tolist()
    return [ids[begin:end] for begin, end in zip(plain.offsets[:-1], plain.offsets[1:], strict=True)]


def differing(vocabulary: Vocabulary, some: list[str], expected: list[list[int]]) -> list[str]:
    return [text for text, mine, theirs in zip(some, ids_of(vocabulary, some), expected, strict=True) if mine != theirs]


def in_library(vocabulary: Vocabulary, some: list[str]) -> list[list[int]]:
    assert vocabulary.tokenizer is not None
    return [encoding.ids for encoding in vocabulary.tokenizer.encode_batch_fast(some, add_special_tokens=False)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    documents = [document(i, text) for i, text in enumerate([*stdlib_texts(40), *NASTY, "a ▁ b"])]
    return write_corpus(tmp_path_factory.mktemp("engines") / "corpus", documents)


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "cl100k"
    train_tokenizer(corpus, out, vocab_size=1500, preset="cl100k", special_slots=60)
    return out


# Ranks


def reference(ranks: Path, pattern: str) -> Any:
    tiktoken = pytest.importorskip("tiktoken")
    lines = (line.split() for line in ranks.read_bytes().splitlines())
    tokens = {base64.b64decode(text): int(rank) for text, rank in lines}
    return tiktoken.Encoding("reference", pat_str=pattern, mergeable_ranks=tokens, special_tokens={})


KNOWN = [
    ("openai/r50k_base", R50K, {"<|endoftext|>": 50256}),
    ("openai/p50k_base", R50K, {"<|endoftext|>": 50256}),
    ("openai/cl100k_base", CL100K, {"<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260}),
    ("openai/o200k_base", O200K, {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}),
    ("qwen/qwen", QWEN, {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}),
]


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "pattern", "special"), KNOWN, ids=[name for name, _, _ in KNOWN])
def test_known_ranks_are_as_tiktoken_has_them(data_dir: Path, name: str, pattern: str, special: dict[str, int]) -> None:
    file = data_dir / "tokenizers" / f"{name}.tiktoken"
    vocabulary, encoding = load_vocabulary(file), reference(file, pattern)
    some = texts()
    expected = [encoding.encode_ordinary(text) for text in some]
    assert vocabulary.why_library is None
    assert differing(vocabulary, some, expected) == []  # by the kernels
    assert in_library(vocabulary, some) == expected  # by the library, from the tokenizer.json that shards get
    assert [decode(vocabulary, ids) for ids in expected] == some
    assert special.items() <= {name: special_id(vocabulary, name) for name in special}.items()
    assert vocabulary.eos_id == special["<|endoftext|>"]
    assert not special_ids(vocabulary) & {number for ids in expected for number in ids}


def test_ranks_beside_their_manifest(trained: Path, tmp_path: Path) -> None:
    """The ranks that training writes are the same tokenizer as its tokenizer.json, and need to be told how text is cut."""
    own, folder = load_vocabulary(trained), tmp_path / "ranks"
    folder.mkdir()
    shutil.copy(trained / "tokenizer.tiktoken", folder / "mine.tiktoken")
    with pytest.raises(InputError, match=r"--shape: cl100k, gpt2, llama3, o200k, qwen, qwen3.5, tekken, u7, u7-aligned"):
        load_vocabulary(folder)
    with pytest.raises(InputError, match="no such pretokenization"):
        load_vocabulary(folder, shape="cl100")
    with pytest.raises(InputError, match="no token that ends a document"):
        load_vocabulary(folder, shape="cl100k")
    assert load_vocabulary(folder, shape="cl100k", need_eos=False).eos_id == -1
    shutil.copy(trained / "tokenizer.manifest.json", folder)
    found = load_vocabulary(folder)
    some = texts()
    assert ids_of(found, some) == ids_of(own, some)
    assert (found.eos_id, found.bos_id, found.pad_id) == (own.eos_id, own.bos_id, own.pad_id)
    assert special_id(found, "<|fim_prefix|>") == special_id(own, "<|fim_prefix|>")


def test_tekken(trained: Path, tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    lines = [line.split() for line in (trained / "tokenizer.tiktoken").read_text().splitlines()]
    vocab = [{"rank": int(rank), "token_bytes": text, "token_str": None} for text, rank in lines]
    config = {"pattern": TEKKEN, "default_vocab_size": 1000 + 20, "default_num_special_tokens": 20, "version": "v3"}
    (tmp_path / "tekken.json").write_text(json.dumps({"config": config, "vocab": vocab}))
    ranks = {base64.b64decode(text): int(rank) for text, rank in lines[:1000]}
    encoding = tiktoken.Encoding("tekken", pat_str=TEKKEN, mergeable_ranks=ranks, special_tokens={})
    vocabulary, some = load_vocabulary(tmp_path), texts()
    expected = [[number + 20 for number in encoding.encode_ordinary(text)] for text in some]
    assert vocabulary.why_library is None
    assert differing(vocabulary, some, expected) == []
    assert in_library(vocabulary, some) == expected
    assert [special_id(vocabulary, name) for name in ("<unk>", "<s>", "</s>", "[INST]", "<pad>")] == [0, 1, 2, 3, 11]
    assert (vocabulary.bos_id, vocabulary.eos_id, vocabulary.pad_id, vocabulary.size) == (1, 2, 11, 1020)
    named = [{"rank": 0, "token_str": "</s>", "is_control": True}]  # the others are filled up
    (tmp_path / "tekken.json").write_text(json.dumps({"config": config, "vocab": vocab, "special_tokens": named}))
    assert token_name(load_vocabulary(tmp_path), 7) == "<SPECIAL_7>"


def test_vocab_and_merges(trained: Path, tmp_path: Path) -> None:
    model = json.loads((trained / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps({**model["vocab"], "<|endoftext|>": 1440}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in model["merges"]))
    library = ByteLevelBPETokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    some = [text for text in texts() if text not in SPECIALS]
    vocabulary = load_vocabulary(tmp_path)
    assert differing(vocabulary, some, [encoding.ids for encoding in library.encode_batch(some, add_special_tokens=False)]) == []
    assert vocabulary.why_library is None
    assert vocabulary.eos_id == 1440
    assert vocabulary.eos_id not in ids_of(vocabulary, ["<|endoftext|>"])[0]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Qwen2Tokenizer"}))
    assert load_vocabulary(tmp_path).why_library == "it has a normalizer (NFC)"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    with pytest.raises(InputError, match="how CLIPTokenizer cuts text"):
        load_vocabulary(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\nq zq\n")
    with pytest.raises(InputError, match=r"lacks tokens of the merge \['q', 'zq'\]"):
        load_vocabulary(tmp_path)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["llama2", "claude", "allenai__dolma/tests/data/tokenizer/gpt-neo-test-tokenizer.json"])
def test_tokenizer_json_of_others(data_dir: Path, name: str) -> None:
    vocabulary, some = load_vocabulary(data_dir / "tokenizers" / name), texts(100)
    library = Tokenizer.from_file(str(vocabulary.path))
    library.encode_special_tokens = True
    assert differing(vocabulary, some, [encoding.ids for encoding in library.encode_batch(some, add_special_tokens=False)]) == []


@pytest.mark.realdata
def test_torchtunes_files(data_dir: Path, tmp_path: Path) -> None:
    assets = data_dir / "tokenizers" / "pytorch__torchtune" / "tests" / "assets"
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(assets / f"tiny_bpe_{name}", tmp_path / name)
    library = ByteLevelBPETokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    some, vocabulary = texts(100), load_vocabulary(tmp_path, need_eos=False)
    assert differing(vocabulary, some, [encoding.ids for encoding in library.encode_batch(some, add_special_tokens=False)]) == []
    assert vocabulary.why_library == "160 of 256 bytes are no tokens"
    with pytest.raises(InputError, match="lacks tokens of the merge"):  # it was cut down to the tokens of a test; tokenizers refuses it too
        load_vocabulary(assets / "vocab.json", need_eos=False)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such tokenizer"):
        load_vocabulary(tmp_path)
    byte_ranks = "".join(f"{base64.b64encode(bytes([byte])).decode()} {byte}\n" for byte in range(256))
    hostile = {
        "a.tiktoken": "not ranks at all",
        "b.tiktoken": "YQ== 0\nYg== x\n",
        "c.tiktoken": "YQ== 0\nYg== 0\n",
        "d.tiktoken": byte_ranks + "YQ== 300\n",  # a token twice
        "e.tiktoken": "YQ== 0\n",  # bytes are missing
        "f.tiktoken": byte_ranks + "YWI= 99999999999\n",
        "g.json": "{}",
        "h.json": '{"config": {"default_vocab_size": 1e99}, "vocab": []}',
        "i.json": '{"config": {"default_vocab_size": 9, "default_num_special_tokens": 99999999, "pattern": "a"}, "vocab": [1]}',
        "j.model": "\n\xff\xff",
        "k.model": "",
        "l.json": '{"model": {"type": "BPE"}}',
    }
    for name, content in hostile.items():
        (tmp_path / name).write_text(content, encoding="latin-1")
        with pytest.raises(InputError):
            load_vocabulary(tmp_path / name, shape="gpt2", need_eos=False)
    for name in ("a.tiktoken", "b.tiktoken"):
        shutil.copy(tmp_path / "g.json", tmp_path / name)
    with pytest.raises(InputError, match="Name one of them"):
        load_vocabulary(tmp_path)


def test_a_special_token_that_text_would_give(tmp_path: Path, trained: Path) -> None:
    """A special token of a tekken file by the name of a word: looked up whole, text would give it."""
    lines = [line.split() for line in (trained / "tokenizer.tiktoken").read_text().splitlines()]
    vocab = [{"rank": int(rank), "token_bytes": text} for text, rank in lines]
    config = {"pattern": TEKKEN, "default_vocab_size": 1002, "default_num_special_tokens": 2}
    named = [{"rank": 0, "token_str": "zebracrossing"}, {"rank": 1, "token_str": "</s>"}]
    (tmp_path / "tekken.json").write_text(json.dumps({"config": config, "vocab": vocab, "special_tokens": named}))
    with pytest.raises(InputError, match="text gives its special tokens \\('zebracrossing'\\)"):
        load_vocabulary(tmp_path)


def test_shards_of_converted_ranks(trained: Path, corpus: Path, tmp_path: Path) -> None:
    """The shard directory holds a tokenizer.json that any library loads, and its tokens are traced."""
    folder = tmp_path / "ranks"
    folder.mkdir()
    for name in ("tokenizer.tiktoken", "tokenizer.manifest.json"):
        shutil.copy(trained / name, folder)
    made = tokenize_corpus(corpus, folder, tmp_path / "shards", TokenizeRecipe(seq_len=128))["manifest"]
    assert made["tokenizer"]["file"] == "tokenizer.json"
    assert made["tokenizer"]["encoder"] == "kernels"
    library = Tokenizer.from_file(str(tmp_path / "shards" / "tokenizer.json"))
    assert library.token_to_id("<|endoftext|>") == made["eos_id"]
    found = trace(tmp_path / "shards", 3, 5, corpus)
    assert found["token"]["as_encoded"]
    again = tokenize_corpus(corpus, folder, tmp_path / "shards", TokenizeRecipe(seq_len=128))
    assert again["manifest"] == made


# SentencePiece


@pytest.fixture(scope="module")
def models(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("sentencepiece")
    from codedev.tokenize.train_pieces import train_pieces

    folder = tmp_path_factory.mktemp("pieces")
    for kind in ("bpe", "unigram"):
        made = train_pieces(corpus, folder / kind, engine=f"sentencepiece-{kind}", vocab_size=2000, special_slots=60)
        assert made["vocab_size"] == 2000
        # Exactly the document with a literal U+2581 is lossy, and counted.
        assert made["lossy"] == {"documents": 1, "of_documents": made["sample"]["documents"], "with_u2581": 1}
    return {kind: folder / kind for kind in ("bpe", "unigram")}


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_trained_pieces(models: dict[str, Path], kind: str) -> None:
    import sentencepiece

    vocabulary = load_vocabulary(models[kind])
    some = [text for text in [*texts(600), *special_names(60)] if "▁" not in text]
    library = sentencepiece.SentencePieceProcessor(model_file=str(models[kind] / "tokenizer.model"))
    assert differing(vocabulary, some, library.encode(some)) == []
    plain = encode_plain(vocabulary, pa.array(some, pa.large_string()))
    sizes = token_bytes(vocabulary, plain)
    tiled = np.add.reduceat(np.append(sizes, 0), plain.offsets[:-1]) * (np.diff(plain.offsets) > 0)
    assert tiled.tolist() == [len(text.encode()) for text in some]
    assert [decode(vocabulary, ids) for ids in ids_of(vocabulary, some)] == some
    assert not special_ids(vocabulary) & set(plain.ids.tolist())
    assert len(special_ids(vocabulary)) == 60
    assert [token_name(vocabulary, at) for at in (vocabulary.eos_id, vocabulary.pad_id, vocabulary.bos_id or -1)] == special_names(60)[:3]
    digits = ids_of(vocabulary, ["x 20250"])[0]
    assert [token_name(vocabulary, at) for at in digits][-5:] == [*"20250"]
    prefix = special_id(vocabulary, "<|fim_prefix|>")
    assert prefix is not None
    told = [prefix, *ids_of(vocabulary, ["a b"])[0]]
    assert (decode(vocabulary, told), decode(vocabulary, told, specials=False)) == ("<|fim_prefix|>a b", "a b")


def test_training_pieces_again_gives_the_same_bytes(models: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    train_tokenizer(corpus, tmp_path / "again", vocab_size=1000, special_slots=3)  # of another engine, which is to go
    flags = [
        "--vocab-size",
        "2000",
        "--special-slots",
        "60",
        "--engine",
        "sentencepiece-unigram",
        "--out",
        str(tmp_path / "again"),
        "--json",
    ]
    result = CliRunner().invoke(cli, ["tokenizer", "train", str(corpus), *flags])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "again" / "tokenizer.model").read_bytes() == (models["unigram"] / "tokenizer.model").read_bytes()
    assert load_vocabulary(tmp_path / "again").model is not None
    assert CliRunner().invoke(cli, ["tokenizer", "train", str(corpus), "--preset", "u7", *flags]).exit_code == 2


def test_too_little_text_gives_fewer_pieces(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    from codedev.tokenize.train_pieces import train_pieces

    small = write_corpus(tmp_path / "corpus", [document(i, "one two three\n" * (1 + i)) for i in range(5)])
    for kind in ("bpe", "unigram"):
        made = train_pieces(small, tmp_path / kind, engine=f"sentencepiece-{kind}", vocab_size=60000, special_slots=3)
        assert 260 < made["vocab_size"] < 400
        assert made["vocab_size_asked"] == 60000


def test_text_without_blanks(tmp_path: Path) -> None:
    """A blank is a piece though the text has none: as bytes it would be read back as U+2581."""
    pytest.importorskip("sentencepiece")
    from codedev.tokenize.train_pieces import train_pieces

    lines = ["".join(random.Random(seed).choices("天地玄黃宇宙洪荒日月盈昃辰宿列張", k=60)) for seed in range(200)]
    small = write_corpus(tmp_path / "corpus", [document(i, line) for i, line in enumerate(lines)])
    for kind in ("bpe", "unigram"):
        train_pieces(small, tmp_path / kind, engine=f"sentencepiece-{kind}", vocab_size=400, special_slots=3)
        vocabulary, some = load_vocabulary(tmp_path / kind), ["天 地", "  a b", " "]
        assert [decode(vocabulary, ids) for ids in ids_of(vocabulary, some)] == some
    many = write_corpus(tmp_path / "many", [document(0, "".join(map(chr, range(0x4E00, 0x9000))))])
    with pytest.raises(InputError, match="--vocab-size 400: the text has more characters"):
        train_pieces(many, tmp_path / "out", engine="sentencepiece-bpe", vocab_size=400, special_slots=3)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_shards_of_a_sentencepiece_model(models: dict[str, Path], corpus: Path, tmp_path: Path, kind: str) -> None:
    shards = tmp_path / "shards"
    train_tokenizer(corpus, tmp_path / "first", vocab_size=1000, special_slots=3)
    tokenize_corpus(corpus, tmp_path / "first", shards, TokenizeRecipe(seq_len=128))
    made = tokenize_corpus(corpus, models[kind], shards, TokenizeRecipe(seq_len=128))["manifest"]
    assert made["tokenizer"]["file"] == "tokenizer.model"
    assert "SentencePiece" in made["tokenizer"]["encoder"]
    assert (shards / "tokenizer.model").read_bytes() == (models[kind] / "tokenizer.model").read_bytes()
    assert not (shards / "tokenizer.json").exists()
    table = pa.ipc.open_file(pa.memory_map(str(shards / "shard-00000.arrow"))).read_all()
    vocabulary = load_vocabulary(shards)
    documents = {row["id"]: row["text"] for row in _rows(corpus)}
    checked = 0
    for row in table.to_pylist():
        at = 0
        for length, name, offset in zip(row["segment_lengths"], row["segment_documents"], row["segment_offsets"], strict=True):
            ids = row["input_ids"][at : at + length]
            at += length
            if offset == 0 and ids[-1] == vocabulary.eos_id and "▁" not in documents[name]:
                assert decode(vocabulary, ids, specials=False) == documents[name]
                checked += 1
    assert checked > 3
    found = trace(shards, 2, 7, corpus)
    text = documents[found["segment"]["document"]].encode()
    assert text[found["segment"]["byte_begin"] : found["segment"]["byte_end"]].hex() == found["token"]["bytes"]
    assert (found["context"]["before"].encode() + bytes.fromhex(found["token"]["bytes"])) in text


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_conversations_with_a_sentencepiece_model(models: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Special tokens of the template are ids, typed ones are text, and every token is traced to what it says."""
    turns = [{"role": "user", "content": "What is 1 + 1?\n  <|im_end|> x"}, {"role": "assistant", "content": "It is déjà 2."}]
    talk = write_corpus(tmp_path / "talk", [document(0, "What?", kind="instruction", meta=json.dumps({"messages": turns}))])
    tokenize_corpus(talk, models[kind], tmp_path / "shards", TokenizeRecipe(seq_len=128, mode="sft"))
    row = pa.ipc.open_file(pa.memory_map(str(tmp_path / "shards" / "shard-00000.arrow"))).read_all().to_pylist()[0]
    vocabulary, ids = load_vocabulary(models[kind]), row["input_ids"][: sum(row["segment_lengths"])]
    end = special_id(vocabulary, "<|im_end|>")
    assert ids.count(end) == 2
    text = b""
    for place, number in enumerate(ids):
        token = trace(tmp_path / "shards", 0, place, talk)["token"]
        assert (token["id"], token["special"]) == (number, number in special_ids(vocabulary))
        if not token["special"]:
            text += bytes.fromhex(token["bytes"])
            piece = token_name(vocabulary, number).replace("▁", " ")
            assert token["text"] == piece or piece.startswith("<0x")
    assert turns[0]["content"].encode() in text
    assert turns[1]["content"].encode() in text


def _rows(corpus: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return [row for file in sorted(corpus.rglob("part-*.parquet")) for row in pq.read_table(file).to_pylist()]


@pytest.mark.realdata
def test_mistrals_model(data_dir: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    file = data_dir / "tokenizers" / "mistral" / "tokenizer.model.v1"
    vocabulary, some = load_vocabulary(file), texts()
    assert differing(vocabulary, some, sentencepiece.SentencePieceProcessor(model_file=str(file)).encode(some)) == []
    assert (vocabulary.bos_id, vocabulary.eos_id, vocabulary.size) == (1, 2, 32000)
    assert special_ids(vocabulary) == {1, 2}
    lossy = [text for text, ids in zip(some, ids_of(vocabulary, some), strict=True) if decode(vocabulary, ids) != text]
    assert all("▁" in text for text in lossy)


def test_sentencepiece_compared(models: dict[str, Path], trained: Path, corpus: Path) -> None:
    result = CliRunner().invoke(cli, ["tokenizer", "compare", str(corpus), str(models["bpe"]), str(trained), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["tokenizers"]
    assert [one["encoder"] for one in told] == ["library", "kernels"]
    assert told[1]["overall"]["lossless"] == 1.0
    assert 0.9 < told[0]["overall"]["lossless"] < 1  # the document with U+2581


@pytest.mark.slow
def test_generate_with_a_sentencepiece_model(models: dict[str, Path], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from codedev.train.use.generate import generate

    with pytest.raises(InputError, match="no such model"):
        generate(tmp_path / "model", "def")
    config = transformers.LlamaConfig(
        vocab_size=2000, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, bos_token_id=3, eos_token_id=1
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match=r"has no tokenizer\.json or tokenizer\.model"):
        generate(tmp_path / "model", "def")
    shutil.copy(models["bpe"] / "tokenizer.model", tmp_path / "model")
    text = generate(tmp_path / "model", "def f(x):", max_new_tokens=12, temperature=0)
    assert text == generate(tmp_path / "model", "def f(x):", max_new_tokens=12, temperature=0)
    assert "<|" not in text


# Extension


def brute_force(words: list[list[int]], counts: list[int], first: int, merges: int, least: int) -> list[tuple[tuple[int, int], int]]:
    words, found = [list(word) for word in words], []
    while len(found) < merges:
        pairs: Counter[tuple[int, int]] = Counter()
        for word, count in zip(words, counts, strict=True):
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        pair = min((pair for pair in pairs if pairs[pair] >= least), key=lambda pair: (-pairs[pair], pair), default=None)
        if pair is None:
            break
        found.append((pair, pairs[pair]))
        for number, word in enumerate(words):
            merged: list[int] = []
            for symbol in word:
                if merged and (merged[-1], symbol) == pair:
                    merged[-1] = first + len(found) - 1
                else:
                    merged.append(symbol)
            words[number] = merged
    return found


@pytest.mark.parametrize("seed", range(60))
def test_further_merges_are_those_of_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    symbols = rng.choice([1, 2, 3, 6, 40])
    words = [[rng.randrange(symbols) for _ in range(rng.randint(0, rng.choice([3, 8, LONGEST])))] for _ in range(rng.choice([0, 1, 5, 60]))]
    counts = [rng.choice([0, 1, 1, 2, 5]) for _ in words]
    merges, least = rng.choice([0, 1, 5, 200]), rng.choice([1, 2, 3])
    ids = np.array([symbol for word in words for symbol in word], np.int32)
    offsets = np.cumsum([0, *map(len, words)])
    found = learn_further(ids, offsets, np.array(counts, np.int64), 100, merges, min_frequency=least)
    mine = [((left, right), count) for (left, right), count in zip(found.pairs.tolist(), found.counts.tolist(), strict=True)]
    assert mine == brute_force(words, counts, 100, merges, least)


def test_further_merges_refuse_what_does_not_fit() -> None:
    one = np.array([1], np.int64)
    for ids, offsets, counts in (
        ([5], [0, 2], one),
        ([5, 100], [0, 2], one),
        ([-1, 5], [0, 2], one),
        ([5, 6], [0, 2], one * (1 << 62)),
        ([5, 6], [0, 2], -one),
        ([0] * (LONGEST + 1), [0, LONGEST + 1], one),
    ):
        with pytest.raises(ValueError, match=r"must|more"):
            learn_further(np.array(ids, np.int32), np.array(offsets), counts, 100, 5)


def merged_further(old: list[int], new: list[int], pieces: dict[int, list[int]]) -> bool:
    """Whether new tokens are old ones merged."""
    return [piece for number in new for piece in pieces.get(number, [number])] == old


def test_extended_tokenizer(trained: Path, corpus: Path, tmp_path: Path) -> None:
    (trained / "chat_template.jinja").write_text("{{ bos_token }}")
    out, fim = tmp_path / "extended", ["<|new_one|>", "<|fim_prefix|>", "<|new_two|>"]
    flags = [f"--special={name}" for name in fim]
    result = CliRunner().invoke(
        cli, ["tokenizer", "extend", str(trained), str(corpus), "--add", "300", *flags, "--out", str(out), "--json"]
    )
    assert result.exit_code == 0, result.output
    told, extension = json.loads(result.stdout), json.loads((out / "extension.json").read_text())
    old, new = load_vocabulary(trained), load_vocabulary(out)
    assert (told["tokens"], new.size) == (300, old.size + 302)
    assert told["special"] == {"<|new_one|>": old.size + 300, "<|new_two|>": old.size + 301}  # the third it had
    assert special_id(new, "<|fim_prefix|>") == special_id(old, "<|fim_prefix|>")
    assert special_ids(new) == special_ids(old) | {old.size + 300, old.size + 301}
    assert all(token_name(new, number) == token_name(old, number) for number in range(old.size))
    assert (new.eos_id, new.pad_id, new.bos_id, new.why_library) == (old.eos_id, old.pad_id, old.bos_id, None)
    assert told["heldout"]["bytes_per_token_after"] > told["heldout"]["bytes_per_token_before"] > 1
    assert told["heldout"]["checked_bytes"] > 0
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (trained / name).read_bytes()

    some = [*texts(), *stdlib_texts(12), *special_names(60), *fim]
    before, after = ids_of(old, some), ids_of(new, some)
    assert after == in_library(new, some)
    assert [decode(new, ids) for ids in after] == some
    pieces = {extension["first"] + number: some for number, some in enumerate(extension["pieces"])}
    assert all(merged_further(*pair, pieces) for pair in zip(before, after, strict=True))
    assert sum(map(len, after)) < sum(map(len, before))
    assert not special_ids(new) & {number for ids in after for number in ids}
    # Each token's pieces are what the old tokenizer makes of it where it stands alone; a blank or line end may be cut otherwise there.
    alone = [(decode(new, [number]), some) for number, some in pieces.items() if number < old.size + 300]
    plain = [(text, some) for text, some in alone if text.isascii() and text.strip().isalpha() and text.lstrip(" ") == text]
    assert len(plain) > 50
    assert ids_of(old, [text for text, _ in plain]) == [some for _, some in plain]

    loaded = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(out)
    assert loaded.encode("def __init__(self):\n    pass", add_special_tokens=False) == ids_of(new, ["def __init__(self):\n    pass"])[0]
    assert loaded.convert_tokens_to_ids("<|new_two|>") == old.size + 301


def test_extension_twice_and_by_a_list(trained: Path, tmp_path: Path) -> None:
    words = ["acetylsalicylic", "Größenordnung", "two words", "snake_case", "the", "zygote\r"]
    (tmp_path / "words.txt").write_text("\n".join([*words, "zygote", ""]), encoding="utf-8")
    first = extend_tokenizer(trained, tmp_path / "one", tokens=tmp_path / "words.txt", special=["<|dose|>"])
    assert first["torn_first"] == ["two words", "snake_case"]  # more than one piece of text each
    new = load_vocabulary(tmp_path / "one")
    whole = ["acetylsalicylic", " acetylsalicylic", "Größenordnung", " Größenordnung", "zygote", " zygote"]
    assert [len(ids) for ids in ids_of(new, whole)] == [1] * 6
    second = extend_tokenizer(tmp_path / "one", tmp_path / "two", special=["<|dose|>", "<|unit|>"])
    again = load_vocabulary(tmp_path / "two")
    assert second["special"] == {"<|unit|>": new.size}
    some = [*texts(100), *whole, "<|unit|>", "<|dose|>"]
    assert ids_of(again, some) == ids_of(new, some) == in_library(again, some)


@pytest.mark.slow
@pytest.mark.realdata
def test_extended_cl100k(data_dir: Path, corpus: Path, tmp_path: Path) -> None:
    """Ranks with whole pieces looked up, gaps among their ids, and tokens that no merge reaches."""
    file = data_dir / "tokenizers" / "openai" / "cl100k_base.tiktoken"
    told = extend_tokenizer(file, tmp_path / "out", corpus=corpus, add=500, special=["<|repo_name|>"])
    old, new = load_vocabulary(file), load_vocabulary(tmp_path / "out")
    assert (told["base"]["size"], told["tokens"], new.size) == (100277, 500, 100778)
    some = [*texts(), *stdlib_texts(12)]
    after = ids_of(new, some)
    assert after == in_library(new, some)
    assert [decode(new, ids) for ids in after] == some
    pieces = json.loads((tmp_path / "out" / "extension.json").read_text())["pieces"]
    by_id = {100277 + number: some for number, some in enumerate(pieces)}
    assert all(merged_further(*pair, by_id) for pair in zip(ids_of(old, some), after, strict=True))


def test_what_cannot_be_extended(trained: Path, corpus: Path, tmp_path: Path, models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="SentencePiece model cannot be extended"):
        extend_tokenizer(models["bpe"], tmp_path / "out", corpus=corpus)
    with pytest.raises(InputError, match="nothing to add"):
        extend_tokenizer(trained, tmp_path / "out")
    with pytest.raises(InputError, match="is a token of text"):
        extend_tokenizer(trained, tmp_path / "out", special=["e"])
    with pytest.raises(InputError, match="that of the tokenizer"):
        extend_tokenizer(trained, trained, corpus=corpus)
    content = orjson.loads((trained / "tokenizer.json").read_bytes())
    content["normalizer"] = {"type": "NFC"}
    (tmp_path / "nfc").mkdir()
    (tmp_path / "nfc" / "tokenizer.json").write_bytes(orjson.dumps(content))
    with pytest.raises(InputError, match=r"normalizer.*Special tokens alone"):
        extend_tokenizer(tmp_path / "nfc", tmp_path / "out", corpus=corpus)
    told = extend_tokenizer(tmp_path / "nfc", tmp_path / "out", special=["<|dose|>"])
    assert told["special"] == {"<|dose|>": 1500}
    assert not (tmp_path / "out" / "tokenizer.model").exists()


def test_a_merge_that_would_spell_a_special_token(trained: Path, tmp_path: Path) -> None:
    """Text must not come to give a special token by a new merge."""
    content = orjson.loads((trained / "tokenizer.json").read_bytes())
    content["added_tokens"].append({**content["added_tokens"][-1], "id": 1500, "content": "zyqqyz"})
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "tokenizer.json").write_bytes(orjson.dumps(content))
    (tmp_path / "words.txt").write_text("zyqqyz\nzyqqyzzy\n")
    told = extend_tokenizer(tmp_path / "odd", tmp_path / "out", tokens=tmp_path / "words.txt")
    new = load_vocabulary(tmp_path / "out")
    assert told["merges_blocked"] > 0
    some = ["zyqqyz", " zyqqyz", "zyqqyzzy", "azyqqyz"]
    assert ids_of(new, some) == in_library(new, some)
    assert 1500 not in {number for ids in ids_of(new, some) for number in ids}


def test_mean_of_pieces() -> None:
    rows = np.arange(24, dtype=np.float32).reshape(8, 3)  # of 6 tokens, padded to 8
    extension = {"first": 6, "pieces": [[0, 1], [5], [2, 2, 4], []]}
    grown = mean_of_pieces(rows, extension)
    assert grown.dtype == np.float32
    assert grown[:6].tolist() == rows[:6].tolist()
    assert grown[6:].tolist() == [[1.5, 2.5, 3.5], [15, 16, 17], [8, 9, 10], rows[:6].mean(axis=0).tolist()]
    assert mean_of_pieces(rows.astype(np.float16), extension).dtype == np.float16
    with pytest.raises(ValueError, match="4 rows"):
        mean_of_pieces(rows[:4], extension)
    with pytest.raises(ValueError, match="rows"):
        mean_of_pieces(rows, {"first": 6, "pieces": [[7]]})
