"""Conversations of a batch -> rows of tokens with the spans that carry loss: what mode `sft` learns from.

A document of kind instruction is rendered by the chat template (render.py), encoded (encoded.py), and made to fit:

    error       InputError names the document
    drop        the document is dropped: too_long
    truncate    tokens are cut from the end; where no token with loss is left, the document is dropped: nothing_to_learn
    split       windows of whole exchanges (a user's message and what answers it), each a conversation of its own with the system message
                before it; an exchange that is too long by itself is cut at the end. Windows without loss are left out

An answer whose message says `weight: 0` or `train: false` is context, not learned. Every row has a token with loss. What is dropped has a
reason, and everything cut is counted. Reasons: not_a_conversation, template_refuses, template_limit, turns_rewritten, weights_unclear,
too_long, nothing_to_learn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from codedev._errors import InputError
from codedev.tokenize.chat.budget import RenderError
from codedev.tokenize.chat.encoded import Encoded, Spans, encode, joined, taken
from codedev.tokenize.chat.messages import Conversation, conversation, turns
from codedev.tokenize.chat.render import Message, Rendered, Template, render
from codedev.tokenize.vocabulary import Vocabulary, token_name

Overlong = Literal["error", "drop", "truncate", "split"]


class SftOptions(NamedTuple):
    max_tokens: int  # of a row
    overlong: Overlong = "truncate"
    train_on: Literal["assistant", "last", "all"] = "assistant"  # all of the assistant's turns, the last one, the whole text
    system: str | None = None  # of conversations without one
    plain: bool = False  # documents of other kinds are learned as they are, between bos and eos; else they are dropped


class SftTokens(NamedTuple):
    ids: np.ndarray  # uint16 or uint32: the rows' tokens one after another
    offsets: np.ndarray  # int64[rows + 1]
    documents: np.ndarray  # int64[rows], rising: the row of the batch it is of
    loss: Spans  # of rows; every row has one
    byte_lengths: (
        np.ndarray | None
    )  # uint32 a token: bytes of the rendered text it covers, 0 for special tokens; None: the vocabulary tells
    status: list[str]  # [documents of the batch]: why it has no row, "" where it has
    counters: Counter[str]  # documents_cut, documents_split, tokens_cut, windows, windows_without_loss; drop.<reason>
    said: dict[str, tuple[int, str]]  # reason -> the first document of the batch that has it, and what the template said of it


def sft_tokens(vocabulary: Vocabulary, template: Template, batch: pa.RecordBatch, options: SftOptions) -> SftTokens:
    """The rows of a batch with the columns kind, text and meta (and id, for messages). InputError for overlong: error."""
    status = [""] * batch.num_rows
    counters: Counter[str] = Counter()
    kinds = batch.column("kind").cast(pa.string()).to_pylist()
    metas = batch.column("meta").to_pylist()
    texts: list[Rendered] = []
    documents: list[int] = []
    told: dict[int, Conversation] = {}
    said: dict[str, tuple[int, str]] = {}
    for row, (kind, meta) in enumerate(zip(kinds, metas, strict=True)):  # 60 µs and more each: Jinja
        try:
            if kind != "instruction" and options.plain:
                rendered = _plain(vocabulary, batch.column("text")[row].as_py() or "")
            elif kind == "instruction" and (found := conversation(meta, options.system)) is not None and found.messages:
                told[row] = found
                rendered = _rendered(template, found.messages, found, options)
            else:
                status[row] = "not_a_conversation"
                continue
        except RenderError as error:
            status[row] = error.reason
            said.setdefault(error.reason, (row, str(error)))
            continue
        texts.append(rendered)
        documents.append(row)

    made, rows = encode(vocabulary, template, texts), np.array(documents, np.int64)
    long = np.flatnonzero(made.counts() > options.max_tokens)
    if len(long) and options.overlong == "error":
        row = documents[int(long[0])]
        name = batch.column("id")[row].as_py() if "id" in batch.schema.names else f"row {row}"
        raise InputError(
            f"document {name}: a conversation of {int(made.counts()[long[0]])} tokens, and a row holds {options.max_tokens}. "
            "Raise seq_len, or choose overlong: truncate, split or drop"
        )
    split: list[tuple[int, Encoded]] = []
    for number in long if options.overlong in ("drop", "split") else ():
        row = documents[int(number)]
        if options.overlong == "drop":
            status[row] = "too_long"
        elif row in told:
            try:
                windows = _windows(vocabulary, template, told[row], made.row(int(number)), options, counters)
            except RenderError as error:
                status[row] = error.reason
                said.setdefault(error.reason, (row, str(error)))
                continue
            split += [(row, window) for window in windows]
            counters["documents_split"] += 1
            counters["windows"] += len(windows)
            status[row] = "" if windows else "nothing_to_learn"
        else:
            pieces = _pieces(made, int(number), options.max_tokens)
            split.append((row, pieces))
            counters["documents_split"] += 1
            counters["windows"] += len(pieces.offsets) - 1
    stay = np.ones(len(rows), np.bool_)
    stay[long if options.overlong in ("drop", "split") else []] = False
    kept = np.flatnonzero(stay)
    sizes = made.counts()[kept]
    parts = [taken(made, kept, np.full(len(kept), options.max_tokens))]
    owners = np.concatenate([rows[kept], *(np.full(len(part.offsets) - 1, row) for row, part in split)]).astype(np.int64)
    whole = joined([*parts, *(part for _, part in split)])

    learns = np.zeros(len(owners), np.bool_)
    learns[whole.loss.rows] = True
    for row in owners[~learns].tolist():
        status[row] = "nothing_to_learn"
    excess = np.maximum(sizes - options.max_tokens, 0)[learns[: len(kept)]]  # of documents that are not dropped
    counters["documents_cut"] += int(np.count_nonzero(excess))
    counters["tokens_cut"] += int(excess.sum())
    chosen = np.flatnonzero(learns)
    chosen = chosen[np.argsort(owners[chosen], kind="stable")]
    final = taken(whole, chosen, np.full(len(chosen), options.max_tokens))
    for reason in filter(None, status):
        counters[f"drop.{reason}"] += 1
    return SftTokens(final.ids, final.offsets, owners[chosen], final.loss, final.byte_lengths, status, +counters, said)


def _rendered(template: Template, messages: Sequence[Message], of: Conversation, options: SftOptions) -> Rendered:
    if options.train_on == "all":
        rendered = render(template, messages, of.tools, spans="none")
        return rendered._replace(loss=[(0, len(rendered.text))] if rendered.text else [])
    rendered = render(template, messages, of.tools, spans="all" if options.train_on == "assistant" else "last")
    answers = [message for message in messages if message["role"] == "assistant"][-len(rendered.loss) or None :]
    if all(map(_learned, answers)) or not rendered.loss:
        return rendered
    if len(answers) != len(rendered.loss):
        raise RenderError("weights_unclear", f"{template.name}: what it learns of {len(answers)} answers is in {len(rendered.loss)} pieces")
    return rendered._replace(loss=[span for span, answer in zip(rendered.loss, answers, strict=True) if _learned(answer)])


def _learned(message: Message) -> bool:
    """False where the data say that this answer is not to be learned: `weight: 0` (OpenAI), `train: false` (axolotl)."""
    return message.get("weight") not in (0, False) and message.get("train") is not False


def _plain(vocabulary: Vocabulary, text: str) -> Rendered:
    """A document as it is, between the tokens that begin and end one; learned whole."""
    if not text:
        return Rendered("", [], [])
    bos = "" if vocabulary.bos_id is None else token_name(vocabulary, vocabulary.bos_id)
    eos = token_name(vocabulary, vocabulary.eos_id)
    whole = bos + text + eos
    specials = [] if vocabulary.bos_id is None else [(0, len(bos), vocabulary.bos_id)]
    specials.append((len(whole) - len(eos), len(whole), vocabulary.eos_id))
    return Rendered(whole, specials, [(0, len(whole))])


def _pieces(made: Encoded, number: int, size: int) -> Encoded:
    """A plain document cut into rows."""
    ids = made.row(number)
    offsets = np.append(np.arange(0, len(ids), size), len(ids)).astype(np.int64)
    rows = np.arange(len(offsets) - 1)
    lengths = None if made.byte_lengths is None else made.byte_lengths[made.offsets[number] : made.offsets[number + 1]]
    return Encoded(ids, offsets, Spans(rows, np.zeros_like(rows), np.diff(offsets)), lengths)


def _windows(
    vocabulary: Vocabulary, template: Template, of: Conversation, ids: np.ndarray, options: SftOptions, counters: Counter[str]
) -> list[Encoded]:
    """A long conversation as windows of whole exchanges, with the system message before each.

    How many exchanges fit is estimated by their share of the characters and made fewer until they do: a few renderings a window.
    """
    assert of.messages is not None
    system, groups = turns(of.messages)
    weights = np.array([sum(len(message["content"]) + 40 for message in group) for group in groups], np.float64)
    tokens = np.cumsum(weights * len(ids) / max(1.0, weights.sum() + sum(len(message["content"]) for message in system)))
    found: list[Encoded] = []
    at = 0
    if options.train_on == "last" and len(groups):  # what ends with the last answer
        at = min(int(np.searchsorted(tokens, tokens[-1] - options.max_tokens)), len(groups) - 1)
    while at < len(groups):
        before = tokens[at - 1] if at else 0.0
        count = max(1, int(np.searchsorted(tokens, before + options.max_tokens, side="right")) - at)
        while True:
            window = [message for group in groups[at : at + count] for message in group]
            made = encode(vocabulary, template, [_rendered(template, [*system, *window], of, options)])
            size = len(made.ids)
            if size <= options.max_tokens or count == 1:
                break
            fewer = max(1, min(count - 1, count * options.max_tokens // size))
            at += count - fewer if options.train_on == "last" else 0
            count = fewer
        at += count
        if size > options.max_tokens:
            counters["tokens_cut"] += size - options.max_tokens
            made = taken(made, np.zeros(1, np.int64), np.array([options.max_tokens]))
        if options.train_on == "last" and at < len(groups):
            continue  # the last answer is further on
        if len(made.loss.rows):
            found.append(made)
        else:
            counters["windows_without_loss"] += 1
            counters["tokens_cut"] += len(made.ids)
    return found
