"""Texts to look at: some of the sample's, and of each tokenizer those where it needs most tokens beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from codedev.corpus.buffers import text_buffers
from codedev.tokenize.compare.bytes import Reader, token_data
from codedev.tokenize.compare.measure import token_begins
from codedev.tokenize.compare.sample import Sample
from codedev.tokenize.vocabulary import encode_plain, token_name

TEXTS = 9  # of kinds and languages that have most bytes
OF_KIND = 3  # of them of one kind
WORST = 3  # documents of a tokenizer, each of another kind or language
LENGTH = 600  # bytes of an excerpt, about
LEAST = 400  # bytes of a document that can be the worst: in shorter ones chance decides


class Token(NamedTuple):
    id: int
    name: str  # as the tokenizer's file writes it
    data: bytes  # what it stands for: by its name where that tells, else the bytes of the text that it covers
    text: str  # the characters that it is of, or a part of


class Excerpt(NamedTuple):
    document: int  # its row in the sample
    text: str
    tokens: list[list[Token]]  # of each tokenizer, of this text alone


class Worst(NamedTuple):
    document: int
    tokens: int
    ratio: float  # to the mean of the others' tokens; of one tokenizer alone, to its own mean per byte


def samples(sample: Sample, readers: Sequence[Reader]) -> list[Excerpt]:
    """One text of each of the largest pairs of kind and language: a piece from its middle."""
    sizes = _sizes(sample)
    strata: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(zip(sample.kinds, sample.languages, strict=True)):
        strata.setdefault(pair, []).append(row)
    ranked = sorted(strata.items(), key=lambda entry: (-int(sizes[entry[1]].sum()), entry[0]))
    chosen: list[int] = []
    seen: dict[str, int] = {}
    for (kind, _), rows in ranked:
        if len(chosen) < TEXTS and seen.get(kind, 0) < OF_KIND:
            seen[kind] = seen.get(kind, 0) + 1
            chosen.append(next((row for row in rows if sizes[row] >= LEAST), rows[0]))
    chosen.sort(key=lambda row: (sample.kinds[row], -int(sizes[strata[sample.kinds[row], sample.languages[row]]].sum())))
    return _excerpts([(row, _piece(sample, row, int(sizes[row]) // 3)) for row in chosen], readers)


def worst(sample: Sample, tokens: np.ndarray) -> list[list[Worst]]:
    """For each tokenizer, the documents where its tokens are most beside those of the others. `tokens` int64[tokenizers, documents]."""
    sizes = _sizes(sample)
    long = np.flatnonzero(sizes >= LEAST)
    found: list[list[Worst]] = []
    for own in range(len(tokens)):
        others = [row for row in range(len(tokens)) if row != own]
        mean = tokens[others].mean(axis=0) if others else sizes * (tokens[own].sum() / max(1, sizes.sum()))
        ratio = tokens[own] / np.maximum(mean, 1e-9)
        seen: set[tuple[str, str]] = set()
        some: list[Worst] = []
        for row in long[np.argsort(-ratio[long], kind="stable")].tolist():
            pair = (sample.kinds[row], sample.languages[row])
            if pair not in seen and len(some) < WORST:
                seen.add(pair)
                some.append(Worst(row, int(tokens[own, row]), float(f"{ratio[row]:.4g}")))
        found.append(some)
    return found


def worst_excerpts(sample: Sample, found: Sequence[Sequence[Worst]], readers: Sequence[Reader]) -> list[list[Excerpt]]:
    """Of each tokenizer's worst documents the piece where it has most tokens beside the others."""
    documents = sorted({one.document for some in found for one in some})
    texts = pa.concat_arrays([sample.texts.slice(row, 1) for row in documents]) if documents else sample.texts.slice(0, 0)
    offsets = text_buffers(texts)[1]
    first = np.concatenate([[0], np.cumsum(-(-np.diff(offsets) // LENGTH))])  # of the pieces of each document
    begun = np.stack([_begun(reader, texts, offsets, first) for reader in readers])
    pieces = []
    for own, some in enumerate(found):
        for one in some:
            at = documents.index(one.document)
            count = int(first[at + 1] - first[at])
            here = begun[:, first[at] : first[at] + max(1, count - 1)]  # but the last, which may be a few bytes
            others = np.delete(here, own, axis=0)
            mean = others.mean(axis=0) if len(others) else np.zeros(here.shape[1])
            pieces.append((one.document, _piece(sample, one.document, int(np.argmax((here[own] + 1) / (mean + 1))) * LENGTH, lines=False)))
    made = iter(_excerpts(pieces, readers))
    return [[next(made) for _ in some] for some in found]


def _begun(reader: Reader, texts: pa.LargeStringArray, offsets: np.ndarray, first: np.ndarray) -> np.ndarray:
    """int64[pieces]: tokens that begin in each piece of LENGTH bytes of each text."""
    plain = encode_plain(reader.vocabulary, texts)
    begins, _ = token_begins(reader.vocabulary, plain, offsets)
    rows = np.repeat(np.arange(len(texts)), np.diff(plain.offsets))
    inside = np.minimum((begins - offsets[rows]) // LENGTH, first[rows + 1] - first[rows] - 1)
    return np.bincount(first[rows] + inside, minlength=int(first[-1]))


def _piece(sample: Sample, document: int, begin: int, *, lines: bool = True) -> str:
    """About LENGTH bytes of the document from `begin` on; with `lines`, from the beginning of a line where one is near."""
    text = sample.texts[document].as_py().encode()
    if len(text) <= LENGTH:
        begin = 0
    elif lines:
        begin = min(begin, len(text) - LENGTH)
        found = text.find(b"\n", begin - 1, begin + LENGTH) if begin else -1
        begin = found + 1 if found >= 0 else begin
    return _whole_characters(text[begin : begin + LENGTH])


def _excerpts(pieces: Sequence[tuple[int, str]], readers: Sequence[Reader]) -> list[Excerpt]:
    tokens = [[tokens_of(reader, text) for _, text in pieces] for reader in readers]  # a tokenizer at a time: making one ready takes 0.2 s
    return [Excerpt(row, text, [some[number] for some in tokens]) for number, (row, text) in enumerate(pieces)]


def tokens_of(reader: Reader, text: str) -> list[Token]:
    texts = pa.array([text], pa.large_string())
    plain = encode_plain(reader.vocabulary, texts)
    begins, widths = token_begins(reader.vocabulary, plain, text_buffers(texts)[1])
    raw, found = text.encode(), []
    for number, begin, width in zip(plain.ids.tolist(), begins.tolist(), widths.tolist(), strict=True):
        name = token_name(reader.vocabulary, number)
        data = None if reader.byte_level is None else token_data(name, reader.byte_level)
        found.append(Token(number, name, raw[begin : begin + width] if data is None else data, _around(raw, begin, begin + width)))
    return found


def _around(raw: bytes, begin: int, end: int) -> str:
    """The characters whose bytes are from `begin` to `end`; the one at `begin` where that is nothing."""
    end = min(max(end, begin + 1), len(raw))
    while begin > 0 and begin < len(raw) and raw[begin] & 0xC0 == 0x80:
        begin -= 1
    while end < len(raw) and raw[end] & 0xC0 == 0x80:
        end += 1
    return raw[begin:end].decode("utf-8", "replace")


def _whole_characters(piece: bytes) -> str:
    """Without the parts of characters at its ends."""
    first = next((at for at, byte in enumerate(piece) if byte & 0xC0 != 0x80), 0)
    return piece[first:].decode("utf-8", "ignore")


def _sizes(sample: Sample) -> np.ndarray:
    return np.diff(text_buffers(sample.texts)[1])
