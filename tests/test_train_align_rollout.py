"""Sampling against the model's own probabilities: what is drawn, how likely it was, and that company does not matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from codedev.train.align.rollout import sample  # noqa: E402


@pytest.fixture(scope="module", params=["llama", "qwen3", "glm"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 8, "pad_token_id": 0}
    config = transformers.AutoConfig.for_model(request.param, **sizes, **more)
    made = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in made.parameters():
        parameter.data *= 3  # probabilities that differ
    return made.eval()


def prompts(seed: int, count: int) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.integers(2, 40, draw.integers(1, 9)) for _ in range(count)]


def logprobs_of(model: Any, prompt: np.ndarray, answer: np.ndarray, temperature: float) -> np.ndarray:
    whole = torch.from_numpy(np.concatenate([prompt, answer]))[None]
    with torch.no_grad():
        logits = model(whole, use_cache=False).logits[0, len(prompt) - 1 : -1].double() / temperature
    found: np.ndarray = logits.log_softmax(-1).gather(-1, torch.from_numpy(answer)[:, None])[:, 0].numpy()
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_probabilities_are_the_models_own(model: Any, temperature: float) -> None:
    asked = prompts(0, 12)
    made = sample(model, asked, range(12), seed=1, max_tokens=10, stop=[5], pad=0, temperature=temperature, batch=5)
    for prompt, ids, logprobs, ended in zip(asked, made.ids, made.logprobs, made.ended, strict=True):
        assert len(ids) == len(logprobs) <= 10
        assert (ids[-1] == 5) == ended
        assert not np.isin(ids[:-1], [5]).any()
        assert np.allclose(logprobs, logprobs_of(model, prompt, ids, temperature), atol=2e-4)


def test_company_does_not_matter(model: Any) -> None:
    asked = prompts(1, 10)
    together = sample(model, asked, range(10), seed=3, max_tokens=8, stop=[5], pad=0, batch=10)
    apart = sample(model, asked[::-1], range(9, -1, -1), seed=3, max_tokens=8, stop=[5], pad=0, batch=3)
    for one, other in zip(together.ids, apart.ids[::-1], strict=True):
        assert one.tolist() == other.tolist()
    other = sample(model, asked, range(10), seed=4, max_tokens=8, stop=[5], pad=0)
    assert [ids.tolist() for ids in other.ids] != [ids.tolist() for ids in together.ids]
    again = sample(model, [asked[0]] * 4, [0, 100, 101, 102], seed=3, max_tokens=8, stop=[5], pad=0)
    assert again.ids[0].tolist() == together.ids[0].tolist()
    assert len({tuple(ids) for ids in again.ids}) > 1


def test_tokens_come_as_often_as_they_should(model: Any) -> None:
    """χ² of 4,000 first tokens against the softmax; the .001 quantile of 39 degrees of freedom and a little is 73."""
    count = 4000
    prompt = np.array([7, 9, 11])
    made = sample(model, [prompt] * count, range(count), seed=0, max_tokens=1, stop=[39], pad=0, temperature=1.5, batch=1000)
    seen = np.bincount([ids[0] for ids in made.ids], minlength=40)
    with torch.no_grad():
        expected = (model(torch.from_numpy(prompt)[None], use_cache=False).logits[0, -1].double() / 1.5).softmax(-1).numpy() * count
    enough = expected >= 5
    parts = [(seen[enough] - expected[enough]) ** 2 / expected[enough]]
    rest = expected[~enough].sum()
    parts.append(np.array([(seen[~enough].sum() - rest) ** 2 / max(rest, 1e-9)]) if rest > 1 else np.zeros(1))
    assert np.concatenate(parts).sum() < 73


def test_the_model_stays_in_its_mode(model: Any) -> None:
    model.train()
    sample(model, prompts(2, 2), [0, 1], seed=0, max_tokens=2, stop=[5], pad=0)
    assert model.training
    model.eval()
