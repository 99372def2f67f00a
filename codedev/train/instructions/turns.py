"""Whether a model learns to stop: every answer's last token, which the chat template writes to end a turn, lies in a loss span.

A model whose end of turn is not learned goes on talking for ever; a template, a truncation or a mask of padding that is the same token as
the end are the usual reasons. What ends a turn is found by rendering a conversation through the template that the shards' manifest names;
shards that name none are held to the token that ends documents.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa

from codedev._errors import CodedevError, InputError
from codedev._run import read_json
from codedev.tokenize.chat.budget import RenderError
from codedev.tokenize.chat.render import Message, Template, render
from codedev.tokenize.chat.templates import load_template
from codedev.tokenize.vocabulary import Vocabulary, load_vocabulary, token_name
from codedev.train.data import Shards

ROWS = 100_000  # that are looked at: a second
_TALKS: tuple[tuple[Message, ...], ...] = (
    ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}),
    tuple({"role": role, "content": role} for role in ("user", "assistant", "user", "assistant")),
    ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "tool", "content": "c"}),
)


def check_turns(shards: Shards) -> dict[str, Any]:
    """rows (looked at), answers (loss spans), ended (of those, with a trained token that ends them), cut (whose conversation was cut off
    before its end), open (that neither), ends (that token's names), template, ok, said (one line)."""
    manifest = read_json(shards.dirs[0] / "manifest.json")
    recipe = manifest.get("recipe")
    chat = recipe.get("chat") if isinstance(recipe, dict) else None
    chat = chat if isinstance(chat, dict) else {}
    name, train_on = chat.get("template"), chat.get("train_on", "assistant")
    vocabulary, ends, why = None, {} if shards.manifest.eos_id is None else {shards.manifest.eos_id: ""}, ""
    try:
        vocabulary = load_vocabulary(shards.tokenizer_file, need_eos=False)
        if isinstance(name, str):
            ends, why = _ends(_template(name, vocabulary, shards), "all" if train_on != "all" else "none"), ""
    except CodedevError as error:
        why = str(error)
    names = sorted({token_name(vocabulary, number) if vocabulary else str(number) for number in ends})
    found = _counted(shards, np.array(sorted({*ends, *([] if shards.manifest.eos_id is None else [shards.manifest.eos_id])}), np.int64))
    by = f"template {name}" if isinstance(name, str) and not why else "the token that ends documents"
    told = {**found, "ends": names, "template": name, "why": why}
    if train_on == "all":
        return {**told, "ok": True, "said": "all of the text is trained on, the ends of turns with it"}
    if not ends:
        said = f"{by} ends an answer with no token of its own: nothing teaches the model to stop"
        return {**told, "ok": False, "said": said}
    shown = " or ".join(names)
    if found["open"]:
        said = f"{found['open']:,} of {found['answers']:,} answers do not end with {shown} ({by}): the model is not taught to stop there"
    elif not found["answers"]:
        said = "no row has a loss span: there are no answers to end"
    else:
        cut = f"; {found['cut']:,} more are cut off before their end" if found["cut"] else ""
        said = f"{found['ended']:,} of {found['answers']:,} answers end with {shown} ({by}), which is trained{cut}"
    return {**told, "ok": not found["open"] and found["ended"] > 0, "said": said}


def _template(name: str, vocabulary: Vocabulary, shards: Shards) -> Template:
    """By the name in the manifest; a file is looked for from the shards' directory too."""
    if len(name) > 255:
        raise InputError(f"{shards.dirs[0]}: names a chat template of {len(name):,} characters")
    path = shards.dirs[0] / name
    return load_template(str(path) if path.is_file() else name, vocabulary, shards.dirs[0])


def _ends(template: Template, spans: Literal["all", "none"]) -> dict[int, str]:
    """The special tokens with which the template ends what the assistant says."""
    found: dict[int, str] = {}
    for talk in _TALKS:
        try:
            rendered = render(template, talk, spans=spans)
        except RenderError:
            continue  # it has no tools, say
        last = {end: number for _, end, number in rendered.specials}
        found |= {last[end]: "" for _, end in rendered.loss if end in last}
    return found


def _counted(shards: Shards, ends: np.ndarray) -> dict[str, int]:
    rows = answers = ended = cut = 0
    for batch in shards.batches:
        if rows >= ROWS:
            break
        rows += batch.num_rows
        one = _batch(batch, shards.seq_len, ends)
        answers, ended, cut = answers + one[0], ended + one[1], cut + one[2]
    return {"rows": rows, "answers": answers, "ended": ended, "cut": cut, "open": answers - ended - cut}


def _batch(batch: pa.RecordBatch, seq_len: int, ends: np.ndarray) -> tuple[int, int, int]:
    """(answers, ended, cut off): a span that reaches the end of its document without the token that ends it is cut off."""
    spans, lengths = batch.column("loss_spans"), batch.column("segment_lengths")
    if spans.null_count == len(spans):
        return 0, 0, 0
    offsets = spans.offsets.to_numpy().astype(np.int64)
    last = spans.values.field("end").to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]].astype(np.int64)
    first = spans.values.field("start").to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]].astype(np.int64)
    row = np.repeat(np.arange(batch.num_rows), np.diff(offsets))
    fine = (first < last) & (first >= 0) & (last <= seq_len)
    row, last = row[fine], last[fine]
    ids = batch.column("input_ids").flatten().to_numpy(zero_copy_only=True).reshape(-1, seq_len)
    ended = np.isin(ids[row, last - 1], ends)
    cuts = lengths.offsets.to_numpy().astype(np.int64)
    pieces = lengths.values.to_numpy(zero_copy_only=False)[cuts[0] : cuts[-1]].astype(np.int64)
    of_piece = np.repeat(np.arange(batch.num_rows), np.diff(cuts))
    running = np.cumsum(pieces)
    before = np.concatenate([[0], running])[cuts - cuts[0]]
    tails = of_piece * (seq_len + 1) + running - before[of_piece]
    cut = ~ended & np.isin(row * (seq_len + 1) + last, tails)
    return len(last), int(ended.sum()), int(cut.sum())
