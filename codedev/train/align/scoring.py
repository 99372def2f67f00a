"""A trained reward model at work: answers as text in, what they are worth out.

A run of stage reward, or a folder with a model (config.json) or an adapter (adapter_config.json). It reads with the tokenizer and the chat
template beside its weights, whatever the model is that gave the answers; a reward comes in the scale it was given in (reward.json).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from codedev._errors import InputError, RunError
from codedev._run import read_json
from codedev._terminal import note
from codedev.tokenize.chat.budget import RenderError
from codedev.tokenize.chat.render import Message, Template
from codedev.tokenize.chat.tables import answered
from codedev.tokenize.chat.templates import load_template
from codedev.tokenize.vocabulary import Vocabulary, load_vocabulary
from codedev.train import model as models
from codedev.train import tune
from codedev.train.align import lent, reward_head
from codedev.train.align.reward_data import Scale
from codedev.train.align.rewards import Asked
from codedev.train.compute import parallel
from codedev.train.use.companions import TEMPLATE, own_template


class RewardModel(NamedTuple):
    """A reward model ready to score."""

    name: str  # in errors
    model: Any
    vocabulary: Vocabulary
    template: Template
    scale: Scale
    positions: int | None  # prompt and answer together; None: any number
    score_ids: reward_head.Score
    batch: int

    def score(self, asked: Sequence[Asked]) -> list[float]:
        """What each answer is worth. RunError for one that cannot be read, is too long, or whose reward is no number."""
        sequences = self.sequences(asked)
        found = self.scale.mean + self.scale.deviation * self.score_ids(sequences, self.batch)
        for one, number in zip(asked, found.tolist(), strict=True):
            if not math.isfinite(number):
                raise RunError(
                    f"reward model {self.name}: gave {number} for the answer {one.answer[:40]!r} to the prompt {one.document}. Look "
                    "whether its weights are whole"
                )
        rewards: list[float] = found.tolist()
        return rewards

    def sequences(self, asked: Sequence[Asked]) -> list[np.ndarray]:
        """The tokens of each prompt and its answer, as the model learned them."""
        talks = [(messages_of(one), one.answer) for one in asked]
        try:
            parts = answered(self.vocabulary, self.template, talks)
        except RenderError as error:
            raise RunError(f"reward model {self.name}: its chat template refuses a conversation: {error}") from None
        found = [np.concatenate(pair).astype(np.int64) for pair in parts]
        for one, ids in zip(asked, found, strict=True):
            if not len(ids) or (self.positions is not None and len(ids) > self.positions):
                why = f"is {len(ids):,} tokens long, and the model has {self.positions:,} positions" if len(ids) else "is no token"
                raise RunError(
                    f"reward model {self.name}: the prompt {one.document} with its answer {why}. Allow fewer tokens of prompt or answer"
                )
        return found


def messages_of(one: Asked) -> list[Message]:
    """The prompt as a conversation; a text alone is what a user says."""
    if one.messages is None:
        return [{"role": "user", "content": one.prompt}]
    found: list[Message] = json.loads(one.messages)
    return found


def open_reward_model(
    path: Path, *, name: str | None = None, device: torch.device | None = None, batch: int = 16, share: Any = None
) -> RewardModel:
    """The reward model at `path`. `batch`: answers computed together: memory, not meaning. InputError for what is none.

    `share`: a model with an adapter, not split by FSDP, on whose base an adapter at `path` may stand instead of on one of its own
    (lent.py); where it cannot it gets its own, and the reason is told.
    """
    folder = folder_of(path)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    why = "no model shares its base" if share is None else lent.why_not(share, folder)
    if share is not None and why:
        note(f"reward model {name or path}: has a base of its own in memory, beside the policy's: {why}")
    model = open_model(folder, device) if why else share
    vocabulary = load_vocabulary(folder, need_eos=False)
    rows = models.vocabulary(model)
    if vocabulary.size > rows:
        raise InputError(
            f"{folder}: its tokenizer has ids up to {vocabulary.size - 1}, its embedding {rows} rows. Put the tokenizer of its "
            "training there"
        )
    reward_head.check_tokenizer(folder, vocabulary)
    if own_template(folder) is None:
        raise InputError(f"{folder}: has no {TEMPLATE}, how it reads a conversation is not known. Put that of its training there")
    called = reward_head.Scores(model) if why else lent.lend(share, folder)
    module = parallel.distribute(called, "single", parallel.World(0, 1, device), dtype).eval()
    place = parallel.World(0, 1, device)
    score = reward_head.scorer(module, reward_head.call_of(module, device, dtype), place)
    return RewardModel(
        name=name or str(path),
        model=model,
        vocabulary=vocabulary,
        template=load_template("tokenizer", vocabulary, folder),
        scale=reward_head.scale_of(folder),
        positions=getattr(model.config.get_text_config(), "max_position_embeddings", None),
        score_ids=score,
        batch=batch,
    )


def folder_of(path: Path) -> Path:
    """Of a run its model."""
    return path / "model" if (path / "recipe.yaml").is_file() and (path / "model").is_dir() else path


def open_model(folder: Path, device: torch.device | None = None) -> Any:
    """The model in `folder`, or its base with the adapter there. InputError where it gives no single number."""
    if (folder / tune.CONFIG).is_file():
        config = read_json(folder / tune.CONFIG)
        if not isinstance(config, dict) or config.get("task_type") != "SEQ_CLS":
            raise InputError(f"{folder}: is an adapter of a language model, not of a reward model. Train one with stage: reward")
        return tune.open_adapter(folder, device=device, head=models.SCORE)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{folder}: there is no reward model: neither config.json nor {tune.CONFIG}. Give a run of stage reward or its model"
        )
    if not reward_head.has_head(folder):
        raise InputError(f"{folder}: gives no number (it has no score.weight), it is no reward model. Train one with stage: reward")
    return models.load(folder, "sdpa", head=models.SCORE)
