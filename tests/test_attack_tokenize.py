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
import pytest
import yaml
from tokenizers import Tokenizer

from codedev._errors import InputError
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.extend import extend_tokenizer
from codedev.tokenize.recipe import TokenizeRecipe
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


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_tokenizer_that_is_cut_short(home: Path, tmp_path: Path, share: float) -> None:
    whole = (home / "tokenizer" / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"tokenizer\.json: is no"):
        load_vocabulary(tmp_path)


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
