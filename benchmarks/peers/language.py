"""Language identifiers of other projects, run by bench_language.py in an environment of their own.

    python language.py NAME MODEL TEXTS OUT ROUNDS

TEXTS is a JSON list of lists of texts; OUT becomes {"labels": [[...], ...], "seconds": CPU seconds of the best round for the first list}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


def fasttext(model: str) -> Callable[[str], str]:
    import fasttext

    # The public predict fails beside NumPy 2; this is what it calls.
    library = fasttext.FastText._FastText(model).f

    def label(text: str) -> str:
        found = library.predict(text.replace("\n", " ") + "\n", 1, 0.0, "strict")
        return found[0][1].removeprefix("__label__") if found else ""

    return label


def pycld2(_: str) -> Callable[[str], str]:
    import pycld2

    def label(text: str) -> str:
        try:
            return pycld2.detect(text.encode(), bestEffort=True)[2][0][1]
        except pycld2.error:  # characters that it refuses
            return pycld2.detect("".join(c if c.isprintable() else " " for c in text).encode(), bestEffort=True)[2][0][1]

    return label


def py3langid(_: str) -> Callable[[str], str]:
    import py3langid

    return lambda text: py3langid.classify(text)[0]


def main() -> None:
    name, model, texts, out, rounds = sys.argv[1:]
    label = {"fasttext": fasttext, "pycld2": pycld2, "py3langid": py3langid}[name](model)
    lists = json.loads(Path(texts).read_text())
    label("warm up")
    seconds, labels = [], []
    for number, part in enumerate(lists):
        for _ in range(int(rounds) if number == 0 else 1):
            start = time.process_time()
            found = [label(text) for text in part]
            if number == 0:
                seconds.append(time.process_time() - start)
        labels.append(found)
    Path(out).write_text(json.dumps({"labels": labels, "seconds": min(seconds)}))


if __name__ == "__main__":
    main()
