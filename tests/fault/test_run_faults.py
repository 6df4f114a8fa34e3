"""A run whose wrapper is killed is reported as lost and retried."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from motoko.launcher.control import running_launchers
from motoko.runtime.processes import is_alive
from tests.support.launching import WorkflowHarness, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.fault

# The first attempt kills its wrapper, at the latest at its end; the second does not.
SCRIPT = """\
echo start-$MOTOKO_ATTEMPT >>{log}
until [ -e {go} ]; do sleep .02; done
if [ $MOTOKO_ATTEMPT = 1 ] && [ $MOTOKO_JOB_X = 1 ]; then kill -KILL $PPID; sleep 600; fi
motoko-worker set y $MOTOKO_ATTEMPT
echo end-$MOTOKO_ATTEMPT >>{log}
if [ $MOTOKO_ATTEMPT = 1 ]; then kill -KILL $PPID; fi
"""


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "unwatched"])
@pytest.mark.parametrize("when", [1, 2], ids=["while its command runs", "before its exit record"])
def test_a_killed_wrapper_loses_only_the_attempt(tmp_path: Path, when: int, watched: bool) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    script = SCRIPT.format(log=log, go=go)
    place = WorkflowHarness.make(tmp_path / "wf", {"a": script}, options={"retries": 1})
    try:
        launcher = place.start().process
        (key,) = place.create([{"x": when}])
        place.wait_for(key, "START")
        wait_until(log.exists)
        if not watched:
            os.kill(launcher.pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(launcher))
        go.touch()
        if not watched:
            wrapper = place.record(key).process
            assert wrapper is not None
            wait_until(lambda: not os.path.exists(f"/proc/{wrapper[0]}"))
            assert not running_launchers(place.state)
            place.start()
        (record,) = place.wait([key])
        assert (record.state, record.attempt, record.fields) == ("FINISHED", 2, {"y": 2})
        assert [move.state for move in record.history].count("LOST") == 1
        first = ["start-1"] if when == 1 else ["start-1", "end-1"]
        assert log.read_text().split() == [*first, "start-2", "end-2"]
        assert place.recount() == []
    finally:
        place.close()
