"""`codedev tokenizer compare`: tokenizers beside one another, on a sample of a corpus.

    sample.py     the documents, by seed, every source seen
    spans.py, lexemes.py   what in them a tokenizer should not tear: words, LaTeX commands, numbers, lexemes of code
    measure.py    a tokenizer's tokens over them: counts of every document, speed
    figures.py    those -> figures, overall and by kind, source and language
    bytes.py, excerpts.py   texts to look at, token by token
    terminal.py, page.py   all that for people

The same corpus, tokenizers and seed give the same figures, but for those of speed. Time: 2 s for 20 MB and a tokenizer that the kernels
cover, 20 to 60 s for one that the library encodes. Memory: half a gigabyte, and 8 times the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codedev._errors import InputError, printable
from codedev._run import Progress, no_progress
from codedev.corpus.buffers import text_buffers
from codedev.tokenize.compare import lexemes
from codedev.tokenize.compare.bytes import reader
from codedev.tokenize.compare.excerpts import Excerpt, Worst, samples, worst, worst_excerpts
from codedev.tokenize.compare.figures import figures
from codedev.tokenize.compare.measure import COUNTS, facts, measure
from codedev.tokenize.compare.sample import Sample, draw
from codedev.tokenize.compare.spans import Spans, batches, spans
from codedev.tokenize.documents import open_corpus
from codedev.tokenize.vocabulary import Vocabulary, load_vocabulary

FORMAT = "codedev.tokenizer-comparison/1"
SAMPLE_BYTES = 20_000_000
PARSED_BYTES = 4_000_000  # of code whose lexemes are looked at: 1 MB/s
LANGUAGE_BYTES = 1_000_000  # of one programming language


class Comparison(NamedTuple):
    figures: dict[str, Any]  # what --json prints
    texts: list[Excerpt]
    worst: list[list[tuple[Worst, Excerpt]]]  # of each tokenizer
    sample: Sample


def compare(
    corpus: Path, tokenizers: Sequence[Path], *, sample_bytes: int = SAMPLE_BYTES, seed: int = 0, progress: Progress = no_progress
) -> Comparison:
    """Compare the tokenizers at these paths. InputError, before any work, for one that cannot be loaded, and for a corpus that cannot be
    used. `progress` is called with "sources" (of the corpus), "spans" and "encode"."""
    names = [printable(str(path)) for path in tokenizers]
    if not names:
        raise InputError("give at least one tokenizer")
    if len(set(names)) < len(names):
        raise InputError(f"{next(name for name in names if names.count(name) > 1)}: is given twice. Give each tokenizer once")
    vocabularies = [loaded(path) for path in tokenizers]
    readers = [reader(vocabulary) for vocabulary in vocabularies]
    source = open_corpus(corpus)
    sample = draw(source, sample_bytes, seed, progress)
    parsed, not_parsed = _parsed(sample)
    prepared: list[Spans] = []
    for begin, end in batches(sample.texts):
        rows = slice(begin, end)
        prepared.append(spans(sample.texts.slice(begin, end - begin), sample.kinds[rows], sample.languages[rows], parsed[rows]))
        progress("spans", end, len(sample.ids))
    held = np.concatenate([facts(batch) for batch in prepared])
    measured = []
    total = sum(len(batch.data) for batch in prepared)
    for number, (name, vocabulary) in enumerate(zip(names, vocabularies, strict=True)):

        def told(done: int, before: int = 2 * total * number, name: str = name) -> None:
            progress("encode", before + done, 2 * total * len(names), name)

        measured.append((name, vocabulary, measure(vocabulary, prepared, told)))
    found = figures(sample, held, measured)
    bad = worst(sample, np.stack([one.counts[:, COUNTS.index("tokens")] for _, _, one in measured]))
    for one_found, some in zip(found["tokenizers"], bad, strict=True):
        one_found["worst"] = [
            {"document": sample.ids[one.document], **_place(sample, one.document), "tokens": one.tokens, "ratio": one.ratio} for one in some
        ]
    sizes = np.diff(text_buffers(sample.texts)[1])
    drawn = {
        "seed": seed,
        "asked_bytes": sample_bytes,
        "bytes": int(sizes.sum()),
        "documents": len(sample.ids),
        "cut_documents": int((sizes < sample.bytes).sum()),  # of which the first document_bytes are in the sample
        "document_bytes": sample.document_bytes,
        "not_parsed": not_parsed,
    }
    return Comparison(
        figures={
            "format": FORMAT,
            "corpus": {
                "path": printable(str(corpus)),
                "manifest_hash": source.manifest_hash,
                "documents": source.rows,
                "bytes": source.text_bytes,
            },
            "sample": drawn,
            **found,
        },
        texts=samples(sample, readers),
        worst=[list(zip(some, texts, strict=True)) for some, texts in zip(bad, worst_excerpts(sample, bad, readers), strict=True)],
        sample=sample,
    )


def loaded(path: Path) -> Vocabulary:
    """The vocabulary at `path`. A comparison needs no token that ends a document."""
    return load_vocabulary(path, need_eos=False)


def _parsed(sample: Sample) -> tuple[list[bool], dict[str, str]]:
    """(whose lexemes are looked at; why not those of a programming language)."""
    code = [row for row, kind in enumerate(sample.kinds) if kind == "code"]
    reasons: dict[str, str] = {}
    for language in sorted({sample.languages[row] for row in code}):
        try:
            if lexemes.lexemes(b"", language) is None:
                reasons[language or "unknown"] = "no grammar"
        except InputError as error:
            reasons[language] = str(error)
    code = [row for row in code if (sample.languages[row] or "unknown") not in reasons]
    sizes = np.diff(text_buffers(sample.texts)[1])
    chosen = lexemes.choose([sample.languages[row] for row in code], sizes[code].tolist(), LANGUAGE_BYTES, PARSED_BYTES)
    wanted = {code[index] for index in chosen}
    return [row in wanted for row in range(len(sample.ids))], reasons


def _place(sample: Sample, row: int) -> dict[str, Any]:
    return {"source": sample.sources[row], "kind": sample.kinds[row], "language": sample.languages[row], "bytes": int(sample.bytes[row])}
