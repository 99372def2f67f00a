"""Conversations -> units: what mode `sft` makes of a batch of documents, each told by the chat template (chat/)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from codedev.tokenize.chat.render import Template
from codedev.tokenize.chat.rows import SftOptions, sft_tokens
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.units import Loss, Parts, Units, before
from codedev.tokenize.vocabulary import Vocabulary


def told_units(batch: pa.RecordBatch, vocabulary: Vocabulary, template: Template, recipe: TokenizeRecipe) -> Units:
    """A unit for every row of tokens, and one without tokens for every document that has none, with the reason.

    Bytes are those of the text that the template makes, not of the document's own text.
    """
    chat = recipe.chat
    options = SftOptions(recipe.seq_len, recipe.too_long, chat.train_on, chat.system, chat.plain)
    made = sft_tokens(vocabulary, template, batch, options)
    missing = np.setdiff1d(np.arange(batch.num_rows), made.documents)
    rows = np.concatenate([made.documents, missing])
    order = np.argsort(rows, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))

    lengths = made.byte_lengths if made.byte_lengths is not None else vocabulary.byte_lengths
    assert lengths is not None
    covered = np.concatenate([[0], np.cumsum(lengths[made.ids] if made.byte_lengths is None else lengths, dtype=np.int64)])
    nothing = np.zeros(len(missing), np.int64)
    counts = np.concatenate([np.diff(made.offsets), nothing])[order]
    sizes = np.concatenate([np.diff(covered[made.offsets]), nothing])[order]
    rows = rows[order]
    none = np.empty(0, np.int64)
    return Units(
        ids=made.ids,
        counts=counts,
        rows=rows,
        bytes=sizes,
        told=sizes,
        offsets=before(counts, rows),
        byte_offsets=before(sizes, rows),
        byte_lengths=made.byte_lengths,
        parts=Parts(none, none, none),
        loss=Loss(place[made.loss.rows], made.loss.starts, made.loss.ends),
        dropped=[made.status[row] if count == 0 else "" for row, count in zip(rows.tolist(), counts.tolist(), strict=True)],
        counters=made.counters,
        said=made.said,
    )
