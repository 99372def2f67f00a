"""datatrove's filters on a file of texts, in datatrove's own environment (pip install "datatrove[processing]" spacy): no module of codedev
is imported here.

    python datatrove_quality.py TEXTS.jsonl OUT.json --words whitespace|spacy

TEXTS.jsonl holds one JSON string a line. OUT.json: for each filter the reason of each text ("" = kept), CPU seconds, version. With
`whitespace` words are `str.split` and sentences those of `sentences` below; with `spacy` both are datatrove's own defaults for English.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import time
from pathlib import Path
from typing import Any

import datatrove.pipeline.filters.c4_filters as c4
import datatrove.utils.word_tokenizers as tokenizers
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.utils.text import TERMINAL_PUNCTUATION, split_into_parts

FILTERS: dict[str, Any] = {
    "gopher": GopherQualityFilter,
    "repetition": GopherRepetitionFilter,
    "fineweb": FineWebQualityFilter,
    "c4": C4QualityFilter,
    "c4-no-punctuation": lambda: C4QualityFilter(filter_no_terminal_punct=False),
}
# Bounds that no text breaks: datatrove stops at a text's first broken rule, with these it computes every statistic of every text.
_FAR = 1e9
OPEN: dict[str, Any] = {
    "gopher": lambda: GopherQualityFilter(-1, 10**9, -1, 10**9, _FAR, _FAR, _FAR, -_FAR, -1),
    "repetition": lambda: GopherRepetitionFilter(
        _FAR, _FAR, _FAR, _FAR, tuple((n, _FAR) for n in range(2, 5)), tuple((n, _FAR) for n in range(5, 11))
    ),
    "fineweb": lambda: FineWebQualityFilter(line_punct_thr=-1, short_line_thr=_FAR, char_duplicates_ratio=_FAR, new_line_ratio=_FAR),
    "c4": lambda: C4QualityFilter(min_num_sentences=0, filter_lorem_ipsum=False, filter_curly_bracket=False),
}
# A full stop that is part of no ellipsis, an exclamation or a question mark, with what closes after it, before a space or the end; a
# sentence end of another script anywhere: the rule of kernels/lines.py.
_CLOSERS = r"""["'\])”’»›）」』】》〉]*"""
_OTHERS = "".join(TERMINAL_PUNCTUATION - set(".!?"))
_SENTENCE = re.compile(rf"(?:(?<!\.)\.(?!\.)|[!?]){_CLOSERS}(?=\s|$)|[{_OTHERS}]+{_CLOSERS}")


def sentences(line: str) -> int:
    """How many sentences a line has, by the rule that codedev's kernel has for whitespace words."""
    ends = [match.end() for match in _SENTENCE.finditer(line)]
    return max(1, len(ends) + (not ends or bool(line[ends[-1] :].strip())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--words", choices=("whitespace", "spacy"), required=True)
    parser.add_argument("--open", action="store_true", help="bounds that nothing breaks: the time of all statistics")
    arguments = parser.parse_args()
    texts = [json.loads(line) for line in arguments.texts.read_text(encoding="utf-8").splitlines()]
    if arguments.words == "whitespace":
        tokenizers.SpaCyTokenizer.word_tokenize = lambda self, text: text.split()
        c4.split_into_sentences = lambda text, language: [""] * sentences(text)
    FILTERS["gopher"]().filter(Document(text="Load what is loaded once. " * 30, id="0"))
    split_into_parts.cache_clear()
    said: dict[str, list[str]] = {}
    spent: dict[str, float] = {}
    chosen = {name: make() for name, make in (OPEN if arguments.open else FILTERS).items()}
    for name in chosen:
        said[name], spent[name] = [], 0.0
    for text in texts:  # text by text, so that the filters share a text's tokens, as they do in a pipeline
        for name, judge in chosen.items():
            started = time.process_time()
            try:
                kept = judge.filter(Document(text=text, id="0"))
                reason = "" if kept is True else kept[1] if isinstance(kept, tuple) else str(kept)
            except ZeroDivisionError:
                reason = "ZeroDivisionError"  # a text without words: datatrove stops there
            spent[name] += time.process_time() - started
            said[name].append(reason)
    facts = {"reasons": said, "cpu_s": spent, "version": importlib.metadata.version("datatrove")}
    arguments.out.write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
