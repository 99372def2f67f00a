"""Ranks as a tokenizer.json: tiktoken's files, Mistral's tekken, and vocab.json with merges.txt.

The tokenizer.json has the ids of the original for every text, and any library loads it:

    ranks    tiktoken looks a piece up whole, else merges the neighbours whose bytes together have the least rank: that is `ignore_merges`
             and a list of merges in the order of the ranks. Of all ways to part a token in two tokens texts reach one (kernels.bpe_tables
             says why), so pairs that make the same token never compete. Tested id by id against tiktoken.
    special  stand in the model's vocabulary too, so that each keeps its id whatever gaps the ranks have. No merge makes them, and it is
             checked that none is a piece of text that would be looked up whole.

A file of ranks does not say how text is cut into pieces. OpenAI's, Qwen's and Llama 3's are known by their contents; another one needs
`tokenizer.manifest.json` beside it (codedev's, whose `preset` tells), or a name from `kernels.pretokens.SHAPES`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codedev._errors import InputError, nearest
from codedev._run import read_json
from codedev.kernels.bpe_tables import ID_BITS, NONE
from codedev.kernels.pretokens import SHAPES
from codedev.tokenize import engine
from codedev.tokenize.presets import BOS_NAMES, EOS_NAMES, PAD_NAMES, PATTERNS
from codedev.tokenize.shapes import O200K, QWEN35, TEKKEN

REGEXES = {**PATTERNS, "o200k": O200K, "tekken": TEKKEN, "qwen3.5": QWEN35}  # by the names of SHAPES


class Known(NamedTuple):
    shape: str
    special: dict[str, int]


# By the SHA-256 of the lines "base64 rank" in the order of the ranks. Ids: tiktoken's openai_public.py; Qwen's tokenization_qwen.py (those
# that every version has; later ones are told by the tokenizer.json of a version).
_KNOWN = {
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": Known("gpt2", {"<|endoftext|>": 50256}),  # r50k_base, GPT-2
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069": Known("gpt2", {"<|endoftext|>": 50256}),  # p50k_base
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": Known(
        "cl100k",
        {
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": Known(
        "o200k", {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}
    ),
    "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186": Known(
        "qwen", {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
    ),
}
# By the number of ranks, which no other tokenizer in wide use has. Llama 3's ids that all its versions share.
_KNOWN_BY_COUNT = {
    128000: Known(
        "llama3",
        {
            "<|begin_of_text|>": 128000,
            "<|end_of_text|>": 128001,
            "<|start_header_id|>": 128006,
            "<|end_header_id|>": 128007,
            "<|eot_id|>": 128009,
        },
    ),
}
# The special tokens of tekken files that do not list them (mistral-common before version 7); the others are <SPECIAL_n>.
_TEKKEN_SPECIAL = (
    "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS] [IMG] <pad> "
    "[IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]"
).split()
_MAX_SPECIAL = 1 << 16


def looks_like_ranks(data: bytes) -> bool:
    """Whether a file begins as tiktoken's ranks do: base64, a blank, a number."""
    parts = data[:8192].split(b"\n", 1)[0].split()
    try:
        return len(parts) == 2 and parts[1].isdigit() and bool(base64.b64decode(parts[0], validate=True))
    except binascii.Error:
        return False


def from_ranks(path: Path, data: bytes, shape: str | None) -> dict[str, Any]:
    """tokenizer.json of a file of ranks. `shape` overrides what is known of it. InputError for what is no such file, or not known."""
    tokens: dict[int, bytes] = {}
    lines = 0
    try:
        for line in data.splitlines():
            if line.strip():
                text, rank = line.split()
                tokens[int(rank)] = base64.b64decode(text, validate=True)
                lines += 1
    except (ValueError, binascii.Error) as error:
        raise InputError(f"{path}: is no file of tiktoken's ranks: line {lines + 1}: {error}") from None
    if len(tokens) < lines:
        raise InputError(f"{path}: {lines - len(tokens)} of its ranks stand twice")
    known = _known(path, tokens, shape)
    return model_of(path, tokens, REGEXES[known.shape], known.special)


def _known(path: Path, tokens: Mapping[int, bytes], shape: str | None) -> Known:
    digest = hashlib.sha256(b"".join(b"%s %d\n" % (base64.b64encode(tokens[rank]), rank) for rank in sorted(tokens))).hexdigest()
    known = _KNOWN.get(digest) or _KNOWN_BY_COUNT.get(len(tokens)) or _of_manifest(path)
    if shape is not None:
        if shape not in SHAPES:
            raise InputError(f"--shape {shape}: there is no such pretokenization: {nearest(shape, SHAPES)}")
        return Known(shape, known.special if known else {})
    if known is None:
        raise InputError(
            f"{path}: a file of ranks that is not known, so it is not told how text is cut before merging. "
            f"Name it with --shape: {', '.join(sorted(SHAPES))}"
        )
    return known


def _of_manifest(path: Path) -> Known | None:
    """What codedev's manifest beside the file says."""
    file = path.parent / "tokenizer.manifest.json"
    manifest = read_json(file) if file.is_file() else None
    if not isinstance(manifest, dict) or manifest.get("preset") not in SHAPES or not isinstance(manifest.get("special"), dict):
        return None
    special = {name: number for name, number in manifest["special"].items() if isinstance(number, int)}
    return Known(manifest["preset"], special)


def from_tekken(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer.json of Mistral's tekken file: special tokens have the first ids, ranks follow. InputError for what is no such file."""
    try:
        config = content["config"]
        size, count = int(config["default_vocab_size"]), int(config["default_num_special_tokens"])
        pattern = str(config["pattern"])
        listed = content.get("special_tokens")
        old = [(name, number) for number, name in enumerate(_TEKKEN_SPECIAL[:count])]
        given = [(str(one["token_str"]), int(one["rank"])) for one in listed] if listed else old
        if not 0 <= len(given) <= count <= _MAX_SPECIAL:
            raise ValueError(f"{count} special tokens, {len(given)} of them named")
        names = {number: name for name, number in given}
        special = {names.get(number, f"<SPECIAL_{number}>"): number for number in range(count)}
        entries = content["vocab"][: size - count]
        tokens = {count + int(one["rank"]): base64.b64decode(one["token_bytes"], validate=True) for one in entries}
        if len(tokens) < len(entries) or len(special) < count:
            raise ValueError("a rank or a name stands twice")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: is no tekken file: {type(error).__name__}: {error}") from None
    return model_of(path, tokens, pattern, special)


def model_of(path: Path, tokens: Mapping[int, bytes], regex: str, special: Mapping[str, int]) -> dict[str, Any]:
    """tokenizer.json of ranks: `tokens` by id, whose order is that of the ranks. InputError where a byte is no token or ids collide."""
    try:
        tables = engine.tables_of_tokens(tokens)
    except ValueError as error:
        raise InputError(f"{path}: its ranks cannot be used: {error}") from None
    letters = dict(enumerate(engine.byte_characters()))
    names = {number: tokens[number].decode("latin-1").translate(letters) for number in sorted(tokens)}
    vocab = {name: number for number, name in names.items()}
    if len(vocab) < len(names):
        raise InputError(f"{path}: {len(names) - len(vocab)} of its tokens stand twice")
    taken = [name for name, number in special.items() if number in tokens or vocab.get(name, number) != number]
    if taken or len(set(special.values())) < len(special):
        raise InputError(f"{path}: the special token {(taken or sorted(special))[0]} has the id of another one")
    used = tables.pairs[tables.pairs != 0]
    keys, ranks = (used >> np.uint64(24)) - np.uint64(1), used & np.uint64(NONE)
    order = np.lexsort((keys, ranks))
    lefts, rights = keys[order] >> np.uint64(ID_BITS), keys[order] & np.uint64((1 << ID_BITS) - 1)
    merges = [[names[left], names[right]] for left, right in zip(lefts.tolist(), rights.tolist(), strict=True)]
    return tokenizer_json(vocab, merges, split_by(regex), special, whole=True)


def split_by(regex: str) -> dict[str, Any]:
    cut = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, _byte_level(use_regex=False)]}


def _byte_level(*, use_regex: bool, prefix: bool = False) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def tokenizer_json(
    vocab: Mapping[str, int],
    merges: list[list[str]],
    split: Mapping[str, Any],
    special: Mapping[str, int],
    *,
    whole: bool,
    given: Mapping[str, int] | None = None,
    normalizer: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of a tokenizer.json of byte-level BPE; `given` are added tokens that text gives."""
    added = sorted([(number, name, True) for name, number in special.items()] + [(at, name, False) for name, at in (given or {}).items()])
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(number, name, special=hidden) for number, name, hidden in added],
        "normalizer": normalizer,
        "pre_tokenizer": split,
        "post_processor": None,
        "decoder": _byte_level(use_regex=True, prefix=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": whole,
            "vocab": {**vocab, **special, **(given or {})},
            "merges": merges,
        },
    }


def added_token(number: int, name: str, *, special: bool) -> dict[str, Any]:
    sides = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": name, **sides, "special": special}


# vocab.json and merges.txt

_GPT2_CLASSES = ("GPT2", "Roberta", "Bart", "Longformer", "CodeGen", "Phi", "OPT", "LED", "BlenderbotSmall")


def from_vocab_and_merges(folder: Path, shape: str | None) -> dict[str, Any]:
    """tokenizer.json of byte-level BPE as GPT-2 and Qwen 2 have it (by `tokenizer_class` in tokenizer_config.json; GPT-2's where that says
    nothing). Special tokens are those that the configuration names, else those of well-known names. InputError for other kinds."""
    vocab, merges = read_json(folder / "vocab.json"), _merges(folder / "merges.txt")
    if not isinstance(vocab, dict) or not all(type(number) is int and 0 <= number < 1 << 31 for number in vocab.values()):
        raise InputError(f"{folder / 'vocab.json'}: is no vocabulary: token to id")
    config, names, added = _config(folder)
    kind = str(config.get("tokenizer_class") or "GPT2")
    lost = next((pair for pair in merges if not vocab.keys() >= {*pair, "".join(pair)}), None)
    if lost or engine.byte_characters()[ord(" ")] not in vocab:
        what = f"vocab.json lacks tokens of the merge {lost}" if lost else "vocab.json has no token for a blank"
        raise InputError(f"{folder}: {what}, so it is no byte-level BPE as GPT-2's. Convert it to a tokenizer.json with its own library")
    normalizer = None
    if shape is not None:
        if shape not in SHAPES:
            raise InputError(f"--shape {shape}: there is no such pretokenization: {nearest(shape, SHAPES)}")
        split = split_by(REGEXES[shape])
    elif kind.startswith("Qwen2"):
        split, normalizer = split_by(PATTERNS["qwen"]), {"type": "NFC"}
    elif kind.startswith(_GPT2_CLASSES):
        split = _byte_level(use_regex=True, prefix=bool(config.get("add_prefix_space", False)))
    else:
        raise InputError(f"{folder}: how {kind} cuts text is not known. Name it with --shape: {', '.join(sorted(SHAPES))}")
    wanted = names or {name for name in (*BOS_NAMES, *EOS_NAMES, *PAD_NAMES) if name in vocab}
    ids = {name: vocab.get(name, number) for name, number in added.items()} | {name: vocab[name] for name in wanted if name in vocab}
    known = {name: number for name, number in vocab.items() if name not in ids}
    if len({*known.values(), *ids.values()}) < len(known) + len(ids):
        raise InputError(f"{folder}: two of its tokens have one id")
    special = {name: number for name, number in ids.items() if name in wanted}
    given = {name: number for name, number in ids.items() if name not in wanted}
    return tokenizer_json(known, merges, split, special, whole=False, given=given, normalizer=normalizer)


def _merges(path: Path) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    pairs = [line.rstrip("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(f"{path}: is no list of merges, two tokens a line")
    return pairs


_NUMBER = re.compile("[0-9]{1,9}")  # an id


def _config(folder: Path) -> tuple[dict[str, Any], set[str], dict[str, int]]:
    """(tokenizer_config.json, names of special tokens, added tokens with ids)."""
    config, mapped, listed = (
        content if file.is_file() and isinstance(content := read_json(file), dict) else {}
        for file in (folder / name for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"))
    )
    names: set[str] = set()
    for part in (config, mapped):
        for key, value in part.items():
            if key.endswith("_token") or key == "additional_special_tokens":
                for one in value if isinstance(value, list) else [value]:
                    text = one.get("content") if isinstance(one, dict) else one
                    if isinstance(text, str) and text:
                        names.add(text)
    added = {name: number for name, number in listed.items() if type(number) is int and 0 <= number < 1 << 31}
    decoder = config.get("added_tokens_decoder")
    for number, one in (decoder if isinstance(decoder, dict) else {}).items():
        if isinstance(one, dict) and isinstance(one.get("content"), str) and _NUMBER.fullmatch(str(number)):
            added[one["content"]] = int(number)
            if one.get("special"):
                names.add(one["content"])
    return config, names, added


assert REGEXES.keys() == SHAPES.keys()
