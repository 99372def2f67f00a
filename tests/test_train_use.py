"""Trained models in use: text, conversations, a server, exports, and plain transformers and peft with no codedev in sight."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import test_train_tune as tunes
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers import models as kinds
from train_support import recipe, write_shards

from codedev._errors import InputError, RecipeError
from codedev.cli import cli
from codedev.feedback.tasks import read_tasks
from codedev.tokenize.vocabulary import Vocabulary, decode, load_vocabulary
from codedev.train import run, tune
from codedev.train.use import generate as writer
from codedev.train.use.chat import Talk, open_chat, prompt_ids, turn_marks
from codedev.train.use.generate import Sampling
from codedev.train.use.stream import TextStream

NAMES = ("full", "lora", "qlora", "prompt", "prefix")
needs_4bit = tunes.needs_4bit
KINDS = [pytest.param(name, marks=needs_4bit if name == "qlora" else ()) for name in NAMES]
GREEDY = Sampling(max_new_tokens=12, temperature=0)
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why does a kettle sing? <|im_end|>"}]
PROMPT = "Why does a kettle"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tunes.conversations(tmp_path_factory.mktemp("use"), [str(tunes.SAMPLES / "tables/chats.jsonl")])
    base = {"config": {**tunes.TINY, "max_position_embeddings": 160, "initializer_range": 0.1}}
    run(tunes.sft("base-llama", model=base, run__steps=30), folder)
    return folder


def tuned(folder: Path, name: str) -> Path:
    return tunes.tuned(folder, "llama", name)


def steps_of(opened: writer.Opened, ids: list[int], count: int) -> list[int]:
    """The likeliest tokens after `ids`, the whole text computed again for each: no cache, no padding, no generate()."""
    made: list[int] = []
    while len(made) < count:
        made.append(int(tunes.logits_of(opened.model, torch.tensor([ids + made]))[0, -1].argmax()))
        if made[-1] in opened.ends:
            break
    return made


# Text as it comes


def byte_level(folder: Path) -> Vocabulary:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(kinds.BPE({token: i for i, token in enumerate(["<|endoftext|>", *alphabet])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return load_vocabulary(folder / "tokenizer.json")


def with_fallback(folder: Path) -> Vocabulary:
    """As Llama 2: words with a blank before them, and bytes for what has no token."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), "▁", "a", "b", "▁a", "▁b", "好"]
    tokenizer = Tokenizer(
        kinds.BPE({word: i for i, word in enumerate(words)}, [("▁", "a"), ("▁", "b")], byte_fallback=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return load_vocabulary(folder / "tokenizer.json")


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Vocabulary]:
    makers = {"bytes": byte_level, "fallback": with_fallback}
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in makers.items()}


def told(stream: TextStream, ids: list[int]) -> list[str]:
    return [*(stream.add(number) for number in ids), stream.end()]


@settings(max_examples=150, deadline=None)
@given(st.text("ab é好😀\n", max_size=12), st.text("ab é好😀\n", min_size=1, max_size=30))
@pytest.mark.parametrize("kind", ["bytes", "fallback"])
def test_streamed_pieces_are_the_text(vocabularies: dict[str, Vocabulary], kind: str, before: str, text: str) -> None:
    vocabulary = vocabularies[kind]
    assert vocabulary.tokenizer is not None
    ids = vocabulary.tokenizer.encode(before + text, add_special_tokens=False).ids
    head = vocabulary.tokenizer.encode(before, add_special_tokens=False).ids if before else []
    if ids[: len(head)] != head:
        return  # the text's beginning changes the tokens of the prompt
    stream = TextStream(vocabulary, head)
    pieces = told(stream, ids[len(head) :])
    whole = decode(vocabulary, ids, specials=False)
    if kind == "fallback":  # of a text's first blank tokenizers of this kind do not know whether it was there
        assert "".join(pieces).lstrip(" ") == whole[len(decode(vocabulary, head, specials=False)) if head else 0 :].lstrip(" ")
    else:
        assert "".join(pieces) == stream.text == text
        assert all("\ufffd" not in piece for piece in pieces)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 256), max_size=40))
def test_streamed_garbage_is_what_a_decoder_makes_of_it(vocabularies: dict[str, Vocabulary], ids: list[int]) -> None:
    stream = TextStream(vocabularies["bytes"], [])
    assert "".join(told(stream, ids)) == stream.text == decode(vocabularies["bytes"], ids, specials=False)


@settings(max_examples=200, deadline=None)
@given(st.text("ab\n", min_size=1, max_size=30), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3))
def test_a_text_ends_before_the_first_stop_string(vocabularies: dict[str, Vocabulary], text: str, stops: list[str]) -> None:
    vocabulary = vocabularies["bytes"]
    assert vocabulary.tokenizer is not None
    stream, shown = TextStream(vocabulary, [], stops), ""
    for number in vocabulary.tokenizer.encode(text).ids:
        shown += stream.add(number)
        assert not any(stop in shown for stop in stops)
        if stream.stopped:
            break
    shown += stream.end()
    # The text grows until it holds one; then it ends before that.
    grown = next((text[:end] for end in range(len(text) + 1) if any(stop in text[:end] for stop in stops)), None)
    wanted = text if grown is None else grown[: min(grown.find(stop) for stop in stops if stop in grown)]
    assert shown == stream.text == wanted
    assert stream.stopped == (grown is not None)


# Text from models


@pytest.mark.parametrize("name", KINDS)
def test_prompts_together_are_prompts_alone(samples: Path, name: str) -> None:
    """Of models and adapters: with a cache, and padded on the left, against the whole text computed again for each token."""
    opened = writer.open_model(tuned(samples, name))
    prompts = [writer.prompt_ids(opened, text) for text in (PROMPT, "A", PROMPT + " sing? Because the water", "To be")]
    wanted = [steps_of(opened, ids, 12) for ids in prompts]
    found = list(writer.write_all(opened, iter(prompts), GREEDY))
    alone = [writer.write(opened, [ids], GREEDY)[0] for ids in prompts]
    for ids, made, one, other in zip(prompts, wanted, found, alone, strict=True):
        ended = made[-1] in opened.ends
        stream = TextStream(opened.vocabulary, ids)
        text = "".join(told(stream, made[: len(made) - ended]))
        assert one == other == (text, len(made) - ended, "end" if ended else "length")
    assert len({one.text for one in found}) > 1


def test_draws_do_not_depend_on_what_is_computed_beside_them(samples: Path) -> None:
    opened = writer.open_model(tuned(samples, "full") / "model")
    sampling = Sampling(max_new_tokens=10, temperature=1.3, top_p=0.9, seed=5)
    prompts = [writer.prompt_ids(opened, text) for text in [PROMPT, "A", "To be"] * 7]
    found = list(writer.write_all(opened, iter(prompts), sampling))
    for number in (0, 4, 20):
        assert writer.write(opened, [prompts[number]], sampling, [number])[0] == found[number]
    assert len({one.text for one in found}) > 15  # the same prompt has other draws each time
    assert found != list(writer.write_all(opened, iter(prompts), sampling._replace(seed=6)))


def test_draws_follow_the_model(samples: Path) -> None:
    """First tokens of 3,000 draws against the softmax of the logits, cut to their most probable share."""
    opened = writer.open_model(tuned(samples, "full"))
    ids = writer.prompt_ids(opened, PROMPT)
    logits = tunes.logits_of(opened.model, torch.tensor([ids]))[0, -1] / 0.8
    likely = torch.softmax(logits, 0).sort(descending=True)
    kept = int((likely.values.cumsum(0) < 0.7).sum()) + 1
    wanted = dict(zip(likely.indices[:kept].tolist(), (likely.values[:kept] / likely.values[:kept].sum()).tolist(), strict=True))
    draw = writer._Draw(3, range(3000))
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    rows = logits.mul(0.8).repeat(3000, 1)
    rows = TopPLogitsWarper(0.7)(rows, TemperatureLogitsWarper(0.8)(rows, rows))  # type: ignore[arg-type]
    found = torch.bincount(draw(rows, rows).argmax(1), minlength=len(logits)) / 3000  # type: ignore[arg-type]
    assert set(found.nonzero().flatten().tolist()) <= set(wanted)
    for token, share in wanted.items():
        assert abs(float(found[token]) - share) < 4 * (share * (1 - share) / 3000) ** 0.5 + 1e-3


def test_what_cannot_be_written_is_said(samples: Path, tmp_path: Path) -> None:
    opened = writer.open_model(tuned(samples, "full"))
    with pytest.raises(InputError, match=r"a prompt of \d+ tokens; the model has 160 positions"):
        writer.prompt_ids(opened, "word " * 400)
    long = writer.prompt_ids(opened, "a" * 20)
    written = writer.write(opened, [long], Sampling(max_new_tokens=1000, temperature=0))[0]
    assert written.tokens <= 160 - len(long)
    for bad in (Sampling(temperature=-1), Sampling(top_p=0), Sampling(max_new_tokens=0), Sampling(seed=1 << 70)):
        with pytest.raises(RecipeError):
            writer.checked(bad)
    with pytest.raises(InputError, match="there is no such model"):
        writer.open_model(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has no tokenizer\.json"):
        writer.open_model(tmp_path / "empty")
    lone = tmp_path / "adapter"
    lone.mkdir()
    for name in (tune.CONFIG, tune.WEIGHTS):
        (lone / name).write_bytes((tuned(samples, "lora") / "model" / name).read_bytes())
    # An adapter without a tokenizer of its own: that of its model.
    assert writer.generate(lone, PROMPT, 8, temperature=0) == writer.generate(tuned(samples, "lora"), PROMPT, 8, temperature=0)


def test_generate_on_the_command_line(samples: Path, tmp_path: Path) -> None:
    model = str(tuned(samples, "lora"))
    call = CliRunner().invoke
    wanted = writer.generate(Path(model), PROMPT, 10, temperature=0)
    (tmp_path / "prompt.txt").write_text(PROMPT)
    for how in (["--prompt", PROMPT], ["--file", str(tmp_path / "prompt.txt")], ["--prompt", "-"]):
        assert call(cli, ["generate", model, *how, "--max-tokens", "10"], input=PROMPT).stdout == PROMPT + wanted + "\n"
    told = json.loads(call(cli, ["generate", model, "--prompt", PROMPT, "--max-tokens", "10", "--json"]).stdout)
    assert told["text"] == wanted
    assert told["tokens"] == 10 or told["ended"] == "end"
    cut = next(c for c in wanted if not c.isspace())
    text = call(cli, ["generate", model, "--prompt", PROMPT, "--max-tokens", "10", "--stop", cut]).stdout
    assert text == PROMPT + wanted[: wanted.index(cut)] + "\n"

    rows = [{"prompt": PROMPT, "id": 7}, {"prompt": "A"}]
    (tmp_path / "in.jsonl").write_text("\n".join([*map(json.dumps, rows), "", '"To be"']) + "\n")
    many = ["--raw", "--prompts", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    done = call(cli, ["generate", model, *many, "--max-tokens", "10"])
    assert done.exit_code == 0, done.output
    made = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in made] == [PROMPT, "A", "To be"]
    assert made[0]["id"] == 7
    assert [row["answers"][0]["text"] for row in made] == [writer.generate(Path(model), row["prompt"], 10, temperature=0) for row in made]
    piped = call(cli, ["generate", model, "--raw", "--prompts", "-", "--max-tokens", "10"], input=(tmp_path / "in.jsonl").read_text())
    assert piped.stdout == (tmp_path / "out.jsonl").read_text()

    for line, said in (("{", "line 1 is no JSON"), ('{"text": "a"}', "line 1 has no prompt"), ('"\\ud800"', "is not UTF-8")):
        (tmp_path / "bad.jsonl").write_text(line)
        failed = call(cli, ["generate", model, "--prompts", str(tmp_path / "bad.jsonl"), "--out", str(tmp_path / "none.jsonl")])
        assert said in str(failed.exception)
        assert not (tmp_path / "none.jsonl").exists()
    assert call(cli, ["generate", model, "--prompt", "a", "--file", "b"]).exit_code == 2
    assert "cannot be read" in str(call(cli, ["generate", model, "--file", str(tmp_path / "none")]).exception)


def test_several_answers_to_each_prompt_for_people_to_compare(samples: Path, tmp_path: Path) -> None:
    model = tuned(samples, "full")
    rows: list[dict[str, Any]] = [{"prompt": "Why does a kettle sing?", "id": 1}, {"messages": ASKED, "note": "x"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = ["generate", str(model), "--prompts", str(tmp_path / "in.jsonl"), "--n", "3", "--max-tokens", "9", "--seed", "5"]
    assert CliRunner().invoke(cli, [*asked, "--out", str(tmp_path / "out.jsonl")]).exit_code == 0
    made = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [{name: row[name] for name in row if name not in ("answers", "model")} for row in made] == rows
    chat = open_chat(model)
    said = [prompt_ids(chat, [{"role": "user", "content": "Why does a kettle sing?"}]), prompt_ids(chat, ASKED)]
    sampling = Sampling(9, 1.0, 0.95, 5)
    for at, row in enumerate(made):
        alone = [writer.write(chat.opened, [said[at]], sampling, [3 * at + k])[0] for k in range(3)]
        assert [(one["text"], one["tokens"], one["ended"]) for one in row["answers"]] == [(o.text.strip(), o.tokens, o.why) for o in alone]
    tasks = list(read_tasks([tmp_path / "out.jsonl"], pairs=3))
    assert {task.prompt[-1]["content"] for task in tasks} == {rows[0]["prompt"], ASKED[1]["content"]}
    assert all(answer.model == str(model) for task in tasks for answer in task.answers)

    (tmp_path / "in.jsonl").write_text(json.dumps(rows[0]) + "\n" + json.dumps({"prompt": "word " * 400}))
    assert "line 2: chat: the conversation is too long" in str(CliRunner().invoke(cli, asked).exception)
    assert "would be the same 3 times" in str(CliRunner().invoke(cli, [*asked, "--temperature", "0"]).exception)
    assert CliRunner().invoke(cli, ["generate", str(model), "--n", "2"]).exit_code == 2


# Conversations


@pytest.mark.parametrize("name", ["full", "prefix"])
def test_a_conversation(samples: Path, tmp_path: Path, name: str) -> None:
    chat = open_chat(tuned(samples, name))
    ids = prompt_ids(chat, ASKED)
    names = [chat.opened.vocabulary.tokenizer.id_to_token(number) for number in ids]  # type: ignore[union-attr]
    assert names.count("<|im_start|>") == 3
    assert names.count("<|im_end|>") == 2  # what a person writes is text, whatever it looks like
    made = steps_of(chat.opened, ids, 12)
    made = made[:-1] if made[-1] in chat.opened.ends else made

    talk, shown = Talk(chat, GREEDY, "Be brief."), []
    assert talk.line(ASKED[1]["content"], shown.append) == ""
    assert "".join(shown) == decode(chat.opened.vocabulary, made, specials=False)
    assert talk.messages == [*ASKED, {"role": "assistant", "content": "".join(shown).strip()}]
    second = [*talk.messages, {"role": "user", "content": "and\nwhy"}]
    shown.clear()
    assert talk.line("and\\", shown.append) is None
    assert talk.waiting
    assert talk.line("why", shown.append) == ""
    made = steps_of(chat.opened, prompt_ids(chat, second), 12)
    made = made[:-1] if made[-1] in chat.opened.ends else made
    assert "".join(shown) == decode(chat.opened.vocabulary, made, specials=False)

    assert talk.line(f"/save {tmp_path / 'talk.jsonl'}", shown.append) == f"saved in {tmp_path / 'talk.jsonl'}"
    assert json.loads((tmp_path / "talk.jsonl").read_text()) == {"messages": talk.messages}
    (tmp_path / "other").write_text("no json")
    assert "not saved" in str(talk.line(f"/save {tmp_path / 'other'}", shown.append))
    assert (tmp_path / "other").read_text() == "no json"
    talk.line("/reset", shown.append)
    assert talk.messages == [ASKED[0]]
    talk.line("/system", shown.append)
    assert talk.messages == []
    for line in ('"""', "/reset", "two"):
        assert talk.line(line, shown.append) is None
    assert talk.line('"""', shown.append) == ""
    assert talk.messages[0]["content"] == "/reset\ntwo"
    before = list(talk.messages)
    with pytest.raises(InputError, match="the conversation is too long"):
        talk.line("word " * 300, shown.append)
    assert talk.messages == before
    assert "/save FILE" in str(talk.line("/help", shown.append))
    talk.line("/exit", shown.append)
    assert talk.over


def test_an_answer_ends_where_a_turn_does(samples: Path) -> None:
    chat = open_chat(tuned(samples, "full"))
    start, end = (chat.opened.vocabulary.tokenizer.token_to_id(f"<|im_{which}|>") for which in ("start", "end"))  # type: ignore[union-attr]
    assert turn_marks(chat.template) == {start, end} <= chat.opened.ends

    plain = chat.opened.model.forward

    def forced(*args: Any, **more: Any) -> Any:
        """The model, which wants to begin another turn after three tokens."""
        out = plain(*args, **more)
        forced.calls += 1  # type: ignore[attr-defined]
        if forced.calls == 4:  # type: ignore[attr-defined]
            out.logits[:, -1] = 0
            out.logits[:, -1, start] = 99
        return out

    forced.calls = 0  # type: ignore[attr-defined]
    chat.opened.model.forward = forced
    try:
        written = writer.write(chat.opened._replace(ends=turn_marks(chat.template)), [prompt_ids(chat, ASKED)], GREEDY)[0]
    finally:
        chat.opened.model.forward = plain
    assert (written.tokens, written.why) == (3, "end")


def test_chat_on_the_command_line(samples: Path) -> None:
    model = str(tuned(samples, "lora"))
    chat = open_chat(Path(model))
    talk = Talk(chat, GREEDY._replace(max_new_tokens=8))
    wanted = [talk.say(line).text for line in ("Why does a kettle sing?", "And a bird?")]
    asked = "Why does a kettle sing?\n\nAnd a bird?\n"
    told = CliRunner().invoke(cli, ["chat", model, "--max-tokens", "8"], input=asked)
    assert told.exit_code == 0, told.output
    assert told.stdout == "".join(text + "\n" for text in wanted)
    lines = CliRunner().invoke(cli, ["chat", model, "--max-tokens", "8", "--json"], input=asked).stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == [text.strip() for text in wanted]


def test_a_model_that_was_not_tuned_to_talk(samples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    write_shards(folder)
    byte_level(folder)
    run(recipe(run__steps=1), tmp_path)
    with pytest.raises(InputError, match=r"has no chat_template\.jinja.*--template"):
        open_chat(tmp_path / "run")
    assert Talk(open_chat(tmp_path / "run", "plain"), GREEDY).say("a").tokens <= 12
    with pytest.raises(InputError, match=r"has no special token <\|im_start\|>"):
        open_chat(tmp_path / "run", "chatml")
    (tmp_path / "bomb.jinja").write_text("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}")
    began = time.monotonic()
    with pytest.raises(InputError, match="steps"):
        open_chat(tmp_path / "run", str(tmp_path / "bomb.jinja"))
    assert time.monotonic() - began < 20
    continued = recipe("more", model={"path": "run/model"}, run__steps=1)
    (tmp_path / "run/model/chat_template.jinja").write_text("{{ messages[-1].content }}")
    run(continued, tmp_path)  # the template of the model that training went on from
    assert (tmp_path / "more/model/chat_template.jinja").read_text() == "{{ messages[-1].content }}"


@pytest.mark.slow
def test_chat_on_a_terminal(samples: Path, tmp_path: Path) -> None:
    """Prompts, an answer, several lines, commands, and the end of input."""
    primary, secondary = pty.openpty()
    command = [sys.executable, "-m", "codedev", "chat", str(tuned(samples, "lora")), "--max-tokens", "8"]
    process = subprocess.Popen(
        command, stdin=secondary, stdout=secondary, stderr=secondary, cwd=tmp_path, env={**os.environ, "TERM": "dumb"}
    )
    os.close(secondary)
    seen = b""

    def until(mark: bytes) -> None:
        nonlocal seen
        seen, ends = b"", time.monotonic() + 120
        while mark not in seen:
            ready, _, _ = select.select([primary], [], [], 1)
            assert time.monotonic() < ends, seen
            if ready:
                seen += os.read(primary, 4096)

    try:
        for typed, mark in (
            (b"", b"> "),
            (b"Why?\\\n", b"... "),
            (b"Then?\n", b"\r\n> "),
            (b"/save talk.jsonl\n", b"saved in talk.jsonl"),
            (b"/reset\n", b"begins anew\r\n> "),  # Ctrl-D before the next prompt would end nothing
        ):
            os.write(primary, typed)
            until(mark)
        os.write(primary, b"\x04")
        assert process.wait(30) == 0
    finally:
        process.kill()
        os.close(primary)
    assert json.loads((tmp_path / "talk.jsonl").read_text())["messages"][0] == {"role": "user", "content": "Why?\nThen?"}


# Exports


def test_export_of_a_run(samples: Path, tmp_path: Path) -> None:
    model = tuned(samples, "lora")
    told = CliRunner().invoke(cli, ["export", str(model), "--merge", "dequant", "--out", str(tmp_path / "merged")])
    assert told.exit_code == 0, told.output
    assert "live adapter" in told.stdout
    assert "difference" in told.stdout
    live, merged = open_chat(model), open_chat(tmp_path / "merged")
    assert live.opened.ends == merged.opened.ends
    saved = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert set(saved["eos_token_id"]) == set(writer.ends_of(live.opened.model, live.opened.directory))
    assert Talk(merged, GREEDY).say("Why?").text == Talk(live, GREEDY).say("Why?").text
    alone = json.loads(
        CliRunner().invoke(cli, ["export", str(model / "model"), "--merge", "adapter", "--out", str(tmp_path / "a"), "--json"]).stdout
    )
    assert alone["difference"] == 0
    shards = CliRunner().invoke(cli, ["export", str(samples / "shards"), "--to", "npy", "--out", str(tmp_path / "npy")])
    assert shards.exit_code == 0, shards.output
    for wrong in ([], ["--to", "npy", "--merge", "bf16"], ["--merge", "bf16", "--labels"]):
        assert CliRunner().invoke(cli, ["export", str(model), "--out", str(tmp_path / "x"), *wrong]).exit_code == 2


# With no codedev


PLAIN = """
import json, sys
from pathlib import Path

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "codedev":
            raise ImportError("codedev is not installed here")

sys.meta_path.insert(0, Blocked())
try:
    import codedev
except ImportError:
    pass
else:
    raise SystemExit("codedev can be imported")
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig

asked = json.loads(sys.argv[1])
for folder in map(Path, sys.argv[2:]):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    where, more = folder, {}
    if (folder / "adapter_config.json").is_file():
        where = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    if (folder / "four_bit.json").is_file():
        more = {"quantization_config": BitsAndBytesConfig(**json.loads((folder / "four_bit.json").read_text())), "device_map": "cpu"}
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, **more)
    if where != folder:
        from peft import PeftModel
        if more:
            import bitsandbytes
            for module in model.modules():
                if isinstance(module, bitsandbytes.nn.Linear4bit):
                    module.support_avx512bf16_for_cpu = False  # it would round the weights' scales
        model = PeftModel.from_pretrained(model, str(folder))
    model.eval()
    settings = GenerationConfig.from_pretrained(folder)
    ends = [*settings.eos_token_id] if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    ends += [tokenizer.eos_token_id]
    told = {"texts": tokenizer(asked["texts"])["input_ids"]}
    prompt = tokenizer(asked["prompt"], return_tensors="pt")
    chat = tokenizer.apply_chat_template(asked["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    for name, inputs in (("generate", prompt), ("chat", chat)):
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=12, do_sample=False, eos_token_id=ends,
                             pad_token_id=tokenizer.pad_token_id)
        told[name] = tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True)
        told[name + "_ids"] = ids[0].tolist()
    print(json.dumps(told), flush=True)
"""


@pytest.mark.slow
def test_plain_transformers_writes_the_same(samples: Path, tmp_path: Path) -> None:
    """AutoModelForCausalLM, AutoTokenizer and PeftModel alone, in a process that cannot import codedev."""
    names = [name for name in NAMES if name != "qlora" or importlib.util.find_spec("bitsandbytes")]
    folders = [tuned(samples, name) / "model" for name in names]
    texts = ["", " x  y\n\tz", "naïve 好 😀 <|im_end|> 12345", "def f(x):\n    return x"]
    messages = [ASKED[0], {"role": "user", "content": "Why does a kettle sing?"}]
    asked = {"texts": texts, "messages": messages, "prompt": PROMPT}
    (tmp_path / "plain.py").write_text(PLAIN)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(tmp_path / "plain.py"), json.dumps(asked), *map(str, folders)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, folder, line in zip(names, folders, done.stdout.splitlines(), strict=True):
        told = json.loads(line)
        chat = open_chat(folder)
        ours = [writer.prompt_ids(chat.opened, text) for text in texts]
        assert told["texts"] == ours, name
        assert told["generate_ids"] == writer.prompt_ids(chat.opened, PROMPT)
        assert told["chat_ids"] == prompt_ids(chat, messages)
        assert told["generate"] == writer.generate(folder, PROMPT, 12, temperature=0), name
        assert told["chat"] == Talk(chat, GREEDY, ASKED[0]["content"]).say(messages[1]["content"]).text, name


# The server


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answered:
        return answered.read().decode()


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("lora"), pytest.param("prefix")])
def test_the_server_answers_as_chat_does(samples: Path, name: str) -> None:
    """A process of its own and real requests: whole, streamed, several at a time, and wrong ones."""
    pytest.importorskip("fastapi")
    pytest.importorskip("openai")
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = tuned(samples, name)
    command = [sys.executable, "-m", "codedev", "serve", str(model), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        ends = time.monotonic() + 120
        while True:
            try:
                assert json.loads(urllib.request.urlopen(f"{url}/health", timeout=5).read())["status"] == "ok"
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, process.stderr and process.stderr.read()[-3000:]
                assert time.monotonic() < ends
                time.sleep(0.2)
        [known] = json.loads(urllib.request.urlopen(f"{url}/v1/models", timeout=30).read())["data"]
        assert known["id"] == f"llama-{name}"
        messages = [ASKED[0], {"role": "user", "content": "Why does a kettle sing?"}]
        wanted = Talk(open_chat(model), GREEDY, ASKED[0]["content"]).say(messages[1]["content"]).text
        body = {"model": known["id"], "messages": messages, "max_tokens": 12, "temperature": 0}
        whole = json.loads(post(f"{url}/v1/chat/completions", body))
        assert whole["choices"][0]["message"]["content"].strip() == wanted.strip()
        events = post(f"{url}/v1/chat/completions", {**body, "stream": True}).splitlines()
        told = [json.loads(line.removeprefix("data: ")) for line in events if line.startswith("data: {")]
        assert "".join(event["choices"][0]["delta"].get("content") or "" for event in told).strip() == wanted.strip()
        text = json.loads(post(f"{url}/v1/completions", {"prompt": PROMPT, "max_tokens": 12, "temperature": 0}))["choices"][0]["text"]
        assert text.strip() == writer.generate(model, PROMPT, 12, temperature=0).strip()
        with pytest.raises(urllib.error.HTTPError):
            post(f"{url}/v1/chat/completions", {**body, "model": "/etc"})
    finally:
        process.terminate()
        process.wait(30)


def test_what_the_server_needs_is_named(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "fastapi" else real(name, *more))
    failed = CliRunner().invoke(cli, ["serve", str(samples)])
    assert "fastapi is not installed. Install it with: pip install -e '.[serve]'" in str(failed.exception)
