"""Any transformers causal language model, or one with another head: from a configuration (random weights) or from a local directory of
safetensors.

Never remote code, never the network, never pickle. Weights are float32 while they train; `dtype` is that of the arithmetic.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, cast

# Before transformers is imported: it must neither reach for the hub nor report to it, and a fork must not warn about tokenizers.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import orjson
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from codedev._errors import InputError, RecipeError, nearest
from codedev._terminal import size
from codedev.train import chatglm, extend
from codedev.train.chatglm.config import ChatGLMConfig
from codedev.train.chatglm.family import check_converted
from codedev.train.chatglm.layout import check_targets
from codedev.train.data import Shards
from codedev.train.model_path import config_of
from codedev.train.recipe import ModelRecipe
from codedev.train.weights import Tensor, check_checkpoint

chatglm.register()

_MOST_LAYERS = 10_000
# Spellings of a configuration that transformers still reads and no longer lists.
OLD_KEYS = {"model_type", "rope_theta", "rope_scaling", "partial_rotary_factor"}


class Head(NamedTuple):
    """What a model gives of its last hidden states."""

    maker: Any  # of transformers' classes
    fresh: tuple[str, ...] = ()  # weights that a checkpoint may lack
    fields: Mapping[str, Any] = MappingProxyType({})  # of the configuration


LM = Head(AutoModelForCausalLM)  # scores of the next token
SCORE = Head(AutoModelForSequenceClassification, ("score.weight",), {"num_labels": 1})  # one number


class _Ids(Protocol):
    @property
    def bos_id(self) -> int | None: ...
    @property
    def eos_id(self) -> int | None: ...
    @property
    def pad_id(self) -> int | None: ...


class Words(Protocol):
    """What a model must know of the tokens it reads: data.Shards has it."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def seq_len(self) -> int: ...
    @property
    def tokenizer_file(self) -> Path: ...
    @property
    def manifest(self) -> _Ids: ...


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without progress bars and advice of its own."""
    logging: Any = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def build(
    recipe: ModelRecipe, shards: Words, attn: str, seed: int, extra: dict[str, Any] | None = None, head: Head = LM
) -> PreTrainedModel:
    """The model that a run starts from, in float32 on the CPU. `recipe.path` is absolute. Its vocabulary holds the shards'.

    `extra`: arguments of from_pretrained for a checkpoint, such as `codedev.train.tune.four_bit`.
    """
    path = Path(recipe.path) if recipe.path else None
    if path is not None and not path.exists():
        raise InputError(f"{path}: there is no such model. Give model.path a directory of config.json and *.safetensors")
    if path is not None and path.is_dir():
        model = load(path, attn, extra, head)
        if head is LM:
            extend.extend(model, path, cast(Shards, shards))
    else:
        config = _file_config(path) if path is not None else _inline_config(recipe.config or {}, shards)
        special = {f"{name}_token_id": getattr(shards.manifest, f"{name}_id") for name in ("bos", "eos", "pad")}
        if isinstance(config, ChatGLMConfig):  # its own <sop> decides who sees whom
            del special["bos_token_id"]
        config.update(special)
        config.update(dict(head.fields))
        _check_config(config, str(path or "model.config"))
        _check_size(config, attn, head, path)
        torch.manual_seed(seed)
        arguments: dict[str, Any] = {"attn_implementation": attn, "trust_remote_code": False, "dtype": torch.float32}
        model = _checked(partial(head.maker.from_config, config, **arguments))
        generation: Any = getattr(model, "generation_config", None)
        if generation is not None:
            generation.update(**special)
    if isinstance(model.config, ChatGLMConfig):
        check_targets(model.config, cast(Shards, shards))
    vocab_size = vocabulary(model)
    if vocab_size < shards.vocab_size:
        raise RecipeError(
            f"model: its vocabulary has {vocab_size} entries, the shards need {shards.vocab_size}. Pack shards with the model's tokenizer"
        )
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and longest < shards.seq_len:
        raise RecipeError(f"model: it knows {longest} positions (max_position_embeddings), the shards' rows have {shards.seq_len}")
    return model


def load(directory: Path, attn: str, extra: dict[str, Any] | None = None, head: Head = LM) -> PreTrainedModel:
    """A model from config.json and *.safetensors, float32, on the CPU. Raises InputError when weights are missing."""
    if not (directory / "config.json").is_file():
        raise InputError(f"{directory}: has no config.json, it is no model. Give a directory of config.json and *.safetensors")
    if not any(directory.glob("*.safetensors")):
        raise InputError(f"{directory}: has no *.safetensors; other weights are not read, since they may run code. Convert them first")
    _check_chatglm(directory / "config.json", attn)
    tensors = check_checkpoint(directory, transformers.CONFIG_MAPPING)
    _check_layers(directory / "config.json", len(tensors))
    _check_config(_file_config(directory / "config.json"), str(directory / "config.json"))
    model: PreTrainedModel
    try:
        model, report = _checked(
            lambda: head.maker.from_pretrained(
                str(directory),
                attn_implementation=attn,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **head.fields,
                **(extra or {}),
            ),
            str(directory),
        )
    except InputError as error:
        if "ignore_mismatched_sizes" in str(error):
            raise InputError(f"{directory}: {_mismatch(directory, tensors, head)}. The checkpoint is of another model") from None
        raise
    for kind in ("missing_keys", "mismatched_keys"):
        if keys := sorted(set(map(str, report[kind])) - set(head.fresh if kind == "missing_keys" else ())):
            raise InputError(
                f"{directory}: {len(keys)} {kind.replace('_', ' ')} in the weights, first {keys[0]}. The checkpoint is of another model"
            )
    return model


def _mismatch(directory: Path, tensors: dict[str, Tensor], head: Head) -> str:
    """A tensor of another shape than the configuration asks for, in words."""
    config = _file_config(directory / "config.json")
    config.update(dict(head.fields))
    with torch.device("meta"):  # shapes alone
        wanted = head.maker.from_config(config, trust_remote_code=False).state_dict()
    for name, tensor in tensors.items():
        if name in wanted and tuple(wanted[name].shape) != tensor.shape:
            return f"{name} in {tensor.file.name} has the shape {tensor.shape}, config.json asks for {tuple(wanted[name].shape)}"
    return "a tensor has another shape than config.json asks for"


def skeleton(recipe: ModelRecipe, shards: Words, attn: str, head: Head = LM) -> PreTrainedModel:
    """The model that `build` gives with weights of no meaning, from its configuration alone: for the device meta, which holds none."""
    path = Path(recipe.path) if recipe.path else None
    if path is not None and path.is_dir():
        path = path / "config.json"
    config = _file_config(path) if path is not None else _inline_config(recipe.config or {}, shards)
    config.update(dict(head.fields))
    arguments: dict[str, Any] = {"attn_implementation": attn, "trust_remote_code": False, "dtype": torch.float32}
    model: PreTrainedModel = _checked(partial(head.maker.from_config, config, **arguments))
    return model


def save(model: PreTrainedModel, weights: dict[str, torch.Tensor], directory: Path) -> None:
    """config.json and *.safetensors of `weights` (whole, on the CPU), as transformers reads them."""
    with quiet():
        model.save_pretrained(str(directory), state_dict=weights)


def attention(recipe: ModelRecipe) -> str:
    """The recipe's `attn`, `auto` decided where the model leaves no choice: ChatGLM-6B reads a context in both directions."""
    if recipe.attn != "auto":
        return recipe.attn
    path = Path(recipe.path or "")
    try:
        fields = recipe.config or orjson.loads((path / "config.json" if path.is_dir() else path).read_bytes())
    except (OSError, ValueError):  # which is said where the model is built
        return recipe.attn
    kind = fields.get("model_type") if isinstance(fields, dict) else None
    return "sdpa" if kind == ChatGLMConfig.model_type else recipe.attn


def vocabulary(model: PreTrainedModel) -> int:
    """Entries of the input embedding: the vocabulary, and what pads it."""
    embedding: Any = model.get_input_embeddings()
    return len(embedding.weight)


def identity(recipe: ModelRecipe) -> Any:
    """What names the model a run starts from: its configuration, or the content of config.json and the sizes of the weights."""
    if recipe.config is not None:
        return recipe.config
    path = Path(recipe.path or "")
    config = config_of(path)
    weights = {file.name: file.stat().st_size for file in sorted(path.glob("*.safetensors")) if file.is_file()} if path.is_dir() else {}
    return {"config": hashlib.blake2b(config.read_bytes(), digest_size=16).hexdigest(), "weights": weights}


def _check_chatglm(path: Path, attn: str) -> None:
    """InputError for ChatGLM2/3 as released, RecipeError for an attention that ChatGLM-6B cannot use."""
    try:
        fields = orjson.loads(path.read_bytes())
    except (OSError, ValueError):  # which is said in other words
        return
    if not isinstance(fields, dict) or fields.get("model_type") != ChatGLMConfig.model_type:
        return
    check_converted(path, fields)
    if attn not in ("sdpa", "eager"):
        raise RecipeError("model.attn: ChatGLM-6B reads a context in both directions, which sdpa and eager alone can do. Set it to sdpa")


def _check_layers(path: Path, tensors: int) -> None:
    """Of ChatGLM-6B, as check_checkpoint does of others: each layer has a tensor at least, and so many would take for ever to make."""
    fields = orjson.loads(path.read_bytes())
    layers = fields.get("num_layers")
    if fields.get("model_type") == ChatGLMConfig.model_type and isinstance(layers, int) and layers > tensors:
        raise InputError(f"{path}: num_layers is {layers}, and the weights are {tensors} tensors. Copy the checkpoint again")


def _check_config(config: PreTrainedConfig, where: str) -> None:
    """RecipeError for what transformers takes and no model can be computed with."""
    fields = config.to_dict()
    for name, value in fields.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and name.endswith(("dropout", "_pdrop", "dropout_rate")) and not 0 <= value < 1:
            raise RecipeError(f"{where}: {name} is {value}, which is no share of what is dropped. Set it to 0")
        if number and name in ("num_hidden_layers", "num_layers", "n_layer") and not 1 <= value <= _MOST_LAYERS:
            raise RecipeError(f"{where}: {name} is {value}. A model has 1 to {_MOST_LAYERS:,} layers")


def _check_size(config: PreTrainedConfig, attn: str, head: Head, path: Path | None) -> None:
    """RecipeError for random weights that this machine's memory cannot hold: a system that lends more than it has ends the process."""
    arguments: dict[str, Any] = {"attn_implementation": attn, "trust_remote_code": False, "dtype": torch.float32}
    with torch.device("meta"):
        model = _checked(partial(head.maker.from_config, copy.deepcopy(config), **arguments))
    count = sum(parameter.numel() for parameter in model.parameters())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if count * 4 > memory:
        raise RecipeError(
            f"{path or 'model.config'}: {count:,} weights of float32 are {size(count * 4)}, and this machine has {size(memory)} of memory. "
            "Make the model smaller"
        )


def _inline_config(fields: dict[str, Any], shards: Words) -> PreTrainedConfig:
    fields = orjson.loads(orjson.dumps(fields))  # a recipe's tuples are lists in a configuration
    kind = fields.pop("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise RecipeError(f"model.config.model_type: transformers {transformers.__version__} has no '{kind}': {_near_kind(kind)}")
    known = set(_checked(lambda: AutoConfig.for_model(kind)).to_dict()) | set(transformers.CONFIG_MAPPING[kind].attribute_map) | OLD_KEYS
    for key in fields:
        if key not in known:
            raise RecipeError(f"unknown key '{key}' in model.config of '{kind}': {nearest(key, known)}")
    fields.setdefault("vocab_size", -(-shards.vocab_size // 64) * 64)  # a multiple of 64 keeps the output matrix on fast kernels
    config: PreTrainedConfig = _checked(lambda: AutoConfig.for_model(kind, **fields))
    return config


def _near_kind(kind: str) -> str:
    hint = nearest(kind, transformers.CONFIG_MAPPING)
    return hint if hint.startswith("did") else "for example llama, qwen3, glm"


def _file_config(path: Path) -> PreTrainedConfig:
    if path.name == "config.json":
        config_of(path.parent)
    try:
        fields = orjson.loads(path.read_bytes())
        kind = fields["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no model configuration: {error!r}. Give a config.json with a model_type") from None
    check_converted(path, fields)
    if kind not in transformers.CONFIG_MAPPING:
        raise InputError(f"{path}: transformers {transformers.__version__} has no model_type '{kind}', and remote code is never run")
    config: PreTrainedConfig = _checked(lambda: AutoConfig.from_pretrained(str(path), trust_remote_code=False), str(path))
    return config


def _checked(make: Callable[[], Any], where: str | None = None) -> Any:
    """`make()`; what transformers says of a configuration or weights it cannot use, in one line."""
    fault = InputError if where else RecipeError
    try:
        with quiet():
            return make()
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OSError,
        RuntimeError,
        ImportError,
        ArithmeticError,
        AssertionError,
    ) as error:
        if said := re.search(r"(\w+) does not support (?:an attention implementation|\S*[Aa]ttention)", str(error)):
            raise RecipeError(f"model.attn: {said[1]} cannot be computed by it. Set model.attn to eager") from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise fault(f"{where or 'model.config'}: transformers cannot build this model: {' '.join(lines)[:300] or repr(error)}") from error
    except Exception as error:
        # Its validation and safetensors' reader raise classes of their own, which share no base but Exception.
        if type(error).__module__.split(".")[0] in ("huggingface_hub", "safetensors", "safetensors_rust", "transformers"):
            raise fault(f"{where or 'model.config'}: transformers cannot build this model: {' '.join(str(error).split())[:300]}") from error
        raise
