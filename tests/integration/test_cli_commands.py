"""Every command except ``run``, on a real server with real processes."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from motoko.runtime.processes import ProcessIdentity, is_alive
from motoko.server.state_dir import StateDir
from motoko.storage.store import WorkflowStore
from tests.support.command_line import MODULE, Shell, finish, small_workflow, wait_until
from tests.support.launching import count_exits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

FOREVER = "sleep 300\n"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A workflow of two runs that finish immediately, in a directory with a space."""
    made = small_workflow(tmp_path / "with space")
    yield made
    made.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with two finished runs for each of two run names; no process is running."""
    made = small_workflow(tmp_path_factory.mktemp("results") / "w")
    for name in ("a", "b"):
        made.ok("run", "-n", name)
    return made.directory


@pytest.fixture
def ended(results: Path, tmp_path: Path) -> Iterator[Shell]:
    """A copy of the workflow with results."""
    made = Shell(tmp_path / "with space")
    shutil.copytree(results, made.directory)
    yield made
    made.close()


@pytest.fixture
def sleeping(tmp_path: Path) -> Iterator[Shell]:
    """A workflow of two runs that do not end."""
    made = small_workflow(tmp_path / "with space", script=FOREVER)
    made.write(
        {"motoko.yaml": "task_managers: {s: }\norchestrator: steps.main\nmax_concurrent: 2\n"}
    )
    yield made
    made.close()


def answering(shell: Shell, *command: str, answer: str) -> tuple[int, str]:
    """Run a command on a terminal and type an answer."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*MODULE, *command], cwd=shell.directory,
        stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    os.close(terminal)
    os.write(controller, answer.encode())
    done = finish(process)
    os.close(controller)
    return done.returncode, done.stdout


# -- init -------------------------------------------------------------------------------------


def test_init_overwrites_nothing_and_names_existing_files(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.write({"x/orchestrator.py": "mine"})
    done = shell.run("init", "x")
    assert done.returncode == 1
    assert done.stderr.startswith("error: x/orchestrator.py already exists")
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["orchestrator.py"]
    assert (tmp_path / "x" / "orchestrator.py").read_text() == "mine"


# -- finding the workflow ---------------------------------------------------------------------


def test_a_workflow_is_found_from_a_subdirectory_and_by_name(shell: Shell, tmp_path: Path) -> None:
    shell.ok("create")
    below = Shell(shell.directory / "s").info()
    named = Shell(tmp_path).info("--workflow", "with space")
    assert below["directory"] == named["directory"] == str(shell.directory)


# -- create -----------------------------------------------------------------------------------


def test_create_writes_a_private_database_and_leaves_no_process(shell: Shell) -> None:
    shell.ok("create")
    state = shell.directory / ".wf"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "wf.db").stat().st_mode) == 0o600
    assert shell.info()["server"] is None


@pytest.mark.parametrize(
    ("answer", "status", "left"),
    [("y\n", 0, {}), ("n\n", 1, {"FINISHED": 2}), ("\n", 1, {"FINISHED": 2})],
    ids=["yes", "no", "default"],
)
def test_create_asks_before_it_deletes_results(
    ended: Shell, answer: str, status: int, left: dict[str, int]
) -> None:
    code, out = answering(ended, "create", answer=answer)
    assert "Delete them? [y/N]" in out
    assert code == status, out
    assert ended.counts("s", "a") == left


def test_create_validated_deletes_results_and_keeps_run_directories(ended: Shell) -> None:
    code, out = answering(ended, "create", "--validated", answer="")
    assert code == 0
    assert "Delete" not in out
    assert ended.counts("s", "a") == {}
    assert (ended.directory / "s" / "BD-s-runs.old-1" / "run-1").is_dir()


def test_create_accepts_a_directory(shell: Shell, tmp_path: Path) -> None:
    Shell(tmp_path).ok("create", "with space")
    assert shell.info()["database"]


# -- info -------------------------------------------------------------------------------------


def test_info_without_a_database_creates_none(shell: Shell) -> None:
    assert "No database exists yet" in shell.ok("info")
    found = shell.info()
    assert found["database"] is False
    assert found["studies"] == []
    assert not (shell.directory / ".wf").exists()


def test_info_starts_no_server(ended: Shell) -> None:
    out = ended.ok("info", "--verbose")
    assert "not running" in out
    assert "s.1" in out
    assert ended.info()["server"] is None


def test_info_lists_the_running_processes(sleeping: Shell) -> None:
    process = sleeping.start("run", "-n", "a [b]")
    wait_until(lambda: sleeping.info()["launchers"], "a launcher")
    wait_until(lambda: sleeping.info()["orchestrators"], "an orchestrator")
    found = sleeping.info()
    assert found["orchestrators"][0]["run_name"] == "a [b]"
    assert found["orchestrators"][0]["pid"] == process.pid
    assert found["launchers"][0]["studies"] == ["s"]
    out = sleeping.ok("info")
    assert f"a [b]: process {process.pid}" in out
    process.terminate()
    finish(process)


def add_study(shell: Shell) -> None:
    shell.write(
        {
            "t/bd.yaml": "job: {x: int}\n",
            "t/launch.sh": "true\n",
            "motoko.yaml": "task_managers: {s: , t: }\norchestrator: steps.main\n",
            "steps.py": "async def main(workflow):\n    await workflow.t.create_task(x=1)\n",
        }
    )


def test_info_of_one_study(shell: Shell) -> None:
    add_study(shell)
    shell.ok("create")
    assert [s["name"] for s in shell.info("--bd_study", "t")["studies"]] == ["t"]
    assert [s["name"] for s in shell.info()["studies"]] == ["s", "t"]


def test_a_study_added_later_is_empty_until_it_runs(shell: Shell) -> None:
    shell.ok("create")
    add_study(shell)
    added = shell.info()["studies"][1]
    assert added.pop("name") == "t"
    assert not any(added.values())
    shell.ok("run", "-n", "a")
    assert shell.counts("t", "a") == {"FINISHED": 1}


def test_a_closed_pipe_is_no_error(ended: Shell) -> None:
    process = subprocess.Popen(
        [*MODULE, "info", "--verbose"], cwd=ended.directory,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) in (0, 141)
    assert process.stderr.read() == ""
    process.stderr.close()


# -- launcher ---------------------------------------------------------------------------------


def test_a_launcher_is_started_once_and_outlives_its_parent(shell: Shell) -> None:
    shell.ok("create")
    first, second = shell.ok("launcher"), shell.ok("launcher")
    assert "started" in first
    assert "is already running" in second
    assert len(shell.info()["launchers"]) == 1


def test_a_foreground_launcher_ends_with_its_signal(shell: Shell) -> None:
    shell.ok("create")
    process = shell.start("launcher", "--do_not_detach")
    wait_until(lambda: shell.info()["launchers"], "a launcher")
    assert shell.info()["launchers"][0]["pid"] == process.pid
    process.terminate()
    done = finish(process)
    assert done.returncode == 0, done.stderr
    assert "serves s" in done.stderr
    assert not shell.info()["launchers"]


def test_a_launcher_needs_a_database(shell: Shell) -> None:
    done = shell.run("launcher")
    assert done.returncode == 1
    assert "has no database yet" in done.stderr.splitlines()[0]


# -- orchestrator -----------------------------------------------------------------------------


def test_a_stopped_detached_orchestrator_has_a_log_and_keeps_its_runs(
    sleeping: Shell,
) -> None:
    sleeping.ok("create")
    sleeping.ok("launcher")
    name = "a: b"
    out = sleeping.ok("orchestrator", "start", "--detach", "-n", name)
    assert ".log" in out
    assert [o["run_name"] for o in sleeping.info()["orchestrators"]] == [name]  # it holds the lease
    wait_until(lambda: sleeping.counts("s", name) == {"START": 2}, "its runs have started")
    status = sleeping.ok("orchestrator", "status", "--logs")
    assert f"run name {name}: process" in status
    assert f"starts for run name {name!r}" in status
    assert repr(name) in sleeping.ok("orchestrator", "stop")
    assert not sleeping.info()["orchestrators"]
    assert sleeping.counts("s", name) == {"START": 2}
    assert "no orchestrator is running" in sleeping.ok("orchestrator", "stop")
    ended = sleeping.run("wait", name)
    assert ended.returncode == 128 + signal.SIGTERM
    assert f"run name {name}: ended " in ended.stdout


def test_an_orchestrator_stops_its_runs_on_request(sleeping: Shell) -> None:
    sleeping.ok("create")
    sleeping.ok("launcher")
    for _ in range(2):  # suspended runs are executed again
        sleeping.ok("orchestrator", "start", "-d", "-n", "a", "--stop-runs")
        wait_until(lambda: sleeping.counts("s", "a") == {"START": 2}, "two runs")
        sleeping.ok("orchestrator", "stop", "-n", "a")
        assert sleeping.counts("s", "a") == {"CREATED": 2}


def test_follow_ends_with_the_orchestrator(shell: Shell) -> None:
    shell.ok("create")
    shell.ok("orchestrator", "start", "-d", "-n", "a")
    process = shell.start("orchestrator", "status", "--follow", "-n", "a")
    time.sleep(0.5)
    assert process.poll() is None
    shell.ok("launcher")  # now the runs and the orchestrator can end
    done = finish(process)
    assert done.returncode == 0, done.stderr
    assert "starts for run name 'a'" in done.stdout


def test_an_orchestrator_reports_a_missing_launcher(shell: Shell) -> None:
    shell.ok("create")
    done = shell.run("orchestrator", "start", "-d", "-n", "a")
    assert done.returncode == 0
    assert "No launcher is running" in done.stderr


def test_a_detached_orchestrator_that_cannot_start_is_an_error(shell: Shell) -> None:
    shell.write({"steps.py": "async def main(workflow): pass\nraise ValueError('on import')\n"})
    shell.ok("create")
    done = shell.run("orchestrator", "start", "-d", "-n", "a")
    assert done.returncode == 2
    assert "on import" in done.stderr.splitlines()[0]
    assert not shell.info()["orchestrators"]


def test_fires_are_logged_on_stderr(shell: Shell) -> None:
    shell.write({"steps.py": "from motoko import event\n"
                 "@event\n"
                 "async def label(workflow, runs):\n"
                 "    for run, _ in runs: run.state = 'SEEN'\n"
                 "    workflow.finished = not workflow.s.select('lifecycle != FINISHED')\n"
                 "async def main(workflow):\n"
                 "    workflow.add_action('see', task='s', event='state = FINISHED', f=label)\n"
                 "    workflow.s.create_task(x=1)\n"})  # fmt: skip
    shell.ok("create")
    shell.ok("launcher")
    done = shell.run("orchestrator", "start", "-n", "a")
    assert done.returncode == 0, done.stderr
    fired = [line for line in done.stderr.splitlines() if " fire: " in line]
    assert len(fired) == 1
    assert "see" in fired[0]
    assert "s.1" in fired[0]
    assert " fire: " not in shell.run("run", "-n", "b").stderr
    assert " fire: " in shell.run("run", "-n", "c", "--verbose").stderr


# -- kill -------------------------------------------------------------------------------------


def test_kill_stops_runs_only_on_request(sleeping: Shell) -> None:
    sleeping.ok("create")
    sleeping.ok("launcher")
    sleeping.ok("orchestrator", "start", "-d", "-n", "a")
    wait_until(lambda: sleeping.counts("s", "a") == {"START": 2}, "two runs")
    out = sleeping.ok("kill")
    assert out.count("stopped") == 3
    found = sleeping.info()
    assert (found["server"], found["launchers"], found["orchestrators"]) == (None, [], [])
    assert sleeping.counts("s", "a") == {"START": 2}
    sleeping.ok("launcher")
    sleeping.ok("kill", "--stop-runs", "--yes")
    assert sleeping.counts("s", "a") == {"CREATED": 2}
    assert sleeping.ok("kill") == "nothing is running\n"


def test_kill_needs_no_valid_motoko_yaml(shell: Shell) -> None:
    shell.ok("create")
    shell.ok("launcher")
    good = (shell.directory / "motoko.yaml").read_text()
    shell.write({"motoko.yaml": "task_managers: [\n"})
    assert "stopped the launcher" in shell.ok("kill")
    shell.write({"motoko.yaml": good})
    assert shell.info()["server"] is None


# -- cancel -----------------------------------------------------------------------------------


def start_two(shell: Shell, *arguments: str) -> list[ProcessIdentity]:
    """Start the two runs and stop their orchestrator."""
    shell.ok("create")
    shell.ok("launcher", *arguments)
    shell.ok("orchestrator", "start", "-d", "-n", "a")
    wait_until(lambda: shell.counts("s", "a") == {"START": 2}, "two runs")
    shell.ok("orchestrator", "stop")
    processes = processes_of(shell)
    assert len(processes) == 2
    assert all(map(is_alive, processes))
    return processes


def test_cancel_leaves_runs_to_a_running_launcher(sleeping: Shell) -> None:
    processes = start_two(sleeping)
    done = sleeping.run("cancel", "--all", "--yes")
    assert done.returncode == 0
    assert "no launcher" not in done.stderr
    lines = done.stdout.splitlines()
    assert {line.split(" ", 1)[0] for line in lines[:2]} == {"s.1", "s.2"}
    for line in lines[:2]:  # the launcher may have finished already
        assert line.endswith((" will be CANCELLED", " ended CANCELLED"))
    wait_until(lambda: sleeping.counts("s", "a") == {"CANCELLED": 2}, "both are cancelled")
    assert not any(map(is_alive, processes))
    assert len(sleeping.info()["launchers"]) == 1


@pytest.mark.parametrize("machine", [(), ("--machine_name", "large")], ids=["here", "large"])
def test_cancel_ends_unowned_runs(sleeping: Shell, machine: tuple[str, ...]) -> None:
    if machine:
        config = (sleeping.directory / "motoko.yaml").read_text()
        sleeping.write({"motoko.yaml": config + "machine_name: large\n"})
    processes = start_two(sleeping, *machine)
    sleeping.ok("kill")
    assert all(map(is_alive, processes))
    if machine:
        sleeping.ok("launcher")  # of this host: not for these runs
    done = sleeping.run("cancel", "--constraints", "x = 1")
    assert done.returncode == 0, done.stderr
    assert "no launcher manages 1 run: starting one" in done.stderr
    assert done.stdout.splitlines() == ["s.1 ended CANCELLED", "1 run cancelled"]
    assert [is_alive(process) for process in processes] == [False, True]
    assert sleeping.counts("s", "a") == {"CANCELLED": 1, "START": 1}
    machines = [found["machines"] for found in sleeping.info()["launchers"]]
    assert len(machines) == len(machine[:1])
    assert "large" not in str(machines)
    assert "cancelled by motoko cancel" in sleeping.ok("history", "s.1")
    assert "stopped 1 run" in sleeping.ok("kill", "--stop-runs", "--yes")
    assert not any(map(is_alive, processes))
    assert sleeping.counts("s", "a") == {"CANCELLED": 1, "CREATED": 1}


def test_cancel_ends_local_runs_of_a_slurm_study(
    sleeping: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "sh", "sleep", "env", "mkdir", "mv", "cat", "rm", "ls"):
        found = shutil.which(name)
        if found is not None:
            (programs / name).symlink_to(found)
    sleeping.environment["PATH"] = str(programs)  # on a machine without sbatch
    config = (sleeping.directory / "motoko.yaml").read_text()
    sleeping.write({"motoko.yaml": config + "generator: slurm\n"})
    processes = start_two(sleeping, "--generator", "bash")
    sleeping.ok("kill")
    done = sleeping.run("cancel", "--all", "--yes")
    assert done.returncode == 0, done.stderr
    assert "2 runs cancelled" in done.stdout
    assert not any(map(is_alive, processes))


def test_runs_that_ended_without_a_launcher_are_not_cancelled(tmp_path: Path) -> None:
    main = "async def main(workflow):\n    await workflow.s.create_task(x=list(range(8)))\n"
    script = "while [ ! -e ../../../go ]; do sleep 0.1; done\n"
    shell = small_workflow(tmp_path / "w", script=script, main=main)
    config = (shell.directory / "motoko.yaml").read_text()
    shell.write({"motoko.yaml": config.replace("max_concurrent: 2", "max_concurrent: 8")})
    try:
        shell.ok("create")
        shell.ok("launcher")
        shell.ok("orchestrator", "start", "-d", "-n", "a")
        wait_until(lambda: shell.counts("s", "a") == {"START": 8}, "all of them")
        shell.ok("kill")
        shell.write({"go": ""})
        wait_until(lambda: count_exits(shell.directory / "s" / "BD-s-runs") == 8, "they end")
        done = shell.run("cancel", "--all", "--yes")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "8 runs were already in a terminal state"
        assert shell.counts("s", "a") == {"FINISHED": 8}
    finally:
        shell.close()


def test_cancel_reports_runs_that_no_launcher_can_end(sleeping: Shell) -> None:
    processes = start_two(sleeping)
    sleeping.ok("kill")
    log = sleeping.directory / ".wf" / "logs" / "launcher.log"
    log.unlink()
    log.mkdir()  # so that no launcher starts
    done = sleeping.run("cancel", "--all", "--yes")
    log.rmdir()
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "2 runs will be CANCELLED"
    assert done.stderr.splitlines()[-2].startswith("error: 2 runs not cancelled yet: ")
    assert "The next launcher cancels them" in done.stderr.splitlines()[-1]
    assert all(map(is_alive, processes))
    sleeping.ok("launcher")
    wait_until(lambda: sleeping.counts("s", "a") == {"CANCELLED": 2}, "both are cancelled")


@pytest.mark.parametrize("command", [("info",), ("run", "-n", "a")])
def test_output_to_a_closed_stdout_is_no_error(shell: Shell, command: tuple[str, ...]) -> None:
    """Some programs start others with standard output closed."""
    shell.ok("create")
    line = ["sh", "-c", 'exec "$@" >&-', "sh", *MODULE, *command]
    done = subprocess.run(line, cwd=shell.directory, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "not expected" not in done.stderr


# -- clean ------------------------------------------------------------------------------------


def test_clean_deletes_exactly_the_listed_runs(ended: Shell) -> None:
    runs = ended.directory / "s" / "BD-s-runs"
    out = ended.ok("clean", "--constraints", "x = 2", "--run_name", "b")
    assert "s.4" in out
    assert "1 run would be deleted" in out
    assert ended.counts("s", "b") == {"FINISHED": 2}
    ended.ok("clean", "--constraints", "x = 2", "--run_name", "b", "--delete")
    assert ended.counts("s", "b") == {"FINISHED": 1}
    assert sorted(p.name for p in runs.iterdir()) == ["run-1", "run-2", "run-3"]
    assert "3 runs deleted" in ended.ok("clean", "--delete", "--yes")
    assert list(runs.iterdir()) == []
    assert ended.info()["studies"][0]["counts"] == {}


def run_directories(shell: Shell) -> list[str]:
    return sorted(path.name for path in (shell.directory / "s" / "BD-s-runs").iterdir())


@pytest.mark.parametrize("passage", [1, 3])
@pytest.mark.parametrize("sweeper", ["clean", "launcher"])
def test_directories_left_by_a_killed_clean_are_removed_later(
    ended: Shell, passage: int, sweeper: str
) -> None:
    ended.environment["MOTOKO_FAULT"] = f"removal.before_directory:kill:{passage}"
    assert ended.run("clean", "--delete", "--yes").returncode == -signal.SIGKILL
    ended.environment.clear()
    assert len(run_directories(ended)) == 5 - passage
    assert ended.info()["studies"][0]["counts"] == {}
    assert "directories of 4 runs deleted earlier must still be removed" in ended.ok("clean")
    assert "to remove     directories of 4 deleted runs" in ended.ok("info")
    assert ended.info()["removals"] == 4
    if sweeper == "clean":
        assert "0 runs deleted" in ended.ok("clean", "--delete", "--yes")
    else:
        ended.ok("launcher")
        wait_until(lambda: not run_directories(ended), "the directories are removed")
        wait_until(lambda: "still be removed" not in ended.ok("clean"), "nothing is pending")
    assert run_directories(ended) == []
    assert "still be removed" not in ended.ok("clean")
    assert "to remove" not in ended.ok("info")


def test_write_protected_directories_are_removed(ended: Shell) -> None:
    inner = ended.directory / "s" / "BD-s-runs" / "run-1" / "results"
    inner.mkdir()
    (inner / "file").write_text("x")
    (inner / "away").symlink_to(ended.directory)
    for path in (inner, inner.parent):
        path.chmod(0o500)
    assert "4 runs deleted" in ended.ok("clean", "--delete", "--yes")
    assert run_directories(ended) == []
    assert (ended.directory / "motoko.yaml").exists()


@pytest.mark.parametrize("name", ["run-1", "run-1.attempt-1", "run-1/inner"])
def test_clean_follows_no_symbolic_link(ended: Shell, tmp_path: Path, name: str) -> None:
    target = tmp_path / "elsewhere"
    (target / "below").mkdir(parents=True)
    (target / "below" / "file").write_text("x")
    for path in (target / "below", target):
        path.chmod(0o500)
    link = ended.directory / "s" / "BD-s-runs" / name
    if link.is_dir():
        shutil.rmtree(link)
    link.symlink_to(target)
    assert "4 runs deleted" in ended.ok("clean", "--delete", "--yes")
    assert run_directories(ended) == []
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (target, target / "below")]
    assert modes == [0o500, 0o500]
    assert (target / "below" / "file").read_text() == "x"


@pytest.mark.parametrize("kind", ["file", "FIFO", "socket", "dangling link"])
def test_files_in_place_of_run_directories_are_removed(ended: Shell, kind: str) -> None:
    path = ended.directory / "s" / "BD-s-runs" / "run-1"
    shutil.rmtree(path)
    if kind == "file":
        path.write_text("x")
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    else:
        path.symlink_to("nowhere")
    assert "4 runs deleted" in ended.ok("clean", "--delete", "--yes")
    assert run_directories(ended) == []


def test_directories_nested_deeper_than_python_recurses(ended: Shell) -> None:
    runs = ended.directory / "s" / "BD-s-runs"
    piece = "/".join("d" * 100)
    try:
        for _ in range(11):  # the innermost first: paths have a length limit, too
            (runs / "top" / piece).mkdir(parents=True)
            if (runs / "run-1" / "d").exists():
                (runs / "run-1" / "d").rename(runs / "top" / piece / "d")
            (runs / "top" / "d").rename(runs / "run-1" / "d")
        (runs / "top").rmdir()
        done = ended.run("clean", "--delete", "--yes")
        assert "4 runs deleted" in done.stdout
        assert "not expected" not in done.stderr
        assert run_directories(ended) in ([], ["run-1"])  # as deep as this Python version supports
        assert bool(run_directories(ended)) == (f"{runs / 'run-1'}" in done.stderr)
    finally:
        subprocess.run(["rm", "-rf", str(runs)], check=True)


@pytest.mark.parametrize("below", ["mounted", "."])
def test_a_run_whose_directory_cannot_be_removed_is_kept(ended: Shell, below: str) -> None:
    where = ended.directory / "s" / "BD-s-runs" / "run-2" / below
    where.mkdir(exist_ok=True)
    with mounted(where):
        (where / "inner").mkdir(mode=0o500)
        done = ended.run("clean", "--delete", "--yes")
        assert done.returncode != 0
        assert "3 runs deleted" in done.stdout
        first = done.stderr.splitlines()[0]
        assert "1 run kept, because their directories cannot be removed: s.2 (" in first
        assert f"{where}: is a mount point" in first
        assert stat.S_IMODE((where / "inner").stat().st_mode) == 0o500
        assert run_directories(ended) == ["run-2"]
        assert ended.counts("s", "a") == {"FINISHED": 1}
    assert "1 run deleted" in ended.ok("clean", "--delete", "--yes")
    assert run_directories(ended) == []


def test_every_directory_that_cannot_be_removed_is_named(ended: Shell) -> None:
    runs = ended.directory / "s" / "BD-s-runs"
    former = runs / "run-2.attempt-1"
    former.mkdir()
    with mounted(runs / "run-2"), mounted(former):
        first = ended.run("clean", "--delete", "--yes").stderr.splitlines()[0]
    reason = "is a mount point"
    assert f"s.2 ({runs / 'run-2'}: {reason}, {former}: {reason})" in first
    assert "1 run deleted" in ended.ok("clean", "--delete", "--yes")
    assert run_directories(ended) == []


@contextlib.contextmanager
def mounted(where: Path) -> Iterator[None]:
    """Mount a separate file system at a directory."""
    mount = ["mount", "-t", "tmpfs", "none", str(where)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user cannot mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(where)], check=True)


def processes_of(shell: Shell) -> list[ProcessIdentity]:
    store = WorkflowStore(StateDir.of(shell.directory), {}, read_only=True)
    try:
        with store.autocommit_scope.read() as session:
            found = [run.process for run in session.tables.study("s").records([1, 2])]
    finally:
        store.close()
    return [ProcessIdentity(*process) for process in found if process is not None]


@pytest.mark.parametrize("launcher", ["works", "has gone"])
def test_clean_ends_the_processes_of_deleted_runs(sleeping: Shell, launcher: str) -> None:
    sleeping.ok("create")
    sleeping.ok("launcher")
    sleeping.ok("orchestrator", "start", "-d", "-n", "a")
    wait_until(lambda: sleeping.counts("s", "a") == {"START": 2}, "two runs")
    sleeping.ok("orchestrator", "stop")
    processes = processes_of(sleeping)
    assert len(processes) == 2
    assert all(map(is_alive, processes))
    if launcher == "has gone":
        sleeping.ok("kill")
    done = sleeping.run(
        "clean", "--delete", "--yes"
    )  # without that option it selects no active runs
    assert "0 runs deleted" in done.stdout
    assert "2 of them" not in sleeping.ok("clean")
    assert "2 of them would be cancelled first" in sleeping.ok("clean", "--constraints", "x > 0")
    assert sleeping.counts("s", "a") == {"START": 2}
    done = sleeping.run("clean", "--delete", "--yes", "--constraints", "x > 0")
    assert done.returncode == 0, done.stderr
    assert "cancelling 2 runs" in done.stderr
    assert "2 runs deleted" in done.stdout
    assert not any(map(is_alive, processes))
    assert sleeping.counts("s", "a") == {}
    assert bool(sleeping.info()["launchers"]) == (launcher == "works")


def test_clean_deletes_nothing_under_an_orchestrator(shell: Shell) -> None:
    shell.ok("create")
    shell.ok("orchestrator", "start", "-d", "-n", "a")
    wait_until(lambda: shell.counts("s", "a") == {"CREATED": 2}, "two runs")
    done = shell.run("clean", "--delete", "--yes", "--constraints", "x > 0")
    assert done.returncode == 1
    assert "'a' already has an orchestrator" in done.stderr.splitlines()[0]
    assert shell.counts("s", "a") == {"CREATED": 2}


def test_a_possibly_misspelt_column_gives_a_warning(ended: Shell) -> None:
    done = ended.run("clean", "--constraints", "stat = FINISHED")
    assert done.stderr.startswith("warning: ")
    assert "'state'" in done.stderr


# -- costs ------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from motoko.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}\n"
        "  & {'pydantic', 'ZODB', 'ZEO', 'rich', 'yaml', 'anyio', 'asyncio', 'lark'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "COMMAND" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
