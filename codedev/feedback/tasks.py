"""Answers of a model -> tasks for people: `compare` shows two answers to the same prompt, `rate` one.

A line of the answers (JSON Lines, as `codedev generate --prompts … --n 4` writes them, or anybody's) has

    prompt    a text, or messages: a list of {role, content}
    answers   a list of texts, or of {text, model, …}; or `answer`, `completion`, `output`, `response`: one of them
    model     optional: who answered, never shown to the person who judges

A task's id is a hash of what is shown, so that the same answers loaded again are the same tasks, and what was judged stays judged.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from codedev._errors import InputError
from codedev._run import content_key

Kind = Literal["compare", "rate"]
ONE = ("answer", "completion", "output", "response")
MAX_LINE = 8 << 20  # bytes; nobody reads more than that


class Answer(NamedTuple):
    text: str
    model: str


class Task(NamedTuple):
    id: str
    kind: Kind
    prompt: list[dict[str, str]]  # messages of {role, content}
    answers: list[Answer]  # two to compare, one to rate


def read_tasks(paths: Iterable[Path], kind: Kind | Literal["auto"] = "auto", pairs: int = 1) -> Iterator[Task]:
    """The tasks of files of answers, in their order; `pairs`: of each prompt to compare at most so many pairs of its answers.

    auto compares where a prompt has more than one answer that differ, and rates where it has one. Answers that are the same text are one
    answer: nobody can prefer one of them. Raises InputError for a line that is no prompt with answers, with its place.
    """
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: there is no such file. Make one with codedev generate MODEL --prompts FILE --n 4 --out {path}")
        with open(path, "rb") as file:
            for number in itertools.count(1):
                line = file.readline(MAX_LINE + 1)
                if not line:
                    break
                where = f"{path}, line {number}"
                if len(line) > MAX_LINE:
                    raise InputError(f"{where}: is longer than {MAX_LINE >> 20} MiB. Leave it out: nobody can read it")
                if line.strip():
                    yield from _tasks(_row(line, where), where, kind, pairs)


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{where}: is no JSON ({error}). Give JSON Lines with prompt and answers") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: is no object. Give JSON Lines with prompt and answers")
    return row


def _tasks(row: dict[str, Any], where: str, kind: Kind | Literal["auto"], pairs: int) -> Iterator[Task]:
    prompt = _prompt(row, where)
    answers = _answers(row, where)
    if kind == "compare" or (kind == "auto" and len(answers) > 1):
        # Neighbours first, then those two apart: with few pairs every answer is seen before one is seen twice.
        ends = [(at, at + apart) for apart in range(1, len(answers)) for at in range(len(answers) - apart)]
        ends.sort(key=lambda pair: (pair[1] - pair[0], pair[0] % 2))
        chosen = [[answers[first], answers[second]] for first, second in ends[:pairs]]
    else:
        chosen = [[answer] for answer in answers]
    for shown in chosen:
        made: Kind = "compare" if len(shown) == 2 else "rate"
        # Which of two stands first is not told by the id: the same two answers are one task.
        yield Task(content_key(made, prompt, sorted(answer.text for answer in shown)), made, prompt, shown)


def _prompt(row: dict[str, Any], where: str) -> list[dict[str, str]]:
    given = row.get("messages", row.get("prompt", row.get("instruction")))
    if isinstance(given, str) and given.strip():
        extra = row.get("input")
        return [{"role": "user", "content": f"{given}\n\n{extra}" if isinstance(extra, str) and extra.strip() else given}]
    if isinstance(given, list) and given:
        messages = []
        for message in given:
            role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
            if not (isinstance(role, str) and isinstance(content, str)):
                raise InputError(f"{where}: a message has no role and content that are texts. Write them as {{role, content}}")
            messages.append({"role": role, "content": content})
        return messages
    raise InputError(f"{where}: has no prompt. Give it `prompt`, a text, or `messages`, a list of {{role, content}}")


def _answers(row: dict[str, Any], where: str) -> list[Answer]:
    given = row.get("answers", next(([row[name]] for name in ONE if name in row), None))
    if not isinstance(given, list) or not given:
        raise InputError(f"{where}: has no answers. Give it `answers`, a list of texts, or `answer`, one text")
    found: dict[str, Answer] = {}
    for answer in given:
        fields = answer if isinstance(answer, dict) else {"text": answer}
        text, model = fields.get("text"), fields.get("model", row.get("model", ""))
        if not isinstance(text, str):
            raise InputError(f"{where}: an answer is no text. Write answers as texts, or as {{text: …}}")
        found.setdefault(text, Answer(text, str(model)))
    return list(found.values())
