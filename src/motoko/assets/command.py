"""The command line: ``motoko assets`` and ``python -m motoko.assets``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import inspect
import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from motoko.assets.build_context import IN_TASK
from motoko.assets.helpers import graph, logcfg, tasknames
from motoko.errors import (
    CycleError,
    DuplicateNodeError,
    GraphError,
    TaskError,
    UnknownNodeError,
    suggestion,
)
from motoko.version import __version__

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

INTERRUPTED = 130
INTERNAL = ("<frozen ", str(Path(__file__).parents[1]))  # files that are not the user's code
MODULE_HINT = "Give the name of a module, or the path of its file."
# Errors in a task function, even if its action raises them.
TASK_FUNCTION_ERRORS = (CycleError, DuplicateNodeError, TaskError)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Execute the command line (by default of the process); SystemExit on errors."""
    status = run(sys.argv[1:] if arguments is None else arguments, prog or _prog())
    if status:
        raise SystemExit(status)


def run(arguments: Sequence[str], prog: str) -> int:
    """Execute the command line ``arguments``; return the exit status."""
    options = parser(prog).parse_args(arguments)
    logcfg(verbose=options.verbose)
    try:
        return _execute(options)
    except GraphError as error:
        return _log_error(error, str(error))
    except Exception as error:
        notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(IN_TASK)]
        if not notes:
            raise  # not raised by a task
        return _log_error(error, f"{notes[0]}: {_describe(error)}")


def _log_error(error: Exception, text: str) -> int:
    for line in text.splitlines():
        logging.getLogger().error("%s", line)
    logging.getLogger().debug("Raised here:", exc_info=error)
    return 1


def _describe(error: Exception) -> str:
    """Return the exception and, unless it includes it, the line of code that raised it."""
    text = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if not frame.filename.startswith(INTERNAL)]
    if isinstance(error, SyntaxError) or not users:
        return text
    last = users[-1]
    return f"{text}\n  at {last.filename}:{last.lineno}, in {last.name}"


def _execute(options: argparse.Namespace) -> int:
    module = load_module(options.module)
    if options.show:
        _show(options.module, module)
        return 0
    if not options.function:
        sys.stdout.write("Specify task name\n")
        return 1
    function = _find_task(module, options.module, options.function)
    arguments = [_parse_argument(text) for text in options.args]
    _check_arguments(function, options.function, arguments)
    root = function(*arguments, dry_run=options.dry_run, threads=options.threads)
    if options.graph:
        sys.stdout.write(graph(root) + "\n")
    if root.report is None:
        return INTERRUPTED
    return int(
        any(isinstance(error, TASK_FUNCTION_ERRORS) for error in root.report.errors.values())
    )


def parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command = argparse.ArgumentParser(
        prog=prog,
        add_help=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=4),
    )
    command.add_argument("module", help="application module name or path")
    command.add_argument("function", nargs="?", help="task name")
    command.add_argument("args", nargs="*", default=[], help="task arguments")
    option = command.add_argument_group("optional arguments").add_argument
    option("-d", "--dry-run", action="store_true", help="run in dry-run mode")
    option("-g", "--graph", action="store_true", help="emit Graphviz dot to stdout")
    option("-h", "--help", action="help", help="show help and exit")
    option("-s", "--show", action="store_true", help="show available tasks")
    option("-t", "--threads", type=_thread_count, default=0, metavar="N", help="use N threads")
    option("-v", "--verbose", action="store_true", help="enable verbose logging")
    version = f"{prog} version {__version__} build 0"
    option("--version", action="version", version=version, help="Show version info and exit")
    return command


def _prog() -> str:
    name = Path(sys.argv[0]).name
    return "python -m motoko.assets" if name == "__main__.py" else name


def _thread_count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number of threads")
    return int(text)


def load_module(name: str) -> ModuleType:
    """Import a module by its name or the path of its file; GraphError if that fails."""
    path = Path(name)
    try:
        if path.is_file():
            return _load_file(path.resolve())
        if name.startswith(".") or name.endswith(".py") or os.sep in name:
            raise GraphError(f"The file {name} does not exist", hint=MODULE_HINT)
        return importlib.import_module(name)
    except GraphError:
        raise
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{name}.".startswith(f"{missing}."):
            raise GraphError(f"The module {name!r} does not exist", hint=MODULE_HINT) from None
        raise GraphError(f"{name} cannot be imported: {_describe(error)}") from error


def _load_file(path: Path) -> ModuleType:
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    # By location: another module may have the same name.
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise GraphError(f"{path} is not a Python module", hint="Its name should end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if sys.modules.get(path.stem) is module:
            del sys.modules[path.stem]
        raise
    return module


def _find_task(module: ModuleType, module_name: str, name: str) -> Callable[..., Any]:
    names = tasknames(module)
    function: Callable[..., Any] | None = getattr(module, name, None)
    if function is None or getattr(function, "is_task", False) is not True:
        problem = "" if function is None else ": it is not a task function"
        raise UnknownNodeError(
            f"{module_name} has no task {name!r}{problem}", hint=suggestion(name, names)
        )
    return function


def _parse_argument(text: str) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


def _check_arguments(function: Callable[..., Any], name: str, arguments: Sequence[Any]) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise GraphError(f"{name}: {error}", hint=f"It takes {signature}.") from None


def _show(name: str, module: ModuleType) -> None:
    lines = [f"Tasks in {name}:"]
    for task in tasknames(module):
        lines.append(f"  {task}")
        documentation = (inspect.getdoc(getattr(module, task)) or "").splitlines()
        lines += [f"    {documentation[0]}"] if documentation else []
    sys.stdout.write("\n".join(lines) + "\n")
