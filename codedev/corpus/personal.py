"""Personal data and secrets in text: found, then masked, tagged or a reason to drop, type by type as the recipe says.

What was found is recorded by type and place, never by value: `q.pii.spans` holds (type, offset, length) in UTF-8 bytes of the text as the
corpus has it, and `q.pii.<type>` how many there are. Masking comes before every score, so that scores are of the text that is kept, and
before deduplication: documents that differ in an address alone are duplicates. A mask that stands in the text already is no find, so that
a masked text masked again stays as it is. Instructions and preferences hold their conversation in `meta` too, and what their text does not
tell, such as the answer that was rejected: its strings are masked like the text, and what they hold is counted where the text holds none.
Finders: kernels/personal/. Names of persons and street addresses are not looked for.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.buffers import text_buffers
from codedev.corpus.recipe import Personal
from codedev.corpus.stage import Filter, Rule, Stage, rule_filter
from codedev.kernels.personal.find import TYPES, find
from codedev.kernels.spans import replace

VERSION = 2

SPAN = pa.struct([pa.field("type", pa.string()), pa.field("offset", pa.int64()), pa.field("length", pa.int64())])
# What sources of conversations call people in `meta`: authors of books and papers are no secret.
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_AUTHORS = rf'"(author|authors|author_id|author_url)":({_STRING}|\[(?:[^\]"]|{_STRING})*\]|-?\d+)'
_TALK = pa.array(["conversation", "qa"])
_SET = pa.array(["instruction", "preference"])  # their `meta` is what is trained on


def columns(config: Personal) -> pa.Schema:
    """The columns that `personal_stage` appends."""
    return pa.schema([pa.field("q.pii.spans", pa.list_(SPAN)), *(pa.field(f"q.pii.{name}", pa.int32()) for name in _sought(config))])


def personal_stage(config: Personal) -> Stage:
    """A Stage: text and meta masked, the columns appended. Counters: documents masked, and finds of each type."""
    sought = _sought(config)
    masks = [mask_of(config, name).encode() if _action(config, name) == "mask" else None for name in TYPES]
    texts = np.frombuffer(b"".join(mask or b"" for mask in masks) or b"\0", np.uint8).copy()
    sizes = np.array([0, *np.cumsum([len(mask or b"") for mask in masks])], np.int64)
    bounds = np.array([(sizes[i], sizes[i + 1]) if mask is not None else (-1, -1) for i, mask in enumerate(masks)], np.int64)

    def stage(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
        counts = Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)
        text = batch.column("text")
        data, offsets = text_buffers(text)
        spans = _without_masks(find(data, offsets, sought), data, offsets, masks)
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
        if _action(config, "username") == "mask":
            batch = _without_authors(batch, mask_of(config, "username"))
        batch, elsewhere = _masked_sets(batch, sought, masks)
        added = [_span_lists(spans, places, batch.num_rows)]
        for name in sought:
            rows = spans[spans[:, 3] == TYPES.index(name), 0]
            counted = np.bincount(rows, minlength=batch.num_rows)
            if name in elsewhere:
                counted = np.where(counted, counted, elsewhere[name])
            if number := int(counted.sum()):
                counts[f"note.{name}"] += number
            added.append(pa.array(counted.astype(np.int32)))
        schema = pa.schema([*batch.schema, *columns(config)], metadata=batch.schema.metadata)
        return pa.RecordBatch.from_arrays([*batch.columns, *added], schema=schema), counts

    return stage


def personal_filter(config: Personal) -> Filter:
    """Reasons `pii_<type>`: a document that holds any of a type whose action is `drop`."""
    return rule_filter([Rule(f"q.pii.{name}", None, 0, too_high=f"pii_{name}") for name in TYPES if _action(config, name) == "drop"])


def mask_of(config: Personal, name: str) -> str:
    """What stands in the place of a type that is masked."""
    return config.masks.get(name, f"<{name.upper()}>")


def masked(text: str, types: Sequence[str] = TYPES) -> str:
    """The text with the usual masks in place of everything of `types` that it holds, to be quoted elsewhere."""
    return _masked_strings([text], list(types), [f"<{name.upper()}>".encode() for name in TYPES])[0][0]


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


def _without_masks(spans: np.ndarray, data: np.ndarray, offsets: np.ndarray, masks: Sequence[bytes | None]) -> np.ndarray:
    """The spans that are not their type's mask already, as `password = "<SECRET>"` in a text that was masked before."""
    stay = np.ones(len(spans), bool)
    for kind, mask in enumerate(masks):
        like = np.flatnonzero((spans[:, 3] == kind) & (spans[:, 2] - spans[:, 1] == len(mask))) if mask else ()
        if len(like):
            starts = offsets[spans[like, 0]] + spans[like, 1]
            stay[like] = (data[starts[:, None] + np.arange(len(mask or b""))] != np.frombuffer(mask or b"", np.uint8)).any(axis=1)
    return spans if stay.all() else spans[stay]


def _masked_strings(strings: list[str], sought: Sequence[str], masks: Sequence[bytes | None]) -> tuple[list[str], np.ndarray]:
    """(the strings, masked; the spans found in them)."""
    data, offsets = text_buffers(pa.array(strings, pa.large_string()))
    spans = _without_masks(find(data, offsets, sought), data, offsets, masks)
    if not len(spans):
        return strings, spans
    sizes = np.array([0, *np.cumsum([len(mask or b"") for mask in masks])], np.int64)
    bounds = np.array([(sizes[i], sizes[i + 1]) if mask is not None else (-1, -1) for i, mask in enumerate(masks)], np.int64)
    texts = np.frombuffer(b"".join(mask or b"" for mask in masks) or b"\0", np.uint8).copy()
    new, new_offsets, _ = replace(data, offsets, spans, texts, bounds)
    raw = new.tobytes()
    return [raw[low:high].decode() for low, high in itertools.pairwise(new_offsets.tolist())], spans


def _masked_sets(
    batch: pa.RecordBatch, sought: Sequence[str], masks: Sequence[bytes | None]
) -> tuple[pa.RecordBatch, dict[str, np.ndarray]]:
    """(the batch, the strings in `meta` of instructions and preferences masked; type: int[rows] that they hold of it). A Python loop over
    those documents, 10 to 30 µs each beside the search itself."""
    rows = pc.indices_nonzero(pc.fill_null(pc.is_in(batch.column("kind").cast(pa.string()), _SET), False)).to_pylist()
    if not rows:
        return batch, {}
    meta = batch.column("meta").to_pylist()
    told = [orjson.loads(meta[row]) if meta[row] else {} for row in rows]
    strings: list[str] = []
    of_row = []  # strings up to each row's end
    for value in told:
        _walk(value, lambda string: strings.append(string) or string)  # type: ignore[func-returns-value]
        of_row.append(len(strings))
    new, spans = _masked_strings(strings, sought, masks)
    owners = np.array(rows, np.int64)[np.searchsorted(of_row, spans[:, 0], side="right")]
    found = {name: np.bincount(owners[spans[:, 3] == kind], minlength=batch.num_rows) for kind, name in enumerate(TYPES) if name in sought}
    changed = {*owners[np.array([masks[kind] is not None for kind in spans[:, 3]], bool)].tolist()}
    if not changed:
        return batch, found
    each = iter(new)
    for row, value in zip(rows, told, strict=True):
        value = _walk(value, lambda _: next(each))
        if row in changed:
            meta[row] = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    at = batch.schema.get_field_index("meta")
    return batch.set_column(at, batch.schema.field(at), pa.array(meta, batch.schema.field(at).type)), found


def _walk(value: Any, change: Callable[[str], str]) -> Any:
    """The JSON value with every string in it, keys apart, changed, in one order."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _walk(under, change) for key, under in value.items()}
    return [_walk(under, change) for under in value] if isinstance(value, list) else value


def _without_authors(batch: pa.RecordBatch, mask: str) -> pa.RecordBatch:
    meta = batch.column("meta")
    told = pc.and_(pc.is_in(batch.column("kind").cast(pa.string()), _TALK), pc.match_substring_regex(meta, _AUTHORS))
    if not pc.any(told).as_py():
        return batch
    at = batch.schema.get_field_index("meta")
    quoted = orjson.dumps(mask).decode().replace("\\", "\\\\")  # RE2 reads \1 and \\
    masked = pc.replace_substring_regex(meta, _AUTHORS, rf'"\1":{quoted}')
    return batch.set_column(at, batch.schema.field(at), pc.if_else(pc.fill_null(told, False), masked, meta))
