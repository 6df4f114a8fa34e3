"""Simulated executions of scripts, and the files of their wrapper."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motoko.runtime.ports import SystemClock

if TYPE_CHECKING:
    from random import Random

    from motoko.testing.fake_scheduler.cluster import FakeTask


class Time(SystemClock):
    """A clock that tests set."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def now(self) -> float:
        return self.seconds

    monotonic = now
    uptime = now

    def sleep(self, seconds: float) -> None:
        pass


@dataclass(slots=True)
class Execution:
    """The simulated execution of an attempt's script."""

    run: int
    attempt: int
    token: str
    began: float
    lasts: float
    status: int | None  # None: killed with signal 9
    late: float  # seconds until its files are visible
    ended: float | None = None
    by_itself: bool = False
    left: int | None = None  # status in its exit record


class Wrapper:
    """Simulates ``batch.sh`` and ``wrapper.sh`` without processes."""

    def __init__(self, random: Random, time: Time) -> None:
        self._random = random
        self._time = time
        self._of: dict[FakeTask, Execution | None] = {}
        self._writes: list[tuple[float, str, str]] = []
        self.executions: list[Execution] = []
        # A stopped script may still write its exit record, and may even exit with 0.
        self.last_words: tuple[int | None, ...] = (143, 143, None, 0)
        self.late = 0

    def start(self, task: FakeTask) -> None:
        directory = task.job.script.rpartition("/")[0]
        attempt = os.path.realpath(f"{directory}/tasks/{task.index or 0}")
        self._of[task] = None
        if task.restarts:
            self._write(f"{directory}/again.{task.index or 0}", "")
        run_directory, name = os.path.split(attempt)
        try:
            with open(f"{run_directory}/.motoko", encoding="ascii") as file:
                number, _, token = file.readline().split()
            if name != f".motoko-{token}":
                return
            os.close(os.open(attempt, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except (FileNotFoundError, FileExistsError):
            return
        run = int(os.path.basename(run_directory).removeprefix("run-").split(".")[0])
        choose = self._random
        done = Execution(
            run, int(number), token, self._time.seconds,
            lasts=choose.choice((0.0, 0.5, 5.0, 40.0, 200.0)),
            status=choose.choice((0, 0, 0, 0, 0, 1, 3, 77, None)),
            late=choose.choice((0.0, 0.0, 0.0, 0.0, 20.0, 55.0)),
        )  # fmt: skip
        self._of[task] = done
        self.executions.append(done)
        self._later(done, attempt, f"process 1 - - - {self._time.seconds} -\n")

    def poll(self, task: FakeTask) -> tuple[int, int] | None:
        done = self._of[task]
        if done is None:
            return 111, 0
        if self._time.seconds < done.began + done.lasts:
            return None
        done.by_itself = True
        self._end(task, done, done.status)
        return (0, 9) if done.status is None else (done.status, 0)

    def stop(self, task: FakeTask) -> None:
        done = self._of[task]
        if done is not None and done.ended is None:
            self._end(task, done, self._random.choice(self.last_words))

    def _end(self, task: FakeTask, done: Execution, status: int | None) -> None:
        done.ended = self._time.seconds
        done.left = status
        if status is not None:
            directory = task.job.script.rpartition("/")[0]
            attempt = os.path.realpath(f"{directory}/tasks/{task.index or 0}")
            self._later(done, attempt, f"\nexit {status}\n")

    def _later(self, done: Execution, path: str, text: str) -> None:
        if done.late:
            self.late += 1
            self._writes.append((self._time.seconds + done.late, path, text))
        else:
            for item in [item for item in self._writes if item[1] == path]:  # visible in order
                self._writes.remove(item)
                self._write(*item[1:])
            self._write(path, text)

    def deliver(self) -> None:
        """Write the delayed files that are due."""
        for item in [item for item in self._writes if item[0] <= self._time.seconds]:
            self._writes.remove(item)
            self._write(item[1], item[2])

    def _write(self, path: str, text: str) -> None:
        directory, name = os.path.split(path)
        with suppress(FileNotFoundError):
            if name.startswith(".motoko-"):
                with open(f"{directory}/.motoko", encoding="ascii") as file:
                    if not file.readline().endswith(f" {name.removeprefix('.motoko-')}\n"):
                        return  # the run directory was moved aside
            with open(path, "a", encoding="ascii") as file:
                file.write(text)
            os.utime(path, (self._time.seconds, self._time.seconds))
