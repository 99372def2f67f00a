"""A served model, evaluated over OpenAI's protocol: /completions to go on from a text, /chat/completions to answer a person.

Written answers need no more than that. Log-probabilities of a given text need a server that echoes prompts with them (`echo` and `logprobs`
of /completions, as vLLM and llama.cpp have); where they do not come the task is refused. Such a server names no tokens that begin or end a
document, so bits per byte are of the text alone, its first token charged as a uniform guess over VOCABULARY tokens.
"""

from __future__ import annotations

import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from codedev._errors import InputError, RunError
from codedev._run import Progress, content_key
from codedev.eval.lm import Answer, Continued, Read, Sampling
from codedev.eval.recipe import Endpoint

TRIES = 4
VOCABULARY = 1 << 17
_AGAIN = (408, 409, 429, 500, 502, 503, 504)
_MOST = 64 << 20  # bytes of an answer
_ENDS = {"stop": "end", "length": "length"}

One = TypeVar("One")
Made = TypeVar("Made")


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it would take the key to another server."""

    def redirect_request(self, *given: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)


class Served(NamedTuple):
    """Implements codedev.eval.lm.LM."""

    told: Endpoint
    key: str | None

    @property
    def name(self) -> str:
        return self.told.name

    @property
    def identity(self) -> str:
        return content_key(self.told.endpoint, self.told.name, self.told.chat)

    def continued(self, pairs: Sequence[tuple[str, str]], progress: Progress) -> list[Continued]:
        return self._all(lambda pair: self._continued(*pair), pairs, "read", progress)

    def read(self, texts: Sequence[str], window: int, progress: Progress) -> list[Read]:
        return self._all(self._read, texts, "read", progress)

    def write(self, prompts: Sequence[str], sampling: Sampling, progress: Progress, *, first: int = 0) -> list[list[Answer]]:
        numbered = list(enumerate(prompts, first))
        return self._all(lambda one: self._write(one[1], sampling, one[0]), numbered, "write", progress)

    def _all(self, ask: Callable[[One], Made], given: Sequence[One], what: str, progress: Progress) -> list[Made]:
        found = []
        with ThreadPoolExecutor(self.told.together) as pool:
            try:
                for number, made in enumerate(pool.map(ask, given), 1):
                    found.append(made)
                    progress(what, number, len(given))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found

    def _write(self, prompt: str, sampling: Sampling, number: int) -> list[Answer]:
        body: dict[str, Any] = {"model": self.name, "max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
        body |= {"top_p": sampling.top_p, "stream": False}
        if sampling.stops:
            body["stop"] = list(sampling.stops[:4])  # the protocol knows four
        if self.told.chat:
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        answers = []
        for sample in range(sampling.n):  # one by one: many servers know no `n`
            seed = (sampling.seed + number * sampling.n + sample) % (1 << 31)
            reply = self._post(
                "/chat/completions" if self.told.chat else "/completions", body | ({"seed": seed} if sampling.temperature else {})
            )
            choice = self._choice(reply)
            text = (choice.get("message") or {}).get("content") if self.told.chat else choice.get("text")
            text = text or ""
            end = min((at for stop in sampling.stops if (at := text.find(stop)) >= 0), default=len(text))
            usage = reply.get("usage") or {}
            tokens = usage.get("completion_tokens")
            answers.append(Answer(text[:end], tokens if isinstance(tokens, int) else 0, _ENDS.get(str(choice.get("finish_reason")), "end")))
        return answers

    def _continued(self, before: str, text: str) -> Continued:
        """The text's tokens are those of the whole after as many as `before` has alone, as for a local model."""
        before, text = before.rstrip(), before[len(before.rstrip()) :] + text
        tokens, nats, likeliest = self._echoed(before + text)
        begin = max(self._own(before, tokens), 1)
        if begin >= len(tokens):
            raise RunError(f"{self.name}: a choice has no token of its own")
        return Continued(sum(nats[begin:]), len(tokens) - begin, all(likeliest[begin:]))

    def _own(self, before: str, tokens: list[str]) -> int:
        """How many tokens `before` has."""
        if not before:
            return 0
        begin, at = 0, 0
        while begin < len(tokens) and at < len(before):
            at += len(tokens[begin])
            begin += 1
        if "".join(tokens[:begin]) == before:
            return begin
        return len(self._echoed(before)[0])  # a token ends elsewhere, or is a part of a character and has no text

    def _read(self, text: str) -> Read:
        tokens, nats, _ = self._echoed(text)
        return Read(sum(nats[1:]) / math.log(2) + math.log2(VOCABULARY), len(tokens))

    def _echoed(self, text: str) -> tuple[list[str], list[float], list[bool]]:
        """The text's tokens, the nats of each (of the first 0), whether it was the likeliest."""
        if self.told.chat:
            raise InputError(
                f"{self.name}: a chat endpoint gives no log-probabilities of a text. Set chat: false, or ask `answer` and `code` tasks"
            )
        body = {"model": self.name, "prompt": text, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1, "stream": False}
        reply = self._post("/completions", body)
        found = self._choice(reply).get("logprobs") or {}
        tokens, logs, tops = found.get("tokens"), found.get("token_logprobs"), found.get("top_logprobs")
        if not isinstance(tokens, list) or not isinstance(logs, list) or len(tokens) != len(logs):
            raise InputError(
                f"{self.name}: this server gives no log-probabilities of a prompt (echo with logprobs), which choices and bits per byte "
                "need. Ask `answer` and `code` tasks, or evaluate the model's files"
            )
        count = (reply.get("usage") or {}).get("prompt_tokens")
        if not isinstance(count, int) or not 0 < count <= len(tokens):
            count, length = 0, 0
            while count < len(tokens) and length < len(text):  # without what it wrote behind
                length += len(str(tokens[count]))
                count += 1
        nats = [-float(value or 0.0) for value in logs[:count]]
        tops = tops if isinstance(tops, list) and len(tops) >= count else [None] * count
        best = [max(map(float, one.values())) if isinstance(one, dict) and one else math.inf for one in tops[:count]]
        return list(map(str, tokens[:count])), nats, [-nat >= value for nat, value in zip(nats, best, strict=True)]

    def _choice(self, reply: dict[str, Any]) -> dict[str, Any]:
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise RunError(f"{self.told.endpoint}: its answer has no choices: {json.dumps(reply)[:200]}")
        return choices[0]

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The reply; tried again where that can help. RunError, InputError."""
        address = self.told.endpoint.rstrip("/") + path
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        why = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(min(2.0**attempt, 30.0))
            try:
                request = urllib.request.Request(address, json.dumps(body).encode(), headers)  # noqa: S310  checked below
                with _OPENER.open(request, timeout=self.told.timeout) as reply:
                    data = reply.read(_MOST + 1)
                found = json.loads(data[:_MOST])
                if isinstance(found, dict):
                    return found
                why = "its answer is no object"
            except urllib.error.HTTPError as error:
                said = error.read(2000).decode("utf-8", "replace").strip()
                why = f"HTTP {error.code}: {said[:300] or error.reason}"
                if error.code not in _AGAIN:
                    raise InputError(f"{address}: {why}") from None
            except (OSError, ValueError) as error:
                why = str(error) or type(error).__name__
        raise RunError(f"{address}: {why}; tried {TRIES} times. See to the server and run the same command again: finished parts are kept")


def open_endpoint(told: Endpoint) -> Served:
    """InputError for an address that is none, or a key that is not in the environment."""
    if not told.endpoint.startswith(("http://", "https://")):
        raise InputError(f"model.endpoint: '{told.endpoint}' is no address. Write http://127.0.0.1:8000/v1")
    if told.key is not None and not os.environ.get(told.key):
        raise InputError(f"model.key: the environment has no {told.key}. Put the key of {told.endpoint} into it")
    return Served(told, os.environ[told.key] if told.key else None)
