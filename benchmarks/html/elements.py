"""Pieces of HTML that the sections are made of; whatever is text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def section(title: str, inner: str) -> str:
    """A section under its title."""
    return f"<section><h2>{escape(title)}</h2>{inner}</section>"


def dim(words: str) -> str:
    """A note."""
    return f'<p class="dim">{escape(words)}</p>'


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    words: Sequence[int] = (),
    raw: Sequence[int] = (),
    caption: str = "",
    kind: str = "",
) -> str:
    """A table that scrolls by itself where it is too wide.

    Args:
        head: names of the columns.
        rows: cells, as text.
        words: columns of prose.
        raw: columns that hold HTML made here.
        caption: above it.
        kind: class of its style.
    """
    top = "".join(
        f'<th class="words">{escape(cell)}</th>' if i in words else f"<th>{escape(cell)}</th>"
        for i, cell in enumerate(head)
    )
    lines = []
    for row in rows:
        cells = []
        for i, cell in enumerate(row):
            inner = cell if i in raw else escape(cell)
            cells.append(f'<td class="words">{inner}</td>' if i in words else f"<td>{inner}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table class="{kind}">{title}<thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def bar(share: float, kind: str) -> str:
    """A bar as long as a share in [0, 1]; kind is the class of its colour."""
    width = 100 * min(max(share, 0.0), 1.0)
    return f'<div class="track"><i class="{kind}" style="width:{width:.1f}%"></i></div>'
