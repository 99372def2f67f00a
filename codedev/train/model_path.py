"""What model.path must name, and what to do where it names a run or an adapter: those that the other commands take.

A folder, or the id of a model that lies in the cache of the Hugging Face hub (owner/name, or owner/name@revision). A folder of that name
comes first. Nothing is fetched: `hf download owner/name` does that.
"""

from __future__ import annotations

import re
from pathlib import Path

from codedev._errors import InputError

_GIVE = "Give model.path a directory of config.json and *.safetensors"
_HUB = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(?:@[\w.-]{1,95})?")


def located(path: str, base: Path) -> str:
    """The absolute path of what `path`, from `base`, names: a folder or file, or a model of the hub's cache; where it is neither, of a
    folder that is not there."""
    here = (base / Path(path).expanduser()).resolve()
    found = None if here.exists() else in_cache(path)
    return str(found or here)


def in_cache(name: str) -> Path | None:
    """The folder of `owner/name` or `owner/name@revision` in the hub's cache on this machine; None where there is none."""
    if not _HUB.fullmatch(name):
        return None
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        return None
    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError):
        return None


def config_of(path: Path) -> Path:
    """The config.json of the model at `path`, a directory or a config.json itself. InputError where there is none."""
    if not path.exists():
        hub = "the id of a model in the Hugging Face cache (hf download OWNER/NAME puts it there)"
        raise InputError(f"{path}: there is no such model. {_GIVE}, a config.json, or {hub}")
    config = path / "config.json" if path.is_dir() else path
    if config.is_file():
        return config
    inside = path / "model"
    if (inside / "config.json").is_file():
        raise InputError(f"{path}: is a run. Set model.path to the model in it, {inside}")
    for folder in (path, inside):
        if (folder / "adapter_config.json").is_file():
            merge = f"codedev export {path} --merge dequant --out DIR"
            raise InputError(f"{path}: is an adapter, no whole model. Make it one with {merge}, and set model.path to DIR")
    raise InputError(f"{config}: there is no such file. {_GIVE}, or a config.json")
