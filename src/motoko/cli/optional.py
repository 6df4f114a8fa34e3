"""Commands that need packages which are not always installed."""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from typing import Any


def required(command: str, module: str, name: str, *, extra: str) -> Any:
    """Return an object of a module of Motoko; MotokoError if the module needs an extra."""
    from importlib import import_module

    from motoko.errors import MotokoError

    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "motoko":
            raise
        raise MotokoError(
            f"{command} needs {error.name}, which is not installed",
            hint=f"pip install 'motoko[{extra}]'",
        ) from error
