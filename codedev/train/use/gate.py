"""What stands before the server that `codedev serve` hands over to: requests that are too large, too slow, no JSON or of numbers that mean
nothing are refused with status 4xx and a word on it, before anything is computed; nothing else than the routes of ROUTES can be asked.

A client's `generation_config` and chat template are refused: with them it would decide what is computed, and for how long.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from codedev._errors import CodedevError, InputError

ROUTES = {
    "/health": "GET",
    "/v1/models": "GET",
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/v1/responses": "POST",
}
BODY = 16 << 20  # bytes of a request
PATIENCE = 30.0  # seconds in which it must have come
_STOPS, _STOP = 16, 1024  # stop strings, and the characters of one
_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_NUMBERS = {"temperature": (0.0, 1000.0), "top_p": (1e-6, 1.0), "frequency_penalty": (-0.99, 2.0), "presence_penalty": (-2.0, 2.0)}

Check = Callable[[Mapping[str, Any]], None]
Message = dict[str, Any]


def gated(app: Any, check: Check) -> Any:
    """`app` (ASGI) behind the gate. `check`: CodedevError for a request, already known to be well formed, that the model cannot answer."""

    async def entered(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            replayed = await _admitted(scope, receive, check)
        except _RefusedError as error:
            await _refuse(send, error.status, str(error))
            return
        await _answered(app, scope, replayed, send)

    return entered


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def _admitted(scope: Any, receive: Any, check: Check) -> Any:
    """A `receive` that gives the request again, once it is known to be one."""
    method, path = scope["method"], scope["path"]
    if path not in ROUTES:
        raise _RefusedError(404, f"there is no {path[:200]!r}. There are {', '.join(ROUTES)}")
    if method != ROUTES[path]:
        raise _RefusedError(405, f"{path} is asked with {ROUTES[path]}")
    if method == "GET":
        return receive
    try:
        body = await asyncio.wait_for(_body(receive), PATIENCE)
    except TimeoutError:
        raise _RefusedError(408, f"the request did not come within {PATIENCE:g} seconds") from None
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _RefusedError(400, f"the request is not valid JSON: {error}") from None
    try:
        check_request(data)
        check(data)
    except CodedevError as error:
        raise _RefusedError(400, str(error)) from None
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            given: Message = await receive()
            return given
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _body(receive: Any) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _RefusedError(400, "the request was cut off")
        part = message.get("body", b"")
        size += len(part)
        if size > BODY:
            raise _RefusedError(413, f"the request is larger than {BODY >> 20} MiB")
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def check_request(data: Any) -> None:
    """InputError for fields that mean nothing, whatever is asked."""
    if not isinstance(data, dict):
        raise InputError("the request is no JSON object")
    for name in ("generation_config", "chat_template"):
        if data.get(name) is not None:
            raise InputError(f"{name}: is not taken from requests. Set it where the model lies")
    for name in _TOKENS:
        if data.get(name) is not None and not (_is_int(data[name]) and 1 <= data[name] < 1 << 31):
            raise InputError(f"{name}: is no number of tokens, 1 or more")
    for name, (low, high) in _NUMBERS.items():
        value = data.get(name)
        if value is not None and not (_is_number(value) and low <= value <= high):
            raise InputError(f"{name}: is no number from {low:g} to {high:g}")
    if data.get("temperature") and data["temperature"] < 1e-3:
        raise InputError("temperature: is neither 0 nor 0.001 or more")
    if data.get("seed") is not None and not (_is_int(data["seed"]) and -(1 << 63) <= data["seed"] < 1 << 63):
        raise InputError("seed: is no 64-bit integer")
    for name in ("stream", "echo"):
        if data.get(name) is not None and not isinstance(data[name], bool):
            raise InputError(f"{name}: is neither true nor false")
    _check_stops(data.get("stop"))
    bias = data.get("logit_bias")
    if bias is not None and not (isinstance(bias, dict) and all(key.isdecimal() and _is_number(value) for key, value in bias.items())):
        raise InputError("logit_bias: is no mapping of token ids to numbers")
    for name in ("prompt", "model", "suffix", "instructions"):
        if data.get(name) is not None and not isinstance(data[name], str):
            raise InputError(f"{name}: is no text")
    if "messages" in data:
        _check_messages(data["messages"])
    if data.get("tools") is not None and not (isinstance(data["tools"], list) and all(isinstance(tool, dict) for tool in data["tools"])):
        raise InputError("tools: is no list of objects")
    given = data.get("chat_template_kwargs")
    if given is not None and not (
        isinstance(given, dict) and all(value is None or isinstance(value, bool | int | float | str) for value in given.values())
    ):
        raise InputError("chat_template_kwargs: is no mapping of names to plain values")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise InputError("messages: is no list with a message")
    for number, one in enumerate(messages):
        if not isinstance(one, dict) or not isinstance(one.get("role"), str):
            raise InputError(f"messages.{number}: is no object with a role")
        content = one.get("content")
        parts = content if isinstance(content, list) else []
        if not isinstance(content, str | list | None) or not all(
            isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in parts
        ):
            raise InputError(f"messages.{number}.content: is neither a text nor parts of text")


def _check_stops(stop: Any) -> None:
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None:
        return
    if not isinstance(stops, list) or len(stops) > _STOPS or not all(isinstance(one, str) and 0 < len(one) <= _STOP for one in stops):
        raise InputError(f"stop: is no text, nor up to {_STOPS} of at most {_STOP:,} characters")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


async def _answered(app: Any, scope: Any, receive: Any, send: Any) -> None:
    """What the server answers; what it stumbles over is a word and no traceback."""
    failing = False
    started = False

    async def told(message: Message) -> None:
        nonlocal failing, started
        if message["type"] == "http.response.start":
            failing = message["status"] == 500
            started = not failing
        if not failing:
            await send(message)

    said = "the server cannot answer it"
    status = 500
    try:
        await app(scope, receive, told)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        failing, status, said = not started, 400, f"the request cannot be carried out: {' '.join(str(error).split())[:300] or repr(error)}"
    if failing:
        await _refuse(send, status, said)


async def _refuse(send: Any, status: int, message: str) -> None:
    """In the form that OpenAI's clients show."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = orjson.dumps({"error": {"message": message.encode("utf-8", "replace").decode(), "type": kind}})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
