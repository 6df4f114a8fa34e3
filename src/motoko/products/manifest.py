"""The manifest of a store: the entry of each product, readable by people.

Each line holds the name of a product and its entry in JSON, so the file is also YAML. A save
appends one line, however many products exist; the last line of a product is valid, here and for
YAML readers. Reading 10,000 lines as JSON takes 0.05 s; PyYAML's parser in C, which reads all other
manifests, takes 2.5 s.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import yaml

from motoko.errors import ProductError
from motoko.products.canonical_json import as_json
from motoko.products.session import warn
from motoko.runtime.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from motoko.runtime.ports import Clock

Entry: TypeAlias = "dict[str, Any]"

HEADER: Final = "# Stored products; of several lines for one product the last one holds.\n"
SPARE_LINES: Final = 1000
RETRIES: Final = 5
RETRY_SECONDS: Final = 0.01


class Manifest:
    """The entries in the file ``path``; writers must hold the store's lock."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._lines = 0
        self._signature: tuple[int, int, int] | None = None
        self._must_rewrite = True
        self._damaged = False

    def entries(self) -> Mapping[str, Entry]:
        """Return the valid entries by product; ProductError if the file cannot be read."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            self._entries, self._signature, self._must_rewrite = {}, None, True
            return self._entries
        signature = _signature(found)
        if signature != self._signature:
            self._load()
            self._signature = signature
        return self._entries

    def put(self, name: str, entry: Entry) -> None:
        """Write the entry of a product; replace an earlier one."""
        self.entries()
        line = _line(name, entry)
        known = json.loads(f"{{{line}}}")
        if self._must_rewrite or self._lines > 2 * len(self._entries) + SPARE_LINES:
            self._rewrite({**self._entries, **known})
            return
        self._append(line.encode())
        self._entries.update(known)
        self._lines += 1

    def drop(self, *names: str) -> None:
        """Write the manifest without the entries of these products."""
        entries = self.entries()
        self._rewrite({name: entry for name, entry in entries.items() if name not in names})

    def _load(self) -> None:
        self._entries, self._damaged, self._must_rewrite = {}, False, True
        try:
            data = self._read_whole_lines()
        except OSError as error:
            raise ProductError(
                f"the manifest {self.path} cannot be read: {error.strerror or error}",
                hint="Remove it to build all products again, or use another directory: "
                "products_dir=...",
            ) from error
        if data.startswith(HEADER.encode()):
            *lines, rest = data.decode(errors="replace").split("\n")
            lines = lines[1:]
            self._lines = len(lines)
            self._entries, broken = parse_lines(lines)
            self._damaged = self._must_rewrite = bool(broken or rest)
            if self._damaged:
                self._warn(f"{broken + bool(rest)} of its lines cannot be read")
            return
        try:
            self._entries = parse_yaml(data)
        except ValueError as error:
            self._damaged = True
            self._warn(str(error))

    def _warn(self, problem: str) -> None:
        warn(f"{self.path} is damaged; products that it no longer lists are built again: {problem}")

    def _read_whole_lines(self) -> bytes:
        """Return the content of the file; wait briefly for the end of an unfinished line."""
        data = _content(self.path)
        for _ in range(RETRIES):
            if data.endswith(b"\n"):
                break
            self._clock.sleep(RETRY_SECONDS)
            data = _content(self.path)
        return data

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line) != len(line):
                    raise OSError("no space for a line of the manifest")
            except OSError:
                os.ftruncate(descriptor, size)
                raise
            self._signature = _signature(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def _rewrite(self, entries: dict[str, Entry]) -> None:
        if self._damaged:
            os.replace(self.path, self.path.with_name(f"{self.path.name}.damaged"))
        lines = (_line(name, entry) for name, entry in entries.items())
        write_atomic(self.path, (HEADER + "".join(lines)).encode())
        self._entries, self._lines = entries, len(entries)
        self._damaged = self._must_rewrite = False
        self._signature = _signature(os.stat(self.path))


def parse_lines(lines: list[str]) -> tuple[dict[str, Entry], int]:
    """Return the entries in lines of JSON, and the number of unreadable lines."""
    try:
        found = json.loads(f"{{{','.join(lines)}}}")
    except ValueError:
        found = None
    if isinstance(found, dict) and all(map(is_entry, found, found.values())):
        return found, 0
    entries: dict[str, Entry] = {}
    broken = 0
    for line in lines:
        try:
            one = json.loads(f"{{{line}}}")
        except ValueError:
            one = {}
        if len(one) == 1 and all(map(is_entry, one, one.values())):
            entries.update(one)
        else:
            broken += 1
    return entries, broken


def parse_yaml(data: bytes) -> dict[str, Entry]:
    """Return the entries of a manifest in YAML; ValueError if it is not one."""
    try:
        found = yaml.load(data, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - safe
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    if not isinstance(found, dict):
        raise ValueError("it is not a mapping of products")
    for name, entry in found.items():
        if not is_entry(name, entry):
            raise ValueError(f"its entry for {name!r} names no files")
    return found


def is_entry(name: object, entry: object) -> bool:
    """Whether ``name`` and ``entry`` are valid in a manifest."""
    files = entry.get("files") if isinstance(entry, dict) else None
    texts = isinstance(files, list) and all(isinstance(one, str) for one in files)
    return isinstance(name, str) and texts and bool(files)


def _line(name: str, entry: Entry) -> str:
    return f"{json.dumps(name)}: {as_json(entry)}\n"


def _signature(found: os.stat_result) -> tuple[int, int, int]:
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _content(path: Path) -> bytes:
    """Return the content of a regular file; OSError for links, which may leave the store."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return file.read()
