"""Tuning methods: which weights of a model a run trains, and how they are kept. Built on peft, whose file format is what is written.

    lora     low-rank updates of the linear layers (DoRA, rsLoRA)
    qlora    the same beside 4-bit weights (nf4, scales quantised too), really 4-bit on a CPU as on a GPU
    prompt   trained vectors before every document
    prefix   trained keys and values before every document, in every layer

What lies before a document has no place inside a packed row: transformers lets every document of the row see it and each other once
there is a cache, and peft drops the positions. So `prompt` and `prefix` take packed rows apart (`Apart`): each document is computed by
itself, exactly. `attention.check_isolation` holds for every method, before every run.

A directory of an adapter holds adapter_config.json and adapter_model.safetensors, as plain peft reads them, and where training may go on
trainable.safetensors: what was trained under its own names (peft keeps of a projected prefix the outcome alone, not what makes it).
four_bit.json says how the weights beside a `qlora` adapter were quantised, as transformers.BitsAndBytesConfig(**it) reads it: peft's file
does not tell, and beside other weights the adapter is another model. extended.json says what rows the embeddings had more (extend.py).
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import orjson
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from codedev._errors import InputError, MissingExtraError, RecipeError, RunError
from codedev._run import read_json, write_json
from codedev.train import extend
from codedev.train import model as models
from codedev.train.chatglm import adapter as leads
from codedev.train.compute.parallel import World, whole
from codedev.train.recipe import LoraRecipe, PrefixRecipe, PromptRecipe, TrainRecipe
from codedev.train.weights import check_adapter

CONFIG, WEIGHTS, TRAINABLE, FOUR_BIT = "adapter_config.json", "adapter_model.safetensors", "trainable.safetensors", "four_bit.json"


class Counts(NamedTuple):
    """Parameters, 4-bit ones counted as the numbers they stand for, and those that are trained."""

    total: int
    trained: int


def need(tune: str) -> None:
    """MissingExtraError where a package that `tune` needs is not installed."""
    wanted = {"full": (), "qlora": ("peft", "accelerate", "bitsandbytes")}.get(tune, ("peft",))
    for package in wanted:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "quant" if package == "bitsandbytes" else "train")


def load_peft() -> Any:
    """peft, and bitsandbytes before it without the code that it would otherwise take from the hub for some CPUs and run."""
    if importlib.util.find_spec("bitsandbytes") is not None and "bitsandbytes" not in sys.modules:
        log, kernels = logging.getLogger("bitsandbytes"), sys.modules.get("kernels")
        sys.modules["kernels"] = None  # type: ignore[assignment]  # an import of it fails
        before = log.level
        log.setLevel(logging.ERROR)  # it says that it has no such code
        try:
            importlib.import_module("bitsandbytes")
        finally:
            log.setLevel(before)
            del sys.modules["kernels"]
            if kernels is not None:
                sys.modules["kernels"] = kernels
    return importlib.import_module("peft")


def is_adapter(model: nn.Module) -> bool:
    """Whether `model` is frozen but for an adapter. Does not import peft."""
    return leads.is_lead(model) or ("peft" in sys.modules and isinstance(model, sys.modules["peft"].PeftModel))


def four_bit(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of from_pretrained for weights of 4 bits: nf4 in blocks of 64 with 8-bit scales, 4.127 bits a weight."""
    from transformers import BitsAndBytesConfig

    load_peft()
    make: Any = BitsAndBytesConfig
    config = make(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": config, "device_map": {"": str(device)}}


def quantised(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The 4-bit layers of a model with their names."""
    if "bitsandbytes" in sys.modules:
        kind = sys.modules["bitsandbytes"].nn.Linear4bit
        yield from ((name, module) for name, module in model.named_modules() if isinstance(module, kind))


def keep_exact(model: nn.Module) -> None:
    """Switch off what bitsandbytes does to 4-bit weights in evaluation on CPUs with AVX512-BF16: it packs them anew and rounds their scales
    to bfloat16, so that the weights are not the same after a look at the held-out loss."""
    for _, module in quantised(model):
        module.support_avx512bf16_for_cpu = False


def attach(model: PreTrainedModel, recipe: TrainRecipe, shards: models.Words, dtype: torch.dtype) -> Any:
    """`model` frozen, with a new adapter as the recipe says: a peft model; `model` itself for full. Random numbers come from run.seed."""
    method = recipe.method
    if method is None:
        return model
    need(recipe.tune)
    keep_exact(model)
    if isinstance(method, PromptRecipe | PrefixRecipe) and leads.native(model):
        leads.attach(model, method, recipe.model.path, recipe.run.seed, lambda encoder: _fill(encoder, model, method, shards))
        return _halved(model, dtype)
    if isinstance(method, PromptRecipe | PrefixRecipe):
        longest = getattr(model.config, "max_position_embeddings", None)
        if longest is not None and longest < shards.seq_len + method.tokens:
            raise RecipeError(
                f"{recipe.tune}.tokens: {method.tokens} before rows of {shards.seq_len} are more than the {longest} positions of the model "
                "(max_position_embeddings). Use fewer, or shards with a smaller seq_len"
            )
    if (found := extend.of(model)) is not None and not isinstance(method, LoraRecipe):
        raise RecipeError(
            f"tune: {recipe.tune} leaves the model's embeddings as they are, and the shards have {len(found.pieces):,} tokens that the "
            "model has never seen. Train them first, with tune: full or lora, or make the shards with the model's own tokenizer"
        )
    peft = load_peft()
    torch.manual_seed(recipe.run.seed)
    try:
        with silent():
            adapted = peft.get_peft_model(model, _config(peft, method, extend.trained_rows(model), _task(model)))
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        said = " ".join(str(error).split())[:300]
        raise RecipeError(f"tune: {recipe.tune}: peft cannot tune this {type(model).__name__}: {said}") from error
    config = adapted.peft_config["default"]
    config.base_model_name_or_path = recipe.model.path
    if isinstance(method, LoraRecipe):
        _check_targets(model)
        if method.targets != "all-linear":
            _check_found(adapted, method.targets)
    elif isinstance(method, PromptRecipe):
        _fill(adapted.prompt_encoder["default"], model, method, shards)
    _halved(model, dtype)
    return adapted


def _halved(model: Any, dtype: torch.dtype) -> Any:
    """`model` with its frozen matrices in the type of the arithmetic."""
    if dtype != torch.float32:
        # Autocast multiplies in `dtype` anyway: the same products from half the memory.
        for module in model.modules():
            if type(module) is nn.Linear and not any(parameter.requires_grad for parameter in module.parameters()):
                module.to(dtype)
    return model


def _task(model: Any) -> dict[str, Any]:
    """What peft is told of the model's head: one that gives a number is new, and trained whole beside the adapter."""
    if hasattr(model, "score"):
        return {"task_type": "SEQ_CLS"}  # of which peft knows that its score is trained whole
    return {"task_type": "CAUSAL_LM"}


def _config(peft: Any, method: LoraRecipe | PromptRecipe | PrefixRecipe, new_rows: Any, task: dict[str, Any]) -> Any:
    """`new_rows`: extend.trained_rows, of a model whose vocabulary grew."""
    if isinstance(method, LoraRecipe):
        targets = method.targets if method.targets == "all-linear" else list(method.targets)
        shape = {"r": method.r, "lora_alpha": method.alpha, "lora_dropout": method.dropout}
        shape |= {"use_dora": method.dora, "use_rslora": method.rslora, "trainable_token_indices": new_rows}
        return peft.LoraConfig(**shape, target_modules=targets, bias="none", **task)
    if isinstance(method, PromptRecipe):
        return peft.PromptTuningConfig(num_virtual_tokens=method.tokens, prompt_tuning_init="RANDOM", **task)
    return peft.PrefixTuningConfig(num_virtual_tokens=method.tokens, prefix_projection=method.projection, **task)


def _check_targets(model: Any) -> None:
    """An update of the embedding or the output matrix would be saved with the whole matrix, and of tied ones merged into both."""
    for what, module in (("input embedding", model.get_input_embeddings()), ("output matrix", model.get_output_embeddings())):
        if hasattr(module, "lora_A"):
            raise RecipeError(f"lora.targets: names the {what}, which has no low-rank updates here. Leave it out, or tune: full")


def _check_found(adapted: Any, targets: tuple[str, ...]) -> None:
    """peft is content when one of the names occurs."""
    found = {name for name, module in adapted.named_modules() if hasattr(module, "base_layer")}
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in found):
            raise RecipeError(f"lora.targets: the model has no layer '{target}'; it has {', '.join(_layer_names(adapted))}")


def _layer_names(model: nn.Module) -> list[str]:
    plain = (
        name.removesuffix(".base_layer") for name, module in model.named_modules() if isinstance(module, nn.Linear) and "lora_" not in name
    )
    return sorted({name.rpartition(".")[2] for name in plain})[:12]


def _fill(encoder: Any, model: Any, method: Any, shards: models.Words) -> None:
    """Begin at embeddings of tokens or at noise of their size: peft's own noise is fifty times larger than usual embeddings."""
    weight, table = encoder.embedding.weight, model.get_input_embeddings().weight
    with torch.no_grad():
        if method.init == "random":
            weight.normal_(0.0, float(table.float().std()))
            return
        if method.init == "vocabulary":
            ids = torch.randint(0, shards.vocab_size, (method.tokens,))
        else:
            ids = torch.tensor(_encoded(method.init, shards)).repeat(method.tokens)[: method.tokens]
        weight.copy_(table[ids.to(table.device)])


def _encoded(text: str, shards: models.Words) -> list[int]:
    import pyarrow as pa

    from codedev.tokenize.vocabulary import encode_plain, load_vocabulary

    vocabulary = load_vocabulary(shards.tokenizer_file, need_eos=False)
    ids: list[int] = encode_plain(vocabulary, pa.array([text], pa.large_string())).ids.tolist()
    if not ids:
        raise RecipeError("prompt.init: is a text of no tokens. Write one, or set it to vocabulary")
    return ids


class _Logits(SimpleNamespace):
    logits: torch.Tensor


class Apart(nn.Module):
    """A model with a prompt or prefix, called on packed rows: every document is computed by itself, behind its own prompt.

    Documents of similar length are padded on the right and computed together, no call with more tokens than the rows have. What follows
    a token never counts for it, so padding needs no mask.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool = False) -> _Logits:
        """(B, S) tokens and their positions in their documents -> .logits (B, S, V)."""
        ids, positions = input_ids.flatten(), position_ids.flatten()
        starts = (positions == 0).nonzero().flatten().cpu()
        lengths = torch.diff(starts, append=torch.tensor([len(ids)]))
        order = torch.argsort(lengths, descending=True, stable=True)
        pieces, places = [], []
        for group in groups(lengths[order].tolist(), len(ids)):
            chosen = order[group]
            steps = torch.arange(int(lengths[chosen[0]]))
            inside = steps < lengths[chosen, None]  # (documents, longest)
            at = torch.where(inside, starts[chosen, None] + steps, 0).to(ids.device)
            # A prefix is a cache: models that are told use_cache=False throw it away.
            logits = self.model(input_ids=ids[at], use_cache=self.model.active_peft_config.peft_type == "PREFIX_TUNING").logits
            inside = inside.to(ids.device)
            pieces.append(logits[:, -at.shape[1] :][inside])
            places.append(at[inside])
        back = torch.argsort(torch.cat(places))
        return _Logits(logits=torch.cat(pieces)[back].reshape(*input_ids.shape, -1))


def groups(lengths: list[int], tokens: int) -> Iterator[slice]:
    """Ranges of falling `lengths`, each padded to its first, of at most `tokens` together."""
    start = 0
    while start < len(lengths):
        end = min(len(lengths), start + max(1, tokens // lengths[start]))
        yield slice(start, end)
        start = end


def apart(model: Any) -> nn.Module:
    """What a run calls: `model`, or `Apart` around one with a prompt or prefix."""
    learned = is_adapter(model) and not leads.is_lead(model) and model.active_peft_config.is_prompt_learning
    module: nn.Module = Apart(model) if learned else model
    return module


def counts(model: nn.Module) -> Counts:
    return Counts(sum(map(_size, model.parameters())), sum(p.numel() for p in model.parameters() if p.requires_grad))


def work(model: Any, whole: int) -> int:
    """The number of trained parameters that would cost as much arithmetic as this model's do; `whole`: metrics.matrix_parameters of it.

    A frozen matrix costs 4 operations a token (forward, and back to its input), a trained one 6.
    """
    if not is_adapter(model):
        return whole
    total, trained = counts(model)
    updates = 0 if leads.is_lead(model) or model.active_peft_config.is_prompt_learning else trained
    unpacked: int = whole + total - sum(p.numel() for p in model.parameters())
    return updates + (unpacked - updates) * 2 // 3


def _size(parameter: Any) -> int:
    state = getattr(parameter, "quant_state", None)
    return math.prod(parameter.shape if state is None else state.shape)


def save(model: Any, directory: Path, place: World, *, resumable: bool) -> None:
    """The adapter of `model` in `directory`, as peft reads it; with `resumable` what training goes on from too.

    Every process calls it; the first one writes.
    """
    trained = {name: tensor for name, parameter in _trained(model) if (tensor := whole(parameter, place)) is not None}
    if not place.first:
        return
    if leads.is_lead(model):
        leads.save(model, directory / CONFIG, directory / WEIGHTS)
        if resumable:
            save_file(trained, directory / TRAINABLE)
        return
    peft = load_peft()
    config = copy.deepcopy(model.peft_config["default"])
    config.inference_mode = True
    fields = {name: sorted(value) if isinstance(value, set) else value for name, value in config.to_dict().items()}
    write_json(directory / CONFIG, orjson.loads(orjson.dumps(fields, default=str)))
    # Left to itself it may ask the hub whether the vocabulary has grown.
    with silent():  # what is split over processes is in `trained` whole; of prompts and prefixes peft asks the model
        given = None if config.is_prompt_learning else trained
        state = peft.get_peft_model_state_dict(model, given, save_embedding_layers=False)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, directory / WEIGHTS, {"format": "pt"})
    if (found := extend.of(model)) is not None:
        extend.write(found, directory)
    config = getattr(model.config, "quantization_config", None)
    if config is not None and any(quantised(model)):
        write_json(directory / FOUR_BIT, config.to_diff_dict())
    if resumable:
        save_file(trained, directory / TRAINABLE)


def restore(model: Any, directory: Path) -> None:
    """Put what a checkpoint trained back into `model`, fresh from `attach`. Raises RunError when it does not fit."""
    file = directory / TRAINABLE
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{file}: is missing or damaged: {error}. Remove this checkpoint, and the run goes on from the one before") from None
    trained = dict(_trained(model))
    shapes = {name: value.shape for name, value in trained.items()}
    if shapes != {name: value.shape for name, value in tensors.items()}:
        raise RunError(f"{file}: holds other weights than this recipe trains. Choose another run.dir")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(tensors[name])


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def open_adapter(
    directory: Path, attn: str = "sdpa", base: Path | None = None, device: torch.device | None = None, head: models.Head = models.LM
) -> Any:
    """The model of an adapter directory: `base` (default: the one that adapter_config.json names) with the adapter, for float32 arithmetic,
    4-bit where it was trained so; on the CPU, or 4-bit weights on `device`. Never the network, never a pickle. Raises InputError.
    """
    packed = (directory / FOUR_BIT).is_file()
    need("qlora" if packed else "lora")
    peft = load_peft()
    config = read_json(directory / CONFIG) if (directory / CONFIG).is_file() else None
    if not isinstance(config, dict) or not (directory / WEIGHTS).is_file():
        raise InputError(f"{directory}: has no {CONFIG} and {WEIGHTS}, it is no adapter")
    check_adapter(directory / WEIGHTS, config)
    base = base or Path(str(config.get("base_model_name_or_path")))
    if not base.is_dir():
        raise InputError(f"{directory}: was trained on {base}, which is not there. Put the model back, or name its folder in {CONFIG}")
    model = models.load(base, attn, four_bit(device or torch.device("cpu"), torch.float32) if packed else None, head)
    keep_exact(model)
    return laid_on(peft, model, directory)


def laid_on(peft: Any, model: Any, directory: Path) -> Any:
    """`model` with the adapter of `directory`. Raises InputError when they do not fit."""
    extend.regrow(model, directory)
    if leads.of_chatglm(config := read_json(directory / CONFIG)):
        return leads.laid_on(model, config, directory / WEIGHTS)
    try:
        with silent():
            adapted = peft.PeftModel.from_pretrained(model, str(directory), is_trainable=False, local_files_only=True, use_safetensors=True)
    except (ValueError, TypeError, LookupError, RuntimeError, OSError, SafetensorError) as error:
        raise InputError(f"{directory}: peft cannot read this adapter: {' '.join(str(error).split())[:300]}") from error
    return adapted.eval()


@contextmanager
def silent() -> Iterator[None]:
    """peft and transformers without advice of their own."""
    with warnings.catch_warnings(), models.quiet():
        warnings.simplefilter("ignore")
        yield
