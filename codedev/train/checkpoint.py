"""Checkpoints: safetensors for weights and optimizer state, JSON for the rest, no pickle. Whole or not there at all.

    RUN/checkpoints/step-00000100/
        config.json model.safetensors     loadable by transformers; of an adapter (tune other than full) instead:
        adapter_config.json adapter_model.safetensors trainable.safetensors
        optimizer.safetensors             `<parameter>/<state>`: exp_avg, exp_avg_sq, step
        state.json                        step, tokens_seen, and what decided them

Tensors are stored whole, so that a run may go on with another number of processes, or another way of spreading over them. The random
state is not stored: every step seeds itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from codedev._errors import RunError
from codedev._run import TEMPORARY, read_json, write_json
from codedev.train import model as models
from codedev.train import tune
from codedev.train.parallel import World, like, whole

FORMAT = "codedev.checkpoint/1"
_REMOVE = "Remove this checkpoint, and the run goes on from the one before"


class State(NamedTuple):
    """Where a run stands. The next step is number `step`, counted from 0."""

    step: int
    tokens_seen: int


def directory(run_dir: Path, step: int) -> Path:
    return run_dir / "checkpoints" / f"step-{step:08d}"


def steps_saved(run_dir: Path) -> list[int]:
    """The steps of the checkpoints, rising."""
    names = (path.name.removeprefix("step-") for path in (run_dir / "checkpoints").glob("step-*"))
    return sorted(int(name) for name in names if name.isdigit())


def save(
    run_dir: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, state: State, recipe: dict[str, Any], place: World
) -> None:
    """Write the checkpoint of `state`. `model` is unwrapped. Every process calls it; the first one writes."""

    def write(target: Path) -> None:
        weights = {} if tune.is_adapter(model) else whole_weights(model, place)
        moments = {
            f"{name}/{key}": tensor
            for name, parameter in model.named_parameters()
            for key, value in sorted(optimizer.state.get(parameter, {}).items())
            if (tensor := whole(value, place)) is not None
        }
        if place.first:
            if tune.is_adapter(model):
                tune.save(model, target, resumable=True)
            else:
                models.save(model, weights, target)
            save_file(moments, target / "optimizer.safetensors")
            write_json(target / "state.json", {"format": FORMAT, **state._asdict(), "recipe": recipe})

    replace_directory(directory(run_dir, state.step), write, place)


def save_model(run_dir: Path, model: PreTrainedModel, tokenizer_file: Path, place: World) -> Path:
    """The trained model, or the adapter alone, with its tokenizer at RUN/model. Every process calls it."""

    def write(target: Path) -> None:
        weights = {} if tune.is_adapter(model) else whole_weights(model, place)
        if place.first:
            if tune.is_adapter(model):
                tune.save(model, target, resumable=False)
            else:
                models.save(model, weights, target)
            if tokenizer_file.is_file():
                shutil.copyfile(tokenizer_file, target / tokenizer_file.name)

    replace_directory(run_dir / "model", write, place)
    return run_dir / "model"


def read_state(path: Path) -> tuple[State, dict[str, Any]]:
    """The state of a checkpoint and the `recipe` it was saved with."""
    data = read_json(path / "state.json")
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise RunError(f"{path}: its format is {found!r}, this version reads '{FORMAT}'. Begin again in another run.dir")
    step, tokens_seen, recipe = (data.get(name) for name in ("step", "tokens_seen", "recipe"))
    if not (isinstance(step, int) and path.name == f"step-{step:08d}" and isinstance(tokens_seen, int) and isinstance(recipe, dict)):
        raise RunError(f"{path / 'state.json'}: is not as it was written. {_REMOVE}")
    return State(step, tokens_seen), recipe


def load_optimizer(path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    """The optimizer's state from a checkpoint, split as the parameters are."""
    file = path / "optimizer.safetensors"
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{file}: is missing or damaged: {error}. {_REMOVE}") from None
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        name, _, kind = key.rpartition("/")
        parameter = parameters.get(name)
        if parameter is None or (kind != "step" and tensor.shape != parameter.shape):
            raise RunError(f"{file}: its '{key}' fits no weight of the model. {_REMOVE}")
        # AdamW counts its steps on the CPU unless it is fused on a GPU, where the count lies beside the parameter.
        fused = bool(optimizer.defaults.get("fused"))
        placed = like(tensor, parameter) if kind != "step" else tensor.to(parameter.device) if fused else tensor
        optimizer.state[parameter][kind] = placed


def prune(run_dir: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints."""
    for step in steps_saved(run_dir)[:-keep]:
        _discard(directory(run_dir, step))


def whole_weights(model: PreTrainedModel, place: World) -> dict[str, torch.Tensor]:
    """Parameters (a shared one once) and saved buffers, whole, on the first process; empty on the others."""
    parameters = dict(model.named_parameters())
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - set(parameters)
    weights = {}
    for name, tensor in model.state_dict().items():
        if name not in tied and (full := whole(tensor, place)) is not None:
            weights[name] = full
    return weights


def replace_directory(path: Path, write: Callable[[Path], None], place: World) -> None:
    """Put what `write` makes in place of `path` in one rename, flushed to disk first."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    if place.first:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    try:
        write(temporary)
    except SafetensorError as error:  # its writer's word for a full disk
        raise RunError(
            f"{path}: cannot be written: {error}. Make room and run the same command again: earlier checkpoints are kept"
        ) from None
    if place.first:
        for file in [*temporary.iterdir(), temporary]:
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        _discard(path)
        os.rename(temporary, path)
    place.wait()


def _discard(path: Path) -> None:
    """Remove a directory so that a kill half-way leaves nothing under its name."""
    if path.exists():
        trash = path.with_name(f"{TEMPORARY}old-{path.name}")
        shutil.rmtree(trash, ignore_errors=True)
        os.rename(path, trash)
        shutil.rmtree(trash)
