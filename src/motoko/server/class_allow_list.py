"""The classes that a database record may name; Motoko imports and calls no other.

A record is a pickle, and a pickle calls the classes that it names. So all readers of records look
classes up here, the server's conflict resolution included. A type that ``core.values.to_plain``
accepts and that pickles as a class must be added to ``ALLOWED``.
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
        ("BTrees.Length", "Length"),
        *((f"BTrees.{kind}BTree", kind + part) for kind in ("OO", "IO", "II") for part in _PARTS),
        *(("builtins", name) for name in ("set", "frozenset", "complex", "bytearray")),
        *(("datetime", name) for name in _DATES),
    }
)


def find_class(module: object, name: object) -> Any:
    """Return a class that a record names; ForbiddenClassError if Motoko never stores it."""
    if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in ALLOWED:
        what = one_line(f"{module}.{name}", limit=100)
        raise ForbiddenClassError(
            f"a record names {what}, which Motoko never stores; nothing of it was loaded",
            hint="Another program wrote to the file. Use a copy that you made yourself.",
        )
    return _imported(module, name)


@functools.cache
def _imported(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def check_record(data: bytes) -> None:
    """Raise ForbiddenClassError if a record names another class; a corrupt one raises anything."""
    unpickler = PersistentUnpickler(find_class, _Reference, BytesIO(data))
    for name in _class_named_as_text(unpickler.load()):
        find_class(*name)
    unpickler.load()


def references(data: bytes, oids: list[bytes] | None = None) -> list[bytes]:
    """Return the ids of the objects that a record refers to, without any call; add to ``oids``."""
    found: list[Any] = []
    unpickler = PersistentUnpickler(_refuse, found.append, BytesIO(data))
    unpickler.noload()
    unpickler.noload()
    oids = [] if oids is None else oids
    for reference in found:
        if not isinstance(reference, list):  # a weak one, or into another database
            oid = reference[0] if isinstance(reference, tuple) else reference
            oids.append(oid.encode("ascii") if isinstance(oid, str) else oid)
    return oids


def _refuse(module: str, name: str) -> Any:
    raise UnpicklingError(f"a record calls {one_line(f'{module}.{name}', limit=100)}")


def _class_named_as_text(meta: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the class that old records name by two texts."""
    if isinstance(meta, tuple) and meta and isinstance(meta[0], tuple):
        yield meta[0]


class _Reference:
    """Stands for another object to which a record refers."""

    def __init__(self, reference: object) -> None:
        self.reference = reference
