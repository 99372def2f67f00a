"""What a train recipe says of rewards: where they come from, and with what weight they are added up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field, model_validator

from codedev._recipe import Model


class RewardRecipe(Model):
    """One source of rewards: exactly one of model, function and grader."""

    model: str | None = None  # a run of stage reward, or its model's folder
    function: str | None = None  # FILE.py:NAME, called as NAME(prompts, answers, references) -> a number each
    grader: Literal["answer", "tests"] | None = None  # of verifiable answers (codedev.eval.graders): right 1, wrong 0
    column: str | None = None  # of a grader: where the prompt's reference says what is right; null = answer, or tests
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]+$")  # in metrics and rollouts; null = told by the source
    weight: float = Field(default=1.0, ge=-1e6, le=1e6)
    seconds: float = Field(default=60.0, gt=0, le=86_400)  # for a batch of answers (function), for one program (grader tests: at most 60)
    sandbox: Literal["strict", "lenient"] = "strict"  # of grader tests: without all its walls it refuses, or goes on behind those there are

    @model_validator(mode="after")
    def _one_source(self) -> RewardRecipe:
        if sum(source is not None for source in (self.model, self.function, self.grader)) != 1:
            raise ValueError("give exactly one of `model`, `function` and `grader`")
        if self.function is not None and not (":" in self.function and self.function.rpartition(":")[2].isidentifier()):
            raise ValueError("function is FILE.py:NAME, for example rewards.py:score")
        if self.grader is None and self.column is not None:
            raise ValueError("column: says where a grader finds what is right, and there is no grader. Leave it out")
        return self

    @property
    def shown(self) -> str:
        """Its name in metrics and rollouts."""
        return self.name or self.grader or (self.function or "").rpartition(":")[2] or "model"

    def relocated(self, move: Callable[[str], str]) -> RewardRecipe:
        """With `move` applied to its paths."""
        if self.function is not None:
            file, _, name = self.function.rpartition(":")
            return self.model_copy(update={"function": f"{move(file)}:{name}"})
        return self if self.model is None else self.model_copy(update={"model": move(self.model)})


class RewardModelRecipe(Model):
    """How stage reward learns what answers are worth; of pairs alone."""

    margin: str | None = None  # column that says by how much the chosen answer is better, in units of the reward; null = any amount will do
    # Weight of (r_chosen + r_rejected)², without which rewards may lie about any number (Eisenstein et al. 2023); 0 = none.
    center: float = Field(default=0.01, ge=0, le=1e6)
