"""Serialisers write values to files and read them back: arrays and plain data."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Serialiser:
    """Stores each value of one kind in a file.

    The manifest records ``kind``. ``handles`` is a type, several types, or a predicate.
    ``write(value, path)`` writes to ``path``, which ends in ``suffix``. ``read(path)`` returns
    the value and receives further arguments of ``load``.
    """

    kind: str
    suffix: str
    handles: type | tuple[type, ...] | Callable[[Any], bool]
    write: Callable[[Any, Path], object]
    read: Callable[..., Any]

    def can_store(self, value: object) -> bool:
        """Whether ``value`` is of this kind."""
        if isinstance(self.handles, (type, tuple)):
            return isinstance(value, self.handles)
        return bool(self.handles(value))


def built_in() -> tuple[Serialiser, ...]:
    """Return the built-in serialisers; the first one that can store a value is used."""
    return (
        Serialiser("ndarray", ".npz", _is_array, _write_array, _read_array),
        Serialiser("scalar", ".npz", _is_scalar, _write_array, lambda p: _read_array(p)[()]),
        Serialiser("arrays", ".npz", _is_arrays, _write_arrays, _read_arrays),
        Serialiser("yaml", ".yaml", lambda _: True, _write_plain, _read_plain),
    )


def _is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    # Other subclasses have more than their numbers: a mask, a unit.
    return numpy is not None and type(value) in (numpy.ndarray, numpy.memmap)


def _is_scalar(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic)


def _is_arrays(value: object) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) for name in value)
        and all(_is_array(one) for one in value.values())
    )


def _write_arrays(value: dict[str, Any], path: Path) -> None:
    import numpy as np

    names = np.frombuffer(json.dumps([*value]).encode(), np.uint8)
    _write_array(names, path, *value.values())


def _write_array(value: Any, path: Path, *more: Any) -> None:
    import numpy as np

    arrays = (value, *more)
    if any(one.dtype.hasobject for one in arrays):
        raise TypeError("an array of Python objects cannot be stored")
    with path.open("wb") as file:
        np.savez(file, *arrays)


def _read_array(path: Path) -> Any:
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        return archive["arr_0"]


def _read_arrays(path: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        names = json.loads(archive["arr_0"].tobytes())
        return {name: archive[f"arr_{number}"] for number, name in enumerate(names, 1)}


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """PyYAML's safe dumper, which also writes tuples, complex numbers and NumPy's numbers."""

    def ignore_aliases(self, data: Any) -> bool:
        return data == () if isinstance(data, tuple) else bool(super().ignore_aliases(data))


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, which also reads what :class:`_Dumper` writes."""


_TUPLE, _COMPLEX = "tag:yaml.org,2002:python/tuple", "tag:yaml.org,2002:python/complex"


def _represent_other(dumper: Any, value: Any) -> Any:
    if _is_scalar(value) and not _is_scalar(value.item()):
        return dumper.represent_data(value.item())
    raise TypeError(f"a {type(value).__name__} is not plain data")


_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_sequence(_TUPLE, value))
_Dumper.add_representer(
    complex, lambda dumper, value: dumper.represent_scalar(_COMPLEX, repr(value))
)
_Dumper.add_multi_representer(object, _represent_other)
_Loader.add_constructor(
    _TUPLE, lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
)
_Loader.add_constructor(_COMPLEX, lambda loader, node: complex(loader.construct_scalar(node)))


def _write_plain(value: Any, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yaml.dump(value, file, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _read_plain(path: Path) -> Any:
    return yaml.load(path.read_bytes(), Loader=_Loader)  # noqa: S506 - built on the safe one
