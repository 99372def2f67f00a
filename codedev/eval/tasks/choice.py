"""Multiple choice by log-likelihood: of the choices of a question, which one does the model think likeliest.

    letters   the choices are listed after the question, and A, B, … are compared
    texts     the choices themselves are compared as what follows the question

acc takes the likeliest choice, acc_norm the likeliest a character, which long choices do not lose by. Ties go to the earlier choice; a
question with several right choices is right with any of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from codedev._run import Progress
from codedev.corpus.questions import LETTERS
from codedev.eval import intervals
from codedev.eval.lm import LM
from codedev.eval.recipe import ChoiceTask
from codedev.eval.tasks.asked import Asked, Measured, Row, by_group, chinese, details, prompt, shots
from codedev.eval.tasks.asked import questions as read

VERSION = 1
METRICS = ("acc", "acc_norm")
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("asked", pa.large_string()),
        ("gold", pa.large_string()),  # letters
        ("said", pa.large_string()),  # the letter of the likeliest
        ("score", pa.float64()),
        ("said_norm", pa.large_string()),
        ("score_norm", pa.float64()),
        ("nats", pa.list_(pa.float64())),  # of each choice
    ]
)


def questions(task: ChoiceTask) -> Asked:
    return read(task)


def ask(task: ChoiceTask, asked: Asked, at: range, lm: LM, progress: Progress) -> pa.Table:
    rows = asked.rows(at)
    prompts = [_prompt(task, asked, row) for row in rows]
    texts = [_texts(task, row) for row in rows]
    told = lm.continued([(before, text) for before, own in zip(prompts, texts, strict=True) for text in own], progress)
    found, start = [], 0
    for row, before, own in zip(rows, prompts, texts, strict=True):
        nats = np.array([one.nats for one in told[start : start + len(own)]])
        start += len(own)
        lengths = np.array([max(1, len(text.strip())) for text in own])
        best, best_norm = LETTERS[int(np.argmin(nats))], LETTERS[int(np.argmin(nats / lengths))]
        found.append(
            {
                "id": row["id"],
                "group": row["group"],
                "asked": before,
                "gold": "".join(row["golds"]),
                "said": best,
                "score": float(best in row["golds"]),
                "said_norm": best_norm,
                "score_norm": float(best_norm in row["golds"]),
                "nats": nats.tolist(),
            }
        )
    return pa.Table.from_pylist(found, _SCHEMA)


def measure(task: ChoiceTask, records: pa.Table, seed: int) -> Measured:
    def both(some: pa.Table) -> dict[str, intervals.Estimate]:
        columns = zip(METRICS, ("score", "score_norm"), strict=True)
        return {name: intervals.share(some.column(column).to_numpy()) for name, column in columns}

    return by_group(records, both)


def _prompt(task: ChoiceTask, asked: Asked, row: Row) -> str:
    answered = []
    for shot in shots(task, asked, row) if task.shots else ():
        gold = LETTERS.index(shot["golds"][0])
        answered.append(_told(task, shot) + _texts(task, shot)[gold])
    return prompt(task.instruction, [*answered, _told(task, row)])


def _told(task: ChoiceTask, row: Row) -> str:
    passage = f"{row['passage'].strip()}\n\n" if row["passage"].strip() else ""
    said = row["question"].strip()
    if task.style == "texts":
        return passage + (said if details(row).get("continues") else f"{_word(task, row, 'question')}{said}\n{_word(task, row, 'answer')}")
    listed = "\n".join(f"{letter}. {choice.strip()}" for letter, choice in zip(LETTERS, row["choices"], strict=False))
    return f"{passage}{said}\n{listed}\n{_word(task, row, 'answer')}"


def _texts(task: ChoiceTask, row: Row) -> Sequence[str]:
    """What is compared."""
    blank = "" if chinese(task.language, row) else " "
    if task.style == "texts":
        return [blank + choice.strip() for choice in row["choices"]]
    return [blank + LETTERS[number] for number in range(len(row["choices"]))]


_WORDS = {"question": ("Question: ", "问题："), "answer": ("Answer:", "答案：")}


def _word(task: ChoiceTask, row: Row, word: str) -> str:
    return _WORDS[word][chinese(task.language, row)]
