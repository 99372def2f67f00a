"""Personal data and secrets in text: found, then masked, tagged or a reason to drop, type by type as the recipe says.

What was found is recorded by type and place, never by value: `q.pii.spans` holds (type, offset, length) in UTF-8 bytes of the text as the
corpus has it, and `q.pii.<type>` how many there are. Masking comes before every score, so that scores are of the text that is kept, and
before deduplication: documents that differ in an address alone are duplicates. A masked text masked again stays as it is.
Finders: kernels/personal/. Names of persons and street addresses are not looked for.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.buffers import text_buffers
from codedev.corpus.recipe import Personal
from codedev.corpus.stage import Filter, Rule, Stage, rule_filter
from codedev.kernels.personal.find import TYPES, find
from codedev.kernels.spans import replace

VERSION = 1

SPAN = pa.struct([pa.field("type", pa.string()), pa.field("offset", pa.int64()), pa.field("length", pa.int64())])
# What sources of conversations call people in `meta`: authors of books and papers are no secret.
_AUTHORS = r'"(author|authors|author_id|author_url)":("[^"\\]*(?:\\.[^"\\]*)*"|\[[^\]]*\]|\d+)'
_TALK = pa.array(["conversation", "qa"])


def columns(config: Personal) -> pa.Schema:
    """The columns that `personal_stage` appends."""
    return pa.schema([pa.field("q.pii.spans", pa.list_(SPAN)), *(pa.field(f"q.pii.{name}", pa.int32()) for name in _sought(config))])


def personal_stage(config: Personal) -> Stage:
    """A Stage: text and meta masked, the columns appended. Counters: documents masked, and finds of each type."""
    sought = _sought(config)
    masks = [config.masks.get(name, f"<{name.upper()}>").encode() if _action(config, name) == "mask" else None for name in TYPES]
    texts = np.frombuffer(b"".join(mask or b"" for mask in masks) or b"\0", np.uint8).copy()
    sizes = np.array([0, *np.cumsum([len(mask or b"") for mask in masks])], np.int64)
    bounds = np.array([(sizes[i], sizes[i + 1]) if mask is not None else (-1, -1) for i, mask in enumerate(masks)], np.int64)

    def stage(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
        counts = Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)
        text = batch.column("text")
        data, offsets = text_buffers(text)
        spans = find(data, offsets, sought)
        masked = bounds[spans[:, 3], 0] >= 0
        if len(spans):
            new, new_offsets, places = replace(data, offsets, spans, texts, bounds)
            if masked.any():
                buffers = [None, pa.py_buffer(new_offsets), pa.py_buffer(new)]
                whole = pa.Array.from_buffers(pa.large_string(), batch.num_rows, buffers)
                text = pc.if_else(pc.is_valid(text), whole, text) if text.null_count else whole
                batch = batch.set_column(batch.schema.get_field_index("text"), "text", text)
                counts["note.masked"] += len(np.unique(spans[masked, 0]))
        else:
            places = np.empty((0, 2), np.int64)
        for name, number in zip(TYPES, np.bincount(spans[:, 3], minlength=len(TYPES)).tolist(), strict=True):
            if number:
                counts[f"note.{name}"] += number
        if _action(config, "username") == "mask":
            batch = _without_authors(batch)
        added = [_span_lists(spans, places, batch.num_rows)]
        for name in sought:
            rows = spans[spans[:, 3] == TYPES.index(name), 0]
            added.append(pa.array(np.bincount(rows, minlength=batch.num_rows).astype(np.int32)))
        schema = pa.schema([*batch.schema, *columns(config)], metadata=batch.schema.metadata)
        return pa.RecordBatch.from_arrays([*batch.columns, *added], schema=schema), counts

    return stage


def personal_filter(config: Personal) -> Filter:
    """Reasons `pii_<type>`: a document that holds any of a type whose action is `drop`."""
    return rule_filter([Rule(f"q.pii.{name}", None, 0, too_high=f"pii_{name}") for name in TYPES if _action(config, name) == "drop"])


def _action(config: Personal, name: str) -> str:
    return str(getattr(config, name))


def _sought(config: Personal) -> list[str]:
    return [name for name in TYPES if _action(config, name) != "keep"]


def _span_lists(spans: np.ndarray, places: np.ndarray, rows: int) -> pa.Array:
    offsets = np.zeros(rows + 1, np.int32)
    np.cumsum(np.bincount(spans[:, 0], minlength=rows), out=offsets[1:])
    types = pa.DictionaryArray.from_arrays(spans[:, 3].astype(np.int8), list(TYPES)).cast(pa.string())
    values = pa.StructArray.from_arrays([types, pa.array(places[:, 0]), pa.array(places[:, 1])], fields=list(SPAN))
    return pa.ListArray.from_arrays(offsets, values)


def _without_authors(batch: pa.RecordBatch) -> pa.RecordBatch:
    meta = batch.column("meta")
    told = pc.and_(pc.is_in(batch.column("kind").cast(pa.string()), _TALK), pc.match_substring_regex(meta, _AUTHORS))
    if not pc.any(told).as_py():
        return batch
    at = batch.schema.get_field_index("meta")
    masked = pc.replace_substring_regex(meta, _AUTHORS, r'"\1":"<USERNAME>"')
    return batch.set_column(at, batch.schema.field(at), pc.if_else(pc.fill_null(told, False), masked, meta))
