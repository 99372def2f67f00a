"""The recipe of `codedev eval`.

model: runs/first                       # or {endpoint: "http://127.0.0.1:8000/v1", name: …, key: OPENAI_API_KEY}
out: evals/first
tasks:
  - {name: held-out, kind: text, shards: shards/heldout}
  - {name: cmmlu, kind: choice, paths: [cmmlu/test], examples: [cmmlu/dev], shots: 5}
  - {name: gsm8k, kind: answer, paths: [gsm8k/test.jsonl], examples: [gsm8k/train.jsonl], shots: 8}
  - {name: mine, kind: lm_eval, task: mine.yaml}  # a task of lm-eval
  - {name: humaneval, kind: code, paths: [HumanEval.jsonl.gz], samples: 20, temperature: 0.8, k: [1, 10]}
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from codedev._recipe import Model

Shots = Annotated[int, Field(ge=0, le=1000)]
Paths = Annotated[tuple[str, ...], Field(min_length=1)]


class Endpoint(Model):
    """A server that speaks OpenAI's protocol."""

    endpoint: str  # the address up to /v1
    name: str  # of the model there
    key: str | None = None  # the environment variable that holds its key
    chat: bool = False  # prompts as messages of a person (/chat/completions), not as texts to go on from (/completions)
    together: int = Field(default=8, ge=1, le=256)  # requests at a time
    timeout: float = Field(default=120.0, gt=0, le=86_400)  # seconds of a request; it is tried four times


class _Task(Model):
    name: str = Field(pattern=r"^[\w.+-]{1,80}$")
    limit: int | None = Field(default=None, ge=1)  # questions or documents, chosen by a hash of their ids; null = all


class TextTask(_Task):
    """Bits per byte of documents."""

    kind: Literal["text"]
    shards: str | None = None  # a held-out shard directory: its documents, read from their corpus
    corpus: str | None = None  # where that corpus is now, or by itself a whole corpus
    paths: tuple[str, ...] = ()  # files and folders: .jsonl, .parquet, .txt, …
    text: str = "text"  # the column of `paths` that holds the text
    by: tuple[str, ...] = ("source", "kind", "lang")  # columns to tell figures by
    window: int = Field(default=0, ge=0)  # tokens a model sees at once; 0 = all that it has positions for, at most 8,192
    limit: int | None = Field(default=1000, ge=1)

    @model_validator(mode="after")
    def _one_origin(self) -> TextTask:
        if bool(self.paths) == bool(self.shards or self.corpus):
            raise ValueError("give `shards`, `corpus` or `paths`")
        return self


class _Questions(_Task):
    paths: Paths  # files and folders of questions
    columns: dict[str, str] = Field(default_factory=dict)  # {question, choices, answer, passage, group, id: key} of rows in no known layout
    instruction: str = ""  # stands before the questions
    shots: Shots = 0  # answered questions before each
    examples: tuple[str, ...] = ()  # files and folders that shots are taken from, the first ones of the question's group; null = `paths`

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: dict[str, str]) -> dict[str, str]:
        from codedev._errors import nearest
        from codedev.corpus.questions import COLUMNS

        for meaning in columns:
            if meaning not in COLUMNS:
                raise ValueError(f"unknown '{meaning}': {nearest(meaning, COLUMNS)}")
        return columns


class ChoiceTask(_Questions):
    """Multiple choice by log-likelihood."""

    kind: Literal["choice"]
    style: Literal["letters", "texts"] = "letters"  # what is compared: A, B, … after the listed choices, or the choices after the question
    language: Literal["en", "zh", "auto"] = "auto"  # of the word for answer; auto: by the question


class AnswerTask(_Questions):
    """Exact answers, written."""

    kind: Literal["answer"]
    max_tokens: int = Field(default=512, ge=1)
    stops: tuple[str, ...] = ("\nQuestion:", "\n问题：", "\n\n\n")
    samples: int = Field(default=1, ge=1, le=1000)  # answers to each; above 1 also the most frequent one counts
    temperature: float = Field(default=0.0, ge=0, le=1000)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0
    language: Literal["en", "zh", "auto"] = "auto"

    @model_validator(mode="after")
    def _drawn(self) -> AnswerTask:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("samples above 1 at temperature 0 would all be the same: set temperature")
        return self


class CodeTask(_Questions):
    """Programs that pass tests, in the sandbox."""

    kind: Literal["code"]
    max_tokens: int = Field(default=512, ge=1)
    samples: int = Field(default=1, ge=1, le=1000)
    k: tuple[Annotated[int, Field(ge=1)], ...] = (1,)
    temperature: float = Field(default=0.0, ge=0, le=1000)
    top_p: float = Field(default=0.95, gt=0, le=1)
    seed: int = 0
    timeout: float = Field(default=10.0, gt=0, le=3600)  # seconds of a program
    memory: int = Field(default=1024, ge=64)  # MB of a program
    strict: bool = True  # refuse where the sandbox lacks a layer

    @model_validator(mode="after")
    def _enough(self) -> CodeTask:
        if max(self.k) > self.samples:
            raise ValueError(f"pass@{max(self.k)} needs `samples` of at least {max(self.k)}")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("samples above 1 at temperature 0 would all be the same: set temperature")
        return self


class HarnessTask(_Task):
    """A task of lm-eval."""

    kind: Literal["lm_eval"]
    task: str  # a name that lm-eval knows, of which the data are on this machine; or a .yaml file in its format
    shots: int | None = Field(default=None, ge=0, le=1000)  # null = as the task says
    code: bool = False  # whether a .yaml file may name Python functions, which are run


Task = Annotated[TextTask | ChoiceTask | AnswerTask | CodeTask | HarnessTask, Field(discriminator="kind")]


class EvalRecipe(Model):
    model: str | Endpoint  # a run, a folder of config.json and *.safetensors or of an adapter; or an endpoint
    out: str
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    template: str | None = None  # null = prompts as they are; a chat template's name, or `own`: prompts are what a person says
    seed: int = 0  # of intervals
    corpora: tuple[str, ...] = ()  # corpora that the model was trained on: the questions in them are counted, and scored apart

    @field_validator("tasks")
    @classmethod
    def _named_once(cls, tasks: tuple[_Task, ...]) -> tuple[_Task, ...]:
        for name, count in Counter(task.name for task in tasks).items():
            if count > 1:
                raise ValueError(f"two tasks are named '{name}'")
        return tasks


def absolute(recipe: EvalRecipe, base: Path) -> EvalRecipe:
    """`recipe` with every path made absolute from `base`."""

    def at(path: str) -> str:
        return str((base / Path(path).expanduser()).resolve())

    tasks: list[Task] = []
    for task in recipe.tasks:
        if isinstance(task, HarnessTask):
            tasks.append(task.model_copy(update={"task": at(task.task)} if task.task.endswith((".yaml", ".yml")) else {}))
            continue
        moved: dict[str, object] = {"paths": tuple(map(at, task.paths))}
        if isinstance(task, TextTask):
            moved |= {name: at(value) for name in ("shards", "corpus") if (value := getattr(task, name)) is not None}
        else:
            moved["examples"] = tuple(map(at, task.examples))
        tasks.append(task.model_copy(update=moved))
    return recipe.model_copy(update={"tasks": tuple(tasks), "out": at(recipe.out), "corpora": tuple(map(at, recipe.corpora))})
