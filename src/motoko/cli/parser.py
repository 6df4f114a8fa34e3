"""The parser of all commands. A command is a module with HELP, ``configure`` and ``execute``."""

from __future__ import annotations

import argparse
import re
import sys

from motoko.cli import (
    assets,
    backup,
    cancel,
    clean,
    create,
    exit_status,
    history,
    info,
    init,
    kill,
    launcher,
    restore,
    retry,
    run,
)
from motoko.cli.orchestrator import start, status, stop
from motoko.printable import printable
from motoko.version import __version__

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType
    from typing import Any, NoReturn

COMMANDS = {
    "init": init,
    "create": create,
    "run": run,
    "launcher": launcher,
    "orchestrator": None,
    "info": info,
    "history": history,
    "retry": retry,
    "cancel": cancel,
    "kill": kill,
    "clean": clean,
    "backup": backup,
    "restore": restore,
}
WORKFLOW = "--workflow"
ORCHESTRATOR = {"create": create, "start": start, "stop": stop, "status": status}


class Parser(argparse.ArgumentParser):
    """A parser whose errors begin with ``error:`` and that may learn options while it parses."""

    extend: Callable[[Parser, Sequence[str]], None] | None = None

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, having added the options that only now can be known."""
        if self.extend is not None:
            extend, self.extend = self.extend, None
            extend(self, args)
        return super().parse_known_args(args, namespace)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Print a message, made safe for a terminal, and exit."""
        super().exit(status, message and printable(message))

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is, and exit."""
        from motoko.errors import nearest

        chosen = re.search(r"COMMAND: invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if chosen is not None:
            near = nearest(chosen[1], re.findall(r"\w+", chosen[2]))
            hint = f"Did you mean {near!r}? " if near else f"Known: {chosen[2]}. "
            message = f"{self.prog} has no command {chosen[1]!r}\n  {hint}"
        else:
            message += "\n  "
        self.exit(exit_status.USAGE, f"error: {message}See `{self.prog} --help`.\n")

    def unknown(self, arguments: Sequence[str]) -> NoReturn:
        """Complain about arguments that nothing stands for, naming the nearest option."""
        from motoko.errors import nearest

        options = [option for action in self._actions for option in action.option_strings]
        near = [nearest(argument.split("=")[0], options) for argument in arguments]
        hint = f"Did you mean {near[0]!r}? " if near[0] else ""
        words = " ".join(map(repr, arguments))
        self.exit(
            exit_status.USAGE,
            f"error: {self.prog} does not know {words}\n  {hint}See `{self.prog} --help`.\n",
        )


def build_parser() -> Parser:
    """Return the parser of ``motoko``."""
    parser = Parser(
        prog="motoko",
        description="Runs adaptive parameter studies: motoko init, then motoko run.",
    )
    parser.add_argument("--version", action="version", version=f"motoko {__version__}")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        WORKFLOW,
        dest="workflow_dir",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="the workflow's directory; otherwise the one with a motoko.yaml, here or above",
    )
    parser.set_defaults(motoko_parser=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        if module is None:
            _add_orchestrator(commands)
        else:
            _add(commands, name, module)
    commands.add_parser("assets", help=assets.HELP, add_help=False)  # entry.run sees to it
    return parser


def _add_orchestrator(commands: Any) -> None:
    help_text = "start, stop or look at orchestrators"
    parser = commands.add_parser("orchestrator", help=help_text, description=help_text)
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in ORCHESTRATOR.items():
        _add(inner, name, module)


def _add(commands: Any, name: str, module: ModuleType) -> None:
    parser: Parser = commands.add_parser(name, help=module.HELP, description=module.__doc__)
    if module is not init:
        parser.add_argument(
            WORKFLOW,
            dest="workflow_dir",
            metavar="DIR",
            help="the workflow's directory; otherwise the one with a motoko.yaml, here or above",
        )
    parser.add_argument(
        "--verbose", action="store_true", default=argparse.SUPPRESS, help="show more"
    )
    module.configure(parser)
    parser.set_defaults(motoko_execute=module.execute, motoko_parser=parser)


def parse(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments; SystemExit where they make no sense or ask for help."""
    if not argv:
        parser.print_help(sys.stderr)
        raise SystemExit(exit_status.USAGE)
    args, unknown = parser.parse_known_args(_behind_the_command(argv))
    if unknown:
        args.motoko_parser.unknown(unknown)
    found: argparse.Namespace = args
    return found


def _behind_the_command(argv: Sequence[str]) -> list[str]:
    """Return the arguments with --workflow behind the command, which alone takes it."""
    moved: list[str] = []
    rest = list(argv)
    at = 0
    while at < len(rest):
        word = rest[at]
        if word == WORKFLOW and at + 1 < len(rest):
            moved += [rest.pop(at), rest.pop(at)]
        elif word.startswith(f"{WORKFLOW}="):
            moved.append(rest.pop(at))
        elif word.startswith("-") or word == "orchestrator":
            at += 1
        else:
            return [*rest[: at + 1], *moved, *rest[at + 1 :]]
    return list(argv)
