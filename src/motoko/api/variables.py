"""Workflow variables: ``workflow.vars.name`` and ``workflow.run_vars.name``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from motoko.core.changes import SetVariable
from motoko.core.values import MISSING
from motoko.errors import (
    DatabaseExistsError,
    NoDatabaseError,
    ParameterError,
    StorageError,
    UnknownNameError,
    suggestion,
)
from motoko.handles.tracked import tracked
from motoko.launcher.workflow_creation import create_workflow
from motoko.server.state_dir import StateDir
from motoko.storage.store import WorkflowStore
from motoko.storage.variable_values import encode_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from motoko.storage.tables import Tables

T = TypeVar("T")
RESERVED: Final = frozenset({"db_fname", "db", "conn", "root", "get", "keys"})


class Variables:
    """Named values in the workflow's database, read and written as attributes.

    Values may be numbers, text, lists, dictionaries, times, dates, paths and NumPy arrays; others
    are refused. Lists and dictionaries may be changed in place, arrays may not. The first
    assignment creates a missing database.
    """

    __slots__ = ("_scope_name", "_store")

    _store: WorkflowStore
    _scope_name: str | None

    def __init__(self, store: WorkflowStore, scope_name: str | None) -> None:
        object.__setattr__(self, "_store", store)
        object.__setattr__(self, "_scope_name", scope_name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = self._read(lambda tables: tables.variable(self._scope_name, name), MISSING)
        if value is MISSING:
            raise UnknownNameError(
                f"no workflow variable {name!r} is set", hint=suggestion(name, self.keys())
            )
        if isinstance(value, list | dict | set | tuple):
            whole = tracked(value, lambda: setattr(self, name, whole))
            return whole
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in RESERVED or name.startswith("_"):
            raise ParameterError(f"{name!r} cannot be the name of a workflow variable")
        self._write(name, encode_value(value, f"workflow variable {name!r}"))

    def __delattr__(self, name: str) -> None:
        getattr(self, name)
        self._write(name, MISSING)

    def _write(self, name: str, value: Any) -> None:
        scope = self._store.scope()
        change = SetVariable(self._scope_name, name, value, blind=scope.blind)
        try:
            scope.write(change)
        except NoDatabaseError:
            if self._store.read_only or self._store.state.database.exists():
                raise
            with suppress(DatabaseExistsError):  # another process created it first
                create_workflow(self._store, replace=False)
            scope.write(change)

    def _read(self, read: Callable[[Tables], T], otherwise: T) -> T:
        """Read from the database; return ``otherwise`` if it does not exist."""
        try:
            with self._store.scope().read() as session:
                return read(session.tables)
        except NoDatabaseError:
            return otherwise

    def get(self, name: str, default: Any = None) -> Any:
        """Return a variable, or ``default`` if it is not set."""
        try:
            return getattr(self, name)
        except UnknownNameError:
            return default

    def keys(self) -> list[str]:
        """Return the names of all variables, sorted."""
        return self._read(lambda tables: tables.variable_names(self._scope_name), [])

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.keys()})

    def __repr__(self) -> str:
        return f"<workflow variables {', '.join(self.keys())}>"


class WorkflowVars(Variables):
    """Variables shared by all run names of a workflow.

    ``db_fname`` is the database file. ``db``, ``conn`` and ``root`` are read-only views of the
    variables, for code that expects a separate database.
    """

    __slots__ = ("_db_fname",)

    _db_fname: str

    def __init__(self, db_fname: str, *, store: WorkflowStore | None = None) -> None:
        if store is None:
            store = _store_of(db_fname)
        super().__init__(store, None)
        object.__setattr__(self, "_db_fname", db_fname)

    @property
    def db_fname(self) -> str:
        """Return the path of the database file."""
        return self._db_fname

    @property
    def root(self) -> Mapping[str, Any]:
        """Return all variables as a read-only mapping."""
        return MappingProxyType({name: getattr(self, name) for name in self.keys()})

    db = conn = root


def _store_of(db_fname: str) -> WorkflowStore:
    path = Path(db_fname).absolute()
    if path.parent.name != ".wf":
        raise StorageError(
            f"{db_fname} is not the database of a workflow",
            hint="It is .wf/wf.db in its directory.",
        )
    return WorkflowStore(StateDir.of(path.parent.parent), {})
