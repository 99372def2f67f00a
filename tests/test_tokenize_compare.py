"""`codedev tokenizer compare`: every figure against brute force over the offsets of `tokenizers`; the sample, the page, hostile text."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import re
import time
import tokenize
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pretoken_support import REGEX_OF, fuzz, tokenizer_of_ranks
from test_tokenize_documents import NASTY, document, stdlib_texts, write_corpus
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from codedev._errors import InputError
from codedev.cli import cli
from codedev.corpus.buffers import text_buffers
from codedev.kernels import segment
from codedev.kernels.words import DEFINITIONS
from codedev.kernels.wordspans import word_spans
from codedev.tokenize.compare import compare, loaded, page
from codedev.tokenize.compare.bytes import is_byte_level, reader, token_data
from codedev.tokenize.compare.excerpts import tokens_of
from codedev.tokenize.compare.figures import METRICS
from codedev.tokenize.compare.lexemes import DOCUMENT_BYTES, choose, lexemes
from codedev.tokenize.compare.measure import COUNTS, FACTS, facts, measure
from codedev.tokenize.compare.sample import draw, shares
from codedev.tokenize.compare.spans import batches, spans
from codedev.tokenize.compare.tables import labels
from codedev.tokenize.documents import open_corpus
from codedev.tokenize.presets import PATTERNS
from codedev.tokenize.vocabulary import Vocabulary

CHINESE = "日本語のテキスト。中文，没有空格，今天天气很好。\n我们去 Python 学校。" * 4
TEX = r"Let $\alpha_{\beta}\in\mathbb{R}^{2}$ and \begin{align}x &= \frac{1}{2}\\\gamma\end{align} \\alpha {\it so} 12345 and 1234567."
PROSE = "The ferry, which isn't late, carries 1200 people and 123456 boxes; it's naïve (see U.K.) — 3.14159 café.\n\tNext line 2024-05-06."
C_CODE = "static int count_of(const char *name) {\n    /* a comment */\n    return name[0] == 'x' ? 12345 : strcmp(name, \"a b c\");\n}\n"

IDEOGRAPH = re.compile(
    "[\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uffdc\U0001aff0-\U0001b16f\U00020000-\U0003ffff]"
)


def texts() -> list[tuple[str, str, str]]:
    """(kind, language, text)."""
    found = [("web", "en", PROSE), ("book", "zh", CHINESE), ("paper", "en", TEX), ("code", "TeX", TEX * 3), ("code", "C", C_CODE * 5)]
    found += [("code", "Python", text[:3000]) for text in stdlib_texts(8)]
    found += [("protein", "", "MKVLAAGIVGLCAKAYREHPEDVA\n12345678")]
    found += [("web", "", text) for text in [*fuzz(60, 4), *NASTY] if text]
    return found


def byte_level(folder: Path, pattern: str, *, special: bool = True, size: int = 900) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([text for _, _, text in texts()] * 2, trainer)
    if special:
        tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def piece_level(folder: Path) -> Path:
    """As Llama 2: blanks are pieces' beginnings, bytes where a character is unknown."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    names = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = Counter(word for _, _, text in texts() for word in re.findall(r"[A-Za-z_\\{}()0-9]+", text))
    known = {"▁": 0}
    merges: list[tuple[str, str]] = []
    for char in "".join(chr(code) for code in range(33, 127)) + "日本é":
        known[char] = 0
    for word, _ in words.most_common(150):
        for prefix in ("▁", ""):
            piece = (prefix + word)[0]
            for char in (prefix + word)[1:]:
                if char not in known:
                    break
                if (piece, char) not in merges:
                    merges.append((piece, char))
                piece += char
                known[piece] = 0
    vocab = {name: number for number, name in enumerate([*names, *known])}
    tokenizer.model = models.BPE(vocab, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def lossy(folder: Path) -> Path:
    """Lower case, byte-level: not covered by the kernels, and it does not give capitals back."""
    byte_level(folder, PATTERNS["gpt2"])
    described = json.loads((folder / "tokenizer.json").read_text())
    described["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(described))
    return folder


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("compare")
    return {
        "u7": byte_level(folder / "u7", PATTERNS["u7"]),
        "cl100k": byte_level(folder / "cl100k", PATTERNS["cl100k"]),
        "gpt2": byte_level(folder / "gpt2", PATTERNS["gpt2"], size=600),
        "pieces": piece_level(folder / "pieces"),
        "lossy": lossy(folder / "lossy"),
        "noend": byte_level(folder / "noend", PATTERNS["qwen"], special=False),
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = []
    for number, (kind, language, text) in enumerate(texts()):
        rows.append(document(number, text, f"from-{kind}", kind=kind, lang=language or None))
    rows += [document(1000, "", "from-web"), document(1001, None, "from-web")]  # type: ignore[arg-type]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus", rows)


# --- every figure, by brute force


def token_spans(tokenizer: Tokenizer, text: str, byte_names: bool) -> tuple[list[tuple[int, int]], list[bytes | None]]:
    """(bytes of the text that each token covers, what its name says it stands for)."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    data = [token_data(name, byte_names) for name in encoding.tokens]
    if tokenizer.normalizer is None and all(some is not None for some in data):
        assert b"".join(some or b"" for some in data) == text.encode()
        ends = np.cumsum([len(some or b"") for some in data]).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True)) if data else [], data
    # By the library's offsets. A token covers what is before the next one: a blank that a normalizer puts before the text covers nothing.
    places = [len(text[:begin].encode()) for begin, _ in encoding.offsets]
    return list(zip(places, [*places[1:], len(text.encode())], strict=True)) if places else [], data


def brute(tokenizer: Tokenizer, byte_names: bool, kind: str, language: str, text: str, words: list[tuple[int, int]]) -> dict[str, int]:
    """COUNTS of a text, a span and a token at a time."""
    raw = text.encode()
    tokens, data = token_spans(tokenizer, text, byte_names)
    begins = {begin for begin, _ in tokens} | {len(raw)}

    def start_of(begin: int) -> int | None:
        if begin in begins:
            return begin
        return begin - 1 if begin and raw[begin - 1 : begin] == b" " and begin - 1 in begins else None

    def aligned(begin: int, end: int) -> bool:
        return start_of(begin) is not None and end in begins

    def whole(begin: int, end: int) -> bool:
        first = start_of(begin)
        return first is not None and end in begins and sum(first <= at < end for at, _ in tokens) == 1

    def split(some: bytes | None) -> bool:
        try:
            return some is not None and not some.decode()
        except UnicodeDecodeError:
            return True

    natural = kind not in ("code", "protein")
    commands = []
    if natural or language == "TeX":
        at = 0
        while (at := text.find("\\", at)) >= 0:
            letters = re.compile("[A-Za-z]*").match(text, at + 1)
            assert letters is not None
            if letters[0]:
                commands.append((len(text[:at].encode()), len(text[: letters.end()].encode())))
            at = max(letters.end(), at + 2)
    numbers = [match.span() for match in re.finditer(b"[0-9]{4,}", raw)] if kind != "protein" else []
    cuts = [(begin, end, [at for at in range(begin + 1, end) if at in begins]) for begin, end in numbers]
    lexed = (lexemes(raw, language) or []) if kind == "code" else []
    lettered = [span for span in words if any(char.isalnum() or char.isnumeric() for char in raw[slice(*span)].decode())]
    single = {at for at, char in enumerate(text) if IDEOGRAPH.match(char)}
    bytes_of_single = {place for at in single for place in range(len(text[:at].encode()), len(text[: at + 1].encode()))}
    return {
        "tokens": len(tokens),
        "word_tokens": len(tokens) * natural,
        "lettered_whole": sum(whole(*span) for span in lettered) * natural,
        "single_tokens": sum(any(at in bytes_of_single for at in range(begin, max(end, begin + 1))) for begin, end in tokens) * natural,
        "one_byte": sum((len(some) if some is not None else end - begin) == 1 for some, (begin, end) in zip(data, tokens, strict=True)),
        "partial": sum(map(split, data)),
        "commands_aligned": sum(aligned(*span) for span in commands),
        "commands_whole": sum(whole(*span) for span in commands),
        "lexemes_aligned": sum(aligned(*span) for span in lexed),
        "lexeme_ends": sum((start_of(begin) is not None) + (end in begins) for begin, end in lexed),
        "numbers_right": sum(cut == list(range(begin + ((end - begin) % 3 or 3), end, 3)) for begin, end, cut in cuts),
        "numbers_left": sum(cut == list(range(begin + 3, end, 3)) for begin, end, cut in cuts),
        "numbers_single": sum(cut == list(range(begin + 1, end)) for begin, end, cut in cuts),
        "numbers_whole": sum(cut == [] for _, _, cut in cuts),
        "lossless": tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text,
        "decoded": 1,
    }


def counted(
    vocabulary: Vocabulary, some: list[tuple[str, str, str]]
) -> tuple[list[dict[str, int]], list[list[tuple[int, int]]], list[dict[str, int]]]:
    """(COUNTS of each text; its words, in bytes; FACTS)."""
    kinds, languages, raw = zip(*some, strict=True)
    batch = spans(pa.array(raw, pa.large_string()), kinds, languages, [kind == "code" for kind in kinds])
    found = measure(vocabulary, [batch])
    words: list[list[tuple[int, int]]] = [[] for _ in raw]
    for row, (begin, end) in zip(batch.word_rows.tolist(), batch.words.tolist(), strict=True):
        words[row].append((begin - int(batch.offsets[row]), end - int(batch.offsets[row])))
    rows = [dict(zip(COUNTS, row, strict=True)) for row in found.counts.tolist()]
    return rows, words, [dict(zip(FACTS, row, strict=True)) for row in facts(batch).tolist()]


def against_brute(path: Path, some: list[tuple[str, str, str]]) -> Counter[str]:
    """The sums, once every text's counts are those of brute force."""
    vocabulary = loaded(path)
    rows, words, _ = counted(vocabulary, some)
    byte_names = is_byte_level(set(vocabulary.tokenizer.get_vocab()))
    total: Counter[str] = Counter()
    for (kind, language, text), row, own in zip(some, rows, words, strict=True):
        expected = brute(vocabulary.tokenizer, byte_names, kind, language, text, own)
        assert row == expected, (path, kind, language, text[:200])
        total.update(row)
    return total


@pytest.mark.parametrize("name", ["u7", "cl100k", "gpt2", "pieces", "lossy", "noend"])
def test_counts_are_those_of_brute_force(tokenizers: dict[str, Path], name: str) -> None:
    total = against_brute(tokenizers[name], texts())
    assert total["lossless"] == total["decoded"] or name == "lossy"
    assert all(total[key] for key in ("lettered_whole", "single_tokens", "partial", "commands_aligned", "lexemes_aligned", "one_byte"))
    if name == "u7":  # its pretokenization ends punctuation at a backslash, and cuts in threes from the right
        assert total["numbers_left"] < total["numbers_right"]
    if name == "noend":
        assert total["numbers_single"] > total["numbers_right"] == 0
    if name == "lossy":
        assert 0 < total["lossless"] < total["decoded"]


def test_counts_do_not_depend_on_batches(tokenizers: dict[str, Path]) -> None:
    vocabulary, own = loaded(tokenizers["u7"]), texts()
    kinds, languages, raw = zip(*own, strict=True)
    together, _, held = counted(vocabulary, own)
    array = pa.array(raw, pa.large_string())
    some = [slice(begin, begin + 7) for begin in range(0, len(own), 7)]
    apart = [spans(array[rows], kinds[rows], languages[rows], [kind == "code" for kind in kinds[rows]]) for rows in some]
    assert all(batch.offsets[0] == 0 for batch in apart)
    assert measure(vocabulary, apart).counts.tolist() == [list(row.values()) for row in together]
    assert np.concatenate([facts(batch) for batch in apart]).tolist() == [list(row.values()) for row in held]


def test_a_tokenizer_that_cannot_decode(tokenizers: dict[str, Path], tmp_path: Path) -> None:
    """Its ids stand for the text's bytes, but what reads the file does not give the text back."""
    described = json.loads((tokenizers["u7"] / "tokenizer.json").read_text())
    described["decoder"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    rows, _, _ = counted(loaded(tmp_path), [("web", "en", PROSE), ("web", "", "a")])
    assert [row["lossless"] for row in rows] == [0, 1]
    assert [row["decoded"] for row in rows] == [1, 1]


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base", "r50k_base", "llama2", "claude"])
def test_counts_of_real_tokenizers(data_dir: Path, tmp_path: Path, name: str) -> None:
    folder = data_dir / "tokenizers" / name
    shape = {"cl100k_base": "cl100k", "o200k_base": "o200k", "r50k_base": "gpt2"}.get(name)
    if shape:
        made = tokenizer_of_ranks(data_dir / "tokenizers/openai" / f"{name}.tiktoken", REGEX_OF[shape])
        made.decoder = decoders.ByteLevel()
        folder = tmp_path / "tokenizer.json"
        made.save(str(folder))
    papers = sorted((data_dir / "science/HoTT__book").glob("*.tex"))[:6]
    some = [*texts(), *(("paper", "en", path.read_text("utf-8", "replace")[:6000]) for path in papers)]
    ntrex = data_dir / "multilingual/MicrosoftTranslator__NTREX/NTREX-128"
    some += [
        ("web", "", (ntrex / f"newstest2019-ref.{code}.txt").read_text("utf-8")[:2500])
        for code in ("jpn", "rus", "tha", "arb", "hin", "kor")
    ]
    total = against_brute(folder, some)
    assert total["commands_aligned"] > 200


def test_facts_and_the_definitions_by_hand(tokenizers: dict[str, Path]) -> None:
    some = [
        ("web", "en", "It's a U.K. ferry, 日本 ありがとう."),
        ("paper", "en", r"\alpha\\beta \x1"),
        ("code", "C", "a = 10;"),
        ("protein", "", "MK 1234"),
    ]
    _, _, found = counted(loaded(tokenizers["u7"]), some)
    assert [row["words"] for row in found] == [10, 2, 0, 0]  # It 's a U.K. ferry , 日 本 ありがとう .
    assert [row["single"] for row in found] == [7, 0, 0, 0]
    assert [row["commands"] for row in found] == [0, 2, 0, 0]
    assert [row["lexemes"] for row in found] == [0, 0, 4, 0]
    assert [row["numbers"] for row in found] == [0, 0, 0, 0]
    assert [row["words_bytes"] > 0 for row in found] == [True, True, False, False]


def test_commands_as_tokenizers_cut_them(tmp_path: Path) -> None:
    r"""`_{\alpha`: cl100k's run of punctuation takes the backslash, so the command is torn; u7's ends before it."""
    for preset, alone in (("u7", True), ("cl100k", False)):
        known = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "{\\", "_{\\"]
        tokenizer = Tokenizer(models.BPE({name: number for number, name in enumerate(known)}, [("{", "\\"), ("_", "{\\")]))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(PATTERNS[preset]), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        rows, _, found = counted(loaded(tmp_path / "tokenizer.json"), [("paper", "en", r"x_{\alpha} \beta")])
        assert (found[0]["commands"], rows[0]["commands_aligned"], rows[0]["commands_whole"]) == (2, 1 + alone, 0)


# --- what is looked at


@pytest.mark.parametrize("definition", ["spacy-like", "scripts"])
def test_words_are_those_that_the_filters_count(definition: str) -> None:
    spaced = [*fuzz(400, 11), *NASTY, *stdlib_texts(3), PROSE, "x" * 9000 + " y"]
    unspaced = re.compile("[\u0e01-\ua9fe\ua9ff-\uabff\uf900-\ufaff\uff66-\uffdc\U0001aff0-\U0003ffff]")
    data = (
        [unspaced.sub("", text) for text in spaced]
        if definition == "spacy-like"
        else [re.sub(r"\S+", CHINESE[:7], text) for text in spaced]
    )
    buffers = text_buffers(pa.array(data, pa.large_string()))
    words, flags, counts, single = word_spans(*buffers)
    stats = segment.segment_stats(*buffers, np.full(len(data), DEFINITIONS.index(definition), np.int8), ngrams=False)
    assert counts.tolist() == stats[:, segment.COLUMNS.index("words")].tolist()
    raw = buffers[0].tobytes()
    pieces = [raw[begin:end].decode() for begin, end in words.tolist()]
    assert "".join(pieces) == "".join("".join(data).split())  # nothing is left out or counted twice
    assert [bool(flag) for flag in flags] == [any(char.isalnum() or char.isnumeric() for char in piece) for piece in pieces]
    assert single.any() == (definition == "scripts")


def test_two_scripts_in_one_text() -> None:
    buffers = text_buffers(pa.array(["don't 日本語 (見る) ไทย, well-known"], pa.large_string()))
    words, _, _, single = word_spans(*buffers)
    found = [buffers[0].tobytes()[begin:end].decode() for begin, end in words.tolist()]
    assert found == ["do", "n't", "日", "本", "語", "(", "見", "る", ")", "ไ", "ท", "ย,", "well", "-", "known"] or found[:5] == [
        "do",
        "n't",
        "日",
        "本",
        "語",
    ]
    assert int(single.sum()) == 15


def test_lexemes_of_python_are_those_of_tokenize() -> None:
    for text in [*stdlib_texts(6), "é = f('é', \"ß\")  # ä\n\tx\n", "a\x0cb = 1\r\nc = 'x\\\ny'\r\n", "def f(:\n  '''open"]:
        text = text[:60_000]
        data, expected = text.encode(), []
        lines = [line + b"\n" for line in data.split(b"\n")]
        try:
            for token in tokenize.generate_tokens(io.StringIO(text, newline="\n").readline):
                if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER):
                    (row, column), before = token.start, sum(map(len, lines[: token.start[0] - 1]))
                    begin = before + len(lines[row - 1].decode()[:column].encode())
                    expected.append((begin, begin + len(token.string.encode())))
        except (tokenize.TokenError, SyntaxError):
            pass
        found = lexemes(data, "Python")
        assert found == expected
        assert all(re.fullmatch(r"\S+", data[begin:end].decode()) for begin, end in found or [])


def test_lexemes_of_other_languages() -> None:
    data = C_CODE.encode()
    found = lexemes(data, "C") or []
    assert [data[begin:end].decode() for begin, end in found] == re.findall(
        r"\w+|==|[^\w\s]", "static int count_of(const char *name) { return name[0] == ? 12345 : strcmp(name, ); }"
    )
    tags = b"<p class='a'>words in a text</p>"
    assert lexemes(tags, "HTML") is None
    assert lexemes(b"x", "Brainfuck") is None
    for language in ("JavaScript", "Rust", "Go", "Java", "Ruby", "Shell", "C++", "TypeScript", "PHP"):
        some = lexemes(b"<?php f(12, x); // see" if language == "PHP" else b"f(12, x)", language)
        assert some == sorted(some or [])
        assert some


def test_which_documents_are_parsed() -> None:
    assert choose(["C", "C", "Go", "C", "Go"], [10, 10, 10, 10, 10], 20, 40) == [0, 1, 2, 4]
    assert choose(["C", "C", "Go", "Go"], [10] * 4, 100, 20) == [0, 1]
    assert choose(["C"] * 3, [DOCUMENT_BYTES * 9] * 3, 2 * DOCUMENT_BYTES, 1 << 30) == [0, 1]


# --- the sample


def test_shares() -> None:
    assert shares({"a": 5, "b": 100, "c": 1000}, 300) == {"a": 5, "b": 100, "c": 195}
    assert shares({"a": 1000, "b": 1000}, 300) == {"a": 150, "b": 150}
    assert shares({"a": 5, "b": 6}, 300) == {"a": 5, "b": 6}
    rng = random.Random(1)
    for _ in range(200):
        sizes = {str(number): rng.choice([0, 3, 50, 999]) for number in range(rng.randint(1, 6))}
        found = shares(sizes, rng.randint(1, 2000))
        given = [found[name] for name in sizes if found[name] < sizes[name]]
        assert all(found[name] <= sizes[name] for name in sizes)
        assert not given or max(given) - min(given) <= len(sizes)  # those that are cut give alike
        assert not given or max(found.values()) <= max(given) + len(sizes)


def test_the_sample_shows_every_source(tmp_path: Path) -> None:
    rng = random.Random(5)
    rows = [document(number, rng.choice("abc") * rng.randint(50, 150), "big") for number in range(3000)]
    rows += [document(number, "tiny " * 30, "small") for number in range(5)] + [document(0, "é" * 300_000, "long")]
    path = write_corpus(tmp_path / "c", rows, part_rows=1000, row_group=40)
    found = draw(open_corpus(path), 90_000, 0)
    sizes: Counter[str] = Counter()
    for source, text in zip(found.sources, found.texts.to_pylist(), strict=True):
        sizes[source] += len(text.encode())
    assert sizes["small"] == 5 * 150
    assert 40_000 <= sizes["big"] < 60_000
    assert sizes["long"] == found.document_bytes == 4096
    assert int(found.bytes[found.sources.index("long")]) == 600_000
    assert found.ids == draw(open_corpus(path), 90_000, 0).ids
    assert found.ids != draw(open_corpus(path), 90_000, 1).ids
    assert len(set(zip(found.sources, found.ids, strict=True))) == len(found.ids)
    # of many row groups, 16 at most are read, from every part of the source
    groups = {int(name.partition("/")[2]) // 40 for name in found.ids if name.startswith("big/")}
    assert 3 <= len(groups) <= 16
    assert {group // 25 for group in groups} == {0, 1, 2}
    assert len(draw(open_corpus(path), 10**9, 0).ids) <= 16 * 40 + 6


def test_a_sample_takes_documents_without_favour(tmp_path: Path) -> None:
    """Those of lowest hash, whatever row group they are in: the same as one table gives."""
    rows = [document(number, f"text {number} " * 9, "one") for number in range(400)]
    many = draw(open_corpus(write_corpus(tmp_path / "a", rows, part_rows=400, row_group=30)), 9000, 3)
    one = draw(open_corpus(write_corpus(tmp_path / "b", rows, part_rows=400, row_group=400)), 9000, 3)
    assert many.ids == one.ids
    assert 60 < len(many.ids) < 120


def test_batches_cover_all_texts() -> None:
    some = pa.array(["a" * 700_000, "b" * 700_000, "c" * 3_000_000, "", "d"], pa.large_string())
    assert list(batches(some)) == [(0, 1), (1, 2), (2, 3), (3, 5)]
    assert list(batches(some.slice(3))) == [(0, 2)]


# --- the comparison


def test_figures_are_sums_over_groups(corpus: Path, tokenizers: dict[str, Path]) -> None:
    paths = [tokenizers[name] for name in ("u7", "pieces", "lossy")]
    found = compare(corpus, paths, sample_bytes=10**8).figures
    own = texts()
    assert found["sample"]["documents"] == len(own)  # without text there is nothing to compare
    assert [one["name"] for one in found["tokenizers"]] == [str(path) for path in paths]
    assert found["sample"]["not_parsed"] == {"TeX": "no grammar"}
    for one, path in zip(found["tokenizers"], paths, strict=True):
        vocabulary = loaded(path)
        rows, _, held = counted(vocabulary, own)
        for by, place in (("kind", 0), ("language", 1)):
            names = {entry[place] or "unknown" for entry in own if by == "kind" or entry[0] not in ("code", "protein")}
            assert set(one[by]) == names
            for name in names:
                which = [
                    number
                    for number, entry in enumerate(own)
                    if (entry[place] or "unknown") == name and (by == "kind" or entry[0] not in ("code", "protein"))
                ]
                total = {key: sum(rows[number][key] for number in which) for key in COUNTS}
                facts_of = {key: sum(held[number][key] for number in which) for key in FACTS}
                assert found["facts"][by][name] == facts_of
                figures = one[by][name]
                assert figures["tokens"] == total["tokens"]
                assert figures["bytes_per_token"] == pytest.approx(facts_of["bytes"] / total["tokens"], rel=1e-5)
                for key, above, below in (
                    ("fertility", "word_tokens", "words"), ("words_whole", "lettered_whole", "lettered"),
                    ("commands_whole", "commands_whole", "commands"), ("numbers_right", "numbers_right", "numbers"),
                    ("tokens_per_document", "tokens", "documents"),
                ):  # fmt: skip
                    if facts_of[below]:
                        assert figures[key] == pytest.approx(total[above] / facts_of[below], rel=1e-5)
                    else:
                        assert figures[key] is None
        assert set(one["programming_language"]) == {"C", "Python", "TeX"}
        ids = {number for _, _, text in own for number in vocabulary.tokenizer.encode(text, add_special_tokens=False).ids}
        assert (one["used"], one["size"]) == (len(ids), vocabulary.size)
        assert one["speed"]["first_mb_s"] > 0
        assert one["speed"]["warm_mb_s"] > 0
        assert (one["encoder"] == "kernels") == (path.name == "u7")
        assert (one["overall"]["lossless"] == 1) == (path.name != "lossy")


def test_a_long_document_counts_whole(tmp_path: Path, tokenizers: dict[str, Path]) -> None:
    text = "the same words " * 20_000
    path = write_corpus(tmp_path / "c", [document(0, text)])
    found = compare(path, [tokenizers["u7"]], sample_bytes=50_000).figures
    assert found["sample"]["cut_documents"] == 1
    whole = len(loaded(tokenizers["u7"]).tokenizer.encode(text).ids)
    assert found["tokenizers"][0]["overall"]["tokens_per_document"] == pytest.approx(whole, rel=0.01)


def test_the_same_again(corpus: Path, tokenizers: dict[str, Path]) -> None:
    def figures(seed: int) -> Any:
        found = compare(corpus, [tokenizers["u7"], tokenizers["gpt2"]], sample_bytes=20_000, seed=seed)
        for one in found.figures["tokenizers"]:
            del one["speed"]
        return found.figures, found.texts, found.worst

    assert figures(1) == figures(1)
    assert figures(1)[0]["facts"] != figures(2)[0]["facts"]


def test_worst_documents(tmp_path: Path, tokenizers: dict[str, Path]) -> None:
    rows = [document(number, PROSE * 6, lang="en") for number in range(6)]
    rows.append(document(7, PROSE * 20 + "1234567890" * 120 + PROSE * 20, "web", lang="en"))
    rows.append(document(8, CHINESE * 3, "web", lang="zh"))
    found = compare(write_corpus(tmp_path / "c", rows), [tokenizers["u7"], tokenizers["noend"]], sample_bytes=10**7)
    digits = found.figures["tokenizers"][1]["worst"]
    assert digits[0]["document"] == "web/7"  # a digit a token
    assert digits[0]["ratio"] > 1.05
    assert len({one["language"] for one in digits}) == len(digits)  # one of a kind and language
    assert found.worst[1][0][1].text.count("1234567890") > 20  # and of it the piece that makes the difference
    assert len(found.worst[1][0][1].tokens) == 2


def test_labels() -> None:
    assert labels(["a/b/tokenizer.json", "a/c"]) == ["b", "c"]
    assert labels(["x/a", "y/a"]) == ["x/a", "y/a"]
    assert labels(["tokenizer.json"]) == ["tokenizer.json"]
    long = labels([f"{'a' * 30}{number}" for number in range(3)])
    assert len(set(long)) == 3
    assert max(map(len, long)) <= 16
    odd = labels([f"{number}{'a' * 30}" for number in range(12)])
    assert len(set(odd)) == 12


# --- the command


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli, ["tokenizer", "compare", *map(str, arguments)])


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_command(corpus: Path, tokenizers: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "folder/page.html"
    done = run(corpus, tokenizers["u7"], tokenizers["noend"] / "tokenizer.json", "--json", "--out", out, "--sample-bytes", "100kB")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout, parse_constant=no_constant)
    assert told["format"] == "codedev.tokenizer-comparison/1"
    assert {metric.key for metric in METRICS} < set(told["tokenizers"][1]["overall"])
    assert out.read_text("utf-8").startswith("<!doctype html>")
    shown = run(corpus, tokenizers["u7"], tokenizers["pieces"], "--sample-bytes", "100kB", "-q")
    assert shown.exit_code == 0
    for words in ("bytes per token", "By programming language", "LaTeX commands aligned", "byte_fallback", str(tokenizers["pieces"])):
        assert words in shown.stdout


def test_errors_before_any_work(corpus: Path, tokenizers: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"model": 7}')
    (tmp_path / "list.json").write_text("[]")
    nowhere = tmp_path / "no corpus"
    for path in (tmp_path / "absent", tmp_path / "broken.json", tmp_path / "list.json"):
        with pytest.raises(InputError, match=path.name):
            compare(nowhere, [tokenizers["u7"], path])
    with pytest.raises(InputError, match="twice"):
        compare(nowhere, [tokenizers["u7"], tokenizers["u7"]])
    with pytest.raises(InputError, match="no such corpus"):
        compare(nowhere, [tokenizers["u7"]])
    with pytest.raises(InputError, match="no text"):
        compare(write_corpus(tmp_path / "empty", [document(0, "")]), [tokenizers["u7"]])
    assert run(corpus).exit_code == 2
    assert run(corpus, tokenizers["u7"], "--out", tmp_path).exit_code == 2
    assert run(nowhere, tokenizers["u7"]).exit_code == 1


# --- the page


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs


HOSTILE = "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)> \u202egnp.exe\u202c \x1b[31m \"' & --> ]]> " * 8


def test_the_page_runs_nothing_of_strangers(tmp_path: Path, tokenizers: dict[str, Path]) -> None:
    rows = [document(0, HOSTILE, "<b>s", lang="<i>x", kind="web"), document(1, CHINESE, "zh", lang="zh")]
    rows[0]["id"] = "<u>id&'\"/" + "\u202e"
    found = compare(write_corpus(tmp_path / "c", rows), [tokenizers["u7"], tokenizers["pieces"]])
    text = page.render(found)
    assert text == page.render(found)
    tags = Tags(text)
    assert (tags.tags["script"], tags.tags["img"], tags.tags["u"], tags.tags["style"], tags.tags["link"]) == (1, 0, 0, 1, 0)
    assert not [name for name, _ in tags.attributes if name.startswith("on") or name in ("src", "style", "action")]
    assert all(value and value.startswith("#") for name, value in tags.attributes if name == "href")
    assert not re.search("[\u202e\u202c\x1b]", text)
    policy = re.search('Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    assert "default-src 'none'" in policy[1]
    for tag in ("style", "script"):
        inline = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert inline
        assert base64.b64encode(hashlib.sha256(inline[1].encode()).digest()).decode() in policy[1]
    assert "unsafe" not in policy[1]


def test_tokens_on_the_page(tokenizers: dict[str, Path]) -> None:
    for name in ("u7", "pieces", "lossy", "gpt2"):
        own = reader(loaded(tokenizers[name]))
        for text in (CHINESE[:30], "It's\n\ta 😀 naïve café", TEX, "", "\r\n"):
            tokens = tokens_of(own, text)
            expected = own.vocabulary.tokenizer.encode(text, add_special_tokens=False)
            assert [(token.id, token.name) for token in tokens] == list(zip(expected.ids, expected.tokens, strict=True))
            if name in ("u7", "gpt2"):
                assert b"".join(token.data for token in tokens) == text.encode()
            assert all(token.text in text for token in tokens)
    odd = tokens_of(reader(loaded(tokenizers["gpt2"])), "𒀀\n")
    drawn = page._tokens(odd)
    assert "<b>f0" in drawn
    assert "of 𒀀" in drawn
    assert "<s>↵</s>" in drawn
    pieces = page._tokens(tokens_of(reader(loaded(tokenizers["pieces"])), "😀"))
    assert pieces.startswith('<i class="a" data-t="id ')
    assert all(f"<b>{byte:02x}</b>" in pieces for byte in "😀".encode())


# --- hostile text: linear time


@pytest.mark.parametrize(
    ("kind", "language", "text"),
    [
        ("web", "", "1" * 1_000_000),
        ("web", "", "\\" * 1_000_000),
        ("web", "", "\\a" * 500_000),
        ("web", "", "日" * 300_000),
        ("web", "", "'" * 1_000_000),
        ("code", "Python", '"""' + "\n" * 1_000_000),
        ("code", "Python", "(" * 1_000_000),
        ("code", "Python", "\\\n" * 500_000),
        ("code", "C", "(" * 1_000_000),
        ("code", "JavaScript", "`${" * 300_000),
        ("code", "Rust", "/*" * 500_000),
    ],
)
def test_hostile_texts_take_linear_time(tokenizers: dict[str, Path], kind: str, language: str, text: str) -> None:
    vocabulary = loaded(tokenizers["u7"])
    begun = time.process_time()
    batch = spans(pa.array([text], pa.large_string()), [kind], [language], [True])
    found = measure(vocabulary, [batch])
    assert found.counts[0, COUNTS.index("lossless")] == 1
    assert time.process_time() - begun < 12  # measured: 1 s and less
