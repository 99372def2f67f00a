"""Checkpoints: safetensors for weights and optimizer state, JSON for the rest, no pickle. Whole or not there at all.

    RUN/checkpoints/step-00000100/
        config.json model.safetensors     loadable by transformers; of an adapter (tune other than full) instead:
        adapter_config.json adapter_model.safetensors trainable.safetensors
        optimizer.safetensors             `<parameter>/<state>`: exp_avg, exp_avg_sq, step
        state.json                        step, tokens_seen, and what decided them; sizes and hashes of the other files, and its own hash

A run goes on from the newest checkpoint whose files are as they were written. Damaged ones after it are set aside as
checkpoints/damaged-step-…, and a line says so: the steps between are computed again and come out the same, since a run is a function of its
recipe, its data and its seed. Where no checkpoint is whole, nothing is begun again in silence: the run stops.

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

from codedev._errors import InputError, RunError
from codedev._run import TEMPORARY, content_key, file_hash, read_json, write_json
from codedev._terminal import note
from codedev.train import model as models
from codedev.train import tune
from codedev.train.compute import optim
from codedev.train.compute.parallel import World, whole
from codedev.train.saved import directory as directory
from codedev.train.saved import steps_saved as steps_saved
from codedev.train.use import companions
from codedev.train.watch import disk, policy

FORMAT = "codedev.checkpoint/1"
_REMOVE = "Remove this checkpoint, and the run goes on from the one before"


class State(NamedTuple):
    """Where a run stands. The next step is number `step`, counted from 0."""

    step: int
    tokens_seen: int
    watched: policy.Watched = policy.Watched()  # what judging a step needs of those before


def newest(run_dir: Path, place: World) -> int:
    """The step of the newest whole checkpoint, -1 where there are none. Damaged ones after it are set aside. Every process calls it.

    Raises RunError where there are checkpoints and none is whole. Reads every file of one checkpoint: about what loading it takes.
    """
    faults: list[tuple[int, str]] = []
    found = -1
    if place.first:
        for step in reversed(steps_saved(run_dir)):
            if (fault := damage(directory(run_dir, step))) is None:
                found = step
                break
            faults.append((step, fault))
        else:
            found = -2 if faults else -1
    found = place.from_first(found)
    if found == -2:
        said = faults[0][1] if faults else f"{run_dir / 'checkpoints'}: see what the first process says"
        raise RunError(f"{said}. No checkpoint is whole: put a copy back, or remove {run_dir / 'checkpoints'} to begin again")
    for step, fault in faults:
        aside = directory(run_dir, step).with_name(f"damaged-{directory(run_dir, step).name}")
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(directory(run_dir, step), aside)
        note(f"{fault}. It was set aside as {aside.name}; the run goes on from step {found}")
    return found


def damage(path: Path) -> str | None:
    """What is wrong with the files of a checkpoint; None where they are as they were written."""
    file = path / "state.json"
    try:
        data = read_json(file)
    except InputError as error:
        return f"{file}: is missing or damaged: {error}"
    if not isinstance(data, dict):
        return f"{file}: is not as it was written"
    if data.get("format") != FORMAT or "hash" not in data:
        return None  # of another version: `read_state` has a word for it; or from before there were hashes
    files = data.get("files")
    if not isinstance(files, dict) or not all(_is_entry(name, wanted) for name, wanted in files.items()):
        return f"{file}: is not as it was written"
    if content_key({name: value for name, value in data.items() if name != "hash"}) != data["hash"]:
        return f"{file}: is not as it was written"
    for name, wanted in files.items():
        file = path / name
        if not file.is_file():
            return f"{file}: is missing or damaged: it is not there"
        if (size := file.stat().st_size) != wanted["bytes"]:
            return f"{file}: is missing or damaged: it has {size:,} bytes and was written with {wanted['bytes']:,}"
        try:
            same = file_hash(file) == wanted["hash"]
        except OSError as error:
            return f"{file}: is missing or damaged: it cannot be read: {error.strerror}"
        if not same:
            return f"{file}: is missing or damaged: its bytes are not those that were written"
    return None


def _is_entry(name: str, wanted: Any) -> bool:
    """What state.json says of a file beside it."""
    return "/" not in name and isinstance(wanted, dict) and set(wanted) == {"bytes", "hash"}


def save(
    run_dir: Path,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    state: State,
    recipe: dict[str, Any],
    place: World,
    more: Callable[[Path], None] | None = None,
) -> None:
    """Write the checkpoint of `state`. `model` is unwrapped. Every process calls it; the first one writes, `more` too, into its folder."""

    def write(target: Path) -> None:
        weights = {} if tune.is_adapter(model) else whole_weights(model, place)
        moments = {
            f"{name}/{key}": tensor
            for name, parameter in model.named_parameters()
            for key, value in optim.state_of(optimizer, parameter).items()
            if (tensor := whole(value, place)) is not None
        }
        if tune.is_adapter(model):
            tune.save(model, target, place, resumable=True)
        elif place.first:
            models.save(model, weights, target)
        if place.first:
            save_file(moments, target / "optimizer.safetensors")
            if more is not None:
                more(target)
            told = state._asdict() | {"watched": state.watched._asdict()}
            files = {file.name: {"bytes": file.stat().st_size, "hash": file_hash(file)} for file in sorted(target.iterdir())}
            content = {"format": FORMAT, **told, "recipe": recipe, "files": files}
            write_json(target / "state.json", {**content, "hash": content_key(content)})

    replace_directory(directory(run_dir, state.step), write, place)


def save_model(run_dir: Path, model: PreTrainedModel, tokenizer_file: Path, place: World, base: Path | None = None) -> Path:
    """The trained model, or the adapter alone, at RUN/model, with what plain transformers wants beside it. Every process calls it.

    `base`: the folder that the shards' tokenizer was taken from.
    """

    def write(target: Path) -> None:
        weights = {} if tune.is_adapter(model) else whole_weights(model, place)
        if tune.is_adapter(model):
            tune.save(model, target, place, resumable=False)
        elif place.first:
            models.save(model, weights, target)
        if place.first:
            companions.leave(target, tokenizer_file, base)

    replace_directory(run_dir / "model", write, place)
    return run_dir / "model"


def read_state(path: Path) -> tuple[State, dict[str, Any]]:
    """The state of a checkpoint and the `recipe` it was saved with."""
    data = read_json(path / "state.json")
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise RunError(f"{path}: its format is {found!r}, this version reads '{FORMAT}'. Begin again in another run.dir")
    step, tokens_seen, recipe = (data.get(name) for name in ("step", "tokens_seen", "recipe"))
    if not (isinstance(step, int) and path.name == f"step-{step:08d}" and isinstance(recipe, dict)) or not _is_count(tokens_seen):
        raise RunError(f"{path / 'state.json'}: is not as it was written. {_REMOVE}")
    try:
        return State(step, tokens_seen, policy.read_watched(data.get("watched"))), recipe
    except ValueError:
        raise RunError(f"{path / 'state.json'}: is not as it was written. {_REMOVE}") from None


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


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
        if parameter is None or not optim.restore(optimizer, parameter, kind, tensor):
            raise RunError(f"{file}: its '{key}' fits no weight of the model. {_REMOVE}")


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
        for file in [*temporary.iterdir(), temporary] if place.first else ():
            if file.is_file():  # safetensors writes files that their owner alone may read
                file.chmod(temporary.stat().st_mode & 0o666)
            _flush(file)
    except (SafetensorError, OSError) as error:  # the first: its writer's word for a full disk
        raise disk.unsaved(path, temporary, error) from None
    if place.first:
        _discard(path)
        os.rename(temporary, path)
        _flush(path.parent)
    place.wait()


def _flush(path: Path) -> None:
    """A file, or a directory's names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _discard(path: Path) -> None:
    """Remove a directory so that a kill half-way leaves nothing under its name."""
    if path.is_symlink():
        path.unlink()  # what it leads to is not ours
    elif path.exists():
        trash = path.with_name(f"{TEMPORARY}old-{path.name}")
        shutil.rmtree(trash, ignore_errors=True)
        os.rename(path, trash)
        shutil.rmtree(trash)
