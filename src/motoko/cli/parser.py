"""The parser of all commands. A command is a module with HELP, ``configure`` and ``execute``."""

from __future__ import annotations

import argparse
import re
import sys
from importlib import import_module

from motoko.cli.output import ExitStatus
from motoko.printable import printable
from motoko.version import __version__

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType
    from typing import Any, NoReturn

COMMANDS = (
    "init", "create", "run", "launcher", "orchestrator", "info", "history", "retry", "cancel",
    "kill", "clean", "backup", "restore",
)  # fmt: skip
ORCHESTRATOR = {
    "create": "create",
    "start": "orchestrator.start",
    "stop": "orchestrator.stop",
    "status": "orchestrator.status",
}
WORKFLOW = "--workflow"
WORKFLOW_HELP = "the directory of the workflow (default: the nearest parent with a motoko.yaml)"


class Parser(argparse.ArgumentParser):
    """A parser whose errors begin with ``error:`` and that may add options while it parses."""

    extend: Callable[[Parser, Sequence[str]], None] | None = None

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Add the options that depend on the arguments, then parse."""
        if self.extend is not None:
            extend, self.extend = self.extend, None
            extend(self, args)
        return super().parse_known_args(args, namespace)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Print a message, made safe for a terminal, and exit."""
        super().exit(status, message and printable(message))

    def error(self, message: str) -> NoReturn:
        """Print the error and a hint, and exit."""
        from motoko.errors import nearest

        chosen = re.search(r"COMMAND: invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if chosen is not None:
            near = nearest(chosen[1], re.findall(r"\w+", chosen[2]))
            hint = f"Did you mean {near!r}? " if near else f"Known: {chosen[2]}. "
            message = f"{self.prog} has no command {chosen[1]!r}\n  {hint}"
        else:
            message += "\n  "
        self.exit(ExitStatus.USAGE, f"error: {message}See `{self.prog} --help`.\n")

    def unknown(self, arguments: Sequence[str]) -> NoReturn:
        """Report unknown arguments, with the nearest option, and exit."""
        from motoko.errors import nearest

        options = [option for action in self._actions for option in action.option_strings]
        near = nearest(arguments[0].split("=")[0], options)
        hint = f"Did you mean {near!r}? " if near else ""
        words = " ".join(map(repr, arguments))
        self.exit(
            ExitStatus.USAGE,
            f"error: {self.prog} does not know {words}\n  {hint}See `{self.prog} --help`.\n",
        )


def build_parser() -> Parser:
    """Return the parser of ``motoko``."""
    parser = Parser(
        prog="motoko",
        description="Runs adaptive parameter studies. To begin: motoko init, then motoko run.",
    )
    parser.add_argument("--version", action="version", version=f"motoko {__version__}")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    _add_workflow_option(parser, default=argparse.SUPPRESS)
    parser.set_defaults(motoko_parser=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        if name == "orchestrator":
            _add_orchestrator(commands)
        else:
            _add_command(commands, name, name)
    assets = import_module("motoko.cli.assets")
    commands.add_parser("assets", help=assets.HELP, add_help=False)  # the entry point runs it
    return parser


def _add_orchestrator(commands: Any) -> None:
    help_text = "start, stop or show orchestrators"
    parser = commands.add_parser("orchestrator", help=help_text, description=help_text)
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in ORCHESTRATOR.items():
        _add_command(inner, name, module)


def _add_command(commands: Any, name: str, module_name: str) -> None:
    module: ModuleType = import_module(f"motoko.cli.{module_name}")
    parser: Parser = commands.add_parser(name, help=module.HELP, description=module.__doc__)
    if name != "init":
        _add_workflow_option(parser)
    parser.add_argument(
        "--verbose",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show more, and the traceback of an error",
    )
    module.configure(parser)
    parser.set_defaults(motoko_execute=module.execute, motoko_parser=parser)


def _add_workflow_option(parser: Parser, default: str | None = None) -> None:
    parser.add_argument(
        WORKFLOW, dest="workflow_dir", metavar="DIR", default=default, help=WORKFLOW_HELP
    )


def parse(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments; raise SystemExit if they are invalid or ask for help."""
    if not argv:
        parser.print_help(sys.stderr)
        raise SystemExit(ExitStatus.USAGE)
    args, unknown = parser.parse_known_args(_workflow_after_command(argv))
    if unknown:
        args.motoko_parser.unknown(unknown)
    found: argparse.Namespace = args
    return found


def _workflow_after_command(argv: Sequence[str]) -> list[str]:
    """Return the arguments with --workflow after the command, which is the one to parse it."""
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
