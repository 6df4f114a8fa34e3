"""Imports by dotted path: ``package.module.Name``, ``python://package.module.NAME``."""

from __future__ import annotations

import copy
import importlib
import pkgutil
import sys
from types import ModuleType
from typing import Any, Final

from motoko.errors import UnknownPathError, nearest

SCHEME: Final = "python://"


def path_of(definition: Any) -> str:
    """Return the dotted path of a class or function."""
    return f"{definition.__module__}.{definition.__qualname__}"


def locate(path: str, label: str = "path") -> Any:
    """Return the object at a dotted path, or raise UnknownPathError with ``label``."""
    module, names = _import_module(path, label)
    return _resolve(module, names, path, label)


def loaded(path: object, label: str = "path") -> Any:
    """Return the object at a dotted path of an untrusted file; no module is imported."""
    names = path.split(".") if isinstance(path, str) else []
    for number in range(len(names) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(names[:number]))
        for name in names[number:]:
            found = vars(found).get(name) if isinstance(found, type | ModuleType) else None
        if found is not None:
            return found
    raise UnknownPathError(
        f"{label} {path!r}: no imported module has it",
        hint="If you trust the file, import the module before you read it.",
    )


def read(reference: str, *, reload_module: bool = True) -> Any:
    """Return the object of a reference ``python://module.NAME``.

    With ``reload_module``, a module that was imported before is executed again, to create new
    objects. The main program cannot be executed again: its object is copied.
    """
    if not reference.startswith(SCHEME) or reference == SCHEME:
        raise UnknownPathError(
            f"{reference!r} is not a reference",
            hint=f"A reference is {SCHEME}, then a dotted path: {SCHEME}package.module.NAME.",
        )
    path = reference.removeprefix(SCHEME)
    before = {*sys.modules}
    module, names = _import_module(path, "reference")
    again = reload_module and module.__name__ in before
    if again and module.__name__ != "__main__":
        module = importlib.reload(module)
    found = _resolve(module, names, path, "reference")
    return copy.deepcopy(found) if again and module.__name__ == "__main__" else found


def _import_module(path: str, label: str) -> tuple[ModuleType, list[str]]:
    """Import the longest prefix of ``path`` that is a module; return it and the other names."""
    names = path.split(".")
    if not all(names):
        raise UnknownPathError(
            f"{label} {path!r} is not a dotted path", hint="Write package.module.Name."
        )
    module: ModuleType | None = None
    for number in range(1, len(names) + 1):
        name = ".".join(names[:number])
        if module is not None and names[number - 1] in vars(module) and name not in sys.modules:
            break
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name and not name.startswith(f"{error.name}."):
                raise  # the module exists, but not a module that it imports
            break
    else:
        number += 1
    if module is None:
        raise UnknownPathError(
            f"{label} {path!r}: the module {names[0]!r} does not exist", hint=_module_hint(names[0])
        )
    return module, names[number - 1 :]


def _resolve(module: ModuleType, names: list[str], path: str, label: str) -> Any:
    found: Any = module
    parent = module.__name__
    for name in names:
        if not hasattr(found, name):
            raise UnknownPathError(
                f"{label} {path!r}: {parent} has no {name!r}", hint=_name_hint(name, found)
            )
        found = getattr(found, name)
        parent = f"{parent}.{name}"
    return found


def _name_hint(name: str, parent: Any) -> str | None:
    known = [one for one in dir(parent) if not one.startswith("__")]
    known += [one.name for one in pkgutil.iter_modules(getattr(parent, "__path__", ()))]
    near = nearest(name, known)
    return near and f"Did you mean {near!r}?"


def _module_hint(name: str) -> str:
    near = nearest(name, {one.partition(".")[0] for one in sys.modules})
    install = "Install it, or add its directory to PYTHONPATH."
    return f"Did you mean {near!r}?" if near else install
