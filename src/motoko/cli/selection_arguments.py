"""The options by which commands choose runs."""

from __future__ import annotations

import contextlib
import sys

from motoko.cli.output import say

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Any

    from motoko.api.workflow import Workflow


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --constraints, --bd_study and --run_name."""
    parser.add_argument(
        "--constraints",
        action="append",
        default=[],
        metavar="C",
        help="such as 'state = FAILED, x > 2'; may be given several times, then all must hold",
    )
    parser.add_argument("--bd_study", "-bd", metavar="S", help="one study only")
    parser.add_argument("--run_name", "-n", metavar="N", help="one run name only")


@contextlib.contextmanager
def working(
    args: argparse.Namespace, *, writes: bool = True, tolerant: bool = False
) -> Iterator[Workflow]:
    """Open the workflow, having looked whether the constraints make sense.

    With ``writes`` its server runs meanwhile, and is stopped afterwards if that is what started it.
    ``tolerant``: studies may be wrong, which is said.
    """
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations import selection
    from motoko.operations.services import Services

    workflow = open_workflow(args, look=not writes, tolerant=tolerant)
    for warning in selection.warnings(selection.parse(workflow, args.bd_study, args.constraints)):
        say(f"warning: {warning}", file=sys.stderr)
    if writes:
        with Services(workflow, temporary=True):
            yield workflow
    else:
        with contextlib.closing(workflow):
            yield workflow


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """Return what was chosen, as keyword arguments of the functions that look for runs."""
    return {"study": args.bd_study, "constraints": args.constraints, "run_name": args.run_name}


def count(number: int) -> str:
    """Return ``1 run`` or ``7 runs``."""
    return f"{number} run" if number == 1 else f"{number} runs"


def retry_failed(workflow: Workflow, run_name: str) -> None:
    """Send the badly ended runs of a run name back to CREATED, and say how many there are."""
    from motoko.operations import bulk_edit

    records = bulk_edit.failed_runs(workflow, run_name=run_name)
    keys = bulk_edit.retry(workflow, records, "--retry-failed")
    say(f"{count(len(keys))} to be tried again", file=sys.stderr)
