"""A stranger's checkpoint, looked at before transformers reads it: what is damaged, lies about itself or asks for code is told by file and
tensor, in a thousandth of a second. Knows nothing of torch; reads headers alone.

The format of *.safetensors (huggingface/safetensors, README): 8 bytes, the length of the header in little-endian order; the header, an
object of JSON: name -> {dtype, shape, data_offsets: [begin, end]}; the numbers, to the file's end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from codedev._errors import InputError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_LONGEST = 100_000_000  # bytes of a header: the format's own bound
_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64}
_BITS |= {"F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64}
_AGAIN = "Copy the checkpoint again"
_BITS_STATE = ".quant_state."  # in the names of what bitsandbytes keeps beside 4-bit weights
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")


class Tensor(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    file: Path


def check_checkpoint(directory: Path, known: Container[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name. InputError for what is damaged, no checkpoint, or of a model_type that is not `known`."""
    config = _config(directory / CONFIG, known)
    found: dict[str, Tensor] = {}
    for file in _files(directory):
        found |= _tensors(file)
    layers = config.get("num_hidden_layers")
    if isinstance(layers, int) and layers > len(found):  # each has one at least; so many would take for ever to make
        raise InputError(f"{directory / CONFIG}: num_hidden_layers is {layers}, and the weights are {len(found)} tensors. {_AGAIN}")
    quantised = config.get("quantization_config")
    if quantised is not None and not isinstance(quantised, dict):
        raise InputError(f"{directory / CONFIG}: its quantization_config is {quantised!r:.60}, not a mapping. {_AGAIN}")
    if (
        quantised
        and quantised.get("quant_method") == "bitsandbytes"
        and not any(_BITS_STATE in name or name.endswith("SCB") for name in found)
    ):
        raise InputError(
            f"{directory / CONFIG}: says that the weights are quantised by bitsandbytes, and none is. Remove quantization_config"
        )
    if quantised is None:
        for name, tensor in found.items():
            if name.endswith((".weight", ".bias")) and (tensor.dtype == "BOOL" or tensor.dtype[0] in "IU"):
                raise InputError(f"{tensor.file}: {name} holds {tensor.dtype}, which are no weights. {_AGAIN}")
    return found


def check_adapter(file: Path, config: dict[str, Any]) -> None:
    """InputError for an adapter's weights that are damaged, or smaller than its configuration, which peft would make room for, says."""
    widest = max((max(tensor.shape, default=0) for tensor in _tensors(file).values()), default=0)
    for key, value in config.items():
        most = widest if key in ("r", "num_virtual_tokens") else 1 << 24
        if isinstance(value, int) and value > most:
            raise InputError(f"{file.parent}: its configuration says {key}: {value}, its weights are smaller. Copy the adapter again")


def _config(file: Path, known: Container[str]) -> dict[str, Any]:
    try:
        config = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InputError(f"{file}: is not valid JSON: {error}. {_AGAIN}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise InputError(f"{file}: is no configuration of a model: it has no model_type. {_AGAIN}")
    code = config.get("auto_map")
    if code and config["model_type"] not in known:
        asked = code.get("AutoModelForCausalLM") or code.get("AutoModel") if isinstance(code, dict) else None
        raise InputError(
            f"{file}: asks for code of its own ({asked or 'auto_map'}), and remote code is never run; transformers has no model_type "
            f"'{config['model_type']}' itself. Use a checkpoint of a type that it has"
        )
    return config


def _files(directory: Path) -> list[Path]:
    """Those that transformers would read."""
    names = [WEIGHTS]
    index = directory / INDEX
    if not (directory / WEIGHTS).is_file() and index.is_file():
        try:
            listed = orjson.loads(index.read_bytes())["weight_map"].values()
            names = sorted(set(listed))
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise InputError(f"{index}: is no list of files of weights. {_AGAIN}") from None
        for name in names:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise InputError(f"{index}: names {str(name)!r}, which is no file of weights beside it. {_AGAIN}")
    elif not (directory / WEIGHTS).is_file():
        names = sorted(file.name for file in directory.glob("*.safetensors"))
    for name in names:
        if not (directory / name).is_file():
            raise InputError(f"{directory / name}: is missing, or no file. {_AGAIN}")
    return [directory / name for name in names]


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        with open(file, "rb") as stream:
            return _header(file, stream, file.stat().st_size)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{file}: is damaged: its header cannot be understood. {_AGAIN}") from None


def _header(file: Path, stream: BinaryIO, size: int) -> dict[str, Tensor]:
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or length > min(size - 8, _LONGEST):
        raise InputError(f"{file}: is cut short or no safetensors: a header of {length:,} bytes in a file of {size:,}. {_AGAIN}")
    header = orjson.loads(stream.read(length))
    header.pop("__metadata__", None)
    found, spans = {}, []
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        if entry["dtype"] not in _BITS or not all(isinstance(side, int) and side >= 0 for side in shape):
            raise InputError(f"{file}: is damaged: {name} is {entry['dtype']} of shape {shape}. {_AGAIN}")
        if (end - begin) * 8 != math.prod(shape) * _BITS[entry["dtype"]]:
            raise InputError(f"{file}: is damaged: {name}, {entry['dtype']} of shape {shape}, has {end - begin:,} bytes. {_AGAIN}")
        spans.append((begin, end, name))
        found[name] = Tensor(entry["dtype"], shape, file)
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            raise InputError(f"{file}: is damaged: {name} does not begin where the tensor before it ends. {_AGAIN}")
        at = end
    if size != 8 + length + at:
        raise InputError(f"{file}: has {size:,} bytes, its header tells of {8 + length + at:,}. {_AGAIN}")
    return found
