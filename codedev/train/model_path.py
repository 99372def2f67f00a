"""What model.path must name, and what to do where it names a run or an adapter: those that the other commands take."""

from __future__ import annotations

from pathlib import Path

from codedev._errors import InputError

_GIVE = "Give model.path a directory of config.json and *.safetensors"


def config_of(path: Path) -> Path:
    """The config.json of the model at `path`, a directory or a config.json itself. InputError where there is none."""
    if not path.exists():
        raise InputError(f"{path}: there is no such model. {_GIVE}, or a config.json")
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
