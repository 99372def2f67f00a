"""Personal data: precision and recall on presidio-research's gold, and MB a second of one core, beside Presidio's pattern recognisers.

    python benchmarks/bench_personal.py [--data .data] [--peers PYTHON] [--json FILE]

PYTHON is that of an environment with `pip install presidio-analyzer`; without it codedev is measured alone. Both see the same texts in the
same run, one core each; MB are 10**6 bytes of UTF-8. A find counts when its type and its text are those of the gold; Presidio's model of
names and places is left out, since codedev looks for neither.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from _bench import machine

from codedev.kernels.personal.find import TYPES, find

HERE = Path(__file__).parent
GOLD = {
    "EMAIL_ADDRESS": "email",
    "IP_ADDRESS": "ip",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "national_id",
}
Finds = list[tuple[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / ".data", help="folder of the real data")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="of an environment with presidio-analyzer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if not (arguments.data / "pii").is_dir():
        raise SystemExit(f"{arguments.data}: holds no pii folder. Name the folder of the real data with --data")
    told: dict[str, Any] = {"machine": machine(), "quality": {}, "speed": {}}
    print("personal data on presidio-research (exact spans)          codedev             Presidio's patterns")
    print("type           in gold                             precision   recall       precision   recall")
    gold = _gold(arguments.data)
    texts = [text for text, _ in gold]
    found = {"codedev": _ours(texts)[1]}
    if arguments.peers:
        found["presidio"] = _presidio(arguments.peers, texts)[1]
    for kind in sorted(set(GOLD.values())):
        rates = {name: _rates(kind, gold, finds) for name, finds in found.items()}
        count = sum(one == kind for _, spans in gold for one, _ in spans)
        told["quality"][kind] = {"gold": count, **rates}
        shown = "       ".join(f"{precision:9.3f} {recall:8.3f}" for precision, recall in rates.values())
        print(f"{kind:14} {count:7}                             {shown}")
    for name, texts in _corpora(arguments.data).items():
        size = sum(len(text.encode()) for text in texts) / 1e6
        # A sample for the slow peer: about 1 MB, spread over all.
        part = texts[:: max(1, round(size))]
        part_size = sum(len(text.encode()) for text in part) / 1e6
        ours = size / statistics.median(_ours(texts)[0] for _ in range(3))
        told["speed"][name] = {"codedev": ours}
        line = f"{name:10} {size:6.1f} MB   codedev {ours:7.1f} MB/s"
        if arguments.peers:
            theirs = part_size / _presidio(arguments.peers, part)[0]
            told["speed"][name] |= {"presidio": theirs, "ratio": ours / theirs}
            line += f"   Presidio's patterns {theirs:6.3f} MB/s   {ours / theirs:7.0f} times"
        print(line)
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")


def _gold(data: Path) -> list[tuple[str, Finds]]:
    rows = json.loads((data / "pii/microsoft__presidio-research/data/synth_dataset_v2.json").read_text())
    spans = [[(GOLD[s["entity_type"]], s["entity_value"]) for s in row["spans"] if s["entity_type"] in GOLD] for row in rows]
    return [(row["full_text"], found) for row, found in zip(rows, spans, strict=True)]


def _rates(kind: str, gold: list[tuple[str, Finds]], finds: list[Finds]) -> tuple[float, float]:
    right = wrong = missed = 0
    for (_, spans), mine in zip(gold, finds, strict=True):
        told, said = (Counter(one for one in many if one[0] == kind) for many in (spans, mine))
        right += (told & said).total()
        wrong += (said - told).total()
        missed += (told - said).total()
    return right / max(right + wrong, 1), right / max(right + missed, 1)


def _ours(texts: list[str]) -> tuple[float, list[Finds]]:
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    offsets.flags.writeable = False
    data = np.frombuffer(b"".join(encoded), np.uint8)
    began = time.process_time()
    spans = find(data, offsets)
    seconds = time.process_time() - began
    finds: list[Finds] = [[] for _ in texts]
    for row, start, end, kind in spans.tolist():
        finds[row].append((TYPES[kind], encoded[row][start:end].decode()))
    return seconds, finds


def _presidio(python: Path, texts: list[str]) -> tuple[float, list[Finds]]:
    lines = "\n".join(json.dumps(text) for text in texts)
    script = HERE / "peers/presidio_regex.py"
    done = subprocess.run([python, script], input=lines, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python}: {done.stderr.strip().splitlines()[-1]}. It needs: pip install presidio-analyzer")
    answer = json.loads(done.stdout.splitlines()[-1])
    found = [[(kind, text[start:end]) for kind, start, end in spans] for text, spans in zip(texts, answer["found"], strict=True)]
    return answer["seconds"], found


def _corpora(data: Path) -> dict[str, list[str]]:
    """Mail, which is full of what is looked for; books and code, which hold next to nothing."""
    patterns = {"mail": "pii/stdlib*/data/**/*.txt", "books": "books/**/*.txt", "code": "code/**/*.py"}
    corpora = {}
    for name, pattern in patterns.items():
        texts, size = [], 0
        for path in sorted(data.glob(pattern)):
            try:
                text = path.read_text()
            except (UnicodeDecodeError, OSError):
                continue
            texts += [text[at : at + 100_000] for at in range(0, len(text), 100_000)]
            size += len(text)
            if size > 20e6:
                break
        if texts:
            corpora[name] = texts
    return corpora


if __name__ == "__main__":
    main()
