"""What a train recipe says of the stages dpo, kto, grpo and rloo, whose losses are those of TRL."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from codedev._recipe import Model


class DpoRecipe(Model):
    """Direct preference optimisation (Rafailov et al. 2023) and its kin."""

    # ipo: Azar et al. 2024; hinge: Zhao et al. 2023; robust: Chowdhury et al. 2024; apo_zero, apo_down: D'Oosterlinck et al. 2024
    loss: Literal["sigmoid", "ipo", "hinge", "robust", "apo_zero", "apo_down"] = "sigmoid"
    beta: float = Field(default=0.1, gt=0, le=1e6)  # how dear it is to leave the reference
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)  # of sigmoid and robust: share of pairs that are the wrong way round

    @model_validator(mode="after")
    def _smoothing_fits(self) -> DpoRecipe:
        if self.label_smoothing and self.loss not in ("sigmoid", "robust"):
            raise ValueError(f"label_smoothing: has no effect with loss {self.loss}. Leave it out")
        if self.loss == "robust" and not self.label_smoothing:
            raise ValueError("label_smoothing: loss robust needs the share of pairs that are the wrong way round, for example 0.1")
        return self


class KtoRecipe(Model):
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024). What the policy has left the reference by is measured in each micro-batch,
    on answers to other prompts of it: batch.micro_rows is part of the result here, and wants to be 4 or more."""

    beta: float = Field(default=0.1, gt=0, le=1e6)
    desirable_weight: float = Field(default=1.0, gt=0, le=1e6)  # of good answers; good / bad x weights belong between 1 and 4/3
    undesirable_weight: float = Field(default=1.0, gt=0, le=1e6)


class SampledRecipe(Model):
    """What grpo and rloo have in common: a step samples `answers` to each of batch.rows / answers prompts, and learns from them."""

    answers: int = Field(default=8, ge=2, le=1 << 16)  # to a prompt: each is judged against the others
    max_tokens: int = Field(default=256, gt=0, le=1 << 20)  # of an answer; one that has not ended by then earns what it earns
    temperature: float = Field(default=1.0, gt=0, le=100)  # that they are drawn at; log-probabilities are at this temperature too
    epochs: int = Field(default=1, gt=0, le=100)  # times that a step learns from its answers, each an update of the weights
    clip: float = Field(default=0.2, gt=0, le=1e6)  # how far an epoch may move the probability ratio from 1
    max_kl: float = Field(default=50.0, gt=0)  # nats an answer above which an alarm is raised
    on_alarm: Literal["note", "stop"] = "note"  # what an alarm does: told of on the run page and in metrics, or the run ends there


class GrpoRecipe(SampledRecipe):
    """Group relative policy optimisation (Shao et al. 2024)."""

    # dapo (Yu et al. 2025): a mean over the step's tokens; grpo: over each answer's, then over answers; dr_grpo (Liu et al. 2025): over
    # max_tokens; bnpo: over a micro-batch's tokens; cispo: the ratio is clipped and not the gradient (MiniMax 2025). Of bnpo alone the size
    # of a micro-batch is part of the result.
    loss: Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo"] = "dapo"
    # Of the divergence from the reference in the loss: the paper's value. TRL's own default, 0, keeps no reference, and rewards that can be
    # gamed then are; 0 here means the same, and saves the reference's memory and time.
    beta: float = Field(default=0.04, ge=0, le=1e6)
    clip_high: float | None = Field(default=None, gt=0, le=1e6)  # upwards; null = as clip. Of cispo the highest ratio: null = 5
    scale: Literal["group", "batch", "none"] = "group"  # whose deviation advantages are divided by


class RlooRecipe(SampledRecipe):
    """REINFORCE leave-one-out (Ahmadian et al. 2024)."""

    beta: float = Field(default=0.05, ge=0, le=1e6)  # of the divergence of the whole answer, taken off its reward
    normalise: bool = False  # advantages to mean 0 and deviation 1 over the step
