"""Hugging Face datasets: a DatasetDict of `save_to_disk` that `load_dataset` reads as well.

    OUT/dataset_dict.json  README.md        the splits; the card tells `load_dataset` which files belong to which
    OUT/train/data-00000.arrow …            Arrow streams, uncompressed: `load_from_disk` maps them into memory
    OUT/train/state.json  dataset_info.json
    OUT/validation/…                        the held-out documents

Columns: input_ids as in the shards; position_ids, which start at 0 in every segment; seq_lengths, the lengths of the segments and of the
padding, under the name and in the sense in which TRL reads them; segment_documents and segment_offsets; labels where asked for, else
loss_starts and loss_ends where rows have loss spans (null: the whole row). There is no attention_mask: with one, or with use_cache,
transformers 5 no longer separates the documents of a row by their position_ids.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from codedev._run import content_key
from codedev.tokenize.export.rows import Rows, Source, loss_mask, pieces, position_ids, read_rows

PLACES = {"train": "train", "heldout": "validation"}
FILE_BYTES = 256 << 20  # a file is closed before it would grow beyond this
IGNORE = -100  # the label that torch's cross-entropy leaves out


def write(source: Source, folder: Path, labels: bool) -> None:
    layout = _schema(source, labels)
    names: list[str] = []
    with contextlib.ExitStack() as stack:
        sink: Any = None
        for rows in read_rows(source):
            batch = _batch(rows, layout)
            if sink is None or sink.tell() + batch.nbytes > FILE_BYTES:
                stack.close()
                names.append(f"data-{len(names):05d}.arrow")
                sink = stack.enter_context(pa.OSFile(str(folder / names[-1]), "wb"))
                writer = stack.enter_context(pa.ipc.new_stream(sink, layout))
            writer.write_batch(batch)
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": content_key(source.manifest["files"], layout.names)[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": PLACES[source.split],
    }
    _write_json(folder / "state.json", state)
    _write_json(folder / "dataset_info.json", {"features": _features(layout)})


def finish(out: Path, sources: dict[str, Source]) -> None:
    _write_json(out / "dataset_dict.json", {"splits": [PLACES[split] for split in sources]})
    splits = "".join(f"  - split: {PLACES[split]}\n    path: {PLACES[split]}/data-*.arrow\n" for split in sources)
    manifests = [source.manifest for source in sources.values()]
    counts = ", ".join(f"{PLACES[split]}: {source.manifest['rows']:,} rows" for split, source in sources.items())
    (out / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{splits}---\n\n"
        f"Packed training rows of {manifests[0]['seq_len']:,} tokens, made by codedev ({counts}). A row holds several documents,\n"
        "one after another, then padding: `position_ids` start at 0 in each of them, `seq_lengths` are their lengths, the padding's\n"
        "last.\n\n"
        "    datasets.load_from_disk(folder)      # mapped into memory\n"
        "    datasets.load_dataset(folder)        # copied into the cache\n"
    )


def _schema(source: Source, labels: bool) -> pa.Schema:
    S = source.seq_len
    fields = [
        pa.field("input_ids", pa.list_(pa.from_numpy_dtype(source.dtype), S)),
        pa.field("position_ids", pa.list_(pa.int32(), S)),
        pa.field("seq_lengths", pa.list_(pa.int32())),
        pa.field("segment_documents", pa.list_(pa.string())),
        pa.field("segment_offsets", pa.list_(pa.int64())),
    ]
    if labels:
        fields.append(pa.field("labels", pa.list_(pa.int32(), S)))
    elif source.spans:
        fields += [pa.field(name, pa.list_(pa.int32())) for name in ("loss_starts", "loss_ends")]
    layout = pa.schema(fields)
    return layout.with_metadata({"huggingface": json.dumps({"info": {"features": _features(layout)}})})


def _features(layout: pa.Schema) -> dict[str, Any]:
    """`Sequence` is what every version of datasets reads; those from 4 on say `List`."""
    features = {}
    for field in layout:
        kind = field.type
        length = {"length": kind.list_size} if pa.types.is_fixed_size_list(kind) else {}
        features[field.name] = {"feature": {"dtype": str(kind.value_type), "_type": "Value"}, **length, "_type": "Sequence"}
    return features


def _batch(rows: Rows, layout: pa.Schema) -> pa.RecordBatch:
    lengths, edges = pieces(rows)
    positions = position_ids(rows)
    columns = {
        "input_ids": rows.column,
        "position_ids": _fixed(positions),
        "seq_lengths": _listed(edges, lengths.astype(np.int32)),
        "segment_documents": _listed(rows.edges, rows.documents),
        "segment_offsets": _listed(rows.edges, rows.offsets),
    }
    if "labels" in layout.names:
        targets = loss_mask(rows)
        targets &= positions > 0  # a segment's first token follows from nothing, and least of all from the document before it
        columns["labels"] = _fixed(np.where(targets, rows.input_ids.astype(np.int32), np.int32(IGNORE)))
    elif "loss_starts" in layout.names:
        columns |= _span_columns(rows)
    return pa.RecordBatch.from_arrays([columns[name] for name in layout.names], schema=layout)


def _span_columns(rows: Rows) -> dict[str, pa.Array]:
    R = len(rows.used)
    if rows.spans is None:
        return dict.fromkeys(("loss_starts", "loss_ends"), pa.nulls(R, pa.list_(pa.int32())))
    edges = np.concatenate([[0], np.cumsum(np.bincount(rows.spans.rows, minlength=R))])
    every = pa.array(rows.spans.every)
    return {
        "loss_starts": _listed(edges, rows.spans.starts.astype(np.int32), every),
        "loss_ends": _listed(edges, rows.spans.ends.astype(np.int32), every),
    }


def _fixed(values: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _listed(edges: np.ndarray, values: Any, null: pa.Array | None = None) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(edges, pa.int32()), pa.array(values), mask=null)


def _write_json(path: Path, what: Any) -> None:
    path.write_text(json.dumps(what, indent=2, sort_keys=True) + "\n")
