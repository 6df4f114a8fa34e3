"""Databases of earlier formats: made by the last commits that wrote them, opened and converted."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from motoko.server.lifecycle import stop_server
from motoko.server.state_dir import StateDir
from motoko.storage.run_store import BLOCK
from motoko.storage.schema import SCHEMA_VERSION
from scale.client import opened
from scale.figures import Figure, Missing, at_most
from scale.launching import MOTOKO, first_claim, wait_until
from scale.place import BATCH, PLAIN, kill_server, run_client, say, workflow_files
from support import timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scale.place import Place

ROOT = Path(__file__).resolve().parents[3]
LARGEST = 100_000


def formats(place: Place) -> Iterator[Figure | Missing]:
    """Measure opening databases of each earlier format, and the time to the first claim."""
    limits = at_most(3, "3 s"), at_most(3, "3 s"), at_most(30, "30 s")
    for version in range(1, SCHEMA_VERSION):
        name = f"old database, format {version}"
        if place.runs > LARGEST:
            yield Missing(f"{name}: opened", "10^5 is the size of this row", limits[0], "-")
            continue
        commit = last_commit(version)
        if not commit:
            yield Missing(f"{name}: opened", "its commit is not in this clone", limits[0])
            continue
        with _old(place, version, commit) as directory:
            yield Figure(f"{name}: opened", timed(lambda d=directory: _open(d)), "s", limits[0])  # type: ignore[misc]
            claim, conversion = _serve(directory, place)
        yield Figure(f"{name}: first claim after that", claim, "s", limits[1])
        yield Figure(f"{name}: conversion beside work", conversion, "s", limits[2])


def last_commit(version: int) -> str:
    """Return the last commit that writes this format: the one before its successor appeared."""
    pattern = f"SCHEMA_VERSION: Final = {version + 1}$"
    log = subprocess.run(
        ["git", "log", "--format=%H", "--reverse", f"-G{pattern}", "HEAD", "--", "src"],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    first = log.stdout.split()[:1]
    return f"{first[0]}^" if first else ""


@contextmanager
def _old(place: Place, version: int, commit: str) -> Iterator[Path]:
    """Make a workflow with a database that an earlier Motoko wrote and did not close."""
    tree = place.directory / f"motoko-{version}"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
    directory = place.directory / f"format-{version}"
    workflow_files(directory, PLAIN)
    path = str(tree / "src")
    try:
        say(f"{place.runs:,} runs in format {version}, by {commit[:10]}^")
        run_client(
            sys.executable,
            "create",
            directory,
            place.runs,
            min(place.runs, BATCH),
            budget=place.budget,
            path=path,
        )
        run_client(sys.executable, "end", directory, 1, place.ended, budget=place.budget, path=path)
        kill_server(StateDir.of(directory))
        yield directory
    finally:
        stop_server(StateDir.of(directory))
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def _open(directory: Path) -> None:
    """Start the server, upgrade the database and read from it."""
    opened(str(directory)).close()


def _serve(directory: Path, place: Place) -> tuple[float, float]:
    """Return the seconds from the start of a launcher to its first claim, and to the last block."""
    begin = time.time()
    subprocess.run([*MOTOKO, "launcher"], cwd=directory, check=True, stdout=sys.stderr)
    try:
        claim = first_claim(directory, place) - begin
        workflow = opened(str(directory))

        def converted() -> bool:
            with workflow.store.autocommit_scope.read() as session:
                single = session.tables.study("mult").trees["runs"]
                return not list(single.keys(1, place.ended - BLOCK))

        wait_until(converted, place.budget)
        seconds = time.time() - begin
        workflow.close()
        return claim, seconds
    finally:
        subprocess.run([*MOTOKO, "kill"], cwd=directory, check=True, stdout=sys.stderr)
