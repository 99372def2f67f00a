"""Pretokenization patterns and the names of the special tokens.

A pattern cuts text into the pieces inside which byte pairs are merged. All are one regex, so that a tokenizer.json with them loads
anywhere; none of them needs or has a normalizer. In each, a run of letters ends at the first character that is no letter or mark,
whatever comes before or after: `cuts` relies on that.
"""

from __future__ import annotations

import re

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s+(?!\S)|\s+"
_CL100K = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|{_BLANKS}"

PATTERNS = {
    # Text, code and maths in one: indentation stays with its line end, punctuation never swallows a backslash (so that LaTeX commands
    # stay whole), marks stay with their letters, digits in threes from the right.
    "u7": "|".join(
        (
            _CONTRACTIONS,
            r"\s*[\r\n][ \t]+(?=\S)",
            r"\s*[\r\n]+",
            r" ?\\[\p{L}\p{M}]+",
            r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
            r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
            r" ?\\[^\s\p{L}\p{M}\p{N}]?",
            r" ?[^\s\p{L}\p{M}\p{N}\\]+(?:[\r\n]++(?![ \t]))?",
            _BLANKS,
        )
    ),
    "gpt2": rf"'(?:[sdmt]|ll|ve|re)| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|{_BLANKS}",
    "cl100k": _CL100K,
    "llama3": _CL100K,
    "qwen": _CL100K.replace(r"\p{N}{1,3}", r"\p{N}"),
}

# Reserved at the end of the vocabulary in this order; text never gives them.
_NAMES = """
    endoftext pad bos mask fim_prefix fim_middle fim_suffix fim_pad repo_name file_sep file_path lang
    commit_before commit_msg commit_after issue_start issue_comment issue_closed
    jupyter_start jupyter_text jupyter_code jupyter_output empty_output
    work_start work_end ref_start ref_end math_start math_end protein_start protein_end dna_start dna_end rna_start rna_end
    smiles_start smiles_end im_start im_end tool_call_start tool_call_end tool_result_start tool_result_end think_start think_end
    doc_web doc_book doc_arxiv doc_math doc_code
"""
SPECIAL_TOKENS = tuple(f"<|{name}|>" for name in _NAMES.split())
NEEDED = 3  # the first three, <|endoftext|>, <|pad|> and <|bos|>, are in every vocabulary

# What other tokenizers call the same thing, the best known first.
BOS_NAMES = ("<|bos|>", "<s>", "<|begin_of_text|>", "<bos>", "<｜begin▁of▁sentence｜>", "[BOS]")
EOS_NAMES = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<｜end▁of▁sentence｜>", "<|im_end|>", "[EOS]", "<EOT>")
PAD_NAMES = ("<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|PAD_TOKEN|>")

_AFTER_LETTER = re.compile(r"[a-z](?=[\x00-@\[-`{-\x7f])")
_LONG_NUMBER = re.compile(r"(?<![0-9])[0-9]{3000,}+(?![^\x00-\x7f])")
_DIGITS = 1500  # a multiple of three


def cuts(text: str, length: int, *, numbers: bool) -> list[str]:
    """`text` in pieces of about `length` characters (longer where it has no safe place) that encode to what the whole encodes to.

    Only for tokenizers without a normalizer whose pattern is one of PATTERNS. A piece may end after an ASCII letter that another kind of
    ASCII character follows; with `numbers`, which is for `u7` alone, also inside a very long number at a multiple of three digits from
    its end: the look-ahead of `u7` takes time quadratic in the number of digits (100,000 digits: 6.6 s whole, 0.1 s in pieces).
    """
    pieces, begin = [], 0
    while len(text) - begin > length:
        found = _AFTER_LETTER.search(text, begin + length - 1)
        if found is None:
            break
        pieces.append(text[begin : found.end()])
        begin = found.end()
    if begin < len(text):
        pieces.append(text[begin:] if begin else text)
    return [part for piece in pieces for part in _cut_numbers(piece)] if numbers else pieces


def _cut_numbers(text: str) -> list[str]:
    pieces, begin = [], 0
    for found in _LONG_NUMBER.finditer(text):
        digits = found.end() - found.start()
        # Never at the number's first digit: blanks before it are split by what follows them.
        for end in range(found.start() + (digits % _DIGITS or _DIGITS), found.end(), _DIGITS):
            pieces.append(text[begin:end])
            begin = end
    pieces.append(text[begin:] if begin else text)
    return pieces
