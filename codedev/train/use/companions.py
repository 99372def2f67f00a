"""What lies beside a model's weights so that plain transformers uses it as codedev does, with no codedev installed.

    tokenizer.json or tokenizer.model   that of the shards; where their documents begin with a special token that it does not write itself,
                            with a post-processor that does: transformers 5 reads no other setting for that. Ids of text stay the same
    tokenizer_config.json   which class reads it, and the names of its special tokens
    chat_template.jinja     of the model that a run began from, where it has one; stage sft puts its own in its place (chat_files.py)

Without the first key transformers chooses a class by the model's kind, which for some builds a tokenizer of its own out of the vocabulary,
with other ids for the same text.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import orjson
from tokenizers import Tokenizer, processors

from codedev._errors import InputError
from codedev._run import read_json, write_json, write_text
from codedev.tokenize.formats import JSON
from codedev.tokenize.vocabulary import load_vocabulary, token_name
from codedev.train.recipe import TrainRecipe

TOKENIZER_CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
_NOT_KEPT = {
    "auto_map",
    "chat_template",
    "name_or_path",
    "tokenizer_file",
    "special_tokens_map_file",
    "fast_tokenizer_files",
}  # code, or elsewhere, or paths


def leave(target: Path, tokenizer_file: Path, base: Path | None = None) -> None:
    """Write them into `target`. `tokenizer_file` lies in a shard directory, `base` is the folder that it was taken from."""
    if not tokenizer_file.is_file():
        return
    try:
        vocabulary = load_vocabulary(tokenizer_file, need_eos=False)
    except InputError:  # at the end of a run it is too late to say so
        shutil.copyfile(tokenizer_file, target / tokenizer_file.name)
        return
    manifest = _read(tokenizer_file.parent / "manifest.json")
    config: dict[str, Any] = {"clean_up_tokenization_spaces": False, **_kept(base)}
    for kind in ("bos", "eos", "pad"):
        number = manifest.get(f"{kind}_id")
        if isinstance(number, int) and (name := token_name(vocabulary, number)):
            config.setdefault(f"{kind}_token", name)
    data = tokenizer_file.read_bytes()
    if vocabulary.tokenizer is not None and tokenizer_file.name == JSON:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        begin = manifest.get("bos_id")
        if isinstance(begin, int) and not vocabulary.tokenizer.encode("", add_special_tokens=True).ids:
            config["add_bos_token"] = True  # for readers other than transformers
            data = _beginning(data, vocabulary.tokenizer, begin)
    (target / tokenizer_file.name).write_bytes(data)
    write_json(target / TOKENIZER_CONFIG, config)
    if base is not None and (template := own_template(base)) is not None:
        write_text(target / TEMPLATE, template)


def folder(recipe: TrainRecipe) -> Path | None:
    """Where the tokenizer of a run came from, as far as the recipe (absolute) tells; None where it tells nothing."""
    path = recipe.data.tokenizer or recipe.model.path
    if path is None:
        return None
    return Path(path) if Path(path).is_dir() else Path(path).parent


def own_template(folder: Path) -> str | None:
    """The chat template in the folder of a tokenizer."""
    file = folder / TEMPLATE
    if file.is_file():
        return file.read_text(encoding="utf-8")
    source = _read(folder / TOKENIZER_CONFIG).get("chat_template")
    if isinstance(source, list):  # several, by name
        source = next((one.get("template") for one in source if isinstance(one, dict) and one.get("name") == "default"), None)
    return source if isinstance(source, str) else None


def _beginning(data: bytes, tokenizer: Tokenizer, begin: int) -> bytes:
    """A tokenizer.json that puts its token `begin` before every text."""
    name = tokenizer.id_to_token(begin)
    made = Tokenizer.from_str(tokenizer.to_str())
    alone, twice = [f"{name}:0", "$A:0"], [f"{name}:0", "$A:0", f"{name}:1", "$B:1"]
    made.post_processor = processors.TemplateProcessing(single=alone, pair=twice, special_tokens=[(name, begin)])
    step, file = orjson.loads(made.to_str())["post_processor"], orjson.loads(data)
    own = file.get("post_processor")
    file["post_processor"] = step if own is None else {"type": "Sequence", "processors": [own, step]}
    return orjson.dumps(file, option=orjson.OPT_INDENT_2)


def _kept(folder: Path | None) -> dict[str, Any]:
    found = _read(folder / TOKENIZER_CONFIG) if folder is not None else {}
    return {key: value for key, value in found.items() if key not in _NOT_KEPT}


def _read(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file) if file.is_file() else {}
    except (InputError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
