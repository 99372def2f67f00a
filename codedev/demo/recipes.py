"""The recipes of the demo, as a user would write them; their paths are relative to its directory."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

from codedev._errors import InputError

SEQ_LEN = 256


def corpus() -> dict[str, Any]:
    library, samples = standard_library(), bundled_samples()
    code = {
        "type": "code",
        "paths": [str(library)],
        "exclude": [
            "site-packages",
            "dist-packages",
            "test",
            "tests",
            "*/test",
            "*/tests",
            "lib2to3",
            "__pycache__",
            "*/__pycache__",
            "config-*",
            "lib-dynload",
        ],
    }
    return {
        "name": "demo",
        "sources": [
            {"name": "library", **code, "licence": "PSF-2.0", "languages": ["Python"]},
            {"name": "docstrings", **code, "licence": "PSF-2.0", "mode": "docstrings"},
            {"name": "web", "type": "web", "paths": [str(samples / "web")]},
            {"name": "notes", "type": "tables", "paths": [str(samples / "tables")]},
            {"name": "projects", "type": "code", "paths": [str(samples / "code" / "*")]},
        ],
        "language": {"keep": ["en", "de", "fr", "zh"], "min_score": 0.3},
        "quality": {"gopher": {"min_words": 20}, "code": {}},
        "dedup": {"exact": {}},
        "unit_bytes": 4_000_000,
    }


def train() -> dict[str, Any]:
    return {
        "stage": "pt",
        "model": {
            "config": {
                "model_type": "llama",
                "hidden_size": 192,
                "intermediate_size": 512,
                "num_hidden_layers": 2,
                "num_attention_heads": 3,
                "num_key_value_heads": 3,
                "initializer_range": 0.06,
                "tie_word_embeddings": True,
            }
        },
        "data": {"shards": "shards", "eval": "shards/heldout"},
        "batch": {"rows": 4, "micro_rows": 4},
        # Measured: in this time two layers, small steps and this rate reach fewer bits than wider, deeper or larger ones.
        "optim": {"lr": 2e-3, "schedule": "wsd", "warmup": 0.05, "cooldown": 0.4},
        "run": {"dir": "run", "steps": 900, "save_every": 300},
    }


def sft() -> dict[str, Any]:
    return {
        "stage": "sft",
        "model": {"path": "run/model"},
        "data": {"tables": "instructions.jsonl", "template": "chatml", "seq_len": SEQ_LEN, "holdout": 0.05},
        "batch": {"rows": 4, "micro_rows": 4},
        "optim": {"lr": 1e-3, "warmup": 0.05},
        "run": {"dir": "tuned", "epochs": 2},
    }


def reward() -> dict[str, Any]:
    return {
        "stage": "reward",
        "model": {"path": "tuned/model"},
        "data": {"tables": "pairs.jsonl", "seq_len": SEQ_LEN, "holdout": 0.1},
        "batch": {"rows": 16, "micro_rows": 8},
        "optim": {"lr": 1e-3, "warmup": 0.05},
        "run": {"dir": "judge", "epochs": 2},
    }


def ppo() -> dict[str, Any]:
    return {
        "stage": "ppo",
        "model": {"path": "tuned/model"},
        "data": {"tables": "instructions.jsonl", "seq_len": SEQ_LEN, "holdout": 0.02},
        "rewards": [{"model": "judge"}],
        "ppo": {"max_tokens": 64},
        "batch": {"rows": 32, "micro_rows": 16},
        "optim": {"lr": 1e-4, "schedule": "constant"},
        "run": {"dir": "ppo", "steps": 30},
    }


ALL = {"corpus": corpus, "train": train, "sft": sft, "reward": reward, "ppo": ppo}


def standard_library() -> Path:
    path = Path(sysconfig.get_path("stdlib"))
    if not (path / "json" / "__init__.py").is_file():
        raise InputError(
            f"{path}: the Python standard library's sources are not there, and the demo reads them. Use a Python that has them"
        )
    return path


def bundled_samples() -> Path:
    """The samples of the checkout, or those that the installed package carries."""
    package = Path(__file__).parent.parent
    for path in (package.parent / "samples", package / "_samples"):
        if (path / "tables").is_dir():
            return path
    raise InputError("the bundled samples are missing: reinstall codedev")
