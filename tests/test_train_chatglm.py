"""ChatGLM as a base. Oracles: logits and greedy decoding of the released code (reference.safetensors of tiny random checkpoints, kept as
numbers in golden/chatglm), the released rules written down as loops, and one way of calling the model against another."""

from __future__ import annotations

import importlib.util
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from train_support import SEQ_LEN, recipe, write_shards
from transformers import AutoConfig, AutoModelForCausalLM

from codedev._errors import InputError, RecipeError
from codedev.cli import cli
from codedev.tokenize import blanks
from codedev.tokenize.chat.render import render
from codedev.tokenize.chat.templates import load_template
from codedev.tokenize.pieces import CONTROL, USER_DEFINED
from codedev.tokenize.vocabulary import decode, encode_plain, load_vocabulary, special_id
from codedev.train import model as models
from codedev.train import run, tune
from codedev.train.chatglm import layout, pieces, store
from codedev.train.chatglm.config import ChatGLMConfig
from codedev.train.chatglm.convert import convert
from codedev.train.chatglm.model import turns
from codedev.train.compute import attention
from codedev.train.data import open_shards
from codedev.train.recipe import absolute
from codedev.train.use.merge import loss_of, merge
from codedev.train.watch.metrics import read_metrics

GOLDEN = Path(__file__).parent / "golden" / "chatglm"
V1, V3 = GOLDEN / "chatglm-6b-tiny", GOLDEN / "chatglm3-6b-tiny"
SOP, GMASK, MASK = 304, 301, 300
TINY_V1 = {
    "model_type": "chatglm",
    "vocab_size": 256,
    "hidden_size": 64,
    "num_layers": 2,
    "num_attention_heads": 4,
    "inner_hidden_size": 128,
    "max_sequence_length": SEQ_LEN,  # full rows: a prompt takes none of the positions
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "mask_token_id": 251,
    "gmask_token_id": 252,
    "initializer_range": 0.1,
}
needs_4bit = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes: pip install -e '.[quant]'")


def native(attn: str = "sdpa", **changes: Any) -> Any:
    model = models.load(V1, attn).eval()
    model.config.update(changes)
    return model


def reference(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "reference.safetensors"))


def logits(model: Any, ids: torch.Tensor, **more: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, use_cache=False, **more).logits
    return found


def greedy(model: Any, ids: torch.Tensor, tokens: int, **more: Any) -> torch.Tensor:
    more.setdefault("attention_mask", torch.ones_like(ids))  # else transformers takes every token 3 for padding
    with tune.silent(), torch.no_grad():
        out: torch.Tensor = model.generate(
            input_ids=ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=3, **more
        )
    return out


def padded(ids: torch.Tensor, left: int, right: int = 0) -> dict[str, torch.Tensor]:
    rows = len(ids)
    whole = torch.cat([torch.full((rows, left), 3), ids, torch.full((rows, right), 3)], 1)
    mask = torch.zeros_like(whole)
    mask[:, left : left + ids.shape[1]] = 1
    return {"ids": whole, "attention_mask": mask}


# ChatGLM-6B


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_logits_of_chatglm_6b_are_those_of_the_released_code(attn: str) -> None:
    known, model = reference(V1), native(attn)
    found = logits(model, known["ids"])
    assert float((found - known["logits"]).abs().max()) <= 1e-6
    assert torch.equal(found.argmax(-1), known["logits"].argmax(-1))
    for left, right in ((5, 0), (0, 4), (3, 2)):
        there = logits(model, **padded(known["ids"], left, right))[:, left : left + known["ids"].shape[1]]
        assert float((there - known["logits"]).abs().max()) <= 1e-6


def test_every_weight_of_the_checkpoint_is_used_by_its_own_name(tmp_path: Path) -> None:
    stored = load_file(V1 / "model.safetensors")
    model = native()
    own = model.state_dict()
    assert set(own) == {name for name in stored if not name.endswith("inv_freq")}
    assert all(torch.equal(own[name], stored[name]) for name in own)
    models.save(model, own, tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(own)
    ids = reference(V1)["ids"]
    assert torch.equal(logits(models.load(tmp_path, "sdpa").eval(), ids), logits(model, ids))
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())


def test_cached_generation_equals_whole_passes() -> None:
    model, ids = native(), reference(V1)["ids"][:, :12]
    cached = greedy(model, ids, 9)
    again = ids
    for _ in range(9):
        again = torch.cat([again, logits(model, again)[:, -1:].argmax(-1)], 1)
    assert torch.equal(cached, again)
    assert torch.equal(greedy(model, ids, 9, use_cache=False), again)
    left = padded(ids, 4)
    assert torch.equal(greedy(model, left["ids"], 9, attention_mask=left["attention_mask"])[:, 4:], again)
    beams = greedy(model, ids, 5, num_beams=3)
    assert torch.equal(beams, greedy(model, ids, 5, num_beams=3, use_cache=False))


def test_a_document_without_gmask_reads_as_if_it_had_one() -> None:
    model, text = native(), torch.randint(0, 290, (2, 14), generator=torch.Generator().manual_seed(1))
    bare = torch.cat([torch.full((2, 1), SOP), text], 1)
    written = torch.cat([torch.full((2, 1), GMASK), bare], 1)
    assert float((logits(model, bare) - logits(model, written)[:, 1:]).abs().max()) < 1e-6
    assert torch.equal(greedy(model, bare, 6)[:, 1:], greedy(model, written, 6)[:, 2:])
    mixed = torch.cat([padded(bare[:1], 1)["ids"], written[1:]])  # both in one call
    mask = torch.ones_like(mixed)
    mask[0, 0] = 0
    assert torch.equal(greedy(model, mixed, 6, attention_mask=mask)[:, 2:], greedy(model, written, 6)[:, 2:])


def test_a_context_is_read_in_both_directions_and_no_further() -> None:
    model, ids = native(), reference(V1)["ids"][:1]  # [gMASK] at 10, <sop> at 11
    before = logits(model, ids)
    for changed, first in ((9, 0), (15, 15)):
        other = ids.clone()
        other[0, changed] = 77
        moved = (logits(model, other) - before)[0].abs().amax(-1) > 1e-5
        assert moved[first:].all()
        assert not moved[:first].any()


def plain_layout(ids: list[int]) -> tuple[list[list[int]], list[list[bool]], bool]:
    """The released code's positions and mask of one document, as loops; whether it needs a [gMASK] before it."""
    sop = ids.index(SOP) if SOP in ids else None
    context = ids[:sop] if sop is not None else []
    mark = GMASK if GMASK in context else MASK
    anchor = context.index(mark) if mark in context else 0
    positions = [[i, 0] if i < len(context) else [anchor, i - len(context) + 1] for i in range(len(ids))]
    seen = [[k <= q or k < len(context) for k in range(len(ids))] for q in range(len(ids))]
    return positions, seen, mark not in context


def test_layout_of_packed_rows_is_the_released_code_s() -> None:
    random = np.random.default_rng(3)
    config = AutoConfig.from_pretrained(str(V1))
    for _ in range(60):
        documents = []
        for _ in range(int(random.integers(1, 5))):
            one = random.choice([5, 6, 7, 8, SOP, GMASK, MASK], int(random.integers(1, 9)), p=[0.19, 0.19, 0.19, 0.13, 0.1, 0.1, 0.1])
            documents.append(one.tolist())
        row = [token for one in documents for token in one]
        steps = [place for one in documents for place in range(len(one))]
        left, right = int(random.integers(0, 3)), int(random.integers(0, 3))
        ids = torch.tensor([[3] * left + row + [3] * right])
        real = torch.tensor([[False] * left + [True] * len(row) + [False] * right])
        starts = torch.tensor([[False] * left + [step == 0 for step in steps] + [False] * right])
        found = layout.layout(ids, config, starts, real)
        seen = layout.visible(found)[0]
        assert torch.equal(seen[4:], layout.visible(found, 4)[0])
        expected = torch.eye(ids.shape[1], dtype=torch.bool)
        at = left
        for one in documents:
            positions, mask, needs = plain_layout(one)
            assert found.positions[0, :, at : at + len(one)].T.tolist() == positions
            assert found.lead[0, at : at + len(one)].tolist() == [needs] * len(one)
            expected[at : at + len(one), at : at + len(one)] |= torch.tensor(mask)
            at += len(one)
        assert torch.equal(seen, expected)


def documents_of(seed: int) -> list[torch.Tensor]:
    """Plain text, a conversation, the middle of a text, one token, a mask instead of a gmask."""
    text = torch.randint(5, 290, (40,), generator=torch.Generator().manual_seed(seed))
    one = torch.tensor
    return [
        torch.cat([one([SOP]), text[:9]]),
        torch.cat([text[9:14], one([GMASK, SOP]), text[14:20]]),
        text[20:27],
        one([SOP]),
        torch.cat([text[27:30], one([MASK]), text[30:31], one([SOP]), text[31:40]]),
    ]


@pytest.mark.parametrize("lead", ["none", "prefix", "projected", "prompt"])
def test_packed_documents_are_computed_as_if_alone(lead: str) -> None:
    model = native()
    changes: dict[str, dict[str, Any]] = {
        "none": {},
        "prefix": {"pre_seq_len": 5},
        "projected": {"pre_seq_len": 5, "prefix_projection": True},
        "prompt": {"prompt_len": 5},
    }
    model = with_lead(model, **changes[lead])
    documents = documents_of(4)
    row = torch.cat(documents)
    positions = torch.cat([torch.arange(len(one)) for one in documents])
    packed = logits(model, row[None], position_ids=positions[None])[0]
    alone = torch.cat([logits(model, one[None])[0] for one in documents])
    assert float((packed - alone).abs().max()) < 2e-6
    if lead != "none":
        assert float((alone - torch.cat([logits(native(), one[None])[0] for one in documents])).abs().max()) > 1e-3
    call = attention.forward_of(model, "sdpa", torch.device("cpu"), torch.float32)
    assert torch.equal(call(row[None], positions[None])[0].detach(), packed)
    # Cached generation behind the lead, beside whole passes.
    ids = torch.stack([documents[1], documents[1].flip(0)])
    assert torch.equal(greedy(model, ids, 6), greedy(model, ids, 6, use_cache=False))
    again = ids
    for _ in range(6):
        again = torch.cat([again, logits(model, again)[:, -1:].argmax(-1)], 1)
    assert torch.equal(greedy(model, ids, 6), again)


def with_lead(model: Any, scale: float = 1.0, **fields: Any) -> Any:
    """A model of the same weights with a random prompt or prefix."""
    config = model.config.__class__(**{**model.config.to_dict(), **fields})
    torch.manual_seed(5)
    grown = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()
    missing = grown.load_state_dict(model.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all("_encoder." in name for name in missing.missing_keys)
    for name in missing.missing_keys:
        torch.nn.init.normal_(grown.get_parameter(name), std=0.5 * scale)
    return grown


def test_a_prefix_stands_where_the_keys_and_values_of_a_prompt_do() -> None:
    """Layers, heads, keys before values: a prefix of what a prompt leaves in the cache gives the prompt's logits."""
    prompted = with_lead(native(), prompt_len=4)
    ids = reference(V1)["ids"]
    with torch.no_grad():
        cache = prompted(input_ids=ids[:1], use_cache=True).past_key_values
    prefixed = with_lead(native(), pre_seq_len=4)
    assert prefixed.transformer.prefix_encoder.embedding.weight.shape == (4, 2 * 3 * 64)
    kept = torch.stack([part[0, :, :4] for layer in cache.layers for part in (layer.keys, layer.values)])  # (2 layers, H, P, d)
    with torch.no_grad():
        prefixed.transformer.prefix_encoder.embedding.weight.copy_(kept.permute(2, 0, 1, 3).reshape(4, -1))
    assert float((logits(prefixed, ids) - logits(prompted, ids)).abs().max()) < 2e-6


def test_angles_in_half_precision_are_the_released_ones() -> None:
    places = torch.tensor([[0, 1, 7, 1999]])
    steps = np.arange(0, 8, 2, dtype=np.float32) / np.float32(8)
    exact = (1.0 / 10000**steps).astype(np.float32)
    for half in (False, True):
        cosine, sine = turns(places, 8, torch.float32, half)
        if half:  # every product rounded to float16, and the cosine of it
            angles = (places.numpy()[0, :, None].astype(np.float16) * exact.astype(np.float16)).astype(np.float32)
        else:
            angles = places.numpy()[0, :, None].astype(np.float32) * exact
        assert np.abs(cosine[0, 0, :, :4].numpy() - np.cos(angles)).max() < (2e-3 if half else 1e-4)
        assert torch.equal(sine[..., :4], sine[..., 4:])
    ids = reference(V1)["ids"]
    difference = float((logits(native(rope_half=True), ids) - reference(V1)["logits"]).abs().max())
    assert 2e-6 < difference < 1e-3  # of positions below 20, which float16 holds exactly


def test_activation_checkpointing_leaves_loss_and_gradients_as_they_are() -> None:
    ids = reference(V1)["ids"]
    found = []
    for checkpointing in (False, True):
        model = with_lead(native(), pre_seq_len=3).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        found.append((float(loss.detach()), [p.grad.clone() for p in model.parameters()]))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))


def test_special_ids_of_both_revisions() -> None:
    first = ChatGLMConfig(vocab_size=150528, bos_token_id=150004, eos_token_id=150005, pad_token_id=20003)
    assert (first.mask_token_id, first.gmask_token_id) == (150000, 150001)
    second = ChatGLMConfig()
    assert (second.mask_token_id, second.gmask_token_id, second.bos_token_id, second.eos_token_id) == (130000, 130001, 130004, 130005)
    assert (second.num_hidden_layers, second.intermediate_size, second.max_position_embeddings) == (28, 16384, 2048)


# Training

METHODS: dict[str, tuple[dict[str, Any], float, float]] = {  # recipe keys, learning rate, nats a token by which the loss falls in 16 steps
    "lora": ({"tune": "lora"}, 5e-3, 0.1),
    "qlora": ({"tune": "qlora", "lora": {"r": 8}}, 5e-3, 0.1),
    "prompt": ({"tune": "prompt", "prompt": {"tokens": 8}}, 3e-2, 0.01),
    "prefix": ({"tune": "prefix", "prefix": {"tokens": 8}}, 1e-1, 0.01),
    "projected": ({"tune": "prefix", "prefix": {"tokens": 8, "projection": True}}, 1e-2, 0.01),
}
ADAPTERS = [pytest.param(name, marks=needs_4bit if name == "qlora" else ()) for name in METHODS]


class StopError(Exception):
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, and a base trained on them from random weights."""
    folder = tmp_path_factory.mktemp("chatglm")
    write_shards(folder / "shards")
    write_shards(folder / "others", seed=9)
    run(recipe("base", model={"config": dict(TINY_V1)}, run__steps=12), folder)
    return folder


def tuned(name: str, directory: str, **more: Any) -> Any:
    keys, rate, _ = METHODS[name]
    given: dict[str, Any] = {"run__steps": 16, "optim__schedule": "constant", "batch": {"rows": 8, "micro_rows": 4}}
    given |= {"model": {"path": "base/model"}, "data": {"shards": "others"}, "optim__lr": rate}
    return recipe(directory, **{**given, **keys, **more})


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if "loss" in k or k in ("step", "grad_norm", "supervised")} for row in read_metrics(run_dir)]


def loss(folder: Path, model: Any) -> float:
    shards = open_shards((folder / "others",))
    return loss_of(model, shards, np.arange(20), torch.device("cpu"))


def test_a_model_from_a_configuration_learns(trained: Path) -> None:
    losses = [row["loss"] for row in rows_of(trained / "base") if "loss" in row]
    assert losses[-1] < losses[0] - 0.5
    config = json.loads((trained / "base/model/config.json").read_text())
    assert (config["model_type"], config["bos_token_id"], config["gmask_token_id"]) == ("chatglm", 0, 252)


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_method_learns_resumes_and_is_read_back(trained: Path, name: str) -> None:
    more = {"run__save_every": 4, "run__keep": 9}
    whole = trained / f"whole-{name}"
    result = run(tuned(name, whole.name, **more), trained)

    def stop(row: dict[str, Any]) -> None:
        if row["step"] == 6:
            raise StopError

    with pytest.raises(StopError):
        run(tuned(name, f"cut-{name}", **more), trained, stop)
    run(tuned(name, f"cut-{name}", **more), trained)
    assert rows_of(trained / f"cut-{name}") == rows_of(whole)
    for file in (whole / "model").iterdir():
        assert file.read_bytes() == (trained / f"cut-{name}" / "model" / file.name).read_bytes(), file.name

    wanted, shards = absolute(tuned(name, "again"), trained), open_shards((trained / "others",))
    extra = tune.four_bit(torch.device("cpu"), torch.float32) if name == "qlora" else None
    live = tune.attach(models.build(wanted.model, shards, "sdpa", 0, extra), wanted, shards, torch.float32)
    assert result["trained_parameters"] == tune.counts(live).trained
    before = loss(trained, live)
    tune.restore(live, whole / "checkpoints" / "step-00000016")
    after = loss(trained, tune.open_adapter(whole / "model"))
    assert after == loss(trained, live)
    assert after < before - METHODS[name][2]
    if name in ("prompt", "prefix", "projected"):
        with safe_open(str(whole / "model" / "adapter_model.safetensors"), "pt") as file:
            names = set(file.keys())
        inner = {"prompt": ["embedding.weight"], "prefix": ["embedding.weight"]}.get(
            name, ["embedding.weight", "trans.0.weight", "trans.0.bias", "trans.2.weight", "trans.2.bias"]
        )
        assert names == {f"transformer.{'prompt' if name == 'prompt' else 'prefix'}_encoder.{one}" for one in inner}
    how: Any = "adapter" if name in ("prompt", "prefix", "projected") else "dequant"
    merged = merge(whole, how)
    assert merged["difference"] <= merged["tolerance"]
    ids = torch.tensor([[5, 6, 7, 252, 0]])
    adapted = tune.open_adapter(whole / "model")
    assert torch.equal(greedy(adapted, ids, 5), greedy(adapted, ids, 5, use_cache=False))


def test_a_prefix_of_the_released_fine_tuning_is_read(trained: Path, tmp_path: Path) -> None:
    random = torch.randn(6, 2 * 2 * 64, generator=torch.Generator().manual_seed(0))
    save_file({"transformer.prefix_encoder.embedding.weight": random}, tmp_path / "adapter_model.safetensors")
    told: dict[str, Any] = {"peft_type": "CHATGLM_PREFIX", "pre_seq_len": 6, "prefix_projection": False}
    told["base_model_name_or_path"] = str(trained / "base/model")
    (tmp_path / "adapter_config.json").write_text(json.dumps(told))
    model = tune.open_adapter(tmp_path)
    assert torch.equal(model.transformer.prefix_encoder.embedding.weight, random)
    for wrong, message in ((7, "does not fit"), (0, "pre_seq_len"), ("6", "pre_seq_len"), (1 << 40, "pre_seq_len")):
        (tmp_path / "adapter_config.json").write_text(json.dumps({**told, "pre_seq_len": wrong}))
        with pytest.raises(InputError, match=message):
            tune.open_adapter(tmp_path)


def test_an_interrupted_pre_training_equals_an_undisturbed_one(trained: Path) -> None:
    def stop(row: dict[str, Any]) -> None:
        if row["step"] == 7:
            raise StopError

    more: dict[str, Any] = {"model": {"config": dict(TINY_V1)}, "run__steps": 12, "run__save_every": 3}
    with pytest.raises(StopError):
        run(recipe("cut", **more), trained, stop)
    run(recipe("cut", **more), trained)
    assert rows_of(trained / "cut") == rows_of(trained / "base")
    weights = [(trained / name / "model" / "model.safetensors").read_bytes() for name in ("cut", "base")]
    assert weights[0] == weights[1]


def test_conversations_train_the_answer_and_never_what_the_model_sees_before(trained: Path, tmp_path: Path) -> None:
    """Rows of [question, [gMASK], <sop>, answer]: the answer may count in the loss, the question may not."""
    write_shards(tmp_path / "shards", rows=4, files=1, spans=[[]] * 4, vocab_size=256)
    file = tmp_path / "shards" / "shard-00000.arrow"
    table = pa.ipc.open_file(str(file)).read_all()
    ids = np.tile(np.arange(5, 5 + SEQ_LEN), (4, 1))
    ids[:, 28:30] = 252, 0
    columns = {
        "input_ids": pa.FixedSizeListArray.from_arrays(pa.array(ids.reshape(-1), pa.uint16()), SEQ_LEN),
        "segment_lengths": pa.array([[SEQ_LEN]] * 4, pa.list_(pa.int32())),
        "segment_documents": pa.array([["a"]] * 4),
        "segment_offsets": pa.array([[0]] * 4, pa.list_(pa.int64())),
        "segment_bytes": pa.array([[90]] * 4, pa.list_(pa.int64())),
    }
    for start, message in ((30, None), (20, "row 0 trains its token 20")):
        spans = pa.array([[{"start": start, "end": 40}]] * 4, table.schema.field("loss_spans").type)
        changed_table = pa.table({**columns, "loss_spans": spans})
        with pa.ipc.new_file(str(file), changed_table.schema) as writer:
            writer.write_table(changed_table, max_chunksize=7)
        settings = recipe(f"sft-{start}", model={"path": str(trained / "base/model")}, run__steps=2, batch={"rows": 4, "micro_rows": 4})
        if message is None:
            assert run(settings, tmp_path)["step"] == 2
        else:
            with pytest.raises(InputError, match=message):
                run(settings, tmp_path)


def test_attention_that_cannot_read_a_context_is_refused(trained: Path) -> None:
    with pytest.raises(RecipeError, match="sdpa and eager alone"):
        run(tuned("lora", "refused", model={"path": "base/model", "attn": "varlen"}), trained)


# ChatGLM2/3


@pytest.fixture
def source(tmp_path: Path) -> Path:
    shutil.copytree(V3, tmp_path / "source", ignore=shutil.ignore_patterns("reference*"))
    return tmp_path / "source"


def changed(source: Path, **fields: Any) -> None:
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, **fields}))


def test_chatglm3_becomes_a_glm_of_the_same_logits(source: Path, tmp_path: Path) -> None:
    told = convert(source, tmp_path / "out")
    assert (told["model_type"], told["tensors"], told["dtype"], told["rope"]) == ("glm", 36, "float32", "plain")
    model, report = AutoModelForCausalLM.from_pretrained(str(tmp_path / "out"), dtype=torch.float32, output_loading_info=True)
    assert not any(report.values())
    model.eval()
    known = reference(V3)
    assert torch.equal(logits(model, known["ids"]), known["logits"])  # to the bit
    places = (known["am"].cumsum(1) - 1).clamp(min=0)
    left = logits(model, known["pids"], attention_mask=known["am"], position_ids=places)
    real = known["am"][0].bool()
    assert torch.equal(left[0, real], known["lgp"][0, real])
    assert torch.equal(greedy(model, known["ids"][:, :8], 8), known["greedy"])
    assert torch.equal(logits(models.load(tmp_path / "out", "sdpa").eval(), known["ids"]), known["logits"])


def test_sharded_and_half_precision_checkpoints_convert_to_the_same_numbers(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {name: tensor.half() for name, tensor in load_file(source / "model.safetensors").items()}
    (source / "model.safetensors").unlink()
    where = {}
    for part, names in enumerate(np.array_split(sorted(tensors), 3)):
        file = f"model-{part + 1:05d}-of-00003.safetensors"
        save_file({str(name): tensors[str(name)] for name in names}, source / file)
        where |= {str(name): file for name in names}
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert convert(source, whole)["files"] == 1
    monkeypatch.setattr(store.copy, "__defaults__", (60_000,))
    told = convert(source, parts)
    assert told["files"] > 3
    assert told["dtype"] == "float16"
    assert json.loads((parts / "config.json").read_text())["dtype"] == "float16"
    one = load_file(whole / "model.safetensors")
    many: dict[str, torch.Tensor] = {}
    for file in parts.glob("*.safetensors"):
        assert file.stat().st_size < 60_000 + 5_000
        many |= load_file(file)
    assert all(torch.equal(one[name], many[name]) for name in one | many)
    assert torch.equal(one["lm_head.weight"], tensors["transformer.output_layer.weight"])
    a, b = (AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval() for folder in (whole, parts))
    ids = reference(V3)["ids"]
    assert torch.equal(logits(a, ids), logits(b, ids))


CODE = {
    "positions": "seq_idx = torch.arange(seq_len, dtype=dtype, device=device) / self.rope_ratio",
    "base": "base = base * self.rope_ratio",
}


@pytest.mark.parametrize("how", CODE)
def test_rope_ratio_means_what_the_released_code_does_with_it(source: Path, tmp_path: Path, how: str) -> None:
    changed(source, rope_ratio=4)
    with pytest.raises(InputError, match=r"rope_ratio is 4, .* give --rope"):
        convert(source, tmp_path / "out")
    given = convert(source, tmp_path / "given", how)  # type: ignore[arg-type]
    (source / "modeling_chatglm.py").write_text(f"raise SystemExit\n{CODE[how]}\n")
    assert convert(source, tmp_path / "out")["rope"] == given["rope"]
    assert (tmp_path / "out/config.json").read_bytes() == (tmp_path / "given/config.json").read_bytes()
    model = AutoModelForCausalLM.from_pretrained(str(tmp_path / "out"), dtype=torch.float32).eval()
    known, places = reference(V3), torch.arange(20)[None]
    if how == "positions":  # four times as far apart is as far apart as before
        mask = torch.ones_like(known["ids"])  # without one, positions that jump are taken for packed documents
        assert float((logits(model, known["ids"], position_ids=4 * places, attention_mask=mask) - known["logits"]).abs().max()) < 2e-6
        assert float((logits(model, known["ids"]) - known["logits"]).abs().max()) > 1e-3
    steps = np.arange(0, 8, 2) / 8  # the half of a head of 16 that is turned
    expected = 1 / 40000**steps if how == "base" else 1 / 10000**steps / 4
    assert np.allclose(model.model.rotary_emb.inv_freq.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "told"), [("THUDM/chatglm2-6b-32k", "positions divided by 50"), ("THUDM/chatglm3-6b-32k", "base times 50")]
)
def test_rope_ratio_by_the_name_of_the_model(source: Path, tmp_path: Path, name: str, told: str) -> None:
    changed(source, rope_ratio=50, _name_or_path=name)
    assert convert(source, tmp_path / "out")["rope"] == told


def test_conversion_of_chatglm_6b_keeps_names_and_numbers(tmp_path: Path) -> None:
    source = Path(shutil.copytree(V1, tmp_path / "source"))
    changed(source, auto_map={"AutoModel": "modeling_chatglm.ChatGLM"}, _name_or_path="x")
    told = convert(source, tmp_path / "out")
    assert (told["model"], told["model_type"], told["tensors"]) == ("ChatGLM-6B", "chatglm", 40)
    assert "auto_map" not in json.loads((tmp_path / "out/config.json").read_text())
    ids = reference(V1)["ids"]
    assert torch.equal(logits(models.load(tmp_path / "out", "sdpa").eval(), ids), logits(native(), ids))
    # As released, with auto_map and all: it is read, and no code with it.
    (source / "modeling_chatglm.py").write_text("raise SystemExit('run!')")
    assert torch.equal(logits(models.load(source, "sdpa").eval(), ids), logits(native(), ids))


def test_copying_takes_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    with open(tmp_path / "model.safetensors", "wb") as file:
        header = orjson.dumps({"big": {"dtype": "F16", "shape": [50_000, 1000], "data_offsets": [0, 100_000_000]}})
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 100_000_000)
    from codedev.train.weights import Tensor

    found = store.part("new", "big", Tensor("F16", (50_000, 1000), tmp_path / "model.safetensors"), 10_000)
    (tmp_path / "out").mkdir()
    tracemalloc.start()
    assert store.copy([found], tmp_path / "out", lambda done, total: None) == 1
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()
    assert load_file(tmp_path / "out/model.safetensors")["new"].shape == (40_000, 1000)


# What is refused


def without(source: Path, name: str) -> None:
    tensors = load_file(source / "model.safetensors")
    del tensors[name]
    save_file(tensors, source / "model.safetensors")


def more(source: Path, **added: torch.Tensor) -> None:
    save_file({**load_file(source / "model.safetensors"), **added}, source / "model.safetensors")


def pickled(source: Path) -> None:
    (source / "model.safetensors").unlink()
    torch.save({}, source / "pytorch_model-00001-of-00007.bin")


def cut(source: Path) -> None:
    data = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(data[:-100])


QKV = "transformer.encoder.layers.1.self_attention.query_key_value.weight"
REFUSED: dict[str, tuple[Any, str]] = {
    "pickle": (pickled, r"holds pickles \(pytorch_model-00001-of-00007.bin\).*python -c"),
    "nothing": (lambda s: (s / "model.safetensors").unlink(), "has no \\*.safetensors"),
    "config": (lambda s: (s / "config.json").unlink(), "has no config.json"),
    "json": (lambda s: (s / "config.json").write_text("{"), "config.json"),
    "another": (lambda s: changed(s, model_type="llama"), "model_type is 'llama'"),
    "missing": (lambda s: without(s, QKV), "query_key_value.weight is missing"),
    "shape": (lambda s: more(s, **{QKV: torch.zeros(3, 64)}), r"has the shape \(3, 64\)"),
    "unknown": (lambda s: more(s, **{"transformer.vision.weight": torch.zeros(3)}), "transformer.vision.weight is no weight"),
    "quantised": (lambda s: changed(s, quantization_bit=4), "quantization_bit is 4"),
    "norm": (lambda s: changed(s, apply_residual_connection_post_layernorm=True), "apply_residual_connection_post_layernorm"),
    "rope": (lambda s: changed(s, original_rope=False), "original_rope"),
    "layers": (lambda s: changed(s, num_layers=10**9), "1000000000 layers"),
    "number": (lambda s: changed(s, hidden_size="64"), "hidden_size is '64'"),
    "ends": (lambda s: changed(s, eos_token_id=9999), "eos_token_id is 9999"),
    "types": (lambda s: more(s, **{QKV: torch.zeros(128, 64, dtype=torch.int8)}), "holds I8"),
    "cut": (cut, "model.safetensors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_converted_is_refused_and_leaves_nothing(source: Path, tmp_path: Path, name: str) -> None:
    spoil, message = REFUSED[name]
    spoil(source)
    with pytest.raises(InputError, match=message) as error:
        convert(source, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_places_that_are_no_checkpoint_or_taken_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such directory"):
        convert(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "out").mkdir()
    convert(source, tmp_path / "out")  # an empty folder will do
    with pytest.raises(InputError, match="is there already"):
        convert(source, tmp_path / "out")
    with pytest.raises(InputError, match="codedev convert chatglm"):
        models.load(source, "sdpa")
    broken = Path(shutil.copytree(V1, tmp_path / "v1"))
    for fields, message in (
        ({"quantization_bit": 4}, "4 bits"),
        ({"position_encoding_2d": False}, "one position"),
        ({"num_layers": 10**9}, "num_layers"),
        ({"gmask_token_id": 99999}, "gmask"),
        ({"num_attention_heads": 7}, "multiple"),
    ):
        shutil.copyfile(V1 / "config.json", broken / "config.json")
        changed(broken, **fields)
        with pytest.raises(InputError, match=message):
            models.load(broken, "sdpa")


# Tokenizers

TEXTS = [
    "def f(x):\n    return x  # twice\n\n\n\tif x:\n\t\tpass\n",
    " " * 200 + "x" + " " * 81 + "\n" + " " * 80 + "\t" * 3,
    "plain words, and more   words",
    "你好，世界  ！\r\n",
    "",
    "\n",
    "a literal <n> and <|tab|> and <|blank_7|>",
    "  lead and trail  ",
    "é ü 🙂 \u3000 wide",
]


def trained_pieces(folder: Path, **options: Any) -> bytes:
    import sentencepiece

    corpus = folder / "corpus.txt"
    words = "def return if pass for in x y twice words plain more and the a literal lead trail 你好 世界 print value".split()
    words += list("():,.#=+-*/")
    random = np.random.default_rng(0)
    corpus.write_text("\n".join(" ".join(random.choice(words, 12)) for _ in range(600)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "sp"), vocab_size=options.pop("vocab_size", 120), minloglevel=9, **options
    )
    return (folder / "sp.model").read_bytes()


def ice_text(folder: Path) -> bytes:
    """A small model built as that of ChatGLM-6B is: <n> symbol of the user, special tokens and white space appended as plain pieces."""
    data = trained_pieces(folder, model_type="unigram", pad_id=3, byte_fallback=True, user_defined_symbols="<n>", vocab_size=320)
    added = [*pieces.V1, "<|tab|>", *(f"<|blank_{count}|>" for count in range(2, 81))]
    return data + b"".join(pieces._bytes(1, pieces._written(pieces.Piece(name, 0.0, 1))) for name in added)


def released(processor: Any, text: str, before: int = 0) -> list[int]:
    """Ids by the rules of the released tokenizer."""
    text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
    for count in range(80, 1, -1):
        text = text.replace(" " * count, f"<|blank_{count}|>")
    return [number + before for number in processor.encode(text)]


@pytest.fixture(scope="module")
def ice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("ice")
    data = ice_text(folder)
    return folder, sentencepiece.SentencePieceProcessor(model_proto=data)


def v1_with_tokenizer(folder: Path, ice: tuple[Path, Any], before: int) -> Path:
    """The tiny checkpoint with its special ids moved to those of a tokenizer."""
    source = Path(shutil.copytree(V1, folder / f"source-{before}"))
    (source / "ice_text.model").write_bytes(ice_text(ice[0]))
    ids = {
        key: ice[1].piece_to_id(name) + before
        for name, key in (("[MASK]", "mask"), ("[gMASK]", "gmask"), ("<sop>", "bos"), ("<eop>", "eos"))
    }
    size = ice[1].vocab_size() + before
    tensors = dict(load_file(source / "model.safetensors"))
    random = torch.randn(size, 64, generator=torch.Generator().manual_seed(0)) * 0.2
    tensors |= {"transformer.word_embeddings.weight": random, "lm_head.weight": random.clone()}
    save_file(tensors, source / "model.safetensors")
    changed(source, vocab_size=size, **{f"{key}_token_id": number for key, number in ids.items()})
    return source


@pytest.mark.parametrize("before", [0, 2000])
def test_the_tokenizer_of_chatglm_6b_gives_the_released_ids(tmp_path: Path, ice: tuple[Path, Any], before: int) -> None:
    out = tmp_path / "out"
    told = convert(v1_with_tokenizer(tmp_path, ice, before), out)
    assert (told["tokenizer"], told["chat_template"]) == ("tokenizer.model", "chatglm")
    vocabulary = load_vocabulary(out)
    assert vocabulary.bos_id == ice[1].piece_to_id("<sop>") + before
    assert vocabulary.eos_id == ice[1].piece_to_id("<eop>") + before
    random = np.random.default_rng(1)
    alphabet = ["\n", "\t", " ", "  ", " " * 79, "x", "def", "你", "，", "<n>", "<|blank_3|>", "é"]
    texts = TEXTS + ["".join(random.choice(alphabet, 12)) for _ in range(80)]
    plain = encode_plain(vocabulary, pa.array(texts, pa.large_string()))
    for index, text in enumerate(texts):
        here = slice(plain.offsets[index], plain.offsets[index + 1])
        ids = plain.ids[here].tolist()
        assert ids == released(ice[1], text, before), repr(text)
        assert plain.byte_lengths is not None
        assert int(plain.byte_lengths[here].sum()) == len(text.encode()) * bool(ids)
    code = TEXTS[0]
    ids = plain.ids[: plain.offsets[1]].tolist()
    assert decode(vocabulary, ids) == code
    spans = plain.byte_lengths[: plain.offsets[1]].tolist()  # type: ignore[index]
    at = 0
    for number, span in zip(ids, spans, strict=True):  # white space has its own bytes
        if vocabulary.model and vocabulary.model.names[number] in ("<n>", "<|tab|>", "<|blank_4|>"):
            name = vocabulary.model.names[number]
            assert code.encode()[at : at + span].decode() == blanks._TEXTS[name]
        at += span
    for name in ("[gMASK]", "<sop>", "<eop>"):  # which no text gives
        number = special_id(vocabulary, name)
        assert number == ice[1].piece_to_id(name) + before
        assert number not in encode_plain(vocabulary, pa.array([f"x {name} y"], pa.large_string())).ids
    rendered = render(
        load_template("tokenizer", vocabulary, out), ({"role": "user", "content": "你好"}, {"role": "assistant", "content": "x"})
    )
    assert [number for _, _, number in rendered.specials] == [special_id(vocabulary, name) for name in ("[gMASK]", "<sop>", "<eop>")]


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, ice: tuple[Path, Any]) -> None:
    source = v1_with_tokenizer(tmp_path, ice, 0)
    changed(source, gmask_token_id=5)
    with pytest.raises(InputError, match="not those of the model"):
        convert(source, tmp_path / "out")
    changed(source, gmask_token_id=ice[1].piece_to_id("[gMASK]"))
    (source / "ice_text.model").write_bytes(b"\xff\x00")
    assert convert(source, tmp_path / "out")["tokenizer"].startswith("none: ice_text.model is no SentencePiece model")


@pytest.mark.parametrize("generation", [2, 3])
def test_the_tokenizers_of_chatglm2_and_3_have_their_special_tokens(source: Path, tmp_path: Path, generation: int) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    data = trained_pieces(tmp_path, model_type="bpe", byte_fallback=True, vocab_size=300)
    (source / "tokenizer.model").write_bytes(data)
    changed(source, _name_or_path=f"THUDM/chatglm{generation}-6b")
    told = convert(source, tmp_path / "out")
    processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    names = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
    names = names[:5] if generation == 2 else names
    vocabulary = load_vocabulary(tmp_path / "out")
    assert [special_id(vocabulary, name) for name in names] == list(range(300, 300 + len(names)))
    assert (vocabulary.bos_id, vocabulary.eos_id) == (303, 2)
    texts = [*TEXTS, *(f"say {name} now" for name in names)]
    plain = encode_plain(vocabulary, pa.array(texts, pa.large_string()))
    for index, text in enumerate(texts):
        assert plain.ids[plain.offsets[index] : plain.offsets[index + 1]].tolist() == processor.encode(text)
    assert vocabulary.model is not None
    assert USER_DEFINED not in vocabulary.model.kinds[300:]
    assert set(vocabulary.model.kinds[300:].tolist()) == {CONTROL}
    ends = json.loads((tmp_path / "out/generation_config.json").read_text())["eos_token_id"]
    assert ends == (2 if generation == 2 else [2, 306, 308])
    assert told["chat_template"] == f"chatglm{generation}"
    template = load_template("tokenizer", vocabulary, tmp_path / "out")
    talk = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"})
    rendered = render(template, (*talk, {"role": "assistant", "content": "d"}))
    assert [number for _, _, number in rendered.specials][:2] == [301, 303]
    if generation == 2:
        assert rendered.text == "[gMASK]sop[Round 1]\n\n问：a\n\n答：b\n\n[Round 2]\n\n问：c\n\n答：d</s>"


# The command line


def test_convert_and_generate_from_the_command_line(tmp_path: Path, ice: tuple[Path, Any]) -> None:
    source = v1_with_tokenizer(tmp_path, ice, 0)
    ran = CliRunner().invoke(cli, ["convert", "chatglm", str(source), "--out", str(tmp_path / "out"), "--json"], catch_exceptions=False)
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["model"] == "ChatGLM-6B"
    ran = CliRunner().invoke(
        cli,
        ["generate", str(tmp_path / "out"), "--prompt", "def f(x):\n    ", "--max-tokens", "5", "--temperature", "0"],
        catch_exceptions=False,
    )
    assert ran.exit_code == 0
    vocabulary = load_vocabulary(tmp_path / "out")
    ids = encode_plain(vocabulary, pa.array(["def f(x):\n    "], pa.large_string())).ids.tolist()
    written = torch.tensor([[special_id(vocabulary, "[gMASK]"), vocabulary.bos_id, *ids]])
    model = models.load(tmp_path / "out", "sdpa").eval()
    expected = written
    for _ in range(5):
        expected = torch.cat([expected, logits(model, expected)[:, -1:].argmax(-1)], 1)
    assert ran.stdout.startswith("def f(x):\n    ")
    assert ran.stdout.rstrip("\n").endswith(decode(vocabulary, expected[0, -5:].tolist(), specials=False).rstrip("\n"))
    ran = CliRunner().invoke(cli, ["convert", "chatglm", "--help"])
    assert "Example: codedev convert chatglm" in ran.stdout
