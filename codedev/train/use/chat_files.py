"""What a conversation with a tuned model needs beside what every model has (companions.py): how to talk to it, and when to stop.

chat_template.jinja       the one that it was tuned with
generation_config.json    eos_token_id with the tokens that ended the answers, without which plain transformers would never stop
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from codedev._errors import InputError
from codedev._run import read_json, write_json, write_text
from codedev.tokenize.chat.templates import BUILT_IN, built_in
from codedev.tokenize.vocabulary import Vocabulary, load_vocabulary, special_ids
from codedev.train.data import Shards
from codedev.train.recipe import TrainRecipe
from codedev.train.use.companions import TEMPLATE, folder, own_template

_ROWS = 64  # looked at for what ends an answer
_SHARE = 0.05  # of the answers that end with a token, for it to be one that ends answers: others were cut there


def leave(recipe: TrainRecipe, shards: Shards, model_dir: Path) -> None:
    """Write them into RUN/model. `recipe` is absolute."""
    if not shards.tokenizer_file.is_file():
        return
    if (template := _template(recipe, shards)) is not None:
        write_text(model_dir / TEMPLATE, template)
    try:
        vocabulary = load_vocabulary(shards.tokenizer_file, need_eos=False)
    except InputError:  # at the end of a run it is too late to say so
        return
    if ends := ends_of_turns(shards, vocabulary):
        leave_ends(model_dir, ends)


def ends_of_turns(shards: Shards, vocabulary: Vocabulary) -> list[int]:
    """The special tokens that end what is learned, the commonest first."""
    special = special_ids(vocabulary)
    rows = shards.read(np.unique(np.linspace(0, shards.rows - 1, min(_ROWS, shards.rows)).astype(np.int64)))
    following = np.zeros_like(rows.targets)
    following[:, :-1] = rows.targets[:, 1:]
    ends = Counter(rows.input_ids[rows.targets & ~following].tolist())
    return [number for number, count in ends.most_common() if number in special and count > _SHARE * ends.total()]


def _template(recipe: TrainRecipe, shards: Shards) -> str | None:
    """The source of the template that the shards were made with, as far as it can be told."""
    kept = Path(recipe.data.prepared or "", TEMPLATE)
    if recipe.data.tables and kept.is_file():
        return kept.read_text(encoding="utf-8")
    try:
        name = read_json(shards.dirs[0] / "manifest.json")["recipe"]["chat"]["template"]
    except (InputError, KeyError, TypeError):
        return None
    if name in BUILT_IN:
        return built_in(name)
    origin = folder(recipe)
    if name == "tokenizer" and origin is not None:
        return own_template(origin)
    file = Path(str(name))
    return file.read_text(encoding="utf-8") if file.suffix in (".jinja", ".jinja2", ".j2") and file.is_file() else None


def leave_ends(model_dir: Path, ends: list[int]) -> None:
    """Add them to what ends a text in generation_config.json."""
    file = model_dir / "generation_config.json"
    config = read_json(file) if file.is_file() else {}
    known = config.get("eos_token_id")
    before = known if isinstance(known, list) else [] if known is None else [known]
    config = {key: value for key, value in config.items() if key != "_from_model_config"}  # from now on it says more than that
    write_json(file, {**config, "eos_token_id": [*before, *(number for number in ends if number not in before)]})
