"""Use trained models: generate, chat, serve."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import click

from codedev.commands.options import JSON, PATH, QUIET, print_json

_STOP = click.option("--stop", "stops", multiple=True, metavar="TEXT", help="End the text before this; may be repeated.")
_TEMPERATURE = click.option(
    "--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0 = always the likeliest token."
)
_TOP_P = click.option("--top-p", type=click.FloatRange(0, 1), default=0.95, show_default=True, help="Choose among tokens of this share.")
_SEED = click.option("--seed", type=int, default=0, show_default=True, help="Of the choice.")


def _max_tokens(default: int) -> Callable[[Any], Any]:
    return click.option("--max-tokens", type=click.IntRange(1), default=default, show_default=True, help="At most so many tokens are made.")


@click.command()
@click.argument("model", type=PATH)
@click.option("--prompt", default=None, help="The text to go on from; '-' reads it from stdin.")
@click.option("--file", "prompt_file", type=PATH, default=None, help="A file that holds the prompt.")
@click.option(
    "--prompts",
    type=click.Path(allow_dash=True),
    default=None,
    help='Many prompts: lines of {"prompt": "…"} or {"messages": […]}; \'-\' reads stdin.',
)
@click.option("--n", type=click.IntRange(1, 1000), default=1, show_default=True, help="With --prompts: answers to each.")
@click.option("--out", type=PATH, default=None, help="With --prompts: where the lines go; default: stdout.")
@click.option("--template", default=None, metavar="NAME", help="With --prompts: a chat template; default: the one beside the model.")
@click.option("--raw", is_flag=True, help="With --prompts: go on from the texts as they are, without a chat template.")
@_max_tokens(128)
@click.option(
    "--temperature", type=click.FloatRange(0), default=None, help="0 = always the likeliest token. Default: 0; with --n above 1: 1."
)
@_TOP_P
@_SEED
@_STOP
@JSON
@QUIET
def generate(
    model: Path,
    prompt: str | None,
    prompt_file: Path | None,
    prompts: str | None,
    n: int,
    out: Path | None,
    template: str | None,
    raw: bool,
    max_tokens: int,
    temperature: float | None,
    top_p: float,
    seed: int,
    stops: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Go on from a prompt with MODEL: a trained model, an adapter, or a run.

    The text is shown as it comes. A single prompt goes on as it is, whatever the model was tuned to; `codedev chat` asks. Lines of
    --prompts come back in their order with their other fields and `answers`, each with `text`, `tokens` and `ended`: end, stop or length.
    Where the model was tuned to talk their prompts are what a person says. People compare the answers with `codedev feedback serve`.

    \b
    Example: codedev generate runs/first --prompt 'def main('
             codedev generate runs/tuned --prompts prompts.jsonl --n 4 --out answers.jsonl
    """
    if sum(given is not None for given in (prompt, prompt_file, prompts)) > 1:
        raise click.UsageError("give one of --prompt, --file and --prompts")
    if prompts is None:
        for given, option in ((out, "--out"), (template, "--template"), (raw or None, "--raw"), (n > 1 or None, "--n")):
            if given is not None:
                raise click.UsageError(f"{option} is for --prompts")
    if raw and template:
        raise click.UsageError("give --raw or --template, not both")
    text = _prompt(prompt, prompt_file) if prompts is None else ""
    from codedev._terminal import note
    from codedev.train.use import generate as writer
    from codedev.train.use.companions import own_template

    drawn = (1.0 if n > 1 else 0.0) if temperature is None else temperature
    sampling = writer.checked(writer.Sampling(max_tokens, drawn, top_p, seed, _unescaped(stops)))
    if prompts is not None:
        _many(model, prompts, out, sampling, n, template, raw, quiet=quiet or as_json)
        return
    writer.check_text(text)
    opened = writer.open_model(model)
    ids = writer.prompt_ids(opened, text)
    if not quiet and any(own_template(folder) for folder in (opened.directory, writer.base_of(opened.directory)) if folder is not None):
        note(f"the text goes on as it is, without the chat template of {model}: to ask it, codedev chat {model} or --prompts")
    if as_json:
        [written] = writer.write(opened, [ids], sampling)
        print_json({"prompt": text, "text": written.text, "tokens": written.tokens, "ended": written.why})
        return
    show = _shower()
    show(text)
    writer.write(opened, [ids], sampling, on_text=show)
    print()


@click.command()
@click.argument("model", type=PATH)
@click.option("--system", default=None, help="The system prompt.")
@click.option("--template", default=None, metavar="NAME", help="A chat template or a .jinja file; default: the one beside the model.")
@_max_tokens(512)
@_TEMPERATURE
@_TOP_P
@_SEED
@_STOP
@JSON
def chat(
    model: Path,
    system: str | None,
    template: str | None,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    stops: tuple[str, ...],
    as_json: bool,
) -> None:
    """Talk with MODEL: a trained model, an adapter, or a run.

    /reset begins anew, /system TEXT changes the system prompt, /save FILE keeps the conversation, /exit or Ctrl-D ends. Where stdin is no
    terminal every line is a turn, and --json gives a line of JSON for each answer.

    \b
    Example: codedev chat runs/tuned --system 'You answer in one sentence.'
             printf 'What is a list?\\nAnd a tuple?\\n' | codedev chat runs/tuned
    """
    from codedev._errors import CodedevError
    from codedev._terminal import note
    from codedev.train.use.chat import Talk, open_chat
    from codedev.train.use.generate import Sampling, checked

    sampling = checked(Sampling(max_tokens, temperature, top_p, seed, _unescaped(stops)))
    talk = Talk(open_chat(model, template), sampling, system)
    if not sys.stdin.isatty():
        show = _shower()
        for line in sys.stdin:
            if line.strip():
                written = talk.say(line.rstrip("\r\n"), None if as_json else show)
                print(_line({"text": written.text.strip(), "tokens": written.tokens, "ended": written.why}) if as_json else "", flush=True)
        return
    note(f"{model}: /help says what can be done here")
    show = _shower()
    for line in _typed(talk):
        try:
            said = talk.line(line, show)
        except CodedevError as error:
            said = f"error: {error}"
        except KeyboardInterrupt:
            said = "(stopped; this turn is forgotten)"
        if said is not None:
            print(f"\n{said}" if said else "")
        if talk.over:
            return


@click.command()
@click.argument("model", type=PATH)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0: everyone who can reach this machine."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="The port to listen on.")
def serve(model: Path, host: str, port: int) -> None:
    """Serve MODEL, a trained model, an adapter, or a run, by the OpenAI-compatible server of transformers.

    It answers POST /v1/chat/completions, /v1/completions and /v1/responses, and GET /v1/models and /health, until it is interrupted. It
    asks for no password.

    \b
    Example: codedev serve runs/tuned --port 8000
             curl localhost:8000/v1/chat/completions -H 'Content-Type: application/json' \\
               -d '{"messages": [{"role": "user", "content": "What is a list?"}]}'
    """
    from codedev._terminal import note
    from codedev.train.use.serve import serve as run_server

    def ready(name: str, talks: bool) -> None:
        note(f"serving '{name}' on http://{host}:{port}/v1{'' if talks else '; it has no chat template, so use /v1/completions'}")

    run_server(model, host, port, ready)


def _many(model: Path, prompts: str, out: Path | None, sampling: Any, n: int, template: str | None, raw: bool, *, quiet: bool) -> None:
    from codedev._run import atomic_write
    from codedev._terminal import watch
    from codedev.train.use.answers import answer_all

    name = "stdin" if prompts == "-" else prompts
    with _reading(prompts) as lines, watch(quiet=quiet or out is None) as progress:
        rows = answer_all(model, lines, name, sampling, n=n, template=template, raw=raw, progress=progress)
        if out is None:
            for row in rows:
                print(_line(row), flush=True)
            return
        with atomic_write(out) as temporary, temporary.open("w", encoding="utf-8") as to:
            for row in rows:
                print(_line(row), file=to)


def _reading(name: str) -> IO[str]:
    from codedev._errors import InputError

    if name == "-":
        return sys.stdin
    try:
        return open(name, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from None


def _prompt(prompt: str | None, file: Path | None) -> str:
    from codedev._errors import InputError

    if file is None:
        return sys.stdin.read() if prompt == "-" else prompt or ""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: is not UTF-8. Write it in UTF-8") from None


def _unescaped(stops: tuple[str, ...]) -> tuple[str, ...]:
    r"""\n and \t as shells hand them on, for what they stand for."""
    return tuple(stop.replace("\\n", "\n").replace("\\t", "\t") for stop in stops)


def _line(row: dict[str, Any]) -> str:
    import json

    return json.dumps(row, ensure_ascii=False)


def _shower() -> Callable[[str], None]:
    """Shows text at once. A terminal gets no controls but line ends and tabs: a model may write any."""
    terminal = sys.stdout.isatty()

    def show(text: str) -> None:
        if terminal:
            text = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
        sys.stdout.write(text)
        sys.stdout.flush()

    return show


def _typed(talk: Any) -> Iterator[str]:
    """Lines as a person types them, until Ctrl-D."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # editing and history
    while True:
        try:
            yield input("... " if talk.waiting else "> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:  # meant for an answer that had just ended, as like as not: the conversation stays
            talk.forget_line()
            print("\n(Ctrl-D or /exit ends)")
