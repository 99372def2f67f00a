"""Built-in chat templates, with `transformers` as the oracle: text, ids and loss are its own; and the law for every special token."""

from __future__ import annotations

import importlib.util
import random
import re
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from test_tokenize_documents import document, stdlib_texts, write_corpus
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from codedev._errors import InputError
from codedev.tokenize.chat.budget import RenderError
from codedev.tokenize.chat.encoded import encode
from codedev.tokenize.chat.render import compile_template, cut, render
from codedev.tokenize.chat.templates import BUILT_IN, built_in, check_spans, load_template
from codedev.tokenize.presets import SPECIAL_TOKENS
from codedev.tokenize.train import train_tokenizer
from codedev.tokenize.vocabulary import Vocabulary, load_vocabulary, special_ids

FOREIGN = (
    *("[gMASK]", "sop", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)
TOOLS = [{"type": "function", "function": {"name": "look", "description": "é", "parameters": {"type": "object", "properties": {}}}}]
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "short": [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Hi!"}],
    "system": [
        {"role": "system", "content": "Be brief. 请简短。"},
        {"role": "user", "content": "  What is 2+2?\n\n"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "def f(x):\n    return x\n"},
        {"role": "assistant", "content": "Äh, ja: 😀\n\n```py\nf(1)\n```"},
    ],
    "tools": [
        {"role": "user", "content": "look"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "look", "arguments": {"a": [1, "é"]}}}],
        },
        {"role": "tool", "content": "one"},
        {"role": "tool", "content": "two"},
        {"role": "assistant", "content": "done", "reasoning_content": "so"},
        {"role": "user", "content": "again"},
        {"role": "assistant", "content": "<think>\nwell\n</think>\n\nno"},
    ],
    "question": [{"role": "user", "content": "And?"}],
}


def chat_vocabulary(folder: Path) -> Vocabulary:
    """A small tokenizer of ours with the special tokens of other formats beside its own."""
    texts = [*stdlib_texts(25), "What is 2+2? Hello there, hi! 请简短。 assistant user system tool\n"]
    write_corpus(folder / "corpus", [document(i, text[:20_000], "web") for i, text in enumerate(texts)])
    train_tokenizer(folder / "corpus", folder / "plain", vocab_size=1500, special_slots=64)
    tokenizer = Tokenizer.from_file(str(folder / "plain" / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in FOREIGN])
    (folder / "chat").mkdir()
    tokenizer.save(str(folder / "chat" / "tokenizer.json"))
    return load_vocabulary(folder / "chat")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return chat_vocabulary(tmp_path_factory.mktemp("chat"))


def batch_of(*metas: Any, kind: str = "instruction") -> pa.RecordBatch:
    rows = [orjson.dumps(meta).decode() for meta in metas]
    return pa.record_batch(
        {
            "id": [f"d{number}" for number in range(len(rows))],
            "kind": pa.array([kind] * len(rows)).dictionary_encode(),
            "text": pa.array(["a text"] * len(rows), pa.large_string()),
            "meta": rows,
        }
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_text_ids_and_loss_are_those_of_transformers(name: str, vocabulary: Vocabulary) -> None:
    """`apply_chat_template` with the same template and tokenizer, and its mask of the assistant's tokens."""
    transformers = pytest.importorskip("transformers")
    utils = importlib.import_module("transformers.utils.chat_template_utils")
    template = load_template(name, vocabulary)
    oracle = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(vocabulary.path), bos_token="<|bos|>", eos_token="<|endoftext|>", pad_token="<|pad|>"
    )
    oracle.chat_template = built_in(name)
    compared = 0
    for messages in CONVERSATIONS.values():
        for tools in (None, TOOLS):
            for prompt in (False, True):
                given = {"tools": tools, "add_generation_prompt": prompt}
                try:
                    texts, spans = utils.render_jinja_template(
                        [messages], chat_template=template.source, return_assistant_tokens_mask=True, **given, **template.variables
                    )
                except Exception:
                    with pytest.raises(RenderError):
                        render(template, messages, tools, add_generation_prompt=prompt)
                    continue
                rendered = render(template, messages, tools, add_generation_prompt=prompt)
                assert rendered.text == texts[0]
                assert rendered.loss == [tuple(span) for span in spans[0]]
                assert [match.span() for match in template.pattern.finditer(texts[0])] == [(a, b) for a, b, _ in rendered.specials]
                made = encode(vocabulary, template, [rendered])
                theirs = oracle.apply_chat_template(
                    messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=not prompt, **given
                )  # fmt: skip
                assert made.ids.tolist() == theirs["input_ids"]
                if not prompt and messages is not CONVERSATIONS["question"]:
                    mask = [0] * len(made.ids)
                    for start, end in zip(made.loss.starts.tolist(), made.loss.ends.tolist(), strict=True):
                        mask[start:end] = [1] * (end - start)
                    assert mask == theirs["assistant_masks"]
                    assert any(mask)
                compared += 1
    assert compared >= 6


@pytest.mark.parametrize("name", BUILT_IN)
def test_plans_give_what_jinja_gives(name: str, vocabulary: Vocabulary) -> None:
    """Random conversations of any roles and hostile texts, with and without a plan."""
    template = load_template(name, vocabulary)
    assert template.plan is not None
    rng, same = random.Random(2), 0
    words = ["a", " ", "\n", "\x02", "\x020\x03", "<think>", "</think>", "<|im_end|>", "[gMASK]", "é😀", "\u00a0", "{{ x }}", "{%", ""]
    for _ in range(600):
        messages = [
            {"role": rng.choice(("system", "user", "user", "assistant", "assistant", "tool")), "content": "".join(rng.choices(words, k=3))}
            for _ in range(rng.randrange(1, 6))
        ]
        for spans in ("all", "last", "none"):
            given: Any = {"add_generation_prompt": rng.random() < 0.3, "spans": spans}
            try:
                expected = render(template._replace(plan=None), messages, **given)
            except RenderError as error:
                with pytest.raises(RenderError, match=re.escape(str(error))):
                    render(template, messages, **given)
                continue
            assert render(template, messages, **given) == expected
            same += 1
    assert same > 100
    assert sum(shape is not None for shape in template.plan.shapes.values()) > 20


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_answer_ends_with_a_learned_special_token(name: str, vocabulary: Vocabulary) -> None:
    """Else a model never learns to stop. For ChatGLM-6B that is the last answer, the only one it learns."""
    check_spans(load_template(name, vocabulary))
    rendered = render(load_template(name, vocabulary), CONVERSATIONS["system"])
    assert len(rendered.loss) == (1 if name == "chatglm" else 2)
    closing = {end for _, end, _ in rendered.specials}
    for (begin, end), answer in zip(rendered.loss[::-1], ("```", "4"), strict=False):
        assert end in closing
        assert answer in rendered.text[begin:end]


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_special_token_is_made_of_what_strangers_type(name: str, vocabulary: Vocabulary) -> None:
    """For every special token, in every place of a conversation: the ids of special tokens are those of the same conversation without it,
    and the text is still there."""
    template = load_template(name, vocabulary)
    special, places = special_ids(vocabulary), 0
    for typed in (*SPECIAL_TOKENS, *FOREIGN):
        plain, hostile = _conversations("x"), _conversations(typed)
        for (messages, tools), (bad_messages, bad_tools) in zip(plain, hostile, strict=True):
            try:
                expected = encode(vocabulary, template, [render(template, messages, tools)])
            except RenderError:
                continue
            found = encode(vocabulary, template, [render(template, bad_messages, bad_tools)])
            wanted = [token for token in expected.ids.tolist() if token in special]
            assert [token for token in found.ids.tolist() if token in special] == wanted
            written = vocabulary.tokenizer.decode(found.ids.tolist(), skip_special_tokens=True)
            assert typed in written or orjson.dumps(typed).decode() in written
            places += 1
    assert places >= 3 * len(SPECIAL_TOKENS)


def _conversations(typed: str) -> list[tuple[list[dict[str, Any]], Any]]:
    answer = {"role": "assistant", "content": f"a {typed}b{typed}"}
    asks = {"role": "user", "content": "a"}
    call = {"type": "function", "function": {"name": typed, "arguments": {typed: [typed, {"k": typed}]}}}
    return [
        ([{"role": "user", "content": f"{typed} a {typed}"}, answer], None),
        ([{"role": "system", "content": typed}, {"role": "user", "content": f" {typed}\n"}, answer], None),
        ([{"role": "user", "content": typed, "name": typed, "input": typed}, answer, {"role": "user", "content": typed}, answer], None),
        ([asks, {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": typed}], None),
        ([asks, {"role": "assistant", "content": "", "reasoning_content": typed}, {"role": "user", "content": typed}], None),
        ([asks, {**answer, "content": f"<think>{typed}</think>{typed}"}], None),
        ([asks, answer], [{"name": typed, "function": {"name": typed, typed: typed}}]),
    ]  # fmt: skip


def test_templates_without_generation_are_understood_by_prefixes(vocabulary: Vocabulary) -> None:
    """The same spans as with {% generation %}, for every template that writes earlier turns as it wrote them when they were last."""
    for name in BUILT_IN:
        marked = load_template(name, vocabulary)
        source = re.sub(r"\{%-? *(end)?generation *-?%\}", "{%- if true -%}", marked.source)
        source = re.sub(r"(\{%- if true -%\}.*?)\{%- if true -%\}", r"\1{%- endif -%}", source, flags=re.DOTALL)
        bare = compile_template(name, source, marked.specials, marked.variables)
        assert not bare.marked
        for messages in list(CONVERSATIONS.values())[:3]:
            try:
                expected = render(marked, messages)
            except RenderError:
                continue
            if name in ("chatglm", "chatglm3") and len(messages) > 2:  # what ends an answer depends on what follows
                with pytest.raises(RenderError, match="generation"):
                    render(bare, messages)
                assert render(bare, messages, spans="last").loss == expected.loss[-1:]
                continue
            assert render(bare, messages) == expected


def test_a_tokenizers_own_template_and_its_names_of_tokens(vocabulary: Vocabulary, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(vocabulary.path.read_bytes())
    with pytest.raises(InputError, match="has no chat template"):
        load_template("tokenizer", load_vocabulary(tmp_path))
    config = {"chat_template": "{{ bos_token }}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}", "eos_token": "<|im_end|>"}
    config["bos_token"] = {"content": "<|mask|>", "lstrip": False}  # type: ignore[assignment]
    (tmp_path / "tokenizer_config.json").write_bytes(orjson.dumps(config))
    own = load_template("tokenizer", load_vocabulary(tmp_path))
    assert render(own, CONVERSATIONS["short"]).text == "<|mask|>Hello there<|im_end|>Hi!<|im_end|>"
    assert render(own, CONVERSATIONS["short"]).loss == [
        (len("<|mask|>Hello there<|im_end|>"), len("<|mask|>Hello there<|im_end|>Hi!<|im_end|>"))
    ]
    config["chat_template"] = [{"name": "rag", "template": "no"}, {"name": "default", "template": "yes {{ messages[0].content }}"}]  # type: ignore[assignment]
    (tmp_path / "tokenizer_config.json").write_bytes(orjson.dumps(config))
    assert render(load_template("tokenizer", load_vocabulary(tmp_path)), CONVERSATIONS["short"], spans="none").text == "yes Hello there"
    (tmp_path / "chat_template.jinja").write_text("file {{ messages[0].content }}")
    assert render(load_template("tokenizer", load_vocabulary(tmp_path)), CONVERSATIONS["short"], spans="none").text == "file Hello there"
    assert load_template(str(tmp_path / "chat_template.jinja"), vocabulary).source == "file {{ messages[0].content }}"


def test_what_cannot_be_used_is_refused_with_the_way_out(vocabulary: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'chatml'"):
        load_template("chatm", vocabulary)
    with pytest.raises(InputError, match="cannot be read"):
        load_template("none.jinja", vocabulary)
    bare = Tokenizer.from_file(str(vocabulary.path.parent.parent / "plain" / "tokenizer.json"))
    bare.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match="no special token <|start_header_id|>, which the chat template llama3 writes".replace("|", r"\|")):
        load_template("llama3", load_vocabulary(tmp_path))
    for source, reason in (
        ("{% generation %}{% endgeneration %}{{ messages[0].content }}", "nothing would be learned"),
        ("{{ raise_exception('no') }}", "no"),
        ("{% for m in messages %}", "line 1"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "steps"),
    ):
        (tmp_path / "t.jinja").write_text(source)
        with pytest.raises(InputError, match=reason):
            check_spans(load_template(str(tmp_path / "t.jinja"), vocabulary))


def test_blanks_beside_special_tokens_that_take_them(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """Phi 3's special tokens take the blanks behind them; `tokenizers` is the oracle."""
    tokenizer = Tokenizer.from_file(str(vocabulary.path))
    tokenizer.add_special_tokens(
        [AddedToken("<r>", rstrip=True), AddedToken("<l>", lstrip=True), AddedToken("<b>", lstrip=True, rstrip=True)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "t.jinja").write_text(
        "{% for m in messages %}{{ ' <r>\n \n' + m.content + ' <l>  <b>\u00a0\n' }}{% if m.role == 'assistant' %}"
        "{% generation %}{{ ' é <b> x ' + eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
    )
    stripping = load_vocabulary(tmp_path)
    template = load_template(str(tmp_path / "t.jinja"), stripping)
    rendered = render(template, CONVERSATIONS["system"][1:])
    made = encode(stripping, template, [rendered])
    oracle = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert made.ids.tolist() == oracle.encode(rendered.text, add_special_tokens=False).ids
    told = [oracle.decode(made.ids[a:b].tolist(), skip_special_tokens=False) for a, b in zip(made.loss.starts, made.loss.ends, strict=True)]
    assert told == ["é<b>x <|endoftext|>"] * 2


@pytest.mark.parametrize("scheme", ["prepend", "always", "first", "never"])
def test_tokenizers_that_put_a_blank_before_a_text(vocabulary: Vocabulary, tmp_path: Path, scheme: str) -> None:
    """SentencePiece style. Ids are those of `tokenizers` on the whole text, loss is found by offsets, and a completion that is cut off its
    prompt has no blank of its own."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    if scheme == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"], initial_alphabet=["\n"]
    )
    tokenizer.train_from_iterator([line for text in stdlib_texts(8) for line in text[:5000].split("\n")], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    other = load_vocabulary(tmp_path)
    for name in ("qwen", "llama2", "plain"):
        template = load_template(name, other)
        assert (template.inner is None) == (scheme == "never")
        rendered = render(template, CONVERSATIONS["system"])
        made = encode(other, template, [rendered])
        assert made.byte_lengths is not None
        assert made.ids.tolist() == tokenizer.encode(rendered.text, add_special_tokens=False).ids
        if name == "qwen":  # elsewhere an answer's beginning may be one token with what stands before it
            told = [tokenizer.decode(made.ids[a:b].tolist(), skip_special_tokens=False) for a, b in zip(*made.loss[1:], strict=True)]
            expected = [rendered.text[a:b].replace("Ä", "<unk>").replace("😀", "<unk>") for a, b in rendered.loss]
            assert [text.strip() for text in told] == expected
        answer = cut(rendered, *rendered.loss[0])
        alone = encode(other, template, [answer])
        assert tokenizer.decode(alone.ids.tolist(), skip_special_tokens=False) == answer.text


def test_templates_of_trl_render_as_in_transformers() -> None:
    """Templates in the wild: those that TRL ships, where it is installed."""
    spec = importlib.util.find_spec("trl")
    folder = Path(spec.origin).parent / "chat_templates" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        pytest.skip("trl is not installed")
    pytest.importorskip("transformers")
    utils = importlib.import_module("transformers.utils.chat_template_utils")
    variables, compared = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}, 0
    for file in sorted(folder.glob("*.jinja")):
        source = file.read_text()
        template = compile_template(file.stem, source, {"<s>": 1}, variables)
        for messages in CONVERSATIONS.values():
            for tools in (None, TOOLS):
                try:
                    texts, spans = utils.render_jinja_template(
                        [messages], tools=tools, chat_template=source, return_assistant_tokens_mask=True, **variables
                    )
                except Exception:
                    continue
                if "strftime_now" in source:
                    continue
                rendered = render(template, messages, tools, spans="all" if template.marked else "none")
                assert rendered.text == texts[0], file.stem
                assert not template.marked or rendered.loss == [tuple(span) for span in spans[0] if span[0] < span[1]], file.stem
                compared += 1
    assert compared > 200
