"""Workflow variables: ``workflow.vars.name`` and ``workflow.run_vars.name``."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from motoko.core.changes import SetVariable
from motoko.core.values import MISSING, plain
from motoko.errors import ParameterError, StorageError, UnknownNameError, suggestion
from motoko.storage.tracked import tracked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from motoko.storage.store import Store

RESERVED: Final = frozenset({"db_fname", "db", "conn", "root", "get", "keys"})


class Variables:
    """Values by name, read and written as attributes; kept in the workflow's database.

    A value is plain data: numbers, text, lists, dictionaries, dates, arrays (kept as lists). Lists
    and dictionaries may be changed in place.
    """

    __slots__ = ("_scope_name", "_store")

    _store: Store
    _scope_name: str | None

    def __init__(self, store: Store, scope_name: str | None) -> None:
        object.__setattr__(self, "_store", store)
        object.__setattr__(self, "_scope_name", scope_name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        with self._store.scope().view() as session:
            value = session.tables.variable(self._scope_name, name)
        if value is MISSING:
            raise UnknownNameError(
                f"there is no workflow variable {name!r}", hint=suggestion(name, self.keys())
            )
        if isinstance(value, list | dict | set | tuple):
            whole = tracked(plain(value, name), lambda: setattr(self, name, whole))
            return whole
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in RESERVED or name.startswith("_"):
            raise ParameterError(f"{name!r} cannot be the name of a workflow variable")
        self._write(name, plain(value, f"workflow variable {name!r}"))

    def __delattr__(self, name: str) -> None:
        getattr(self, name)
        self._write(name, MISSING)

    def _write(self, name: str, value: Any) -> None:
        scope = self._store.scope()
        scope.write(SetVariable(self._scope_name, name, value, blind=scope.blind))

    def get(self, name: str, default: Any = None) -> Any:
        """Return a variable, or ``default`` if it was never set."""
        try:
            return getattr(self, name)
        except UnknownNameError:
            return default

    def keys(self) -> list[str]:
        """Return the names of all variables, sorted."""
        with self._store.scope().view() as session:
            return session.tables.variable_names(self._scope_name)

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

    ``db_fname`` is the database file; ``db``, ``conn`` and ``root`` are read-only views of the
    variables, kept for code that was written for a database of its own.
    """

    __slots__ = ("_db_fname",)

    _db_fname: str

    def __init__(self, db_fname: str, *, store: Store | None = None) -> None:
        if store is None:
            store = _store_beside(db_fname)
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

    @property
    def db(self) -> Mapping[str, Any]:
        """Return all variables as a read-only mapping."""
        return self.root

    @property
    def conn(self) -> Mapping[str, Any]:
        """Return all variables as a read-only mapping."""
        return self.root


def _store_beside(db_fname: str) -> Store:
    from pathlib import Path

    from motoko.storage.address import StateDirectory
    from motoko.storage.store import Store

    path = Path(db_fname).absolute()
    if path.parent.name != ".wf":
        raise StorageError(
            f"{db_fname} is not the database of a workflow",
            hint="It is .wf/wf.db in its directory.",
        )
    return Store(StateDirectory.of(path.parent.parent), {})
