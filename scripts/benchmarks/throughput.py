"""Chains of awaited tasks, the example, creation and selection."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from motoko.core.changes import EditRun
from motoko.core.edits import Claim, EndAttempt
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.workflow import Workflow, event
from support import Row, best, make_workflow, opened, python, timed

ROOT = Path(__file__).resolve().parents[2]
PLAIN = "async def main(workflow): pass\n"


def chain(length: int = 10) -> list[Row]:
    """Measure a chain of awaited tasks, compared with the same number of ``bash launch.sh``."""
    from motoko.launcher.control import stop_launcher

    async def main(workflow: Workflow) -> None:
        for n in range(length):
            await workflow.mult.create_task(x=n)

    with tempfile.TemporaryDirectory() as name:
        directory = make_workflow(Path(name), ("mult",), PLAIN)
        script = directory / "mult" / "launch.sh"
        floor = best(
            lambda: timed(
                lambda: [subprocess.run(["bash", str(script)], check=True) for _ in range(length)]
            )
        )
        with opened(directory) as workflow:
            workflow.start_launcher_daemons()
            workflow.orchestrator_function = main
            samples = []
            for sample in range(5):
                workflow.run_name = f"chain {sample}"
                samples.append(timed(workflow.execute))
            stop_launcher(workflow.store.state)
    figure = sorted(samples)[2]
    return [
        Row(
            f"a chain of {length} awaited tasks",
            f"{figure:.2f} s; {length} x bash launch.sh {floor:.3f} s",
            "<= 0.6 s beyond the floor",
            figure - floor <= 0.6,
        )
    ]


def example() -> list[Row]:
    """Measure the arithmetic example, including create, server and launcher."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "arithmetic"
        shutil.copytree(ROOT / "examples" / "arithmetic", place)
        command = [sys.executable, "-m", "motoko", "run", "--run_name", "bench"]
        seconds = timed(
            lambda: subprocess.run(
                command, cwd=place, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )
    return [Row("the whole of the arithmetic example", f"{seconds:.2f} s", "<= 5 s", seconds <= 5)]


def create() -> list[Row]:
    """Measure creating 10,000 and 20,000 runs with one call, from main and from an action."""
    seconds: dict[str, float] = {}

    def creating(label: str, study: str, count: int) -> None:
        async def in_main(workflow: Workflow) -> None:
            begin = time.perf_counter()
            runs = workflow.task_manager(study).create_task(x=[float(i) for i in range(count)])
            await workflow.task_manager(study).select(f"id = {count}")
            seconds[label] = time.perf_counter() - begin
            assert len(runs) == count

        @event
        async def create_them(workflow: Workflow) -> None:
            workflow.task_manager(study).create_task(x=[float(i) for i in range(count)])
            workflow.finished = True

        async def in_action(workflow: Workflow) -> None:
            seconds[label] = time.perf_counter()
            workflow.add_action("go", event=lambda: True, f=create_them)

        with tempfile.TemporaryDirectory() as name:
            directory = make_workflow(Path(name), (study,), PLAIN)
            with opened(directory) as workflow:
                action = label.startswith("action")
                workflow.orchestrator_function = in_action if action else in_main
                workflow.execute()
                if action:
                    seconds[label] = time.perf_counter() - seconds[label]
                assert len(workflow.task_manager(study).base.runs) == count

    for origin in ("main", "action"):
        creating(f"{origin} 10000", "mult", 10_000)
        creating(f"{origin} 20000", "mult", 20_000)
    rows = []
    for origin in ("main", "action"):
        ten, twenty = seconds[f"{origin} 10000"], seconds[f"{origin} 20000"]
        rows.append(
            Row(
                f"create 10,000 runs in one call from {origin}",
                f"{ten:.2f} s; twice as many {twenty:.2f} s ({twenty / ten:.2f} times)",
                "<= 3 s; twice as many <= 2.3 times",
                ten <= 3 and twenty / ten <= 2.3,
            )
        )
    return rows


SELECT = """
import sys, time
begin = time.perf_counter()
from motoko.workflow import Workflow
imported = time.perf_counter()
workflow = Workflow(sys.argv[1])
workflow.run_name = "bench"
found = [run.id for run, _ in workflow.mult.select(["state = FINISHED"])]
end = time.perf_counter()
assert len(found) == 100, found
print(end - imported, end - begin)
"""


def select() -> list[Row]:
    """Measure a selection of 100 of 10,000 runs, warm and in a new process."""
    with tempfile.TemporaryDirectory() as name:
        directory = make_workflow(Path(name), ("mult",), PLAIN)
        with opened(directory) as workflow:
            workflow.mult.create_task(x=[float(i) for i in range(10_000)])
            for run_id in range(50, 10_000, 100):
                key, token = RunKey("mult", run_id), f"t{run_id}"
                workflow.store.autocommit_scope.write(
                    EditRun(key, Claim("bench", token, 1.0)),
                    EditRun(key, EndAttempt(token, Lifecycle.FINISHED, 1.0, "bench", 0)),
                )
            selection = workflow.mult.select(["state = FINISHED"])
            assert len(list(selection)) == 100
            warm = best(lambda: timed(lambda: list(selection)), 21)
            cold = []
            for _ in range(7):
                done = subprocess.run(
                    [sys.executable, "-c", SELECT, str(directory)],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                after, whole = (float(word) for word in done.stdout.split())
                cold.append((after, whole))
    libraries = best(lambda: python("-c", "import ZODB, ZEO.ClientStorage, pydantic"), 7)
    after = sorted(row[0] for row in cold)[3]
    whole = sorted(row[1] for row in cold)[3]
    return [
        Row("select 100 of 10,000 runs, warm", f"{warm * 1000:.1f} ms", "<= 10 ms", warm <= 0.010),
        Row(
            "the same in a new process",
            f"{after * 1000:.0f} ms after imports, {whole * 1000:.0f} ms in all (a Python that "
            f"imports ZODB, ZEO and pydantic: {libraries * 1000:.0f} ms)",
            "<= 150 ms, <= 450 ms",
            after <= 0.150 and whole <= 0.450,
        ),
    ]
