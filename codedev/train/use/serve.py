"""`codedev serve`: the OpenAI-compatible server of transformers, with one model that was opened here.

    POST /v1/chat/completions, /v1/completions, /v1/responses    streamed or whole
    GET  /v1/models, /health

The server is transformers' own (`transformers serve`), told to use this model for all requests. Its loader is replaced, so that adapters
that cannot be merged are served as they are, and no request makes it read another path or ask a hub. Conversations become tokens as in
`codedev chat`: what people say is text whatever it looks like, and a template has a budget. Before it stands a gate (gate.py).

A prompt-tuned or prefix-tuned model is served as it lies; LoRA adapters are merged into float32 weights (those of 4 bits stay beside them:
merging would make them large).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codedev._errors import InputError, MissingExtraError, RunError
from codedev.train import tune
from codedev.train.use import chat
from codedev.train.use.chat import Chat, chat_of
from codedev.train.use.companions import own_template
from codedev.train.use.gate import gated
from codedev.train.use.generate import base_of, open_model, prompt_ids

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
    try:
        talk, mute = chat_of(opened), f"'{name}' has no chat template, it was not tuned to talk. Use /v1/completions"
    except InputError as error:  # one that cannot be used: texts are written all the same
        talk, mute = None, f"{_inside(error, opened.directory)}. Use /v1/completions"
    talks = talk is not None
    tokenizer.apply_chat_template = _rendering(talk, mute)
    model.generate = _within(model.generate, opened.positions)
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

    def check(request: Mapping[str, Any]) -> None:
        if isinstance(request.get("prompt"), str):
            try:
                prompt_ids(opened, request["prompt"])
            except InputError as error:
                raise InputError(_inside(error, opened.directory)) from None

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
    manager.ModelManager, app.build_server = Here, lambda *given, **named: gated(_telling(plain(*given, **named)), check)
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


def _inside(error: InputError, directory: Path) -> str:
    """What it says, without where the model lies: that is no client's business."""
    return str(error).replace(f"{directory}: ", "").replace(f"{directory}/", "")


def _rendering(talk: Chat | None, mute: str) -> Callable[..., Any]:
    """apply_chat_template as `codedev chat` does it; without one, `mute` says why. What cannot be rendered is answered with status 400."""
    from fastapi import HTTPException
    from transformers import BatchEncoding

    def rendered(messages: Any, tools: Any = None, return_tensors: str | None = None, **named: Any) -> Any:
        if talk is None:
            raise HTTPException(400, mute)
        own = {key: value for key, value in named.items() if key not in _THEIRS}
        if taken := sorted({"messages", "tools", "documents", *talk.template.variables} & set(own)):
            raise HTTPException(400, f"chat_template_kwargs: {taken[0]} is not taken from requests")
        with_own = talk._replace(template=talk.template._replace(variables={**own, **talk.template.variables}, plan=None)) if own else talk
        try:
            ids = chat.prompt_ids(with_own, messages, tools)
        except InputError as error:
            raise HTTPException(400, _inside(error, talk.opened.directory).removeprefix("chat: ")) from None
        return BatchEncoding({"input_ids": [ids], "attention_mask": [[1] * len(ids)]}, tensor_type=return_tensors)

    return rendered


_THEIRS = {"add_generation_prompt", "return_dict", "tokenize", "load_audio_from_video", "num_frames"}


def _within(generate: Callable[..., Any], positions: int | None) -> Callable[..., Any]:
    """`generate` that ends where the model's positions do, whatever number of tokens is asked for."""

    @functools.wraps(generate)
    def bounded(*given: Any, **named: Any) -> Any:
        config, ids = named.get("generation_config"), named.get("input_ids")
        if positions is not None and config is not None and ids is not None:
            config.max_new_tokens = max(1, min(config.max_new_tokens or positions, positions - ids.shape[-1]))
        return generate(*given, **named)

    return bounded


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
