"""codedev's loop beside the Trainer of transformers, on a CPU: the same model, rows, optimizer and steps, in one process, by turns.

    python benchmarks/bench_train_cpu.py [--rounds 7] [--size small] [--json FILE]

Both train a Llama in float32 on packed rows that are kept apart by their positions, with fused AdamW, clipping, and the loss summed over
micro-batches and divided by the step's tokens; nothing is saved or logged. A round is some steps of each, the first of a round changing.
What is compared is CPU time (of the process, all threads) a token, as the median over rounds of one divided by the other; and that the
losses are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import train_throughput as throughput

SEED = 0


def build(size: str, vocab: int, seq_len: int) -> Any:
    import torch
    import transformers

    hidden, intermediate, layers, heads, key_heads = throughput.SIZES[size]
    torch.manual_seed(SEED)
    config = transformers.LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        vocab_size=vocab,
        max_position_embeddings=seq_len,
        use_cache=False,
    )
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)


def ours(rows: throughput.Packed, given: argparse.Namespace) -> Any:
    """A generator: each `next` is a step; gives its loss."""
    import torch

    of = throughput.load()
    model = build(given.size, rows.vocab_size, rows.seq_len)
    place = of.parallel.World(0, 1, torch.device("cpu"))
    settings: Any = argparse.Namespace(
        name="adamw", lr=1e-3, schedule="constant", warmup=0, cooldown=0, final=0.0, weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8, clip=1.0
    )
    wrapped = of.parallel.distribute(model, "single", place, torch.float32)
    forward = of.attention.forward_of(wrapped, "sdpa", place.device, torch.float32)
    plan = of.loop.Plan(1 << 20, given.micro_rows * given.micro, given.micro_rows, SEED)
    task = of.loop.Task(
        wrapped, forward, of.loop.next_token_loss, of.optim.make(model, settings, place.device), rows, place, plan, settings, None, 1, 1
    )
    for _, row in of.loop.train(task, throughput.State(0, 0, of.policy.Watched())):
        yield row["loss"]


def theirs(rows: throughput.Packed, given: argparse.Namespace, folder: str) -> Any:
    """The same with transformers.Trainer, stopped between two steps by running it on a thread of its own that waits its turn."""
    import queue
    import threading

    import torch
    import transformers

    throughput.load()
    from codedev.train.order import shuffled

    order = shuffled(np.arange(given.steps_in_all * given.micro_rows * given.micro), rows.rows, SEED)
    turns: queue.Queue[bool] = queue.Queue()
    done: queue.Queue[float | None] = queue.Queue()

    class Table(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(order)

        def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
            row = rows.read(order[at : at + 1])
            labels = np.where(row.targets, row.input_ids, -100)
            named = {"input_ids": row.input_ids, "position_ids": row.positions, "labels": labels}
            return {name: torch.from_numpy(value[0]) for name, value in named.items()}

    class Turns(transformers.TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            turns.get()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                done.put(float(logs["loss"]))

    settings = transformers.TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=given.micro_rows,
        gradient_accumulation_steps=given.micro,
        max_steps=given.steps_in_all,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        weight_decay=0.1,
        adam_beta1=0.9,
        adam_beta2=0.95,
        optim="adamw_torch_fused",
        max_grad_norm=1.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=SEED,
        bf16=False,
    )

    class Ordered(transformers.Trainer):
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    model = build(given.size, rows.vocab_size, rows.seq_len)
    trainer = Ordered(model=model, args=settings, train_dataset=Table(), callbacks=[Turns()])
    trainer.remove_callback(transformers.PrinterCallback)
    threading.Thread(target=trainer.train, daemon=True).start()
    for _ in range(given.steps_in_all):
        turns.put(True)
        yield done.get()


def spent(stepper: Any, steps: int) -> tuple[float, float, list[float]]:
    """(CPU seconds, seconds, losses) of some steps."""
    cpu, wall = time.process_time(), time.perf_counter()
    losses = [next(stepper) for _ in range(steps)]
    return time.process_time() - cpu, time.perf_counter() - wall, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", choices=sorted(throughput.SIZES))
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--micro-rows", type=int, default=2)
    parser.add_argument("--micro", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="of a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    given.steps_in_all = 2 + given.steps * given.rounds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.arrow"
        throughput.write_rows(path, 256, given.seq_len, given.vocab)
        rows = throughput.Packed(path, given.seq_len, given.vocab)
        a, b = ours(rows, given), theirs(rows, given, folder)
        _, _, first = spent(a, 2)
        _, _, other = spent(b, 2)  # warm
        ratios, walls, worst, rates = [], [], max(abs(x - y) for x, y in zip(first, other, strict=True)), []
        for number in range(given.rounds):
            mine, peer = ((a, b), (b, a))[number % 2]
            one, two = spent(mine, given.steps), spent(peer, given.steps)
            own, hf = (one, two) if number % 2 == 0 else (two, one)
            ratios.append(own[0] / hf[0])
            walls.append(own[1] / hf[1])
            rates.append(given.steps * given.micro * given.micro_rows * given.seq_len / own[0])
            worst = max(worst, *(abs(x - y) for x, y in zip(own[2], hf[2], strict=True)))
            print(f"round {number + 1}: {ratios[-1]:.3f} of the CPU time of Trainer, {walls[-1]:.3f} of its time", file=sys.stderr)
    found = {
        "cpu_ratio": round(statistics.median(ratios), 4),
        "time_ratio": round(statistics.median(walls), 4),
        "tokens_per_cpu_second": round(statistics.median(rates), 1),
        "loss_difference": worst,
        "size": given.size,
        "load": os.getloadavg()[0],
        "threads": given.threads,
    }
    print(
        f"codedev takes {found['cpu_ratio']:.3f} of the CPU time of transformers' Trainer a token, {found['time_ratio']:.3f} of its time "
        f"(medians of {given.rounds} rounds); losses differ by at most {worst:.1e}",
        flush=True,
    )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    os._exit(0)  # the Trainer's thread waits for a turn that does not come


if __name__ == "__main__":
    main()
