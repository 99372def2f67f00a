"""The tokenizer of a converted checkpoint: tokenizer.model with the special tokens in it, as `codedev tokenize` and generation read it.

A document begins with <sop> (ChatGLM-6B) or sop (ChatGLM2/3). The released code has [gMASK] before it: of ChatGLM-6B the model itself adds
that (layout), of the others it stands in conversations alone, which the chat template begins. Plain transformers has no class for these
files; a text is encoded to what the released code makes of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from codedev._errors import InputError
from codedev._run import atomic_write, write_json
from codedev.tokenize.chat.templates import built_in
from codedev.tokenize.formats import PIECES
from codedev.tokenize.pieces import load_pieces
from codedev.train.chatglm import pieces
from codedev.train.chatglm.family import Plan

_FILES = {1: "ice_text.model"}  # else tokenizer.model
_MOST = 1 << 26  # bytes of a model file; ice_text.model has 2.7 MB

# ChatGLM2's rounds of question and answer, as its released build_prompt writes them.
_TEMPLATE_2 = """\
{{- '[gMASK]sop' -}}
{%- set ns = namespace(round=0) -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {{- message.content }}{{ '\\n\\n' -}}
    {%- elif message.role == 'user' -%}
        {%- set ns.round = ns.round + 1 -%}
        {{- '[Round ' ~ ns.round ~ ']\\n\\n问：' }}{{ message.content }}{{ '\\n\\n答：' -}}
    {%- elif message.role == 'assistant' and not message.tool_calls -%}
        {%- generation -%}
            {{- message.content -}}
            {%- if loop.last -%}
                {{- eos_token -}}
            {%- endif -%}
        {%- endgeneration -%}
        {%- if not loop.last -%}
            {{- '\\n\\n' -}}
        {%- endif -%}
    {%- else -%}
        {{- raise_exception('the chatglm2 format has no tools') -}}
    {%- endif -%}
{%- endfor -%}
"""


class Tokens(NamedTuple):
    file: str | None
    why: str  # there is no file
    ends: tuple[int, ...]  # that end an answer beside eos
    template: str | None  # its source
    named: str | None


_NONE = Tokens(None, "", (), None, None)


def write_tokenizer(source: Path, folder: Path, plan: Plan) -> Tokens:
    """Write the tokenizer into `folder`; the plan's configuration gets the ids of special tokens. A checkpoint without a tokenizer, or with
    one of another form, is converted without. InputError for one that does not fit its model."""
    file = source / _FILES.get(plan.generation or 0, PIECES)
    if plan.generation == 1 and not file.is_file():
        file = source / PIECES
    if not file.is_file():
        return _NONE._replace(why=f"{file.name} is not there")
    if file.stat().st_size > _MOST:
        raise InputError(f"{file}: has {file.stat().st_size:,} bytes, more than any tokenizer of ChatGLM")
    data = file.read_bytes()
    try:
        own = pieces.names(data)
    except (ValueError, IndexError):
        return _NONE._replace(why=f"{file.name} is no SentencePiece model; of GLM-4, take the tokenizer that transformers' glm-4-9b-hf has")
    if plan.generation == 1:
        written, found = _of_v1(file, data, own, plan)
    else:
        written, found = _of_v2(file, data, own, plan)
    load_pieces(file, written)  # it can be read
    with atomic_write(folder / PIECES) as temporary:
        temporary.write_bytes(written)
    write_json(folder / "tokenizer_config.json", {f"{role}_token": name for role, name in _named(plan).items()})
    return found


def _named(plan: Plan) -> dict[str, str]:
    first = plan.generation == 1
    return {"bos": "<sop>" if first else "sop", "eos": "<eop>" if first else "</s>", "pad": "<pad>" if first else "<unk>"}


def _of_v1(file: Path, data: bytes, own: list[str], plan: Plan) -> tuple[bytes, Tokens]:
    ids = {name: number for number, name in enumerate(own)}
    wanted = {"<sop>": "bos_token_id", "<eop>": "eos_token_id", "[gMASK]": "gmask_token_id", "[MASK]": "mask_token_id"}
    missing = [name for name in wanted if name not in ids]
    if missing:
        raise InputError(f"{file}: has no piece {missing[0]}, it is no tokenizer of ChatGLM-6B")
    before = {plan.config[key] - ids[name] for name, key in wanted.items()}
    if len(before) > 1 or min(before) < 0 or min(before) + len(own) > plan.config["vocab_size"]:
        told = ", ".join(f"{name} {ids[name]} ({key} {plan.config[key]})" for name, key in wanted.items())
        raise InputError(f"{file}: its special tokens are not those of the model: {told}. Take both from one release")
    named = {role: name for role, name in _named(plan).items() if name in ids}
    controls = (*(name for name in pieces.V1 if name in ids), *named.values())
    return pieces.rewritten(data, controls, named, min(before)), Tokens(PIECES, "", (), built_in("chatglm"), "chatglm")


def _of_v2(file: Path, data: bytes, own: list[str], plan: Plan) -> tuple[bytes, Tokens]:
    controls = pieces.V2 if plan.generation == 2 else pieces.V3
    if set(controls) & set(own):
        raise InputError(f"{file}: has {min(set(controls) & set(own))} already, which released models do not. Copy the tokenizer again")
    ids = {name: len(own) + index for index, name in enumerate(controls)}
    if len(own) + len(controls) > plan.config["vocab_size"]:
        raise InputError(f"{file}: has {len(own)} pieces, and its model {plan.config['vocab_size']} tokens. Take both from one release")
    # pad is the model's <unk>, which no control symbol can be: it is left to the configuration.
    named = {role: name for role, name in _named(plan).items() if role != "pad"}
    plan.config["bos_token_id"] = ids["sop"]
    if plan.generation == 2:
        return pieces.rewritten(data, controls, named), Tokens(PIECES, "", (), _TEMPLATE_2, "chatglm2")
    ends = (ids["<|user|>"], ids["<|observation|>"])
    known = plan.generation == 3
    found = Tokens(PIECES, "", ends if known else (), built_in("chatglm3") if known else None, "chatglm3" if known else None)
    return pieces.rewritten(data, controls, named), found
