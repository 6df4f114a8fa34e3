"""Draw results: columns of the runs of a study, or one of their quantities, in a file.

X and Y are job parameters, run fields or properties such as `duration`. The kind is by default hist
for one column, scatter for two, and parallel (axes) for more. With --kind quantity, X is the name
of a quantity: a line for each run.

Runs without a value are left out and counted. More than 5,000 points are drawn in bins, and the
figure says so. The file's metadata hold the command, the transaction that was read, and the
versions of the code; --reproduce reads them and draws the same data again.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

    from motoko.api.workflow import Workflow
    from motoko.operations.plotting.files import WrittenPlot
    from motoko.operations.plotting.spec import PlotSpec

HELP = "draw results in a PNG, SVG or HTML file"
KINDS = ("scatter", "line", "hist", "parallel", "quantity")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "names", nargs="*", metavar="STUDY X Y", help="the study and the columns to draw"
    )
    parser.set_defaults(motoko_names="names")
    parser.add_argument("--color", "-c", metavar="C", help="colour by this column")
    parser.add_argument(
        "--by", metavar="B", help="draw a line, or points of one shape, for each value of B"
    )
    parser.add_argument("--kind", "-k", choices=KINDS, help="the kind of plot")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="C",
        help="select runs by a constraint such as 'x > 2'; if repeated, all must hold",
    )
    parser.add_argument("--run_name", "-n", metavar="N", help="select runs of this run name only")
    parser.add_argument("--logx", action="store_true", help="draw X on a logarithmic scale")
    parser.add_argument("--logy", action="store_true", help="draw Y on a logarithmic scale")
    parser.add_argument(
        "--size", type=_size, metavar="WxH", help="width and height in inches (default: 6.4x4.8)"
    )
    parser.add_argument(
        "--output",
        "-o",
        metavar="FILE",
        help="the file, which ends with .png, .svg or .html (default: STUDY-X-Y.png)",
    )
    parser.add_argument(
        "--reproduce", metavar="FILE", help="draw the plot of this file again, from the same data"
    )


def _size(text: str) -> tuple[float, float]:
    width, _, height = text.partition("x")
    return float(width), float(height)


_size.__name__ = "size"  # argparse names it in errors


def execute(args: argparse.Namespace) -> None:
    """Draw the plot and print the name of its file."""
    import contextlib
    import sys
    from pathlib import Path

    from motoko.cli.output import echo
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations.plotting.files import reproduce_plot

    spec = _spec(args)
    output = None if args.output is None else Path(args.output)
    with contextlib.closing(open_workflow(args, read_only=True, tolerant=True)) as workflow:
        if spec is None:
            file = Path(args.reproduce)
            plot = reproduce_plot(workflow, file, output)
            same = {True: "identical to", False: "not identical to", None: "from the data of"}
            notes = [*plot.notes, f"{same[plot.identical]} {file}"]
        else:
            plot = _draw(args, workflow, spec, output)
            notes = [*plot.notes]
    for note in notes:
        echo(f"note: {note}", file=sys.stderr)
    echo(plot.path)


def _spec(args: argparse.Namespace) -> PlotSpec | None:
    """Return the plot that the arguments describe, None with --reproduce."""
    from motoko.operations.plotting.spec import DEFAULT_SIZE, PlotSpec, default_kind

    if args.reproduce is not None:
        options = (args.color, args.by, args.kind, args.run_name, args.size, args.logx, args.logy)
        if any(options) or args.names or args.where:
            args.motoko_parser.error("--reproduce takes no other argument than --output")
        return None
    if len(args.names) < 2:
        args.motoko_parser.error("give a study and one or more columns, or --reproduce FILE")
    study, *columns = args.names
    from motoko.errors import PlotError

    try:
        return PlotSpec(
            study,
            args.kind or default_kind(columns),
            tuple(columns),
            color=args.color,
            by=args.by,
            where=tuple(args.where),
            run_name=args.run_name,
            logx=args.logx,
            logy=args.logy,
            size=args.size or DEFAULT_SIZE,
        )
    except PlotError as error:
        raise SystemExit(args.motoko_parser.error(error.message)) from None


def _draw(
    args: argparse.Namespace, workflow: Workflow, spec: PlotSpec, output: object
) -> WrittenPlot:
    import sys
    from pathlib import Path

    from motoko.cli.output import echo
    from motoko.operations.plotting.files import default_name, draw_plot, selection_of

    for warning in selection_of(spec).warnings(workflow):
        echo(f"warning: {warning}", file=sys.stderr)
    path = Path(default_name(spec)) if output is None else output
    assert isinstance(path, Path)
    return draw_plot(workflow, spec, ["motoko", *args.motoko_argv], path)
