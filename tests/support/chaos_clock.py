"""An adjustable time of day for all Python processes of a workflow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from pathlib import Path

HOURS = (-5, 0, 5)
# Every Python process imports this at its start. (libfaketime breaks Python's sleeps.)
CUSTOMISED = """\
import time

def shifted(real=time.time, path={path!r}):
    with open(path) as file:
        return real() + 3600 * int(file.read())

time.time = shifted
"""


class Clock:
    """Sets the time of day of processes started with its ``environment``."""

    def __init__(self, place: Path, *, jumping: bool) -> None:
        self._file = place / "hours"
        self._hours = 0
        self.environment: dict[str, str] = {}
        if jumping:
            place.mkdir()
            self.set(0)
            text = CUSTOMISED.format(path=str(self._file))
            (place / "sitecustomize.py").write_text(text)
            paths = [str(place), *filter(None, [os.environ.get("PYTHONPATH")])]
            self.environment = {"PYTHONPATH": os.pathsep.join(paths)}

    def jump(self, rng: random.Random) -> bool:
        """Set another time of day, if enabled; return whether it is enabled."""
        if self.environment:
            self.set(rng.choice([hours for hours in HOURS if hours != self._hours]))
        return bool(self.environment)

    def set(self, hours: int) -> None:
        """Move the time of day by ``hours`` from the real one."""
        self._hours = hours
        new = self._file.with_name("new")
        new.write_text(str(hours))
        new.replace(self._file)
