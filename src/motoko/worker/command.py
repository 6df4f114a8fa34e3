"""``motoko-worker``: what a run's script does through ``run`` and ``job``, for shell scripts.

Parsed by hand: a script may call it in a loop, argparse doubles its start, and a value such as
``-1e-3`` is no option.
"""

from __future__ import annotations

import sys

from motoko.worker.attempt_context import AttemptContext
from motoko.worker.handles import Job, Run
from motoko.worker.json_codec import as_text
from motoko.worker.validation import WorkerError
from motoko.worker.values import converted, json_value, read_number, read_text

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

USAGE = """\
usage: motoko-worker COMMAND ...   (inside a run)

  push NAME VALUE [--step N]   keep a number, or a JSON list of numbers, as a quantity
  set [--text] FIELD VALUE     set a field of the run, in the type that bd.yaml declares;
                               without one JSON if VALUE is JSON, a number, else text
                               (--text: always as text)
  get NAME                     print a job parameter or a field of the run
                               (job.NAME, run.NAME where both have it)
  state LABEL                  give the run a label
  start | finish | fail [REASON]
                               note the start; ask for an outcome once the script has ended

exit status: 0 done, 1 not possible, 2 wrong usage
"""


class UsageError(Exception):
    """The command line cannot be understood."""


def main(arguments: Sequence[str]) -> int:
    """Do what ``arguments`` say for the attempt of this process; return the exit status."""
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
        step = _take_step(rest)
        name, value = _take(command, rest, "NAME", "VALUE")
        run.push_quantity(name, _number(value), step)
    elif command == "set":
        as_given = rest[:1] == ["--text"]
        field, text = _take(command, rest[1:] if as_given else rest, "FIELD", "VALUE")
        attempt.set_field(field, text, converted if as_given else read_text)
    elif command == "get":
        (name,) = _take(command, rest, "NAME")
        sys.stdout.write(as_text(_get(name, run, job)) + "\n")
    elif command == "state":
        (run.state,) = _take(command, rest, "LABEL")
    elif command == "fail":
        run.fail(*(_take(command, rest, "REASON") if rest else ()))
    elif command in ("start", "finish"):
        _take(command, rest)
        run.start() if command == "start" else run.finish()
    else:
        raise UsageError(f"there is no command {command!r}")


def _take(command: str, given: list[str], *names: str) -> list[str]:
    if len(given) != len(names):
        needs = " and ".join(names) or "nothing more"
        raise UsageError(f"{command} takes {needs}, not {' '.join(map(repr, given)) or 'nothing'}")
    return given


def _take_step(rest: list[str]) -> int:
    """Remove ``--step N`` or ``--step=N`` from ``rest`` and return N, or 0."""
    for place, argument in enumerate(rest):
        if argument == "--step" or argument.startswith("--step="):
            _, equals, text = argument.partition("=")
            if not equals:
                text = rest[place + 1] if place + 1 < len(rest) else ""
            del rest[place : place + (1 if equals else 2)]
            try:
                return int(text)
            except ValueError:
                raise UsageError(f"--step takes a whole number, not {text!r}") from None
    return 0


def _number(text: str) -> Any:
    value = read_number(text)
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
