"""Chat templates by name: those written for codedev (templates/*.jinja), a file, or the tokenizer's own.

    chatml      <|im_start|> and <|im_end|> with codedev's tokens for tools and thoughts; the default
    qwen        ChatML as Qwen 2 has it: a default system message, tools between tags
    llama2, llama3, mistral, zephyr, chatglm (ChatGLM-6B), chatglm3
    alpaca      instruction, input, response under headings
    plain       the texts one after another

All enclose what the assistant says in {% generation %}, so that what is learned is known to the character, and render the same in
`transformers`. Thoughts of earlier turns are kept: each turn reads as it was said.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import orjson
from tokenizers import Tokenizer

from codedev._errors import InputError, nearest
from codedev._run import read_json
from codedev.tokenize.chat.budget import RenderError
from codedev.tokenize.chat.plan import STRIPPED, Plan
from codedev.tokenize.chat.render import Inner, Rendered, Template, compile_template, render
from codedev.tokenize.vocabulary import Vocabulary, special_id, special_ids, token_name

# The built-in templates and the special tokens that each writes; `bos_token` where it begins with one.
BUILT_IN: dict[str, tuple[str, ...]] = {
    "chatml": (
        *("<|im_start|>", "<|im_end|>", "<|think_start|>", "<|think_end|>"),
        *("<|tool_call_start|>", "<|tool_call_end|>", "<|tool_result_start|>", "<|tool_result_end|>"),
    ),
    "alpaca": (),
    "chatglm": ("[gMASK]", "<sop>", "<eop>"),
    "chatglm3": ("[gMASK]", "sop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    "llama2": ("bos_token",),
    "llama3": ("bos_token", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "mistral": ("bos_token",),
    "plain": (),
    "qwen": ("<|im_start|>", "<|im_end|>"),
    "zephyr": (),
}
_PROBE = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})


def load_template(name_or_path: str, vocabulary: Vocabulary, tokenizer_directory: Path | None = None) -> Template:
    """A built-in template, a .jinja file, or with `tokenizer` what stands in the tokenizer's directory: chat_template.jinja, or
    chat_template in tokenizer_config.json. The directory is that of the vocabulary's file where none is given.

    InputError for what is not there, is no template, writes special tokens that the tokenizer lacks, or fails on a question and its answer.
    For sft, `check_spans` it too.
    """
    directory = tokenizer_directory or vocabulary.path.parent
    config = _config(directory)
    if name_or_path == "tokenizer":
        name, source = _own(directory, config)
    elif name_or_path in BUILT_IN:
        name, source = name_or_path, built_in(name_or_path)
        config = {}
    elif name_or_path.endswith((".jinja", ".jinja2", ".j2")) or Path(name_or_path).is_file():
        name, source = name_or_path, _read(Path(name_or_path))
    else:
        hint = nearest(name_or_path, [*BUILT_IN, "tokenizer"])
        raise InputError(f"chat template {name_or_path}: there is no such template or .jinja file: {hint}")
    specials = {token_name(vocabulary, number): number for number in special_ids(vocabulary)}
    specials.pop("", None)
    template = compile_template(name, source, specials, _variables(vocabulary, config), _strips(vocabulary))
    template = template._replace(inner=inner(vocabulary))
    if name in BUILT_IN:
        template = template._replace(plan=Plan(name in STRIPPED, {}))
    _check(template, vocabulary)
    return template


def built_in(name: str) -> str:
    """The source of a built-in template."""
    return (resources.files("codedev.tokenize.chat") / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def _own(directory: Path, config: dict[str, Any]) -> tuple[str, str]:
    file = directory / "chat_template.jinja"
    if file.is_file():
        return str(file), _read(file)
    source = config.get("chat_template")
    if isinstance(source, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        source = named.get("default")
    if not isinstance(source, str):
        raise InputError(
            f"{directory}: the tokenizer has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json). "
            f"Name one of {', '.join(BUILT_IN)}, or a .jinja file"
        )
    return str(directory / "tokenizer_config.json"), source


def _read(file: Path) -> str:
    if not file.is_file():  # opening a pipe would wait for ever
        raise InputError(f"{file}: cannot be read as a chat template: there is no such file")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as a chat template: {error}") from None


def _config(directory: Path) -> dict[str, Any]:
    file = directory / "tokenizer_config.json"
    config = read_json(file) if file.is_file() else {}
    return config if isinstance(config, dict) else {}


def _variables(vocabulary: Vocabulary, config: dict[str, Any]) -> dict[str, str]:
    """bos_token, eos_token, …: as the tokenizer's configuration names them, else those that the vocabulary was loaded with."""
    found = {"eos_token": token_name(vocabulary, vocabulary.eos_id), "pad_token": token_name(vocabulary, vocabulary.pad_id)}
    if vocabulary.bos_id is not None:
        found["bos_token"] = token_name(vocabulary, vocabulary.bos_id)
    for key, value in config.items():
        if key.endswith("_token"):
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                found[key] = text
    return found


def _strips(vocabulary: Vocabulary) -> dict[int, tuple[bool, bool]]:
    """Special tokens that take blanks beside them, as Phi 3's do."""
    tokens = vocabulary.tokenizer.get_added_tokens_decoder() if vocabulary.tokenizer is not None else {}
    return {number: (token.lstrip, token.rstrip) for number, token in tokens.items() if token.special and (token.lstrip or token.rstrip)}


def inner(vocabulary: Vocabulary) -> Inner | None:
    """The vocabulary without the blank that SentencePiece's tokenizers put before a text; None where it puts none."""
    if vocabulary.engine is not None or vocabulary.tokenizer is None:
        return None
    model = orjson.loads(vocabulary.tokenizer.to_str())
    steps = [step for part in ("normalizer", "pre_tokenizer") for step in _steps(model.get(part))]
    spaces = {step.get("prepend_scheme") for step in steps if step["type"] == "Metaspace"} - {"never"}
    if not spaces and not any(step["type"] == "Prepend" for step in steps):
        return None
    for step in steps:
        if step["type"] == "Metaspace":
            step["prepend_scheme"] = "never"
        elif step["type"] == "Prepend":
            step["prepend"] = ""
    tokenizer = Tokenizer.from_str(orjson.dumps(model).decode())
    tokenizer.encode_special_tokens = True  # as in the vocabulary
    return Inner(vocabulary._replace(tokenizer=tokenizer), behind_specials="first" in spaces)


def _steps(part: Any) -> list[dict[str, Any]]:
    """A normalizer or pretokenizer and what it consists of."""
    if not isinstance(part, dict):
        return []
    inside = part.get("normalizers") or part.get("pretokenizers") or []
    return [part, *(step for one in inside for step in _steps(one))]


def _check(template: Template, vocabulary: Vocabulary) -> None:
    """InputError unless the template can be used with the tokenizer."""
    for special in BUILT_IN.get(template.name, ()):
        if special == "bos_token" and vocabulary.bos_id is None:
            raise InputError(
                f"{vocabulary.path}: the chat template {template.name} begins with a special token for that. Name it with --bos TOKEN"
            )
        if special != "bos_token" and special_id(vocabulary, special) is None:
            raise InputError(
                f"{vocabulary.path}: has no special token {special}, which the chat template {template.name} writes. Add it with "
                "`codedev tokenizer extend`, or choose another template (chat.template)"
            )
    _probed(template, "none")


def check_spans(template: Template) -> None:
    """InputError where what the assistant says in a question and its answer cannot be told: the template is no use for sft, unless all is
    learned."""
    if not _probed(template, "all").loss:
        raise InputError(
            f"{template.name}: encloses no answer in {{% generation %}}, so nothing would be learned. Enclose what the assistant says"
        )


def _probed(template: Template, spans: Literal["all", "none"]) -> Rendered:
    try:
        return render(template, _PROBE, spans=spans)
    except RenderError as error:
        raise InputError(f"the chat template {error}") from None
