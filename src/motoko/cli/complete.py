"""Answer a shell that completes a command line of ``motoko`` (see ``motoko completion``).

The shell calls the program itself with variables that argcomplete defines. Study names must be
there within 100 ms, so nothing here imports pydantic or ZODB before run names or ids are needed.
"""

from __future__ import annotations

import os
from itertools import islice
from types import MappingProxyType

from motoko.cli.parser import Parser, build_parser
from motoko.errors import MotokoError

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from motoko.storage.study_table import StudyTable
    from motoko.storage.tables import Tables

    Completer = Callable[[Path, str], Iterable[str]]

LIMIT = 100  # ids offered at once


def complete() -> None:
    """Write the completions for the shell's command line, and exit."""
    from argcomplete.finders import CompletionFinder
    from argcomplete.lexers import split_line

    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    _, _, _, words, _ = split_line(line, point)
    words = words[int(os.environ["_ARGCOMPLETE"]) - 1 :]
    program = os.path.basename(words[0]) if words else ""
    own = ["orchestrator"] if program == "orchestrator" else []
    parser = build_parser([*own, *words[1:]])
    directory = _workflow(words)
    for name in own:
        parser = subparsers(parser)[name]
    _prepare(parser, directory)
    finder = CompletionFinder()
    finder(
        parser,
        always_complete_options="long",
        default_completer=lambda **_: (),  # type: ignore[arg-type]  # it may be any callable
        exclude=["-h", "--help", "--verbose"],
    )


def subparsers(parser: argparse.ArgumentParser) -> dict[str, Parser]:
    """Return the parsers of the commands of a parser."""
    found: dict[str, Parser] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other way
        if isinstance(action.choices, dict):
            found.update(action.choices)
    return found


def _prepare(parser: Parser, directory: Path | None) -> None:
    """Attach the functions that complete values; add the options of the orchestrator."""
    if parser.extend is not None:
        parser.extend = None  # it would execute the user's code
        for option in [] if directory is None else _orchestrator_options(directory):
            parser.add_argument(option)
    for action in parser._actions:  # noqa: SLF001
        if not action.choices and action.nargs != 0:
            _attach(action, directory)
    for inner in subparsers(parser).values():
        _prepare(inner, directory)


def _attach(action: Any, directory: Path | None) -> None:
    from argcomplete.completers import DirectoriesCompleter, FilesCompleter

    completer = COMPLETERS.get(action.dest)
    if completer is not None and directory is not None:
        action.completer = _quiet(completer, directory)
    elif action.metavar == "DIR":
        action.completer = DirectoriesCompleter()
    elif "FILE" in str(action.metavar):
        action.completer = FilesCompleter()


def _quiet(completer: Completer, directory: Path) -> Callable[..., Iterable[str]]:
    def values(prefix: str, **_: object) -> Iterable[str]:
        try:
            return [name for name in completer(directory, prefix) if name.isprintable()]
        except Exception:  # noqa: BLE001 - a shell can show no error
            return []

    return values


def _workflow(words: list[str]) -> Path | None:
    """Return the directory of the workflow that a command line concerns, None without one."""
    from pathlib import Path

    named = ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--workflow":
            named = following
        elif word.startswith("--workflow="):
            named = word.partition("=")[2]
    start = Path(os.path.expanduser(named)) if named else Path.cwd()
    candidates = [start] if named else [start, *start.parents]
    return next((one for one in candidates if (one / "motoko.yaml").is_file()), None)


# -- names from files -------------------------------------------------------------------------


def _configuration(directory: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with open(directory / "motoko.yaml", encoding="utf-8-sig") as file:
        found = yaml.load(file, loader)  # noqa: S506 - it is a safe loader
    return found if isinstance(found, dict) else {}


def studies(directory: Path, prefix: str = "") -> list[str]:
    """Return the names of task managers and aliases."""
    found = _configuration(directory)
    sections = (found.get("task_managers"), found.get("aliases"))
    names = [str(name) for section in sections if isinstance(section, dict) for name in section]
    return [name for name in names if name.startswith(prefix)]


def _orchestrator_options(directory: Path) -> Iterator[str]:
    """Yield the options in the source of the orchestrator's module."""
    import ast

    try:
        module = str(_configuration(directory).get("orchestrator", "")).partition(".")[0]
        tree = ast.parse((directory / f"{module}.py").read_bytes())
    except Exception:  # noqa: BLE001 - a shell can show no error
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            words = [one.value for one in node.args if isinstance(one, ast.Constant)]
            yield from (word for word in words if isinstance(word, str) and word[:2] == "--")


# -- names from the database -------------------------------------------------------------------


def _read(directory: Path, query: Callable[[Tables], Iterable[str]]) -> list[str]:
    import contextlib
    import logging

    from motoko.storage.database import Database
    from motoko.storage.query import query_database

    logging.disable()  # the shell shows it between the completions
    path = directory / ".wf" / "wf.db"
    with contextlib.closing(Database.read_file(path)) as database:
        return query_database(database, lambda session: list(query(session.tables)))


def run_names(directory: Path, prefix: str = "") -> list[str]:
    """Return the run names with runs or orchestrators."""

    def query(tables: Tables) -> Iterable[str]:
        from motoko.storage.orchestrator_leases import run_names as executed

        found = {name for study in tables.study_names() for name in tables.study(study).run_names()}
        return sorted(found | set(executed(tables)))

    return [name for name in _read(directory, query) if name.startswith(prefix)]


def runs(directory: Path, prefix: str = "") -> list[str]:
    """Return study names; after ``STUDY.`` the first runs of the study."""
    name, dot, number = prefix.partition(".")
    if not dot:
        return studies(directory, prefix)
    configuration = _configuration(directory)
    aliases = configuration.get("aliases") or {}

    def query(tables: Tables) -> Iterable[str]:
        found = _ids(tables.study(aliases.get(name, name)), number)
        return [f"{name}.{one}" for one in islice(found, LIMIT)]

    return _read(directory, query)


def _ids(table: StudyTable, prefix: str) -> Iterator[int]:
    """Yield the ids that begin with these digits, ascending."""
    if prefix and not (prefix.isdecimal() and prefix.isascii() and prefix[0] != "0"):
        return
    low, high = (int(prefix), int(prefix)) if prefix else (1, 9)
    while low <= table.last_id:
        yield from table.ids(None, id_min=low, id_max=high)
        low, high = low * 10, high * 10 + 9


def events(directory: Path, prefix: str = "") -> list[str]:
    """Return the names of the events that fired or are registered."""

    def query(tables: Tables) -> Iterable[str]:
        from motoko.storage.orchestrator_leases import orchestrator_report
        from motoko.storage.orchestrator_leases import run_names as executed

        registered = (orchestrator_report(tables, name).events or () for name in executed(tables))
        found = {event for names in registered for event in names}
        return sorted(found | {event for (_, event, _), _ in tables.firings()})

    return [name for name in _read(directory, query) if name.startswith(prefix)]


def subjects(directory: Path, prefix: str = "") -> list[str]:
    """Return studies and runs, or events if none of these begins so."""
    try:
        found = runs(directory, prefix)
    except MotokoError:  # the part before the dot is no study
        found = []
    return found or events(directory, prefix)


def constraints(directory: Path, prefix: str = "") -> list[str]:
    """Return constraints on the states and labels that exist."""
    from motoko.core.states import Lifecycle

    def query(tables: Tables) -> Iterable[str]:
        shown = {state for name in tables.study_names() for state in tables.study(name).counts()}
        return sorted(shown - {state.value for state in Lifecycle})

    labels = _read(directory, query) if (directory / ".wf" / "wf.db").exists() else []
    return [f"state = {state}" for state in (*(one.value for one in Lifecycle), *labels)]


COMPLETERS: Mapping[str, Completer] = MappingProxyType({
    "study": studies,
    "bd_study": studies,
    "studies": studies,
    "names": studies,
    "runs": runs,
    "run": runs,
    "targets": runs,
    "subjects": subjects,
    "run_name": run_names,
    "run_names": run_names,
    "event": events,
    "constraints": constraints,
    "where": constraints,
})  # fmt: skip
