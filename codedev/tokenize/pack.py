"""The plan of the rows: which piece of which document goes where. Sees lengths and hashes, no text.

Documents are put in the order of a hash of seed and id, so that the order on disk leaves no trace; overlong ones are cut; pools of
POOL segments are packed best-fit decreasing; the segments of a row stand in the shuffled order (longest first would tie a document's
length to its place in the row); the rows are shuffled by seed. A document is cut only when it is longer than a row.
Memory: about 60 bytes a segment at the peak, 36 of them in the plan. 0.3 µs a segment, and 20 µs for each overlong document.
"""

from __future__ import annotations

from typing import NamedTuple, get_args

import numpy as np

from codedev._errors import InputError
from codedev.kernels.packing import best_fit
from codedev.tokenize.recipe import Overlong

POOL = 1 << 20  # segments packed together

_ORDER, _ROWS, _HOLDOUT = 0x6F72646572, 0x726F7773, 0x686F6C646F7574  # keep the uses of one hash apart


class Documents(NamedTuple):
    """The columns of the store that packing reads, of all documents."""

    begins: np.ndarray  # int64: the document's first token in the store
    counts: np.ndarray  # int64: its tokens
    bytes: np.ndarray  # int64: bytes of its text
    hashes: np.ndarray  # uint64
    tokens: np.ndarray  # of the store
    token_bytes: np.ndarray  # bytes by id where `by_id`, else by position in the store
    by_id: bool


class Plan(NamedTuple):
    """Segments in the order of the rows, and of their places within them."""

    documents: np.ndarray  # int64[segments]: index in the store
    offsets: np.ndarray  # int64: first token within the document's token sequence
    lengths: np.ndarray  # int64: tokens
    byte_offsets: np.ndarray  # int64: first byte within the document's text
    byte_lengths: np.ndarray  # int64: bytes of text the segment covers
    rows: np.ndarray  # int64[rows + 1]: first segment of each row
    overlong: int  # documents longer than a row
    tokens_truncated: int


def held_out(hashes: np.ndarray, share: float) -> np.ndarray:
    """bool a document: whether it is held out. A function of its id alone, so the same document is held out of every corpus and run,
    and those of a smaller share are among those of a larger one."""
    return mix(hashes, _HOLDOUT) < np.uint64(min(int(share * 2.0**64), 2**64 - 1))


def mix(values: np.ndarray, seed: int) -> np.ndarray:
    """uint64: the finalizer of splitmix64 over values and seed; a bijection of the values for each seed."""
    with np.errstate(over="ignore"):
        state = values ^ np.uint64((seed * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) % 2**64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def plan_rows(documents: Documents, chosen: np.ndarray, seq_len: int, *, seed: int, overlong: Overlong = "split", pool: int = POOL) -> Plan:
    """The rows of the `chosen` documents (indices; those without tokens are passed over)."""
    if overlong not in get_args(Overlong):
        raise InputError(f"overlong is '{overlong}': choose one of {', '.join(get_args(Overlong))}")
    chosen = chosen[documents.counts[chosen] > 0]
    order = chosen[np.argsort(mix(documents.hashes[chosen], seed ^ _ORDER), kind="stable")]
    counts = documents.counts[order]
    long = counts > seq_len
    n_long, total = int(long.sum()), int(counts.sum())
    if overlong == "drop":
        order, counts, long = order[~long], counts[~long], np.zeros(len(order) - n_long, np.bool_)
    pieces = -(-counts // seq_len) if overlong == "split" else np.ones(len(order), np.int64)
    first = np.cumsum(pieces) - pieces
    document = np.repeat(order, pieces)
    offset = (np.arange(len(document)) - np.repeat(first, pieces)) * seq_len
    length = np.minimum(np.repeat(counts, pieces) - offset, seq_len)
    byte_offset, byte_length = np.zeros(len(document), np.int64), documents.bytes[document]
    for i in np.flatnonzero(long):  # about 20 µs each
        at = slice(first[i], first[i] + pieces[i])
        covered = _piece_bytes(documents, int(order[i]), offset[at], length[at])
        byte_length[at] = covered
        byte_offset[at] = np.cumsum(covered) - covered

    row = np.empty(len(document), np.int64)
    n_rows = 0
    for begin in range(0, len(document), pool):
        local, opened = best_fit(length[begin : begin + pool], seq_len)
        row[begin : begin + pool] = local + n_rows
        n_rows += opened
    place = np.empty(n_rows, np.int64)
    place[np.argsort(mix(np.arange(n_rows, dtype=np.uint64), seed ^ _ROWS))] = np.arange(n_rows)
    row = place[row]
    by_row = np.argsort(row, kind="stable")
    return Plan(
        documents=document[by_row],
        offsets=offset[by_row],
        lengths=length[by_row],
        byte_offsets=byte_offset[by_row],
        byte_lengths=byte_length[by_row],
        rows=np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_rows))]).astype(np.int64),
        overlong=n_long,
        tokens_truncated=total - int(length.sum()),
    )


def _piece_bytes(documents: Documents, document: int, offsets: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64: bytes of text that each of a document's pieces covers."""
    begin = int(documents.begins[document])
    span = slice(begin, begin + int(offsets[-1] + lengths[-1]))
    covered = documents.token_bytes[documents.tokens[span]] if documents.by_id else documents.token_bytes[span]
    return np.add.reduceat(covered, offsets, dtype=np.int64)
