"""Text from a trained model, an adapter or a run, on a CPU or a GPU.

A directory of config.json and *.safetensors, or of adapter_config.json and adapter_model.safetensors, with its tokenizer; or a run, whose
model/ is one of the two. The arithmetic is float32 on a CPU and bfloat16 on a GPU.

Tokens are drawn with random numbers of their prompt's own, so that what is written does not depend on the prompts it is computed with.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria, TemperatureLogitsWarper, TopPLogitsWarper

from codedev import _recipe
from codedev._errors import InputError, RecipeError
from codedev._run import read_json
from codedev.tokenize.formats import find_file
from codedev.tokenize.vocabulary import Vocabulary, encode_plain, load_vocabulary
from codedev.train import model as models
from codedev.train import tune
from codedev.train.model_path import in_cache
from codedev.train.recipe import TrainRecipe, absolute
from codedev.train.use.stream import TextStream

GENERATION = "generation_config.json"
OnText = Callable[[str], None]
Why = Literal["end", "stop", "length"]  # an end-of-text token, a stop string, max_new_tokens or the model's positions
_SAMPLING = {
    "do_sample": (0, 1),
    "temperature": (1e-3, 1e3),
    "top_p": (1e-6, 1.0),
    "top_k": (0, 1 << 20),
    "repetition_penalty": (0.1, 10.0),
    "no_repeat_ngram_size": (0, 100),
}
_LONGEST = 1024  # characters of a token: the longest in use, of blanks, have 512
_ROWS = 8  # prompts that are computed together
_SORTED = 32  # times as many are read ahead, so that those of like length come together


class Sampling(NamedTuple):
    max_new_tokens: int = 128
    temperature: float = 0.8  # 0: the likeliest token each time
    top_p: float = 0.95
    seed: int = 0
    stops: tuple[str, ...] = ()  # a text ends before the first of them


class Opened(NamedTuple):
    """A model ready to write."""

    directory: Path
    model: Any
    vocabulary: Vocabulary
    device: torch.device
    ends: frozenset[int]  # tokens that end a text or a turn
    positions: int | None  # prompt and text together; None: any number
    learned: bool  # vectors stand before every text, so texts of one length alone can be computed together


class Written(NamedTuple):
    text: str
    tokens: int
    why: Why


def generate(model_dir: Path, prompt: str, max_new_tokens: int = 128, temperature: float = 0.8, top_p: float = 0.95, seed: int = 0) -> str:
    """What the model writes after `prompt`, up to the end of the document.

    `temperature` 0 takes the likeliest token each time. The same arguments give the same text on the same machine.
    Raises InputError when the model or its tokenizer is missing.
    """
    sampling = checked(Sampling(max_new_tokens, temperature, top_p, seed))
    check_text(prompt)
    opened = open_model(model_dir)
    return write(opened, [prompt_ids(opened, prompt)], sampling)[0].text


def checked(sampling: Sampling) -> Sampling:
    """RecipeError for settings that mean nothing."""
    if not (sampling.temperature == 0 or 1e-3 <= sampling.temperature <= 1e3) or not 0 < sampling.top_p <= 1 or sampling.max_new_tokens < 1:
        raise RecipeError("generate: temperature must be 0 or 0.001 to 1000, top_p in (0, 1], max_new_tokens 1 or more")
    if not -(1 << 63) <= sampling.seed < 1 << 63:
        raise RecipeError(f"generate: the seed {sampling.seed} is no 64-bit integer")
    return sampling


def place_of(path: Path) -> Path:
    """The model's or adapter's directory: `path`, or the model/ of a run. InputError where there is none."""
    path = path if path.exists() else in_cache(path.as_posix()) or path
    inside = any((path / "model" / name).is_file() for name in ("config.json", tune.CONFIG))
    directory = path / "model" if inside else path
    if not directory.is_dir():
        raise InputError(f"{directory}: there is no such model. Give a run directory, or one of config.json and *.safetensors")
    return directory


def open_model(path: Path) -> Opened:
    """The model, adapter or run at `path`. Never the network, never a pickle, no remote code. Raises InputError."""
    directory = place_of(path)
    adapter = (directory / tune.CONFIG).is_file()
    vocabulary = load_vocabulary(_tokenizer_folder(directory), need_eos=False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model: Any = tune.open_adapter(directory, device=device) if adapter else models.load(directory, "sdpa")
    if device.type == "cuda" and not any(tune.quantised(model)):
        model.to(torch.bfloat16)
    model.to(device).eval()
    config, learned = model.config, adapter and bool(model.active_peft_config.is_prompt_learning)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and learned:
        positions -= model.active_peft_config.num_virtual_tokens
    model.generation_config = _plain(model.generation_config)
    return Opened(directory, model, vocabulary, device, frozenset(ends_of(model, directory)), positions, learned)


def _plain(given: Any) -> Any:
    """What a generation_config.json may say of sampling. The rest of it would load code, ask for a search that is none of ours, or fail."""
    make: Any = GenerationConfig  # without types
    config: Any = make()
    for name, (low, high) in _SAMPLING.items():
        value = getattr(given, name, None)
        if (
            isinstance(value, int | float)
            and low <= value <= high
            and (isinstance(value, int) or not name.endswith(("_id", "_size", "_k")))
        ):
            setattr(config, name, value)
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        setattr(config, name, getattr(given, name, None))
    return config


def ends_of(model: Any, directory: Path) -> list[int]:
    """The tokens that end a text, as the model says and generation_config.json in `directory`, which peft does not read beside adapters."""
    file = directory / GENERATION
    beside = read_json(file) if file.is_file() else {}
    said = [model.config.eos_token_id, getattr(model.generation_config, "eos_token_id", None)]
    said.append(beside.get("eos_token_id") if isinstance(beside, dict) else None)
    return sorted({number for one in said for number in (one if isinstance(one, list) else [one]) if isinstance(number, int)})


def base_of(directory: Path) -> Path | None:
    """The folder of the model that an adapter was trained on, where it is there."""
    config = read_json(directory / tune.CONFIG) if (directory / tune.CONFIG).is_file() else None
    base = Path(str(config.get("base_model_name_or_path"))) if isinstance(config, dict) else None
    return base if base is not None and base.is_dir() else None


def prompt_ids(opened: Opened, prompt: str) -> list[int]:
    """The tokens of a prompt: behind the token that begins a document. Special tokens in it are meant: a prompt is its writer's own."""
    vocabulary = opened.vocabulary
    check_length(opened, len(prompt))
    if vocabulary.tokenizer is not None:
        vocabulary.tokenizer.encode_special_tokens = False
        try:
            ids = vocabulary.tokenizer.encode(prompt, add_special_tokens=False).ids
        except BaseException as error:  # a panic of the library is no Exception
            if type(error).__name__ != "PanicException":
                raise
            raise InputError(f"{vocabulary.path}: cannot encode the prompt: {str(error)[:200]}. Use another tokenizer") from None
        finally:
            vocabulary.tokenizer.encode_special_tokens = True
    else:
        ids = encode_plain(vocabulary, pa.array([prompt], pa.large_string())).ids.tolist()
    begin = opened.model.config.bos_token_id
    ids = ids if begin is None else [begin, *ids]
    if not ids:
        raise InputError("generate: this tokenizer has no beginning-of-document token, so the prompt must not be empty")
    return checked_ids(opened, ids)


def check_length(opened: Opened, characters: int) -> None:
    """InputError for a text that is too long whatever its tokens are, before minutes are spent on finding out."""
    if opened.positions is not None and characters > _LONGEST * opened.positions:
        raise InputError(
            f"{opened.directory}: a prompt of {characters:,} characters; the model has {opened.positions:,} positions for it. Shorten it"
        )


def checked_ids(opened: Opened, ids: list[int]) -> list[int]:
    """InputError where the model cannot go on from `ids`."""
    if (known := models.vocabulary(opened.model)) <= max(ids):
        raise InputError(
            f"{opened.directory}: its tokenizer gives the token {max(ids)}, the model knows {known}. Give the model its own tokenizer"
        )
    if opened.positions is not None and len(ids) >= opened.positions:
        raise InputError(
            f"{opened.directory}: a prompt of {len(ids)} tokens; the model has {opened.positions} positions for it and what follows. "
            "Shorten it"
        )
    return ids


def write(
    opened: Opened, prompts: Sequence[list[int]], sampling: Sampling, numbers: Sequence[int] | None = None, on_text: OnText | None = None
) -> list[Written]:
    """What the model writes after each of the `prompts` (tokens), computed together.

    `numbers`: which random numbers each draws from, default 0, 1, … `on_text` gets the text of the first prompt piece by piece.
    """
    streams = [TextStream(opened.vocabulary, ids, sampling.stops) for ids in prompts]
    longest = max(map(len, prompts))
    room = sampling.max_new_tokens if opened.positions is None else min(sampling.max_new_tokens, opened.positions - longest)
    config = opened.model.config
    pad = config.pad_token_id if config.pad_token_id is not None else min(opened.ends, default=0)
    # On the left: the next token of all prompts is in the same column.
    inputs = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in prompts], device=opened.device)
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=opened.device)
    processors: list[LogitsProcessor] = []
    if sampling.temperature:
        if sampling.temperature != 1:
            processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_p < 1:
            processors.append(TopPLogitsWarper(sampling.top_p))
        processors.append(_Draw(sampling.seed, numbers or range(len(prompts))))
    settings = copy.deepcopy(opened.model.generation_config)
    chosen: dict[str, Any] = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "max_new_tokens": room, "max_length": None}
    settings.update(**chosen, pad_token_id=pad, eos_token_id=sorted(opened.ends) or None, return_dict_in_generate=False)
    watch = _Watch(streams, opened.ends, on_text)
    with torch.no_grad(), tune.silent():
        opened.model.generate(
            input_ids=inputs, attention_mask=mask, generation_config=settings, logits_processor=processors, stopping_criteria=[watch]
        )
    for number, stream in enumerate(streams):
        left = stream.end()
        if on_text is not None and number == 0 and left:
            on_text(left)
    return [Written(stream.text, stream.tokens, why or "length") for stream, why in zip(streams, watch.why, strict=True)]


def write_all(opened: Opened, prompts: Iterable[list[int]], sampling: Sampling, begin: int = 0) -> Iterator[Written]:
    """What the model writes after each of any number of prompts (tokens), in their order, the first of which draws as number `begin`."""
    prompts = iter(prompts)
    while batch := list(islice(prompts, _ROWS * _SORTED)):
        made: list[Written | None] = [None] * len(batch)
        for group in _groups(batch, opened):
            together = write(opened, [batch[number] for number in group], sampling, [begin + number for number in group])
            for number, one in zip(group, together, strict=True):
                made[number] = one
        yield from (one for one in made if one is not None)
        begin += len(batch)


def _groups(batch: list[list[int]], opened: Opened) -> Iterator[list[int]]:
    """The numbers of the prompts, those of like length together."""
    group: list[int] = []
    for number in sorted(range(len(batch)), key=lambda number: len(batch[number])):
        if group and (len(group) == _ROWS or (opened.learned and len(batch[number]) != len(batch[group[0]]))):
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def check_text(prompt: str) -> None:
    """InputError for what is no Unicode."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise InputError("generate: the prompt is not UTF-8. Write it in UTF-8") from None


class _Draw(LogitsProcessor):
    """Makes the likeliest token a drawn one: with exponential numbers q, argmax of log p - log q is a draw from p. Every row has numbers of
    its own, from the seed and the number of its prompt."""

    def __init__(self, seed: int, numbers: Sequence[int]) -> None:
        self._random = [torch.Generator().manual_seed((seed + 0x9E3779B97F4A7C15 * number) % (1 << 63)) for number in numbers]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """(rows, tokens) and (rows, vocabulary) -> (rows, vocabulary)"""
        size = scores.shape[1]
        drawn = torch.stack([torch.empty(size).exponential_(generator=random) for random in self._random])
        return scores.float() - drawn.clamp_min_(torch.finfo(torch.float32).tiny).log_().to(scores.device)


class _Watch(StoppingCriteria):
    """Turns tokens into text as they come, and ends a row at a stop string."""

    def __init__(self, streams: list[TextStream], ends: frozenset[int], on_text: OnText | None) -> None:
        self._streams, self._ends, self._on_text = streams, ends, on_text
        self.why: list[Why | None] = [None] * len(streams)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:  # type: ignore[override]
        for number, token in enumerate(input_ids[:, -1].tolist()):
            if self.why[number] is None:
                if token in self._ends:
                    self.why[number] = "end"
                    continue
                told = self._streams[number].add(token)
                if self._on_text is not None and number == 0 and told:
                    self._on_text(told)
                if self._streams[number].stopped:
                    self.why[number] = "stop"
        return torch.tensor([why is not None for why in self.why], device=input_ids.device)


def _tokenizer_folder(directory: Path) -> Path:
    """Where the tokenizer lies: beside the model, or beside the one that an adapter was trained on."""
    for folder in (directory, base_of(directory), *run_folders(directory)):
        if folder is not None and _has_tokenizer(folder):
            return folder
    raise InputError(f"{directory}: has no tokenizer.json or tokenizer.model. Copy the tokenizer that its shards were made with beside it")


def run_folders(directory: Path) -> list[Path]:
    """Where a checkpoint's tokenizer and chat template lie, which it lacks: in its run's model, tables and shards."""
    run_dir = directory.resolve().parent.parent
    if directory.resolve().parent.name != "checkpoints" or not (run_dir / "recipe.yaml").is_file():
        return []
    recipe = absolute(_recipe.load(run_dir / "recipe.yaml", TrainRecipe), run_dir)
    prepared = [Path(recipe.data.prepared)] if recipe.data.prepared else []
    origin = [Path(path) for path in (recipe.data.tokenizer, recipe.model.path) if path is not None]
    return [run_dir / "model", *prepared, *map(Path, recipe.data.dirs), *origin]


def _has_tokenizer(folder: Path) -> bool:
    try:
        return find_file(folder).is_file()
    except InputError:
        return False
