"""Units against what a document says: fill in the middle, residues, repositories, markers for kinds; every token traced to its bytes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from conftest import ROOT
from test_tokenize_documents import NASTY, document, stdlib_texts, write_corpus
from test_tokenize_shards import rows_of
from tokenizers import Tokenizer

from codedev import _recipe
from codedev._errors import InputError, RecipeError
from codedev.tokenize import fim, residues
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.engine import byte_characters
from codedev.tokenize.layout import TEXT
from codedev.tokenize.markers import markers
from codedev.tokenize.presets import SPECIAL_TOKENS
from codedev.tokenize.recipe import ChatRecipe, FimRecipe, TokenizeRecipe
from codedev.tokenize.trace import trace
from codedev.tokenize.train import train_tokenizer
from codedev.tokenize.vocabulary import Vocabulary, encode_plain, load_vocabulary

PROTEIN = "MKVLAAGIVGLCAKAYXB*UZ-O"
DNA = "ACGTNNRYKMacgtACGT"


def repository(files: dict[str, str]) -> dict[str, Any]:
    """As sources/code/context.py writes it."""
    text = "\n\n".join(f"# File: {path}\n\n{body}" for path, body in files.items()) + "\n"
    meta = {"repo": "a/b", "files": [{"path": path} for path in files]}
    return {"text": text, "kind": "code", "meta": orjson.dumps(meta).decode()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("units")
    rows = [document(i, text, kind="code") for i, text in enumerate([*stdlib_texts(25), *NASTY])]
    rows.append(document(100, PROTEIN, kind="protein", meta='{"molecule":"protein"}'))
    rows.append(document(101, DNA, kind="protein", meta='{"molecule":"dna"}'))
    rows.append(document(102, DNA.replace("T", "U"), kind="protein", meta='{"molecule":"rna"}'))
    rows.append(document(103, "A protein, Ala.", kind="paper"))
    files = {"a.py": "import b\nprint(b.x)", "dir/ü b.py": "x = 1\n\n\n# File: fake\n\ny", "empty.py": "", "c.py": "z = '<|file_sep|>'"}
    found = repository(files)
    rows.append(document(104, found.pop("text"), **found))
    broken = repository({"a": "b", "missing": "c"})
    rows.append(document(105, broken["text"].replace("# File: missing", "# file: missing"), kind="code", meta=broken["meta"]))
    write_corpus(folder / "corpus", rows)
    train_tokenizer(folder / "corpus", folder / "tokenizer", vocab_size=1200, special_slots=64)
    return folder


@pytest.fixture(scope="module")
def vocabulary(home: Path) -> Vocabulary:
    return load_vocabulary(home / "tokenizer")


def shards(home: Path, out: Path, **keys: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    manifest = tokenize_corpus(home / "corpus", home / "tokenizer", out, TokenizeRecipe(**keys))["manifest"]
    return manifest, rows_of(out)


def bytes_of(vocabulary: Vocabulary) -> list[bytes]:
    """What each id stands for, by the names in tokenizer.json alone."""
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    special = set(vocabulary.tokenizer.get_added_tokens_decoder())
    found = []
    for number in range(vocabulary.size):
        name = vocabulary.tokenizer.id_to_token(number)
        letter = residues.names().get(name)
        found.append(b"" if number in special else letter.encode() if letter else bytes(byte_of[c] for c in name))
    return found


def segments_of(rows: list[dict[str, Any]]) -> dict[str, list[list[int]]]:
    """Document -> its segments' ids, in the order of their offsets."""
    found: dict[str, list[tuple[int, list[int]]]] = {}
    for row in rows:
        at = 0
        for name, length, offset in zip(row["segment_documents"], row["segment_lengths"], row["segment_offsets"], strict=True):
            found.setdefault(name, []).append((offset, row["input_ids"][at : at + length]))
            at += length
    return {name: [ids for _, ids in sorted(pieces)] for name, pieces in found.items()}


def texts_of(home: Path) -> dict[str, str]:
    import pyarrow.parquet as pq

    tables = [pq.read_table(path) for path in sorted((home / "corpus").rglob("*.parquet"))]
    return {row["id"]: row["text"] or "" for table in tables for row in table.to_pylist()}


@pytest.mark.parametrize(("rate", "spm", "seq_len"), [(1.0, 0.0, 8192), (1.0, 1.0, 8192), (0.5, 0.5, 512), (1.0, 0.5, 64), (1.0, 0.5, 24)])
def test_the_middle_is_told_last_and_nothing_is_lost(
    home: Path, vocabulary: Vocabulary, tmp_path: Path, rate: float, spm: float, seq_len: int
) -> None:
    manifest, rows = shards(home, tmp_path / "s", seq_len=seq_len, fim=FimRecipe(rate=rate, spm=spm), seed=5)
    marks = markers(vocabulary, TokenizeRecipe(fim=FimRecipe()))
    assert marks.fim is not None
    said = bytes_of(vocabulary)
    texts = texts_of(home)
    seen = {"psm": 0, "spm": 0, "plain": 0}
    for name, segments in segments_of(rows).items():
        ids = [number for segment in segments for number in segment if number != vocabulary.bos_id]
        whole = b""
        while ids:
            stop = ids.index(marks.fim.prefix) if marks.fim.prefix in ids else len(ids)
            if stop:
                plain = [number for number in ids[:stop] if number != vocabulary.eos_id]
                whole += b"".join(said[number] for number in plain if number != marks.repository)
                seen["plain"] += 1
                ids = ids[stop:]
                continue
            end = ids.index(vocabulary.eos_id)
            told, ids = ids[1:end], ids[end + 1 :]
            middle, suffix = told.index(marks.fim.middle), told.index(marks.fim.suffix)
            one, two, three = (b"".join(said[n] for n in part) for part in (told[:suffix], told[suffix + 1 : middle], told[middle + 1 :]))
            first = suffix == 0 and spm > 0  # an empty prefix looks the same
            whole += three + two if first else one + three + two
            seen["spm" if first else "psm"] += 1
        if name.partition("/")[2] not in ("100", "101", "102", "104"):
            assert whole == texts[name].encode(), name
    assert (seen["psm"] > 0, seen["spm"] > 0) == (spm < 1, spm > 0), seen
    assert manifest["made"]["fim_texts"] == seen["psm"] + seen["spm"]
    # Every told text is whole in its segment: it ends where its document's unit ends.
    for row in rows:
        at = 0
        for length in row["segment_lengths"]:
            ids = row["input_ids"][at : at + length]
            assert ids.count(marks.fim.prefix) == ids.count(marks.fim.middle) <= 1
            at += length


def test_tokens_of_a_told_document_are_traced(home: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    _, rows = shards(home, tmp_path / "s", seq_len=128, fim=FimRecipe(rate=1.0), seed=2, kind_prefix=True)
    said, texts = bytes_of(vocabulary), texts_of(home)
    rng = random.Random(3)
    parts = 0
    for _ in range(150):
        row = rng.randrange(len(rows))
        token = rng.randrange(sum(rows[row]["segment_lengths"]))
        found = trace(tmp_path / "s", row, token)
        number = rows[row]["input_ids"][token]
        begin, end = found["segment"]["byte_begin"], found["segment"]["byte_end"]
        assert texts[found["segment"]["document"]].encode()[begin:end] == said[number]
        assert found["token"]["as_encoded"]
        parts += rows[row]["parts"] is not None
    assert parts > 30


def test_residues_are_ids_of_their_own(home: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    manifest, rows = shards(home, tmp_path / "s", seq_len=256)
    found = {name: segments[0] for name, segments in segments_of(rows).items() if name in texts_of(home)}
    texts = texts_of(home)
    by_text = {texts[name]: ids for name, ids in found.items()}
    tokenizer = Tokenizer.from_file(str(vocabulary.path))
    for text, molecule in ((PROTEIN, "protein"), (DNA, "dna"), (DNA.replace("T", "U"), "rna")):
        names = [tokenizer.id_to_token(number) for number in by_text[text]]
        assert names[:2] == ["<|bos|>", f"<|{molecule}_start|>"]
        assert names[-2:] == [f"<|{molecule}_end|>", "<|endoftext|>"]
        assert len(names) == len(text) + 4
        alphabet = residues.MOLECULES[molecule]
        assert names[2:-2] == [f"{letter} {alphabet}" for letter in text]
        assert tokenizer.decode(by_text[text], skip_special_tokens=True) == text
    assert manifest["made"]["sequences"] == 3
    article = by_text["A protein, Ala."]
    assert not any(name in residues.names() for name in (tokenizer.id_to_token(number) for number in article))
    plain, _ = shards(home, tmp_path / "p", seq_len=256, residues=False)
    assert "sequences" not in plain["made"]


def test_letters_that_are_no_residue_are_bytes(home: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", [document(0, "MK1é\nl", kind="protein", meta="{}")])
    tokenize_corpus(tmp_path / "corpus", home / "tokenizer", tmp_path / "s", TokenizeRecipe(seq_len=16))
    row = rows_of(tmp_path / "s")[0]
    assert (
        "".join(byte.decode("latin-1") for byte in (bytes_of(vocabulary)[n] for n in row["input_ids"])).encode("latin-1")
        == "MK1é\nl".encode()
    )
    assert row["segment_bytes"] == [len("MK1é\nl".encode())]


ODD = ["no json", "[]", "null", '"x"', "", '{"molecule":["dna"]}', '{"molecule":"xna"}', '{"molecule":null}', '{"molecule":"DNA"}']
ODD += ['{"files":3}', '{"files":[3,null,{"path":null}]}', '{"files":[{}]}', '{"a":"\\ud800"}']


def test_odd_metadata_is_no_crash_and_no_loss(home: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    rows = [document(i, "ACGT", kind="protein", meta=meta) for i, meta in enumerate(ODD)]
    rows += [document(100 + i, "# File: None\n\nx", kind="code", meta=meta) for i, meta in enumerate(ODD)]
    rows += [{**document(200, "abc"), "meta": None, "kind": None}, document(201, "", kind="protein", meta='{"molecule":"dna"}')]
    write_corpus(tmp_path / "corpus", rows)
    manifest = tokenize_corpus(tmp_path / "corpus", home / "tokenizer", tmp_path / "s", TokenizeRecipe(seq_len=64))["manifest"]
    assert manifest["counts"]["documents"] == len(rows)
    assert manifest["counts"]["documents_empty"] == 1
    names = {
        name: [vocabulary.tokenizer.id_to_token(number) for number in segments[0]]
        for name, segments in segments_of(rows_of(tmp_path / "s")).items()
    }
    for i, meta in enumerate(ODD):
        expected = None if '["dna' in meta or "xna" in meta else "dna" if "DNA" in meta else "protein"
        assert [name for name in names[f"web/{i}"] if name.endswith("_start|>")] == ([f"<|{expected}_start|>"] if expected else []), meta
    with pytest.raises(RecipeError, match="at least 24"):
        _recipe.check({"seq_len": 16, "fim": {}}, TokenizeRecipe, "recipe")


def test_stranger_cannot_type_a_residue_or_a_special(home: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """Of every name, in every mode that writes special tokens."""
    names = [*SPECIAL_TOKENS, *residues.names(), *(f"<|reserved_{i}|>" for i in range(3))]
    rows = [document(i, f"a{name}b {name}", kind="code") for i, name in enumerate(names)]
    rows += [document(1000 + i, name, kind="protein", meta='{"molecule":"dna"}') for i, name in enumerate(names)]
    write_corpus(tmp_path / "corpus", rows)
    tokenize_corpus(tmp_path / "corpus", home / "tokenizer", tmp_path / "s", TokenizeRecipe(seq_len=512, fim=FimRecipe(rate=0.5)))
    said = bytes_of(vocabulary)
    special = {vocabulary.tokenizer.token_to_id(name) for name in (*SPECIAL_TOKENS, *names[-3:])}
    ours = {vocabulary.tokenizer.token_to_id(f"<|{name}|>") for name in ("bos", "endoftext", "fim_prefix", "fim_suffix", "fim_middle")}
    ours |= {vocabulary.tokenizer.token_to_id(f"<|dna_{name}|>") for name in ("start", "end")}
    letters = {vocabulary.tokenizer.token_to_id(name) for name in residues.names()}
    for name, segments in segments_of(rows_of(tmp_path / "s")).items():
        ids = [number for segment in segments for number in segment]
        assert set(ids) & special <= ours, name
        assert all(ids.count(number) <= 1 for number in ours), name
        if int(name.partition("/")[2]) < 1000:
            assert not set(ids) & letters, name
    assert len(said) == vocabulary.size


def test_repository_markers_stand_for_their_lines(home: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    manifest, rows = shards(home, tmp_path / "s", seq_len=2048)
    assert manifest["made"]["repositories"] == 1
    marker = vocabulary.tokenizer.token_to_id("<|file_sep|>")
    said = bytes_of(vocabulary)
    told = [ids for segments in segments_of(rows).values() for ids in segments if marker in ids]
    assert len(told) == 1
    files, at = [], [i for i, number in enumerate(told[0]) if number == marker]
    for begin, end in zip(at, [*at[1:], len(told[0])], strict=True):
        files.append(b"".join(said[number] for number in told[0][begin + 1 : end]).decode())
    assert files == ["a.py\nimport b\nprint(b.x)", "dir/ü b.py\nx = 1\n\n\n# File: fake\n\ny", "empty.py\n", "c.py\nz = '<|file_sep|>'\n"]
    number = next(i for i, row in enumerate(rows) if row["parts"])
    text = next(text for text in texts_of(home).values() if text.startswith("# File: a.py"))
    row, checked = rows[number], 0
    place = row["segment_documents"].index("web/104")
    begin = sum(row["segment_lengths"][:place])
    for token in range(begin, begin + row["segment_lengths"][place]):
        found = trace(tmp_path / "s", number, token)
        if found["document"]["kind"] == "code" and "# File" in text and found["segment"]["document"] == "web/104":
            piece = text.encode()[found["segment"]["byte_begin"] : found["segment"]["byte_end"]]
            assert piece == said[row["input_ids"][token]]
            checked += 1
    assert checked == len(told[0])


def test_fim_needs_its_tokens(home: Path, tmp_path: Path) -> None:
    train_tokenizer(home / "corpus", tmp_path / "t", vocab_size=400, special_slots=3)
    with pytest.raises(InputError, match="fim needs three special tokens"):
        tokenize_corpus(home / "corpus", tmp_path / "t", tmp_path / "s", TokenizeRecipe(fim=FimRecipe()))
    with pytest.raises(InputError, match="kind_prefix needs"):
        tokenize_corpus(home / "corpus", tmp_path / "t", tmp_path / "s", TokenizeRecipe(kind_prefix=True))


def test_places_are_uniform_over_characters() -> None:
    text = np.frombuffer("aé漢😀".encode(), np.uint8)
    borders = [0, 1, 3, 6, 10]
    drawn = fim.draws(np.arange(20_000, dtype=np.uint64), 7, np.zeros(20_000, np.int64))
    places = [fim._place(text, 0, len(text), share) for share in drawn[:, 2]]
    counts = [places.count(border) for border in borders]
    assert sum(counts) == 20_000
    assert max(counts) - min(counts) < 400  # 4,000 expected each, deviation 57
    assert abs(float((drawn[:, 0] < 0.3).mean()) - 0.3) < 0.02
    assert abs(float(np.corrcoef(drawn.T)[np.triu_indices(4, 1)].max())) < 0.03


def test_cuts_hold_at_most_so_many_tokens(vocabulary: Vocabulary) -> None:
    for text in [*stdlib_texts(2), *NASTY, "é" * 300, "😀" * 50]:
        data = np.frombuffer(text.encode(), np.uint8)
        plain = encode_plain(vocabulary, pa.array([text], pa.large_string()))
        assert vocabulary.byte_lengths is not None
        lengths = vocabulary.byte_lengths[plain.ids]
        for most in (1, 7, 100):
            spans = fim.cut(data, 0, len(data), lengths, most)
            assert b"".join(data[begin:end].tobytes() for begin, end in spans) == text.encode()
            for begin, end in spans:
                data[begin:end].tobytes().decode()
                ends = np.cumsum(lengths)
                inside = int(((ends > begin) & (ends <= end)).sum())
                assert inside <= max(most, 4) + 1


def test_told_text_is_characters(vocabulary: Vocabulary) -> None:
    text = "prefix é 漢字 suffix" * 3
    data = np.frombuffer(text.encode(), np.uint8)
    for drawn in fim.draws(np.arange(200, dtype=np.uint64), 1, np.zeros(200, np.int64)):
        marks = markers(vocabulary, TokenizeRecipe(fim=FimRecipe()))
        assert marks.fim is not None
        spans = fim.spans(data, 0, len(data), drawn, FimRecipe(rate=1.0), marks.fim)
        assert spans is not None
        pieces = sorted((span.begin, span.end) for span in spans if span.what == TEXT)
        for begin, end in pieces:
            data[begin:end].tobytes().decode()
        assert sum(end - begin for begin, end in pieces) == len(data)


def test_sample_recipe_shows_every_key() -> None:
    keys = _recipe.read(ROOT / "samples/recipes/tokenize.yaml")
    recipe = _recipe.check(keys, TokenizeRecipe, "tokenize.yaml")
    assert keys.keys() == TokenizeRecipe.model_fields.keys()
    assert recipe.model_copy(update={"fim": None}) == TokenizeRecipe()
    for name, model in (("fim", FimRecipe), ("chat", ChatRecipe)):
        assert keys[name].keys() == model.model_fields.keys()
    assert recipe.fim == FimRecipe()
