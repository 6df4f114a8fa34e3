"""Preparation failures are caused by the run or by a temporary shortage of the machine."""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from motoko.launcher.attempt_paths import AttemptPaths
from motoko.launcher.preparation import (
    RunNotStartable,
    has_windows_line_ends,
    is_resource_shortage,
    prepare_attempt,
    script_problem,
)
from motoko.launcher.source_files import ScriptFile, SourceFiles
from motoko.launcher.start_notes import StartNotes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("number", "passes"),
    [(errno.EMFILE, True), (errno.ENFILE, True), (errno.EAGAIN, True), (errno.ENOMEM, True),
     (errno.ENOENT, False), (errno.EACCES, False)],
)  # fmt: skip
def test_neither_a_resource_shortage_nor_a_move_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, passes: bool
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number), "launch.sh")

    files = SourceFiles()
    monkeypatch.setattr(files, "read", refused)
    study = SimpleNamespace(directory="a", exec_file="launch.sh", config_files=())
    store: Any = SimpleNamespace(workflow_file="motoko.yaml", studies=defaultdict(lambda: study))
    paths = AttemptPaths("runs", 1, 1, "token", "1.0")
    attempt: Any = SimpleNamespace(record=None, paths=paths, key=SimpleNamespace(study="a"))
    (tmp_path / ".wf").mkdir()
    starts = StartNotes(tmp_path / ".wf", "me")
    starts.open()
    found = prepare_attempt(store, attempt, starts, files)
    assert isinstance(found, Exception)
    assert is_resource_shortage(found) == passes
    assert isinstance(found, RunNotStartable) != passes
    (tmp_path / ".wf").rename(tmp_path / "moved")
    found = prepare_attempt(store, attempt, starts, files)
    assert isinstance(found, Exception)
    assert ("it was moved or removed" in str(found)) != passes


@pytest.mark.parametrize(
    ("script", "broken"),
    [
        (b"#!/bin/bash\r\nset -e\r\n", True),
        (b"set -e\r\n", True),
        (b"\r\n", True),
        (b"#!/bin/bash\nprintf 'a\r\n'\r\n", False),
        (b"true", False),
        (b"\x7fELF\0\r\n", False),
        (b"", False),
    ],
)
def test_scripts_with_windows_line_ends_are_detected(script: bytes, broken: bool) -> None:
    assert has_windows_line_ends(script) == broken


@pytest.mark.parametrize(
    ("name", "content", "executable", "hint"),
    [
        ("p.py", b"import math\n", False, "#!/usr/bin/env python3"),
        ("p.py", b"import math\n", True, "#!/usr/bin/env python3"),
        ("p.R", b"x <- 1\n", False, "#!/usr/bin/env Rscript"),
        ("p.py", b"#!/usr/bin/env python3\nimport math\n", False, None),
        ("p.py", b"#!/bin/bash\ntrue\n", False, None),
        ("p.py", b"\x7fELF\0", True, None),
        ("launch.sh", b"true\n", False, None),
        ("launch", b"true\n", False, None),
        ("launch.sh", b"true\r\n", False, "dos2unix launch.sh"),
    ],
)
def test_a_script_that_bash_would_run_by_mistake_is_refused(
    name: str, content: bytes, executable: bool, hint: str | None
) -> None:
    problem = script_problem(ScriptFile(name, content, executable))
    assert problem == hint or (hint is not None and f"`{hint}`" in str(problem))
