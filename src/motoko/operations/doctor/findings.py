"""The findings of checks. This module imports nothing that may be missing in an installation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """The gravity of a finding; the highest one is the exit status of the command."""

    OK = 0
    WARNING = 1
    FAULT = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about a subject. ``code`` is stable; ``next_step`` is "" if none is needed."""

    code: str
    level: Level
    subject: str
    message: str
    next_step: str = ""


def ok(code: str, subject: str, message: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(code, Level.OK, subject, message)


def warning(code: str, subject: str, message: str, next_step: str) -> Finding:
    """Return a finding that may become a problem, or hides one."""
    return Finding(code, Level.WARNING, subject, message, next_step)


def fault(code: str, subject: str, message: str, next_step: str) -> Finding:
    """Return a finding that keeps the workflow from working."""
    return Finding(code, Level.FAULT, subject, message, next_step)
