"""Show the processes of the workflow, and the number of its runs by state.

It also lists
  - open firings of events that main no longer registers (they resume when it registers them again)
  - runs in a terminal state whose scripts have changed since (`motoko retry --changed` reruns them)
  - the number of runs made with other job parameters than bd.yaml declares now (requests for the
    new parameters do not find them)

The command starts no process. --json prints one object on standard output:

  directory      text
  database       whether a database exists
  server         null, or {"pid"}
  cut            null, or {"at", "bytes", "last_commit"}: when an unfinished commit was last cut off
                 the database file, its size, and the time of the commit before it
  removals       number of deleted runs whose directories must still be removed
  launchers      list of {"name", "host", "pid", "since", "generator", "studies", "machines",
                 "differs", "problem"}: "differs" lists the differences between its environment and
                 the current one, "problem" is null or the error in its configuration
  orchestrators  list of {"run_name", "host", "pid", "since", "stalled"}; "stalled" is null, or
                 {"since", "waits": list of texts}
  unregistered   the open firings listed above: list of {"run_name", "event", "opened", "runs"}
  studies        list of {"name", "counts": {run name: {state: number}}, "outdated": {run name:
                 list of ids of runs whose scripts have changed}, "remarks": {run name: {reason
                 of FINISHED runs: list of their ids}}, "changed": {difference between their
                 parameters and the declared ones: number of runs}}
  runs           with --verbose, in each study: list of {"id", "job_id", "run_name", "state",
                 "lifecycle", "attempt", "exit_code", "reason", "waits", "job": {}, "fields": {}};
                 "reason" is the last reason recorded for the run, "waits" is null or why a run
                 that has not ended is not running

Times are ISO 8601 in UTC. Floats that JSON lacks are the texts "nan", "inf" and "-inf", bytes
are hexadecimal text, sets are lists.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

HELP = "show the workflow's processes, and its runs by state"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--bd_study", "-bd", metavar="S", help="show this study only")
    parser.add_argument("--json", action="store_true", help="print JSON, as described above")


def execute(args: argparse.Namespace) -> None:
    """Load the overview and print it."""
    import contextlib

    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations.overview import load_overview

    with contextlib.closing(open_workflow(args, read_only=True, tolerant=True)) as workflow:
        found = load_overview(workflow, study=args.bd_study, runs=args.verbose)
    if args.json:
        from motoko.cli.json_output import overview_text

        sys.stdout.write(overview_text(found, runs=args.verbose) + "\n")
    else:
        from motoko.cli.tables import print_overview

        print_overview(found, runs=args.verbose)
