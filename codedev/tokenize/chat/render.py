"""A conversation through a chat template: its text, the special tokens in it, and what the assistant says.

The law: only a special token that the template itself wrote, every character of it, is one; the same characters in a message, a role, a
name, a tool or its arguments are text, whatever the template does with them (told.py says how this is known). The four known roles count as
the template's, since templates make `<|user|>` of them.

What the assistant says is what `{% generation %}` encloses. For a template without that, the conversation is rendered up to each answer,
with the prompt for it, and up to its end: two prefixes of the whole text, with the answer between them. Where they are no prefixes, the
template rewrites what came before (as those that leave thoughts out of earlier turns), and the rendering is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jinja2
from jinja2 import Template as Compiled

from codedev._errors import CodedevError, InputError
from codedev.tokenize.chat.budget import Budget, LimitError, RenderError
from codedev.tokenize.chat.plan import ROLES, Parts, Plan, planned
from codedev.tokenize.chat.sandbox import SOURCE, Sandbox
from codedev.tokenize.chat.told import joined, learned, literal, trusted
from codedev.tokenize.vocabulary import Vocabulary

_TRUSTED_ROLES = {role: literal(role) for role in ROLES}

_TURNS = 200  # of the assistant, of a conversation that is rendered up to each of them: 0.6 s
_PREFIXES = 16  # times what one rendering may use, for all of those

Message = Mapping[str, Any]


class Inner(NamedTuple):
    """How such a tokenizer encodes what is not the beginning of a text."""

    vocabulary: Vocabulary  # without that blank
    behind_specials: bool  # it is used behind special tokens too, else only for a text that is cut off another


class Template(NamedTuple):
    name: str
    source: str
    compiled: Compiled
    specials: Mapping[str, int]  # name -> id: what counts as a special token
    pattern: re.Pattern[str]  # any of them
    variables: Mapping[str, str]  # bos_token, eos_token, …
    marked: bool  # it has {% generation %}
    strips: Mapping[int, tuple[bool, bool]]  # ids of special tokens that take the blanks before them, behind them
    plan: Plan | None = None  # of a built-in template
    inner: Inner | None = None  # of a tokenizer that puts a blank before a text


class Rendered(NamedTuple):
    """Ranges are [begin, end) in characters of `text`, rising, and do not overlap."""

    text: str
    specials: list[tuple[int, int, int]]  # begin, end, id
    loss: list[tuple[int, int]]  # what the assistant says, its end-of-turn token with it
    inside: bool = False  # another text stands before it


def compile_template(
    name: str,
    source: str,
    specials: Mapping[str, int],
    variables: Mapping[str, str],
    strips: Mapping[int, tuple[bool, bool]] | None = None,
) -> Template:
    """InputError for what is no template or is too long."""
    if len(source) > SOURCE:
        raise InputError(f"{name}: a chat template of {len(source)} characters; at most {SOURCE} are read")
    sandbox = Sandbox()
    try:
        compiled = sandbox.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"{name}: line {error.lineno}: is no chat template in Jinja: {error.message}") from None
    except (SyntaxError, RecursionError, MemoryError, ValueError, OverflowError) as error:  # Python's, of what Jinja made of it
        raise InputError(f"{name}: is no chat template that can be compiled ({type(error).__name__})") from None
    names = sorted(specials, key=lambda special: (-len(special), special))
    return Template(
        name=name,
        source=source,
        compiled=compiled,
        specials=specials,
        pattern=re.compile("|".join(map(re.escape, names)) or "(?!)"),
        variables={key: literal(value) for key, value in variables.items()},
        marked=re.search(r"\{%[-+]?\s*generation\s*[-+]?%\}", source) is not None,
        strips=strips or {},
    )


def render(
    template: Template,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
    *,
    add_generation_prompt: bool = False,
    spans: Literal["all", "last", "none"] = "all",
) -> Rendered:
    """The conversation as text. `spans`: which of the assistant's turns `loss` tells.

    RenderError where the template refuses it or asks for too much. 50 µs a short conversation, 4 µs with a plan.
    """
    if template.plan is not None and not tools:

        def by_jinja(marks: Sequence[Message]) -> Parts:
            return render(template._replace(plan=None), marks, add_generation_prompt=add_generation_prompt)[:3]

        quick = planned(template.plan, messages, add_generation_prompt, by_jinja)
        if quick is not None:
            return Rendered(quick[0], quick[1], {"all": quick[2], "last": quick[2][-1:], "none": []}[spans])
    prefixes = spans == "all" and not template.marked
    budget = Budget((_size(messages) + _size(tools)) * (_PREFIXES if prefixes else 1))
    seen = [_seen(message) for message in messages]
    text = _rendered(template, seen, tools, add_generation_prompt, budget)
    loss: Sequence[tuple[int, int]] = []
    if spans != "none" and template.marked:
        loss = _apart([span for span in learned(text) if span[1] > span[0]])
    elif spans != "none":
        loss = _by_prefixes(template, seen, tools, str.__str__(text), budget, spans == "last")
    return _described(template, text, loss[-1:] if spans == "last" else loss)


def _described(template: Template, text: str, loss: Sequence[tuple[int, int]]) -> Rendered:
    plain = str.__str__(text)
    if not plain.isascii():
        try:
            plain.encode()
        except UnicodeEncodeError:
            raise RenderError("template_refuses", f"{template.name}: it writes half a surrogate pair, which is no text") from None
    specials = [
        (match.start(), match.end(), template.specials[match[0]])
        for begin, end in trusted(text)
        for match in template.pattern.finditer(plain, begin, end)
    ]
    return Rendered(plain, specials, list(loss))


def _apart(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in their order without overlaps: one that lies in another, as of generation blocks in each other, is part of it."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if found and begin < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found


def _rendered(template: Template, messages: Sequence[Message], tools: Any, prompt: bool, budget: Budget) -> str:
    context: Any = template.compiled.new_context(
        {**template.variables, "messages": messages, "tools": tools, "documents": None, "add_generation_prompt": prompt}
    )
    context.budget = budget
    parts: list[str] = []
    try:
        for part in template.compiled.root_render_func(context):
            budget.charge(len(part) + 1)
            parts.append(part)
        return joined(parts)
    except CodedevError:
        raise
    except LimitError as error:
        raise RenderError("template_limit", f"{template.name}: {error}") from None
    except (RecursionError, MemoryError) as error:
        raise RenderError("template_limit", f"{template.name}: it goes too deep ({type(error).__name__})") from None
    except Exception as error:  # a template may raise anything
        said = error.message if isinstance(error, jinja2.TemplateError) and error.message else f"{type(error).__name__}: {error}"
        raise RenderError("template_refuses", f"{template.name}: {said[:300]}") from None


def _by_prefixes(
    template: Template, messages: Sequence[Message], tools: Any, whole: str, budget: Budget, last: bool
) -> list[tuple[int, int]]:
    """What the assistant says, of a template that does not mark it."""
    found = []
    answers = [number for number, message in enumerate(messages) if message.get("role") == "assistant"]
    answers = answers[-1:] if last else answers
    if len(answers) > _TURNS:
        raise RenderError(
            "template_limit",
            f"{template.name}: it is rendered up to each of {len(answers)} answers to tell them apart, and {_TURNS} are allowed. Enclose "
            "what the assistant says in {% generation %} and {% endgeneration %} in the template",
        )
    for number in answers:
        before = _rendered(template, messages[:number], tools, True, budget)
        after = whole if number + 1 == len(messages) else _rendered(template, messages[: number + 1], tools, False, budget)
        if not whole.startswith(before) or not whole.startswith(after) or len(after) < len(before):
            raise RenderError(
                "turns_rewritten",
                f"{template.name}: it writes turn {number} in another way when more turns follow, so what the assistant says cannot be "
                "told apart. Enclose it in {% generation %} and {% endgeneration %} in the template, or train on the last turn alone",
            )
        found.append((len(before), _end_of_turn(template, str.__str__(after), len(before))))
    return found


def cut(rendered: Rendered, begin: int, end: int) -> Rendered:
    """The text from `begin` to `end`, with the special tokens that lie in it whole; no loss."""
    specials = [(a - begin, b - begin, number) for a, b, number in rendered.specials if a >= begin and b <= end]
    return Rendered(rendered.text[begin:end], specials, [], inside=begin > 0)


def end_of_turn(rendered: Rendered) -> int:
    """Where the last turn ends: behind the special token that closes it, where but blanks follow that."""
    end = rendered.specials[-1][1] if rendered.specials else 0
    return end if end and not rendered.text[end:].strip() else len(rendered.text)


def _end_of_turn(template: Template, text: str, begin: int) -> int:
    """Where the answer ends: behind the special token that closes it where but blanks follow that, as in `<|im_end|>\\n`."""
    end = len(text.rstrip())
    closing = [match.end() for match in template.pattern.finditer(text, max(begin, end - 100), end)]
    return end if closing and closing[-1] == end else len(text)


def _seen(message: Message) -> dict[str, Any]:
    """The message as the template sees it: a known role counts as the template's, thoughts stand under both names that templates read."""
    seen = dict(message)
    role = seen.get("role")
    if isinstance(role, str):
        seen["role"] = _TRUSTED_ROLES.get(role, role)
    thoughts = next((seen[key] for key in ("reasoning_content", "thinking", "reasoning") if seen.get(key) is not None), None)
    if thoughts is not None:
        seen["reasoning_content"] = thoughts
        seen.setdefault("thinking", thoughts)
    return seen


def _size(value: Any) -> int:
    """Characters in messages or tools, about."""
    total, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            total += len(one)
        elif isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, list | tuple):
            waiting.extend(one)
        total += 8
    return total
