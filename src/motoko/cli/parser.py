"""The parser of all commands. A command is a module with HELP, ``configure`` and ``execute``."""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial
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
    "init",
    "create",
    "run",
    "wait",
    "watch",
    "launcher",
    "orchestrator",
    "info",
    "why",
    "doctor",
    "report",
    "notify",
    "results",
    "sql",
    "plot",
    "serve",
    "history",
    "logs",
    "retry",
    "adopt",
    "cancel",
    "hold",
    "release",
    "kill",
    "clean",
    "backup",
    "restore",
    "export",
    "completion",
    "schema",
)
ORCHESTRATOR = {
    "create": "create",
    "start": "orchestrator.start",
    "stop": "orchestrator.stop",
    "status": "orchestrator.status",
}
WITHOUT_WORKFLOW = ("init", "completion", "schema")  # need none
EPILOG = """\
exit status: 0 done, 1 error, 2 wrong command line or file, 3 failed runs, 4 stalled
The reference (docs/reference.md) describes every command and every exit status."""
WORKFLOW = "--workflow"
WORKFLOW_HELP = "the directory of the workflow (default: the nearest parent with a motoko.yaml)"


class Parser(argparse.ArgumentParser):
    """A parser whose errors begin with ``error:`` and that may add options while it parses."""

    extend: Callable[[Parser, Sequence[str]], None] | None = None
    signed: Sequence[str] = ()  # options whose value may begin with a dash
    given: Sequence[str] = ()

    def __init__(self, *, json_errors: bool = False, **options: Any) -> None:
        self.json_errors = json_errors
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Add the options that depend on the arguments, then parse."""
        self.given = args or ()
        if self.extend is not None:
            extend, self.extend = self.extend, None
            extend(self, args)
        return super().parse_known_args(self._join_signed(args), namespace)

    def _join_signed(self, args: Sequence[str] | None) -> list[str] | None:
        """Return the arguments with ``--sort -y`` as ``--sort=-y``: argparse refuses the former."""
        if args is None:
            return None
        joined: list[str] = []
        for word in args:
            dash = word.startswith("-") and not word.startswith("--")
            if dash and joined and joined[-1] in self.signed:
                joined[-1] += f"={word}"
            else:
                joined.append(word)
        return joined

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Print a message, made safe for a terminal, and exit."""
        super().exit(status, message and printable(message))

    def error(self, message: str) -> NoReturn:
        """Print the error and a hint, and exit."""
        from motoko.errors import nearest

        if "are required" in message:
            # The required option may be misspelt.
            misspelt = [word for word in self.given if self._nearest_option(word)]
            if misspelt:
                self.unknown(misspelt)
        hint = ""
        chosen = re.search(r"(.*): invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if chosen is not None:
            subject, word, known = chosen.groups()
            near = nearest(word, re.findall(r"[\w-]+", known))
            hint = f"Did you mean {near!r}? " if near else f"Known: {known}. "
            message = f"{subject} cannot be {word!r}"
            if subject.endswith("COMMAND"):
                message = f"{self.prog} has no command {word!r}"
        self._fail(message, hint)

    def unknown(self, arguments: Sequence[str]) -> NoReturn:
        """Report unknown arguments, with the nearest option, and exit."""
        near = self._nearest_option(arguments[0])
        words = " ".join(map(repr, arguments))
        self._fail(f"{self.prog} does not know {words}", f"Did you mean {near!r}? " if near else "")

    def _fail(self, message: str, hint: str) -> NoReturn:
        hint = f"{hint}See `{self.prog} --help`."
        if self.json_errors:
            from motoko.cli.json_errors import USAGE, print_error

            print_error(USAGE, message, fix=hint)
            self.exit(ExitStatus.USAGE)
        text = f"error: {message}\n  {hint}\n"
        self.exit(ExitStatus.USAGE, text)

    def _nearest_option(self, word: str) -> str | None:
        """Return the option nearest to a word that looks like one, and is none."""
        from motoko.errors import nearest

        name = word.partition("=")[0]
        options = [option for action in self._actions for option in action.option_strings]
        return nearest(name, options) if name[:1] == "-" and name not in options else None


def build_parser(argv: Sequence[str] = ()) -> Parser:
    """Return the parser of ``motoko``; if ``argv`` names a command, with this command only."""
    parser_class: Any = partial(Parser, json_errors=wants_json(argv))
    parser: Parser = parser_class(
        prog="motoko",
        description="Runs adaptive parameter studies. To begin: motoko init, then motoko run.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"motoko {__version__}")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    _add_workflow_option(parser, default=argparse.SUPPRESS)
    parser.set_defaults(motoko_parser=parser)
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=parser_class
    )
    wanted = _command_in(argv)
    for name in COMMANDS if wanted is None else [wanted]:
        if name == "orchestrator":
            _add_orchestrator(commands, parser_class)
        else:
            _add_command(commands, name, name)
    if wanted is None:
        assets = import_module("motoko.cli.assets")
        commands.add_parser("assets", help=assets.HELP, add_help=False)  # the entry point runs it
    return parser


def _command_in(argv: Sequence[str]) -> str | None:
    """Return the command that ``argv`` names, None for another word or an option before it."""
    words = iter(_workflow_after_command(argv))
    word = next((word for word in words if word != "--verbose"), None)
    return word if word in COMMANDS else None


def wants_json(argv: Sequence[str]) -> bool:
    """Return whether errors are printed as JSON; an orchestrator may have its own --json."""
    words = _workflow_after_command(argv)
    return "--json" in words and not {"run", "start"}.intersection(words[:3])


def _add_orchestrator(commands: Any, parser_class: Any) -> None:
    help_text = "start, stop or show orchestrators"
    parser = commands.add_parser("orchestrator", help=help_text, description=help_text)
    inner = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=parser_class
    )
    for name, module in ORCHESTRATOR.items():
        _add_command(inner, name, module)


def _add_command(commands: Any, name: str, module_name: str) -> None:
    module: ModuleType = import_module(f"motoko.cli.{module_name}")
    parser: Parser = commands.add_parser(name, help=module.HELP, description=module.__doc__)
    if name not in WITHOUT_WORKFLOW:
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
    if names := getattr(args, "motoko_names", None):
        # argparse takes positional arguments only up to the first option after them.
        getattr(args, names).extend(word for word in unknown if not word.startswith("-"))
        unknown = [word for word in unknown if word.startswith("-")]
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
