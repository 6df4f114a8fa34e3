"""The entry point of ``motoko``: it runs a command and reports its errors."""

from __future__ import annotations

import contextlib
import os
import sys

from motoko.cli.assets import run as run_assets
from motoko.cli.output import ExitStatus
from motoko.cli.parser import build_parser, parse, wants_json

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO


def run(argv: Sequence[str]) -> int:
    """Parse the arguments, execute the command and return the exit status."""
    _prepare_streams()
    try:
        status = run_assets(argv[1:]) if argv[:1] == ["assets"] else _execute(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        return _without_reader()
    except KeyboardInterrupt as interrupt:
        return _exit_after_signal(interrupt.args[0] if interrupt.args else 2)
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - every other error is reported here
        return _report(error, argv)
    return status


def _report(error: BaseException, argv: Sequence[str]) -> int:
    """Report an error; on stderr also with ``--json``, if standard output cannot be written."""
    from motoko.cli.error_report import report

    verbose = "--verbose" in argv
    try:
        status = report(error, verbose=verbose, as_json=wants_json(argv))
        sys.stdout.flush()
    except BrokenPipeError:
        return _without_reader()
    except OSError:
        _discard(sys.stdout)
        return report(error, verbose=verbose)
    return status


def _without_reader() -> int:
    _discard(sys.stdout)
    return ExitStatus.BROKEN_PIPE


def _discard(stream: TextIO) -> None:
    """Discard the output: Python would report the failure once more when it flushes at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _execute(argv: Sequence[str]) -> int:
    from motoko.runtime.signals import reset_required

    reset_required()
    with _default_interrupt():
        args = parse(build_parser(argv), argv)
        from motoko.runtime.ports import SYSTEM
    args.motoko_argv = list(argv)
    args.motoko_runtime = SYSTEM
    status: int | None = args.motoko_execute(args)
    return ExitStatus.OK if status is None else status


@contextlib.contextmanager
def _default_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process at once: an exception can get lost during imports."""
    import signal
    import threading

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit_after_signal(number: int) -> int:
    """Return the exit status; exit at once if Python would wait for threads of user functions."""
    import threading

    status = 128 + number
    if all(thread.daemon or thread is threading.main_thread() for thread in threading.enumerate()):
        return status
    import logging

    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _prepare_streams() -> None:
    """Discard output to closed streams (``>&-``); escape what the terminal's encoding lacks."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - kept open
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
