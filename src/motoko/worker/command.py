"""``motoko-worker``: the functions of ``run`` and ``job`` for shell scripts.

It parses its arguments itself because scripts call it in loops, argparse doubles its start, and
values such as ``-1e-3`` are not options.
"""

from __future__ import annotations

import sys

from motoko.worker.attempt_context import AttemptContext
from motoko.worker.handles import Job, Run
from motoko.worker.json_codec import as_text
from motoko.worker.validation import WorkerError
from motoko.worker.values import convert_to_type, json_value, parse_number, read_text

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

USAGE = """\
usage: motoko-worker COMMAND ...   (inside a run)

  push NAME VALUE [--step N]   store a number, or a JSON list of numbers, as a quantity
  set [--text] FIELD VALUE     set a field of the run, in the type declared in bd.yaml;
                               an undeclared one is JSON, a number, or else text
                               (--text: always text)
  get NAME                     print a job parameter or a field of the run
                               (job.NAME, run.NAME where both have it)
  state LABEL                  set the run's label
  start | finish | fail [REASON]
                               record the start; request an outcome for the end of the script

exit status: 0 success, 1 failure, 2 usage error
"""


class UsageError(Exception):
    """An invalid command line."""


def main(arguments: Sequence[str]) -> int:
    """Execute a command for the attempt of this process; return the exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        (sys.stdout if arguments else sys.stderr).write(USAGE)
        return 0 if arguments else 2
    attempt = AttemptContext()
    try:
        _dispatch(arguments[0], list(arguments[1:]), attempt)
    except UsageError as error:
        sys.stderr.write(f"motoko-worker: {error}\n\n{USAGE}")
        return 2
    except (WorkerError, TypeError, ValueError) as error:
        sys.stderr.write(f"motoko-worker: {error}\n")
        return 1
    return 0


def _dispatch(command: str, rest: list[str], attempt: AttemptContext) -> None:
    run, job = Run(attempt), Job(attempt)
    if command == "push":
        step = _pop_step(rest)
        name, value = _parse(command, rest, "NAME", "VALUE")
        run.push_quantity(name, _number(value), step)
    elif command == "set":
        as_given = rest[:1] == ["--text"]
        field, text = _parse(command, rest[1:] if as_given else rest, "FIELD", "VALUE")
        attempt.set_field(field, text, convert_to_type if as_given else read_text)
    elif command == "get":
        (name,) = _parse(command, rest, "NAME")
        sys.stdout.write(as_text(_get(name, run, job)) + "\n")
    elif command == "state":
        (run.state,) = _parse(command, rest, "LABEL")
    elif command == "fail":
        run.fail(*(_parse(command, rest, "REASON") if rest else ()))
    elif command in ("start", "finish"):
        _parse(command, rest)
        run.start() if command == "start" else run.finish()
    else:
        raise UsageError(f"unknown command {command!r}")


def _parse(command: str, given: list[str], *names: str) -> list[str]:
    if len(given) != len(names):
        needs = " and ".join(names) or "nothing more"
        raise UsageError(f"{command} takes {needs}, not {' '.join(map(repr, given)) or 'nothing'}")
    return given


def _pop_step(rest: list[str]) -> int:
    """Remove ``--step N`` or ``--step=N`` from ``rest`` and return N, or 0."""
    for index, argument in enumerate(rest):
        if argument == "--step" or argument.startswith("--step="):
            _, equals, text = argument.partition("=")
            if not equals:
                text = rest[index + 1] if index + 1 < len(rest) else ""
            del rest[index : index + (1 if equals else 2)]
            try:
                return int(text)
            except ValueError:
                raise UsageError(f"--step takes a whole number, not {text!r}") from None
    return 0


def _number(text: str) -> Any:
    value = parse_number(text)
    if not isinstance(value, str):
        return value
    try:
        return json_value(text)
    except ValueError:
        raise UsageError(f"{text!r} is neither a number nor a JSON list of numbers") from None


def _get(name: str, run: Run, job: Job) -> Any:
    owner, _, rest = name.partition(".")
    if rest and owner in ("job", "jobs"):
        return job[rest]
    if rest and owner in ("run", "runs"):
        return run[rest]
    if name in job and name in run:
        raise WorkerError(
            f"both the job and the run have {name!r}",
            hint=f"Ask for job.{name} or run.{name}.",
        )
    return job[name] if name in job else run[name]
