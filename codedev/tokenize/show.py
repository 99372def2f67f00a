"""A traced token as a person reads it: the token in its text, then every step back to the raw bytes."""

from __future__ import annotations

from typing import Any

from codedev.corpus.look import visible


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
            print_line((f"{name:<10}", "dim"), str(document[name]))
    place = ", ".join(f"{name} {raw[name]}" for name in ("file", "offset", "length", "member") if raw.get(name) is not None)
    print_line(("raw       ", "dim"), place or raw["why"])
    if raw["found"] and raw["text_at"] is None:
        print_line(("          ", "dim"), "the record does not hold this text verbatim; it begins:")
    if raw["found"]:
        print_line(("          ", "dim"), (raw["excerpt"], "dim"))
    elif place:
        print_line(("          ", "dim"), raw["why"])
