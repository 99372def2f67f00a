"""Answers to many prompts: rows in, the same rows with `answers` out, as `codedev feedback` and the tables of training read them.

A prompt is a text or a conversation (messages of {role, content}). Where the model was tuned to talk a text is what a person says, in the
chat template beside the model; `raw` goes on from the text as it is. All prompts are looked at before the first is answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from codedev._errors import InputError, RecipeError
from codedev._run import Progress, no_progress
from codedev.train.use import chat as talks
from codedev.train.use import generate as writer


def read_prompts(lines: Iterable[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a JSONL with their lines' numbers: objects with `prompt` or `messages`, or texts alone. Raises InputError."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name}: line {number} is no JSON: {error}") from None
        row = {"prompt": row} if isinstance(row, str) else row
        if not isinstance(row, dict) or not _is_prompt(said_in(row)):
            raise InputError(
                f'{name}: line {number} has no prompt. Write {{"prompt": "…"}}, {{"messages": [{{"role": "user", "content": "…"}}]}}, '
                "or the text alone in quotes"
            )
        yield number, row


def said_in(row: dict[str, Any]) -> Any:
    """The prompt of a row: a text, or a list of messages."""
    return row.get("messages", row.get("prompt"))


def answer_all(
    model: Path,
    lines: Iterable[str],
    name: str,
    sampling: writer.Sampling,
    *,
    n: int = 1,
    template: str | None = None,
    raw: bool = False,
    progress: Progress = no_progress,
) -> Iterator[dict[str, Any]]:
    """Each row of `lines` with `answers`, n of them as {text, tokens, ended}, and `model`, in the rows' order. `name` is that of the lines.

    Answers to one prompt draw random numbers of their own. Raises InputError for a prompt that cannot be answered, before any is.
    """
    if n > 1 and sampling.temperature == 0:
        raise RecipeError(f"generate: {n} answers at temperature 0 would be the same {n} times. Give a --temperature above 0")
    rows = list(read_prompts(lines, name))
    opened = writer.open_model(model)
    chat = None if raw else talks.chat_of(opened, template)
    prompts = []
    for number, row in rows:
        try:
            prompts.append(_ids(opened, chat, said_in(row)))
        except InputError as error:
            raise InputError(f"{name}: line {number}: {error}") from None
    made = writer.write_all(chat.opened if chat else opened, (ids for ids in prompts for _ in range(n)), sampling)
    for at, (_, row) in enumerate(rows):
        progress("answers", at, len(rows))
        answers = [
            {"text": one.text.strip() if chat else one.text, "tokens": one.tokens, "ended": one.why}
            for one in (next(made) for _ in range(n))
        ]
        yield {**row, "answers": answers, "model": str(model)}
    progress("answers", len(rows), len(rows))


def _is_prompt(said: Any) -> bool:
    if isinstance(said, list):
        return bool(said) and all(isinstance(one, dict) and isinstance(one.get("role"), str) and "content" in one for one in said)
    return isinstance(said, str)


def _ids(opened: writer.Opened, chat: talks.Chat | None, said: Any) -> list[int]:
    if chat is not None:
        messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
        for message in messages:
            writer.check_text(json.dumps(message, ensure_ascii=False))
        return talks.prompt_ids(chat, messages)
    if not isinstance(said, str):
        raise InputError("is a conversation, and the model has no chat template. Name the format it knows with --template")
    writer.check_text(said)
    return writer.prompt_ids(opened, said)
