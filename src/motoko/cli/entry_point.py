"""The entry point of ``motoko``: it runs a command and reports its errors."""

from __future__ import annotations

import contextlib
import os
import sys

from motoko.cli.assets import run as run_assets
from motoko.cli.output import ExitStatus
from motoko.cli.parser import build_parser, parse

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def run(argv: Sequence[str]) -> int:
    """Parse the arguments, execute the command and return the exit status."""
    _prepare_streams()
    try:
        status = run_assets(argv[1:]) if argv[:1] == ["assets"] else _execute(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would report it once more when it flushes at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.BROKEN_PIPE
    except KeyboardInterrupt as interrupt:
        return _exit_after_signal(interrupt.args[0] if interrupt.args else 2)
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - every other error is reported here
        from motoko.cli.error_report import report

        return report(error, verbose="--verbose" in argv)
    return status


def _execute(argv: Sequence[str]) -> int:
    from motoko.runtime.signals import reset_required

    reset_required()
    with _default_interrupt():
        args = parse(build_parser(), argv)
        from motoko.runtime.ports import SYSTEM
    args.motoko_argv = list(argv)
    args.motoko_runtime = SYSTEM
    args.motoko_execute(args)
    return ExitStatus.OK


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
