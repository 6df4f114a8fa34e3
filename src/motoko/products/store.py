"""Where products are kept: a directory with a manifest and one file for each product."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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
from motoko.products.stored import (
    FILE,
    damage,
    damage_within,
    own_paths,
    paths_of,
    record_of,
    stem_of,
    strays,
)
from motoko.runtime import clock
from motoko.runtime.file_lock import FileLock
from motoko.runtime.files import replace_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from motoko.products.manifest import Entry

LOCK_SECONDS: Final = 60.0
UNFINISHED: Final = re.compile(r"\..+\.[0-9a-f]{12}(\..*)?$")  # see motoko.runtime.files


class WorkflowProducts:
    """Products stored in a directory, for this session and later ones.

    The directory is ``products_dir``, else ``products`` in the output directory of ``config``,
    else ``./products``; it is made at once. NumPy arrays, dictionaries of them, plain data and
    paths can be stored, and what a registered :class:`Serialiser` handles. Of a path only the
    place is recorded: the file is the user's, and is neither copied nor removed.

    Several processes may use one directory. A product is there whole or not at all: who dies
    while saving leaves the former one, or one that is noticed to be damaged.
    """

    def __init__(
        self,
        config: object = None,
        products_dir: str | os.PathLike[str] | None = None,
        *,
        serialisers: Iterable[Serialiser] = (),
    ) -> None:
        if products_dir is None:
            output = getattr(config, "output_dir", None)
            products_dir = "products" if output is None else Path(output) / "products"
        self._directory = Path(os.path.abspath(products_dir))
        self._serialisers = [*serialisers]
        self._place = str(self._directory)  # joining paths to a Path costs twice as much
        self._swept = False
        with self._writing("be made"):
            self._directory.mkdir(parents=True, exist_ok=True)
        self._manifest = Manifest(self._directory / "manifest.yaml")

    @property
    def products_dir(self) -> Path:
        """The directory that products are stored in."""
        return self._directory

    def register(self, serialiser: Serialiser) -> None:
        """Store values with ``serialiser`` too; of several that can, the last one is used."""
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
        """Store a product, instead of a former one of that name.

        ``cache_key`` says what it was made from; ``inputs`` and ``metadata`` are kept in the
        manifest for people. NotStorableError if nothing can store such a value,
        ReadOnlyStoreError if nothing can be written here, ProductError otherwise.
        """
        extra = {"cache_key": cache_key, "inputs": inputs, "metadata": metadata or None}
        described = {key: value for key, value in extra.items() if value is not None}
        try:
            as_json(described)
        except ValueError as error:
            raise ProductError(f"product {name!r} cannot be described: {error}") from error
        with self._writing(f"take product {name!r}"), self._lock():
            self._sweep()
            former = self._manifest.entries().get(name)
            saved = self._save_path(obj) if isinstance(obj, Path) else self._save_value(name, obj)
            saved_at = clock.utc(clock.now()).isoformat(timespec="seconds")
            self._manifest.put(name, {**saved, "saved_at": saved_at, **described})
            if former is not None:
                kept = own_paths(saved, self._directory)
                self._unlink(
                    path for path in own_paths(former, self._directory) if path not in kept
                )

    def load(self, name: str, **options: Any) -> Any:
        """Return a stored product; ``options`` are given to the serialiser that reads it.

        UnknownNodeError (a KeyError) if there is none of that name, DamagedProductError if its
        file is gone or is not what was saved.
        """
        entry = self._entry(name)
        try:
            return self._read(name, entry, options)
        except DamagedProductError:
            if self._manifest.entries().get(name) in (None, entry):
                raise
        # Another process has saved it meanwhile.
        return self._read(name, self._entry(name), options)

    def exists(self, name: str) -> bool:
        """Whether a product is in the manifest, and its files on disk."""
        entry = self._manifest.entries().get(name)
        return (
            entry is not None
            and strays(entry) is None
            and all(os.path.exists(os.path.join(self._place, one)) for one in entry["files"])
        )

    def problem(self, name: str) -> str | None:
        """Return what is wrong with a stored product as far as looking at its files tells."""
        entry = self._manifest.entries().get(name)
        return None if entry is None else damage(entry, self._place)

    def fresh(self, name: str, cache_key: str | None) -> bool:
        """Whether a product is stored, undamaged, and has this key or none."""
        entry = self._manifest.entries().get(name)
        if entry is None or damage(entry, self._place):
            return False
        return entry.get("cache_key") in (None, cache_key)

    def cache_key_for(self, name: str) -> str | None:
        """Return the key that a product was saved with, or None."""
        entry = self._manifest.entries().get(name)
        return None if entry is None else entry.get("cache_key")

    def inputs_for(self, name: str) -> dict[str, Any]:
        """Return what a product was saved with as its inputs; nothing if there is nothing."""
        entry = self._manifest.entries().get(name)
        return (entry and entry.get("inputs")) or {}

    def list(self) -> list[str]:
        """Return the names in the manifest, sorted."""
        return sorted(self._manifest.entries())

    def status(self, module: object = None) -> dict[str, str]:
        """Return ``on_disk``, ``damaged`` or ``missing`` for what is stored.

        With ``module`` also for what its steps produce.
        """
        names = {*self._manifest.entries()}
        if module is not None:
            names.update(collect_steps(module).producers)
        return {name: self._status(name) for name in sorted(names)}

    def remove(self, name: str) -> None:
        """Forget a product and remove its file; nothing if there is none."""
        if name in self._manifest.entries():
            self._forget(name)

    def clear(self) -> None:
        """Forget all products and remove their files."""
        self._forget(*self._manifest.entries())

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
            found = damage_within(entry, self._directory)
        except OSError as error:
            found = str(error)
        if found:
            raise DamagedProductError(f"product {name!r} is damaged: {found}")
        (path,) = paths_of(entry, self._directory)
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
            f"product {name!r} is of kind {kind!r}, which nothing here can read",
            hint="Register the serialiser that it was saved with: products.register(...).",
        )

    def _save_path(self, path: Path) -> Entry:
        place = Path(os.path.abspath(path))
        if not place.exists():
            raise ProductError(f"the file {place} does not exist, so it cannot be a product")
        within = place.is_relative_to(self._directory)
        name = str(place.relative_to(self._directory)) if within else str(place)
        return {"type": FILE, "files": [name], **record_of(place)}

    def _save_value(self, name: str, value: object) -> Entry:
        serialiser = next(s for s in (*self._serialisers, *built_in()) if s.can_store(value))
        stem = stem_of(name)
        path = self._directory / f"{stem}{serialiser.suffix}"
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
            # The digest, not the order of writes, tells a file that a power cut has damaged.
            record = record_of(temporary)
        return {"type": serialiser.kind, "files": [path.name], **record}

    def _forget(self, *names: str) -> None:
        with self._writing("be changed"), self._lock():
            entries = self._manifest.entries()
            known = [entries[name] for name in names if name in entries]
            self._manifest.drop(*names)
            for entry in known:
                self._unlink(own_paths(entry, self._directory))

    def _sweep(self) -> None:
        """Remove what somebody who died while saving has left; the lock is held."""
        if not self._swept:
            files = (path for path in self._directory.iterdir() if UNFINISHED.match(path.name))
            self._unlink([*files])
            self._swept = True

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
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ReadOnlyStoreError(
                f"the product store {self._directory} cannot {what}: {error.strerror or error}",
                hint="Make the directory writable, or name another one: products_dir=...",
            ) from error
