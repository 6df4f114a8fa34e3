"""A plot as one static HTML page: the drawing, a summary of the data, and its origin."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from motoko.operations.plotting.metadata import shell_text, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.operations.plotting.drawing import Drawing
    from motoko.operations.plotting.metadata import PlotRecord

HEADER: Final = ("column", "kind", "values", "minimum", "mean", "maximum")
STYLE: Final = """
body { font-family: sans-serif; max-width: 60rem; margin: 1rem auto; padding: 0 1rem; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; }
th, td { padding: 0.2rem 0.8rem; text-align: left; border-bottom: 1px solid #ddd; }
dt { font-weight: bold; }
dd { margin: 0 0 0.5rem; overflow-wrap: anywhere; }
"""
PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
{record}
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<figure role="img" aria-label="{label}">
{svg}
</figure>
{notes}
<h2>Data</h2>
<table>
<thead>{header}</thead>
<tbody>
{rows}
</tbody>
</table>
<h2>Origin</h2>
<dl>
{origin}
</dl>
</body>
</html>
"""


def page(drawing: Drawing, record: PlotRecord, svg: bytes) -> bytes:
    """Return the page of a drawing in SVG."""
    text = svg.decode()
    columns = ", ".join(summary.name for summary in drawing.summary)
    origin = (
        ("Command", shell_text(record.command)),
        ("Transaction", record.read_at()),
        ("Software", record.software()),
        ("Digest of the scripts", record.scripts),
    )
    return PAGE.format(
        record=record.for_html(),
        title=_safe(drawing.title),
        style=STYLE,
        label=_safe(f"{record.spec.kind} plot of {columns}"),
        svg=text[text.index("<svg") :],
        notes="\n".join(f"<p>{_safe(note)}</p>" for note in drawing.notes),
        header=_row(HEADER, "th"),
        rows="\n".join(
            _row((s.name, s.kind, f"{s.count:,}", s.minimum, s.mean, s.maximum), "td")
            for s in drawing.summary
        ),
        origin="\n".join(f"<dt>{name}</dt><dd>{_safe(value)}</dd>" for name, value in origin),
    ).encode()


def _row(cells: Iterable[str] | Sequence[str], element: str) -> str:
    return f"<tr>{''.join(f'<{element}>{_safe(cell)}</{element}>' for cell in cells)}</tr>"


def _safe(text: str) -> str:
    return escape(visible(text))
