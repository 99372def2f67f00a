"""Which pretokenization regex is which Shape of `kernels.pretokens`: the presets', and those of the tokenizers that are in wide use.

A regex is known by its text. Forms of one regex that cut the same (an alternative with a possessive quantifier, GPT-2's contractions in
another order) are each listed. Sources: tiktoken's openai_public.py, mistral-common's tekken files, the tokenizer.json of Qwen 3.5.
"""

from __future__ import annotations

from codedev.kernels.pretokens import SHAPES, Shape
from codedev.tokenize.presets import PATTERNS

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_CAPITAL, _SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

O200K = (
    rf"{_LEAD}{_CAPITAL}*{_SMALL}+{_CONTRACTIONS}?|{_LEAD}{_CAPITAL}+{_SMALL}*{_CONTRACTIONS}?|\p{{N}}{{1,3}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
)
TEKKEN = rf"{_LEAD}{_CAPITAL}*{_SMALL}+|{_LEAD}{_CAPITAL}+{_SMALL}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
QWEN35 = rf"{_CONTRACTIONS}|{_LEAD}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_BLANKS}"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # what ByteLevel(use_regex=True) stands for

REGEXES: dict[str, str] = {
    **{PATTERNS[name]: name for name in PATTERNS if name in SHAPES},
    O200K: "o200k",
    TEKKEN: "tekken",
    QWEN35: "qwen3.5",
    GPT2: "gpt2",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s": "gpt2",
}


def shape_of(regex: str) -> Shape | None:
    """The shape that cuts as this regex does, None where it is not known."""
    return SHAPES[REGEXES[regex]] if regex in REGEXES else None
