"""One engine's pass over texts, in a process of its own: python encode.py ENGINE TOKENIZER.json TEXTS.arrow PRESET.

Prints JSON: CPU seconds of the first pass and of the second, tokens, and a hash of all ids (xor and sum over documents).
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
BATCH = 256  # documents given to a library at a time


def tokenizers_(file: str, texts: list[str], preset: str) -> Callable[[], list[Any]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(file)
    tokenizer.encode_special_tokens = True
    return lambda: [
        found.ids
        for at in range(0, len(texts), BATCH)
        for found in tokenizer.encode_batch_fast(texts[at : at + BATCH], add_special_tokens=False)
    ]


def tiktoken_(file: str, texts: list[str], preset: str) -> Callable[[], list[Any]]:
    import base64

    import tiktoken

    from_file = json.loads(Path(file).with_name("ranks.json").read_text())
    ranks = {base64.b64decode(text): rank for text, rank in from_file["ranks"].items()}
    encoding = tiktoken.Encoding(preset, pat_str=from_file["regex"], mergeable_ranks=ranks, special_tokens={})
    return lambda: [encoding.encode_ordinary(text) for text in texts]


def gigatoken_(file: str, texts: list[str], preset: str) -> Callable[[], list[Any]]:
    import gigatoken

    tokenizer = gigatoken.Tokenizer(file)
    data = [text.encode() for text in texts]
    return lambda: tokenizer.encode_batch(data, parallel=False)  # type: ignore[no-any-return]


def snaptokens_(file: str, texts: list[str], preset: str) -> Callable[[], list[Any]]:
    import snaptokens

    tokenizer = snaptokens.Tokenizer.from_file(file)

    def run() -> list[Any]:
        ids, offsets = tokenizer.encode_batch_flat(texts, add_special_tokens=False)
        return np.split(np.frombuffer(ids, np.uint32), np.frombuffer(offsets, np.int64)[1:-1])

    return run


def main() -> None:
    engine, file, source, preset = sys.argv[1:]
    with pa.memory_map(source) as mapped:
        texts = pa.ipc.open_file(mapped).read_all().column("text").to_pylist()
    run = {"tokenizers": tokenizers_, "tiktoken": tiktoken_, "gigatoken": gigatoken_, "snaptokens": snaptokens_}[engine](
        file, texts, preset
    )
    passes = []
    for _ in range(1 if engine == "tokenizers" else 2):
        before = time.process_time()
        found = run()
        passes.append(time.process_time() - before)
    found = [np.asarray(ids, np.uint32) for ids in found]
    print(json.dumps({"passes": passes, "tokens": sum(map(len, found)), "hash": [zlib.crc32(ids.tobytes()) for ids in found]}))


if __name__ == "__main__":
    main()
