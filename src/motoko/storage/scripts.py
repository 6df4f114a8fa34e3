"""The digest of a study's scripts, kept with each run to tell when they have changed since."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from motoko.errors import ConfigError
from motoko.worker.regular import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.config import StudyConfig

PIECE: Final = 1 << 20  # bytes read at once


def scripts_digest(study: StudyConfig) -> str:
    """Return a digest over the names and contents of the files copied into run directories."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted({study.exec_file, *study.config_files}):
        path = study.directory / name
        digest.update(name.encode() + b"\0")
        if path.is_file():
            for piece in _pieces(path):
                digest.update(piece)
        digest.update(b"\0")
    return digest.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with open_regular(path) as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", hint="It is copied for each run."
        ) from error
