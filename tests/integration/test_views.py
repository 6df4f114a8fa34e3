"""The read models of the screens, with a real server and a real launcher."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING
from unittest.mock import patch

import anyio
import pytest

from motoko.api.workflow import Workflow
from motoko.core.edits import Claim, EndAttempt, MarkStarted
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.errors import ConstraintError, UnknownNameError
from motoko.operations.bulk_edit import RunSelection
from motoko.operations.verbs import Verb, perform_alone, preview_verb
from motoko.runtime.daemons import PidFile
from motoko.server.lifecycle import ensure_server, stop_server
from motoko.views import live
from motoko.views.connection import ReadConnection
from motoko.views.live import LiveViews
from motoko.views.output import TAIL, read_output
from motoko.views.reader import CampaignReader
from motoko.views.run import read_run
from motoko.views.run_names import latest_run_name
from motoko.views.runs import RunLists, RunQuery
from tests.support.command_line import wait_until
from tests.support.launching import WorkflowHarness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

SCRIPT = """\
echo "out $MOTOKO_JOB_X"
echo "cannot open /data/$MOTOKO_JOB_X.dat" >&2
[ "$MOTOKO_JOB_X" -lt 5 ]
"""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[WorkflowHarness]:
    found = WorkflowHarness.make(tmp_path / "w", {"s": SCRIPT}, options={"max_concurrent": 2})
    yield found
    found.close()


def reading(harness: WorkflowHarness) -> Workflow:
    return Workflow(harness.directory, read_only=True, tolerant=True)


def end(harness: WorkflowHarness, key: RunKey, outcome: Lifecycle = Lifecycle.FINISHED) -> None:
    token, now = f"t{key.id}-{time.monotonic_ns()}", time.time()
    harness.edit(key, Claim("test", token, now))
    harness.edit(key, EndAttempt(token, outcome, now, "test", 0))


@pytest.fixture
def connection(harness: WorkflowHarness) -> Iterator[ReadConnection]:
    found = ReadConnection(reading(harness))
    yield found
    found.close()


# -- the campaign ---------------------------------------------------------------------------------


def test_a_campaign_shows_what_a_launcher_did(
    harness: WorkflowHarness, connection: ReadConnection
) -> None:
    keys = harness.create([{"x": x} for x in range(8)])
    reader = CampaignReader(connection, "test")
    before = reader.read()
    assert (before.total.known, before.total.done) == (8, 0)
    assert any("no launcher" in need.text for need in before.needs)

    harness.start()
    harness.wait(keys)
    wait_until(lambda: reader.read().total.done == 8, "the ends are seen")
    found = reader.read()

    assert found.lifecycles == {"FINISHED": 5, "FAILED": 3}
    assert [(group.number, group.cause) for group in found.failures] == [(3, "exit 1")]
    assert found.failures[0].text.startswith("cannot open /data/")
    assert [need.group for need in found.needs if need.group] == [found.failures[0].id]
    assert sum(found.throughput) == 8
    assert found.happenings[0].runs == "s.1-8"
    wait_until(
        lambda: [one.state for one in reader.read().launchers] == ["running"], "the launcher"
    )
    wait_until(lambda: not any("launcher" in n.text for n in reader.read().needs), "no need")
    reader.close()


def test_a_retried_failure_leaves_its_group_and_returns_with_its_new_cause(
    harness: WorkflowHarness, connection: ReadConnection
) -> None:
    keys = harness.create([{"x": 1}, {"x": 2}])
    for key in keys:
        end(harness, key, Lifecycle.LOST)
    reader = CampaignReader(connection, "test")
    assert [group.number for group in reader.read().failures] == [2]

    file = str(harness.directory / "motoko.yaml")
    result = perform_alone(file, Verb.RETRY, RunSelection.parse_texts(["s.1"]), "page (me)")
    assert result.text == "1 run to retry"
    wait_until(lambda: [group.number for group in reader.read().failures] == [1], "one is left")
    assert harness.record(keys[0]).history[-1].cause == "page (me)"

    end(harness, keys[0], Lifecycle.TIMEOUT)
    wait_until(
        lambda: {group.cause for group in reader.read().failures} == {"LOST", "TIMEOUT"},
        "both causes are known",
    )
    reader.close()


def test_a_workflow_without_a_database_is_empty_until_it_has_one(tmp_path: Path) -> None:
    harness = WorkflowHarness.make(tmp_path / "w", {"s": SCRIPT})
    harness.close()
    database = harness.state.database
    kept = database.rename(database.with_name("kept"))
    connection = ReadConnection(reading(harness))
    reader = CampaignReader(connection, "test")
    assert reader.read().commit == ""
    assert latest_run_name(connection) == ""
    assert RunLists(connection).find(RunQuery("test")).keys == ()

    kept.rename(database)
    assert reader.read().commit
    reader.close()
    connection.close()


# -- the connection --------------------------------------------------------------------------------


def known(reader: CampaignReader, number: int) -> bool:
    return reader.read().total.known == number


def test_a_connection_follows_a_server_that_stops_starts_and_is_killed(
    harness: WorkflowHarness, connection: ReadConnection
) -> None:
    harness.create([{"x": 1}])
    reader = CampaignReader(connection, "test")
    assert reader.read().served

    harness.store.close()
    stop_server(harness.state)
    wait_until(lambda: not reader.read().served, "the file is read")
    assert known(reader, 1)

    ensure_server(harness.state)
    harness.create([{"x": 2}])
    wait_until(lambda: known(reader, 2), "the new server's commits are seen")
    wait_until(lambda: reader.read().served, "the new server is used")

    record = PidFile(harness.state.server_record).read()
    assert record is not None
    os.kill(record.process.pid, signal.SIGKILL)
    assert reader.read().total.known == 2
    harness.create([{"x": 3}])  # starts the server again
    wait_until(lambda: known(reader, 3), "commits after the kill are seen")
    reader.close()


def test_a_changed_configuration_applies_and_an_invalid_one_does_not(
    harness: WorkflowHarness,
) -> None:
    connection = ReadConnection(reading(harness), reopen=lambda: reading(harness))
    reader = CampaignReader(connection, "test")
    file = harness.directory / "motoko.yaml"
    text = file.read_text()
    reader.read()

    file.write_text("task_managers: [")
    assert reader.read().total.known == 0
    (harness.directory / "t").mkdir()
    for name in ("bd.yaml", "launch.sh"):
        (harness.directory / "t" / name).write_bytes((harness.directory / "s" / name).read_bytes())
    file.write_text(text.replace("s: null", "s: null\n  t: null"))

    def shows_the_study() -> bool:
        reader.read()
        return "t" in connection.workflow.task_managers

    wait_until(shows_the_study, "the new study is known")
    reader.close()
    connection.close()


def test_live_views_tell_of_commits_and_of_failed_readings(harness: WorkflowHarness) -> None:
    async def follow() -> list[int]:
        views = LiveViews(lambda: reading(harness))
        seen: list[int] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(views.run)
            with anyio.fail_after(60), views.watch("test") as watch:
                latest = await watch.newer(0)
                while len(seen) < 3:
                    campaign = latest.campaign
                    assert campaign is not None
                    if campaign.total.known == len(seen):
                        seen.append(campaign.total.known)
                        await anyio.to_thread.run_sync(harness.create, [{"x": len(seen)}])
                    latest = await watch.newer(latest.number)
            tasks.cancel_scope.cancel()
        await views.close()
        return seen

    assert anyio.run(follow) == [0, 1, 2]


def test_run_names_that_nobody_watches_are_forgotten_beside_an_open_page(
    harness: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "IDLE", 0.0)
    harness.create([{"x": 1}])

    async def visit() -> None:
        views = LiveViews(lambda: reading(harness))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(views.run)
            with (
                anyio.fail_after(60),
                views.watch("test") as watch,
                patch.object(CampaignReader, "close", autospec=True) as close,
            ):
                await views.campaign("other")
                while not any(call.args[0].run_name == "other" for call in close.mock_calls):
                    await watch.newer(watch.latest.number)
            tasks.cancel_scope.cancel()
        await views.close()

    anyio.run(visit)


# -- lists ----------------------------------------------------------------------------------------


def test_lists_are_filtered_sorted_and_read_by_page(
    harness: WorkflowHarness, connection: ReadConnection
) -> None:
    keys = harness.create([{"x": x} for x in (3, 1, 2, 5, 4)])
    end(harness, keys[0])
    end(harness, keys[3], Lifecycle.TIMEOUT)
    lists = RunLists(connection)

    def ids(**options: str) -> list[int]:
        return [key.id for key in lists.find(RunQuery("test", **options)).keys]

    assert ids() == [5, 4, 3, 2, 1]
    assert ids(sort="id") == [1, 2, 3, 4, 5]
    assert ids(study="s", sort="x") == [2, 3, 1, 5, 4]
    assert ids(study="s", sort="-x") == [4, 5, 1, 3, 2]
    assert ids(where="x > 2") == [5, 4, 1]
    assert ids(where="lifecycle = CREATED and x < 3", sort="id") == [2, 3]
    with pytest.raises(ConstraintError):
        ids(where="x >")
    with pytest.raises(UnknownNameError):
        ids(study="s", sort="nothing")

    rows = lists.rows([keys[3], keys[0], RunKey("s", 99)])
    assert [row.key for row in rows] == [keys[3], keys[0]]
    assert rows[0].job == {"x": "5"}
    assert rows[0].lifecycle is Lifecycle.TIMEOUT


def test_a_preview_counts_what_a_verb_would_change(
    harness: WorkflowHarness, connection: ReadConnection
) -> None:
    keys = harness.create([{"x": x} for x in range(4)])
    end(harness, keys[0], Lifecycle.LOST)
    token = "t"
    harness.edit(keys[1], Claim("test", token, time.time()))
    harness.edit(keys[1], MarkStarted(token, time.time(), "test"))
    selection = RunSelection.parse_texts(["s.1-4"])

    cancel = preview_verb(connection.workflow, Verb.CANCEL, selection)
    assert (cancel.number, cancel.active, cancel.unaffected) == (3, 1, 1)
    retry = preview_verb(connection.workflow, Verb.RETRY, selection)
    assert (retry.number, retry.active, retry.unaffected) == (1, 0, 3)


# -- one run --------------------------------------------------------------------------------------


def test_a_run_shows_its_attempts_and_why_it_failed(
    harness: WorkflowHarness, connection: ReadConnection
) -> None:
    [key] = harness.create([{"x": 7}])
    harness.start()
    harness.wait([key])
    found = read_run(connection, key)

    assert found is not None
    assert found.row.lifecycle is Lifecycle.FAILED
    assert [attempt.provenance.outcome for attempt in found.attempts] == ["FAILED"]
    assert any("cannot open /data/7.dat" in line for line in found.why)
    assert [entry.state for entry in found.history] == ["CREATED", "SUBMITTED", "START", "FAILED"]
    assert read_run(connection, RunKey("s", 99)) is None
    assert read_run(connection, RunKey("t", 1)) is None


def test_a_run_names_the_same_job_under_other_run_names(
    harness: WorkflowHarness, connection: ReadConnection
) -> None:
    with Workflow(harness.directory) as workflow:
        for name, values in (("a", [1, 2]), ("b", [2, 3]), ("c", [2])):
            workflow.run_name = name
            workflow.s.create_task(x=values)
    found = read_run(connection, RunKey("s", 3))

    assert found is not None
    assert found.row.job == {"x": "2"}
    assert found.others == (("a", RunKey("s", 2)), ("c", RunKey("s", 5)))


def test_parts_of_an_output_join_to_the_whole(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"printf 'gr\\303'; touch {gate}.1; until [ -e {gate} ]; do sleep 0.02; done\n"
    script += "printf '\\274n\\n'; for i in 1 2 3; do echo $i; done\n"
    harness = WorkflowHarness.make(tmp_path / "w", {"s": script})
    connection = ReadConnection(reading(harness))
    try:
        [key] = harness.create([{"x": 1}])
        assert read_output(connection, key, "stdout").note == "it has not started"
        harness.start()
        wait_until((tmp_path / "gate.1").exists, "the script has written")
        # Commits of the launcher arrive a little later.
        wait_until(lambda: read_output(connection, key, "stdout").text, "the output is read")
        part = read_output(connection, key, "stdout")
        assert part.text == "gr", "half a character waits"
        gate.touch()
        harness.wait([key])
        text = part.text
        while not part.ended:
            part = read_output(
                connection, key, "stdout", position=part.position, follows=part.attempt
            )
            assert not part.restarted
            text += part.text
        assert text == "gr\u00fcn\n1\n2\n3\n"
    finally:
        connection.close()
        harness.close()


def test_only_the_end_of_a_long_output_is_read_first(tmp_path: Path) -> None:
    script = "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end\n"
    harness = WorkflowHarness.make(tmp_path / "w", {"s": script})
    connection = ReadConnection(reading(harness))
    try:
        [key] = harness.create([{"x": 1}])
        harness.start()
        harness.wait([key])
        part = read_output(connection, key, "stdout")
        assert part.skipped == part.size - TAIL
        assert part.text.endswith("\nend\n")
        assert len(part.text) < 10_000, "a long line is cut"
    finally:
        connection.close()
        harness.close()
