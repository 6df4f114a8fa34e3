"""Attempts that another launcher began: what became of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.launcher.directory import take_back
from motoko.launcher.engine import Evidence, Finding, judge
from motoko.launcher.evidence import START, find_by_token, look, taken_by, works
from motoko.runtime import faults

if TYPE_CHECKING:
    from motoko.launcher.directory import Place
    from motoko.runtime.processes import ProcessId

TRIES: Final = 40
PAUSE: Final = 0.025  # seconds; a wrapper fills its start file at once


@dataclass(frozen=True, slots=True)
class Examined:
    """What is known of an attempt, and its process where there is one."""

    finding: Finding
    process: ProcessId | None = None
    status: int | None = None


def examine(place: Place, launcher: str) -> Examined:
    """Find out what became of an attempt. One that never started is taken back at once.

    Blocks for up to a second where its start file is incomplete.
    """
    for _ in range(TRIES):
        evidence, process = look(place)
        finding = judge(evidence)
        if finding is Finding.NEVER_STARTED:
            if take_back(place, START, taken_by(launcher)):
                faults.point("launcher.taken_back")
                return Examined(Finding.TAKEN_BACK)
        elif finding is not Finding.UNCLEAR:
            return Examined(finding, process, evidence.status)
        time.sleep(PAUSE)
    return _by_arguments(place)


def _by_arguments(place: Place) -> Examined:
    """Look for a wrapper that took its start file and did not come to write into it."""
    process = find_by_token(place.token)
    alive = process is not None and works(process, place.private)
    evidence = Evidence(started=True, known=True, alive=alive, status=look(place)[0].status)
    return Examined(judge(evidence), process, evidence.status)
