"""The classes that a record of the database may name; no other one is imported or called.

A record is a pickle, and a pickle calls what it names. So whoever reads a record, also a server
that resolves a conflict, looks its classes up here. Whoever lets ``core.values.plain`` pass a type
that pickles as a class adds that class to ``ALLOWED``.
"""

from __future__ import annotations

import functools
from importlib import import_module
from io import BytesIO
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Final

from ZODB._compat import PersistentUnpickler

from motoko.errors import ForbiddenClassError
from motoko.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARTS: Final = ("BTree", "Bucket", "Set", "TreeSet")
_DATES: Final = ("datetime", "date", "time", "timedelta", "timezone")
ALLOWED: Final = frozenset(
    {
        ("persistent.mapping", "PersistentMapping"),
        *((f"BTrees.{kind}BTree", kind + part) for kind in ("OO", "IO", "II") for part in _PARTS),
        *(("builtins", name) for name in ("set", "frozenset", "complex", "bytearray")),
        *(("datetime", name) for name in _DATES),
    }
)


def find_class(module: object, name: object) -> Any:
    """Return a class that a record names; ForbiddenClassError if Motoko stores no such class."""
    if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in ALLOWED:
        what = one_line(f"{module}.{name}", limit=100)
        raise ForbiddenClassError(
            f"a record names {what}, which Motoko never stores; nothing of it was loaded",
            hint="Somebody else wrote to the file. Use a copy that you made yourself.",
        )
    return _imported(module, name)


@functools.cache
def _imported(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def class_factory(_connection: object, module: object, name: object) -> Any:
    """Return a class that a record names, as ``ZODB.DB`` asks for it."""
    return find_class(module, name)


def check_record(data: bytes) -> None:
    """Raise ForbiddenClassError if a record names a class that Motoko never stores.

    Whatever else a pickle raises that makes no sense is raised too.
    """
    unpickler = PersistentUnpickler(find_class, _Reference, BytesIO(data))
    for name in _class_named_as_text(unpickler.load()):
        find_class(*name)
    unpickler.load()


def references(data: bytes, oids: list[bytes] | None = None) -> list[bytes]:
    """Return the ids of the objects that a record refers to, added to ``oids`` if given.

    As ``ZODB.serialize.referencesf``, which calls what an old-style pickle (INST) names.
    """
    found: list[Any] = []
    unpickler = PersistentUnpickler(_refuse, found.append, BytesIO(data))
    unpickler.noload()
    unpickler.noload()
    oids = [] if oids is None else oids
    for reference in found:
        if not isinstance(reference, list):  # which is a weak one, or into another database
            oid = reference[0] if isinstance(reference, tuple) else reference
            oids.append(oid.encode("ascii") if isinstance(oid, str) else oid)
    return oids


def _refuse(module: str, name: str) -> Any:
    raise UnpicklingError(f"a record has {one_line(f'{module}.{name}', limit=100)} called")


def _class_named_as_text(meta: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the class that old records name as a pair of texts instead of a reference."""
    if isinstance(meta, tuple) and meta and isinstance(meta[0], tuple):
        yield meta[0]


class _Reference:
    """Stands for another object that a record refers to."""

    def __init__(self, reference: object) -> None:
        self.reference = reference
