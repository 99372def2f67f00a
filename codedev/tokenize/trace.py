"""`codedev trace`: from a token in a shard back to its document and to the raw record the document was made from.

The shard says which document a token belongs to and which bytes of its text it covers; the document's position in the corpus leads to
one row group; `origin` leads to the raw file. Cost: one record batch of the shard, one row group of the corpus and one raw record.
The corpus is found by the relative path in the shards' manifest; raw files below `base`, or else below a folder above the corpus or the
current one. Raw records are read as corpus/raw.py says; remote files are named, not opened.
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from codedev._errors import InputError
from codedev._files import is_damage
from codedev._remote import is_url
from codedev.corpus.raw import raw_record
from codedev.tokenize import residues
from codedev.tokenize.documents import find_document, open_corpus
from codedev.tokenize.engine import byte_characters
from codedev.tokenize.shards import open_shards
from codedev.tokenize.vocabulary import Vocabulary, added_names, decode, encode_plain, load_vocabulary, special_ids, token_bytes, token_name

CONTEXT = 80  # bytes of text shown before and after a token
RAW_CONTEXT = 200  # bytes of the raw record shown before and after the text that was found in it


def trace(shards: Path, row: int, token: int | None = None, corpus: Path | None = None, base: Path | None = None) -> dict[str, Any]:
    """What the token at `token` in `row` is and where it comes from; without `token`, the segments of the row.

    With a token: "token" (id, text, bytes as hex, is it special), "segment" (its number, document id, the token's place in the segment and
    in the document, the byte span in the text), "context" (text before and after), "document" (every column but the text), "raw" (the
    file, whether it was found, an excerpt around the token's text). `corpus` and `base` say where the corpus and the recipe's folder are
    when they were moved. InputError for a row or token that does not exist, and a corpus or document that cannot be found.
    """
    opened = open_shards(shards)
    file, values = opened.row(row)
    edges = np.concatenate([[0], np.cumsum(values["segment_lengths"])]).astype(int)
    where = {"row": row, "file": file, "tokens": int(edges[-1]), "padding": int(opened.manifest["seq_len"] - edges[-1])}
    if token is None:
        return {**where, "segments": [_segment(values, i, edges) for i in range(len(edges) - 1)]}
    if not 0 <= token < edges[-1]:
        what = "is padding" if 0 <= token < opened.manifest["seq_len"] else "does not exist"
        raise InputError(f"{shards}: row {row} has the tokens 0 to {edges[-1] - 1}; token {token} {what}")
    number = int(np.searchsorted(edges, token, side="right")) - 1
    segment = _segment(values, number, edges)
    if not segment["document"]:
        raise InputError(f"{shards}: token {token} of row {row} was removed with its document (codedev corpus remove)")

    corpus_path = corpus or Path(os.path.normpath(shards / opened.manifest["corpus"]["path"]))
    source = open_corpus(corpus_path)
    positions = values.get("segment_positions")
    document = find_document(source, segment["document"], positions[number] if positions else None)
    if document is None:
        raise InputError(f"{corpus_path}: holds no document {segment['document']!r}. Name the corpus of these shards with --corpus")
    text = (document.pop("text") or "").encode()
    vocabulary = load_vocabulary(shards / Path(opened.manifest["tokenizer"]["file"]).name, eos=opened.manifest["tokenizer"]["eos"])
    ids = np.array(values["input_ids"][edges[number] : edges[number + 1]], np.int64)
    place = token - int(edges[number])
    lengths = None
    if opened.manifest.get("mode") == "sft":
        text, segment, lengths = _told(vocabulary, ids, segment)
    part = _part(values.get("parts"), token, int(edges[number]))
    if lengths is not None:
        begin = int(lengths[:place].sum())
        end = begin + int(lengths[place])
    else:
        begin, end = _byte_span(vocabulary, ids, place, segment, text, part and (part[0] - int(edges[number]), part[1]))
    special = int(ids[place]) in special_ids(vocabulary)
    expected = _bytes_of(vocabulary, int(ids[place]))
    return {
        **where,
        "token": {
            "index": token,
            "id": int(ids[place]),
            "text": token_name(vocabulary, int(ids[place])) if special else text[begin:end].decode(errors="replace"),
            "bytes": text[begin:end].hex(),
            "special": special,
            "as_encoded": expected is None or expected == text[begin:end],  # whether the text still says what the token says
        },
        "segment": {
            **segment,
            "token_in_segment": place,
            "token_in_document": segment["offset"] + place,
            "byte_begin": begin,
            "byte_end": end,
        },
        "context": {
            "before": text[max(0, begin - CONTEXT) : begin].decode(errors="replace"),
            "after": text[end : end + CONTEXT].decode(errors="replace"),
        },
        "corpus": {"path": str(corpus_path), "same": source.manifest_hash == opened.manifest["corpus"]["manifest_hash"]},
        "document": {name: _plain(value) for name, value in document.items()},
        "raw": _raw(document.get("origin"), segment["document"], corpus_path, base, _windows(text, begin, end)),
    }


def _segment(values: dict[str, Any], number: int, edges: np.ndarray) -> dict[str, Any]:
    return {
        "number": number,
        "document": values["segment_documents"][number],
        "begin": int(edges[number]),  # first token in the row
        "end": int(edges[number + 1]),
        "offset": values["segment_offsets"][number],  # first token in the document's token sequence
        "byte_offset": values["segment_byte_offsets"][number],
        "bytes": values["segment_bytes"][number],
    }


def _told(vocabulary: Vocabulary, ids: np.ndarray, segment: dict[str, Any]) -> tuple[bytes, dict[str, Any], np.ndarray | None]:
    """(the text that a chat template made of the conversation, as far as the segment has it; the segment as the whole of that text; the
    bytes of each token where the vocabulary does not tell them)."""
    segment = {**segment, "offset": 0, "byte_offset": 0}
    if vocabulary.byte_lengths is not None:
        return b"".join(_bytes_of(vocabulary, int(number)) or b"" for number in ids), segment, None
    # What stands between special tokens was encoded by itself.
    text, lengths = b"", np.zeros(len(ids), np.int64)
    hidden = np.isin(ids, list(special_ids(vocabulary)))
    edges = np.flatnonzero(np.diff(np.concatenate([[True], hidden, [True]]).astype(np.int8)))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        run = decode(vocabulary, ids[begin:end].tolist())
        plain = encode_plain(vocabulary, pa.array([run], pa.large_string()))
        if np.array_equal(plain.ids, ids[begin:end]):
            lengths[begin:end] = token_bytes(vocabulary, plain)
        else:  # it was not the beginning of a text, or decodes to another one: not told token by token
            lengths[begin] = len(run.encode())
        text += run.encode()
    return text, segment, lengths


def _part(parts: list[dict[str, int]] | None, token: int, segment: int) -> tuple[int, int] | None:
    """(first token in the row, first byte) of the part that the token is in; None where its segment has no parts."""
    within = [(part["start"], part["byte_begin"]) for part in parts or [] if segment <= part["start"] <= token]
    return max(within, default=None)


def _byte_span(
    vocabulary: Vocabulary, ids: np.ndarray, place: int, segment: dict[str, Any], text: bytes, part: tuple[int, int] | None
) -> tuple[int, int]:
    """The token's bytes in the document's text. `part`: the segment's token and the byte of the text from which on they go together."""
    start, first = part or (0, segment["byte_offset"])
    if vocabulary.byte_lengths is not None:
        lengths = vocabulary.byte_lengths[ids]
    else:  # encoded again, from where the tokens are those of a text: specials cover nothing
        begin = first if part else 0
        lengths = token_bytes(vocabulary, encode_plain(vocabulary, pa.array([text[begin:].decode(errors="ignore")], pa.large_string())))
        special = np.isin(ids, list(special_ids(vocabulary)))
        if part:
            lengths = np.concatenate([np.zeros(start, np.uint32), lengths])
        else:
            before = 0 if vocabulary.bos_id is None else 1
            lengths = np.concatenate([np.zeros(before, np.uint32), lengths, np.zeros(1, np.uint32)])
            start, first, place = 0, 0, segment["offset"] + place
        if part and special[place]:
            lengths = np.zeros(place + 1, np.uint32)
    begin = first + int(lengths[start:place].sum())
    return begin, begin + int(lengths[place])


def _bytes_of(vocabulary: Vocabulary, token_id: int) -> bytes | None:
    """The bytes an id stands for; None where the vocabulary does not say."""
    if vocabulary.byte_lengths is None:
        return None
    if vocabulary.byte_lengths[token_id] == 0:
        return b""
    name = token_name(vocabulary, token_id)
    if name in residues.names():
        return residues.names()[name].encode()
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    return name.encode() if name in added_names(vocabulary) else bytes(byte_of[character] for character in name)


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it."""
    return value.isoformat() if isinstance(value, dt.datetime) else value


# The raw record


def _raw(origin: dict[str, Any] | None, document_id: str, corpus: Path, base: Path | None, wanted: list[bytes]) -> dict[str, Any]:
    """`origin`, the path opened, and an excerpt around the first of `wanted` that the raw record holds, else its beginning."""
    if not origin or not origin.get("file"):
        return {"found": False, "why": "the document names no raw file"}
    name = str(origin["file"])
    place = {part: origin.get(part) for part in ("file", "offset", "length", "member")}
    if is_url(name):
        return {**place, "found": False, "why": "a remote file"}
    folders = [base] if base else [*_recorded_base(corpus), *corpus.resolve().parents, Path.cwd()]
    path = next((folder / name for folder in folders if (folder / name).exists()), None)
    if path is None:
        return {**place, "found": False, "why": f"no such file below {folders[0]}. Name the recipe's folder with --base"}
    try:
        record = raw_record(path, place, document_id)
    except Exception as error:
        if not (is_damage(error) or isinstance(error, pa.ArrowException)):
            raise
        return {**place, "found": False, "path": str(path), "why": f"cannot be read: {error}"}
    spellings = (spelling for text in wanted if text for spelling in (text, _in_json(text)))
    at, length = next(((record.find(text), len(text)) for text in spellings if text in record), (-1, 0))
    begin = max(0, at - RAW_CONTEXT)
    excerpt = record[begin : max(at, 0) + length + RAW_CONTEXT]
    return {
        **place,
        "found": True,
        "path": str(path),
        "bytes": len(record),  # of the record, decompressed
        "text_at": at if at >= 0 else None,  # where in the record the token's surroundings, or at least its text, stand
        "excerpt_at": begin,
        "excerpt": excerpt.decode(errors="replace"),
    }


def _windows(text: bytes, begin: int, end: int) -> list[bytes]:
    """The token with ever less around it, since markup may break its surroundings; never alone, as it stands in many places."""
    windows = [text[max(0, begin - reach) : end + reach].strip() for reach in (CONTEXT, 40, 20, 8)]
    return [window for window in windows if len(window) >= min(12, len(text.strip()))]


def _recorded_base(corpus: Path) -> list[Path]:
    """The recipe's folder at the last build, which the log of the corpus holds; the corpus itself names no place on a machine."""
    try:
        events = [orjson.loads(line) for line in (corpus / "events.jsonl").read_bytes().splitlines()]
        return [Path(event["base"]) for event in events if "base" in event][-1:]
    except (OSError, orjson.JSONDecodeError):
        return []


def _in_json(text: bytes) -> bytes:
    return orjson.dumps(text.decode(errors="ignore"))[1:-1]
