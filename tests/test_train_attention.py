"""Documents of a packed row do not see each other, and the check notices when they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_support import SEQ_LEN, TINY, recipe, write_shards

from codedev._errors import InputError, RecipeError, RunError
from codedev.train import loop
from codedev.train import model as models
from codedev.train.compute import attention
from codedev.train.data import Shards, open_shards
from codedev.train.recipe import ModelRecipe
from codedev.train.watch import metrics

CPU, FLOAT = torch.device("cpu"), torch.float32
KINDS: dict[str, dict[str, Any]] = {
    "llama": TINY,
    "qwen3": {**TINY, "model_type": "qwen3", "head_dim": 16},
    "glm": {**TINY, "model_type": "glm", "head_dim": 16},
    "gpt2": {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64},
}


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    write_shards(tmp_path / "shards")
    return open_shards((tmp_path / "shards",))


def build(kind: str, attn: str, shards: Shards) -> torch.nn.Module:
    name = attention.choose(attn, CPU, FLOAT)
    return models.build(ModelRecipe(config=KINDS[kind]), shards, name, seed=0).eval()


@pytest.mark.parametrize(
    ("kind", "attn"),
    [("llama", "sdpa"), ("llama", "eager"), ("llama", "varlen"), ("qwen3", "sdpa"), ("glm", "sdpa"), ("glm", "varlen"), ("gpt2", "sdpa")],
)
def test_packed_logits_are_separate_logits(kind: str, attn: str, shards: Shards) -> None:
    model = build(kind, attn, shards)
    forward = attention.forward_of(model, attention.choose(attn, CPU, FLOAT), CPU, FLOAT)
    assert attention.check_isolation(forward, shards, CPU, FLOAT, kind, attn) < 1e-4
    rows = shards.read(np.arange(6))
    with torch.no_grad():
        packed = forward(torch.from_numpy(rows.input_ids), torch.from_numpy(rows.positions))
        for row in range(6):
            for segment in shards.segments(row):
                ids = torch.from_numpy(rows.input_ids[row : row + 1, segment.start : segment.end])
                alone = model(input_ids=ids, use_cache=False, **({} if attn != "varlen" else bounds(ids))).logits[0]
                torch.testing.assert_close(packed[row, segment.start : segment.end], alone, atol=1e-5, rtol=1e-4)


def bounds(ids: torch.Tensor) -> dict[str, Any]:
    ends = torch.tensor([0, ids.shape[1]], dtype=torch.int32)
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": ids.shape[1], "max_length_k": ids.shape[1]}


@pytest.mark.parametrize("mistake", [{"attention_mask": True}, {"use_cache": True}])
def test_a_leak_is_noticed(mistake: dict[str, Any], shards: Shards) -> None:
    model = build("llama", "sdpa", shards)

    def leaking(input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        mask = torch.ones_like(input_ids) if "attention_mask" in mistake else None
        return model(input_ids=input_ids, position_ids=positions, attention_mask=mask, use_cache="use_cache" in mistake).logits

    with pytest.raises(RunError, match=r"llama with model\.attn 'sdpa' does not keep") as caught:
        attention.check_isolation(leaking, shards, CPU, FLOAT, "llama", "sdpa")
    assert "\n" not in str(caught.value)
    # Far beyond what bfloat16 is allowed.
    with pytest.raises(RunError):
        attention.check_isolation(leaking, shards, CPU, torch.bfloat16, "llama", "sdpa")


def test_positions_that_run_on_are_noticed(shards: Shards) -> None:
    model = build("gpt2", "eager", shards)

    def running_on(input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return model(input_ids=input_ids, use_cache=False).logits

    with pytest.raises(RunError):
        attention.check_isolation(running_on, shards, CPU, FLOAT, "gpt2", "eager")


def test_the_loss_against_brute_force(shards: Shards) -> None:
    model = build("llama", "sdpa", shards)
    forward = attention.forward_of(model, "sdpa", CPU, FLOAT)
    rows = shards.read(np.arange(5))
    targets = rows.targets & (np.arange(SEQ_LEN) % 3 > 0)
    total = 0.0
    with torch.no_grad():
        for row in range(5):
            for segment in shards.segments(row):
                ids = torch.from_numpy(rows.input_ids[row, segment.start : segment.end])
                logprobs = model(input_ids=ids[None], use_cache=False).logits[0].double().log_softmax(-1)
                total -= sum(float(logprobs[t - 1, ids[t]]) for t in range(1, len(ids)) if targets[row, segment.start + t])
        found = loop.next_token_loss(forward, rows._replace(targets=targets))
    assert float(found) == pytest.approx(total, rel=1e-5)


def test_flops_against_a_count_by_torch(shards: Shards) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = build("llama", "eager", shards)
    ids = torch.randint(0, 250, (2, SEQ_LEN))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    whole = 2 * SEQ_LEN
    # eager computes the masked half of the attention too; norms are parameters that no matrix product counts.
    attention_flops = 6 * metrics.attention_width(model.config) * 2 * SEQ_LEN**2
    ours = metrics.flops_of_step(metrics.matrix_parameters(model), metrics.attention_width(model.config), whole, 2 * SEQ_LEN**2)
    assert counter.get_total_flops() == pytest.approx(ours + attention_flops, rel=0.01)


def test_models_that_do_not_fit(shards: Shards, tmp_path: Path) -> None:
    def fault(kind: type[Exception], **model: Any) -> str:
        with pytest.raises(kind) as caught:
            models.build(recipe(model=model).model, shards, "sdpa", 0)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "did you mean 'hidden_size'?" in fault(RecipeError, config={**TINY, "hiden_size": 64})
    assert "did you mean 'llama'?" in fault(RecipeError, config={"model_type": "lama"})
    assert "vocabulary has 128 entries, the shards need 250" in fault(RecipeError, config={**TINY, "vocab_size": 128})
    assert "hidden_size" in fault(RecipeError, config={**TINY, "hidden_size": "wide"})
    assert "cannot build" in fault(RecipeError, config={"model_type": "t5"})
    assert "knows 32 positions" in fault(RecipeError, config={**TINY, "max_position_embeddings": 32})
    assert "there is no such model" in fault(InputError, path=str(tmp_path / "nowhere"))
    assert "no config.json" in fault(InputError, path=str(tmp_path / "shards"))
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    assert "has no *.safetensors" in fault(InputError, path=str(tmp_path / "pickled"))
    (tmp_path / "remote.json").write_text('{"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "x.Y"}}')
    assert "remote code is never run" in fault(InputError, path=str(tmp_path / "remote.json"))
    (tmp_path / "pickled" / "model.safetensors").write_bytes(b"12345678rubbish")
    assert "no safetensors" in fault(InputError, path=str(tmp_path / "pickled"))


def test_the_vocabulary_and_special_tokens_come_from_the_shards(shards: Shards) -> None:
    model = models.build(ModelRecipe(config=dict(TINY)), shards, "sdpa", 0)
    assert model.config.vocab_size == 256
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (0, 1, 2)
    assert (model.generation_config.bos_token_id, model.generation_config.eos_token_id) == (0, 1)
