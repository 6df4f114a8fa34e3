"""Reload a launcher's configuration when its files have changed."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from motoko.config import STUDY_FILE
from motoko.errors import MotokoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.config import WorkflowSettings
    from motoko.runtime.ports import Clock

    Stamps: TypeAlias = tuple[tuple[int, ...], ...]

SETTLE_SECONDS: Final = 1.0  # a younger file may change again without a new modification time

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ConfigReloader:
    """Reads ``motoko.yaml`` and every ``bd.yaml`` again when one of them has changed.

    ``read`` returns the configuration, ``apply`` gets one that differs from ``config``; both may
    raise MotokoError. Its text is ``error``: the former configuration holds until it is corrected.
    """

    config: WorkflowSettings
    read: Callable[[], WorkflowSettings]
    apply: Callable[[WorkflowSettings], object]
    clock: Clock
    error: str = ""
    _seen: Stamps | None = field(default=None, init=False)

    def check(self) -> bool:
        """Apply a changed configuration; return whether it has changed. Blocks."""
        stamps = self._stamps()
        if not self.error and stamps == self._seen:
            return False
        try:
            found = self.read()
            changed = found != self.config
            if changed:
                self.apply(found)
        except MotokoError as error:
            self._refuse(str(error))
            return False
        self.config, self.error = found, ""
        self._seen = None if self._is_fresh(stamps) else stamps
        return changed

    def _refuse(self, problem: str) -> None:
        if problem != self.error:
            log.error("the former configuration holds until the new one is corrected: %s", problem)
        self.error = problem

    def _stamps(self) -> Stamps:
        directories = [self.config.directory / name for name in self.config.task_managers]
        files = [self.config.path, *directories, *(path / STUDY_FILE for path in directories)]
        return tuple(map(_file_stamp, map(str, files)))

    def _is_fresh(self, stamps: Stamps) -> bool:
        now = self.clock.now()
        return any(abs(now - stamp[0] / 1e9) < SETTLE_SECONDS for stamp in stamps if stamp)


def _file_stamp(path: str) -> tuple[int, ...]:
    """Return values that change with a file; an empty tuple if it does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino
