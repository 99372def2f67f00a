"""Tasks of lm-eval, by the name it knows them by or as a YAML file in its format, asked of any model that speaks eval/lm.py.

lm-eval reads the documents, builds the prompts, filters what the model said and scores it; so a task's figures are those of lm-eval with
its few-shot seed. Nothing is fetched: data are local files, or lie in the cache of `datasets`. Templates run in Jinja's sandbox, and a YAML
file that names Python functions (!function) is refused unless the recipe says `code: true`; a task that runs what a model wrote always is.

Perplexities of documents are those of eval/tasks/text.py: of the text and the token that ends it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import math
import random
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from codedev._errors import InputError, MissingExtraError, RecipeError
from codedev._run import Progress
from codedev.eval import intervals
from codedev.eval.lm import LM, Sampling
from codedev.eval.recipe import HarnessTask
from codedev.eval.tasks.asked import Asked, Measured, by_group, chosen

try:
    VERSION = f"1 lm-eval {version('lm_eval')}"
except PackageNotFoundError:
    VERSION = "1"
_SEED = 1234  # lm-eval's own, of the examples that it draws
_RESAMPLES = 200  # of figures that are no means
_MAX_TOKENS = 256  # where a task does not say, as lm-eval has it
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),  # the task of lm-eval
        ("asked", pa.large_string()),
        ("gold", pa.large_string()),
        ("said", pa.large_string()),  # what was written, or JSON of the log-probabilities
        ("score", pa.float64()),  # the first metric, where it is a number
        ("metrics", pa.large_string()),  # JSON: of every metric and filter what lm-eval makes of this document
    ]
)


def questions(task: HarnessTask) -> Asked:
    if _is_file(task.task):
        _opened.cache_clear()  # its files may have changed
    rows = [
        {"id": f"{name}/{number}", "group": name, "number": number}
        for name, one in _opened(task.task, task.shots, task.code).items()
        for number in sorted({request.doc_id for request in one.instances})
    ]
    table = pa.Table.from_pylist(rows, pa.schema([("id", pa.string()), ("group", pa.string()), ("number", pa.int64())]))
    if task.limit is not None:
        table = table.take(chosen(table.column("id").to_pylist(), task.limit))
    return Asked(table, {}, (), _files(Path(task.task), code=task.code) if _is_file(task.task) else ())


def ask(task: HarnessTask, asked: Asked, at: range, lm: LM, progress: Progress) -> pa.Table:
    tasks = _opened(task.task, task.shots, task.code)
    found: list[dict[str, Any]] = []
    rows = asked.rows(at)
    for name, one in tasks.items():
        numbers = [row["number"] for row in rows if row["group"] == name]
        if not numbers:
            continue
        wanted = set(numbers)
        requests = [_fresh(request) for request in one.instances if request.doc_id in wanted]
        requests.sort(key=lambda request: (request.doc_id, request.idx))
        _answer(requests, lm, at.start, progress)
        found += _records(one, name, requests)
    return pa.Table.from_pylist(found, _SCHEMA)


def measure(task: HarnessTask, records: pa.Table, seed: int) -> Measured:
    tasks = _opened(task.task, task.shots, task.code)

    def each(some: pa.Table) -> dict[str, intervals.Estimate]:
        values: dict[str, list[Any]] = {}
        means: dict[str, Callable[[Any], float]] = {}
        for group, told in zip(some.column("group").to_pylist(), map(json.loads, some.column("metrics").to_pylist()), strict=True):
            for metric, value in told.items():
                values.setdefault(metric, []).append(value)
                means.setdefault(metric, tasks[group].aggregation()[metric.split(",")[0]])
        return {metric: _estimate(own, means[metric], seed) for metric, own in values.items()}

    return by_group(records, each)


def _estimate(values: list[Any], mean: Callable[[Any], float], seed: int) -> intervals.Estimate:
    if getattr(mean, "__name__", "") == "mean":
        numbers = np.array(values, np.float64)
        return intervals.share(numbers) if set(numbers.tolist()) <= {0.0, 1.0} else intervals.mean(numbers, seed)
    whole = float(mean(values))
    if len(values) < 2:
        return intervals.Estimate(whole, math.nan, math.nan, len(values))
    draws = np.random.default_rng([seed, 0xE57]).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile([float(mean([values[place] for place in draw])) for draw in draws], [0.025, 0.975])
    return intervals.Estimate(whole, float(low), float(high), len(values))


def _answer(requests: Sequence[Any], lm: LM, first: int, progress: Progress) -> None:
    """Put what the model says of each request into it."""
    by_kind: dict[tuple[str, Sampling | None], list[Any]] = {}
    for request in requests:
        sampling = _sampling(request) if request.request_type == "generate_until" else None
        by_kind.setdefault((request.request_type, sampling), []).append(request)
    for (kind, sampling), own in by_kind.items():
        if kind == "loglikelihood":
            for request, one in zip(own, lm.continued([request.args[:2] for request in own], progress), strict=True):
                request.resps = [(-one.nats, one.greedy)]
        elif kind == "loglikelihood_rolling":
            for request, read in zip(own, lm.read([request.args[0] for request in own], 0, progress), strict=True):
                request.resps = [-read.bits * math.log(2)]
        elif sampling is not None:
            for request, written in zip(own, lm.write([request.args[0] for request in own], sampling, progress, first=first), strict=True):
                request.resps = [answer.text for answer in written]
        else:
            raise InputError(f"{own[0].task_name}: asks a model for '{kind}', which no model here can do")


def _sampling(request: Any) -> Sampling:
    told = dict(request.args[1])
    stops = told.get("until") or ()
    drawn = bool(told.get("do_sample", float(told.get("temperature") or 0) > 0))
    most = next((int(told[name]) for name in ("max_gen_toks", "max_new_tokens", "max_tokens") if told.get(name)), _MAX_TOKENS)
    temperature = float(told.get("temperature") or 1.0) if drawn else 0.0
    top_p = float(told.get("top_p") or 1.0)
    return Sampling(request.repeats or 1, most, temperature, top_p, 0, (stops,) if isinstance(stops, str) else tuple(stops))


def _fresh(request: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance(request.request_type, request.doc, request.arguments, request.idx, request.metadata)


def _records(task: Any, name: str, requests: list[Any]) -> Iterator[dict[str, Any]]:
    kept, task._instances = task._instances, requests
    try:
        task.apply_filters()
    finally:
        task._instances = kept
    by_number: dict[int, list[Any]] = {}
    for request in requests:
        by_number.setdefault(request.doc_id, []).append(request)
    for number, own in by_number.items():
        metrics: dict[str, Any] = {}
        for key in own[0].filtered_resps:
            scored = task.process_results(own[0].doc, [request.filtered_resps[key] for request in own])
            metrics |= {metric if key == "none" else f"{metric},{key}": value for metric, value in scored.items()}
        first = next(iter(metrics.values()), None)
        said = [one for request in own for one in request.resps]
        yield {
            "id": f"{name}/{number}",
            "group": name,
            "asked": str(own[0].args[0]),
            "gold": str(task.doc_to_target(own[0].doc)),
            "said": said[0] if len(said) == 1 and isinstance(said[0], str) else _json(said),
            "score": float(first) if isinstance(first, bool | int | float | np.number) else None,
            "metrics": _json(metrics),
        }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=lambda one: one.item() if isinstance(one, np.generic) else str(one))


@functools.lru_cache(maxsize=4)
def _opened(told: str, shots: int | None, code: bool) -> dict[str, Any]:
    """The tasks of lm-eval by their names, their requests built. Raises InputError, MissingExtraError."""
    try:
        import datasets
        import lm_eval.utils as theirs
        from huggingface_hub import constants
        from jinja2 import TemplateError
        from jinja2.sandbox import SandboxedEnvironment
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise MissingExtraError("lm-eval", "eval") from None
    # They may have been loaded before, so that the environment's word comes too late.
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    datasets.disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    sandbox = SandboxedEnvironment(loader=theirs.env.loader, undefined=theirs.env.undefined, keep_trailing_newline=True)
    sandbox.filters.update(theirs.env.filters)
    theirs.env = sandbox
    local = _is_file(told)
    spec: Any = _local(Path(told), code=code) if local else told
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            tasks: dict[str, Any] = dict(TaskManager(include_defaults=not local).load([spec])["tasks"])
        except KeyError:
            raise InputError(f"{told}: lm-eval knows no such task. `lm-eval ls tasks` lists them; a file ends in .yaml") from None
        except ImportError as error:
            raise InputError(f"{told}: lm-eval needs another package for it: {error}") from None
        except (OSError, ValueError, TypeError, AttributeError, TemplateError) as error:
            raise InputError(
                f"{told}: lm-eval cannot open it here: {_line(error)}. Nothing is fetched: its data must be local files, or have been "
                "loaded once with `datasets.load_dataset`"
            ) from None
        for name, task in tasks.items():
            if getattr(task, "UNSAFE_CODE", False) or task.get_config("unsafe_code"):
                raise InputError(f"{name}: runs programs that a model wrote, outside any sandbox. Use kind: code on its files")
            if getattr(task, "MULTIMODAL", False):
                raise InputError(f"{name}: is not of text alone")
            own = task.get_config("num_fewshot")
            if shots is not None and own != 0:  # a task that sets 0 means it, as lm-eval has it
                task.set_config(key="num_fewshot", value=shots)
            elif own is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=_SEED)
            random.seed(0)  # some tasks draw with the library's own numbers
            try:
                task.build_all_requests()
            except Exception as error:  # whatever a template or a function of the task raises
                raise InputError(f"{name}: lm-eval cannot make its questions: {_line(error)}") from None
    return tasks


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _is_file(told: str) -> bool:
    return told.endswith((".yaml", ".yml"))


def _local(path: Path, *, code: bool) -> dict[str, Any]:
    """A task in lm-eval's format, its data's paths taken from beside it."""
    from lm_eval.tasks._yaml_loader import load_yaml

    for file in _yamls(path):
        if not code and (tag := _functions(file)):
            raise RecipeError(f"{file}: names Python code ({tag}), which would be run. Where you trust it, set code: true")
    found: dict[str, Any] = load_yaml(path, resolve_func=code)
    if not isinstance(found.get("task"), str):
        raise InputError(f"{path}: is not one task of lm-eval, with a name under `task`. Name the tasks of a group one by one")
    options = dict(found.get("dataset_kwargs") or {})
    if "data_files" in options:
        options["data_files"] = _beside(options["data_files"], path.parent)
        found["dataset_kwargs"] = options
    return found


def _beside(files: Any, folder: Path) -> Any:
    if isinstance(files, dict):
        return {name: _beside(one, folder) for name, one in files.items()}
    return [_beside(one, folder) for one in files] if isinstance(files, list) else str((folder / str(files)).resolve())


def _yamls(path: Path, seen: tuple[Path, ...] = ()) -> list[Path]:
    """`path` and what it includes. InputError."""
    path = path.resolve()
    if path in seen:
        return []
    try:
        told = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {_line(error)}") from None
    if not isinstance(told, yaml.MappingNode):
        raise InputError(f"{path}: is no task of lm-eval")
    found = [path]
    for key, value in told.value:
        if key.value == "include":
            for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                found += _yamls(path.parent / str(one.value), (*seen, path))
    return found


def _functions(path: Path) -> str | None:
    """The first tag of the file that is not of YAML itself."""
    for token in yaml.scan(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
        if isinstance(token, yaml.TagToken):
            return "".join(part for part in token.value if part)
    return None


def _files(path: Path, *, code: bool) -> list[Path]:
    """All that a local task is made of."""
    found = _yamls(path)
    if code:
        found += path.parent.rglob("*.py")
    waiting: list[Any] = [(_local(path, code=code).get("dataset_kwargs") or {}).get("data_files")]
    while waiting:
        one = waiting.pop()
        waiting += list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
        if isinstance(one, str) and Path(one).is_file():
            found.append(Path(one))
    return sorted(set(found))
