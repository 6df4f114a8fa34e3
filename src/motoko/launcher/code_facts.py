"""Facts about the code that a launcher records with each attempt: git commit, interpreter, version.

The commit of the workflow directory is read at most once every few seconds, and in other processes.
A directory without git, or that git refuses, has no commit.
"""

from __future__ import annotations

import math
import os
import platform
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from motoko.core.provenance import Provenance
from motoko.runtime.commands import SystemCommandRunner
from motoko.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from motoko.config import StudyConfig
    from motoko.runtime.ports import CommandRunner
    from motoko.storage.store import WorkflowStore

VALID_SECONDS: Final = 5.0
COST_FACTOR: Final = 20.0  # ratio of the time between reads to the time of a read
GIT_SECONDS: Final = 2.0
INHERITED: Final = ("HOME", "PATH", "XDG_CONFIG_HOME")
# The repository's own configuration must run no program: no hook, no monitor, no transport.
GIT: Final = ("git", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
ENVIRONMENT: Final = {
    "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_PAGER": "cat",
    "GIT_ALLOW_PROTOCOL": "none", "GIT_TERMINAL_PROMPT": "0",
}  # fmt: skip
# Programs that git runs to compare a file with the index. Those of the user's own configuration
# are trusted.
FILTERS: Final = ("config", "--show-scope", "--name-only", "--get-regexp", r"^filter\.")
STATUS: Final = (
    "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=dirty",
    "--no-ahead-behind", "--no-renames", "--", ".",
    ":(exclude).wf", ":(exclude,glob)**/BD-*-runs/**",
)  # fmt: skip
UNTRACKED: Final = ("ls-files", "--others", "--")
COMMIT_LINE: Final = "# branch.oid "


class CodeFacts:
    """Reads the facts of the code of one workflow, and keeps them for some seconds."""

    def __init__(self, store: WorkflowStore, git: CommandRunner | None = None) -> None:
        self._store = store
        self._directory = store.workflow_file.parent
        self._git = SystemCommandRunner() if git is None else git
        self._facts = Provenance(
            interpreter=sys.executable or None,
            python_version=platform.python_version(),
            motoko_version=__version__,
        )
        self._valid_until = -math.inf
        self._unused = False

    def current(self) -> Provenance | None:
        """Return the facts, None if they must be read again. Blocks.

        The facts of each ``read`` are returned at least once, however long ago it was.
        """
        unused, self._unused = self._unused, False
        now = self._store.clock.monotonic()
        if unused or now < self._valid_until:
            return self._facts
        if is_in_repository(self._directory):
            return None
        self._valid_until = now + VALID_SECONDS
        self._facts = replace(self._facts, git_commit=None, git_dirty=None)
        return self._facts

    async def read(self) -> None:
        """Read the commit again. Unknown if git fails, or takes too long."""
        clock = self._store.clock
        began = clock.monotonic()
        commit, dirty = await self._read_git()
        self._facts = replace(self._facts, git_commit=commit, git_dirty=dirty)
        ended = clock.monotonic()
        self._valid_until = ended + max(VALID_SECONDS, COST_FACTOR * (ended - began))
        self._unused = True

    async def _read_git(self) -> tuple[str | None, bool | None]:
        filters = await self._run(*FILTERS)
        if filters is None or any(line.startswith(("local", "worktree")) for line in filters):
            head = await self._run("rev-parse", "--verify", "HEAD^{commit}")
            return (head[0] if head else None), None
        status = await self._run(*STATUS)
        if status is None:
            return None, None
        commit, dirty = parse_status(status)
        if dirty is False:
            untracked = await self._run(*UNTRACKED, *self._inputs())
            dirty = None if untracked is None else bool(untracked)
        return commit, dirty

    def _inputs(self) -> list[str]:
        """Return the files that define the runs."""
        inputs = [self._store.workflow_file]
        for study in self._store.studies.values():
            inputs += _files(study)
        return list(map(str, inputs))

    async def _run(self, *arguments: str) -> list[str] | None:
        """Return the lines that git prints, None if it fails or does not exist."""
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        found = await self._git.run(
            [*GIT, *arguments],
            environment={**inherited, **ENVIRONMENT},
            directory=str(self._directory),
            seconds=GIT_SECONDS,
        )
        # `git config` exits with 1 if nothing matches.
        empty = found.status == 1 and arguments == FILTERS and not found.problem
        return found.stdout.splitlines() if found.succeeded or empty else None


def is_in_repository(directory: Path) -> bool:
    """Return whether a directory or one above it has a git repository."""
    return any(os.path.lexists(path / ".git") for path in (directory, *directory.parents))


def parse_status(lines: Sequence[str]) -> tuple[str | None, bool | None]:
    """Return the commit and the dirty flag in the output of ``git status --porcelain=v2``.

    Without a commit yet both are None.
    """
    named = [line.removeprefix(COMMIT_LINE) for line in lines if line.startswith(COMMIT_LINE)]
    commit = named[0] if named and named[0].isalnum() else None
    return commit, None if commit is None else any(not line.startswith("#") for line in lines)


def _files(study: StudyConfig) -> list[Path]:
    return [study.path, *(study.directory / n for n in (study.exec_file, *study.config_files))]
