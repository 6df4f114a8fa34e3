"""Explain why a run exists, waits or failed, why an event does not fire, or what is waited for.

  motoko why                 what the workflow waits for now, most urgent first
  motoko why solve.7         who created the run, why it is in its state, what happens next
  motoko why solve           why runs of the study wait or failed; also solve.3-9, and --where
  motoko why refine          which clause of the event's condition fails, and the nearest run

The command starts no process. --json prints {"answers": list} on standard output. Each answer has
a "kind":

  run       "run", "run_name", "state", "lifecycle", "attempt", "why", "next": lists of reasons;
            "origins": list of {"run", reason}, from the run to the first one, "complete": whether
            that was reached; "directory", "stderr": its last lines
  event     "event", "run_name", "condition": its form, "once", "action", "fired": how often since
            the start, "orchestrator": null or {"host", "pid", "since"}, "reported": null or when
            it last reported, "why": list of reasons, "invalid": {study: error}, "studies": list of
            {"study", "constraint", "total", "examined", "complete", "clauses": list of
            {"clause", "survivors", "examined"}, "broken", "values", "nearest", "matching"}
  runs      "groups": list of {"study", "lifecycle", "number", "runs", "reason"}, "number" of
            examined runs, "left_out": number of older ones
  workflow  "run_names": list of {"run_name", "orchestrator", "reported", "stalled", "last_end",
            "counts", "groups", "number", "left_out", "events", "awaits"}, "quiet": other run names

A reason is {"code", "text", ...}: codes and their fields do not change with later versions, texts
may. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from motoko.operations.why import Answer, Explainer

HELP = "explain why runs wait or failed, and why events do not fire"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "subjects",
        nargs="*",
        metavar="WORD",
        help="a run, runs such as solve.3-9, a study, an event",
    )
    parser.set_defaults(motoko_names="subjects")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="C",
        help="explain runs that satisfy this constraint",
    )
    parser.add_argument("--run_name", "-n", metavar="N", help="explain this run name only")
    parser.add_argument("--json", action="store_true", help="print JSON, as described above")


def execute(args: argparse.Namespace) -> None:
    """Print the explanations."""
    import contextlib

    from motoko.cli.output import echo
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations.why import Explainer

    with (
        contextlib.closing(
            open_workflow(args, read_only=True, tolerant=True, direct=True)
        ) as workflow,
        workflow.store.autocommit_scope.read() as session,
    ):
        explainer = Explainer(workflow, session)
        answers = _answers(args, explainer)
        now = workflow.store.now()
    if args.json:
        from motoko.cli.why_json import answers_text

        sys.stdout.write(answers_text(answers, now) + "\n")
        return
    from motoko.operations.why_text import answer_lines

    for n, answer in enumerate(answers):
        echo("\n" * bool(n) + "\n".join(answer_lines(answer, now)))


def _answers(args: argparse.Namespace, explainer: Explainer) -> list[Answer]:
    if args.run_name is not None:
        explainer.check_run_name(args.run_name)
    if args.where:
        from motoko.cli.output import echo
        from motoko.operations.bulk_edit import RunSelection

        selection = RunSelection.parse_texts(args.subjects, args.where, args.run_name)
        for warning in selection.warnings(explainer.workflow):
            echo(f"warning: {warning}", file=sys.stderr)
        selection.check_exists(explainer.workflow)
        return explainer.selection(selection)
    if not args.subjects:
        return [explainer.workflow_answer(args.run_name)]
    return [answer for word in args.subjects for answer in explainer.word(word, args.run_name)]
