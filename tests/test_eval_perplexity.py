from __future__ import annotations

import gzip
import lzma
import math
from pathlib import Path

import numpy as np
import pytest
from train_support import BOS, VOCAB, write_shards

from codedev._errors import InputError
from codedev.eval.perplexity import bits_per_byte, gzip_bits_per_byte, lzma_bits_per_byte
from codedev.train.data import open_shards


def uniform(input_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return np.full(input_ids.shape, math.log(VOCAB))


@pytest.mark.parametrize("bos", [BOS, None])
@pytest.mark.parametrize("rows_at_once", [1, 7, 100])
def test_a_uniform_model_by_hand(tmp_path: Path, bos: int | None, rows_at_once: int) -> None:
    spans = [[{"start": 0, "end": 3}]] * 40  # play no part here
    packed = write_shards(tmp_path / "s", bos=bos, spans=spans)
    segments = [tokens for row in packed for _, _, tokens in row]
    predicted = sum(len(tokens) - 1 for tokens in segments)
    charged = sum(bos is None or tokens[0] != bos for tokens in segments)
    text = sum(2 for tokens in segments for token in tokens if token not in (0, 1))
    found = bits_per_byte(uniform, open_shards((tmp_path / "s",)), rows_at_once)
    assert (found.predicted, found.charged, found.text_bytes) == (predicted, charged, text)
    assert charged > 0
    assert found.bits_per_byte == pytest.approx((predicted + charged) * math.log2(VOCAB) / text)
    assert found.nats_per_token == pytest.approx(math.log(VOCAB))


def test_only_predicted_tokens_are_asked_for(tmp_path: Path) -> None:
    write_shards(tmp_path / "s")

    def oracle(input_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return np.where(positions == 0, np.nan, 0.0)

    found = bits_per_byte(oracle, open_shards((tmp_path / "s",)))
    assert found.bits_per_byte == pytest.approx(found.charged * math.log2(VOCAB) / found.text_bytes)


def test_compressors_work_on_each_text_alone() -> None:
    texts = ["def f(x):\n    return x\n" * 20, "été " * 50, "", "x"]
    size = sum(len(text.encode()) for text in texts)
    assert gzip_bits_per_byte(texts) == pytest.approx(8 * sum(len(gzip.compress(t.encode(), 9, mtime=0)) for t in texts) / size)
    assert lzma_bits_per_byte(texts) == pytest.approx(8 * sum(len(lzma.compress(t.encode(), preset=9)) for t in texts) / size)
    with pytest.raises(InputError, match="no text"):
        gzip_bits_per_byte([])


def test_shards_without_text_are_refused(tmp_path: Path) -> None:
    write_shards(tmp_path / "s", rows=3)
    shards = open_shards((tmp_path / "s",))

    class Empty:
        rows, vocab_size, bos_id = shards.rows, shards.vocab_size, shards.bos_id

        def read(self, numbers: np.ndarray) -> object:
            return shards.read(numbers)._replace(text_bytes=np.zeros(len(numbers), np.int64))

    with pytest.raises(InputError, match="cover no text"):
        bits_per_byte(uniform, Empty())
