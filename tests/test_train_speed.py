"""What makes training fast and small changes nothing that it computes: loss in pieces, layers computed again, attention, reading ahead."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from train_support import SEQ_LEN, TINY, on_two_processes, recipe, write_shards

from codedev._errors import InputError, RecipeError
from codedev.train import loop, run, tune
from codedev.train import model as models
from codedev.train.compute import attention, loss, optim, segments
from codedev.train.compute.ahead import steps_ahead
from codedev.train.compute.muon import ROUNDS, A, B, C, Muon, orthogonal
from codedev.train.compute.parallel import World
from codedev.train.compute.recompute import recompute_layers
from codedev.train.data import Shards, open_shards
from codedev.train.recipe import ModelRecipe
from codedev.train.watch.metrics import read_metrics

ROOT = Path(__file__).parent.parent
CPU, FLOAT = torch.device("cpu"), torch.float32
PLACE = World(0, 1, CPU)
KINDS: dict[str, dict[str, Any]] = {
    "llama": TINY,
    "tied": {**TINY, "tie_word_embeddings": True},
    "qwen3": {**TINY, "model_type": "qwen3", "head_dim": 16},
    "glm": {**TINY, "model_type": "glm", "head_dim": 16},
    "glm4": {**TINY, "model_type": "glm4", "head_dim": 16},
    "gemma2": {**TINY, "model_type": "gemma2", "head_dim": 16, "final_logit_softcapping": 3.0},
    "granite": {**TINY, "model_type": "granite", "logits_scaling": 8.0},
    "cohere": {**TINY, "model_type": "cohere", "logit_scale": 0.25},
    "phi": {**TINY, "model_type": "phi"},  # its output matrix has a bias
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on two, and far slower beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some(names: Iterable[str], quick: set[str]) -> list[Any]:
    """Parameters of a test, slow but for the `quick` ones."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    write_shards(tmp_path / "shards")
    return open_shards((tmp_path / "shards",))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with shards and a model to tune."""
    write_shards(tmp_path / "shards")
    write_shards(tmp_path / "shards" / "heldout", rows=9, seed=9)
    model = models.build(ModelRecipe(config=dict(TINY)), open_shards((tmp_path / "shards",)), "sdpa", 3)
    with torch.no_grad():  # away from the flat beginning, where every gradient is small
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(str(tmp_path / "base"))
    return tmp_path


def losses(run_dir: Path) -> list[float]:
    return [row.get("loss", row.get("bits_per_byte")) for row in read_metrics(run_dir)]


# --- the loss in pieces


@pytest.mark.parametrize("after", [loss.After(), loss.After(0.5), loss.After(cap=3.0), loss.After(2.0, 5.0)])
@pytest.mark.parametrize("chunk", [1, 700, 0])
def test_pieces_give_the_loss_and_gradient_of_the_whole(after: loss.After, chunk: int) -> None:
    torch.manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape, requires_grad=True) for shape in ((50, 16), (300, 16), (300,)))
    labels = torch.randint(0, 300, (50,))
    logits = (hidden @ weight.T + bias).double() * after.scale
    logits = after.cap * torch.tanh(logits / after.cap) if after.cap else logits
    whole = nn.functional.cross_entropy(logits, labels, reduction="sum")
    found = loss.cross_entropy(hidden, weight, bias, labels, after, chunk=chunk)
    assert found.dtype == FLOAT
    assert float(found.detach()) == pytest.approx(float(whole.detach()), rel=1e-6)
    wanted = torch.autograd.grad(whole / 50, (hidden, weight, bias))
    for a, b in zip(torch.autograd.grad(found / 50, (hidden, weight, bias)), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        nats = loss.cross_entropy(hidden, weight, bias, labels, after, each=True, chunk=chunk)
    torch.testing.assert_close(nats, nn.functional.cross_entropy(logits, labels, reduction="none").float(), atol=1e-5, rtol=1e-5)


def test_no_position_and_a_frozen_matrix() -> None:
    hidden, weight = torch.randn(0, 8, requires_grad=True), torch.randn(20, 8, requires_grad=True)
    nothing = loss.cross_entropy(hidden, weight, None, torch.zeros(0, dtype=torch.int64))
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert weight.grad is not None
    assert not weight.grad.any()
    hidden = torch.randn(3, 8, requires_grad=True)
    loss.cross_entropy(hidden, weight.detach(), None, torch.zeros(3, dtype=torch.int64)).backward()
    assert hidden.grad is not None


def test_bfloat16_is_no_worse_in_pieces() -> None:
    """Against float64: sums of pieces are in float32, where the whole product rounds to bfloat16."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(400, 32, requires_grad=True), (torch.randn(500, 32) * 0.2).requires_grad_()
    labels = torch.randint(0, 500, (400,))

    def gradient(call: Any) -> torch.Tensor:
        return torch.autograd.grad(call(), weight)[0].double()

    exact = gradient(lambda: nn.functional.cross_entropy((hidden.double() @ weight.double().T), labels, reduction="sum"))
    with torch.autocast("cpu", torch.bfloat16):
        plain = gradient(lambda: nn.functional.cross_entropy((hidden @ weight.T).float(), labels, reduction="sum"))
        pieces = gradient(lambda: loss.cross_entropy(hidden, weight, None, labels, chunk=50_000))
    assert (pieces - exact).norm() < 1.2 * (plain - exact).norm() < 0.05 * exact.norm()


def both(model: nn.Module, shards: Shards, targets: Any = None, call: Any = None) -> tuple[Any, Any]:
    """(loss, gradients by name) in pieces and by plain logits."""
    forward = attention.forward_of(call or model, "sdpa", CPU, FLOAT)
    rows = shards.read(np.arange(5))
    rows = rows if targets is None else rows._replace(targets=targets(rows))
    found = []
    for plain in (False, True):
        assert forward.inner.ends is not None
        forward.inner.ends = None if plain else forward.inner.ends
        torch.manual_seed(0)
        value = loop.next_token_loss(forward, rows)
        (value / max(1, rows.targets.sum())).backward()
        found.append((float(value.detach()), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
        model.zero_grad()
    return found[0], found[1]


def check_equal(one: Any, other: Any) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    assert one[1].keys() == other[1].keys()
    for name in one[1]:
        torch.testing.assert_close(one[1][name], other[1][name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", some(sorted(KINDS), {"tied", "glm4", "gemma2", "granite"}))
def test_the_loss_of_every_architecture(kind: str, shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK", 2000)
    monkeypatch.setattr(loss, "ROWS", 1)  # many pieces
    model = models.build(ModelRecipe(config=KINDS[kind]), shards, "eager" if kind == "gemma2" else "sdpa", seed=0)
    forward = attention.forward_of(model, "sdpa", CPU, FLOAT)
    attention.check_isolation(forward, shards, CPU, FLOAT, kind, "sdpa")
    assert forward.inner.ends is not None  # it was not found to be different
    check_equal(*both(model, shards))
    one, other = both(model, shards, lambda rows: rows.targets & (np.arange(SEQ_LEN) > 40))  # few positions count
    check_equal(one, other)
    check_equal(*both(model, shards, lambda rows: np.zeros_like(rows.targets)))
    assert "forward" not in vars(model)  # nothing stays of calling it without its head


def test_a_model_that_changes_its_logits_is_called_whole(shards: Shards) -> None:
    model = models.build(ModelRecipe(config=dict(TINY)), shards, "sdpa", seed=0)
    own = type(model).forward

    def shifted(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = own(self, *args, **kwargs)
        output.logits = output.logits * 1.5
        return output

    kind: Any = type("Shifted", (type(model),), {"forward": shifted})
    model.__class__ = kind
    forward = attention.forward_of(model, "sdpa", CPU, FLOAT)
    rows = shards.read(np.arange(3))
    forward.inner.checked = True
    wrong = float(loop.next_token_loss(forward, rows).detach())
    forward.inner.checked = False
    right = float(loop.next_token_loss(forward, rows).detach())
    logits = forward(torch.from_numpy(rows.input_ids), torch.from_numpy(rows.positions))
    labels = torch.from_numpy(np.where(rows.targets[:, 1:], rows.input_ids[:, 1:], -100)).flatten()
    expected = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels, reduction="sum")
    assert forward.inner.ends is None
    assert right == pytest.approx(float(expected.detach()), rel=1e-6)
    assert abs(wrong - right) > 1


@pytest.mark.parametrize("method", some(("lora", "qlora", "prompt", "prefix"), {"qlora", "prefix"}))
def test_the_loss_of_every_tuning(method: str, base: Path, shards: Shards) -> None:
    wanted = recipe(model={"path": str(base / "base")}, tune=method)
    extra = tune.four_bit(CPU, FLOAT) if method == "qlora" else None
    model = tune.attach(models.build(wanted.model, shards, "sdpa", 0, extra), wanted, shards, FLOAT)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.02)
    one, other = both(model, shards, call=tune.apart(model))
    check_equal(one, other)
    assert one[1]


def test_scores_are_those_of_whole_logits(shards: Shards) -> None:
    model = models.build(ModelRecipe(config=dict(TINY)), shards, "sdpa", seed=0)
    rows = shards.read(np.arange(4))
    forward = attention.forward_of(model, "sdpa", CPU, FLOAT)
    scores = loop.scorer(model, forward, PLACE)(rows.input_ids, rows.positions)
    with torch.no_grad():
        logprobs = forward(torch.from_numpy(rows.input_ids), torch.from_numpy(rows.positions)).double().log_softmax(-1).numpy()
    for row in range(4):
        for at in range(SEQ_LEN):
            expected = -logprobs[row, at - 1, rows.input_ids[row, at]] if rows.positions[row, at] > 0 else 0.0
            assert scores[row, at] == pytest.approx(expected, abs=1e-5)


def test_a_large_vocabulary_takes_little_memory() -> None:
    from codedev.train.watch.memory import _Tracker

    hidden, weight = torch.randn(1024, 8, requires_grad=True), torch.randn(32_000, 8, requires_grad=True)
    labels = torch.randint(0, 32_000, (1024,))
    peaks = []
    for call in (
        lambda: loss.cross_entropy(hidden, weight, None, labels),
        lambda: nn.functional.cross_entropy(hidden @ weight.T, labels, reduction="sum"),
    ):
        with _Tracker() as tracker:
            call().backward()
        peaks.append(tracker.peak)
        hidden.grad = weight.grad = None
    assert peaks[0] < 60e6 < 3 * 4 * 1024 * 32_000 * 0.6 < peaks[1]


# --- layers computed again


@pytest.mark.parametrize("kind", some(("llama", "glm4"), {"llama"}))
def test_layers_computed_again_give_the_same_bits(kind: str, base: Path) -> None:
    model = {"config": {**KINDS[kind], "attention_dropout": 0.1}}
    for name, again in (("kept", False), ("again", True)):
        run(recipe(name, model=model, run__steps=4, run__activation_checkpointing=again), base)
    assert losses(base / "kept") == losses(base / "again")
    a, b = (load_file(base / name / "model" / "model.safetensors") for name in ("kept", "again"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_layers_computed_again_of_adapters(base: Path) -> None:
    for method in ("lora", "prompt"):
        for name, again in (("kept", False), ("again", True)):
            settings = {"tune": method, "model": {"path": "base"}, "run__steps": 2, "run__activation_checkpointing": again}
            run(recipe(f"{method}-{name}", **settings), base)
        assert losses(base / f"{method}-kept") == losses(base / f"{method}-again")
    with pytest.raises(RecipeError, match=r"run\.activation_checkpointing: a layer that is computed again gets no keys and values"):
        recipe(tune="prefix", model={"path": "base"}, run__activation_checkpointing=True)


def test_layers_computed_again_keep_less(shards: Shards) -> None:
    from codedev.train.watch.memory import _Tracker

    peaks = []
    for again in (False, True):
        model = models.build(ModelRecipe(config={**TINY, "num_hidden_layers": 6}), shards, "sdpa", seed=0).train()
        if again:
            recompute_layers(model)
        forward, rows = attention.forward_of(model, "sdpa", CPU, FLOAT), shards.read(np.arange(20))
        with _Tracker() as tracker:
            loop.next_token_loss(forward, rows).backward()
        peaks.append(tracker.peak)
    assert peaks[1] < 0.6 * peaks[0]


def test_a_model_that_cannot_compute_its_layers_again() -> None:
    with pytest.raises(RecipeError, match="Linear cannot compute its layers again"):
        recompute_layers(nn.Linear(1, 1))


# --- optimizers


@pytest.mark.parametrize("name", some(("adamw", "adamw8bit", "lion8bit", "ademamix8bit", "muon"), {"adamw8bit", "muon"}))
def test_every_optimizer_learns_and_resumes_to_the_bit(name: str, base: Path) -> None:
    # Large enough that bitsandbytes packs the moments: 4,096 numbers.
    rate = 5e-4 if name == "lion8bit" else 3e-3
    settings = {"optim__name": name, "optim__lr": rate, "run__steps": 10, "run__save_every": 5, "run__keep": 9}
    run(recipe("whole", **settings), base)
    found = losses(base / "whole")
    assert found[-1] < found[0] - 0.15
    shutil.copytree(base / "whole", base / "cut")
    shutil.rmtree(base / "cut" / "checkpoints" / "step-00000010")
    run(recipe("cut", **settings), base)
    assert losses(base / "cut") == found
    a, b = (load_file(base / where / "model" / "model.safetensors") for where in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)

    state = load_file(base / "whole" / "checkpoints" / "step-00000010" / "optimizer.safetensors")
    kinds = {key.rpartition("/")[2]: tensor.dtype for key, tensor in state.items() if "mlp.up_proj" in key}
    if name.endswith("8bit"):
        assert kinds["state1"] == torch.uint8
        assert state["model.embed_tokens.weight/state1"].dtype == FLOAT
    else:
        assert ("momentum_buffer" in kinds) == (name == "muon")
    for key in ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"):
        assert (f"{key}/exp_avg" in state) == (name in ("adamw", "muon"))


def test_an_optimizer_of_another_shape_is_refused(base: Path) -> None:
    model = models.build(ModelRecipe(config=dict(TINY)), open_shards((base / "shards",)), "sdpa", 0)
    for name, kind in (("muon", "momentum_buffer"), ("adamw8bit", "state1"), ("adamw", "exp_avg")):
        optimizer = optim.make(model, recipe(optim__name=name).optim, CPU)
        weight = model.model.layers[0].mlp.up_proj.weight
        assert not optim.restore(optimizer, weight, kind, torch.zeros(3))
    assert not optim.restore(optim.make(model, recipe(optim__name="adamw8bit").optim, CPU), weight, "exp_avg", torch.zeros(3))


def test_weight_decay_is_of_matrices_alone(shards: Shards) -> None:
    model = models.build(ModelRecipe(config=dict(TINY)), shards, "sdpa", 0)
    for name in ("adamw", "adamw8bit", "muon"):
        optimizer = optim.make(model, recipe(optim__name=name).optim, CPU)
        seen = [p for group in optimizer.param_groups for p in group["params"]]
        assert {id(p) for p in seen} == {id(p) for p in model.parameters()}
        assert len(seen) == len(list(model.parameters()))
        assert all((group["weight_decay"] > 0) == (p.ndim > 1) for group in optimizer.param_groups for p in group["params"])


def test_orthogonal_against_singular_values() -> None:
    torch.manual_seed(0)
    for shape in ((20, 33), (33, 20), (7, 7), (1, 5)):
        matrix = torch.randn(*shape)
        u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
        s = s / s.norm()
        for _ in range(ROUNDS):
            s = A * s + B * s**3 + C * s**5
        torch.testing.assert_close(orthogonal(matrix).double(), u @ torch.diag(s) @ v, atol=1e-4, rtol=1e-3)
    assert not orthogonal(torch.zeros(3, 4)).any()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon")
def test_muon_against_torch() -> None:
    torch.manual_seed(0)
    start, inputs = torch.randn(24, 40), torch.randn(80, 40)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    kinds = (
        (ours, Muon([ours], lr=0.05, weight_decay=0.1)),
        (theirs, torch.optim.Muon([theirs], lr=0.05, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")),
    )
    for _ in range(4):
        for weight, optimizer in kinds:
            (inputs @ weight.T).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    moved = (ours - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved  # theirs computes in bfloat16


# --- attention


def cut_rows(lengths: list[list[int]]) -> torch.Tensor:
    return torch.stack([torch.cat([torch.arange(length) for length in row]) for row in lengths])


@pytest.mark.parametrize("lengths", [[[512]], [[1, 300, 127, 84]], [[128, 128, 256], [5, 250, 257]], [[100], [100]], [[1] * 300]])
def test_flex_is_attention_inside_segments(lengths: list[list[int]]) -> None:
    torch.manual_seed(0)
    positions = cut_rows(lengths)
    tokens = positions.numel()
    inputs = segments.laid_out(torch.zeros_like(positions), positions, CPU, True)
    starts = torch.arange(tokens) - positions.flatten()
    seen = (torch.arange(tokens)[None] <= torch.arange(tokens)[:, None]) & (torch.arange(tokens)[None] >= starts[:, None])
    blocks = inputs["codedev_blocks"]
    # A block is whole, partly seen or not at all, as the mask of tokens says.
    sides = blocks.kv_num_blocks.shape[-1]
    filled = nn.functional.pad(seen, (0, -tokens % 128, 0, -tokens % 128)).reshape(sides, 128, sides, 128)
    for query in range(sides):
        full = set(blocks.full_kv_indices[0, 0, query, : blocks.full_kv_num_blocks[0, 0, query]].tolist())
        partial = set(blocks.kv_indices[0, 0, query, : blocks.kv_num_blocks[0, 0, query]].tolist())
        assert not full & partial
        for key in range(sides):
            inside = filled[query, :, key]
            assert not inside.any() or key in full | partial
            assert inside.all() or key not in full
    q, k, v = torch.randn(1, 4, tokens, 16), torch.randn(1, 2, tokens, 16), torch.randn(1, 2, tokens, 16)
    found, _ = segments.flex(nn.Identity(), q, k, v, None, scaling=0.3, **inputs)
    expected = scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=0.3, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_flex_in_a_model_forward(shards: Shards) -> None:
    attention.register()
    model = models.build(ModelRecipe(config=dict(TINY)), shards, attention.FLEX, seed=0).eval()
    forward = attention.forward_of(model, attention.FLEX, CPU, FLOAT)
    assert attention.check_isolation(forward, shards, CPU, FLOAT, "llama", "flex") < 1e-4
    with pytest.raises(RecipeError, match="flex has no backward pass on a CPU"):
        attention.choose("flex", CPU, FLOAT)


def test_varlen_on_a_gpu_is_called_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch's function would be given, by its documented signature; a fake of it computes the result on the CPU."""
    seen: dict[str, Any] = {}

    def varlen_attn(
        q: Any, k: Any, v: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, *, scale: Any, window_size: Any, enable_gqa: Any
    ) -> Any:
        seen.update(cu=cu_q, longest=max_q, window=window_size, kinds={q.dtype, k.dtype, v.dtype})
        pieces = [
            scaled_dot_product_attention(
                *(x[a:b].transpose(0, 1)[None].float() for x in (q, k, v)), is_causal=True, scale=scale, enable_gqa=enable_gqa
            )
            for a, b in zip(cu_q[:-1].tolist(), cu_q[1:].tolist(), strict=True)
        ]
        return torch.cat(pieces, 2)[0].transpose(0, 1)

    class OnGpu(torch.Tensor):
        is_cuda = True  # type: ignore[assignment]

    monkeypatch.setitem(segments._found, "varlen", varlen_attn)
    monkeypatch.setitem(segments._found, "shares heads", True)
    positions = cut_rows([[3, 10, 7], [1, 15, 4]])
    inputs = segments.laid_out(torch.zeros_like(positions), positions, CPU, False)
    assert inputs["cu_seq_lens_q"].tolist() == [0, 3, 13, 20, 21, 36, 40]
    assert inputs["max_length_q"] == 16  # of 15, a power of two
    del inputs["cu_seq_lens_k"], inputs["max_length_k"], inputs["input_ids"], inputs["position_ids"]
    q, k, v = torch.randn(1, 4, 40, 16), torch.randn(1, 2, 40, 16), torch.randn(1, 2, 40, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = segments.varlen(nn.Identity(), q.as_subclass(OnGpu), k, v, None, scaling=0.25, sliding_window=None, **inputs)
    assert (seen["window"], seen["kinds"]) == ((-1, 0), {torch.bfloat16})
    expected, _ = segments.varlen(nn.Identity(), q, k, v, None, scaling=0.25, **inputs)
    torch.testing.assert_close(found.as_subclass(torch.Tensor).float(), expected, atol=0.05, rtol=0.05)


# --- reading ahead


def test_steps_come_in_order_and_faults_at_their_step(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = loop.Plan(steps=4, rows=8, micro_rows=3, seed=0)
    for step, share in steps_ahead(shards, plan, PLACE, 1):
        numbers = plan.numbers(step, shards)
        assert [len(rows.numbers) for rows in share.micro] == [3, 3, 2]
        assert np.concatenate([rows.numbers for rows in share.micro]).tolist() == numbers.tolist()
        rows = shards.read(numbers)
        squares = sum((segment.end - segment.start) ** 2 for number in numbers.tolist() for segment in shards.segments(number))
        assert share.counts.tolist() == [rows.targets.sum(), rows.real.sum(), squares]
    assert not list(steps_ahead(shards, plan, PLACE, 4))

    read, bad = Shards.read, plan.numbers(2, shards)[4]

    def reading(self: Shards, numbers: np.ndarray) -> Any:
        if bad in numbers:
            raise InputError("row is damaged")
        return read(self, numbers)

    monkeypatch.setattr(Shards, "read", reading)
    done = []
    with pytest.raises(InputError, match="row is damaged"):
        done += [step for step, _ in steps_ahead(shards, plan, PLACE, 0) if not done.append(step)]
    assert done == [0, 1]


# --- together


ALONE = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import train_throughput as bench
rows = Path(sys.argv[3])
bench.write_rows(rows, 16, 64, 128)
case = {"size": "tiny", "seq_len": 64, "tune": "full", "rows": str(rows), "micro_rows": 2, "micro": 2, "steps": 2, "warm": 1, "vocab": 128}
case |= {"compile": False, "checkpointing": True, "attn": "auto", "optim": "muon", "dtype": "auto", "peak_flops": 1e12, "threads": 1}
found = bench.run_case(case)
assert found["status"] == "ok" and len(found["losses"]) == 3 and found["mfu"] > 0, found
other = bench.run_case(case | {"tune": "lora"})
assert other["status"] == "skipped" and other["why"].startswith("peft"), other
"""


def needed(name: str, found: set[str]) -> set[str]:
    """The distribution `name` and those that it wants, added to `found`."""
    name = re.sub("[-_.]+", "-", name).lower()
    if name not in found:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            wants = importlib.metadata.requires(name) or []
            found.add(name)
            for want in wants:
                if "extra ==" not in want:
                    needed(re.split("[^A-Za-z0-9_.-]", want)[0], found)
    return found


@pytest.mark.slow
def test_the_benchmark_needs_four_packages_alone(tmp_path: Path) -> None:
    """An environment of torch, transformers, NumPy, pyarrow and what these want, made of links."""
    site, found = tmp_path / "site", set[str]()
    site.mkdir()
    for name in ("torch", "transformers", "numpy", "pyarrow"):
        needed(name, found)
    for name in found:
        one = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(one.locate_file(top))))
    command = [sys.executable, "-I", "-S", "-c", ALONE, str(site), str(ROOT / "benchmarks"), str(tmp_path / "rows.arrow")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_compiled_layers_equal_eager_ones(base: Path) -> None:
    for name, settings in (
        ("eager", {}),
        ("compiled", {"run__compile": True}),
        ("again", {"run__compile": True, "run__activation_checkpointing": True}),
    ):
        run(recipe(name, data__eval="shards/heldout", run__steps=3, batch__micro_rows=4, **settings), base)
    assert losses(base / "compiled") == pytest.approx(losses(base / "eager"), abs=2e-6)
    assert losses(base / "again") == pytest.approx(losses(base / "eager"), abs=2e-6)


WORKER = """
import sys
from pathlib import Path
import torch.distributed as dist
from test_train_speed import SPREAD
from train_support import recipe
from codedev._errors import RecipeError
from codedev.train import run
dist.init_process_group("gloo")
for name, settings in SPREAD.items():
    run(recipe(name, **settings), Path(sys.argv[1]))
try:
    run(recipe("eight", optim__name="adamw8bit", run__parallel="fsdp"), Path(sys.argv[1]))
except RecipeError as error:
    print(error)
dist.destroy_process_group()
"""
SETTINGS: dict[str, Any] = {
    "model": {"config": KINDS["tied"]},
    "batch__micro_rows": 2,
    "run__steps": 6,
    "run__save_every": 3,
    "run__keep": 9,
}
SPREAD: dict[str, dict[str, Any]] = {
    "muon-fsdp": {**SETTINGS, "run__parallel": "fsdp", "optim__name": "muon"},
    "again-fsdp": {**SETTINGS, "run__parallel": "fsdp", "run__activation_checkpointing": True},
    "muon-ddp": {**SETTINGS, "run__parallel": "ddp", "optim__name": "muon"},
    "eight-ddp": {**SETTINGS, "run__parallel": "ddp", "optim__name": "adamw8bit"},
}


@pytest.mark.slow
def test_optimizers_and_recomputing_on_two_processes(base: Path) -> None:
    done = on_two_processes(WORKER, base)
    assert "adamw8bit cannot work on weights split by run.parallel fsdp" in done.stdout
    for name, settings in SPREAD.items():
        alone = {key: value for key, value in settings.items() if key != "run__parallel"}
        run(recipe(f"one-{name}", **alone), base)
        # Moments of 8 bits turn a difference in the last place of a gradient into one of a step of theirs.
        assert losses(base / name) == pytest.approx(losses(base / f"one-{name}"), abs=3e-3 if "eight" in name else 1e-4)
    # What two processes kept of Muon, one goes on with.
    shutil.rmtree(base / "muon-fsdp" / "checkpoints" / "step-00000006")
    whole = losses(base / "muon-fsdp")
    run(recipe("muon-fsdp", **{key: value for key, value in SPREAD["muon-fsdp"].items() if key != "run__parallel"}), base)
    assert losses(base / "muon-fsdp") == pytest.approx(whole, abs=1e-4)
