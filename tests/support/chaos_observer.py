"""Check the processes: no run is ever executed twice at the same time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from tests.support import workflow_processes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.tally import Tally

SECONDS = 0.1


class Observer:
    """Polls /proc while a workflow is executed."""

    def __init__(self, directory: Path, tally: Tally) -> None:
        self._directory = directory
        self._tally = tally
        self._over = threading.Event()
        self._seen: set[str] = set()
        self._thread = threading.Thread(target=self._poll)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._tally.seen += len(self._seen)

    def _poll(self) -> None:
        while not self._over.wait(SECONDS):
            # Two scans, because a process may end and the next one start during one.
            first, second = (set(workflow_processes.attempts(self._directory)) for _ in range(2))
            tokens: dict[Path, set[str]] = {}
            for _, token, place in first & second:
                tokens.setdefault(place, set()).add(token)
                self._seen.add(token)
            twice = [f"{place}: {sorted(t)} at once" for place, t in tokens.items() if len(t) > 1]
            self._tally.problems += twice
            self._tally.duplicates += len(twice)
