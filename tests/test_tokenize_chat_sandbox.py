"""Chat templates of strangers: no way out of the sandbox, an end within seconds, and no special token that the template did not write."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import tracemalloc
from time import process_time
from typing import Any

import pytest

from codedev._errors import InputError
from codedev.tokenize.chat import told
from codedev.tokenize.chat.budget import Budget, RenderError
from codedev.tokenize.chat.render import Template, _rendered, _seen, compile_template, render
from codedev.tokenize.chat.told import Told, cut, interleaved, joined, literal, trusted
from codedev.tokenize.presets import SPECIAL_TOKENS

SPECIALS = {name: number for number, name in enumerate((*SPECIAL_TOKENS, "<s>", "</s>", "[gMASK]", "sop", "<|user|>", "<|assistant|>"))}
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
HELLO = [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Hi"}]


def made(source: str) -> Template:
    return compile_template("t", source, SPECIALS, VARIABLES)


def specials(template: Template, messages: Any, tools: Any = None) -> list[str]:
    rendered = render(template, messages, tools, spans="none")
    return [rendered.text[begin:end] for begin, end, _ in rendered.specials]


# What a template may do to a message's text before it prints it, and what stands around it.
WAYS = {
    "as it is": "{{ m.content }}",
    "trimmed": "{{ m.content | trim }}",
    "strip": "{{ m.content.strip() }}",
    "json": "{{ m.content | tojson }}",
    "json of all": "{{ m | tojson }}",
    "string of all": "{{ m | string }}",
    "printed whole": "{{ m }}",
    "split": "{{ m.content.split(' ')[0] }}{{ m.content.split(' ') | last }}",
    "split and joined": "{{ m.content.split(' ') | join('') }}",
    "joined by a literal": "{{ '<|'.join(m.content.split('<|')) }}",
    "replaced": "{{ m.content.replace('x', '') }}",
    "replaced by a filter": "{{ m.content | replace('x', '') }}",
    "put into a literal": "{{ '[x]'.replace('x', m.content) }}",
    "added": "{{ '' + m.content + '' }}",
    "concatenated": "{{ '' ~ m.content ~ '' }}",
    "formatted": "{{ '%s' % m.content }}{{ '{}'.format(m.content) }}{{ '%s' | format(m.content) }}",
    "letter by letter": "{% for c in m.content %}{{ c }}{% endfor %}",
    "sliced": "{{ m.content[:5] }}{{ m.content[5:] }}",
    "turned twice": "{{ (m.content | reverse) | reverse }}",
    "upper and lower": "{{ m.content | upper | lower }}{{ m.content | title | lower }}{{ m.content.swapcase().swapcase() }}",
    "in a macro": "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(m.content) }}",
    "in a set block": "{% set x %}{{ m.content }}{% endset %}{{ x }}{{ x | trim }}",
    "in a filter block": "{% filter trim %}{{ m.content }}{% endfilter %}",
    "in a namespace": "{% set n = namespace(x='') %}{% set n.x = n.x + m.content %}{{ n.x }}",
    "in a list": "{{ [m.content] | join }}{{ ([m.content] | map('trim') | list)[0] }}{{ [m.content] | first }}",
    "in a dict": "{{ {'a': m.content}.a }}{{ dict(a=m.content)['a'] }}{% for k, v in {'a': m.content} | items %}{{ v }}{% endfor %}",
    "by default": "{{ m.none | default(m.content) }}{{ m.content | default('') | safe | string }}",
    "in generation": "{% generation %}{{ m.content }}{% endgeneration %}",
    "its beginning by the template": "{{ '<|' + m.content.replace('<|', '') }}",
    "its end by the template": "{{ m.content.replace('|>', '') + '|>' }}",
    "cut and put together": "{{ m.content[:2] + '' + m.content[2:] }}",
    "indented": "{{ m.content | indent(2) }}",
    "partitioned": "{{ m.content.partition('x') | join }}",
    "escaped and not": "{{ m.content | e }}",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_typed_special_token_stays_text(way: str) -> None:
    template = made("{% for m in messages %}<|im_start|>{{ m.role }}\n" + WAYS[way] + "{{ '<|im_end|>' }}\n{% endfor %}{{ eos_token }}")
    for name in SPECIALS:
        for content in (name, f"a {name} b", f"{name}{name}", f" {name}\n", f"{name[:3]}x{name[3:]}"):
            found = specials(template, [{"role": "user", "content": content}, {"role": "assistant", "content": content}])
            assert found == ["<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>", "</s>"], (content, found)


def test_roles_names_tools_and_arguments_are_strangers_too() -> None:
    template = made(
        "{% for t in tools %}{{ t | tojson }}{{ t.name }}{{ t.function.description }}{% endfor %}"
        "{% for m in messages %}{{ '<|' + m.role + '|>' }}{{ m.role }}{{ m.name }}{{ m.reasoning_content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}"
        "{% for k, v in c.function.arguments | items %}{{ k }}{{ v }}{% endfor %}{% endfor %}{% endfor %}"
    )
    for name in SPECIALS:
        inner = name.removeprefix("<|").removesuffix("|>")
        call = {"type": "function", "function": {"name": name, "arguments": {name: name, "b": [name, {name: 1}]}}}
        messages = [
            {"role": name, "content": ""},
            {"role": inner if inner not in ("user", "assistant") else "x", "content": ""},  # the template's <| and |> around it
            {"role": "user", "content": "", "name": name, "thinking": name, "tool_calls": [call]},
        ]
        assert specials(template, messages, [{"name": name, "function": {"description": name, name: name}}]) == ["<|user|>"], name


def test_pieces_of_two_messages_make_no_special_token() -> None:
    template = made("{% for m in messages %}{{ m.content }}{% endfor %}")
    for name in SPECIALS:
        for at in range(1, len(name)):
            rendered = render(template, [{"role": "user", "content": name[:at]}, {"role": "user", "content": name[at:]}], spans="none")
            assert rendered.text == name
            assert rendered.specials == []


def test_what_the_template_writes_in_pieces_is_a_special_token() -> None:
    template = made(
        "{% set open = '<|' %}{% set n = namespace(x='im_' ~ 'start') %}{{ open + n.x + '|>' }}"
        "{% macro tag(x) %}<|{{ x }}|>{% endmacro %}{{ tag('im_end') | trim }}"
        "{{ ['<|pad', '|>'] | join }}{{ ' <|bos|> '.strip() }}{{ '<|mask|>__'[:8] }}{{ 'X<|lang|>b'.split('X')[1][:8] }}"
        "{{ '<X|fim_pad|>'.replace('X', '') }}{% set b %}{{ bos_token }}{% endset %}{{ b }}{{ '<|' + messages[0].role + '|>' }}"
    )
    names = ["im_start", "im_end", "pad", "bos", "mask", "lang", "fim_pad"]
    assert specials(template, HELLO) == [*(f"<|{name}|>" for name in names), "<s>", "<|user|>"]


def test_strings_that_know_their_author_are_strings() -> None:
    """Every operation gives the str that a plain str would give, and nothing of a stranger's is trusted."""
    mixed = joined(["ab", literal("<|x|>"), " cd", literal("|>"), "e "])
    plain = str.__str__(mixed)
    assert type(mixed) is Told
    assert trusted(mixed) == ((2, 7), (10, 12))
    for begin in range(-3, len(plain) + 2):
        for end in range(-3, len(plain) + 2):
            piece = mixed[begin:end]
            assert piece == plain[begin:end]
            assert [piece[a:b] for a, b in trusted(piece)] == [plain[a:b] for a, b in _overlap(begin, end, plain)]
    assert mixed[::2] == plain[::2]
    assert mixed[3] == plain[3]
    for way in ("strip", "lstrip", "rstrip"):
        for chars in (None, " ae", "ab<", "xyz"):
            assert getattr(mixed, way)(chars) == getattr(plain, way)(chars)
    for sep in ("<|", "|>", "c", "zz"):
        for limit in (-1, 0, 1, 2):
            assert mixed.split(sep, limit) == plain.split(sep, limit)
            assert mixed.replace(sep, "12", limit) == plain.replace(sep, "12", limit)
    assert interleaved(literal("-"), ["a", "b", literal("c")]) == literal("-").join(["a", "b", "c"]) == "a-b-c"
    assert ("z" + mixed, mixed + "z", cut(mixed, 1, 4)) == ("z" + plain, plain + "z", plain[1:4])
    assert trusted("z" + mixed) == ((3, 8), (11, 13))
    assert type(mixed.upper()) is str  # what is not followed is a stranger's


def _expression(rng: random.Random, depth: int) -> str:
    """A random expression of strings: literals of letters, a stranger's texts of digits, and what can be done to them."""
    if depth == 0:
        return rng.choice(["'ab'", "' <x|> '", "'AbA'", "''", "m.content", "m['name']", "n.x", "bos_token", "m.none"])
    one, other = _expression(rng, depth - 1), _expression(rng, rng.randrange(depth))
    number = rng.randrange(-3, 4)
    return rng.choice(
        [
            f"({one} + {other})", f"({one} ~ {other})", f"({one} ~ {other} ~ {one})", f"({one})[{number}:]", f"({one})[:{number}]",
            f"({one})[::{number or 2}]", f"({one} * {abs(number)})", f"({one}).strip()", f"({one}).lstrip('a1')", f"({one} | trim)",
            f"({one}).replace('a', {other})", f"({one}).replace('1', {other}, 1)", f"({one} | replace('b', {other}))",
            f"({one} | upper | lower)",
            f"({one}).split('b')[0]", f"({one}).split('1') | join({other})", f"({one}).split() | last", f"([{one}, {other}] | join('-'))",
            f"({other}).join([{one}, {one}])", f"({one} | default({other}, true))", f"('%s' % {one})", f"('<%s>' % {one} + {other})",
            f"('{{}}|{{}}'.format({one}, {other}))", f"({one} if {other} else {other})", f"({one} | tojson)", f"([{one}] | tojson)",
            f"({one} | string)", f"({one} | capitalize)", f"({one} | title)", f"({one} | indent(1, true))",
            f"({one} | list | join)", f"([{one}, {other}] | map('trim') | join)", f"([{other}, {one}] | sort | join('a'))", f"f({one})",
            f"f({one}, {other})", f"({one} | first)", f"({one}).removeprefix('ab')", f"({one}).partition('a') | join",
            f"({one} | string | trim)",
            f"dict(a={one}).a", f"{{'k': {one}}}['k']", f"[{one}, {other}][{abs(number) % 2}]", f"({one} | truncate(5, true, {other}))",
        ]
    )  # fmt: skip


def test_no_expression_makes_a_strangers_character_the_templates() -> None:
    """Random expressions: what is trusted holds no digit, since only strangers write digits; and the text is that of `transformers`."""
    utils = importlib.import_module("transformers.utils.chat_template_utils") if importlib.util.find_spec("transformers") else None
    rng, rendered_at_all, written = random.Random(3), 0, 0
    message = {"role": "user", "content": "1 2<31>", "name": " 41 "}
    for _ in range(300):
        source = (
            "{% set n = namespace(x='') %}{% macro f(x, y='') %}a{{ x }}{{ y }}b{% endmacro %}{% set m = messages[0] %}"
            f"{{% set n.x = {_expression(rng, 1)} %}}{{% set z %}}{{{{ {_expression(rng, 2)} }}}}{{% endset %}}"
            f"{{{{ z }}}}{{% generation %}}{{{{ z | trim }}}}{{{{ {_expression(rng, 3)} }}}}"
            f"{{% endgeneration %}}{{{{ {_expression(rng, 2)} }}}}"
        )
        template = compile_template("t", source, {"b": 1}, {"bos_token": "b"})
        text = None
        with contextlib.suppress(RenderError):
            text = _rendered(template, [_seen(message)], None, False, Budget(10_000))
        if utils is not None:
            theirs = None
            with contextlib.suppress(Exception):
                theirs, spans = utils.render_jinja_template(
                    [[message]], chat_template=source, return_assistant_tokens_mask=True, bos_token="b"
                )  # fmt: skip
            assert (text is None) == (theirs is None), source
            assert text is None or text == theirs[0], source
            assert text is None or list(told.learned(text)) == [span for span in map(tuple, spans[0]) if span[0] < span[1]], source
        if text is None:
            continue
        rendered_at_all += 1
        for begin, end in trusted(text):
            assert not any(letter.isdigit() for letter in text[begin:end]), source
            written += end - begin
    assert rendered_at_all > 150
    assert written > 1000


def _overlap(begin: int, end: int, text: str) -> list[tuple[int, int]]:
    begin, end, _ = slice(begin, end).indices(len(text))
    return [(max(a, begin), min(b, end)) for a, b in ((2, 7), (10, 12)) if max(a, begin) < min(b, end)]


# -- bombs -------------------------------------------------------------------------------------------------------------------------

BOMBS = {
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a long loop body": "{% for i in range(99999) %}" + "{% set a = i + 1 %}" * 6000 + "{% endfor %}",
    "printing in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{{ messages }}{% endfor %}{% endfor %}",
    "printing nothing": "{% for i in range(99999) %}" + "{{ '' }}{{ i }}" * 5000 + "{% endfor %}",
    "doubling": "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling by tilde": "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling by blocks": "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}"
    "{% set n.x = y %}{% endfor %}",
    "doubling by join": "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = [n.x, n.x] | join %}{% endfor %}",
    "doubling by replace": "{% set n = namespace(x='aa') %}{% for i in range(99) %}{% set n.x = n.x.replace('a', 'aa') %}{% endfor %}",
    "replace of nothing": "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "a filter's replace": "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "a product": "{{ 'a' * 10000000000 }}",
    "a product turned round": "{{ 10000000000 * 'a' }}",
    "a list's product": "{{ [1] * 10000000000 }}",
    "lists of lists": "{% set n = namespace(x=['a']) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "dicts of dicts": "{% set n = namespace(x={'a': 1}) %}{% for i in range(99) %}{% set n.x = {'a': n.x, 'b': n.x} %}"
    "{% endfor %}{{ n.x | tojson }}",
    "dict of dicts": "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = dict(a=n.x, b=n.x) %}"
    "{% endfor %}{{ n.x | string }}",
    "lists without loops": "{% set x = ['a'] %}" + "{% set x = [x, x] %}" * 60 + "{{ x }}",
    "adding lists": "{% set n = namespace(x=['a']) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "a list of one text": "{% set x = 'a' * 1000000 %}{{ ([x] * 90000) | join }}",
    "a list of one text, sorted": "{% set x = 'a' * 1000000 %}{{ ([x] * 90000) | sort | length }}",
    "mapped": "{% set x = 'a' * 100000 %}{{ range(99999) | map('replace', '1', x) | join }}",
    "mapped to a list": "{% set x = 'a' * 100000 %}{{ range(99999) | map('string') | map('replace', '1', x) | list }}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "squares": "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "a width": "{{ '%1000000000d' % 1 }}",
    "a width given elsewhere": "{{ '%*d' % (1000000000, 1) }}",
    "a width in a format": "{{ '{:>1000000000}'.format(1) }}",
    "a width in a format given elsewhere": "{{ '{:>{}}'.format(1, 1000000000) }}",
    "a width in a filter": "{{ '%1000000000d' | format(1) }}",
    "many in a format": "{{ ('{0}' * 100000).format('a' * 100000) }}",
    "many in a format by name": "{{ ('{a}' * 100000).format(a='a' * 100000) }}",
    "many in a format by a dict": "{{ ('{a}' * 100000).format_map({'a': 'a' * 100000}) }}",
    "many in an old format": "{{ ('%(a)s' * 100000) % {'a': 'a' * 100000} }}",
    "many in a filter's format": "{{ ('%(a)s' * 100000) | format(a='a' * 100000) }}",
    "replace by name": "{{ ('a' * 100000) | replace(old='a', new='b' * 100000) }}",
    "replace by half a name": "{{ ('a' * 100000) | replace('a', new='b' * 100000) }}",
    "rounded up": "{{ 1.5 | round(1000000000, 'ceil') }}",
    "rounded down by name": "{{ 1.5 | round(method='floor', precision=1000000000) }}",
    "bytes": "{{ 'a'.encode().ljust(10000000000) }}",
    "bytes of a number": "{{ (5).to_bytes(10000000000, 'big') }}",
    "a nested loop in filters": "{{ range(99999) | map('string') | map('list') | map('join', 'a' * 10000) | list | length }}",
    "ljust": "{{ 'a'.ljust(10000000000) }}",
    "center": "{{ 'a'.center(10000000000) }}",
    "zfill": "{{ 'a'.zfill(10000000000) }}",
    "expandtabs": "{{ '\t'.expandtabs(10000000000) }}",
    "translate": "{{ ('a' * 10000).translate({97: 'b' * 100000}) }}",
    "center by a filter": "{{ 'a' | center(10000000000) }}",
    "indent": "{{ 'a' | indent(10000000000, true) }}",
    "indented json": "{{ messages | tojson(indent=10000000000) }}",
    "separated json": "{{ messages | tojson(separators=('a' * 10000, 'b')) }}",
    "lipsum": "{{ lipsum(100000) }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "recursion twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}",
    "a recursive loop": "{% for i in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "searches": "{% set x = 'a' * 4000000 %}{% set y = 'a' * 2000000 + 'b' %}{% for i in range(99999) %}"
    "{% if y in x %}{% endif %}{% endfor %}",
    "finds": "{% set x = 'a' * 4000000 %}{% for i in range(99999) %}{% if x.find('b') %}{% endif %}{% endfor %}",
    "comparisons": "{% set x = 'a' * 4000000 %}{% set y = 'a' * 4000000 %}{% for i in range(99999) %}"
    "{% if x == y %}{% endif %}{% endfor %}",
    "tests": "{% set x = 'a' * 4000000 %}{% set y = 'a' * 4000000 %}{% for i in range(99999) %}{% if x is eq y %}{% endif %}{% endfor %}",
    "slices": "{% set x = 'a' * 4000000 %}{% for i in range(99999) %}{% set y = x[1:] %}{% endfor %}",
    "sums": "{{ ([[1] * 1000] * 1000) | sum(start=[]) | length }}",
    "a date": "{{ strftime_now('%1000000000d' * 1000) }}",
    "another template": "{% include 'x' %}",
    "a wide slice": "{{ range(5) | slice(10000000000) | list }}",
    "chance": "{{ [1, 2, 3] | random }}",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_end_in_an_error_within_seconds(bomb: str) -> None:
    """Alone none takes more than 3 s of CPU or 300 MB."""
    begin = process_time()
    tracemalloc.start() if bomb in ("doubling", "a list of one text") else None
    try:
        with pytest.raises((RenderError, InputError)):
            render(made(BOMBS[bomb]), HELLO)
        assert not tracemalloc.is_tracing() or tracemalloc.get_traced_memory()[1] < 300 << 20
    finally:
        tracemalloc.stop()
    assert process_time() - begin < 30


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ messages[0]['__class__'] }}",
        "{{ (messages | attr('__class__')).x }}",
        "{{ raise_exception.__globals__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ self.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format(messages) }}",
        "{{ '{0._trusted}'.format('a') }}",
        "{{ '{x.__class__}'.format_map({'x': 1}) }}",
        "{{ 'a'._trusted }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ namespace(_x=1) }}",
        "{% set n = namespace() %}{% set n.__class__ = 1 %}{{ n }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({}) }}",
        "{{ messages.clear() }}",
        "{{ context.budget.steps }}",
        "{{ environment.filters }}",
        "{{ budget.steps }}",
        "{% set context = 1 %}{% for i in range(3) %}{% endfor %}{{ open('/etc/passwd') }}",
    ],
)
def test_no_way_out(source: str) -> None:
    """What it reaches is nothing, or an error."""
    messages = [dict(message) for message in HELLO]
    with contextlib.suppress(RenderError, InputError):
        assert render(made(source), messages).text == ""
    assert messages == HELLO


@pytest.mark.parametrize(
    "what",
    [
        *("messages | map('string')", "[messages | reverse]", "range", "namespace()", "'a' ~ (messages | reverse)", "dict", "joiner()"),
        *("'%s' % (messages | reverse)", "(messages | reverse) | trim", "{'a': cycler('b')}", "'{}'.format(messages | reverse)", "f"),
        *("[messages | reverse] | join", "messages[0].items", "(messages | reverse) | string", "[f] | map('upper') | join"),
    ],
)
def test_where_something_lies_in_memory_is_not_printed(what: str) -> None:
    """It would be other bytes in every run."""
    with pytest.raises(RenderError):
        render(made("{% macro f() %}{% endmacro %}{{ " + what + " }}"), HELLO, spans="none")


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    for source in ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "{% if 1 %}" * 2000 + "{% endif %}" * 2000, "{{ " + "-" * 20000 + "1 }}"):
        with pytest.raises((InputError, RenderError)):
            render(made(source), HELLO)


@pytest.mark.parametrize("source", ["{% for %}", "{{ 1 ", "{% generation %}", "x" * 200_000, "{{ 'a' | nofilter }}", "{% extends 'a' %}"])
def test_what_is_no_template_is_refused_with_a_reason(source: str) -> None:
    with pytest.raises(InputError, match="t: "):
        made(source)


def test_a_long_conversation_has_the_time_it_needs() -> None:
    """100,000 turns: a bound that grows with the conversation."""
    template = made("{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>\n{% endfor %}")
    rendered = render(template, HELLO * 50_000, spans="none")
    assert len(rendered.specials) == 200_000


def test_answers_found_by_prefixes_are_bounded() -> None:
    """Two renderings a turn: a conversation of very many is refused at once, one of 200 takes a second."""
    template = made(
        "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    assert len(render(template, HELLO * 200).loss) == 200
    begin = process_time()
    with pytest.raises(RenderError, match="generation") as refused:
        render(template, HELLO * 20_000)
    assert refused.value.reason == "template_limit"
    assert process_time() - begin < 20
    assert len(render(template, HELLO * 20_000, spans="last").loss) == 1


def test_half_a_character_is_an_error() -> None:
    with pytest.raises(RenderError, match="surrogate"):
        render(made("{{ '%c' % 55296 }}"), HELLO)


def test_the_clock_stands_still() -> None:
    assert render(made("{{ strftime_now('%Y-%m-%d') }}"), HELLO, spans="none").text == "2025-01-01"
