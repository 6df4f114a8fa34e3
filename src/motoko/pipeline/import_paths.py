"""Finding things by dotted path: ``package.module.Name``, ``python://package.module.NAME``."""

from __future__ import annotations

import copy
import importlib
import pkgutil
import sys
from types import ModuleType
from typing import Any, Final

from motoko.errors import UnknownPathError, nearest

SCHEME: Final = "python://"


def path_of(thing: Any) -> str:
    """Return the dotted path of a class or function."""
    return f"{thing.__module__}.{thing.__qualname__}"


def locate(path: str, what: str = "path") -> Any:
    """Return what is at a dotted path; ``what`` names the path in errors.

    UnknownPathError if there is nothing. What a module raises when it is imported goes on.
    """
    module, names = _split(path, what)
    return _follow(module, names, path, what)


def loaded(path: object, what: str = "path") -> Any:
    """Return what is at a dotted path in the modules that are imported already.

    For what comes from a file, which may be anybody's: nothing is imported, and no code of the
    modules runs. UnknownPathError if there is nothing.
    """
    names = path.split(".") if isinstance(path, str) else []
    for number in range(len(names) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(names[:number]))
        for name in names[number:]:
            found = vars(found).get(name) if isinstance(found, type | ModuleType) else None
        if found is not None:
            return found
    raise UnknownPathError(
        f"{what} {path!r}: no module that is imported has it",
        hint="Import its module before you read this, if you trust whoever wrote it.",
    )


def read(reference: str, *, reload_module: bool = True) -> Any:
    """Return what a reference ``python://module.NAME`` leads to.

    With ``reload_module`` the module is executed again if it was imported before, so that its
    objects are new ones. The main program cannot be: then it is a copy.
    """
    if not reference.startswith(SCHEME) or reference == SCHEME:
        raise UnknownPathError(
            f"{reference!r} is no reference",
            hint=f"A reference is {SCHEME}, then a dotted path: {SCHEME}package.module.NAME.",
        )
    path = reference.removeprefix(SCHEME)
    before = {*sys.modules}
    module, names = _split(path, "reference")
    again = reload_module and module.__name__ in before
    if again and module.__name__ != "__main__":
        module = importlib.reload(module)
    found = _follow(module, names, path, "reference")
    return copy.deepcopy(found) if again and module.__name__ == "__main__" else found


def _split(path: str, what: str) -> tuple[ModuleType, list[str]]:
    """Import the longest part of ``path`` that is a module; return it and the names after it."""
    names = path.split(".")
    if not all(names):
        raise UnknownPathError(
            f"{what} {path!r}: this is no dotted path", hint="Write package.module.Name."
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
                raise  # the module is there, and what it imports is not
            break
    else:
        number += 1
    if module is None:
        raise UnknownPathError(
            f"{what} {path!r}: there is no module {names[0]!r}", hint=_importable(names[0])
        )
    return module, names[number - 1 :]


def _follow(module: ModuleType, names: list[str], path: str, what: str) -> Any:
    found: Any = module
    place = module.__name__
    for name in names:
        if not hasattr(found, name):
            raise UnknownPathError(
                f"{what} {path!r}: {place} has no {name!r}", hint=_near(name, found)
            )
        found = getattr(found, name)
        place = f"{place}.{name}"
    return found


def _near(name: str, place: Any) -> str | None:
    known = [one for one in dir(place) if not one.startswith("__")]
    known += [one.name for one in pkgutil.iter_modules(getattr(place, "__path__", ()))]
    near = nearest(name, known)
    return None if near is None else f"Did you mean {near!r}?"


def _importable(name: str) -> str:
    near = nearest(name, {one.partition(".")[0] for one in sys.modules})
    if near is not None:
        return f"Did you mean {near!r}?"
    return "Install it, or put its directory on PYTHONPATH."
