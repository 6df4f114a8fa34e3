"""Show the processes of the workflow, and the number of its runs by state; or show single runs.

  motoko info                the whole workflow
  motoko info solve          its processes and this study
  motoko info solve.7        one run in detail: values, attempts, quantities; also solve.3-9
  motoko info --where C      the runs that satisfy a constraint, as a table

It also lists
  - open firings of events that main no longer registers (they resume when it registers them again)
  - runs in a terminal state whose scripts have changed since (`motoko retry --changed` shows them)
  - the number of runs made with other job parameters than bd.yaml declares now (requests for the
    new parameters find them only after `motoko adopt`)
  - active runs that no launcher owns, and CREATED ones that none serves
  - the causes of the newest failed runs: the exit code, and the last line of standard error, in
    which numbers and paths do not matter

The command starts no process. --json prints one object on standard output:

  directory      text
  database       whether a database exists
  server         null, or {"pid", "suspended"}; a process is suspended after the signal SIGSTOP
  cut            null, or {"at", "bytes", "last_commit"}: when an unfinished commit was last cut off
                 the database file, its size, and the time of the commit before it
  removals       number of deleted runs whose directories must still be removed
  launchers      list of {"name", "host", "pid", "since", "generator", "studies", "machines",
                 "suspended", "differs", "problem", "directories"}: "differs" lists the differences
                 between its environment and the current one, "problem" is null or the error in its
                 configuration, "directories" is null or those of ended runs that it could not pack
                 or remove
  orchestrators  list of {"run_name", "host", "pid", "since", "suspended", "stalled"}; "stalled" is
                 null, or {"since", "waits": list of texts}
  ends           list of {"run_name", "at", "status", "kind", "reason", "started", "command",
                 "detached", "log"}: the last end of each run name, also if an orchestrator runs it
                 again; "status" is the exit status, "kind" is finished, failed, error, stalled,
                 interrupted or died, "log" may be null
  holds          list of {"study", "run_name", "ids", "since", "cause"}: the holds of runs; "study"
                 and "run_name" are null for all, "ids" is null unless single runs are held
  unregistered   the open firings listed above: list of {"run_name", "event", "opened", "runs"}
  failures       the newest failed runs of at most six run names, by cause: list of {"run_name",
                 "study", "outcome", "exit_code", "text", "number", "runs": the newest of them}
  notifier       null, or {"pid"}: the process that sends notifications
  notifications  {state: number} of the notifications, see `motoko notify --help`
  studies        list of {"name", "counts": {run name: {state: number}}, "outdated": {run name:
                 number of runs whose scripts have changed}, "remarks": {run name: {reason of
                 FINISHED runs: list of their ids}}, "changed": {difference between their
                 parameters and the declared ones: number of runs}, "unserved" and "unmanaged":
                 {reason: number of CREATED, of active runs}}
  runs           with --verbose, in each study: list of {"id", "job_id", "run_name", "state",
                 "lifecycle", "attempt", "exit_code", "reason", "waits", "job": {}, "fields": {}};
                 "reason" is the last reason recorded for the run, "waits" is null or why a run
                 that has not ended is not running

With --where, the object has the key "runs" only: such a list, with "run" and "study". For runs
named by their ids, each has these keys as well:

  created        time; "created_by": main, an event, a user or a script
  directory      text; "options": {}, "replicate": number
  attempts       list of {"number", "claimed", "started", "ended", "duration", "outcome", "cause",
                 "directory", "host", "interpreter", "python_version", "motoko_version",
                 "git_commit", "git_dirty", "scripts"}; null stands for what is unknown
  quantities     list of {"name", "steps", "last_step", "last_value"}
  history        list of {"time", "state", "attempt", "cause"}

Times are ISO 8601 in UTC. Floats that JSON lacks are the texts "nan", "inf" and "-inf", bytes
are hexadecimal text, sets are lists.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from motoko.cli.output import count_runs, echo

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from motoko.core.records import RunRecord
    from motoko.operations.overview import Overview
    from motoko.operations.run_details import RunDetails
    from motoko.views.failures import FailureGroup

HELP = "show the workflow's processes and its runs by state, or single runs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli.selection_arguments import add_options

    add_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, as described above")


def execute(args: argparse.Namespace) -> None:
    """Load the overview, the runs or the details, and print them."""
    import contextlib

    from motoko.cli.failures import failures_to_json, read_failures
    from motoko.cli.last_ends import ends_if_unreadable
    from motoko.cli.selection_arguments import open_for_selection, selection_of
    from motoko.cli.workflow_arguments import state_directory
    from motoko.core.run_keys import NAMED
    from motoko.operations.overview import load_overview
    from motoko.operations.run_details import load_details

    overview, runs, details = None, None, None
    failures: Mapping[str, Sequence[FailureGroup]] = {}
    only_data = args.json or args.runs
    shown = contextlib.nullcontext() if only_data else ends_if_unreadable(state_directory(args))
    with shown, open_for_selection(args, writes=False, tolerant=True) as workflow:
        selection = selection_of(args)
        studies = selection.studies(workflow)
        whole = [name for name, ids in studies.items() if not ids]
        if selection.constraints:
            runs = selection.find(workflow)
        elif whole:
            most = None if args.json else NAMED
            overview = load_overview(
                workflow, whole, run_name=args.run_name, runs=args.verbose, named=most
            )
            if overview.database:
                failures = read_failures(workflow, overview)
        if selection.names_ids and runs is None:
            named = [record for record in selection.find(workflow) if record.study not in whole]
            details = load_details(workflow, named)
    if args.json:
        from motoko.cli.json_output import details_to_json, overview_to_json, run_to_json, text_of

        content = {}
        if overview is not None:
            content = overview_to_json(overview, runs=args.verbose)
            content["failures"] = failures_to_json(failures)
        if runs is not None:
            content["runs"] = [run_to_json(record) for record in runs]
        elif details is not None:
            content["runs"] = [details_to_json(found) for found in details]
        sys.stdout.write(text_of(content) + "\n")
        return
    _print(overview, runs, details, failures, verbose=args.verbose)


def _print(
    overview: Overview | None,
    runs: Sequence[RunRecord] | None,
    details: Sequence[RunDetails] | None,
    failures: Mapping[str, Sequence[FailureGroup]],
    *,
    verbose: bool,
) -> None:
    from motoko.cli.failures import print_failures
    from motoko.cli.run_details import print_details
    from motoko.cli.tables import print_overview, print_runs

    if overview is not None:
        print_overview(overview, runs=verbose)
        print_failures(failures)
    if runs is not None:
        print_runs(runs)
        echo(f"{count_runs(len(runs))} match" + ("es" if len(runs) == 1 else ""))
    for number, found in enumerate(details or ()):
        if number or overview is not None:
            echo("")
        print_details(found)
