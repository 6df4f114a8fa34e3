"""The options that select runs."""

from __future__ import annotations

import contextlib
import sys

from motoko.cli.output import count_runs, echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from motoko.api.workflow import Workflow
    from motoko.operations.bulk_edit import RunSelection


RUNS = "STUDY, STUDY.7, STUDY.3-9 or STUDY.3-9,12"


def add_options(parser: argparse.ArgumentParser, default: str | None = "all") -> None:
    """Add RUNS, --where, --bd_study and --run_name. ``default``: the runs without RUNS."""
    without = "" if default is None else f" (default: {default})"
    parser.add_argument(
        "runs", nargs="*", metavar="RUNS", help=f"select these runs: {RUNS}{without}"
    )
    parser.add_argument(
        "--where",
        "--constraints",
        dest="constraints",
        action="append",
        default=[],
        metavar="C",
        help="select runs by a constraint such as 'state = FAILED, x > 2'; if repeated, all must "
        "hold",
    )
    parser.add_argument("--bd_study", "-bd", metavar="S", help="the same as the argument S")
    parser.add_argument("--run_name", "-n", metavar="N", help="select runs of this run name only")
    parser.set_defaults(motoko_names="runs")


def selection_of(args: argparse.Namespace) -> RunSelection:
    """Return the selection that the arguments describe."""
    from motoko.operations.bulk_edit import RunSelection

    if args.bd_study is not None and args.runs:
        args.motoko_parser.error("name runs either as arguments or with --bd_study, not both")
    runs = args.runs if args.bd_study is None else [args.bd_study]
    return RunSelection.parse_texts(runs, args.constraints, args.run_name)


@contextlib.contextmanager
def open_for_selection(
    args: argparse.Namespace, *, writes: bool = True, tolerant: bool = False
) -> Iterator[Workflow]:
    """Open the workflow, and check that the constraints are valid and the named runs exist.

    With ``writes``, run its server, too. If ``tolerant``, warn about studies with an invalid
    configuration.
    """
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.launcher.services import Services

    workflow = open_workflow(args, read_only=not writes, tolerant=tolerant)
    selection = selection_of(args)
    for warning in selection.warnings(workflow):
        echo(f"warning: {warning}", file=sys.stderr)
    with Services(workflow, temporary=True) if writes else contextlib.closing(workflow):
        selection.check_exists(workflow)
        yield workflow


def retry_failed(workflow: Workflow, run_name: str) -> None:
    """Send the failed runs of a run name back to CREATED, and print their number by state."""
    from collections import Counter

    from motoko.operations import bulk_edit

    records = bulk_edit.failed_runs(workflow, bulk_edit.RunSelection(run_name=run_name))
    keys = set(bulk_edit.retry(workflow, records, "--retry-failed"))
    states = Counter(record.lifecycle.value for record in records if record.key in keys)
    counts = ", ".join(f"{number} {state}" for state, number in states.most_common())
    echo(f"{count_runs(len(keys))} to retry" + (f" ({counts})" if counts else ""), file=sys.stderr)
