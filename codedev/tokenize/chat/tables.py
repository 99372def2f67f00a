"""Conversations of a batch -> tables of tokens for reward, DPO, KTO and PPO trainers.

    pairs     prompt, chosen, rejected      prompt_ids, chosen_ids, rejected_ids
    judged    prompt, completion, label     prompt_ids, completion_ids, label
    rated     messages, reward              prompt_ids, completion_ids, reward; without an answer completion_ids is empty
    prompts   any of them, or instruction   prompt_ids: what stands before the last answer, with the prompt for it; `reference`: JSON of the
                                            `answer` that was given there (of a pair the chosen one; null without one) and of what else
                                            the document's meta has, for graders of new answers

and in all of them `document` (its id) and `position` (in the corpus). With `texts` also `prompt`, `messages` (JSON of what the prompt is
made of), `chosen`, `rejected` and `completion` (what the template writes behind the prompt, without the special token that ends the turn),
and `reference` in every kind.

The prompt is rendered with the prompt for an answer, as a model reads it when it generates; the completion is what the whole conversation
has behind that. Both are encoded by themselves: prompt_ids + chosen_ids are the very tokens that generation would see and give, and both
completions of a pair have the same prompt. Where the template continues an answer differently from its own prompt (a thought left out), the
prompt is what all renderings have in common. A completion ends with the token that ends the turn; blanks behind that are left out.

Too long is prompt and longer completion together. `truncate` first leaves out the oldest exchanges, keeping the system message and the last
question whole, since a prompt cut at its left has lost its beginning-of-text and its roles; then it cuts completions at their ends, as TRL
does. A pair whose completions are then the same is dropped: same_answers.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from codedev._errors import InputError
from codedev.tokenize.chat.budget import RenderError
from codedev.tokenize.chat.encoded import encode
from codedev.tokenize.chat.messages import LISTS, Conversation, conversation, turns
from codedev.tokenize.chat.render import Message, Rendered, Template, cut, end_of_turn, render
from codedev.tokenize.vocabulary import Vocabulary

Kind = Literal["pairs", "judged", "rated", "prompts"]
_COMPLETIONS: dict[str, tuple[str, ...]] = {
    "pairs": ("chosen_ids", "rejected_ids"),
    "judged": ("completion_ids",),
    "rated": ("completion_ids",),
    "prompts": (),
}
_JUDGEMENT = {"judged": ("label", pa.bool_()), "rated": ("reward", pa.float64()), "prompts": ("reference", pa.large_string())}


class TableOptions(NamedTuple):
    max_tokens: int  # of prompt and completion together
    overlong: Literal["error", "drop", "truncate"] = "truncate"
    system: str | None = None  # of conversations without one
    texts: bool = False  # beside the tokens
    cut_answers: bool = True  # of truncate: else what is still too long without its oldest exchanges is dropped


class Tables(NamedTuple):
    tables: dict[str, pa.RecordBatch]  # by kind; in mode preference those of pairs, judged and rated that are not empty
    status: list[str]  # [documents of the batch]: why it is in none, "" where it is in one
    counters: Counter[str]  # prompts_shortened, exchanges_cut, completions_cut, tokens_cut; drop.<reason>
    said: dict[str, tuple[str, str]]  # reason -> the id of the first document that has it, and what the template said of it


class _Asked(NamedTuple):
    """A document's prompt and what is told after it."""

    row: int
    kind: str
    prompt: list[Message]
    sides: list[list[Message]]
    judgement: Any
    tools: Any
    answered: bool  # what follows the prompt is an answer
    reference: str | None = None


class _Fitted(NamedTuple):
    """Prompt and completions that fit."""

    parts: list[np.ndarray]
    texts: list[Rendered]
    prompt: list[Message]


def table_schema(kind: Kind, vocabulary: Vocabulary, *, texts: bool = False) -> pa.Schema:
    ids = pa.list_(pa.from_numpy_dtype(vocabulary.dtype))
    columns = [pa.field(name, ids, nullable=False) for name in ("prompt_ids", *_COMPLETIONS[kind])]
    if kind in _JUDGEMENT:
        columns.append(pa.field(*_JUDGEMENT[kind], nullable=False))
    if texts:
        written = ["prompt", "messages", *(name.removesuffix("_ids") for name in _COMPLETIONS[kind])]
        written += ["reference"] if kind != "prompts" else []
        columns += [pa.field(name, pa.large_string(), nullable=False) for name in written]
    return pa.schema([*columns, pa.field("document", pa.string(), nullable=False), pa.field("position", pa.int64(), nullable=False)])


def preference_tables(
    vocabulary: Vocabulary, template: Template, batch: pa.RecordBatch, options: TableOptions, *, position: int = 0
) -> Tables:
    """Of a batch with the columns id, kind and meta: its documents of kind preference. `position` is that of its first row.

    Reasons: not_a_preference, template_refuses, template_limit, turns_rewritten, too_long, same_answers, nothing_to_learn.
    """
    return _tables(vocabulary, template, batch, options, position, prompts=False)


def prompt_table(vocabulary: Vocabulary, template: Template, batch: pa.RecordBatch, options: TableOptions, *, position: int = 0) -> Tables:
    """Of a batch with the columns id, kind and meta: what stands before the last answer of its documents of kind instruction or preference.

    Reasons: not_a_conversation, nested_too_deep, template_refuses, template_limit, too_long.
    """
    return _tables(vocabulary, template, batch, options, position, prompts=True)


def answered(
    vocabulary: Vocabulary, template: Template, talks: Sequence[tuple[Sequence[Message], str]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(prompt_ids, completion_ids) of conversations, each with an answer. RenderError where the template refuses one."""
    asked = [_Asked(0, "rated", list(prompt), [[{"role": "assistant", "content": answer}]], None, None, True) for prompt, answer in talks]
    made = encode(vocabulary, template, [text for one in asked for text in _rendered(template, one)])
    return [(made.row(2 * number), made.row(2 * number + 1)) for number in range(len(asked))]


def _tables(
    vocabulary: Vocabulary, template: Template, batch: pa.RecordBatch, options: TableOptions, position: int, *, prompts: bool
) -> Tables:
    status, counters = [""] * batch.num_rows, Counter[str]()
    names = batch.column("id").to_pylist()
    asked: list[_Asked] = []
    texts: list[Rendered] = []
    said: dict[str, tuple[str, str]] = {}
    kinds = batch.column("kind").cast(pa.string()).to_pylist()
    for row, (kind, meta) in enumerate(zip(kinds, batch.column("meta").to_pylist(), strict=True)):  # 100 µs and more each: Jinja
        found = conversation(meta, options.system) if kind in ("preference", "instruction") else None
        one = _asked(row, found, prompts) if found is not None else None
        if one is None:
            status[row] = "not_a_conversation" if prompts else "not_a_preference"
            continue
        try:
            if found is not None and (prompts or options.texts):
                reference = _reference(meta, found)
                one = one._replace(judgement=reference) if prompts else one._replace(reference=reference)
            texts += _rendered(template, one)
        except RenderError as error:
            status[row] = error.reason
            said.setdefault(error.reason, (names[row], str(error)))
            continue
        asked.append(one)

    made = encode(vocabulary, template, texts)
    rows: dict[str, list[tuple[Any, ...]]] = {}
    at = 0
    for one in asked:
        parts = [made.row(at + number) for number in range(1 + len(one.sides))]
        rendered = texts[at : at + len(parts)]
        at += len(parts)
        try:
            fitted = _fitted(vocabulary, template, one, _Fitted(parts, rendered, one.prompt), options, names[one.row], counters)
        except RenderError as error:
            fitted = error.reason
            said.setdefault(error.reason, (names[one.row], str(error)))
        if isinstance(fitted, str):
            status[one.row] = fitted
            continue
        judged = (one.judgement,) if one.kind in _JUDGEMENT else ()
        written = _written(one, fitted) if options.texts else ()
        rows.setdefault(one.kind, []).append((*fitted.parts, *judged, *written, names[one.row], position + one.row))
    tables = {kind: _batch(kind, rows[kind], vocabulary, options.texts) for kind in sorted(rows)}
    for reason in filter(None, status):
        counters[f"drop.{reason}"] += 1
    return Tables(tables, status, +counters, said)


def _asked(row: int, found: Conversation, prompts: bool) -> _Asked | None:
    """What the document asks for; None where it is of no kind that is looked for."""
    if found.messages is not None:
        last = max((place for place, message in enumerate(found.messages) if message["role"] == "assistant"), default=None)
        if prompts:
            prompt = found.messages if last is None else found.messages[:last]
            return _Asked(row, "prompts", prompt, [], None, found.tools, True) if prompt else None
        if found.reward is None or not found.messages:
            return None
        # What is judged as one text has no answer: all of it is the prompt.
        last = last if last is not None and last == len(found.messages) - 1 and last > 0 else None
        prompt, side = (found.messages, []) if last is None else (found.messages[:last], found.messages[last:])
        return _Asked(row, "rated", prompt, [side], found.reward, found.tools, last is not None)
    if not found.prompt:
        return None
    if prompts:
        return _Asked(row, "prompts", found.prompt, [], None, found.tools, True)
    if found.chosen and found.rejected:
        return _Asked(row, "pairs", found.prompt, [found.chosen, found.rejected], None, found.tools, True)
    if found.completion and found.label is not None:
        return _Asked(row, "judged", found.prompt, [found.completion], found.label, found.tools, True)
    return None


def _reference(meta: str, found: Conversation) -> str:
    """What graders of a new answer are told: the answer that was given, and the columns beside the conversation."""
    given = next((side for side in (found.chosen, found.completion, found.messages) if side), [])
    answers = [message["content"] for message in given if message["role"] == "assistant"]
    others = {key: value for key, value in orjson.loads(meta).items() if key not in (*LISTS, "tools", "label", "reward")}
    try:
        return orjson.dumps({"answer": answers[-1] if answers else None, **others}).decode()
    except orjson.JSONEncodeError as error:  # the library reads to 1,024 levels and writes to 254
        raise RenderError("nested_too_deep", f"what its meta has beside the conversation cannot be written: {error}") from None


def _rendered(template: Template, one: _Asked) -> list[Rendered]:
    """The prompt and the completions, parted where all renderings still agree."""
    prompt = render(template, one.prompt, one.tools, add_generation_prompt=one.answered, spans="none")
    if not one.answered:
        return [prompt, Rendered("", [], [])][: 1 + len(one.sides)]
    wholes = [render(template, [*one.prompt, *side], one.tools, spans="none") for side in one.sides]
    border = len(prompt.text)
    if not all(whole.text.startswith(prompt.text) for whole in wholes):
        border = len(os.path.commonprefix([prompt.text, *(whole.text for whole in wholes)]))  # noqa: RUF071  # of characters, as it is
        for begin, end, _ in prompt.specials:
            border = begin if begin < border < end else border
        asked = render(template, one.prompt, one.tools, spans="none")
        if border < len(asked.text) or not prompt.text.startswith(asked.text):
            raise RenderError("turns_rewritten", f"{template.name}: it writes the prompt in another way when an answer follows")
    return [cut(prompt, 0, border), *(cut(whole, border, max(border, end_of_turn(whole))) for whole in wholes)]


def _written(one: _Asked, fitted: _Fitted) -> list[str]:
    """The texts of a row: what the template wrote, and what of."""
    answers = []
    for text in fitted.texts[1:]:
        ends = text.specials[-1] if text.specials else (0, 0, 0)
        answers.append(text.text[: ends[0]] if text.text and ends[1] == len(text.text) else text.text)
    messages = orjson.dumps(fitted.prompt, default=str).decode()
    return [fitted.texts[0].text, messages, *answers, *([one.reference] if one.reference is not None else [])]


def _fitted(
    vocabulary: Vocabulary,
    template: Template,
    one: _Asked,
    given: _Fitted,
    options: TableOptions,
    name: str,
    counters: Counter[str],
) -> _Fitted | str:
    """Prompt and completions that fit, or why there are none."""
    parts = given.parts
    if _long(parts, options):
        size = _size(parts)
        if options.overlong == "error":
            raise InputError(
                f"document {name}: a prompt and its answer of {size} tokens, and {options.max_tokens} are allowed. "
                "Raise seq_len, or choose overlong: truncate or drop"
            )
        if options.overlong == "drop":
            return "too_long"
        given, left_out = _shortened(vocabulary, template, one, given, options)
        parts = given.parts
        room = options.max_tokens - len(parts[0])
        if room < (1 if any(len(part) for part in parts[1:]) else 0) or (_long(parts, options) and not options.cut_answers):
            return "too_long"
        longer = sum(len(part) > room for part in parts[1:])
        parts = [parts[0], *(part[:room] for part in parts[1:])]
        counters["prompts_shortened"] += left_out > 0
        counters["exchanges_cut"] += left_out
        counters["completions_cut"] += longer
        counters["tokens_cut"] += size - _size(parts)
    if one.kind == "pairs" and np.array_equal(parts[1], parts[2]):
        return "same_answers"
    if one.answered and not all(len(part) for part in parts[1:]):
        return "nothing_to_learn"
    return given._replace(parts=parts)


def _shortened(vocabulary: Vocabulary, template: Template, one: _Asked, given: _Fitted, options: TableOptions) -> tuple[_Fitted, int]:
    """The same with as few of the oldest exchanges left out as it takes, and how many that are. How many is estimated by their share of the
    characters and raised until the rest fits: a few renderings."""
    system, groups = turns(one.prompt)
    parts = given.parts
    if len(groups) < 2 or not one.answered:
        return given, 0
    weights = np.cumsum([sum(len(message["content"]) + 40 for message in group) for group in groups], dtype=np.float64)
    excess = _size(parts) - options.max_tokens
    out = min(1 + int(np.searchsorted(weights * len(parts[0]) / weights[-1], excess)), len(groups) - 1)
    while True:
        fewer = one._replace(prompt=[*system, *(message for group in groups[out:] for message in group)])
        rendered = _rendered(template, fewer)
        made = encode(vocabulary, template, rendered)
        parts = [made.row(number) for number in range(1 + len(one.sides))]
        if not _long(parts, options) or out == len(groups) - 1:
            return _Fitted(parts, rendered, fewer.prompt), out
        out = min(out + max(1, (len(groups) - out) // 4), len(groups) - 1)


def _size(parts: Sequence[np.ndarray]) -> int:
    return len(parts[0]) + max((len(part) for part in parts[1:]), default=0)


def _long(parts: Sequence[np.ndarray], options: TableOptions) -> bool:
    return _size(parts) > options.max_tokens


def _batch(kind: str, rows: list[tuple[Any, ...]], vocabulary: Vocabulary, texts: bool) -> pa.RecordBatch:
    schema = table_schema(kind, vocabulary, texts=texts)  # type: ignore[arg-type]
    columns = [list(column) for column in zip(*rows, strict=True)]
    return pa.record_batch(
        [
            _lists(column, field) if pa.types.is_list(field.type) else pa.array(column, field.type)
            for column, field in zip(columns, schema, strict=True)
        ],
        schema=schema,
    )


def _lists(rows: list[np.ndarray], field: pa.Field) -> pa.Array:
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    values = np.concatenate(rows) if rows else np.empty(0, field.type.value_type.to_pandas_dtype())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, field.type.value_type), type=field.type)
