"""Stage `pt`: next-token prediction on packed shards, from random weights or from a checkpoint.

    RUN/recipe.yaml        the recipe with every default, its paths relative to RUN: a recipe by itself
    RUN/metrics.jsonl      a row a step, and the held-out bits per byte
    RUN/index.html         the same as curves, written every run.page_every seconds
    RUN/checkpoints/       the newest `keep`
    RUN/model/             the trained model and its tokenizer (tokenizer.json or tokenizer.model)

A run that was stopped, in whatever way, goes on from its newest checkpoint when it is started again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
import transformers
import yaml

from codedev._errors import InputError, RunError
from codedev._run import Progress, locked, no_progress, sweep, write_text
from codedev._terminal import note
from codedev.eval.perplexity import bits_per_byte
from codedev.train import checkpoint, extend, loop, tune
from codedev.train import model as models
from codedev.train.checkpoint import State
from codedev.train.compute import attention, optim, parallel
from codedev.train.compute.recompute import recompute_layers
from codedev.train.data import Shards, open_shards
from codedev.train.instructions.vocabularies import check_tokenizer
from codedev.train.recipe import SECTIONS, TrainRecipe, absolute, relocated, run_steps, step_rows
from codedev.train.schedule import lr_at
from codedev.train.use import companions
from codedev.train.watch import follow, loggers, metrics, policy, signals
from codedev.train.watch.explain import segment_losses

OnStep = Callable[[dict[str, Any]], None]


def run(recipe: TrainRecipe, base: Path, on_step: OnStep, progress: Progress) -> dict[str, Any]:
    """See `codedev.train.run`."""
    began = time.perf_counter()
    recipe = absolute(recipe, base)
    run_dir = Path(recipe.run.dir)
    shards = open_shards(tuple(map(Path, recipe.data.dirs)), recipe.data.weights)
    check_tokenizer(recipe, shards)
    heldout = _heldout(recipe, shards)
    rows = step_rows(recipe, shards.seq_len)
    plan = loop.Plan(run_steps(recipe, shards.rows, rows), rows, recipe.batch.micro_rows, recipe.run.seed)
    _check_dir(run_dir)
    loggers.check_installed(recipe.run.log_to)
    with parallel.world() as place, locked(run_dir) if place.first else nullcontext():
        result = _train(recipe, run_dir, shards, heldout, plan, place, on_step, progress)
    return result | {"seconds": round(time.perf_counter() - began, 2)}


def _check_dir(run_dir: Path) -> None:
    """InputError when what a run writes would take the place of something else. metrics.jsonl is the first file that a run writes."""
    if not (run_dir / "metrics.jsonl").is_file():
        for name in ("model", "checkpoints", "recipe.yaml", "manifest.json", "index.html"):
            if os.path.lexists(run_dir / name):
                raise InputError(f"{run_dir}: holds {name} and no run; a run would write over it. Choose another run.dir")


def _train(
    recipe: TrainRecipe,
    run_dir: Path,
    shards: Shards,
    heldout: Shards | None,
    plan: loop.Plan,
    place: parallel.World,
    on_step: OnStep,
    progress: Progress,
) -> dict[str, Any]:
    identity = _identity(recipe, shards, plan)
    found = _found(recipe, run_dir, identity, place)
    dtype = dtype_of(recipe, place.device)
    attn = attn_of(recipe, place.device, dtype)
    path, state = found or (None, State(0, 0))
    model = _model(recipe, shards, attn, path, place, dtype)
    progress = progress if place.first else no_progress
    parameters = tune.counts(model)
    sizes = {"parameters": tune.work(model, metrics.matrix_parameters(model)), "attention_width": metrics.attention_width(model.config)}
    if recipe.run.activation_checkpointing:
        recompute_layers(model)
    if recipe.run.compile:
        for layer in parallel.layers(model) or [model]:
            layer.compile()
    how = parallel.choose("ddp" if recipe.tune != "full" and recipe.run.parallel == "auto" else recipe.run.parallel, model, place)
    if place.first and not path and (grown := extend.of(model)) is not None:
        note(extend.told(grown, model))
    wrapped = parallel.distribute(tune.apart(model), how, place, dtype)
    optimizer = optim.make(model, recipe.optim, place.device)
    if path:
        checkpoint.load_optimizer(path, model, optimizer)
    forward = attention.forward_of(wrapped, attn, place.device, dtype)
    wrapped.eval()
    attention.check_isolation(forward, shards, place.device, dtype, type(model).__name__, attn)
    parallel.reshard(wrapped)

    score = loop.scorer(wrapped, forward, place)
    log = follower = None
    if place.first:
        log = metrics.Metrics(run_dir, state.step)
        follower = follow.open_follow(recipe, run_dir, shards, plan, state.step, follow.environment(place, how, attn, dtype, parameters))
        _write_recipe(recipe, run_dir)

    def keep(row: dict[str, Any]) -> None:
        if log is not None:
            log.write(row)
            on_step(row | {"steps": plan.steps})

    def evaluate(step: int, told: Progress) -> None:
        if heldout is not None:
            bits = bits_per_byte(score, heldout, plan.micro_rows * place.size, told)
            row = {"step": step, "bits_per_byte": bits.bits_per_byte, "heldout_loss": bits.nats_per_token, "heldout_bytes": bits.text_bytes}
            keep(row)
            if follower is not None:
                follower.row(row)

    def documents(step: int) -> list[dict[str, Any]]:
        return segment_losses(score, shards, plan.numbers(step, shards), plan.micro_rows * place.size)

    def save() -> None:
        checkpoint.save(run_dir, model, optimizer, state, identity, place)
        if place.first:
            checkpoint.prune(run_dir, recipe.run.keep)

    peak = metrics.peak_flops(place.device, recipe.run.peak_flops)
    watch = policy.Policy(recipe.run.on_bad_step, recipe.run.spike, recipe.run.max_skips, documents, str(run_dir))
    task = loop.Task(wrapped, forward, loop.next_token_loss, optimizer, shards, place, plan, recipe.optim, peak, **sizes, policy=watch)
    with follow.ending(follower):
        missed = _due(state.step, recipe.run.eval_every) and bool(place.from_first(not _evaluated(run_dir, state.step)))
        if not found or missed:  # missed: it was asked to stop in the middle of it
            evaluate(state.step, progress)
        if found:
            progress("train", state.step, plan.steps)
        with signals.listening() as asked:
            for reached, row in loop.train(task, state):
                state = reached
                if follower is not None:
                    follower.row(row)
                    progress("train", state.step, plan.steps, follower.words(row))
                last = state.step == plan.steps
                if last or state.step % recipe.run.log_every == 0 or "skipped" in row:
                    keep(row)
                stop = None if last else asked.agreed(place)
                if not stop and (last or _due(state.step, recipe.run.eval_every)):
                    with signals.cut_short():
                        evaluate(state.step, progress if last else asked.cutting(progress, place))
                    stop = None if last else asked.agreed(place)
                if last or stop or _due(state.step, recipe.run.save_every):
                    save()
                if stop:
                    raise signals.StoppedError(stop, state.step, plan.steps, str(checkpoint.directory(run_dir, state.step)))
            model_dir = checkpoint.save_model(run_dir, model, shards.tokenizer_file, place, companions.folder(recipe))
    return _result(run_dir, model_dir, state, parameters)


def opened(recipe: TrainRecipe, shards: Shards, path: Path | None) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """What scores tokens (loop.scorer) with the weights of a checkpoint, or with those that the run begins with. On this process alone."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place, dtype = parallel.World(0, 1, device), dtype_of(recipe, device)
    attn = attn_of(recipe, device, dtype)
    wrapped = parallel.distribute(tune.apart(_model(recipe, shards, attn, path, place, dtype)), "single", place, dtype)
    return loop.scorer(wrapped, attention.forward_of(wrapped, attn, device, dtype), place)


def isolation(recipe: TrainRecipe, shards: Shards) -> float:
    """attention.check_isolation of the model that a run begins with, as the run itself does it. On this process alone."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_tokenizer(recipe, shards)
    place, dtype = parallel.World(0, 1, device), dtype_of(recipe, device)
    attn = attn_of(recipe, device, dtype)
    model = _model(recipe, shards, attn, None, place, dtype)
    wrapped = parallel.distribute(tune.apart(model), "single", place, dtype).eval()
    return attention.check_isolation(attention.forward_of(wrapped, attn, device, dtype), shards, device, dtype, type(model).__name__, attn)


def attn_of(recipe: TrainRecipe, device: torch.device, dtype: torch.dtype) -> str:
    given = models.attention(recipe.model)
    wanted = "sdpa" if recipe.tune in ("prompt", "prefix") and given == "auto" else given
    return attention.choose(wanted, device, dtype)


def _evaluated(run_dir: Path, step: int) -> bool:
    return any(row["step"] == step and "bits_per_byte" in row for row in metrics.read_metrics(run_dir))


def _model(
    recipe: TrainRecipe, shards: Shards, attn: str, path: Path | None, place: parallel.World, dtype: torch.dtype
) -> transformers.PreTrainedModel:
    """The model as it stands at the checkpoint `path`, or at the beginning."""
    if recipe.tune == "full":
        return models.load(path, attn) if path else models.build(recipe.model, shards, attn, recipe.run.seed)
    tune.need(recipe.tune)
    extra = tune.four_bit(place.device, dtype) if recipe.tune == "qlora" else None
    base = models.build(recipe.model, shards, attn, recipe.run.seed, extra)
    model: transformers.PreTrainedModel = tune.attach(base, recipe, shards, dtype)
    if path:
        tune.restore(model, path)
    return model


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _heldout(recipe: TrainRecipe, shards: Shards) -> Shards | None:
    if recipe.data.heldout is None:
        return None
    heldout = open_shards((Path(recipe.data.heldout),))
    if heldout.manifest.tokenizer.hash != shards.manifest.tokenizer.hash:
        raise InputError(f"{recipe.data.heldout}: was made with another tokenizer than the shards to train on. Pack one of them again")
    return heldout


def dtype_of(recipe: TrainRecipe, device: torch.device) -> torch.dtype:
    if recipe.model.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if recipe.model.dtype == "bfloat16" else torch.float32


def _identity(recipe: TrainRecipe, shards: Shards, plan: loop.Plan) -> dict[str, Any]:
    """What decides the weights that a step leaves behind."""
    optim = recipe.optim.model_dump(mode="json")
    identity = {
        "stage": recipe.stage,
        "tune": recipe.tune,
        **{f"{SECTIONS[recipe.tune]}.{name}": value for name, value in (recipe.method.model_dump() if recipe.method else {}).items()},
        "model": models.identity(recipe.model),
        "model.dtype": recipe.model.dtype,
        "data.shards": shards.digest,
        "data.weights": recipe.data.weights,
        "batch.rows": plan.rows,
        "run.seed": plan.seed,
        "run.steps": plan.steps,
        **{f"optim.{name}": value for name, value in optim.items()},
    }
    as_read: dict[str, Any] = orjson.loads(orjson.dumps(identity))  # as it comes back from state.json
    return as_read


def _found(recipe: TrainRecipe, run_dir: Path, identity: dict[str, Any], place: parallel.World) -> tuple[Path, State] | None:
    """The checkpoint to go on from. Raises RunError when it does not lie on the way of this recipe."""
    if place.first:
        sweep(run_dir)
    if recipe.run.resume == "never":
        newest = place.from_first(max(checkpoint.steps_saved(run_dir), default=-1))
    else:
        newest = checkpoint.newest(run_dir, place)
    if newest < 0:
        if recipe.run.resume == "must":
            raise RunError(f"{run_dir}: there is no checkpoint to resume. Set run.resume to auto to begin")
        return None
    path = checkpoint.directory(run_dir, newest)
    if recipe.run.resume == "never":
        raise RunError(f"{run_dir}: holds a run at step {newest}. Choose another run.dir, remove it, or set run.resume to auto")
    state, before = checkpoint.read_state(path)
    _check_same_way(path, state, before, identity, recipe)
    return path, state


def _check_same_way(path: Path, state: State, before: dict[str, Any], now: dict[str, Any], recipe: TrainRecipe) -> None:
    """An undisturbed run of this recipe would have come by this checkpoint. More steps are allowed as long as the learning rates up
    to it stay what they were."""
    advice = "Choose another run.dir, or set the recipe back"
    schedule = {"run.steps", *(f"optim.{name}" for name in ("schedule", "warmup", "cooldown", "final"))}
    for name, value in now.items():
        if name not in schedule and before.get(name) != value:
            raise RunError(f"{path}: was made with {name} {_shown(before.get(name))}, the recipe says {_shown(value)}. {advice}")
    if said := policy.check_same_way(state.watched, recipe.run.on_bad_step, recipe.run.spike):
        raise RunError(f"{path}: {said}. {advice}")
    if state.step > now["run.steps"]:
        raise RunError(f"{path}: is beyond the {now['run.steps']} steps of the recipe. {advice}")
    if any(before.get(name) != now[name] for name in schedule):
        old = recipe.optim.model_validate({name: _exact(before[f"optim.{name}"]) for name in type(recipe.optim).model_fields})
        for step in range(state.step):
            if lr_at(old, step, before["run.steps"]) != lr_at(recipe.optim, step, now["run.steps"]):
                raise RunError(f"{path}: the recipe's learning rate differs from step {step + 1} on, before this checkpoint. {advice}")


def _exact(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    shown = str(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _write_recipe(recipe: TrainRecipe, run_dir: Path) -> None:
    inside = relocated(recipe, lambda path: os.path.relpath(path, run_dir))
    write_text(run_dir / "recipe.yaml", yaml.safe_dump(inside.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _result(run_dir: Path, model_dir: Path, state: State, parameters: tune.Counts) -> dict[str, Any]:
    rows = metrics.read_metrics(run_dir)
    losses = [row["loss"] for row in rows if "loss" in row]
    measured = [row["bits_per_byte"] for row in rows if "bits_per_byte" in row]
    return {
        "run_dir": str(run_dir),
        "model_dir": str(model_dir),
        "step": state.step,
        "tokens_seen": state.tokens_seen,
        "skipped": state.watched.skipped,
        "loss": losses[-1] if losses else None,
        "bits_per_byte": {"before": measured[0], "after": measured[-1]} if measured else None,
        "parameters": parameters.total,
        "trained_parameters": parameters.trained,
    }
