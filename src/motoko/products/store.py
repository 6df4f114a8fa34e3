"""The store of products: a directory with a manifest and one file for each product."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from motoko.errors import (
    DamagedProductError,
    NotStorableError,
    ProductError,
    ReadOnlyStoreError,
    UnknownNodeError,
    nearest,
)
from motoko.products.canonical_json import as_json
from motoko.products.manifest import Manifest
from motoko.products.serialisers import Serialiser, built_in
from motoko.products.steps import collect_steps
from motoko.runtime.file_lock import FileLock
from motoko.runtime.files import replace_atomically
from motoko.runtime.ports import SYSTEM, Clock, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from motoko.products.manifest import Entry

FILE: Final = "file"  # the kind of a product that is a path of the user's
LOCK_SECONDS: Final = 60.0
LONGEST_STEM: Final = 150
TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{12}(\..*)?$")  # see motoko.runtime.files


class WorkflowProducts:
    """Products stored in a directory, for this session and later ones.

    The directory is ``products_dir``, else ``products`` in the output directory of ``config``,
    else ``./products``; it is created at once. NumPy arrays, dictionaries of them, plain data,
    paths and values of registered :class:`Serialiser` objects can be stored. Only the location of
    a path is recorded: its file is neither copied nor removed.

    Several processes may use one directory. Products are written atomically: a process that is
    killed while saving leaves the previous product, or one that is detected as damaged.
    """

    def __init__(
        self,
        config: object = None,
        products_dir: str | os.PathLike[str] | None = None,
        *,
        serialisers: Iterable[Serialiser] = (),
        clock: Clock = SYSTEM.clock,
    ) -> None:
        if products_dir is None:
            output = getattr(config, "output_dir", None)
            products_dir = "products" if output is None else Path(output) / "products"
        self._directory = Path(os.path.abspath(products_dir))
        self._serialisers = [*serialisers]
        self._location = str(self._directory)  # joining paths to a Path costs twice as much
        self._clock = clock
        self._is_clean = False
        with self._writing("be created"):
            self._directory.mkdir(parents=True, exist_ok=True)
        self._manifest = Manifest(self._directory / "manifest.yaml", clock)

    @property
    def products_dir(self) -> Path:
        """The directory of the store."""
        return self._directory

    def register(self, serialiser: Serialiser) -> None:
        """Use ``serialiser`` too; the last registered one that can store a value is used."""
        self._serialisers.insert(0, serialiser)

    def save(
        self,
        name: str,
        obj: object,
        *,
        cache_key: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        **metadata: Any,
    ) -> None:
        """Store a product; replace an earlier one of that name.

        ``cache_key`` identifies its inputs; ``inputs`` and ``metadata`` are recorded in the
        manifest for people. NotStorableError if no serialiser can store the value,
        ReadOnlyStoreError if the directory is not writable, ProductError otherwise.
        """
        extra = {"cache_key": cache_key, "inputs": inputs, "metadata": metadata or None}
        described = {key: value for key, value in extra.items() if value is not None}
        try:
            as_json(described)
        except ValueError as error:
            raise ProductError(f"product {name!r} cannot be described: {error}") from error
        with self._writing(f"save product {name!r}"), self._lock():
            self._remove_temporary_files()
            former = self._manifest.entries().get(name)
            saved = self._save_path(obj) if isinstance(obj, Path) else self._save_value(name, obj)
            saved_at = utc_text(self._clock.now())
            self._manifest.put(name, {**saved, "saved_at": saved_at, **described})
            if former is not None:
                kept = own_paths(saved, self._directory)
                self._unlink(
                    path for path in own_paths(former, self._directory) if path not in kept
                )

    def load(self, name: str, **options: Any) -> Any:
        """Return a stored product; ``options`` are passed to the serialiser that reads it.

        UnknownNodeError (a KeyError) for an unknown name, DamagedProductError if its file was
        removed or changed.
        """
        entry = self._entry(name)
        try:
            return self._read(name, entry, options)
        except DamagedProductError:
            if self._manifest.entries().get(name) in (None, entry):
                raise
        # Another process has saved the product in the meantime.
        return self._read(name, self._entry(name), options)

    def exists(self, name: str) -> bool:
        """Whether a product is in the manifest and its files exist."""
        entry = self._manifest.entries().get(name)
        return (
            entry is not None
            and foreign_file(entry) is None
            and all(os.path.exists(os.path.join(self._location, one)) for one in entry["files"])
        )

    def problem(self, name: str) -> str | None:
        """Return the damage of a stored product, without reading its files."""
        entry = self._manifest.entries().get(name)
        return None if entry is None else damage(entry, self._location)

    def fresh(self, name: str, cache_key: str | None) -> bool:
        """Whether an undamaged product is stored with this key or without one."""
        entry = self._manifest.entries().get(name)
        if entry is None or damage(entry, self._location):
            return False
        return entry.get("cache_key") in (None, cache_key)

    def cache_key_for(self, name: str) -> str | None:
        """Return the key of a stored product, or None."""
        entry = self._manifest.entries().get(name)
        return None if entry is None else entry.get("cache_key")

    def inputs_for(self, name: str) -> dict[str, Any]:
        """Return the recorded inputs of a product, if any."""
        entry = self._manifest.entries().get(name)
        return (entry and entry.get("inputs")) or {}

    def list(self) -> list[str]:
        """Return the names in the manifest, sorted."""
        return sorted(self._manifest.entries())

    def status(self, module: object = None) -> dict[str, str]:
        """Return ``on_disk``, ``damaged`` or ``missing`` by product, also those of ``module``."""
        names = {*self._manifest.entries()}
        if module is not None:
            names.update(collect_steps(module).producers)
        return {name: self._status(name) for name in sorted(names)}

    def remove(self, name: str) -> None:
        """Remove a product and its file, if it exists."""
        if name in self._manifest.entries():
            self._remove(name)

    def clear(self) -> None:
        """Remove all products and their files."""
        self._remove(*self._manifest.entries())

    def _status(self, name: str) -> str:
        if name not in self._manifest.entries():
            return "missing"
        return "damaged" if self.problem(name) else "on_disk"

    def _entry(self, name: str) -> Entry:
        entries = self._manifest.entries()
        if name not in entries:
            near = nearest(name, entries)
            raise UnknownNodeError(
                f"Product {name!r} not found. Available: {', '.join(sorted(entries)) or '(none)'}",
                hint=near and f"Did you mean {near!r}?",
            )
        return entries[name]

    def _read(self, name: str, entry: Entry, options: dict[str, Any]) -> Any:
        try:
            problem = damage_in_content(entry, self._directory)
        except OSError as error:
            problem = str(error)
        if problem:
            raise DamagedProductError(f"product {name!r} is damaged: {problem}")
        (path,) = entry_paths(entry, self._directory)
        if entry.get("type") == FILE:
            return path
        serialiser = self._by_kind(name, str(entry.get("type")))
        try:
            return serialiser.read(path, **options)
        except Exception as error:
            raise DamagedProductError(
                f"product {name!r} cannot be read from {path}: {error}"
            ) from error

    def _by_kind(self, name: str, kind: str) -> Serialiser:
        for one in (*self._serialisers, *built_in()):
            if one.kind == kind:
                return one
        raise ProductError(
            f"product {name!r} is of kind {kind!r}, for which no serialiser is registered",
            hint="Register the serialiser that saved it: products.register(...).",
        )

    def _save_path(self, path: Path) -> Entry:
        file = Path(os.path.abspath(path))
        if not file.exists():
            raise ProductError(f"the file {file} does not exist, so it cannot be a product")
        is_inside = file.is_relative_to(self._directory)
        name = str(file.relative_to(self._directory)) if is_inside else str(file)
        return {"type": FILE, "files": [name], **fingerprint(file)}

    def _save_value(self, name: str, value: object) -> Entry:
        serialiser = next(s for s in (*self._serialisers, *built_in()) if s.can_store(value))
        path = self._directory / f"{file_stem(name)}{serialiser.suffix}"
        with replace_atomically(path) as temporary:
            try:
                serialiser.write(value, temporary)
            except OSError:
                raise
            except Exception as error:
                raise NotStorableError(
                    f"product {name!r}, a {type(value).__name__}, cannot be stored: {error}",
                    hint="Register a serialiser for it: products.register(Serialiser(...)).",
                ) from error
            # The digest, not the order of writes, detects damage by a power cut.
            recorded = fingerprint(temporary)
        return {"type": serialiser.kind, "files": [path.name], **recorded}

    def _remove(self, *names: str) -> None:
        with self._writing("be changed"), self._lock():
            entries = self._manifest.entries()
            known = [entries[name] for name in names if name in entries]
            self._manifest.drop(*names)
            for entry in known:
                self._unlink(own_paths(entry, self._directory))

    def _remove_temporary_files(self) -> None:
        """Remove the files of killed processes, once; the caller holds the lock."""
        if not self._is_clean:
            files = (path for path in self._directory.iterdir() if TEMPORARY.match(path.name))
            self._unlink([*files])
            self._is_clean = True

    def _unlink(self, paths: Iterable[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    def _lock(self) -> FileLock:
        return FileLock(
            self._directory / ".lock",
            timeout=LOCK_SECONDS,
            purpose="saving products",
            error=ProductError,
        )

    @contextlib.contextmanager
    def _writing(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ReadOnlyStoreError(
                f"the product store {self._directory} cannot {action}: {error.strerror or error}",
                hint="Make the directory writable, or use another one: products_dir=...",
            ) from error


def file_stem(name: str) -> str:
    """Return the file name of product ``name`` without suffix; it is unique."""
    stem = quote(name, safe="", errors="surrogatepass")
    if stem.startswith(".") or stem == "manifest":
        stem = f"%{ord(stem[0]):02X}{stem[1:]}"
    if len(stem) > LONGEST_STEM or not stem:
        stem = f"{stem[:100]}%{hashlib.sha256(stem.encode()).hexdigest()}"
    return stem


def fingerprint(path: Path) -> Entry:
    """Return size, time and digest of a file; nothing for a directory. Raise OSError."""
    found = path.stat()
    if path.is_dir():
        return {}
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": file_digest(path)}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry_paths(entry: Entry, directory: Path) -> list[Path]:
    """Return the paths of the files of an entry."""
    return [directory / name for name in entry["files"]]


def own_paths(entry: Entry, directory: Path) -> list[Path]:
    """Return the files of an entry that the store wrote; a file product is the user's."""
    if entry.get("type") == FILE or foreign_file(entry) is not None:
        return []
    return entry_paths(entry, directory)


def foreign_file(entry: Entry) -> str | None:
    """Return an error if the untrusted manifest names a file that the store cannot have written."""
    for name in entry["files"]:
        path = Path(name)
        outside = ".." in path.parts or "\0" in name
        if outside or (
            entry.get("type") != FILE and (not name or path.name != name or name.startswith("."))
        ):
            return f"the manifest names {name!r}, which is not a file of the store"
    return None


def damage(entry: Entry, directory: str) -> str | None:
    """Return the damage to the files of an entry, without reading them."""
    foreign = foreign_file(entry)
    if foreign is not None:
        return foreign
    is_own = entry.get("type") != FILE
    for name in entry["files"]:
        path = os.path.join(directory, name)
        try:
            # The store writes no links; the user's own file may be one.
            found = os.stat(path, follow_symlinks=not is_own)
        except FileNotFoundError:
            return f"its file {path} does not exist"
        except OSError as error:
            return f"its file {path} cannot be read: {error.strerror}"
        if not (stat.S_ISREG(found.st_mode) or (stat.S_ISDIR(found.st_mode) and not is_own)):
            return f"its file {path} is not a regular file"
        if entry.get("size") not in (None, found.st_size):
            size = entry["size"]
            return f"its file {path} has {found.st_size} bytes, not the {size} that were saved"
    return None


def damage_in_content(entry: Entry, directory: Path) -> str | None:
    """Return the damage to the files of an entry, reading them; raise OSError."""
    problem = damage(entry, str(directory))
    if problem or entry.get("sha256") is None:
        return problem
    for path in entry_paths(entry, directory):
        if entry.get("type") == FILE and path.stat().st_mtime_ns == entry.get("mtime_ns"):
            continue  # the user's file may be large
        if file_digest(path) != entry["sha256"]:
            return f"its file {path} is not the file that was saved"
    return None
