"""Show the targets and the last notifications of the workflow, or test the targets.

Targets are the commands and webhooks below `notify:` in motoko.yaml. With --test, each gets a test
message at once; the exit status is 1 if one failed.

--json prints one object on standard output:

  notifier       null, or {"pid"}: the process that sends notifications
  watched        number of executions whose end has not been handled yet
  targets        list of {"target", "on": list of events, "timeout": seconds}
  notifications  list of {"at", "run_name", "event", "target", "state", "attempts", "message",
                 "problem"}: "state" is sending, sent, waiting (to be sent again) or failed,
                 "run_name" is null for a launcher, "problem" is null or the last one

With --test, it prints {"targets": list of {"target", "sent", "problem"}}.
"""

from __future__ import annotations

import sys

from motoko.cli.output import ExitStatus, echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    from motoko.config.notify_targets import NotifyTarget
    from motoko.operations.notifications import NotificationOverview
    from motoko.storage.notifications import StoredNotification

HELP = "show notifications and their targets, or test the targets"
LAST = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--test", action="store_true", help="send a test message to every target")
    parser.add_argument("--run_name", "-n", metavar="N", help="show those of this run name only")
    parser.add_argument("--json", action="store_true", help="print JSON, as described above")


def execute(args: argparse.Namespace) -> int:
    """Print the notifications, or the results of a test."""
    import contextlib

    from motoko.cli.workflow_arguments import open_store
    from motoko.operations.notifications import configured_targets, read_overview

    if args.test:
        return _test(args)
    with contextlib.closing(open_store(args)) as store:
        targets = configured_targets(store.workflow_file.parent)
        found = read_overview(store, args.run_name)
    if args.json:
        _print_json(_to_json(targets, found))
    else:
        _print(targets, found)
    return ExitStatus.OK


def _test(args: argparse.Namespace) -> int:
    from motoko.cli.workflow_arguments import workflow_file
    from motoko.operations.notifications import send_test

    results = send_test(workflow_file(args.workflow_dir).parent.resolve())
    if args.json:
        content = [
            {"target": target.name, "sent": result.sent, "problem": result.problem or None}
            for target, result in results
        ]
        _print_json({"targets": content})
    else:
        for target, result in results:
            echo(f"{target.name}: {'sent' if result.sent else f'failed: {result.problem}'}")
    return ExitStatus.OK if all(result.sent for _, result in results) else ExitStatus.ERROR


def _print(targets: Sequence[NotifyTarget], found: NotificationOverview) -> None:
    for target in targets:
        echo(f"{target.name}: {', '.join(map(str, target.on))}")
    if not targets:
        echo("motoko.yaml has no notify:, so no notification is sent")
    if found.notifier is not None:
        echo(f"the notifier is process {found.notifier}")
    elif found.watched:
        echo("no notifier is running; the next orchestrator starts one")
    for entry in found.entries[-LAST:]:
        echo(entry_line(entry))


def entry_line(entry: StoredNotification) -> str:
    """Return a description of a recorded notification on one line."""
    from motoko.runtime.ports import utc_text

    tries = "" if entry.attempts == 1 else f" after {entry.attempts} attempts"
    problem = f" ({entry.problem})" if entry.problem else ""
    return f"{utc_text(entry.at)} {entry.state}{tries}: {entry.target}: {entry.message}{problem}"


def _to_json(targets: Sequence[NotifyTarget], found: NotificationOverview) -> dict[str, Any]:
    from motoko.runtime.ports import utc

    return {
        "notifier": None if found.notifier is None else {"pid": found.notifier},
        "watched": found.watched,
        "targets": [
            {"target": one.name, "on": list(map(str, one.on)), "timeout": one.timeout}
            for one in targets
        ],
        "notifications": [
            {
                "at": utc(entry.at).isoformat(),
                "run_name": entry.key.run_name or None,
                "event": entry.key.event,
                "target": entry.target,
                "state": entry.state.value,
                "attempts": entry.attempts,
                "message": entry.message,
                "problem": entry.problem or None,
            }
            for entry in found.entries
        ],
    }


def _print_json(content: dict[str, Any]) -> None:
    from motoko.cli.json_output import text_of

    sys.stdout.write(text_of(content) + "\n")
