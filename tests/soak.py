"""The fault soak: builds, dedup, tokenizing, training and judgements, each stopped again and again at a random call to the disk.

    python tests/soak.py --faults 500 [--seed 0] [--jobs build,dedup,tokenize,train,feedback]

faults.c stands between a process and its disk: at a chosen call, counted over all processes, the disk is full from then on, fails once,
takes half of a write, the process or its whole group is killed, or the clock jumps. After a few faults one after another the same command
runs undisturbed. Then its output must be that of a run that never met a fault, byte for byte. Until then a run that meets a fault must end
with success and the whole output, be killed, or end with one line that says what is wrong; never with a traceback, a hang, or success and
less than all.

Runs are forks of one process that has everything imported, in a process group of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
KINDS = {"full": 1, "error": 2, "short": 3, "kill": 4, "group": 5, "clock": 6}
STATE = struct.Struct("6q")  # count, at, kind, full, hit, shift
SECONDS = 120.0  # a run that takes longer hangs
CHAIN = 4  # faults one after another before a run is left alone


class Job(NamedTuple):
    name: str
    words: Callable[[Path], list[str]]  # the run's arguments, for the directory it writes
    told: Callable[[Path], Any]  # its output, to be compared


class Ended(NamedTuple):
    code: int  # negative: a signal
    said: str
    calls: int
    hit: bool


class Finding(NamedTuple):
    job: str
    why: str
    faults: list[tuple[str, int]]  # kind and call of the chain up to here
    said: str


# ---- the jobs


def write_inputs(base: Path, seed: int = 0) -> None:
    """Documents with exact and near duplicates, bad lines, and a recipe that reads them in several units."""
    draw = random.Random(seed)
    words = "the of and to that have with a be in is it was for on are as his they at one this from by word but what some we can".split()
    texts = []
    for number in range(240):
        text = " ".join(draw.choices(words, k=draw.randint(60, 160))) + f" number {number} mail{number}@example.org."
        texts.append(text)
        if number % 9 == 0:
            texts.append(text)
        if number % 7 == 0:
            texts.append(text + " and one more")
    draw.shuffle(texts)
    (base / "in").mkdir(parents=True)
    for part in range(3):
        lines = [json.dumps({"text": text}) for text in texts[part::3]]
        lines.insert(5, '{"text": ')
        (base / "in" / f"part-{part}.jsonl").write_text("\n".join(lines) + "\n")
    recipe: dict[str, Any] = {
        "name": "soak",
        "unit_bytes": 40_000,
        "sources": [{"name": "a", "type": "tables", "paths": ["in/*.jsonl"]}],
        "language": {"min_score": 0.0},
        "quality": {"gopher": {}},
        "dedup": {"exact": {}, "minhash": {}},
        "pii": {},
    }
    (base / "recipe.yaml").write_text(json.dumps(recipe))
    model = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "max_position_embeddings": 64,
    }  # fmt: skip
    train = {
        "stage": "pt",
        "model": {"config": model},
        "data": {"shards": str(base / "shards"), "eval": str(base / "shards/heldout")},
        "batch": {"rows": 4, "micro_rows": 4},
        "optim": {"lr": 1e-3},
        "run": {"dir": "OUT", "steps": 8, "save_every": 2, "eval_every": 4, "page_every": 3},
    }
    (base / "train.yaml").write_text(json.dumps(train))


def jobs(base: Path) -> dict[str, Job]:
    def parquet(out: Path) -> list[str]:
        return ["corpus", "dedup", *map(str, sorted((base / "rows").glob("*.parquet"))), "--out", str(out), "--workers", "1", "-q"]

    return {
        job.name: job
        for job in (
            Job("build", lambda out: ["corpus", "build", str(base / "recipe.yaml"), "--out", str(out), "--workers", "1", "-q"], tree),
            Job("dedup", parquet, tree),
            Job(
                "tokenize",
                lambda out: [
                    *("tokenize", str(base / "corpus"), "--tokenizer", str(base / "tokenizer"), "--out", str(out)),
                    *("--seq-len", "64", "--holdout", "0.1", "-q"),
                ],
                tree,
            ),
            Job("train", lambda out: ["train", str(base / "train.yaml"), "--set", f"run.dir={out}", "-q"], learned),
            Job("feedback", lambda out: ["judge", str(out)], judged),
        )
    }


def tree(out: Path) -> dict[str, bytes]:
    """Every file but those that tell of the run: .work, locks, events.jsonl."""
    found = {}
    for file in sorted(out.rglob("*")):
        name = file.relative_to(out).as_posix()
        if file.is_file() and ".work" not in file.parts and file.name not in (".lock", "events.jsonl"):
            found[name] = file.read_bytes()
    return found


def learned(out: Path) -> dict[str, Any]:
    """The weights, and the loss of each step."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    bits = {row["step"]: row["bits_per_byte"] for row in rows if "bits_per_byte" in row}
    return {"losses": losses, "bits": bits, "weights": (out / "model/model.safetensors").read_bytes()}


def judge(out: Path) -> None:
    """Judge thirty tasks, and tell those that are said to be on the disk."""
    from codedev.feedback.store import Store
    from codedev.feedback.tasks import Answer, Task

    out.mkdir(exist_ok=True)
    store = Store(str(out / "judgements.sqlite"))
    asked = [{"role": "user", "content": "q"}]
    tasks = [Task(f"t{n}", "compare", asked, [Answer(f"a{n}", ""), Answer(f"b{n}", "")]) for n in range(30)]
    store.add(tasks)
    kept = _kept(out)
    for number, task in enumerate(tasks):
        store.judge(f"key-{number}", task, "ann", "a", "", 0)
        with kept.open("a") as file:
            file.write(f"key-{number}\n")


def judged(out: Path) -> list[str]:
    from codedev.feedback.store import Store

    return sorted(row.key for row in Store(str(out / "judgements.sqlite")).judgements())


# ---- running them


class Soak:
    """Runs in forks of one warm process, below `base`, through the layer of faults."""

    def __init__(self, base: Path, library: Path) -> None:
        self.state = base / "state"
        self.state.write_bytes(bytes(4096))
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAULT_STATE": str(self.state),
            "FAULT_ROOT": str(base / "out"),
            "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}",
            "OMP_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "soak.py"), "--warm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def run(self, words: list[str], log: Path, at: int = 0, kind: str = "full") -> Ended:
        """One run of the command, whose call number `at` fails."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self.state.open("r+b") as file:
            file.write(STATE.pack(0, at, KINDS[kind], 0, 0, 0))
        self.process.stdin.write(json.dumps({"words": words, "log": str(log)}) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        calls, _, _, _, hit, _ = STATE.unpack(self.state.read_bytes()[: STATE.size])
        return Ended(code, log.read_text(errors="replace"), calls, bool(hit))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def warm() -> None:
    """Import everything, then fork for each line of stdin and say how the fork ended."""
    import torch  # noqa: F401

    from codedev.cli import main

    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            os.setsid()
            log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for handle in (1, 2):
                os.dup2(log, handle)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.argv = ["codedev", *asked["words"]]
            try:
                if asked["words"][0] == "judge":
                    sys.argv = sys.argv[:1]
                    _judge(Path(asked["words"][1]))
                else:
                    main()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
            except BaseException:
                import traceback

                traceback.print_exc()
                code = 70
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
        print(_waited(child), flush=True)


def _judge(out: Path) -> None:
    """As a command: its errors are a line."""
    from codedev._errors import CodedevError

    try:
        judge(out)
    except (CodedevError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _waited(child: int) -> int:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # workers that have not yet noticed
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


def soak(
    base: Path, library: Path, faults: int, seed: int = 0, names: tuple[str, ...] = (), told: Callable[[str], None] = print
) -> tuple[Counter[str], list[Finding]]:
    """(faults met, by job and kind; what went wrong)."""
    met: Counter[str] = Counter()
    findings: list[Finding] = []
    draw = random.Random(seed)
    write_inputs(base)
    (base / "out").mkdir()
    runs = Soak(base, library)
    try:
        made = _references(runs, base)
        chosen = [job for job in jobs(base).values() if not names or job.name in names]
        log, number = base / "log", 0
        while met.total() < faults:
            job = chosen[number % len(chosen)]
            number += 1
            reference, calls = made[job.name]
            out = base / "out" / job.name
            chain: list[tuple[str, int]] = []
            for _ in range(CHAIN):
                # What is done already is not done again: later faults of a chain come early.
                kind, at = draw.choice(list(KINDS)), draw.randint(1, max(2, int(calls * draw.choice((0.05, 0.3, 1.0)))))
                ended = runs.run(job.words(out), log, at, kind)
                chain.append((kind, at))
                met[f"{job.name} {kind}"] += ended.hit
                if why := _wrong(job, ended, kind, reference, out):
                    findings.append(Finding(job.name, why, chain, ended.said[-3000:]))
                    break
            ended = runs.run(job.words(out), log)
            if ended.code:
                findings.append(Finding(job.name, f"does not go on: exit {ended.code}", chain, ended.said[-3000:]))
            elif why := _differs(job, reference, out):
                findings.append(Finding(job.name, f"goes on to another output: {why}", chain, ended.said[-1000:]))
            _clear(out)
            told(f"{met.total()} faults, {len(findings)} findings: {job.name} {chain}")
            if findings and findings[-1].faults is chain:
                told(_shown(findings[-1]))
    finally:
        runs.close()
    return met, findings


def _references(runs: Soak, base: Path) -> dict[str, tuple[Any, int]]:
    """What each job makes without a fault, and how many calls it takes. The corpus and shards of later jobs are made on the way."""
    found = {}
    for job in jobs(base).values():
        if job.name == "dedup":
            _rows(base)
        out = base / "out" / job.name
        ended = runs.run(job.words(out), base / "log")
        assert ended.code == 0, (job.name, ended)
        found[job.name] = (job.told(out), ended.calls)
        if job.name == "build":
            shutil.copytree(out, base / "corpus")
            words = ["tokenizer", "train", str(base / "corpus"), "--out", str(base / "tokenizer"), "--vocab-size", "400"]
            ended = runs.run([*words, "--special-slots", "64", "-q"], base / "log")
            assert ended.code == 0, ended
        if job.name == "tokenize":
            shutil.copytree(out, base / "shards")
        _clear(out)
    return found


def _clear(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    _kept(out).unlink(missing_ok=True)


def _kept(out: Path) -> Path:
    """Where `judge` tells what it has been promised to be kept; no fault touches it."""
    return out.parent.parent / f"{out.name}-kept"


def _rows(base: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (base / "rows").mkdir()
    for number, file in enumerate(sorted((base / "in").glob("*.jsonl"))):
        texts = [json.loads(line)["text"] for line in file.read_text().splitlines() if line.endswith("}")]
        pq.write_table(pa.table({"text": texts}), base / "rows" / f"{number}.parquet")


def _wrong(job: Job, ended: Ended, kind: str, reference: Any, out: Path) -> str | None:
    """Why a run that may have met a fault did not end as it should; None where it did."""
    if job.name == "feedback":
        kept = _kept(out)
        promised = set(kept.read_text().split()) if kept.is_file() else set()
        if (out / "judgements.sqlite").is_file() and ended.code == 0 and (lost := promised - set(judged(out))):
            return f"judgements are gone: {sorted(lost)}"
    if "Traceback" in ended.said or ended.code == 70:
        return f"a traceback, exit {ended.code}"
    if ended.code == 124:
        return f"hangs for {SECONDS:.0f} s"
    if ended.code == 0:
        differs = _differs(job, reference, out)
        return f"success and another output: {differs}" if differs else None
    if ended.code < 0:
        return None if kind in ("kill", "group") and ended.hit else f"ended by signal {-ended.code}"
    if not ended.hit or kind == "clock":
        return f"exit {ended.code} without a fault of the disk"
    lines = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    return None if lines else f"exit {ended.code} and no word of what is wrong"


def _differs(job: Job, reference: Any, out: Path) -> str | None:
    try:
        found = job.told(out)
    except (OSError, ValueError, KeyError) as error:
        return f"cannot be read: {error}"
    if found == reference:
        return None
    if isinstance(found, dict):
        names = sorted(name for name in found.keys() | reference.keys() if found.get(name) != reference.get(name))
        how = ["lacks" if name not in found else "more" if name not in reference else "differs" for name in names]
        return ", ".join(f"{name} ({word})" for name, word in zip(names[:5], how, strict=False))
    return f"{len(found)} of {len(reference)}"


def _shown(finding: Finding) -> str:
    return f"\n{finding.job}: {finding.why}\n  after {finding.faults}\n  {finding.said.strip()}"


def compile_faults(folder: Path) -> Path | None:
    """The layer as a library; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = folder / "faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(HERE / "faults.c"), "-ldl"], check=True)
    return library


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--faults", type=int, default=500)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--jobs", default="")
    asked.add_argument("--warm", action="store_true", help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.warm:
        warm()
        return
    with _folder() as base:
        library = compile_faults(base)
        if library is None:
            sys.exit("the soak needs Linux and a C compiler")
        began = time.perf_counter()
        names = tuple(filter(None, given.jobs.split(",")))
        met, findings = soak(base, library, given.faults, given.seed, names, lambda line: print(line, file=sys.stderr, flush=True))
    for name, count in sorted(met.items()):
        print(f"{name:<20} {count:>6}")
    print(f"{met.total()} faults in {time.perf_counter() - began:.0f} s, {len(findings)} findings")
    for finding in findings:
        print(_shown(finding))
    sys.exit(bool(findings))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="codedev-soak-") as name:
        yield Path(name).resolve()


if __name__ == "__main__":
    main()
