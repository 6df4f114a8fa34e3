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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --constraints, --bd_study and --run_name."""
    parser.add_argument(
        "--constraints",
        action="append",
        default=[],
        metavar="C",
        help="select runs by a constraint such as 'state = FAILED, x > 2'; if repeated, all must "
        "hold",
    )
    parser.add_argument("--bd_study", "-bd", metavar="S", help="select runs of this study only")
    parser.add_argument("--run_name", "-n", metavar="N", help="select runs of this run name only")


def selection_of(args: argparse.Namespace) -> RunSelection:
    """Return the selection that the arguments describe."""
    from motoko.operations.bulk_edit import RunSelection

    return RunSelection(args.bd_study, args.constraints, args.run_name)


@contextlib.contextmanager
def open_for_selection(
    args: argparse.Namespace, *, writes: bool = True, tolerant: bool = False
) -> Iterator[Workflow]:
    """Open the workflow, and check the constraints.

    With ``writes``, run its server, too. If ``tolerant``, warn about studies with an invalid
    configuration.
    """
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations.services import Services

    workflow = open_workflow(args, read_only=not writes, tolerant=tolerant)
    for warning in selection_of(args).warnings(workflow):
        echo(f"warning: {warning}", file=sys.stderr)
    with Services(workflow, temporary=True) if writes else contextlib.closing(workflow):
        yield workflow


def retry_failed(workflow: Workflow, run_name: str) -> None:
    """Send the failed runs of a run name back to CREATED, and print their number."""
    from motoko.operations import bulk_edit

    records = bulk_edit.failed_runs(workflow, bulk_edit.RunSelection(run_name=run_name))
    keys = bulk_edit.retry(workflow, records, "--retry-failed")
    echo(f"{count_runs(len(keys))} to retry", file=sys.stderr)
