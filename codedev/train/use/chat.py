"""A conversation with a trained model, by the chat template that lies beside it.

What people say is text, whatever it looks like: only what the template writes can be a special token (tokenize/chat/render.py). An answer
ends with the tokens that end texts, and with any special token that the template puts around what is said: in some formats the marker of
the next speaker is all that ends an answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codedev._errors import CodedevError, InputError
from codedev._run import write_text
from codedev.tokenize.chat.budget import RenderError
from codedev.tokenize.chat.encoded import encode
from codedev.tokenize.chat.render import Message, Template, render
from codedev.tokenize.chat.templates import load_template
from codedev.train.use.companions import TEMPLATE, own_template
from codedev.train.use.generate import OnText, Opened, Sampling, Written, base_of, check_length, checked_ids, open_model, run_folders, write


class Chat(NamedTuple):
    """A model ready to answer."""

    opened: Opened
    template: Template


def open_chat(path: Path, template: str | None = None) -> Chat:
    """The model, adapter or run at `path` with its own template, or with `template`: a built-in name or a .jinja file. InputError."""
    opened = open_model(path)
    found = chat_of(opened, template)
    if found is None:
        raise InputError(f"{opened.directory}: has no {TEMPLATE}, it was not tuned to talk. Name the format it knows with --template")
    return found


def chat_of(opened: Opened, template: str | None = None) -> Chat | None:
    """The same of a model that is open; None where neither it nor the caller names a template."""
    places = (opened.directory, base_of(opened.directory), *run_folders(opened.directory))
    folder = next((one for one in places if one is not None and own_template(one)), None)
    if template is None and folder is None:
        return None
    found = load_template(template or "tokenizer", opened.vocabulary, folder or opened.directory)
    return Chat(opened._replace(ends=opened.ends | turn_marks(found)), found)


def turn_marks(template: Template) -> frozenset[int]:
    """The special tokens that the template puts around what is said."""
    said: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    found: set[int] = set()
    for messages in ([{"role": "system", "content": "s"}, *said], said, said[:2]):
        try:
            found |= {number for _, _, number in render(template, messages, spans="none").specials}
        except RenderError:  # one without system messages, or one that wants them
            continue
    return frozenset(found)


def prompt_ids(chat: Chat, messages: Sequence[Message], tools: Sequence[Message] | None = None) -> list[int]:
    """The tokens of a conversation up to where the model is to answer. InputError where the template refuses it or it is too long."""
    try:
        check_length(chat.opened, sum(len(str(message.get("content"))) for message in messages))
    except InputError as error:
        raise InputError(f"chat: the conversation is too long for the model: {error}") from None
    try:
        rendered = render(chat.template, messages, tools, add_generation_prompt=True, spans="none")
    except RenderError as error:
        raise InputError(f"chat: the template refuses the conversation: {error}") from None
    ids = encode(chat.opened.vocabulary, chat.template, [rendered]).ids.tolist()
    if not ids:
        raise InputError("chat: the template writes nothing. Name another with --template")
    try:
        return checked_ids(chat.opened, ids)
    except InputError as error:
        raise InputError(f"chat: the conversation is too long for the model: {error}") from None


def answer(chat: Chat, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Written:
    """What the model answers; `on_text` gets it piece by piece."""
    return write(chat.opened, [prompt_ids(chat, messages)], sampling, on_text=on_text)[0]


class Talk:
    """A conversation as it goes on: what a person types, commands and all, to what is shown."""

    HELP = (
        "/reset         forgets the conversation\n"
        "/system TEXT   changes the system prompt, and forgets the conversation\n"
        "/save FILE     adds the conversation to FILE, as a line of JSON\n"
        "/exit          ends, as Ctrl-D does; Ctrl-C cuts an answer short\n"
        'A line that ends with \\ goes on in the next one, and so does what stands between\nlines of """.'
    )

    def __init__(self, chat: Chat, sampling: Sampling, system: str | None = None) -> None:
        self.chat, self.sampling = chat, sampling
        self.messages: list[dict[str, Any]] = []
        self.over = False
        self._lines: list[str] = []
        self._quoted = False
        self._begin(system)

    @property
    def waiting(self) -> bool:
        """A turn of several lines is not at its end."""
        return bool(self._lines) or self._quoted

    def line(self, line: str, on_text: OnText) -> str | None:
        """Take a line; None while a turn is not at its end or where nothing is said, else a notice, which is "" behind an answer."""
        if line.strip() == '"""':
            self._quoted = not self._quoted
            return None if self._quoted else self._said(on_text)
        if self._quoted:
            self._lines.append(line)
            return None
        if line.endswith("\\"):
            self._lines.append(line[:-1])
            return None
        if not self._lines and line.startswith("/"):
            return self._command(line)
        self._lines.append(line)
        return self._said(on_text)

    def forget_line(self) -> None:
        """What was typed of a turn of several lines is gone."""
        self._lines, self._quoted = [], False

    def say(self, text: str, on_text: OnText | None = None) -> Written:
        """Take a turn and answer it. On an error the conversation stays as it was."""
        self.messages.append({"role": "user", "content": text})
        try:
            written = answer(self.chat, self.messages, self.sampling._replace(seed=self.sampling.seed + len(self.messages)), on_text)
        except BaseException:
            self.messages.pop()
            raise
        self.messages.append({"role": "assistant", "content": written.text.strip()})
        return written

    def save(self, file: Path) -> None:
        """Add the conversation to a JSONL that `codedev tokenize --mode sft` and data.tables read."""
        before = ""
        if file.exists():
            try:
                before = file.read_text(encoding="utf-8")
                _check_jsonl(before)
            except (OSError, ValueError):
                raise InputError(f"{file}: is there and holds no lines of JSON. Choose another file") from None
        write_text(file, before + json.dumps({"messages": self.messages}, ensure_ascii=False) + "\n")

    def _begin(self, system: str | None) -> None:
        self.messages = [{"role": "system", "content": system}] if system else []

    def _said(self, on_text: OnText) -> str | None:
        text, self._lines = "\n".join(self._lines), []
        if not text.strip():
            return None
        self.say(text, on_text)
        return ""

    def _command(self, line: str) -> str:
        name, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        if name in ("exit", "quit"):
            self.over = True
            return ""
        if name == "reset":
            self._begin(next((one["content"] for one in self.messages if one["role"] == "system"), None))
            return "the conversation begins anew"
        if name == "system":
            self._begin(rest)
            return "the conversation begins anew" + (" with this system prompt" if rest else " without a system prompt")
        if name == "save" and rest:
            if not any(one["role"] == "assistant" for one in self.messages):
                return "not saved: nothing was said yet"
            try:
                self.save(Path(rest).expanduser())
            except (CodedevError, OSError) as error:
                return f"not saved: {error}"
            return f"saved in {rest}"
        if name == "save":
            return "/save needs the name of a file"
        return self.HELP if name == "help" else f"there is no /{name}\n{self.HELP}"


def _check_jsonl(text: str) -> None:
    for line in text.splitlines():
        if not isinstance(json.loads(line), dict):
            raise ValueError(line)
