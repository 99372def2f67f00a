"""A traced token as a person reads it: the token in its text, then every step back to the raw bytes."""

from __future__ import annotations

from typing import Any

from codedev.corpus.look import visible

VALUE = 200  # characters of a column that are shown; --json has all
EXCERPT = 12  # lines of the raw record, of at most …
WIDTH = 240  # … characters each


def shortened(text: str, most: int = VALUE) -> str:
    """The text in one line, cut behind `most` characters."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters, --json has all)"


def excerpted(text: str, at: int) -> str:
    """Lines of the text around the character `at`, few and short enough to be read, with `…` where some are left out."""
    begin, lines = 0, text.split("\n")
    focus = text.count("\n", 0, at)
    column = at - sum(len(line) + 1 for line in lines[:focus])
    if len(lines) > EXCERPT:
        begin = min(max(0, focus - EXCERPT // 2), len(lines) - EXCERPT)
    kept = []
    for number, line in enumerate(lines[begin : begin + EXCERPT], begin):
        first = min(max(0, column - WIDTH // 4), max(0, len(line) - WIDTH)) if number == focus else 0
        piece = line[first : first + WIDTH]
        kept.append(("…" if first else "") + piece + ("…" if first + WIDTH < len(line) else ""))
    return "\n".join([*(["…"] if begin else []), *kept, *(["…"] if begin + EXCERPT < len(lines) else [])])


def show(found: dict[str, Any]) -> None:
    """Print what `trace` returned."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)

    def print_line(*parts: str | tuple[str, str]) -> None:
        shown = [visible(part) if isinstance(part, str) else (visible(part[0]), part[1]) for part in parts]
        console.print(Text.assemble(*shown), soft_wrap=True)  # a Text: document text is never markup

    print_line(
        ("row ", "dim"), f"{found['row']:,}", (f" of {found['file']}: {found['tokens']:,} tokens, {found['padding']:,} padding", "dim")
    )
    if "segments" in found:
        for segment in found["segments"]:
            print_line(
                f"  tokens {segment['begin']:>6,}-{segment['end']:<6,} ",
                (segment["document"] or "(removed)", "bold"),
                (f" from its token {segment['offset']:,}", "dim"),
            )
        return
    token, segment, context, document, raw = (found[name] for name in ("token", "segment", "context", "document", "raw"))
    marked = token["text"] if console.is_terminal else f"»{token['text']}«"
    print_line(context["before"], (marked, "bold reverse"), context["after"])
    console.print()
    print_line(
        ("token     ", "dim"), f"{token['id']} {token['text']!r} at {token['index']} of the row", (f"  bytes {token['bytes']}", "dim")
    )
    print_line(("segment   ", "dim"), f"{segment['number']}, token {segment['token_in_document']:,} of its document")
    print_line(("text      ", "dim"), f"bytes {segment['byte_begin']:,} to {segment['byte_end']:,}")
    print_line(("document  ", "dim"), (segment["document"], "bold"))
    for name in ("source", "kind", "lang", "licence", "url", "created", "meta"):
        if document.get(name) not in (None, "", "{}"):
            print_line((f"{name:<10}", "dim"), shortened(str(document[name])))
    place = ", ".join(f"{name} {raw[name]}" for name in ("file", "offset", "length", "member") if raw.get(name) is not None)
    print_line(("raw       ", "dim"), place or raw["why"])
    if raw["found"] and raw["text_at"] is None:
        print_line(("          ", "dim"), "the record does not hold this text verbatim; it begins:")
    if raw["found"]:
        at = 0 if raw["text_at"] is None else raw["text_at"] - raw["excerpt_at"]
        for line in excerpted(raw["excerpt"], min(max(0, at), len(raw["excerpt"]))).split("\n"):
            print_line(("          ", "dim"), (line, "dim"))
    elif place:
        print_line(("          ", "dim"), raw["why"])
