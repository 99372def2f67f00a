"""Stage `ppo`: answers are sampled, rewarded, and learned from, the policy kept near a reference (objectives.py has the arithmetic).

    sample    batch.rows answers of an update, each with random numbers of its own (rollout.py)
    earn      what each is worth: a reward model, a function, a grader, or their weighted sum (rewards.py)
    judge     ln p and values before the update, ln p of the reference, rewards by token, advantages; all written down (rollouts.py)
    learn     epochs x minibatches steps of the optimizer, on clipped losses of policy and values

Policy, values and reference share one trunk: with an adapter the reference is the same weights with the adapter off, otherwise a frozen
copy of what the run began with. Processes share out the answers; which of them come together in a minibatch does not depend on how many
there are, nor does anything else but rounding. Rewards that fail end the run before anything is learned of the update.

    RUN/checkpoints/step-*/value.safetensors, ppo.json     the value head and its optimizer; the coefficient of the divergence, alarms
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from codedev._errors import RecipeError, RunError
from codedev._run import Progress, read_json, write_json
from codedev.train import pretrain, tune
from codedev.train.align import alarms, objectives, rollouts, sampled
from codedev.train.align.examples import prepare
from codedev.train.align.policy import Policy, Told, Value, batch_of, reading, told
from codedev.train.align.ppo_recipe import PpoRecipe
from codedev.train.align.preference import feeds, leave, rewards_identity
from codedev.train.align.preference_data import Feed
from codedev.train.chatglm import adapter as leads
from codedev.train.checkpoint import State
from codedev.train.compute import attention, parallel
from codedev.train.compute.flops import flops_of_step
from codedev.train.loop import Task
from codedev.train.recipe import TrainRecipe, absolute
from codedev.train.schedule import lr_at
from codedev.train.sft import first_prepares

VALUE, STATE = "value.safetensors", "ppo.json"
_DAMAGED = "is not as it was written. Remove this checkpoint, and the run goes on from the one before"


def run(recipe: TrainRecipe, base: Path, on_step: pretrain.OnStep, progress: Progress) -> dict[str, Any]:
    """See `codedev.train.run`. The result has `data`, what became of the tables' rows; reward, heldout_reward and kl as {before, after}."""
    recipe = absolute(recipe, base)
    refuse(recipe)
    with parallel.world() as place:
        if place.size > 1:
            first_prepares(lambda: prepare(recipe, "prompts", progress).told, place)
        feed, heldout, about = feeds(recipe, progress)
        with sampled.opened(recipe, feed.vocabulary) as rewards:
            assert rewards is not None
            result = pretrain.carry_out(recipe, _Work(recipe, feed, heldout, rewards).given(), on_step, progress)
        if place.first:
            leave(feed, Path(about["prepared"]), Path(result["model_dir"]))
        place.wait()
    return result | {"data": about}


def _own(recipe: TrainRecipe) -> PpoRecipe:
    return recipe.ppo or PpoRecipe()


def refuse(recipe: TrainRecipe) -> None:
    """RecipeError for what cannot be, with the reason."""
    own, rows = _own(recipe), recipe.batch.rows
    if rows is None:
        raise RecipeError("batch.tokens: answers of stage ppo have lengths of their own. Give batch.rows, the answers of an update")
    if rows % (own.minibatches * own.answers):
        raise RecipeError(
            f"batch.rows: {rows} answers an update are no whole number of {own.minibatches} minibatches (ppo.minibatches) of prompts with "
            f"{own.answers} answers each (ppo.answers). Choose a multiple of {own.minibatches * own.answers}"
        )
    if recipe.run.parallel == "fsdp":
        raise RecipeError(
            "run.parallel: answers are sampled token by token, and fsdp would gather the weights for each. Set it to ddp or auto"
        )
    if recipe.run.compile:
        raise RecipeError("run.compile: answers come in ever new lengths, and each would be compiled again. Set it to false")
    if recipe.run.spike is not None:
        raise RecipeError(
            "run.spike: the loss of stage ppo is about 0 and has either sign, so that no multiple of it is a spike. Leave it out"
        )
    if recipe.lora is not None and recipe.lora.dropout:
        raise RecipeError("lora.dropout: stage ppo compares probabilities before and after a step, and dropout changes them. Set it to 0")


@dataclass
class Actor:
    """The policy as the run calls it, and what stands beside it."""

    call: attention.Call  # spread over the processes
    inner: attention.Call  # the same weights on this process: nothing waits for the others
    model: Any
    value: Value
    of_value: torch.optim.Optimizer
    reference: attention.Call | None  # a frozen copy; None: the adapter off
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.call.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @contextmanager
    def as_reference(self) -> Iterator[attention.Call]:
        if self.reference is not None:
            yield self.reference
            return
        with self.model.disable_adapter():
            yield self.inner


class _Work:
    """What the stage gives the run, around the few things that are made late and shared: the actor, and what a checkpoint keeps beside."""

    def __init__(self, recipe: TrainRecipe, feed: Feed, heldout: Feed | None, rewards: sampled.Rewards) -> None:
        self.recipe, self.own, self.feed, self.heldout, self.rewards = recipe, _own(recipe), feed, heldout, rewards
        self.now: dict[str, Any] = {"kl_coef": self.own.kl.coef, "alarms": {}}  # of ppo.json
        self.frozen: Any = None
        self.actor: Actor | None = None

    def given(self) -> pretrain.Work:
        recipe, feed = self.recipe, self.feed
        identity = {
            "data.examples": read_json(feed.folder / "prepared.json")["manifests"]["examples.arrow"],
            **{f"ppo.{name}": value for name, value in self.own.model_dump(exclude={"max_kl", "on_alarm"}).items()},
            **rewards_identity(recipe),
        }
        return pretrain.Work(
            data=feed,
            identity=identity,
            attn=lambda device, dtype: pretrain.attn_of(recipe, device, dtype),
            model=self.model,
            called=lambda model: Policy(tune.apart(model)),
            forward=self.forward,
            check=self.check,
            scorer=lambda wrapped, actor, place: actor,
            measure=self.measure if self.heldout is not None else None,
            documents=lambda actor, numbers, group: feed.documents(numbers),
            loss=lambda actor, batch: torch.zeros(()),  # the steps are this module's own
            result=_result,
            sized=False,
            train=self.train,
            keep=self.keep,
            take=self.take,
        )

    def model(self, attn: str, path: Path | None, place: parallel.World, dtype: torch.dtype) -> Any:
        words: Any = self.feed
        found: Any = pretrain._model(self.recipe, words, attn, path, place, dtype)
        longest = getattr(found.config, "max_position_embeddings", None)
        prompt = max(map(len, self.feed.table.column("prompt_ids"))) + getattr(self.recipe.method, "tokens", 0)
        if longest is not None and prompt + self.own.max_tokens > longest:
            raise RecipeError(
                f"ppo.max_tokens: {self.own.max_tokens} behind a prompt of {prompt} tokens are more than the {longest} positions of the "
                "model. Lower it, or data.seq_len, which bounds prompts"
            )
        if self.recipe.tune == "full" or leads.is_lead(found):  # the model that the run began with, whatever the checkpoint
            frozen = copy.deepcopy(found) if path is None else pretrain._model(self.recipe, words, attn, None, place, dtype)
            self.frozen = frozen.to(place.device).requires_grad_(False).eval()  # type: ignore[arg-type]
        for module in found.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # what was sampled and what is learned from are to be one policy
        return found

    def forward(self, wrapped: nn.Module, attn: str, device: torch.device, dtype: torch.dtype) -> Actor:
        call = attention.forward_of(wrapped, attn, device, dtype)
        model: Any = call.inner.model
        model = model.model if isinstance(model, tune.Apart) else model
        value = Value(model.config.get_text_config().hidden_size, device)
        rate = self.own.value_lr or 10 * self.recipe.optim.lr
        betas, eps = self.recipe.optim.betas, self.recipe.optim.eps
        of_value = torch.optim.AdamW(value.parameters(), lr=rate, betas=betas, eps=eps, weight_decay=0.0)
        inner = attention.Call(call.inner, attn, device, dtype)
        reference = None
        if self.frozen is not None:
            reference = attention.forward_of(Policy(tune.apart(self.frozen)).eval(), attn, device, dtype)
        self.actor = Actor(call, inner, model, value, of_value, reference, dtype)
        self.rewards.meet(model)
        return self.actor

    def check(self, actor: Actor, device: torch.device, dtype: torch.dtype, name: str, attn: str) -> None:
        words: Any = self.feed
        attention.check_isolation(actor.inner, words, device, dtype, name, attn)
        if actor.reference is not None:
            attention.check_isolation(actor.reference, words, device, dtype, name, attn)

    def measure(self, actor: Actor, group: int, progress: Progress) -> dict[str, Any]:
        assert self.heldout is not None
        trainer: Any = actor
        return sampled.measure(self.recipe, trainer, self.heldout, self.rewards, group, progress)

    # -- checkpoints

    def keep(self, target: Path) -> None:
        """Write what a checkpoint has beside the model."""
        assert self.actor is not None
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.actor.value.state_dict().items()}
        for name, parameter in self.actor.value.named_parameters():
            state = self.actor.of_value.state.get(parameter, {})
            tensors |= {f"{name}/{key}": torch.as_tensor(one).detach().cpu().contiguous() for key, one in state.items()}
        save_file(tensors, target / VALUE)
        write_json(target / STATE, self.now)

    def take(self, path: Path) -> None:
        """Go on from what `keep` wrote."""
        assert self.actor is not None
        try:
            tensors = load_file(path / VALUE)
            self.actor.value.load_state_dict({name: tensor for name, tensor in tensors.items() if "/" not in name})
            now = read_json(path / STATE)
            self.now["kl_coef"], self.now["alarms"] = float(now["kl_coef"]), dict(now["alarms"])
        except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError):
            raise RunError(f"{path / VALUE}: {_DAMAGED}") from None
        for name, parameter in self.actor.value.named_parameters():
            state = {key: tensors[f"{name}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}/{key}" in tensors}
            if state:
                self.actor.of_value.state[parameter] = {k: v.to(parameter.device) if k != "step" else v for k, v in state.items()}

    # -- the steps

    def train(self, task: Task, state: State) -> Iterator[tuple[State, dict[str, Any]]]:
        """What takes the place of loop.train."""
        actor: Actor = task.forward
        own, plan, place = self.own, task.plan, task.place
        share = plan.rows // place.size
        if plan.rows % place.size or share % own.minibatches:
            raise RecipeError(
                f"batch: {plan.rows} answers an update in {own.minibatches} minibatches cannot be shared by {place.size} processes. Choose "
                f"a multiple of {place.size * own.minibatches}"
            )
        trained = [parameter for group in task.optimizer.param_groups for parameter in group["params"]]
        control = objectives.KLControl(own.kl.target, own.kl.horizon)
        for step in range(state.step, plan.steps):
            began = time.perf_counter()
            rate = lr_at(task.optim, step, plan.steps)
            for group in task.optimizer.param_groups:
                group["lr"] = rate
            for group in actor.of_value.param_groups:
                group["lr"] = (own.value_lr or 10 * task.optim.lr) * rate / task.optim.lr
            torch.manual_seed(int(np.random.SeedSequence([plan.seed, step]).generate_state(1, np.uint64)[0]))
            mine = np.arange(place.rank * share, (place.rank + 1) * share)
            rows = plan.numbers(step, self.feed)[mine]
            trainer: Any = actor
            drawn = sampled.answered(self.recipe, trainer, self.feed, rows, (step * plan.rows + mine).tolist())
            sampled_at = time.perf_counter()
            asked = self.rewards.asked(self.feed, rows, drawn.ids)
            earned = self.rewards.of(asked)
            scored_at = time.perf_counter()
            made = self._judged(actor, rows, drawn, earned.scores, place, self.now["kl_coef"])
            written = rollouts.Rollout(
                step * plan.rows + mine,
                [one.document for one in asked],
                [one.prompt for one in asked],
                [one.answer for one in asked],
                drawn.ids,
                drawn.ended,
                made.scores.cpu().double().numpy(),
                made.of_reference.cpu().double().numpy(),
                earned.parts,
                {name: tensor.cpu().float().numpy() for name, tensor in made.each().items()},
            )
            rollouts.write(Path(self.recipe.run.dir), step + 1, place.rank, written)
            learned = self._learn(task, state, step, made, mine, trained)
            prompts = [len(prompt) for prompt in made.prompts]
            lengths = np.array(prompts) + np.array([len(ids) for ids in drawn.ids])
            counted = place.sum(np.array([lengths.sum(), sum(map(len, drawn.ids)), (lengths.astype(np.float64) ** 2).sum()]))
            tokens, answers = int(counted[0]), int(counted[1])
            ended = time.perf_counter()
            passes = own.epochs + 2 / 3  # a forward pass of policy and reference beside the steps
            flops = flops_of_step(task.parameters, task.attention_width, int(tokens * passes), int(counted[2] * passes))
            row = {
                **self._measures(made, earned.parts, drawn, learned, place),
                "kl_coef": self.now["kl_coef"],
                "lr": rate,
                "tokens_seen": state.tokens_seen + tokens,
                "supervised": answers,
                "tokens_per_second": round(tokens / (ended - began), 1),
                "mfu": round(flops / (ended - began) / (task.peak_flops * place.size), 4) if task.peak_flops else None,
                "seconds_sampling": round(sampled_at - began, 3),
                "seconds_scoring": round(scored_at - sampled_at, 3),
                "seconds_training": round(ended - scored_at, 3),
            }
            self.now["kl_coef"] = control.next(self.now["kl_coef"], row["kl"], plan.rows)
            said = alarms.raised(self.now["alarms"], row, own.max_kl)
            state = state._replace(step=step + 1, tokens_seen=state.tokens_seen + tokens, watched=learned.verdict.watched)
            yield state, {"step": state.step, **learned.verdict.told, **row, **({"alarm": " ".join(said)} if said else {})}
            if said and own.on_alarm == "stop":
                raise alarms.stopped(state.step, said, "ppo")

    def _judged(self, actor: Actor, rows: np.ndarray, drawn: Any, scores: np.ndarray, place: parallel.World, kl_coef: float) -> _Made:
        """Log-probabilities, values, rewards and advantages of this process's answers, as the weights stand."""
        own, device = self.own, actor.call.device
        prompts = self.feed.prompts(rows)
        policy, reference, values, entropy = [], [], [], []
        groups = _groups([len(p) + len(a) for p, a in zip(prompts, drawn.ids, strict=True)], self.recipe.batch.micro_rows)
        modules = [actor.inner.module, *([actor.reference.module] if actor.reference else [])]
        with reading(*modules):
            for some in groups:
                batch = batch_of([prompts[i] for i in some], [drawn.ids[i] for i in some])
                found = told(actor.inner, batch, own.temperature)
                policy.append(found.logprobs)
                values.append(actor.value(found.hidden))
                entropy.append(found.entropy)
                with actor.as_reference() as call:
                    reference.append(told(call, batch, own.temperature).logprobs)
        lengths = [len(ids) for ids in drawn.ids]

        def padded(pieces: list[torch.Tensor]) -> torch.Tensor:
            out = torch.zeros(len(rows), max(lengths), device=device)
            for some, piece in zip(groups, pieces, strict=True):
                for i, one in zip(some, torch.split(piece, [lengths[i] for i in some]), strict=True):
                    out[i, : lengths[i]] = one
            return out

        mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).float().to(device)
        old, of_reference, value = padded(policy), padded(reference), padded(values)
        kl = objectives.divergence(old, of_reference, own.kl.estimator) * mask
        score = torch.tensor(scores, dtype=torch.float32, device=device)
        if own.missing_end is not None:
            score = score - own.missing_end * torch.tensor(~drawn.ended, dtype=torch.float32, device=device)
        total = _total(place)
        used = score
        if own.whiten_rewards:
            ones = torch.ones_like(score)
            mean = total((score * ones).sum()) / total(ones.sum())
            used = objectives.whitened(score, ones, total) + mean
        rewards = objectives.token_rewards(used, kl, mask, kl_coef)
        advantage, returns = objectives.advantages(rewards, value * mask, mask, own.gamma, own.lam)
        if own.whiten:
            advantage = objectives.whitened(advantage, mask, total)
        drawn_logprobs = padded([torch.cat([torch.as_tensor(drawn.logprobs[i], device=device) for i in some]) for some in groups])
        return _Made(
            prompts, drawn.ids, mask, old, of_reference, value * mask, rewards, advantage, returns, drawn_logprobs, padded(entropy), score,
            (kl * mask).sum(-1),
        )  # fmt: skip

    def _learn(self, task: Task, state: State, step: int, made: _Made, mine: np.ndarray, trained: list[nn.Parameter]) -> _Learned:
        actor: Actor = task.forward
        own, plan, place = self.own, task.plan, task.place
        value_alone = step < own.value_warmup
        sums = torch.zeros(7, dtype=torch.float64, device=place.device)
        norms, losses = [], []
        verdict: Any = None
        actor.call.module.train(self.recipe.run.activation_checkpointing)  # which wants it; there is no dropout
        for epoch in range(own.epochs):
            for some in _minibatches(plan.rows, own.minibatches, (plan.seed, step, epoch)):
                here = some[(some >= mine[0]) & (some <= mine[-1])] - mine[0]
                tokens = float(place.sum(np.array([float(made.mask[here].sum())]))[0])
                groups = [here[g] for g in _groups([len(made.prompts[i]) + len(made.ids[i]) for i in here], plan.micro_rows)]
                total = torch.zeros((), dtype=torch.float64, device=place.device)
                for at, group in enumerate(groups):
                    with parallel.gradients_later(task.model) if at < len(groups) - 1 else nullcontext():
                        loss, found = self._loss(actor, made, group, value_alone)
                        scaled: Any = loss * (place.size / tokens)
                        scaled.backward()
                    total += loss.detach()
                    sums += found
                _average(actor.value, place)
                norm = parallel.number(nn.utils.clip_grad_norm_([*trained, *actor.value.parameters()], task.optim.clip or float("inf")))
                mean = place.total(total) / tokens
                verdict = task.policy.judge(state.watched, step, mean, norm)
                if verdict.reason is None:
                    task.optimizer.step()
                    actor.of_value.step()
                task.optimizer.zero_grad(set_to_none=True)
                actor.of_value.zero_grad(set_to_none=True)
                norms.append(norm)
                losses.append(mean)
                if verdict.reason is not None:
                    break
            if verdict.reason is not None:
                break
        actor.call.module.eval()
        if verdict.reason is None:
            verdict = verdict._replace(told={**verdict.told, "loss": float(np.mean(losses))})
        return _Learned(verdict, place.totals(sums), max(norms))

    def _loss(self, actor: Actor, made: _Made, group: np.ndarray, value_alone: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of some answers summed over their tokens; and sums of policy loss, clipped, value loss, clipped, entropy, KL, tokens."""
        own = self.own
        batch = batch_of([made.prompts[i] for i in group], [made.ids[i] for i in group])
        found: Told = told(actor.call, batch, own.temperature)
        inside = made.mask[group].bool()

        def flat(tensor: torch.Tensor) -> torch.Tensor:
            return tensor[group][inside]

        ones = torch.ones_like(found.logprobs)
        old = flat(made.logprobs)
        policy = objectives.policy_loss(found.logprobs, old, flat(made.advantages), ones, own.clip)
        hidden = found.hidden.detach() if value_alone else found.hidden
        value = objectives.value_loss(actor.value(hidden), flat(made.values), flat(made.returns), ones, own.value_clip)
        entropy = found.entropy.sum()
        # Every weight has a gradient in every process, if a zero.
        learned = 0.0 * found.logprobs.sum() if value_alone else policy.loss - own.entropy_coef * entropy
        loss = learned + own.value_coef * value.loss if not value_alone else learned + value.loss
        moved = objectives.divergence(found.logprobs.detach(), old, "k3").sum()
        sums = [policy.loss.detach(), policy.clipped, value.loss.detach(), value.clipped, entropy.detach(), moved, ones.sum()]
        return loss, torch.stack([one.double() for one in sums])

    def _measures(self, made: _Made, parts: dict[str, np.ndarray], drawn: Any, learned: _Learned, place: parallel.World) -> dict[str, Any]:
        mask, n = made.mask, len(made.ids)
        spread = (made.returns - made.values) * mask
        apart = ((made.drawn - made.logprobs) * mask).abs()
        sums = [
            made.scores.double().sum(), (made.scores.double() ** 2).sum(), made.of_reference.double().sum(), (made.entropy * mask).sum(),
            mask.sum(), torch.tensor(float((~drawn.ended).sum())), torch.tensor(float(n)), made.returns.double().sum(),
            (made.returns.double() ** 2).sum(), spread.double().sum(), (spread.double() ** 2).sum(),
            *map(torch.tensor, map(float, alarms.repetition(drawn.ids))), *(torch.tensor(float(part.sum())) for part in parts.values()),
        ]  # fmt: skip
        score, score2, kl, entropy, tokens, unended, answers, ret, ret2, res, res2, repeated, grams, *of_parts = place.totals(
            torch.stack([one.double().to(place.device) for one in sums])
        )
        variance = max(ret2 / tokens - (ret / tokens) ** 2, 0.0)
        left = max(res2 / tokens - (res / tokens) ** 2, 0.0)
        policy, clipped, value, value_clipped, after, moved, seen = learned.sums
        return {
            "reward": score / answers,
            "reward_std": max(score2 / answers - (score / answers) ** 2, 0.0) ** 0.5,
            **({f"reward/{name}": part / answers for name, part in zip(parts, of_parts, strict=True)} if len(parts) > 1 else {}),
            "kl": kl / answers,
            "entropy": entropy / tokens,
            "policy_loss": policy / seen,
            "value_loss": value / seen,
            "clip_share": clipped / seen,
            "value_clip_share": value_clipped / seen,
            "update_kl": moved / seen,
            "update_entropy": after / seen,
            "explained_variance": 1 - left / variance if variance > 0 else 0.0,
            "answer_tokens": tokens / answers,
            "unended": unended / answers,
            "repetition": repeated / grams if grams else 0.0,
            "mismatch": _most(float(apart.max()), place),
            "grad_norm": learned.norm,
        }


@dataclass(frozen=True)
class _Made:
    """This process's answers, (B, R) padded; see rollouts.SCHEMA."""

    prompts: list[np.ndarray]
    ids: list[np.ndarray]
    mask: torch.Tensor
    logprobs: torch.Tensor
    reference: torch.Tensor
    values: torch.Tensor
    rewards: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    drawn: torch.Tensor
    entropy: torch.Tensor
    scores: torch.Tensor  # (B,)
    of_reference: torch.Tensor  # (B,) nats from it

    def each(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name) for name in ("drawn", "logprobs", "reference", "values", "rewards", "advantages", "returns")}


@dataclass(frozen=True)
class _Learned:
    verdict: Any
    sums: list[float]  # over all processes, minibatches and epochs; see _loss
    norm: float


def _minibatches(rows: int, parts: int, seed: Sequence[int]) -> Iterator[np.ndarray]:
    """`parts` shares of range(rows), drawn so that of any `parts` neighbours each share has one: whatever block of them a process has, it
    has its part of every minibatch."""
    places = np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(seed)))).random((rows // parts, parts)).argsort(1)
    numbers = np.arange(rows).reshape(-1, parts)
    for part in range(parts):
        yield numbers[places == part]


def _groups(lengths: list[int], size: int) -> list[np.ndarray]:
    """Places of `lengths`, `size` at a time, those of like length together. Their number depends on that of lengths alone."""
    order = np.argsort(-np.array(lengths), kind="stable")
    return [order[at : at + size] for at in range(0, len(order), size)]


def _total(place: parallel.World) -> objectives.Sum:
    def total(tensor: torch.Tensor) -> torch.Tensor:
        if place.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    return total


def _most(value: float, place: parallel.World) -> float:
    if place.size == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=place.device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return float(tensor)


def _average(module: nn.Module, place: parallel.World) -> None:
    """Gradients that DDP does not know of."""
    if place.size > 1:
        for parameter in module.parameters():
            assert parameter.grad is not None
            dist.all_reduce(parameter.grad)
            parameter.grad /= place.size


def _result(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("reward", "heldout_reward", "kl"):
        values = [row[name] for row in rows if name in row]
        if values:
            found[name] = {"before": values[0], "after": values[-1]}
    return found | {"alarms": [row["alarm"] for row in rows if "alarm" in row]}
