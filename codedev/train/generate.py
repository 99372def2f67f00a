"""Text from a trained model: its config.json, *.safetensors and tokenizer.json or tokenizer.model, on a CPU or a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from codedev._errors import InputError, RecipeError
from codedev.tokenize.formats import JSON, PIECES
from codedev.tokenize.vocabulary import Vocabulary, decode, encode_plain, load_vocabulary
from codedev.train import model as models
from codedev.train import tune


def generate(model_dir: Path, prompt: str, max_new_tokens: int = 128, temperature: float = 0.8, top_p: float = 0.95, seed: int = 0) -> str:
    """What the model writes after `prompt`, up to the end of the document. `model_dir` is a model's directory or that of a run.

    `temperature` 0 takes the likeliest token each time. The same arguments give the same text on the same machine.
    Raises InputError when the model or its tokenizer is missing.
    """
    if not (temperature == 0 or 1e-3 <= temperature <= 1e3) or not 0 < top_p <= 1 or max_new_tokens < 1:
        raise RecipeError("generate: temperature must be 0 or 0.001 to 1000, top_p in (0, 1], max_new_tokens 1 or more")
    if not -(1 << 63) <= seed < 1 << 63:
        raise RecipeError(f"generate: the seed {seed} is no 64-bit integer")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise InputError("generate: the prompt is not UTF-8. Write it in UTF-8") from None
    inside = any((model_dir / "model" / name).is_file() for name in ("config.json", tune.CONFIG))
    directory = model_dir / "model" if inside else model_dir
    if not directory.is_dir():
        raise InputError(f"{directory}: there is no such model. Give a run directory, or one of config.json and *.safetensors")
    vocabulary = _vocabulary(directory)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    adapter = (directory / tune.CONFIG).is_file()
    model: Any = tune.open_adapter(directory, device=torch.device(device)) if adapter else models.load(directory, "sdpa")
    model.to(device).eval()
    config = model.config
    if vocabulary.tokenizer is not None:
        vocabulary.tokenizer.encode_special_tokens = False  # a prompt is its writer's own: special tokens in it are meant
        ids = vocabulary.tokenizer.encode(prompt, add_special_tokens=False).ids
    else:
        ids = encode_plain(vocabulary, pa.array([prompt], pa.large_string())).ids.tolist()
    if config.bos_token_id is not None:
        ids = [config.bos_token_id, *ids]
    if (known := models.vocabulary(model)) <= max(ids, default=0):
        raise InputError(
            f"{directory}: its tokenizer gives the token {max(ids)}, the model knows {known}. Give the model its own tokenizer"
        )
    if not ids:
        raise InputError("generate: this tokenizer has no beginning-of-document token, so the prompt must not be empty")
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {"do_sample": False}
    inputs = torch.tensor([ids], device=device)
    pad = config.pad_token_id if config.pad_token_id is not None else config.eos_token_id
    with torch.no_grad(), torch.random.fork_rng(), tune.silent():
        torch.manual_seed(seed)
        out = model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
            eos_token_id=config.eos_token_id,
            **sampling,
        )
    return decode(vocabulary, out[0, len(ids) :].tolist(), specials=False)


def _vocabulary(directory: Path) -> Vocabulary:
    for name in (JSON, PIECES):
        if (directory / name).is_file():
            return load_vocabulary(directory / name, need_eos=False)
    raise InputError(f"{directory}: has no {JSON} or {PIECES}. Copy the tokenizer that its shards were made with beside the model")
