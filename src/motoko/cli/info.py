"""Show who works for the workflow, and how many runs are in which state.

It names the open firings of events that main does not register any more, which continue when it
does; the ended runs whose scripts have changed since, which `motoko retry --changed` tries again;
and how many runs were made when bd.yaml declared other parameters, which new requests do not find.

Nothing is started by looking. --json prints one object on standard output:

  directory      text
  database       whether there is one
  server         null, or {"pid"}
  cut            null, or {"at", "bytes", "last_commit"}: when how much was last cut off the
                 database file, which a commit that was not finished had left, and when the last one
                 before it was made
  removals       number of deleted runs with directories that are still to be removed
  launchers      list of {"name", "host", "pid", "since", "generator", "studies", "machines",
                 "differs", "problem"}: "differs" names what of its environment is not as here,
                 "problem" is null, or what is wrong with its configuration
  orchestrators  list of {"run_name", "host", "pid", "since", "stalled"}; "stalled" is null, or
                 {"since", "waits": list of texts}
  unregistered   the open firings named above: list of {"run_name", "event", "opened", "runs"}
  studies        list of {"name", "counts": {run name: {state: number}}, "outdated": {run name:
                 list of ids of runs whose scripts have changed}, "remarks": {run name: {what is to
                 be said of FINISHED runs: list of their ids}}, "changed": {how their parameters
                 differ from those declared now: number of runs}}; with --verbose also "runs": list
                 of {"id", "job_id", "run_name", "state", "lifecycle", "attempt", "exit_code",
                 "reason", "waits", "job": {}, "fields": {}}: "reason" is what was said of the run
                 last, "waits" null, or why one that has not ended does not run

Times are ISO 8601 in UTC. Floats that JSON lacks are the texts "nan", "inf" and "-inf", bytes
are hexadecimal text, sets are lists.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

HELP = "show who works, and how many runs are in which state"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--bd_study", "-bd", metavar="S", help="one study only")
    parser.add_argument("--json", action="store_true", help="print JSON, as described above")


def execute(args: argparse.Namespace) -> int:
    """Look at the workflow and print what is there."""
    from motoko.cli import exit_status
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations.overview import load_overview

    workflow = open_workflow(args, look=True, tolerant=True)
    try:
        found = load_overview(workflow, study=args.bd_study, runs=args.verbose)
    finally:
        workflow.close()
    if args.json:
        from motoko.cli.json_output import overview_text

        sys.stdout.write(overview_text(found, runs=args.verbose) + "\n")
    else:
        from motoko.cli.tables import print_overview

        print_overview(found, runs=args.verbose)
    return exit_status.OK
