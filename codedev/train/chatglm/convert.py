"""Released ChatGLM checkpoints as directories that are trained and used here: no code of theirs is run, no pickle read.

    ChatGLM2/3-6B   a native Glm of transformers, which needs no codedev
    ChatGLM-6B      its own form, whose names of weights are kept: a copy without what runs code, and with a tokenizer

Weights are copied as the bytes they are (`store`), so that their type is kept and memory stays at a few megabytes whatever their size. What
is not known is refused by name: a tensor, a shape, a key of the configuration that would change what the model computes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from codedev._errors import InputError
from codedev._run import TEMPORARY, read_json, write_json, write_text
from codedev.train.chatglm import glm, native, store
from codedev.train.chatglm.family import GLM, family
from codedev.train.chatglm.tokenizer import Tokens, write_tokenizer
from codedev.train.weights import CONFIG, check_checkpoint

Rope = Literal["auto", "base", "positions"]
_FROM_PICKLE = (
    "import glob, torch; from safetensors.torch import save_file; "
    "[save_file({k: v.clone() for k, v in torch.load(f, map_location='cpu', weights_only=True).items()}, f[:-3] + 'safetensors') "
    "for f in glob.glob('pytorch_model*.bin')]"
)


def convert(source: Path, out: Path, rope: Rope = "auto", progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Write the checkpoint in the directory `source` to `out`, which must not be there yet, or be empty; whole or not at all.

    `rope` says what rope_ratio multiplies where `source` does not tell (glm.rope). `progress(done, total)` in bytes.
    Returns model (ChatGLM-6B, ChatGLM2 or ChatGLM3 family), model_type, out, tensors, parameters, bytes, files, dtype, vocab_size, rope,
    tokenizer (its file, or why there is none), chat_template. Raises InputError.
    """
    fields = _fields(source)
    tensors = check_checkpoint(source, {"chatglm"})
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out}: is there already. Choose another folder")
    made = (glm.plan if family(fields) == GLM else native.plan)(source, fields, tensors, rope)
    temporary = out.with_name(f"{TEMPORARY}{out.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        files = store.copy(made.copies, temporary, progress or (lambda done, total: None))
        tokens = write_tokenizer(source, temporary, made)
        write_json(temporary / CONFIG, made.config)
        write_json(temporary / "generation_config.json", _generation(made.config, tokens))
        if tokens.template is not None:
            write_text(temporary / "chat_template.jinja", tokens.template)
        if out.is_dir():
            out.rmdir()
        os.rename(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return {
        "model": made.name,
        "model_type": made.config["model_type"],
        "out": str(out),
        "tensors": len(made.copies),
        "parameters": sum(copy.numbers for copy in made.copies),
        "bytes": sum(copy.bytes for copy in made.copies),
        "files": files,
        "dtype": made.config["dtype"],
        "vocab_size": made.config["vocab_size"],
        "rope": made.rope,
        "tokenizer": tokens.file or f"none: {tokens.why}",
        "chat_template": tokens.named,
    }


def _fields(source: Path) -> dict[str, Any]:
    """config.json, after a look whether it can be converted at all."""
    if not source.is_dir():
        raise InputError(f"{source}: there is no such directory. Give that of a ChatGLM checkpoint: config.json and *.safetensors")
    if not (source / CONFIG).is_file():
        raise InputError(f"{source}: has no {CONFIG}, it is no checkpoint")
    fields = read_json(source / CONFIG)
    kind = family(fields) if isinstance(fields, dict) else None
    if kind is None:
        told = fields.get("model_type") if isinstance(fields, dict) else None
        raise InputError(f"{source / CONFIG}: its model_type is {told!r}, not 'chatglm': there is nothing to convert")
    if not any(source.glob("*.safetensors")):
        pickles = sorted(file.name for file in source.glob("*.bin"))
        if pickles:
            raise InputError(
                f"{source}: holds pickles ({pickles[0]}), which are never read here, since they may run code. Take the checkpoint as "
                f'*.safetensors; or, if you trust it, write them in its folder: python -c "{_FROM_PICKLE}"'
            )
        raise InputError(f"{source}: has no *.safetensors. Take the whole checkpoint")
    return dict(fields)


def _generation(config: dict[str, Any], tokens: Tokens) -> dict[str, Any]:
    """What ends an answer: the end of text, and the markers of the next role."""
    ends = config["eos_token_id"]
    ends = [*(ends if isinstance(ends, list) else [ends]), *tokens.ends]
    return {
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": list(dict.fromkeys(ends)) if len(ends) > 1 else ends[0],
        "pad_token_id": config["pad_token_id"],
    }
