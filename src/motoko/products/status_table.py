"""A table of steps with the status of their products."""

from __future__ import annotations

import sys
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from motoko.products.steps import StepSet

HEADINGS = ("Step", "Produces", "Requires", "Status")
NOTHING = "—"
COLOURS = {"cached": "#060", "on_disk": "#063"}
OTHER = "#888"

Row: TypeAlias = "tuple[str, str, str, str]"


def show(title: str, steps: StepSet, status: Callable[[str], str]) -> None:
    """Display the table as HTML in a notebook; elsewhere write it to standard output."""
    found = rows(steps, status)
    notebook = _notebook()
    if notebook is None:
        sys.stdout.write(as_text(title, found))
    else:
        notebook.display(notebook.HTML(as_html(title, found)))


def rows(steps: StepSet, status: Callable[[str], str]) -> list[Row]:
    """Return one row for each product, sorted by step, and for each step without products."""
    found: list[Row] = []
    for step in sorted(steps.listed, key=lambda one: one.name):
        requires = ", ".join(step.requires) or NOTHING
        found += [(step.name, name, requires, status(name)) for name in step.produces]
        if not step.produces:
            found.append((step.name, NOTHING, requires, "(no product)"))
    return found


def as_text(title: str, found: Sequence[Row]) -> str:
    """Return the table as text."""
    widths = [max(map(len, column)) for column in zip(HEADINGS, *found, strict=True)]
    dashes = ["-" * width for width in widths[:3]] + ["-" * len(HEADINGS[3])]
    lines = [f"{title} — runner status"]
    for row in (HEADINGS, dashes, *found):
        padded = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False)]
        lines.append("  " + "  ".join([*padded, row[3]]))
    return "\n".join(lines) + "\n"


def as_html(title: str, found: Sequence[Row]) -> str:
    """Return the table as HTML."""
    heading = "text-align:left; padding:4px 12px 4px 0; border-bottom:2px solid #ccc;"
    cell = "padding:2px 12px 2px 0;"
    head = "".join(f'<th style="{heading}">{name}</th>' for name in HEADINGS)
    body = "".join(
        "<tr>"
        f'<td style="{cell} font-family:monospace;">{escape(step)}</td>'
        f'<td style="{cell} font-family:monospace; color:#555;">{escape(product)}</td>'
        f'<td style="{cell} font-family:monospace; color:#555;">{escape(requires)}</td>'
        f'<td style="{cell} color:{COLOURS.get(status, OTHER)}; font-weight:bold;">'
        f"{escape(status)}</td>"
        "</tr>"
        for step, product, requires, status in found
    )
    return (
        f"<h4>{escape(title)} — runner status</h4>"
        f'<table style="border-collapse:collapse;"><tr>{head}</tr>{body}</table>'
    )


def _notebook() -> Any:
    """Return IPython's display module, or None outside a notebook."""
    try:
        package, display = map(import_module, ("IPython", "IPython.display"))
    except ImportError:
        return None
    get_shell = getattr(package, "get_ipython", None)
    if get_shell is None:
        return display
    shell = get_shell()
    in_terminal = type(shell).__name__ == "TerminalInteractiveShell"
    return None if shell is None or in_terminal else display
