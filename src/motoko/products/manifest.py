"""The manifest: what is stored, for the store to find and for people to audit.

The file is JSON with one line for each product, which every YAML reader reads too: the 10,000
entries that PyYAML's parser in C takes 2.5 s for are there in 0.05 s. A manifest in YAML's other
ways of writing is read as well.
"""

from __future__ import annotations

import json
import os
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from motoko.errors import ProductWarning
from motoko.products.keys import as_json
from motoko.runtime.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

Entry: TypeAlias = "dict[str, Any]"


class Manifest:
    """The entries in the file ``path``; it is read again when somebody else has changed it.

    Only who holds the store's lock may change it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, Entry] = {}
        self._lines: dict[str, str] = {}
        self._read: tuple[int, int, int] | None = None
        self._damaged = False

    def entries(self) -> dict[str, Entry]:
        """Return the entries by product; do not change them. A damaged file counts as empty."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            self._entries, self._lines, self._read = {}, {}, None
            return self._entries
        signature = (found.st_ino, found.st_mtime_ns, found.st_size)
        if signature != self._read:
            self._load()
            self._read = signature
        return self._entries

    def put(self, name: str, entry: Entry) -> None:
        """Write the entry of a product, instead of a former one."""
        line = f"{json.dumps(name, ensure_ascii=False)}: {as_json(entry)}"
        self._write(
            {**self._current(), name: line}, {**self._entries, name: json.loads(as_json(entry))}
        )

    def drop(self, *names: str) -> None:
        """Write the manifest without the entries of these products."""
        lines = {name: line for name, line in self._current().items() if name not in names}
        entries = {name: entry for name, entry in self._entries.items() if name not in names}
        self._write(lines, entries)

    def _current(self) -> dict[str, str]:
        self.entries()
        return self._lines

    def _load(self) -> None:
        self._entries, self._lines = {}, {}
        data = self.path.read_bytes()
        try:
            self._entries = parse(data)
            self._damaged = False
        except ValueError as error:
            self._damaged = True
            warnings.warn(
                f"{self.path} is damaged, its products are built again: {error}",
                ProductWarning,
                stacklevel=2,
            )
        self._lines = _lines(data, self._entries)

    def _write(self, lines: dict[str, str], entries: dict[str, Entry]) -> None:
        if self._damaged:
            os.replace(self.path, self.path.with_name(f"{self.path.name}.damaged"))
            self._damaged = False
        text = ",\n".join(lines.values())
        write_atomic(self.path, f"{{\n{text}\n}}\n".encode())
        found = os.stat(self.path)
        self._entries, self._lines = entries, lines
        self._read = (found.st_ino, found.st_mtime_ns, found.st_size)


def parse(data: bytes) -> dict[str, Entry]:
    """Return the entries of a manifest in JSON or YAML; ValueError if it is neither."""
    try:
        found = json.loads(data)
    except ValueError:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            found = yaml.load(data, Loader=loader)  # noqa: S506 - both loaders are safe
        except yaml.YAMLError as error:
            raise ValueError(str(error).splitlines()[0]) from error
    if not isinstance(found, dict):
        raise ValueError("it holds no products by name")
    for name, entry in found.items():
        files = entry.get("files") if isinstance(entry, dict) else None
        if (
            not isinstance(name, str)
            or not isinstance(files, list)
            or not all(isinstance(one, str) for one in files)
        ):
            raise ValueError(f"what it says of {name!r} names no files")
    return found


def _lines(data: bytes, entries: dict[str, Entry]) -> dict[str, str]:
    """Return the line of each entry, as the file has it where it is written in our way."""
    if not entries:
        return {}
    lines = data.decode().split("\n")[1:-2]
    if len(lines) == len(entries) and data.startswith(b'{\n"'):
        return {name: line.removesuffix(",") for name, line in zip(entries, lines, strict=True)}
    return {
        name: f"{json.dumps(name, ensure_ascii=False)}: {as_json(entry)}"
        for name, entry in entries.items()
    }
