"""The answers of every update, as Arrow files: what was sampled, what it earned, and what was learned of it.

    RUN/rollouts/step-00000012-0.arrow     of update 12, counted from 1, those of process 0; SCHEMA and a column `reward.NAME` a source

A file is a function of (recipe, data, seed), written before the weights move. They are never removed; an answer takes 40 bytes a token.
Stages grpo and rloo have no values, so that `values`, `rewards` and `returns` are null; without a reference `reference` and `kl` are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from codedev._errors import InputError
from codedev._run import atomic_write

_EACH = pa.list_(pa.float32())  # a number a token
SCHEMA = pa.schema(
    [
        ("number", pa.int64()),  # of the answer among all of the run
        ("document", pa.string()),
        ("prompt", pa.large_string()),
        ("answer", pa.large_string()),
        ("ended", pa.bool_()),  # by itself
        ("score", pa.float64()),  # the weighted sum, and what a missing end costs
        ("kl", pa.float64()),  # nats of the answer from the reference
        ("ids", pa.list_(pa.int32())),
        ("drawn", _EACH),  # ln p as it was sampled
        ("logprobs", _EACH),  # ln p as training computes it, before the update
        ("reference", _EACH),
        ("values", _EACH),
        ("rewards", _EACH),
        ("advantages", _EACH),
        ("returns", _EACH),
    ]
)


class Rollout(NamedTuple):
    """B answers; `parts`: of each source of rewards; `each`: columns of SCHEMA with a number a token, (B, R) padded."""

    numbers: np.ndarray
    documents: list[str]
    prompts: list[str]
    answers: list[str]
    ids: list[np.ndarray]
    ended: np.ndarray
    scores: np.ndarray
    kl: np.ndarray | None
    parts: dict[str, np.ndarray]
    each: dict[str, np.ndarray]


def write(run_dir: Path, step: int, rank: int, made: Rollout) -> None:
    """`step` counts from 1."""
    lengths = np.array([len(ids) for ids in made.ids], np.int64)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    inside = np.arange(int(lengths.max())) < lengths[:, None]
    columns: dict[str, Any] = {
        "number": made.numbers,
        "document": made.documents,
        "prompt": made.prompts,
        "answer": made.answers,
        "ended": made.ended,
        "score": made.scores,
        **({"kl": made.kl} if made.kl is not None else {}),
        "ids": pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(made.ids), pa.int32())),
        **{name: pa.ListArray.from_arrays(offsets, pa.array(values[inside], pa.float32())) for name, values in made.each.items()},
    }
    schema = SCHEMA
    for name, values in made.parts.items():
        schema = schema.append(pa.field(f"reward.{name}", pa.float64()))
        columns[f"reward.{name}"] = values
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(lengths), field.type) for field in schema
    ]
    table = pa.table(arrays, schema=schema)
    path = run_dir / "rollouts" / f"step-{step:08d}-{rank}.arrow"
    with atomic_write(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(table)


def read(run_dir: Path, step: int) -> pa.Table:
    """The answers of an update, by their numbers. InputError where they are not there, or damaged."""
    found = sorted((run_dir / "rollouts").glob(f"step-{step:08d}-*.arrow"))
    if not found:
        raise InputError(f"{run_dir / 'rollouts'}: there are no answers of update {step}. An update that was not reached has none")
    tables = []
    for path in found:
        try:
            tables.append(pa.ipc.open_file(pa.memory_map(str(path))).read_all())
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: is damaged ({str(error).splitlines()[0]}). Remove it, and explain another update") from None
    return pa.concat_tables(tables).sort_by("number")


def explain(run_dir: Path, step: int) -> dict[str, Any]:
    """run_dir, step, answers: those of the update, the lowest score first, with score, the parts of the reward, kl, tokens, ended, mean
    advantage, the largest difference of ln p as sampled and as trained (mismatch), prompt and answer."""
    table = read(run_dir, step)
    rows = []
    for row in table.to_pylist():
        parts = {name.removeprefix("reward."): row[name] for name in row if name.startswith("reward.")}
        apart = np.abs(np.subtract(row["drawn"], row["logprobs"]))
        about = {name: row[name] for name in ("number", "document", "score", "kl", "ended", "prompt", "answer")}
        means = {"tokens": len(row["ids"]), "advantage": float(np.mean(row["advantages"])), "mismatch": float(apart.max(initial=0.0))}
        rows.append({**about, **means, "rewards": parts})
    rows.sort(key=lambda row: row["score"])
    return {"run_dir": str(run_dir), "step": step, "answers": rows}
