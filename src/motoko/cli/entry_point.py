"""From arguments to an exit status."""

from __future__ import annotations

import contextlib
import os
import sys

from motoko.cli import assets, exit_status
from motoko.cli.parser import build_parser, parse

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def run(argv: Sequence[str]) -> int:
    """Parse the arguments, execute the command and report its errors."""
    _open_closed_streams()
    _tolerate_other_encodings()
    verbose = "--verbose" in argv
    try:
        status = assets.run(argv[1:]) if argv[:1] == ["assets"] else _command(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_status.BROKEN_PIPE
    except KeyboardInterrupt as interrupt:
        number = interrupt.args[0] if interrupt.args else 2
        return _leave(exit_status.of_signal(number))
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - this is where all of them are reported
        from motoko.cli.error_report import report

        return report(error, verbose=verbose)
    return status


@contextlib.contextmanager
def _ended_at_once() -> Iterator[None]:
    """Have Ctrl-C end the process: nothing is to be cleaned up yet.

    An exception would be lost where it is raised in what Python calls by itself, as it often does
    while modules are imported.
    """
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


def _leave(status: int) -> int:
    """Return the status; where functions of the user still run in threads, end at once instead.

    Python would wait for them.
    """
    import threading

    if all(thread.daemon or thread is threading.main_thread() for thread in threading.enumerate()):
        return status
    import logging

    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _command(argv: Sequence[str]) -> int:
    from motoko.runtime.signals import reset_required

    reset_required()
    with _ended_at_once():
        args = parse(build_parser(), argv)
    args.motoko_argv = list(argv)
    execute: Callable[..., int] = args.motoko_execute
    return execute(args)


def _open_closed_streams() -> None:
    """Let what is written to a stream that was closed (``>&-``) go nowhere, instead of failing."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for good


def _tolerate_other_encodings() -> None:
    """Write what the terminal's encoding does not have as an escape instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
