"""One tokenizer over the sample: for every document, how many of what its tokens are and what they tear.

The tokens of a document tile its text (vocabulary.py), so where they begin is known from the bytes they cover. A span is

    aligned   when its two ends are ends of tokens; the token at its beginning may begin with the blank before it
    whole     when it is aligned and one token

the definitions behind the project's reference figures (of Python's lexemes, and of LaTeX commands as "aligned" and "one").
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from codedev.tokenize.compare.bytes import Named, joined, named
from codedev.tokenize.compare.spans import Spans
from codedev.tokenize.vocabulary import Plain, Vocabulary, decode, encode_plain, token_bytes

# Of the documents, the same for every tokenizer
FACTS = ("documents", "bytes", "characters", "words", "words_bytes", "lettered", "single", "commands", "lexemes", "numbers")
# Of a tokenizer's tokens
COUNTS = (
    "tokens",
    "word_tokens",  # of documents of natural language
    "lettered_whole",  # words with a letter or a digit that are one token
    "single_tokens",  # that hold a byte of an ideograph or kana
    "one_byte",  # tokens of one byte
    "partial",  # tokens that are no UTF-8 alone: they begin or end inside a character
    "commands_aligned",
    "commands_whole",
    "lexemes_aligned",
    "lexeme_ends",  # of the 2 * lexemes ends, those that are ends of tokens
    "numbers_right",  # cut in threes from the right
    "numbers_left",  # in threes from the left; with 3n digits that is the same
    "numbers_single",  # into digits
    "numbers_whole",  # not at all
    "lossless",  # documents that decoding gives back
    "decoded",  # documents that were decoded
)
WARM_SECONDS = 5.0  # CPU time after which the second pass over the sample ends
PROBE_BYTES = 50_000
_BLANK = 32


class Speed(NamedTuple):
    first: float  # bytes a CPU second, every batch for the first time
    warm: float  # the same batches again
    warm_bytes: int


class Measured(NamedTuple):
    counts: np.ndarray  # int64[documents, len(COUNTS)]
    used: int  # distinct ids
    speed: Speed


def facts(spans: Spans) -> np.ndarray:
    """int64[texts, len(FACTS)]."""
    texts = len(spans.texts)

    def count(rows: np.ndarray) -> np.ndarray:
        return np.bincount(rows, minlength=texts)

    starts = (spans.data & 0xC0) != 0x80
    columns = (
        np.ones(texts, np.int64),
        spans.sizes,
        _sums(starts, spans.offsets),
        count(spans.word_rows),
        spans.sizes * spans.natural,
        count(spans.word_rows[spans.letters]),
        _sums((spans.single != 0) & starts, spans.offsets),
        count(spans.command_rows),
        count(spans.lexeme_rows),
        count(spans.number_rows),
    )
    return np.stack(columns, axis=1).astype(np.int64)


def measure(vocabulary: Vocabulary, batches: Sequence[Spans], progress: Callable[[int], None] = lambda done: None) -> Measured:
    """Encode every batch, then look at the tokens. CPU time is that of all threads of the process. `progress` is
    called with bytes done, of twice those of the batches."""
    total = sum(len(batch.data) for batch in batches)
    encode_plain(vocabulary, pa.array(["a"], pa.large_string()))  # what is compiled or loaded at the first call
    first, plains, done = 0.0, [], 0
    with _one_thread():
        for batch in batches:
            begun = time.process_time()
            plains.append(encode_plain(vocabulary, batch.texts))
            first += time.process_time() - begun
            done += len(batch.data)
            progress(done)
        warm, warm_bytes = 0.0, 0
        for batch in batches:
            begun = time.process_time()
            encode_plain(vocabulary, batch.texts)
            warm += time.process_time() - begun
            warm_bytes += len(batch.data)
            if warm > WARM_SECONDS:
                break
    used = np.zeros(vocabulary.size, np.bool_)
    by_name = named(vocabulary)
    table = vocabulary.byte_lengths is not None and _decodes_by_name(vocabulary, by_name, batches[0], plains[0])
    found = []
    for batch, plain in zip(batches, plains, strict=True):
        used[plain.ids] = True
        found.append(_counts(vocabulary, batch, plain, by_name, _lossless(vocabulary, batch, plain, by_name if table else None)))
        done += len(batch.data)
        progress(done)
    speed = Speed(total / max(first, 1e-9), warm_bytes / max(warm, 1e-9), warm_bytes)
    return Measured(np.concatenate(found), int(used.sum()), speed)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The library's own threads off: it reads TOKENIZERS_PARALLELISM at every call."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def token_begins(vocabulary: Vocabulary, plain: Plain, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int64 a token: where it begins in the texts' bytes; bytes it covers), each within its text."""
    widths = token_bytes(vocabulary, plain).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(widths)])
    counts = np.diff(plain.offsets)
    limit = np.repeat(offsets[1:], counts)
    begins = np.minimum(ends[:-1] - np.repeat(ends[plain.offsets[:-1]] - offsets[:-1], counts), limit)
    return begins, np.minimum(widths, limit - begins)


class _Edges(NamedTuple):
    """Where tokens begin and end, by byte of the batch."""

    data: np.ndarray
    starts: np.ndarray  # bool[bytes]: a text begins here
    edge: np.ndarray  # bool[bytes + 1]: a token begins here, or the text ends
    begun: np.ndarray  # int64[bytes + 1]: tokens that begin before it
    edges: np.ndarray  # int64[bytes + 1]: edges before it


def _edges(batch: Spans, begins: np.ndarray) -> _Edges:
    size = len(batch.data)
    at = np.bincount(begins, minlength=size + 1)[: size + 1]
    edge = at > 0
    edge[batch.offsets] = True
    starts = np.zeros(size + 1, np.bool_)
    starts[batch.offsets] = True
    return _Edges(batch.data, starts, edge, np.cumsum(at) - at, np.cumsum(edge) - edge)


def _fit(edges: _Edges, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(its beginning is an edge, its end is one, it is one token) of each span."""
    begin, end = spans[:, 0], spans[:, 1]
    before = np.maximum(begin - 1, 0)
    blank = ~edges.starts[begin] & (edges.data[before] == _BLANK) & edges.edge[before] if len(spans) else np.zeros(0, np.bool_)
    begins, ends = edges.edge[begin] | blank, edges.edge[end]
    tokens = edges.begun[end] - edges.begun[np.where(edges.edge[begin], begin, before)]
    return begins, ends, begins & ends & (tokens == 1)


def _counts(vocabulary: Vocabulary, batch: Spans, plain: Plain, by_name: Named, lossless: np.ndarray | None) -> np.ndarray:
    texts = len(batch.texts)
    begins, widths = token_begins(vocabulary, plain, batch.offsets)
    token_rows = np.repeat(np.arange(texts), np.diff(plain.offsets))
    edges = _edges(batch, begins)
    inside = np.append((batch.data & 0xC0) == 0x80, False)
    single = np.concatenate([[0], np.cumsum(batch.single, dtype=np.int64)])
    ends = begins + widths
    if vocabulary.byte_lengths is not None:
        one_byte, partial = widths == 1, inside[begins] | inside[ends]
    else:  # the library's offsets are those of characters: they tell nothing of parts
        one_byte, partial = np.where(by_name.told[plain.ids], by_name.one_byte[plain.ids], widths == 1), by_name.partial[plain.ids]
    of_single = (single[ends] > single[begins]) | ((widths == 0) & (np.append(batch.single, 0)[begins] != 0))
    _, _, word_whole = _fit(edges, batch.words[batch.letters])
    command_begins, command_ends, command_whole = _fit(edges, batch.commands)
    lexeme_begins, lexeme_ends, _ = _fit(edges, batch.lexemes)
    tokens = np.diff(plain.offsets)

    def count(rows: np.ndarray, where: np.ndarray) -> np.ndarray:
        return np.bincount(rows[where], minlength=texts)

    columns = (
        tokens,
        tokens * batch.natural,
        count(batch.word_rows[batch.letters], word_whole),
        count(token_rows, of_single),
        count(token_rows, one_byte),
        count(token_rows, partial),
        count(batch.command_rows, command_begins & command_ends),
        count(batch.command_rows, command_whole),
        count(batch.lexeme_rows, lexeme_begins & lexeme_ends),
        count(batch.lexeme_rows, lexeme_begins) + count(batch.lexeme_rows, lexeme_ends),
        *(count(batch.number_rows, cut) for cut in _numbers(edges, batch.numbers)),
        np.zeros(texts, np.int64) if lossless is None else lossless,
        np.full(texts, lossless is not None),
    )
    return np.stack(columns, axis=1).astype(np.int64)


def _numbers(edges: _Edges, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Whether each number is cut: in threes from the right, in threes from the left, into digits, not at all. What stands around it in its
    first and last token does not matter."""
    begin, end = spans[:, 0], spans[:, 1]
    cuts = edges.edges[end] - edges.edges[np.minimum(begin + 1, end)]
    threes = (end - begin - 1) // 3
    which = np.repeat(np.arange(len(spans)), threes)
    step = 3 * (np.arange(len(which)) - np.repeat(np.cumsum(threes) - threes, threes) + 1)
    found = [np.bincount(which[edges.edge[place]], minlength=len(spans)) for place in (end[which] - step, begin[which] + step)]
    in_threes = [(cuts == threes) & (hits == threes) for hits in found]
    return in_threes[0], in_threes[1], cuts == end - begin - 1, cuts == 0


def _lossless(vocabulary: Vocabulary, batch: Spans, plain: Plain, by_name: Named | None) -> np.ndarray | None:
    """bool[texts]: decoding gives the text back, by the tokens' names where those are given, else by the library; None where there is no
    library to decode."""
    if by_name is not None:
        data, places = joined(by_name, plain.ids)
        found, ends, raw = data.tobytes(), places[plain.offsets].tolist(), batch.data.tobytes()
        rows = zip(itertools.pairwise(ends), itertools.pairwise(batch.offsets.tolist()), strict=True)
        return np.array([found[begin:end] == raw[first:last] for (begin, end), (first, last) in rows], np.bool_)
    if vocabulary.tokenizer is None and vocabulary.model is None:
        return None
    decoded = _decoded(vocabulary, plain, len(batch.texts))
    return np.array([text == given for text, given in zip(decoded, batch.texts.to_pylist(), strict=True)], np.bool_)


def _decodes_by_name(vocabulary: Vocabulary, by_name: Named, batch: Spans, plain: Plain) -> bool:
    """Whether the library decodes as the tokens' names say, told by the first texts. Some decoders of its take 10 µs a token."""
    if vocabulary.tokenizer is None:
        return False
    rows = max(1, int(np.searchsorted(batch.offsets, PROBE_BYTES, side="right")) - 1)
    data, places = joined(by_name, plain.ids[: plain.offsets[rows]])
    ends = places[plain.offsets[: rows + 1]].tolist()
    by_names = [data[begin:end].tobytes().decode("utf-8", "replace") for begin, end in itertools.pairwise(ends)]
    return _decoded(vocabulary, plain, rows) == by_names


def _decoded(vocabulary: Vocabulary, plain: Plain, rows: int) -> list[str]:
    ids = plain.ids.tolist()  # 20 ns a token
    pieces = [ids[begin:end] for begin, end in itertools.pairwise(plain.offsets[: rows + 1].tolist())]
    if vocabulary.tokenizer is None:
        return [decode(vocabulary, some) for some in pieces]
    decoded: list[str] = vocabulary.tokenizer.decode_batch(pieces, skip_special_tokens=False)
    return decoded


def _sums(marked: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    before = np.concatenate([[0], np.cumsum(marked, dtype=np.int64)])
    sums: np.ndarray = before[offsets[1:]] - before[offsets[:-1]]
    return sums
