"""Exact answers: the model writes, the answer is taken out of what it wrote and compared with the gold one (graders.py).

exact is the share of right answers over all samples; with several samples of a question, majority is the share of questions whose most
frequent answer is right (Wang et al. 2022), the first of equally frequent ones.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from codedev._run import Progress
from codedev.eval import graders, intervals
from codedev.eval.lm import LM, Sampling
from codedev.eval.recipe import AnswerTask
from codedev.eval.tasks.asked import Asked, Measured, Row, by_group, chinese, prompt, shots
from codedev.eval.tasks.asked import questions as read

VERSION = 1
METRICS = ("exact", "majority")
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("asked", pa.large_string()),
        ("gold", pa.large_string()),
        ("said", pa.large_string()),  # the answer taken out of the first sample
        ("score", pa.float64()),  # share of right samples
        ("texts", pa.list_(pa.large_string())),  # all that was written
        ("majority", pa.float64()),
        ("cut", pa.int64()),  # samples that reached max_tokens
    ]
)


def questions(task: AnswerTask) -> Asked:
    return read(task)


def ask(task: AnswerTask, asked: Asked, at: range, lm: LM, progress: Progress) -> pa.Table:
    rows = asked.rows(at)
    prompts = [_prompt(task, asked, row) for row in rows]
    sampling = Sampling(task.samples, task.max_tokens, task.temperature, task.top_p, task.seed, task.stops)
    found = []
    for row, before, written in zip(rows, prompts, lm.write(prompts, sampling, progress, first=at.start), strict=True):
        gold, texts = row["golds"][0], [one.text for one in written]
        right = graders.answer(texts, [gold] * len(texts))
        given = [graders.final(text) for text in texts]
        [(frequent, _)] = Counter(given).most_common(1)
        found.append(
            {
                "id": row["id"],
                "group": row["group"],
                "asked": before,
                "gold": graders.final(gold) if not graders.short(gold) else gold,
                "said": given[0],
                "score": float(np.mean(right)),
                "texts": texts,
                "majority": right[given.index(frequent)],
                "cut": sum(one.why == "length" for one in written),
            }
        )
    return pa.Table.from_pylist(found, _SCHEMA)


def measure(task: AnswerTask, records: pa.Table, seed: int) -> Measured:
    def both(some: pa.Table) -> dict[str, intervals.Estimate]:
        scores = some.column("score").to_numpy()
        if task.samples == 1:
            return {"exact": intervals.share(scores)}
        return {"exact": intervals.mean(scores, seed), "majority": intervals.share(some.column("majority").to_numpy())}

    return by_group(records, both)


def _prompt(task: AnswerTask, asked: Asked, row: Row) -> str:
    answered = [f"{_told(task, shot)} {shot['golds'][0].strip()}" for shot in (shots(task, asked, row) if task.shots else ())]
    return prompt(task.instruction, [*answered, _told(task, row)])


def _told(task: AnswerTask, row: Row) -> str:
    passage = f"{row['passage'].strip()}\n\n" if row["passage"].strip() else ""
    question = row["question"].strip()
    return f"{passage}问题：{question}\n答案：" if chinese(task.language, row) else f"{passage}Question: {question}\nAnswer:"
