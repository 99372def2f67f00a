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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

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
from codedev.train.instructions.vocabularies import check_tokenizer, same_tokens
from codedev.train.recipe import SECTIONS, TrainRecipe, absolute, relocated, run_steps, step_rows
from codedev.train.schedule import lr_at
from codedev.train.use import companions
from codedev.train.watch import follow, loggers, metrics, policy, signals
from codedev.train.watch.explain import segment_losses

MENDED = "rewards.files"  # of an identity: hashes of a user's files that may change while a run waits, which is told
OnStep = Callable[[dict[str, Any]], None]


class Work(NamedTuple):
    """What a stage gives a run; the rest is the same for all."""

    data: loop.Data
    identity: dict[str, Any]  # what decides the weights beside the recipe's model, tuning, batch and optimizer
    attn: Callable[[torch.device, torch.dtype], str]  # of transformers
    model: Callable[[str, Path | None, parallel.World, torch.dtype], Any]  # as it stands at a checkpoint, or at the beginning
    called: Callable[[Any], torch.nn.Module]  # what of the model is spread over the processes
    forward: Callable[[torch.nn.Module, str, torch.device, torch.dtype], Any]  # the one way in which it is called
    check: Callable[[Any, torch.device, torch.dtype, str, str], Any]  # (forward, …, the model's name, attn): before the run
    scorer: Callable[[torch.nn.Module, Any, parallel.World], Any]  # what evaluation and the documents of a bad step need
    measure: Callable[[Any, int, Progress], dict[str, Any]] | None  # (score, rows at once) -> held-out numbers, heldout_loss among them
    documents: Callable[[Any, np.ndarray, int], list[dict[str, Any]]]  # (score, rows, rows at once) -> documents with their losses
    loss: loop.Loss
    result: Callable[[list[dict[str, Any]]], dict[str, Any]]  # of the rows of metrics
    also: tuple[str, ...] = ()  # see loop.Task
    sized: bool = True
    train: Callable[[loop.Task, State], Iterator[tuple[State, dict[str, Any]]]] = loop.train  # the steps
    keep: Callable[[Path], None] | None = None  # writes what a checkpoint has beside the model, on the first process
    take: Callable[[Path], None] | None = None  # reads it


def run(recipe: TrainRecipe, base: Path, on_step: OnStep, progress: Progress) -> dict[str, Any]:
    """See `codedev.train.run`."""
    recipe = absolute(recipe, base)
    shards = open_shards(tuple(map(Path, recipe.data.dirs)), recipe.data.weights)
    check_tokenizer(recipe, shards)
    return carry_out(recipe, _work(recipe, shards, _heldout(recipe, shards)), on_step, progress)


def carry_out(recipe: TrainRecipe, work: Work, on_step: OnStep, progress: Progress) -> dict[str, Any]:
    """The run of a stage. `recipe` is absolute."""
    began = time.perf_counter()
    run_dir = Path(recipe.run.dir)
    rows = step_rows(recipe, work.data.seq_len)
    plan = loop.Plan(run_steps(recipe, work.data.rows, rows), rows, recipe.batch.micro_rows, recipe.run.seed)
    _check_dir(run_dir)
    loggers.check_installed(recipe.run.log_to)
    with parallel.world() as place, locked(run_dir, "run.dir") if place.first else nullcontext():
        result = _train(recipe, run_dir, work, plan, place, on_step, progress)
    return result | {"seconds": round(time.perf_counter() - began, 2)}


def _work(recipe: TrainRecipe, shards: Shards, heldout: Shards | None) -> Work:
    """Next tokens of packed rows."""

    def measure(score: Any, group: int, told: Progress) -> dict[str, Any]:
        assert heldout is not None
        bits = bits_per_byte(score, heldout, group, told)
        answers = {"heldout_answer_loss": bits.nats_per_target} if recipe.stage == "sft" and bits.targets else {}
        return {"bits_per_byte": bits.bits_per_byte, "heldout_loss": bits.nats_per_token, "heldout_bytes": bits.text_bytes, **answers}

    def result(rows: list[dict[str, Any]]) -> dict[str, Any]:
        measured = [row["bits_per_byte"] for row in rows if "bits_per_byte" in row]
        answers = [row["heldout_answer_loss"] for row in rows if "heldout_answer_loss" in row]
        told: dict[str, Any] = {"bits_per_byte": {"before": measured[0], "after": measured[-1]} if measured else None}
        return told | ({"heldout_answer_loss": {"before": answers[0], "after": answers[-1]}} if answers else {})

    return Work(
        data=shards,
        identity={"data.shards": shards.digest, "data.weights": recipe.data.weights},
        attn=lambda device, dtype: attn_of(recipe, device, dtype),
        model=lambda attn, path, place, dtype: _model(recipe, shards, attn, path, place, dtype),
        called=tune.apart,
        forward=attention.forward_of,
        check=lambda forward, device, dtype, name, attn: attention.check_isolation(forward, shards, device, dtype, name, attn),
        scorer=loop.scorer,
        measure=measure if heldout is not None else None,
        documents=lambda score, numbers, group: segment_losses(score, shards, numbers, group),
        loss=loop.next_token_loss,
        result=result,
    )


def _check_dir(run_dir: Path) -> None:
    """InputError when what a run writes would take the place of something else. metrics.jsonl is the first file that a run writes."""
    if not (run_dir / "metrics.jsonl").is_file():
        for name in ("model", "checkpoints", "recipe.yaml", "manifest.json", "index.html"):
            if os.path.lexists(run_dir / name):
                raise InputError(f"{run_dir}: holds {name} and no run; a run would write over it. Choose another run.dir")


def _train(
    recipe: TrainRecipe,
    run_dir: Path,
    work: Work,
    plan: loop.Plan,
    place: parallel.World,
    on_step: OnStep,
    progress: Progress,
) -> dict[str, Any]:
    share = plan.rows // place.size
    if place.first and share > plan.micro_rows and share % plan.micro_rows:
        even = max(size for size in range(1, plan.micro_rows + 1) if share % size == 0)
        note(
            f"batch.micro_rows: {share:,} rows a process are no multiple of {plan.micro_rows:,}, so the last {share % plan.micro_rows:,} "
            f"are computed by themselves; {even:,} divides them. The result is the same"
        )
    identity = _identity(recipe, work, plan)
    found = _found(recipe, run_dir, identity, place)
    dtype = dtype_of(recipe, place.device)
    attn = work.attn(place.device, dtype)
    path, state = found or (None, State(0, 0))
    model = work.model(attn, path, place, dtype)
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
    wrapped = parallel.distribute(work.called(model), how, place, dtype)
    optimizer = optim.make(model, recipe.optim, place.device)
    if path:
        checkpoint.load_optimizer(path, model, optimizer)
    forward = work.forward(wrapped, attn, place.device, dtype)
    wrapped.eval()
    if path and work.take is not None:
        work.take(path)
    work.check(forward, place.device, dtype, type(model).__name__, attn)
    parallel.reshard(wrapped)

    score = work.scorer(wrapped, forward, place)
    log = follower = None
    if place.first:
        log = metrics.Metrics(run_dir, state.step)
        follower = follow.open_follow(recipe, run_dir, work.data, plan, state.step, follow.environment(place, how, attn, dtype, parameters))
        _write_recipe(recipe, run_dir)

    def keep(row: dict[str, Any]) -> None:
        if log is not None:
            log.write(row)
            on_step(row | {"steps": plan.steps})

    def evaluate(step: int, told: Progress) -> None:
        if work.measure is not None:
            row = {"step": step, **work.measure(score, plan.micro_rows * place.size, told)}
            if not step:  # nothing is learned yet
                row.pop("alarm", None)
            keep(row)
            if follower is not None:
                follower.row(row)

    def documents(step: int) -> list[dict[str, Any]]:
        return work.documents(score, plan.numbers(step, work.data), plan.micro_rows * place.size)

    def save() -> None:
        checkpoint.save(run_dir, model, optimizer, state, identity, place, work.keep)
        if place.first:
            checkpoint.prune(run_dir, recipe.run.keep)

    @contextmanager
    def kept() -> Iterator[None]:
        """What was learned before something outside the run failed is saved."""
        try:
            yield
        except loop.OutsideError:
            if state.step not in (0, *checkpoint.steps_saved(run_dir)):
                save()
            raise

    peak = metrics.peak_flops(place.device, recipe.run.peak_flops)
    watch = policy.Policy(recipe.run.on_bad_step, recipe.run.spike, recipe.run.max_skips, documents, str(run_dir))
    given: dict[str, Any] = {"policy": watch, "also": work.also, "sized": work.sized, **sizes}
    task = loop.Task(wrapped, forward, work.loss, optimizer, work.data, place, plan, recipe.optim, peak, **given)
    with follow.ending(follower):
        missed = _due(state.step, recipe.run.eval_every) and bool(place.from_first(not _evaluated(run_dir, state.step)))
        if not found or missed:  # missed: it was asked to stop in the middle of it
            evaluate(state.step, progress)
        if found:
            if state.step == plan.steps and place.first:
                note(f"{run_dir}: is finished, at step {state.step:,}: nothing is left to train")
            progress("train", state.step, plan.steps)
        with kept(), signals.listening() as asked:
            for reached, row in work.train(task, state):
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
            model_dir = checkpoint.save_model(run_dir, model, work.data.tokenizer_file, place, companions.folder(recipe))
    return _result(run_dir, model_dir, state, parameters, work)


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
    return any(row["step"] == step and any(name.startswith("heldout_") for name in row) for row in metrics.read_metrics(run_dir))


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
    folder = Path(recipe.data.heldout)
    if recipe.data.eval and not (folder / "manifest.json").is_file():
        fault = "there is no such directory" if not folder.is_dir() else "has no manifest.json, it is no shard directory"
        raise InputError(
            f"data.eval: {folder}: {fault}. codedev tokenize with --holdout makes SHARDS/heldout; name that, or leave data.eval out"
        )
    heldout = open_shards((folder,))
    if not same_tokens(heldout, shards):
        raise InputError(f"{recipe.data.heldout}: was made with another tokenizer than the shards to train on. Pack one of them again")
    return heldout


def dtype_of(recipe: TrainRecipe, device: torch.device) -> torch.dtype:
    if recipe.model.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if recipe.model.dtype == "bfloat16" else torch.float32


def _identity(recipe: TrainRecipe, work: Work, plan: loop.Plan) -> dict[str, Any]:
    """What decides the weights that a step leaves behind."""
    optim = recipe.optim.model_dump(mode="json")
    identity = {
        "stage": recipe.stage,
        "tune": recipe.tune,
        **{f"{SECTIONS[recipe.tune]}.{name}": value for name, value in (recipe.method.model_dump() if recipe.method else {}).items()},
        "model": models.identity(recipe.model),
        "model.dtype": recipe.model.dtype,
        **work.identity,
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
        if name == MENDED and name in before:
            for changed in [file for file in value if before[name].get(file) != value[file]]:
                note(f"{path}: {changed} is not what it was; from step {state.step + 1} on it is as it is now")
        elif name not in schedule and before.get(name) != value:
            name, old, new = _apart("model.config" if name == "model" and recipe.model.config else name, before.get(name), value)
            raise RunError(f"{path}: was made with {name} {_shown(old)}, the recipe says {_shown(new)}. {advice}")
    if said := policy.check_same_way(state.watched, recipe.run.on_bad_step, recipe.run.spike):
        raise RunError(f"{path}: {said}. {advice}")
    if state.step > now["run.steps"]:
        raise RunError(f"{path}: is beyond the {now['run.steps']} steps of the recipe. {advice}")
    if any(before.get(name) != now[name] for name in schedule):
        old = recipe.optim.model_validate({name: _exact(before[f"optim.{name}"]) for name in type(recipe.optim).model_fields})
        for step in range(state.step):
            if lr_at(old, step, before["run.steps"]) != lr_at(recipe.optim, step, now["run.steps"]):
                on = f"; or train on in another run from model.path {path.parent.parent / 'model'}"
                raise RunError(f"{path}: the recipe's learning rate differs from step {step + 1} on, before this checkpoint. {advice}{on}")


def _apart(name: str, old: Any, new: Any) -> tuple[str, Any, Any]:
    """Down to the first key that two unlike values do not share."""
    while True:
        if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            old, new = dict(enumerate(old)), dict(enumerate(new))
        if not (isinstance(old, dict) and isinstance(new, dict)):
            return name, old, new
        key = next(key for key in [*new, *old] if old.get(key) != new.get(key))
        name, old, new = f"{name}.{key}", old.get(key), new.get(key)


def _exact(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    shown = str(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _write_recipe(recipe: TrainRecipe, run_dir: Path) -> None:
    inside = relocated(recipe, lambda path: os.path.relpath(path, run_dir))
    write_text(run_dir / "recipe.yaml", yaml.safe_dump(inside.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _result(run_dir: Path, model_dir: Path, state: State, parameters: tune.Counts, work: Work) -> dict[str, Any]:
    rows = metrics.read_metrics(run_dir)
    losses = [row["loss"] for row in rows if "loss" in row]
    return {
        "run_dir": str(run_dir),
        "model_dir": str(model_dir),
        "step": state.step,
        "tokens_seen": state.tokens_seen,
        "skipped": state.watched.skipped,
        "loss": losses[-1] if losses else None,
        **work.result(rows),
        "parameters": parameters.total,
        "trained_parameters": parameters.trained,
    }
