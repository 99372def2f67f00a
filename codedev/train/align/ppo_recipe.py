"""What a train recipe says of stage ppo."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from codedev._recipe import Model


class KlRecipe(Model):
    """What it costs to leave the reference: taken off the reward of every token (Ziegler et al. 2019)."""

    coef: float = Field(default=0.05, ge=0, le=1e6)
    target: float | None = Field(default=None, gt=0, le=1e6)  # nats an answer that `coef` is moved towards; null = it stays
    horizon: float = Field(default=10_000.0, gt=0)  # answers in which an error of 20 % moves it by a factor e^0.2
    estimator: Literal["k1", "k2", "k3"] = "k1"  # of a token's divergence (Schulman 2020): k1 is unbiased


class PpoRecipe(Model):
    """Proximal policy optimisation (Schulman et al. 2017): an update samples batch.rows answers, rewards them, and learns from them."""

    answers: int = Field(default=1, ge=1, le=1 << 16)  # to a prompt
    max_tokens: int = Field(default=256, gt=0, le=1 << 20)  # of an answer
    temperature: float = Field(default=1.0, gt=0, le=100)  # that they are drawn at; probabilities are at this temperature too
    epochs: int = Field(default=2, gt=0, le=100)  # times that an update learns from its answers
    minibatches: int = Field(default=2, gt=0, le=1 << 16)  # steps of the optimizer in an epoch
    kl: KlRecipe = KlRecipe()
    clip: float = Field(default=0.2, gt=0, le=1e6)  # how far the ratio of probabilities may move from 1 in an update
    value_clip: float = Field(default=0.2, gt=0, le=1e6)  # how far a value may move in an update
    value_coef: float = Field(default=0.1, ge=0, le=1e6)  # weight of the value loss: value and policy share one trunk
    value_lr: float | None = Field(default=None, gt=0, le=1e6)  # of the value head, before the schedule; null = 10 x optim.lr
    value_warmup: int = Field(default=0, ge=0)  # updates in which the value head alone learns
    gamma: float = Field(default=1.0, ge=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1)
    whiten: bool = True  # advantages to mean 0 and deviation 1 over an update
    whiten_rewards: bool = False  # scores too, their mean kept
    missing_end: float | None = Field(default=None, ge=0, le=1e6)  # taken off the score of an answer that met max_tokens; null = nothing
    entropy_coef: float = Field(default=0.0, ge=0, le=1e6)  # weight of the entropy, which is to stay high
    max_kl: float = Field(default=50.0, gt=0)  # nats an answer above which an alarm is raised
    on_alarm: Literal["note", "stop"] = "note"  # what an alarm does: told of on the run page and in metrics, or the run ends there
