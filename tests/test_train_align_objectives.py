"""The arithmetic of PPO against plain float64 loops, token by token."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from codedev.train.align import objectives as O  # noqa: E402, N812


def batch(seed: int, answers: int = 5, tokens: int = 9) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, tokens + 1, answers)
    made = {
        name: draw.normal(size=(answers, tokens)) for name in ("values", "old_values", "new", "old", "reference", "advantage", "returns")
    }
    return made | {"mask": (np.arange(tokens) < lengths[:, None]).astype(float), "scores": draw.normal(size=answers), "lengths": lengths}


def tensors(made: dict[str, np.ndarray], dtype: Any) -> dict[str, Any]:
    return {name: torch.tensor(value, dtype=dtype) for name, value in made.items()}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.0, 0.0)])
def test_rewards_and_advantages(seed: int, gamma: float, lam: float) -> None:
    made = batch(seed)
    given = tensors(made, torch.float64)
    kl = O.divergence(given["new"], given["reference"])
    rewards = O.token_rewards(given["scores"], kl, given["mask"], 0.1)
    found, returns = O.advantages(rewards, given["values"], given["mask"], gamma, lam)
    for answer, length in enumerate(made["lengths"]):
        plain = [-0.1 * (made["new"][answer, t] - made["reference"][answer, t]) for t in range(length)]
        plain[-1] += made["scores"][answer]
        for t in range(length):
            # The definition: Σ (γλ)^l δ_{t+l}.
            total = 0.0
            for later in range(t, length):
                after = made["values"][answer, later + 1] if later + 1 < length else 0.0
                total += (gamma * lam) ** (later - t) * (plain[later] + gamma * after - made["values"][answer, later])
            assert found[answer, t].item() == pytest.approx(total, abs=1e-12)
            assert returns[answer, t].item() == pytest.approx(total + made["values"][answer, t], abs=1e-12)
        assert not found[answer, length:].any()
        assert not returns[answer, length:].any()


@pytest.mark.parametrize("seed", range(5))
def test_clipped_losses_and_their_gradients(seed: int) -> None:
    made = batch(seed)
    given = tensors(made, torch.float64)
    new, values = given["new"].clone().requires_grad_(), given["values"].clone().requires_grad_()
    policy = O.policy_loss(new, given["old"], given["advantage"], given["mask"], 0.2)
    value = O.value_loss(values, given["old_values"], given["returns"], given["mask"], 0.3)
    (policy.loss + value.loss).backward()
    losses, clipped = [0.0, 0.0], [0, 0]
    for (answer, t), inside in np.ndenumerate(made["mask"]):
        if not inside:
            assert new.grad[answer, t] == 0
            continue
        ratio = math.exp(made["new"][answer, t] - made["old"][answer, t])
        a = made["advantage"][answer, t]
        cut = min(max(ratio, 0.8), 1.2)
        losses[0] += max(-a * ratio, -a * cut)
        clipped[0] += -a * cut > -a * ratio
        expected = -a * ratio if -a * ratio >= -a * cut else 0.0
        assert new.grad[answer, t].item() == pytest.approx(expected, abs=1e-12)
        v, before, aim = (made[name][answer, t] for name in ("values", "old_values", "returns"))
        near = before + min(max(v - before, -0.3), 0.3)
        losses[1] += max((v - aim) ** 2, (near - aim) ** 2) / 2
        clipped[1] += (near - aim) ** 2 > (v - aim) ** 2
    assert policy.loss.item() == pytest.approx(losses[0], abs=1e-10)
    assert value.loss.item() == pytest.approx(losses[1], abs=1e-10)
    assert (policy.clipped.item(), value.clipped.item()) == tuple(clipped)


def test_divergences() -> None:
    """Over all tokens of a distribution, k1 and k3 have the true divergence as their mean; k2 is near it where the two are near."""
    draw = torch.Generator().manual_seed(0)
    p = torch.randn(50, generator=draw, dtype=torch.float64).log_softmax(0)
    q = (p + 0.1 * torch.randn(50, generator=draw, dtype=torch.float64)).log_softmax(0)
    true = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum").item()
    means = {kind: (p.exp() * O.divergence(p, q, kind)).sum().item() for kind in ("k1", "k2", "k3")}
    assert means["k1"] == pytest.approx(true, abs=1e-12)
    assert means["k3"] == pytest.approx(true, abs=1e-12)
    assert means["k2"] == pytest.approx(true, rel=0.05)
    assert (O.divergence(p, q, "k3") >= 0).all()


def test_whitening_over_processes_is_that_of_the_whole() -> None:
    made = tensors(batch(3, 8), torch.float32)
    values, mask = made["values"] * 1e3 + 1e5, made["mask"]
    whole = O.whitened(values, mask)
    inside = values[mask.bool()].double()
    expected = (inside - inside.mean()) / inside.std(correction=0)
    assert torch.allclose(whole[mask.bool()].double(), expected, atol=1e-5)
    assert not whole[~mask.bool()].any()
    # Two halves, each of which hears the other's sums.
    halves = [(values[:3], mask[:3]), (values[3:], mask[3:])]
    sums: list[list[Any]] = [[], []]
    for value, inner in halves:
        exact = value.double()
        sums[0].append(torch.stack([inner.double().sum(), (exact * inner.double()).sum()]))
    count, first = sum(sums[0])
    for value, inner in halves:
        sums[1].append((((value.double() - first / count) ** 2) * inner.double()).sum())
    for at, (value, inner) in enumerate(halves):
        heard = iter((sum(sums[0]), sum(sums[1])))
        part = O.whitened(value, inner, lambda tensor, heard=heard: next(heard))
        assert torch.allclose(part, whole[[slice(0, 3), slice(3, None)][at]], atol=1e-6)
    assert not O.whitened(torch.ones(2, 2), torch.zeros(2, 2)).any()


def test_entropy_and_masked_mean() -> None:
    logits = torch.randn(3, 7, dtype=torch.float64)
    assert torch.allclose(O.entropy(logits), torch.distributions.Categorical(logits=logits).entropy())
    assert O.masked_mean(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1.0, 1.0, 0.0])).item() == 1.5
    assert O.masked_mean(torch.ones(2), torch.zeros(2)).item() == 0


def test_the_coefficient_moves_towards_its_target() -> None:
    assert O.KLControl().next(0.1, 99.0, 64) == 0.1
    control = O.KLControl(target=5.0, horizon=1000)
    assert control.next(0.1, 5.0, 64) == pytest.approx(0.1)
    assert control.next(0.1, 50.0, 100) == pytest.approx(0.1 * 1.02)
    assert control.next(0.1, 0.0, 100) == pytest.approx(0.1 * 0.98)
    assert control.next(0.1, 5.5, 100) == pytest.approx(0.1 * 1.01)


def test_groups() -> None:
    scores = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    found = O.group_advantages(scores, 3, "grpo")
    first = scores[:3]
    assert torch.allclose(found[:3], (first - first.mean()) / (first.std() + 1e-4))
    assert not found[3:].any()
    assert torch.allclose(O.group_advantages(scores, 3, "rloo")[:3], torch.tensor([1.0, -0.5, -0.5], dtype=torch.float64))
    assert torch.allclose(O.group_advantages(scores, 1, "grpo"), torch.zeros(6, dtype=torch.float64))


def test_an_answer_without_tokens_changes_nothing() -> None:
    mask = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    rewards = O.token_rewards(torch.tensor([1.0, 7.0]), torch.zeros(2, 2), mask, 0.1)
    assert rewards.tolist() == [[0.0, 1.0], [0.0, 0.0]]
    found, returns = O.advantages(rewards, torch.ones(2, 2), mask, 1.0, 1.0)
    assert found[1].tolist() == [0.0, 0.0]
    assert returns[1].tolist() == [0.0, 0.0]
