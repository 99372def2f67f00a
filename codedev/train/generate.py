"""Text from a trained model: its config.json, *.safetensors and tokenizer.json, on a CPU or a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from codedev._errors import InputError, RecipeError
from codedev.train import model as models


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
    directory = model_dir / "model" if (model_dir / "model" / "config.json").is_file() else model_dir
    if not directory.is_dir():
        raise InputError(f"{directory}: there is no such model. Give a run directory, or one of config.json and *.safetensors")
    if not (directory / "tokenizer.json").is_file():
        raise InputError(f"{directory}: has no tokenizer.json. Copy the tokenizer that its shards were made with beside the model")
    try:
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{directory / 'tokenizer.json'}: is no tokenizer.json of the tokenizers library: {error}") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = models.load(directory, "sdpa")
    model.to(device).eval()
    config = model.config
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
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
    with torch.no_grad(), torch.random.fork_rng(), models.quiet():
        torch.manual_seed(seed)
        out = model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
            eos_token_id=config.eos_token_id,
            **sampling,
        )
    return str(tokenizer.decode(out[0, len(ids) :].tolist(), skip_special_tokens=True))
