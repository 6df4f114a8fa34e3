"""The digest of a study's scripts, kept with each run to tell when they have changed since."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from motoko.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.config import StudyConfig


def scripts_digest(study: StudyConfig) -> str:
    """Return a digest over the names and contents of the files copied into run directories."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted({study.exec_file, *study.config_files}):
        path = study.directory / name
        digest.update(name.encode() + b"\0")
        if path.is_file():
            digest.update(_content(path))
        digest.update(b"\0")
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", hint="It is copied for each run."
        ) from error
