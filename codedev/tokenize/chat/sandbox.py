"""Jinja for chat templates that come from strangers: no way out, bounded time and memory, the author of each character known.

Templates render as in `transformers` (trim_blocks, lstrip_blocks, break and continue, `raise_exception`, its own `tojson`), but for this:

    literals    every string constant of the template is compiled to a `Told` (told.py).
    time        loops, calls and filters take steps, and what they make or read through is charged for: see budget.py.
    clock       `strftime_now` tells the noon of DATE: the same input gives the same bytes on any day.
    left out    filters and methods whose outcome depends on chance or is as wide as asked for (random, center, ljust, translate, …),
                lipsum, and every way to read another template.

"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame, optimizeconst
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context
from markupsafe import Markup

from codedev.tokenize.chat.budget import Budget, LimitError, check_binop, checked_filter, checked_method, printable
from codedev.tokenize.chat.told import generated, interleaved, joined

SOURCE = 128 << 10  # characters of a template; the longest in use has 20,000
DATE = datetime(2025, 1, 1, 12)  # of no zone: templates print it as it is

_FILTERS = """
    abs attr capitalize count d default dictsort e escape first float forceescape format groupby indent int items join last length list
    lower map max min reject rejectattr replace reverse round safe select selectattr sort string sum title tojson trim truncate unique upper
    urlencode wordcount
""".split()
_COMPARING = "in eq equalto == ne != lt lessthan < le <= gt greaterthan > ge >=".split()
_METHODS = frozenset(
    """capitalize casefold count endswith find format format_map index isalnum isalpha isascii isdecimal isdigit isidentifier islower
    isnumeric isprintable isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition
    rsplit rstrip split splitlines startswith strip swapcase title upper""".split()
)
_OF_DICTS = frozenset(dir(dict))


class _Tick(NamedTuple):
    """Stands in the tree where steps are taken."""

    steps: int


class _Context(Context):
    budget: Budget

    def tick(self, steps: int) -> None:
        self.budget.step(steps)

    def contains(self, one: Any, other: Any) -> bool:
        self.budget.step()
        self.budget.compared(other)
        return one in other

    def concatenated(self, parts: Iterable[str]) -> str:
        """What a macro or a set block printed."""
        parts = list(parts)
        self.budget.charge(sum(map(len, parts)) + len(parts))
        return joined(parts)

    def derived(self, locals: dict[str, Any] | None = None) -> Context:  # noqa: A002  # Jinja's name
        context = super().derived(locals)
        assert isinstance(context, _Context)
        context.budget = self.budget
        return context


class _Generator(CodeGenerator):
    """Constants become `Told`; loops, macros and searches take steps; containers and slices are charged for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._literals: dict[str, str] = {}

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:  # noqa: N802
        super().visit_Template(node, frame)
        self.writeline("from codedev.tokenize.chat.told import literal as _literal", extra=1)
        for text, name in self._literals.items():
            self.writeline(f"{name} = _literal({text!r})")

    def write_commons(self) -> None:
        super().write_commons()
        self.writeline("concat = context.concatenated")

    def _named(self, text: str) -> str:
        return self._literals.setdefault(text, f"_text_{len(self._literals)}")

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:  # noqa: N802
        self.write(self._constant(node.as_const(frame.eval_ctx)))

    def _constant(self, value: Any) -> str:
        """Python source of a constant, which may hold others."""
        if isinstance(value, str):
            return self._named(str.__str__(value)) if value else "''"
        if isinstance(value, list):
            return f"[{', '.join(map(self._constant, value))}]"
        if isinstance(value, tuple):
            return f"({', '.join(map(self._constant, value))}{',' if value else ''})"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{self._constant(key)}: {self._constant(one)}' for key, one in value.items())}}}"
        return repr(value)

    def _output_const_repr(self, group: Any) -> str:
        text = "".join(group)
        return self._named(text) if text else "''"

    def visit_ExprStmt(self, node: nodes.ExprStmt, frame: Frame) -> None:  # noqa: N802
        if isinstance(node.node, nodes.Const) and isinstance(node.node.value, _Tick):
            self.writeline(f"context.tick({node.node.value.steps})")
        else:
            super().visit_ExprStmt(node, frame)

    @optimizeconst
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.concatenated(context, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    @optimizeconst
    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802
        if len(node.ops) == 1 and node.ops[0].op in ("in", "notin"):
            self.write("(not context.contains(" if node.ops[0].op == "notin" else "(context.contains(")
            self.visit(node.expr, frame)
            self.write(", ")
            self.visit(node.ops[0].expr, frame)
            self.write("))")
            return
        long = not any(isinstance(side, nodes.Const) for side in (node.expr, *(operand.expr for operand in node.ops)))
        self.write("(context.budget.compared(" if long or len(node.ops) > 1 else "(")
        self.visit(node.expr, frame)
        self.write(")" if long or len(node.ops) > 1 else "")
        for operand in node.ops:
            self.visit(operand, frame)
        self.write(")")

    @optimizeconst
    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802
        sliced = isinstance(node.arg, nodes.Slice)
        self.write("environment.sliced(context, " if sliced else "environment.getitem(")
        self.visit(node.node, frame)
        self.write(", ")
        if isinstance(node.arg, nodes.Slice):
            self.write("slice(")
            for number, bound in enumerate((node.arg.start, node.arg.stop, node.arg.step)):
                self.write(", " if number else "")
                if bound is None:
                    self.write("None")
                else:
                    self.visit(bound, frame)
            self.write(")")
        elif isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            self.write(repr(node.arg.value))  # a key is looked up quicker as an ordinary str
        else:
            self.visit(node.arg, frame)
        self.write(")")

    def _charged(self, visit: Callable[..., None], node: Any, frame: Frame) -> None:
        self.write("context.budget.made(")
        visit(node, frame)
        self.write(")")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self._charged(super().visit_List, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        if node.ctx == "load" and node.items:
            self._charged(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self._charged(super().visit_Dict, node, frame)


class _Generation(Extension):
    """{% generation %} … {% endgeneration %}: what the assistant says."""

    tags = {"generation"}  # noqa: RUF012  # Jinja's name

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_enclosed"), [], [], body).set_lineno(line)

    def _enclosed(self, caller: Macro) -> str:
        return generated(caller())


class Sandbox(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    context_class = _Context
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], cache_size=0, finalize=printable)
        given = {name: self.filters[name] for name in _FILTERS}
        given |= {"tojson": _tojson, "safe": str, "string": _string, "join": _join}
        self.filters = {name: _charged_filter(name, function) for name, function in given.items()}
        tests: dict[str, Any] = self.tests
        self.tests = {**tests, **{name: _charged_test(tests[name]) for name in _COMPARING}}
        self.globals = {
            "range": self.globals["range"],
            "dict": _dict,
            "namespace": _Namespace,
            "cycler": self.globals["cycler"],
            "joiner": self.globals["joiner"],
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        refused = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block)
        for node in template.find_all(refused):
            raise TemplateSyntaxError("a chat template cannot use another template or blocks", node.lineno)
        found: list[Any] = list(template.find_all((nodes.For, nodes.Macro, nodes.CallBlock)))
        for node in found:
            size = sum(1 for _ in node.find_all(nodes.Node))
            node.body.insert(0, nodes.ExprStmt(nodes.Const(_Tick(1 + size // 32)), lineno=node.lineno))
        return template

    # -- what a compiled template calls

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, int | float | bytes | complex) or (isinstance(obj, str) and attr not in _METHODS):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict and attribute not in _OF_DICTS:  # what Jinja does, without an exception raised on the way
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  # as Jinja has it
        budget: Budget = __context.budget
        budget.step()
        method = getattr(__obj, "__wrapped__", __obj)  # str.format comes wrapped
        this = getattr(method, "__self__", None)
        if isinstance(this, str):
            args = checked_method(budget, this, getattr(method, "__name__", ""), args, kwargs)
        return budget.made(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        budget: Budget = context.budget
        if operator != "+":
            check_binop(budget, operator, left, right)
        elif isinstance(left, str | list | tuple):
            budget.charge(len(left) + (len(right) if isinstance(right, str | list | tuple) else 0))
        return budget.made(self.binop_table[operator](left, right))

    def concatenated(self, context: Any, parts: tuple[Any, ...]) -> str:
        texts = [part if isinstance(part, str) and not isinstance(part, Markup) else str(printable(part)) for part in parts]
        context.budget.charge(sum(map(len, texts)))
        return joined(texts)

    def sliced(self, context: Any, value: Any, bounds: slice) -> Any:
        context.budget.step()
        return context.budget.made(value[bounds])


# -- what templates may call -------------------------------------------------------------------------------------------------------


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(format: str) -> str:  # noqa: A002  # the name that templates may use
    if len(format) > 100:
        raise LimitError("it prints the date in a format of more than 100 characters")
    return DATE.strftime(str.__str__(format))


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else str(printable(value))


def _join(value: Iterable[Any], d: str = "") -> str:
    return interleaved(str(d), [part if isinstance(part, str) else str(part) for part in value])


def _tojson(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
    """As in `transformers`: no HTML escapes."""
    if (isinstance(indent, int) and indent > 16) or (isinstance(indent, str) and len(indent) > 16):
        raise LimitError("it indents JSON by more than 16")
    if separators is not None and sum(map(len, separators)) > 16:
        raise LimitError("it separates JSON by more than 16 characters")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Namespace(Namespace):
    """A namespace that holds no name with an underscore before it, and does not print what it holds."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # `self` may be a name in it
        for name in dict(*args[1:], **kwargs):
            _check_name(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


def _charged_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, taking steps and charged for. It is given what Jinja would have given it: context, environment or neither."""
    passed = getattr(function, "jinja_pass_arg", None)
    wants = "" if passed is None else passed.name

    def charged(context: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget: Budget = context.budget
        budget.step()
        value, args = checked_filter(budget, name, value, args, kwargs)
        first = {"context": (context,), "environment": (context.environment,), "eval_context": (context.eval_ctx,)}.get(wants, ())
        return budget.made(function(*first, value, *args, **kwargs))

    return pass_context(charged)


def _charged_test(function: Callable[..., Any]) -> Callable[..., bool]:
    def charged(context: Any, value: Any, *args: Any) -> bool:
        context.budget.step()
        context.budget.compared(value)
        context.budget.compared(args)
        return bool(function(value, *args))

    return pass_context(charged)
