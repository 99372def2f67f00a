"""Rows of a table as Markdown. Cells and rows are marked in captured text by two control characters, which no source holds."""

from __future__ import annotations

CELL, ROW = "\x1f", "\x1e"


def rows(text: str) -> str:
    """A Markdown table. Cells are not escaped, so that a bar in a formula stays as it is."""
    lines = [[" ".join(cell.split()) for cell in row.split(CELL)] for row in text.split(ROW)]
    lines = [cells for cells in lines if any(cells)]
    if not lines:
        return ""
    made = ["| " + " | ".join(cells) + " |" for cells in lines]
    if len(lines) > 1:
        made.insert(1, "|" + " --- |" * len(lines[0]))
    return "\n".join(made)


def flat(text: str) -> str:
    """A table inside a cell, in one line."""
    return "; ".join(" ".join(row.replace(CELL, ", ").split()) for row in text.split(ROW) if row.strip())
