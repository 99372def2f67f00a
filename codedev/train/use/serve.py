"""`codedev serve`: the OpenAI-compatible server of transformers, with one model that was opened here.

    POST /v1/chat/completions, /v1/completions, /v1/responses    streamed or whole
    GET  /v1/models, /health

The server is transformers' own (`transformers serve`), told to use this model for all requests. Its loader is replaced, so that adapters
that cannot be merged are served as they are, and no request makes it read another path or ask a hub. A prompt-tuned or prefix-tuned model
is served as it lies; LoRA adapters are merged into float32 weights (those of 4 bits stay beside them: merging would make them large).
"""

from __future__ import annotations

import importlib
import importlib.util
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codedev._errors import InputError, MissingExtraError, RunError
from codedev.train import tune
from codedev.train.use.companions import own_template
from codedev.train.use.generate import base_of, open_model

NEEDS = ("fastapi", "uvicorn", "openai")


def serve(path: Path, host: str, port: int, on_ready: Callable[[str, bool], None] | None = None, *, background: bool = False) -> Any:
    """Serve the model, adapter or run at `path` until interrupted; with `background` return transformers' Serve, which has kill_server().

    `on_ready` gets the model's name in requests, and whether it has a chat template, before the port is opened.
    Raises MissingExtraError, InputError, RunError when the port cannot be had, before the model is read.
    """
    for package in NEEDS:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "serve")
    _check_port(host, port)
    opened = open_model(path)
    model = opened.model
    if tune.is_adapter(model) and not opened.learned and not any(tune.quantised(model)):
        with tune.silent():
            model = model.merge_and_unload()
    _defaults(model.generation_config, opened.ends)
    tokenizer, name = _tokenizer(opened.directory), _name(path)
    talks = tokenizer.chat_template is not None
    tokenizer.apply_chat_template = _refusing(tokenizer.apply_chat_template, name, talks=talks)
    if on_ready is not None:
        on_ready(name, talks)
    try:
        manager: Any = importlib.import_module("transformers.cli.serving.model_manager")
        app: Any = importlib.import_module("transformers.cli.serving.server")
        server: Any = importlib.import_module("transformers.cli.serve")
    except ImportError as error:
        raise RunError(
            f"serve: this version of transformers has no server that is known here: {error}. Install transformers 5.23"
        ) from None

    class Here(manager.ModelManager):  # type: ignore[misc]
        """Knows one model."""

        @staticmethod
        def process_model_name(model_id: str) -> str:
            return f"{name}@main"

        def _load_processor(self, model_id_and_revision: str, gguf_file: str | None = None) -> Any:
            return tokenizer

        def _load_model(self, model_id_and_revision: str, *more: Any, **options: Any) -> Any:
            return model

        @staticmethod
        def get_gen_models(*more: Any, **options: Any) -> list[dict[str, Any]]:
            return [{"id": name, "object": "model", "owned_by": "codedev", "created": 0}]

    theirs, plain = manager.ModelManager, app.build_server
    manager.ModelManager, app.build_server = Here, lambda *given, **named: _telling(plain(*given, **named))
    try:
        return server.Serve(force_model=name, host=host, port=port, device=str(opened.device), non_blocking=background)
    finally:
        manager.ModelManager, app.build_server = theirs, plain


def _check_port(host: str, port: int) -> None:
    """RunError where nothing can listen there: the server would say so only once the model is read, and end as if all were well."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        raise RunError(f"serve: cannot listen on {host}, port {port}: {error.strerror}. Choose another --port or --host") from None


def _refusing(render: Callable[..., Any], name: str, *, talks: bool) -> Callable[..., Any]:
    """apply_chat_template whose refusal is an answer of status 400 that says why: the server makes a traceback and a bare 500 of it."""
    from fastapi import HTTPException

    def rendered(*given: Any, **named: Any) -> Any:
        if not talks:
            raise HTTPException(400, f"'{name}' has no chat template, it was not tuned to talk. Use /v1/completions")
        try:
            return render(*given, **named)
        except Exception as error:  # whatever a template raises
            raise HTTPException(400, f"the chat template refuses the conversation: {' '.join(str(error).split())[:300]}") from None

    return rendered


def _telling(app: Any) -> Any:
    """The server with its refusals in the form that OpenAI's clients show: {"error": {"message": …}}."""
    from fastapi import HTTPException
    from fastapi.responses import JSONResponse

    async def told(_request: Any, error: Any) -> JSONResponse:
        return JSONResponse({"error": {"message": str(error.detail), "type": "invalid_request_error"}}, error.status_code)

    app.add_exception_handler(HTTPException, told)
    return app


def _defaults(config: Any, ends: frozenset[int]) -> None:
    """What holds for requests that do not say: temperature 1 among all tokens, as OpenAI has it. One of 0 takes the likeliest."""
    config.eos_token_id = sorted(ends) or None
    if not config.do_sample:
        config.do_sample, config.temperature, config.top_p, config.top_k = True, 1.0, 1.0, 0


def _name(path: Path) -> str:
    """What requests call the model: its folder, or that of its run."""
    folder = path.resolve()
    return folder.parent.name if folder.name == "model" and (folder.parent / "metrics.jsonl").is_file() else folder.name


def _tokenizer(directory: Path) -> Any:
    from transformers import AutoTokenizer

    failed: Exception | None = None
    for folder in (directory, base_of(directory)):
        if folder is None:
            continue
        try:
            with tune.silent():
                tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
            failed = error
            continue
        tokenizer.chat_template = tokenizer.chat_template or own_template(directory)
        return tokenizer
    raise InputError(f"{directory}: transformers cannot read its tokenizer: {' '.join(str(failed).split())[:300]}")
