"""Tokens a second, MFU and peak memory of training, by model size, length of rows and tuning method. One device.

    python benchmarks/train_throughput.py                                 # 100m to 8b, 2,048 and 4,096 tokens, every method
    python benchmarks/train_throughput.py --sizes 1b --lengths 4096 --tunes full --compile yes --json table.json
    python benchmarks/train_throughput.py --sizes tiny --lengths 64       # on a CPU, in seconds

Needs torch >= 2.11, transformers, NumPy and pyarrow, and this repository beside it; nothing is read from the network. lora, qlora, prompt
and prefix need what codedev's `train` and `quant` extras install too. What cannot run is a line that says why, and so is a case that runs
out of memory: each one has a process of its own, and is tried again with half the rows at once while there are two.

It measures `codedev.train.loop` itself: the loss in pieces, attention inside documents, optimizer, reading of shards (which it writes to a
temporary folder: documents of log-normal length, median 600 tokens, packed). MFU counts 6 operations a trained weight and token, 4 a frozen
one, and causal attention inside documents, by the dense bfloat16 peak of the device's data sheet. `--against-float32` repeats every full
case in float32, eager, and gives the largest difference of a step's loss.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent

# Llama with grouped heads: (hidden, intermediate, layers, heads, key heads). Names say about how many weights, embeddings apart.
SIZES = {
    "tiny": (64, 176, 2, 4, 2),
    "small": (256, 688, 6, 4, 2),
    "100m": (768, 2048, 14, 6, 2),
    "350m": (1024, 2816, 28, 8, 4),
    "1b": (2048, 5632, 22, 16, 8),
    "3b": (3072, 8192, 28, 24, 8),
    "8b": (4096, 14336, 32, 32, 8),
}
TUNES = ("full", "lora", "qlora", "prompt", "prefix")
NEEDS = {"lora": ("peft",), "qlora": ("peft", "accelerate", "bitsandbytes"), "prompt": ("peft",), "prefix": ("peft",)}
MEDIAN = 600  # tokens of a document


class Rows(NamedTuple):
    """As codedev.train.data.Rows, which wants packages that this does without."""

    numbers: np.ndarray
    input_ids: np.ndarray
    positions: np.ndarray
    real: np.ndarray
    targets: np.ndarray
    text_bytes: np.ndarray


class Packed:
    """Rows of an Arrow file, mapped into memory."""

    def __init__(self, path: Path, seq_len: int, vocab_size: int) -> None:
        import pyarrow as pa

        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self.ids = table.column("input_ids").combine_chunks().flatten().to_numpy().reshape(-1, seq_len)
        lengths = table.column("segment_lengths").combine_chunks()
        self.offsets, self.lengths = lengths.offsets.to_numpy(), lengths.values.to_numpy()
        self.rows, self.seq_len, self.vocab_size = len(self.ids), seq_len, vocab_size

    def read(self, numbers: np.ndarray) -> Rows:
        positions = np.empty((len(numbers), self.seq_len), np.int64)
        for at, number in enumerate(numbers.tolist()):
            lengths = self.lengths[self.offsets[number] : self.offsets[number + 1]]
            positions[at] = np.arange(self.seq_len) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        ids = self.ids[numbers].astype(np.int64)
        return Rows(numbers, ids, positions, np.ones(ids.shape, bool), positions > 0, np.zeros(len(numbers), np.int64))

    def drawn(self, positions: np.ndarray, seed: int) -> np.ndarray:
        from codedev.train.order import shuffled

        return shuffled(positions, self.rows, seed)


def write_rows(path: Path, rows: int, seq_len: int, vocab_size: int) -> None:
    """Documents packed into rows, cut at their ends. Tokens are drawn so that some are much more frequent: there is something to learn."""
    import pyarrow as pa

    random = np.random.default_rng(0)
    ids = (vocab_size * random.random((rows, seq_len)) ** 4).astype(np.uint32)
    lengths = []
    for _ in range(rows):
        row: list[int] = []
        while (left := seq_len - sum(row)) > 0:
            row.append(min(left, max(1, int(random.lognormal(np.log(MEDIAN), 1.2)))))
        lengths.append(row)
    table = pa.table(
        {
            "input_ids": pa.FixedSizeListArray.from_arrays(pa.array(ids.reshape(-1)), seq_len),
            "segment_lengths": pa.array(lengths, pa.list_(pa.int32())),
        }
    )
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def load() -> types.SimpleNamespace:
    """The modules of codedev.train that a case runs on, without the package's recipes where pydantic and others are not installed."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    try:
        import codedev.train  # noqa: F401
    except ImportError:
        package = types.ModuleType("codedev.train")
        package.__path__ = [str(ROOT / "codedev" / "train")]
        sys.modules["codedev.train"] = package
    from codedev.train import loop
    from codedev.train.compute import attention, flops, optim, parallel, recompute
    from codedev.train.watch import policy

    names = {"attention": attention, "flops": flops, "loop": loop, "optim": optim, "parallel": parallel, "policy": policy}
    return types.SimpleNamespace(**names, recompute=recompute)


class State(NamedTuple):
    """As codedev.train.checkpoint.State."""

    step: int
    tokens_seen: int
    watched: Any


def run_case(case: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own. Returns the row of the table; raises what the libraries raise."""
    import torch
    import transformers

    of = load()
    missing = [name for name in NEEDS.get(case["tune"], ()) if importlib.util.find_spec(name) is None]
    missing += ["bitsandbytes"] if case["optim"].endswith("8bit") and importlib.util.find_spec("bitsandbytes") is None else []
    missing += [name for name in ("pydantic", "orjson") if case["tune"] != "full" and importlib.util.find_spec(name) is None]
    if missing:
        return {"status": "skipped", "why": f"{', '.join(missing)} not installed"}
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", 0) if cuda else torch.device("cpu")
    if case["threads"]:
        torch.set_num_threads(case["threads"])
    torch.backends.cuda.matmul.allow_tf32 = False
    dtype = torch.float32 if case["dtype"] == "float32" or (case["dtype"] == "auto" and not cuda) else torch.bfloat16
    hidden, intermediate, layers, heads, key_heads = SIZES[case["size"]]
    config = transformers.LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        vocab_size=case["vocab"],
        max_position_embeddings=max(2048, case["seq_len"] + 64),
        tie_word_embeddings=False,
        use_cache=False,
    )
    with torch.device("meta"):
        weights = sum(p.numel() for p in transformers.AutoModelForCausalLM.from_config(config).parameters())
    free = torch.cuda.mem_get_info()[0] if cuda else _free_memory()
    # Weight, gradient and two moments in float32; of what is frozen, float32 while it is made.
    bytes_a_weight = {"adamw": 16, "muon": 12}.get(case["optim"], 10) if case["tune"] == "full" else 4
    if weights * bytes_a_weight > 0.95 * free:
        return {
            "status": "skipped",
            "why": f"needs {weights * bytes_a_weight / 1e9:.0f} GB before activations, {free / 1e9:.0f} GB are free",
        }

    wanted = case["attn"]
    if wanted == "auto" and case["tune"] in ("prompt", "prefix"):
        wanted = "sdpa"
    attn = of.attention.choose(wanted, device, dtype)
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attn, dtype=torch.float32)
    rows = Packed(Path(case["rows"]), case["seq_len"], case["vocab"])
    called = model
    parameters, trained = of.flops.matrix_parameters(model), weights
    if case["tune"] != "full":
        model, called, parameters, trained = _tuned(case, model, rows, device, dtype)
    if case["checkpointing"]:
        of.recompute.recompute_layers(model)
    if case["compile"]:
        for layer in of.parallel.layers(model):
            layer.compile()
    place = of.parallel.World(0, 1, device)
    wrapped = of.parallel.distribute(called, "single", place, dtype)
    settings = types.SimpleNamespace(
        name=case["optim"],
        lr=3e-4,
        schedule="constant",
        warmup=0,
        cooldown=0,
        final=0.0,
        weight_decay=0.1,
        betas=(0.9, 0.95),
        eps=1e-8,
        clip=1.0,
    )
    optimizer = of.optim.make(model, settings, device)
    forward = of.attention.forward_of(wrapped, attn, device, dtype)
    wrapped.eval()
    of.attention.check_isolation(forward, rows, device, dtype, "llama", attn)
    steps = case["warm"] + case["steps"]
    plan = of.loop.Plan(steps, case["micro_rows"] * case["micro"], case["micro_rows"], 0)
    peak = of.flops.peak_flops(device, case["peak_flops"])
    width = of.flops.attention_width(config)
    task = of.loop.Task(
        wrapped, forward, of.loop.next_token_loss, optimizer, rows, place, plan, settings, peak, parameters, width, of.policy.STOP
    )
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    losses, spent, tokens, flops = [], 0.0, 0, 0.0
    at = time.perf_counter()
    for state, row in of.loop.train(task, State(0, 0, of.policy.Watched())):
        losses.append(row["loss"])
        if state.step in (case["warm"], steps):
            if cuda:
                torch.cuda.synchronize()
            now = time.perf_counter()
            spent, at = now - at, now
        if state.step > case["warm"]:
            batch = rows.read(plan.numbers(state.step - 1, rows))
            tokens += batch.input_ids.size
            flops += of.flops.flops_of_step(parameters, width, batch.input_ids.size, float((2 * batch.positions + 1).sum()))
    memory = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "status": "ok",
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.get_num_threads()} threads",
        "parameters": weights,
        "trained": trained,
        "attention": attn,
        "dtype": str(dtype).removeprefix("torch."),
        "tokens_per_second": round(tokens / spent, 1),
        "mfu": round(flops / spent / peak, 4) if peak else None,
        "peak_memory_gb": round(memory / 1e9, 2),
        "ms_per_step": round(1000 * spent / case["steps"], 1),
        "losses": losses,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _tuned(case: dict[str, Any], model: Any, rows: Packed, device: Any, dtype: Any) -> tuple[Any, Any, int, int]:
    """(model, what is called, weights that would cost as much if they were trained, trained weights) of an adapter."""
    from codedev.train import tune
    from codedev.train.compute import flops
    from codedev.train.recipe import LoraRecipe, PrefixRecipe, PromptRecipe

    whole = flops.matrix_parameters(model)
    if case["tune"] == "qlora":
        _four_bit(model, device, dtype)
    method = {"prompt": PromptRecipe, "prefix": PrefixRecipe}.get(case["tune"], LoraRecipe)()
    wanted: Any = types.SimpleNamespace(
        tune=case["tune"], method=method, run=types.SimpleNamespace(seed=0), model=types.SimpleNamespace(path=None)
    )
    shards: Any = rows
    adapted = tune.attach(model, wanted, shards, dtype)
    held = flops.matrix_parameters(model)  # 4-bit weights hold two in a number: `work` counts them out again
    return adapted, tune.apart(adapted), tune.work(adapted, held if case["tune"] == "qlora" else whole), tune.counts(adapted).trained


def _four_bit(model: Any, device: Any, dtype: Any) -> None:
    """The linear layers of `model` but its head as bitsandbytes' of 4 bits, one after the other."""
    from codedev.train import tune

    tune.load_peft()
    import bitsandbytes as bnb
    import torch

    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is torch.nn.Linear and layer is not head:
                packed = bnb.nn.Linear4bit(layer.in_features, layer.out_features, False, dtype, True, "nf4", device="meta")
                data = layer.weight.data.to("cpu", torch.float16 if device.type == "cuda" else torch.float32)
                packed.weight = bnb.nn.Params4bit(data, requires_grad=False, compress_statistics=True, quant_type="nf4", module=packed)
                setattr(parent, name, packed.to(device))
    model.is_loaded_in_4bit = True


def _free_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62


def in_process(case: dict[str, Any], timeout: float) -> dict[str, Any]:
    """`run_case` in a process of its own: what kills it is a row."""
    command = [sys.executable, str(Path(__file__).resolve()), "--case", json.dumps(case)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"status": "failed", "why": f"took longer than {timeout:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode == 0 and lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    said = done.stderr.strip().splitlines() or ["it said nothing"]
    if "out of memory" in done.stderr.lower() or "OutOfMemoryError" in done.stderr or "can't allocate memory" in done.stderr:
        return {"status": "out of memory", "why": next((line for line in reversed(said) if "memory" in line.lower()), said[-1])[:200]}
    if done.returncode == -9:
        return {"status": "out of memory", "why": "the system ended the process"}
    return {"status": "failed", "why": f"{said[-1][:300]} (exit {done.returncode})"}


def measure(case: dict[str, Any], timeout: float) -> dict[str, Any]:
    """The row of `case`, with fewer rows at once where it is out of memory."""
    while True:
        found = in_process(case, timeout)
        if found["status"] != "out of memory" or case["micro_rows"] == 1:
            return case | found
        case = case | {"micro_rows": case["micro_rows"] // 2, "micro": case["micro"] * 2}


COLUMNS = ("size", "seq_len", "tune", "rows at once", "tokens/s", "MFU", "peak GB", "ms/step", "")


def line(row: dict[str, Any]) -> tuple[str, ...]:
    first = (row["size"], f"{row['seq_len']:,}", row["tune"])
    if row["status"] != "ok":
        return (*first, "", "", "", "", "", f"{row['status']}: {row['why']}")
    mfu = "-" if row["mfu"] is None else f"{row['mfu']:.1%}"
    notes = [row["attention"], row["dtype"]] + [name for name in ("compile", "checkpointing") if row[name]]
    if "loss_difference" in row:
        notes.append(f"loss differs from float32 by {row['loss_difference']:.2g}")
    figures = (f"{row['micro_rows']} x {row['micro']}", f"{row['tokens_per_second']:,.0f}", mfu, f"{row['peak_memory_gb']:.2f}")
    return (*first, *figures, f"{row['ms_per_step']:,.1f}", ", ".join(notes))


def table(rows: list[dict[str, Any]]) -> str:
    cells = [COLUMNS, *map(line, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "-" * min(140, sum(widths) + 2 * len(widths)), *lines[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100m,350m,1b,3b,8b", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--lengths", default="2048,4096", help="tokens of a row")
    parser.add_argument("--tunes", default=",".join(TUNES))
    parser.add_argument("--vocab", type=int, default=65_536)
    parser.add_argument("--micro-tokens", type=int, default=16_384, help="computed at once, to begin with")
    parser.add_argument("--micro", type=int, default=2, help="micro-batches of a step")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm", type=int, default=3, help="steps before these")
    parser.add_argument("--compile", choices=("yes", "no"), default="no")
    parser.add_argument("--checkpointing", choices=("auto", "yes", "no"), default="auto", help="auto: from 3b on")
    parser.add_argument("--attn", default="auto")
    parser.add_argument("--optim", default="adamw")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--peak-flops", type=float, help="of the device, where its name is not known")
    parser.add_argument("--threads", type=int, default=0, help="of a CPU")
    parser.add_argument("--against-float32", action="store_true")
    parser.add_argument("--timeout", type=float, default=900, help="seconds of a case")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(run_case(json.loads(given.case))))
        return
    sizes, lengths, tunes = given.sizes.split(","), [int(length) for length in given.lengths.split(",")], given.tunes.split(",")
    for names, known in ((sizes, SIZES), (tunes, TUNES)):
        if unknown := set(names) - set(known):
            parser.error(f"{', '.join(sorted(unknown))}: choose of {', '.join(known)}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seq_len in lengths:
            path = Path(folder) / f"rows-{seq_len}.arrow"
            write_rows(path, max(16, (1 << 21) // seq_len), seq_len, given.vocab)
            for size in sizes:
                for tune in tunes:
                    case = {
                        "size": size,
                        "seq_len": seq_len,
                        "tune": tune,
                        "rows": str(path),
                        "micro_rows": max(1, given.micro_tokens // seq_len),
                        "checkpointing": tune != "prefix"
                        and (given.checkpointing == "yes" or (given.checkpointing == "auto" and size in ("3b", "8b"))),
                        "compile": given.compile == "yes" and tune not in ("prompt", "prefix"),
                        **{name: getattr(given, name) for name in ("vocab", "micro", "steps", "warm", "attn", "optim", "dtype")},
                        **{name: getattr(given, name) for name in ("peak_flops", "threads")},
                    }
                    row = measure(case, given.timeout)
                    if given.against_float32 and row["status"] == "ok" and tune == "full":
                        plain = {
                            "dtype": "float32",
                            "attn": "sdpa",
                            "compile": False,
                            "checkpointing": False,
                            "micro_rows": row["micro_rows"],
                        }
                        other = in_process(case | plain | {"micro": row["micro"]}, given.timeout)
                        if other["status"] == "ok":
                            pairs = zip(row["losses"], other["losses"], strict=True)
                            row["loss_difference"] = max(abs(a - b) for a, b in pairs)
                    rows.append(row)
                    print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
    machine = {"python": platform.python_version(), "machine": platform.platform()}
    machine |= next(({name: row[name] for name in ("device", "torch", "transformers")} for row in rows if row["status"] == "ok"), {})
    print(f"\n{machine.get('device', 'no case ran')}, torch {machine.get('torch', '?')}, transformers {machine.get('transformers', '?')}")
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
