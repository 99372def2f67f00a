"""The steps of grpo and rloo: answers are sampled and rewarded by our own code (rollout.py, rewards.py), judged and learned from by TRL's.

    sample    answers to each prompt, each with random numbers of its own: they do not depend on what is sampled beside them
    earn      what each answer is worth, as text
    judge     advantages, log-probabilities before the step and those of the reference; all written down (rollouts.py)
    learn     `epochs` times an update of the weights from all of the step's answers

    RUN/checkpoints/step-*/alarms.json     what alarms.py knows of earlier steps

Rewards that fail end the run before anything is learned of the step: the weights are those of the step before, and are saved.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from codedev._errors import RunError
from codedev._run import Progress, read_json, write_json
from codedev.tokenize.vocabulary import Vocabulary, decode
from codedev.train import tune
from codedev.train.align import alarms, rollouts
from codedev.train.align.preference_data import Feed
from codedev.train.align.rewards import Asked, Earned, earn, open_source
from codedev.train.align.rollout import Sampled, sample
from codedev.train.align.scoring import folder_of
from codedev.train.align.trl_trainers import Trainer, micro_of, section_of
from codedev.train.checkpoint import State
from codedev.train.compute.flops import flops_of_step
from codedev.train.loop import OutsideError, Task
from codedev.train.recipe import TrainRecipe
from codedev.train.schedule import lr_at

TOGETHER = 64  # answers sampled at once: memory, not meaning
HELD_OUT = 1 << 40  # numbers of answers to held-out prompts begin here
STATE = "alarms.json"


@dataclass
class Rewards:
    recipe: TrainRecipe
    vocabulary: Vocabulary
    sources: list[Any]  # Source; None: of a reward model that waits for the policy, whose base it may share

    def asked(self, feed: Feed, numbers: np.ndarray, answers: Sequence[np.ndarray]) -> list[Asked]:
        """The answers, one to each row of `numbers`, as rewards read them: special tokens are left out of their texts."""
        return feed.asked(numbers, [decode(self.vocabulary, ids.tolist(), specials=False) for ids in answers])

    def of(self, asked: Sequence[Asked]) -> Earned:
        """What the answers earn."""
        try:
            return earn(self.sources, asked)
        except RunError as error:
            raise OutsideError(str(error)) from None

    def meet(self, policy: Any) -> None:
        """Open the reward models that waited for the policy, on its base where they can stand there."""
        for at, source in enumerate(self.sources):
            if source is None:
                self.sources[at] = open_source(self.recipe.rewards[at], Path(), share=policy)


@contextmanager
def opened(recipe: TrainRecipe, vocabulary: Vocabulary) -> Iterator[Rewards | None]:
    """The sources of rewards, as long as a run needs them; None for a stage that samples nothing."""
    made = Rewards(recipe, vocabulary, [])
    try:
        for one in recipe.rewards:
            adapter = one.model is not None and (folder_of(Path(one.model)) / tune.CONFIG).is_file()
            made.sources.append(None if adapter and recipe.tune in ("lora", "qlora") else open_source(one, Path()))
        yield made if recipe.rewards else None
    finally:
        for source in made.sources:
            if source is not None:
                source.close()


def answered(recipe: TrainRecipe, trainer: Trainer, feed: Feed, rows: np.ndarray, numbers: Sequence[int]) -> Sampled:
    """An answer to the prompt of each row; `numbers`: of the answers, which with run.seed decide what is drawn."""
    section, prompts = section_of(recipe), feed.prompts(rows)
    settings: dict[str, Any] = {"max_tokens": section.max_tokens, "temperature": section.temperature, "batch": TOGETHER}
    settings |= {"seed": recipe.run.seed, "stop": feed.stops, "pad": feed.vocabulary.pad_id}
    lengths = np.array([len(prompt) for prompt in prompts])
    # A prompt or prefix that is trained stands before what pads a shorter prompt: its distance from the text would depend on the others.
    groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)] if recipe.tune in ("prompt", "prefix") else []
    groups = groups or [np.arange(len(prompts))]
    ids: list[Any] = [None] * len(prompts)
    logprobs: list[Any] = [None] * len(prompts)
    ended = np.zeros(len(prompts), bool)
    with trainer.autocast(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Position ids are not supported")  # they begin at 0 and rise, as it would have them
        for group in groups:
            drawn = sample(trainer.model, [prompts[i] for i in group], [numbers[int(i)] for i in group], **settings)
            for place, one, logprob in zip(group, drawn.ids, drawn.logprobs, strict=True):
                ids[place], logprobs[place] = one, logprob
            ended[group] = drawn.ended
    return Sampled(ids, logprobs, ended)


def trains(
    recipe: TrainRecipe, feed: Feed, rewards: Rewards, known: dict[str, Any]
) -> Callable[[Task, State], Iterator[tuple[State, dict[str, Any]]]]:
    """What takes the place of loop.train. `known`: of alarms.py."""
    section, size = section_of(recipe), micro_of(recipe)

    def train(task: Task, state: State) -> Iterator[tuple[State, dict[str, Any]]]:
        trainer: Trainer = task.forward
        plan = task.plan
        parameters = [parameter for group in task.optimizer.param_groups for parameter in group["params"]]
        parts = plan.rows // size
        began = time.perf_counter()
        for step in range(state.step, plan.steps):
            rate = lr_at(task.optim, step, plan.steps)
            for group in task.optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(int(np.random.SeedSequence([plan.seed, step]).generate_state(1, np.uint64)[0]))
            rows = plan.numbers(step, feed)
            first = step * plan.rows
            drawn = answered(recipe, trainer, feed, rows, range(first, first + plan.rows))
            asked = rewards.asked(feed, rows, drawn.ids)
            earned = rewards.of(asked)
            prompts = feed.prompts(rows)
            task.model.train()
            judged = trainer.judged(prompts, [ids.tolist() for ids in drawn.ids], earned.scores.tolist())
            losses, norms, learned = [], [], list[np.ndarray]()
            verdict = None
            measured: dict[str, Any] = {}
            for epoch in range(section.epochs):
                loss = 0.0
                for at in range(0, plan.rows, size):
                    found: Any = trainer.answer_loss(judged, slice(at, at + size), parts)
                    found.backward()
                    loss += float(found.detach())
                    if epoch == 0:
                        learned += _each(trainer.logprobs, drawn.ids[at : at + size])
                if epoch == 0:
                    made = _rollout(list(range(first, first + plan.rows)), asked, drawn, earned, judged["advantages"], learned, trainer)
                    rollouts.write(Path(recipe.run.dir), step + 1, 0, made)
                    measured = _measured(made, section.answers)
                norm = float(nn.utils.clip_grad_norm_(parameters, task.optim.clip or math.inf))
                verdict = task.policy.judge(state.watched, step, loss, norm)
                if verdict.reason is None:
                    task.optimizer.step()
                task.optimizer.zero_grad(set_to_none=True)
                losses.append(loss)
                norms.append(norm)
                if verdict.reason is not None:
                    break
            assert verdict is not None
            lengths = np.array([len(prompt) + len(ids) for prompt, ids in zip(prompts, drawn.ids, strict=True)])
            answers, tokens = sum(map(len, drawn.ids)), int(lengths.sum())
            seconds = time.perf_counter() - began
            flops = flops_of_step(task.parameters, task.attention_width, tokens * section.epochs, int((lengths**2).sum()) * section.epochs)
            state = state._replace(step=step + 1, tokens_seen=state.tokens_seen + tokens, watched=verdict.watched)
            told = verdict.told | ({"loss": float(np.mean(losses))} if "loss" in verdict.told else {})
            row = {
                "step": state.step,
                **told,
                **measured,
                **trainer.measures(),
                "lr": rate,
                "grad_norm": max(norms),
                "tokens_seen": state.tokens_seen,
                "supervised": answers,
                "tokens_per_second": round(tokens / seconds, 1),
                "mfu": round(flops / seconds / task.peak_flops, 4) if task.peak_flops else None,
            }
            said = alarms.raised(known, row, section.max_kl, recipe.stage)
            yield state, row | ({"alarm": " ".join(said)} if said else {})
            if said and section.on_alarm == "stop":
                raise alarms.stopped(state.step, said, recipe.stage)
            began = time.perf_counter()

    return train


def measure(recipe: TrainRecipe, trainer: Trainer, heldout: Feed, rewards: Rewards, group: int, told: Progress) -> dict[str, Any]:
    """What one answer to each held-out prompt earns, always drawn with the same random numbers; of ppo less what a missing end costs."""
    missing = getattr(section_of(recipe), "missing_end", None) or 0.0
    scores, parts, ended, lengths = [], [], 0, 0
    for some in np.array_split(np.arange(heldout.rows), -(-heldout.rows // TOGETHER)):
        drawn = answered(recipe, trainer, heldout, some, [HELD_OUT + number for number in some.tolist()])
        earned = rewards.of(rewards.asked(heldout, some, drawn.ids))
        scores.append(earned.scores - missing * ~drawn.ended)
        parts.append(earned.parts)
        ended += int(drawn.ended.sum())
        lengths += sum(map(len, drawn.ids))
        told("evaluate", int(some[-1]) + 1, heldout.rows)
    names = parts[0] if len(parts[0]) > 1 else ()
    return {
        "heldout_reward": float(np.concatenate(scores).mean()),
        **{f"heldout_reward/{name}": float(np.concatenate([one[name] for one in parts]).mean()) for name in names},
        "heldout_unended": 1 - ended / heldout.rows,
        "heldout_answer_tokens": lengths / heldout.rows,
    }


def keep(target: Path, known: dict[str, Any]) -> None:
    """Write what a checkpoint has beside the model."""
    write_json(target / STATE, known)


def take(path: Path, known: dict[str, Any]) -> None:
    """Go on from what `keep` wrote."""
    try:
        found = read_json(path / STATE)
        known.update({"seen": int(found["seen"]), **{name: dict(found[name]) for name in ("first", "late")}, "said": list(found["said"])})
    except (OSError, KeyError, TypeError, ValueError):
        raise RunError(
            f"{path / STATE}: is not as it was written. Remove this checkpoint, and the run goes on from the one before"
        ) from None


def _rollout(
    numbers: list[int],
    asked: Sequence[Asked],
    drawn: Sampled,
    earned: Earned,
    advantages: torch.Tensor,
    learned: list[np.ndarray],
    trainer: Trainer,
) -> rollouts.Rollout:
    """The answers of a step, before anything is learned of them."""
    each = {
        "drawn": drawn.logprobs,
        "logprobs": learned,
        "advantages": [np.full(len(ids), advantage) for ids, advantage in zip(drawn.ids, advantages.float().cpu().tolist(), strict=True)],
    }
    kl = None
    if trainer.of_reference is not None:
        each["reference"] = _each(trainer.of_reference, drawn.ids)
        kl = np.array([float((own - other).sum()) for own, other in zip(learned, each["reference"], strict=True)])
    return rollouts.Rollout(
        np.array(numbers),
        [one.document for one in asked],
        [one.prompt for one in asked],
        [one.answer for one in asked],
        drawn.ids,
        drawn.ended,
        earned.scores,
        kl,
        earned.parts,
        {name: _padded(rows) for name, rows in each.items()},
    )


def _measured(made: rollouts.Rollout, answers: int) -> dict[str, Any]:
    """What a step's answers are like. mismatch: the largest difference of ln p of a token as it is learned from to that it was drawn with:
    rounding, unless something is wrong."""
    groups = made.scores.reshape(-1, answers)
    repeated, grams = alarms.repetition(made.ids)
    return {
        "reward": float(made.scores.mean()),
        "reward_std": float(made.scores.std()),
        "groups_alike": float((groups == groups[:, :1]).all(1).mean()),  # of them nothing is learned
        **({"kl": float(made.kl.mean())} if made.kl is not None else {}),
        "answer_tokens": float(np.mean([len(ids) for ids in made.ids])),
        "unended": float(1 - made.ended.mean()),
        "repetition": repeated / grams if grams else 0.0,
        "mismatch": float(np.abs(made.each["drawn"] - made.each["logprobs"]).max()),
        **{f"reward/{name}": float(part.mean()) for name, part in made.parts.items() if len(made.parts) > 1},
    }


def _each(found: torch.Tensor, ids: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The numbers of each answer's tokens, of (answers, tokens) padded at their ends."""
    return [row[: len(one)] for row, one in zip(found.float().cpu().numpy(), ids, strict=True)]


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    out = np.zeros((len(rows), max(map(len, rows))), np.float32)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
    return out
