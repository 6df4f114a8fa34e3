"""Errors of commands with ``--json``, as one JSON object on standard output."""

from __future__ import annotations

import json
import re
import sys

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from typing import Any

USAGE = "usage"  # the code of an invalid command line
UNEXPECTED = "unexpected-error"  # the code of an exception that is not Motoko's


def print_error(
    code: str, message: str, *, place: dict[str, Any] | None = None, fix: str | None = None
) -> None:
    """Print an error. ``place`` has a file and a line or None; ``fix`` suggests a remedy."""
    content = {"code": code, "message": message, "place": place, "fix": fix}
    sys.stdout.write(json.dumps({"error": content}, indent=2) + "\n")
    sys.stdout.flush()  # a full disk is an error here, not at exit


def print_exception(error: Exception) -> None:
    """Print an exception; its code is the name of its class."""
    from motoko.errors import WRITE_HINTS, ConfigError, MotokoError
    from motoko.orchestrator.error_summary import summary

    if isinstance(error, ConfigError):
        line = "" if error.line is None else f":{error.line}"
        place = None if error.file is None else {"file": error.file, "line": error.line}
        message = error.message.removeprefix(f"{error.file}{line}: ")
        print_error(error_code(type(error)), message, place=place, fix=error.hint)
    elif isinstance(error, MotokoError):
        code = error_code(type(error))
        print_error(code, error.message, place=_user_place(error), fix=error.hint)
    elif isinstance(error, OSError) and (error.errno or 0) in WRITE_HINTS:
        name = error.filename
        place = {"file": name, "line": None} if isinstance(name, str) else None
        message = error.strerror or str(error)
        print_error("not-writable", message, place=place, fix=WRITE_HINTS[error.errno or 0])
    else:
        print_error(UNEXPECTED, summary(error), place=_user_place(error))


def error_code(kind: type[Exception]) -> str:
    """Return the code of an error: the name of its class in kebab case."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", kind.__name__).lower()


def _user_place(error: Exception) -> dict[str, Any] | None:
    """Return the last line of the user's code in a traceback, None without one."""
    import traceback

    from motoko.orchestrator.error_summary import is_internal

    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if not is_internal(frame):
            return {"file": frame.f_code.co_filename, "line": line}
    return None
