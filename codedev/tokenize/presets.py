"""Pretokenization patterns and the names of the special tokens.

A pattern cuts text into the pieces inside which byte pairs are merged. All are one regex, so that a tokenizer.json with them loads
anywhere; none of them needs or has a normalizer.
"""

from __future__ import annotations

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
    "u7-aligned": "",  # below
    "gpt2": rf"'(?:[sdmt]|ll|ve|re)| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|{_BLANKS}",
    "cl100k": _CL100K,
    "llama3": _CL100K,
    "qwen": _CL100K.replace(r"\p{N}{1,3}", r"\p{N}"),
}

# As u7, but a word takes no mark before it save a blank or an underscore: tokens end where lexemes of code do, for 4% more of them.
PATTERNS["u7-aligned"] = PATTERNS["u7"].replace(r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|", r"|[ _]?[\p{L}\p{M}]+|")

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
