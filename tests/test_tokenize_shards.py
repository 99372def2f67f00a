"""Corpus to shards: nothing lost, the same bytes whatever happens, readable by anyone, every token traceable."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pytest
from test_tokenize_documents import NASTY, document, stdlib_texts, write_corpus
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from codedev._errors import InputError, RecipeError, RunError
from codedev._recipe import check, overridden
from codedev._run import locked, write_json
from codedev.tokenize import encode, shards
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.engine import byte_characters
from codedev.tokenize.hashing import held_out
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.shards import open_shards
from codedev.tokenize.trace import trace
from codedev.tokenize.train import train_tokenizer
from codedev.tokenize.vocabulary import load_vocabulary

PAD = 1198  # of 1200 tokens with three special ones


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 300 documents in three sources, one of them made of files that can be traced, and a tokenizer."""
    home = tmp_path_factory.mktemp("home")
    rng = random.Random(0)
    sources = stdlib_texts(60)
    rows: list[dict[str, Any]] = []
    (home / "raw").mkdir()
    for i, text in enumerate(sources[:20]):  # whole files
        (home / "raw" / f"{i}.py").write_bytes(text.encode())
        origin = {"file": f"raw/{i}.py", "offset": 0, "length": len(text.encode()), "member": None}
        rows.append(document(i, text, "files", origin=origin, licence="PSF-2.0", url=f"https://example.org/{i}"))
    with open(home / "raw" / "members.gz", "wb") as file:  # gzip members, as in a WARC
        for i, text in enumerate(sources[20:40]):
            member = gzip.compress(text.encode())
            origin = {"file": "raw/members.gz", "offset": file.tell(), "length": None if i % 3 else len(member), "member": None}
            file.write(member)
            rows.append(document(i, text, "members", origin=origin))
    lines = [orjson.dumps({"text": text}) + b"\n" for text in sources[40:45]]
    (home / "raw" / "lines.jsonl.gz").write_bytes(gzip.compress(b"".join(lines)))  # one stream
    for i, line in enumerate(lines):
        origin = {"file": "raw/lines.jsonl.gz", "offset": sum(map(len, lines[:i])), "length": len(line), "member": None}
        rows.append(document(i, sources[40 + i], "lines", origin=origin))
    for i in range(240):
        text = rng.choice(sources)
        begin = rng.randrange(max(1, len(text) - 4000))
        rows.append(document(1000 + i, text[begin : begin + rng.randrange(4000)], "web"))
    rows += [document(2000 + i, text, "web") for i, text in enumerate(NASTY)]
    rows.append(document(3000, "", "web", meta=None) | {"text": None})
    write_corpus(home / "corpus", rows)
    train_tokenizer(home / "corpus", home / "tokenizer", vocab_size=1200, special_slots=3)
    return home


def texts_of(home: Path, corpus: str = "corpus") -> dict[str, str]:
    parts = sorted((home / corpus / "documents").glob("*/*.parquet"))
    return {row["id"]: row["text"] or "" for part in parts for row in pl.read_parquet(part, columns=["id", "text"]).to_dicts()}


def tree(folder: Path) -> dict[str, str]:
    """Every file of a directory with the hash of its bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    return [row for file in manifest["files"] for row in pa.ipc.open_file(pa.memory_map(str(folder / file["name"]))).read_all().to_pylist()]


def reassemble(rows: list[dict[str, Any]], pad_id: int) -> dict[str, list[tuple[int, list[int], int, int]]]:
    """Each document's segments: (first token, tokens, first byte, bytes); padding is checked on the way."""
    segments: dict[str, list[tuple[int, list[int], int, int]]] = {}
    for row in rows:
        at = 0
        names = ("segment_documents", "segment_lengths", "segment_offsets", "segment_byte_offsets", "segment_bytes")
        for name, length, offset, byte_offset, size in zip(*(row[column] for column in names), strict=True):
            segments.setdefault(name, []).append((offset, row["input_ids"][at : at + length], byte_offset, size))
            at += length
        assert set(row["input_ids"][at:]) <= {pad_id}
        assert row["loss_spans"] is None
    return {name: sorted(pieces) for name, pieces in segments.items()}


def check_documents(rows: list[dict[str, Any]], texts: dict[str, str], tokenizer: Path) -> None:
    """Every document is there to the last token, by the plain library's encoding, and every segment covers the bytes it names."""
    vocabulary = load_vocabulary(tokenizer)
    plain = Tokenizer.from_file(str(vocabulary.path))
    plain.encode_special_tokens = True
    segments = reassemble(rows, vocabulary.pad_id)
    assert set(segments) == {name for name, text in texts.items() if text}
    for name, pieces in segments.items():
        tokens = [token for _, ids, _, _ in pieces for token in ids]
        assert tokens == [vocabulary.bos_id, *plain.encode(texts[name], add_special_tokens=False).ids, vocabulary.eos_id]
        assert [offset for offset, _, _, _ in pieces] == [sum(len(p[1]) for p in pieces[:i]) for i in range(len(pieces))]
        data = texts[name].encode()
        alphabet = decoders.ByteLevel()
        for _, ids, begin, size in pieces:
            words = [plain.id_to_token(i) or "" for i in ids if i not in (vocabulary.bos_id, vocabulary.eos_id)]
            assert alphabet.decode(words) == data[begin : begin + size].decode(errors="replace")
        assert sum(size for _, _, _, size in pieces) == len(data)


@pytest.mark.parametrize("seq_len", [8, 64, 512, 4096])
def test_nothing_is_lost(home: Path, tmp_path: Path, seq_len: int) -> None:
    result = tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "out", TokenizeRecipe(seq_len=seq_len))
    manifest, rows, texts = result["manifest"], rows_of(tmp_path / "out"), texts_of(home)
    check_documents(rows, texts, home / "tokenizer")
    counts = manifest["counts"]
    assert counts["documents"] == len(texts)
    assert counts["documents_empty"] == sum(not text for text in texts.values()) > 1
    assert counts["tokens_truncated"] == counts["bytes_truncated"] == 0
    assert counts["bytes"] == sum(len(text.encode()) for text in texts.values())
    assert manifest["rows"] * seq_len == counts["tokens_packed"] + counts["padding"]
    assert counts["tokens_in"] == counts["tokens_packed"] == sum(sum(row["segment_lengths"]) for row in rows)
    # A document is cut only where it is longer than a row.
    pieces = reassemble(rows, manifest["pad_id"])
    assert all(len(p) == -(-sum(len(ids) for _, ids, _, _ in p) // seq_len) for p in pieces.values())
    assert counts["padding"] < 0.02 * counts["tokens_in"] + seq_len
    for column in ("documents", "tokens", "bytes"):
        total = counts["tokens_in" if column == "tokens" else column]
        assert sum(source[column] for source in manifest["by_source"].values()) == total
    assert manifest["by_source"]["files"]["documents"] == 20
    assert "/tmp" not in (tmp_path / "out" / "manifest.json").read_text().replace(os.path.relpath(home, tmp_path / "out"), "")
    assert not (tmp_path / "out" / ".work").exists()


@pytest.mark.parametrize("overlong", ["truncate", "drop"])
def test_truncation_is_counted(home: Path, tmp_path: Path, overlong: Any) -> None:
    whole = tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "whole", TokenizeRecipe(seq_len=512))["manifest"]["counts"]
    result = tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "out", TokenizeRecipe(seq_len=512, overlong=overlong))
    counts, rows, texts = result["manifest"]["counts"], rows_of(tmp_path / "out"), texts_of(home)
    assert counts["tokens_in"] == whole["tokens_in"] == counts["tokens_packed"] + counts["tokens_truncated"]
    assert counts["tokens_packed"] == sum(sum(row["segment_lengths"]) for row in rows) < whole["tokens_packed"]
    pieces = reassemble(rows, result["manifest"]["pad_id"])
    assert counts["bytes_truncated"] == counts["bytes"] - sum(size for p in pieces.values() for _, _, _, size in p) > 0
    lost = {name for name, text in texts.items() if text} - set(pieces)
    assert counts["documents_overlong"] > 0
    assert len(lost) == (counts["documents_overlong"] if overlong == "drop" else 0)
    assert all(len(p) == 1 for p in pieces.values())


def test_held_out_documents(home: Path, tmp_path: Path) -> None:
    texts = texts_of(home)
    chosen = []
    for seed, holdout in ((0, 0.2), (1, 0.2), (0, 0.3)):
        out = tmp_path / f"{seed}-{holdout}"
        result = tokenize_corpus(home / "corpus", home / "tokenizer", out, TokenizeRecipe(seq_len=256, seed=seed, holdout=holdout))
        kept, held = reassemble(rows_of(out), PAD), reassemble(rows_of(out / "heldout"), PAD)
        assert not set(kept) & set(held)
        assert set(kept) | set(held) == {name for name, text in texts.items() if text}
        both = [result["manifest"]["counts"], result["heldout"]["counts"]]
        assert sum(counts["documents"] for counts in both) == len(texts)
        assert sum(counts["bytes"] for counts in both) == sum(len(text.encode()) for text in texts.values())
        assert result["heldout"]["split"] == "heldout"
        assert abs(len(held) / len(texts) - holdout) < 0.1
        chosen.append(set(held))
    assert chosen[0] == chosen[1]  # not a matter of the seed
    assert chosen[0] < chosen[2]  # a larger share adds documents
    hashes = np.random.default_rng(0).integers(0, 2**64, 100_000, np.uint64)
    assert abs(held_out(hashes, 0.02).mean() - 0.02) < 0.002
    # Not a matter of the corpus around a document either.
    rows = [document(i, f"text {i}", "z") for i in range(100)]
    write_corpus(tmp_path / "a", rows)
    write_corpus(tmp_path / "b", rows[::-2])
    for name in "ab":
        tokenize_corpus(tmp_path / name, home / "tokenizer", tmp_path / f"out-{name}", TokenizeRecipe(seq_len=64, holdout=0.3))
    held_a, held_b = (set(reassemble(rows_of(tmp_path / f"out-{name}" / "heldout"), PAD)) for name in "ab")
    assert held_b == {row["id"] for row in rows[::-2]} & held_a


def test_same_bytes_for_workers_batches_and_reruns(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = TokenizeRecipe(seq_len=256, seed=3, holdout=0.1)
    first = tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "one", recipe, workers=1)
    trees = [tree(tmp_path / "one")]
    for workers, rows, size in ((2, 1, 1), (3, 7, 5000)):
        monkeypatch.setattr(encode, "BATCH_ROWS", rows)
        monkeypatch.setattr(encode, "BATCH_BYTES", size)
        out = tmp_path / f"w{workers}"
        tokenize_corpus(home / "corpus", home / "tokenizer", out, recipe, workers=workers)
        trees.append(tree(out))
    assert trees[0] == trees[1] == trees[2]
    again = tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "one", recipe)  # nothing to do
    assert again["manifest"] == first["manifest"]
    assert tree(tmp_path / "one") == trees[0]
    # Other arguments replace what was there, leaving nothing behind; a damaged shard is made anew.
    tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "one", TokenizeRecipe(seq_len=64))
    tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "fresh", TokenizeRecipe(seq_len=64))
    assert tree(tmp_path / "one") == tree(tmp_path / "fresh")
    (tmp_path / "one" / "shard-00000.arrow").write_bytes(b"damage")
    tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "one", TokenizeRecipe(seq_len=64))
    assert tree(tmp_path / "one") == tree(tmp_path / "fresh")
    other = tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "seed", TokenizeRecipe(seq_len=64, seed=9))["manifest"]
    assert other["files"] != open_shards(tmp_path / "fresh").manifest["files"]


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bytes(home: Path, tmp_path: Path) -> None:
    expected = tmp_path / "expected"
    tokenize_corpus(home / "corpus", home / "tokenizer", expected, TokenizeRecipe(seq_len=128, seed=1, holdout=0.1))
    script = (
        "import sys; from pathlib import Path; from codedev.tokenize import build, encode;"
        "from codedev.tokenize.recipe import TokenizeRecipe;"
        "encode.BATCH_ROWS = 5; home, out = map(Path, sys.argv[1:]);"
        "print('ready', flush=True);"
        "build.tokenize_corpus(home / 'corpus', home / 'tokenizer', out, TokenizeRecipe(seq_len=128, seed=1, holdout=0.1), workers=2,"
        " progress=lambda what, done, total: print(what, done, flush=True))"
    )
    out = tmp_path / "killed"
    rng = random.Random(0)
    for kill in range(6):
        process = subprocess.Popen([sys.executable, "-c", script, str(home), str(out)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(rng.randrange(2, 75) if kill < 5 else 10_000):  # lines of progress; the last kill comes near or after the end
            if not process.stdout.readline():
                break
        time.sleep(rng.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    result = tokenize_corpus(home / "corpus", home / "tokenizer", out, TokenizeRecipe(seq_len=128, seed=1, holdout=0.1))
    assert tree(out) == tree(expected)
    assert result["parts_kept"] > 0


def test_resume_redoes_only_what_has_no_receipt(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(home / "corpus", corpus)
    monkeypatch.setattr("codedev.tokenize.build.plans", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tokenize_corpus(corpus, home / "tokenizer", tmp_path / "out", TokenizeRecipe(seq_len=64))
    monkeypatch.undo()
    with open(tmp_path / "out" / ".work" / "store" / "tokens.bin", "ab") as file:
        file.write(b"half a batch")
    last = sorted((tmp_path / "out" / ".work" / "store").glob("part-*.json"))[-1]
    last.unlink()
    result = tokenize_corpus(corpus, home / "tokenizer", tmp_path / "out", TokenizeRecipe(seq_len=64))
    assert result["parts_kept"] == result["parts"] - 1
    tokenize_corpus(corpus, home / "tokenizer", tmp_path / "fresh", TokenizeRecipe(seq_len=64))
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_readable_by_polars_and_in_fixed_batches(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "BATCH_BYTES", 4 * 64 * 2)  # four rows
    monkeypatch.setattr(shards, "FILE_BYTES", 200_000)
    manifest = tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "out", TokenizeRecipe(seq_len=64))["manifest"]
    assert len(manifest["files"]) > 5
    paths = [tmp_path / "out" / file["name"] for file in manifest["files"]]
    for i, (path, file) in enumerate(zip(paths, manifest["files"], strict=True)):
        assert path.stat().st_size < 220_000
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        sizes = [reader.get_batch(k).num_rows for k in range(reader.num_record_batches)]
        assert sum(sizes) == file["rows"]
        last = i == len(paths) - 1
        assert all(size == 4 for size in (sizes[:-1] if last else sizes))
        assert reader.schema.field("input_ids").type == pa.list_(pa.uint16(), 64)
    frame = pl.read_ipc([str(path) for path in paths])
    assert frame.height == manifest["rows"]
    assert frame["segment_lengths"].list.sum().sum() == manifest["counts"]["tokens_packed"]
    assert frame["input_ids"].dtype == pl.Array(pl.UInt16, 64)
    opened, rows = open_shards(tmp_path / "out"), rows_of(tmp_path / "out")
    for row in (0, 3, 4, 101, len(rows) - 1):
        assert opened.row(row)[1] == rows[row]
    for row in (-1, len(rows)):
        with pytest.raises(InputError, match="has the rows"):
            opened.row(row)


def test_readable_by_datasets(home: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    manifest = tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "out", TokenizeRecipe(seq_len=64))["manifest"]
    files = [str(tmp_path / "out" / file["name"]) for file in manifest["files"]]
    loaded = datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == manifest["rows"]
    assert loaded[3]["input_ids"] == rows_of(tmp_path / "out")[3]["input_ids"]


# Trace


@pytest.mark.slow
def test_trace_a_thousand_tokens(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = tokenize_corpus(home / "corpus", home / "tokenizer", out, TokenizeRecipe(seq_len=512, holdout=0.1))["manifest"]
    texts, plain = texts_of(home), Tokenizer.from_file(str(out / "tokenizer.json"))
    alphabet = {character: byte for byte, character in enumerate(byte_characters())}
    rows = rows_of(out)
    rng = random.Random(0)
    raw = 0
    for _ in range(1000):
        row = rng.randrange(manifest["rows"])
        token = rng.randrange(sum(rows[row]["segment_lengths"]))
        found = trace(out, row, token, base=home)
        name, segment = found["segment"]["document"], found["segment"]
        covered = texts[name].encode()[segment["byte_begin"] : segment["byte_end"]]
        token_id = rows[row]["input_ids"][token]
        assert found["token"]["id"] == token_id
        if token_id in (manifest["eos_id"], manifest["bos_id"]):
            assert found["token"]["special"]
            assert covered == b""
        else:
            assert covered == bytes(alphabet[character] for character in plain.id_to_token(token_id) or "")
            assert found["token"]["bytes"] == covered.hex()
        assert found["token"]["as_encoded"]
        assert found["corpus"]["same"]
        assert found["document"]["id"] == name
        assert "text" not in found["document"]
        orjson.dumps(found)
        if found["document"]["source"] == "files":
            raw += 1
            assert found["raw"]["found"]
            assert found["document"]["licence"] == "PSF-2.0"
            assert found["document"]["url"].startswith("https://example.org/")
            assert found["raw"]["text_at"] is not None
        elif found["document"]["source"] in ("members", "lines"):
            raw += 1
            assert found["raw"]["text_at"] is not None
            assert len(found["raw"]["excerpt"]) < 1000
            longest = max(len(text.encode()) for text in texts.values())
            assert found["raw"]["bytes"] == len(texts[name].encode()) or found["document"]["source"] == "lines"
            assert found["raw"]["bytes"] <= longest * 1.5
    assert raw > 300


def test_trace_lists_segments(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = tokenize_corpus(home / "corpus", home / "tokenizer", out, TokenizeRecipe(seq_len=2048))["manifest"]
    for row in range(manifest["rows"]):
        listed = trace(out, row)
        assert sum(segment["end"] - segment["begin"] for segment in listed["segments"]) == listed["tokens"] == 2048 - listed["padding"]
    with pytest.raises(InputError, match="token 5000 does not exist"):
        trace(out, 0, 5000)
    with pytest.raises(InputError, match="has the rows 0 to"):
        trace(out, 10_000)
    padded = next(row for row in range(manifest["rows"]) if trace(out, row)["padding"])
    with pytest.raises(InputError, match="is padding"):
        trace(out, padded, 2047)


def test_trace_when_things_moved(home: Path, tmp_path: Path) -> None:
    moved = tmp_path / "a" / "b"
    tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "out", TokenizeRecipe(seq_len=64))
    shutil.copytree(tmp_path / "out", moved)
    with pytest.raises(InputError, match="no such corpus"):
        trace(moved, 0, 0)
    found = trace(moved, 0, 0, corpus=home / "corpus")
    assert found["corpus"]["same"]
    with pytest.raises(InputError, match="unfinished"):
        trace(tmp_path, 0)
    # A corpus that was built again without one document, and another one: found by id, or said to be missing.
    rows = [document(0, text) | {"id": name} for name, text in sorted(texts_of(home).items())]
    write_corpus(tmp_path / "other", rows)
    again = trace(moved, 0, 0, corpus=tmp_path / "other")
    assert not again["corpus"]["same"]
    assert again["document"]["id"] == found["document"]["id"]
    assert not again["raw"]["found"]
    write_corpus(tmp_path / "empty", [document(0, "x") | {"id": "other"}])
    with pytest.raises(InputError, match="holds no document"):
        trace(moved, 0, 0, corpus=tmp_path / "empty")


# Other people's tokenizers


def sentencepiece_like(folder: Path, texts: list[str]) -> Path:
    """Normalised, prefixed, with byte fallback, no bos; as Llama 2 and Gemma are."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    names = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=900, special_tokens=names, show_progress=False))
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_tokenizer_with_a_normalizer_is_spanned_by_offsets(home: Path, tmp_path: Path) -> None:
    texts = texts_of(home)
    tokenizer = sentencepiece_like(tmp_path / "sp", list(texts.values())[:30])
    out = tmp_path / "out"
    manifest = tokenize_corpus(home / "corpus", tokenizer, out, TokenizeRecipe(seq_len=128))["manifest"]
    assert manifest["tokenizer"]["byte_spans"] == "offsets"
    assert manifest["bos_id"] is None
    assert manifest["pad_id"] == manifest["eos_id"]
    assert manifest["counts"]["bytes"] == sum(len(text.encode()) for text in texts.values())
    assert manifest["counts"]["bytes_truncated"] == 0
    plain = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    plain.encode_special_tokens = True
    for name, pieces in reassemble(rows_of(out), manifest["pad_id"]).items():
        tokens = [token for _, ids, _, _ in pieces for token in ids]
        assert tokens == [*plain.encode(texts[name], add_special_tokens=False).ids, manifest["eos_id"]]
        assert pieces[0][2] == 0
        assert all(a[2] + a[3] == b[2] for a, b in itertools.pairwise(pieces))  # the segments tile the text
        assert pieces[-1][2] + pieces[-1][3] == len(texts[name].encode())
    rows = rows_of(out)
    rng = random.Random(1)
    for _ in range(50):
        row = rng.randrange(manifest["rows"])
        found = trace(out, row, rng.randrange(sum(rows[row]["segment_lengths"])), base=home)
        word = plain.id_to_token(found["token"]["id"]) or ""
        if word.isascii() and word.isalpha():
            assert found["token"]["text"].strip() == word


def test_large_vocabulary_takes_uint32(home: Path, tmp_path: Path) -> None:
    words = {f"w{i}": i for i in range(70_000)}
    tokenizer = Tokenizer(models.WordLevel({**words, "<unk>": 70_000, "</s>": 70_001}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    write_corpus(tmp_path / "corpus", [document(i, f"w{i} w{69_999 - i}  é w66000") for i in range(50)])
    manifest = tokenize_corpus(tmp_path / "corpus", tmp_path / "tokenizer.json", tmp_path / "out", TokenizeRecipe(seq_len=8))["manifest"]
    assert manifest["dtype"] == "uint32"
    found = reassemble(rows_of(tmp_path / "out"), manifest["pad_id"])["web/3"]
    assert found == [(0, [3, 69_996, 70_000, 66_000, 70_001], 0, len("w3 w69996  é w66000".encode()))]


def test_claude_and_llama2(data_dir: Path, home: Path, tmp_path: Path) -> None:
    for name in ("claude", "llama2"):
        tokenizer = data_dir / "tokenizers" / name
        if not tokenizer.is_dir():
            pytest.skip(f"no {tokenizer}")
        manifest = tokenize_corpus(home / "corpus", tokenizer, tmp_path / name, TokenizeRecipe(seq_len=512))["manifest"]
        assert manifest["tokenizer"]["byte_spans"] == "offsets"
        assert manifest["counts"]["bytes_truncated"] == 0
        assert trace(tmp_path / name, 0, 5, base=home)["document"]


# Bad input


def test_bad_input(home: Path, tmp_path: Path) -> None:
    corpus, tokenizer = home / "corpus", home / "tokenizer"
    for key in ("seq_len=7", "holdout=1.0", "holdout=-0.1", "overlong=ignore", "overlong=error", "seq_length=64", "fim.rate=2"):
        with pytest.raises(RecipeError, match=key.split("=")[0].split(".")[-1]):
            check(overridden({}, (key,)), TokenizeRecipe, "recipe")
    with pytest.raises(InputError, match="leaves no text held out"):
        tokenize_corpus(corpus, tokenizer, tmp_path / "out", TokenizeRecipe(holdout=1e-9))
    with pytest.raises(InputError, match="no such tokenizer"):
        tokenize_corpus(corpus, tmp_path / "nowhere", tmp_path / "o")
    with pytest.raises(InputError, match="no such corpus"):
        tokenize_corpus(tmp_path / "nowhere", tokenizer, tmp_path / "o")
    with pytest.raises(InputError, match="no text"):
        tokenize_corpus(write_corpus(tmp_path / "empty", [document(0, "")]), tokenizer, tmp_path / "o")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("precious")
    (foreign / ".work" / "scored").mkdir(parents=True)  # as in a corpus that is being built
    for manifest in (None, {"format": "codedev.corpus/1"}):
        if manifest:
            write_json(foreign / "manifest.json", manifest)
        with pytest.raises(InputError, match="Choose another --out"):
            tokenize_corpus(corpus, tokenizer, foreign)
    assert (foreign / "thesis.txt").read_text() == "precious"
    assert not (foreign / ".lock").exists()
    with pytest.raises(InputError, match="not a directory"):
        tokenize_corpus(corpus, tokenizer, foreign / "thesis.txt")
    with locked(tmp_path / "busy"), pytest.raises(RunError, match="another run"):
        tokenize_corpus(corpus, tokenizer, tmp_path / "busy")


def test_damaged_part_and_recovery(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "corpus", tmp_path / "corpus")
    part = sorted((tmp_path / "corpus" / "documents" / "web").glob("*.parquet"))[-1]
    whole = part.read_bytes()
    part.write_bytes(whole[:1000])
    with pytest.raises(InputError, match=part.name):
        tokenize_corpus(tmp_path / "corpus", home / "tokenizer", tmp_path / "out", TokenizeRecipe(seq_len=64))
    assert not (tmp_path / "out" / "manifest.json").exists()
    part.write_bytes(whole)
    result = tokenize_corpus(tmp_path / "corpus", home / "tokenizer", tmp_path / "out", TokenizeRecipe(seq_len=64))
    assert result["parts_kept"] == result["parts"] - 1


def test_tokenizer_that_loses_bytes_is_refused(home: Path, tmp_path: Path) -> None:
    model = orjson.loads((home / "tokenizer" / "tokenizer.json").read_bytes())
    model["model"]["merges"] = []
    model["model"]["vocab"] = {token: number for token, number in model["model"]["vocab"].items() if token != "e"}
    (tmp_path / "tokenizer.json").write_bytes(orjson.dumps(model))
    with pytest.raises(InputError, match="does not give the text back"):
        tokenize_corpus(home / "corpus", tmp_path, tmp_path / "out")
