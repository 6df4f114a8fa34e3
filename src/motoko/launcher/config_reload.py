"""Reload a launcher's configuration when its files have changed."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from motoko.config import STUDY_FILE
from motoko.errors import MotokoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.config import WorkflowSettings
    from motoko.runtime.ports import Clock


SETTLE_SECONDS: Final = 1.0  # a younger file may change again without a new modification time

_T = TypeVar("_T")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ConfigReloader(Generic[_T]):
    """Reads ``motoko.yaml`` and every ``bd.yaml`` again when one of them has changed.

    ``read`` returns the configuration, ``apply`` converts one that differs from ``config``; both
    may raise MotokoError. ``error`` is its text; ``config`` applies until it is corrected.
    """

    config: WorkflowSettings
    read: Callable[[], WorkflowSettings]
    apply: Callable[[WorkflowSettings], _T]
    clock: Clock
    error: str = ""
    _seen: tuple[tuple[int, ...], ...] | None = field(default=None, init=False)

    def check(self) -> _T | None:
        """Return the converted configuration if it has changed, else None. Blocks."""
        stamps = self._stamps()
        if not self.error and stamps == self._seen:
            return None
        try:
            found = self.read()
            changed = self.apply(found) if found != self.config else None
        except MotokoError as error:
            if str(error) != self.error:
                log.error("the previous configuration applies until this is corrected: %s", error)
            self.error = str(error)
            return None
        self.config, self.error = found, ""
        now = self.clock.now()
        fresh = any(abs(now - stamp[0] / 1e9) < SETTLE_SECONDS for stamp in stamps if stamp)
        self._seen = None if fresh else stamps
        return changed

    def _stamps(self) -> tuple[tuple[int, ...], ...]:
        directories = [self.config.directory / name for name in self.config.task_managers]
        files = [self.config.path, *directories, *(path / STUDY_FILE for path in directories)]
        return tuple(map(_file_stamp, map(str, files)))


def _file_stamp(path: str) -> tuple[int, ...]:
    """Return values that change with a file; an empty tuple if it does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino
