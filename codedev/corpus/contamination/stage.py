"""Contamination while a corpus is built: a stage that looks for questions in every document, and the filter that judges by what it found.

The columns are null for documents without a question, which are nearly all.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from codedev._run import content_key
from codedev.corpus.contamination.config import Decontaminate, Matching
from codedev.corpus.contamination.find import PERFECT, find
from codedev.corpus.contamination.find import VERSION as FINDING
from codedev.corpus.contamination.texts import Texts, key_of, read_texts
from codedev.corpus.stage import VERDICT, Filter, Stage

VERSION = 1
TOLD = 16  # questions of a document that are named, the surest first
SCORE = pa.field("q.seen.score", pa.float32())  # of the surest question, see find.py
QUESTIONS = pa.field(
    "q.seen.questions", pa.string()
)  # JSON list: task, question, part, score, overlap, start, end; of the first found, asked
COLUMNS = pa.schema([SCORE, QUESTIONS])


def matching_of(config: Decontaminate) -> Matching:
    return Matching(**config.model_dump(include=set(Matching.model_fields)))


def version(config: Decontaminate) -> str:
    """What the columns depend on: the questions, not where their files lie, and how they are looked for."""
    return content_key(VERSION, FINDING, key_of([Path(path) for path in config.against], config.columns), matching_of(config).model_dump())


def contamination_stage(config: Decontaminate) -> Stage:
    """A Stage that appends COLUMNS. Reads the questions: InputError where a file holds none."""
    matching = matching_of(config)
    texts = read_texts([Path(path) for path in config.against], config.columns, matching, PERFECT)

    def stage(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
        score = np.full(batch.num_rows, np.nan, np.float32)
        told: list[str | None] = [None] * batch.num_rows
        for row, matches in groupby(find(texts, batch.column("text"), matching).to_pylist(), itemgetter("row")):
            surest = sorted(matches, key=lambda match: (-match["score"], match["question"], match["part"]))
            score[row], told[row] = surest[0]["score"], _told(texts, surest[:TOLD])
        columns = [*batch.columns, pa.array(score, pa.float32(), from_pandas=True), pa.array(told, pa.string())]
        schema = pa.schema([*batch.schema, *COLUMNS], metadata=batch.schema.metadata)
        return pa.RecordBatch.from_arrays(columns, schema=schema), Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)

    return stage


def _told(texts: Texts, matches: list[dict[str, Any]]) -> str:
    rows = []
    for number, match in enumerate(matches):
        named = {name: texts.questions.column(name)[match["question"]].as_py() for name in ("task", "question")}
        figures = {name: round(match[name], 4) for name in ("score", "overlap")} | {name: match[name] for name in ("part", "start", "end")}
        rows.append(named | figures | ({} if number else {name: match[name] for name in ("found", "asked")}))
    return orjson.dumps(rows).decode()


def contamination_filter(config: Decontaminate) -> Filter:
    """Reason `seen_question`. The evidence names the score, the bound, and the surest question with both sides' text."""

    def judge(batch: pa.RecordBatch) -> pa.Array:
        reasons: list[str | None] = [None] * batch.num_rows
        evidence: list[str | None] = [None] * batch.num_rows
        scores = batch.column(SCORE.name)
        seen = pc.fill_null(pc.greater_equal(scores, pa.scalar(config.min_overlap, pa.float32())), False)
        for row in pc.indices_nonzero(seen).to_pylist() if config.action == "drop" else ():  # 5 µs each
            reasons[row] = "seen_question"
            questions = orjson.loads(batch.column(QUESTIONS.name)[row].as_py())
            measured = {SCORE.name: scores[row].as_py(), "bound": config.min_overlap}
            told = {name: questions[0][name] for name in ("task", "question", "found", "asked", "overlap", "part", "start", "end")}
            evidence[row] = orjson.dumps(measured | told | {"questions": len(questions)}).decode()
        return pa.StructArray.from_arrays([pa.array(reasons, pa.string()), pa.array(evidence, pa.string())], fields=list(VERDICT))

    return judge
