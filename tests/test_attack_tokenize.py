"""What strangers may bring to the tokenizer side: degenerate corpora, unsound tokenizers, full disks, kills."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tokenizers import Tokenizer

from codedev._errors import InputError
from codedev._run import file_hash, write_json
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.tokenize import library
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.extend import extend_tokenizer
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.show import excerpted, shortened, show
from codedev.tokenize.trace import trace
from codedev.tokenize.train import train_tokenizer
from codedev.tokenize.vocabulary import encode_plain, load_vocabulary


def corpus(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "in.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "r.yaml").write_text(yaml.safe_dump({"name": "c", "sources": [{"name": "s", "type": "tables", "paths": ["in.jsonl"]}]}))
    build(recipes.load(folder / "r.yaml"), folder, folder / "corpus", workers=1)
    return folder / "corpus"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of made-up words and a tokenizer learned from it."""
    folder = tmp_path_factory.mktemp("home")
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(1, 9))) for _ in range(2000)]
    corpus(folder, [{"text": " ".join(draw.choices(words, k=300))} for _ in range(200)])
    train_tokenizer(folder / "corpus", folder / "tokenizer", vocab_size=3000, special_slots=64)
    return folder


@pytest.mark.parametrize(
    "text",
    [" " * 100_000 + "x", "\n" * 100_000, "a" * 200_000, "ab" * 100_000, "0123456789" * 10_000, "\U0001f600" * 20_000,
     "\u4e2d" * 50_000, "\x00" * 9_999],
    ids=["blanks", "lines", "a", "ab", "digits", "emoji", "zhong", "nul"],
)  # fmt: skip
def test_a_tokenizer_of_one_monotonous_text(tmp_path: Path, text: str) -> None:
    """What is learned is what the encoder covers, no token is longer than 128 bytes, and the text comes back."""
    made = corpus(tmp_path, [{"text": text}, {"text": text[: len(text) // 2] + "."}, {"text": "some other text"}])
    result = train_tokenizer(made, tmp_path / "t", vocab_size=2000, special_slots=16)
    assert result["bytes_per_token"] > 0
    vocabulary = load_vocabulary(tmp_path / "t")
    assert vocabulary.engine is not None
    vocab = Tokenizer.from_file(str(tmp_path / "t" / "tokenizer.json")).get_vocab(with_added_tokens=False)
    assert max(map(len, vocab)) <= 128
    plain = encode_plain(vocabulary, pa.array([text], pa.large_string()))
    assert vocabulary.tokenizer is not None
    assert vocabulary.tokenizer.decode(plain.ids.tolist()) == text
    tokenize_corpus(made, tmp_path / "t", tmp_path / "s", TokenizeRecipe(seq_len=64))


def test_extension_learns_no_endless_tokens(home: Path, tmp_path: Path) -> None:
    made = corpus(tmp_path, [{"text": f"word {'=' * 3000} word {'-' * 40} word"} for _ in range(30)])
    extend_tokenizer(home / "tokenizer", tmp_path / "t", corpus=made, add=300)
    vocab = Tokenizer.from_file(str(tmp_path / "t" / "tokenizer.json")).get_vocab(with_added_tokens=False)
    assert max(map(len, vocab)) <= 128
    assert "-" * 40 in " ".join(vocab)


def changed(home: Path, folder: Path, change: Any) -> Path:
    model = json.loads((home / "tokenizer" / "tokenizer.json").read_text())
    model = copy.deepcopy(model)
    change(model)
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(model))
    return folder / "tokenizer.json"


def test_a_token_too_long_for_the_encoder_is_the_librarys_work(home: Path, tmp_path: Path) -> None:
    def long(model: Any) -> None:
        before = "a"
        for _ in range(13):  # aa, aaaa, … to 8,192
            if before * 2 not in model["model"]["vocab"]:
                model["model"]["vocab"][before * 2] = 5000 + len(before)
            if [before, before] not in model["model"]["merges"]:
                model["model"]["merges"].append([before, before])
            before *= 2

    path = changed(home, tmp_path / "long", long)
    vocabulary = load_vocabulary(path)
    assert vocabulary.why_library is not None
    assert "a token of 8192 bytes" in vocabulary.why_library
    text = "a" * 20_000
    ids = encode_plain(vocabulary, pa.array([text], pa.large_string())).ids.tolist()
    assert ids == Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False).ids


def split(expression: str) -> Any:
    def change(model: Any) -> None:
        cut = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        model["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [cut, level]}

    return change


@pytest.mark.parametrize("expression", ["(a|aa)+c", "(a+)+$", "(?:a*)*b?c", "(?:(?:a+)+)+z"])
def test_an_expression_that_goes_back_and_forth_ends(home: Path, tmp_path: Path, expression: str) -> None:
    vocabulary = load_vocabulary(changed(home, tmp_path / "t", split(expression)))
    started = time.monotonic()
    try:
        encode_plain(vocabulary, pa.array(["a" * 60 + "b"] * 3, pa.large_string()))
    except InputError as error:
        assert "gave up a text" in str(error)  # noqa: PT017  # either is right, a panic is not
    assert time.monotonic() - started < 60


def added(name: str, number: int) -> Any:
    token = {"id": number, "content": name, "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return lambda model: model["added_tokens"].append(token)


@pytest.mark.parametrize(
    "change",
    [added("", 9999), added("<|far|>", 2**31), added("<|same|>", 3), lambda m: m["model"]["vocab"].update(a=m["model"]["vocab"]["b"])],
)
def test_a_strange_tokenizer_encodes_as_the_library_does(home: Path, tmp_path: Path, change: Any) -> None:
    path = changed(home, tmp_path / "t", change)
    text = "abc def <|im_end|> 12"
    reference = Tokenizer.from_file(str(path))
    reference.encode_special_tokens = True
    found = encode_plain(load_vocabulary(path), pa.array([text], pa.large_string())).ids.tolist()
    assert found == reference.encode(text, add_special_tokens=False).ids


def test_an_expression_that_takes_for_ever_is_told(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From each character it looks through the rest of the text: 20 billion steps here, an hour for a megabyte."""
    vocabulary = load_vocabulary(changed(home, tmp_path / "t", split(".*x|.")))
    monkeypatch.setattr(library, "SECONDS", 0.5)
    monkeypatch.setattr(library, "SECONDS_A_CHARACTER", 0.0)
    with pytest.raises(InputError, match="does not come to an end with a text of 60000 characters"):
        encode_plain(vocabulary, pa.array(["a" * 60_000], pa.large_string()))


@pytest.mark.parametrize(
    "change",
    [lambda m: m.update(normalizer=[[]]), lambda m: m["model"]["vocab"].update(a=-1), lambda m: m["model"]["merges"].append(["zzzz", "q"])],
)
def test_a_tokenizer_that_cannot_be_is_told(home: Path, tmp_path: Path, change: Any) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        load_vocabulary(changed(home, tmp_path / "t", change))


@pytest.mark.parametrize("number", ["\u00b2", "9" * 30, "-1"])
def test_numbers_that_are_no_ids(home: Path, tmp_path: Path, number: str) -> None:
    """GPT-2's files with a configuration whose added tokens have such numbers: those are left out."""
    model = json.loads((home / "tokenizer" / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(" ".join(merge) for merge in model["merges"]))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {number: {"content": "zz", "special": True}}}))
    vocabulary = load_vocabulary(tmp_path, need_eos=False)
    assert vocabulary.tokenizer is not None
    assert vocabulary.tokenizer.token_to_id("zz") is None


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_tokenizer_that_is_cut_short(home: Path, tmp_path: Path, share: float) -> None:
    whole = (home / "tokenizer" / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"tokenizer\.json: is no"):
        load_vocabulary(tmp_path)


# -- corpora that others wrote ------------------------------------------------------------------------------------------------------------


def written(folder: Path, *parts: pa.Table) -> Path:
    """A corpus directory of these parts, with the hashes they have."""
    entries = []
    for number, table in enumerate(parts):
        path = folder / f"documents/s/part-{number:05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        name = path.relative_to(folder).as_posix()
        entries.append({"path": name, "rows": table.num_rows, "text_bytes": 100, "hash": file_hash(path)})
    write_json(folder / "manifest.json", {"format": "codedev.corpus/1", "parts": {"documents": entries}})
    return folder


def part(*rows: dict[str, Any]) -> pa.Table:
    usual = {"source": "s", "kind": "web", "text": "hello world", "lang": "en", "meta": "{}"}
    columns = {name: [{"id": f"d{i}", **usual, **row}[name] for i, row in enumerate(rows)] for name in ("id", *usual)}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def unchecked(*values: bytes) -> pa.Array:
    """A column of strings that are no UTF-8, as Parquet keeps them without a word."""
    return pa.Array.from_buffers(pa.string(), len(values), [None, *pa.array(values, pa.binary()).buffers()[1:]])


ONE = part({}, {})


@pytest.mark.parametrize("mode", ["pt", "sft", "preference", "prompt"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        *((lambda t, name=name: t.drop_columns([name]), f"has no column {name}") for name in ("id", "kind", "meta")),
        *(
            (lambda t, at=at, name=name: t.set_column(at, name, unchecked(b"\xff\xfe", b"\xed\xa0\x80")), "Invalid UTF8")
            for at, name in ((0, "id"), (2, "kind"), (5, "meta"))
        ),
        (lambda t: t.append_column("meta", pa.array(["a", "b"])), "has several columns meta"),
        (lambda t: t.set_column(0, "id", pa.array(["a", None])), "a document has no id"),
        (lambda t: t.set_column(0, "id", pa.array([1, 2])), "its column id is of type int64, not text"),
        (lambda t: t.set_column(5, "meta", pa.array([{"a": 1}] * 2)), "its column meta is of type struct"),
    ],
)  # fmt: skip
def test_columns_that_are_missing_or_odd(home: Path, tmp_path: Path, mode: str, change: Any, said: str) -> None:
    """In the second part: nothing is found out beforehand."""
    made = written(tmp_path / "c", ONE, change(ONE))
    with pytest.raises(InputError, match=rf"part-0000[01]\.parquet: .*{said}"):
        tokenize_corpus(made, home / "tokenizer", tmp_path / "s", TokenizeRecipe(mode=mode, seq_len=64), workers=2)


def test_text_that_is_no_utf8_never_reaches_the_encoder(home: Path, tmp_path: Path) -> None:
    made = written(tmp_path / "c", ONE.set_column(3, "text", unchecked(b"\xff\xfe", b"\xed\xa0\x80")))
    for use in (
        lambda: tokenize_corpus(made, home / "tokenizer", tmp_path / "s"),
        lambda: train_tokenizer(made, tmp_path / "t", vocab_size=2000, special_slots=16),
        lambda: extend_tokenizer(home / "tokenizer", tmp_path / "e", corpus=made, add=10),
    ):
        with pytest.raises(InputError, match="Invalid UTF8"):
            use()


@pytest.mark.parametrize("packing", ["best-fit", "concatenate"])
@pytest.mark.parametrize("holdout", [0.0, 0.5])
def test_only_documents_longer_than_a_row(home: Path, tmp_path: Path, packing: str, holdout: float) -> None:
    recipe = TokenizeRecipe(seq_len=8, overlong="drop", packing=packing, holdout=holdout)
    with pytest.raises(InputError, match="is longer than a row of 8 tokens, and overlong: drop leaves those out"):
        tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "s", recipe)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("mixture", "shares"),
    [
        ({"temperature": 1e-6}, {"a": 1.0, "b": 0.0}),
        ({"temperature": 0.01}, {"a": 1.0, "b": 0.0}),
        ({"weights": {"a": 1e308, "b": 1e308}}, {"a": 0.5, "b": 0.5}),
        ({"weights": {"a": 1e-12, "b": 1}}, {"a": 0.0, "b": 1.0}),
        ({"weights": {"a": 1e-300, "b": 1e-300}}, {"a": 0.5, "b": 0.5}),
    ],
)
def test_extreme_mixtures(home: Path, tmp_path: Path, mixture: dict[str, Any], shares: dict[str, float]) -> None:
    rows = [{"id": f"{name}{i}", "source": name} for name, count in (("a", 600), ("b", 400)) for i in range(count)]
    recipe = TokenizeRecipe(seq_len=64, mixture={**mixture, "max_epochs": 1000})
    result = tokenize_corpus(written(tmp_path / "c", part(*rows)), home / "tokenizer", tmp_path / "s", recipe)
    groups = result["manifest"]["mixture"]["groups"]
    assert {name: groups[name]["share"] for name in shares} == pytest.approx(shares, abs=0.01)


def test_a_vocabulary_larger_than_the_encoder_is_refused_at_once(home: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the encoder has room for 1048575 tokens"):
        train_tokenizer(home / "corpus", tmp_path / "t", vocab_size=2_000_000)


def deep(levels: int) -> str:
    chat = '{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}'
    return f'{{"messages": [{chat}], "notes": {"[" * levels}{"]" * levels}}}'


def test_meta_too_deep_to_be_written_again(home: Path, tmp_path: Path) -> None:
    rows = [{"kind": "instruction", "meta": deep(levels)} for levels in (10, 300, 1000)]
    made = written(tmp_path / "c", part(*rows))
    result = tokenize_corpus(made, home / "tokenizer", tmp_path / "s", TokenizeRecipe(mode="prompt", chat={"template": "plain"}))
    assert result["manifest"]["dropped"] == {"nested_too_deep": 2}
    assert result["manifest"]["dropped_first"]["nested_too_deep"]["document"] == "d1"


REFUSES = (
    "{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}"
)


def chat(answer: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": "ask"}, {"role": "assistant", "content": answer}]
    return {"kind": "instruction", "meta": json.dumps({"messages": turns})}


@pytest.mark.parametrize("mode", ["sft", "prompt"])
def test_a_template_that_refuses_says_why_and_of_which(home: Path, tmp_path: Path, mode: str) -> None:
    (tmp_path / "t.jinja").write_text(REFUSES if mode == "sft" else REFUSES.replace("'no'", "'ask'").replace("messages", "messages[:1]", 1))
    rows = (
        [chat("yes"), chat("no"), chat("no")]
        if mode == "sft"
        else [chat("no"), {**chat("x"), "meta": chat("x")["meta"].replace("ask", "b")}]
    )
    recipe = TokenizeRecipe(mode=mode, chat={"template": str(tmp_path / "t.jinja")})
    result = tokenize_corpus(written(tmp_path / "c", part(*rows)), home / "tokenizer", tmp_path / "s", recipe)
    first = result["manifest"]["dropped_first"]["template_refuses"]
    assert first["document"] == ("d1" if mode == "sft" else "d0")
    assert first["said"].endswith("t.jinja: roles must alternate")
    with pytest.raises(InputError, match=r"1 template_refuses\); document d0: .*t\.jinja: roles must alternate"):
        tokenize_corpus(written(tmp_path / "d", part(rows[1 if mode == "sft" else 0])), home / "tokenizer", tmp_path / "r", recipe)


class Killed(BaseException):
    pass


def test_why_documents_were_dropped_survives_a_kill(home: Path, tmp_path: Path) -> None:
    """The reasons of the first part are in its receipt: the second run of a killed one numbered its own from 1 again."""
    (tmp_path / "t.jinja").write_text(REFUSES)
    parts = part(chat("no"), chat("yes")), part({}, chat("yes"), {}), part(chat("no"), {})
    recipe = TokenizeRecipe(mode="sft", seq_len=64, chat={"template": str(tmp_path / "t.jinja")})
    made = written(
        tmp_path / "c", *(one.set_column(0, "id", pa.array([f"p{at}-{i}" for i in range(len(one))])) for at, one in enumerate(parts))
    )
    whole = tokenize_corpus(made, home / "tokenizer", tmp_path / "whole", recipe)

    for kill_at in (2, 3):
        seen = 0

        def stop(what: str, done: int, total: int | None, note: str = "", kill_at: int = kill_at) -> None:
            nonlocal seen
            seen += what == "encode"
            if seen == kill_at:
                raise Killed

        out = tmp_path / f"killed-{kill_at}"
        with pytest.raises(Killed):
            tokenize_corpus(made, home / "tokenizer", out, recipe, progress=stop)
        again = tokenize_corpus(made, home / "tokenizer", out, recipe)
        assert again["parts_kept"] == kill_at - 1
        assert again["manifest"]["dropped"] == whole["manifest"]["dropped"] == {"not_a_conversation": 3, "template_refuses": 2}
        assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "mixture",
    [{"weights": {"t": 0.5}}, {"epochs": {"t": 2}}, {"by": "lang", "weights": {"de": 0.5}}, {"by": "kind", "epochs": {"code": 0}}],
)
def test_an_unknown_group_is_refused_before_encoding(home: Path, tmp_path: Path, mixture: dict[str, Any]) -> None:
    def progress(what: str, done: int, total: int | None, note: str = "") -> None:
        raise AssertionError(f"{what} has begun")

    with pytest.raises(InputError, match=r"mixture\.(weights|epochs): the corpus has no"):
        tokenize_corpus(
            written(tmp_path / "c", ONE), home / "tokenizer", tmp_path / "s", TokenizeRecipe(mixture=mixture), progress=progress
        )


# -- trace --------------------------------------------------------------------------------------------------------------------------------


def test_a_damaged_shard_is_told(home: Path, tmp_path: Path) -> None:
    """Bytes changed anywhere: the row, or one line that names the file."""
    tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "s", TokenizeRecipe(seq_len=32))
    [file] = (tmp_path / "s").glob("shard-*.arrow")
    whole, draw = file.read_bytes(), random.Random(5)
    told = 0
    for _ in range(60):
        data = bytearray(whole[: draw.choice((len(whole), draw.randrange(len(whole))))])
        for _ in range(draw.choice((1, 5, 50)) if data else 0):
            data[draw.randrange(len(data))] = draw.randrange(256)
        file.write_bytes(data)
        try:
            trace(tmp_path / "s", 0, 5)
        except InputError:
            told += 1
    assert told > 20


@pytest.mark.parametrize(("key", "value"), [("file", 5), ("file", None), ("eos", 5)])
def test_a_manifest_of_another_hand_is_told(home: Path, tmp_path: Path, key: str, value: Any) -> None:
    tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "s", TokenizeRecipe(seq_len=32))
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    manifest["tokenizer"][key] = value
    (tmp_path / "s" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="is no complete manifest"):
        trace(tmp_path / "s", 0, 5)


def test_what_trace_shows_is_short(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A long record and its meta: a screen of the terminal, and all of it in the result."""
    rows = [{"text": "here we are " * 400, "notes": ["x" * 3000] * 3} for _ in range(3)]
    made = corpus(tmp_path, rows)
    tokenize_corpus(made, home / "tokenizer", tmp_path / "s", TokenizeRecipe(seq_len=256))
    found = trace(tmp_path / "s", 0, 100)
    assert found["raw"]["found"]
    show(found)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) < 320


def test_lines_of_an_excerpt() -> None:
    text = "\n".join(f"line {number} " + "y" * (1000 if number == 20 else 5) for number in range(40))
    shown = excerpted(text, text.index("y" * 900) + 500).split("\n")
    assert shown[0] == shown[-1] == "\u2026"
    assert len(shown) == 14
    assert any(line.startswith("\u2026yyy") and line.endswith("y\u2026") for line in shown[1:-1])
    assert excerpted("one\ntwo", 4) == "one\ntwo"
    assert excerpted("", 0) == ""
    assert shortened("x" * 500).startswith("x" * 200 + "\u2026 (500 characters")


# -- disks and kills ---------------------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, str]:
    """Every file's hash; manifests tell no times here."""
    return {
        path.relative_to(folder).as_posix(): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


COMMANDS = {
    "tokenize": ["tokenize", "{home}/corpus", "--tokenizer", "{home}/tokenizer", "--out", "{out}", "--seq-len", "32", "--workers", "2"],
    "train": ["tokenizer", "train", "{home}/corpus", "--out", "{out}", "--vocab-size", "3000", "--special-slots", "64"],
    "extend": ["tokenizer", "extend", "{home}/tokenizer", "{home}/corpus", "--out", "{out}", "--add", "200"],
    "export": ["export", "{home}/shards", "--to", "hf", "--out", "{out}"],
}


def start(name: str, home: Path, out: Path, **options: Any) -> subprocess.Popen[str]:
    arguments = [part.format(home=home, out=out) for part in COMMANDS[name]]
    return subprocess.Popen(
        [sys.executable, "-m", "codedev", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.fixture(scope="module")
def shards(home: Path) -> Path:
    tokenize_corpus(home / "corpus", home / "tokenizer", home / "shards", TokenizeRecipe(seq_len=32))
    return home / "shards"


@pytest.mark.slow
@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_that_is_killed_ends_the_same(home: Path, tmp_path: Path, name: str) -> None:
    started = time.monotonic()
    assert start(name, home, tmp_path / "whole").wait() == 0
    whole = time.monotonic() - started
    draw = random.Random(name)
    for attempt in range(3):
        out = tmp_path / f"killed-{attempt}"
        for _ in range(2):
            process = start(name, home, out)
            time.sleep(draw.uniform(0.3, 1.0) * whole)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        process = start(name, home, out)
        _, said = process.communicate()
        assert process.returncode == 0, said
        assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_may_not_grow_is_told(home: Path, tmp_path: Path, name: str) -> None:
    def little() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = start(name, home, tmp_path / "out", preexec_fn=little)
    _, said = process.communicate()
    assert process.returncode == 1, said
    assert said.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in said
    process = start(name, home, tmp_path / "out")
    assert process.wait() == 0, process.communicate()
    assert start(name, home, tmp_path / "whole").wait() == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_two_runs_at_once_do_not_mix(home: Path, tmp_path: Path) -> None:
    processes = [start("tokenize", home, tmp_path / "out") for _ in range(3)]
    codes = [(process.communicate(), process.returncode) for process in processes]
    assert any(code == 0 for _, code in codes)
    for (_, said), code in codes:
        assert code == 0 or "another run" in said, said
    assert start("tokenize", home, tmp_path / "whole").wait() == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert os.path.isdir(tmp_path / "out")
