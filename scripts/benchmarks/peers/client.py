"""What the environment of the peers runs: ``client.py PEER DIRECTORY ...`` prints JSON.

It uses their documented interfaces only. Each task does what xargs does in the same table: make a
directory, and run the script there with its output in files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CORES = len(os.sched_getaffinity(0))


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that ``work`` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def hyperqueue(directory: Path, runs: int, script: str) -> list[float]:
    """Run tasks with a server and a worker of HyperQueue, until the last one has its output file.

    Its client looks once a second whether a job has ended: its own times are whole seconds.
    """
    library = import_module("hyperqueue")
    worker = import_module("hyperqueue.cluster").WorkerConfig(cores=CORES)
    with library.LocalCluster(server_dir=str(directory / "server")) as cluster:
        cluster.start_worker(worker)
        client = cluster.client()

        def run(numbers: range) -> None:
            job = library.Job()
            for number in numbers:
                place = f"{directory}/run-{number}"
                files = {"stdout": f"{place}/stdout", "stderr": f"{place}/stderr"}
                job.program(["bash", script], cwd=place, **files)
            client.wait_for_jobs([client.submit(job)])

        run(range(runs, runs + 1))
        begin = time.time()
        run(range(runs))
        return [max(os.stat(directory / f"run-{n}/stdout").st_mtime for n in range(runs)) - begin]


def parsl(directory: Path, runs: int, script: str) -> list[float]:
    """Run tasks with Parsl's executor of high throughput."""
    library, executors = import_module("parsl"), import_module("parsl.executors")
    executor = executors.HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=CORES, encrypted=False,
        provider=import_module("parsl.providers").LocalProvider(init_blocks=1, max_blocks=1),
    )  # fmt: skip

    def command(place: str, stdout: str = "", stderr: str = "") -> str:
        del stdout, stderr  # Parsl redirects the output to them
        return f"cd {place} && exec bash {script}"

    task = library.bash_app(command)

    def run(numbers: range) -> None:
        futures = []
        for number in numbers:
            place = directory / f"run-{number}"
            place.mkdir()
            files = {"stdout": str(place / "stdout"), "stderr": str(place / "stderr")}
            futures.append(task(str(place), **files))
        for future in futures:
            future.result()

    config = library.Config(executors=[executor], run_dir=str(directory / "runinfo"))
    with library.load(config):
        return _timed_after_one(run, runs)


def dbos(directory: Path, runs: int, script: str) -> list[float]:
    """Run durable workflows of one step each, stored in SQLite."""
    library = import_module("dbos").DBOS
    database = f"sqlite:///{directory / 'dbos.sqlite'}"
    library(config={"name": "bench", "system_database_url": database, "log_level": "ERROR"})

    def call(number: int) -> int:
        place = directory / f"run-{number}"
        place.mkdir()
        with (place / "stdout").open("wb") as out, (place / "stderr").open("wb") as err:
            return subprocess.call(["bash", script], cwd=place, stdout=out, stderr=err)

    step = library.step()(call)

    def work(number: int) -> Any:
        return step(number)

    workflow = library.workflow()(work)

    def run(numbers: range) -> None:
        handles = [library.start_workflow(workflow, number) for number in numbers]
        assert {handle.get_result() for handle in handles} == {0}

    library.launch()
    try:
        return _timed_after_one(run, runs)
    finally:
        library.destroy()


def signac(directory: Path, runs: int) -> list[float]:
    """Initialise jobs, and find one of them: with a new project object, and again."""
    library = import_module("signac")
    project = library.init_project(str(directory))

    def initialise() -> None:
        for number in range(runs):
            project.open_job({"x": float(number)}).init()

    seconds = timed(initialise)
    project.update_cache()
    project = library.get_project(str(directory))

    def find() -> None:
        assert len(list(project.find_jobs({"x": float(runs // 2)}))) == 1

    return [seconds, timed(find), timed(find)]


def _timed_after_one(run: Callable[[range], None], runs: int) -> list[float]:
    """Run one task, so that all processes are ready; then time all of them."""
    run(range(runs, runs + 1))
    return [timed(lambda: run(range(runs)))]


if __name__ == "__main__":
    peer, place, *rest = sys.argv[1:]
    words = [int(word) if word.isdigit() else word for word in rest]
    print(json.dumps(globals()[peer](Path(place), *words)))
