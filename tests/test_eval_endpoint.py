"""A served model: the server of codedev for what is written, and one that echoes log-probabilities, as vLLM and llama.cpp do, for what is
judged. Both say what the local model says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from eval_support import BEGIN, tiny
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from codedev._errors import CodedevError, InputError, RunError
from codedev._run import no_progress
from codedev.cli import cli
from codedev.eval import endpoint
from codedev.eval.endpoint import open_endpoint
from codedev.eval.lm import Sampling
from codedev.eval.recipe import Endpoint
from codedev.eval.run import records_of
from codedev.train.use.lm import open_lm

PAIRS = [("Why does a kettle", " sing"), ("2 + 2 = ", "4"), ("问题：好", "答案"), ("a b", "c d"), ("x", "\n\n"), ("naïve 😀", " é好")]
GREEDY = Sampling(max_tokens=12, stops=("\n", "e"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny(tmp_path_factory.mktemp("served") / "kettle")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 1)])  # what begins a text, for the server
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    tokens = {"eos_token": "<|end|>", "bos_token": "<|begin|>", "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens))
    return folder


@pytest.fixture(scope="module")
def ours(model: Path) -> Iterator[str]:
    """`codedev serve`."""
    pytest.importorskip("fastapi")
    pytest.importorskip("openai")
    from codedev.train.use.serve import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = serve(model, "127.0.0.1", port, background=True)
    yield f"http://127.0.0.1:{port}/v1"
    server.kill_server()


class Echo(BaseHTTPRequestHandler):
    """/completions with echo and logprobs, computed by plain transformers; tokens as texts of their own, which parts of characters lack."""

    model: Any
    tokenizer: Any
    asked: list[tuple[str, str | None]]
    fails: list[int]  # the next answers

    def do_POST(self) -> None:
        import torch

        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers.get("Authorization")))
        if self.fails:
            self.send_response(code := self.fails.pop(0))
            if code == 307:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(b"no\xff")
            return
        ids = [1, *self.tokenizer.encode(body["prompt"], add_special_tokens=False).ids]
        with torch.no_grad():
            logs = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        ids.append(int(logs[-1].argmax()))
        best = [None, *logs[:-1].argmax(-1).tolist(), ids[-1]]
        told = [None, *(float(logs[at - 1, ids[at]]) for at in range(1, len(ids)))]
        names = [self.tokenizer.decode([token], skip_special_tokens=False) for token in ids]
        tops = [None if b is None else {self.tokenizer.decode([b]): float(logs[at - 1, b])} for at, b in enumerate(best)]
        logprobs = {"tokens": names, "token_logprobs": told, "top_logprobs": tops}
        choice = {"text": body["prompt"], "logprobs": logprobs, "finish_reason": "length"}
        reply = json.dumps({"choices": [choice], "usage": {"prompt_tokens": len(ids) - 1, "completion_tokens": 1}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *told: Any) -> None:
        pass


@pytest.fixture
def echo(model: Path) -> Iterator[tuple[str, type[Echo]]]:
    from transformers import AutoModelForCausalLM

    class Own(Echo):
        asked: list[tuple[str, str | None]] = []  # noqa: RUF012
        fails: list[int] = []  # noqa: RUF012

    Own.model, Own.tokenizer = AutoModelForCausalLM.from_pretrained(model), Tokenizer.from_file(str(model / "tokenizer.json"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", Own
        server.shutdown()


def opened(address: str, **more: Any) -> endpoint.Served:
    return open_endpoint(Endpoint(endpoint=address, name="kettle", **more))


def test_what_a_server_writes_is_what_the_model_writes(model: Path, ours: str) -> None:
    prompts = [before for before, _ in PAIRS] * 3
    local = open_lm(str(model)).write(prompts, GREEDY, no_progress)
    served = opened(ours, together=4).write(prompts, GREEDY, no_progress)
    assert [one[0].text for one in served] == [one[0].text for one in local]
    drawn = Sampling(n=3, max_tokens=8, temperature=1.0, seed=3)
    assert [len(one) for one in opened(ours).write(prompts[:2], drawn, no_progress)] == [3, 3]


def test_what_a_chat_server_writes_is_what_the_model_writes(model: Path, ours: str) -> None:
    prompts = [before for before, _ in PAIRS]
    local = open_lm(str(model), "own").write(prompts, GREEDY, no_progress)
    served = opened(ours, chat=True).write(prompts, GREEDY, no_progress)
    assert [one[0].text.strip() for one in served] == [one[0].text.strip() for one in local]


def test_a_recipe_names_a_server(tmp_path: Path, model: Path, ours: str) -> None:
    rows = [{"id": f"q{at}", "question": f"What is {at} and {at}?", "answer": f"It is #### {2 * at}"} for at in range(5)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = [{"name": "sums", "kind": "answer", "paths": ["sums.jsonl"], "max_tokens": 8}]
    for name, asked in (("served", {"endpoint": ours, "name": "kettle"}), ("local", str(model))):
        (tmp_path / "eval.yaml").write_text(json.dumps({"model": asked, "out": name, "tasks": tasks}))
        done = CliRunner().invoke(cli, ["eval", str(tmp_path / "eval.yaml"), "--json"])
        assert done.exit_code == 0, done.output
    served, local = (records_of(tmp_path / name, "sums") for name in ("served", "local"))
    assert served.column("texts").to_pylist() == local.column("texts").to_pylist()
    assert served.column("asked").to_pylist() == local.column("asked").to_pylist()


def test_what_a_server_echoes_is_what_the_model_thinks(model: Path, echo: tuple[str, type[Echo]]) -> None:
    local = open_lm(str(model)).continued(PAIRS, no_progress)
    served = opened(echo[0]).continued(PAIRS, no_progress)
    for one, other in zip(served, local, strict=True):
        assert one.nats == pytest.approx(other.nats, rel=1e-4)
        assert (one.tokens, one.greedy) == (other.tokens, other.greedy)


def test_likeliest_continuations_are_told(model: Path, echo: tuple[str, type[Echo]]) -> None:
    local = open_lm(str(model))
    [[answer]] = local.write(["Why does a kettle"], Sampling(max_tokens=3), no_progress)
    [one] = opened(echo[0]).continued([("Why does a kettle", answer.text)], no_progress)
    assert one.greedy == local.continued([("Why does a kettle", answer.text)], no_progress)[0].greedy


def test_a_server_without_log_probabilities_is_refused_by_name(ours: str) -> None:
    with pytest.raises(CodedevError, match=r"HTTP 4|gives no log-probabilities"):
        opened(ours).continued(PAIRS[:1], no_progress)
    with pytest.raises(InputError, match="chat endpoint"):
        opened(ours, chat=True).continued(PAIRS[:1], no_progress)


def test_a_server_that_fails_is_asked_again(echo: tuple[str, type[Echo]], monkeypatch: pytest.MonkeyPatch) -> None:
    address, server = echo
    monkeypatch.setattr(endpoint.time, "sleep", lambda seconds: None)
    server.fails[:] = [503, 429]
    assert opened(address).continued(PAIRS[:1], no_progress)[0].tokens
    assert len(server.asked) >= 3
    server.fails[:] = [500] * endpoint.TRIES
    with pytest.raises(RunError, match=r"HTTP 500.*tried 4 times"):
        opened(address).continued(PAIRS[:1], no_progress)
    server.fails[:] = [401]
    with pytest.raises(InputError, match="HTTP 401"):
        opened(address).continued(PAIRS[:1], no_progress)


def test_a_key_goes_nowhere_else(echo: tuple[str, type[Echo]], monkeypatch: pytest.MonkeyPatch) -> None:
    address, server = echo
    monkeypatch.setenv("KETTLE", "steam")
    opened(address, key="KETTLE").continued(PAIRS[:1], no_progress)
    assert {key for _, key in server.asked} == {"Bearer steam"}
    server.asked.clear()
    server.fails[:] = [307]
    with pytest.raises(InputError, match="HTTP 307"):
        opened(address, key="KETTLE").continued(PAIRS[:1], no_progress)
    assert [path for path, _ in server.asked] == ["/v1/completions"]
    monkeypatch.delenv("KETTLE")
    with pytest.raises(InputError, match="no KETTLE"):
        opened(address, key="KETTLE")
    with pytest.raises(InputError, match="no address"):
        opened("file:///etc")
