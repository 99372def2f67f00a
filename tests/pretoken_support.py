"""Strings that pretokenizers trip over, and what the regex engine of `tokenizers` makes of them."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from codedev.kernels.pretokens import SHAPES
from codedev.tokenize.engine import byte_characters
from codedev.tokenize.shapes import REGEXES

REGEX_OF = {name: next(regex for regex, shape in REGEXES.items() if SHAPES[shape] == SHAPES[name]) for name in SHAPES}

BLANKS = [" ", "  ", "   ", "\n", "\r\n", "\r", "\t", "\n\n", " \n", "\u00a0", "\u3000", "\u2028", "\x0b", "\x0c", "\x85", "\x1c"]
SIGNS = [*"'\"().,;:!?-_=+*/\\<>{}[]|&^%$#@~`", *"’“—…。，€→∑"]
LETTERS = [*"abcdefgstdmlvreSTDMLVREkK", *"ſKéßİıяжЖ中文の한اבกअ𝒳ǅªʰﬀﬆΣ"]
MARKS = ["\u0301", "\u093f", "\u0e31", "\u20dd", "\ufe0f", "\u200d"]
DIGITS = [*"0123456789", *"٣Ⅷ½²𝟗㊿"]
ODD = ["😀", "🇫🇷", "\U0001fae8", "\ue000", "\U0010ffff", "\x00", "\x7f", "\ufffd", "\U00010d40", "\U0001ccf0"]
WORDS = """'s 'S 'll 'LL 're 'Ve 'd 'm 't 'ſ don't it's foo.bar (self, -> == :: \\alpha \\\\ \\{ _x __init__ HTTPServer McDONALD's x'S
    12345678 3.14159 1,000,000 http://a.b/c?d=e token ization naïve""".split()
WORDS += [" the", " of", " and", "    ", "\n    ", "\n\t\t", ";\n", "//\n"]


def fuzz(count: int, seed: int) -> list[str]:
    """Strings of 1 to 300 parts of the kinds above, some of ASCII alone, and one code point in thirty from anywhere."""
    random.seed(seed)
    pools = [BLANKS, SIGNS, LETTERS, DIGITS, MARKS, ODD, WORDS]
    plain = [WORDS, BLANKS[:9], SIGNS[:30], DIGITS[:10], LETTERS[:25]]
    texts = []
    for _ in range(count):
        ascii_only = random.random() < 0.4
        parts = []
        for _ in range(random.randint(1, random.choice([3, 8, 20, 70, 150, 300]))):
            if ascii_only:
                parts.append(random.choice(random.choice(plain)))
            elif random.random() < 0.03:
                parts.append(chr(random.choice([random.randrange(0x20, 0xD800), random.randrange(0xE000, 0x110000)])))
            else:
                pool = random.choices(pools, [20, 20, 25, 10, 5, 5, 15])[0]
                parts.append(random.choice(pool) * random.choice([1, 1, 1, 2, 5]))
        texts.append("".join(parts))
    return texts


def boundaries() -> list[str]:
    """Runs of every kind of the lengths at which keys, blocks and merges change their way, alone and between others."""
    runs = ["a", "A", "1", " ", "\n", "-", "\\", "é", "中", "'s", "a1", "a ", " \n", "\r\n", "ab'll ", "x = 1\n", "\t"]
    texts = []
    for length in (1, 2, 3, 4, 7, 8, 14, 15, 16, 17, 31, 32, 33, 59, 60, 61, 62, 63, 64, 65, 66, 127, 128, 129, 200):
        for run in runs:
            text = (run * length)[:length]
            texts += [text, f"x{text}y", f"({text} ", f"{text}.\n  {text}"]
    return texts


def buffers(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 data, int64 offsets) as Arrow holds them."""
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def expected_pieces(texts: list[str], regex: str) -> list[list[bytes]]:
    """What `tokenizers` cuts each text into."""
    split = pre_tokenizers.Split(Regex(regex), "isolated")
    return [[piece.encode() for piece, _ in split.pre_tokenize_str(text)] for text in texts]


def tokenizer_of_ranks(ranks: Path, regex: str) -> Tokenizer:
    """tiktoken's ranks as a tokenizer of the library: whole pieces first, every way to part a token in two tokens as a merge."""
    tokens = {
        base64.b64decode(text): int(rank) for text, rank in (line.split() for line in ranks.read_bytes().splitlines() if line.strip())
    }
    letters = byte_characters()
    names = {token: "".join(letters[byte] for byte in token) for token in tokens}
    merges = []
    for token in sorted(tokens, key=tokens.__getitem__):
        cuts = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        merges += [(names[left], names[right]) for left, right in cuts if left in tokens and right in tokens]
    tokenizer = Tokenizer(models.BPE({name: tokens[token] for token, name in names.items()}, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return tokenizer


def reference_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
